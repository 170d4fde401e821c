//! Connected components, run by run.

use crate::error::Result;
use crate::memory::grow;
use crate::parallel::{Pace, STEP, map_items};
use crate::rle::{MaskBuf, Masks, Size, each_segment};

/// Which pixels touch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Connectivity {
    /// Sides.
    Four,
    /// Sides and corners.
    Eight,
}

/// The connected pieces of every mask, one mask each, and the index of the mask each comes from.
///
/// Pieces are in order of the mask, then of their first pixel in column-major order. Runs are cut at column ends and
/// joined with those they touch in the column before (union-find): O(runs + columns covered), whatever the area.
///
/// # Errors
/// None for masks that passed [`Masks::new`].
pub fn components(masks: Masks<'_>, connectivity: Connectivity) -> Result<(MaskBuf, Vec<i64>)> {
    let work = masks.run_count() * STEP;
    let parts = map_items(masks.len(), work, |mask, (): &mut (), part: &mut (MaskBuf, Vec<i64>)| {
        let pieces = split(masks.runs(mask), masks.size(), connectivity)?;
        for piece in pieces.chunk_by(|a, b| a.root == b.root) {
            part.0.push(masks.size().pixels(), piece.iter().map(|segment| (segment.start, segment.end)))?;
            part.1.push(mask as i64);
        }
        Ok(())
    })?;
    let (pieces, parents): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    Ok((MaskBuf::concatenate(pieces)?, parents.concat()))
}

/// Foreground within one column, as column-major positions, and the first segment of its piece.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) root: usize,
}

/// The segments of one mask, piece by piece.
///
/// # Errors
/// [`crate::Error::Memory`], [`crate::Error::Interrupted`].
pub(crate) fn split(runs: &[u32], size: Size, connectivity: Connectivity) -> Result<Vec<Segment>> {
    let height = size.height();
    let reach = match connectivity {
        Connectivity::Four => 0,
        Connectivity::Eight => 1,
    };
    let mut segments: Vec<Segment> = Vec::new();
    each_segment(runs, height, |x, top, bottom| {
        let (start, end) = (x * height + top, x * height + bottom);
        grow(&mut segments, 1, size)?;
        segments.push(Segment { start, end, root: segments.len() });
        Ok(())
    })?;
    // `left` runs over the column before while `right` runs over the column.
    let (mut left, mut pace) = (0, Pace::default());
    for right in 0..segments.len() {
        pace.steps(STEP)?;
        let Segment { start, end, .. } = segments[right];
        let top = start / height * height;
        while left < right && segments[left].end + height + reach <= start {
            left += 1;
        }
        let mut touching = left;
        while touching < right && segments[touching].start < top && segments[touching].start + height < end + reach {
            if segments[touching].start + height >= top {
                join(&mut segments, touching, right);
            }
            touching += 1;
        }
    }
    for i in 0..segments.len() {
        segments[i].root = segments[segments[i].root].root;
    }
    segments.sort_by_key(|segment| segment.root);
    Ok(segments)
}

/// Make the smaller root the root of both; a root is never greater than its members.
fn join(segments: &mut [Segment], a: usize, b: usize) {
    let (a, b) = (root(segments, a), root(segments, b));
    segments[a.max(b)].root = a.min(b);
}

fn root(segments: &mut [Segment], mut i: usize) -> usize {
    while segments[i].root != i {
        segments[i].root = segments[segments[i].root].root;
        i = segments[i].root;
    }
    i
}
