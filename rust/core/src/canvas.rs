//! A rectangle of an image as packed rows: drawn by toggling the pixels that differ from the one above.

use crate::bits::{WORD, unpack_marked, unpack_row};
use crate::error::{Error, Result};
use crate::parallel::Pace;
use crate::rle::Size;
use crate::simd::{Kernel, Lanes, run};
use crate::window::Window;

pub(crate) struct Canvas<'a> {
    window: Window,
    row_words: usize,
    words: &'a mut [u64],
}

impl<'a> Canvas<'a> {
    /// The whole of an image; `words` must be zero.
    pub(crate) fn whole(size: Size, words: &'a mut [u64]) -> Self {
        let window = Window { x: 0, y: 0, width: size.width(), height: size.height() };
        Self { window, row_words: size.row_words(), words }
    }

    /// A window of an image, without foreground, in memory taken from `scratch`.
    ///
    /// # Errors
    /// [`Error::Memory`] if there is not enough.
    pub(crate) fn blank(window: Window, scratch: &'a mut Vec<u64>, size: Size) -> Result<Self> {
        let row_words = window.width.div_ceil(WORD);
        let length = row_words * window.height;
        scratch.clear();
        if scratch.try_reserve_exact(length).is_err() {
            return Err(Error::Memory { count: 1, size });
        }
        scratch.resize(length, 0);
        Ok(Self { window, row_words, words: scratch })
    }

    /// From here on down, the column is foreground where it was background and the other way round. The column, and a
    /// row above the window's end, must lie in the window.
    #[inline(always)]
    pub(crate) fn toggle(&mut self, column: usize, row: usize) {
        let (column, row) = (column - self.window.x, row - self.window.y);
        // Below the last row nothing is left to change.
        if row < self.window.height {
            self.words[row * self.row_words + column / WORD] ^= 1 << (column % WORD);
        }
    }

    /// Have every row take over the row above: from what was toggled to pixels.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub(crate) fn descend(&mut self) -> Result<()> {
        let (row_words, mut pace) = (self.row_words, Pace::default());
        for y in 1..self.window.height {
            pace.steps(row_words)?;
            let (above, row) = self.words[(y - 1) * row_words..(y + 1) * row_words].split_at_mut(row_words);
            row.iter_mut().zip(above).for_each(|(word, above)| *word ^= *above);
        }
        Ok(())
    }

    /// A pixel of the window is foreground.
    #[inline(always)]
    pub(crate) fn set(&mut self, column: usize, row: usize) {
        let (column, row) = (column - self.window.x, row - self.window.y);
        self.words[row * self.row_words + column / WORD] |= 1 << (column % WORD);
    }

    /// The pixels of a row of the window from column `left` to `right`, both in it, are foreground.
    pub(crate) fn set_row(&mut self, row: usize, left: usize, right: usize) {
        let (left, right) = (left - self.window.x, right - self.window.x);
        let start = (row - self.window.y) * self.row_words;
        let (first, last) = (u64::MAX << (left % WORD), u64::MAX >> (WORD - 1 - right % WORD));
        match &mut self.words[start + left / WORD..=start + right / WORD] {
            [word] => *word |= first & last,
            [start, between @ .., end] => {
                *start |= first;
                between.fill(u64::MAX);
                *end |= last;
            }
            [] => {}
        }
    }

    /// The window, and its packed rows.
    pub(crate) fn parts(&self) -> (Window, &[u64]) {
        (self.window, self.words)
    }

    /// The smallest window around `part`, which lies in this one, whose rows begin where a word does.
    pub(crate) fn aligned(&self, part: Window) -> Window {
        let before = part.x.saturating_sub(self.window.x) % WORD;
        Window { x: part.x - before, width: part.width + before, ..part }
    }

    /// Add the foreground of a canvas of an [`Self::aligned`] window.
    pub(crate) fn unite(&mut self, part: &Canvas<'_>) {
        let Window { x, y, height, .. } = part.window;
        if height == 0 {
            return;
        }
        let (top, left) = (y - self.window.y, (x - self.window.x) / WORD);
        let rows = self.words.chunks_exact_mut(self.row_words).skip(top);
        for (row, part) in rows.zip(part.words.chunks_exact(part.row_words)) {
            row[left..left + part.len()].iter_mut().zip(part).for_each(|(word, part)| *word |= *part);
        }
    }

    /// Write to the image `out`, row-major, one byte (0 or 1) a pixel; `blank`: all of it is 0 already.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub(crate) fn write(&self, size: Size, blank: bool, out: &mut [u8]) -> Result<()> {
        run(Write { canvas: self, size, blank, out })
    }
}

struct Write<'a> {
    canvas: &'a Canvas<'a>,
    size: Size,
    blank: bool,
    out: &'a mut [u8],
}

impl Kernel for Write<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Result<()> {
        let Self { canvas: Canvas { window, row_words, words }, size, blank, out } = self;
        let (before, rest) = out.split_at_mut(window.y * size.width());
        let (rows, after) = rest.split_at_mut(window.height * size.width());
        let blanks = |part: &mut [u8]| {
            if !blank {
                part.fill(0);
            }
        };
        blanks(before);
        let mut pace = Pace::default();
        for (words, row) in words.chunks_exact((*row_words).max(1)).zip(rows.chunks_exact_mut(size.width())) {
            pace.steps(size.row_words() * 4)?;
            let (before, rest) = row.split_at_mut(window.x);
            let (row, after) = rest.split_at_mut(window.width);
            blanks(before);
            if blank {
                // Pages of memory that nothing is written to are never made.
                unpack_marked(lanes, words, row);
            } else {
                unpack_row(lanes, words, row);
            }
            blanks(after);
        }
        blanks(after);
        Ok(())
    }
}
