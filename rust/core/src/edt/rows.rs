//! The second pass, row by row, by the way that fits the spacing and the size.

use super::blocks::{LONGEST, Row, Scratch};
use super::envelope::{Envelope, Scaled, Unit};
use super::gaps::{Columns, Steps};
use super::{Distance, Spacing};
use crate::simd::run;

/// Scratch of the second pass.
#[derive(Default)]
pub(crate) struct Rows {
    blocks: Scratch,
    exact: Envelope<Unit>,
    scaled: Envelope<Scaled>,
}

impl Rows {
    /// The squared distances of row `y`, infinite where there is no background.
    pub(crate) fn squares(&mut self, columns: &Columns, y: usize, spacing: Spacing, out: &mut [f64]) {
        self.row(columns, y, spacing, out, |square| square);
    }

    /// The distances of row `y`.
    pub(super) fn distances<T: Distance>(&mut self, columns: &Columns, y: usize, spacing: Spacing, out: &mut [T]) {
        self.row(columns, y, spacing, out, |square| T::from_f64(square.sqrt()));
    }

    fn row<T: Copy>(
        &mut self,
        columns: &Columns,
        y: usize,
        spacing: Spacing,
        out: &mut [T],
        finish: impl Fn(f64) -> T,
    ) {
        let width = columns.width;
        let (border, row) = (columns.border, y * width..(y + 1) * width);
        match &columns.steps {
            Steps::Short(steps) if spacing == Spacing::UNIT && width.max(steps.len() / width) <= LONGEST => {
                run(Row { steps: &steps[row], border, scratch: &mut self.blocks, out, finish });
            }
            Steps::Short(steps) if spacing == Spacing::UNIT => self.exact.row(&steps[row], border, &Unit, out, finish),
            Steps::Long(steps) if spacing == Spacing::UNIT => self.exact.row(&steps[row], border, &Unit, out, finish),
            Steps::Short(steps) => self.scaled.row(&steps[row], border, &Scaled(spacing), out, finish),
            Steps::Long(steps) => self.scaled.row(&steps[row], border, &Scaled(spacing), out, finish),
        }
    }
}
