//! IoU of every mask with every other, from run lengths.
//!
//! Each mask is laid out once by columns: layer `k` holds the `k`-th stretch of foreground of every column, as rows.
//! Most objects have one or two stretches a column, so the intersection of two of them is a sum of
//! `min(end) - max(start)` over a few layers: plain loops over columns, many a step. Masks that are too torn for that
//! keep their runs and are merged.

use std::ops::Range;

use crate::bits::{WORD, ones};
use crate::error::{BatchError, Result};
use crate::parallel::fill_items;
use crate::rle::Masks;
use crate::sets::check_size;
use crate::simd::{Kernel, Lanes, run};

/// Write the IoU of prediction `i` with target `j` at `out[i * targets + j]`: 0 where they share no pixel, also where both
/// are empty.
///
/// Against a target that is a crowd (not 0), the union is the prediction alone: what is found is the part of it that lies
/// in the crowd. Values are those of pycocotools to the bit: integer counts and one division.
///
/// # Errors
/// [`crate::SizeError::Mismatch`] for masks of different sizes; [`BatchError::Length`] if `crowd` is not one a target;
/// [`BatchError::Output`] if `out` is not one value a pair.
pub fn pairwise_iou(prediction: Masks<'_>, target: Masks<'_>, crowd: &[u8], out: &mut [f64]) -> Result<()> {
    check_size(prediction, target, "target")?;
    if crowd.len() != target.len() {
        let expected = target.len().to_string();
        return Err(BatchError::Length { name: "crowd", found: crowd.len(), expected }.into());
    }
    let (rows, columns) = (Layout::new(prediction), Layout::new(target));
    if prediction.len().checked_mul(target.len()) != Some(out.len()) {
        let expected = prediction.len().saturating_mul(target.len());
        return Err(BatchError::Output { found: out.len(), expected }.into());
    }
    let work = out.len() * 4 + (rows.starts.len() * target.len() + columns.starts.len() * prediction.len()) / 16;
    fill_items(out, target.len(), work, |i, (): &mut (), out| {
        run(Row { masks: [prediction, target], a: &rows, b: &columns, i, crowd, out });
        Ok(())
    })
}

/// Columns, blanks included, that the layers of a mask of few runs may have.
const COLUMNS: usize = 1 << 20;

/// One prediction against all targets.
struct Row<'a> {
    masks: [Masks<'a>; 2],
    a: &'a Layout,
    b: &'a Layout,
    i: usize,
    crowd: &'a [u8],
    out: &'a mut [f64],
}

impl Kernel for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { masks, a, b, i, crowd, out } = self;
        let (area, bounds) = (a.masks[i].area, a.bounds(i));
        for (block, (boxes, out)) in b.boxes.iter().zip(out.chunks_mut(WORD)).enumerate() {
            out.fill(0.0);
            for j in ones(lanes.nonzero(&boxes.meet(bounds))) {
                let target = block * WORD + j;
                let shared = intersection(a, i, b, target).unwrap_or_else(|| merge(masks[0], i, masks[1], target));
                if shared > 0 {
                    let whole = if crowd[target] != 0 { area } else { area + b.masks[target].area - shared };
                    out[j] = shared as f64 / whole as f64;
                }
            }
        }
    }
}

/// The masks of a batch, ready to be intersected.
#[derive(Default)]
struct Layout {
    masks: Vec<Mask>,
    boxes: Vec<Boxes>,
    layers: Vec<Layer>,
    /// Rows at which the stretches of all layers begin and end; both 0 where a column has none.
    starts: Vec<u16>,
    ends: Vec<u16>,
}

struct Mask {
    area: u64,
    /// Where its layers are; none if it is too torn.
    layers: Range<usize>,
    runs: usize,
}

/// Half-open columns and rows that hold a mask: left, right, top, bottom.
type Bounds = [u32; 4];

/// The bounds of 64 masks, side by side; those of no mask meet none.
struct Boxes([[u32; WORD]; 4]);

impl Boxes {
    /// Which of them meet these bounds: not 0.
    #[inline(always)]
    fn meet(&self, [left, right, top, bottom]: Bounds) -> [u8; WORD] {
        let Self([lefts, rights, tops, bottoms]) = self;
        std::array::from_fn(|i| {
            u8::from((lefts[i] < right) & (left < rights[i]) & (tops[i] < bottom) & (top < bottoms[i]))
        })
    }
}

/// One stretch of each column from `first` on.
struct Layer {
    first: usize,
    /// Where they are among the `starts` and `ends`.
    at: Range<usize>,
}

impl Layout {
    fn new(masks: Masks<'_>) -> Self {
        let mut layout = Self::default();
        let mut deeper = Deeper::default();
        for mask in 0..masks.len() {
            layout.push(masks.runs(mask), masks.size().height(), &mut deeper);
        }
        layout
    }

    fn bounds(&self, mask: usize) -> Bounds {
        self.boxes[mask / WORD].0.map(|bounds| bounds[mask % WORD])
    }

    fn push_bounds(&mut self, bounds: Bounds) {
        let place = self.masks.len() % WORD;
        if place == 0 {
            self.boxes.push(Boxes([[0; WORD]; 4]));
        }
        if let Some(Boxes(last)) = self.boxes.last_mut() {
            last.iter_mut().zip(bounds).for_each(|(all, bound)| all[place] = bound);
        }
    }

    fn push(&mut self, runs: &[u32], height: usize, deeper: &mut Deeper) {
        // Pairs of background and foreground; a last run without partner is background.
        let (pairs, _) = runs.as_chunks::<2>();
        let base = self.starts.len();
        self.starts.reserve(pairs.len());
        self.ends.reserve(pairs.len());
        deeper.clear(if height <= usize::from(u16::MAX) { COLUMNS + 8 * pairs.len() } else { 0 });
        let mut area = 0;
        let (mut top, mut bottom) = (height, 0);
        // The column walked, the positions it and the next begin at, and its stretches so far.
        let (mut column, mut edge, mut next, mut depth) = (0, 0, 0, 0);
        let mut first = None;
        let mut position = 0;
        for &[background, foreground] in pairs {
            let mut start = position + background as usize;
            let end = start + foreground as usize;
            position = end;
            area += u64::from(foreground);
            // Most stretches are the first of the column after the last.
            if next > 0 && start >= next && end <= next + height && start < end && deeper.budget > 0 {
                (column, edge, next, depth) = (column + 1, next, next + height, 1);
                let (from, to) = (start - edge, end - edge);
                top = top.min(from);
                bottom = bottom.max(to);
                self.starts.push(from as u16);
                self.ends.push(to as u16);
                continue;
            }
            while start < end {
                if start >= next {
                    (column, edge) = if start < next + height && next > 0 {
                        (column + 1, next)
                    } else {
                        (start / height, start / height * height)
                    };
                    next = edge + height;
                    depth = 0;
                }
                let first = *first.get_or_insert(column);
                if deeper.budget == 0 && end > next {
                    // Of a mask without layers, the box is all that is needed.
                    (top, bottom) = (0, height);
                    start = (end - 1) / height * height;
                    continue;
                }
                let cut = end.min(next);
                let (from, to) = (start - edge, cut - edge);
                top = top.min(from);
                bottom = bottom.max(to);
                if depth > 0 {
                    deeper.push(column - first, depth - 1, from as u16, to as u16);
                } else if deeper.affords(column - first + 1 - (self.starts.len() - base)) {
                    if self.starts.len() - base < column - first {
                        self.starts.resize(base + column - first, 0);
                        self.ends.resize(base + column - first, 0);
                    }
                    self.starts.push(from as u16);
                    self.ends.push(to as u16);
                }
                depth += 1;
                start = cut;
            }
        }
        let layers = self.layers.len();
        let first = first.unwrap_or(0);
        let right = if area > 0 { column + 1 } else { 0 };
        let [left, right, top, bottom] = [first, right, top, bottom].map(|bound| bound as u32);
        self.push_bounds([left, right, top, bottom]);
        if deeper.budget == 0 {
            self.starts.truncate(base);
            self.ends.truncate(base);
        } else if area > 0 {
            self.layers.push(Layer { first, at: base..self.starts.len() });
            for (column, stretches) in deeper.layers() {
                let at = self.starts.len()..self.starts.len() + stretches.len();
                self.starts.extend(stretches.iter().map(|&[start, _]| start));
                self.ends.extend(stretches.iter().map(|&[_, end]| end));
                self.layers.push(Layer { first: first + column, at });
            }
        }
        self.masks.push(Mask { area, layers: layers..self.layers.len(), runs: pairs.len() });
    }
}

/// Take so many from the budget, if it holds more; else there is nothing left of it.
fn affords(budget: &mut usize, stretches: usize) -> bool {
    *budget = budget.saturating_sub(stretches);
    *budget > 0
}

/// The layers of one mask beyond the first while they are made; kept for the next mask.
#[derive(Default)]
struct Deeper {
    layers: Vec<(usize, Vec<[u16; 2]>)>,
    used: usize,
    /// Stretches, blanks included, that may still be added; 0 once a mask has turned out too torn.
    budget: usize,
}

impl Deeper {
    fn clear(&mut self, budget: usize) {
        self.used = 0;
        self.budget = budget;
    }

    fn push(&mut self, column: usize, depth: usize, start: u16, end: u16) {
        if depth == self.used {
            if self.used == self.layers.len() {
                self.layers.push((0, Vec::new()));
            }
            self.used += 1;
            let (first, stretches) = &mut self.layers[depth];
            *first = column;
            stretches.clear();
        }
        let (first, stretches) = &mut self.layers[depth];
        let length = column - *first;
        if affords(&mut self.budget, length + 1 - stretches.len()) {
            stretches.resize(length, [0, 0]);
            stretches.push([start, end]);
        }
    }

    fn affords(&mut self, stretches: usize) -> bool {
        affords(&mut self.budget, stretches)
    }

    fn layers(&self) -> impl Iterator<Item = (usize, &[[u16; 2]])> {
        self.layers[..self.used].iter().map(|(first, stretches)| (*first, &stretches[..]))
    }
}

#[inline(always)]
fn intersection(a: &Layout, i: usize, b: &Layout, j: usize) -> Option<u64> {
    let (mask, other, bounds, others) = (&a.masks[i], &b.masks[j], a.bounds(i), b.bounds(j));
    let (ours, theirs) = (&a.layers[mask.layers.clone()], &b.layers[other.layers.clone()]);
    let shared = bounds[1].min(others[1]) - bounds[0].max(others[0]);
    let layered = shared as usize * ours.len() * theirs.len();
    // A column of a pair of layers costs about a sixteenth of a step of the merge.
    if layered == 0 || layered / 16 >= mask.runs + other.runs {
        return None;
    }
    // Loops, as iterators would not be inlined into the level's instructions.
    let mut shared = 0;
    for layer in ours {
        for other in theirs {
            shared += meet(a, layer, b, other);
        }
    }
    Some(shared)
}

/// The pixels two layers share.
#[inline(always)]
fn meet(a: &Layout, layer: &Layer, b: &Layout, other: &Layer) -> u64 {
    let first = layer.first.max(other.first);
    let end = (layer.first + layer.at.len()).min(other.first + other.at.len());
    if first >= end {
        return 0;
    }
    let ours = layer.at.start + first - layer.first..layer.at.start + end - layer.first;
    let theirs = other.at.start + first - other.first..other.at.start + end - other.first;
    let stretches = a.starts[ours.clone()].iter().zip(&a.ends[ours]);
    let others = b.starts[theirs.clone()].iter().zip(&b.ends[theirs]);
    // No overflow: a mask has fewer than 2^32 pixels.
    let mut shared = 0;
    for ((&start, &end), (&other_start, &other_end)) in stretches.zip(others) {
        shared += u32::from(end.min(other_end).saturating_sub(start.max(other_start)));
    }
    u64::from(shared)
}

/// The pixels two masks share, run by run.
fn merge(a: Masks<'_>, i: usize, b: Masks<'_>, j: usize) -> u64 {
    let (mut ours, mut theirs) = (a.intervals(i), b.intervals(j));
    let (mut own, mut other) = (ours.next(), theirs.next());
    let mut shared = 0;
    while let (Some((start, end)), Some((first, last))) = (own, other) {
        shared += end.min(last).saturating_sub(start.max(first));
        if end <= last {
            own = ours.next();
        }
        if last <= end {
            other = theirs.next();
        }
    }
    shared as u64
}
