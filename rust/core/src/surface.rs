//! Distances between the outlines of two masks, and the scores medical imaging takes of them.
//!
//! A distance transform would measure every pixel, but only those of an outline are asked for. One pass from below
//! counts, column by column, rows to the nearest outline pixel of the other mask; a pass from above completes each row
//! of counts and asks it: from every pixel of this outline outwards, until no column further away can be nearer.
//! O(pixels of the common bounding box / vector + sum of the distances found).
//!
//! References: MedPy `metric.binary`; MONAI `monai.metrics`; DeepMind `surface-distance`, and Nikolov et al., *Deep
//! learning to achieve clinically applicable segmentation of head and neck anatomy*, 2018.

use crate::batch::{Batch, check_pair};
use crate::bits::{WORD, ones};
use crate::edt::Spacing;
use crate::error::{Error, Result};
use crate::memory::reserve;
use crate::nearest::{Metric, Padded, STEP, Scaled, Squares};
use crate::parallel::fill_items;
use crate::simd::{Kernel, Lanes, run};
use crate::statistics::{Outline, Score, scores};

/// Which package's definitions hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Convention {
    /// Outline pixels (a side neighbour is background); percentile of both directions pooled; mean of both means.
    MedPy,
    /// Outline pixels; the larger of both percentiles; mean of all distances; numbers rounded to single precision.
    Monai,
    /// Corners of pixels, weighted by the length of outline they stand for.
    DeepMind,
}

/// `[HD, HD95, ASSD, NSD at each tolerance]` of each prediction and its target, in the unit of `spacing`.
///
/// All NaN where both masks are empty; where one of them is, distances are infinite and NSD is 0.
///
/// # Errors
/// [`Error::Option`] for a tolerance that is not finite or below 0; as [`crate::overlap`] for the masks.
pub fn surface_distances(
    prediction: Batch<'_>,
    target: Batch<'_>,
    convention: Convention,
    spacing: Spacing,
    tolerances: &[f64],
) -> Result<Vec<f64>> {
    check_pair(prediction, target, "target", &[])?;
    for &value in tolerances {
        if !(value.is_finite() && value >= 0.0) {
            return Err(Error::Option { name: "tolerance", value, expected: "a finite number of at least 0" });
        }
    }
    let (count, size) = (prediction.count()?, prediction.size());
    let columns = 3 + tolerances.len();
    let mut out = vec![0.0; count * columns];
    fill_items(&mut out, columns, count * size.pixels(), |mask, scratch: &mut Scratch, out| {
        let Scratch { words, surfaces: [first, second], window, gaps, outlines } = scratch;
        let [first_words, second_words] = words;
        let masks = [prediction.words(mask, first_words)?, target.words(mask, second_words)?];
        window.find(masks, size.row_words());
        let corners = convention == Convention::DeepMind;
        let room = (window.height + 1) * (window.width + 1);
        for (surface, words) in [&mut *first, &mut *second].into_iter().zip(masks) {
            reserve(&mut surface.words, room, size)?;
            reserve(&mut surface.quarters, if corners { room } else { 0 }, size)?;
            run(Trace { window: *window, words, row_words: size.row_words(), corners, surface });
        }
        for (outline, from, to) in [(0, &*first, &*second), (1, &*second, &*first)] {
            let outline = &mut outlines[outline];
            outline.clear();
            reserve(&mut outline.distances, from.count() + to.count(), size)?; // some pool both
            reserve(&mut outline.lengths, if corners { from.count() } else { 0 }, size)?;
            let room = to.height * to.row_words * WORD;
            if to.is_empty() || from.is_empty() {
                outline.distances.resize(from.count(), f64::INFINITY);
            } else if spacing == Spacing::UNIT && from.height.max(from.row_words * WORD) <= Squares::LONGEST {
                reserve(&mut gaps.0.below, room, size)?;
                run(Measure { from, to, metric: Squares, gaps: &mut gaps.0, distances: &mut outline.distances });
            } else {
                reserve(&mut gaps.1.below, room, size)?;
                let metric = Scaled { height: spacing.height(), width: spacing.width() };
                run(Measure { from, to, metric, gaps: &mut gaps.1, distances: &mut outline.distances });
            }
            if corners {
                from.lengths(spacing, &mut outline.lengths);
            }
        }
        let Score { distances, overlaps } = scores(convention, outlines, tolerances);
        out[..3].copy_from_slice(&distances);
        out[3..].copy_from_slice(&overlaps);
        Ok(())
    })?;
    Ok(out)
}

/// What one pair needs; kept for the next.
#[derive(Default)]
struct Scratch {
    words: [Vec<u64>; 2],
    surfaces: [Surface; 2],
    window: Window,
    gaps: (Gaps<u16>, Gaps<u32>),
    outlines: [Outline; 2],
}

/// Rows and words of a row that hold both masks.
#[derive(Clone, Copy, Default)]
struct Window {
    top: usize,
    height: usize,
    left: usize,
    width: usize,
}

impl Window {
    fn find(&mut self, masks: [&[u64]; 2], row_words: usize) {
        let rows = || masks[0].chunks_exact(row_words).zip(masks[1].chunks_exact(row_words));
        let is_full = |(a, b): (&[u64], &[u64])| a.iter().chain(b).fold(0, |any, word| any | word) != 0;
        *self = Self::default();
        let Some(top) = rows().position(is_full) else { return };
        let bottom = rows().rposition(is_full).map_or(top, |last| last + 1);
        let mut any = vec![0; row_words];
        for (a, b) in rows().take(bottom).skip(top) {
            any.iter_mut().zip(a).zip(b).for_each(|((any, a), b)| *any |= a | b);
        }
        let left = any.iter().take_while(|&&word| word == 0).count();
        let right = row_words - any.iter().rev().take_while(|&&word| word == 0).count();
        *self = Self { top, height: bottom - top, left, width: right - left };
    }
}

/// An outline as packed rows of a window, one larger than it where it is made of corners.
#[derive(Default)]
struct Surface {
    height: usize,
    row_words: usize,
    words: Vec<u64>,
    /// Of corners, the pixel to the upper left, upper right, lower left and lower right; row by row.
    quarters: Vec<[u64; 4]>,
}

impl Surface {
    fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The length of outline each corner stands for.
    fn lengths(&self, spacing: Spacing, out: &mut Vec<f64>) {
        let (height, width) = (spacing.height(), spacing.width());
        let diagonal = 0.5 * (height * height + width * width).sqrt();
        for (&word, quarters) in self.words.iter().zip(&self.quarters) {
            for x in ones(word) {
                let [a, b, c, d] = quarters.map(|quarter| quarter >> x & 1 != 0);
                out.push(match (a ^ b ^ c ^ d, a == b, a == c) {
                    (true, ..) => diagonal,
                    (false, true, _) => width,
                    (false, false, true) => height,
                    (false, false, false) => 2.0 * diagonal,
                });
            }
        }
    }
}

/// From a packed mask to its outline within a window.
struct Trace<'a> {
    window: Window,
    words: &'a [u64],
    row_words: usize,
    corners: bool,
    surface: &'a mut Surface,
}

impl Kernel for Trace<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Self { window: Window { top, height, left, width }, words, row_words, corners, surface } = self;
        surface.words.clear();
        surface.quarters.clear();
        (surface.height, surface.row_words) = (0, 0);
        if height == 0 {
            return;
        }
        // Background beyond the window, on all sides.
        let row = |y: usize| (y > 0 && y <= height).then(|| &words[(top + y - 1) * row_words + left..][..width]);
        let at = |row: Option<&[u64]>, i: usize| row.and_then(|row| row.get(i)).copied().unwrap_or(0);
        let before = |row: Option<&[u64]>, i: usize| if i > 0 { at(row, i - 1) } else { 0 };
        // Pixel x - 1 at bit x, and pixel x + 1.
        let from_left = |row, i| at(row, i) << 1 | before(row, i) >> (WORD - 1);
        let from_right = |row, i| at(row, i) >> 1 | at(row, i + 1) << (WORD - 1);
        if corners {
            (surface.height, surface.row_words) = (height + 1, width + 1);
            for y in 0..=height {
                let (above, below) = (row(y), row(y + 1));
                for i in 0..=width {
                    let quarters = [from_left(above, i), at(above, i), from_left(below, i), at(below, i)];
                    let [a, b, c, d] = quarters;
                    surface.words.push((a | b | c | d) & !(a & b & c & d));
                    surface.quarters.push(quarters);
                }
            }
        } else {
            (surface.height, surface.row_words) = (height, width);
            for y in 1..=height {
                let (above, own, below) = (row(y - 1), row(y), row(y + 1));
                for i in 0..width {
                    let inner = at(above, i) & at(below, i) & from_left(own, i) & from_right(own, i);
                    surface.words.push(at(own, i) & !inner);
                }
            }
        }
    }
}

/// Rows to the nearest pixel of an outline; kept for the next.
#[derive(Default)]
struct Gaps<G> {
    /// Counted downwards, for all rows.
    below: Vec<G>,
    /// Counted upwards, for one row.
    above: Vec<G>,
    /// The smaller of the two, [`Padded`].
    both: Vec<G>,
}

/// From each pixel of one outline, in order, the distance to another outline, which is not empty.
struct Measure<'a, M: Metric> {
    from: &'a Surface,
    to: &'a Surface,
    metric: M,
    gaps: &'a mut Gaps<M::Gap>,
    distances: &'a mut Vec<f64>,
}

impl<M: Metric> Kernel for Measure<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { from, to, metric, gaps: Gaps { below, above, both }, distances } = self;
        let (height, row_words, columns) = (to.height, to.row_words, to.row_words * WORD);
        let row = |surface: &'_ Surface, y: usize| y * surface.row_words..(y + 1) * surface.row_words;
        above.clear();
        above.resize(columns, M::FAR);
        below.resize(height * columns, M::FAR);
        for y in (0..height).rev() {
            let (own, next) = below[y * columns..].split_at_mut(columns);
            match next.get(..columns) {
                Some(next) => own.copy_from_slice(next),
                None => own.fill(M::FAR),
            }
            pass::<L, M>(lanes, &to.words[row(to, y)], own);
        }
        both.clear();
        both.resize(3 * columns + 2 * STEP, M::FAR);
        let start = columns + STEP;
        for y in 0..height {
            pass::<L, M>(lanes, &to.words[row(to, y)], above);
            let asked = &from.words[row(from, y)];
            if asked.iter().all(|&word| word == 0) {
                continue;
            }
            let pairs = above.iter().zip(&below[y * columns..(y + 1) * columns]);
            both[start..start + columns].iter_mut().zip(pairs).for_each(|(both, (&a, &b))| *both = a.min(b));
            let padded = Padded { gaps: both, columns };
            for (i, &word) in asked.iter().enumerate().take(row_words) {
                for x in ones(word) {
                    distances.push(metric.nearest(&padded, i * WORD + x));
                }
            }
        }
    }
}

/// From the gaps of one row to those of the next, whose outline pixels are `words`.
#[inline(always)]
fn pass<L: Lanes, M: Metric>(lanes: L, words: &[u64], gaps: &mut [M::Gap]) {
    for (&word, gaps) in words.iter().zip(gaps.chunks_exact_mut(WORD)) {
        if word == 0 {
            gaps.iter_mut().for_each(|gap| *gap = M::further(*gap));
            continue;
        }
        let mut here = [0; WORD];
        lanes.spread(word, &mut here);
        for (gap, here) in gaps.iter_mut().zip(here) {
            *gap = if here != 0 { M::Gap::default() } else { M::further(*gap) };
        }
    }
}
