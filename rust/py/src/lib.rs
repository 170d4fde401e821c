//! The Python binding of the kernels: extract, check, detach, call, map the error. No logic of its own.

#![deny(unsafe_code)]

mod convert;
mod distances;
mod losses;
mod masks;
mod metrics;
mod polygons;
mod prompts;
mod shapes;
mod shards;
mod view;

use pyo3::prelude::*;

/// The kernels of samfast. Flat arrays in, flat arrays out; `samfast.masks`, `samfast.prompts` and `samfast.metrics` are
/// their typed faces.
#[pymodule]
mod _rust {
    use pyo3::exceptions::PyImportError;
    use pyo3::prelude::*;
    use pyo3::types::PyDict;

    #[pymodule_export]
    use super::distances::distance_transform;
    #[pymodule_export]
    use super::losses::{cell_gradients, cell_sums};
    #[pymodule_export]
    use super::masks::{
        bits_to_masks, bits_to_rle, check_rle, masks_to_bits, masks_to_rle, rle_area, rle_area_average,
        rle_area_majority, rle_bbox, rle_canonical, rle_components, rle_intersect_pairs, rle_subtract_pairs,
        rle_to_bits, rle_to_masks, rle_to_strings, rle_union, strings_to_rle,
    };
    #[pymodule_export]
    use super::metrics::{boundaries, boundary_counts, overlap_counts, rle_pairwise_iou, surface_distances};
    #[pymodule_export]
    use super::polygons::{polygons_to_bits, polygons_to_masks, polygons_to_rle};
    #[pymodule_export]
    use super::prompts::{
        boxes_to_rle, jitter_boxes, logits_to_bits, logits_to_rle, rle_centroid_inside, rle_complement, rle_deepest,
        rle_difference_pairs, rle_farthest, rle_ring, sample_points,
    };
    #[pymodule_export]
    use super::shapes::{
        labels_to_rle, rle_crop, rle_fill_holes, rle_outlines, rle_remove_small, rle_resize, rle_to_labels, rle_warp,
    };

    #[pymodule_export]
    use super::shards::{RowError, ShardReader};

    /// Ctrl-C reaches running kernels; an instruction set that was asked for and is not there stops the import.
    #[pymodule_init]
    fn init(_: &Bound<'_, PyModule>) -> PyResult<()> {
        samfast_core::on_pause(super::convert::go_on);
        samfast_core::simd_level().map(|_| ()).map_err(PyImportError::new_err)
    }

    /// CRC-32C of a C-contiguous buffer, continuing from `seed`.
    #[pyfunction]
    #[pyo3(signature = (buffer, seed=0))]
    fn crc32c(buffer: &Bound<'_, PyAny>, seed: u32) -> PyResult<u32> {
        super::view::with_bytes(buffer, |bytes| samfast_core::crc32c(bytes, seed))
    }

    /// SHA-256, in hex, of C-contiguous buffers one after the other; each is taken from `parts` when it is its turn.
    #[pyfunction]
    fn sha256(parts: &Bound<'_, PyAny>) -> PyResult<String> {
        let mut hash = samfast_core::Fingerprint::default();
        for part in parts.try_iter()? {
            super::view::with_bytes(&part?, |bytes| hash.update(bytes))?;
        }
        Ok(hash.hex())
    }

    /// How this binary was built and what it runs on.
    #[pyfunction]
    fn build_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let info = PyDict::new(py);
        info.set_item("version", env!("CARGO_PKG_VERSION"))?;
        info.set_item("profile", if cfg!(debug_assertions) { "debug" } else { "release" })?;
        info.set_item("target", format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS))?;
        info.set_item("simd", samfast_core::simd_level().map_err(PyImportError::new_err)?.name())?;
        info.set_item("threads", samfast_core::thread_count())?;
        Ok(info)
    }
}
