//! CRC-32C (Castagnoli), the checksum of cache rows.

/// The CRC-32C of `bytes`, continuing from `seed`: the checksum of what came before, 0 at the beginning.
#[must_use]
pub fn crc32c(bytes: &[u8], seed: u32) -> u32 {
    ::crc32c::crc32c_append(seed, bytes)
}
