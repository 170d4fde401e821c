//! Distances: the exact Euclidean distance transform.

use numpy::{Element, PyUntypedArrayMethods, ndarray::Ix3};
use pyo3::prelude::*;
use samfast_core as core;

use crate::convert::{array, array_mut, call, size, to_python};

/// Write into `out`, (N, H, W) float64 or float32, each pixel's distance to the nearest 0 of its (N, H, W) uint8 mask.
///
/// With `border`, what lies outside the mask counts as 0 too; without, a mask that has no 0 is infinite all over.
#[pyfunction]
pub(crate) fn distance_transform(
    masks: &Bound<'_, PyAny>,
    spacing_height: f64,
    spacing_width: f64,
    border: bool,
    out: &Bound<'_, PyAny>,
) -> PyResult<()> {
    if array::<f32, Ix3>(out, "out").is_ok() {
        transform_into::<f32>(masks, spacing_height, spacing_width, border, out)
    } else {
        transform_into::<f64>(masks, spacing_height, spacing_width, border, out)
    }
}

fn transform_into<T: Element + core::Distance>(
    masks: &Bound<'_, PyAny>,
    spacing_height: f64,
    spacing_width: f64,
    border: bool,
    out: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let pixels = array::<u8, Ix3>(masks, "masks")?;
    let mut out = array_mut::<T, Ix3>(out, "out", pixels.shape())?;
    let size = size(pixels.shape()[1] as i64, pixels.shape()[2] as i64)?;
    let spacing = core::Spacing::new(spacing_height, spacing_width).map_err(to_python)?;
    let border = if border { core::Border::Background } else { core::Border::Nothing };
    let (pixels, out) = (pixels.as_slice()?, out.as_slice_mut()?);
    call(masks.py(), || core::distance_transform(pixels, size, spacing, border, out))
}
