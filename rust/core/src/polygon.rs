//! Polygons to run lengths, bit for bit as `rleFrPoly` of pycocotools 2.0.11 (x86-64).
//!
//! The reference scales vertices by 5, walks every point of every edge, and keeps the places where the walk passes from
//! one pixel column centre to the next. Here each such crossing is computed directly with the reference's own
//! floating-point expression, so only columns are visited, not points:
//!
//! * a vertex is `(int)(5 v + 0.5)`, truncated toward zero;
//! * an edge is taken along its longer axis, rising; the shorter coordinate is `(int)(b + s t + 0.5)`;
//! * column `c` is crossed where `u` passes from `5 c + 2` to `5 c + 3`, at the lower `v` of the two points;
//! * the row is `ceil((v - 2) / 5)` clamped to `0..=height`: left and right of the image is dropped, above and below
//!   is clamped;
//! * the crossings of a column toggle it (even-odd); an object is the union of its polygons.
//!
//! Vertices are continuous corners: a square from 0 to 9 covers 81 pixels.

use crate::columns::Changes;
use crate::error::{Error, PolygonError, Result};
use crate::rle::{MaskBuf, Size, check_offsets};
use crate::sets::merged;

/// Coordinates beyond this magnitude, in pixels, are refused: scaled by 5 they must fit the reference's 32-bit `int`.
const COORDINATE_LIMIT: f64 = 1e8;

/// `N` objects of polygons, checked.
#[derive(Clone, Copy, Debug)]
pub struct Polygons<'a> {
    coords: &'a [f64],
    polygon_offsets: &'a [i64],
    object_offsets: &'a [i64],
}

impl<'a> Polygons<'a> {
    /// `coords` holds x, y, x, y, ... of all polygons, in pixels; `polygon_offsets` where each polygon begins, in
    /// numbers; `object_offsets` where each object begins, in polygons.
    ///
    /// # Errors
    /// [`crate::BatchError::Offsets`], [`Error::NoPolygons`] or [`PolygonError`] with the first object that is wrong.
    pub fn new(coords: &'a [f64], polygon_offsets: &'a [i64], object_offsets: &'a [i64]) -> Result<Self> {
        check_offsets(polygon_offsets, coords.len(), "polygon_offsets", "coords")?;
        check_offsets(object_offsets, polygon_offsets.len() - 1, "object_offsets", "polygons")?;
        let polygons = Self { coords, polygon_offsets, object_offsets };
        for object in 0..polygons.len() {
            if polygons.of(object).len() == 0 {
                return Err(Error::NoPolygons { object });
            }
            for (polygon, coords) in polygons.of(object).enumerate() {
                check(coords).map_err(|reason| Error::Polygon { object, polygon, reason })?;
            }
        }
        Ok(polygons)
    }

    /// Number of objects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.object_offsets.len() - 1
    }

    /// Whether there is no object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The coordinates of each polygon of an object.
    fn of(self, object: usize) -> impl ExactSizeIterator<Item = &'a [f64]> {
        let (first, last) = (self.object_offsets[object] as usize, self.object_offsets[object + 1] as usize);
        let bounds = self.polygon_offsets[first..=last].windows(2);
        bounds.map(move |bounds| &self.coords[bounds[0] as usize..bounds[1] as usize])
    }
}

fn check(coords: &[f64]) -> std::result::Result<(), PolygonError> {
    match coords.len() {
        4 => return Err(PolygonError::LooksLikeBox),
        numbers if numbers % 2 == 1 => return Err(PolygonError::Odd { numbers }),
        numbers if numbers < 6 => return Err(PolygonError::TooFewPoints { points: numbers / 2 }),
        _ => {}
    }
    match coords.iter().position(|value| !value.is_finite() || value.abs() > COORDINATE_LIMIT) {
        Some(number) => Err(PolygonError::Coordinate { number, value: coords[number], limit: COORDINATE_LIMIT }),
        None => Ok(()),
    }
}

/// One mask an object: the union of its polygons.
///
/// # Errors
/// None for polygons that passed [`Polygons::new`].
pub fn rasterize(polygons: Polygons<'_>, size: Size) -> Result<MaskBuf> {
    // A crossing costs some ten steps and an edge has a few.
    let work = polygons.coords.len() * 100;
    MaskBuf::build(polygons.len(), work, |object, scratch: &mut Scratch, out| {
        scratch.intervals.clear();
        for polygon in polygons.of(object) {
            scratch.fill(polygon, size);
        }
        if polygons.of(object).len() > 1 {
            scratch.intervals.sort_unstable();
        }
        out.push(size.pixels(), merged(scratch.intervals.iter().copied()));
        Ok(())
    })
}

#[derive(Default)]
struct Scratch {
    /// Column crossings of one polygon. A closed line crosses every column an even number of times.
    crossings: Changes,
    /// Foreground of all polygons of one object.
    intervals: Vec<(usize, usize)>,
}

impl Scratch {
    /// Append the foreground of one polygon.
    fn fill(&mut self, polygon: &[f64], size: Size) {
        let (points, _) = polygon.as_chunks::<2>();
        let vertex = |i: usize| points[i % points.len()].map(scaled);
        self.crossings.found.clear();
        for i in 0..points.len() {
            cross(vertex(i), vertex(i + 1), size, &mut self.crossings.found);
        }
        self.intervals.extend(self.crossings.intervals(size.height()).filter(|(start, end)| start < end));
    }
}

fn scaled(coordinate: f64) -> i32 {
    (5.0 * coordinate + 0.5) as i32
}

/// Append (row, column) of every column crossing of one edge, whose ends are in fifths of a pixel.
fn cross([xs, ys]: [i32; 2], [xe, ye]: [i32; 2], size: Size, crossings: &mut Vec<(u32, u32)>) {
    // Column c is crossed between u = 5 c + 2 and 5 c + 3.
    let first = (xs.min(xe) + 2).div_euclid(5).max(0);
    let last = (xs.max(xe) - 3).div_euclid(5).min(i32::try_from(size.width() - 1).unwrap_or(i32::MAX));
    if first > last {
        return;
    }
    let (dx, dy) = ((xe - xs).abs(), (ye - ys).abs());
    let backward = if dx >= dy { xs > xe } else { ys > ye };
    let (xs, ys, xe, ye) = if backward { (xe, ye, xs, ys) } else { (xs, ys, xe, ye) };
    let mut push = |column: i32, v: i32| {
        let row = if v < 2 { 0 } else { ((v as usize + 2) / 5).min(size.height()) };
        crossings.push((row as u32, column as u32));
    };
    if dx >= dy {
        let slope = f64::from(ye - ys) / f64::from(dx);
        let v = |t: i32| (f64::from(ys) + slope * f64::from(t) + 0.5) as i32;
        for column in first..=last {
            let t = 5 * column + 2 - xs;
            push(column, v(t).min(v(t + 1)));
        }
    } else {
        let slope = f64::from(xe - xs) / f64::from(dy);
        for column in first..=last {
            let u = f64::from(5 * column + 3);
            let passed = |t: i32| (f64::from(xs) + slope * f64::from(t) + 0.5 >= u) == (slope > 0.0);
            // The last point before the crossing: guessed, then put right with the reference's own expression.
            let mut t = (((u - 0.5 - f64::from(xs)) / slope) as i32).clamp(0, dy - 1);
            while t > 0 && passed(t) {
                t -= 1;
            }
            while t < dy - 1 && !passed(t + 1) {
                t += 1;
            }
            push(column, ys + t);
        }
    }
}
