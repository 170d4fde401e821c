//! Area average of masks on a coarse grid: the low-res training target, straight from the runs.

use std::ops::Range;

use crate::bits::check_output;
use crate::error::{Error, Result};
use crate::parallel::{Pace, STEP, fill_items};
use crate::rle::{Masks, Size};
use crate::window::Window;

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

/// What `value` makes of the mean of each mask over the on-image part of each cell, row-major `side` x `side` values a
/// mask, into `out`; the mean is 0 off the image.
///
/// Pixel (x, y) covers [x, x + 1) x [y, y + 1). Each end of a foreground stretch of a column adds to one cell per
/// column of cells, and the cells above it are filled by one sum from the bottom up: O(runs + columns covered + cells).
///
/// # Errors
/// [`crate::BatchError::Output`] if `out` is not as long as the masks have cells.
pub fn area_average_into<T: Copy + Send>(
    masks: Masks<'_>,
    grid: Grid,
    value: impl Fn(f32) -> T + Sync,
    out: &mut [T],
) -> Result<()> {
    let cells = grid.side * grid.side;
    check_output(out, masks.len() * cells)?;
    let work = masks.len() * (cells + masks.size().width()) + masks.run_count() * STEP;
    let layout = Layout::new(masks.size(), grid);
    fill_items(out, cells, work, |mask, sums: &mut Sums, out| {
        out.fill(value(0.0));
        let Some(window) = Window::around(masks, mask) else { return Ok(()) };
        sums.collect(masks, mask, &layout.part(window), &layout)?;
        sums.each(&layout, |cell, mean| out[cell] = value(mean as f32));
        Ok(())
    })
}

/// Where the pixels of an image lie on a grid.
struct Layout {
    grid: Grid,
    ends: Vec<End>,
    weights: ColumnWeights,
    rows_on_image: Vec<f64>,
    columns_on_image: Vec<f64>,
}

impl Layout {
    fn new(size: Size, grid: Grid) -> Self {
        Self {
            grid,
            ends: row_ends(size, grid),
            weights: column_weights(size, grid),
            rows_on_image: extents(size.height(), grid.cell_height, grid.side),
            columns_on_image: extents(size.width(), grid.cell_width, grid.side),
        }
    }

    /// The cells a window of the image lies in.
    fn part(&self, window: Window) -> Part {
        let cells = |x: usize| self.weights.first_cell[x].min(self.grid.side);
        let last = window.x + window.width - 1;
        let columns = cells(window.x)..cells(last) + self.weights.of(last).count();
        Part { columns, rows: self.ends[window.y].row..self.ends[window.y + window.height].row + 1 }
    }
}

/// Some cells of a grid; `rows` may hold the one below it.
#[derive(Clone, Default)]
struct Part {
    rows: Range<usize>,
    columns: Range<usize>,
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

/// Foreground of one mask by cell, row by row, and one row more.
#[derive(Default)]
struct Sums {
    cells: Part,
    /// Pixels of foreground in the cell in which a stretch ends, less those before one begins.
    part: Vec<f64>,
    /// Width of the stretches that end in this cell, less those that begin: what fills all cells above.
    full: Vec<f64>,
}

impl Sums {
    fn collect(&mut self, masks: Masks<'_>, mask: usize, cells: &Part, layout: &Layout) -> Result<()> {
        let (width, height) = (cells.columns.len(), masks.size().height());
        for sums in [&mut self.part, &mut self.full] {
            sums.clear();
            sums.resize(width * (cells.rows.len() + 1), 0.0);
        }
        self.cells = cells.clone();
        let mut pace = Pace::default();
        for (start, end) in masks.intervals(mask) {
            let (first, last) = (start / height, (end - 1) / height);
            for x in first..=last {
                pace.steps(STEP)?;
                let top = if x == first { start - x * height } else { 0 };
                let bottom = if x == last { end - x * height } else { height };
                let (top, bottom) = (layout.ends[top], layout.ends[bottom]);
                let rows = [top, bottom].map(|end| (end.row - cells.rows.start) * width);
                for (column, overlap) in layout.weights.of(x) {
                    let column = column - cells.columns.start;
                    self.part[rows[1] + column] += overlap * bottom.rest;
                    self.full[rows[1] + column] += overlap;
                    self.part[rows[0] + column] -= overlap * top.rest;
                    self.full[rows[0] + column] -= overlap;
                }
            }
        }
        Ok(())
    }

    /// Call `visit` with the index and the mean of every cell that may hold foreground.
    fn each(&mut self, layout: &Layout, mut visit: impl FnMut(usize, f64)) {
        let (Part { rows, columns }, Grid { side, cell_height, .. }) = (&self.cells, layout.grid);
        let width = columns.len();
        for row in (rows.start..rows.end.min(side)).rev() {
            let start = (row - rows.start) * width;
            let (here, below) = self.full[start..start + 2 * width].split_at_mut(width);
            let parts = &self.part[start..start + width];
            for (i, ((own, below), part)) in here.iter_mut().zip(below).zip(parts).enumerate() {
                let on_image = layout.rows_on_image[row] * layout.columns_on_image[columns.start + i];
                // What ends further down fills this cell; what ends here only those above it.
                let covered = part + *below * cell_height;
                *own += *below;
                if on_image > 0.0 {
                    visit(row * side + columns.start + i, (covered / on_image).clamp(0.0, 1.0));
                }
            }
        }
    }
}
