//! What `cv2.fillPoly` fills, pixel for pixel (OpenCV 5, 8-connected lines, no shift), also where it leaves the image.
//!
//! All polygons of an object at once, even-odd, so that one cuts a hole into another; the outlines are drawn as well, so
//! pixels they touch are inside. Vertices are pixels: fractions are cut off. Edges run in 16.16 fixed point from row to
//! row, those that leave the image between the points where it cuts them off, rounded to pixels: hence what lies outside
//! of the image may bend what lies inside, and does so here as there.

use crate::bits::WORD;
use crate::rle::Size;

/// Fractional bits of an x.
const SHIFT: u32 = 16;

/// A pixel, on the image or off it.
type Pixel = [i64; 2];

/// An edge that is not level: its rows, its x on the first, and by how much that grows from row to row.
struct Edge {
    top: i64,
    bottom: i64,
    x: i64,
    step: i64,
}

/// Fill the polygons into `words`, the packed rows of an image.
pub(crate) fn fill<'a>(polygons: impl Iterator<Item = &'a [f64]>, size: Size, words: &mut [u64]) {
    let mut edges: Vec<Edge> = Vec::new();
    for polygon in polygons {
        let (points, _) = polygon.as_chunks::<2>();
        let pixel = |point: &[f64; 2]| point.map(|v| v as i64);
        let Some(mut from) = points.last().map(pixel) else { continue };
        for point in points {
            let to = pixel(point);
            let clipped = clip(size, from, to);
            if let (true, ends) = clipped {
                line(ends, size, words);
            }
            edges.extend(Edge::new(from, to, clipped.1));
            from = to;
        }
    }
    let height = size.height() as i64;
    edges.retain(|edge| edge.top < height && edge.bottom > 0);
    edges.sort_unstable_by_key(|edge| edge.top);
    let (mut next, mut active, mut crossings) = (0, Vec::new(), Vec::new());
    let first = edges.first().map_or(height, |edge| edge.top.max(0));
    for y in first..height {
        active.retain(|&edge: &usize| edges[edge].bottom > y);
        while edges.get(next).is_some_and(|edge| edge.top <= y) {
            active.extend((edges[next].bottom > y).then_some(next));
            next += 1;
        }
        crossings.clear();
        crossings.extend(active.iter().map(|&edge| edges[edge].at(y)));
        crossings.sort_unstable();
        let row = &mut words[y as usize * size.row_words()..][..size.row_words()];
        for &[left, right] in crossings.as_chunks::<2>().0 {
            // From the first pixel not left of the one to the last not right of the other.
            let (left, right) = (left.saturating_add((1 << SHIFT) - 1) >> SHIFT, right >> SHIFT);
            set(row, left.max(0), right.min(size.width() as i64 - 1));
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
fn line([from, to]: [Pixel; 2], size: Size, words: &mut [u64]) {
    let ([mut x, mut y], [x1, y1]) = if from[0] <= to[0] { (from, to) } else { (to, from) };
    let (width, height, down) = (x1 - x, (y1 - y).abs(), (y1 - y).signum());
    let (long, short) = (width.max(height), width.min(height));
    let mut error = long - 2 * short;
    for _ in 0..=long {
        words[y as usize * size.row_words() + x as usize / WORD] |= 1 << (x as usize % WORD);
        let both = error < 0;
        error += if both { 2 * (long - short) } else { -2 * short };
        (x, y) =
            if height > width { (x + i64::from(both), y + down) } else { (x + 1, y + if both { down } else { 0 }) };
    }
}

/// Set the pixels from `left` to `right` of a row, both included.
fn set(row: &mut [u64], left: i64, right: i64) {
    if left > right {
        return;
    }
    let (left, right) = (left as usize, right as usize);
    let (first, last) = (u64::MAX << (left % WORD), u64::MAX >> (WORD - 1 - right % WORD));
    match &mut row[left / WORD..=right / WORD] {
        [word] => *word |= first & last,
        [start, between @ .., end] => {
            *start |= first;
            between.fill(u64::MAX);
            *end |= last;
        }
        [] => {}
    }
}
