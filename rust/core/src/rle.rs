//! Batches of run-length encoded masks: the checked view kernels read and the buffer they write.

use std::fmt;

use crate::error::{BatchError, Error, Result, RleError, SizeError};
use crate::memory::reserve_runs;
use crate::parallel::{Pace, STEP, map_items};
use crate::sets::merged;

/// Height and width of a mask: at least one pixel, at most `u32::MAX`, so that every run fits 32 bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size {
    height: usize,
    width: usize,
}

impl Size {
    /// The size of a mask of `height` x `width` pixels.
    ///
    /// # Errors
    /// [`SizeError`] if it has no pixels or more than 2^32 - 1.
    pub fn new(height: i64, width: i64) -> std::result::Result<Self, SizeError> {
        if height <= 0 || width <= 0 {
            return Err(SizeError::Empty { height, width });
        }
        let fits = height.checked_mul(width).is_some_and(|pixels| u32::try_from(pixels).is_ok());
        match (fits, usize::try_from(height), usize::try_from(width)) {
            (true, Ok(height), Ok(width)) => Ok(Self { height, width }),
            _ => Err(SizeError::TooLarge { height, width }),
        }
    }

    /// In pixels.
    #[must_use]
    pub fn height(self) -> usize {
        self.height
    }

    /// In pixels.
    #[must_use]
    pub fn width(self) -> usize {
        self.width
    }

    /// Height x width.
    #[must_use]
    pub fn pixels(self) -> usize {
        self.height * self.width
    }
}

impl Size {
    /// Check that no side is longer than 2 to the `power`.
    pub(crate) fn check_sides(self, power: u32) -> Result<()> {
        let Self { height, width } = self;
        if height.max(width) <= 1 << power {
            return Ok(());
        }
        Err(SizeError::TooLong { height, width, power }.into())
    }

    /// Check that single precision, which decoders take coordinates in, counts every pixel of a side.
    pub(crate) fn check_places(self) -> Result<()> {
        self.check_sides(f32::MANTISSA_DIGITS)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.height, self.width)
    }
}

/// `N` masks of one size, borrowed: `counts` holds the runs of all, `offsets` (`N + 1`) where each begins.
#[derive(Clone, Copy, Debug)]
pub struct Masks<'a> {
    size: Size,
    counts: &'a [u32],
    offsets: &'a [i64],
}

impl<'a> Masks<'a> {
    /// Check that the arrays describe masks of `size`; every kernel relies on it.
    ///
    /// # Errors
    /// [`BatchError::Offsets`] and [`RleError`] with the index of the first mask that is wrong.
    pub fn new(counts: &'a [u32], offsets: &'a [i64], size: Size) -> Result<Self> {
        check_offsets(offsets, counts.len(), "offsets", "counts")?;
        let masks = Self { size, counts, offsets };
        for mask in 0..masks.len() {
            let sum: u64 = masks.runs(mask).iter().map(|&run| u64::from(run)).sum();
            let expected = size.pixels() as u64;
            if sum != expected {
                let reason = RleError::Sum { sum, expected, height: size.height, width: size.width };
                return Err(Error::Rle { mask, reason });
            }
        }
        Ok(masks)
    }

    /// Number of masks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no mask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The size of each mask.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// The runs of one mask.
    #[must_use]
    pub fn runs(&self, mask: usize) -> &'a [u32] {
        &self.counts[self.offsets[mask] as usize..self.offsets[mask + 1] as usize]
    }

    /// The foreground of one mask as `(start, end)` column-major positions, rising, none empty.
    pub(crate) fn intervals(&self, mask: usize) -> impl Iterator<Item = (usize, usize)> + Clone + use<'a> {
        intervals(self.runs(mask))
    }

    /// Number of runs of all masks: what the work of most kernels is proportional to.
    pub(crate) fn run_count(&self) -> usize {
        self.counts.len()
    }
}

/// The foreground of `runs` as `(start, end)` positions, rising, none empty.
pub(crate) fn intervals(runs: &[u32]) -> impl Iterator<Item = (usize, usize)> + Clone + use<'_> {
    let mut end = 0;
    runs.chunks(2).filter_map(move |pair| {
        let start = end + pair[0] as usize;
        end = start + pair.get(1).map_or(0, |&run| run as usize);
        (end > start).then_some((start, end))
    })
}

/// Call `visit` with the column, the top and the bottom of every stretch of foreground of `runs`, cut at column ends.
///
/// # Errors
/// Those of `visit`, [`Error::Interrupted`].
#[inline]
pub(crate) fn each_segment(
    runs: &[u32],
    height: usize,
    mut visit: impl FnMut(usize, usize, usize) -> Result<()>,
) -> Result<()> {
    let mut pace = Pace::default();
    // Zero-length background runs leave one stretch in two pieces.
    for (mut start, end) in merged(intervals(runs)) {
        while start < end {
            let x = start / height;
            let cut = end.min((x + 1) * height);
            pace.steps(STEP)?;
            visit(x, start - x * height, cut - x * height)?;
            start = cut;
        }
    }
    Ok(())
}

/// Check that `offsets` rise from 0 to `length`.
pub(crate) fn check_offsets(offsets: &[i64], length: usize, name: &'static str, of: &'static str) -> Result<()> {
    let bounded = offsets.first() == Some(&0) && offsets.last().is_some_and(|&last| last as u64 == length as u64);
    if bounded && offsets.is_sorted() { Ok(()) } else { Err(BatchError::Offsets { name, of, length }.into()) }
}

/// `N` masks of one size, owned, in canonical form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MaskBuf {
    /// The runs of all masks.
    pub counts: Vec<u32>,
    /// Where each mask's runs begin; `N + 1` long.
    pub offsets: Vec<i64>,
}

impl Default for MaskBuf {
    /// No masks.
    fn default() -> Self {
        Self { counts: Vec::new(), offsets: vec![0] }
    }
}

impl MaskBuf {
    /// Append one mask of `pixels` pixels whose foreground is `intervals`: rising, not overlapping, maybe touching.
    ///
    /// # Errors
    /// [`Error::Room`], [`Error::Interrupted`].
    pub(crate) fn push(&mut self, pixels: usize, intervals: impl IntoIterator<Item = (usize, usize)>) -> Result<()> {
        let (first, mut pace) = (self.counts.len(), Pace::default());
        let mut written = 0;
        for (start, end) in intervals {
            pace.steps(STEP)?;
            reserve_runs(&mut self.counts, 3)?;
            let length = (end - start) as u32;
            let touching = start == written && self.counts.len() > first;
            match self.counts.last_mut() {
                Some(run) if touching => *run += length,
                _ => self.counts.extend([(start - written) as u32, length]),
            }
            written = end;
        }
        if written < pixels {
            reserve_runs(&mut self.counts, 1)?;
            self.counts.push((pixels - written) as u32);
        }
        self.offsets.push(self.counts.len() as i64);
        Ok(())
    }

    /// Append one mask of `pixels` pixels from at most so many stretches of foreground, which `feed` pushes.
    ///
    /// # Errors
    /// [`Error::Room`].
    #[inline(always)]
    pub(crate) fn push_stretches(
        &mut self,
        pixels: usize,
        most: usize,
        feed: impl FnOnce(&mut Stretches<'_>),
    ) -> Result<()> {
        let first = self.counts.len();
        reserve_runs(&mut self.counts, 2 * most + 1)?;
        self.counts.resize(first + 2 * most + 1, 0);
        let mut stretches = Stretches { runs: &mut self.counts[first..], len: 0, written: 0 };
        feed(&mut stretches);
        let Stretches { runs, len, written } = stretches;
        runs[len] = pixels as u32 - written;
        let last = usize::from(runs[len] > 0);
        self.counts.truncate(first + len + last);
        self.offsets.push(self.counts.len() as i64);
        Ok(())
    }

    /// Build `count` masks, in parallel if `work` (elementary steps over all of them) is worth it.
    ///
    /// `push` appends the mask of an index; its scratch is kept by the thread.
    pub(crate) fn build<S: Default>(
        count: usize,
        work: usize,
        push: impl Fn(usize, &mut S, &mut MaskBuf) -> Result<()> + Sync,
    ) -> Result<Self> {
        Self::concatenate(map_items(count, work, push)?)
    }

    /// The masks of all parts, in order.
    ///
    /// # Errors
    /// [`Error::Room`].
    pub(crate) fn concatenate(parts: Vec<Self>) -> Result<Self> {
        let mut parts = parts.into_iter();
        let mut all = parts.next().unwrap_or_default();
        reserve_runs(&mut all.counts, parts.as_slice().iter().map(|part| part.counts.len()).sum())?;
        for part in parts {
            let base = all.counts.len() as i64;
            all.counts.extend_from_slice(&part.counts);
            all.offsets.extend(part.offsets[1..].iter().map(|offset| base + offset));
        }
        Ok(all)
    }
}

/// The runs of one mask as its foreground becomes known.
pub(crate) struct Stretches<'a> {
    runs: &'a mut [u32],
    len: usize,
    written: u32,
}

impl Stretches<'_> {
    /// The next stretch, not before the end of the one before it; maybe touching it, maybe without a pixel.
    #[inline(always)]
    pub(crate) fn push(&mut self, start: u32, end: u32) {
        if start == self.written && self.len > 0 {
            self.runs[self.len - 1] += end - start;
        } else if start < end {
            self.runs[self.len..self.len + 2].copy_from_slice(&[start - self.written, end - start]);
            self.len += 2;
        } else {
            return;
        }
        self.written = end;
    }
}

/// Writes one mask of a buffer from the rising positions at which it changes; a position given twice is none.
pub(crate) struct Toggles<'a> {
    out: &'a mut MaskBuf,
    first: usize,
    last: u32,
}

impl<'a> Toggles<'a> {
    pub(crate) fn new(out: &'a mut MaskBuf) -> Self {
        let first = out.counts.len();
        Self { out, first, last: 0 }
    }

    /// Make room for so many positions.
    ///
    /// # Errors
    /// [`Error::Room`].
    #[inline(always)]
    pub(crate) fn reserve(&mut self, more: usize) -> Result<()> {
        // And for what is left at the end.
        reserve_runs(&mut self.out.counts, more + 1)
    }

    /// The next position, for which there is room; not before the one before it.
    #[inline(always)]
    pub(crate) fn push(&mut self, position: u32) {
        if position == self.last && self.out.counts.len() > self.first {
            self.last -= self.out.counts.pop().unwrap_or(0);
        } else {
            self.out.counts.push(position - self.last);
            self.last = position;
        }
    }

    /// End the mask, which has `pixels` pixels.
    pub(crate) fn finish(self, pixels: usize) {
        let rest = pixels as u32 - self.last;
        if rest > 0 {
            self.out.counts.push(rest);
        }
        self.out.offsets.push(self.out.counts.len() as i64);
    }
}

/// Walks `K` masks of one size at once: stretches over which none of them changes, and what each of them is there.
pub(crate) struct Sweep<'a, const K: usize> {
    runs: [&'a [u32]; K],
    read: [usize; K],
    left: [u32; K],
}

impl<'a, const K: usize> Sweep<'a, K> {
    pub(crate) fn new(runs: [&'a [u32]; K]) -> Self {
        Self { runs, read: [0; K], left: [0; K] }
    }
}

impl<const K: usize> Iterator for Sweep<'_, K> {
    /// Length and the value of each mask.
    type Item = (u32, [bool; K]);

    fn next(&mut self) -> Option<Self::Item> {
        for k in 0..K {
            while self.left[k] == 0 {
                self.left[k] = *self.runs[k].get(self.read[k])?;
                self.read[k] += 1;
            }
        }
        let length = self.left.iter().copied().min()?;
        self.left.iter_mut().for_each(|left| *left -= length);
        Some((length, self.read.map(|read| read % 2 == 0)))
    }
}
