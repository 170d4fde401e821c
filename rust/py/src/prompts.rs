//! Prompts: points of masks, where a mask is not, jittered boxes, and the masks a decoder answers with.

use numpy::ndarray::{Ix1, Ix2, Ix3};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArray3, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use samfast_core as core;

use crate::convert::{Rle, RleArrays, array, call, fill, size, to_arrays, to_python, to_rows, to_words};

/// `(N, 2)` pixels and `(N,)` squared distances.
type Deepest<'py> = (Bound<'py, PyArray2<i32>>, Bound<'py, PyArray1<i64>>);

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

/// (N, 2) int32 (x, y) and (N,) int64: the pixel of each mask farthest from all that is not of it, and the square of
/// that distance; [-1, -1] and 0 where none may be chosen. `excluded` (N, M, 2) int32 may not.
#[pyfunction]
pub(crate) fn rle_deepest<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    excluded: &Bound<'py, PyAny>,
) -> PyResult<Deepest<'py>> {
    let rle = Rle::new(counts, offsets)?;
    let masks = rle.masks(height, width)?;
    let excluded = array::<i32, Ix3>(excluded, "excluded")?;
    if excluded.shape()[0] != masks.len() || excluded.shape()[2] != 2 {
        let (expected, found) = (masks.len(), excluded.shape());
        return Err(PyValueError::new_err(format!("excluded must be ({expected}, M, 2), not {found:?}")));
    }
    let (excluded, _) = excluded.as_slice()?.as_chunks::<2>();
    let found = call(py, || core::deepest(masks, excluded))?;
    let (points, squares): (Vec<_>, Vec<_>) = found.iter().map(|found| (found.point, found.square)).unzip();
    Ok((to_rows(py, points)?, squares.into_pyarray(py)))
}

/// (N, k, 2) int32 (x, y): the deepest pixel of each mask, then each time the one farthest from those before.
#[pyfunction]
pub(crate) fn rle_farthest<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    k: usize,
) -> PyResult<Bound<'py, PyArray3<i32>>> {
    let rle = Rle::new(counts, offsets)?;
    let masks = rle.masks(height, width)?;
    let found = call(py, || core::farthest(masks, k))?;
    fill(py, Ix3(masks.len(), k, 2), None, false, |points| {
        points.as_chunks_mut::<2>().0.iter_mut().zip(&found).for_each(|(point, found)| *point = found.point);
        Ok(())
    })
}

/// (N, 2) int32 (x, y): the pixel of each mask nearest to its centre of mass.
#[pyfunction]
pub(crate) fn rle_centroid_inside<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let rle = Rle::new(counts, offsets)?;
    let masks = rle.masks(height, width)?;
    to_rows(py, call(py, || core::centroid_inside(masks))?)
}

/// What each mask does not hold.
#[pyfunction]
pub(crate) fn rle_complement<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
) -> PyResult<RleArrays<'py>> {
    let rle = Rle::new(counts, offsets)?;
    let masks = rle.masks(height, width)?;
    Ok(to_arrays(py, call(py, || core::complement(masks))?))
}

/// What either `a[i]` or `b[i]` holds, but not both; `b` has as many masks as `a`, or one for all.
#[pyfunction]
pub(crate) fn rle_difference_pairs<'py>(
    py: Python<'py>,
    a_counts: &Bound<'py, PyAny>,
    a_offsets: &Bound<'py, PyAny>,
    b_counts: &Bound<'py, PyAny>,
    b_offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
) -> PyResult<RleArrays<'py>> {
    let (a, b) = (Rle::new(a_counts, a_offsets)?, Rle::new(b_counts, b_offsets)?);
    let (a, b) = (a.masks(height, width)?, b.masks(height, width)?);
    Ok(to_arrays(py, call(py, || core::difference(a, b))?))
}

/// The pixels outside of each mask that are at most `radius_px` away from it.
#[pyfunction]
pub(crate) fn rle_ring<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    radius_px: f64,
) -> PyResult<RleArrays<'py>> {
    let rle = Rle::new(counts, offsets)?;
    let masks = rle.masks(height, width)?;
    Ok(to_arrays(py, call(py, || core::ring(masks, radius_px))?))
}

/// One mask a box: (N, 4) int64 [xmin, ymin, xmax, ymax], inclusive, filled as far as it lies on the image.
#[pyfunction]
pub(crate) fn boxes_to_rle<'py>(
    py: Python<'py>,
    boxes: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
) -> PyResult<RleArrays<'py>> {
    let boxes = array::<i64, Ix2>(boxes, "boxes")?;
    if boxes.shape()[1] != 4 {
        return Err(PyValueError::new_err(format!("boxes must be (N, 4), not (N, {})", boxes.shape()[1])));
    }
    let (rows, _) = boxes.as_slice()?.as_chunks::<4>();
    let size = size(height, width)?;
    Ok(to_arrays(py, call(py, || core::boxes_to_masks(rows, size))?))
}

/// Masks of (N, h, w) float32 low-res logits at the original size: bilinear to the model's square of `model` pixels,
/// cropped to `resized` (height, width), bilinear to (height, width), above `threshold`.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "three sizes, flat")]
pub(crate) fn logits_to_rle<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    model: i64,
    resized_height: i64,
    resized_width: i64,
    height: i64,
    width: i64,
    threshold: f32,
) -> PyResult<RleArrays<'py>> {
    let logits = array::<f32, Ix3>(logits, "logits")?;
    let way = upscale(logits.shape(), model, [resized_height, resized_width], [height, width])?;
    let logits = logits.as_slice()?;
    Ok(to_arrays(py, call(py, || core::upscale_to_runs(logits, &way, threshold))?))
}

/// As `logits_to_rle`, packed: (N, height, ceil(width / 64)) uint64.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "three sizes, flat")]
pub(crate) fn logits_to_bits<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    model: i64,
    resized_height: i64,
    resized_width: i64,
    height: i64,
    width: i64,
    threshold: f32,
) -> PyResult<Bound<'py, PyArray3<u64>>> {
    let logits = array::<f32, Ix3>(logits, "logits")?;
    let way = upscale(logits.shape(), model, [resized_height, resized_width], [height, width])?;
    let logits = logits.as_slice()?;
    to_words(py, call(py, || core::upscale_to_bits(logits, &way, threshold))?)
}

fn upscale(logits: &[usize], model: i64, resized: [i64; 2], original: [i64; 2]) -> PyResult<core::Upscale> {
    let low_res = size(logits[1] as i64, logits[2] as i64)?;
    let [resized, original] = [resized, original].map(|[height, width]| size(height, width));
    core::Upscale::new(low_res, size(model, model)?, resized?, original?).map_err(to_python)
}
