//! The second pass at unit spacing: integers, in vectors, at a cost that does not grow with the distances.
//!
//! From one pixel of a row to the next, the nearest site never moves to the left: the squared distances, pixels by
//! sites, are a totally monotone matrix (Aggarwal et al., *Geometric applications of a matrix-searching algorithm*,
//! 1987). So the first pixel of every block looks for its site between those its neighbours have found, and then a whole
//! block takes the least over the sites between that of its first pixel and that of the next block's: about as many
//! sites in all as the row has pixels.

use super::Border;
use crate::simd::{Kernel, Lanes};

/// Longest side of an image whose squared distances, and the sums that lead to them, fit 32 bits.
pub(super) const LONGEST: usize = 26_000;

/// The square of a distance to nothing: more than the square of any distance in an image of that side.
const FAR: i32 = 1_400_000_000;

/// Pixels that take the least over the same sites.
const BLOCK: usize = 32;

/// Sites looked at in one step.
const STEP: usize = 16;

/// What one row needs; kept for the next.
#[derive(Default)]
pub(super) struct Scratch {
    /// Of each site, the square of its distance to the row: one before the first column, the columns, one after the
    /// last, and room to read on.
    bases: Vec<i32>,
    /// The site nearest to the first pixel of each block, and to the last pixel of the row.
    nearest: Vec<usize>,
    squares: Vec<i32>,
}

/// One row: `finish` turns a squared distance, infinite where there is no background, into what is written.
pub(super) struct Row<'a, T, F> {
    pub(super) steps: &'a [u16],
    pub(super) border: Border,
    pub(super) scratch: &'a mut Scratch,
    pub(super) out: &'a mut [T],
    pub(super) finish: F,
}

impl<T: Copy, F: Fn(f64) -> T> Kernel for Row<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Self { steps, border, scratch: Scratch { bases, nearest, squares }, out, finish } = self;
        let width = steps.len();
        let outside = if border == Border::Background { 0 } else { FAR };
        bases.clear();
        bases.resize(width + 2 + STEP, FAR);
        (bases[0], bases[width + 1]) = (outside, outside);
        for (base, &step) in bases[1..].iter_mut().zip(steps) {
            let step = i32::from(step);
            *base = if step > LONGEST as i32 { FAR } else { step.wrapping_mul(step) };
        }

        let count = width.div_ceil(BLOCK);
        nearest.clear();
        nearest.resize(count + 1, 0);
        nearest[0] = site_of(bases, steps, 0, [0, width + 1]);
        nearest[count] = site_of(bases, steps, count, [nearest[0], width + 1]);
        let mut stride = count.next_power_of_two();
        while stride > 1 {
            stride /= 2;
            for edge in (stride..count).step_by(2 * stride) {
                let between = [nearest[edge - stride], nearest[(edge + stride).min(count)]];
                nearest[edge] = site_of(bases, steps, edge, between);
            }
        }

        squares.resize(count * BLOCK, 0);
        let start_of = |block: usize| (block * BLOCK).min(width);
        let mut block = 0;
        while block < count {
            let first = block;
            while block < count && !is_background(steps, block) {
                let least = least(bases, block * BLOCK + 1, nearest[block], nearest[block + 1]);
                squares[block * BLOCK..][..BLOCK].copy_from_slice(&least);
                block += 1;
            }
            let inside = start_of(first)..start_of(block);
            for (out, &square) in out[inside.clone()].iter_mut().zip(&squares[inside]) {
                *out = finish(if square >= FAR { f64::INFINITY } else { f64::from(square) });
            }
            let first = block;
            while block < count && is_background(steps, block) {
                block += 1;
            }
            out[start_of(first)..start_of(block)].fill(finish(0.0));
        }
    }
}

#[inline(always)]
fn is_background(steps: &[u16], block: usize) -> bool {
    let start = block * BLOCK;
    steps[start..(start + BLOCK).min(steps.len())].iter().fold(0, |any, step| any | step) == 0
}

/// The site nearest to the first pixel of a block, or to the last pixel of the row, knowing two it is between.
#[inline(always)]
fn site_of(bases: &[i32], steps: &[u16], block: usize, [first, last]: [usize; 2]) -> usize {
    let x = (block * BLOCK).min(steps.len() - 1);
    let (own, reach) = (x + 1, usize::from(steps[x]));
    // Its own column has one so many rows away.
    let (first, last) = (first.max(own.saturating_sub(reach)), last.min(own + reach));
    if first == last { first } else { search(bases, own, first, last) }
}

/// The first of the sites `first` to `last` that are nearest to the pixel of site `own`.
#[inline(always)]
fn search(bases: &[i32], own: usize, first: usize, last: usize) -> usize {
    let (mut least, mut sites) = ([i32::MAX; STEP], [0; STEP]);
    // The last step may go beyond `last`: of sites that are as near, the first is taken all the same.
    for start in (first..=last).step_by(STEP) {
        let Some(bases) = bases[start..].first_chunk::<STEP>() else { break };
        for i in 0..STEP {
            let site = start as i32 + i as i32;
            let away = site - own as i32;
            let square = bases[i] + away * away;
            sites[i] = if square < least[i] { site } else { sites[i] };
            least[i] = least[i].min(square);
        }
    }
    first_least(&least, &sites)
}

/// The first of the sites of the least value. Not inlined, or the loop before it would keep its vectors in pieces.
#[inline(never)]
fn first_least(values: &[i32; STEP], sites: &[i32; STEP]) -> usize {
    let least = values.iter().copied().fold(i32::MAX, i32::min);
    let candidates = values.iter().zip(sites).map(|(&value, &site)| if value == least { site } else { i32::MAX });
    candidates.fold(i32::MAX, i32::min) as usize
}

/// For the pixels from site `start` on, the least squared distance to the sites `first` to `last`.
#[inline(always)]
fn least(bases: &[i32], start: usize, first: usize, last: usize) -> [i32; BLOCK] {
    let mut least = [i32::MAX; BLOCK];
    for (site, &base) in (first..).zip(&bases[first..=last]) {
        // (away + i)^2 + base, without the i^2 that all have in common.
        let away = start as i32 - site as i32;
        let (base, slope) = (base + away * away, 2 * away);
        for (i, least) in least.iter_mut().enumerate() {
            *least = (*least).min(base + slope * i as i32);
        }
    }
    std::array::from_fn(|i| least[i] + (i * i) as i32)
}
