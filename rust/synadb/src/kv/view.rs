//! The view of a key-value table: newest records and float histories.

use std::any::Any;
use std::sync::Arc;

use synadb_storage::Result;
use synadb_storage::log::{Log, Record};
use synadb_storage::record::RecordKind;
use synadb_types::TableId;

use super::history::Histories;
use crate::db::{Applied, TableView};
use crate::keys::{KeyMap, KeyMapReader};
use crate::sections::{SectionWriter, TableSections};

/// Readers' half.
pub(crate) struct KvReader {
    pub keys: Arc<KeyMapReader>,
    pub histories: Histories,
}

/// Writer's half.
pub(crate) struct KvView {
    table: TableId,
    keys: KeyMap,
    reader: Arc<KvReader>,
}

impl KvView {
    pub fn new(table: TableId) -> Self {
        Self::over(table, KeyMap::default(), Histories::default())
    }

    pub fn import(table: TableId, sections: &TableSections<'_>) -> Result<Self> {
        Ok(Self::over(table, KeyMap::import(sections)?, Histories::import(sections)?))
    }

    fn over(table: TableId, keys: KeyMap, histories: Histories) -> Self {
        let reader = Arc::new(KvReader { keys: keys.reader(), histories });
        Self { table, keys, reader }
    }
}

impl TableView for KvView {
    fn reader(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::clone(&self.reader) as _
    }

    fn newest<'a>(&self, log: &'a Log, key: &[u8], hash: u64) -> Result<Option<Record<'a>>> {
        self.keys.newest(log, key, hash)
    }

    fn touch(&self, hashes: &[u64]) {
        self.keys.touch(hashes);
    }

    fn apply(&mut self, applied: &Applied<'_>) -> bool {
        let record = &applied.record;
        match record.kind {
            // Space for a large value; the record that seals it says where.
            RecordKind::Extent => record.key.is_empty(),
            RecordKind::Put | RecordKind::Delete if !record.key.is_empty() => {
                let fits = self.keys.apply(applied.log, record, applied.hash);
                if fits {
                    self.reader.histories.apply(applied);
                }
                fits
            }
            _ => false,
        }
    }

    fn expect(&mut self, records: usize) {
        self.keys.expect(records);
    }

    fn live(&self) -> u64 {
        self.keys.live()
    }

    fn export(&self, log: &Log, out: &mut SectionWriter) -> Result<()> {
        self.keys.export(log, self.table.0, out)?;
        self.reader.histories.export(log, self.table.0, out)
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
