//! Metrics against the dumb ways to compute them.
#![allow(clippy::unwrap_used, reason = "a test may stop at what is not as it should be")]

mod common;

use common::{Pixels, pixels, view};
use proptest::prelude::*;
use samfast_core::{
    Batch, Convention, Error, Size, Spacing, boundaries, boundary_overlap, encode, overlap, pack, pairwise_iou,
    surface_distances, threshold,
};

/// The same masks, every pixel a block of 3 x 5: stretches and words that blobs have.
fn grown(image: &Pixels) -> Pixels {
    let (height, width) = (image.height * 3, image.width * 5);
    let grow = |mask: &Vec<u8>| {
        let at = |i: usize| mask[i / width / 3 * image.width + i % width / 5];
        (0..height * width).map(at).collect()
    };
    Pixels { height, width, masks: image.masks.iter().map(grow).collect() }
}

fn on(image: &Pixels, mask: usize, y: isize, x: isize) -> bool {
    let inside = (0..image.height as isize).contains(&y) && (0..image.width as isize).contains(&x);
    inside && image.masks[mask][y as usize * image.width + x as usize] == 1
}

/// The edge of one mask, by looking at every pixel's surroundings.
fn edge(image: &Pixels, mask: usize, distance: isize) -> Vec<u8> {
    let near = |y: isize, x: isize| {
        (-distance..=distance).any(|dy| (-distance..=distance).any(|dx| !on(image, mask, y + dy, x + dx)))
    };
    let positions = (0..image.height as isize).flat_map(|y| (0..image.width as isize).map(move |x| (y, x)));
    positions.map(|(y, x)| u8::from(on(image, mask, y, x) && near(y, x))).collect()
}

/// Outline pixels of one mask.
fn outline(image: &Pixels, mask: usize) -> Vec<(usize, usize)> {
    let beside = |&(x, y): &(usize, usize)| {
        let (y, x) = (y as isize, x as isize);
        [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)].into_iter().any(|(y, x)| !on(image, mask, y, x))
    };
    image.points(mask).into_iter().filter(beside).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn pairs_share_what_both_hold(
        image in pixels(6),
        large in any::<bool>(),
        crowds in prop::collection::vec(0..3u8, 3),
    ) {
        let image = if large { grown(&image) } else { image };
        let size = image.size();
        let half = image.masks.len() / 2;
        let part = |range: std::ops::Range<usize>| encode(&image.masks[range].concat(), size).unwrap();
        let (a, b) = (part(0..half), part(half..2 * half));
        let mut out = vec![9.0; half * half];
        pairwise_iou(view(&a, size), view(&b, size), &crowds[..half], &mut out).unwrap();
        for (i, found) in out.into_iter().enumerate() {
            let (first, second) = (&image.masks[i / half], &image.masks[half + i % half]);
            let count = |keep: fn(u8, u8) -> bool| first.iter().zip(second).filter(|&(&a, &b)| keep(a, b)).count();
            let shared = count(|a, b| a + b == 2);
            let whole = if crowds[i % half] != 0 { count(|a, _| a == 1) } else { count(|a, b| a + b > 0) };
            prop_assert_eq!(found, if shared == 0 { 0.0 } else { shared as f64 / whole as f64 });
        }
    }

    #[test]
    fn edges_are_near_background(image in pixels(2), large in any::<bool>(), distance in 1..9usize) {
        let image = if large { grown(&image) } else { image };
        let size = image.size();
        let edges: Vec<_> = (0..image.masks.len()).map(|mask| edge(&image, mask, distance as isize)).collect();
        let masks = image.encoded();
        let found = boundaries(Batch::Runs(view(&masks, size)), distance).unwrap();
        prop_assert_eq!(found, encode(&edges.concat(), size).unwrap());
        if let [first, second] = &image.masks[..] {
            let counts = boundary_overlap(Batch::Bytes(first, size), Batch::Bytes(second, size), distance).unwrap();
            let expected = overlap(Batch::Bytes(&edges[0], size), Batch::Bytes(&edges[1], size), None).unwrap();
            prop_assert_eq!(counts, expected);
        }
    }

    #[test]
    fn outlines_are_as_far_apart_as_their_pixels(image in pixels(2), large in any::<bool>(), turned in any::<bool>()) {
        prop_assume!(image.masks.len() == 2);
        let image = if large { grown(&image) } else { image };
        let size = image.size();
        let outlines = [outline(&image, 0), outline(&image, 1)];
        let spacing = if turned { (2.0, 0.5) } else { (1.0, 1.0) };
        let far = |&(x, y): &(usize, usize), other: &[(usize, usize)]| {
            let squares = other.iter().map(|&(u, v)| {
                let (dy, dx) = (y.abs_diff(v) as f64 * spacing.0, x.abs_diff(u) as f64 * spacing.1);
                dy * dy + dx * dx
            });
            squares.fold(f64::INFINITY, f64::min).sqrt()
        };
        let [first, second] = [(0, 1), (1, 0)].map(|(own, other)| {
            outlines[own].iter().map(|pixel| far(pixel, &outlines[other])).collect::<Vec<_>>()
        });
        let bits = [0, 1].map(|mask| pack(&image.masks[mask], size).unwrap());
        let [a, b] = bits.each_ref().map(|bits| Batch::Bits(bits.view()));
        let pixel = Spacing::new(spacing.0, spacing.1).unwrap();
        let found = surface_distances(a, b, Convention::MedPy, pixel, &[1.0]).unwrap();
        match (first.is_empty(), second.is_empty()) {
            (true, true) => prop_assert!(found.iter().all(|value| value.is_nan())),
            (false, false) => {
                let all: Vec<_> = first.iter().chain(&second).copied().collect();
                prop_assert_eq!(found[0], all.iter().copied().fold(0.0, f64::max));
                let within = all.iter().filter(|&&distance| distance <= 1.0).count();
                prop_assert_eq!(found[3], within as f64 / all.len() as f64);
                let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
                prop_assert!((found[2] - f64::midpoint(mean(&first), mean(&second))).abs() < 1e-9);
            }
            _ => prop_assert_eq!(found, vec![f64::INFINITY, f64::INFINITY, f64::INFINITY, 0.0]),
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let (size, other) = (Size::new(2, 3).unwrap(), Size::new(3, 2).unwrap());
    let (mask, logits) = ([1; 6], [f32::NAN; 6]);
    let bytes = Batch::Bytes(&mask, size);
    let convention = Convention::Monai;
    let errors = [
        overlap(bytes, Batch::Bytes(&mask, other), None).unwrap_err(),
        overlap(bytes, bytes, Some(Batch::Bytes(&[1; 12], size))).unwrap_err(),
        overlap(bytes, Batch::Bytes(&mask[1..], size), None).unwrap_err(),
        overlap(bytes, Batch::Logits(&logits, 0.0, size), None).unwrap_err(),
        overlap(bytes, Batch::Logits(&[0.0; 6], f32::NAN, size), None).unwrap_err(),
        boundary_overlap(Batch::Logits(&[0.0; 6], f32::INFINITY, size), bytes, 1).unwrap_err(),
        threshold(&[0.0; 6], f32::NEG_INFINITY, size).unwrap_err(),
        boundary_overlap(bytes, bytes, 0).unwrap_err(),
        surface_distances(bytes, bytes, convention, Spacing::UNIT, &[f64::NAN]).unwrap_err(),
        pairwise_iou(
            view(&encode(&mask, size).unwrap(), size),
            view(&encode(&mask, size).unwrap(), size),
            &[],
            &mut [],
        )
        .unwrap_err(),
    ];
    let expected = [
        "target has masks of 3 x 2 pixels, expected 2 x 3 (height x width)",
        "ignore has 2 items, expected 1",
        "pixels has 5 items, expected a multiple of 6",
        "mask 0: a logit is NaN",
        "threshold is NaN, expected a finite number in single precision",
        "threshold is inf, expected a finite number in single precision",
        "threshold is -inf, expected a finite number in single precision",
        "distance is 0, expected at least 1 pixel",
        "tolerance is NaN, expected a finite number of at least 0",
        "crowd has 0 items, expected 1",
    ];
    assert_eq!(errors.each_ref().map(Error::to_string), expected);
}
