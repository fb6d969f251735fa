//! Distance kernels: one table of functions for each level of instructions, chosen once.

mod scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use crate::IndexError;

pub(crate) use scalar::{exact_dot, largest_magnitude};

/// Floats in a cache line.
#[cfg(target_arch = "x86_64")]
const LINE_FLOATS: usize = 16;
/// How far ahead the rows kernels prefetch, in floats. Measured on a Zen 3 with 384 dimensions:
/// 16 KiB bring a scan down to the time of one pass over the memory, 6 KiB to 1.2 times that.
const AHEAD_FLOATS: usize = 4096;

/// Bytes of a vector that are asked for before it is read; the processor follows the rest by itself.
const VECTOR_BYTES: usize = 4096;

/// Asks the processor for a vector that will be read soon, the beginning of one that is long.
pub(crate) fn prefetch(vector: &[f32]) {
    let bytes: &[u8] = bytemuck::cast_slice(vector);
    prefetch_many(&bytes[..bytes.len().min(VECTOR_BYTES)]);
}

/// Asks the processor for what lies as far behind the start of `rows` as the rows kernels look
/// ahead, as much of it as one row takes; for passes over large matrices, row by row.
pub fn prefetch_ahead(rows: &[f32], dimensions: usize) {
    if let Some(ahead) = rows.get(AHEAD_FLOATS..) {
        prefetch_bytes(bytemuck::cast_slice(&ahead[..ahead.len().min(dimensions)]));
    }
}

/// Asks the processor for bytes that will be read soon.
pub fn prefetch_bytes(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    avx2::prefetch_bytes(bytes);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

/// As [`prefetch_bytes`], of more lines than the first level of the caches keeps track of while they
/// are on their way (two dozen on a Zen 4): into the second level. For them the processor would wait.
pub(crate) fn prefetch_many(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    avx2::prefetch_many(bytes);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

/// Name of the environment variable that forces a level.
const LEVEL_VARIABLE: &str = "SYNADB_SIMD";

/// How far apart two vectors are; smaller is nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// One minus the cosine of the angle: 0 to 2, and 1 when either vector is zero.
    Cosine,
    /// Length of the difference.
    Euclidean,
    /// Negative inner product.
    DotProduct,
}

/// Level of vector instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SimdLevel {
    /// Plain Rust, the reference.
    Scalar,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512F.
    Avx512,
}

impl SimdLevel {
    /// Every level, the slowest first.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512];

    /// Name of the level, as `SYNADB_SIMD` spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// True when this processor has the instructions.
    #[must_use]
    pub fn is_supported(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => std::is_x86_feature_detected!("avx512f"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }
}

/// Kernel over two vectors of one length.
pub type PairKernel = fn(&[f32], &[f32]) -> f32;

/// Kernel of a query against many rows: query, rows, stride in `f32`, count, results.
///
/// Row `i` begins at `i * stride` and has the length of the query; the last row need not be
/// followed by padding. A row's result does not depend on its position in the block. What lies
/// beyond the rows counted is taken for what will be read next: it may be prefetched.
pub type RowsKernel = fn(&[f32], &[f32], usize, usize, &mut [f32]);

/// Kernel of a query, whose numbers are `f32` in double precision, and a row of its length. What will
/// be read next, as much of it as one row takes, may be prefetched.
pub type ExactKernel<T> = fn(&[f64], &[f32], &[f32]) -> T;

/// The kernels of one level. Each panics when the lengths of its arguments do not fit.
#[derive(Debug)]
pub struct Kernels {
    /// Level of the table.
    pub level: SimdLevel,
    /// Inner product.
    pub dot: PairKernel,
    /// Squared length of the difference.
    pub squared_euclidean: PairKernel,
    /// Inner products with many rows.
    pub dot_rows: RowsKernel,
    /// Squared lengths of the differences from many rows.
    pub squared_euclidean_rows: RowsKernel,
    /// Inner product of the query and the row, and the row's squared length, in double precision, in
    /// which the products of two `f32` are exact. All levels give the same bits.
    pub exact_dots: ExactKernel<(f64, f64)>,
    /// Squared length of the difference in double precision; as above.
    pub exact_squared_euclidean: ExactKernel<f64>,
}

impl Kernels {
    /// The table of one level.
    ///
    /// # Errors
    ///
    /// [`IndexError::UnsupportedSimdLevel`] when this processor lacks the instructions.
    pub fn for_level(level: SimdLevel) -> Result<&'static Self, IndexError> {
        // The tables of the upper levels are reachable only from here: their functions rely on it.
        match level {
            SimdLevel::Scalar => Ok(&scalar::KERNELS),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2 if level.is_supported() => Ok(&avx2::KERNELS),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512 if level.is_supported() => Ok(&avx512::KERNELS),
            _ => Err(IndexError::UnsupportedSimdLevel { name: level.name() }),
        }
    }
}

/// The table of this process: the level that `SYNADB_SIMD` names, else the best one supported.
///
/// The variable is read once, at the first call.
///
/// # Errors
///
/// [`IndexError::UnknownSimdLevel`] and [`IndexError::UnsupportedSimdLevel`] when the variable
/// asks for what does not exist or for what the processor lacks.
pub fn kernels() -> Result<&'static Kernels, IndexError> {
    static CHOSEN: OnceLock<Result<&'static Kernels, IndexError>> = OnceLock::new();
    CHOSEN
        .get_or_init(|| {
            let wanted = std::env::var_os(LEVEL_VARIABLE);
            choose(wanted.as_ref().map(|name| name.to_string_lossy()).as_deref())
        })
        .clone()
}

fn choose(wanted: Option<&str>) -> Result<&'static Kernels, IndexError> {
    let level = match wanted {
        None | Some("") => best_level(),
        Some(name) => SimdLevel::ALL
            .into_iter()
            .find(|level| level.name() == name)
            .ok_or_else(|| IndexError::UnknownSimdLevel { name: name.to_owned() })?,
    };
    Kernels::for_level(level)
}

fn best_level() -> SimdLevel {
    let mut levels = SimdLevel::ALL.into_iter().rev();
    levels.find(|level| level.is_supported()).unwrap_or(SimdLevel::Scalar)
}

/// Checks what every pair kernel relies on, those in double precision too.
fn assert_pair<T>(a: &[T], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "the vectors of a distance have one length");
}

/// Checks what every rows kernel relies on: `count` rows of the query's length lie in `rows`.
fn assert_rows(query: &[f32], rows: &[f32], stride: usize, count: usize, out: &[f32]) {
    assert!(out.len() >= count, "{} results do not hold {count} rows", out.len());
    if let Some(last) = count.checked_sub(1) {
        let end = last.checked_mul(stride).and_then(|start| start.checked_add(query.len()));
        assert!(
            end.is_some_and(|end| end <= rows.len()),
            "{} floats do not hold {count} rows of {} at stride {stride}",
            rows.len(),
            query.len()
        );
    }
}
