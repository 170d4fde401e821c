//! Masks: encoding, decoding, polygons, strings, measures, sets, components, area average.

use numpy::ndarray::Ix1;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat, PyInt, PyList};
use samfast_core as core;

use crate::convert::{
    Rle, RleArrays, Words, array, call, fill_masks, pixels, size, to_arrays, to_python, to_rows, to_words,
};

/// Encode (N, H, W) masks, uint8 or bool; every value that is not 0 is foreground.
#[pyfunction]
pub(crate) fn masks_to_rle<'py>(py: Python<'py>, masks: &Bound<'py, PyAny>) -> PyResult<RleArrays<'py>> {
    let pixels = pixels(py, masks)?;
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
    fill_masks(py, masks.len(), masks.size(), out, |pixels| core::decode_into(masks, pixels))
}

/// Pack (N, H, W) masks, uint8 or bool, into (N, H, ceil(W / 64)) uint64; every value that is not 0 is foreground.
#[pyfunction]
pub(crate) fn masks_to_bits<'py>(py: Python<'py>, masks: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray3<u64>>> {
    let pixels = pixels(py, masks)?;
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
    fill_masks(py, masks.len(), masks.size(), out, |pixels| core::unpack_into(masks, pixels))
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
pub(crate) fn rle_to_bits<'py>(
    py: Python<'py>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
) -> PyResult<Bound<'py, PyArray3<u64>>> {
    let rle = Rle::new(counts, offsets)?;
    let masks = rle.masks(height, width)?;
    to_words(py, call(py, || core::decode_bits(masks))?)
}

/// Objects of polygons, borrowed from numpy.
struct Objects<'py> {
    coords: PyReadonlyArray<'py, f64, Ix1>,
    polygon_offsets: PyReadonlyArray<'py, i64, Ix1>,
    object_offsets: PyReadonlyArray<'py, i64, Ix1>,
}

impl<'py> Objects<'py> {
    fn new(
        coords: &Bound<'py, PyAny>,
        polygon_offsets: &Bound<'py, PyAny>,
        object_offsets: &Bound<'py, PyAny>,
    ) -> PyResult<Self> {
        Ok(Self {
            coords: array(coords, "coords")?,
            polygon_offsets: array(polygon_offsets, "polygon_offsets")?,
            object_offsets: array(object_offsets, "object_offsets")?,
        })
    }

    fn polygons(&self) -> PyResult<core::Polygons<'_>> {
        let (coords, polygons) = (self.coords.as_slice()?, self.polygon_offsets.as_slice()?);
        core::Polygons::new(coords, polygons, self.object_offsets.as_slice()?).map_err(to_python)
    }
}

fn rule(name: &str) -> PyResult<core::Rule> {
    match name {
        "coco" => Ok(core::Rule::Coco),
        "pixel-center" => Ok(core::Rule::PixelCenter),
        other => Err(PyValueError::new_err(format!("rule is {other:?}, expected 'coco' or 'pixel-center'"))),
    }
}

/// Rasterise objects of polygons, each the union of its polygons.
#[pyfunction]
#[pyo3(signature = (coords, polygon_offsets, object_offsets, height, width, rule="coco"))]
pub(crate) fn polygons_to_rle<'py>(
    py: Python<'py>,
    coords: &Bound<'py, PyAny>,
    polygon_offsets: &Bound<'py, PyAny>,
    object_offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    rule: &str,
) -> PyResult<RleArrays<'py>> {
    let objects = Objects::new(coords, polygon_offsets, object_offsets)?;
    let (polygons, size, rule) = (objects.polygons()?, size(height, width)?, self::rule(rule)?);
    Ok(to_arrays(py, call(py, || core::rasterize(polygons, size, rule))?))
}

/// As `polygons_to_rle`, to (N, height, ceil(width / 64)) uint64.
#[pyfunction]
#[pyo3(signature = (coords, polygon_offsets, object_offsets, height, width, rule="coco"))]
pub(crate) fn polygons_to_bits<'py>(
    py: Python<'py>,
    coords: &Bound<'py, PyAny>,
    polygon_offsets: &Bound<'py, PyAny>,
    object_offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    rule: &str,
) -> PyResult<Bound<'py, PyArray3<u64>>> {
    let objects = Objects::new(coords, polygon_offsets, object_offsets)?;
    let (polygons, size, rule) = (objects.polygons()?, size(height, width)?, self::rule(rule)?);
    to_words(py, call(py, || core::rasterize_bits(polygons, size, rule))?)
}

/// As `polygons_to_rle`, to (N, height, width) uint8, 0 or 1.
#[pyfunction]
#[pyo3(signature = (coords, polygon_offsets, object_offsets, height, width, rule="coco", out=None))]
#[expect(clippy::too_many_arguments, reason = "polygons, a size and a rule, flat")]
pub(crate) fn polygons_to_masks<'py>(
    py: Python<'py>,
    coords: &Bound<'py, PyAny>,
    polygon_offsets: &Bound<'py, PyAny>,
    object_offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    rule: &str,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let objects = Objects::new(coords, polygon_offsets, object_offsets)?;
    let (polygons, size, rule) = (objects.polygons()?, size(height, width)?, self::rule(rule)?);
    fill_masks(py, polygons.len(), size, out, |pixels| core::rasterize_into(polygons, size, rule, pixels))
}

/// Objects of polygons, lists of lists of lists of numbers, as `coords`, `polygon_offsets` and `object_offsets`.
///
/// A polygon is a list or a tuple of numbers; anything else is handed to `convert`, which returns a float64 array of one
/// dimension.
#[pyfunction]
pub(crate) fn flatten_polygons<'py>(
    py: Python<'py>,
    objects: Vec<Vec<Bound<'py, PyAny>>>,
    convert: &Bound<'py, PyAny>,
) -> PyResult<PolygonArrays<'py>> {
    let mut coords: Vec<f64> = Vec::new();
    let (mut polygon_offsets, mut object_offsets) = (vec![0], vec![0]);
    for (index, polygons) in objects.iter().enumerate() {
        for (part, polygon) in polygons.iter().enumerate() {
            let start = coords.len();
            if !extend(&mut coords, polygon) {
                coords.truncate(start);
                let converted = convert.call1((polygon, index, part))?;
                coords.extend_from_slice(array::<f64, Ix1>(&converted, "polygon")?.as_slice()?);
            }
            polygon_offsets.push(coords.len() as i64);
        }
        object_offsets.push(polygon_offsets.len() as i64 - 1);
    }
    Ok((coords.into_pyarray(py), polygon_offsets.into_pyarray(py), object_offsets.into_pyarray(py)))
}

/// `coords`, `polygon_offsets` and `object_offsets`.
type PolygonArrays<'py> = (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);

/// Append the numbers of a flat list; false if it is none.
fn extend(coords: &mut Vec<f64>, polygon: &Bound<'_, PyAny>) -> bool {
    let Ok(numbers) = polygon.cast_exact::<PyList>() else { return false };
    coords.reserve(numbers.len());
    for number in numbers {
        let Ok(value) = number.cast_exact::<PyFloat>().map(|number| number.value()) else {
            match number.cast_exact::<PyInt>().map(|number| number.extract::<f64>()) {
                Ok(Ok(value)) => coords.push(value),
                _ => return false,
            }
            continue;
        };
        coords.push(value);
    }
    true
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
    to_rows(py, py.detach(|| core::boxes(masks)))
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
    let connectivity = match connectivity {
        4 => core::Connectivity::Four,
        8 => core::Connectivity::Eight,
        other => return Err(PyValueError::new_err(format!("connectivity is {other}, expected 4 or 8"))),
    };
    let rle = Rle::new(counts, offsets)?;
    let masks = rle.masks(height, width)?;
    let (pieces, parents) = call(py, || core::components(masks, connectivity))?;
    let (counts, offsets) = to_arrays(py, pieces);
    Ok((counts, offsets, parents.into_pyarray(py)))
}

/// (N, grid, grid) float32: the mean of each mask over the on-image part of each cell, 0 off the image.
#[pyfunction]
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
) -> PyResult<Bound<'py, PyArray3<f32>>> {
    let rle = Rle::new(counts, offsets)?;
    let masks = rle.masks(height, width)?;
    let shape = [masks.len(), grid, grid];
    let grid = core::Grid::new(grid, cell_height, cell_width).map_err(to_python)?;
    call(py, || core::area_average(masks, grid))?.into_pyarray(py).reshape(shape)
}
