//! Between pixel arrays (row-major, one byte a pixel) and run lengths (column-major).

use crate::columns::Changes;
use crate::error::{BatchError, Result};
use crate::parallel::fill_items;
use crate::rle::{MaskBuf, Masks, Size};

/// Encode masks of `size`, one after the other in `pixels`; every byte that is not 0 is foreground.
///
/// Walks rows, comparing each with the row above eight pixels at a time, and sorts the few places where a column
/// changes by column: no transposed walk over the image. O(pixels / 8 + changes).
///
/// # Errors
/// [`BatchError::Length`] if `pixels` is not a whole number of masks.
pub fn encode(pixels: &[u8], size: Size) -> Result<MaskBuf> {
    let stride = size.pixels();
    if !pixels.len().is_multiple_of(stride) {
        let expected = format!("a multiple of {stride}");
        return Err(BatchError::Length { name: "pixels", found: pixels.len(), expected }.into());
    }
    let count = pixels.len() / stride;
    MaskBuf::build(count, pixels.len() / 4, |mask, scratch: &mut Changes, out| {
        find_changes(&pixels[mask * stride..(mask + 1) * stride], size.width(), &mut scratch.found);
        out.push(stride, scratch.intervals(size.height()));
        Ok(())
    })
}

/// Gather where columns change: at the rows that differ from the row above.
fn find_changes(pixels: &[u8], width: usize, found: &mut Vec<(u32, u32)>) {
    found.clear();
    let top = vec![0; width];
    let mut above: &[u8] = &top;
    for (y, row) in pixels.chunks_exact(width).enumerate() {
        let (row_words, row_tail) = row.as_chunks::<8>();
        let (above_words, above_tail) = above.as_chunks::<8>();
        for (i, (a, b)) in above_words.iter().zip(row_words).enumerate() {
            if a != b {
                compare(found, y, i * 8, a, b);
            }
        }
        compare(found, y, row_words.len() * 8, above_tail, row_tail);
        above = row;
    }
}

fn compare(found: &mut Vec<(u32, u32)>, y: usize, x: usize, above: &[u8], row: &[u8]) {
    for (i, (&a, &b)) in above.iter().zip(row).enumerate() {
        if (a != 0) != (b != 0) {
            found.push((y as u32, (x + i) as u32));
        }
    }
}

/// Decode masks into `out`, row-major, one byte (0 or 1) a pixel, mask after mask.
///
/// Marks where each column changes and lets every row take over the row above: O(runs + columns) scattered writes, the
/// rest is sequential.
///
/// # Errors
/// [`BatchError::Output`] if `out` is not as long as the masks have pixels.
pub fn decode_into(masks: Masks<'_>, out: &mut [u8]) -> Result<()> {
    let size = masks.size();
    let (height, width) = (size.height(), size.width());
    let expected = masks.len() * size.pixels();
    if out.len() != expected {
        return Err(BatchError::Output { found: out.len(), expected }.into());
    }
    fill_items(out, size.pixels(), expected / 4, |mask, (): &mut (), out| {
        out.fill(0);
        for (start, end) in masks.intervals(mask) {
            let (first, last) = (start / height, (end - 1) / height);
            out[(start % height) * width + first] ^= 1;
            out[first + 1..=last].iter_mut().for_each(|top| *top ^= 1);
            if end % height != 0 {
                out[(end % height) * width + last] ^= 1;
            }
        }
        for y in 1..height {
            let (above, row) = out[(y - 1) * width..(y + 1) * width].split_at_mut(width);
            row.iter_mut().zip(above).for_each(|(pixel, above)| *pixel ^= *above);
        }
        Ok(())
    })
}
