//! CRC-32C (Castagnoli), the checksum of cache rows; SHA-256, the fingerprint of images and weights.

use sha2::{Digest, Sha256};

/// The CRC-32C of `bytes`, continuing from `seed`: the checksum of what came before, 0 at the beginning.
#[must_use]
pub fn crc32c(bytes: &[u8], seed: u32) -> u32 {
    ::crc32c::crc32c_append(seed, bytes)
}

/// SHA-256 of bytes that come in pieces.
#[derive(Clone, Debug, Default)]
pub struct Fingerprint(Sha256);

impl Fingerprint {
    /// Take what comes next.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of everything, in hex.
    #[must_use]
    pub fn hex(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Fingerprint, crc32c};

    #[test]
    fn sha_256_of_the_standard() {
        let mut pieces = Fingerprint::default();
        pieces.update(b"a");
        pieces.update(b"");
        pieces.update(b"bc");
        assert_eq!(pieces.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Fingerprint::default().hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn the_check_value_of_the_catalogue() {
        assert_eq!(crc32c(b"123456789", 0), 0xE306_9283);
        assert_eq!(crc32c(b"6789", crc32c(b"12345", 0)), 0xE306_9283);
    }
}
