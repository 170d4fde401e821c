//! Where a mask is not: its complement, its box, the ring around it.

use crate::bits::{WORD, zeroed};
use crate::edt::{Border, Columns, Rows, Spacing, check_sides};
use crate::encode::{Blocks, push_bits};
use crate::error::{BoxError, Error, Result};
use crate::rle::{MaskBuf, Masks, Size};
use crate::window::Window;

/// What each mask does not hold.
///
/// # Errors
/// None for masks that passed [`Masks::new`].
pub fn complement(masks: Masks<'_>) -> Result<MaskBuf> {
    let pixels = masks.size().pixels();
    MaskBuf::build(masks.len(), masks.run_count(), |mask, (): &mut (), out| {
        let mut written = 0;
        let gaps = masks.intervals(mask).chain([(pixels, pixels)]).map(|(start, end)| {
            let gap = (written, start);
            written = end;
            gap
        });
        out.push(pixels, gaps.filter(|(start, end)| start < end))
    })
}

/// The filled boxes, as far as they lie on the image: `[xmin, ymin, xmax, ymax]`, inclusive pixel indices.
///
/// # Errors
/// [`Error::Box`] with the first box that is out of order.
pub fn boxes_to_masks(boxes: &[[i64; 4]], size: Size) -> Result<MaskBuf> {
    let (height, width) = (size.height(), size.width());
    MaskBuf::build(boxes.len(), boxes.len() * width, |index, (): &mut (), out| {
        let bounds = boxes[index];
        let [left, top, right, bottom] = bounds;
        if left > right || top > bottom {
            return Err(Error::Box { index, reason: BoxError::OutOfOrder(bounds.map(|value| value as f64)) });
        }
        let inside = |first: i64, last: i64, length: usize| {
            let length = length as i64;
            first.clamp(0, length) as usize..(last.clamp(-1, length - 1) + 1) as usize
        };
        let (columns, rows) = (inside(left, right, width), inside(top, bottom, height));
        let filled = columns.filter(|_| !rows.is_empty()).map(|x| (x * height + rows.start, x * height + rows.end));
        out.push(size.pixels(), filled)
    })
}

/// The pixels outside of each mask whose distance to it, centre to centre, is at most `radius_px`.
///
/// By the exact distance transform of the mask's box, grown by the radius: O(pixels of that).
///
/// # Errors
/// [`Error::Option`] if `radius_px` is not a number of at least 0; [`crate::SizeError::TooLong`].
pub fn ring(masks: Masks<'_>, radius_px: f64) -> Result<MaskBuf> {
    let size = masks.size();
    check_sides(size)?;
    if !(radius_px.is_finite() && radius_px >= 0.0) {
        return Err(Error::Option { name: "radius_px", value: radius_px, expected: "a finite number of at least 0" });
    }
    let limit = radius_px * radius_px;
    // Pixels have whole distances along the axes; a larger radius than the image reaches all of it.
    let margin = radius_px.min(size.pixels() as f64) as usize;
    MaskBuf::build(masks.len(), masks.len() * size.pixels(), |mask, scratch: &mut Scratch, out| {
        let Some(window) = Window::around(masks, mask).map(|window| window.grown(margin, size)) else {
            return out.push(size.pixels(), []);
        };
        let part = Size::new(window.height as i64, window.width as i64)?;
        let Scratch { pixels, columns, rows, squares, words, blocks } = scratch;
        window.unpack(masks, mask, 0, pixels)?;
        columns.measure(pixels, window.width, Border::Nothing)?;
        squares.resize(window.width, 0.0);
        zeroed(words, 1, part)?;
        for (y, words) in words.chunks_exact_mut(part.row_words()).enumerate() {
            rows.squares(columns, y, Spacing::UNIT, squares);
            for (word, squares) in words.iter_mut().zip(squares.chunks(WORD)) {
                for (i, &square) in squares.iter().enumerate() {
                    *word |= u64::from(square > 0.0 && square <= limit) << i;
                }
            }
        }
        let mut found = MaskBuf::default();
        push_bits(words, part, blocks, &mut found)?;
        out.push(size.pixels(), window.intervals(&found.counts, size))
    })
}

#[derive(Default)]
struct Scratch {
    pixels: Vec<u8>,
    columns: Columns,
    rows: Rows,
    squares: Vec<f64>,
    words: Vec<u64>,
    blocks: Blocks,
}
