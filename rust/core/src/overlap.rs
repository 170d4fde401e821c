//! Overlap counts of predictions and targets: integers, from which every overlap score follows.

use crate::error::Result;
use crate::parallel::fill_items;
use crate::rle::{Masks, Sweep};
use crate::sets::{check_partner, partner};

/// `[tp, fp, fn, tn]` pixels of each prediction against its target, without the pixels of `ignore`.
///
/// `ignore` has as many masks, one for all, or none.
///
/// # Errors
/// [`crate::SizeError::Mismatch`] or [`crate::BatchError::Length`] if sizes or numbers of masks do not fit.
pub fn overlap(prediction: Masks<'_>, target: Masks<'_>, ignore: Masks<'_>) -> Result<Vec<[i64; 4]>> {
    let count = prediction.len();
    check_partner(prediction, target, "target", &[count])?;
    check_partner(prediction, ignore, "ignore", &[count, 1, 0])?;
    let nothing = [prediction.size().pixels() as u32];
    let mut out = vec![[0; 4]; count];
    let work = prediction.run_count() + target.run_count() + ignore.run_count();
    fill_items(&mut out, 1, work, |mask, (): &mut (), out| {
        let ignored = if ignore.is_empty() { &nothing[..] } else { ignore.runs(partner(ignore, mask)) };
        for (length, values) in Sweep::new([prediction.runs(mask), target.runs(mask), ignored]) {
            let cell = match values {
                [_, _, true] => continue,
                [true, true, _] => 0,
                [true, false, _] => 1,
                [false, true, _] => 2,
                [false, false, _] => 3,
            };
            out[0][cell] += i64::from(length);
        }
        Ok(())
    })?;
    Ok(out)
}
