//! Changes to inputs, chosen by a generator with a seed.

use std::ops::Range;

/// Bytes that an input may have.
pub const INPUT_BYTES_MAX: usize = 64 << 10;

/// A generator with a fixed seed (splitmix64).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next word.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, 0 where that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.word() % end.max(1) as u64) as usize
    }

    /// A place to change, with 1 to `most` bytes, as far as there are any.
    fn range(&mut self, len: usize, most: usize) -> Range<usize> {
        let start = self.below(len);
        let count = 1 + self.below(most.min(len - start));
        start..(start + count).min(len)
    }
}

/// Numbers at whose edges code goes wrong.
const EDGES: [u64; 12] =
    [0, 1, 8, 63, 64, 65, 4096, 8192, 65_535, i32::MAX as u64, u32::MAX as u64, u64::MAX];

/// Changes `input` in one to a few places; `other` is an input to take pieces from.
pub fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let changes = 1 << random.below(4);
    for _ in 0..changes {
        if input.is_empty() {
            input.push(random.word() as u8);
        }
        change(input, other, random);
    }
    input.truncate(INPUT_BYTES_MAX);
}

fn change(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let len = input.len();
    let at = random.below(len);
    match random.below(11) {
        0 => input[at] ^= 1 << random.below(8),
        1 => input[at] = random.word() as u8,
        2 => input[at] = input[at].wrapping_add(1 + 254 * random.below(2) as u8),
        3 => write(input, at, EDGES[random.below(EDGES.len())], 1 << random.below(4)),
        4 => {
            let width = 1 << random.below(4);
            let mut word = [0; 8];
            let known = &input[at..len.min(at + width)];
            word[..known.len()].copy_from_slice(known);
            let step = random.below(33) as u64;
            write(input, at, u64::from_le_bytes(word).wrapping_add(step).wrapping_sub(16), width);
        }
        5 => {
            let range = random.range(len, 64);
            input.drain(range);
        }
        6 => {
            let piece = input[random.range(len, 256)].to_vec();
            input.splice(at..at, piece);
        }
        7 => {
            let piece = input[random.range(len, 256)].to_vec();
            let end = len.min(at + piece.len());
            input[at..end].copy_from_slice(&piece[..end - at]);
        }
        8 if !other.is_empty() => {
            let piece = other[random.range(other.len(), 512)].to_vec();
            let end = if random.below(2) == 0 { at } else { len.min(at + piece.len()) };
            input.splice(at..end, piece);
        }
        9 => {
            let range = random.range(len, 32);
            let byte = if random.below(2) == 0 { 0 } else { random.word() as u8 };
            input[range].fill(byte);
        }
        _ if random.below(8) == 0 => input.truncate(at),
        _ => {
            // Options stand in front of every input.
            let at = random.below(len.min(4));
            input[at] = random.word() as u8;
        }
    }
}

fn write(input: &mut [u8], at: usize, number: u64, width: usize) {
    let end = input.len().min(at + width);
    input[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
}
