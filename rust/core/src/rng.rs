//! The random stream behind every draw: SplitMix64, counter-based, keyed by the item and not by its place in a batch.
//!
//! Draw `n` (from 0) of a stream is `mix(state + (n + 1) * 0x9E3779B97F4A7C15)` modulo 2^64, where
//!
//! ```text
//! mix(z): z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
//!         z = (z ^ (z >> 27)) * 0x94D049BB133111EB
//!         z ^ (z >> 31)
//! state = mix(key ^ purpose)
//! ```
//!
//! `purpose` is the eight ASCII bytes, big-endian, of what is drawn, so that two kinds of draws from one key are
//! unrelated; `docs/draws.md` lists them. Reference: Steele, Lea, Flood, *Fast splittable pseudorandom number
//! generators*, OOPSLA 2014.

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// One stream of draws.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of `key` for one purpose.
    #[must_use]
    pub fn new(key: u64, purpose: [u8; 8]) -> Self {
        Self(mix(key ^ u64::from_be_bytes(purpose)))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// Uniform over `0..bound`, without bias (Lemire's multiplication, redrawing the uneven rest); 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let uneven = bound.wrapping_neg().checked_rem(bound).unwrap_or(0);
        loop {
            let product = u128::from(self.bits()) * u128::from(bound);
            if product as u64 >= uneven {
                return (product >> 64) as u64;
            }
        }
    }

    /// Uniform over [0, 1), 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn splitmix64_as_published() {
        let mut rng = Rng(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(expected, std::array::from_fn(|_| rng.bits()));
    }
}
