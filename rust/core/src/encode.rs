//! Between pixels (row-major bytes or bits) and run lengths (column-major).
//!
//! Both ways go through packed rows and the places where a pixel differs from the one above it: a blob has few of them,
//! however large it is.

use crate::bits::{Bits, WORD, check_output, mask_count, pack_at_pace, transpose, zeroed};
use crate::canvas::Canvas;
use crate::error::Result;
use crate::memory::grow;
use crate::parallel::{Pace, fill_items};
use crate::rle::{MaskBuf, Masks, Size, Toggles, intervals};
use crate::simd::{Kernel, Lanes, run};
use crate::window::Window;

/// Encode masks of `size`, one after the other in `pixels`; every byte that is not 0 is foreground.
///
/// O(pixels / 64 + changes): packed, then as [`encode_bits`].
///
/// # Errors
/// [`BatchError::Length`] if `pixels` is not a whole number of masks; [`crate::Error::Memory`].
pub fn encode(pixels: &[u8], size: Size) -> Result<MaskBuf> {
    let stride = size.pixels();
    let count = mask_count(pixels.len(), size)?;
    MaskBuf::build(count, pixels.len() / 16, |mask, scratch: &mut (Vec<u64>, Blocks), out| {
        let (words, blocks) = scratch;
        zeroed(words, 1, size)?;
        let pixels = &pixels[mask * stride..(mask + 1) * stride];
        run(Encode { pixels, words, size, blocks, out: Toggles::new(out) })
    })
}

/// Encode packed masks.
///
/// Blocks of 64 x 64 differences to the row above are transposed where they are not zero; what is left are the bits of
/// each column: O(pixels / 64 + changes).
///
/// # Errors
/// None for masks that passed [`Bits::new`].
pub fn encode_bits(masks: Bits<'_>) -> Result<MaskBuf> {
    let size = masks.size();
    MaskBuf::build(masks.len(), masks.len() * size.mask_words() * 2, |mask, blocks: &mut Blocks, out| {
        push_bits(masks.mask(mask), size, blocks, out)
    })
}

/// Append one packed mask.
///
/// # Errors
/// [`crate::Error::Interrupted`], [`crate::Error::Memory`].
pub(crate) fn push_bits(words: &[u64], size: Size, blocks: &mut Blocks, out: &mut MaskBuf) -> Result<()> {
    run(EncodeBits { words, size, blocks, out: Toggles::new(out) })
}

/// One mask, from bytes over `words` to runs.
struct Encode<'a> {
    pixels: &'a [u8],
    words: &'a mut [u64],
    size: Size,
    blocks: &'a mut Blocks,
    out: Toggles<'a>,
}

impl Kernel for Encode<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Result<()> {
        let Self { pixels, words, size, blocks, out } = self;
        pack_at_pace(lanes, pixels, size, words)?;
        find_runs(words, size, blocks, out)
    }
}

/// One mask, from bits to runs.
struct EncodeBits<'a> {
    words: &'a [u64],
    size: Size,
    blocks: &'a mut Blocks,
    out: Toggles<'a>,
}

impl Kernel for EncodeBits<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) -> Result<()> {
        find_runs(self.words, self.size, self.blocks, self.out)
    }
}

/// The transposed blocks of one strip of 64 columns.
#[derive(Default)]
pub(crate) struct Blocks {
    /// Word `i`: where column `i` of the strip changes within the 64 rows of the block.
    changes: Vec<[u64; WORD]>,
    /// First row of each block.
    tops: Vec<u32>,
}

#[inline(always)]
fn find_runs(words: &[u64], size: Size, blocks: &mut Blocks, mut out: Toggles<'_>) -> Result<()> {
    let mut pace = Pace::default();
    let (height, row_words) = (size.height(), size.row_words());
    for strip in 0..row_words {
        pace.steps(height)?;
        blocks.changes.clear();
        blocks.tops.clear();
        let mut changed = 0;
        let mut above = 0;
        for (i, rows) in words.chunks(row_words * WORD).enumerate() {
            let mut block = [0; WORD];
            let mut any = 0;
            for (row, changes) in rows.chunks_exact(row_words).zip(&mut block) {
                *changes = row[strip] ^ above;
                any |= *changes;
                above = row[strip];
            }
            if any != 0 {
                transpose(&mut block);
                grow(&mut blocks.changes, 1, size)?;
                blocks.changes.push(block);
                blocks.tops.push((i * WORD) as u32);
                changed |= any;
            }
        }
        while changed != 0 {
            let column = changed.trailing_zeros() as usize;
            changed &= changed - 1;
            pace.steps(blocks.tops.len() * 16)?;
            let top = (strip * WORD + column) * height;
            let mut odd = false;
            for (block, &block_top) in blocks.changes.iter().zip(&blocks.tops) {
                let mut rows = block[column];
                let count = rows.count_ones();
                // And for the end of the column.
                out.reserve(count as usize + 1)?;
                odd ^= count % 2 == 1;
                while rows != 0 {
                    out.push((top + block_top as usize) as u32 + rows.trailing_zeros());
                    rows &= rows - 1;
                }
            }
            // What lasts to the bottom ends there; where the next column begins with foreground, the two cancel.
            if odd {
                out.push((top + height) as u32);
            }
        }
    }
    out.reserve(0)?;
    out.finish(size.pixels());
    Ok(())
}

/// Decode masks into `out`, packed, mask after mask.
///
/// O(runs + pixels / 64): as [`decode_into`].
///
/// # Errors
/// [`BatchError::Output`] if `out` is not as long as the packed masks.
pub fn decode_bits_into(masks: Masks<'_>, out: &mut [u64]) -> Result<()> {
    let size = masks.size();
    check_output(out, masks.len() * size.mask_words())?;
    let work = out.len() + masks.run_count() * 4;
    fill_items(out, size.mask_words(), work, |mask, (): &mut (), words| {
        words.fill(0);
        draw(masks.runs(mask), size, words)
    })
}

/// Draw one mask over `words`, which must be zero.
///
/// # Errors
/// [`crate::Error::Interrupted`].
pub(crate) fn draw(runs: &[u32], size: Size, words: &mut [u64]) -> Result<()> {
    draw_on(runs, size, &mut Canvas::whole(size, words))
}

/// Decode masks into `out`, row-major, one byte (0 or 1) a pixel, mask after mask. `blank`: all of `out` is 0 already,
/// which saves writing what lies around the foreground.
///
/// Marks where each column changes in packed bits and lets every row take over the row above: O(runs) scattered writes,
/// the rest is sequential.
///
/// # Errors
/// [`BatchError::Output`] if `out` is not as long as the masks have pixels; [`crate::Error::Memory`].
pub fn decode_into(masks: Masks<'_>, blank: bool, out: &mut [u8]) -> Result<()> {
    let size = masks.size();
    check_output(out, masks.len() * size.pixels())?;
    let work = out.len() / 16 + masks.run_count() * 4;
    fill_items(out, size.pixels(), work, |mask, words: &mut Vec<u64>, out| {
        let window = Window::around(masks, mask).unwrap_or_default();
        let mut canvas = Canvas::blank(window, words, size)?;
        draw_on(masks.runs(mask), size, &mut canvas)?;
        canvas.write(size, blank, out)
    })
}

/// Draw one mask on a canvas it lies in.
fn draw_on(runs: &[u32], size: Size, canvas: &mut Canvas<'_>) -> Result<()> {
    let mut pace = Pace::default();
    let height = size.height();
    // The column the last position lies in, and where it begins.
    let (mut column, mut top) = (0, 0);
    for (start, end) in intervals(runs) {
        while start >= top + height {
            (column, top) = (column + 1, top + height);
        }
        pace.steps(1 + (end - start) / height)?;
        canvas.toggle(column, start - top);
        while end > top + height {
            (column, top) = (column + 1, top + height);
            canvas.toggle(column, 0);
        }
        canvas.toggle(column, end - top);
    }
    canvas.descend()
}
