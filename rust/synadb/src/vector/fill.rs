//! Putting rows into their slots, and describing them for their records.

use synadb_index::prefetch_ahead;
use synadb_storage::extent::{ROW_BYTES, Row};
use synadb_storage::region::Region;

use super::VectorStore;
use super::sums::Sum;
use crate::collection::{NO_ROW, Slots, stride};
use crate::error::Result;
use crate::value::DTYPE_F32;

/// Bytes of vectors that are checked, summed and stored while they are in the cache.
const CACHED_BYTES: usize = 256 << 10;

/// Rows as their records describe them.
pub(super) type Payloads = Vec<[u8; ROW_BYTES]>;

impl VectorStore {
    /// Stores rows side by side and describes each.
    pub(super) fn fill(
        &self,
        region: &dyn Region,
        (names, rows): (&[&str], &[f32]),
        slots: Slots,
        payloads: &mut Payloads,
    ) -> Result<()> {
        let mut padded = Vec::new();
        let mut done = 0;
        for (names, rows) in self.blocks(names, rows, CACHED_BYTES) {
            let slots = self.part_of(slots, done);
            self.describe(names, rows, slots, payloads)?;
            self.store(region, rows, slots, &mut padded)?;
            done += names.len();
        }
        Ok(())
    }

    /// Rows with their names, in blocks of about so many bytes.
    pub(super) fn blocks<'a>(
        &self,
        names: &'a [&'a str],
        rows: &'a [f32],
        bytes: usize,
    ) -> impl Iterator<Item = (&'a [&'a str], &'a [f32])> {
        let count = (bytes / stride(self.config.row_bytes()) as usize).max(1);
        names.chunks(count).zip(rows.chunks(count * usize::from(self.config.dimensions)))
    }

    /// The slots from the given one on.
    pub(super) fn part_of(&self, slots: Slots, from: usize) -> Slots {
        slots.behind(from as u32, self.config.row_bytes())
    }

    /// Describes rows; fails at the first that is not finite.
    pub(super) fn describe(
        &self,
        names: &[&str],
        rows: &[f32],
        slots: Slots,
        payloads: &mut Payloads,
    ) -> Result<()> {
        let dimensions = usize::from(self.config.dimensions);
        for (index, vector) in rows.chunks_exact(dimensions).enumerate() {
            prefetch_ahead(&rows[index * dimensions..], dimensions);
            let sum = Sum::of(vector);
            if sum.is_suspect() {
                self.check_finite(&names[index..], vector)?;
            }
            payloads.push(self.payload(&sum, slots, index));
        }
        Ok(())
    }

    /// The payload of the record that commits the row in one of the slots.
    pub(super) fn payload(&self, sum: &Sum, slots: Slots, index: usize) -> [u8; ROW_BYTES] {
        let row_bytes = self.config.row_bytes();
        let row = Row {
            dtype: DTYPE_F32,
            row: slots.first + index as u32,
            offset: slots.offset + index as u64 * stride(row_bytes),
            bytes: row_bytes,
            crc: sum.crc,
            inverse_norm: sum.inverse_norm,
            replaces: NO_ROW,
        };
        row.encode()
    }

    /// Stores a block of rows; `padded` is scratch space.
    pub(super) fn store(
        &self,
        region: &dyn Region,
        rows: &[f32],
        slots: Slots,
        padded: &mut Vec<u8>,
    ) -> Result<()> {
        let row_bytes = self.config.row_bytes();
        let stride = stride(row_bytes) as usize;
        let mut bytes: &[u8] = bytemuck::cast_slice(rows);
        if stride != row_bytes as usize {
            padded.clear();
            for row in bytes.chunks_exact(row_bytes as usize) {
                padded.extend_from_slice(row);
                padded.resize(padded.len().next_multiple_of(stride), 0);
            }
            bytes = padded;
        }
        region.store(slots.offset, bytes).map_err(|error| self.failure(error))
    }
}
