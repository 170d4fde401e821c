//! Masks under an affine map: each new pixel takes the pixel that its centre comes from.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::rle::{MaskBuf, Masks, Size};
use crate::window::Window;

/// Below this slope the place where a column crosses a side is not known to a pixel.
const STEEP: f64 = 1e-6;

/// Where the pixels of a new image come from: `(x, y)` there is `(a x + b y + c, d x + e y + f)` in the old one.
#[derive(Clone, Copy, Debug)]
pub struct Affine {
    x: [f64; 3],
    y: [f64; 3],
}

impl Affine {
    /// The map with these two rows.
    ///
    /// # Errors
    /// [`Error::Option`] if a number is not finite, or the map has no inverse.
    pub fn new(x: [f64; 3], y: [f64; 3]) -> Result<Self> {
        let value = x[0] * y[1] - x[1] * y[0];
        let is_finite = x.iter().chain(&y).all(|value| value.is_finite());
        if is_finite && value.is_normal() {
            Ok(Self { x, y })
        } else {
            Err(Error::Option { name: "determinant", value, expected: "finite numbers and a map with an inverse" })
        }
    }

    /// Where a point comes from.
    #[inline(always)]
    fn of(self, x: f64, y: f64) -> (f64, f64) {
        ((self.x[0] * x + self.x[1] * y) + self.x[2], (self.y[0] * x + self.y[1] * y) + self.y[2])
    }

    /// Those of `rows` of the column with centre `x` that come from inside a window: its sides are straight, so they
    /// are neighbours.
    fn rows_inside(self, x: f64, rows: Range<usize>, window: Window) -> Range<usize> {
        let (left, top) = (window.x as f64, window.y as f64);
        let (right, bottom) = ((window.x + window.width) as f64, (window.y + window.height) as f64);
        let (mut start, mut end) = (rows.start, rows.end);
        for ([along, across, offset], low, high) in [(self.x, left, right), (self.y, top, bottom)] {
            if across.abs() > STEEP {
                let place = |value: f64| (value - offset - along * x) / across;
                let (first, last) = (place(low).min(place(high)), place(low).max(place(high)));
                // A row to spare on each side for rounding; casts from floats saturate.
                start = start.max((first - 2.0) as usize);
                end = end.min((last + 2.0) as usize);
            }
        }
        let is_inside = |y: usize| {
            let (x, y) = self.of(x, y as f64 + 0.5);
            x >= left && x < right && y >= top && y < bottom
        };
        while start < end && !is_inside(start) {
            start += 1;
        }
        while start < end && !is_inside(end - 1) {
            end -= 1;
        }
        start..end
    }

    /// The pixels of an image of `size` that may come from a window, with a pixel to spare for rounding.
    fn reach(self, window: Window, size: Size) -> Option<Window> {
        let ([a, b, c], [d, e, f]) = (self.x, self.y);
        let determinant = a * e - b * d;
        let corners = [window.x, window.x + window.width].map(|x| {
            [window.y, window.y + window.height].map(|y| {
                let (x, y) = (x as f64 - c, y as f64 - f);
                ((e * x - b * y) / determinant, (a * y - d * x) / determinant)
            })
        });
        let corners = corners.as_flattened();
        let span = |along: fn(&(f64, f64)) -> f64, limit: usize| {
            let low = corners.iter().map(along).fold(f64::INFINITY, f64::min);
            let high = corners.iter().map(along).fold(f64::NEG_INFINITY, f64::max);
            // Casts from floats saturate.
            let (low, high) = ((low - 1.0) as usize, ((high + 2.0) as usize).min(limit));
            (low < high).then_some((low, high - low))
        };
        let (x, width) = span(|corner| corner.0, size.width())?;
        let (y, height) = span(|corner| corner.1, size.height())?;
        Some(Window { x, y, width, height })
    }
}

/// Each mask as an image of `size` shows it: a pixel takes the old pixel in which the place lies that its centre comes
/// from, and is background where that is off the image.
///
/// O(runs + pixels of the masks' boxes, old and new).
///
/// # Errors
/// None for masks that passed [`Masks::new`].
pub fn warp(masks: Masks<'_>, from: Affine, size: Size) -> Result<MaskBuf> {
    let work = masks.run_count() + masks.len() * size.pixels();
    MaskBuf::build(masks.len(), work, |mask, scratch: &mut (Vec<u8>, Vec<(usize, usize)>), out| {
        let (pixels, found) = scratch;
        found.clear();
        let old = Window::around(masks, mask);
        if let Some((old, new)) = old.and_then(|old| Some((old, from.reach(old, size)?))) {
            old.unpack(masks, mask, 1, pixels);
            let is_solid = !pixels.contains(&0);
            for x in new.x..new.x + new.width {
                trace_column(from, (old, pixels, is_solid), x, new.y..new.y + new.height, size.height(), found);
            }
        }
        out.push(size.pixels(), found.iter().copied());
        Ok(())
    })
}

/// Append the foreground of some rows of column `x`, as positions in an image of that height.
fn trace_column(
    from: Affine,
    (old, pixels, is_solid): (Window, &[u8], bool),
    x: usize,
    rows: Range<usize>,
    height: usize,
    found: &mut Vec<(usize, usize)>,
) {
    let center = x as f64 + 0.5;
    let (base, rows) = (x * height, from.rows_inside(center, rows, old));
    if is_solid {
        found.extend((!rows.is_empty()).then_some((base + rows.start, base + rows.end)));
        return;
    }
    let last = rows.end;
    let mut begun = None;
    for y in rows {
        let (source_x, source_y) = from.of(center, y as f64 + 0.5);
        // What is inside is not negative, where a cast is a floor.
        let is_set = pixels[(source_y as usize - old.y) * old.width + (source_x as usize - old.x)] == 1;
        match (begun, is_set) {
            (None, true) => begun = Some(y),
            (Some(start), false) => {
                found.push((base + start, base + y));
                begun = None;
            }
            _ => {}
        }
    }
    found.extend(begun.map(|start| (base + start, base + last)));
}
