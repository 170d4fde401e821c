//! Area and bounding box, straight from the runs.

use crate::error::Result;
use crate::rle::{Masks, check_offsets};

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
#[must_use]
pub fn boxes(masks: Masks<'_>) -> Vec<[i64; 4]> {
    let height = masks.size().height();
    let bounding_box = |mask| {
        let mut bounds: Option<[usize; 4]> = None;
        for (start, end) in masks.intervals(mask) {
            let (x0, x1) = (start / height, (end - 1) / height);
            // A run that goes on in the next column holds the bottom of one column and the top of the next.
            let (y0, y1) = if x0 == x1 { (start % height, (end - 1) % height) } else { (0, height - 1) };
            bounds = Some(bounds.map_or([x0, y0, x1, y1], |[a, b, c, d]| [a.min(x0), b.min(y0), c.max(x1), d.max(y1)]));
        }
        bounds.map_or([0, 0, -1, -1], |bounds| bounds.map(|value| value as i64))
    };
    (0..masks.len()).map(bounding_box).collect()
}
