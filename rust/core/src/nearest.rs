//! The nearest pixel of an outline to a pixel of a row, from rows to the nearest one in every column.

/// How far apart two pixels are.
pub(crate) trait Metric {
    /// Rows between them, at most [`Self::FAR`], which stands for no pixel at all.
    type Gap: Copy + Default + Ord;
    const FAR: Self::Gap;

    /// One row more.
    fn further(gap: Self::Gap) -> Self::Gap;

    /// The distance of pixel `x` to the nearest of those that stand `row[i]` rows away in column `i`.
    fn nearest(&self, row: &Padded<'_, Self::Gap>, x: usize) -> f64;
}

/// A row with as many columns without a pixel on both sides of it, and a few more.
pub(crate) struct Padded<'a, G> {
    pub(crate) gaps: &'a [G],
    pub(crate) columns: usize,
}

/// Columns on both sides looked at in one step.
pub(crate) const STEP: usize = 16;

impl<G> Padded<'_, G> {
    /// Where column 0 is.
    #[inline(always)]
    fn start(&self) -> usize {
        self.columns + STEP
    }
}

/// Pixels of 1 x 1: integers up to the square root.
pub(crate) struct Squares;

impl Squares {
    /// The longest side at which no sum of squares is as large as that of [`Metric::FAR`], nor leaves 32 bits.
    pub(crate) const LONGEST: usize = 32_000;
    /// Columns looked at one by one before whole steps are taken.
    const SINGLE: u32 = 4;
}

impl Metric for Squares {
    type Gap = u16;
    const FAR: u16 = 50_000;

    #[inline(always)]
    fn further(gap: u16) -> u16 {
        (gap + 1).min(Self::FAR)
    }

    #[inline(always)]
    fn nearest(&self, row: &Padded<'_, u16>, x: usize) -> f64 {
        let (gaps, centre) = (row.gaps, row.start() + x);
        let square = |gap: u16| u32::from(gap) * u32::from(gap);
        let mut best = square(gaps[centre]);
        let mut away = 1;
        while away <= Self::SINGLE && away * away < best {
            let gap = gaps[centre - away as usize].min(gaps[centre + away as usize]);
            best = best.min(square(gap) + away * away);
            away += 1;
        }
        // Beyond the columns there are only far gaps, and none of them is better than what is known by then.
        while away * away < best && (away as usize) < row.columns {
            let first = away as usize;
            let left = &gaps[centre + 1 - first - STEP..][..STEP];
            let right = &gaps[centre + first..][..STEP];
            let mut nearest = [0; STEP];
            for (k, nearest) in nearest.iter_mut().enumerate() {
                let away = away + k as u32;
                *nearest = square(left[STEP - 1 - k].min(right[k])) + away * away;
            }
            best = nearest.iter().fold(best, |best, &other| best.min(other));
            away += STEP as u32;
        }
        f64::from(best).sqrt()
    }
}

/// Pixels of any size, in doubles.
pub(crate) struct Scaled {
    pub(crate) height: f64,
    pub(crate) width: f64,
}

impl Metric for Scaled {
    type Gap = u32;
    const FAR: u32 = u32::MAX;

    #[inline(always)]
    fn further(gap: u32) -> u32 {
        gap.saturating_add(1)
    }

    #[inline(always)]
    fn nearest(&self, row: &Padded<'_, u32>, x: usize) -> f64 {
        let (gaps, centre) = (row.gaps, row.start() + x);
        let square = |steps: f64, length: f64| (steps * length) * (steps * length);
        let down = |gap: u32| if gap == Self::FAR { f64::INFINITY } else { square(f64::from(gap), self.height) };
        let mut best = down(gaps[centre]);
        for away in 1..row.columns {
            let across = square(away as f64, self.width);
            if across >= best {
                break;
            }
            best = best.min(down(gaps[centre - away].min(gaps[centre + away])) + across);
        }
        best.sqrt()
    }
}
