//! CRC-32C (Castagnoli, in catalogues CRC-32/ISCSI), the checksum of everything on disk, through the
//! crate `crc-fast`.

use crc_fast::{CrcAlgorithm, Digest, crc32_iscsi};

/// CRC-32C of `bytes`.
#[must_use]
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32_iscsi(bytes)
}

/// CRC-32C of what `crc` covers followed by `bytes`.
#[must_use]
pub fn append(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    low32(digest.finalize())
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

    /// The definition, bit by bit.
    fn byte_after(crc: u32, byte: u8) -> u32 {
        let mut state = !crc ^ u32::from(byte);
        for _ in 0..8 {
            state = (state >> 1) ^ if state & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
        !state
    }

    #[test]
    fn every_length_and_alignment_has_the_checksum_of_the_definition() {
        let mixed = |i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8;
        let data: Vec<u8> = (0..4300).map(mixed).collect();
        for start in [0, 1, 2, 3, 5, 8, 13, 63] {
            for before in [0, 0x1234_5678, u32::MAX] {
                let mut wanted = before;
                for length in 0..=4200 {
                    let bytes = &data[start..start + length];
                    assert_eq!(append(before, bytes), wanted, "{length} bytes from {start}");
                    if before == 0 {
                        assert_eq!(crc32c(bytes), wanted, "{length} bytes from {start}");
                    }
                    wanted = byte_after(wanted, data[start + length]);
                }
            }
        }
    }

    #[test]
    fn every_bit_of_a_long_stretch_counts() {
        let mut data = vec![0_u8; 777];
        let zeros = crc32c(&data);
        for bit in 0..8 * data.len() {
            data[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(crc32c(&data), zeros, "bit {bit}");
            data[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
