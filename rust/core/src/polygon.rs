//! Objects of polygons, checked once.

use crate::error::{Error, PolygonError, Result};
use crate::rle::{Size, check_offsets};

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

    /// Whether the bounding boxes of the objects hold less than half of all pixels of their masks: then it pays to
    /// rasterise them into memory that is blank.
    #[must_use]
    pub fn is_sparse(&self, size: Size) -> bool {
        let side = |axis: usize, object: usize, length: usize| {
            let of_axis = self.of(object).flat_map(|coords| coords.iter().skip(axis).step_by(2));
            let (low, high) = of_axis.fold((f64::MAX, f64::MIN), |(low, high), &v| (low.min(v), high.max(v)));
            (high.min(length as f64) - low.max(0.0)).max(0.0)
        };
        let pixels = |object| side(0, object, size.width()) * side(1, object, size.height());
        (0..self.len()).map(pixels).sum::<f64>() < 0.5 * (self.len() * size.pixels()) as f64
    }

    /// Elementary steps to rasterise all: a crossing costs a few, an edge has some ten.
    pub(crate) fn work(&self) -> usize {
        self.coords.len() * 25
    }

    /// The coordinates of each polygon of an object.
    pub(crate) fn of(self, object: usize) -> impl ExactSizeIterator<Item = &'a [f64]> {
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
