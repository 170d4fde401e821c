//! Masks to polygons: the outline of every piece along the sides of its pixels, so that rasterising gives the mask back.

use crate::components::{Connectivity, split};
use crate::error::Result;
use crate::memory::reserve;
use crate::parallel::{Pace, STEP, map_items};
use crate::rle::{Masks, Size};

/// What becomes of holes, as a polygon has one outline.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HoleOutlines {
    /// They are left out: the polygon covers them.
    Drop,
    /// They become part of the outline: it runs to the hole, around it, and back on the same line. Even-odd rasterisers
    /// see the hole.
    Bridge,
}

/// The polygons of each mask.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Outlines {
    /// x, y, x, y, ... of all polygons: corners of pixels, 0 to width and 0 to height.
    pub coords: Vec<i64>,
    /// Where each polygon ends, in numbers.
    pub polygon_ends: Vec<i64>,
    /// Where each mask ends, in polygons.
    pub mask_ends: Vec<i64>,
}

/// One polygon for every connected piece of every mask, pieces in the order of [`crate::components`].
///
/// The first corner is the top left of the piece's first pixel in column-major order, the outline runs clockwise (with
/// y down), no corner lies between two others on a line. O(n log n) in the runs cut at column ends.
///
/// # Errors
/// None for masks that passed [`Masks::new`].
pub fn outlines(masks: Masks<'_>, connectivity: Connectivity, holes: HoleOutlines) -> Result<Outlines> {
    let parts = map_items(masks.len(), masks.run_count() * STEP, |mask, (): &mut (), out: &mut Outlines| {
        trace(masks.runs(mask), masks.size(), connectivity, holes, out)
    })?;
    let mut all = Outlines::default();
    for part in parts {
        let (numbers, polygons) = (all.coords.len() as i64, all.polygon_ends.len() as i64);
        all.coords.extend(part.coords);
        all.polygon_ends.extend(part.polygon_ends.iter().map(|end| numbers + end));
        all.mask_ends.extend(part.mask_ends.iter().map(|end| polygons + end));
    }
    Ok(all)
}

/// The upper or lower side of a segment of foreground in one column: one pixel wide.
struct Side {
    x: usize,
    y: usize,
    top: bool,
    piece: usize,
    /// The sides its left and its right end are joined to.
    joined: [usize; 2],
    seen: bool,
}

/// A closed line of one piece.
struct Ring {
    piece: usize,
    corners: Vec<[i64; 2]>,
}

fn trace(runs: &[u32], size: Size, connectivity: Connectivity, holes: HoleOutlines, out: &mut Outlines) -> Result<()> {
    let height = size.height();
    let mut segments = split(runs, size, connectivity)?;
    segments.sort_unstable_by_key(|segment| segment.start);
    let (mut sides, mut pace) = (Vec::new(), Pace::default());
    reserve(&mut sides, segments.len() * 2, size)?;
    for segment in &segments {
        let (x, top) = (segment.start / height, segment.start % height);
        let bottom = top + segment.end - segment.start;
        for (y, top) in [(top, true), (bottom, false)] {
            sides.push(Side { x, y, top, piece: segment.root, joined: [0; 2], seen: false });
        }
    }
    join_all(&mut sides, connectivity)?;
    let mut rings: Vec<Ring> = Vec::new();
    for start in 0..sides.len() {
        pace.steps(STEP)?;
        if !sides[start].seen {
            let ring = walk(&mut sides, start, &mut pace)?;
            // A piece's first side lies on its outer ring; the other rings of it are holes.
            if holes == HoleOutlines::Bridge || sides[start].top && is_outer(&ring.corners) {
                rings.push(ring);
            }
        }
    }
    // Stable: the outer ring of a piece, which begins first, stays first.
    rings.sort_by_key(|ring| ring.piece);
    for piece in rings.chunk_by(|a, b| a.piece == b.piece) {
        pace.steps(STEP)?;
        let home = piece[0].corners[0];
        for (i, ring) in piece.iter().enumerate() {
            out.coords.extend(ring.corners.as_flattened());
            if piece.len() > 1 {
                out.coords.extend(ring.corners[0]);
            }
            if i > 0 && i + 1 < piece.len() {
                out.coords.extend(home);
            }
        }
        out.polygon_ends.push(out.coords.len() as i64);
    }
    out.mask_ends.push(out.polygon_ends.len() as i64);
    Ok(())
}

/// Join the ends of sides that meet on a line between two columns: by an upright side of the mask, or directly.
///
/// Down such a line, the ends of both columns, sorted, are pairs: between the two of a pair, exactly one column is
/// foreground.
fn join_all(sides: &mut [Side], connectivity: Connectivity) -> Result<()> {
    let columns: Vec<(usize, std::ops::Range<usize>)> = {
        let mut start = 0;
        let chunks = sides.chunk_by(|a, b| a.x == b.x);
        chunks
            .map(|chunk| {
                (chunk[0].x, {
                    start += chunk.len();
                    start - chunk.len()..start
                })
            })
            .collect()
    };
    let none = 0..0;
    let mut ends: Vec<(usize, usize)> = Vec::new();
    let mut join = |sides: &mut [Side], left: &std::ops::Range<usize>, right: &std::ops::Range<usize>| {
        ends.clear();
        ends.extend(left.clone().map(|side| (side, 1)).chain(right.clone().map(|side| (side, 0))));
        ends.sort_by_key(|&(side, _)| sides[side].y);
        let mut i = 0;
        while i + 1 < ends.len() {
            // Two pixels that touch at a corner: the third end is as high as the second. What is joined to the first
            // decides whether the line cuts between them.
            if let Some(&(third, _)) = ends.get(i + 2)
                && sides[third].y == sides[ends[i + 1].0].y
                && sides[third].top == (connectivity == Connectivity::Eight)
            {
                ends.swap(i + 1, i + 2);
            }
            let ((a, end_a), (b, end_b)) = (ends[i], ends[i + 1]);
            sides[a].joined[end_a] = b;
            sides[b].joined[end_b] = a;
            i += 2;
        }
    };
    let mut pace = Pace::default();
    for (i, (x, column)) in columns.iter().enumerate() {
        pace.steps(column.len() * STEP)?;
        let before = i.checked_sub(1).map(|before| &columns[before]).filter(|(left, _)| left + 1 == *x);
        join(sides, before.map_or(&none, |(_, sides)| sides), column);
        if columns.get(i + 1).is_none_or(|(right, _)| *right != x + 1) {
            join(sides, column, &none);
        }
    }
    Ok(())
}

/// Follow a ring: upper sides to the right, lower sides to the left, so that foreground is always on the right hand.
fn walk(sides: &mut [Side], start: usize, pace: &mut Pace) -> Result<Ring> {
    let mut corners = Vec::new();
    let mut at = start;
    loop {
        pace.steps(STEP)?;
        let side = &mut sides[at];
        side.seen = true;
        let forward = usize::from(side.top);
        let (x, y, next) = (side.x + forward, side.y, side.joined[forward]);
        if sides[next].y != y {
            corners.extend([[x as i64, y as i64], [x as i64, sides[next].y as i64]]);
        }
        at = next;
        if at == start {
            break;
        }
    }
    // The first corner is the one the ring starts from.
    corners.rotate_right(1);
    Ok(Ring { piece: sides[start].piece, corners })
}

/// Whether a ring runs clockwise (with y down), around foreground.
fn is_outer(corners: &[[i64; 2]]) -> bool {
    let edges = corners.iter().zip(corners.iter().cycle().skip(1));
    edges.map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum::<i64>() > 0
}
