//! Area and bounding box, straight from the runs.

use crate::error::Result;
use crate::rle::{Masks, check_offsets};
use crate::window::Window;

/// Number of foreground pixels of each mask; needs no size.
///
/// # Errors
/// [`crate::BatchError::Offsets`] if `offsets` do not index `counts`.
pub fn areas(counts: &[u32], offsets: &[i64]) -> Result<Vec<i64>> {
    check_offsets(offsets, counts.len(), "offsets", "counts")?;
    let area = |bounds: &[i64]| {
        let runs = &counts[bounds[0] as usize..bounds[1] as usize];
        runs.iter().skip(1).step_by(2).map(|&run| i64::from(run)).sum()
    };
    Ok(offsets.windows(2).map(area).collect())
}

/// `[xmin, ymin, xmax, ymax]` of each mask, inclusive pixel indices; `[0, 0, -1, -1]` for an empty one.
///
/// # Errors
/// [`crate::SizeError::TooLong`] for a side of more than 2^24 pixels.
pub fn boxes(masks: Masks<'_>) -> Result<Vec<[i64; 4]>> {
    masks.size().check_places()?;
    let bounding_box = |mask| {
        let Window { x, y, width, height } = Window::around(masks, mask).unwrap_or_default();
        [x, y, x + width, y + height].map(|edge| edge as i64)
    };
    Ok((0..masks.len()).map(bounding_box).map(|[x0, y0, x1, y1]| [x0, y0, x1 - 1, y1 - 1]).collect())
}

/// Whether the bounding boxes of the masks hold less than half of all pixels: then it pays to decode them into memory
/// that is blank.
#[must_use]
pub fn is_sparse(masks: Masks<'_>) -> bool {
    let windows = (0..masks.len()).filter_map(|mask| Window::around(masks, mask));
    windows.map(|window| window.width * window.height).sum::<usize>() < masks.len() * masks.size().pixels() / 2
}
