//! Prompts drawn from masks: points inside, and boxes as a person might have drawn them.

use std::collections::HashMap;

use crate::error::{BatchError, BoxError, Error, Result};
use crate::memory;
use crate::parallel::{Pace, STEP, fill_items};
use crate::rle::{Masks, Size};
use crate::rng::Rng;

/// `k` (x, y) pixels of each mask, uniform, different from each other as long as the mask has pixels left.
///
/// Point `i` depends on the mask, its key and `i` alone, so the first of five is also the one of one. Points beyond the
/// mask's area repeat pixels, uniformly.
///
/// # Errors
/// [`Error::EmptyMask`] with the first mask that has no pixel; [`BatchError::Length`] if `keys` are not one a mask;
/// [`Error::Option`] for 2^31 points or more; [`Error::Room`]; [`crate::SizeError::TooLong`] for a side of more
/// than 2^24 pixels.
pub fn sample_points(masks: Masks<'_>, keys: &[u64], k: usize) -> Result<Vec<[i32; 2]>> {
    check_keys(keys, masks.len())?;
    masks.size().check_places()?;
    let height = masks.size().height();
    let mut points = memory::points(masks.len(), k, [0; 2])?;
    let work = masks.run_count() + points.len() * 100;
    fill_items(&mut points, k, work, |mask, ends: &mut Vec<(usize, usize)>, points| {
        let mut area = 0;
        ends.clear();
        ends.extend(masks.intervals(mask).map(|(start, end)| {
            area += end - start;
            (area, end)
        }));
        if area == 0 {
            return Err(Error::EmptyMask { mask });
        }
        let mut rng = Rng::new(keys[mask], *b"points  ");
        let mut moved = HashMap::new();
        let touched = points.len().min(area);
        moved.try_reserve(touched).map_err(|_| Error::Room { count: touched, of: "points" })?;
        let mut pace = Pace::default();
        for (i, point) in points.iter_mut().enumerate() {
            pace.steps(10 * STEP)?;
            let rank = draw_rank(&mut rng, &mut moved, i, area);
            let (ranks, end) = ends[ends.partition_point(|&(ranks, _)| ranks <= rank)];
            let position = end - (ranks - rank);
            *point = [(position / height) as i32, (position % height) as i32];
        }
        Ok(())
    })?;
    Ok(points)
}

/// Step `i` of a Fisher-Yates shuffle of `0..area`, of which only the places already touched are kept in `moved`.
fn draw_rank(rng: &mut Rng, moved: &mut HashMap<usize, usize>, i: usize, area: usize) -> usize {
    if i >= area {
        return rng.below(area as u64) as usize;
    }
    let place = i + rng.below((area - i) as u64) as usize;
    let rank = moved.get(&place).copied().unwrap_or(place);
    let displaced = moved.get(&i).copied().unwrap_or(i);
    moved.insert(place, displaced);
    rank
}

/// How far a box may be moved.
#[derive(Clone, Copy, Debug)]
pub struct Jitter {
    /// Largest shift of a coordinate, as a fraction of the side it moves along.
    pub ratio: f64,
    /// Largest shift of a coordinate, in pixels.
    pub max_px: f64,
}

/// Move each coordinate of each `[xmin, ymin, xmax, ymax]` box (inclusive pixel indices) by an independent uniform
/// amount in +-min(`ratio` x side, `max_px`), then clamp to the image; corners stay in order.
///
/// The rule of `segment_anything`'s training (section "Training algorithm" of the paper) as `sam2` implements it, with
/// the sides measured as max - min.
///
/// # Errors
/// [`Error::Box`] with the first box that is not finite or out of order; [`Error::Option`] for a negative option;
/// [`BatchError::Length`] if `keys` are not one a box; [`crate::SizeError::TooLong`] for a side of more than 2^24 pixels.
pub fn jitter_boxes(boxes: &[[f64; 4]], keys: &[u64], jitter: Jitter, size: Size) -> Result<Vec<[f64; 4]>> {
    check_keys(keys, boxes.len())?;
    size.check_places()?;
    for (name, value) in [("ratio", jitter.ratio), ("max_px", jitter.max_px)] {
        if !(value.is_finite() && value >= 0.0) {
            return Err(Error::Option { name, value, expected: "a finite number of at least 0" });
        }
    }
    let limits = [size.width() as f64 - 1.0, size.height() as f64 - 1.0];
    let move_box = |(index, (bounds, &key)): (usize, (&[f64; 4], &u64))| {
        let fail = |reason| Err(Error::Box { index, reason });
        if !bounds.iter().all(|value| value.is_finite()) {
            return fail(BoxError::NotFinite(*bounds));
        }
        if bounds[0] > bounds[2] || bounds[1] > bounds[3] {
            return fail(BoxError::OutOfOrder(*bounds));
        }
        let mut rng = Rng::new(key, *b"boxes   ");
        let mut moved: [f64; 4] = std::array::from_fn(|i| {
            let axis = i % 2;
            let reach = (jitter.ratio * (bounds[axis + 2] - bounds[axis])).min(jitter.max_px);
            (bounds[i] + (2.0 * rng.unit() - 1.0) * reach).clamp(0.0, limits[axis])
        });
        for axis in 0..2 {
            if moved[axis] > moved[axis + 2] {
                moved.swap(axis, axis + 2);
            }
        }
        Ok(moved)
    };
    boxes.iter().zip(keys).enumerate().map(move_box).collect()
}

fn check_keys(keys: &[u64], items: usize) -> Result<()> {
    if keys.len() == items {
        return Ok(());
    }
    Err(BatchError::Length { name: "keys", found: keys.len(), expected: items.to_string() }.into())
}
