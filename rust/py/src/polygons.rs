//! Polygons, as the nested lists annotations are, to masks.

use numpy::PyArray3;
use numpy::ndarray::Ix1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt, PyList};
use samfast_core as core;

use crate::convert::{RleArrays, array, call, fill_masks, fill_words, size, to_arrays, to_python};

/// Objects of polygons, one after the other.
struct Objects {
    coords: Vec<f64>,
    polygon_offsets: Vec<i64>,
    object_offsets: Vec<i64>,
}

impl Objects {
    /// Lists of lists of polygons. A polygon is a list of numbers; anything else is handed to `convert` with the indices
    /// of its object and of itself, which returns a float64 array of one dimension.
    fn read(objects: &Bound<'_, PyAny>, convert: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut read = Self { coords: Vec::new(), polygon_offsets: vec![0], object_offsets: vec![0] };
        each(objects, |index, polygons| {
            each(&polygons, |part, polygon| {
                let start = read.coords.len();
                if !extend(&mut read.coords, &polygon) {
                    read.coords.truncate(start);
                    let converted = convert.call1((polygon, index, part))?;
                    read.coords.extend_from_slice(array::<f64, Ix1>(&converted, "polygon")?.as_slice()?);
                }
                read.polygon_offsets.push(read.coords.len() as i64);
                Ok(())
            })?;
            read.object_offsets.push(read.polygon_offsets.len() as i64 - 1);
            Ok(())
        })?;
        Ok(read)
    }

    fn polygons(&self) -> PyResult<core::Polygons<'_>> {
        core::Polygons::new(&self.coords, &self.polygon_offsets, &self.object_offsets).map_err(to_python)
    }
}

/// Call `visit` with the index of every item of a sequence, and the item.
fn each<'py>(
    sequence: &Bound<'py, PyAny>,
    mut visit: impl FnMut(usize, Bound<'py, PyAny>) -> PyResult<()>,
) -> PyResult<()> {
    match sequence.cast_exact::<PyList>() {
        Ok(list) => list.iter().enumerate().try_for_each(|(index, item)| visit(index, item)),
        Err(_) => {
            let items: Vec<_> = sequence.extract()?;
            items.into_iter().enumerate().try_for_each(|(index, item)| visit(index, item))
        }
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

/// Rasterise objects, each the union of its polygons, see [`Objects::read`].
#[pyfunction]
#[pyo3(signature = (objects, convert, height, width, rule="coco"))]
pub(crate) fn polygons_to_rle<'py>(
    py: Python<'py>,
    objects: &Bound<'py, PyAny>,
    convert: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    rule: &str,
) -> PyResult<RleArrays<'py>> {
    let objects = Objects::read(objects, convert)?;
    let (polygons, size, rule) = (objects.polygons()?, size(height, width)?, self::rule(rule)?);
    Ok(to_arrays(py, call(py, || core::rasterize(polygons, size, rule))?))
}

/// As `polygons_to_rle`, to (N, height, ceil(width / 64)) uint64.
#[pyfunction]
#[pyo3(signature = (objects, convert, height, width, rule="coco", out=None))]
pub(crate) fn polygons_to_bits<'py>(
    py: Python<'py>,
    objects: &Bound<'py, PyAny>,
    convert: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    rule: &str,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray3<u64>>> {
    let objects = Objects::read(objects, convert)?;
    let (polygons, size, rule) = (objects.polygons()?, size(height, width)?, self::rule(rule)?);
    fill_words(py, polygons.len(), size, out, |words| core::rasterize_bits_into(polygons, size, rule, words))
}

/// As `polygons_to_rle`, to (N, height, width) uint8, 0 or 1.
#[pyfunction]
#[pyo3(signature = (objects, convert, height, width, rule="coco", out=None))]
pub(crate) fn polygons_to_masks<'py>(
    py: Python<'py>,
    objects: &Bound<'py, PyAny>,
    convert: &Bound<'py, PyAny>,
    height: i64,
    width: i64,
    rule: &str,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let objects = Objects::read(objects, convert)?;
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

/// Append the numbers of a flat list; false if it is none.
fn extend(coords: &mut Vec<f64>, polygon: &Bound<'_, PyAny>) -> bool {
    let Ok(numbers) = polygon.cast_exact::<PyList>() else { return false };
    // A tuple cannot change, so its items are borrowed: counting references one by one costs a tenth of the call.
    let numbers = numbers.to_tuple();
    coords.reserve(numbers.len());
    for number in numbers.iter_borrowed() {
        let value = if let Ok(number) = number.cast_exact::<PyFloat>() {
            number.value()
        } else if let Ok(value) = number.cast_exact::<PyInt>().map_err(PyErr::from).and_then(|n| n.extract()) {
            value
        } else {
            return false;
        };
        coords.push(value);
    }
    true
}
