//! Part of a mask as pixels: what kernels that need neighbourhoods unpack of it.

use crate::error::Result;
use crate::memory::reserve;
use crate::rle::{Masks, Size, intervals};

/// A rectangle of an image.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Window {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Window {
    /// The bounding box of a mask; none if it is empty.
    pub(crate) fn around(masks: Masks<'_>, mask: usize) -> Option<Self> {
        let height = masks.size().height();
        let mut bounds: Option<(usize, usize, usize, usize)> = None;
        for (start, end) in masks.intervals(mask) {
            let (x0, x1) = (start / height, (end - 1) / height);
            // A run that goes on in the next column holds the bottom of one column and the top of the next.
            let (y0, y1) = if x0 == x1 { (start % height, (end - 1) % height) } else { (0, height - 1) };
            bounds = Some(bounds.map_or((x0, y0, x1, y1), |(a, b, c, d)| (a.min(x0), b.min(y0), c.max(x1), d.max(y1))));
        }
        bounds.map(|(x0, y0, x1, y1)| Self { x: x0, y: y0, width: x1 + 1 - x0, height: y1 + 1 - y0 })
    }

    /// Its height and width; none without pixels.
    pub(crate) fn size(self) -> Option<Size> {
        Size::new(self.height as i64, self.width as i64).ok()
    }

    /// What holds both; a window without pixels adds nothing.
    pub(crate) fn hull(self, other: Self) -> Self {
        if self.height == 0 || other.height == 0 {
            return if self.height == 0 { other } else { self };
        }
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let right = (self.x + self.width).max(other.x + other.width);
        let bottom = (self.y + self.height).max(other.y + other.height);
        Self { x, y, width: right - x, height: bottom - y }
    }

    /// Larger by `margin` pixels on every side, as far as the image goes.
    pub(crate) fn grown(self, margin: usize, size: Size) -> Self {
        let (x, y) = (self.x.saturating_sub(margin), self.y.saturating_sub(margin));
        let right = (self.x + self.width).saturating_add(margin).min(size.width());
        let bottom = (self.y + self.height).saturating_add(margin).min(size.height());
        Self { x, y, width: right - x, height: bottom - y }
    }

    /// Unpack a mask that has no foreground outside of the window: row-major bytes, `foreground` where the mask is and
    /// `1 - foreground` elsewhere.
    ///
    /// # Errors
    /// [`crate::Error::Memory`].
    pub(crate) fn unpack(self, masks: Masks<'_>, mask: usize, foreground: u8, pixels: &mut Vec<u8>) -> Result<()> {
        let Self { x, y, width, height } = self;
        let rows = masks.size().height();
        pixels.clear();
        reserve(pixels, width * height, masks.size())?;
        pixels.resize(width * height, 0);
        pixels[..width].fill(1 - foreground);
        // Marks where each column changes, then lets every row take over the row above. Foreground that goes on in the
        // next column makes the window as high as the image.
        for (start, end) in masks.intervals(mask) {
            let (first, last) = (start / rows, (end - 1) / rows);
            pixels[(start % rows - y) * width + first - x] ^= 1;
            pixels[first + 1 - x..last + 1 - x].iter_mut().for_each(|top| *top ^= 1);
            let bottom = (end - 1) % rows + 1 - y;
            if bottom < height {
                pixels[bottom * width + last - x] ^= 1;
            }
        }
        for row in 1..height {
            let (above, row) = pixels[(row - 1) * width..(row + 1) * width].split_at_mut(width);
            row.iter_mut().zip(above).for_each(|(pixel, above)| *pixel ^= *above);
        }
        Ok(())
    }

    /// The foreground of the runs of a mask of the window's size, as positions in an image of `size`.
    pub(crate) fn intervals(self, runs: &[u32], size: Size) -> impl Iterator<Item = (usize, usize)> {
        let Self { x, y, height, .. } = self;
        intervals(runs).flat_map(move |(start, end)| {
            (start / height..=(end - 1) / height).map(move |column| {
                let (top, base) = (column * height, (x + column) * size.height() + y);
                (base + start.max(top) - top, base + end.min(top + height) - top)
            })
        })
    }
}
