//! Metrics: overlap counts, pairwise IoU, boundaries, surface distances.
//!
//! A batch comes in any form: a tuple (counts, offsets), or an array (N, H, W) of bool or uint8, float32 logits, or
//! (N, H, ceil(W / 64)) of uint64.

use numpy::ndarray::{Ix1, Ix2, Ix3};
use numpy::{Element, IntoPyArray, PyArray2, PyArrayDescrMethods, PyArrayMethods, PyReadonlyArray};
use numpy::{PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use samfast_core as core;

use crate::convert::{Rle, RleArrays, array, array_mut, call, fill, pixels, size, to_arrays, to_python};

/// A batch, borrowed from Python.
enum Form<'py> {
    Runs(Rle<'py>),
    Words(PyReadonlyArray<'py, u64, Ix3>),
    Bytes(PyReadonlyArray<'py, u8, Ix3>),
    Logits(PyReadonlyArray<'py, f32, Ix3>),
}

impl<'py> Form<'py> {
    fn new(object: &Bound<'py, PyAny>, name: &str) -> PyResult<Self> {
        if let Ok(runs) = object.cast::<PyTuple>() {
            let (counts, offsets) = runs.extract::<(Bound<'py, PyAny>, Bound<'py, PyAny>)>()?;
            return Ok(Self::Runs(Rle::new(&counts, &offsets)?));
        }
        if holds::<u64>(object) {
            return Ok(Self::Words(array(object, name)?));
        }
        if holds::<f32>(object) {
            return Ok(Self::Logits(array(object, name)?));
        }
        Ok(Self::Bytes(pixels(object)?))
    }

    fn batch(&self, name: &str, size: core::Size, threshold: f32) -> PyResult<core::Batch<'_>> {
        let (height, width) = (size.height(), size.width());
        let check = |found: &[usize], across: usize| {
            if found[1..] == [height, across] {
                return Ok(());
            }
            let reason = format!("{name} has shape {found:?}, expected (N, {height}, {across})");
            Err(PyValueError::new_err(reason))
        };
        Ok(match self {
            Self::Runs(runs) => core::Batch::Runs(runs.masks(height as i64, width as i64)?),
            Self::Words(words) => {
                check(words.shape(), size.row_words())?;
                core::Batch::Bits(core::Bits::new(words.as_slice()?, size).map_err(to_python)?)
            }
            Self::Bytes(bytes) => {
                check(bytes.shape(), width)?;
                core::Batch::Bytes(bytes.as_slice()?, size)
            }
            Self::Logits(logits) => {
                check(logits.shape(), width)?;
                core::Batch::Logits(logits.as_slice()?, threshold, size)
            }
        })
    }
}

fn holds<T: Element>(object: &Bound<'_, PyAny>) -> bool {
    object.cast::<PyUntypedArray>().is_ok_and(|array| array.dtype().is_equiv_to(&numpy::dtype::<T>(object.py())))
}

/// The (N, 4) counts of a kernel, one row a prediction, see [`fill`].
fn fill_counts<'py>(
    py: Python<'py>,
    prediction: core::Batch<'_>,
    out: Option<&Bound<'py, PyAny>>,
    kernel: impl FnOnce() -> Result<Vec<[i64; 4]>, core::Error> + Send,
) -> PyResult<Bound<'py, PyAny>> {
    let shape = Ix2(prediction.count().map_err(to_python)?, 4);
    let counts = fill(py, shape, out, false, |counts| {
        counts.copy_from_slice(kernel()?.as_flattened());
        Ok(())
    })?;
    Ok(counts.into_any())
}

/// (N, 4) int64 [tp, fp, fn, tn] pixels of each prediction against its target outside `ignore` (N masks, one or None);
/// logits are foreground above their threshold.
#[pyfunction]
#[pyo3(signature = (prediction, target, ignore, height, width, thresholds, out=None))]
#[expect(clippy::too_many_arguments, reason = "three batches, a size and options, flat")]
pub(crate) fn overlap_counts<'py>(
    py: Python<'py>,
    prediction: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    ignore: Option<&Bound<'py, PyAny>>,
    height: i64,
    width: i64,
    thresholds: (f32, f32),
    out: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let size = size(height, width)?;
    let (prediction, target) = (Form::new(prediction, "prediction")?, Form::new(target, "target")?);
    let ignore = ignore.map(|ignore| Form::new(ignore, "ignore")).transpose()?;
    let prediction = prediction.batch("prediction", size, thresholds.0)?;
    let target = target.batch("target", size, thresholds.1)?;
    let ignore = ignore.as_ref().map(|ignore| ignore.batch("ignore", size, 0.0)).transpose()?;
    fill_counts(py, prediction, out.as_ref(), || core::overlap(prediction, target, ignore))
}

/// (N, 4) int64 [tp, fp, fn, tn]: the same of the pixels at most `distance` from background, see `boundaries`.
#[pyfunction]
#[pyo3(signature = (prediction, target, height, width, distance, threshold, out=None))]
#[expect(clippy::too_many_arguments, reason = "two batches, a size and options, flat")]
pub(crate) fn boundary_counts<'py>(
    py: Python<'py>,
    prediction: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    distance: usize,
    threshold: f32,
    out: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let size = size(height, width)?;
    let (prediction, target) = (Form::new(prediction, "prediction")?, Form::new(target, "target")?);
    let (prediction, target) =
        (prediction.batch("prediction", size, threshold)?, target.batch("target", size, threshold)?);
    fill_counts(py, prediction, out.as_ref(), || core::boundary_overlap(prediction, target, distance))
}

/// The pixels of each mask at most `distance` pixels from background, diagonal steps counting as one.
#[pyfunction]
pub(crate) fn boundaries<'py>(
    py: Python<'py>,
    masks: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    distance: usize,
) -> PyResult<RleArrays<'py>> {
    let masks = Form::new(masks, "masks")?;
    let masks = masks.batch("masks", size(height, width)?, 0.0)?;
    Ok(to_arrays(py, call(py, || core::boundaries(masks, distance))?))
}

/// (N, M) float64: IoU of each prediction with each target; against a crowd, the part of the prediction in it.
#[pyfunction]
#[pyo3(signature = (a_counts, a_offsets, b_counts, b_offsets, crowd, height, width, out=None))]
#[expect(clippy::too_many_arguments, reason = "two batches and a size, flat")]
pub(crate) fn rle_pairwise_iou<'py>(
    py: Python<'py>,
    a_counts: &Bound<'py, PyAny>,
    a_offsets: &Bound<'py, PyAny>,
    b_counts: &Bound<'py, PyAny>,
    b_offsets: &Bound<'py, PyAny>,
    crowd: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    out: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (a, b) = (Rle::new(a_counts, a_offsets)?, Rle::new(b_counts, b_offsets)?);
    let (a, b) = (a.masks(height, width)?, b.masks(height, width)?);
    let crowd = array::<u8, Ix1>(crowd, "crowd")?;
    let crowd = crowd.as_slice()?;
    let shape = [a.len(), b.len()];
    let out = match out {
        Some(out) => out,
        // Through numpy's own function, which raises MemoryError where there is not enough.
        None => py.import("numpy")?.call_method1("empty", ((a.len(), b.len()),))?,
    };
    let mut writable = array_mut::<f64, Ix2>(&out, "out", &shape)?;
    let values = writable.as_slice_mut()?;
    call(py, || core::pairwise_iou(a, b, crowd, values))?;
    drop(writable);
    Ok(out)
}

/// (N, 3 + T) float64: HD, HD95, ASSD and NSD at each tolerance, by the convention of a package.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "two batches, a size and options, flat")]
pub(crate) fn surface_distances<'py>(
    py: Python<'py>,
    prediction: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    threshold: f32,
    convention: &str,
    spacing: (f64, f64),
    tolerances: Vec<f64>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let convention = match convention {
        "medpy" => core::Convention::MedPy,
        "monai" => core::Convention::Monai,
        "deepmind" => core::Convention::DeepMind,
        other => {
            let reason = format!("convention is {other:?}, expected medpy, monai or deepmind");
            return Err(PyValueError::new_err(reason));
        }
    };
    let size = size(height, width)?;
    let spacing = core::Spacing::new(spacing.0, spacing.1).map_err(to_python)?;
    let (prediction, target) = (Form::new(prediction, "prediction")?, Form::new(target, "target")?);
    let (prediction, target) =
        (prediction.batch("prediction", size, threshold)?, target.batch("target", size, threshold)?);
    let columns = 3 + tolerances.len();
    let values = call(py, || core::surface_distances(prediction, target, convention, spacing, &tolerances))?;
    let rows = values.len() / columns;
    values.into_pyarray(py).reshape([rows, columns])
}
