//! Carrying values over into a log in the making.

use synadb_storage::Result;
use synadb_storage::extent::{Reservation, fill, sealed_bytes};
use synadb_storage::log::Record;
use synadb_storage::record::{COMPRESSED, IN_EXTENT, RecordKind};
use synadb_types::TableId;
use synadb_types::limits::INLINE_VALUE_BYTES_MAX;

use super::KvReader;
use crate::config::Keep;
use crate::db::{Carried, Rewrite, Source};

/// Carries the values over that were alive before the end of the source, with their histories where
/// those are kept.
pub(crate) fn carry_live(
    reader: &KvReader,
    table: TableId,
    (source, rewrite): (&mut Source<'_>, &mut Rewrite<'_>),
) -> Result<()> {
    let log = &source.from.log;
    let mut positions = reader.keys.live_positions(log, source.end);
    if source.keep() == Keep::Histories {
        return carry_histories(positions, table, (source, rewrite));
    }
    positions.sort_unstable();
    for position in positions {
        source.step()?;
        let record = log.record(position)?;
        let origin = source.origin(&record);
        carry_newest(table, &record, origin, (source, rewrite))?;
    }
    Ok(())
}

/// Carries a value over without its history, of which the new log has nothing yet.
pub(crate) fn carry_newest(
    table: TableId,
    record: &Record<'_>,
    origin: (u64, u64),
    (source, rewrite): (&mut Source<'_>, &mut Rewrite<'_>),
) -> Result<()> {
    let Some(value) = source.intact(record.value(), record.key)? else { return Ok(()) };
    let last = crate::value::last_of_run(record.tag, value);
    let (tag, value) = match &last {
        Some((tag, payload)) => (*tag, &payload[..]),
        None => (record.tag, value),
    };
    let mut carried = carried(rewrite, table, record, value, origin)?;
    (carried.tag, carried.is_first) = (tag, true);
    rewrite.push(carried)
}

/// Carries the newest records over, and those before them back to the last delete.
fn carry_histories(
    newest: Vec<u64>,
    table: TableId,
    (source, rewrite): (&mut Source<'_>, &mut Rewrite<'_>),
) -> Result<()> {
    let log = &source.from.log;
    let mut positions = Vec::with_capacity(newest.len());
    for newest in newest {
        source.step()?;
        let mut next = newest;
        while next != 0 {
            let record = log.record(next)?;
            if record.kind == RecordKind::Delete {
                break;
            }
            positions.push(next);
            next = record.previous;
        }
    }
    positions.sort_unstable();
    for position in positions {
        source.look_at(position)?;
        let record = log.record(position)?;
        let origin = source.origin(&record);
        carry(table, &record, origin, (source, rewrite))?;
    }
    Ok(())
}

/// Carries a record over, one of several of its key.
pub(crate) fn carry(
    table: TableId,
    record: &Record<'_>,
    origin: (u64, u64),
    (source, rewrite): (&mut Source<'_>, &mut Rewrite<'_>),
) -> Result<()> {
    if record.kind == RecordKind::Delete {
        return rewrite.delete(table, record.key, origin).map(|_| ());
    }
    match source.intact(record.value(), record.key)? {
        Some(value) => carry_value(table, record, value, origin, rewrite),
        None => Ok(()),
    }
}

/// Carries a value over, whose stored bytes were verified.
pub(crate) fn carry_value(
    table: TableId,
    record: &Record<'_>,
    value: &[u8],
    origin: (u64, u64),
    rewrite: &mut Rewrite<'_>,
) -> Result<()> {
    let carried = carried(rewrite, table, record, value, origin)?;
    rewrite.push(carried)
}

/// The record for a value; one that is too large for a frame gets an extent.
fn carried(
    rewrite: &mut Rewrite<'_>,
    table: TableId,
    record: &Record<'_>,
    value: &[u8],
    origin: (u64, u64),
) -> Result<Carried> {
    let mut flags = record.flags & COMPRESSED;
    let mut payload = value.to_vec();
    if value.len() > INLINE_VALUE_BYTES_MAX {
        let bytes = sealed_bytes(value.len() as u64);
        let reservation = Reservation { bytes, align: 64, first_row: 0, rows: 0 };
        let start = rewrite.reserve(table, &reservation, 0)?;
        rewrite.region().allocate(start + bytes)?;
        payload = fill(rewrite.region(), start, value)?.encode().to_vec();
        flags |= IN_EXTENT;
    }
    Ok(Carried {
        kind: RecordKind::Put,
        tag: record.tag,
        flags,
        table,
        key: record.key.into(),
        payload,
        origin,
        is_first: false,
    })
}
