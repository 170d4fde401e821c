//! What `cv2.fillPoly` fills, pixel for pixel (OpenCV 5, 8-connected lines, no shift), also where it leaves the image.
//!
//! All polygons of an object at once, even-odd, so that one cuts a hole into another; the outlines are drawn as well, so
//! pixels they touch are inside. Vertices are pixels: fractions are cut off. Edges run in 16.16 fixed point from row to
//! row, those that leave the image between the points where it cuts them off, rounded to pixels: hence what lies outside
//! of the image may bend what lies inside, and does so here as there.

use crate::canvas::Canvas;
use crate::error::Result;
use crate::parallel::{Pace, STEP};
use crate::rle::Size;
use crate::window::Window;

/// Fractional bits of an x.
const SHIFT: u32 = 16;
/// Rows between two checks.
const FAR: i64 = 4096;

/// A pixel, on the image or off it.
type Pixel = [i64; 2];

/// An edge that is not level: its rows, its x on the first, and by how much that grows from row to row.
struct Edge {
    top: i64,
    bottom: i64,
    x: i64,
    step: i64,
}

/// What the polygons fill lies in: outlines are drawn, and reach furthest.
pub(crate) fn reach<'a>(polygons: impl Iterator<Item = &'a [f64]>, size: Size) -> Window {
    let (right, bottom) = (size.width() as i64 - 1, size.height() as i64 - 1);
    let start = (i64::MAX, i64::MIN, i64::MAX, i64::MIN);
    let points = polygons.flat_map(|polygon| polygon.as_chunks::<2>().0).map(|point| point.map(|v| v as i64));
    let (left, end, top, low) =
        points.fold(start, |(left, end, top, low), [x, y]| (left.min(x), end.max(x), top.min(y), low.max(y)));
    if left > right || end < 0 || top > bottom || low < 0 {
        return Window::default();
    }
    let (x, y) = (left.max(0) as usize, top.max(0) as usize);
    Window { x, y, width: end.min(right) as usize + 1 - x, height: low.min(bottom) as usize + 1 - y }
}

/// Fill the polygons on a canvas that holds what they [`reach`].
///
/// # Errors
/// [`crate::Error::Interrupted`].
pub(crate) fn fill<'a>(polygons: impl Iterator<Item = &'a [f64]>, size: Size, canvas: &mut Canvas<'_>) -> Result<()> {
    let mut pace = Pace::default();
    let mut edges: Vec<Edge> = Vec::new();
    for polygon in polygons {
        let (points, _) = polygon.as_chunks::<2>();
        let pixel = |point: &[f64; 2]| point.map(|v| v as i64);
        let Some(mut from) = points.last().map(pixel) else { continue };
        for point in points {
            let to = pixel(point);
            let clipped = clip(size, from, to);
            if let (true, ends) = clipped {
                line(ends, canvas);
            }
            edges.extend(Edge::new(from, to, clipped.1));
            from = to;
        }
    }
    let height = size.height() as i64;
    edges.retain(|edge| edge.top < height && edge.bottom > 0);
    edges.sort_unstable_by_key(|edge| edge.top);
    let mut coming = &edges[..];
    let mut active: Vec<Active> = Vec::new();
    let mut y = coming.first().map_or(height, |edge| edge.top.max(0));
    while y < height {
        active.retain(|edge| edge.bottom > y);
        while let [edge, rest @ ..] = coming
            && edge.top <= y
        {
            active.push(Active { x: edge.at(y), step: edge.step, bottom: edge.bottom });
            coming = rest;
        }
        // Up to the next row on which an edge begins or ends, but not too far at once.
        let begins = coming.first().map_or(height, |edge| edge.top);
        let next = active.iter().fold(begins, |next, edge| next.min(edge.bottom)).min(height).min(y + FAR);
        pace.steps((next - y) as usize * (STEP + active.len()))?;
        for y in y..next {
            sort(&mut active);
            for [left, right] in active.as_chunks::<2>().0 {
                // From the first pixel not left of the one to the last not right of the other.
                let (left, right) = (left.x.saturating_add((1 << SHIFT) - 1) >> SHIFT, right.x >> SHIFT);
                let (left, right) = (left.max(0), right.min(size.width() as i64 - 1));
                if left <= right {
                    canvas.set_row(y as usize, left as usize, right as usize);
                }
            }
            active.iter_mut().for_each(|edge| edge.x = edge.x.saturating_add(edge.step));
        }
        y = next;
    }
    Ok(())
}

/// An edge that crosses the row: where, by how much that grows from row to row, and the row below its last.
struct Active {
    x: i64,
    step: i64,
    bottom: i64,
}

/// From left to right, which they mostly are already.
fn sort(active: &mut [Active]) {
    for i in 1..active.len() {
        let mut place = i;
        while place > 0 && active[place - 1].x > active[place].x {
            active.swap(place - 1, place);
            place -= 1;
        }
    }
}

impl Edge {
    /// `ends`: as [`clip`] left them.
    fn new(from: Pixel, to: Pixel, ends: [Pixel; 2]) -> Option<Self> {
        if from[1] == to[1] {
            return None;
        }
        let [[x0, mut y0], [x1, mut y1]] = ends;
        if y0 == y1 {
            // Cut down to one row: upright, at the border.
            (y0, y1) = (from[1], to[1]);
        }
        let (x0, x1) = (x0 << SHIFT, x1 << SHIFT);
        let step = (x1 - x0) / (y1 - y0);
        let (top, bottom, x, y) = if from[1] < to[1] { (from[1], to[1], x0, y0) } else { (to[1], from[1], x1, y1) };
        // Far beyond what an image may be, rather wrong than out of bounds.
        Some(Self { top, bottom, x: x.saturating_add((top - y).saturating_mul(step)), step })
    }

    fn at(&self, y: i64) -> i64 {
        self.x.saturating_add((y - self.top).saturating_mul(self.step))
    }
}

/// The part of a line that lies on the image, its ends rounded to pixels, and whether there is one (`cv::clipLine`).
fn clip(size: Size, mut from: Pixel, mut to: Pixel) -> (bool, [Pixel; 2]) {
    let (right, bottom) = (size.width() as i64 - 1, size.height() as i64 - 1);
    let beside = |[x, _]: Pixel| u8::from(x < 0) | u8::from(x > right) << 1;
    let beyond = |[_, y]: Pixel| u8::from(y < 0) << 2 | u8::from(y > bottom) << 3;
    let (mut a, mut b) = (beside(from) | beyond(from), beside(to) | beyond(to));
    // Move an end along the line to the border it lies beyond; `along` is the axis that the border limits.
    let cut = |end: Pixel, along: usize, border: i64, from: Pixel, to: Pixel| {
        let across = 1 - along;
        let length = (border - end[along]) as f64 * (to[across] - from[across]) as f64;
        let mut cut = end;
        cut[across] += (length / (to[along] - from[along]) as f64) as i64;
        cut[along] = border;
        cut
    };
    if a & b == 0 && a | b != 0 {
        if a & 12 != 0 {
            from = cut(from, 1, if a < 8 { 0 } else { bottom }, from, to);
            a = beside(from);
        }
        if b & 12 != 0 {
            to = cut(to, 1, if b < 8 { 0 } else { bottom }, from, to);
            b = beside(to);
        }
        if a & b == 0 && a | b != 0 {
            if a != 0 {
                from = cut(from, 0, if a == 1 { 0 } else { right }, from, to);
                a = 0;
            }
            if b != 0 {
                to = cut(to, 0, if b == 1 { 0 } else { right }, from, to);
                b = 0;
            }
        }
    }
    (a | b == 0, [from, to])
}

/// Draw an 8-connected line between two pixels of the image (Bresenham, from left to right).
fn line([from, to]: [Pixel; 2], canvas: &mut Canvas<'_>) {
    let ([mut x, mut y], [x1, y1]) = if from[0] <= to[0] { (from, to) } else { (to, from) };
    let (width, height, down) = (x1 - x, (y1 - y).abs(), (y1 - y).signum());
    let (long, short) = (width.max(height), width.min(height));
    let mut error = long - 2 * short;
    // Every step goes along the longer axis, some along the other as well; which cannot be predicted.
    let (along, across) = if height > width { ([0, down], [1, 0]) } else { ([1, 0], [0, down]) };
    for _ in 0..=long {
        canvas.set(x as usize, y as usize);
        let both = error >> 63;
        error += ((2 * long) & both) - 2 * short;
        (x, y) = (x + along[0] + (across[0] & both), y + along[1] + (across[1] & both));
    }
}
