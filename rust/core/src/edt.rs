//! Exact Euclidean distance transform: how far each foreground pixel's centre is from the nearest background centre.
//!
//! Two passes (Meijster, Roerdink, Hesselink, *A general algorithm for computing distance transforms in linear time*,
//! 2000). The first counts rows to the nearest background within each column, row by row, so that it runs across
//! columns in vectors. The second takes, row by row, the least of the parabolas that stand on these counts. At unit
//! spacing every number up to the final square root is an integer, so the result is exact.

mod blocks;
mod envelope;
mod gaps;
mod rows;

use crate::error::{BatchError, Error, Result};
use crate::parallel::{fill_items, thread_count};
use crate::rle::Size;

pub(crate) use gaps::Columns;
pub(crate) use rows::Rows;

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

/// Longest side of a mask, a power of 2: the squares of its distances are exact in a double.
const MAX_SIDE: u32 = 26;

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
/// [`crate::SizeError::TooLong`] for a side of more than 2^26 pixels; [`Error::Memory`].
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
            columns.measure(mask(index), width, border)?;
            out.chunks_exact_mut(width).enumerate().for_each(|(y, out)| rows.distances(columns, y, spacing, out));
            Ok(())
        });
    }
    let mut columns = Columns::default();
    for (index, out) in out.chunks_exact_mut(stride).enumerate() {
        columns.measure(mask(index), width, border)?;
        fill_items(out, width, stride * 4, |y, rows: &mut Rows, out| {
            rows.distances(&columns, y, spacing, out);
            Ok(())
        })?;
    }
    Ok(())
}

/// Check that no square of a distance outgrows a double.
pub(crate) fn check_sides(size: Size) -> Result<()> {
    size.check_sides(MAX_SIDE)
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
        for (width, height) in [(1, 70_000), (70_000, 1), (3_500_000, 1), (26_000, 1), (1, 26_000), (26_001, 1)] {
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
        assert_eq!(refused, Err(Error::Size(SizeError::TooLong { height: 1, width: (1 << 26) + 1, power: 26 })));
    }
}
