//! The new file: rewritten frames with records that keep their sequence and time.

use std::collections::HashMap;

use synadb_storage::control;
use synadb_storage::extent::{Reservation, Row, fill, sealed_bytes};
use synadb_storage::identity::{FRAMES_START, PAGE_BYTES};
use synadb_storage::log::{Log, Record, Shape, Writer};
use synadb_storage::record::{COMPRESSED, Draft, IN_EXTENT, RecordKind};
use synadb_storage::{Result, StorageError};
use synadb_types::TableId;
use synadb_types::limits::{INLINE_VALUE_BYTES_MAX, SMALL_PAYLOAD_BYTES_MAX};
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use super::survey::Table;
use crate::collection::{NO_ROW, reservation, stride};

/// Records and bytes of one frame, as compaction has them.
const FRAME_RECORDS: usize = 1024;
const FRAME_BYTES: usize = 4 << 20;
/// Rows of the first extent of a table; the next ones double up to this many bytes.
const FIRST_ROWS: u32 = 16;
const EXTENT_BYTES_MAX: u64 = 16 << 20;

/// The newest record of a key that was kept.
#[derive(Debug, Clone, Copy, Default)]
struct Newest {
    /// 0 until it is written.
    position: u64,
    is_live: bool,
}

/// Where rows of a table go.
#[derive(Debug, Clone, Copy, Default)]
struct Rows {
    next: u32,
    first: u32,
    end: u32,
    start: u64,
}

#[derive(Default)]
struct State {
    keys: HashMap<Box<[u8]>, Newest, Xxh3DefaultBuilder>,
    rows: Rows,
}

/// A record that waits for its frame.
struct Pending {
    kind: RecordKind,
    tag: u8,
    flags: u8,
    table: TableId,
    key: Box<[u8]>,
    payload: Vec<u8>,
    origin: (u64, u64),
}

/// The new log in the making.
pub(super) struct Output {
    log: Log,
    writer: Writer,
    pending: Vec<Pending>,
    pending_bytes: usize,
    /// By table, from 1.
    states: Vec<State>,
}

impl Output {
    /// Begins a log whose frames are later than `time`.
    ///
    /// # Errors
    /// As [`Region::store`].
    pub fn new(log: Log, time: u64, tables: &[Table]) -> Result<Self> {
        log.region().allocate(FRAMES_START + PAGE_BYTES)?;
        log.region().store(0, &log.identity().page())?;
        let writer = Writer::new(FRAMES_START, 0, 0, time, log.identity().horizon);
        let states = tables.iter().map(|_| State::default()).collect();
        let mut output = Self { log, writer, pending: Vec::new(), pending_bytes: 0, states };
        for table in tables {
            output.push(Pending {
                kind: RecordKind::Table,
                tag: 0,
                flags: 0,
                table: TableId(0),
                key: table.info.name.as_bytes().into(),
                payload: table.info.encode(),
                origin: table.origin,
            })?;
        }
        output.flush()?;
        Ok(output)
    }

    /// Where the log ends.
    pub fn end(&self) -> u64 {
        self.writer.tail
    }

    fn newest(&mut self, table: TableId, key: &[u8]) -> Result<&mut Newest> {
        let state = self.states.get_mut(table.0.wrapping_sub(1) as usize);
        let keys = &mut state.ok_or_else(no_table)?.keys;
        if !keys.contains_key(key) {
            keys.insert(key.into(), Newest::default());
        }
        keys.get_mut(key).ok_or_else(no_table)
    }

    /// Adds the end of a key; false where there is nothing to end.
    ///
    /// # Errors
    /// As [`Region::store`].
    pub fn delete(
        &mut self,
        table: &Table,
        record: &Record<'_>,
        origin: (u64, u64),
    ) -> Result<bool> {
        let newest = self.newest(table.info.id, record.key)?;
        if !std::mem::take(&mut newest.is_live) {
            return Ok(false);
        }
        self.add(table, record, 0, Vec::new(), origin)?;
        Ok(true)
    }

    /// Adds a value, whose stored bytes were verified.
    ///
    /// # Errors
    /// As [`Region::store`].
    pub fn put(
        &mut self,
        table: &Table,
        record: &Record<'_>,
        value: &[u8],
        origin: (u64, u64),
    ) -> Result<()> {
        let mut flags = record.flags & COMPRESSED;
        let payload = if value.len() > INLINE_VALUE_BYTES_MAX {
            flags |= IN_EXTENT;
            let bytes = sealed_bytes(value.len() as u64);
            let reservation = Reservation { bytes, align: 64, first_row: 0, rows: 0 };
            let start = self.reserve(table.info.id, &reservation)?;
            fill(self.log.region(), start, value)?.encode().to_vec()
        } else {
            value.to_vec()
        };
        self.newest(table.info.id, record.key)?.is_live = true;
        self.add(table, record, flags, payload, origin)
    }

    /// Adds a row, whose bytes were verified, under a number of its own.
    ///
    /// # Errors
    /// As [`Region::store`].
    pub fn row(
        &mut self,
        table: &Table,
        record: &Record<'_>,
        (row, bytes): (Row, &[u8]),
        origin: (u64, u64),
    ) -> Result<()> {
        let (number, offset) = self.slot(table)?;
        self.log.region().store(offset, bytes)?;
        let row = Row { row: number, offset, replaces: NO_ROW, ..row };
        self.newest(table.info.id, record.key)?.is_live = true;
        self.add(table, record, 0, row.encode().to_vec(), origin)
    }

    /// The next row of a table and where it lies.
    fn slot(&mut self, table: &Table) -> Result<(u32, u64)> {
        let (id, stride) = (table.info.id, stride(table.row_bytes));
        let index = id.0.wrapping_sub(1) as usize;
        let mut rows = self.states.get(index).ok_or_else(no_table)?.rows;
        if rows.next == rows.end {
            let most = (EXTENT_BYTES_MAX / stride).max(1) as u32;
            let wanted = (rows.end - rows.first).saturating_mul(2).max(FIRST_ROWS).min(most);
            let reservation = reservation(table.row_bytes, rows.end, wanted);
            if reservation.rows == 0 {
                return Err(StorageError::Unsupported { what: "too many rows".to_owned() });
            }
            let start = self.reserve(id, &reservation)?;
            rows =
                Rows { next: rows.end, first: rows.end, end: rows.end + reservation.rows, start };
        }
        let slot = (rows.next, rows.start + u64::from(rows.next - rows.first) * stride);
        rows.next += 1;
        self.states[index].rows = rows;
        Ok(slot)
    }

    fn add(
        &mut self,
        table: &Table,
        record: &Record<'_>,
        flags: u8,
        payload: Vec<u8>,
        origin: (u64, u64),
    ) -> Result<()> {
        self.push(Pending {
            kind: record.kind,
            tag: record.tag,
            flags,
            table: table.info.id,
            key: record.key.into(),
            payload,
            origin,
        })
    }

    fn push(&mut self, record: Pending) -> Result<()> {
        let bytes = record.key.len() + record.payload.len() + 64;
        if self.pending_bytes + bytes > FRAME_BYTES || self.pending.len() == FRAME_RECORDS {
            self.flush()?;
        }
        self.pending_bytes += bytes;
        self.pending.push(record);
        Ok(())
    }

    /// Writes what waits as one frame.
    fn flush(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        if pending.is_empty() {
            return Ok(());
        }
        let large = pending.iter().any(|record| record.payload.len() > SMALL_PAYLOAD_BYTES_MAX);
        let shape = Shape { records: pending.len(), large, ..Shape::default() };
        let mut encoder = self.writer.rewriting_encoder(&self.log, shape);
        for record in &pending {
            let mut unnamed = Newest::default();
            let newest = match record.kind {
                RecordKind::Table => &mut unnamed,
                _ => self.newest(record.table, &record.key)?,
            };
            newest.position = encoder.push(&Draft {
                kind: record.kind,
                tag: record.tag,
                flags: record.flags,
                table: record.table,
                key: &record.key,
                previous: newest.position,
                payload: &record.payload,
                origin: Some(record.origin),
            });
        }
        let image = encoder.finish()?;
        self.writer.append(&self.log, image)?;
        Ok(())
    }

    /// Reserves space, behind everything that was added; returns where it begins.
    fn reserve(&mut self, table: TableId, reservation: &Reservation) -> Result<u64> {
        self.flush()?;
        let payload = reservation.encode();
        let shape = Shape { records: 1, gap: reservation.gap(), ..Shape::default() };
        let mut encoder = self.writer.rewriting_encoder(&self.log, shape);
        encoder.push(&Draft {
            kind: RecordKind::Extent,
            tag: 0,
            flags: 0,
            table,
            key: &[],
            previous: 0,
            payload: &payload,
            origin: None,
        });
        let image = encoder.finish()?;
        let head = self.writer.append(&self.log, image)?.head;
        Ok(reservation.start(head.gap_start()))
    }

    /// Writes the rest, vouches for everything and puts it on the medium.
    ///
    /// # Errors
    /// As [`Region::store`] and [`Region::sync`].
    pub fn finish(&mut self) -> Result<()> {
        self.flush()?;
        let (tail, region) = (self.writer.tail, self.log.region());
        let word = control::pack_synced(tail, &self.log.identity().database_id);
        region.publish(control::SYNCED, word)?;
        region.trim((tail + 8).next_multiple_of(PAGE_BYTES))?;
        region.sync()
    }
}

fn no_table() -> StorageError {
    StorageError::corrupt(0, "a record of no table")
}
