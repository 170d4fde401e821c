//! The bytes behind the buffer protocol.

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Pass the bytes of any C-contiguous buffer (bytes, bytearray, memoryview, numpy array) to `read`.
///
/// The GIL is released meanwhile; a thread that writes to the buffer during the call makes the result meaningless.
#[allow(unsafe_code, reason = "no safe view of a buffer of any type")]
pub(crate) fn with_bytes<T: Send>(object: &Bound<'_, PyAny>, read: impl FnOnce(&[u8]) -> T + Send) -> PyResult<T> {
    let buffer = PyUntypedBuffer::get(object)?;
    if !buffer.is_c_contiguous() {
        return Err(PyValueError::new_err("buffer must be C-contiguous"));
    }
    let bytes: &[u8] = if buffer.len_bytes() == 0 {
        &[]
    } else {
        // SAFETY: the buffer is C-contiguous, so `len_bytes` bytes from `buf_ptr` are one allocation; `buffer` keeps it
        // exported, hence alive and in place, until after the last use of `bytes`.
        unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast(), buffer.len_bytes()) }
    };
    Ok(object.py().detach(|| read(bytes)))
}
