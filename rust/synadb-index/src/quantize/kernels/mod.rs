//! Kernels over codes: one table for each level of instructions.

mod scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use super::bits::{BLOCK_ROWS, GROUP, GROUP_BYTES, bit_block_bytes, codes_bytes};
use super::links::{LinkSteps, link_block_bytes};
use super::{CodeQuery, Estimates, Terms};
use crate::{IndexError, SimdLevel, kernels};

/// Largest number of a table: four of them fit in a byte, so kernels add bytes first.
pub(super) const TABLE_MAX: f32 = 63.0;
/// Largest coordinate of the query in eight bits.
pub(super) const BYTE_MAX: f32 = 127.0;
/// Coordinates whose tables a kernel fills at once, and the bytes of these.
const TABLE_VALUES: usize = 4 * GROUP;
const TABLE_BYTES: usize = 4 * GROUP_BYTES;
/// Numbers of this size have no digits behind the point, and their lowest bits are an integer's.
const ROUNDING: f32 = 12_582_912.0;

/// Table numbers that fit in a byte together; a round of a kernel adds so many as bytes.
#[cfg(target_arch = "x86_64")]
const BYTE_SUMS: usize = 4;
/// Rounds whose sums fit in 16 bits: 256 times four numbers up to 63.
#[cfg(target_arch = "x86_64")]
const ROUNDS_MAX: usize = 256;

/// Kernel of a query against a block of 32 rows in one bit: block, query, terms of the block's
/// anchor, limit, results. The mask has a bit for each row whose lower bound is not above the
/// limit, a NaN included. Slots that hold no row are estimated like any other.
pub type BitsKernel = fn(&[u8], &CodeQuery, &Terms, f32, &mut Estimates) -> u32;

/// Kernel of a query against a block of 32 neighbours of a node: block, query, what the node adds,
/// steps of the block, limit, keys. The mask has a bit for each key below the limit, a NaN included.
pub type LinksKernel = fn(&[u8], &CodeQuery, f32, &LinkSteps, f32, &mut [f32; BLOCK_ROWS]) -> u32;

/// Inner products of a query in eight bits with many rows of codes: query, rows, stride in bytes,
/// results. The query holds no -128.
pub type DotsKernel<T> = fn(&[i8], &[T], usize, &mut [i32]);

/// Kernel that rounds coordinates to bytes: coordinates, what makes a step, bytes; the step.
pub(crate) type FillBytes = fn(&[f32], fn(f32) -> f32, &mut [i8]) -> f32;

/// The kernels of one level. Each panics when the lengths of its arguments do not fit. All
/// levels give the same bits.
#[derive(Debug)]
pub struct CodeKernels {
    /// Level of the table.
    pub level: SimdLevel,
    /// Walsh-Hadamard transform in place, not scaled, of values times as many factors. The length is a
    /// power of two from 64 on.
    pub(super) hadamard: fn(&mut [f32], &[f32]),
    /// Estimates of a block of rows in one bit.
    pub estimate_bits: BitsKernel,
    /// Estimates of a block of neighbours in one bit.
    pub estimate_links: LinksKernel,
    /// Inner products with rows in eight bits.
    pub dot_bytes: DotsKernel<i8>,
    /// Inner products with the nibbles of rows in four bits, which are 0 to 15.
    pub dot_nibbles: DotsKernel<u8>,
    /// Tables of the sums of all subsets of four coordinates, less the smallest of them, as
    /// numbers up to [`TABLE_MAX`]: coordinates, tables. What a step is worth and the sum of the
    /// smallest and of all.
    pub(super) fill_table: fn(&[f32], &mut [u8]) -> Filled,
    /// Coordinates in eight bits up to [`BYTE_MAX`], and what a step is worth: what is made of the
    /// quotient of the largest magnitude and that number. Zeros where the step has no inverse.
    pub(crate) fill_bytes: FillBytes,
}

/// What the numbers of a table stand for.
pub(super) struct Filled {
    /// What one is worth.
    pub(super) step: f32,
    /// Sum of the smallest sums of all groups.
    pub(super) least: f32,
    /// Sum of all coordinates.
    pub(super) all: f32,
}

impl CodeKernels {
    /// The table of one level. A processor with AVX-512F alone gets the table of AVX2: the upper
    /// one needs the extensions BW and VNNI too.
    ///
    /// # Errors
    ///
    /// [`IndexError::UnsupportedSimdLevel`] when this processor lacks the instructions.
    pub fn for_level(level: SimdLevel) -> Result<&'static Self, IndexError> {
        // The tables of the upper levels are reachable only from here: their functions rely on it.
        match level {
            SimdLevel::Scalar => Ok(&scalar::KERNELS),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512 if level.is_supported() && has_byte_instructions() => {
                Ok(&avx512::KERNELS)
            }
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2 | SimdLevel::Avx512
                if level.is_supported() && SimdLevel::Avx2.is_supported() =>
            {
                Ok(&avx2::KERNELS)
            }
            _ => Err(IndexError::UnsupportedSimdLevel { name: level.name() }),
        }
    }

    /// The table of a level, or of the best one below it that this processor has in full.
    pub(crate) fn up_to(level: SimdLevel) -> &'static Self {
        let levels = SimdLevel::ALL.into_iter().rev().filter(|&one| one <= level);
        levels.map(Self::for_level).find_map(Result::ok).unwrap_or(&scalar::KERNELS)
    }
}

/// The table of this process, of the level that [`kernels`] has.
///
/// # Errors
///
/// As [`kernels`].
pub fn code_kernels() -> Result<&'static CodeKernels, IndexError> {
    CodeKernels::for_level(kernels()?.level)
}

/// True when the processor has what the functions of `avx512` use beyond AVX-512F.
#[cfg(target_arch = "x86_64")]
fn has_byte_instructions() -> bool {
    SimdLevel::Avx2.is_supported()
        && std::is_x86_feature_detected!("avx512bw")
        && std::is_x86_feature_detected!("avx512vnni")
}

/// Checks what every bits kernel relies on; the codes of the block and the numbers behind them.
fn split_block<'a>(block: &'a [u8], query: &CodeQuery) -> (&'a [u8], &'a [u8]) {
    split(block, query, bit_block_bytes(query.rotated().len()))
}

/// Checks what every links kernel relies on, as `split_block`.
fn split_links<'a>(block: &'a [u8], query: &CodeQuery) -> (&'a [u8], &'a [u8]) {
    split(block, query, link_block_bytes(query.rotated().len()))
}

fn split<'a>(block: &'a [u8], query: &CodeQuery, len: usize) -> (&'a [u8], &'a [u8]) {
    let padded = query.rotated().len();
    assert!(padded.is_multiple_of(64) && query.table.len() == padded / GROUP * GROUP_BYTES);
    assert_eq!(block.len(), len, "the block is for rows of this length");
    block.split_at(codes_bytes(padded))
}

/// Checks what every dots kernel relies on: the rows lie in `rows`, of `row_len` bytes each.
fn assert_dots<T>(query: &[i8], row_len: usize, rows: &[T], stride: usize, count: usize) {
    assert!(query.len().is_multiple_of(64), "{} is no padded length", query.len());
    if let Some(last) = count.checked_sub(1) {
        let end = last.checked_mul(stride).and_then(|start| start.checked_add(row_len));
        assert!(
            end.is_some_and(|end| end <= rows.len()),
            "{} bytes do not hold {count} codes of {row_len} at stride {stride}",
            rows.len(),
        );
    }
}

/// Checks what every transform relies on.
fn assert_hadamard(values: &[f32], factors: &[f32]) {
    assert!(values.len().is_power_of_two() && values.len() >= 64, "{} values", values.len());
    assert_eq!(values.len(), factors.len(), "every value has a factor");
}
