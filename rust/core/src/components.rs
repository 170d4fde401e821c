//! Connected components, run by run.

use crate::error::Result;
use crate::rle::{MaskBuf, Masks};

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
    let mut out = MaskBuf::default();
    let mut parents = Vec::new();
    for mask in 0..masks.len() {
        let pieces = split(masks, mask, connectivity);
        for piece in pieces.chunk_by(|a, b| a.root == b.root) {
            out.push(masks.size().pixels(), piece.iter().map(|segment| (segment.start, segment.end)));
            parents.push(mask as i64);
        }
    }
    Ok((out, parents))
}

/// Foreground within one column, as column-major positions, and the first segment of its piece.
#[derive(Clone, Copy)]
struct Segment {
    start: usize,
    end: usize,
    root: usize,
}

/// The segments of one mask, piece by piece.
fn split(masks: Masks<'_>, mask: usize, connectivity: Connectivity) -> Vec<Segment> {
    let height = masks.size().height();
    let reach = match connectivity {
        Connectivity::Four => 0,
        Connectivity::Eight => 1,
    };
    let mut segments: Vec<Segment> = Vec::new();
    for (start, end) in masks.intervals(mask) {
        let mut start = start;
        while start < end {
            let cut = end.min((start / height + 1) * height);
            // Zero-length background runs leave one stretch in two pieces; they are still one segment.
            match segments.last_mut() {
                Some(last) if last.end == start && start % height != 0 => last.end = cut,
                _ => segments.push(Segment { start, end: cut, root: segments.len() }),
            }
            start = cut;
        }
    }
    // `left` runs over the column before while `right` runs over the column.
    let mut left = 0;
    for right in 0..segments.len() {
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
    segments
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
