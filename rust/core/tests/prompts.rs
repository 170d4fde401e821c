//! Draws: where they fall, how often, and that they depend on nothing but their key.
#![allow(clippy::unwrap_used, reason = "a test may stop at what is not as it should be")]

mod common;

use std::collections::BTreeSet;

use common::{pixels, view};
use proptest::prelude::*;
use samfast_core::{BoxError, Error, Jitter, Rng, Size, boxes, encode, jitter_boxes, sample_points};

proptest! {
    #[test]
    fn points_lie_inside_and_differ(image in pixels(3), keys in prop::array::uniform3(any::<u64>()), k in 0..40usize) {
        let masks = image.encoded();
        let keys = &keys[..image.masks.len()];
        let empty = (0..image.masks.len()).find(|&mask| image.points(mask).is_empty());
        let drawn = sample_points(view(&masks, image.size()), keys, k);
        if let Some(mask) = empty.filter(|_| k > 0) {
            prop_assert_eq!(drawn, Err(Error::EmptyMask { mask }));
            return Ok(());
        }
        for (mask, points) in drawn.unwrap().chunks(k.max(1)).enumerate() {
            let inside = image.points(mask);
            let points: Vec<_> = points.iter().map(|point| (point[0] as usize, point[1] as usize)).collect();
            prop_assert!(points.iter().all(|point| inside.contains(point)));
            let different: BTreeSet<_> = points.iter().collect();
            prop_assert_eq!(different.len(), k.min(inside.len()));
        }
    }

    #[test]
    fn fewer_points_are_the_first_of_more(image in pixels(1), key: u64) {
        prop_assume!(!image.masks.is_empty() && !image.points(0).is_empty());
        let masks = image.encoded();
        let draw = |k| sample_points(view(&masks, image.size()), &[key], k).unwrap();
        prop_assert_eq!(&draw(30)[..7], &draw(7)[..]);
    }

    #[test]
    fn below_stays_below(key: u64, bound: u64) {
        let value = Rng::new(key, *b"test    ").below(bound);
        prop_assert!(value < bound || (bound == 0 && value == 0));
    }

    #[test]
    fn boxes_stay_near_on_the_image_and_in_order(
        corners in prop::array::uniform4(-50.0..150.0f64), key: u64, ratio in 0.0..2.0f64, max_px in 0.0..30.0f64,
    ) {
        let [a, b, c, d] = corners;
        let bounds = [a.min(c), b.min(d), a.max(c), b.max(d)];
        let size = Size::new(80, 100).unwrap();
        let moved = jitter_boxes(&[bounds], &[key], Jitter { ratio, max_px }, size).unwrap()[0];
        prop_assert!(moved[0] <= moved[2] && moved[1] <= moved[3]);
        for i in 0..4 {
            let limit = [99.0, 79.0][i % 2];
            let reach = (ratio * (bounds[i % 2 + 2] - bounds[i % 2])).min(max_px);
            prop_assert!((0.0..=limit).contains(&moved[i]));
            if ratio <= 0.5 {
                prop_assert!((moved[i] - bounds[i].clamp(0.0, limit)).abs() <= reach + 1e-9);
            }
        }
    }
}

#[test]
fn the_stream_is_the_documented_one() {
    let mut rng = Rng::new(0x0123_4567_89AB_CDEF, *b"points  ");
    let bits: Vec<u64> = (0..4).map(|_| rng.bits()).collect();
    assert_eq!(bits, GOLDEN);
    let mut rng = Rng::new(0x0123_4567_89AB_CDEF, *b"points  ");
    let units: Vec<f64> = (0..4).map(|_| rng.unit()).collect();
    assert!(units.iter().zip(GOLDEN).all(|(unit, bits)| *unit == (bits >> 11) as f64 / 2f64.powi(53)));
}

const GOLDEN: [u64; 4] = [0x1628_4D5D_C2A2_C711, 0x5C3F_9C41_9AE6_8AEC, 0x41EE_7C50_06CC_9C9F, 0x394B_376A_52AF_9081];

#[test]
fn batches_and_threads_change_no_draw() {
    let size = Size::new(100, 100).unwrap();
    let pixels: Vec<u8> = (0..200 * size.pixels()).map(|i| u8::from(i % 3 == 0)).collect();
    let masks = encode(&pixels, size).unwrap();
    let keys: Vec<u64> = (0..200).map(|i| i * 7919).collect();
    let together = sample_points(view(&masks, size), &keys, 50).unwrap();
    for mask in [0, 99, 199] {
        let alone = encode(&pixels[mask * size.pixels()..(mask + 1) * size.pixels()], size).unwrap();
        let points = sample_points(view(&alone, size), &keys[mask..=mask], 50).unwrap();
        assert_eq!(points, together[mask * 50..(mask + 1) * 50]);
    }
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    let size = Size::new(4, 4).unwrap();
    let masks = encode(&[1; 16], size).unwrap();
    let error = sample_points(view(&masks, size), &[], 1).unwrap_err();
    assert_eq!(error.to_string(), "keys has 0 items, expected 1");
    assert!(matches!(sample_points(view(&masks, size), &[1], usize::MAX), Err(Error::Option { name: "k", .. })));
    let jitter = Jitter { ratio: 0.1, max_px: 20.0 };
    let error = jitter_boxes(&[[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, -1.0, -1.0]], &[1, 2], jitter, size).unwrap_err();
    assert!(matches!(error, Error::Box { index: 1, reason: BoxError::OutOfOrder(_) }));
    let error = jitter_boxes(&[[0.0, f64::NAN, 1.0, 1.0]], &[1], jitter, size).unwrap_err();
    assert!(matches!(error, Error::Box { index: 0, reason: BoxError::NotFinite(_) }));
    let error = jitter_boxes(&[], &[], Jitter { ratio: -0.1, max_px: 20.0 }, size).unwrap_err();
    assert_eq!(error.to_string(), "ratio is -0.1, expected a finite number of at least 0");
    let long = Size::new(1, (1 << 24) + 1).unwrap();
    let masks = encode(&vec![1; long.pixels()], long).unwrap();
    for error in [
        sample_points(view(&masks, long), &[1], 1).unwrap_err(),
        jitter_boxes(&[], &[], jitter, long).unwrap_err(),
        boxes(view(&masks, long)).unwrap_err(),
    ] {
        assert!(error.to_string().ends_with("has a side of more than 2^24 pixels"), "{error}");
    }
}
