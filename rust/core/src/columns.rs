//! From the places where columns change between background and foreground to column-major intervals.

/// The changes of one mask, gathered in any order.
#[derive(Default)]
pub(crate) struct Changes {
    /// (row, column); a column is background above its first change, and background again below its last.
    pub(crate) found: Vec<(u32, u32)>,
    /// Where each column begins in `rows`, counted from the first column that changes.
    starts: Vec<usize>,
    /// Rows of the changes, column by column, rising.
    rows: Vec<u32>,
}

impl Changes {
    /// Foreground as rising (start, end) positions in a mask of `height` rows, at most touching; some may be empty.
    ///
    /// A counting sort by column, then by row within each: O(changes + columns between the first and the last).
    pub(crate) fn intervals(&mut self, height: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let columns = self.found.iter().map(|&(_, x)| x as usize);
        let first = columns.clone().min().unwrap_or(0);
        let count = columns.max().map_or(0, |last| last + 1 - first);
        self.sort(first, count);
        let rows = &self.rows;
        self.starts.windows(2).take(count).enumerate().flat_map(move |(i, bounds)| {
            let top = (first + i) * height;
            rows[bounds[0]..bounds[1]].chunks(2).map(move |pair| {
                // Without a partner, the last change reaches to the bottom.
                let end = pair.get(1).map_or(height, |&row| row as usize);
                (top + pair[0] as usize, top + end)
            })
        })
    }

    fn sort(&mut self, first: usize, count: usize) {
        self.starts.clear();
        self.starts.resize(count + 2, 0);
        for &(_, x) in &self.found {
            self.starts[x as usize - first + 2] += 1;
        }
        for i in 2..count + 2 {
            self.starts[i] += self.starts[i - 1];
        }
        self.rows.clear();
        self.rows.resize(self.found.len(), 0);
        for &(y, x) in &self.found {
            let next = &mut self.starts[x as usize - first + 1];
            self.rows[*next] = y;
            *next += 1;
        }
        for bounds in self.starts.windows(2).take(count) {
            self.rows[bounds[0]..bounds[1]].sort_unstable();
        }
    }
}
