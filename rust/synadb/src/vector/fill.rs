//! Putting rows into their slots, and describing them for their records.

use std::sync::atomic::{AtomicBool, Ordering};

use synadb_index::inverse_norm;
use synadb_storage::checksum::crc32c;
use synadb_storage::extent::{ROW_BYTES, Row};
use synadb_storage::region::Region;

use super::VectorStore;
use crate::collection::{NO_ROW, Slots, stride};
use crate::error::Result;
use crate::value::DTYPE_F32;

/// Bytes of vectors that are checked, summed and stored while they are in the cache.
const CACHED_BYTES: usize = 256 << 10;
/// Bytes of one store where another thread does the rest: fewer and larger ones are faster.
const STORED_BYTES: usize = 1 << 20;
/// From so many bytes on a second thread stores the rows while this one checks and sums them: a
/// store is a copy into the page cache, which takes about as long.
const SHARED_BYTES_MIN: usize = 4 << 20;

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
        let dimensions = usize::from(self.config.dimensions);
        let shared = size_of_val(rows) >= SHARED_BYTES_MIN;
        let block_bytes = if shared { STORED_BYTES } else { CACHED_BYTES };
        let per_block = (block_bytes / stride(self.config.row_bytes()) as usize).max(1);
        let blocks = || {
            let rows = rows.chunks(per_block * dimensions).zip(names.chunks(per_block));
            rows.enumerate().map(|(number, (rows, names))| {
                let first = number * per_block;
                (self.part_of(slots, first), names, rows)
            })
        };
        let mut padded = Vec::new();
        if !shared {
            return blocks().try_for_each(|(slots, names, rows)| {
                self.describe(names, rows, slots, payloads)?;
                self.store(region, rows, slots, &mut padded)
            });
        }
        let refused = AtomicBool::new(false);
        let wanted = || !refused.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            let storing = scope.spawn(|| {
                blocks()
                    .take_while(|_| wanted())
                    .try_for_each(|(slots, _, rows)| self.store(region, rows, slots, &mut padded))
            });
            let described = blocks()
                .try_for_each(|(slots, names, rows)| self.describe(names, rows, slots, payloads));
            refused.store(described.is_err(), Ordering::Relaxed);
            let stored = storing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            described.and(stored)
        })
    }

    /// The slots from the given one on.
    fn part_of(&self, slots: Slots, from: usize) -> Slots {
        let offset = slots.offset + from as u64 * stride(self.config.row_bytes());
        let from = from as u32;
        Slots { first: slots.first + from, count: slots.count - from, offset }
    }

    fn describe(
        &self,
        names: &[&str],
        rows: &[f32],
        slots: Slots,
        payloads: &mut Payloads,
    ) -> Result<()> {
        let row_bytes = self.config.row_bytes();
        let vectors = rows.chunks_exact(usize::from(self.config.dimensions));
        for (index, vector) in vectors.enumerate() {
            let inverse_norm = inverse_norm(vector);
            // A NaN or an infinity makes the norm one: only then is it worth a look.
            if inverse_norm.is_nan() {
                self.check_finite(&names[index..], vector)?;
            }
            let described = Row {
                dtype: DTYPE_F32,
                row: slots.first + index as u32,
                offset: slots.offset + index as u64 * stride(row_bytes),
                bytes: row_bytes,
                crc: crc32c(bytemuck::cast_slice(vector)),
                inverse_norm,
                replaces: NO_ROW,
            };
            payloads.push(described.encode());
        }
        Ok(())
    }

    /// Stores a block of rows; `padded` is scratch space.
    fn store(
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
