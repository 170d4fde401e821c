//! The kernels of samfast: masks as run lengths, polygons, components, prompts, overlaps and checksums.
//!
//! Plain slices in, owned vectors out; nothing here knows Python, and only `simd` is unsafe. Run lengths are COCO's:
//! column-major, the first run is background. Every kernel returns them in canonical form: no run is zero except a
//! leading one, so equal masks have equal runs. Input is validated once, by [`Masks::new`] or [`Bits::new`]; runs may
//! hold zero-length ones.

#![deny(unsafe_code)]

mod area;
mod around;
mod batch;
mod bilinear;
mod bits;
mod boundary;
mod canvas;
mod cell;
mod center;
mod checksum;
mod columns;
mod components;
mod edges;
mod edt;
mod encode;
mod error;
mod files;
mod fill;
mod labels;
mod loss;
mod measure;
mod memory;
mod nearest;
mod outline;
mod overlap;
mod pairwise;
mod parallel;
mod polygon;
mod rasterize;
mod reader;
mod regions;
mod reshape;
mod rle;
mod rng;
mod sample;
mod sets;
mod simd;
mod statistics;
mod strings;
mod surface;
mod upscale;
mod warp;
mod widen;
mod window;

pub use area::{Grid, area_average_into};
pub use around::{boxes_to_masks, complement, ring};
pub use batch::Batch;
pub use bits::{BitBuf, Bits, pack, threshold, unpack_into};
pub use boundary::{boundaries, boundary_overlap};
pub use cell::Focal;
pub use center::{Found, centroid_inside, deepest, farthest};
pub use checksum::{Fingerprint, crc32c};
pub use components::{Connectivity, components};
pub use edt::{Border, Distance, Spacing, distance_transform};
pub use encode::{decode_bits_into, decode_into, encode, encode_bits};
pub use error::{BatchError, BoxError, Error, PolygonError, RleError, RowError, SizeError, StringError};
pub use labels::{from_labels, to_labels};
pub use loss::{Cells, MOVING, SUMS};
pub use measure::{areas, boxes, is_sparse};
pub use outline::{HoleOutlines, Outlines, outlines};
pub use overlap::overlap;
pub use pairwise::pairwise_iou;
pub use parallel::{on_pause, thread_count};
pub use polygon::Polygons;
pub use rasterize::{Rule, rasterize, rasterize_bits_into, rasterize_into};
pub use reader::{Feature, Output, Reader, Row};
pub use regions::{Holes, fill_holes, remove_small};
pub use reshape::{crop, resize};
pub use rle::{MaskBuf, Masks, Size};
pub use rng::Rng;
pub use sample::{Jitter, jitter_boxes, sample_points};
pub use sets::{canonical, difference, intersect, subtract, union};
pub use simd::{Level, simd_level};
pub use strings::{from_strings, to_strings};
pub use surface::{Convention, surface_distances};
pub use upscale::{Upscale, upscale_to_bits, upscale_to_runs};
pub use warp::{Affine, warp};
