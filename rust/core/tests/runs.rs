//! Run-length kernels against pixel-by-pixel ones.
#![allow(clippy::unwrap_used, reason = "a test may stop at what is not as it should be")]

mod common;

use std::collections::BTreeSet;

use common::{Pixels, pixels, view};
use proptest::prelude::*;
use samfast_core::{
    Batch, BatchError, Connectivity, Error, Grid, MaskBuf, Masks, RleError, Size, SizeError, StringError,
    area_average_into, areas, boxes, canonical, components, decode_into, encode, from_strings, intersect, overlap,
    subtract, to_strings, union,
};

fn decoded(masks: &MaskBuf, size: Size) -> Vec<Vec<u8>> {
    let masks = view(masks, size);
    let mut out = vec![7; masks.len() * size.pixels()];
    decode_into(masks, false, &mut out).unwrap();
    out.chunks(size.pixels()).map(<[u8]>::to_vec).collect()
}

/// Pieces by flooding, as sets of pixels.
fn flooded(image: &Pixels, mask: usize, connectivity: Connectivity) -> BTreeSet<BTreeSet<(usize, usize)>> {
    let mut left: BTreeSet<_> = image.points(mask).into_iter().collect();
    let mut pieces = BTreeSet::new();
    while let Some(start) = left.pop_first() {
        let (mut piece, mut open) = (BTreeSet::new(), vec![start]);
        while let Some((x, y)) = open.pop() {
            piece.insert((x, y));
            for (dx, dy) in [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)] {
                let corner = dx != 0 && dy != 0;
                let next = (x.wrapping_add_signed(dx), y.wrapping_add_signed(dy));
                if (!corner || connectivity == Connectivity::Eight) && left.remove(&next) {
                    open.push(next);
                }
            }
        }
        pieces.insert(piece);
    }
    pieces
}

/// Split every run at random places with zero-length runs, as foreign encoders do.
fn padded(masks: &MaskBuf, cuts: &[u8]) -> MaskBuf {
    let mut cuts = cuts.iter().cycle();
    let mut out = MaskBuf { counts: Vec::new(), offsets: vec![0] };
    for bounds in masks.offsets.windows(2) {
        for &run in &masks.counts[bounds[0] as usize..bounds[1] as usize] {
            let first = u32::from(*cuts.next().unwrap()).min(run);
            out.counts.extend([first, 0, run - first]);
        }
        out.offsets.push(out.counts.len() as i64);
    }
    out
}

proptest! {
    #[test]
    fn encoding_equals_walking_down_every_column(image in pixels(3)) {
        let masks = image.encoded();
        let view = view(&masks, image.size());
        for mask in 0..image.masks.len() {
            prop_assert_eq!(view.runs(mask), image.naive_runs(mask));
        }
        prop_assert_eq!(decoded(&masks, image.size()), image.masks);
    }

    #[test]
    fn any_byte_but_zero_is_foreground(image in pixels(1), byte in 2u8..) {
        let brighter: Vec<u8> = image.masks.concat().iter().enumerate().map(|(i, p)| p * (byte - (i % 2) as u8)).collect();
        prop_assert_eq!(encode(&brighter, image.size()).unwrap(), image.encoded());
    }

    #[test]
    fn strings_come_back(image in pixels(3)) {
        let masks = image.encoded();
        let strings = to_strings(&masks.counts, &masks.offsets).unwrap();
        prop_assert_eq!(from_strings(&strings, image.size()).unwrap(), masks);
    }

    #[test]
    fn any_runs_survive_the_string(runs in prop::collection::vec(any::<u32>(), 1..9)) {
        let strings = to_strings(&runs, &[0, runs.len() as i64]).unwrap();
        let sum: u64 = runs.iter().map(|&run| u64::from(run)).sum();
        let read = from_strings(&strings, Size::new(1, (sum as i64).clamp(1, i64::from(u32::MAX))).unwrap());
        if (1..=u64::from(u32::MAX)).contains(&sum) {
            prop_assert_eq!(read.unwrap().counts, runs);
        } else {
            let wrong_sum = matches!(read, Err(Error::Rle { reason: RleError::Sum { .. }, .. }));
            prop_assert!(wrong_sum);
        }
    }

    #[test]
    fn reading_any_bytes_ends_in_a_mask_or_an_error(bytes in prop::collection::vec(44u8..116, 0..12)) {
        if let Ok(masks) = from_strings(&[bytes], Size::new(3, 5).unwrap()) {
            prop_assert_eq!(masks.counts.iter().sum::<u32>(), 15);
        }
    }

    #[test]
    fn measures_equal_counting(image in pixels(3)) {
        let masks = image.encoded();
        let areas = areas(&masks.counts, &masks.offsets).unwrap();
        for (mask, bounds) in boxes(view(&masks, image.size())).unwrap().into_iter().enumerate() {
            let points = image.points(mask);
            prop_assert_eq!(areas[mask], points.len() as i64);
            let xs = points.iter().map(|point| point.0 as i64);
            let ys = points.iter().map(|point| point.1 as i64);
            let low = |values: &mut dyn Iterator<Item = i64>| values.min().unwrap_or(0);
            let high = |values: &mut dyn Iterator<Item = i64>| values.max().unwrap_or(-1);
            let naive = [low(&mut xs.clone()), low(&mut ys.clone()), high(&mut xs.clone()), high(&mut ys.clone())];
            prop_assert_eq!(bounds, naive);
        }
    }

    #[test]
    fn sets_equal_pixel_logic(image in pixels(4)) {
        let (masks, size) = (image.encoded(), image.size());
        let all = view(&masks, size);
        let any: Vec<u8> = (0..size.pixels()).map(|i| image.masks.iter().map(|mask| mask[i]).max().unwrap_or(0)).collect();
        let united = union(all).unwrap();
        prop_assert_eq!(&decoded(&united, size), &vec![any.clone()]);
        prop_assert_eq!(&united, &encode(&any, size).unwrap());
        prop_assert_eq!(intersect(all, view(&united, size)).unwrap(), masks.clone());
        let rest = subtract(all, all).unwrap();
        prop_assert!(areas(&rest.counts, &rest.offsets).unwrap().iter().all(|&area| area == 0));
        if let Some(first) = image.masks.first() {
            let one = encode(first, size).unwrap();
            let meet = |f: fn(u8, u8) -> u8| -> Vec<Vec<u8>> {
                image.masks.iter().map(|mask| mask.iter().zip(first).map(|(&a, &b)| f(a, b)).collect()).collect()
            };
            prop_assert_eq!(decoded(&intersect(all, view(&one, size)).unwrap(), size), meet(|a, b| a & b));
            prop_assert_eq!(decoded(&subtract(all, view(&one, size)).unwrap(), size), meet(|a, b| a & !b));
        }
    }

    #[test]
    fn zero_length_runs_change_nothing(image in pixels(3), cuts in prop::collection::vec(0u8..9, 5)) {
        let (masks, size) = (image.encoded(), image.size());
        let odd = padded(&masks, &cuts);
        let (clean, odd) = (view(&masks, size), view(&odd, size));
        prop_assert_eq!(&canonical(odd).unwrap(), &masks);
        prop_assert_eq!(boxes(odd).unwrap(), boxes(clean).unwrap());
        prop_assert_eq!(union(odd).unwrap(), union(clean).unwrap());
        prop_assert_eq!(intersect(odd, clean).unwrap(), masks.clone());
        let counts = |a, b| overlap(Batch::Runs(a), Batch::Runs(b), Some(Batch::Runs(b))).unwrap();
        prop_assert_eq!(counts(odd, clean), counts(clean, odd));
        for connectivity in [Connectivity::Four, Connectivity::Eight] {
            prop_assert_eq!(components(odd, connectivity).unwrap(), components(clean, connectivity).unwrap());
        }
    }

    #[test]
    fn components_equal_flooding(image in pixels(3)) {
        let (masks, size) = (image.encoded(), image.size());
        for connectivity in [Connectivity::Four, Connectivity::Eight] {
            let (pieces, parents) = components(view(&masks, size), connectivity).unwrap();
            let pieces = Pixels { masks: decoded(&pieces, size), ..image.clone() };
            for mask in 0..image.masks.len() {
                let own = (0..parents.len()).filter(|&piece| parents[piece] == mask as i64);
                let found: Vec<BTreeSet<_>> = own.map(|piece| pieces.points(piece).into_iter().collect()).collect();
                let flooded = flooded(&image, mask, connectivity);
                prop_assert_eq!(found.len(), flooded.len());
                prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), flooded);
            }
        }
    }

    #[test]
    fn overlap_equals_counting(image in pixels(6)) {
        let size = image.size();
        let third = image.masks.len() / 3;
        let part = |i: usize| encode(&image.masks[i * third..(i + 1) * third].concat(), size).unwrap();
        let (a, b, ignore) = (part(0), part(1), part(2));
        let runs = [&a, &b, &ignore].map(|masks| Batch::Runs(view(masks, size)));
        let counts = overlap(runs[0], runs[1], Some(runs[2])).unwrap();
        let pixels = [0, 1, 2].map(|i| image.masks[i * third..(i + 1) * third].concat());
        let bytes = pixels.each_ref().map(|pixels| Batch::Bytes(pixels, size));
        prop_assert_eq!(&overlap(bytes[0], bytes[1], Some(bytes[2])).unwrap(), &counts);
        prop_assert_eq!(&overlap(runs[0], bytes[1], Some(bytes[2])).unwrap(), &counts);
        let logits: Vec<f32> = pixels[0].iter().map(|&pixel| f32::from(pixel)).collect();
        prop_assert_eq!(&overlap(Batch::Logits(&logits, 0.5, size), bytes[1], Some(runs[2])).unwrap(), &counts);
        prop_assert_eq!(counts.len(), third);
        for (mask, counts) in counts.into_iter().enumerate() {
            let mut naive = [0; 4];
            for pixel in 0..size.pixels() {
                let value = |i: usize| image.masks[i * third + mask][pixel] == 1;
                match (value(0), value(1), value(2)) {
                    (_, _, true) => {}
                    (true, true, false) => naive[0] += 1,
                    (true, false, false) => naive[1] += 1,
                    (false, true, false) => naive[2] += 1,
                    (false, false, false) => naive[3] += 1,
                }
            }
            prop_assert_eq!(counts, naive);
        }
    }

    #[test]
    fn area_average_equals_summing_pixels(
        image in pixels(2), cell_height in 0.3..9.0f64, cell_width in 0.3..9.0f64, side in 1..8usize,
    ) {
        let (masks, size) = (image.encoded(), image.size());
        let grid = Grid::new(side, cell_height, cell_width).unwrap();
        let mut found = vec![7.0; image.masks.len() * side * side];
        area_average_into(view(&masks, size), grid, |mean| mean, &mut found).unwrap();
        let mut hard = vec![7; found.len()];
        area_average_into(view(&masks, size), grid, |mean| u8::from(mean >= 0.5), &mut hard).unwrap();
        prop_assert!(found.iter().zip(&hard).all(|(&mean, &hard)| hard == u8::from(mean >= 0.5)));
        let shared = |i: usize, cell: f64, pixel: usize| {
            let (start, end) = (i as f64 * cell, (i + 1) as f64 * cell);
            (end.min(pixel as f64 + 1.0) - start.max(pixel as f64)).max(0.0)
        };
        for (mask, pixels) in image.masks.iter().enumerate() {
            for (row, column) in (0..side).flat_map(|row| (0..side).map(move |column| (row, column))) {
                let (mut covered, mut on_image) = (0.0, 0.0);
                for y in 0..image.height {
                    for x in 0..image.width {
                        let share = shared(row, cell_height, y) * shared(column, cell_width, x);
                        covered += share * f64::from(pixels[y * image.width + x]);
                        on_image += share;
                    }
                }
                let mean = if on_image > 1e-5 { covered / on_image } else { 0.0 };
                let got = f64::from(found[(mask * side + row) * side + column]);
                prop_assert!((got - mean).abs() < 1e-6 || on_image <= 1e-5, "{} is not {}", got, mean);
            }
        }
    }
}

#[test]
fn threads_change_nothing() {
    let size = Size::new(700, 900).unwrap();
    let pixels: Vec<u8> = (0..8 * size.pixels()).map(|i| u8::from((i / 7 + i / 911) % 5 < 2)).collect();
    let together = encode(&pixels, size).unwrap();
    let all = view(&together, size);
    assert_eq!(decoded(&together, size).concat(), pixels);
    for (mask, pixels) in pixels.chunks(size.pixels()).enumerate() {
        assert_eq!(all.runs(mask), encode(pixels, size).unwrap().counts);
    }
}

#[test]
fn what_is_no_mask_is_refused() {
    let size = Size::new(2, 3).unwrap();
    assert_eq!(Size::new(0, 3), Err(SizeError::Empty { height: 0, width: 3 }));
    assert_eq!(Size::new(3, -1), Err(SizeError::Empty { height: 3, width: -1 }));
    assert_eq!(Size::new(1 << 20, 1 << 20), Err(SizeError::TooLarge { height: 1 << 20, width: 1 << 20 }));
    assert_eq!(Size::new(i64::MAX, 2), Err(SizeError::TooLarge { height: i64::MAX, width: 2 }));
    assert!(Size::new(65535, 65537).is_ok());
    for offsets in [&[][..], &[1, 1], &[0, 2], &[0, -1, 1], &[0, 1, 0, 1]] {
        let error = Masks::new(&[6], offsets, size).unwrap_err();
        assert!(matches!(error, Error::Batch(BatchError::Offsets { .. })), "{offsets:?}: {error}");
    }
    let error = Masks::new(&[6, 1, 4], &[0, 1, 3], size).unwrap_err();
    assert_eq!(error.to_string(), "mask 1: runs add up to 5 pixels, a mask of 2 x 3 has 6");
    let error = Masks::new(&[u32::MAX, u32::MAX, 8], &[0, 3], size).unwrap_err();
    assert!(matches!(error, Error::Rle { mask: 0, .. }));
}

#[test]
fn strings_that_are_no_runs_are_refused() {
    let size = Size::new(2, 3).unwrap();
    let refused = |text: &[u8]| match from_strings(&[b"6", text], size) {
        Err(Error::String { mask: 1, reason }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(b"\x20"), StringError::Byte { byte: 0x20, position: 0 });
    assert_eq!(refused(b"1p"), StringError::Byte { byte: b'p', position: 1 });
    assert_eq!(refused(b"1P"), StringError::Truncated);
    assert_eq!(refused(b"N"), StringError::Range { run: 0 });
    assert_eq!(refused(b"PPPPPPPP1"), StringError::Range { run: 0 });
    assert!(matches!(from_strings(&[b"".as_slice()], size), Err(Error::Rle { mask: 0, .. })));
}

#[test]
fn partners_must_fit() {
    let (size, other) = (Size::new(2, 3).unwrap(), Size::new(3, 2).unwrap());
    let three = encode(&[1; 18], size).unwrap();
    let two = encode(&[1; 12], size).unwrap();
    let error = intersect(view(&three, size), view(&two, size)).unwrap_err();
    assert_eq!(error.to_string(), "b has 2 items, expected 3 or 1");
    let [own, turned] = [size, other].map(|size| Batch::Runs(view(&three, size)));
    let error = overlap(own, turned, None).unwrap_err();
    assert_eq!(error.to_string(), "target has masks of 3 x 2 pixels, expected 2 x 3 (height x width)");
}
