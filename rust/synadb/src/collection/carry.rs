//! Carrying rows over into a log in the making, where they get numbers of their own.

use synadb_storage::extent::{OPEN, Row};
use synadb_storage::log::Record;
use synadb_storage::record::RecordKind;
use synadb_storage::{Result, StorageError};
use synadb_types::TableId;
use synadb_types::limits::ROWS_MAX;

use super::rows::{
    NO_ROW, RowsReader, RowsView, Slots, open_rows, reservation, rows_within, stride,
};
use crate::db::{Carried, Rewrite, Source};

/// Bytes of one extent of rows that are all known beforehand.
const EXTENT_BYTES: u64 = 64 << 20;

/// A table of rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowTable {
    pub id: TableId,
    pub row_bytes: u32,
}

/// Carries the rows over that were alive before the end of the source, side by side.
pub(crate) fn carry_live(
    reader: &RowsReader,
    table: RowTable,
    (source, rewrite): (&mut Source<'_>, &mut Rewrite<'_>),
) -> Result<()> {
    let log = &source.from.log;
    let positions = reader.live_positions(source.end);
    let stride = stride(table.row_bytes);
    let per_extent = rows_within(table.row_bytes, EXTENT_BYTES) as usize;
    let mut first = 0;
    for piece in positions.chunks(per_extent) {
        let reservation = reservation(table.row_bytes, first, piece.len() as u32);
        let offset = rewrite.reserve(table.id, &reservation, 0)?;
        rewrite.region().allocate(offset + reservation.bytes)?;
        let mut slots = Slots { first, count: reservation.rows, offset };
        for position in piece {
            source.step()?;
            let record = log.record(*position)?;
            let Some(row) = read(source, &record)? else { continue };
            let origin = source.origin(&record);
            let carried = store(rewrite, table, &record, row, origin, take(&mut slots, stride))?;
            rewrite.push(Carried { is_first: true, ..carried })?;
        }
        first += reservation.rows;
    }
    Ok(())
}

/// Carries a record over, one of several of its key.
pub(crate) fn carry(
    table: RowTable,
    record: &Record<'_>,
    origin: (u64, u64),
    (source, rewrite): (&mut Source<'_>, &mut Rewrite<'_>),
) -> Result<()> {
    match read(source, record)? {
        Some(row) => carry_row(table, record, row, origin, rewrite),
        None => Ok(()),
    }
}

/// Carries a row over, whose bytes were verified.
pub(crate) fn carry_row(
    table: RowTable,
    record: &Record<'_>,
    row: (Row, &[u8]),
    origin: (u64, u64),
    rewrite: &mut Rewrite<'_>,
) -> Result<()> {
    let slot = next_slot(table, rewrite)?;
    let carried = store(rewrite, table, record, row, origin, slot)?;
    rewrite.push(carried)
}

/// A row and its bytes, `None` where they are damaged and may be left behind.
fn read<'a>(source: &mut Source<'_>, record: &Record<'a>) -> Result<Option<(Row, &'a [u8])>> {
    let Some(bytes) = source.intact(record.row_bytes(), record.key)? else { return Ok(None) };
    let row = Row::decode(record.payload()?).filter(|row| row.bytes as usize == bytes.len());
    let row = row.ok_or_else(|| StorageError::corrupt(record.position, "a record of no row"));
    Ok(source.intact(row, record.key)?.map(|row| (row, bytes)))
}

/// Stores the bytes in their slot; returns the record that is to say so.
fn store(
    rewrite: &Rewrite<'_>,
    table: RowTable,
    record: &Record<'_>,
    (row, bytes): (Row, &[u8]),
    origin: (u64, u64),
    (number, offset): (u32, u64),
) -> Result<Carried> {
    rewrite.region().store(offset, bytes)?;
    let row = Row { row: number, offset, replaces: NO_ROW, ..row };
    Ok(Carried {
        kind: RecordKind::Row,
        tag: record.tag,
        flags: 0,
        table: table.id,
        key: record.key.into(),
        payload: row.encode().to_vec(),
        origin,
        is_first: false,
    })
}

/// What is left of the extent that single rows fill.
#[derive(Default)]
struct Left(Option<Slots>);

fn next_slot(table: RowTable, rewrite: &mut Rewrite<'_>) -> Result<(u32, u64)> {
    let none = || StorageError::corrupt(0, "rows of a table of another kind");
    let stride = stride(table.row_bytes);
    if let Some(slots) = &mut rewrite.note::<Left>(table.id).ok_or_else(none)?.0 {
        return Ok(take(slots, stride)).inspect(|_| forget_empty(table, rewrite));
    }
    let first = rewrite.view::<RowsView>(table.id).ok_or_else(none)?.reserved();
    if first == ROWS_MAX {
        return Err(StorageError::Unsupported { what: "a table of so many rows".to_owned() });
    }
    let reservation = reservation(table.row_bytes, first, open_rows(table.row_bytes, first, 1));
    let offset = rewrite.reserve(table.id, &reservation, OPEN)?;
    rewrite.region().allocate(offset + reservation.bytes)?;
    let mut slots = Slots { first, count: reservation.rows, offset };
    let slot = take(&mut slots, stride);
    rewrite.note::<Left>(table.id).ok_or_else(none)?.0 = Some(slots);
    forget_empty(table, rewrite);
    Ok(slot)
}

fn forget_empty(table: RowTable, rewrite: &mut Rewrite<'_>) {
    if let Some(left) = rewrite.note::<Left>(table.id) {
        left.0 = left.0.take().filter(|slots| slots.count > 0);
    }
}

fn take(slots: &mut Slots, stride: u64) -> (u32, u64) {
    let slot = (slots.first, slots.offset);
    let Slots { first, count, offset } = *slots;
    *slots = Slots { first: first + 1, count: count - 1, offset: offset + stride };
    slot
}
