//! Crops and other sizes of masks, column by column from the runs.

use crate::error::{Error, Result};
use crate::memory::{grow, reserve};
use crate::parallel::{Pace, STEP};
use crate::rle::{MaskBuf, Masks, Size, each_segment};

/// The part of each mask inside a window: `size` pixels from row `top` and column `left` on.
///
/// O(runs + columns covered).
///
/// # Errors
/// [`Error::Window`] if the window reaches beyond the masks.
pub fn crop(masks: Masks<'_>, top: i64, left: i64, size: Size) -> Result<MaskBuf> {
    let inside = |start: i64, length: usize, limit: usize| {
        usize::try_from(start).ok().filter(|start| start.checked_add(length).is_some_and(|end| end <= limit))
    };
    let of = masks.size();
    let (Some(first_row), Some(first_column)) =
        (inside(top, size.height(), of.height()), inside(left, size.width(), of.width()))
    else {
        return Err(Error::Window { top, left, size, of });
    };
    let rows = first_row..first_row + size.height();
    let columns = first_column..first_column + size.width();
    let work = masks.run_count() * STEP;
    MaskBuf::build(masks.len(), work, |mask, found: &mut Vec<(usize, usize)>, out| {
        found.clear();
        each_segment(masks.runs(mask), of.height(), |x, top, bottom| {
            let (top, bottom) = (top.max(rows.start), bottom.min(rows.end));
            if columns.contains(&x) && top < bottom {
                let base = (x - columns.start) * size.height();
                grow(found, 1, size)?;
                found.push((base + top - rows.start, base + bottom - rows.start));
            }
            Ok(())
        })?;
        out.push(size.pixels(), found.iter().copied())
    })
}

/// Each mask at another size: every new pixel takes the pixel its centre lies in.
///
/// Source row of row `r` is `floor((r + 1/2) height / new height)`, in exact arithmetic, and so for columns:
/// `torch`'s `nearest-exact`. O(runs + new columns + their runs).
///
/// # Errors
/// [`Error::Memory`]; nothing else for masks that passed [`Masks::new`].
pub fn resize(masks: Masks<'_>, size: Size) -> Result<MaskBuf> {
    let from = masks.size();
    let first_row = firsts(from.height(), size.height(), from)?;
    let work = masks.run_count() * STEP + masks.len() * size.width() * STEP;
    MaskBuf::build(masks.len(), work, |mask, scratch: &mut (Vec<(usize, usize)>, Vec<usize>), out| {
        let (segments, starts) = scratch;
        segments.clear();
        starts.clear();
        reserve(starts, from.width() + 1, from)?;
        each_segment(masks.runs(mask), from.height(), |x, top, bottom| {
            starts.resize(x + 1, segments.len());
            grow(segments, 1, from)?;
            segments.push((first_row[top], first_row[bottom]));
            Ok(())
        })?;
        starts.resize(from.width() + 1, segments.len());
        let (mut pace, mut going_on) = (Pace::default(), Ok(()));
        let columns = (0..size.width()).take_while(|_| {
            going_on = pace.steps(STEP);
            going_on.is_ok()
        });
        let stretches = columns.flat_map(|x| {
            let source = source(x, from.width(), size.width());
            let of_column = &segments[starts[source]..starts[source + 1]];
            of_column.iter().map(move |&(top, bottom)| (x * size.height() + top, x * size.height() + bottom))
        });
        out.push(size.pixels(), stretches.filter(|(start, end)| start < end))?;
        going_on
    })
}

/// The source index of index `i` of `new`.
fn source(i: usize, old: usize, new: usize) -> usize {
    (((2 * i as u128 + 1) * old as u128) / (2 * new as u128)) as usize
}

/// For each index of `0..=old`: the first new index whose source is not before it.
fn firsts(old: usize, new: usize, size: Size) -> Result<Vec<usize>> {
    let (mut firsts, mut pace) = (Vec::new(), Pace::default());
    reserve(&mut firsts, old + 1, size)?;
    for i in 0..new {
        pace.steps(STEP)?;
        let source = source(i, old, new);
        while firsts.len() <= source {
            firsts.push(i);
        }
    }
    firsts.resize(old + 1, new);
    Ok(firsts)
}
