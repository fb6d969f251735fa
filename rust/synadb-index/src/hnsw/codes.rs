//! Points of a graph as codes: bytes with a scale, or single precision where there are few
//! dimensions, or where that is asked for.

use crate::distance::{Kernels, prefetch_many};
use crate::hnsw::search::pool::{InsertKernel, insert_kernel};
use crate::quantize::{self, DotsKernel, FillBytes};
use crate::random::mix;

/// Bytes that the length of a code is a multiple of, padded with zeros.
pub(super) const CODE_ALIGN: usize = 64;

/// Up to this many dimensions points are kept in single precision: a byte a dimension would be
/// coarser than the distances between neighbours.
pub(super) const FLOAT_DIMENSIONS_MAX: usize = 48;
/// Distances made at once.
const CHUNK: usize = 64;
/// What a squared distance of floats is off by, of itself, and a float.
const FLOAT_ROUNDING: f64 = 1e-5;
const FLOAT_STEP: f64 = f32::EPSILON as f64;
/// Bits of a scale that are dropped, so that vectors equal but for rounding get equal codes.
const SCALE_BITS_DROPPED: u32 = 12;

/// The kernels that codes need.
#[derive(Debug, Clone, Copy)]
pub(super) struct CodeKernels {
    pub(super) float: &'static Kernels,
    pub(super) dot_bytes: DotsKernel<i8>,
    fill_bytes: FillBytes,
    /// Of the queue of a search.
    pub(super) insert: Option<InsertKernel>,
}

impl CodeKernels {
    pub(super) fn new(float: &'static Kernels) -> Self {
        let kernels = quantize::CodeKernels::up_to(float.level);
        let insert = insert_kernel(float.level);
        Self { float, dot_bytes: kernels.dot_bytes, fill_bytes: kernels.fill_bytes, insert }
    }
}

/// What belongs to a code beside its bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Terms {
    /// Value of one step of a byte.
    pub(super) scale: f32,
    /// The additional coordinate.
    pub(super) extra: f32,
    /// Squared length of the decoded point without the additional coordinate.
    pub(super) norm: f32,
}

/// One code.
#[derive(Debug, Clone, Copy)]
pub(super) struct Code<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) floats: &'a [f32],
    pub(super) terms: Terms,
}

/// Codes side by side.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Codes {
    /// Bytes of a code, or 0 when codes are floats.
    pub(super) stride: usize,
    /// Floats of a code, or 0 when codes are bytes.
    width: usize,
    bytes: Vec<u8>,
    floats: Vec<f32>,
    terms: Vec<Terms>,
}

impl Codes {
    /// No codes yet, of points with this many dimensions.
    pub(super) fn new(dimensions: usize, quantized: bool) -> Self {
        let float = dimensions <= FLOAT_DIMENSIONS_MAX || !quantized;
        let stride = if float { 0 } else { dimensions.next_multiple_of(CODE_ALIGN) };
        let width = if float { dimensions + 1 } else { 0 };
        let (bytes, floats, terms) = (Vec::new(), Vec::new(), Vec::new());
        Self { stride, width, bytes, floats, terms }
    }

    /// No codes, of the same shape.
    pub(super) fn empty(&self) -> Self {
        let (stride, width) = (self.stride, self.width);
        Self { stride, width, bytes: Vec::new(), floats: Vec::new(), terms: Vec::new() }
    }

    /// True when codes of either take as much.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.stride, self.width) == (other.stride, other.width)
    }

    /// Bytes that the values of a code take.
    pub(super) fn code_bytes(&self) -> usize {
        self.stride + size_of::<f32>() * self.width
    }

    pub(super) fn len(&self) -> usize {
        self.terms.len()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.floats.clear();
        self.terms.clear();
    }

    /// Encodes a point and its additional coordinate.
    pub(super) fn push(&mut self, point: &[f32], extra: f32, kernels: CodeKernels) {
        if self.width > 0 {
            self.floats.extend_from_slice(point);
            self.floats.push(extra);
            let norm = point.iter().map(|value| value * value).sum();
            self.terms.push(Terms { extra, norm, ..Terms::default() });
            return;
        }
        let start = self.bytes.len();
        self.bytes.resize(start + self.stride, 0);
        self.terms.push(encode(point, extra, kernels, &mut self.bytes[start..]));
    }

    pub(super) fn push_code(&mut self, code: Code<'_>) {
        self.bytes.extend_from_slice(code.bytes);
        self.floats.extend_from_slice(code.floats);
        self.terms.push(code.terms);
    }

    /// Adds a code as it lies in a block.
    pub(super) fn push_bytes(&mut self, code: &[u8], terms: Terms) {
        if self.width > 0 {
            let (floats, _) = code.as_chunks();
            self.floats.extend(floats.iter().map(|&value| f32::from_le_bytes(value)));
        } else {
            self.bytes.extend_from_slice(code);
        }
        self.terms.push(terms);
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.bytes.append(&mut other.bytes);
        self.floats.append(&mut other.floats);
        self.terms.append(&mut other.terms);
    }

    #[inline]
    pub(super) fn code(&self, index: usize) -> Code<'_> {
        Code {
            bytes: &self.bytes[index * self.stride..][..self.stride],
            floats: &self.floats[index * self.width..][..self.width],
            terms: self.terms[index],
        }
    }

    /// A number that equal codes share.
    pub(super) fn hash(&self, index: usize) -> u64 {
        let code = self.code(index);
        let (words, _) = code.bytes.as_chunks::<8>();
        let floats = code.floats.iter().map(|value| u64::from(value.to_bits()));
        let terms = [code.terms.scale, code.terms.extra].map(|term| u64::from(term.to_bits()));
        let parts = words.iter().map(|&word| u64::from_le_bytes(word)).chain(floats).chain(terms);
        parts.fold(0, |hash, part| mix(hash ^ part).wrapping_add(part))
    }

    pub(super) fn equal(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.code(a), self.code(b));
        a.bytes == b.bytes && a.floats == b.floats && a.terms == b.terms
    }

    /// Asks the processor for a code that will be read soon.
    #[inline]
    pub(super) fn prefetch(&self, index: u32) {
        let code = self.code(index as usize);
        prefetch_many(code.bytes);
        prefetch_many(bytemuck::cast_slice(code.floats));
    }

    /// Replaces the content by these codes of another collection.
    pub(super) fn pick(&mut self, from: &Self, picked: &[u32]) {
        const AHEAD: usize = 4;
        self.clear();
        for (index, &code) in picked.iter().enumerate() {
            if let Some(&ahead) = picked.get(index + AHEAD) {
                from.prefetch(ahead);
            }
            self.push_code(from.code(code as usize));
        }
    }

    /// Squared distances of a code from as many codes as `out` holds, from `first` on.
    pub(super) fn distances(
        &self,
        code: Code<'_>,
        first: usize,
        kernels: CodeKernels,
        out: &mut [f32],
    ) {
        if self.width > 0 {
            let rows = &self.floats[first * self.width..];
            let kernel = kernels.float.squared_euclidean_rows;
            return kernel(code.floats, rows, self.width, out.len(), out);
        }
        let mut dots = [0_i32; CHUNK];
        for (chunk, out) in out.chunks_mut(CHUNK).enumerate() {
            let first = first + chunk * CHUNK;
            let dots = &mut dots[..out.len()];
            let rows = bytemuck::cast_slice(&self.bytes[first * self.stride..]);
            (kernels.dot_bytes)(bytemuck::cast_slice(code.bytes), rows, self.stride, dots);
            for ((out, &dot), terms) in out.iter_mut().zip(&*dots).zip(&self.terms[first..]) {
                *out = squared_distance(code.terms, *terms, dot);
            }
        }
    }
}

/// Squared distance of two points from the inner product of their bytes.
#[inline(always)]
pub(super) fn squared_distance(a: Terms, b: Terms, dot: i32) -> f32 {
    // The difference of the additional coordinates apart: among short vectors they are nearly
    // equal and far larger than what sets the points apart.
    let extra = a.extra - b.extra;
    (a.norm + b.norm - 2.0 * a.scale * b.scale * dot as f32).max(0.0) + extra * extra
}

/// How much farther a point may seem by its code than another that is farther, both about as far
/// from a query.
///
/// The components of a code are off by up to half a step either way, evenly: along the line between
/// two points that makes a twelfth of the squared steps in variance. Three deviations of what two
/// such squared distances differ by; that of floats is rounded in its last bits.
pub(super) fn rounding(query: Terms, point: Terms, squared_distance: f32) -> f32 {
    // Beside one far point all others are so near that their products leave the range of `f32`.
    let squared_distance = f64::from(squared_distance);
    let square = |value: f32| f64::from(value) * f64::from(value);
    let steps = square(query.scale) + square(point.scale);
    let deviation = 2.0 * (2.0 * squared_distance * steps / 12.0).sqrt();
    // What is subtracted to make a point of a vector leaves it off by a last bit, too.
    let norms = f64::from(query.norm) + f64::from(point.norm);
    let of_floats = FLOAT_STEP * (norms * squared_distance).sqrt();
    (3.0 * deviation + FLOAT_ROUNDING * squared_distance + of_floats) as f32
}

/// Encodes a point into bytes, whose padding is zero already.
pub(super) fn encode(point: &[f32], extra: f32, kernels: CodeKernels, bytes: &mut [u8]) -> Terms {
    // One step up, so that no byte leaves its range.
    let coarser = |step: f32| {
        f32::from_bits(((step.to_bits() >> SCALE_BITS_DROPPED) + 1) << SCALE_BITS_DROPPED)
    };
    let bytes: &mut [i8] = bytemuck::cast_slice_mut(bytes);
    let scale = (kernels.fill_bytes)(point, coarser, &mut bytes[..point.len()]);
    let mut squares = [0];
    (kernels.dot_bytes)(bytes, bytes, bytes.len(), &mut squares);
    let norm = scale * scale * squares[0] as f32;
    Terms { scale, extra, norm }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distance::exact_dot;
    use crate::random::Random;

    #[test]
    fn of_two_points_the_nearer_seems_no_farther_than_the_rounding_allows() {
        const DIMENSIONS: usize = 128;
        let mut random = Random::new(11);
        let mut point = || -> Vec<f32> {
            (0..DIMENSIONS).map(|_| (random.next() % 2001) as f32 / 1000.0 - 1.0).collect()
        };
        let query = point();
        let kernels = CodeKernels::new(crate::kernels().expect("a level"));
        let coded = |vector: &[f32]| {
            let mut bytes = vec![0; DIMENSIONS.next_multiple_of(CODE_ALIGN)];
            let terms = encode(vector, 0.0, kernels, &mut bytes);
            (bytes, terms)
        };
        let (query_bytes, query_terms) = coded(&query);
        let measure = |vector: &[f32]| {
            let (bytes, terms) = coded(vector);
            let signed = |&byte: &u8| i32::from(byte.cast_signed());
            let dot = bytes.iter().map(signed).zip(query_bytes.iter().map(signed));
            let seeming = squared_distance(query_terms, terms, dot.map(|(a, b)| a * b).sum());
            let difference: Vec<f32> = vector.iter().zip(&query).map(|(a, b)| a - b).collect();
            (exact_dot(&difference, &difference), seeming, terms)
        };
        let mut points: Vec<_> = (0..600).map(|_| measure(&point())).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        // Side by side they are nearer to each other than the codes tell: many change places.
        let (mut swapped, mut missed) = (0, 0);
        for pair in points.windows(2) {
            let ((_, near, _), (_, far, terms)) = (pair[0], pair[1]);
            swapped += usize::from(near > far);
            missed += usize::from(near > far + rounding(query_terms, terms, far));
        }
        assert!(swapped > 30 && missed <= 6, "{swapped} swapped, {missed} missed");
    }
}
