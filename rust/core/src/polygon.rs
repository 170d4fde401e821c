//! Polygons to masks by jumping to the places where their edges cross the columns of pixels.
//!
//! [`Rule::Coco`] is, bit for bit, `rleFrPoly` of pycocotools 2.0.11 (x86-64). The reference scales vertices by 5, walks every point of every edge, and keeps the places where the walk passes from
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
//!
//! [`Rule::PixelCenter`] takes the pixels whose centre lies inside, as rasterio and GDAL do.

use crate::bits::{BitBuf, WORD, unpack_into, zeroed};
use crate::columns::Columns;
use crate::encode::{descend, unroll};
use crate::error::{BatchError, Error, PolygonError, Result};
use crate::parallel::fill_items;
use crate::rle::{MaskBuf, Size, Toggles, check_offsets};
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

    /// One object alone.
    fn only(self, object: usize) -> Self {
        Self { object_offsets: &self.object_offsets[object..object + 2], ..self }
    }

    /// Elementary steps to rasterise all: a crossing costs a few, an edge has some ten.
    fn work(&self) -> usize {
        self.coords.len() * 25
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
    // All of them first, which is one vector comparison; NaN is not within the limit either.
    let within = |value: &f64| value.abs() <= COORDINATE_LIMIT;
    if coords.iter().fold(true, |all, value| all & within(value)) {
        return Ok(());
    }
    match coords.iter().position(|value| !within(value)) {
        Some(number) => Err(PolygonError::Coordinate { number, value: coords[number], limit: COORDINATE_LIMIT }),
        None => Ok(()),
    }
}

/// Which pixels belong to a polygon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// Those of pycocotools.
    Coco,
    /// Those whose centre lies inside (even-odd); a centre on an edge belongs to what is right of it or below it.
    PixelCenter,
}

/// One mask an object: the union of its polygons.
///
/// O(edges + columns they cross), and sorting within a column.
///
/// # Errors
/// [`Error::Memory`]; nothing else for polygons that passed [`Polygons::new`].
pub fn rasterize(polygons: Polygons<'_>, size: Size, rule: Rule) -> Result<MaskBuf> {
    MaskBuf::build(polygons.len(), polygons.work(), |object, scratch: &mut Scratch, out| {
        let mut parts = polygons.of(object);
        if parts.len() == 1
            && let Some(polygon) = parts.next()
        {
            let mut toggles = Toggles::new(out);
            collect(&mut scratch.columns, polygon, size, rule)?.emit(size.height(), |start, end| {
                toggles.push(start);
                toggles.push(end);
            });
            toggles.finish(size.pixels());
            return Ok(());
        }
        scratch.intervals.clear();
        for polygon in parts {
            let intervals = &mut scratch.intervals;
            collect(&mut scratch.columns, polygon, size, rule)?
                .emit(size.height(), |start, end| intervals.push((start as usize, end as usize)));
        }
        // Stable, as that makes use of each polygon's intervals being in order.
        scratch.intervals.sort();
        out.push(size.pixels(), merged(scratch.intervals.iter().copied()));
        Ok(())
    })
}

/// One packed mask an object: the union of its polygons.
///
/// # Errors
/// [`Error::Memory`]; nothing else for polygons that passed [`Polygons::new`].
pub fn rasterize_bits(polygons: Polygons<'_>, size: Size, rule: Rule) -> Result<BitBuf> {
    let mut bits = BitBuf::zeros(polygons.len(), size)?;
    let work = polygons.work() + polygons.len() * size.mask_words();
    bits.fill(work, |object, part: &mut Vec<u64>, words| {
        for (i, polygon) in polygons.of(object).enumerate() {
            if i == 0 {
                mark(polygon, size, rule, words);
                descend(words, size);
                continue;
            }
            zeroed(part, 1, size)?;
            mark(polygon, size, rule, part);
            descend(part, size);
            words.iter_mut().zip(&*part).for_each(|(word, part)| *word |= *part);
        }
        Ok(())
    })?;
    Ok(bits)
}

/// One mask an object into `out`, row-major, one byte (0 or 1) a pixel: the union of its polygons.
///
/// # Errors
/// [`BatchError::Output`] if `out` is not as long as the masks have pixels; [`Error::Memory`].
pub fn rasterize_into(polygons: Polygons<'_>, size: Size, rule: Rule, out: &mut [u8]) -> Result<()> {
    let expected = polygons.len() * size.pixels();
    if out.len() != expected {
        return Err(BatchError::Output { found: out.len(), expected }.into());
    }
    let work = polygons.work() + expected / 16;
    fill_items(out, size.pixels(), work, |object, words: &mut Vec<u64>, out| {
        let mut parts = polygons.of(object);
        if parts.len() == 1
            && let Some(polygon) = parts.next()
        {
            zeroed(words, 1, size)?;
            mark(polygon, size, rule, words);
            unroll(words, size, out);
            return Ok(());
        }
        let bits = rasterize_bits(polygons.only(object), size, rule)?;
        unpack_into(bits.view(), out)
    })
}

/// Set a bit wherever a pixel of one polygon differs from the one above it.
fn mark(polygon: &[f64], size: Size, rule: Rule, words: &mut [u64]) {
    let row_words = size.row_words();
    let toggle = |column: usize, row: u32| {
        // Below the last row nothing is left to change.
        if (row as usize) < size.height() {
            words[row as usize * row_words + column / WORD] ^= 1 << (column % WORD);
        }
    };
    match rule {
        Rule::Coco => cross_all::<Coco>(polygon, size, toggle),
        Rule::PixelCenter => cross_all::<PixelCenter>(polygon, size, toggle),
    }
}

/// Gather the column crossings of one polygon.
fn collect<'a>(columns: &'a mut Columns, polygon: &[f64], size: Size, rule: Rule) -> Result<&'a mut Columns> {
    match rule {
        Rule::Coco => collect_as::<Coco>(columns, polygon, size)?,
        Rule::PixelCenter => collect_as::<PixelCenter>(columns, polygon, size)?,
    }
    Ok(columns)
}

fn collect_as<E: Edge>(columns: &mut Columns, polygon: &[f64], size: Size) -> Result<()> {
    each_edge::<E>(polygon, size, |edge| {
        let (first, last) = edge.columns();
        columns.count(first, last, size);
    });
    columns.open(size)?;
    cross_all::<E>(polygon, size, |column, row| columns.put(column, row));
    Ok(())
}

fn cross_all<E: Edge>(polygon: &[f64], size: Size, mut put: impl FnMut(usize, u32)) {
    each_edge::<E>(polygon, size, |edge| edge.cross(size.height() as u32, &mut put));
}

/// Every edge that crosses a column.
#[inline(always)]
fn each_edge<E: Edge>(polygon: &[f64], size: Size, mut visit: impl FnMut(E)) {
    let (points, _) = polygon.as_chunks::<2>();
    let Some(last) = points.last() else { return };
    let mut from = E::point(*last);
    for point in points {
        let to = E::point(*point);
        if let Some(edge) = E::new(from, to, size.width()) {
            visit(edge);
        }
        from = to;
    }
}

/// How a rule sees an edge.
trait Edge: Sized {
    type Point: Copy;

    fn point(vertex: [f64; 2]) -> Self::Point;

    /// The edge, if it crosses a column of an image of this width.
    fn new(from: Self::Point, to: Self::Point, width: usize) -> Option<Self>;

    /// First and last column it crosses; it crosses each between them once.
    fn columns(&self) -> (usize, usize);

    /// Call `put` with every column and the first row below the crossing, at most `height`.
    fn cross(&self, height: u32, put: &mut impl FnMut(usize, u32));
}

/// Below this magnitude in fifths of a pixel, all terms of a crossing are exact to 2^-33, and divided by a slope of at
/// least 2^-17 to 2^-16: a guess farther than [`CERTAIN`] from a whole number is right.
const SMALL: i32 = 1 << 17;
const CERTAIN: f64 = 1e-4;

/// An edge in fifths of a pixel, as `rleFrPoly` walks it.
struct Coco {
    first: i32,
    last: i32,
    from: [i32; 2],
    to: [i32; 2],
}

impl Edge for Coco {
    type Point = [i32; 2];

    #[inline(always)]
    fn point(vertex: [f64; 2]) -> [i32; 2] {
        vertex.map(|coordinate| (5.0 * coordinate + 0.5) as i32)
    }

    #[inline(always)]
    fn new(from: [i32; 2], to: [i32; 2], width: usize) -> Option<Self> {
        // Column c is crossed between u = 5 c + 2 and 5 c + 3.
        let first = (from[0].min(to[0]) + 2).div_euclid(5).max(0);
        let last = (from[0].max(to[0]) - 3).div_euclid(5).min(i32::try_from(width - 1).unwrap_or(i32::MAX));
        (first <= last).then_some(Self { first, last, from, to })
    }

    #[inline(always)]
    fn columns(&self) -> (usize, usize) {
        (self.first as usize, self.last as usize)
    }

    #[inline(always)]
    fn cross(&self, height: u32, put: &mut impl FnMut(usize, u32)) {
        let &Self { first, last, from: [xs, ys], to: [xe, ye] } = self;
        let (dx, dy) = ((xe - xs).abs(), (ye - ys).abs());
        let backward = if dx >= dy { xs > xe } else { ys > ye };
        let (xs, ys, xe, ye) = if backward { (xe, ye, xs, ys) } else { (xs, ys, xe, ye) };
        let row = |v: i32| ((v.max(0) as u32 + 2) / 5).min(height);
        if dx >= dy {
            let slope = f64::from(ye - ys) / f64::from(dx);
            // The lower of the two points of a crossing is the first where the edge rises, as rounding is monotonic.
            let start = 2 - xs + i32::from(slope < 0.0);
            for column in first..=last {
                let t = 5 * column + start;
                put(column as usize, row((f64::from(ys) + slope * f64::from(t) + 0.5) as i32));
            }
        } else {
            let slope = f64::from(xe - xs) / f64::from(dy);
            let inverse = 1.0 / slope;
            let certain = CERTAIN..1.0 - CERTAIN;
            let small = [xs, xe, dy].iter().all(|v| v.abs() < SMALL);
            for column in first..=last {
                let u = f64::from(5 * column + 3);
                let passed = |t: i32| (f64::from(xs) + slope * f64::from(t) + 0.5 >= u) == (slope > 0.0);
                // The last point before the crossing: guessed, and where the guess is close, put right with the
                // reference's own expression.
                let guess = (u - 0.5 - f64::from(xs)) * inverse;
                let mut t = (guess as i32).clamp(0, dy - 1);
                if !(small && certain.contains(&(guess - f64::from(t)))) {
                    while t > 0 && passed(t) {
                        t -= 1;
                    }
                    while t < dy - 1 && !passed(t + 1) {
                        t += 1;
                    }
                }
                put(column as usize, row(ys + t));
            }
        }
    }
}

/// An edge in pixels, taken from left to right.
struct PixelCenter {
    first: usize,
    last: usize,
    from: [f64; 2],
    to: [f64; 2],
}

impl Edge for PixelCenter {
    type Point = [f64; 2];

    #[inline(always)]
    fn point(vertex: [f64; 2]) -> [f64; 2] {
        vertex
    }

    #[inline(always)]
    fn new(from: [f64; 2], to: [f64; 2], width: usize) -> Option<Self> {
        let (from, to) = if from[0] <= to[0] { (from, to) } else { (to, from) };
        // Column c is crossed if its centre is at or right of the left end, and left of the right end.
        let first = (from[0] - 0.5).ceil().max(0.0);
        let last = ((to[0] - 0.5).ceil() - 1.0).min(width as f64 - 1.0);
        (first <= last).then_some(Self { first: first as usize, last: last as usize, from, to })
    }

    #[inline(always)]
    fn columns(&self) -> (usize, usize) {
        (self.first, self.last)
    }

    #[inline(always)]
    fn cross(&self, height: u32, put: &mut impl FnMut(usize, u32)) {
        let &Self { first, last, from: [xs, ys], to: [xe, ye] } = self;
        let slope = (ye - ys) / (xe - xs);
        for column in first..=last {
            let y = ys + (column as f64 + 0.5 - xs) * slope;
            put(column, (y - 0.5).ceil().clamp(0.0, f64::from(height)) as u32);
        }
    }
}

#[derive(Default)]
struct Scratch {
    columns: Columns,
    /// Foreground of all polygons of one object.
    intervals: Vec<(usize, usize)>,
}
