//! Masks as packed bits: row-major, 64 pixels a word, the lowest bit is the leftmost pixel, rows padded with zeros.

use crate::error::{BatchError, Error, Result};
use crate::parallel::{Pace, STEP, fill_items};
use crate::rle::Size;
use crate::simd::{Kernel, Lanes, run};

/// Pixels a word holds.
pub(crate) const WORD: usize = u64::BITS as usize;

impl Size {
    /// Words a row takes.
    #[must_use]
    pub fn row_words(self) -> usize {
        self.width().div_ceil(WORD)
    }

    /// Words a mask takes.
    #[must_use]
    pub fn mask_words(self) -> usize {
        self.row_words() * self.height()
    }

    /// The pixels of the last word of a row that are on the image.
    pub(crate) fn last_word(self) -> u64 {
        u64::MAX >> (self.row_words() * WORD - self.width())
    }
}

/// `N` packed masks of one size, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Bits<'a> {
    size: Size,
    words: &'a [u64],
}

impl<'a> Bits<'a> {
    /// Check that `words` are masks of `size` without bits outside of it; every kernel relies on it.
    ///
    /// # Errors
    /// [`BatchError::Length`] if they are not a whole number of masks, [`Error::Padding`] with the first mask that has
    /// bits beyond its width.
    pub fn new(words: &'a [u64], size: Size) -> Result<Self> {
        let stride = size.mask_words();
        if !words.len().is_multiple_of(stride) {
            let expected = format!("a multiple of {stride}");
            return Err(BatchError::Length { name: "words", found: words.len(), expected }.into());
        }
        let row_words = size.row_words();
        let outside = !size.last_word();
        let stray = |row: &[u64]| row[row_words - 1] & outside != 0;
        if outside != 0
            && let Some(row) = words.chunks_exact(row_words).position(stray)
        {
            return Err(Error::Padding { mask: row / size.height(), row: row % size.height() });
        }
        Ok(Self { size, words })
    }

    /// Number of masks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.len() / self.size.mask_words()
    }

    /// Whether there is no mask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The size of each mask.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// The words of one mask, row after row.
    #[must_use]
    pub fn mask(&self, mask: usize) -> &'a [u64] {
        let stride = self.size.mask_words();
        &self.words[mask * stride..(mask + 1) * stride]
    }
}

/// `N` packed masks of one size, owned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BitBuf {
    size: Size,
    words: Vec<u64>,
}

impl BitBuf {
    /// `count` masks without foreground.
    ///
    /// # Errors
    /// [`Error::Memory`] if there is not enough for them.
    pub fn zeros(count: usize, size: Size) -> Result<Self> {
        let mut words = Vec::new();
        zeroed(&mut words, count, size)?;
        Ok(Self { size, words })
    }

    /// The masks, borrowed.
    #[must_use]
    pub fn view(&self) -> Bits<'_> {
        Bits { size: self.size, words: &self.words }
    }

    /// The words of all masks.
    #[must_use]
    pub fn into_words(self) -> Vec<u64> {
        self.words
    }

    /// Write every mask, in parallel if `work` (elementary steps over all of them) is worth it; `write` gets the index
    /// of a mask and its words, and must leave the padding zero.
    pub(crate) fn fill<S: Default>(
        &mut self,
        work: usize,
        write: impl Fn(usize, &mut S, &mut [u64]) -> Result<()> + Sync,
    ) -> Result<()> {
        fill_items(&mut self.words, self.size.mask_words(), work, write)
    }
}

/// Make `words` hold `count` masks without foreground.
pub(crate) fn zeroed(words: &mut Vec<u64>, count: usize, size: Size) -> Result<()> {
    words.clear();
    match count.checked_mul(size.mask_words()) {
        Some(length) if words.try_reserve_exact(length).is_ok() => {
            words.resize(length, 0);
            Ok(())
        }
        _ => Err(Error::Memory { count, size }),
    }
}

/// Pack masks of `size`, one after the other in `pixels`, row-major; every byte that is not 0 is foreground.
///
/// # Errors
/// [`BatchError::Length`] if `pixels` is not a whole number of masks; [`Error::Memory`].
pub fn pack(pixels: &[u8], size: Size) -> Result<BitBuf> {
    let stride = size.pixels();
    let mut bits = BitBuf::zeros(mask_count(pixels.len(), size)?, size)?;
    bits.fill(pixels.len() / 32, |mask, (): &mut (), words| {
        run(Pack { pixels: &pixels[mask * stride..(mask + 1) * stride], size, words })
    })?;
    Ok(bits)
}

/// How many masks of `size` these pixels are.
pub(crate) fn mask_count(pixels: usize, size: Size) -> Result<usize> {
    let stride = size.pixels();
    if pixels.is_multiple_of(stride) {
        return Ok(pixels / stride);
    }
    Err(BatchError::Length { name: "pixels", found: pixels, expected: format!("a multiple of {stride}") }.into())
}

/// Check that a kernel's output is as long as its values.
pub(crate) fn check_output<T>(out: &[T], expected: usize) -> Result<()> {
    if out.len() == expected { Ok(()) } else { Err(BatchError::Output { found: out.len(), expected }.into()) }
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

/// One mask, from bytes to bits, however large it is.
///
/// # Errors
/// [`Error::Interrupted`].
#[inline(always)]
pub(crate) fn pack_at_pace<L: Lanes>(lanes: L, pixels: &[u8], size: Size, words: &mut [u64]) -> Result<()> {
    let mut pace = Pace::default();
    for (pixels, words) in pixels.chunks(WORD * size.width()).zip(words.chunks_mut(WORD * size.row_words())) {
        pace.steps(words.len() * 4)?;
        pack_mask(lanes, pixels, size, words);
    }
    Ok(())
}

/// One mask, from bytes to bits.
#[inline(always)]
pub(crate) fn pack_mask<L: Lanes>(lanes: L, pixels: &[u8], size: Size, words: &mut [u64]) {
    for (row, words) in pixels.chunks_exact(size.width()).zip(words.chunks_exact_mut(size.row_words())) {
        let (full, rest) = row.as_chunks::<WORD>();
        for (bytes, word) in full.iter().zip(&mut *words) {
            *word = lanes.nonzero(bytes);
        }
        if !rest.is_empty() {
            let mut bytes = [0; WORD];
            bytes[..rest.len()].copy_from_slice(rest);
            words[full.len()] = lanes.nonzero(&bytes);
        }
    }
}

/// Check that a threshold is one that logits can be above or below.
pub(crate) fn check_threshold(threshold: f32) -> Result<()> {
    if threshold.is_finite() {
        return Ok(());
    }
    Err(Error::Option {
        name: "threshold",
        value: f64::from(threshold),
        expected: "a finite number in single precision",
    })
}

/// The masks of logits of `size`, one map after the other, row-major: what is above `threshold`; NaN is not.
///
/// # Errors
/// [`BatchError::Length`] if `logits` is not a whole number of maps; [`Error::Option`] for a threshold that is not
/// finite; [`Error::Memory`].
pub fn threshold(logits: &[f32], threshold: f32, size: Size) -> Result<BitBuf> {
    check_threshold(threshold)?;
    let stride = size.pixels();
    let mut bits = BitBuf::zeros(mask_count(logits.len(), size)?, size)?;
    bits.fill(logits.len() / 8, |mask, (): &mut (), words| {
        run(Threshold { logits: &logits[mask * stride..(mask + 1) * stride], threshold, size, words })
    })?;
    Ok(bits)
}

/// One mask, from logits to bits.
struct Threshold<'a> {
    logits: &'a [f32],
    threshold: f32,
    size: Size,
    words: &'a mut [u64],
}

impl Kernel for Threshold<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Result<()> {
        let mut pace = Pace::default();
        let rows = self.logits.chunks_exact(self.size.width());
        for (row, words) in rows.zip(self.words.chunks_exact_mut(self.size.row_words())) {
            pace.steps(words.len() * STEP)?;
            threshold_row(lanes, row, self.threshold, words);
        }
        Ok(())
    }
}

/// One row, from logits to bits.
#[inline(always)]
pub(crate) fn threshold_row<L: Lanes>(lanes: L, logits: &[f32], threshold: f32, words: &mut [u64]) {
    let (full, rest) = logits.as_chunks::<WORD>();
    for (values, word) in full.iter().zip(&mut *words) {
        *word = lanes.above(values, threshold);
    }
    if !rest.is_empty() {
        let mut values = [f32::NAN; WORD];
        values[..rest.len()].copy_from_slice(rest);
        words[full.len()] = lanes.above(&values, threshold);
    }
}

/// Unpack masks into `out`, row-major, one byte (0 or 1) a pixel, mask after mask.
///
/// # Errors
/// [`BatchError::Output`] if `out` is not as long as the masks have pixels.
pub fn unpack_into(bits: Bits<'_>, out: &mut [u8]) -> Result<()> {
    let (size, work) = (bits.size(), out.len() / 32);
    check_output(out, bits.len() * size.pixels())?;
    fill_items(out, size.pixels(), work, |mask, (): &mut (), out| run(Unpack { words: bits.mask(mask), size, out }))
}

/// One mask, from bits to bytes.
struct Unpack<'a> {
    words: &'a [u64],
    size: Size,
    out: &'a mut [u8],
}

impl Kernel for Unpack<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Result<()> {
        let mut pace = Pace::default();
        let rows = self.out.chunks_exact_mut(self.size.width());
        for (row, words) in rows.zip(self.words.chunks_exact(self.size.row_words())) {
            pace.steps(words.len() * 4)?;
            unpack_row(lanes, words, row);
        }
        Ok(())
    }
}

/// One row, from bits to bytes.
#[inline(always)]
pub(crate) fn unpack_row<L: Lanes>(lanes: L, words: &[u64], row: &mut [u8]) {
    let (full, rest) = row.as_chunks_mut::<WORD>();
    for (bytes, &word) in full.iter_mut().zip(words) {
        lanes.spread(word, bytes);
    }
    if !rest.is_empty() {
        let mut bytes = [0; WORD];
        lanes.spread(words[full.len()], &mut bytes);
        rest.copy_from_slice(&bytes[..rest.len()]);
    }
}

/// As [`unpack_row`] over zeros, of which it leaves those be that stay.
#[inline(always)]
pub(crate) fn unpack_marked<L: Lanes>(lanes: L, words: &[u64], row: &mut [u8]) {
    for (bytes, word) in row.chunks_mut(WORD).zip(words.chunks(1)).filter(|(_, word)| word[0] != 0) {
        unpack_row(lanes, word, bytes);
    }
}

/// The positions of the bits of a word that are set, rising.
#[inline(always)]
pub(crate) fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let position = (word != 0).then(|| word.trailing_zeros() as usize);
        word &= word.wrapping_sub(1);
        position
    })
}

/// Transpose a block of 64 x 64 bits in place: bit `j` of word `i` becomes bit `i` of word `j`.
///
/// Swaps ever smaller quadrants (Warren, *Hacker's Delight*, 7-3): 6 x 32 exchanges.
#[inline(always)]
pub(crate) fn transpose(block: &mut [u64; WORD]) {
    exchange::<32>(block, 0x0000_0000_ffff_ffff);
    exchange::<16>(block, 0x0000_ffff_0000_ffff);
    exchange::<8>(block, 0x00ff_00ff_00ff_00ff);
    exchange::<4>(block, 0x0f0f_0f0f_0f0f_0f0f);
    exchange::<2>(block, 0x3333_3333_3333_3333);
    exchange::<1>(block, 0x5555_5555_5555_5555);
}

#[inline(always)]
fn exchange<const WIDTH: usize>(block: &mut [u64; WORD], low: u64) {
    for rows in block.chunks_exact_mut(2 * WIDTH) {
        let (upper, lower) = rows.split_at_mut(WIDTH);
        for (upper, lower) in upper.iter_mut().zip(lower) {
            let swapped = ((*upper >> WIDTH) ^ *lower) & low;
            *upper ^= swapped << WIDTH;
            *lower ^= swapped;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::transpose;
    use crate::rng::Rng;

    #[test]
    fn transposed_bit_by_bit() {
        let mut rng = Rng::new(2, *b"testing ");
        let block: [u64; 64] = std::array::from_fn(|_| rng.bits());
        let mut turned = block;
        transpose(&mut turned);
        for (i, row) in block.iter().enumerate() {
            for (j, column) in turned.iter().enumerate() {
                assert_eq!(column >> i & 1, row >> j & 1, "{i} {j}");
            }
        }
    }
}
