//! Packed masks against plain pixels.
#![allow(clippy::unwrap_used, reason = "a test may stop at what is not as it should be")]

mod common;

use common::{packed, pixels, view};
use proptest::prelude::*;
use samfast_core::{Bits, Error, Size, decode_into, encode, encode_bits, pack, threshold, unpack_into};

/// Row-major pixels of up to three masks of up to 200 x 200, wider than a word, denser than blobs.
fn wide() -> impl Strategy<Value = (Size, Vec<u8>)> {
    (1..200usize, 1..200usize, 0..4usize, 0.0..=1.0f64, any::<u64>()).prop_map(
        |(height, width, count, density, seed)| {
            let mut rng = samfast_core::Rng::new(seed, *b"testing ");
            let mut blob = 0;
            let masks = (0..count * height * width).map(|_| {
                // Stretches of equal pixels, sometimes long.
                if rng.unit() < density {
                    blob = (rng.below(2) * (1 + rng.below(255))) as u8;
                }
                blob
            });
            let masks = masks.collect();
            (Size::new(height as i64, width as i64).unwrap(), masks)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn there_and_back((size, masks) in wide()) {
        let bits = pack(&masks, size).unwrap();
        let rows = (0..bits.view().len()).flat_map(|mask| bits.view().mask(mask).chunks(size.row_words()));
        for (row, pixels) in rows.zip(masks.chunks(size.width())) {
            for (x, &pixel) in pixels.iter().enumerate() {
                prop_assert_eq!(row[x / 64] >> (x % 64) & 1 == 1, pixel != 0);
            }
        }
        let mut back = vec![9; masks.len()];
        unpack_into(bits.view(), &mut back).unwrap();
        let binary: Vec<u8> = masks.iter().map(|&pixel| u8::from(pixel != 0)).collect();
        prop_assert_eq!(&back, &binary);
        // Between bits and runs, and between bytes and runs.
        let runs = encode_bits(bits.view()).unwrap();
        prop_assert_eq!(&runs, &encode(&masks, size).unwrap());
        prop_assert_eq!(packed(view(&runs, size)), bits.into_words());
        back.fill(9);
        decode_into(view(&runs, size), false, &mut back).unwrap();
        prop_assert_eq!(back, binary);
    }

    #[test]
    fn logits_above_a_threshold((size, masks) in wide(), level in 0.0..200.0f32) {
        let logits: Vec<f32> = masks.iter().map(|&value| if value == 7 { f32::NAN } else { f32::from(value) }).collect();
        let above: Vec<u8> = logits.iter().map(|&value| u8::from(value > level)).collect();
        prop_assert_eq!(threshold(&logits, level, size).unwrap(), pack(&above, size).unwrap());
    }

    #[test]
    fn runs_as_a_walk_down_the_columns_finds_them(pixels in pixels(3)) {
        let masks = pixels.encoded();
        for mask in 0..pixels.masks.len() {
            prop_assert_eq!(view(&masks, pixels.size()).runs(mask), pixels.naive_runs(mask));
        }
    }
}

#[test]
fn words_that_are_no_masks_are_refused() {
    let size = Size::new(3, 70).unwrap();
    assert_eq!(size.row_words(), 2);
    assert_eq!(Bits::new(&[0; 12], size).unwrap().len(), 2);
    assert!(Bits::new(&[0; 11], size).unwrap_err().to_string().contains("multiple of 6"));
    let mut words = [0; 12];
    words[9] = 1 << 5;
    assert_eq!(Bits::new(&words, size).unwrap().mask(1)[3], 1 << 5);
    words[9] = 1 << 6;
    assert_eq!(Bits::new(&words, size).unwrap_err(), Error::Padding { mask: 1, row: 1 });
    assert!(pack(&[0; 11], size).is_err());
    assert!(threshold(&[0.0; 11], 0.0, size).is_err());
    let full = Size::new(1, 64).unwrap();
    assert!(Bits::new(&[u64::MAX], full).is_ok());
}

#[test]
fn too_many_masks_are_an_error() {
    let size = Size::new(65535, 65535).unwrap();
    let error = samfast_core::BitBuf::zeros(usize::MAX / 2, size).unwrap_err();
    assert!(matches!(error, Error::Memory { .. }), "{error}");
}
