//! Masks to other masks: crops, sizes, holes, specks; to outlines and label maps and back.

use numpy::ndarray::{Ix1, Ix2};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use samfast_core as core;

use crate::convert::{Rle, RleArrays, array, call, fill, size, to_arrays};

pub(crate) fn connectivity(neighbours: i64) -> PyResult<core::Connectivity> {
    match neighbours {
        4 => Ok(core::Connectivity::Four),
        8 => Ok(core::Connectivity::Eight),
        other => Err(PyValueError::new_err(format!("connectivity is {other}, expected 4 or 8"))),
    }
}

/// The part of each mask inside a window of `crop_height` x `crop_width` pixels from row `top` and column `left` on.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "a batch, a size and a window, flat")]
pub(crate) fn rle_crop<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    top: i64,
    left: i64,
    crop_height: i64,
    crop_width: i64,
) -> PyResult<RleArrays<'py>> {
    let rle = Rle::new(counts, offsets)?;
    let (masks, window) = (rle.masks(height, width)?, size(crop_height, crop_width)?);
    Ok(to_arrays(py, call(py, || core::crop(masks, top, left, window))?))
}

/// Each mask at another size: every new pixel takes the pixel its centre lies in.
#[pyfunction]
pub(crate) fn rle_resize<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    new_height: i64,
    new_width: i64,
) -> PyResult<RleArrays<'py>> {
    let rle = Rle::new(counts, offsets)?;
    let (masks, new_size) = (rle.masks(height, width)?, size(new_height, new_width)?);
    Ok(to_arrays(py, call(py, || core::resize(masks, new_size))?))
}

/// Each mask as an image of `new_height` x `new_width` pixels shows it, each of which takes the pixel that its centre
/// comes from: (x, y) from (matrix[0] x + matrix[1] y + matrix[2], matrix[3] x + matrix[4] y + matrix[5]).
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "a batch, a size, a map and a size, flat")]
pub(crate) fn rle_warp<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    matrix: [f64; 6],
    new_height: i64,
    new_width: i64,
) -> PyResult<RleArrays<'py>> {
    let rle = Rle::new(counts, offsets)?;
    let (masks, new_size) = (rle.masks(height, width)?, size(new_height, new_width)?);
    let [a, b, c, d, e, f] = matrix;
    let from = call(py, || core::Affine::new([a, b, c], [d, e, f]))?;
    Ok(to_arrays(py, call(py, || core::warp(masks, from, new_size))?))
}

/// Each mask with its holes of up to `max_area` pixels filled: pieces of the background, `connectivity` of their pixels.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "a batch, a size and options, flat")]
pub(crate) fn rle_fill_holes<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    connectivity: i64,
    max_area: u64,
    at_border: bool,
) -> PyResult<RleArrays<'py>> {
    let rle = Rle::new(counts, offsets)?;
    let masks = rle.masks(height, width)?;
    let holes = core::Holes { connectivity: self::connectivity(connectivity)?, max_area, at_border };
    Ok(to_arrays(py, call(py, || core::fill_holes(masks, holes))?))
}

/// Each mask without its pieces of fewer than `min_area` pixels.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "a batch, a size and options, flat")]
pub(crate) fn rle_remove_small<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    connectivity: i64,
    min_area: u64,
    keep_largest: bool,
) -> PyResult<RleArrays<'py>> {
    let rle = Rle::new(counts, offsets)?;
    let (masks, connectivity) = (rle.masks(height, width)?, self::connectivity(connectivity)?);
    Ok(to_arrays(py, call(py, || core::remove_small(masks, connectivity, min_area, keep_largest))?))
}

/// `coords`, where each polygon ends in numbers, and where each mask ends in polygons.
type OutlineArrays<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);

/// The outline of every piece of every mask along the sides of its pixels; holes are bridged, or dropped.
#[pyfunction]
pub(crate) fn rle_outlines<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    connectivity: i64,
    bridge: bool,
) -> PyResult<OutlineArrays<'py>> {
    let rle = Rle::new(counts, offsets)?;
    let (masks, connectivity) = (rle.masks(height, width)?, self::connectivity(connectivity)?);
    let holes = if bridge { core::HoleOutlines::Bridge } else { core::HoleOutlines::Drop };
    let found = call(py, || core::outlines(masks, connectivity, holes))?;
    Ok((found.coords.into_pyarray(py), found.polygon_ends.into_pyarray(py), found.mask_ends.into_pyarray(py)))
}

/// `counts` and `offsets` of the masks, and the value of each.
type LabelArrays<'py> = (Bound<'py, PyArray1<u32>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i32>>);

/// One mask for every value of an (H, W) int32 map but `background`, in rising order, and the values.
#[pyfunction]
pub(crate) fn labels_to_rle<'py>(
    py: Python<'py>,
    labels: &Bound<'py, PyAny>,
    background: i32,
) -> PyResult<LabelArrays<'py>> {
    let labels = array::<i32, Ix2>(labels, "labels")?;
    let size = size(labels.shape()[0] as i64, labels.shape()[1] as i64)?;
    let pixels = labels.as_slice()?;
    let (masks, values) = call(py, || core::from_labels(pixels, size, background))?;
    let (counts, offsets) = to_arrays(py, masks);
    Ok((counts, offsets, values.into_pyarray(py)))
}

/// (height, width) int32: `values[i]` wherever mask `i` is, later masks over earlier ones.
#[pyfunction]
#[pyo3(signature = (counts, offsets, height, width, values, background, out=None))]
#[expect(clippy::too_many_arguments, reason = "a batch, a size and options, flat")]
pub(crate) fn rle_to_labels<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    values: &Bound<'py, PyAny>,
    background: i32,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let rle = Rle::new(counts, offsets)?;
    let masks = rle.masks(height, width)?;
    let values = array::<i32, Ix1>(values, "values")?;
    let values = values.as_slice()?;
    let shape = Ix2(masks.size().height(), masks.size().width());
    fill(py, shape, out, false, |pixels| core::to_labels(masks, values, background, pixels))
}
