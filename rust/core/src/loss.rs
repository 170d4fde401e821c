//! What the losses of a mask are made of: sums over the cells of a grid, and the gradients of these sums.
//!
//! Logits lie on a grid as fine as that of targets and weights, or on a coarser one, from which they are interpolated as
//! torch does it, row by row: nothing of the fine grid's size is ever held.

use std::iter::zip;

use crate::bilinear::{Tap, taps};
use crate::cell::{Cell, Focal, Focus, Square, Unfocused};
use crate::error::{BatchError, Error, Result};
use crate::parallel::{Pace, fill_items};
use crate::simd::{Kernel, Lanes, run};

/// Cells that are worked on together.
const BLOCK: usize = 16;
type Block = [f32; BLOCK];
/// Elementary steps a cell takes, about.
const STEPS: usize = 2;

/// Sums over the cells of a map, each cell times its weight w, where x is its logit, p the sigmoid of it and t its
/// target: 1; the cross-entropy of x and t; its focal loss; p; t; p t; whether x > 0 and the cell is of the mask; whether
/// either is. A cell is of the mask if t >= 0.5, or of one that fills none by half, if none is fuller.
pub const SUMS: usize = 8;
/// The sums a gradient is taken of: of cross-entropy, focal loss, p and p t.
pub const MOVING: usize = 4;

/// Square maps of logits, and what each is held to.
#[derive(Clone, Debug)]
pub struct Cells<'a> {
    logits: &'a [f32],
    low: usize,
    target: &'a [f32],
    weight: &'a [f32],
    side: usize,
    owner: &'a [i64],
    focal: Option<Focal>,
    taps: Vec<Tap>,
}

impl<'a> Cells<'a> {
    /// Maps of `low` x `low` logits, one after the other, each of which is held to the target and the weights, `side` x
    /// `side`, that `owner` names. Without `focal` that loss is not taken, and its sum is 0.
    ///
    /// # Errors
    /// [`BatchError::Length`] if the slices do not hold whole maps, or not as many as each other; [`Error::Option`] if
    /// logits are finer than targets, or an owner is not among them; [`Error::Room`].
    pub fn new(
        (logits, low): (&'a [f32], usize),
        (target, weight, side): (&'a [f32], &'a [f32], usize),
        owner: &'a [i64],
        focal: Option<Focal>,
    ) -> Result<Self> {
        let length = |name, found: usize, expected: usize| {
            let expected = expected.to_string();
            Error::from(BatchError::Length { name, found, expected })
        };
        if !(1..=side).contains(&low) {
            return Err(Error::Option { name: "logits", value: low as f64, expected: "1 cell to the target's side" });
        }
        if logits.len() != owner.len() * low * low {
            return Err(length("logits", logits.len(), owner.len() * low * low));
        }
        if weight.len() != target.len() || !target.len().is_multiple_of(side * side) {
            return Err(length("weight", weight.len(), target.len()));
        }
        let count = target.len() / (side * side);
        if let Some(&stranger) = owner.iter().find(|&&owner| !(0..count as i64).contains(&owner)) {
            return Err(Error::Option { name: "owner", value: stranger as f64, expected: "the index of a target" });
        }
        Ok(Self { logits, low, target, weight, side, owner, focal, taps: taps(low, side, side)? })
    }

    /// Fill `out` with the [`SUMS`] of each map.
    ///
    /// # Errors
    /// [`BatchError::Output`] for a buffer of another length, [`Error::Room`], [`Error::Interrupted`].
    pub fn sums(&self, out: &mut [f32]) -> Result<()> {
        check(out, self.owner.len() * SUMS)?;
        fill_items(out, SUMS, self.work(), |map, lines: &mut Lines, out| match self.focal {
            None => run(Sum { map: self.map(map), lines, focus: Unfocused, out }),
            Some(Focal { alpha, gamma: 2.0 }) => run(Sum { map: self.map(map), lines, focus: Square(alpha), out }),
            Some(focal) => run(Sum { map: self.map(map), lines, focus: focal, out }),
        })
    }

    /// Fill `out` with the gradient of each map's logits: `factors`, [`MOVING`] a map, are those of its sums.
    ///
    /// # Errors
    /// As [`Self::sums`]; [`BatchError::Length`].
    pub fn gradients(&self, factors: &[f32], out: &mut [f32]) -> Result<()> {
        check(out, self.logits.len())?;
        let (factors, rest) = factors.as_chunks::<MOVING>();
        if factors.len() != self.owner.len() || !rest.is_empty() {
            let expected = self.owner.len().to_string();
            return Err(BatchError::Length { name: "factors", found: factors.len(), expected }.into());
        }
        fill_items(out, self.low * self.low, self.work(), |map, lines: &mut Lines, out| {
            let (factors, map) = (factors[map], self.map(map));
            if factors == [0.0; MOVING] {
                out.fill(0.0); // of three multimask tokens, the gradient is one's
                return Ok(());
            }
            match self.focal {
                None => run(Slope { map, lines, focus: Unfocused, factors, out }),
                Some(Focal { alpha, gamma: 2.0 }) => run(Slope { map, lines, focus: Square(alpha), factors, out }),
                Some(focal) => run(Slope { map, lines, focus: focal, factors, out }),
            }
        })
    }

    fn work(&self) -> usize {
        self.owner.len() * self.side * self.side * STEPS
    }

    fn map(&self, map: usize) -> Map<'_> {
        let (low, cells, owner) = (self.low * self.low, self.side * self.side, self.owner[map] as usize);
        Map {
            logits: &self.logits[map * low..(map + 1) * low],
            low: self.low,
            target: &self.target[owner * cells..(owner + 1) * cells],
            weight: &self.weight[owner * cells..(owner + 1) * cells],
            taps: &self.taps,
        }
    }
}

fn check(out: &[f32], expected: usize) -> Result<()> {
    if out.len() == expected { Ok(()) } else { Err(BatchError::Output { found: out.len(), expected }.into()) }
}

/// A map, and what it is held to.
#[derive(Clone, Copy)]
struct Map<'a> {
    logits: &'a [f32],
    low: usize,
    target: &'a [f32],
    weight: &'a [f32],
    taps: &'a [Tap],
}

/// A row of the fine grid, and what it is made from. Rows are filled up to whole blocks with cells of weight 0.
#[derive(Default)]
struct Lines {
    /// Two neighbouring rows of the map at the width of the fine grid: an even one in the first.
    stretched: [Vec<Block>; 2],
    /// Which rows these are.
    held: [usize; 2],
    logits: Vec<Block>,
    target: Vec<Block>,
    weight: Vec<Block>,
    gradient: Vec<Block>,
    /// Gradients of the rows of the map, as `stretched`.
    gathered: [Vec<Block>; 2],
}

impl Lines {
    fn start(&mut self, side: usize) -> Result<()> {
        let Self { stretched: [even, odd], gathered: [even_sum, odd_sum], .. } = self;
        let rows = [&mut self.logits, &mut self.target, &mut self.weight, &mut self.gradient];
        for row in [even, odd, even_sum, odd_sum].into_iter().chain(rows) {
            row.clear();
            let count = side.div_ceil(BLOCK);
            row.try_reserve_exact(count).map_err(|_| Error::Room { count: side, of: "cells of a row" })?;
            row.resize(count, [0.0; BLOCK]);
        }
        self.held = [usize::MAX; 2];
        Ok(())
    }

    /// Take up row `y` of the fine grid.
    #[inline(always)]
    fn take_up(&mut self, map: &Map<'_>, y: usize) {
        let side = map.taps.len();
        let tap = map.taps[y];
        for low_y in [tap.near, tap.far].map(|low_y| low_y as usize) {
            if self.held[low_y % 2] != low_y {
                stretch(&map.logits[low_y * map.low..][..map.low], map.taps, &mut self.stretched[low_y % 2]);
                self.held[low_y % 2] = low_y;
            }
        }
        let [near, far] = [tap.near, tap.far].map(|low_y| self.stretched[low_y as usize % 2].as_flattened());
        for (logit, (near, far)) in zip(self.logits.as_flattened_mut(), zip(near, far)) {
            *logit = near * tap.near_weight + far * tap.far_weight;
        }
        self.target.as_flattened_mut()[..side].copy_from_slice(&map.target[y * side..][..side]);
        self.weight.as_flattened_mut()[..side].copy_from_slice(&map.weight[y * side..][..side]);
    }

    /// Let go of row `y`, with its gradient, which goes into `out` as soon as no later row adds to it.
    #[inline(always)]
    fn put_down(&mut self, map: &Map<'_>, y: usize, out: &mut [f32]) {
        let tap = map.taps[y];
        let mut add = |low_y: u32, weight: f32| {
            let sums = self.gathered[low_y as usize % 2].as_flattened_mut();
            for (sum, value) in zip(sums, self.gradient.as_flattened()) {
                *sum += value * weight;
            }
        };
        add(tap.near, tap.near_weight);
        if tap.far_weight > 0.0 {
            add(tap.far, tap.far_weight);
        }
        let next = map.taps.get(y + 1).map_or(map.low, |next| next.near as usize);
        for low_y in tap.near as usize..next {
            let sums = &mut self.gathered[low_y % 2];
            gather(sums, map.taps, &mut out[low_y * map.low..][..map.low]);
            sums.fill([0.0; BLOCK]);
        }
    }
}

/// A row of a map at the width of the fine grid.
#[inline(always)]
fn stretch(row: &[f32], taps: &[Tap], line: &mut [Block]) {
    for (value, tap) in zip(line.as_flattened_mut(), taps) {
        *value = row[tap.near as usize] * tap.near_weight + row[tap.far as usize] * tap.far_weight;
    }
}

/// The opposite: what the cells at the width of the fine grid ask of a row of the map.
#[inline(always)]
fn gather(line: &[Block], taps: &[Tap], row: &mut [f32]) {
    row.fill(0.0);
    for (value, tap) in zip(line.as_flattened(), taps) {
        row[tap.near as usize] += value * tap.near_weight;
        row[tap.far as usize] += value * tap.far_weight;
    }
}

/// The sums of a map.
struct Sum<'a, F> {
    map: Map<'a>,
    lines: &'a mut Lines,
    focus: F,
    out: &'a mut [f32],
}

impl<F: Focus> Kernel for Sum<'_, F> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) -> Result<()> {
        let Self { map, lines, focus, out } = self;
        lines.start(map.taps.len())?;
        let (background, more) = focus.balance();
        let level = level(map.target);
        let mut total = [[0.0f64; BLOCK]; SUMS];
        let mut pace = Pace::default();
        for y in 0..map.taps.len() {
            pace.steps(map.taps.len() * STEPS)?;
            lines.take_up(&map, y);
            let mut sums = [[0.0; BLOCK]; SUMS];
            for (logits, (target, weight)) in zip(&lines.logits, zip(&lines.target, &lines.weight)) {
                for i in 0..BLOCK {
                    let (x, t, w) = (logits[i], target[i], weight[i]);
                    let cell = Cell::new(x, t);
                    let focal = (background + more * t) * focus.power(cell.missed(t)).0 * cell.entropy;
                    let (shown, asked) = (x > 0.0, t >= level);
                    sums[0][i] += w;
                    sums[1][i] += w * cell.entropy;
                    sums[2][i] += w * focal;
                    sums[3][i] += w * cell.probability;
                    sums[4][i] += w * t;
                    sums[5][i] += w * cell.probability * t;
                    sums[6][i] += if shown & asked { w } else { 0.0 };
                    sums[7][i] += if shown | asked { w } else { 0.0 };
                }
            }
            for (total, sum) in zip(&mut total, &sums) {
                for i in 0..BLOCK {
                    total[i] += f64::from(sum[i]);
                }
            }
        }
        for (out, total) in zip(out, total) {
            *out = total.iter().sum::<f64>() as f32;
        }
        Ok(())
    }
}

/// The target from which on a cell is of the mask; above 0, so that none is of an empty one.
#[inline(always)]
fn level(target: &[f32]) -> f32 {
    let mut fullest = [f32::MIN_POSITIVE; BLOCK];
    for part in target.chunks(64 * BLOCK) {
        let (blocks, rest) = part.as_chunks();
        for block in blocks.iter().chain(&[filled_up(rest)]) {
            for i in 0..BLOCK {
                fullest[i] = if block[i] > fullest[i] { block[i] } else { fullest[i] };
            }
        }
        if fullest.iter().any(|&value| value >= 0.5) {
            return 0.5;
        }
    }
    fullest.into_iter().fold(f32::MIN_POSITIVE, f32::max)
}

/// What does not fill a block, and zeros.
#[inline(always)]
fn filled_up(rest: &[f32]) -> Block {
    let mut block = [0.0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// The gradient of a map.
struct Slope<'a, F> {
    map: Map<'a>,
    lines: &'a mut Lines,
    focus: F,
    factors: [f32; MOVING],
    out: &'a mut [f32],
}

impl<F: Focus> Kernel for Slope<'_, F> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) -> Result<()> {
        let Self { map, lines, focus, factors: [of_entropy, of_focal, of_shown, of_shared], out } = self;
        lines.start(map.taps.len())?;
        let (background, more) = focus.balance();
        let mut pace = Pace::default();
        for y in 0..map.taps.len() {
            pace.steps(map.taps.len() * STEPS)?;
            lines.take_up(&map, y);
            let cells = zip(&lines.logits, zip(&lines.target, &lines.weight));
            for (gradient, (logits, (target, weight))) in zip(&mut lines.gradient, cells) {
                for i in 0..BLOCK {
                    let (t, w) = (target[i], weight[i]);
                    let cell = Cell::new(logits[i], t);
                    let wrong = cell.probability - t;
                    let (power, steepness) = focus.power(cell.missed(t));
                    let focal = steepness * cell.slope * (1.0 - 2.0 * t) * cell.entropy + power * wrong;
                    let focal = (background + more * t) * focal;
                    let shown = cell.slope * (of_shown + of_shared * t);
                    gradient[i] = w * (of_entropy * wrong + of_focal * focal + shown);
                }
            }
            lines.put_down(&map, y, out);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Cells, Focal, MOVING, SUMS};
    use crate::error::{BatchError, Error};
    use crate::rng::Rng;

    struct Drawn {
        logits: Vec<f32>,
        target: Vec<f32>,
        weight: Vec<f32>,
        owner: Vec<i64>,
    }

    fn draw(low: usize, side: usize, seed: u64) -> Drawn {
        let mut rng = Rng::new(seed, *b"testing ");
        let mut some = |count: usize, scale: f64, shift: f64| -> Vec<f32> {
            (0..count).map(|_| ((rng.unit() - shift) * scale) as f32).collect()
        };
        Drawn {
            logits: some(3 * low * low, 8.0, 0.5),
            target: some(2 * side * side, 1.0, 0.0),
            weight: some(2 * side * side, 1.0, 0.0),
            owner: vec![1, 0, 1],
        }
    }

    /// The definition, cell by cell in double precision.
    fn sums_by_hand(case: &Drawn, low: usize, side: usize, focal: Focal) -> Vec<[f64; SUMS]> {
        let place = |i: usize| {
            let position = ((i as f64 + 0.5) * low as f64 / side as f64 - 0.5).clamp(0.0, low as f64 - 1.0);
            let near = (position as usize).min(low - 1);
            (near, (near + 1).min(low - 1), position - near as f64)
        };
        let of_map = |(map, &owner): (usize, &i64)| {
            let mut sums = [0.0; SUMS];
            let of_owner = &case.target[owner as usize * side * side..(owner as usize + 1) * side * side];
            let level = of_owner.iter().fold(f32::MIN_POSITIVE, |most, &t| most.max(t)).min(0.5);
            for (y, x) in (0..side * side).map(|cell| (cell / side, cell % side)) {
                let ((top, bottom, down), (left, right, along)) = (place(y), place(x));
                let at = |y: usize, x: usize| f64::from(case.logits[map * low * low + y * low + x]);
                let upper = at(top, left) * (1.0 - along) + at(top, right) * along;
                let lower = at(bottom, left) * (1.0 - along) + at(bottom, right) * along;
                let logit = upper * (1.0 - down) + lower * down;
                let cell = owner as usize * side * side + y * side + x;
                let (t, w) = (f64::from(case.target[cell]), f64::from(case.weight[cell]));
                let p = 1.0 / (1.0 + (-logit).exp());
                let entropy = -t * p.ln() - (1.0 - t) * (-p).ln_1p();
                let alpha = f64::from(focal.alpha);
                let balance = alpha * t + (1.0 - alpha) * (1.0 - t);
                let missed = (p * (1.0 - t) + t * (1.0 - p)).powf(f64::from(focal.gamma));
                let (shown, asked) = (logit > 0.0, t >= f64::from(level));
                let [both, either] = [shown & asked, shown | asked].map(|is| if is { w } else { 0.0 });
                let values = [w, w * entropy, w * balance * missed * entropy, w * p, w * t, w * p * t, both, either];
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum += value;
                }
            }
            sums
        };
        case.owner.iter().enumerate().map(of_map).collect()
    }

    const SIZES: [(usize, usize); 7] = [(1, 1), (5, 5), (16, 16), (4, 16), (7, 28), (5, 37), (1, 20)];

    #[test]
    fn sums_are_those_of_the_definition() {
        for (number, (low, side)) in SIZES.into_iter().enumerate() {
            for (gamma, fullest) in [(2.0, 1.0), (0.0, 0.3), (0.5, 0.0), (3.0, 0.6)] {
                let (mut case, focal) = (draw(low, side, number as u64), Focal { alpha: 0.3, gamma });
                case.target.iter_mut().for_each(|target| *target *= fullest);
                let cells = |focal| {
                    Cells::new((&case.logits, low), (&case.target, &case.weight, side), &case.owner, focal).unwrap()
                };
                let (mut found, mut unfocused) = ([0.0; 3 * SUMS], [0.0; 3 * SUMS]);
                cells(Some(focal)).sums(&mut found).unwrap();
                cells(None).sums(&mut unfocused).unwrap();
                for (i, wanted) in sums_by_hand(&case, low, side, focal).as_flattened().iter().enumerate() {
                    let error = (f64::from(found[i]) - wanted).abs();
                    assert!(error <= 2e-6 * wanted.max(1.0), "{low} to {side}, sum {i}: {} {wanted}", found[i]);
                    assert_eq!(unfocused[i], if i % SUMS == 2 { 0.0 } else { found[i] });
                }
            }
        }
    }

    #[test]
    fn gradients_are_differences() {
        for (number, (low, side)) in SIZES.into_iter().enumerate() {
            for gamma in [2.0, 0.5, 3.0] {
                let (case, focal) = (draw(low, side, 10 + number as u64), Focal { alpha: 0.3, gamma });
                let factors: Vec<f32> = (0..3 * MOVING).map(|i| 1.0 - i as f32 / 5.0).collect();
                let mut found = vec![f32::NAN; case.logits.len()];
                let cells =
                    Cells::new((&case.logits, low), (&case.target, &case.weight, side), &case.owner, Some(focal));
                cells.unwrap().gradients(&factors, &mut found).unwrap();
                let whole = |case: &Drawn| -> f64 {
                    let moving = |sums: &[f64; SUMS]| [sums[1], sums[2], sums[3], sums[5]];
                    let sums = sums_by_hand(case, low, side, focal);
                    let moving: Vec<f64> = sums.iter().flat_map(moving).collect();
                    moving.iter().zip(&factors).map(|(sum, &factor)| sum * f64::from(factor)).sum()
                };
                for (i, &found) in found.iter().enumerate() {
                    let at = |by: f32| {
                        let mut moved = Drawn { logits: case.logits.clone(), ..draw(low, side, 10 + number as u64) };
                        moved.logits[i] += by;
                        (whole(&moved), moved.logits[i])
                    };
                    let ((above, to), (below, from)) = (at(1e-3), at(-1e-3));
                    let wanted = (above - below) / f64::from(to - from);
                    let error = (f64::from(found) - wanted).abs();
                    assert!(error <= 1e-4 * wanted.abs().max(0.1), "{low} to {side}, {i}: {found} {wanted}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_number_shows() {
        let (mut logits, ones) = ([0.0; 4], [1.0; 64]);
        logits[3] = f32::NAN;
        let cells = Cells::new((&logits, 2), (&ones, &ones, 8), &[0], None).unwrap();
        let mut sums = [0.0; SUMS];
        cells.sums(&mut sums).unwrap();
        assert!(sums[1].is_nan() && sums[3].is_nan() && sums[5].is_nan() && sums[0] == 64.0);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let values = [0.0; 64];
        let new = |logits: &'static [f32], low, side, owner: &'static [i64]| {
            Cells::new((logits, low), (&values[..side * side], &values[..side * side], side), owner, None).map(|_| ())
        };
        assert!(new(&[0.0; 4], 2, 4, &[0]).is_ok());
        assert!(matches!(new(&[0.0; 4], 2, 1, &[0]), Err(Error::Option { name: "logits", .. })));
        assert!(matches!(new(&[0.0; 4], 2, 4, &[1]), Err(Error::Option { name: "owner", .. })));
        assert!(matches!(new(&[0.0; 4], 2, 4, &[-1]), Err(Error::Option { name: "owner", .. })));
        assert!(matches!(new(&[0.0; 5], 2, 4, &[0]), Err(Error::Batch(BatchError::Length { name: "logits", .. }))));
        let cells = Cells::new((&values[..4], 2), (&values[..16], &values[..16], 4), &[0], None).unwrap();
        assert!(cells.sums(&mut [0.0; 7]).is_err());
        assert!(cells.gradients(&[0.0; 3], &mut [0.0; 4]).is_err());
        assert!(cells.gradients(&[0.0; 4], &mut [0.0; 5]).is_err());
    }
}
