//! Exact Euclidean distance transform: how far each foreground pixel's centre is from the nearest background centre.
//!
//! Two passes (Meijster, Roerdink, Hesselink, *A general algorithm for computing distance transforms in linear time*,
//! 2000). The first counts rows to the nearest background within each column, row by row, so that it runs across
//! columns in vectors. The second takes, row by row, the lower envelope of the parabolas that stand on these counts.
//! At unit spacing every number up to the final square root is an integer, so the result is exact. Background pixels
//! cut a row into stretches that have nothing to do with each other.

use crate::error::{BatchError, Error, Result, SizeError};
use crate::parallel::{fill_items, thread_count};
use crate::rle::Size;

/// Size of a pixel, in whatever unit distances shall have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spacing {
    height: f64,
    width: f64,
}

impl Spacing {
    /// Pixels of 1 x 1: distances in pixels.
    pub const UNIT: Self = Self { height: 1.0, width: 1.0 };

    /// Pixels of `height` x `width`.
    ///
    /// # Errors
    /// [`Error::Option`] if one of them is not positive and finite, or so small or large that its square is not.
    pub fn new(height: f64, width: f64) -> Result<Self> {
        for value in [height, width] {
            if !(1e-100..=1e100).contains(&value) {
                return Err(Error::Option { name: "spacing", value, expected: "a number from 1e-100 to 1e100" });
            }
        }
        Ok(Self { height, width })
    }

    /// In the unit of distances.
    #[must_use]
    pub fn height(self) -> f64 {
        self.height
    }

    /// In the unit of distances.
    #[must_use]
    pub fn width(self) -> f64 {
        self.width
    }
}

/// Longest side of a mask: the squares of its distances are exact in a double.
const MAX_SIDE: usize = 1 << 26;

/// Widest image in which the product of three lengths fits 64 bits; whatever its height is, it has at most 2^32 pixels.
const MAX_NARROW: usize = 1 << 20;

/// What lies around the image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Border {
    /// Nothing: distances are to background within the image alone, infinite where it has none.
    Nothing,
    /// Background: a pixel at the image's edge has a distance of 1.
    Background,
}

/// A number distances are written as.
pub trait Distance: Copy + Send + Sync {
    /// From the exact or correctly rounded double.
    fn from_f64(value: f64) -> Self;
}

impl Distance for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }
}

impl Distance for f32 {
    fn from_f64(value: f64) -> Self {
        value as f32
    }
}

/// Write into `out` the distance of every pixel of every mask (row-major bytes, mask after mask; not 0 is foreground)
/// to the nearest background pixel of its mask: 0 on background, infinite in a mask without background.
///
/// O(pixels). At unit spacing the square root of an exact integer; else `sqrt((dy sy)^2 + (dx sx)^2)` in doubles.
///
/// # Errors
/// [`BatchError::Length`] if `pixels` is not a whole number of masks, [`BatchError::Output`] if `out` is not as long,
/// [`SizeError::TooLong`] for a side of more than 2^26 pixels.
pub fn distance_transform<T: Distance>(
    pixels: &[u8],
    size: Size,
    spacing: Spacing,
    border: Border,
    out: &mut [T],
) -> Result<()> {
    check_sides(size)?;
    let stride = size.pixels();
    if !pixels.len().is_multiple_of(stride) {
        let expected = format!("a multiple of {stride}");
        return Err(BatchError::Length { name: "pixels", found: pixels.len(), expected }.into());
    }
    if out.len() != pixels.len() {
        return Err(BatchError::Output { found: out.len(), expected: pixels.len() }.into());
    }
    let (count, width) = (pixels.len() / stride, size.width());
    let mask = |index: usize| &pixels[index * stride..(index + 1) * stride];
    if count >= thread_count() {
        return fill_items(out, stride, pixels.len() * 4, |index, scratch: &mut (Columns, Rows), out| {
            let (columns, rows) = scratch;
            columns.measure(mask(index).chunks_exact(width), width, border);
            out.chunks_exact_mut(width).enumerate().for_each(|(y, out)| rows.roots(columns, y, spacing, out));
            Ok(())
        });
    }
    let mut columns = Columns::default();
    for (index, out) in out.chunks_exact_mut(stride).enumerate() {
        columns.measure(mask(index).chunks_exact(width), width, border);
        fill_items(out, width, stride * 4, |y, rows: &mut Rows, out| {
            rows.roots(&columns, y, spacing, out);
            Ok(())
        })?;
    }
    Ok(())
}

/// Check that no square of a distance outgrows a double.
pub(crate) fn check_sides(size: Size) -> Result<()> {
    if size.height().max(size.width()) <= MAX_SIDE {
        return Ok(());
    }
    Err(SizeError::TooLong { height: size.height(), width: size.width() }.into())
}

/// For every pixel of a mask, how many rows away the nearest background pixel of its column is.
pub(crate) struct Columns {
    steps: Steps,
    width: usize,
    border: Border,
}

enum Steps {
    Short(Vec<u16>),
    Long(Vec<u32>),
}

impl Default for Columns {
    fn default() -> Self {
        Self { steps: Steps::Short(Vec::new()), width: 0, border: Border::Nothing }
    }
}

impl Columns {
    /// Measure the mask whose rows of `width` bytes are `rows`, from the top.
    pub(crate) fn measure<'a>(&mut self, rows: impl ExactSizeIterator<Item = &'a [u8]>, width: usize, border: Border) {
        (self.width, self.border) = (width, border);
        // The largest value stands for "none in this column".
        if rows.len() < usize::from(u16::MAX) {
            let mut steps = match std::mem::replace(&mut self.steps, Steps::Short(Vec::new())) {
                Steps::Short(steps) => steps,
                Steps::Long(_) => Vec::new(),
            };
            measure(&mut steps, rows, width, border);
            self.steps = Steps::Short(steps);
        } else {
            let mut steps = Vec::new();
            measure(&mut steps, rows, width, border);
            self.steps = Steps::Long(steps);
        }
    }
}

/// A count of rows.
trait Step: Copy + Ord {
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

fn measure<'a, S: Step>(
    steps: &mut Vec<S>,
    rows: impl ExactSizeIterator<Item = &'a [u8]>,
    width: usize,
    border: Border,
) {
    let outside = match border {
        Border::Nothing => S::NONE,
        Border::Background => S::ZERO,
    };
    let height = rows.len();
    steps.clear();
    steps.resize(height * width, S::ZERO);
    let edge = vec![outside; width];
    let mut above: &[S] = &edge;
    for (row, pixels) in steps.chunks_exact_mut(width).zip(rows) {
        for ((step, &above), &pixel) in row.iter_mut().zip(above).zip(pixels) {
            *step = if pixel == 0 { S::ZERO } else { above.next() };
        }
        above = row;
    }
    let mut below: &[S] = &edge;
    for row in steps.chunks_exact_mut(width).rev() {
        for (step, &below) in row.iter_mut().zip(below) {
            *step = (*step).min(below.next());
        }
        below = row;
    }
}

/// Scratch of the second pass.
#[derive(Default)]
pub(crate) struct Rows {
    exact: Envelope<Unit<false>>,
    wide: Envelope<Unit<true>>,
    scaled: Envelope<Scaled>,
    near: Near,
    squares: Vec<f64>,
}

impl Rows {
    /// The squared distances of row `y`, infinite where there is no background.
    pub(crate) fn squares(&mut self, columns: &Columns, y: usize, spacing: Spacing, out: &mut [f64]) {
        let row = y * columns.width..(y + 1) * columns.width;
        match &columns.steps {
            Steps::Short(steps) => self.row(&steps[row], columns.border, spacing, out),
            Steps::Long(steps) => self.row(&steps[row], columns.border, spacing, out),
        }
    }

    fn roots<T: Distance>(&mut self, columns: &Columns, y: usize, spacing: Spacing, out: &mut [T]) {
        let mut squares = std::mem::take(&mut self.squares);
        squares.resize(out.len(), 0.0);
        self.squares(columns, y, spacing, &mut squares);
        out.iter_mut().zip(&squares).for_each(|(out, square)| *out = T::from_f64(square.sqrt()));
        self.squares = squares;
    }

    fn row<S: Step>(&mut self, steps: &[S], border: Border, spacing: Spacing, out: &mut [f64]) {
        let width = steps.len();
        let mut x = 0;
        while x < width {
            let start = x + steps[x..].iter().take_while(|&&step| step == S::ZERO).count();
            out[x..start].fill(0.0);
            let end = start + steps[start..].iter().take_while(|&&step| step != S::ZERO).count();
            if start < end {
                let stretch = Stretch {
                    steps: &steps[start..end],
                    left: start > 0 || border == Border::Background,
                    right: end < width || border == Border::Background,
                };
                let out = &mut out[start..end];
                if spacing != Spacing::UNIT {
                    self.scaled.fill(&stretch, &Scaled(spacing), out);
                } else if let Some(reach) = stretch.reach().filter(|&reach| reach <= Near::LIMIT) {
                    self.near.fill(&stretch, reach, out);
                } else if width <= MAX_NARROW {
                    self.exact.fill(&stretch, &Unit, out);
                } else {
                    self.wide.fill(&stretch, &Unit, out);
                }
            }
            x = end;
        }
    }
}

/// Neighbouring foreground pixels of a row, and whether background stands at either end.
struct Stretch<'a, S> {
    steps: &'a [S],
    left: bool,
    right: bool,
}

impl<S: Step> Stretch<'_, S> {
    /// A distance, in pixels, none in this stretch exceeds; none if there may be no background.
    fn reach(&self) -> Option<usize> {
        let length = self.steps.len();
        let across = match (self.left, self.right) {
            (true, true) => Some(length.div_ceil(2)),
            (true, false) | (false, true) => Some(length),
            (false, false) => None,
        };
        let up = self.steps.iter().copied().max().map_or(0, Step::count);
        let up = (up != u32::MAX).then_some(up as usize);
        across.into_iter().chain(up).min()
    }
}

/// How a metric measures along a column and along a row.
trait Metric: Default {
    type Square: Copy + PartialOrd + Default;
    /// Squared distance of `steps` rows.
    fn up(&self, steps: u32) -> Self::Square;
    /// Squared distance to a site `steps` pixels along the row that has `base` by itself.
    fn along(&self, steps: i64, base: Self::Square) -> Self::Square;
    /// Whether the site in the middle, `a` pixels after the left one and `b` before the right one, is nowhere nearest.
    fn is_hidden(&self, a: i64, b: i64, bases: [Self::Square; 3]) -> bool;
    fn to_f64(square: Self::Square) -> f64;
}

/// Square pixels of side 1, in integers: exact. Products of three lengths of a `WIDE` image take 128 bits.
#[derive(Default)]
struct Unit<const WIDE: bool>;

impl<const WIDE: bool> Metric for Unit<WIDE> {
    type Square = i64;
    #[inline(always)]
    fn up(&self, steps: u32) -> i64 {
        i64::from(steps) * i64::from(steps)
    }
    #[inline(always)]
    fn along(&self, steps: i64, base: i64) -> i64 {
        steps * steps + base
    }
    #[inline(always)]
    fn is_hidden(&self, a: i64, b: i64, [left, middle, right]: [i64; 3]) -> bool {
        if WIDE {
            let (a, b, middle) = (i128::from(a), i128::from(b), i128::from(middle));
            return (a + b) * (middle - a * b) >= b * i128::from(left) + a * i128::from(right);
        }
        (a + b) * (middle - a * b) >= b * left + a * right
    }
    #[inline(always)]
    fn to_f64(square: i64) -> f64 {
        square as f64
    }
}

/// Pixels of any size, in doubles, in the order of operations of scipy.
struct Scaled(Spacing);

impl Default for Scaled {
    fn default() -> Self {
        Self(Spacing::UNIT)
    }
}

impl Metric for Scaled {
    type Square = f64;
    fn up(&self, steps: u32) -> f64 {
        let length = f64::from(steps) * self.0.height;
        length * length
    }
    fn along(&self, steps: i64, base: f64) -> f64 {
        let length = steps as f64 * self.0.width;
        base + length * length
    }
    fn is_hidden(&self, a: i64, b: i64, [left, middle, right]: [f64; 3]) -> bool {
        let (a, b) = (a as f64 * self.0.width, b as f64 * self.0.width);
        (a + b) * (middle - a * b) >= b * left + a * right
    }
    fn to_f64(square: f64) -> f64 {
        square
    }
}

/// The sites of a stretch that are nearest to some place on the line, from left to right.
#[derive(Default)]
struct Envelope<M: Metric> {
    sites: Vec<(i64, M::Square)>,
}

impl<M: Metric> Envelope<M> {
    fn fill<S: Step>(&mut self, stretch: &Stretch<'_, S>, metric: &M, out: &mut [f64]) {
        self.sites.clear();
        if stretch.left {
            self.sites.push((-1, M::Square::default()));
        }
        for (x, &step) in stretch.steps.iter().enumerate() {
            if step != S::NONE {
                self.push(x as i64, metric.up(step.count()), metric);
            }
        }
        if stretch.right {
            self.push(out.len() as i64, M::Square::default(), metric);
        }
        let mut sites = self.sites.iter().copied();
        let Some((mut at, mut base)) = sites.next() else {
            out.fill(f64::INFINITY);
            return;
        };
        let mut next = sites.next();
        for (x, out) in out.iter_mut().enumerate() {
            let x = x as i64;
            let mut square = metric.along(x - at, base);
            while let Some((next_at, next_base)) = next {
                let candidate = metric.along(x - next_at, next_base);
                if candidate > square {
                    break;
                }
                (at, base, square) = (next_at, next_base, candidate);
                next = sites.next();
            }
            *out = M::to_f64(square);
        }
    }

    #[inline(always)]
    fn push(&mut self, x: i64, base: M::Square, metric: &M) {
        while let [.., (left, left_base), (middle, middle_base)] = self.sites[..] {
            if !metric.is_hidden(middle - left, x - middle, [left_base, middle_base, base]) {
                break;
            }
            self.sites.pop();
        }
        self.sites.push((x, base));
    }
}

/// Short distances by trying every step along the row, for all pixels of a stretch at once.
#[derive(Default)]
struct Near {
    /// Squared counts with `reach` places that are no sites on either side.
    bases: Vec<u16>,
    squares: Vec<u16>,
}

impl Near {
    /// The largest distance worth it; its square must fit 16 bits.
    const LIMIT: usize = 96;

    fn fill<S: Step>(&mut self, stretch: &Stretch<'_, S>, reach: usize, out: &mut [f64]) {
        let (length, margin) = (out.len(), reach + 1);
        self.bases.clear();
        self.bases.resize(length + 2 * margin, u16::MAX);
        for (base, &step) in self.bases[margin..].iter_mut().zip(stretch.steps) {
            let count = step.count().min(255) as u16;
            *base = count * count;
        }
        if stretch.left {
            self.bases[margin - 1] = 0;
        }
        if stretch.right {
            self.bases[margin + length] = 0;
        }
        self.squares.clear();
        self.squares.extend_from_slice(&self.bases[margin..margin + length]);
        let mut farthest = usize::MAX;
        for step in 1..=reach {
            let along = step * step;
            if along >= farthest {
                break;
            }
            let left = &self.bases[margin - step..][..length];
            let right = &self.bases[margin + step..][..length];
            for ((square, &left), &right) in self.squares.iter_mut().zip(left).zip(right) {
                *square = (*square).min(left.min(right).saturating_add(along as u16));
            }
            if step % 8 == 0 {
                farthest = self.squares.iter().copied().max().map_or(0, usize::from);
            }
        }
        out.iter_mut().zip(&self.squares).for_each(|(out, &square)| *out = f64::from(square));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Border, Spacing, distance_transform};
    use crate::error::{Error, SizeError};
    use crate::rle::Size;

    /// Distance to the nearest background pixel, by looking at all of them.
    fn brute(pixels: &[u8], width: usize, border: Border) -> Vec<f64> {
        let height = pixels.len() / width;
        let at = |i: usize| ((i % width) as f64, (i / width) as f64);
        let outside = |(x, y): (f64, f64)| {
            let edge = (x + 1.0).min(y + 1.0).min(width as f64 - x).min(height as f64 - y);
            if border == Border::Background { edge * edge } else { f64::INFINITY }
        };
        let background: Vec<_> = (0..pixels.len()).filter(|&i| pixels[i] == 0).map(at).collect();
        let nearest = |i: usize| {
            let (x, y) = at(i);
            let squares = background.iter().map(|&(u, v)| (x - u) * (x - u) + (y - v) * (y - v));
            if pixels[i] == 0 { 0.0 } else { squares.fold(outside((x, y)), f64::min).sqrt() }
        };
        (0..pixels.len()).map(nearest).collect()
    }

    fn transform(pixels: &[u8], width: usize, border: Border, spacing: Spacing) -> Vec<f64> {
        let mut out = vec![f64::NAN; pixels.len()];
        let size = Size::new((pixels.len() / width) as i64, width as i64).unwrap();
        distance_transform(pixels, size, spacing, border, &mut out).unwrap();
        out
    }

    proptest! {
        #[test]
        fn equals_the_definition(width in 1usize..40, height in 1usize..30, density in 0u32..=60, seed: u64) {
            let mut rng = crate::rng::Rng::new(seed, *b"test    ");
            let pixels: Vec<u8> = (0..width * height).map(|_| u8::from(rng.below(60) >= u64::from(density))).collect();
            for border in [Border::Nothing, Border::Background] {
                prop_assert_eq!(transform(&pixels, width, border, Spacing::UNIT), brute(&pixels, width, border));
            }
        }
    }

    #[test]
    fn far_background_takes_the_envelope() {
        let (width, height) = (700, 301);
        let mut pixels = vec![1; width * height];
        for i in [150 * width, 20 * width + 650, 300 * width + 333] {
            pixels[i] = 0;
        }
        assert_eq!(transform(&pixels, width, Border::Nothing, Spacing::UNIT), brute(&pixels, width, Border::Nothing));
    }

    #[test]
    fn sides_no_16_bits_count() {
        for (width, height) in [(1, 70_000), (70_000, 1), (3_500_000, 1)] {
            let mut pixels = vec![1; width * height];
            pixels[10] = 0;
            let out = transform(&pixels, width, Border::Nothing, Spacing::UNIT);
            assert!(out.iter().enumerate().all(|(i, &distance)| distance == (i as f64 - 10.0).abs()));
            pixels.fill(1);
            let out = transform(&pixels, width, Border::Background, Spacing::UNIT);
            assert!(out.iter().all(|&distance| distance == 1.0));
            let out = transform(&pixels, width, Border::Nothing, Spacing::UNIT);
            assert!(out.iter().all(|&distance| distance == f64::INFINITY));
        }
    }

    #[test]
    fn spacing_scales() {
        let mut pixels = vec![1; 30 * 20];
        pixels[17 * 30 + 4] = 0;
        let out = transform(&pixels, 30, Border::Nothing, Spacing::new(0.5, 3.0).unwrap());
        for (i, &distance) in out.iter().enumerate() {
            let (dy, dx) = ((i / 30) as f64 - 17.0, (i % 30) as f64 - 4.0);
            assert_eq!(distance, ((dy * 0.5) * (dy * 0.5) + (dx * 3.0) * (dx * 3.0)).sqrt());
        }
        assert!(Spacing::new(0.0, 1.0).is_err() && Spacing::new(1.0, f64::NAN).is_err());
    }

    #[test]
    fn a_side_too_long_is_refused() {
        let size = Size::new(1, (1 << 26) + 1).unwrap();
        let refused = distance_transform::<f64>(&[], size, Spacing::UNIT, Border::Nothing, &mut []);
        assert_eq!(refused, Err(Error::Size(SizeError::TooLong { height: 1, width: (1 << 26) + 1 })));
    }
}
