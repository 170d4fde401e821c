//! The rows of a cache's shards.

use std::path::PathBuf;

use numpy::ndarray::{Ix1, Ix2};
use numpy::{IntoPyArray, PyArray1, PyReadwriteArray, PyUntypedArrayMethods};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use samfast_core as core;

use crate::convert::{array, array_mut, call, to_python};

create_exception!(
    _rust,
    RowError,
    PyException,
    "A row that cannot be had: its index among those asked for, why, and whether that is the system's word."
);

/// The shards of a cache: rows of one or several features at a fixed stride.
///
/// `offsets` is (F, S) int64: where the rows of each feature begin in each shard; `row_bytes` their sizes, one a feature.
/// At most `max_open` files stay open. Threads may share a reader, the processes of a fork may not.
#[pyclass(frozen, module = "samfast._rust")]
pub(crate) struct ShardReader(core::Reader);

#[pymethods]
impl ShardReader {
    #[new]
    fn new(paths: Vec<PathBuf>, offsets: &Bound<'_, PyAny>, row_bytes: Vec<usize>, max_open: usize) -> PyResult<Self> {
        let offsets = array::<i64, Ix2>(offsets, "offsets")?;
        let found = offsets.shape();
        if found != [row_bytes.len(), paths.len()] {
            let expected = [row_bytes.len(), paths.len()];
            return Err(PyValueError::new_err(format!("offsets must have shape {expected:?}, not {found:?}")));
        }
        let flat = offsets.as_slice()?;
        let features = row_bytes.iter().enumerate().map(|(feature, &row_bytes)| {
            let offsets = &flat[feature * paths.len()..(feature + 1) * paths.len()];
            let offsets = offsets.iter().map(|&offset| natural(offset, "offsets")).collect::<PyResult<_>>()?;
            Ok(core::Feature { row_bytes, offsets })
        });
        let features = features.collect::<PyResult<_>>()?;
        core::Reader::new(paths, features, max_open).map(Self).map_err(to_python)
    }

    /// Read rows, each (shard, row) int32, into `out`, one array a feature, 1-D and one row after the other: uint8 takes
    /// the bytes as they are stored, float32 the values of features stored as float16. Those of `check` must have the
    /// CRC-32C `crc` over all their features.
    fn read_into(
        &self,
        py: Python<'_>,
        shard: &Bound<'_, PyAny>,
        row: &Bound<'_, PyAny>,
        crc: &Bound<'_, PyAny>,
        check: &Bound<'_, PyAny>,
        out: Vec<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let mut rows = rows(shard, row, crc)?;
        let check = array::<bool, Ix1>(check, "check")?;
        require_length("check", check.len(), rows.len())?;
        for (row, &check) in rows.iter_mut().zip(check.as_slice()?) {
            row.crc = row.crc.filter(|_| check);
        }
        let mut buffers = out.iter().map(Buffer::new).collect::<PyResult<Vec<_>>>()?;
        let out = buffers.iter_mut().map(Buffer::output).collect::<PyResult<_>>()?;
        call(py, || self.0.read_into(&rows, out))
    }

    /// (n,) bool: which rows, each (shard, row) int32, cannot be read in full or do not have the CRC-32C `crc`.
    fn damaged<'py>(
        &self,
        py: Python<'py>,
        shard: &Bound<'_, PyAny>,
        row: &Bound<'_, PyAny>,
        crc: &Bound<'_, PyAny>,
    ) -> PyResult<Bound<'py, PyArray1<bool>>> {
        let rows = rows(shard, row, crc)?;
        Ok(call(py, || self.0.damaged(&rows))?.into_pyarray(py))
    }

    /// Close the open files; they open again when they are read.
    fn close(&self) {
        self.0.close();
    }
}

/// One array of `out`.
enum Buffer<'py> {
    Stored(PyReadwriteArray<'py, u8, Ix1>),
    Widened(PyReadwriteArray<'py, f32, Ix1>),
}

impl<'py> Buffer<'py> {
    fn new(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(shape) = array::<f32, Ix1>(object, "out").map(|array| array.len()) {
            return Ok(Self::Widened(array_mut(object, "out", &[shape])?));
        }
        let shape = array::<u8, Ix1>(object, "out")?.len();
        Ok(Self::Stored(array_mut(object, "out", &[shape])?))
    }

    fn output(&mut self) -> PyResult<core::Output<'_>> {
        Ok(match self {
            Self::Stored(array) => core::Output::Stored(array.as_slice_mut()?),
            Self::Widened(array) => core::Output::Widened(array.as_slice_mut()?),
        })
    }
}

fn rows(shard: &Bound<'_, PyAny>, row: &Bound<'_, PyAny>, crc: &Bound<'_, PyAny>) -> PyResult<Vec<core::Row>> {
    let (shard, row) = (array::<i32, Ix1>(shard, "shard")?, array::<i32, Ix1>(row, "row")?);
    let crc = array::<u32, Ix1>(crc, "crc")?;
    require_length("row", row.len(), shard.len())?;
    require_length("crc", crc.len(), shard.len())?;
    let places = shard.as_slice()?.iter().zip(row.as_slice()?);
    let rows = places.zip(crc.as_slice()?).map(|((&shard, &row), &crc)| {
        Ok(core::Row { shard: natural(shard, "shard")?, row: natural(row, "row")?, crc: Some(crc) })
    });
    rows.collect()
}

fn natural<T: Copy + std::fmt::Display, U: TryFrom<T>>(value: T, name: &str) -> PyResult<U> {
    U::try_from(value).map_err(|_| PyValueError::new_err(format!("{name} holds {value}")))
}

fn require_length(name: &str, found: usize, expected: usize) -> PyResult<()> {
    if found == expected {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{name} has {found} items, expected {expected}")))
}
