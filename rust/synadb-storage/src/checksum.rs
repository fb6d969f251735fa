//! CRC-32C (Castagnoli), the checksum of everything on disk, through the crate `crc32c`.

/// CRC-32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// CRC-32C of what `crc` covers followed by `bytes`.
#[must_use]
pub fn append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

/// The low half of a word.
#[must_use]
pub fn low32(word: u64) -> u32 {
    (word & 0xffff_ffff) as u32
}

/// The high half of a word.
#[must_use]
pub fn high32(word: u64) -> u32 {
    (word >> 32) as u32
}

/// Folds a CRC to the 16 bits of a head check.
#[must_use]
pub fn fold16(crc: u32) -> u16 {
    ((crc ^ (crc >> 16)) & 0xffff) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answer() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn append_continues() {
        let data: Vec<u8> = (0..1000u32).map(|i| (i * 7 % 251) as u8).collect();
        for cut in [0, 1, 8, 12, 63, 64, 500, 1000] {
            assert_eq!(append(crc32c(&data[..cut]), &data[cut..]), crc32c(&data));
        }
    }
}
