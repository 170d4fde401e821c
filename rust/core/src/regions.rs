//! Holes and specks: connected pieces of the background to fill, of the foreground to drop.

use crate::components::{Connectivity, Segment, split};
use crate::error::Result;
use crate::parallel::STEP;
use crate::rle::{MaskBuf, Masks};
use crate::sets::merged;

/// Which pieces of the background are holes.
#[derive(Clone, Copy, Debug)]
pub struct Holes {
    /// Which background pixels touch; 8-connected objects have 4-connected holes, and the other way round.
    pub connectivity: Connectivity,
    /// Pixels of the largest hole to fill.
    pub max_area: u64,
    /// Whether a piece that touches the border of the image is a hole.
    pub at_border: bool,
}

/// Each mask with its holes filled. O(runs + columns covered).
///
/// # Errors
/// None for masks that passed [`Masks::new`].
pub fn fill_holes(masks: Masks<'_>, holes: Holes) -> Result<MaskBuf> {
    let size = masks.size();
    let touches_border = |piece: &[Segment]| {
        piece.iter().any(|segment| {
            let (x, top) = (segment.start / size.height(), segment.start % size.height());
            x == 0 || x == size.width() - 1 || top == 0 || segment.end % size.height() == 0
        })
    };
    MaskBuf::build(masks.len(), masks.run_count() * STEP, |mask, (): &mut (), out| {
        let background = complement(masks.runs(mask));
        let pieces = split(&background, size, holes.connectivity)?;
        let mut foreground: Vec<_> = masks.intervals(mask).collect();
        for piece in pieces.chunk_by(|a, b| a.root == b.root) {
            if area(piece) <= holes.max_area && (holes.at_border || !touches_border(piece)) {
                foreground.extend(piece.iter().map(|segment| (segment.start, segment.end)));
            }
        }
        foreground.sort();
        out.push(size.pixels(), merged(foreground.into_iter()))
    })
}

/// Each mask without its pieces of fewer than `min_area` pixels; if that is all of them, `keep_largest` keeps the
/// largest, the first of several. O(runs + columns covered).
///
/// # Errors
/// None for masks that passed [`Masks::new`].
pub fn remove_small(
    masks: Masks<'_>,
    connectivity: Connectivity,
    min_area: u64,
    keep_largest: bool,
) -> Result<MaskBuf> {
    let size = masks.size();
    MaskBuf::build(masks.len(), masks.run_count() * STEP, |mask, (): &mut (), out| {
        let segments = split(masks.runs(mask), size, connectivity)?;
        let pieces = || segments.chunk_by(|a, b| a.root == b.root);
        let largest = pieces().map(area).max().filter(|_| keep_largest).unwrap_or(0);
        let threshold = if largest > 0 && largest < min_area { largest } else { min_area };
        let mut kept = pieces().filter(|piece| area(piece) >= threshold);
        let kept: Vec<_> = if threshold == min_area { kept.collect() } else { kept.next().into_iter().collect() };
        let mut kept: Vec<_> = kept.concat().iter().map(|segment| (segment.start, segment.end)).collect();
        kept.sort();
        out.push(size.pixels(), kept)
    })
}

fn area(piece: &[Segment]) -> u64 {
    piece.iter().map(|segment| (segment.end - segment.start) as u64).sum()
}

/// The runs of the background.
fn complement(runs: &[u32]) -> Vec<u32> {
    match runs {
        [0, rest @ ..] => rest.to_vec(),
        _ => [&[0], runs].concat(),
    }
}
