//! CRC-32C (Castagnoli), the checksum of cache rows.

/// The CRC-32C of `bytes`, continuing from `seed`: the checksum of what came before, 0 at the beginning.
#[must_use]
pub fn crc32c(bytes: &[u8], seed: u32) -> u32 {
    ::crc32c::crc32c_append(seed, bytes)
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn the_check_value_of_the_catalogue() {
        assert_eq!(crc32c(b"123456789", 0), 0xE306_9283);
        assert_eq!(crc32c(b"6789", crc32c(b"12345", 0)), 0xE306_9283);
    }
}
