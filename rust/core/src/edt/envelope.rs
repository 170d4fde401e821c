//! The second pass for any spacing and any width: the lower envelope of the parabolas of a row, from left to right.
//!
//! Background pixels cut a row into stretches that have nothing to do with each other.

use super::gaps::Step;
use super::{Border, Spacing};

/// Neighbouring foreground pixels of a row, and whether background stands at either end.
struct Stretch<'a, S> {
    steps: &'a [S],
    left: bool,
    right: bool,
}

/// How a metric measures along a column and along a row.
pub(super) trait Metric {
    type Square: Copy + PartialOrd + Default;
    /// Squared distance of `steps` rows.
    fn up(&self, steps: u32) -> Self::Square;
    /// Squared distance to a site `steps` pixels along the row that has `base` by itself.
    fn along(&self, steps: i64, base: Self::Square) -> Self::Square;
    /// Whether the site in the middle, `a` pixels after the left one and `b` before the right one, is nowhere nearest.
    fn is_hidden(&self, a: i64, b: i64, bases: [Self::Square; 3]) -> bool;
    fn to_f64(square: Self::Square) -> f64;
}

/// Square pixels of side 1, in integers: exact. Products of three lengths may take more than 64 bits.
#[derive(Default)]
pub(super) struct Unit;

impl Metric for Unit {
    type Square = i64;
    fn up(&self, steps: u32) -> i64 {
        i64::from(steps) * i64::from(steps)
    }
    fn along(&self, steps: i64, base: i64) -> i64 {
        steps * steps + base
    }
    fn is_hidden(&self, a: i64, b: i64, bases: [i64; 3]) -> bool {
        let (a, b, [left, middle, right]) = (i128::from(a), i128::from(b), bases.map(i128::from));
        (a + b) * (middle - a * b) >= b * left + a * right
    }
    fn to_f64(square: i64) -> f64 {
        square as f64
    }
}

/// Pixels of any size, in doubles, in the order of operations of scipy.
pub(super) struct Scaled(pub(super) Spacing);

impl Metric for Scaled {
    type Square = f64;
    fn up(&self, steps: u32) -> f64 {
        let length = f64::from(steps) * self.0.height;
        length * length
    }
    fn along(&self, steps: i64, base: f64) -> f64 {
        let length = steps as f64 * self.0.width;
        base + length * length
    }
    fn is_hidden(&self, a: i64, b: i64, [left, middle, right]: [f64; 3]) -> bool {
        let (a, b) = (a as f64 * self.0.width, b as f64 * self.0.width);
        (a + b) * (middle - a * b) >= b * left + a * right
    }
    fn to_f64(square: f64) -> f64 {
        square
    }
}

/// The sites of a stretch that are nearest to some place on the line, from left to right.
pub(super) struct Envelope<M: Metric> {
    sites: Vec<(i64, M::Square)>,
}

impl<M: Metric> Default for Envelope<M> {
    fn default() -> Self {
        Self { sites: Vec::new() }
    }
}

impl<M: Metric> Envelope<M> {
    /// One row; `finish` turns a squared distance, infinite where there is no background, into what is written.
    pub(super) fn row<S: Step, T: Copy>(
        &mut self,
        steps: &[S],
        border: Border,
        metric: &M,
        out: &mut [T],
        finish: impl Fn(f64) -> T,
    ) {
        let width = steps.len();
        let mut x = 0;
        while x < width {
            let start = x + steps[x..].iter().position(|&step| step != S::ZERO).unwrap_or(width - x);
            out[x..start].fill(finish(0.0));
            let end = start + steps[start..].iter().position(|&step| step == S::ZERO).unwrap_or(width - start);
            x = end;
            if start < end {
                let stretch = Stretch {
                    steps: &steps[start..end],
                    left: start > 0 || border == Border::Background,
                    right: end < width || border == Border::Background,
                };
                self.stretch(&stretch, metric, &mut out[start..end], &finish);
            }
        }
    }

    fn stretch<S: Step, T: Copy>(
        &mut self,
        stretch: &Stretch<'_, S>,
        metric: &M,
        out: &mut [T],
        finish: impl Fn(f64) -> T,
    ) {
        let sites = &mut self.sites;
        sites.clear();
        let left = stretch.left.then(|| (-1, M::Square::default()));
        let right = stretch.right.then(|| (out.len() as i64, M::Square::default()));
        let inside = stretch.steps.iter().enumerate().filter(|&(_, &step)| step != S::NONE);
        let mut all = left.into_iter().chain(inside.map(|(x, &step)| (x as i64, metric.up(step.count())))).chain(right);
        let Some(mut last) = all.next() else {
            out.fill(finish(f64::INFINITY));
            return;
        };
        all.for_each(|site| {
            while let Some(&before) = sites.last() {
                if !metric.is_hidden(last.0 - before.0, site.0 - last.0, [before.1, last.1, site.1]) {
                    break;
                }
                last = before;
                sites.pop();
            }
            sites.push(last);
            last = site;
        });
        sites.push(last);
        let mut sites = sites.iter().copied();
        let (mut at, mut base) = sites.next().unwrap_or(last);
        let mut next = sites.next();
        for (x, out) in out.iter_mut().enumerate() {
            let x = x as i64;
            let mut square = metric.along(x - at, base);
            while let Some((next_at, next_base)) = next {
                let candidate = metric.along(x - next_at, next_base);
                if candidate > square {
                    break;
                }
                (at, base, square) = (next_at, next_base, candidate);
                next = sites.next();
            }
            *out = finish(M::to_f64(square));
        }
    }
}
