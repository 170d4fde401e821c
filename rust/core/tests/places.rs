//! Points of masks, their surroundings and upscaled logits, against the dumb ways to find them.
#![allow(clippy::unwrap_used, reason = "a test may stop at what is not as it should be")]

mod common;

use std::cmp::Reverse;

use common::{Pixels, pixels, view};
use proptest::prelude::*;
use samfast_core::{
    BoxError, Error, Size, Upscale, boxes_to_masks, centroid_inside, complement, decode_into, deepest, farthest, ring,
    upscale_to_bits, upscale_to_runs,
};

fn square(a: (usize, usize), b: (usize, usize)) -> i64 {
    let (dx, dy) = (a.0.abs_diff(b.0) as i64, a.1.abs_diff(b.1) as i64);
    dx * dx + dy * dy
}

/// The squared distance of a pixel to what is not of the mask, around the image as well.
fn depth(image: &Pixels, mask: usize, (x, y): (usize, usize)) -> i64 {
    let outside = (0..image.height + 2).flat_map(|v| (0..image.width + 2).map(move |u| (u, v))).filter(|&(u, v)| {
        let on_image = (1..=image.width).contains(&u) && (1..=image.height).contains(&v);
        !on_image || image.masks[mask][(v - 1) * image.width + u - 1] == 0
    });
    outside.map(|place| square((x + 1, y + 1), place)).min().unwrap()
}

fn place(point: [i32; 2]) -> (usize, usize) {
    (point[0] as usize, point[1] as usize)
}

proptest! {
    #[test]
    fn the_deepest_is_the_first_of_the_deepest(image in pixels(2), excluded in prop::array::uniform2(-3..20i32)) {
        let masks = image.encoded();
        let excluded: Vec<_> = image.masks.iter().map(|_| excluded).collect();
        let found = deepest(view(&masks, image.size()), &excluded).unwrap();
        for (mask, found) in found.iter().enumerate() {
            let allowed = |&(x, y): &(usize, usize)| [x as i32, y as i32] != excluded[mask];
            let best = image.points(mask).into_iter().filter(allowed)
                .map(|point| (depth(&image, mask, point), Reverse((point.1, point.0)))).max();
            let (point, square) = best.map_or(([-1, -1], 0), |(square, Reverse((y, x)))| ([x as i32, y as i32], square));
            prop_assert_eq!((found.point, found.square), (point, square));
        }
    }

    #[test]
    fn each_is_the_farthest_from_those_before(image in pixels(2), k in 1..6usize) {
        let masks = image.encoded();
        let found = farthest(view(&masks, image.size()), k);
        if let Some(mask) = (0..image.masks.len()).find(|&mask| image.points(mask).is_empty()) {
            prop_assert_eq!(found, Err(Error::EmptyMask { mask }));
            return Ok(());
        }
        for (mask, found) in found.unwrap().chunks(k).enumerate() {
            for i in 1..k {
                let apart = |point| found[..i].iter().map(|before| square(place(before.point), point)).min().unwrap();
                let best = image.points(mask).into_iter().map(|point| (apart(point), Reverse((point.1, point.0)))).max();
                let (x, y) = place(found[i].point);
                prop_assert_eq!(Some((found[i].square, Reverse((y, x)))), best);
            }
        }
    }

    #[test]
    fn nothing_inside_is_nearer_to_the_centroid(image in pixels(2)) {
        let masks = image.encoded();
        let Ok(found) = centroid_inside(view(&masks, image.size())) else {
            prop_assert!((0..image.masks.len()).any(|mask| image.points(mask).is_empty()));
            return Ok(());
        };
        for (mask, &found) in found.iter().enumerate() {
            let points = image.points(mask);
            let n = points.len();
            let (u, v) = points.iter().fold((0, 0), |(u, v), &(x, y)| (u + x, v + y));
            let best = points.iter().map(|&(x, y)| (square((x * n, y * n), (u, v)), y, x)).min().unwrap();
            prop_assert_eq!(place(found), (best.2, best.1));
        }
    }

    #[test]
    fn a_ring_is_what_is_near_but_not_inside(image in pixels(2), radius in 0.0..9.0f64) {
        let masks = image.encoded();
        let (size, stride) = (image.size(), image.size().pixels());
        let mut found = vec![2; image.masks.len() * stride];
        decode_into(view(&ring(view(&masks, size), radius).unwrap(), size), false, &mut found).unwrap();
        for mask in 0..image.masks.len() {
            let points = image.points(mask);
            for i in 0..stride {
                let pixel = (i % image.width, i / image.width);
                let nearest = points.iter().map(|&point| square(point, pixel)).min();
                let is_near = nearest.is_some_and(|nearest| nearest > 0 && nearest as f64 <= radius * radius);
                prop_assert_eq!(found[mask * stride + i] == 1, is_near);
            }
        }
    }

    #[test]
    fn complements_and_boxes(image in pixels(2), bounds in prop::array::uniform4(-9..29i64)) {
        let (size, masks) = (image.size(), image.encoded());
        let flipped = image.masks.iter().map(|mask| mask.iter().map(|pixel| 1 - pixel).collect()).collect();
        let flipped = Pixels { masks: flipped, ..image.clone() };
        prop_assert_eq!(complement(view(&masks, size)).unwrap(), flipped.encoded());
        let [left, top, right, bottom] = bounds;
        let boxed = boxes_to_masks(&[bounds], size);
        if left > right || top > bottom {
            let refused = matches!(boxed, Err(Error::Box { index: 0, reason: BoxError::OutOfOrder(_) }));
            prop_assert!(refused);
            return Ok(());
        }
        let inside = |i: usize| {
            let (x, y) = ((i % image.width) as i64, (i / image.width) as i64);
            u8::from((left..=right).contains(&x) && (top..=bottom).contains(&y))
        };
        let filled = Pixels { masks: vec![(0..size.pixels()).map(inside).collect()], ..image };
        prop_assert_eq!(boxed.unwrap(), filled.encoded());
    }

    #[test]
    fn upscaled_as_by_two_full_interpolations(
        low in 1..12usize, model in 1..40usize, cut in prop::array::uniform2(0.0..1.0f64),
        original in prop::array::uniform2(1..150usize), levels in prop::collection::vec(-3..4i8, 144), threshold in -2..3i8,
    ) {
        let threshold = f32::from(threshold);
        let logits: Vec<f32> = levels[..low * low].iter().map(|&level| f32::from(level)).collect();
        let resized = cut.map(|cut| ((model as f64 * cut) as usize).max(1));
        let of = |[height, width]: [usize; 2]| Size::new(height as i64, width as i64).unwrap();
        let way = Upscale::new(of([low; 2]), of([model; 2]), of(resized), of(original)).unwrap();
        let squared = interpolate(&logits, [low; 2], [model; 2]);
        let cropped: Vec<f32> = squared.chunks(model).take(resized[0]).flat_map(|row| row[..resized[1]].to_vec()).collect();
        let full = interpolate(&cropped, resized, original);
        let mask = full.iter().map(|&value| u8::from(value > threshold)).collect();
        let expected = Pixels { height: original[0], width: original[1], masks: vec![mask] };
        let runs = upscale_to_runs(&logits, &way, threshold).unwrap();
        prop_assert_eq!(&runs, &expected.encoded());
        let bits = upscale_to_bits(&logits, &way, threshold).unwrap();
        prop_assert_eq!(samfast_core::encode_bits(bits.view()).unwrap(), runs);
    }
}

/// Bilinear, `align_corners=False`, as torch rounds.
fn interpolate(values: &[f32], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    let tap = |place: usize, source: usize, target: usize| {
        let position = ((place as f32 + 0.5) * (source as f32 / target as f32) - 0.5).max(0.0);
        let near = (position as usize).min(source - 1);
        (near, (near + 1).min(source - 1), position - near as f32)
    };
    let mix = |near: f32, far: f32, weight: f32| near.mul_add(1.0 - weight, far * weight);
    let pixel = |i: usize| {
        let (y0, y1, v) = tap(i / to[1], from[0], to[0]);
        let (x0, x1, u) = tap(i % to[1], from[1], to[1]);
        let row = |y: usize| mix(values[y * from[1] + x0], values[y * from[1] + x1], u);
        mix(row(y0), row(y1), v)
    };
    (0..to[0] * to[1]).map(pixel).collect()
}

#[test]
fn what_does_not_fit_is_refused() {
    let size = Size::new(4, 4).unwrap();
    let masks = samfast_core::encode(&[1; 32], size).unwrap();
    let masks = view(&masks, size);
    assert!(deepest(masks, &[[0, 0]; 3]).is_err());
    assert!(matches!(farthest(masks, usize::MAX), Err(Error::Option { name: "k", .. })));
    for radius in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(ring(masks, radius), Err(Error::Option { name: "radius_px", .. })));
    }
    assert!(Upscale::new(size, size, Size::new(5, 4).unwrap(), size).is_err());
    let way = Upscale::new(size, size, size, size).unwrap();
    assert!(matches!(upscale_to_runs(&[0.0; 16], &way, f32::NAN), Err(Error::Option { name: "threshold", .. })));
    assert!(matches!(upscale_to_bits(&[0.0; 16], &way, f32::INFINITY), Err(Error::Option { name: "threshold", .. })));
    assert!(upscale_to_runs(&[0.0; 17], &way, 0.0).is_err());
    let mut logits = [0.0; 32];
    logits[20] = f32::INFINITY;
    assert_eq!(upscale_to_bits(&logits, &way, 0.0), Err(Error::Logit { map: 1, value: f32::INFINITY }));
}
