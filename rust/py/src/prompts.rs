//! Prompts: points inside masks, jittered boxes.

use numpy::{IntoPyArray, PyArray2, PyArray3, PyArrayMethods, PyUntypedArrayMethods, ndarray::Ix1, ndarray::Ix2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use samfast_core as core;

use crate::convert::{Rle, array, call, size, to_rows};

/// (N, k, 2) int32 (x, y): uniform pixels of each mask, distinct while it has enough.
#[pyfunction]
pub(crate) fn sample_points<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    keys: &Bound<'py, PyAny>,
    k: usize,
) -> PyResult<Bound<'py, PyArray3<i32>>> {
    let rle = Rle::new(counts, offsets)?;
    let masks = rle.masks(height, width)?;
    let keys = array::<u64, Ix1>(keys, "keys")?;
    let keys = keys.as_slice()?;
    let points = call(py, || core::sample_points(masks, keys, k))?;
    points.into_flattened().into_pyarray(py).reshape([masks.len(), k, 2])
}

/// (N, 4) float64: boxes moved by up to min(ratio x side, max_px) per coordinate, clamped to the image.
#[pyfunction]
pub(crate) fn jitter_boxes<'py>(
    py: Python<'py>,
    boxes: &Bound<'py, PyAny>,
    keys: &Bound<'py, PyAny>,
    ratio: f64,
    max_px: f64,
    height: i64,
    width: i64,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let boxes = array::<f64, Ix2>(boxes, "boxes")?;
    if boxes.shape()[1] != 4 {
        return Err(PyValueError::new_err(format!("boxes must be (N, 4), not (N, {})", boxes.shape()[1])));
    }
    let (rows, _) = boxes.as_slice()?.as_chunks::<4>();
    let keys = array::<u64, Ix1>(keys, "keys")?;
    let keys = keys.as_slice()?;
    let size = size(height, width)?;
    let jitter = core::Jitter { ratio, max_px };
    to_rows(py, call(py, || core::jitter_boxes(rows, keys, jitter, size))?)
}
