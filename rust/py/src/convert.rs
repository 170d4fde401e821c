//! From Python objects to checked slices, and from kernel errors to Python exceptions.

use std::cell::RefCell;

use numpy::ndarray::{Dimension, Ix3};
use numpy::{Element, IntoPyArray, PyArray, PyArray1, PyArray3, PyArrayDescrMethods, PyArrayMethods};
use numpy::{PyReadonlyArray, PyReadwriteArray, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use samfast_core::{self as core, BitBuf, Bits, Error, MaskBuf, Masks, Size};

use crate::shards::RowError;

/// `counts` and `offsets` as numpy arrays.
pub(crate) type RleArrays<'py> = (Bound<'py, PyArray1<u32>>, Bound<'py, PyArray1<i64>>);

thread_local! {
    /// What a signal handler raised while a kernel ran on this thread.
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Whether a kernel on this thread may go on: runs Python's signal handlers, keeps what they raise.
pub(crate) fn go_on() -> bool {
    let raised = Python::attach(|py| py.check_signals().err());
    let go_on = raised.is_none();
    RAISED.set(raised);
    go_on
}

/// Refusals of a kernel are about a value, except that there may be too little memory, or an interrupt.
pub(crate) fn to_python(error: impl Into<Error>) -> PyErr {
    match error.into() {
        Error::Interrupted => RAISED.take().unwrap_or_else(|| PyKeyboardInterrupt::new_err(())),
        Error::Row { item, reason } => {
            RowError::new_err((item, reason.to_string(), matches!(reason, core::RowError::System(_))))
        }
        error @ (Error::Memory { .. } | Error::Room { .. }) => PyMemoryError::new_err(error.to_string()),
        error => PyValueError::new_err(error.to_string()),
    }
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

/// uint8 as it is, bool as the bytes it holds, which may be others than 0 and 1.
fn as_bytes<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let bool_dtype = numpy::dtype::<bool>(object.py());
    let is_bool = object.cast::<PyUntypedArray>().is_ok_and(|array| array.dtype().is_equiv_to(&bool_dtype));
    if is_bool { object.call_method1("view", ("uint8",)) } else { Ok(object.clone()) }
}

/// (N, H, W) uint8 or bool, borrowed as bytes.
pub(crate) fn pixels<'py>(masks: &Bound<'py, PyAny>) -> PyResult<PyReadonlyArray<'py, u8, Ix3>> {
    array(&as_bytes(masks)?, "masks")
}

/// What a kernel writes: a new array of this shape, or `out`, which is checked before the kernel begins. A new one is 0
/// if it is to be `blank`.
pub(crate) fn fill<'py, T: Element + Send, D: Dimension>(
    py: Python<'py>,
    shape: D,
    out: Option<&Bound<'py, PyAny>>,
    blank: bool,
    kernel: impl FnOnce(&mut [T]) -> Result<(), Error> + Send,
) -> PyResult<Bound<'py, PyArray<T, D>>> {
    let new = || {
        // Through numpy's own functions, which raise MemoryError where there is not enough.
        let make = if blank { "zeros" } else { "empty" };
        py.import("numpy")?.call_method1(make, (PyTuple::new(py, shape.slice())?, numpy::dtype::<T>(py)))
    };
    let out = out.map_or_else(new, |out| Ok(out.clone()))?;
    let mut writable = array_mut::<T, D>(&out, "out", shape.slice())?;
    let values = writable.as_slice_mut()?;
    call(py, || kernel(values))?;
    drop(writable);
    Ok(out.cast_into::<PyArray<T, D>>()?)
}

/// (N, H, W) uint8 of a kernel, see [`fill`], which gets the pixels and whether they are 0 already, as a new array is for
/// `sparse` masks; `out` may be bool.
pub(crate) fn fill_masks<'py>(
    py: Python<'py>,
    count: usize,
    size: Size,
    out: Option<&Bound<'py, PyAny>>,
    sparse: impl FnOnce() -> bool,
    kernel: impl FnOnce(bool, &mut [u8]) -> Result<(), Error> + Send,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let blank = out.is_none() && sparse();
    let out = out.map(as_bytes).transpose()?;
    let shape = Ix3(count, size.height(), size.width());
    fill(py, shape, out.as_ref(), blank, |pixels| kernel(blank, pixels))
}

/// (N, H, ceil(W / 64)) uint64 of a kernel, see [`fill`].
pub(crate) fn fill_words<'py>(
    py: Python<'py>,
    count: usize,
    size: Size,
    out: Option<&Bound<'py, PyAny>>,
    kernel: impl FnOnce(&mut [u64]) -> Result<(), Error> + Send,
) -> PyResult<Bound<'py, PyArray3<u64>>> {
    fill(py, Ix3(count, size.height(), size.row_words()), out, false, kernel)
}

/// Packed masks, borrowed from numpy.
pub(crate) struct Words<'py> {
    words: PyReadonlyArray<'py, u64, Ix3>,
    size: Size,
}

impl<'py> Words<'py> {
    pub(crate) fn new(words: &Bound<'py, PyAny>, width: i64) -> PyResult<Self> {
        let words = array::<u64, Ix3>(words, "words")?;
        let size = size(words.shape()[1] as i64, width)?;
        if words.shape()[2] != size.row_words() {
            let (found, expected) = (words.shape()[2], size.row_words());
            let reason = format!("rows of {width} pixels take {expected} words, words has {found}");
            return Err(PyValueError::new_err(reason));
        }
        Ok(Self { words, size })
    }

    pub(crate) fn masks(&self) -> PyResult<Bits<'_>> {
        Bits::new(self.words.as_slice()?, self.size).map_err(to_python)
    }
}

/// (N, H, ceil(W / 64)) uint64.
pub(crate) fn to_words(py: Python<'_>, bits: BitBuf) -> PyResult<Bound<'_, PyArray3<u64>>> {
    let (count, size) = (bits.view().len(), bits.view().size());
    bits.into_words().into_pyarray(py).reshape([count, size.height(), size.row_words()])
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
