//! Masks in whatever form they come, and the packed rows kernels that do not care ask for.

use crate::bits::{Bits, WORD, check_threshold, mask_count, pack_at_pace, threshold_row, zeroed};
use crate::encode::draw;
use crate::error::{BatchError, Error, Result, SizeError};
use crate::rle::{Masks, Size};
use crate::simd::{Kernel, Lanes, run};

/// `N` masks of one size, borrowed.
#[derive(Clone, Copy, Debug)]
pub enum Batch<'a> {
    /// Run lengths.
    Runs(Masks<'a>),
    /// Packed rows.
    Bits(Bits<'a>),
    /// Row-major bytes, mask after mask; what is not 0 is foreground.
    Bytes(&'a [u8], Size),
    /// Row-major logits, mask after mask, and the threshold foreground lies above.
    Logits(&'a [f32], f32, Size),
}

impl<'a> Batch<'a> {
    /// The size of each mask.
    #[must_use]
    pub fn size(&self) -> Size {
        match self {
            Self::Runs(masks) => masks.size(),
            Self::Bits(masks) => masks.size(),
            Self::Bytes(_, size) | Self::Logits(_, _, size) => *size,
        }
    }

    /// Number of masks.
    ///
    /// # Errors
    /// [`BatchError::Length`] for bytes or logits that are not a whole number of masks; [`Error::Option`] for a threshold
    /// that is not finite.
    pub fn count(&self) -> Result<usize> {
        match self {
            Self::Runs(masks) => Ok(masks.len()),
            Self::Bits(masks) => Ok(masks.len()),
            Self::Bytes(pixels, size) => mask_count(pixels.len(), *size),
            Self::Logits(pixels, threshold, size) => {
                check_threshold(*threshold)?;
                mask_count(pixels.len(), *size)
            }
        }
    }

    /// The packed rows of one mask, in `scratch` if they are not there already.
    pub(crate) fn words<'b>(&self, mask: usize, scratch: &'b mut Vec<u64>) -> Result<&'b [u64]>
    where
        'a: 'b,
    {
        let size = self.size();
        let span = mask * size.pixels()..(mask + 1) * size.pixels();
        match *self {
            Self::Bits(masks) => return Ok(masks.mask(mask)),
            Self::Runs(masks) => {
                zeroed(scratch, 1, size)?;
                draw(masks.runs(mask), size, scratch)?;
            }
            Self::Bytes(pixels, _) => {
                zeroed(scratch, 1, size)?;
                run(Pack { pixels: &pixels[span], size, words: scratch })?;
            }
            Self::Logits(logits, threshold, _) => {
                zeroed(scratch, 1, size)?;
                if run(Threshold { logits: &logits[span], threshold, size, words: scratch }) {
                    return Err(Error::NotANumber { mask });
                }
            }
        }
        Ok(scratch)
    }
}

/// Check that `b` has masks of the size of `a`, as many, or one of the `other` numbers of them.
pub(crate) fn check_pair(a: Batch<'_>, b: Batch<'_>, name: &'static str, other: &[usize]) -> Result<()> {
    let (expected, found) = (a.size(), b.size());
    if expected != found {
        return Err(SizeError::Mismatch { name, found, expected }.into());
    }
    let (expected, found) = (a.count()?, b.count()?);
    if expected == found || other.contains(&found) {
        return Ok(());
    }
    Err(BatchError::Length { name, found, expected: expected.to_string() }.into())
}

/// One mask, from bytes to bits.
struct Pack<'a> {
    pixels: &'a [u8],
    size: Size,
    words: &'a mut [u64],
}

impl Kernel for Pack<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Result<()> {
        pack_at_pace(lanes, self.pixels, self.size, self.words)
    }
}

/// One mask, from logits to bits; whether one of them is NaN.
struct Threshold<'a> {
    logits: &'a [f32],
    threshold: f32,
    size: Size,
    words: &'a mut [u64],
}

impl Kernel for Threshold<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> bool {
        let rows = self.logits.chunks_exact(self.size.width());
        let mut nan = false;
        for (row, words) in rows.zip(self.words.chunks_exact_mut(self.size.row_words())) {
            threshold_row(lanes, row, self.threshold, words);
            let (full, rest) = row.as_chunks::<WORD>();
            nan |= full.iter().fold(false, |found, values| found | lanes.any_nan(values));
            nan |= rest.iter().any(|value| value.is_nan());
        }
        nan
    }
}
