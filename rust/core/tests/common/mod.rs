//! What the kernel tests share: masks as plain pixels, and the dumb ways to do things with them.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test may stop at what is not as it should be")]

use proptest::prelude::*;
use samfast_core::{MaskBuf, Masks, Polygons, Rule, Size, decode_bits_into, encode, rasterize_bits_into};

/// Row-major pixels, 0 or 1, of masks of one size.
#[derive(Clone, Debug)]
pub(crate) struct Pixels {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) masks: Vec<Vec<u8>>,
}

impl Pixels {
    pub(crate) fn size(&self) -> Size {
        Size::new(self.height as i64, self.width as i64).unwrap()
    }

    pub(crate) fn encoded(&self) -> MaskBuf {
        encode(&self.masks.concat(), self.size()).unwrap()
    }

    /// Runs by walking down every column.
    pub(crate) fn naive_runs(&self, mask: usize) -> Vec<u32> {
        let mut runs = vec![0];
        let mut value = 0;
        for x in 0..self.width {
            for y in 0..self.height {
                let pixel = self.masks[mask][y * self.width + x];
                if pixel == value {
                    *runs.last_mut().unwrap() += 1;
                } else {
                    runs.push(1);
                    value = pixel;
                }
            }
        }
        runs
    }

    /// Coordinates of the foreground.
    pub(crate) fn points(&self, mask: usize) -> Vec<(usize, usize)> {
        let inside = |&i: &usize| self.masks[mask][i] == 1;
        (0..self.height * self.width).filter(inside).map(|i| (i % self.width, i / self.width)).collect()
    }
}

/// Up to `most` masks of up to 20 x 20 pixels, sparse to full.
pub(crate) fn pixels(most: usize) -> impl Strategy<Value = Pixels> {
    (1..20usize, 1..20usize, 0..=most, 0.0..=1.0f64).prop_flat_map(|(height, width, count, density)| {
        let mask = prop::collection::vec(prop::bool::weighted(density).prop_map(u8::from), height * width);
        prop::collection::vec(mask, count).prop_map(move |masks| Pixels { height, width, masks })
    })
}

pub(crate) fn view(masks: &MaskBuf, size: Size) -> Masks<'_> {
    Masks::new(&masks.counts, &masks.offsets, size).unwrap()
}

/// Packed rows, over words that are not blank.
pub(crate) fn packed(masks: Masks<'_>) -> Vec<u64> {
    let mut words = vec![u64::MAX; masks.len() * masks.size().mask_words()];
    decode_bits_into(masks, &mut words).unwrap();
    words
}

/// Packed rows, over words that are not blank.
pub(crate) fn rasterized_bits(polygons: Polygons<'_>, size: Size, rule: Rule) -> Vec<u64> {
    let mut words = vec![u64::MAX; polygons.len() * size.mask_words()];
    rasterize_bits_into(polygons, size, rule, &mut words).unwrap();
    words
}
