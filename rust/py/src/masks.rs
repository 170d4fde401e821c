//! Masks: encoding, decoding, polygons, strings, measures, sets, components, area average.

use numpy::ndarray::Ix3;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArray3, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use samfast_core as core;

use crate::convert::{
    Rle, RleArrays, Words, call, fill, fill_masks, fill_words, pixels, size, to_arrays, to_python, to_rows, to_words,
};
use crate::shapes;

/// Encode (N, H, W) masks, uint8 or bool; every value that is not 0 is foreground.
#[pyfunction]
pub(crate) fn masks_to_rle<'py>(py: Python<'py>, masks: &Bound<'py, PyAny>) -> PyResult<RleArrays<'py>> {
    let pixels = pixels(masks)?;
    let size = size(pixels.shape()[1] as i64, pixels.shape()[2] as i64)?;
    let pixels = pixels.as_slice()?;
    Ok(to_arrays(py, call(py, || core::encode(pixels, size))?))
}

/// Decode to (N, height, width) uint8, 0 or 1.
#[pyfunction]
#[pyo3(signature = (counts, offsets, height, width, out=None))]
pub(crate) fn rle_to_masks<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let rle = Rle::new(counts, offsets)?;
    let masks = rle.masks(height, width)?;
    fill_masks(
        py,
        masks.len(),
        masks.size(),
        out,
        || core::is_sparse(masks),
        |blank, pixels| core::decode_into(masks, blank, pixels),
    )
}

/// Pack (N, H, W) masks, uint8 or bool, into (N, H, ceil(W / 64)) uint64; every value that is not 0 is foreground.
#[pyfunction]
pub(crate) fn masks_to_bits<'py>(py: Python<'py>, masks: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray3<u64>>> {
    let pixels = pixels(masks)?;
    let size = size(pixels.shape()[1] as i64, pixels.shape()[2] as i64)?;
    let pixels = pixels.as_slice()?;
    to_words(py, call(py, || core::pack(pixels, size))?)
}

/// Unpack (N, H, ceil(W / 64)) uint64 to (N, H, width) uint8, 0 or 1.
#[pyfunction]
#[pyo3(signature = (words, width, out=None))]
pub(crate) fn bits_to_masks<'py>(
    py: Python<'py>,
    words: &Bound<'py, PyAny>,
    width: i64,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let words = Words::new(words, width)?;
    let masks = words.masks()?;
    fill_masks(py, masks.len(), masks.size(), out, || false, |_, pixels| core::unpack_into(masks, pixels))
}

/// Encode (N, H, ceil(W / 64)) uint64.
#[pyfunction]
pub(crate) fn bits_to_rle<'py>(py: Python<'py>, words: &Bound<'py, PyAny>, width: i64) -> PyResult<RleArrays<'py>> {
    let words = Words::new(words, width)?;
    let masks = words.masks()?;
    Ok(to_arrays(py, call(py, || core::encode_bits(masks))?))
}

/// Decode to (N, height, ceil(width / 64)) uint64.
#[pyfunction]
#[pyo3(signature = (counts, offsets, height, width, out=None))]
pub(crate) fn rle_to_bits<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray3<u64>>> {
    let rle = Rle::new(counts, offsets)?;
    let masks = rle.masks(height, width)?;
    fill_words(py, masks.len(), masks.size(), out, |words| core::decode_bits_into(masks, words))
}

/// The compressed COCO string of each mask.
#[pyfunction]
pub(crate) fn rle_to_strings<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let rle = Rle::new(counts, offsets)?;
    let (counts, offsets) = rle.slices()?;
    let strings = call(py, || core::to_strings(counts, offsets))?;
    Ok(strings.iter().map(|text| PyBytes::new(py, text)).collect())
}

/// Read compressed COCO strings.
#[pyfunction]
pub(crate) fn strings_to_rle<'py>(
    py: Python<'py>,
    strings: Vec<Bound<'py, PyAny>>,
    height: i64,
    width: i64,
) -> PyResult<RleArrays<'py>> {
    let as_bytes = |(index, text): (usize, &Bound<'py, PyAny>)| {
        let text =
            text.cast::<PyBytes>().map_err(|_| PyTypeError::new_err(format!("strings[{index}] must be bytes")))?;
        Ok(text.as_bytes().to_vec())
    };
    let texts = strings.iter().enumerate().map(as_bytes).collect::<PyResult<Vec<_>>>()?;
    let size = size(height, width)?;
    Ok(to_arrays(py, call(py, || core::from_strings(&texts, size))?))
}

/// Raise ValueError unless the arrays describe masks of this size.
#[pyfunction]
pub(crate) fn check_rle(
    counts: &Bound<'_, PyAny>,
    offsets: &Bound<'_, PyAny>,
    height: i64,
    width: i64,
) -> PyResult<()> {
    Rle::new(counts, offsets)?.masks(height, width).map(|_| ())
}

/// The same masks without zero-length runs, except a leading one.
#[pyfunction]
pub(crate) fn rle_canonical<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
) -> PyResult<RleArrays<'py>> {
    let rle = Rle::new(counts, offsets)?;
    let masks = rle.masks(height, width)?;
    Ok(to_arrays(py, call(py, || core::canonical(masks))?))
}

/// Foreground pixels of each mask.
#[pyfunction]
pub(crate) fn rle_area<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let rle = Rle::new(counts, offsets)?;
    let (counts, offsets) = rle.slices()?;
    Ok(call(py, || core::areas(counts, offsets))?.into_pyarray(py))
}

/// (N, 4) int64 [xmin, ymin, xmax, ymax], inclusive; [0, 0, -1, -1] for an empty mask.
#[pyfunction]
pub(crate) fn rle_bbox<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
) -> PyResult<Bound<'py, PyArray2<i64>>> {
    let rle = Rle::new(counts, offsets)?;
    let masks = rle.masks(height, width)?;
    to_rows(py, call(py, || core::boxes(masks))?)
}

/// One mask: the union of all.
#[pyfunction]
pub(crate) fn rle_union<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
) -> PyResult<RleArrays<'py>> {
    let rle = Rle::new(counts, offsets)?;
    let masks = rle.masks(height, width)?;
    Ok(to_arrays(py, call(py, || core::union(masks))?))
}

/// `a[i]` and `b[i]`; `b` has as many masks as `a`, or one for all.
#[pyfunction]
pub(crate) fn rle_intersect_pairs<'py>(
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
    Ok(to_arrays(py, call(py, || core::intersect(a, b))?))
}

/// `a[i]` without `b[i]`; `b` has as many masks as `a`, or one for all.
#[pyfunction]
pub(crate) fn rle_subtract_pairs<'py>(
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
    Ok(to_arrays(py, call(py, || core::subtract(a, b))?))
}

/// `counts` and `offsets` of the pieces, and the mask each comes from.
type PieceArrays<'py> = (Bound<'py, PyArray1<u32>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);

/// The connected pieces of every mask and the index of the mask each comes from.
#[pyfunction]
#[pyo3(signature = (counts, offsets, height, width, connectivity=8))]
pub(crate) fn rle_components<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    connectivity: i64,
) -> PyResult<PieceArrays<'py>> {
    let connectivity = shapes::connectivity(connectivity)?;
    let rle = Rle::new(counts, offsets)?;
    let masks = rle.masks(height, width)?;
    let (pieces, parents) = call(py, || core::components(masks, connectivity))?;
    let (counts, offsets) = to_arrays(py, pieces);
    Ok((counts, offsets, parents.into_pyarray(py)))
}

/// (N, grid, grid) float32: the mean of each mask over the on-image part of each cell, 0 off the image.
#[pyfunction]
#[pyo3(signature = (counts, offsets, height, width, cell_height, cell_width, grid, out=None))]
#[expect(clippy::too_many_arguments, reason = "a batch, a size and a grid, flat")]
pub(crate) fn rle_area_average<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    cell_height: f64,
    cell_width: f64,
    grid: usize,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray3<f32>>> {
    let rle = Rle::new(counts, offsets)?;
    let masks = rle.masks(height, width)?;
    let shape = Ix3(masks.len(), grid, grid);
    let grid = core::Grid::new(grid, cell_height, cell_width).map_err(to_python)?;
    fill(py, shape, out, false, |means| core::area_average_into(masks, grid, |mean| mean, means))
}

/// (N, grid, grid) uint8: whether the mean that `rle_area_average` gives is at least 0.5.
#[pyfunction]
#[pyo3(signature = (counts, offsets, height, width, cell_height, cell_width, grid, out=None))]
#[expect(clippy::too_many_arguments, reason = "a batch, a size and a grid, flat")]
pub(crate) fn rle_area_majority<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    cell_height: f64,
    cell_width: f64,
    grid: i64,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let rle = Rle::new(counts, offsets)?;
    let (masks, cells) = (rle.masks(height, width)?, size(grid, grid)?);
    let grid = core::Grid::new(cells.height(), cell_height, cell_width).map_err(to_python)?;
    let is_most = |mean| u8::from(mean >= 0.5);
    fill_masks(py, masks.len(), cells, out, || false, |_, out| core::area_average_into(masks, grid, is_most, out))
}
