//! Points a mask is known by: the one deepest inside, the ones farthest apart, the one nearest to its centre of mass.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::edt::{Border, Columns, Rows, Spacing};
use crate::error::{BatchError, Error, Result};
use crate::memory::{points, reserve};
use crate::parallel::{Pace, fill_items};
use crate::rle::Masks;
use crate::window::Window;

/// A pixel, and the square of its distance to something, in pixels.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// (x, y).
    pub point: [i32; 2],
    /// 0 where nothing was found.
    pub square: i64,
}

const NOTHING: Found = Found { point: [-1, -1], square: 0 };

/// The pixel of each mask that is farthest from everything that is not of the mask (its pole of inaccessibility), and
/// the square of that distance; outside of the image nothing is of the mask. The first such pixel row by row.
/// `[-1, -1]` and 0 for a mask without pixels that may be chosen.
///
/// `excluded` holds pixels that may not be chosen, `(x, y)` a pixel and as many a mask; what is not a pixel excludes
/// nothing. Only rows that can hold a better pixel than the best so far are transformed.
///
/// # Errors
/// [`BatchError::Length`] if `excluded` are not as many a mask; [`crate::SizeError::TooLong`]; [`Error::Memory`].
pub fn deepest(masks: Masks<'_>, excluded: &[[i32; 2]]) -> Result<Vec<Found>> {
    masks.size().check_places()?;
    let per_mask = excluded.len().checked_div(masks.len()).unwrap_or(0);
    if per_mask * masks.len() != excluded.len() {
        let expected = format!("a multiple of {}", masks.len());
        return Err(BatchError::Length { name: "excluded", found: excluded.len(), expected }.into());
    }
    let mut found = vec![NOTHING; masks.len()];
    fill_items(&mut found, 1, masks.len() * masks.size().pixels() / 4, |mask, scratch: &mut Scratch, found| {
        let excluded = &excluded[mask * per_mask..(mask + 1) * per_mask];
        found[0] = scratch.deepest(masks, mask, excluded)?.unwrap_or(NOTHING);
        Ok(())
    })?;
    Ok(found)
}

#[derive(Default)]
struct Scratch {
    pixels: Vec<u8>,
    columns: Columns,
    rows: Rows,
    /// Rows of the window and a distance none of their pixels exceeds.
    bounds: Vec<(u32, usize)>,
    squares: Vec<f64>,
    excluded: Vec<(usize, usize)>,
}

impl Scratch {
    fn deepest(&mut self, masks: Masks<'_>, mask: usize, excluded: &[[i32; 2]]) -> Result<Option<Found>> {
        let Some(window) = Window::around(masks, mask) else { return Ok(None) };
        let Self { pixels, columns, rows, bounds, squares, excluded: inside } = self;
        window.unpack(masks, mask, 1, pixels)?;
        columns.measure(pixels, window.width, Border::Background)?;
        inside.clear();
        inside.extend(excluded.iter().filter_map(|&[x, y]| {
            let (x, y) =
                (usize::try_from(x).ok()?.checked_sub(window.x)?, usize::try_from(y).ok()?.checked_sub(window.y)?);
            (x < window.width && y < window.height).then_some((x, y))
        }));
        bounds.clear();
        reserve(bounds, window.height, masks.size())?;
        bounds.extend((0..window.height).map(|y| (columns.largest(y), y)));
        bounds.sort_unstable_by_key(|&(bound, y)| (Reverse(bound), y));
        reserve(squares, window.width, masks.size())?;
        squares.resize(window.width, 0.0);
        let mut best = (0.0, 0, 0);
        for &(bound, y) in &*bounds {
            let bound = f64::from(bound) * f64::from(bound);
            if bound < best.0 {
                break;
            }
            if bound == best.0 && y > best.1 {
                continue;
            }
            rows.squares(columns, y, Spacing::UNIT, squares);
            inside.iter().filter(|pixel| pixel.1 == y).for_each(|&(x, _)| squares[x] = 0.0);
            let (x, square) = first_largest(squares);
            if square > best.0 || (square == best.0 && y < best.1) {
                best = (square, y, x);
            }
        }
        let (square, y, x) = best;
        Ok((square > 0.0).then_some(Found { point: point(window, x, y), square: square as i64 }))
    }
}

fn point(window: Window, x: usize, y: usize) -> [i32; 2] {
    [(window.x + x) as i32, (window.y + y) as i32]
}

/// The first of the largest values; 0 if there is none.
fn first_largest(values: &[f64]) -> (usize, f64) {
    let largest = values.iter().copied().fold(0.0, f64::max);
    (values.iter().position(|&value| value == largest).unwrap_or(0), largest)
}

/// `k` pixels of each mask, far apart: first the [`deepest`], then each time the one farthest from its nearest
/// predecessor, the first such pixel row by row. The squared distance to that predecessor goes with it; of the first,
/// that to what is not of the mask. Points beyond the mask's area repeat its first pixel.
///
/// Greedy k-centre (Gonzalez 1985). A row is measured again only if it may hold the next point.
///
/// # Errors
/// [`Error::EmptyMask`] with the first mask that has no pixel; as [`deepest`]; [`Error::Option`] for 2^31 points or more;
/// [`Error::Room`].
pub fn farthest(masks: Masks<'_>, k: usize) -> Result<Vec<Found>> {
    masks.size().check_places()?;
    let mut found = points(masks.len(), k, NOTHING)?;
    fill_items(&mut found, k, masks.len() * masks.size().pixels(), |mask, scratch: &mut Scratch, found| {
        let Some(window) = Window::around(masks, mask) else { return Err(Error::EmptyMask { mask }) };
        found[0] = scratch.deepest(masks, mask, &[])?.unwrap_or(NOTHING);
        let Scratch { pixels, squares, .. } = scratch;
        let mut rows = Vec::new();
        reserve(&mut rows, window.height, masks.size())?;
        rows.extend((0..window.height).map(|y| (u64::MAX, Reverse(y), 0, 0)));
        let (mut stale, mut pace) = (BinaryHeap::from(rows), Pace::default());
        for chosen in 1..found.len() {
            let (predecessors, rest) = found.split_at_mut(chosen);
            while let Some((square, Reverse(y), x, measured)) = stale.pop() {
                if measured == chosen {
                    rest[0] = Found { point: point(window, x, y), square: square as i64 };
                    stale.push((square, Reverse(y), x, measured));
                    break;
                }
                let row = &pixels[y * window.width..(y + 1) * window.width];
                pace.steps(row.len() + chosen)?;
                if let Some((x, square)) = farthest_in_row(window, y, row, predecessors, squares) {
                    stale.push((square as u64, Reverse(y), x, chosen));
                }
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// The first pixel of a row that is farthest from the points, and the square of its distance to the nearest of them.
fn farthest_in_row(
    window: Window,
    y: usize,
    row: &[u8],
    points: &[Found],
    squares: &mut Vec<f64>,
) -> Option<(usize, f64)> {
    squares.clear();
    squares.extend(row.iter().map(|&pixel| if pixel == 0 { -1.0 } else { f64::INFINITY }));
    for &Found { point: [to_x, to_y], .. } in points {
        let (dx, dy) = (window.x as f64 - f64::from(to_x), (window.y + y) as f64 - f64::from(to_y));
        let base = dy * dy;
        for (x, square) in squares.iter_mut().enumerate() {
            let dx = x as u32 as f64 + dx;
            let candidate = dx * dx + base;
            *square = if candidate < *square { candidate } else { *square };
        }
    }
    let largest = squares.iter().copied().fold(-1.0, f64::max);
    (largest >= 0.0).then(|| (squares.iter().position(|&square| square == largest).unwrap_or(0), largest))
}

/// The pixel of each mask that is nearest to its centre of mass; of several, the topmost, then the leftmost.
///
/// Exact: the centre is a fraction, and so is compared. O(runs + columns covered).
///
/// # Errors
/// [`Error::EmptyMask`] with the first mask that has no pixel; [`crate::SizeError::TooLong`].
pub fn centroid_inside(masks: Masks<'_>) -> Result<Vec<[i32; 2]>> {
    masks.size().check_places()?;
    let mut points = vec![[0; 2]; masks.len()];
    fill_items(&mut points, 1, masks.run_count() * 20, |mask, (): &mut (), point| {
        let segments = || columns_of(masks, mask);
        let (mut area, mut sum_x, mut sum_y) = (0u128, 0u128, 0u128);
        for (x, top, bottom) in segments() {
            let length = (bottom - top) as u128;
            area += length;
            sum_x += x as u128 * length;
            sum_y += (top + bottom - 1) as u128 * length / 2;
        }
        if area == 0 {
            return Err(Error::EmptyMask { mask });
        }
        // Distances times the area, which makes them integers: below 2^64 each, as an image has fewer than 2^32 pixels.
        let apart = |place: usize, sum: u128| (place as u128 * area).abs_diff(sum);
        let middle = (sum_y / area) as usize;
        let nearest = segments().flat_map(|(x, top, bottom)| {
            let dx = apart(x, sum_x);
            [middle, middle + 1].map(|y| {
                let y = y.clamp(top, bottom - 1);
                let dy = apart(y, sum_y);
                (dx * dx + dy * dy, y, x)
            })
        });
        if let Some((_, y, x)) = nearest.min() {
            point[0] = [x as i32, y as i32];
        }
        Ok(())
    })?;
    Ok(points)
}

/// The foreground of a mask, column by column: x, first row, one past the last.
fn columns_of(masks: Masks<'_>, mask: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let height = masks.size().height();
    masks.intervals(mask).flat_map(move |(start, end)| {
        let (first, last) = (start / height, (end - 1) / height);
        (first..=last).map(move |x| {
            let top = if x == first { start - x * height } else { 0 };
            let bottom = if x == last { end - x * height } else { height };
            (x, top, bottom)
        })
    })
}
