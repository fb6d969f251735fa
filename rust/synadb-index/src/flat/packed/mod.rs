//! The packed flat index: a scan of one-bit codes, and the full vectors of what may be near.

mod candidates;
mod rank;
mod search;
mod sections;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::thread;

use synadb_types::{RowId, RowSet};

use super::FlatIndex;
use crate::quantize::{
    Anchor, BLOCK_ROWS, CodeKernels, FACTORS_BYTES, Rotation, Space, bit_block_bytes, code_kernels,
    encode_bits, encode_nibbles, nibbles_bytes,
};
use crate::{IndexError, Metric, SharedBytes, VectorSource};

pub(crate) use search::PackedScratch;

/// Rows of the sample that the anchor is the mean of.
const SAMPLE_ROWS: usize = 1024;
/// Blocks of a chunk at most: with 384 dimensions they fit in the second cache.
const CHUNK_BLOCKS: usize = 128;

/// How a [`PackedFlat`] codes and searches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PackedConfig {
    /// Seed of the rotation.
    pub seed: u64,
    /// Standard deviations of an estimate's error within which a row is still looked at.
    pub epsilon: f32,
    /// Rows that a search keeps as candidates at least, if their bounds let them; it keeps 16
    /// times `k` where that is more.
    pub candidates: usize,
    /// Codes of four bits too, by which a search sorts out most candidates before it reads full
    /// vectors: half a byte a dimension, and filters that leave few rows cost a third.
    pub refine: bool,
}

impl Default for PackedConfig {
    fn default() -> Self {
        Self { seed: 0x5eed, epsilon: 2.5, candidates: 2000, refine: true }
    }
}

/// The packed flat index over a set of rows.
///
/// It holds one bit and some a dimension, and four more for the second look: 60 and 204 bytes a
/// row of 384 dimensions. A search estimates every row in about 2 ns, keeps those whose lower
/// bound may still be among the nearest, estimates these by four bits, and computes the keys of
/// the few that are left from the full vectors, in the order of the bounds, until no bound is
/// below the `k`-th key. It returns the rows of an exact scan but for those whose estimate
/// errs by more than `epsilon` standard deviations. Codes and bounds: RaBitQ (Gao and Long,
/// SIGMOD 2024).
///
/// It is also the tail of other indexes: [`PackedFlat::extended`] codes further rows and shares
/// what was coded before.
#[derive(Clone)]
pub struct PackedFlat {
    coder: Arc<Coder>,
    flat: FlatIndex,
    chunks: Vec<Arc<Chunk>>,
    /// Number of slots before each chunk.
    firsts: Vec<u32>,
}

/// What is common to all rows of an index.
#[derive(Debug)]
struct Coder {
    metric: Metric,
    config: PackedConfig,
    rotation: Rotation,
    anchor: Anchor,
}

/// Consecutive blocks that are searched by all queries of a batch in turn.
struct Chunk {
    places: Vec<Place>,
    /// A block of one-bit codes for each place.
    codes: SharedBytes,
    /// For each slot of each place its code of four bits and its factors, where the configuration
    /// has them.
    fine: SharedBytes,
}

/// Rows of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// Row of the first slot: a multiple of 32.
    first: u32,
    /// Slots that hold a row.
    mask: u32,
}

impl PackedFlat {
    /// Codes the rows of a source on `threads` threads. O(rows * d log d), about a microsecond a
    /// row of 384 dimensions. The result does not depend on the number of threads.
    ///
    /// # Errors
    ///
    /// The errors of [`code_kernels`].
    pub fn build(
        metric: Metric,
        config: PackedConfig,
        rows: &RowSet,
        source: &dyn VectorSource,
        threads: usize,
    ) -> Result<Self, IndexError> {
        let rotation = Rotation::new(source.dimensions(), config.seed);
        let anchor = mean(metric, &rotation, rows, source, code_kernels()?);
        let coder = Arc::new(Coder { metric, config, rotation, anchor });
        Self::assemble(coder, RowSet::new(), Vec::new()).extended(rows, source, threads)
    }

    /// An index of further rows too. What was coded is shared; rows that it has are left alone.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when the source has other dimensions; the errors of
    /// [`code_kernels`].
    pub fn extended(
        &self,
        rows: &RowSet,
        source: &dyn VectorSource,
        threads: usize,
    ) -> Result<Self, IndexError> {
        let (query, dimensions) = (source.dimensions(), self.coder.rotation.dimensions());
        if query != dimensions {
            return Err(IndexError::Dimensions { query, source: dimensions });
        }
        let kernels = code_kernels()?;
        let mut all = self.flat.rows.clone();
        let places = places(rows, &all);
        all.union_with(rows);
        let parts: Vec<&[Place]> = places.chunks(CHUNK_BLOCKS).collect();
        let share = parts.len().div_ceil(threads.max(1)).max(1);
        let coder = &*self.coder;
        let code = |parts: &[&[Place]]| -> Vec<Arc<Chunk>> {
            parts.iter().map(|places| Arc::new(coder.chunk(places, source, kernels))).collect()
        };
        let coded = thread::scope(|scope| {
            let mut shares = parts.chunks(share);
            let own = shares.next().unwrap_or_default();
            let others: Vec<_> = shares.map(|share| scope.spawn(move || code(share))).collect();
            let mut coded = code(own);
            for other in others {
                coded.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            coded
        });
        let mut chunks = self.chunks.clone();
        chunks.extend(coded);
        Ok(Self::assemble(Arc::clone(&self.coder), all, chunks))
    }

    fn assemble(coder: Arc<Coder>, rows: RowSet, chunks: Vec<Arc<Chunk>>) -> Self {
        let mut slots = 0_usize;
        let firsts = chunks.iter().map(|chunk| {
            let first = u32::try_from(slots).expect("an index has fewer than 2^32 slots");
            slots += chunk.places.len() * BLOCK_ROWS;
            first
        });
        let firsts = firsts.collect();
        Self { coder, flat: FlatIndex::new(rows), chunks, firsts }
    }

    /// Metric of the index.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.coder.metric
    }

    /// Bytes that the codes take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let blocks: usize = self.chunks.iter().map(|chunk| chunk.places.len()).sum();
        let fine = BLOCK_ROWS * self.coder.fine_bytes();
        blocks * (bit_block_bytes(self.coder.rotation.padded()) + fine + size_of::<Place>())
    }
}

impl std::fmt::Debug for PackedFlat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("PackedFlat");
        shown.field("coder", &self.coder).field("rows", &self.flat.rows.len()).finish()
    }
}

impl Coder {
    /// Codes the rows of a chunk.
    fn chunk(&self, places: &[Place], source: &dyn VectorSource, kernels: &CodeKernels) -> Chunk {
        let size = bit_block_bytes(self.rotation.padded());
        let space = Space::of(self.metric);
        let mut codes = vec![0; places.len() * size];
        let record = self.fine_bytes();
        let mut fine = vec![0; places.len() * BLOCK_ROWS * record];
        let mut rotated = vec![0.0; self.rotation.padded()];
        for (index, (place, block)) in places.iter().zip(codes.chunks_exact_mut(size)).enumerate() {
            for slot in (0..BLOCK_ROWS).filter(|slot| place.mask >> slot & 1 == 1) {
                let row = RowId(place.first + slot as u32);
                rotate(self.metric, &self.rotation, row, source, kernels, &mut rotated);
                encode_bits(space, &self.anchor, &rotated, slot, block);
                if self.config.refine {
                    let record = &mut fine[(index * BLOCK_ROWS + slot) * record..][..record];
                    let (code, factors) = record.split_at_mut(record.len() - FACTORS_BYTES);
                    let found = encode_nibbles(space, &self.anchor, &rotated, code);
                    factors.copy_from_slice(&found.to_bytes());
                }
            }
        }
        Chunk { places: places.to_vec(), codes: Arc::new(codes), fine: Arc::new(fine) }
    }

    /// Bytes of a row in four bits; none without such codes.
    fn fine_bytes(&self) -> usize {
        let bytes = nibbles_bytes(self.rotation.padded()) + FACTORS_BYTES;
        if self.config.refine { bytes } else { 0 }
    }
}

/// Rotates a row at the length that its metric gives it. A row that is not there becomes one that
/// no code fits, so that searches look at the vector itself.
fn rotate(
    metric: Metric,
    rotation: &Rotation,
    row: RowId,
    source: &dyn VectorSource,
    kernels: &CodeKernels,
    out: &mut [f32],
) {
    let Some(vector) = source.vector(row) else {
        out.fill(f32::NAN);
        return;
    };
    let mut scale = [1.0];
    if metric == Metric::Cosine {
        source.inverse_norms(row, &mut scale);
    }
    rotation.rotate(kernels, vector, scale[0], out);
}

/// The mean of a sample of the rows, as the anchor of all.
fn mean(
    metric: Metric,
    rotation: &Rotation,
    rows: &RowSet,
    source: &dyn VectorSource,
    kernels: &CodeKernels,
) -> Anchor {
    let mut sum = vec![0.0_f64; rotation.padded()];
    let mut rotated = vec![0.0; rotation.padded()];
    let mut count = 0.0;
    for row in rows.iter().step_by(rows.len().div_ceil(SAMPLE_ROWS).max(1)) {
        rotate(metric, rotation, row, source, kernels, &mut rotated);
        if rotated.iter().all(|value| value.is_finite()) {
            sum.iter_mut().zip(&rotated).for_each(|(sum, &value)| *sum += f64::from(value));
            count += 1.0;
        }
    }
    let mean: Vec<f32> = sum.iter().map(|sum| (sum / f64::max(count, 1.0)) as f32).collect();
    let anchor = Anchor::new(mean);
    let sound = anchor.squared_norm().is_finite();
    if sound { anchor } else { Anchor::origin(rotation.padded()) }
}

/// The blocks of the rows that are not coded yet.
fn places(rows: &RowSet, coded: &RowSet) -> Vec<Place> {
    let mut places = Vec::new();
    for (index, &word) in rows.words().iter().enumerate() {
        let new = word & !coded.words().get(index).copied().unwrap_or(0);
        for (half, mask) in [new as u32, (new >> BLOCK_ROWS) as u32].into_iter().enumerate() {
            if mask != 0 {
                places.push(Place { first: ((2 * index + half) * BLOCK_ROWS) as u32, mask });
            }
        }
    }
    places
}
