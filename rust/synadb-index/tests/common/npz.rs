//! The shipped vectors: just enough of ZIP, deflate (RFC 1951) and NPY to read them.

/// Lengths and distances of deflate: the first of each code, and its further bits.
const LENGTHS: [(usize, u32); 29] = steps(3, 4);
const DISTANCES: [(usize, u32); 30] = steps(1, 2);
/// In this order come the lengths of the codes that other lengths are coded by.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// `each` codes share a number of further bits, which begins at zero, twice.
const fn steps<const N: usize>(first: usize, each: usize) -> [(usize, u32); N] {
    let (mut table, mut next, mut index) = ([(0, 0); N], first, 0);
    while index < N {
        let bits = (index / each).saturating_sub(1) as u32;
        table[index] = (next, bits);
        next += 1 << bits;
        index += 1;
    }
    table
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn bit(&mut self) -> usize {
        let bit = self.bytes[self.at / 8] >> (self.at % 8) & 1;
        self.at += 1;
        usize::from(bit)
    }

    fn take(&mut self, count: u32) -> usize {
        (0..count).fold(0, |number, place| number | self.bit() << place)
    }
}

/// A canonical Huffman code: how many codes have each length, and the symbols in order.
struct Huffman {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Huffman {
    fn new(lengths: &[usize]) -> Self {
        let mut counts = [0; 16];
        lengths.iter().for_each(|&length| counts[length] += 1);
        counts[0] = 0;
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|&s| lengths[s] > 0).collect();
        symbols.sort_by_key(|&symbol| lengths[symbol]);
        Self { counts, symbols }
    }

    fn symbol(&self, bits: &mut Bits<'_>) -> usize {
        let (mut code, mut first, mut before) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.bit();
            if code < first + count {
                return self.symbols[before + code - first];
            }
            before += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        panic!("no such code");
    }
}

fn dynamic(bits: &mut Bits<'_>) -> (Huffman, Huffman) {
    let (literals, distances) = (bits.take(5) + 257, bits.take(5) + 1);
    let count = bits.take(4) + 4;
    let mut lengths = [0; 19];
    ORDER[..count].iter().for_each(|&place| lengths[place] = bits.take(3));
    let code = Huffman::new(&lengths);
    let mut lengths: Vec<usize> = Vec::new();
    while lengths.len() < literals + distances {
        let (length, times) = match code.symbol(bits) {
            16 => (lengths[lengths.len() - 1], 3 + bits.take(2)),
            17 => (0, 3 + bits.take(3)),
            18 => (0, 11 + bits.take(7)),
            length => (length, 1),
        };
        lengths.extend(std::iter::repeat_n(length, times));
    }
    (Huffman::new(&lengths[..literals]), Huffman::new(&lengths[literals..]))
}

fn fixed() -> (Huffman, Huffman) {
    let lengths: Vec<usize> = (0..288)
        .map(|symbol| match symbol {
            144..256 => 9,
            256..280 => 7,
            _ => 8,
        })
        .collect();
    (Huffman::new(&lengths), Huffman::new(&[5; 30]))
}

/// The bytes of a deflated stream, and how long the stream was.
fn inflate(bytes: &[u8]) -> (Vec<u8>, usize) {
    let (mut bits, mut out) = (Bits { bytes, at: 0 }, Vec::new());
    loop {
        let last = bits.bit() == 1;
        let (literals, distances) = match bits.take(2) {
            0 => {
                let at = bits.at.div_ceil(8);
                let len = usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
                out.extend_from_slice(&bytes[at + 4..][..len]);
                bits.at = 8 * (at + 4 + len);
                if last {
                    break;
                }
                continue;
            }
            1 => fixed(),
            _ => dynamic(&mut bits),
        };
        loop {
            let symbol = literals.symbol(&mut bits);
            match symbol {
                0..256 => out.push(symbol as u8),
                256 => break,
                _ => {
                    // The longest has a code of its own.
                    let (first, further) = LENGTHS[symbol - 257];
                    let len = if symbol == 285 { 258 } else { first + bits.take(further) };
                    let (first, further) = DISTANCES[distances.symbol(&mut bits)];
                    let from = out.len() - first - bits.take(further);
                    (from..from + len).for_each(|at| out.push(out[at]));
                }
            }
        }
        if last {
            break;
        }
    }
    (out, bits.at.div_ceil(8))
}

/// The content of the arrays of an archive, without their headers.
fn arrays(mut archive: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while archive.starts_with(b"PK\x03\x04") {
        let number = |at: usize| usize::from(u16::from_le_bytes([archive[at], archive[at + 1]]));
        let start = 30 + number(26) + number(28);
        let (mut array, len) = inflate(&archive[start..]);
        let header = 10 + usize::from(u16::from_le_bytes([array[8], array[9]]));
        found.push(array.split_off(header));
        archive = &archive[start + len..];
    }
    found
}

fn half(bytes: [u8; 2]) -> f32 {
    let bits = u16::from_le_bytes(bytes);
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let size = match exponent {
        0 => fraction * 2_f32.powi(-24),
        _ => (1024.0 + fraction) * 2_f32.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
}

/// 2,500 passages and 1,000 questions as vectors of 384 dimensions, passages at unit length.
pub fn shipped() -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let arrays = arrays(include_bytes!("../../../../data/demo/vectors.npz"));
    let [passages, questions] = &arrays[..] else { panic!("two arrays") };
    let unit = |codes: &[u8]| -> Vec<f32> {
        let values: Vec<f32> = codes.iter().map(|&code| f32::from(code.cast_signed())).collect();
        let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        values.iter().map(|value| value / norm).collect()
    };
    let passages: Vec<_> = passages.chunks(384).map(unit).collect();
    let values: Vec<f32> = questions.as_chunks().0.iter().map(|&bytes| half(bytes)).collect();
    (passages, values.chunks(384).map(<[f32]>::to_vec).collect())
}
