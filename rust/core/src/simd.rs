//! The one place that knows instruction sets: which level this process runs on, and the steps that need intrinsics.
//!
//! A kernel is written once, as a [`Kernel`] whose `run` is `#[inline(always)]` and generic over [`Lanes`]; [`run`]
//! instantiates it for each level inside a function compiled for that level, so everything inlined into it (popcounts,
//! plain loops) uses the level's instructions as well. Dispatch once per mask or batch, not per word.
//!
//! `SAMFAST_SIMD` = `portable`, `avx2` or `avx512` forces a level; the results are the same on all of them.

use std::sync::OnceLock;

/// A set of instructions kernels are compiled for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, PartialOrd, Ord)]
pub enum Level {
    /// What every CPU of the architecture has.
    Portable,
    /// x86-64 with AVX2, BMI1, BMI2, F16C, FMA, LZCNT and POPCNT.
    Avx2,
    /// The above with AVX-512 F, BW, CD, DQ, VL and VPOPCNTDQ.
    Avx512,
}

impl Level {
    /// As `SAMFAST_SIMD` spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

const VARIABLE: &str = "SAMFAST_SIMD";

/// The level kernels run on: the best the CPU has, or the one `SAMFAST_SIMD` names. Read once.
///
/// # Errors
/// The reason, if `SAMFAST_SIMD` names no level or one this CPU does not have; kernels then run on [`Level::Portable`].
pub fn simd_level() -> Result<Level, String> {
    static LEVEL: OnceLock<Result<Level, String>> = OnceLock::new();
    LEVEL.get_or_init(|| choose(std::env::var(VARIABLE).ok().as_deref(), best())).clone()
}

fn choose(wanted: Option<&str>, best: Level) -> Result<Level, String> {
    let Some(wanted) = wanted.filter(|name| !name.is_empty()) else { return Ok(best) };
    let levels = [Level::Portable, Level::Avx2, Level::Avx512];
    match levels.into_iter().find(|level| level.name() == wanted) {
        Some(level) if level <= best => Ok(level),
        Some(_) => Err(format!("{VARIABLE} is {wanted:?}, but this CPU goes no further than {:?}", best.name())),
        None => Err(format!("{VARIABLE} is {wanted:?}, expected portable, avx2 or avx512")),
    }
}

#[cfg(target_arch = "x86_64")]
fn best() -> Level {
    let [v3, v4] = [
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt"),
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512cd")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vpopcntdq"),
    ];
    match (v3, v4) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        _ => Level::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn best() -> Level {
    Level::Portable
}

/// The steps a kernel asks the instruction set for: 64 pixels, or 16 values, at a time.
pub(crate) trait Lanes: Copy {
    /// Bit `i`: byte `i` is not 0.
    fn nonzero(self, bytes: &[u8; 64]) -> u64;

    /// Byte `i` of `out`, 0 or 1: bit `i` of `word`.
    fn spread(self, word: u64, out: &mut [u8; 64]);

    /// Bit `i`: `values[i] > threshold`; NaN is not.
    fn above(self, values: &[f32; 64], threshold: f32) -> u64;

    /// Sixteen little-endian half-precision floats; NaN becomes a quiet one.
    fn widen(self, halves: &[u8; 32], out: &mut [f32; 16]);

    /// Whether one of the values is NaN.
    fn any_nan(self, values: &[f32; 64]) -> bool;
}

/// The arguments of a kernel, and its body.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;

    /// The body: must be `#[inline(always)]`, and so must the functions of this crate it calls in its loops.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// Run a kernel on the level of this process.
pub(crate) fn run<K: Kernel>(kernel: K) -> K::Output {
    run_on(simd_level().unwrap_or(Level::Portable), kernel)
}

#[cfg(not(target_arch = "x86_64"))]
fn run_on<K: Kernel>(_: Level, kernel: K) -> K::Output {
    kernel.run(Portable)
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "intrinsics")]
fn run_on<K: Kernel>(level: Level, kernel: K) -> K::Output {
    #[target_feature(enable = "avx2,bmi1,bmi2,f16c,fma,lzcnt,popcnt")]
    fn avx2<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(x86::Avx2(()))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vpopcntdq")]
    #[target_feature(enable = "avx2,bmi1,bmi2,f16c,fma,lzcnt,popcnt")]
    fn avx512<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(x86::Avx512(()))
    }

    // `choose` lets no level through that the CPU does not have; asked again, so that soundness does not hang on it.
    match level.min(best()) {
        Level::Portable => kernel.run(Portable),
        // SAFETY: `best` found every feature the function enables.
        Level::Avx2 => unsafe { avx2(kernel) },
        // SAFETY: as above.
        Level::Avx512 => unsafe { avx512(kernel) },
    }
}

/// Plain integer arithmetic, eight pixels a step.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const LOW_SEVEN: u64 = 0x7f7f_7f7f_7f7f_7f7f;

impl Lanes for Portable {
    #[inline(always)]
    fn nonzero(self, bytes: &[u8; 64]) -> u64 {
        let mut word = 0;
        for (i, eight) in bytes.as_chunks::<8>().0.iter().enumerate() {
            let x = u64::from_le_bytes(*eight);
            let ones = ((((x & LOW_SEVEN) + LOW_SEVEN) | x) >> 7) & LOW_BITS;
            // Moves the lowest bit of byte i to bit 56 + i.
            word |= (ones.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i);
        }
        word
    }

    #[inline(always)]
    fn spread(self, word: u64, out: &mut [u8; 64]) {
        for (i, eight) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let bits = (word >> (8 * i)) & 0xff;
            // Byte i keeps bit i, then any bit becomes 1.
            let kept = bits.wrapping_mul(LOW_BITS) & 0x8040_2010_0804_0201;
            *eight = (((kept + LOW_SEVEN) >> 7) & LOW_BITS).to_le_bytes();
        }
    }

    #[inline(always)]
    fn above(self, values: &[f32; 64], threshold: f32) -> u64 {
        values.iter().enumerate().fold(0, |word, (i, &value)| word | u64::from(value > threshold) << i)
    }

    #[inline(always)]
    fn widen(self, halves: &[u8; 32], out: &mut [f32; 16]) {
        for (half, value) in halves.as_chunks::<2>().0.iter().zip(out) {
            let bits = u32::from(u16::from_le_bytes(*half));
            let (sign, magnitude) = ((bits & 0x8000) << 16, bits & 0x7fff);
            let positive = match magnitude {
                // A subnormal is a multiple of 2^-24; no subnormal f32 on the way, which a thread may flush to 0.
                0..0x0400 => (magnitude as f32 * f32::from_bits((127 - 24) << 23)).to_bits(),
                0x0400..0x7c00 => (magnitude << 13) + ((127 - 15) << 23),
                0x7c00 => 0xff << 23,
                _ => (magnitude << 13) | (0x1ff << 22),
            };
            *value = f32::from_bits(sign | positive);
        }
    }

    #[inline(always)]
    fn any_nan(self, values: &[f32; 64]) -> bool {
        values.iter().fold(false, |found, value| found | value.is_nan())
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "intrinsics")]
mod x86;

#[cfg(test)]
mod tests {
    use super::{Kernel, Lanes, Level, best, choose, run_on};
    use crate::rng::Rng;

    struct Steps<'a> {
        bytes: &'a [u8; 64],
        values: &'a [f32; 64],
    }

    impl Kernel for Steps<'_> {
        type Output = (u64, [u8; 64], u64, bool, u32);

        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) -> Self::Output {
            let word = lanes.nonzero(self.bytes);
            let mut out = [7; 64];
            lanes.spread(word, &mut out);
            (word, out, lanes.above(self.values, 0.25), lanes.any_nan(self.values), word.count_ones())
        }
    }

    #[test]
    fn every_level_takes_the_same_steps() {
        let mut rng = Rng::new(1, *b"testing ");
        for round in 0..500u64 {
            let bytes: [u8; 64] = std::array::from_fn(|_| if rng.below(9) < round % 10 { rng.bits() as u8 } else { 0 });
            let values: [f32; 64] = std::array::from_fn(|i| match (i, round % 3) {
                // In one place at a time, or nowhere.
                (i, _) if i as u64 == round % 70 => f32::NAN,
                (6, _) => 0.25,
                (7, _) => f32::INFINITY,
                _ => rng.unit() as f32 - 0.25,
            });
            let word = (0..64).fold(0, |word, i| word | u64::from(bytes[i] != 0) << i);
            let above = (0..64).fold(0, |word, i| word | u64::from(values[i] > 0.25) << i);
            let ones = bytes.map(|byte| u8::from(byte != 0));
            for level in [Level::Portable, Level::Avx2, Level::Avx512].into_iter().filter(|&level| level <= best()) {
                let found = run_on(level, Steps { bytes: &bytes, values: &values });
                assert_eq!(found, (word, ones, above, round % 70 < 64, word.count_ones()), "{level:?}");
            }
        }
    }

    struct Widen<'a>(&'a [u8; 32]);

    impl Kernel for Widen<'_> {
        type Output = [u32; 16];

        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) -> Self::Output {
            let mut out = [0.0; 16];
            lanes.widen(self.0, &mut out);
            out.map(f32::to_bits)
        }
    }

    /// From the definition: sign, exponent and fraction.
    fn widened(half: u16) -> u32 {
        let (exponent, fraction) = (i32::from(half >> 10 & 0x1f), f64::from(half & 0x3ff) / 1024.0);
        let value = match exponent {
            0 => fraction * 2f64.powi(-14),
            0x1f if fraction == 0.0 => f64::INFINITY,
            0x1f => return u32::from(half & 0x8000) << 16 | 0x7fc0_0000 | u32::from(half & 0x3ff) << 13,
            _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
        };
        (if half >> 15 == 1 { -value } else { value } as f32).to_bits()
    }

    #[test]
    fn every_level_widens_every_half() {
        for first in (0..=u16::MAX).step_by(16) {
            let halves: [u16; 16] = std::array::from_fn(|i| first + i as u16);
            let mut bytes = [0; 32];
            for (two, half) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(halves) {
                *two = half.to_le_bytes();
            }
            for level in [Level::Portable, Level::Avx2, Level::Avx512].into_iter().filter(|&level| level <= best()) {
                assert_eq!(run_on(level, Widen(&bytes)), halves.map(widened), "{level:?}");
            }
        }
    }

    #[test]
    fn a_level_is_chosen_by_name() {
        assert_eq!(choose(None, Level::Avx2), Ok(Level::Avx2));
        assert_eq!(choose(Some(""), Level::Avx2), Ok(Level::Avx2));
        assert_eq!(choose(Some("portable"), Level::Avx512), Ok(Level::Portable));
        assert!(choose(Some("avx512"), Level::Avx2).unwrap_err().contains("no further than"));
        assert!(choose(Some("AVX2"), Level::Avx2).unwrap_err().contains("expected portable"));
    }
}
