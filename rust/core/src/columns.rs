//! The places where columns change between background and foreground, in column-major order.

use crate::error::{Error, Result};
use crate::rle::Size;

/// Changes, sorted into their columns as they come: [`Self::count`] all, [`Self::open`], all into [`Self::sink`],
/// [`Self::sorted`].
#[derive(Default)]
pub(crate) struct Columns {
    /// The columns that change.
    first: usize,
    end: usize,
    /// While counting: the difference in changes to the column before. Then: where the next change of each column goes.
    /// Zero outside of `first..end`.
    next: Vec<u32>,
    /// Positions of the changes, column by column.
    positions: Vec<u32>,
}

impl Columns {
    /// Announce one change in each column from `first` to `last`.
    #[inline(always)]
    pub(crate) fn count(&mut self, first: usize, last: usize, size: Size) {
        if self.end == 0 {
            self.next.resize(size.width() + 1, 0);
            self.first = first;
        }
        self.first = self.first.min(first);
        self.end = self.end.max(last + 1);
        self.next[first] = self.next[first].wrapping_add(1);
        self.next[last + 1] = self.next[last + 1].wrapping_sub(1);
    }

    /// Make room for what was announced.
    ///
    /// # Errors
    /// [`Error::Memory`] if there is not enough.
    pub(crate) fn open(&mut self, size: Size) -> Result<()> {
        let (mut changes, mut total) = (0u32, 0usize);
        for next in &mut self.next[self.first..self.end] {
            changes = changes.wrapping_add(*next);
            *next = total as u32;
            total += changes as usize;
        }
        if let Some(next) = self.next.get_mut(self.end) {
            *next = 0;
        }
        let missing = total.saturating_sub(self.positions.len());
        if u32::try_from(total).is_err() || self.positions.try_reserve(missing).is_err() {
            return Err(Error::Memory { count: 1, size });
        }
        self.positions.resize(total, 0);
        Ok(())
    }

    /// Takes the column and the row from which on it is changed; as many as were announced.
    pub(crate) fn sink(&mut self, size: Size) -> impl FnMut(usize, u32) {
        let Self { next, positions, .. } = self;
        let (next, positions, height) = (&mut next[..], &mut positions[..], size.height() as u32);
        #[inline(always)]
        move |column, row| {
            let next = &mut next[column];
            positions[*next as usize] = column as u32 * height + row;
            *next += 1;
        }
    }

    /// The changes as rising column-major positions: a column that is changed where it ends, where the next one begins.
    /// Every column has an even number of them. Nothing is announced afterwards.
    pub(crate) fn sorted(&mut self) -> &[u32] {
        let mut rest = &mut self.positions[..];
        let mut start = 0;
        for next in &mut self.next[self.first..self.end] {
            let end = std::mem::take(next);
            let Some((column, others)) = rest.split_at_mut_checked((end - start) as usize) else { break };
            (rest, start) = (others, end);
            match column {
                [a, b] => (*a, *b) = (*a.min(b), *a.max(b)),
                _ => sort(column),
            }
        }
        (self.first, self.end) = (0, 0);
        &self.positions
    }
}

fn sort(column: &mut [u32]) {
    if column.len() > 24 {
        return column.sort_unstable();
    }
    for i in 1..column.len() {
        let position = column[i];
        let mut place = i;
        while place > 0 && column[place - 1] > position {
            column[place] = column[place - 1];
            place -= 1;
        }
        column[place] = position;
    }
}
