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

use crate::bits::check_output;
use crate::canvas::Canvas;
use crate::columns::Columns;
use crate::edges::{Coco, Edge, PixelCenter, cross_all, gather};
use crate::encode::{Blocks, push_bits};
use crate::error::Result;
use crate::fill::{fill, reach};
use crate::memory::grow;
use crate::parallel::fill_items;
use crate::polygon::Polygons;
use crate::rle::{MaskBuf, Size};
use crate::sets::merged;
use crate::window::Window;

/// Which pixels belong to a polygon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// Those of pycocotools.
    Coco,
    /// Those whose centre lies inside (even-odd); a centre on an edge belongs to what is right of it or below it.
    PixelCenter,
    /// Those that `cv2.fillPoly` fills, given all polygons of an object at once.
    OpenCv,
}

/// One mask an object: the union of its polygons.
///
/// O(edges + columns they cross), and sorting within a column.
///
/// # Errors
/// [`crate::Error::Memory`]; nothing else for polygons that passed [`Polygons::new`].
pub fn rasterize(polygons: Polygons<'_>, size: Size, rule: Rule) -> Result<MaskBuf> {
    match rule {
        Rule::Coco => to_runs::<Coco>(polygons, size),
        Rule::PixelCenter => to_runs::<PixelCenter>(polygons, size),
        Rule::OpenCv => filled_to_runs(polygons, size),
    }
}

/// One packed mask an object into `out`: the union of its polygons.
///
/// # Errors
/// [`crate::BatchError::Output`] if `out` is not as long as the packed masks; [`crate::Error::Memory`].
pub fn rasterize_bits_into(polygons: Polygons<'_>, size: Size, rule: Rule, out: &mut [u64]) -> Result<()> {
    match rule {
        Rule::Coco => to_bits::<Coco>(polygons, size, out),
        Rule::PixelCenter => to_bits::<PixelCenter>(polygons, size, out),
        Rule::OpenCv => filled_to_bits(polygons, size, out),
    }
}

/// One mask an object into `out`, row-major, one byte (0 or 1) a pixel: the union of its polygons. `blank`: all of `out`
/// is 0 already, which saves writing what lies around the objects.
///
/// # Errors
/// [`crate::BatchError::Output`] if `out` is not as long as the masks have pixels; [`crate::Error::Memory`].
pub fn rasterize_into(polygons: Polygons<'_>, size: Size, rule: Rule, blank: bool, out: &mut [u8]) -> Result<()> {
    match rule {
        Rule::Coco => to_bytes::<Coco>(polygons, size, blank, out),
        Rule::PixelCenter => to_bytes::<PixelCenter>(polygons, size, blank, out),
        Rule::OpenCv => filled_to_bytes(polygons, size, blank, out),
    }
}

fn to_runs<E: Edge>(polygons: Polygons<'_>, size: Size) -> Result<MaskBuf> {
    MaskBuf::build(polygons.len(), polygons.work(), |object, scratch: &mut Runs<E>, out| {
        let Runs { edges, columns, intervals } = scratch;
        let mut parts = polygons.of(object);
        if parts.len() == 1
            && let Some(polygon) = parts.next()
        {
            gather(polygon, size, edges);
            collect(edges, size, columns)?;
            return out.push_stretches(size.pixels(), columns.len() / 2, |stretches| {
                columns.each_pair(|start, end| stretches.push(start, end));
            });
        }
        intervals.clear();
        for polygon in parts {
            gather(polygon, size, edges);
            collect(edges, size, columns)?;
            grow(intervals, columns.len() / 2, size)?;
            columns.each_pair(|start, end| intervals.extend((start < end).then_some([start, end])));
        }
        // Stable, as that makes use of each polygon's intervals being in order.
        intervals.sort();
        out.push(size.pixels(), merged(intervals.iter().map(|&[start, end]| (start as usize, end as usize))))
    })
}

struct Runs<E> {
    edges: Vec<E>,
    columns: Columns,
    /// Foreground of all polygons of one object.
    intervals: Vec<[u32; 2]>,
}

impl<E> Default for Runs<E> {
    fn default() -> Self {
        Self { edges: Vec::new(), columns: Columns::default(), intervals: Vec::new() }
    }
}

/// The crossings of one polygon, into `columns`.
fn collect<E: Edge>(edges: &[E], size: Size, columns: &mut Columns) -> Result<()> {
    columns.begin(size)?;
    for edge in edges {
        let (first, last) = edge.columns();
        columns.count(first, last);
    }
    columns.open(size)?;
    cross_all(edges, size, columns.sink(size));
    Ok(())
}

fn to_bits<E: Edge>(polygons: Polygons<'_>, size: Size, out: &mut [u64]) -> Result<()> {
    check_output(out, polygons.len() * size.mask_words())?;
    let work = polygons.work() + out.len();
    fill_items(out, size.mask_words(), work, |object, scratch: &mut Part<E>, words| {
        words.fill(0);
        let mut canvas = Canvas::whole(size, words);
        polygons.of(object).try_for_each(|polygon| scratch.unite(polygon, size, &mut canvas))
    })
}

fn to_bytes<E: Edge>(polygons: Polygons<'_>, size: Size, blank: bool, out: &mut [u8]) -> Result<()> {
    check_output(out, polygons.len() * size.pixels())?;
    fill_items(
        out,
        size.pixels(),
        polygons.work() + out.len() / 16,
        |object, scratch: &mut (Part<E>, Vec<u64>), out| {
            let (part, words) = scratch;
            let windows = polygons.of(object).map(|polygon| part.window(polygon, size));
            let window = windows.reduce(Window::hull).unwrap_or_default();
            let mut canvas = Canvas::blank(window, words, size)?;
            polygons.of(object).try_for_each(|polygon| part.unite(polygon, size, &mut canvas))?;
            canvas.write(size, blank, out)
        },
    )
}

fn filled_to_runs(polygons: Polygons<'_>, size: Size) -> Result<MaskBuf> {
    MaskBuf::build(polygons.len(), polygons.work() * 2, |object, scratch: &mut (Vec<u64>, Blocks), out| {
        let (words, blocks) = scratch;
        let canvas = filled(polygons, object, size, words)?;
        let (window, words) = canvas.parts();
        let mut found = MaskBuf::default();
        if let Some(size) = window.size() {
            push_bits(words, size, blocks, &mut found)?;
        }
        out.push(size.pixels(), window.intervals(&found.counts, size))
    })
}

fn filled_to_bits(polygons: Polygons<'_>, size: Size, out: &mut [u64]) -> Result<()> {
    check_output(out, polygons.len() * size.mask_words())?;
    let work = polygons.work() + out.len();
    fill_items(out, size.mask_words(), work, |object, (): &mut (), words| {
        words.fill(0);
        fill(polygons.of(object), size, &mut Canvas::whole(size, words))
    })
}

fn filled_to_bytes(polygons: Polygons<'_>, size: Size, blank: bool, out: &mut [u8]) -> Result<()> {
    check_output(out, polygons.len() * size.pixels())?;
    fill_items(out, size.pixels(), polygons.work() + out.len() / 16, |object, words: &mut Vec<u64>, out| {
        filled(polygons, object, size, words)?.write(size, blank, out)
    })
}

/// A canvas of what an object fills.
fn filled<'a>(polygons: Polygons<'_>, object: usize, size: Size, words: &'a mut Vec<u64>) -> Result<Canvas<'a>> {
    let mut canvas = Canvas::blank(reach(polygons.of(object), size), words, size)?;
    fill(polygons.of(object), size, &mut canvas)?;
    Ok(canvas)
}

/// One polygon of an object on its way to a canvas.
struct Part<E> {
    edges: Vec<E>,
    words: Vec<u64>,
}

impl<E> Default for Part<E> {
    fn default() -> Self {
        Self { edges: Vec::new(), words: Vec::new() }
    }
}

impl<E: Edge> Part<E> {
    /// What the foreground of a polygon lies in.
    fn window(&mut self, polygon: &[f64], size: Size) -> Window {
        gather(polygon, size, &mut self.edges);
        bounds(&self.edges, size)
    }

    /// Add the foreground of a polygon.
    fn unite(&mut self, polygon: &[f64], size: Size, canvas: &mut Canvas<'_>) -> Result<()> {
        let window = canvas.aligned(self.window(polygon, size));
        let mut part = Canvas::blank(window, &mut self.words, size)?;
        cross_all(&self.edges, size, |base, rows, count| {
            (base..).zip(&rows[..count]).for_each(|(column, &row)| part.toggle(column, row as usize));
        });
        part.descend()?;
        canvas.unite(&part);
        Ok(())
    }
}

/// What the foreground between these edges lies in.
fn bounds<E: Edge>(edges: &[E], size: Size) -> Window {
    let start = (usize::MAX, 0, u32::MAX, 0);
    let (left, right, top, bottom) = edges.iter().fold(start, |(left, right, top, bottom), edge| {
        let ((first, last), (highest, lowest)) = (edge.columns(), edge.rows(size.height() as u32));
        (left.min(first), right.max(last), top.min(highest), bottom.max(lowest))
    });
    if top >= bottom {
        return Window::default();
    }
    Window { x: left, y: top as usize, width: right + 1 - left, height: (bottom - top) as usize }
}
