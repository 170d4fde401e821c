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
use crate::simd::{Kernel, Lanes, run};

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

/// Largest mask that is one thread's work: between two masks, or between two rows of a larger one, Ctrl-C is heard.
const MAX_SHARE: usize = 1 << 24;

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
    if count >= thread_count() && stride <= MAX_SHARE {
        return fill_items(out, stride, pixels.len() * 4, |index, scratch: &mut (Columns, Rows), out| {
            let (columns, rows) = scratch;
            columns.measure(mask(index), width, border);
            out.chunks_exact_mut(width).enumerate().for_each(|(y, out)| rows.distances(columns, y, spacing, out));
            Ok(())
        });
    }
    let mut columns = Columns::default();
    for (index, out) in out.chunks_exact_mut(stride).enumerate() {
        columns.measure(mask(index), width, border);
        fill_items(out, width, stride * 4, |y, rows: &mut Rows, out| {
            rows.distances(&columns, y, spacing, out);
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
    /// Measure a mask of rows of `width` bytes.
    pub(crate) fn measure(&mut self, pixels: &[u8], width: usize, border: Border) {
        (self.width, self.border) = (width, border);
        // The largest value stands for "none in this column".
        if pixels.len() / width < usize::from(u16::MAX) {
            let mut steps = match &mut self.steps {
                Steps::Short(steps) => std::mem::take(steps),
                Steps::Long(_) => Vec::new(),
            };
            run(Measure { steps: &mut steps, pixels, width, border });
            self.steps = Steps::Short(steps);
        } else {
            let mut steps = Vec::new();
            run(Measure { steps: &mut steps, pixels, width, border });
            self.steps = Steps::Long(steps);
        }
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
        self.row(columns, y, spacing, out, |square| square);
    }

    /// The distances of row `y`.
    fn distances<T: Distance>(&mut self, columns: &Columns, y: usize, spacing: Spacing, out: &mut [T]) {
        self.row(columns, y, spacing, out, |square| T::from_f64(square.sqrt()));
    }

    fn row<T: Copy>(
        &mut self,
        columns: &Columns,
        y: usize,
        spacing: Spacing,
        out: &mut [T],
        finish: impl Fn(f64) -> T,
    ) {
        let row = y * columns.width..(y + 1) * columns.width;
        match &columns.steps {
            Steps::Short(steps) => self.stretches(&steps[row], columns.border, spacing, out, finish),
            Steps::Long(steps) => self.stretches(&steps[row], columns.border, spacing, out, finish),
        }
    }

    /// The second pass over one row; `finish` turns a squared distance into what is written.
    fn stretches<S: Step, T: Copy>(
        &mut self,
        steps: &[S],
        border: Border,
        spacing: Spacing,
        out: &mut [T],
        finish: impl Fn(f64) -> T,
    ) {
        let width = steps.len();
        let mut x = 0;
        while x < width {
            let start = x + steps[x..].iter().position(|&step| step != S::ZERO).unwrap_or(width - x);
            out[x..start].fill(finish(0.0));
            let end = start + steps[start..].iter().position(|&step| step == S::ZERO).unwrap_or(width - start);
            x = end;
            if start == end {
                continue;
            }
            let stretch = Stretch {
                steps: &steps[start..end],
                left: start > 0 || border == Border::Background,
                right: end < width || border == Border::Background,
            };
            let out = &mut out[start..end];
            if spacing == Spacing::UNIT && stretch.reach().is_some_and(|reach| reach <= Near::LIMIT) {
                let squares = self.near.search(&stretch);
                out.iter_mut().zip(squares).for_each(|(out, &square)| *out = finish(f64::from(square)));
                continue;
            }
            self.squares.resize(out.len(), 0.0);
            if spacing != Spacing::UNIT {
                self.scaled.fill(&stretch, &Scaled(spacing), &mut self.squares);
            } else if width <= MAX_NARROW {
                self.exact.fill(&stretch, &Unit, &mut self.squares);
            } else {
                self.wide.fill(&stretch, &Unit, &mut self.squares);
            }
            out.iter_mut().zip(&self.squares).for_each(|(out, &square)| *out = finish(square));
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
    #[inline(always)]
    fn reach(&self) -> Option<usize> {
        let length = self.steps.len();
        let across = match (self.left, self.right) {
            (true, true) => Some(length.div_ceil(2)),
            (true, false) | (false, true) => Some(length),
            (false, false) => None,
        };
        let up = Some(largest(self.steps)).filter(|&up| up != u32::MAX).map(|up| up as usize);
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
    #[inline(never)]
    fn fill<S: Step>(&mut self, stretch: &Stretch<'_, S>, metric: &M, squares: &mut [f64]) {
        let sites = &mut self.sites;
        sites.clear();
        let left = stretch.left.then(|| (-1, M::Square::default()));
        let right = stretch.right.then(|| (squares.len() as i64, M::Square::default()));
        let inside = stretch.steps.iter().enumerate().filter(|&(_, &step)| step != S::NONE);
        let mut all = left.into_iter().chain(inside.map(|(x, &step)| (x as i64, metric.up(step.count())))).chain(right);
        let Some(mut last) = all.next() else {
            squares.fill(f64::INFINITY);
            return;
        };
        all.for_each(|site| {
            while let Some(&before) = sites.last() {
                if !metric.is_hidden(last.0 - before.0, site.0 - last.0, [before.1, last.1, site.1]) {
                    break;
                }
                last = before;
                sites.pop();
            }
            sites.push(last);
            last = site;
        });
        sites.push(last);
        let mut sites = sites.iter().copied();
        let (mut at, mut base) = sites.next().unwrap_or(last);
        let mut next = sites.next();
        for (x, out) in squares.iter_mut().enumerate() {
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
}

/// Short distances by trying step after step along the row, for a block of pixels at once, until none can gain.
#[derive(Default)]
struct Near {
    /// Squared counts, with [`Near::MARGIN`] places that are no sites on either side.
    bases: Vec<u16>,
    squares: Vec<u16>,
}

impl Near {
    /// The largest distance this is the faster way for; its square must fit 16 bits, with room for a round more.
    const LIMIT: usize = 240;
    const BLOCK: usize = 64;
    /// Steps between two looks at how far the farthest pixel still is.
    const ROUND: usize = 8;
    const MARGIN: usize = Self::LIMIT + Self::ROUND;

    /// The squared distances of a stretch, none of which exceeds that of the limit.
    fn search<S: Step>(&mut self, stretch: &Stretch<'_, S>) -> &[u16] {
        let length = stretch.steps.len();
        let padded = length.next_multiple_of(Self::BLOCK);
        self.bases.clear();
        self.bases.resize(padded + 2 * Self::MARGIN, u16::MAX);
        for (base, &step) in self.bases[Self::MARGIN..].iter_mut().zip(stretch.steps) {
            let count = step.count().min(255) as u16;
            *base = count * count;
        }
        if stretch.left {
            self.bases[Self::MARGIN - 1] = 0;
        }
        if stretch.right {
            self.bases[Self::MARGIN + length] = 0;
        }
        self.squares.clear();
        self.squares.extend_from_slice(&self.bases[Self::MARGIN..Self::MARGIN + length]);
        // Places beyond the end of the stretch are no pixels to wait for.
        self.squares.resize(padded, 0);
        run(Search { bases: &self.bases, squares: &mut self.squares });
        &self.squares[..length]
    }
}

struct Search<'a> {
    bases: &'a [u16],
    squares: &'a mut [u16],
}

impl Kernel for Search<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        for (block, squares) in self.squares.as_chunks_mut::<{ Near::BLOCK }>().0.iter_mut().enumerate() {
            let around = &self.bases[block * Near::BLOCK..][..Near::BLOCK + 2 * Near::MARGIN];
            let mut nearest = *squares;
            let mut step = 1;
            while step < Near::LIMIT && step * step < nearest.iter().copied().fold(0, u16::max).into() {
                for step in step..step + Near::ROUND {
                    let (left, right) = (&around[Near::MARGIN - step..], &around[Near::MARGIN + step..]);
                    nearest = closer(nearest, left, right, (step * step) as u16);
                }
                step += Near::ROUND;
            }
            *squares = nearest;
        }
    }
}

/// The nearer of what is known and the sites `along` away on either side. An array all at once: compiled to vectors.
#[inline(always)]
fn closer(nearest: [u16; Near::BLOCK], left: &[u16], right: &[u16], along: u16) -> [u16; Near::BLOCK] {
    match (left.first_chunk::<{ Near::BLOCK }>(), right.first_chunk::<{ Near::BLOCK }>()) {
        (Some(left), Some(right)) => {
            std::array::from_fn(|i| nearest[i].min(left[i].min(right[i]).saturating_add(along)))
        }
        _ => nearest,
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
