//! Masks under an affine map: each new pixel takes the pixel that its centre comes from.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::memory::grow;
use crate::parallel::{Pace, STEP};
use crate::rle::{MaskBuf, Masks, Size};
use crate::window::Window;

/// Below this slope the place where a column crosses a side is not known to a pixel.
const STEEP: f64 = 1e-6;

/// Rows of a column that are traced at a time.
const LONG: usize = 1 << 16;

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

    /// Row `y` of a column comes from `place`, in the tile with this corner: the row up to which the column stays there,
    /// or one before it; at most `end`.
    #[inline(always)]
    fn leave(self, x: f64, y: usize, place: (f64, f64), tile: (f64, f64), end: usize) -> usize {
        let side = Tiles::SIDE as f64;
        let steps = |along: f64, from: f64, low: f64| {
            let edge = if along > 0.0 { low + side } else { low };
            if along == 0.0 { f64::INFINITY } else { (edge - from) / along }
        };
        // Rounded down, so that the last step ends before the edge; casts from floats saturate.
        let count = steps(self.x[1], place.0, tile.0).min(steps(self.y[1], place.1, tile.1)) as usize;
        let next = y.saturating_add(count.max(1)).min(end);
        // Places on a column lie in order: where the last is in the tile, so are all before it.
        let last = self.of(x, (next - 1) as f64 + 0.5);
        let is_inside = last.0 >= tile.0 && last.0 < tile.0 + side && last.1 >= tile.1 && last.1 < tile.1 + side;
        if is_inside { next } else { y + 1 }
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
/// O(runs + pixels of the masks' boxes, old and new); where all of a tile is alike it is crossed in one step.
///
/// # Errors
/// [`Error::Memory`]; nothing else for masks that passed [`Masks::new`].
pub fn warp(masks: Masks<'_>, from: Affine, size: Size) -> Result<MaskBuf> {
    let work = masks.run_count() + masks.len() * size.pixels();
    MaskBuf::build(masks.len(), work, |mask, scratch: &mut (Tiles, Vec<(usize, usize)>), out| {
        let (tiles, found) = scratch;
        found.clear();
        let mut pace = Pace::default();
        let old = Window::around(masks, mask);
        if let Some((old, new)) = old.and_then(|old| Some((old, from.reach(old, size)?))) {
            tiles.unpack(masks, mask, old)?;
            let is_full = tiles.states.iter().all(|&state| state == Tiles::FULL);
            for x in new.x..new.x + new.width {
                pace.steps(STEP)?;
                let rows = from.rows_inside(x as f64 + 0.5, new.y..new.y + new.height, old);
                if is_full {
                    let base = x * size.height();
                    grow(found, 1, size)?;
                    found.extend((!rows.is_empty()).then_some((base + rows.start, base + rows.end)));
                } else {
                    // A column may be as long as the image is large.
                    for start in rows.clone().step_by(LONG) {
                        let part = start..rows.end.min(start + LONG);
                        pace.steps(part.len())?;
                        grow(found, part.len() / 2 + 1, size)?;
                        trace_column(from, tiles, x, part, size.height(), found);
                    }
                }
            }
        }
        out.push(size.pixels(), found.iter().copied())
    })
}

/// Append the foreground of some rows of column `x`, all of which come from inside the tiles, as positions in an image
/// of that height.
fn trace_column(
    from: Affine,
    tiles: &Tiles,
    x: usize,
    rows: Range<usize>,
    height: usize,
    found: &mut Vec<(usize, usize)>,
) {
    let (center, base) = (x as f64 + 0.5, x * height);
    let mut begun = None;
    let mut mark = |y: usize, is_set: bool| match (begun, is_set) {
        (None, true) => begun = Some(y),
        (Some(start), false) => {
            found.push((base + start, base + y));
            begun = None;
        }
        _ => {}
    };
    let mut y = rows.start;
    while y < rows.end {
        let place = from.of(center, y as f64 + 0.5);
        let next = from.leave(center, y, place, tiles.corner(place), rows.end);
        match tiles.state(place) {
            Tiles::MIXED => (y..next).for_each(|y| mark(y, tiles.is_set(from.of(center, y as f64 + 0.5)))),
            state => mark(y, state == Tiles::FULL),
        }
        y = next;
    }
    mark(rows.end, false);
}

/// A mask's box as bytes, and as squares that are empty, full or neither.
#[derive(Default)]
struct Tiles {
    x: usize,
    y: usize,
    width: usize,
    pixels: Vec<u8>,
    across: usize,
    states: Vec<u8>,
}

impl Tiles {
    /// Of a tile, in pixels.
    const SIDE: usize = 32;
    const FULL: u8 = 1;
    const MIXED: u8 = 2;

    fn unpack(&mut self, masks: Masks<'_>, mask: usize, window: Window) -> Result<()> {
        window.unpack(masks, mask, 1, &mut self.pixels)?;
        (self.x, self.y, self.width) = (window.x, window.y, window.width);
        self.across = window.width.div_ceil(Self::SIDE);
        self.states.clear();
        for band in self.pixels.chunks(window.width * Self::SIDE) {
            let first = self.states.len();
            self.states.extend(band[..window.width].chunks(Self::SIDE).map(|row| row[0]));
            for row in band.chunks(window.width) {
                for (state, pixels) in self.states[first..].iter_mut().zip(row.chunks(Self::SIDE)) {
                    let set: u8 = pixels.iter().sum();
                    let alike = if *state == Self::FULL { pixels.len() as u8 } else { 0 };
                    *state = if set == alike { *state } else { Self::MIXED };
                }
            }
        }
        Ok(())
    }

    /// Column and row of the pixel around a place inside: nothing there is negative, so a cast is a floor.
    #[inline(always)]
    fn pixel(&self, (x, y): (f64, f64)) -> (usize, usize) {
        (x as usize - self.x, y as usize - self.y)
    }

    /// The state of the tile around a place inside.
    #[inline(always)]
    fn state(&self, place: (f64, f64)) -> u8 {
        let (column, row) = self.pixel(place);
        self.states[row / Self::SIDE * self.across + column / Self::SIDE]
    }

    #[inline(always)]
    fn is_set(&self, place: (f64, f64)) -> bool {
        let (column, row) = self.pixel(place);
        self.pixels[row * self.width + column] == 1
    }

    /// Left and top of the tile around a place inside.
    #[inline(always)]
    fn corner(&self, place: (f64, f64)) -> (f64, f64) {
        let (column, row) = self.pixel(place);
        ((self.x + column / Self::SIDE * Self::SIDE) as f64, (self.y + row / Self::SIDE * Self::SIDE) as f64)
    }
}
