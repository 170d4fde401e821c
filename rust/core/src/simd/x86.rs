//! The steps in intrinsics of x86-64.
//!
//! Values of these types exist only inside functions compiled for their level (`run_on`), hence the intrinsics may
//! be called wherever one is at hand.

use std::arch::x86_64::*;

use super::Lanes;

#[derive(Clone, Copy)]
pub(super) struct Avx2(pub(super) ());

#[derive(Clone, Copy)]
pub(super) struct Avx512(pub(super) ());

impl Lanes for Avx2 {
    #[inline(always)]
    fn nonzero(self, bytes: &[u8; 64]) -> u64 {
        let [low, high] = [0, 32].map(|start| {
            // SAFETY: AVX2 is there (see the module), and 32 bytes follow `start`.
            let zeros = unsafe {
                let v = _mm256_loadu_si256(bytes.as_ptr().add(start).cast());
                _mm256_movemask_epi8(_mm256_cmpeq_epi8(v, _mm256_setzero_si256()))
            };
            u64::from(!zeros.cast_unsigned())
        });
        low | high << 32
    }

    #[inline(always)]
    fn spread(self, word: u64, out: &mut [u8; 64]) {
        for (half, start) in [(word as u32, 0), ((word >> 32) as u32, 32)] {
            // SAFETY: AVX2 is there (see the module), and 32 bytes follow `start`.
            unsafe {
                // Byte i gets the byte that holds bit i, keeps that bit, and becomes 1 if it is set.
                let from = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
                let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
                let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(half.cast_signed()), from);
                let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
                let ones = _mm256_and_si256(set, _mm256_set1_epi8(1));
                _mm256_storeu_si256(out.as_mut_ptr().add(start).cast(), ones);
            }
        }
    }

    #[inline(always)]
    fn above(self, values: &[f32; 64], threshold: f32) -> u64 {
        let mut word = 0;
        for (i, eight) in values.as_chunks::<8>().0.iter().enumerate() {
            // SAFETY: AVX2 is there (see the module), and `eight` holds what is loaded.
            let bits = unsafe {
                let v = _mm256_loadu_ps(eight.as_ptr());
                _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(v, _mm256_set1_ps(threshold)))
            };
            word |= u64::from(bits.cast_unsigned()) << (8 * i);
        }
        word
    }

    #[inline(always)]
    fn widen(self, halves: &[u8; 32], out: &mut [f32; 16]) {
        for (eight, values) in halves.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<8>().0) {
            // SAFETY: F16C is there (see the module), the chunks hold what is loaded and stored.
            unsafe { _mm256_storeu_ps(values.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(eight.as_ptr().cast()))) }
        }
    }

    #[inline(always)]
    fn any_nan(self, values: &[f32; 64]) -> bool {
        values.as_chunks::<16>().0.iter().fold(false, |found, sixteen| {
            // SAFETY: AVX2 is there (see the module), and `sixteen` holds what is loaded.
            let bits = unsafe {
                let (a, b) = (_mm256_loadu_ps(sixteen.as_ptr()), _mm256_loadu_ps(sixteen.as_ptr().add(8)));
                _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_UNORD_Q>(a, b))
            };
            found | (bits != 0)
        })
    }
}

impl Lanes for Avx512 {
    #[inline(always)]
    fn nonzero(self, bytes: &[u8; 64]) -> u64 {
        // SAFETY: AVX-512BW is there (see the module), and `bytes` holds what is loaded.
        unsafe {
            let v = _mm512_loadu_si512(bytes.as_ptr().cast());
            _mm512_test_epi8_mask(v, v)
        }
    }

    #[inline(always)]
    fn spread(self, word: u64, out: &mut [u8; 64]) {
        // SAFETY: AVX-512BW is there (see the module), and `out` has room for what is stored.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_maskz_set1_epi8(word, 1)) }
    }

    #[inline(always)]
    fn above(self, values: &[f32; 64], threshold: f32) -> u64 {
        let mut word = 0;
        for (i, sixteen) in values.as_chunks::<16>().0.iter().enumerate() {
            // SAFETY: AVX-512F is there (see the module), and `sixteen` holds what is loaded.
            let bits = unsafe {
                let v = _mm512_loadu_ps(sixteen.as_ptr());
                _mm512_cmp_ps_mask::<_CMP_GT_OQ>(v, _mm512_set1_ps(threshold))
            };
            word |= u64::from(bits) << (16 * i);
        }
        word
    }

    #[inline(always)]
    fn widen(self, halves: &[u8; 32], out: &mut [f32; 16]) {
        // SAFETY: AVX-512F is there (see the module), the arrays hold what is loaded and stored.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_cvtph_ps(_mm256_loadu_si256(halves.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn any_nan(self, values: &[f32; 64]) -> bool {
        values.as_chunks::<32>().0.iter().fold(false, |found, half| {
            // SAFETY: AVX-512F is there (see the module), and `half` holds what is loaded.
            let bits = unsafe {
                let (a, b) = (_mm512_loadu_ps(half.as_ptr()), _mm512_loadu_ps(half.as_ptr().add(16)));
                _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, b)
            };
            found | (bits != 0)
        })
    }
}
