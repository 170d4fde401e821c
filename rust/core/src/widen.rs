//! Half-precision floats as single-precision ones: exact, whatever the value.

use crate::simd::{self, Kernel, Lanes};

struct Widen<'a> {
    halves: &'a [u8],
    out: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (blocks, rest) = self.halves.as_chunks::<32>();
        let (filled, tail) = self.out.as_chunks_mut::<16>();
        for (block, values) in blocks.iter().zip(filled) {
            lanes.widen(block, values);
        }
        let (mut padded, mut values) = ([0; 32], [0.0; 16]);
        padded[..rest.len()].copy_from_slice(rest);
        lanes.widen(&padded, &mut values);
        tail.copy_from_slice(&values[..tail.len()]);
    }
}

/// Fill `out` from as many little-endian half-precision floats.
pub(crate) fn widen(halves: &[u8], out: &mut [f32]) {
    debug_assert_eq!(halves.len(), 2 * out.len());
    simd::run(Widen { halves, out });
}

#[cfg(test)]
mod tests {
    use super::widen;

    #[test]
    fn any_number_of_values() {
        for count in [0, 1, 15, 16, 17, 100] {
            let halves: Vec<u8> = (0..count).flat_map(|_| [0x00, 0xc1]).collect();
            let mut out = vec![0.0; count];
            widen(&halves, &mut out);
            assert_eq!(out, vec![-2.5; count]);
        }
    }
}
