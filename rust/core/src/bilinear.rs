//! Bilinear interpolation as torch's `interpolate(mode="bilinear", align_corners=False)` defines it.

use crate::error::{Error, Result};

/// Where one place takes its value from: two neighbours and their weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tap {
    pub(crate) near: u32,
    pub(crate) far: u32,
    pub(crate) near_weight: f32,
    pub(crate) far_weight: f32,
}

impl Tap {
    /// The value between two, rounded as torch rounds it.
    #[inline(always)]
    pub(crate) fn mix(self, near: f32, far: f32) -> f32 {
        near.mul_add(self.near_weight, far * self.far_weight)
    }
}

/// torch's `compute_source_index_and_lambda`, `align_corners=False`, in float32 as there: the first `count` of `target`
/// places among `source`.
///
/// # Errors
/// [`Error::Room`].
pub(crate) fn taps(source: usize, target: usize, count: usize) -> Result<Vec<Tap>> {
    let scale = source as f32 / target as f32;
    let last = source - 1;
    let tap = |place: usize| {
        let position = ((place as f32 + 0.5) * scale - 0.5).max(0.0);
        let near = (position as usize).min(last);
        let far_weight = (position - near as f32).clamp(0.0, 1.0);
        Tap { near: near as u32, far: (near + 1).min(last) as u32, near_weight: 1.0 - far_weight, far_weight }
    };
    let mut taps = Vec::new();
    taps.try_reserve_exact(count).map_err(|_| Error::Room { count, of: "places to interpolate at" })?;
    taps.extend((0..count).map(tap));
    Ok(taps)
}
