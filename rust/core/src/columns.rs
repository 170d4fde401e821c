//! The places where columns change between background and foreground, in column-major order.

use crate::edges::LANES;
use crate::error::{Error, Result};
use crate::memory::reserve;
use crate::rle::Size;

/// Changes, sorted into their columns as they come: [`Self::begin`], [`Self::count`] all, [`Self::open`], all into
/// [`Self::sink`], [`Self::each_pair`].
#[derive(Default)]
pub(crate) struct Columns {
    /// The columns that change.
    first: usize,
    end: usize,
    changes: usize,
    /// While counting: the difference in changes to the column before. Then: where the next change of each column goes.
    /// Zero outside of `first..end` between two uses.
    next: Vec<u32>,
    /// Positions of the changes, column by column; a place that is not used follows each column and the last of them.
    positions: Vec<u32>,
}

impl Columns {
    /// Make room for the columns of an image.
    ///
    /// # Errors
    /// [`Error::Memory`] if there is not enough.
    pub(crate) fn begin(&mut self, size: Size) -> Result<()> {
        let length = size.width() + LANES;
        reserve(&mut self.next, length, size)?;
        self.next.resize(length, 0);
        (self.first, self.end) = (size.width(), 0);
        Ok(())
    }

    /// Announce one change in each column from `first` to `last`.
    #[inline(always)]
    pub(crate) fn count(&mut self, first: usize, last: usize) {
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
        let (mut changes, mut places) = (0u32, 0usize);
        (self.first, self.changes) = (self.first.min(self.end), 0);
        for next in &mut self.next[self.first..self.end] {
            changes = changes.wrapping_add(*next);
            *next = places as u32;
            places += changes as usize + 1;
            self.changes += changes as usize;
        }
        if u32::try_from(places).is_err() {
            return Err(Error::Memory { count: 1, size });
        }
        self.next[self.end..self.end + LANES].fill(places as u32);
        reserve(&mut self.positions, places + 1, size)?;
        self.positions.resize(places + 1, 0);
        Ok(())
    }

    /// Takes a column, the rows from which on it and those after it are changed, and how many of these there are; as many
    /// as were announced.
    pub(crate) fn sink(&mut self, size: Size) -> impl FnMut(usize, &[u32; LANES], usize) {
        let Self { next, positions, .. } = self;
        let (next, positions, height) = (&mut next[..], &mut positions[..], size.height() as u32);
        #[inline(always)]
        move |base, rows, count| {
            let Some(next) = next[base..].first_chunk_mut::<LANES>() else { return };
            // All are written, as how many there are cannot be predicted: those there are not, to places that are
            // written again or not used.
            let places = *next;
            next.iter_mut().enumerate().for_each(|(i, next)| *next += u32::from(i < count));
            for (i, (place, row)) in places.iter().zip(rows).enumerate() {
                positions[*place as usize] = ((base + i) as u32).wrapping_mul(height).wrapping_add(*row);
            }
        }
    }

    /// Calls `take` with the changes as rising column-major positions, two by two: every column has an even number of
    /// them, and where a column is changed at its end, the next one begins. Asked once.
    #[inline(always)]
    pub(crate) fn each_pair(&mut self, mut take: impl FnMut(u32, u32)) {
        let mut start = 0;
        for next in &mut self.next[self.first..self.end] {
            let end = std::mem::take(next) as usize;
            match &mut self.positions[start..end] {
                [a, b] => take(*a.min(b), *a.max(b)),
                column => {
                    sort(column);
                    column.as_chunks::<2>().0.iter().for_each(|&[a, b]| take(a, b));
                }
            }
            start = end + 1;
        }
        self.next[self.end..self.end + LANES].fill(0);
    }

    /// How many changes were announced.
    pub(crate) fn len(&self) -> usize {
        self.changes
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
