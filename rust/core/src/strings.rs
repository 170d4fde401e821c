//! COCO's compressed run lengths: six bits a byte, five of them payload, as `maskApi.c` writes them.
//!
//! From the fourth run on, a run is written as its difference to the one two before. Bit 5 of a byte says that more
//! follow; bit 4 of the last is the sign. Bytes are offset by 48, so the alphabet is 48..=111.

use crate::error::{Error, Result, StringError};
use crate::memory::reserve_runs;
use crate::parallel::{Pace, STEP, each_item};
use crate::rle::{MaskBuf, Masks, Size, check_offsets};

const ALPHABET_START: u8 = 48;
/// A difference of two 32-bit runs has 33 bits and a sign: seven bytes of five bits.
const MAX_BYTES: u32 = 7;

/// The compressed string of each mask.
///
/// # Errors
/// [`crate::BatchError::Offsets`] if `offsets` do not index `counts`.
pub fn to_strings(counts: &[u32], offsets: &[i64]) -> Result<Vec<Vec<u8>>> {
    check_offsets(offsets, counts.len(), "offsets", "counts")?;
    let mut strings = Vec::with_capacity(offsets.len() - 1);
    each_item(offsets.len() - 1, |mask| {
        strings.push(to_string(&counts[offsets[mask] as usize..offsets[mask + 1] as usize])?);
        Ok(())
    })?;
    Ok(strings)
}

fn to_string(runs: &[u32]) -> Result<Vec<u8>> {
    let (mut text, mut pace) = (Vec::new(), Pace::default());
    let room = |text: &mut Vec<u8>, more: usize| {
        text.try_reserve(more).map_err(|_| Error::Room { count: text.len() + more, of: "bytes of compressed runs" })
    };
    room(&mut text, runs.len() * 2)?;
    for (i, &run) in runs.iter().enumerate() {
        pace.steps(STEP)?;
        room(&mut text, MAX_BYTES as usize)?;
        let mut rest = i64::from(run) - if i > 2 { i64::from(runs[i - 2]) } else { 0 };
        loop {
            let payload = (rest & 0x1f) as u8;
            rest >>= 5;
            let more = rest != if payload & 0x10 != 0 { -1 } else { 0 };
            text.push(ALPHABET_START + payload + if more { 0x20 } else { 0 });
            if !more {
                break;
            }
        }
    }
    Ok(text)
}

/// The runs the strings hold, as written: zero-length runs are kept.
///
/// # Errors
/// [`StringError`] or [`crate::RleError`] with the index of the first string that is wrong.
pub fn from_strings<S: AsRef<[u8]>>(strings: &[S], size: Size) -> Result<MaskBuf> {
    let mut out = MaskBuf::default();
    each_item(strings.len(), |mask| {
        let (mut text, first, mut pace) = (strings[mask].as_ref(), out.counts.len(), Pace::default());
        let length = text.len();
        while !text.is_empty() {
            pace.steps(STEP)?;
            reserve_runs(&mut out.counts, 1)?;
            let (runs, position) = (&out.counts[first..], length - text.len());
            let run = read_run(&mut text, position, runs).map_err(|reason| Error::String { mask, reason })?;
            out.counts.push(run);
        }
        out.offsets.push(out.counts.len() as i64);
        Ok(())
    })?;
    Masks::new(&out.counts, &out.offsets, size)?;
    Ok(out)
}

/// Take the next run, which begins at `position`, off a string.
#[inline(always)]
fn read_run(text: &mut &[u8], position: usize, before: &[u32]) -> std::result::Result<u32, StringError> {
    let run = before.len();
    let (mut value, mut shift) = (0i64, 0);
    for (i, &byte) in text.iter().enumerate() {
        let bits = byte.wrapping_sub(ALPHABET_START);
        if bits >= 64 {
            return Err(StringError::Byte { byte, position: position + i });
        }
        if shift == 5 * MAX_BYTES {
            return Err(StringError::Range { run });
        }
        value |= i64::from(bits & 0x1f) << shift;
        shift += 5;
        if bits & 0x20 == 0 {
            if bits & 0x10 != 0 {
                value |= -1 << shift;
            }
            if run > 2 {
                value += i64::from(before[run - 2]);
            }
            *text = &text[i + 1..];
            return u32::try_from(value).map_err(|_| StringError::Range { run });
        }
    }
    Err(StringError::Truncated)
}
