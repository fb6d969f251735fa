//! The first walk: which tables there are.

use std::collections::BTreeMap;

use synadb_storage::Result;
use synadb_storage::log::{Log, Record};
use synadb_storage::record::RecordKind;
use synadb_types::TableId;

use crate::db::{Clock, Event, TableInfo, TableKind, walk};
use crate::kv;
use crate::vector::StoredConfig;

/// A table of the damaged file, as it will be in the new one.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Its number is the new one.
    pub info: TableInfo,
    /// Sequence and time of its record.
    pub origin: (u64, u64),
    /// Bytes of a row, 0 for a table of values.
    pub row_bytes: u32,
}

/// Tables by their numbers in the damaged file.
#[derive(Default)]
pub(super) struct Survey {
    pub tables: BTreeMap<u32, Table>,
    /// Tables that records belong to, and whether some record holds a value.
    used: BTreeMap<u32, bool>,
}

impl Survey {
    /// Walks over the log.
    ///
    /// # Errors
    /// `Interrupted`.
    pub fn of(
        log: &Log,
        vouched: u64,
        clock: &mut Clock,
        goes_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Self> {
        let mut survey = Self::default();
        walk(log, (u64::MAX, vouched), clock, goes_on, &mut |event| {
            if let Event::Record(record, origin) = event {
                survey.note(&record, origin);
            }
            Ok(())
        })?;
        Ok(survey)
    }

    fn note(&mut self, record: &Record<'_>, origin: (u64, u64)) {
        if record.kind == RecordKind::Table {
            let payload = record.payload().unwrap_or_default();
            if let Some(info) = TableInfo::decode(record.key, payload) {
                self.add(info, origin);
            }
            return;
        }
        let holds = self.used.entry(record.table.0).or_default();
        *holds |= record.kind == RecordKind::Put;
    }

    /// Adds a table unless its number or name is taken, or nothing can be kept in it.
    pub fn add(&mut self, info: TableInfo, origin: (u64, u64)) {
        let taken = self.tables.values().any(|table| table.info.name == info.name);
        let row_bytes = match info.kind {
            TableKind::KeyValue => Some(0),
            TableKind::Vectors => StoredConfig::decode(&info.config).map(StoredConfig::row_bytes),
        };
        if let Some(row_bytes) = row_bytes.filter(|_| !taken && info.id.0 > 0) {
            let table = Table { origin, row_bytes, info };
            self.tables.entry(table.info.id.0).or_insert(table);
        }
    }

    /// Takes values without a table to be those of the one table of values that there is.
    pub fn guess(&mut self, horizon: u64) {
        let known = self.tables.values().any(|table| table.info.kind == TableKind::KeyValue);
        let mut unknown = self.used.iter().filter(|(id, _)| !self.tables.contains_key(id));
        let Some((id, _)) = unknown.find(|(_, holds_values)| **holds_values && !known) else {
            return;
        };
        let (id, name, kind) = (TableId(*id), kv::TABLE.to_owned(), TableKind::KeyValue);
        self.add(TableInfo { id, name, kind, config: Vec::new() }, (horizon, 0));
    }

    /// Numbers the tables anew, from 1 and without gaps.
    pub fn number(&mut self) {
        for (table, id) in self.tables.values_mut().zip(1..) {
            table.info.id = TableId(id);
        }
    }
}
