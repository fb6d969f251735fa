//! The packed flat index: a scan of one-bit codes, and the full vectors of what may be near.

mod candidates;
mod coder;
mod gathered;
mod rank;
mod search;
mod sections;
#[cfg(test)]
mod tests;
mod tune;

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use synadb_types::RowSet;

use super::FlatIndex;
use crate::gathered::Shelf;
use crate::quantize::{BLOCK_ROWS, CodeKernels, bit_block_bytes, code_kernels};
use crate::{Filter, IndexError, Job, Metric, SharedBytes, VectorSource};
use coder::{Coder, Step};

pub(crate) use gathered::GatheredCodes;
pub(crate) use search::PackedScratch;
pub use search::PackedSearch;

/// Blocks of a chunk: with 384 dimensions they fit in the second cache. All chunks but the last
/// are full.
const CHUNK_BLOCKS: usize = 128;
/// Candidates of a search for each row that is to be found, at least.
const CANDIDATES_A_ROW: usize = 16;

/// How a [`PackedFlat`] codes and searches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PackedConfig {
    /// Seed of the rotation.
    pub seed: u64,
    /// Standard deviations of an estimate's error within which a row is still looked at.
    pub epsilon: f32,
    /// Rows that a search keeps as candidates, if their bounds let them; it keeps 16 times `k`
    /// where that is more. [`PackedFlat::search_batch_with`] takes another number.
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

impl PackedConfig {
    /// Candidates that a search for `k` rows keeps when it is not told otherwise.
    #[must_use]
    pub fn candidates_for(&self, k: usize) -> usize {
        self.candidates.max(k.saturating_mul(CANDIDATES_A_ROW))
    }
}

/// The packed flat index over a set of rows.
///
/// It holds one bit and some a dimension, and four more for the second look: 60 and 204 bytes a
/// row of 384 dimensions. A search estimates every row in about 2 ns, keeps those whose lower
/// bound may still be among the nearest, estimates these by four bits, and computes the keys of
/// the few that are left from the full vectors, in the order of the bounds, until no bound is
/// below the `k`-th key. It returns the rows of an exact scan but for those whose estimate
/// errs by more than `epsilon` standard deviations, and those behind the candidates that it
/// keeps where the codes can hardly tell the rows apart. Codes and bounds: RaBitQ (Gao and Long,
/// SIGMOD 2024).
///
/// Vectors of less than 32 dimensions are always compared exactly.
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
    /// Shared by those that have the same positions.
    shelf: Arc<Shelf>,
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
    /// Codes the rows of a source. O(rows * d log d), about a microsecond a row of 384 dimensions.
    /// The result does not depend on the number of threads.
    ///
    /// # Errors
    ///
    /// [`IndexError::Cancelled`]; the errors of [`code_kernels`].
    pub fn build(
        metric: Metric,
        config: PackedConfig,
        rows: &RowSet,
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<Self, IndexError> {
        Self::build_with(metric, config, rows, source, job, code_kernels()?)
    }

    fn build_with(
        metric: Metric,
        config: PackedConfig,
        rows: &RowSet,
        source: &dyn VectorSource,
        job: &Job<'_>,
        kernels: &CodeKernels,
    ) -> Result<Self, IndexError> {
        let coder = Arc::new(Coder::new(metric, config, rows, source, kernels));
        let empty = Self::assemble(coder, RowSet::new(), Vec::new());
        empty.extended_with(rows, source, job, kernels)
    }

    /// An index of further rows too. What was coded is shared, but for a last chunk that was not
    /// full: its codes are copied, a megabyte at most with 384 dimensions, so rows had better
    /// come by the thousand. Rows that the index has are left alone.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when the source has other dimensions; [`IndexError::Cancelled`];
    /// the errors of [`code_kernels`].
    pub fn extended(
        &self,
        rows: &RowSet,
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<Self, IndexError> {
        self.extended_with(rows, source, job, code_kernels()?)
    }

    fn extended_with(
        &self,
        rows: &RowSet,
        source: &dyn VectorSource,
        job: &Job<'_>,
        kernels: &CodeKernels,
    ) -> Result<Self, IndexError> {
        let (query, dimensions) = (source.dimensions(), self.coder.dimensions());
        if query != dimensions {
            return Err(IndexError::Dimensions { query, source: dimensions });
        }
        let new = coder::places(rows, &self.flat.rows);
        if new.is_empty() {
            return Ok(self.clone());
        }
        let mut chunks = self.chunks.clone();
        let open = chunks.pop_if(|chunk| chunk.places.len() < CHUNK_BLOCKS);
        let open = open.as_deref();
        let steps = coder::steps(open, &new);
        let parts: Vec<&[Step]> = steps.chunks(CHUNK_BLOCKS).collect();
        let (coder, meter) = (&*self.coder, RefCell::new(job.meter()));
        let chunk = |_: &mut (), part: Range<usize>| {
            Arc::new(coder.chunk(parts[part.start], open, source, kernels))
        };
        let tell = |share| meter.borrow_mut().tell(share);
        chunks.extend(job.crew().map(parts.len(), 1, tell, || (), chunk)?);
        let mut all = self.flat.rows.clone();
        all.union_with(rows);
        Ok(Self::assemble(Arc::clone(&self.coder), all, chunks))
    }

    /// An index of those of its rows that are in `keep` too, with the codes that it has: what of a
    /// tail an index that was built meanwhile does not know. O(rows / 32).
    #[must_use]
    pub fn restricted_to(&self, keep: &RowSet) -> Self {
        let mut rows = self.flat.rows.clone();
        rows.intersect_with(keep);
        let kept = Filter::Rows(rows.clone());
        let chunks = self.chunks.iter().filter_map(|chunk| chunk.restricted_to(&kept)).collect();
        Self::assemble(Arc::clone(&self.coder), rows, chunks)
    }

    fn assemble(coder: Arc<Coder>, rows: RowSet, chunks: Vec<Arc<Chunk>>) -> Self {
        let mut slots = 0_usize;
        let firsts = chunks.iter().map(|chunk| {
            let first = u32::try_from(slots).expect("an index has fewer than 2^32 slots");
            slots += chunk.places.len() * BLOCK_ROWS;
            first
        });
        let firsts = firsts.collect();
        Self { coder, flat: FlatIndex::new(rows), chunks, firsts, shelf: Arc::default() }
    }

    /// Metric of the index.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.coder.metric
    }

    /// Dimensions of its vectors.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.coder.dimensions()
    }

    /// How it codes and searches.
    #[must_use]
    pub fn config(&self) -> &PackedConfig {
        &self.coder.config
    }

    fn blocks(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.places.len()).sum()
    }

    /// Bytes that the codes take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let fine = BLOCK_ROWS * self.coder.fine_bytes();
        self.blocks() * (bit_block_bytes(self.coder.rotation.padded()) + fine + size_of::<Place>())
    }
}

impl Chunk {
    /// The chunk with those of its rows alone, `None` where it has none of them.
    fn restricted_to(self: &Arc<Self>, kept: &Filter) -> Option<Arc<Self>> {
        let of = |place: &Place| Place { mask: place.allowed(kept), ..*place };
        let places: Vec<Place> = self.places.iter().map(of).collect();
        if places.iter().all(|place| place.mask == 0) {
            return None;
        }
        if places == self.places {
            return Some(Arc::clone(self));
        }
        let (codes, fine) = (Arc::clone(&self.codes), Arc::clone(&self.fine));
        Some(Arc::new(Self { places, codes, fine }))
    }
}

impl std::fmt::Debug for PackedFlat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("PackedFlat");
        shown.field("coder", &self.coder).field("rows", &self.flat.rows.len()).finish()
    }
}
