//! From a decoder's low-res logits to masks of the original size, without the full-size logits in between.
//!
//! The reference is two calls of torch's `interpolate(mode="bilinear", align_corners=False)` in float32: from the
//! low-res grid to the model's square, crop the padding, from there to the original size; then `> threshold`. Every
//! number that decides a pixel is computed in the same order and rounding as torch's (x before y, the two products of
//! a step as `fma(near, w, far * w')`), so the signs are torch's. What decides no pixel is not computed: the extremes
//! of the low-res logits tell most 64-pixel stretches apart, and only those they cannot are interpolated.

use crate::bilinear::{Tap, taps};
use crate::bits::{BitBuf, check_threshold, zeroed};
use crate::encode::{Blocks, push_bits};
use crate::error::{BatchError, Error, Result, SizeError};
use crate::memory::reserve;
use crate::parallel::Pace;
use crate::rle::{MaskBuf, Size};
use crate::simd::{Kernel, Lanes, run};

/// Pixels of a row that are decided together.
const STRETCH: usize = u64::BITS as usize;

/// Four interpolations round by less than a tenth of this, relative to the largest number that goes in.
const MARGIN: f32 = 4e-6;

/// The way from a low-res grid over the model's frame to the original size.
#[derive(Clone, Debug)]
pub struct Upscale {
    low_res: Size,
    original: Size,
    /// Low-res rows of each model row, and model rows of each row.
    rows: [Vec<Tap>; 2],
    columns: [Vec<Tap>; 2],
    stretches: Vec<Stretch>,
}

impl Upscale {
    /// From `low_res` to `model`, of which only the top left `resized` shows the image, to `original`.
    ///
    /// # Errors
    /// [`SizeError::Mismatch`] if `resized` does not fit into `model`; [`Error::Room`], [`Error::Memory`].
    pub fn new(low_res: Size, model: Size, resized: Size, original: Size) -> Result<Self> {
        if resized.height() > model.height() || resized.width() > model.width() {
            return Err(SizeError::Mismatch { name: "resized", found: resized, expected: model }.into());
        }
        let way = |low: usize, model: usize, resized: usize, original: usize| -> Result<_> {
            Ok([taps(low, model, resized)?, taps(resized, original, original)?])
        };
        let rows = way(low_res.height(), model.height(), resized.height(), original.height())?;
        let columns = way(low_res.width(), model.width(), resized.width(), original.width())?;
        let mut stretches = Vec::new();
        reserve(&mut stretches, columns[1].len().div_ceil(STRETCH), original)?;
        stretches.extend(columns[1].chunks(STRETCH).map(|taps| Stretch::new(taps, &columns[0])));
        Ok(Self { low_res, original, rows, columns, stretches })
    }

    fn map_count(&self, logits: &[f32]) -> Result<usize> {
        let stride = self.low_res.pixels();
        if !logits.len().is_multiple_of(stride) {
            let expected = format!("a multiple of {stride}");
            return Err(BatchError::Length { name: "logits", found: logits.len(), expected }.into());
        }
        match logits.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(Error::Logit { map: index / stride, value: logits[index] }),
            None => Ok(logits.len() / stride),
        }
    }

    /// Elementary steps of one mask, about.
    fn work(&self) -> usize {
        self.original.pixels() / 16 + self.low_res.pixels()
    }
}

/// The model columns and the low-res columns a stretch of a row depends on: first and one past the last.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    model: (usize, usize),
    low: (usize, usize),
}

impl Stretch {
    fn new(taps: &[Tap], to_model: &[Tap]) -> Self {
        let span = |taps: &[Tap]| match taps {
            [] => (0, 0),
            [first, .., last] => (first.near as usize, last.far as usize + 1),
            [only] => (only.near as usize, only.far as usize + 1),
        };
        let model = span(taps);
        Self { model, low: span(&to_model[model.0..model.1]) }
    }
}

/// Masks of the original size of low-res `logits`, one map after the other: what is above `threshold`. As run lengths.
///
/// # Errors
/// [`BatchError::Length`] if `logits` is not a whole number of maps, [`Error::Logit`] for one that is not finite,
/// [`Error::Option`] for a threshold that is not, [`Error::Memory`].
pub fn upscale_to_runs(logits: &[f32], way: &Upscale, threshold: f32) -> Result<MaskBuf> {
    check_threshold(threshold)?;
    let count = way.map_count(logits)?;
    let stride = way.low_res.pixels();
    MaskBuf::build(count, count * way.work(), |map, scratch: &mut (Vec<u64>, Scratch, Blocks), out| {
        let (words, scratch, blocks) = scratch;
        zeroed(words, 1, way.original)?;
        run(Map { logits: &logits[map * stride..(map + 1) * stride], way, threshold, scratch, words })?;
        push_bits(words, way.original, blocks, out)
    })
}

/// As [`upscale_to_runs`], packed.
///
/// # Errors
/// As [`upscale_to_runs`].
pub fn upscale_to_bits(logits: &[f32], way: &Upscale, threshold: f32) -> Result<BitBuf> {
    check_threshold(threshold)?;
    let count = way.map_count(logits)?;
    let stride = way.low_res.pixels();
    let mut bits = BitBuf::zeros(count, way.original)?;
    bits.fill(count * way.work(), |map, scratch: &mut Scratch, words| {
        run(Map { logits: &logits[map * stride..(map + 1) * stride], way, threshold, scratch, words })
    })?;
    Ok(bits)
}

/// One map, to packed rows.
struct Map<'a> {
    logits: &'a [f32],
    way: &'a Upscale,
    threshold: f32,
    scratch: &'a mut Scratch,
    words: &'a mut [u64],
}

#[derive(Default)]
struct Scratch {
    /// Smallest and largest logit of each low-res row in each stretch.
    extremes: Vec<(f32, f32)>,
    /// The two model rows a row lies between; an even one in the first.
    model_rows: [ModelRow; 2],
}

/// A model row at the original width, as far as it is known.
struct ModelRow {
    y: usize,
    verdicts: Vec<Verdict>,
    values: Vec<[f32; STRETCH]>,
    is_known: Vec<bool>,
    /// A piece of the row at the model's width.
    narrow: Vec<f32>,
}

impl Default for ModelRow {
    fn default() -> Self {
        Self { y: usize::MAX, verdicts: Vec::new(), values: Vec::new(), is_known: Vec::new(), narrow: Vec::new() }
    }
}

/// What a stretch is, seen from its low-res logits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Background,
    Foreground,
    Mixed,
}

impl Verdict {
    #[inline(always)]
    fn new(lowest: f32, highest: f32, threshold: f32) -> Self {
        let margin = lowest.abs().max(highest.abs()).max(threshold.abs()).mul_add(MARGIN, f32::MIN_POSITIVE);
        if lowest - margin > threshold {
            Self::Foreground
        } else if highest + margin < threshold {
            Self::Background
        } else {
            Self::Mixed
        }
    }
}

impl Kernel for Map<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Result<()> {
        let Self { logits, way, threshold, scratch: Scratch { extremes, model_rows }, words } = self;
        let width = way.low_res.width();
        extremes.clear();
        reserve(extremes, way.low_res.height() * way.stretches.len(), way.original)?;
        let mut pace = Pace::default();
        for row in logits.chunks_exact(width) {
            extremes.extend(way.stretches.iter().map(|stretch| {
                let span = &row[stretch.low.0..stretch.low.1];
                span.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)))
            }));
        }
        model_rows.iter_mut().for_each(|row| row.y = usize::MAX);
        for (tap, words) in way.rows[1].iter().zip(words.chunks_exact_mut(way.original.row_words())) {
            for model_y in [tap.near as usize, tap.far as usize] {
                let row = &mut model_rows[model_y % 2];
                if row.y != model_y {
                    row.start(model_y, way, extremes, threshold)?;
                }
            }
            pace.steps(words.len() * STRETCH)?;
            for (i, word) in words.iter_mut().enumerate() {
                let [near, far] = [tap.near, tap.far].map(|y| model_rows[y as usize % 2].verdicts[i]);
                *word = match (near, far) {
                    (Verdict::Background, Verdict::Background) => 0,
                    (Verdict::Foreground, Verdict::Foreground) => u64::MAX,
                    _ => {
                        for y in [tap.near, tap.far] {
                            model_rows[y as usize % 2].fill(i, way, logits);
                        }
                        let [near, far] = [tap.near, tap.far].map(|y| &model_rows[y as usize % 2].values[i]);
                        let mut values = [0.0; STRETCH];
                        for ((value, &near), &far) in values.iter_mut().zip(near).zip(far) {
                            *value = tap.mix(near, far);
                        }
                        lanes.above(&values, threshold)
                    }
                };
            }
            if let Some(last) = words.last_mut() {
                *last &= way.original.last_word();
            }
        }
        Ok(())
    }
}

impl ModelRow {
    /// Begin model row `y`: verdicts, but no values yet.
    #[inline(always)]
    fn start(&mut self, y: usize, way: &Upscale, extremes: &[(f32, f32)], threshold: f32) -> Result<()> {
        let count = way.stretches.len();
        let tap = way.rows[0][y];
        let [near, far] = [tap.near, tap.far].map(|row| &extremes[row as usize * count..][..count]);
        self.y = y;
        reserve(&mut self.verdicts, count, way.original)?;
        reserve(&mut self.is_known, count, way.original)?;
        reserve(&mut self.values, count, way.original)?;
        self.verdicts.clear();
        self.verdicts.extend(
            near.iter().zip(far).map(|(near, far)| Verdict::new(near.0.min(far.0), near.1.max(far.1), threshold)),
        );
        self.is_known.clear();
        self.is_known.resize(count, false);
        self.values.resize(count, [0.0; STRETCH]);
        Ok(())
    }

    /// Compute the values of a stretch unless they are known.
    #[inline(always)]
    fn fill(&mut self, stretch: usize, way: &Upscale, logits: &[f32]) {
        if std::mem::replace(&mut self.is_known[stretch], true) {
            return;
        }
        let Stretch { model: (start, end), .. } = way.stretches[stretch];
        let tap = way.rows[0][self.y];
        let width = way.low_res.width();
        let [near, far] = [tap.near, tap.far].map(|row| &logits[row as usize * width..][..width]);
        self.narrow.clear();
        self.narrow.extend(way.columns[0][start..end].iter().map(|column| {
            let [near, far] = [near, far].map(|row| column.mix(row[column.near as usize], row[column.far as usize]));
            tap.mix(near, far)
        }));
        let columns = way.columns[1][stretch * STRETCH..].iter();
        for (value, column) in self.values[stretch].iter_mut().zip(columns) {
            let [near, far] = [column.near, column.far].map(|x| self.narrow[x as usize - start]);
            *value = column.mix(near, far);
        }
    }
}
