//! COCO's compressed run lengths: six bits a byte, five of them payload, as `maskApi.c` writes them.
//!
//! From the fourth run on, a run is written as its difference to the one two before. Bit 5 of a byte says that more
//! follow; bit 4 of the last is the sign. Bytes are offset by 48, so the alphabet is 48..=111.

use crate::error::{Error, Result, StringError};
use crate::parallel::each_item;
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
        strings.push(to_string(&counts[offsets[mask] as usize..offsets[mask + 1] as usize]));
        Ok(())
    })?;
    Ok(strings)
}

fn to_string(runs: &[u32]) -> Vec<u8> {
    let mut text = Vec::with_capacity(runs.len() * 2);
    for (i, &run) in runs.iter().enumerate() {
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
    text
}

/// The runs the strings hold, as written: zero-length runs are kept.
///
/// # Errors
/// [`StringError`] or [`crate::RleError`] with the index of the first string that is wrong.
pub fn from_strings<S: AsRef<[u8]>>(strings: &[S], size: Size) -> Result<MaskBuf> {
    let mut out = MaskBuf::default();
    each_item(strings.len(), |mask| {
        read_string(strings[mask].as_ref(), &mut out.counts).map_err(|reason| Error::String { mask, reason })?;
        out.offsets.push(out.counts.len() as i64);
        Ok(())
    })?;
    Masks::new(&out.counts, &out.offsets, size)?;
    Ok(out)
}

fn read_string(text: &[u8], runs: &mut Vec<u32>) -> std::result::Result<(), StringError> {
    let first = runs.len();
    let mut bytes = text.iter().enumerate();
    while bytes.len() > 0 {
        let run = runs.len() - first;
        let (mut value, mut shift) = (0i64, 0);
        loop {
            let (position, &byte) = bytes.next().ok_or(StringError::Truncated)?;
            let bits = byte.wrapping_sub(ALPHABET_START);
            if bits >= 64 {
                return Err(StringError::Byte { byte, position });
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
                break;
            }
        }
        if run > 2 {
            value += i64::from(runs[first + run - 2]);
        }
        runs.push(u32::try_from(value).map_err(|_| StringError::Range { run })?);
    }
    Ok(())
}
