//! Cells that hold one-bit codes, each cell's relative to its centroid.

use std::ops::Range;

use crate::job::Crew;
use crate::quantize::{Anchor, BLOCK_ROWS, Rotation, bit_block_bytes, code_kernels, encode_bits};
use crate::{IndexError, VectorSource};
use synadb_types::RowId;

use super::bytes::Bytes;
use super::heritage::Heritage;
use super::lists::Lists;
use super::origin::Origin;

/// Cells coded by one call of a worker.
const PIECE_CELLS: usize = 8;

/// Codes of all entries in blocks of 32, cell behind cell.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BitCells {
    pub(super) rotation: Rotation,
    pub(super) blocks: Bytes,
}

impl BitCells {
    /// Codes the listed rows: `padded / 8 + 12` bytes an entry. O(d log d) each, but for the
    /// blocks that are taken over from the old index.
    pub(super) fn new(
        origin: &Origin,
        rotation: Rotation,
        anchors: &[f32],
        lists: &Lists,
        heritage: Option<Heritage<'_>>,
        source: &dyn VectorSource,
        crew: &Crew<'_>,
    ) -> Result<Self, IndexError> {
        let kernels = code_kernels()?;
        let (padded, space) = (rotation.padded(), origin.space());
        let block_bytes = bit_block_bytes(padded);
        let mut blocks = vec![0; lists.rows.len() / BLOCK_ROWS * block_bytes];
        let mut pieces = Vec::new();
        let mut rest = blocks.as_mut_slice();
        for first in (0..lists.cells()).step_by(PIECE_CELLS) {
            let end = lists.cells().min(first + PIECE_CELLS);
            let entries = (lists.starts[end] - lists.starts[first]) as usize;
            let (piece, others) = rest.split_at_mut(entries / BLOCK_ROWS * block_bytes);
            pieces.push((first..end, piece));
            rest = others;
        }
        crew.each(pieces, |(cells, blocks)| {
            let mut vector = vec![0.0; rotation.dimensions()];
            let mut rotated = vec![0.0; padded];
            let mut blocks = blocks.chunks_exact_mut(block_bytes);
            for cell in cells {
                let entries = lists.entries(cell);
                let (old, kept) =
                    heritage.map_or((&[][..], 0), |heritage| heritage.blocks(lists, cell));
                for (old, block) in old.chunks_exact(block_bytes).zip(blocks.by_ref().take(kept)) {
                    block.copy_from_slice(old);
                }
                let anchor = Anchor::new(anchors[cell * padded..][..padded].to_vec());
                for rows in lists.rows[entries].chunks(BLOCK_ROWS).skip(kept) {
                    let block = blocks.next().expect("there is a block for every 32 entries");
                    for (slot, &row) in rows.iter().enumerate() {
                        if !origin.place(RowId(row), source, &mut vector) {
                            continue;
                        }
                        rotation.rotate(kernels, &vector, 1.0, &mut rotated);
                        encode_bits(space, &anchor, &rotated, slot, block);
                    }
                }
            }
            Ok(())
        })?;
        Ok(Self { rotation, blocks: blocks.into() })
    }

    /// Bytes of a block.
    pub(super) fn block_bytes(&self) -> usize {
        bit_block_bytes(self.rotation.padded())
    }

    /// The block that an entry is in.
    pub(super) fn block_of(&self, entry: usize) -> &[u8] {
        let size = self.block_bytes();
        &self.blocks[entry / BLOCK_ROWS * size..][..size]
    }

    /// The blocks of a cell with these entries.
    pub(super) fn blocks_of(&self, entries: Range<usize>) -> &[u8] {
        let block_bytes = self.block_bytes();
        let first = entries.start / BLOCK_ROWS;
        &self.blocks[first * block_bytes..][..entries.len().div_ceil(BLOCK_ROWS) * block_bytes]
    }
}

/// Vectors of the rotation's dimensions, rotated.
pub(super) fn rotate_all(rotation: &Rotation, vectors: &[f32]) -> Result<Vec<f32>, IndexError> {
    let kernels = code_kernels()?;
    let (dimensions, padded) = (rotation.dimensions().max(1), rotation.padded());
    let mut rotated = vec![0.0; vectors.len() / dimensions * padded];
    for (out, vector) in rotated.chunks_exact_mut(padded).zip(vectors.chunks_exact(dimensions)) {
        rotation.rotate(kernels, vector, 1.0, out);
    }
    Ok(rotated)
}
