//! The second walk: into the new file with what is whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use synadb_storage::extent::{Row, Seal};
use synadb_storage::identity::{FRAMES_START, Identity};
use synadb_storage::log::Record;
use synadb_storage::record::{IN_EXTENT, RecordKind};
use synadb_storage::region::Region;
use synadb_storage::{Result as StorageResult, StorageError};

use super::damaged::Damaged;
use super::survey::Table;
use super::{Lost, RepairReport, TableKept};
use crate::collection::{RowTable, carry_row};
use crate::db::{Event, Rewrite, TableKind, walk};
use crate::kv;
use crate::tables::components;
use crate::value::DTYPE_F32;

impl Damaged {
    /// Writes all that can be kept into a new file and vouches for it.
    ///
    /// # Errors
    /// As [`Region::store`]; `Interrupted`.
    pub fn save(
        &self,
        region: &Arc<dyn Region>,
        goes_on: &mut dyn FnMut(u64) -> bool,
    ) -> StorageResult<RepairReport> {
        let identity = Identity {
            generation: self.log.identity().generation + 1,
            horizon: self.last.sequence,
            ..*self.log.identity()
        };
        let factory = components();
        let mut rewrite = Rewrite::new(Arc::clone(region), identity, self.last.time, &*factory)?;
        for table in self.tables.values() {
            rewrite.add_table(&table.info, table.origin)?;
        }
        rewrite.flush()?;
        let mut saving = Saving { damaged: self, rewrite, kept: BTreeMap::new(), lost: Vec::new() };
        saving.look_at_header();
        let mut clock = self.clock;
        walk(&self.log, (u64::MAX, self.vouched), &mut clock, goes_on, &mut |event| match event {
            Event::Record(record, origin) => saving.keep(&record, origin),
            Event::Lost(lost) => {
                saving.unreadable(&lost);
                Ok(())
            }
        })?;
        let Saving { rewrite, kept, lost, .. } = saving;
        let bytes_written = rewrite.complete()?;
        Ok(self.report(bytes_written, &kept, lost))
    }

    fn report(
        &self,
        bytes_written: u64,
        records: &BTreeMap<u32, u64>,
        mut lost: Vec<Lost>,
    ) -> RepairReport {
        lost.sort_by_key(|lost| lost.offset);
        let kept = |(id, table): (&u32, &Table)| TableKept {
            name: table.info.name.clone(),
            records: records.get(id).copied().unwrap_or(0),
        };
        let (bytes_read, kept) = (self.log.region().len(), self.tables.iter().map(kept).collect());
        RepairReport { bytes_read, bytes_written, kept, lost }
    }
}

/// The second walk.
struct Saving<'a> {
    damaged: &'a Damaged,
    rewrite: Rewrite<'a>,
    /// Records kept, by the number of the table in the damaged file.
    kept: BTreeMap<u32, u64>,
    lost: Vec<Lost>,
}

impl Saving<'_> {
    /// A file that is too short for a log has lost whatever it had.
    fn look_at_header(&mut self) {
        let len = self.damaged.log.region().len();
        if len < FRAMES_START && self.damaged.vouched <= len {
            self.lost.push(Lost {
                offset: len,
                bytes: FRAMES_START - len,
                reason: "the file ends inside its header".to_owned(),
                ..Lost::default()
            });
        }
    }

    fn keep(&mut self, record: &Record<'_>, origin: (u64, u64)) -> StorageResult<()> {
        if matches!(record.kind, RecordKind::Table | RecordKind::Extent) {
            return Ok(());
        }
        let Some(table) = self.damaged.tables.get(&record.table.0) else {
            self.lose(record, "the record of its table is lost");
            return Ok(());
        };
        match (record.kind, table.info.kind) {
            _ if record.key.is_empty() => self.lose(record, "a record without a key"),
            (RecordKind::Delete, _) => {
                self.rewrite.delete(table.info.id, record.key, origin)?;
                self.count(record);
            }
            (RecordKind::Put, TableKind::KeyValue) => match record.value() {
                Ok(value) => {
                    kv::carry_value(table.info.id, record, value, origin, &mut self.rewrite)?;
                    self.count(record);
                }
                Err(error) => self.lose_value(record, error)?,
            },
            (RecordKind::Row, TableKind::Vectors) => self.keep_row(table, record, origin)?,
            _ => self.lose(record, "a record that its table cannot hold"),
        }
        Ok(())
    }

    fn keep_row(
        &mut self,
        table: &Table,
        record: &Record<'_>,
        origin: (u64, u64),
    ) -> StorageResult<()> {
        let row = record.payload().ok().and_then(Row::decode);
        let row = row.filter(|row| row.bytes == table.row_bytes && row.dtype == DTYPE_F32);
        let Some(row) = row else {
            self.lose(record, "a row that its table cannot hold");
            return Ok(());
        };
        match record.row_bytes() {
            Ok(bytes) => {
                let rows = RowTable { id: table.info.id, row_bytes: table.row_bytes };
                carry_row(rows, record, (row, bytes), origin, &mut self.rewrite)?;
                self.count(record);
                Ok(())
            }
            Err(error) => self.lose_value(record, error),
        }
    }

    fn count(&mut self, record: &Record<'_>) {
        *self.kept.entry(record.table.0).or_default() += 1;
    }

    fn table_name(&self, id: u32) -> Option<String> {
        self.damaged.tables.get(&id).map(|table| table.info.name.clone())
    }

    /// A record that is readable and of no use.
    fn lose(&mut self, record: &Record<'_>, reason: &str) {
        self.lost.push(Lost {
            offset: record.position,
            bytes: record.len as u64,
            reason: reason.to_owned(),
            table: self.table_name(record.table.0),
            key: Some(String::from_utf8_lossy(record.key).into_owned()),
            is_certain: true,
        });
    }

    /// A record whose value or vector is damaged.
    fn lose_value(&mut self, record: &Record<'_>, error: StorageError) -> StorageResult<()> {
        let (offset, reason) = damage(error)?;
        let seal = record.payload().ok().filter(|_| record.flags & IN_EXTENT != 0);
        let row = record.payload().ok().filter(|_| record.kind == RecordKind::Row);
        let bytes = match (seal.and_then(Seal::decode), row.and_then(Row::decode)) {
            (Some(seal), _) => seal.bytes,
            (_, Some(row)) => u64::from(row.bytes),
            _ => record.payload_len as u64,
        };
        self.lost.push(Lost {
            offset,
            bytes,
            reason,
            table: self.table_name(record.table.0),
            key: Some(String::from_utf8_lossy(record.key).into_owned()),
            is_certain: true,
        });
        Ok(())
    }

    fn unreadable(&mut self, lost: &synadb_storage::log::Lost<'_>) {
        let seems = lost.seems.filter(|raw| self.damaged.tables.contains_key(&raw.table.0));
        self.lost.push(Lost {
            offset: lost.offset,
            bytes: lost.bytes,
            reason: lost.reason.to_owned(),
            table: seems.and_then(|raw| self.table_name(raw.table.0)),
            key: seems.map(|raw| String::from_utf8_lossy(raw.key).into_owned()),
            is_certain: false,
        });
    }
}

/// A failure to read the damaged file that is no failure of the repair.
fn damage(error: StorageError) -> StorageResult<(u64, String)> {
    match error {
        StorageError::Corrupt { offset, reason } => Ok((offset, reason)),
        other => Err(other),
    }
}
