//! Polygons: from Python's lists, and to masks.

use numpy::ndarray::Ix1;
use numpy::{IntoPyArray, PyArray1, PyArray3, PyReadonlyArray};
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyList;
use samfast_core as core;

use crate::convert::{RleArrays, array, call, fill_masks, fill_words, size, to_arrays, to_python};

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
        "opencv" => Ok(core::Rule::OpenCv),
        other => Err(PyValueError::new_err(format!("rule is {other:?}, expected 'coco', 'pixel-center' or 'opencv'"))),
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
#[pyo3(signature = (coords, polygon_offsets, object_offsets, height, width, rule="coco", out=None))]
#[expect(clippy::too_many_arguments, reason = "polygons, a size and a rule, flat")]
pub(crate) fn polygons_to_bits<'py>(
    py: Python<'py>,
    coords: &Bound<'py, PyAny>,
    polygon_offsets: &Bound<'py, PyAny>,
    object_offsets: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    rule: &str,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray3<u64>>> {
    let objects = Objects::new(coords, polygon_offsets, object_offsets)?;
    let (polygons, size, rule) = (objects.polygons()?, size(height, width)?, self::rule(rule)?);
    fill_words(py, polygons.len(), size, out, |words| core::rasterize_bits_into(polygons, size, rule, words))
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
    fill_masks(
        py,
        polygons.len(),
        size,
        out,
        || polygons.is_sparse(size),
        |blank, pixels| core::rasterize_into(polygons, size, rule, blank, pixels),
    )
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
#[allow(unsafe_code, reason = "references to items of a list, not counted")]
fn extend(coords: &mut Vec<f64>, polygon: &Bound<'_, PyAny>) -> bool {
    let Ok(numbers) = polygon.cast_exact::<PyList>() else { return false };
    coords.reserve(numbers.len());
    for index in 0..numbers.len() {
        // SAFETY: `index` is within the list: nothing below runs Python code, and this is built for the stable ABI of the
        // interpreter that has a GIL (`abi3`; the free-threaded one cannot load it), so no other thread runs either and
        // nothing changes the list. The item is borrowed from it, and read before the next one. This is the loop that rasterising annotations spends a
        // third of its time in; counting references would double it.
        let value = unsafe {
            let number = ffi::PyList_GetItem(numbers.as_ptr(), index as ffi::Py_ssize_t);
            if ffi::PyFloat_CheckExact(number) != 0 {
                ffi::PyFloat_AsDouble(number)
            } else if ffi::PyLong_CheckExact(number) != 0 {
                ffi::PyLong_AsDouble(number)
            } else {
                return false;
            }
        };
        if value == -1.0 && PyErr::take(polygon.py()).is_some() {
            return false;
        }
        coords.push(value);
    }
    true
}
