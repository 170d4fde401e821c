//! Room for what grows with the pixels of a mask: where there is none, an error and not the end of the process.

use crate::error::{Error, Result};
use crate::rle::Size;

/// Make room for `length` values in all, for one mask.
pub(crate) fn reserve<T>(values: &mut Vec<T>, length: usize, size: Size) -> Result<()> {
    values.try_reserve(length.saturating_sub(values.len())).map_err(|_| Error::Memory { count: 1, size })
}

/// Make room for `more` values, for one mask.
#[inline(always)]
pub(crate) fn grow<T>(values: &mut Vec<T>, more: usize, size: Size) -> Result<()> {
    values.try_reserve(more).map_err(|_| Error::Memory { count: 1, size })
}

/// Make room for `more` runs.
#[inline(always)]
pub(crate) fn reserve_runs(counts: &mut Vec<u32>, more: usize) -> Result<()> {
    counts.try_reserve(more).map_err(|_| Error::Room { count: counts.len() + more, of: "runs" })
}

/// `count` times `k` points, all of them `point`.
pub(crate) fn points<T: Clone>(count: usize, k: usize, point: T) -> Result<Vec<T>> {
    let mut points = Vec::new();
    let most = i32::MAX as usize;
    let Some(length) = count.checked_mul(k).filter(|&length| length <= most) else {
        return Err(Error::Option { name: "k", value: k as f64, expected: "fewer than 2^31 points in all" });
    };
    points.try_reserve_exact(length).map_err(|_| Error::Room { count: length, of: "points" })?;
    points.resize(length, point);
    Ok(points)
}
