//! Losses of masks: sums over cells, and their gradients.

use numpy::PyUntypedArrayMethods;
use numpy::ndarray::{Ix1, Ix2, Ix3};
use numpy::{PyArray2, PyArray3, PyReadonlyArray};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use samfast_core as core;

use crate::convert::{array, fill, to_python};

/// What both functions take: (R, l, l) float32 logits, (N, L, L) float32 targets and weights, and for each map of logits
/// the index, int64, of those it is held to; `focal` is alpha and gamma of that loss, or None.
struct Held<'py> {
    logits: PyReadonlyArray<'py, f32, Ix3>,
    target: PyReadonlyArray<'py, f32, Ix3>,
    weight: PyReadonlyArray<'py, f32, Ix3>,
    owner: PyReadonlyArray<'py, i64, Ix1>,
}

impl<'py> Held<'py> {
    fn new(
        logits: &Bound<'py, PyAny>,
        target: &Bound<'py, PyAny>,
        weight: &Bound<'py, PyAny>,
        owner: &Bound<'py, PyAny>,
    ) -> PyResult<Self> {
        let held = Self {
            logits: array(logits, "logits")?,
            target: array(target, "target")?,
            weight: array(weight, "weight")?,
            owner: array(owner, "owner")?,
        };
        for (name, maps) in [("logits", &held.logits), ("target", &held.target), ("weight", &held.weight)] {
            if maps.shape()[1] != maps.shape()[2] {
                return Err(PyValueError::new_err(format!("{name} must be square maps, not {:?}", maps.shape())));
            }
        }
        if held.weight.shape() != held.target.shape() {
            let (found, expected) = (held.weight.shape(), held.target.shape());
            return Err(PyValueError::new_err(format!("weight must have target's shape {expected:?}, not {found:?}")));
        }
        Ok(held)
    }

    fn cells(&self, focal: Option<(f32, f32)>) -> PyResult<core::Cells<'_>> {
        let logits = (self.logits.as_slice()?, self.logits.shape()[1]);
        let held_to = (self.target.as_slice()?, self.weight.as_slice()?, self.target.shape()[1]);
        let focal = focal.map(|(alpha, gamma)| core::Focal { alpha, gamma });
        core::Cells::new(logits, held_to, self.owner.as_slice()?, focal).map_err(to_python)
    }
}

/// (R, 8) float32 sums over the cells of each map, each cell times its weight: 1, cross-entropy, focal loss, p, t, p t,
/// whether x > 0 and t >= 0.5, whether either is; logits x, p = sigmoid(x), targets t.
#[pyfunction]
pub(crate) fn cell_sums<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    weight: &Bound<'py, PyAny>,
    owner: &Bound<'py, PyAny>,
    focal: Option<(f32, f32)>,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let held = Held::new(logits, target, weight, owner)?;
    let cells = held.cells(focal)?;
    fill(py, Ix2(held.owner.len(), core::SUMS), None, false, |out| cells.sums(out))
}

/// (R, l, l) float32 gradients of the logits, of (R, 4) float32 times the sums of cross-entropy, focal loss, p and p t.
#[pyfunction]
pub(crate) fn cell_gradients<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    weight: &Bound<'py, PyAny>,
    owner: &Bound<'py, PyAny>,
    focal: Option<(f32, f32)>,
    factors: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray3<f32>>> {
    let held = Held::new(logits, target, weight, owner)?;
    let (cells, factors) = (held.cells(focal)?, array::<f32, Ix2>(factors, "factors")?);
    let factors = factors.as_slice()?;
    let shape = held.logits.shape();
    fill(py, Ix3(shape[0], shape[1], shape[2]), None, false, |out| cells.gradients(factors, out))
}
