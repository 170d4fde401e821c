//! Union, intersection and difference of masks, as operations on sorted intervals.

use crate::error::{BatchError, Result, SizeError};
use crate::parallel::{Pace, STEP, each_item};
use crate::rle::{MaskBuf, Masks, Sweep, Toggles};

/// The same masks in canonical form: no zero-length run except a leading one.
///
/// # Errors
/// None for masks that passed [`Masks::new`].
pub fn canonical(masks: Masks<'_>) -> Result<MaskBuf> {
    MaskBuf::build(masks.len(), masks.run_count(), |mask, (): &mut (), out| {
        out.push(masks.size().pixels(), masks.intervals(mask))
    })
}

/// One mask: what at least one of `masks` holds. No masks give an empty one.
///
/// # Errors
/// None for masks that passed [`Masks::new`].
pub fn union(masks: Masks<'_>) -> Result<MaskBuf> {
    let mut parts = Vec::with_capacity(masks.len());
    each_item(masks.len(), |mask| {
        parts.push(masks.intervals(mask).collect::<Vec<_>>());
        Ok(())
    })?;
    while parts.len() > 1 {
        let pairs = parts.chunks(2).map(|pair| match pair {
            [a, b] => unite(a, b),
            alone => Ok(alone.concat()),
        });
        parts = pairs.collect::<Result<_>>()?;
    }
    let mut out = MaskBuf::default();
    out.push(masks.size().pixels(), parts.pop().unwrap_or_default())?;
    Ok(out)
}

/// What lies in one of two lists of intervals, sorted by start.
fn unite(a: &[(usize, usize)], b: &[(usize, usize)]) -> Result<Vec<(usize, usize)>> {
    let mut united: Vec<(usize, usize)> = Vec::with_capacity(a.len() + b.len());
    let (mut i, mut j, mut pace) = (0, 0, Pace::default());
    while i < a.len() || j < b.len() {
        pace.steps(1)?;
        let is_first = j == b.len() || (i < a.len() && a[i].0 <= b[j].0);
        let (start, end) = if is_first { a[i] } else { b[j] };
        (i, j) = (i + usize::from(is_first), j + usize::from(!is_first));
        match united.last_mut() {
            Some((_, last)) if start <= *last => *last = end.max(*last),
            _ => united.push((start, end)),
        }
    }
    Ok(united)
}

/// Join intervals, sorted by start, that overlap or touch.
pub(crate) fn merged(sorted: impl Iterator<Item = (usize, usize)>) -> impl Iterator<Item = (usize, usize)> {
    let mut sorted = sorted.peekable();
    std::iter::from_fn(move || {
        let (start, mut end) = sorted.next()?;
        while let Some((_, next)) = sorted.next_if(|&(next, _)| next <= end) {
            end = end.max(next);
        }
        Some((start, end))
    })
}

/// What `a[i]` and `b[i]` both hold; `b` has as many masks as `a`, or one for all.
///
/// # Errors
/// [`SizeError::Mismatch`] or [`BatchError::Length`] if sizes or numbers of masks do not fit.
pub fn intersect(a: Masks<'_>, b: Masks<'_>) -> Result<MaskBuf> {
    combine(a, b, |a, b| a && b)
}

/// What `a[i]` holds and `b[i]` does not; `b` has as many masks as `a`, or one for all.
///
/// # Errors
/// [`SizeError::Mismatch`] or [`BatchError::Length`] if sizes or numbers of masks do not fit.
pub fn subtract(a: Masks<'_>, b: Masks<'_>) -> Result<MaskBuf> {
    combine(a, b, |a, b| a && !b)
}

/// What either `a[i]` or `b[i]` holds, but not both; `b` has as many masks as `a`, or one for all.
///
/// # Errors
/// [`SizeError::Mismatch`] or [`BatchError::Length`] if sizes or numbers of masks do not fit.
pub fn difference(a: Masks<'_>, b: Masks<'_>) -> Result<MaskBuf> {
    combine(a, b, |a, b| a != b)
}

fn combine(a: Masks<'_>, b: Masks<'_>, keep: fn(bool, bool) -> bool) -> Result<MaskBuf> {
    check_partner(a, b, "b", &[a.len(), 1])?;
    let work = a.run_count() + b.run_count() * if b.len() == 1 { a.len() } else { 1 };
    MaskBuf::build(a.len(), work, |mask, (): &mut (), out| {
        let (mut out, mut pace) = (Toggles::new(out), Pace::default());
        let (mut position, mut inside) = (0, false);
        for (length, [in_a, in_b]) in Sweep::new([a.runs(mask), b.runs(partner(b, mask))]) {
            pace.steps(STEP)?;
            if keep(in_a, in_b) != inside {
                out.reserve(1)?;
                out.push(position);
                inside = !inside;
            }
            position += length;
        }
        out.reserve(1)?;
        if inside {
            out.push(position);
        }
        out.finish(a.size().pixels());
        Ok(())
    })
}

/// The mask of `b` that belongs to mask `mask` of a batch it was checked against.
pub(crate) fn partner(b: Masks<'_>, mask: usize) -> usize {
    if b.len() == 1 { 0 } else { mask }
}

/// Check that `b` has the size of `a`.
pub(crate) fn check_size(a: Masks<'_>, b: Masks<'_>, name: &'static str) -> Result<()> {
    if a.size() == b.size() {
        return Ok(());
    }
    Err(SizeError::Mismatch { name, found: b.size(), expected: a.size() }.into())
}

/// Check that `b` has the size of `a` and one of the `allowed` numbers of masks.
pub(crate) fn check_partner(a: Masks<'_>, b: Masks<'_>, name: &'static str, allowed: &[usize]) -> Result<()> {
    check_size(a, b, name)?;
    if allowed.contains(&b.len()) {
        return Ok(());
    }
    let mut allowed = allowed.to_vec();
    allowed.dedup();
    let expected = allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    Err(BatchError::Length { name, found: b.len(), expected }.into())
}
