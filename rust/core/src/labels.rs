//! Between masks and label maps: one whole number a pixel.

use std::collections::HashMap;

use crate::bits::{WORD, check_output, zeroed};
use crate::encode::draw;
use crate::error::{BatchError, Result};
use crate::memory::{grow, reserve};
use crate::parallel::{Pace, STEP, each_item};
use crate::rle::{MaskBuf, Masks, Size};

/// One mask for every value of `labels` but `background`, and the values, rising.
///
/// Walks rows and keeps the places where a value differs from the one above it: O(pixels + changes).
///
/// # Errors
/// [`BatchError::Length`] if `labels` are not one a pixel; [`crate::Error::Memory`].
pub fn from_labels(labels: &[i32], size: Size, background: i32) -> Result<(MaskBuf, Vec<i32>)> {
    let (height, width) = (size.height(), size.width());
    if labels.len() != size.pixels() {
        let expected = size.pixels().to_string();
        return Err(BatchError::Length { name: "labels", found: labels.len(), expected }.into());
    }
    let changes = changes(labels, size, background)?;
    let mut ends = Vec::new();
    reserve(&mut ends, width + 1, size)?;
    ends.resize(width + 1, 0usize);
    changes.iter().for_each(|change| ends[change.x as usize + 1] += 1);
    (0..width).for_each(|x| ends[x + 1] += ends[x]);
    let mut sorted = Vec::new();
    reserve(&mut sorted, changes.len(), size)?;
    sorted.resize(changes.len(), Change { x: 0, y: 0, label: 0 });
    let mut pace = Pace::default();
    for change in changes {
        pace.steps(STEP)?;
        let place = &mut ends[change.x as usize];
        sorted[*place] = change;
        *place += 1;
    }
    let mut found: HashMap<i32, Vec<(usize, usize)>> = HashMap::new();
    for (i, change) in sorted.iter().enumerate() {
        pace.steps(STEP)?;
        let next = sorted.get(i + 1).filter(|next| next.x == change.x);
        let end = next.map_or(height, |next| next.y as usize);
        if change.label != background {
            let top = change.x as usize * height;
            let stretches = found.entry(change.label).or_default();
            grow(stretches, 1, size)?;
            stretches.push((top + change.y as usize, top + end));
        }
    }
    let mut values: Vec<i32> = found.keys().copied().collect();
    values.sort_unstable();
    let mut out = MaskBuf::default();
    for value in &values {
        out.push(size.pixels(), found.remove(value).into_iter().flatten())?;
    }
    Ok((out, values))
}

/// The label of a pixel that differs from the one above it.
#[derive(Clone, Copy)]
struct Change {
    x: u32,
    y: u32,
    label: i32,
}

fn changes(labels: &[i32], size: Size, background: i32) -> Result<Vec<Change>> {
    const STRETCH: usize = 16;
    let (width, mut top) = (size.width(), Vec::new());
    reserve(&mut top, width, size)?;
    top.resize(width, background);
    let mut above = &top[..];
    let (mut changes, mut pace) = (Vec::new(), Pace::default());
    for (y, row) in labels.chunks_exact(width).enumerate() {
        pace.steps(width)?;
        for (i, (row, above)) in row.chunks(STRETCH).zip(above.chunks(STRETCH)).enumerate() {
            if row == above {
                continue;
            }
            grow(&mut changes, STRETCH, size)?;
            for (j, (&label, _)) in row.iter().zip(above).enumerate().filter(|(_, (label, above))| label != above) {
                changes.push(Change { x: (i * STRETCH + j) as u32, y: y as u32, label });
            }
        }
        above = row;
    }
    Ok(changes)
}

/// Write `values[i]` wherever mask `i` is, later masks over earlier ones, and `background` where none is.
///
/// # Errors
/// [`BatchError::Length`] if there is not one value a mask, [`BatchError::Output`] if `out` is not one a pixel;
/// [`crate::Error::Memory`].
pub fn to_labels(masks: Masks<'_>, values: &[i32], background: i32, out: &mut [i32]) -> Result<()> {
    let size = masks.size();
    if values.len() != masks.len() {
        let expected = masks.len().to_string();
        return Err(BatchError::Length { name: "values", found: values.len(), expected }.into());
    }
    check_output(out, size.pixels())?;
    out.fill(background);
    let (mut words, mut pace) = (Vec::new(), Pace::default());
    each_item(masks.len(), |mask| {
        zeroed(&mut words, 1, size)?;
        draw(masks.runs(mask), size, &mut words)?;
        for (row, words) in out.chunks_exact_mut(size.width()).zip(words.chunks_exact(size.row_words())) {
            pace.steps(row.len())?;
            for (pixels, &word) in row.chunks_mut(WORD).zip(words) {
                paint(pixels, word, values[mask]);
            }
        }
        Ok(())
    })
}

fn paint(pixels: &mut [i32], mut word: u64, value: i32) {
    if word.count_ones() as usize == pixels.len() {
        return pixels.fill(value);
    }
    while word != 0 {
        pixels[word.trailing_zeros() as usize] = value;
        word &= word - 1;
    }
}
