//! Where the edges of a polygon cross the columns of pixels, as each rule sees it.

use std::hint::black_box;

use crate::rle::Size;
use crate::simd::{Kernel, Lanes, run};

/// How a rule sees an edge that crosses at least one column.
pub(crate) trait Edge: Copy + Send {
    /// A vertex.
    type Point: Copy;

    fn point(vertex: [f64; 2]) -> Self::Point;

    /// The edge, if it crosses a column of an image of this width.
    fn new(from: Self::Point, to: Self::Point, width: usize) -> Option<Self>;

    /// First and last column it crosses; it crosses each between them once.
    fn columns(&self) -> (usize, usize);

    /// First and last row [`Self::cross`] can give.
    fn rows(&self, height: u32) -> (u32, u32);

    /// The first row below the crossing, at most `height`, of the columns from `base` on; what follows the last column
    /// the edge crosses means nothing.
    fn cross(&self, base: usize, height: u32) -> [u32; LANES];
}

/// Every edge of a polygon that crosses a column, in `edges`, in place of what was there.
pub(crate) fn gather<E: Edge>(polygon: &[f64], size: Size, edges: &mut Vec<E>) {
    run(Gather { polygon, size, edges });
}

struct Gather<'a, E> {
    polygon: &'a [f64],
    size: Size,
    edges: &'a mut Vec<E>,
}

impl<E: Edge> Kernel for Gather<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Self { polygon, size, edges } = self;
        edges.clear();
        edges.reserve(polygon.len() / 2);
        let (points, _) = polygon.as_chunks::<2>();
        let Some(last) = points.last() else { return };
        let mut from = E::point(*last);
        for point in points {
            let to = E::point(*point);
            if let Some(edge) = E::new(from, to, size.width()) {
                edges.push(edge);
            }
            from = to;
        }
    }
}

/// Call `put` with every crossing of every edge, some columns at once: the first of them, the first row below in each, at
/// most the height, and how many there are; what follows those means nothing.
pub(crate) fn cross_all<E: Edge>(edges: &[E], size: Size, put: impl FnMut(usize, &[u32; LANES], usize)) {
    run(Cross { edges, height: size.height() as u32, put });
}

struct Cross<'a, E, F> {
    edges: &'a [E],
    height: u32,
    put: F,
}

impl<E: Edge, F: FnMut(usize, &[u32; LANES], usize)> Kernel for Cross<'_, E, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, _: L) {
        for edge in self.edges {
            let (mut base, last) = edge.columns();
            while base <= last {
                // Not taken apart again by the compiler once it is a vector.
                let rows = black_box(edge.cross(base, self.height));
                (self.put)(base, &rows, LANES.min(last + 1 - base));
                base += LANES;
            }
        }
    }
}

/// Crossings computed in one step.
pub(crate) const LANES: usize = 8;
/// Below this magnitude in fifths of a pixel, all terms of a crossing are exact to 2^-33, and divided by a slope of at
/// least 2^-17 to 2^-16: a row farther than [`CLOSE`] from a whole number of fifths is right.
const SMALL: i32 = 1 << 17;
const CLOSE: f64 = 1e-4;
/// From here on, the bits of a number count ones.
const WHOLE: f64 = (1_u64 << 52) as f64;

/// An edge in fifths of a pixel, as `rleFrPoly` walks it.
#[derive(Clone, Copy)]
pub(crate) struct Coco {
    first: i32,
    last: i32,
    left: [i32; 2],
    right: [i32; 2],
}

impl Coco {
    /// The row of pixels of a height in fifths: `(v + 2) / 5`, rounded down, which 1/5, rounded up, gives exactly. Not in
    /// integers, as conversions to them would not become vectors.
    #[inline(always)]
    fn row(v: f64, height: u32) -> u32 {
        let (v, height) = (if v > 0.0 { v } else { 0.0 }, f64::from(height));
        let row = ((v + 2.0) * 0.2).floor();
        ((if row < height { row } else { height }) + WHOLE).to_bits() as u32
    }

    /// The upper and the lower end.
    #[inline(always)]
    fn down(&self) -> ([i32; 2], [i32; 2]) {
        if self.left[1] <= self.right[1] { (self.left, self.right) } else { (self.right, self.left) }
    }

    /// [`Edge::cross`] of a steep edge however far away, by the reference's own expression: it steps down the edge, and a column is crossed
    /// below the last point that has not passed it.
    #[cold]
    #[inline(never)]
    fn search(&self, base: i32, height: u32) -> [u32; LANES] {
        let ([xs, ys], [xe, ye]) = self.down();
        let slope = f64::from(xe - xs) / f64::from(ye - ys);
        let mut rows = [0; LANES];
        for (column, row) in (base..=self.last).zip(&mut rows) {
            let u = f64::from(5 * column + 3);
            let passed = |t: i32| (f64::from(xs) + slope * f64::from(t) + 0.5 >= u) == (slope > 0.0);
            let mut t = (((u - 0.5 - f64::from(xs)) / slope) as i32).clamp(0, ye - ys - 1);
            while t > 0 && passed(t) {
                t -= 1;
            }
            while t < ye - ys - 1 && !passed(t + 1) {
                t += 1;
            }
            *row = Self::row(f64::from(ys + t), height);
        }
        rows
    }
}

impl Edge for Coco {
    type Point = [i32; 2];

    #[inline(always)]
    fn point(vertex: [f64; 2]) -> [i32; 2] {
        // The lower bits of a number around 2^52, as conversions that saturate take several times as long.
        vertex.map(|coordinate| ((5.0 * coordinate + 0.5).trunc() + 1.5 * WHOLE).to_bits() as i32)
    }

    #[inline(always)]
    fn new(from: [i32; 2], to: [i32; 2], width: usize) -> Option<Self> {
        let (left, right) = if from[0] <= to[0] { (from, to) } else { (to, from) };
        // Column c is crossed between u = 5 c + 2 and 5 c + 3.
        let ceil = |u: i32| ((u + 2).max(0) as u32 / 5) as i32;
        let (first, last) = (ceil(left[0]), ceil(right[0]) - 1);
        let last = last.min(i32::try_from(width - 1).unwrap_or(i32::MAX));
        (first <= last).then_some(Self { first, last, left, right })
    }

    #[inline(always)]
    fn columns(&self) -> (usize, usize) {
        (self.first as usize, self.last as usize)
    }

    #[inline(always)]
    fn rows(&self, height: u32) -> (u32, u32) {
        let ([_, a], [_, b]) = (self.left, self.right);
        (Self::row(f64::from(a.min(b)), height), Self::row(f64::from(a.max(b)), height))
    }

    #[inline(always)]
    fn cross(&self, base: usize, height: u32) -> [u32; LANES] {
        let (&Self { left: [xs, ys], right: [xe, ye], .. }, base) = (self, base as i32);
        let (dx, dy) = (xe - xs, ye - ys);
        let slope = f64::from(dy) / f64::from(dx);
        // At `start` beyond the left end of a column of fifths.
        let y = |column: i32, start: f64| f64::from(ys) + slope * (f64::from(5 * column) + (start - f64::from(xs)));
        let mut rows = [0; LANES];
        if dy.abs() <= dx {
            // Rounded at whole u, and the lower of the two points of a crossing is the first where the edge rises.
            let start = if slope < 0.0 { 3.0 } else { 2.0 };
            for (column, row) in (base..).zip(&mut rows) {
                *row = Self::row((y(column, start) + 0.5).floor(), height);
            }
            return rows;
        }
        if [xs, ys, xe, ye].iter().any(|v| v.abs() >= SMALL) {
            return self.search(base, height);
        }
        // About as low as where it meets u + 1/2, as its points are whole v. Where that is close to a point, the
        // reference's own expression says whether the point has passed.
        let (top, bottom) = self.down();
        let step = f64::from(bottom[0] - top[0]) / f64::from(bottom[1] - top[1]);
        for (column, row) in (base..).zip(&mut rows) {
            let v = (y(column, 2.5) + CLOSE).floor();
            let x = f64::from(top[0]) + step * (v - f64::from(top[1])) + 0.5;
            let passed = (x >= f64::from(5 * column + 3)) == (step > 0.0);
            *row = Self::row(if passed { v - 1.0 } else { v }, height);
        }
        rows
    }
}

/// An edge in pixels.
#[derive(Clone, Copy)]
pub(crate) struct PixelCenter {
    first: usize,
    last: usize,
    left: [f64; 2],
    right: [f64; 2],
}

impl PixelCenter {
    /// The first row whose centre is not above `y`.
    #[inline(always)]
    fn row(y: f64, height: u32) -> u32 {
        (y - 0.5).ceil().clamp(0.0, f64::from(height)) as u32
    }
}

impl Edge for PixelCenter {
    type Point = [f64; 2];

    #[inline(always)]
    fn point(vertex: [f64; 2]) -> [f64; 2] {
        vertex
    }

    #[inline(always)]
    fn new(from: [f64; 2], to: [f64; 2], width: usize) -> Option<Self> {
        let (left, right) = if from[0] <= to[0] { (from, to) } else { (to, from) };
        // Column c is crossed if its centre is at or right of the left end, and left of the right end.
        let first = (left[0] - 0.5).ceil().max(0.0);
        let last = ((right[0] - 0.5).ceil() - 1.0).min(width as f64 - 1.0);
        (first <= last).then_some(Self { first: first as usize, last: last as usize, left, right })
    }

    #[inline(always)]
    fn columns(&self) -> (usize, usize) {
        (self.first, self.last)
    }

    #[inline(always)]
    fn rows(&self, height: u32) -> (u32, u32) {
        let ([_, a], [_, b]) = (self.left, self.right);
        (Self::row(a.min(b), height), Self::row(a.max(b), height))
    }

    #[inline(always)]
    fn cross(&self, base: usize, height: u32) -> [u32; LANES] {
        let &Self { left: [xs, ys], right: [xe, ye], .. } = self;
        let slope = (ye - ys) / (xe - xs);
        std::array::from_fn(|i| {
            let y = ys + ((base + i) as f64 + 0.5 - xs) * slope;
            // Rounding must not lead beyond the ends.
            Self::row(y.clamp(ys.min(ye), ys.max(ye)), height)
        })
    }
}
