//! Whatever comes in, nothing panics, and what comes out is a mask: the codec and the rasteriser.
//!
//! `PROPTEST_CASES=10000000 cargo test --release --test fuzz` for a long run.
#![allow(clippy::unwrap_used, reason = "a test may stop at what is not as it should be")]

mod common;

use common::{packed, rasterized_bits, view};
use proptest::prelude::*;
use samfast_core::{
    Bits, Connectivity, HoleOutlines, MaskBuf, Masks, Polygons, Rule, Size, canonical, encode, encode_bits,
    from_strings, outlines, rasterize, rasterize_into, to_strings,
};

/// Bytes of the alphabet, mostly, so that some strings are long before they are wrong.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![9 => 48..112u8, 1 => any::<u8>()], 0..40)
}

/// A number as a file may hold it: any bits at all, or one near a mask.
fn coordinate() -> impl Strategy<Value = f64> {
    prop_oneof![
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => -1e8..1e8f64,
        3 => (-100..400i32).prop_map(|v| f64::from(v) / 5.0),
        3 => -20.0..80.0f64,
    ]
}

fn check_masks(masks: &MaskBuf, size: Size) {
    let view = Masks::new(&masks.counts, &masks.offsets, size).unwrap();
    assert_eq!(&canonical(view).unwrap(), masks);
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn the_codec_takes_any_bytes(text in text(), height in 1..20i64, width in 1..20i64) {
        let size = Size::new(height, width).unwrap();
        if let Ok(masks) = from_strings(&[&text], size) {
            let again = to_strings(&masks.counts, &masks.offsets).unwrap();
            prop_assert_eq!(from_strings(&again, size).unwrap(), masks);
        }
    }

    #[test]
    fn the_codec_gives_runs_back(runs in prop::collection::vec(0..u32::MAX / 32, 1..30)) {
        let sum: u64 = runs.iter().map(|&run| u64::from(run)).sum();
        prop_assume!(sum > 0);
        let masks = MaskBuf { offsets: vec![0, runs.len() as i64], counts: runs };
        let text = to_strings(&masks.counts, &masks.offsets).unwrap();
        prop_assert_eq!(from_strings(&text, Size::new(sum as i64, 1).unwrap()).unwrap(), masks);
    }

    #[test]
    fn the_rasteriser_takes_any_numbers(
        coords in prop::collection::vec(coordinate(), 0..24), cut in 0..24i64, height in 1..40i64, width in 1..70i64,
    ) {
        let size = Size::new(height, width).unwrap();
        let end = coords.len() as i64;
        for offsets in [vec![0, end], vec![0, cut.min(end) / 2 * 2, end]] {
            let objects = [0, offsets.len() as i64 - 1];
            let Ok(polygons) = Polygons::new(&coords, &offsets, &objects) else { continue };
            for rule in [Rule::Coco, Rule::PixelCenter, Rule::OpenCv] {
                let masks = rasterize(polygons, size, rule).unwrap();
                check_masks(&masks, size);
                let words = rasterized_bits(polygons, size, rule);
                prop_assert_eq!(&encode_bits(Bits::new(&words, size).unwrap()).unwrap(), &masks);
                prop_assert_eq!(packed(view(&masks, size)), words);
                let mut bytes = vec![7; polygons.len() * size.pixels()];
                rasterize_into(polygons, size, rule, false, &mut bytes).unwrap();
                prop_assert_eq!(&encode(&bytes, size).unwrap(), &masks);
                bytes.fill(0);
                rasterize_into(polygons, size, rule, true, &mut bytes).unwrap();
                prop_assert_eq!(&encode(&bytes, size).unwrap(), &masks);
            }
        }
    }

    #[test]
    fn outlines_rasterise_to_the_mask(bits in prop::collection::vec(any::<bool>(), 1..300), width in 1..20usize) {
        let size = Size::new(bits.len().div_ceil(width) as i64, width as i64).unwrap();
        let mut pixels: Vec<u8> = bits.iter().map(|&bit| u8::from(bit)).collect();
        pixels.resize(size.pixels(), 0);
        let masks = encode(&pixels, size).unwrap();
        for connectivity in [Connectivity::Four, Connectivity::Eight] {
            let found = outlines(view(&masks, size), connectivity, HoleOutlines::Bridge).unwrap();
            if found.polygon_ends.is_empty() {
                continue;
            }
            let coords: Vec<f64> = found.coords.iter().map(|&v| v as f64).collect();
            let offsets = [&[0], &found.polygon_ends[..]].concat();
            let objects = [0, found.polygon_ends.len() as i64];
            let polygons = Polygons::new(&coords, &offsets, &objects).unwrap();
            for rule in [Rule::Coco, Rule::PixelCenter] {
                prop_assert_eq!(&rasterize(polygons, size, rule).unwrap(), &masks);
            }
        }
    }
}
