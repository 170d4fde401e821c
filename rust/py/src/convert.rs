//! From Python objects to checked slices, and from kernel errors to Python exceptions.

use numpy::PyReadwriteArray;
use numpy::{Element, PyArray, PyArray1, PyArrayDescrMethods, PyArrayMethods, PyReadonlyArray, PyUntypedArray};
use numpy::{IntoPyArray, PyUntypedArrayMethods, ndarray::Dimension};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use samfast_core::{Error, MaskBuf, Masks, Size};

/// `counts` and `offsets` as numpy arrays.
pub(crate) type RleArrays<'py> = (Bound<'py, PyArray1<u32>>, Bound<'py, PyArray1<i64>>);

/// Every refusal of a kernel is about a value.
pub(crate) fn to_python(error: impl Into<Error>) -> PyErr {
    PyValueError::new_err(error.into().to_string())
}

/// The one door to the kernels: gives up the GIL, calls, maps the error.
pub(crate) fn call<T: Send>(py: Python<'_>, kernel: impl FnOnce() -> Result<T, Error> + Send) -> PyResult<T> {
    py.detach(kernel).map_err(to_python)
}

/// A C-contiguous array of the dtype `T` and the dimension `D`, borrowed.
///
/// TypeError for another type or dtype, ValueError for another number of dimensions, strides, or an array that is being
/// written to.
pub(crate) fn array<'py, T: Element, D: Dimension>(
    object: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<PyReadonlyArray<'py, T, D>> {
    let untyped = object.cast::<PyUntypedArray>().map_err(|_| {
        let kind = object.get_type().name().map_or_else(|_| "?".to_string(), |name| name.to_string());
        PyTypeError::new_err(format!("{name} must be a numpy array, not {kind}"))
    })?;
    let wanted = numpy::dtype::<T>(object.py());
    if !untyped.dtype().is_equiv_to(&wanted) {
        return Err(PyTypeError::new_err(format!("{name} must be {wanted}, not {}", untyped.dtype())));
    }
    if let Some(ndim) = D::NDIM.filter(|&ndim| ndim != untyped.ndim()) {
        return Err(PyValueError::new_err(format!("{name} must have {ndim} dimension(s), not {}", untyped.ndim())));
    }
    if !untyped.is_c_contiguous() {
        return Err(PyValueError::new_err(format!("{name} must be C-contiguous")));
    }
    let typed = object.cast::<PyArray<T, D>>().map_err(|error| PyTypeError::new_err(format!("{name}: {error}")))?;
    typed.try_readonly().map_err(|error| PyValueError::new_err(format!("{name}: {error}")))
}

/// A writable C-contiguous array of the dtype `T` and of this shape, borrowed.
///
/// TypeError for another type or dtype, ValueError for another shape, strides, or an array that is read-only or in use.
pub(crate) fn array_mut<'py, T: Element, D: Dimension>(
    object: &Bound<'py, PyAny>,
    name: &str,
    shape: &[usize],
) -> PyResult<PyReadwriteArray<'py, T, D>> {
    let found = array::<T, D>(object, name)?.shape().to_vec();
    if found != shape {
        return Err(PyValueError::new_err(format!("{name} must have shape {shape:?}, not {found:?}")));
    }
    let typed = object.cast::<PyArray<T, D>>().map_err(|error| PyTypeError::new_err(format!("{name}: {error}")))?;
    typed.try_readwrite().map_err(|error| PyValueError::new_err(format!("{name}: {error}")))
}

/// Run lengths of a batch, borrowed from numpy.
pub(crate) struct Rle<'py> {
    counts: PyReadonlyArray<'py, u32, numpy::Ix1>,
    offsets: PyReadonlyArray<'py, i64, numpy::Ix1>,
}

impl<'py> Rle<'py> {
    pub(crate) fn new(counts: &Bound<'py, PyAny>, offsets: &Bound<'py, PyAny>) -> PyResult<Self> {
        Ok(Self { counts: array(counts, "counts")?, offsets: array(offsets, "offsets")? })
    }

    pub(crate) fn slices(&self) -> PyResult<(&[u32], &[i64])> {
        Ok((self.counts.as_slice()?, self.offsets.as_slice()?))
    }

    pub(crate) fn masks(&self, height: i64, width: i64) -> PyResult<Masks<'_>> {
        let (counts, offsets) = self.slices()?;
        Masks::new(counts, offsets, size(height, width)?).map_err(to_python)
    }
}

pub(crate) fn size(height: i64, width: i64) -> PyResult<Size> {
    Size::new(height, width).map_err(to_python)
}

pub(crate) fn to_arrays(py: Python<'_>, masks: MaskBuf) -> RleArrays<'_> {
    (masks.counts.into_pyarray(py), masks.offsets.into_pyarray(py))
}

/// Rows of `K` values as an (N, K) array.
pub(crate) fn to_rows<'py, T: Element, const K: usize>(
    py: Python<'py>,
    rows: Vec<[T; K]>,
) -> PyResult<Bound<'py, numpy::PyArray2<T>>> {
    let shape = [rows.len(), K];
    rows.into_flattened().into_pyarray(py).reshape(shape)
}
