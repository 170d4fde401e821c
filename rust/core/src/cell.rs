//! The losses of one cell: a logit against a target, in plain operations that vectorise.

/// The shape of the focal loss (Lin et al., 2017).
#[derive(Clone, Copy, Debug)]
pub struct Focal {
    /// Weight of the object; the background has the rest.
    pub alpha: f32,
    /// Exponent of how wrong a cell is.
    pub gamma: f32,
}

/// How the focal loss counts a cell.
pub(crate) trait Focus: Copy {
    /// Its weight as background and what an object has more; [`Focal::alpha`].
    fn balance(self) -> (f32, f32);

    /// `missed` to the power of gamma, and the derivative.
    fn power(self, missed: f32) -> (f32, f32);
}

/// Not at all.
#[derive(Clone, Copy)]
pub(crate) struct Unfocused;

impl Focus for Unfocused {
    #[inline(always)]
    fn balance(self) -> (f32, f32) {
        (0.0, 0.0)
    }

    #[inline(always)]
    fn power(self, _: f32) -> (f32, f32) {
        (0.0, 0.0)
    }
}

/// With gamma = 2, SAM's, and this alpha.
#[derive(Clone, Copy)]
pub(crate) struct Square(pub(crate) f32);

impl Focus for Square {
    #[inline(always)]
    fn balance(self) -> (f32, f32) {
        (1.0 - self.0, 2.0 * self.0 - 1.0)
    }

    #[inline(always)]
    fn power(self, missed: f32) -> (f32, f32) {
        (missed * missed, 2.0 * missed)
    }
}

impl Focus for Focal {
    #[inline(always)]
    fn balance(self) -> (f32, f32) {
        Square(self.alpha).balance()
    }

    #[inline(always)]
    fn power(self, missed: f32) -> (f32, f32) {
        // Below gamma = 1 the derivative is infinite where nothing is missed, which nothing is taught by.
        (missed.powf(self.gamma), self.gamma * missed.max(f32::MIN_POSITIVE).powf(self.gamma - 1.0))
    }
}

/// A logit against a target.
#[derive(Clone, Copy)]
pub(crate) struct Cell {
    /// The sigmoid of the logit.
    pub(crate) probability: f32,
    /// Its derivative.
    pub(crate) slope: f32,
    /// Binary cross-entropy.
    pub(crate) entropy: f32,
}

impl Cell {
    /// Of a logit that is NaN or infinite, NaN.
    #[inline(always)]
    pub(crate) fn new(logit: f32, target: f32) -> Self {
        let small = exp(-logit.abs());
        let large = 1.0 / (1.0 + small);
        let positive = if logit > 0.0 { logit } else { 0.0 };
        Self {
            probability: if logit > 0.0 { large } else { small * large },
            slope: small * large * large,
            entropy: positive - logit * target + ln_1p(small),
        }
    }

    /// 1 - p of what is true.
    #[inline(always)]
    pub(crate) fn missed(self, target: f32) -> f32 {
        self.probability + target - 2.0 * self.probability * target
    }
}

/// The exponential of what is not above 0, to two units in the last place; below -87, that of -87.
#[inline(always)]
fn exp(value: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to a whole number, in the lowest bits
    const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4); // the first exact in 10 bits
    let value = if value < -87.0 { -87.0 } else { value };
    let shifted = value.mul_add(std::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    let rest = whole.mul_add(-LN_2.1, whole.mul_add(-LN_2.0, value));
    let series = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let mantissa = series.into_iter().fold(1.0 / 5040.0f32, |sum, factor| sum.mul_add(rest, factor));
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    mantissa * f32::from_bits(power)
}

/// ln(1 + x) for x in [0, 1], to two units in the last place: 2 artanh(x / (2 + x)), whose series is short.
#[inline(always)]
fn ln_1p(value: f32) -> f32 {
    let part = value / (2.0 + value);
    let square = part * part;
    let series = [1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 1.0 / 5.0, 1.0 / 3.0, 1.0];
    2.0 * part * series.into_iter().fold(1.0 / 15.0f32, |sum, factor| sum.mul_add(square, factor))
}

#[cfg(test)]
mod tests {
    use super::{exp, ln_1p};

    #[test]
    fn series_are_as_good_as_floats() {
        for i in 0..=100_000u32 {
            let part = f64::from(i) / 100_000.0;
            let wanted = (-87.0 * f64::from(part as f32)).exp();
            let found = f64::from(exp((-87.0 * f64::from(part as f32)) as f32));
            assert!((found / wanted - 1.0).abs() < 4e-6, "exp {part}"); // the argument alone is rounded by 4e-6
            let near = f64::from(exp(-part as f32));
            assert!((near / f64::from(-part as f32).exp() - 1.0).abs() < 2.5e-7, "exp {part}");
            let wanted = f64::from(part as f32).ln_1p();
            assert!((f64::from(ln_1p(part as f32)) - wanted).abs() <= 2.5e-7 * wanted, "ln_1p {part}");
        }
        assert!(exp(f32::NEG_INFINITY) > 0.0 && exp(f32::NEG_INFINITY) < 1e-37);
        assert!(exp(f32::NAN).is_nan());
    }
}
