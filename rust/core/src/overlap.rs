//! Overlap counts of predictions and targets: integers, from which every overlap score follows.
//!
//! One pass over both masks. Run lengths are swept side by side; bytes and logits are read 64 pixels at a time and
//! counted without being stored; everything else goes through packed rows. Counts are integers, so no result depends on
//! threads or on how the work is cut.

use crate::batch::{Batch, check_pair};
use crate::bits::WORD;
use crate::error::{Error, Result};
use crate::parallel::fill_items;
use crate::rle::{Masks, Sweep};
use crate::simd::{Kernel, Lanes, run};

/// Pixels of bytes or logits counted at a time: few enough to share one large mask out over threads.
const PIECE: usize = 1 << 18;

/// `[tp, fp, fn, tn]` pixels of each prediction against its target, without the pixels of `ignore`.
///
/// `ignore` has as many masks, or one for all.
///
/// # Errors
/// [`crate::SizeError::Mismatch`] or [`crate::BatchError::Length`] if sizes or numbers of masks do not fit;
/// [`Error::NotANumber`] for logits that are NaN; [`Error::Memory`].
pub fn overlap(prediction: Batch<'_>, target: Batch<'_>, ignore: Option<Batch<'_>>) -> Result<Vec<[i64; 4]>> {
    let count = prediction.count()?;
    check_pair(prediction, target, "target", &[])?;
    if let Some(ignore) = ignore {
        check_pair(prediction, ignore, "ignore", &[1])?;
    }
    match (prediction, target, ignore) {
        (Batch::Runs(a), Batch::Runs(b), None) => sweep(a, b, None),
        (Batch::Runs(a), Batch::Runs(b), Some(Batch::Runs(ignore))) => sweep(a, b, Some(ignore)),
        (Batch::Bytes(..) | Batch::Logits(..), Batch::Bytes(..) | Batch::Logits(..), None | Some(Batch::Bytes(..))) => {
            stream(prediction, target, ignore, count)
        }
        _ => through_words(prediction, target, ignore, count),
    }
}

/// The mask of a batch that belongs to item `item`: its own, or the only one.
fn own(count: usize, item: usize) -> usize {
    if count == 1 { 0 } else { item }
}

fn sweep(a: Masks<'_>, b: Masks<'_>, ignore: Option<Masks<'_>>) -> Result<Vec<[i64; 4]>> {
    let nothing = [a.size().pixels() as u32];
    let mut out = vec![[0; 4]; a.len()];
    let work = 2 * (a.run_count() + b.run_count() + ignore.map_or(0, |ignore| ignore.run_count()));
    fill_items(&mut out, 1, work, |mask, (): &mut (), out| {
        let ignored = ignore.map_or(&nothing[..], |ignore| ignore.runs(own(ignore.len(), mask)));
        for (length, values) in Sweep::new([a.runs(mask), b.runs(mask), ignored]) {
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

/// Pixels counted: in both, in either, and in none because they are ignored.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    both: u64,
    first: u64,
    second: u64,
    ignored: u64,
}

impl Counts {
    #[inline(always)]
    pub(crate) fn add(&mut self, first: u64, second: u64, ignored: u64) {
        self.both += u64::from((first & second & !ignored).count_ones());
        self.first += u64::from((first & !ignored).count_ones());
        self.second += u64::from((second & !ignored).count_ones());
        self.ignored += u64::from(ignored.count_ones());
    }

    /// Pixels in both that were added one by one before.
    #[inline(always)]
    pub(crate) fn add_shared(&mut self, both: u64) {
        self.both += u64::from(both.count_ones());
    }

    /// `[tp, fp, fn, tn]` of so many pixels.
    pub(crate) fn cells(self, pixels: usize) -> [i64; 4] {
        let [both, first, second, ignored] = [self.both, self.first, self.second, self.ignored].map(|n| n as i64);
        [both, first - both, second - both, pixels as i64 - ignored - first - second + both]
    }
}

fn through_words(a: Batch<'_>, b: Batch<'_>, ignore: Option<Batch<'_>>, count: usize) -> Result<Vec<[i64; 4]>> {
    let pixels = a.size().pixels();
    let ignored = ignore.map_or(Ok(0), |ignore| ignore.count())?;
    let mut out = vec![[0; 4]; count];
    fill_items(&mut out, 1, count * pixels / 16, |mask, scratch: &mut [Vec<u64>; 3], out| {
        let [first, second, third] = scratch;
        let first = a.words(mask, first)?;
        let second = b.words(mask, second)?;
        let third = match ignore {
            Some(ignore) => ignore.words(own(ignored, mask), third)?,
            None => &[],
        };
        out[0] = run(Words { first, second, ignored: third }).cells(pixels);
        Ok(())
    })?;
    Ok(out)
}

/// Packed rows against packed rows; `ignored` may be empty.
struct Words<'a> {
    first: &'a [u64],
    second: &'a [u64],
    ignored: &'a [u64],
}

impl Kernel for Words<'_> {
    type Output = Counts;

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) -> Counts {
        let mut counts = Counts::default();
        let pairs = self.first.iter().zip(self.second);
        if self.ignored.is_empty() {
            pairs.for_each(|(&first, &second)| counts.add(first, second, 0));
        } else {
            pairs.zip(self.ignored).for_each(|((&first, &second), &ignored)| counts.add(first, second, ignored));
        }
        counts
    }
}

fn stream(a: Batch<'_>, b: Batch<'_>, ignore: Option<Batch<'_>>, count: usize) -> Result<Vec<[i64; 4]>> {
    let pixels = a.size().pixels();
    let ignored = ignore.map_or(Ok(0), |ignore| ignore.count())?;
    let pieces = pixels.div_ceil(PIECE);
    let mut parts = vec![[0; 4]; count * pieces];
    fill_items(&mut parts, 1, count * pixels / 8, |item, (): &mut (), out| {
        let (mask, start) = (item / pieces, item % pieces * PIECE);
        let length = PIECE.min(pixels - start);
        let ignored = match ignore {
            Some(Batch::Bytes(bytes, _)) => &bytes[own(ignored, mask) * pixels + start..][..length],
            _ => &[],
        };
        let at = mask * pixels + start;
        let counts = run(Strips { first: Strip::of(a, at, length), second: Strip::of(b, at, length), ignored });
        out[0] = counts.ok_or(Error::NotANumber { mask })?.cells(length);
        Ok(())
    })?;
    let sum = |parts: &[[i64; 4]]| std::array::from_fn(|cell| parts.iter().map(|part| part[cell]).sum());
    Ok(parts.chunks_exact(pieces).map(sum).collect())
}

/// Consecutive pixels of one mask.
#[derive(Clone, Copy)]
enum Strip<'a> {
    Bytes(&'a [u8]),
    Logits(&'a [f32], f32),
}

impl<'a> Strip<'a> {
    fn of(batch: Batch<'a>, start: usize, length: usize) -> Self {
        match batch {
            Batch::Bytes(bytes, _) => Self::Bytes(&bytes[start..start + length]),
            Batch::Logits(logits, threshold, _) => Self::Logits(&logits[start..start + length], threshold),
            // `overlap` sends no others here.
            Batch::Runs(_) | Batch::Bits(_) => Self::Bytes(&[]),
        }
    }
}

/// Pixels against pixels; `ignored` may be empty. None if a logit is NaN.
struct Strips<'a> {
    first: Strip<'a>,
    second: Strip<'a>,
    ignored: &'a [u8],
}

impl Kernel for Strips<'_> {
    type Output = Option<Counts>;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Option<Counts> {
        let ignored = self.ignored;
        match (self.first, self.second) {
            (Strip::Bytes(a), Strip::Bytes(b)) => count(lanes, Bytes(a), Bytes(b), ignored),
            (Strip::Bytes(a), Strip::Logits(b, t)) => count(lanes, Bytes(a), Logits(b, t), ignored),
            (Strip::Logits(a, t), Strip::Bytes(b)) => count(lanes, Logits(a, t), Bytes(b), ignored),
            (Strip::Logits(a, t), Strip::Logits(b, u)) => count(lanes, Logits(a, t), Logits(b, u), ignored),
        }
    }
}

/// Pixels read a word at a time.
trait Source: Copy {
    /// Pixels there are.
    fn length(self) -> usize;

    /// The foreground among pixels `at` to `at + WORD`, and whether one of them is NaN.
    fn word<L: Lanes>(self, lanes: L, at: usize) -> (u64, bool);
}

#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl Source for Bytes<'_> {
    #[inline(always)]
    fn length(self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    fn word<L: Lanes>(self, lanes: L, at: usize) -> (u64, bool) {
        let rest = &self.0[at..];
        let word = rest.first_chunk::<WORD>().map(|bytes| lanes.nonzero(bytes));
        (word.unwrap_or_else(|| lanes.nonzero(&padded(rest, 0))), false)
    }
}

#[derive(Clone, Copy)]
struct Logits<'a>(&'a [f32], f32);

impl Source for Logits<'_> {
    #[inline(always)]
    fn length(self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    fn word<L: Lanes>(self, lanes: L, at: usize) -> (u64, bool) {
        let rest = &self.0[at..];
        match rest.first_chunk::<WORD>() {
            Some(values) => (lanes.above(values, self.1), lanes.any_nan(values)),
            None => {
                let values = padded(rest, f32::NEG_INFINITY);
                (lanes.above(&values, self.1), lanes.any_nan(&values))
            }
        }
    }
}

/// What is left at the end, made a full word.
#[inline(always)]
fn padded<T: Copy>(rest: &[T], with: T) -> [T; WORD] {
    let mut full = [with; WORD];
    full[..rest.len()].copy_from_slice(rest);
    full
}

#[inline(always)]
fn count<L: Lanes>(lanes: L, first: impl Source, second: impl Source, ignored: &[u8]) -> Option<Counts> {
    if ignored.is_empty() {
        return count_outside(lanes, first, second, |_| 0);
    }
    count_outside(lanes, first, second, |at| Bytes(ignored).word(lanes, at).0)
}

/// Count the pixels that `ignored`, 64 of them from a place on, does not hold.
#[inline(always)]
fn count_outside<L: Lanes>(
    lanes: L,
    first: impl Source,
    second: impl Source,
    ignored: impl Fn(usize) -> u64,
) -> Option<Counts> {
    let mut counts = Counts::default();
    let mut nan = false;
    for at in (0..first.length()).step_by(WORD) {
        let ((first, bad), (second, worse)) = (first.word(lanes, at), second.word(lanes, at));
        nan |= bad | worse;
        counts.add(first, second, ignored(at));
    }
    (!nan).then_some(counts)
}
