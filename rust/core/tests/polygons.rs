//! The rasteriser against a walk over every point of the boundary, as the reference does it.
#![allow(clippy::unwrap_used, reason = "a test may stop at what is not as it should be")]

mod common;

use common::{packed, rasterized_bits, view};
use proptest::prelude::*;
use samfast_core::{Bits, Error, PolygonError, Polygons, Rule, Size, rasterize, rasterize_into, union};

/// `rleFrPoly` step by step: scale by 5, walk all edges, keep column crossings, toggle.
fn walked(polygon: &[f64], size: Size) -> Vec<u32> {
    let points: Vec<(i64, i64)> =
        polygon.chunks(2).map(|p| ((5.0 * p[0] + 0.5) as i64, (5.0 * p[1] + 0.5) as i64)).collect();
    let mut walk = Vec::new();
    for (i, &start) in points.iter().enumerate() {
        let end = points[(i + 1) % points.len()];
        let (dx, dy) = ((end.0 - start.0).abs(), (end.1 - start.1).abs());
        let flip = if dx >= dy { start.0 > end.0 } else { start.1 > end.1 };
        let (from, to) = if flip { (end, start) } else { (start, end) };
        for step in 0..=dx.max(dy) {
            let t = if flip { dx.max(dy) - step } else { step };
            walk.push(if dx >= dy {
                let slope = (to.1 - from.1) as f64 / dx as f64;
                (from.0 + t, (from.1 as f64 + slope * t as f64 + 0.5) as i64)
            } else {
                let slope = (to.0 - from.0) as f64 / dy as f64;
                ((from.0 as f64 + slope * t as f64 + 0.5) as i64, from.1 + t)
            });
        }
    }
    let (height, width) = (size.height() as f64, size.width() as f64);
    let mut positions = Vec::new();
    for pair in walk.windows(2).filter(|pair| pair[0].0 != pair[1].0) {
        let x = (pair[0].0.min(pair[1].0) as f64 + 0.5) / 5.0 - 0.5;
        if x.floor() == x && x >= 0.0 && x < width {
            let y = ((pair[0].1.min(pair[1].1) as f64 + 0.5) / 5.0 - 0.5).clamp(0.0, height).ceil();
            positions.push((x * height + y) as u32);
        }
    }
    positions.push(size.pixels() as u32);
    positions.sort_unstable();
    let mut runs: Vec<u32> = vec![positions[0]];
    let mut j = 1;
    while j < positions.len() {
        let run = positions[j] - positions[j - 1];
        if run > 0 {
            runs.push(run);
        } else {
            j += 1;
            if j < positions.len() {
                *runs.last_mut().unwrap() += positions[j] - positions[j - 1];
            }
        }
        j += 1;
    }
    runs
}

/// Runs by one rule, after a check that bits and bytes say the same.
fn rasterized_by(rule: Rule, polygons: &[Vec<f64>], size: Size) -> Vec<u32> {
    let mut offsets = vec![0];
    offsets.extend(polygons.iter().scan(0, |end, polygon| {
        *end += polygon.len() as i64;
        Some(*end)
    }));
    let coords = polygons.concat();
    let object_offsets = [0, polygons.len() as i64];
    let objects = Polygons::new(&coords, &offsets, &object_offsets).unwrap();
    let masks = rasterize(objects, size, rule).unwrap();
    let words = rasterized_bits(objects, size, rule);
    assert_eq!(words, packed(view(&masks, size)));
    let (mut bytes, mut expected) = (vec![9; size.pixels()], vec![9; size.pixels()]);
    rasterize_into(objects, size, rule, false, &mut bytes).unwrap();
    samfast_core::unpack_into(Bits::new(&words, size).unwrap(), &mut expected).unwrap();
    assert_eq!(bytes, expected);
    masks.counts
}

fn rasterized(polygons: &[Vec<f64>], size: Size) -> Vec<u32> {
    rasterized_by(Rule::Coco, polygons, size)
}

/// Coordinates as annotation tools write them, and as they must not break anything.
fn polygon() -> impl Strategy<Value = Vec<f64>> {
    let coordinate = prop_oneof![
        4 => (-3000..9000i32).prop_map(|v| f64::from(v) / 100.0),
        3 => (-30..90i32).prop_map(f64::from),
        3 => (-60..180i32).prop_map(|v| f64::from(v) / 2.0),
        3 => -30.0..90.0f64,
        1 => -2000.0..2000.0f64,
    ];
    (prop::collection::vec(coordinate, 6..25), any::<prop::sample::Index>()).prop_map(|(mut coords, repeat)| {
        coords.truncate(coords.len() / 2 * 2);
        let vertex = repeat.index(coords.len() / 2) * 2;
        coords.extend_from_within(vertex..vertex + 2);
        coords
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_polygon_equals_the_walk(polygon in polygon(), height in 1..70i64, width in 1..70i64) {
        let size = Size::new(height, width).unwrap();
        prop_assert_eq!(rasterized(std::slice::from_ref(&polygon), size), walked(&polygon, size));
    }

    #[test]
    fn an_object_is_the_union(polygons in prop::collection::vec(polygon(), 1..4), height in 1..70i64, width in 1..70i64) {
        let size = Size::new(height, width).unwrap();
        let parts: Vec<Vec<u32>> = polygons.iter().map(|polygon| walked(polygon, size)).collect();
        let mut offsets = vec![0];
        offsets.extend(parts.iter().scan(0, |end, runs| { *end += runs.len() as i64; Some(*end) }));
        let parts = samfast_core::MaskBuf { counts: parts.concat(), offsets };
        prop_assert_eq!(rasterized(&polygons, size), union(view(&parts, size)).unwrap().counts);
    }

    #[test]
    fn direction_and_start_do_not_matter(polygon in polygon(), turn in 0..20usize) {
        let size = Size::new(50, 60).unwrap();
        let mut other: Vec<[f64; 2]> = polygon.as_chunks::<2>().0.to_vec();
        other.reverse();
        let turn = turn % other.len();
        other.rotate_left(turn);
        prop_assert_eq!(rasterized(&[polygon], size), rasterized(&[other.as_flattened().to_vec()], size));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// On coordinates that are multiples of a quarter, a crossing product decides exactly; centres on an edge are left out.
    #[test]
    fn pixels_whose_centre_is_inside(
        polygon in prop::collection::vec(-40..160i64, 6..16), height in 1..40usize, width in 1..40usize,
    ) {
        let corners: Vec<[i64; 2]> = polygon.as_chunks::<2>().0.to_vec();
        let coords: Vec<f64> = corners.as_flattened().iter().map(|&v| v as f64 / 4.0).collect();
        let size = Size::new(height as i64, width as i64).unwrap();
        let runs = rasterized_by(Rule::PixelCenter, &[coords], size);
        let mut bytes = vec![0; size.pixels()];
        samfast_core::decode_into(samfast_core::Masks::new(&runs, &[0, runs.len() as i64], size).unwrap(), false, &mut bytes).unwrap();
        for y in 0..height {
            for x in 0..width {
                let (px, py) = (4 * x as i64 + 2, 4 * y as i64 + 2);
                let (mut inside, mut on_edge) = (false, false);
                for (i, &[ax, ay]) in corners.iter().enumerate() {
                    let [bx, by] = corners[(i + 1) % corners.len()];
                    let side = (bx - ax) * (py - ay) - (by - ay) * (px - ax);
                    let within = ax.min(bx) <= px && px <= ax.max(bx) && ay.min(by) <= py && py <= ay.max(by);
                    on_edge |= side == 0 && within;
                    // A ray to the left.
                    inside ^= (ay <= py) != (by <= py) && (side > 0) == (by < ay);
                }
                prop_assert!(on_edge || inside == (bytes[y * width + x] == 1), "{x} {y}");
            }
        }
    }
}

#[test]
fn polygons_that_share_an_edge_share_no_pixel() {
    let size = Size::new(30, 30).unwrap();
    let quads = [[0.5, 0.5, 10.5, 0.5, 10.5, 20.5, 0.5, 20.5], [10.5, 0.5, 20.5, 0.5, 20.5, 20.5, 10.5, 20.5]];
    let areas = quads.map(|quad| {
        let runs = rasterized_by(Rule::PixelCenter, &[quad.to_vec()], size);
        runs.iter().skip(1).step_by(2).sum::<u32>()
    });
    assert_eq!(areas, [200, 200]);
}

#[test]
fn corners_are_continuous() {
    let square = vec![0.0, 0.0, 9.0, 0.0, 9.0, 9.0, 0.0, 9.0];
    let runs = rasterized(&[square], Size::new(20, 20).unwrap());
    assert_eq!(runs.iter().skip(1).step_by(2).sum::<u32>(), 81);
}

#[test]
fn the_largest_coordinates_are_quick() {
    let far = vec![-1e8, -1e8, 1e8, -1e8 + 1.0, 1e8, 1e8, -1e8, 1e8 - 1.0];
    assert_eq!(rasterized(&[far], Size::new(30, 40).unwrap()), [0, 1200]);
}

#[test]
fn what_is_no_polygon_is_refused() {
    let refused = |coords: &[f64]| {
        let all = [&[0.0, 0.0, 5.0, 0.0, 5.0, 5.0], coords].concat();
        match Polygons::new(&all, &[0, 6, all.len() as i64], &[0, 1, 2]) {
            Err(Error::Polygon { object: 1, polygon: 0, reason }) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(&[1.0; 4]), PolygonError::LooksLikeBox);
    assert_eq!(refused(&[1.0; 7]), PolygonError::Odd { numbers: 7 });
    assert_eq!(refused(&[1.0; 2]), PolygonError::TooFewPoints { points: 1 });
    assert_eq!(refused(&[]), PolygonError::TooFewPoints { points: 0 });
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 2e8] {
        let reason = refused(&[1.0, 2.0, bad, 4.0, 5.0, 6.0]);
        assert!(matches!(reason, PolygonError::Coordinate { number: 2, .. }), "{reason}");
    }
    let far = refused(&[1.0, 2.0, 1e300, 4.0, 5.0, 6.0]).to_string();
    assert!(far.starts_with("coordinate 2 is 1e300, outside +-"), "{far}");
    assert_eq!(Polygons::new(&[], &[0], &[0, 0]).unwrap_err(), Error::NoPolygons { object: 0 });
}
