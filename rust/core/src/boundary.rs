//! The inner boundary of masks: foreground within a given chessboard distance of background.
//!
//! Erosion by a square, as shifts and ANDs of packed rows, each of which doubles the width eroded so far:
//! O(log distance) passes over the words of the bounding box.

use crate::batch::{Batch, check_pair};
use crate::bits::{WORD, zeroed};
use crate::encode::{Blocks, push_bits};
use crate::error::{Error, Result};
use crate::memory::reserve;
use crate::overlap::Counts;
use crate::parallel::fill_items;
use crate::rle::{MaskBuf, Size};
use crate::simd::{Kernel, Lanes, run};

/// The pixels of each mask at most `distance` pixels (diagonal steps count as one) from background; what lies outside
/// the image is background.
///
/// What `boundary-iou-api` makes of a mask with as many erosions by 3 x 3.
///
/// # Errors
/// [`Error::Option`] for a distance of 0; as [`crate::overlap`] for the masks.
pub fn boundaries(masks: Batch<'_>, distance: usize) -> Result<MaskBuf> {
    check_distance(distance)?;
    let (count, size) = (masks.count()?, masks.size());
    MaskBuf::build(count, count * size.pixels() / 8, |mask, scratch: &mut (Scratch, Vec<u64>, Blocks), out| {
        let (scratch, words, blocks) = scratch;
        let band = scratch.band(masks, mask, distance)?;
        zeroed(words, 1, size)?;
        let rows = words.chunks_exact_mut(size.row_words()).skip(band.top);
        for (row, band_row) in rows.zip(band.words.chunks_exact(band.row_words.max(1))) {
            row[band.left..band.left + band.width].copy_from_slice(&band_row[..band.width]);
        }
        push_bits(words, size, blocks, out)
    })
}

/// `[tp, fp, fn, tn]` pixels of the boundary of each prediction against that of its target, see [`boundaries`].
///
/// # Errors
/// As [`boundaries`], and [`crate::SizeError::Mismatch`] or [`crate::BatchError::Length`] if the two do not fit.
pub fn boundary_overlap(prediction: Batch<'_>, target: Batch<'_>, distance: usize) -> Result<Vec<[i64; 4]>> {
    check_distance(distance)?;
    check_pair(prediction, target, "target", &[])?;
    let (count, pixels) = (prediction.count()?, prediction.size().pixels());
    let mut out = vec![[0; 4]; count];
    fill_items(&mut out, 1, count * pixels / 4, |mask, scratch: &mut [Scratch; 2], out| {
        let [first, second] = scratch;
        let (first, second) = (first.band(prediction, mask, distance)?, second.band(target, mask, distance)?);
        out[0] = run(Meet { first, second }).cells(pixels);
        Ok(())
    })?;
    Ok(out)
}

fn check_distance(distance: usize) -> Result<()> {
    if distance > 0 {
        return Ok(());
    }
    Err(Error::Option { name: "distance", value: 0.0, expected: "at least 1 pixel" })
}

/// A stretch of packed rows of a mask; what lies outside of it is background.
#[derive(Default)]
struct Band {
    top: usize,
    /// First word of the rows of the mask.
    left: usize,
    /// Words of a row that are of the mask; what follows is room for shifts.
    width: usize,
    row_words: usize,
    words: Vec<u64>,
}

impl Band {
    #[inline(always)]
    fn rows_from(&self, top: usize) -> impl Iterator<Item = &[u64]> {
        self.words.chunks_exact(self.row_words).skip(top - self.top)
    }
}

/// What one mask needs; kept for the next.
#[derive(Default)]
struct Scratch {
    mask: Vec<u64>,
    band: Band,
    eroded: Vec<u64>,
}

impl Scratch {
    fn band(&mut self, masks: Batch<'_>, mask: usize, distance: usize) -> Result<&Band> {
        let size = masks.size();
        let words = masks.words(mask, &mut self.mask)?;
        run(Find { words, size, distance, band: &mut self.band, eroded: &mut self.eroded })?;
        Ok(&self.band)
    }
}

/// From a packed mask to its boundary.
struct Find<'a> {
    words: &'a [u64],
    size: Size,
    distance: usize,
    band: &'a mut Band,
    eroded: &'a mut Vec<u64>,
}

impl Kernel for Find<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) -> Result<()> {
        let Self { words, size, distance, band, eroded } = self;
        let row_words = size.row_words();
        let rows = words.chunks_exact(row_words);
        let is_empty = |row: &[u64]| row.iter().fold(0, |any, word| any | word) == 0;
        band.top = rows.clone().take_while(|row| is_empty(row)).count();
        let height = rows.clone().skip(band.top).rposition(|row| !is_empty(row)).map_or(0, |last| last + 1);
        band.words.clear();
        (band.left, band.width, band.row_words) = (0, 0, 0);
        if height == 0 {
            return Ok(());
        }
        let rows = rows.skip(band.top).take(height);
        let mut any = vec![0; row_words];
        for row in rows.clone() {
            any.iter_mut().zip(row).for_each(|(any, word)| *any |= word);
        }
        band.left = any.iter().take_while(|&&word| word == 0).count();
        band.width = row_words - any.iter().rev().take_while(|&&word| word == 0).count() - band.left;
        // A square wider or taller than the mask leaves nothing, and the boundary is the mask.
        let square = distance.saturating_mul(2).saturating_add(1);
        let leaves_nothing = square > height || square > band.width * WORD;
        let room = if leaves_nothing { 0 } else { (square - 1).div_ceil(WORD) };
        band.row_words = band.width + room;
        reserve(&mut band.words, height * band.row_words, size)?;
        for row in rows {
            band.words.extend_from_slice(&row[band.left..band.left + band.width]);
            band.words.resize(band.words.len() + room, 0);
        }
        if leaves_nothing {
            return Ok(());
        }
        eroded.clear();
        reserve(eroded, band.words.len(), size)?;
        eroded.extend_from_slice(&band.words);
        erode_along_rows(eroded, band.row_words, square);
        erode_down_columns(eroded, band.row_words, square);
        // The square that begins at a pixel is centred `distance` further right and down.
        let (skipped, bits) = (distance / WORD, distance % WORD);
        for (row, eroded) in
            band.words.chunks_exact_mut(band.row_words).skip(distance).zip(eroded.chunks_exact(band.row_words))
        {
            let mut carry = 0;
            for (word, &eroded) in row[skipped..].iter_mut().zip(eroded) {
                *word &= !(eroded << bits | carry);
                carry = eroded >> 1 >> (WORD - 1 - bits);
            }
        }
        Ok(())
    }
}

/// Leave the pixels from which `square` pixels to the right are foreground. Rows end in as many background pixels, less
/// one, so that shifts may run over all rows as one.
#[inline(always)]
fn erode_along_rows(words: &mut [u64], row_words: usize, square: usize) {
    // So many rows at a time that they stay in the first cache.
    let rows = (2048 / row_words).max(1);
    for block in words.chunks_mut(rows * row_words) {
        let mut width = 1;
        while width < square {
            let step = width.min(square - width);
            let (skipped, bits) = (step / WORD, step % WORD);
            let (length, last) = (block.len(), block.len() - skipped - 1);
            for i in 0..last {
                block[i] &= block[i + skipped] >> bits | block[i + skipped + 1] << 1 << (WORD - 1 - bits);
            }
            block[last] &= block[length - 1] >> bits;
            block[last + 1..].fill(0);
            width += step;
        }
    }
}

/// Leave the pixels from which `square` pixels downwards are foreground.
#[inline(always)]
fn erode_down_columns(words: &mut [u64], row_words: usize, square: usize) {
    let mut height = 1;
    while height < square {
        let step = height.min(square - height);
        let shift = step * row_words;
        let last = words.len() - shift;
        for i in 0..last {
            words[i] &= words[i + shift];
        }
        words[last..].fill(0);
        height += step;
    }
}

/// The overlap of two boundaries.
struct Meet<'a> {
    first: &'a Band,
    second: &'a Band,
}

impl Kernel for Meet<'_> {
    type Output = Counts;

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) -> Counts {
        let Self { first, second } = self;
        let mut counts = Counts::default();
        first.words.iter().for_each(|&word| counts.add(word, 0, 0));
        second.words.iter().for_each(|&word| counts.add(0, word, 0));
        let (left, right) = (first.left.max(second.left), (first.left + first.width).min(second.left + second.width));
        let top = first.top.max(second.top);
        if left >= right {
            return counts;
        }
        for (ours, theirs) in first.rows_from(top).zip(second.rows_from(top)) {
            let ours = &ours[left - first.left..right - first.left];
            let theirs = &theirs[left - second.left..right - second.left];
            ours.iter().zip(theirs).for_each(|(ours, theirs)| counts.add_shared(ours & theirs));
        }
        counts
    }
}
