//! Coding of rows for the packed flat index.

use std::sync::Arc;

use synadb_types::{RowId, RowSet};

use super::{Chunk, PackedConfig, Place};
use crate::quantize::{
    Anchor, BLOCK_ROWS, CodeKernels, FACTORS_BYTES, Rotation, Space, bit_block_bytes, encode_bits,
    encode_nibbles, nibbles_bytes,
};
use crate::{Metric, VectorSource};

/// Rows of the sample that the anchor is the mean of.
const SAMPLE_ROWS: usize = 1024;
/// Square of how often the median length a row may have to count for the anchor.
const FAR_SQUARED: f64 = 100.0;

/// What is common to all rows of an index.
#[derive(Debug)]
pub(super) struct Coder {
    pub(super) metric: Metric,
    pub(super) config: PackedConfig,
    pub(super) rotation: Rotation,
    pub(super) anchor: Anchor,
}

/// A block to be made: which rows it gets, and what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    place: Place,
    /// Slots whose rows are not coded yet.
    new: u32,
    /// Number of the block in the open chunk that holds the others.
    kept: Option<usize>,
}

impl Coder {
    /// A coder whose anchor is about the mean of the rows.
    pub(super) fn new(
        metric: Metric,
        config: PackedConfig,
        rows: &RowSet,
        source: &dyn VectorSource,
        kernels: &CodeKernels,
    ) -> Self {
        let rotation = Rotation::new(source.dimensions(), config.seed);
        let origin = Anchor::common(vec![0.0; rotation.padded()]);
        let mut coder = Self { metric, config, rotation, anchor: origin };
        let mean = coder.mean(rows, source, kernels);
        if mean.squared_norm().is_finite() {
            coder.anchor = mean;
        }
        coder
    }

    pub(super) fn dimensions(&self) -> usize {
        self.rotation.dimensions()
    }

    /// Bytes of a row in four bits; none without such codes.
    pub(super) fn fine_bytes(&self) -> usize {
        let bytes = nibbles_bytes(self.rotation.padded()) + FACTORS_BYTES;
        if self.config.refine { bytes } else { 0 }
    }

    /// Makes the blocks of a chunk; `open` is the chunk that the steps speak of.
    pub(super) fn chunk(
        &self,
        steps: &[Step],
        open: Option<&Chunk>,
        source: &dyn VectorSource,
        kernels: &CodeKernels,
    ) -> Chunk {
        let (size, record) = (bit_block_bytes(self.rotation.padded()), self.fine_bytes());
        let mut codes = vec![0; steps.len() * size];
        let mut fine = vec![0; steps.len() * BLOCK_ROWS * record];
        let mut rotated = vec![0.0; self.rotation.padded()];
        for (index, step) in steps.iter().enumerate() {
            let block = &mut codes[index * size..][..size];
            let records = &mut fine[index * BLOCK_ROWS * record..][..BLOCK_ROWS * record];
            if let Some((open, kept)) = open.zip(step.kept) {
                copy(block, (*open.codes).as_ref(), kept);
                copy(records, (*open.fine).as_ref(), kept);
            }
            for slot in (0..BLOCK_ROWS).filter(|slot| step.new >> slot & 1 == 1) {
                let row = RowId(step.place.first + slot as u32);
                self.rotate(row, source, kernels, &mut rotated);
                self.encode(&rotated, slot, block, records);
            }
        }
        let places = steps.iter().map(|step| step.place).collect();
        Chunk { places, codes: Arc::new(codes), fine: Arc::new(fine) }
    }

    fn encode(&self, rotated: &[f32], slot: usize, block: &mut [u8], records: &mut [u8]) {
        let space = Space::of(self.metric);
        encode_bits(space, &self.anchor, rotated, slot, block);
        if self.config.refine {
            let record = self.fine_bytes();
            let record = &mut records[slot * record..][..record];
            let (code, factors) = record.split_at_mut(record.len() - FACTORS_BYTES);
            let found = encode_nibbles(space, &self.anchor, rotated, code);
            factors.copy_from_slice(&found.to_bytes());
        }
    }

    /// Rotates a row at the length that its metric gives it. A row that is not there becomes one
    /// that no code fits, so that searches look at the vector itself.
    fn rotate(
        &self,
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
        if self.metric == Metric::Cosine {
            source.inverse_norms(row, &mut scale);
        }
        self.rotation.rotate(kernels, vector, scale[0], out);
    }

    /// The mean of a sample of the rows, but for those that are far longer than most: a single
    /// one could draw the anchor away from all others.
    fn mean(&self, rows: &RowSet, source: &dyn VectorSource, kernels: &CodeKernels) -> Anchor {
        let sample = || rows.iter().step_by(rows.len().div_ceil(SAMPLE_ROWS).max(1));
        let mut rotated = vec![0.0; self.rotation.padded()];
        let mut lengths = Vec::with_capacity(SAMPLE_ROWS);
        for row in sample() {
            self.rotate(row, source, kernels, &mut rotated);
            lengths.push(squared_length(&rotated));
        }
        let mut ordered = lengths.clone();
        ordered.sort_unstable_by(f64::total_cmp);
        let limit = FAR_SQUARED * ordered.get(ordered.len() / 2).copied().unwrap_or_default();
        let mut sum = vec![0.0_f64; self.rotation.padded()];
        let mut count = 0.0;
        for (row, length) in sample().zip(lengths) {
            if length <= limit {
                self.rotate(row, source, kernels, &mut rotated);
                sum.iter_mut().zip(&rotated).for_each(|(sum, &value)| *sum += f64::from(value));
                count += 1.0;
            }
        }
        Anchor::common(sum.iter().map(|sum| (sum / f64::max(count, 1.0)) as f32).collect())
    }
}

/// A NaN for what is not finite, so that it is within no limit.
fn squared_length(vector: &[f32]) -> f64 {
    let squared: f64 = vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    if squared.is_finite() { squared } else { f64::NAN }
}

/// Copies the piece of `whole` that has this number into `piece`, as far as there is one.
fn copy(piece: &mut [u8], whole: &[u8], number: usize) {
    if let Some(found) = whole.get(number * piece.len()..(number + 1) * piece.len()) {
        piece.copy_from_slice(found);
    }
}

/// The blocks of the rows that are not coded yet.
pub(super) fn places(rows: &RowSet, coded: &RowSet) -> Vec<Place> {
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

/// The blocks of an open chunk and of new rows; rows of one block come together.
pub(super) fn steps(open: Option<&Chunk>, new: &[Place]) -> Vec<Step> {
    let kept = open.map_or(&[][..], |chunk| &chunk.places[..]).iter().enumerate();
    let mut steps: Vec<Step> =
        kept.map(|(index, &place)| Step { place, new: 0, kept: Some(index) }).collect();
    let kept = steps.len();
    for &place in new {
        match steps[..kept].iter_mut().find(|step| step.place.first == place.first) {
            Some(step) => {
                step.place.mask |= place.mask;
                step.new |= place.mask;
            }
            None => steps.push(Step { place, new: place.mask, kept: None }),
        }
    }
    steps
}
