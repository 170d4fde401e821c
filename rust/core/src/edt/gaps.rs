//! The first pass: rows to the nearest background of each pixel's column, for all columns side by side.

use super::Border;
use crate::error::Result;
use crate::memory::reserve;
use crate::rle::Size;
use crate::simd::{Kernel, Lanes, run};

/// For every pixel of a mask, how many rows away the nearest background pixel of its column is.
pub(crate) struct Columns {
    pub(super) steps: Steps,
    pub(super) width: usize,
    pub(super) border: Border,
}

pub(super) enum Steps {
    Short(Vec<u16>),
    Long(Vec<u32>),
}

impl Default for Columns {
    fn default() -> Self {
        Self { steps: Steps::Short(Vec::new()), width: 0, border: Border::Nothing }
    }
}

impl Columns {
    /// Measure a mask of rows of `width` bytes.
    ///
    /// # Errors
    /// [`crate::Error::Memory`].
    pub(crate) fn measure(&mut self, pixels: &[u8], width: usize, border: Border) -> Result<()> {
        (self.width, self.border) = (width, border);
        let size = Size::new((pixels.len() / width) as i64, width as i64)?;
        // The largest value stands for "none in this column".
        if size.height() < usize::from(u16::MAX) {
            let mut steps = match &mut self.steps {
                Steps::Short(steps) => std::mem::take(steps),
                Steps::Long(_) => Vec::new(),
            };
            reserve(&mut steps, pixels.len(), size)?;
            run(Measure { steps: &mut steps, pixels, width, border });
            self.steps = Steps::Short(steps);
        } else {
            let mut steps = Vec::new();
            reserve(&mut steps, pixels.len(), size)?;
            run(Measure { steps: &mut steps, pixels, width, border });
            self.steps = Steps::Long(steps);
        }
        Ok(())
    }

    /// The largest count of a row, `u32::MAX` if one of its columns has none.
    pub(crate) fn largest(&self, y: usize) -> u32 {
        let row = y * self.width..(y + 1) * self.width;
        match &self.steps {
            Steps::Short(steps) => largest(&steps[row]),
            Steps::Long(steps) => largest(&steps[row]),
        }
    }
}

#[inline(always)]
fn largest<S: Step>(steps: &[S]) -> u32 {
    steps.iter().copied().fold(S::ZERO, S::max).count()
}

/// Columns measured together: from the top to the bottom and back they stay in the cache.
const STRIP: usize = 128;

/// A count of rows.
pub(super) trait Step: Copy + Ord {
    const ZERO: Self;
    const NONE: Self;
    /// One more; none stays none.
    fn next(self) -> Self;
    /// As 32 bits; none is `u32::MAX`.
    fn count(self) -> u32;
}

impl Step for u16 {
    const ZERO: Self = 0;
    const NONE: Self = Self::MAX;
    fn next(self) -> Self {
        self.saturating_add(1)
    }
    fn count(self) -> u32 {
        if self == Self::NONE { u32::MAX } else { u32::from(self) }
    }
}

impl Step for u32 {
    const ZERO: Self = 0;
    const NONE: Self = Self::MAX;
    fn next(self) -> Self {
        self.saturating_add(1)
    }
    fn count(self) -> u32 {
        self
    }
}

/// The first pass over one mask.
struct Measure<'a, S> {
    steps: &'a mut Vec<S>,
    pixels: &'a [u8],
    width: usize,
    border: Border,
}

impl<S: Step> Kernel for Measure<'_, S> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Self { steps, pixels, width, border } = self;
        let outside = match border {
            Border::Nothing => S::NONE,
            Border::Background => S::ZERO,
        };
        let height = pixels.len() / width;
        steps.resize(pixels.len(), S::ZERO);
        for start in (0..width).step_by(STRIP) {
            let end = width.min(start + STRIP);
            let mut counts = [outside; STRIP];
            for y in 0..height {
                let row = y * width + start..y * width + end;
                let places = steps[row.clone()].iter_mut().zip(&pixels[row]);
                for (count, (step, &pixel)) in counts.iter_mut().zip(places) {
                    *count = if pixel == 0 { S::ZERO } else { count.next() };
                    *step = *count;
                }
            }
            counts = [outside; STRIP];
            for y in (0..height).rev() {
                let row = &mut steps[y * width + start..y * width + end];
                for (count, step) in counts.iter_mut().zip(row) {
                    *count = count.next().min(*step);
                    *step = *count;
                }
            }
        }
    }
}
