//! Area average of masks on a coarse grid: the low-res training target, straight from the runs.

use crate::error::{Error, Result};
use crate::parallel::fill_items;
use crate::rle::{Masks, Size};

/// A grid of `side` x `side` cells laid over the image from its top left corner; it may reach beyond the image.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    side: usize,
    cell_height: f64,
    cell_width: f64,
}

impl Grid {
    /// `side` cells along each axis, each `cell_height` x `cell_width` pixels, which need not be whole numbers.
    ///
    /// # Errors
    /// [`Error::Option`] if `side` is not in 1..=65536 or a cell side is not positive and finite.
    pub fn new(side: usize, cell_height: f64, cell_width: f64) -> Result<Self> {
        if !(1..=MAX_SIDE).contains(&side) {
            return Err(Error::Option { name: "grid", value: side as f64, expected: "1 to 65536 cells" });
        }
        for (name, value) in [("cell_height", cell_height), ("cell_width", cell_width)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(Error::Option { name, value, expected: "a finite number above 0" });
            }
        }
        Ok(Self { side, cell_height, cell_width })
    }
}

const MAX_SIDE: usize = 65536;

/// A cell counts as off the image if less than this fraction of its height or width lies on it: what is left then is
/// rounding of the cell size.
const SLIVER: f64 = 1e-6;

/// The mean of each mask over the on-image part of each cell, row-major `side` x `side` values a mask; 0 off the image.
///
/// Pixel (x, y) covers [x, x + 1) x [y, y + 1). Each end of a foreground stretch of a column adds to one cell per
/// column of cells, and the cells above it are filled by one prefix sum at the end: O(runs + columns covered + cells).
///
/// # Errors
/// None for masks that passed [`Masks::new`].
pub fn area_average(masks: Masks<'_>, grid: Grid) -> Result<Vec<f32>> {
    let size = masks.size();
    let ends = row_ends(size, grid);
    let weights = column_weights(size, grid);
    let rows_on_image = extents(size.height(), grid.cell_height, grid.side);
    let columns_on_image = extents(size.width(), grid.cell_width, grid.side);
    let cells = grid.side * grid.side;
    let mut out = vec![0.0; masks.len() * cells];
    let work = masks.len() * (cells + size.width()) + masks.run_count() * 10;
    fill_items(&mut out, cells, work, |mask, sums: &mut Sums, out| {
        sums.collect(masks, mask, &ends, &weights, grid.side);
        for column in 0..grid.side {
            let mut full = 0.0;
            for row in (0..grid.side).rev() {
                full += sums.full[column * (grid.side + 1) + row + 1];
                let covered = sums.part[column * (grid.side + 1) + row] + full * grid.cell_height;
                let on_image = rows_on_image[row] * columns_on_image[column];
                if on_image > 0.0 {
                    out[row * grid.side + column] = (covered / on_image).clamp(0.0, 1.0) as f32;
                }
            }
        }
        Ok(())
    })?;
    Ok(out)
}

/// A column of pixels from its top down to some row: `row` whole cells and `rest` pixels of the next.
#[derive(Clone, Copy)]
struct End {
    row: usize,
    rest: f64,
}

/// The [`End`] of every row position, `0..=height`.
fn row_ends(size: Size, grid: Grid) -> Vec<End> {
    let end = |y: usize| {
        let row = (y as f64 / grid.cell_height) as usize;
        if row < grid.side {
            End { row, rest: y as f64 - row as f64 * grid.cell_height }
        } else {
            End { row: grid.side, rest: 0.0 }
        }
    };
    (0..=size.height()).map(end).collect()
}

/// The cells each pixel column lies in: the first, and the overlaps in pixels with it and those that follow.
struct ColumnWeights {
    first_cell: Vec<usize>,
    starts: Vec<usize>,
    overlaps: Vec<f64>,
}

impl ColumnWeights {
    fn of(&self, x: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        let overlaps = &self.overlaps[self.starts[x]..self.starts[x + 1]];
        overlaps.iter().enumerate().map(move |(i, &overlap)| (self.first_cell[x] + i, overlap))
    }
}

fn column_weights(size: Size, grid: Grid) -> ColumnWeights {
    let mut weights = ColumnWeights { first_cell: Vec::new(), starts: vec![0], overlaps: Vec::new() };
    for x in 0..size.width() {
        let (left, right) = (x as f64, (x + 1) as f64);
        let first = (left / grid.cell_width) as usize;
        weights.first_cell.push(first);
        for cell in first..grid.side {
            let start = cell as f64 * grid.cell_width;
            if start >= right {
                break;
            }
            weights.overlaps.push(((start + grid.cell_width).min(right) - start.max(left)).max(0.0));
        }
        weights.starts.push(weights.overlaps.len());
    }
    weights
}

/// How many pixels of each cell lie on the image, along one axis.
fn extents(length: usize, cell: f64, side: usize) -> Vec<f64> {
    let extent = |i: usize| {
        let extent = (length as f64 - i as f64 * cell).clamp(0.0, cell);
        if extent < SLIVER * cell { 0.0 } else { extent }
    };
    (0..side).map(extent).collect()
}

/// Foreground of one mask by cell, cells column by column with one row of cells below the grid.
#[derive(Default)]
struct Sums {
    /// Pixels of foreground in the cell in which a stretch ends, less those before one begins.
    part: Vec<f64>,
    /// Width of the stretches that end in this cell, less those that begin: what fills all cells above.
    full: Vec<f64>,
}

impl Sums {
    fn collect(&mut self, masks: Masks<'_>, mask: usize, ends: &[End], weights: &ColumnWeights, side: usize) {
        for sums in [&mut self.part, &mut self.full] {
            sums.clear();
            sums.resize(side * (side + 1), 0.0);
        }
        let height = masks.size().height();
        for (start, end) in masks.intervals(mask) {
            let (first, last) = (start / height, (end - 1) / height);
            for x in first..=last {
                let top = if x == first { start - x * height } else { 0 };
                let bottom = if x == last { end - x * height } else { height };
                let (top, bottom) = (ends[top], ends[bottom]);
                for (column, overlap) in weights.of(x) {
                    let base = column * (side + 1);
                    self.part[base + bottom.row] += overlap * bottom.rest;
                    self.full[base + bottom.row] += overlap;
                    self.part[base + top.row] -= overlap * top.rest;
                    self.full[base + top.row] -= overlap;
                }
            }
        }
    }
}
