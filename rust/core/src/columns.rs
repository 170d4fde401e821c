//! From the places where columns change between background and foreground to column-major intervals.

use crate::error::{Error, Result};
use crate::rle::Size;

/// Rows of changes, sorted into their columns as they come: [`Self::count`] all, [`Self::open`], [`Self::put`] all,
/// [`Self::emit`].
#[derive(Default)]
pub(crate) struct Columns {
    /// The columns that change.
    first: usize,
    end: usize,
    /// While counting: the difference in changes to the column before. Then: where the next change of each column goes.
    /// Zero outside of `first..end`.
    next: Vec<u32>,
    /// Rows of the changes, column by column.
    rows: Vec<u32>,
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
        let missing = total.saturating_sub(self.rows.len());
        if u32::try_from(total).is_err() || self.rows.try_reserve(missing).is_err() {
            return Err(Error::Memory { count: 1, size });
        }
        self.rows.resize(total.max(self.rows.len()), 0);
        Ok(())
    }

    /// The row from which on a column is changed; as many as were announced.
    #[inline(always)]
    pub(crate) fn put(&mut self, column: usize, row: u32) {
        let next = &mut self.next[column];
        self.rows[*next as usize] = row;
        *next += 1;
    }

    /// Foreground as rising (start, end) positions in a mask of `height` rows, none empty, at most touching. Every
    /// column has an even number of changes. Empty afterwards.
    #[inline(always)]
    pub(crate) fn emit(&mut self, height: usize, mut interval: impl FnMut(u32, u32)) {
        let mut start = 0;
        for column in self.first..self.end {
            let end = std::mem::take(&mut self.next[column]) as usize;
            let rows = &mut self.rows[start..end];
            start = end;
            let top = (column * height) as u32;
            let mut pair = |a: u32, b: u32| {
                if a < b {
                    interval(top + a, top + b);
                }
            };
            match rows {
                [] => {}
                &mut [a, b] => pair(a.min(b), a.max(b)),
                &mut [a, b, c, d] => {
                    let (a, b, c, d) = (a.min(b), a.max(b), c.min(d), c.max(d));
                    let (first, b, c, last) = (a.min(c), a.max(c), b.min(d), b.max(d));
                    pair(first, b.min(c));
                    pair(b.max(c), last);
                }
                _ => {
                    sort(rows);
                    rows.as_chunks::<2>().0.iter().for_each(|&[a, b]| pair(a, b));
                }
            }
        }
        (self.first, self.end) = (0, 0);
    }
}

fn sort(rows: &mut [u32]) {
    if rows.len() > 24 {
        return rows.sort_unstable();
    }
    for i in 1..rows.len() {
        let row = rows[i];
        let mut place = i;
        while place > 0 && rows[place - 1] > row {
            rows[place] = rows[place - 1];
            place -= 1;
        }
        rows[place] = row;
    }
}
