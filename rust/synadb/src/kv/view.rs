//! The view of a key-value table: newest records and float histories.

use std::any::Any;
use std::sync::Arc;

use synadb_storage::Result;
use synadb_storage::extent::{Reservation, fill, sealed_bytes};
use synadb_storage::log::{Log, Record};
use synadb_storage::record::{COMPRESSED, IN_EXTENT, RecordKind};
use synadb_types::TableId;

use super::history::Histories;
use crate::db::{Applied, Carried, Rewrite, TableInfo, TableView};
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

    fn touch(&self, hash: u64) {
        self.keys.touch(hash);
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

    fn live_positions(&self, log: &Log) -> Vec<u64> {
        let mut live = self.reader.keys.live_positions(log);
        live.sort_unstable();
        live
    }

    fn export(&self, log: &Log, out: &mut SectionWriter<'_>) -> Result<()> {
        self.keys.export(log, self.table.0, out)?;
        self.reader.histories.export(log, self.table.0, out)
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// Carries the newest value of each live key over.
pub(crate) fn carry(
    view: &dyn TableView,
    table: &TableInfo,
    rewrite: &mut Rewrite<'_>,
) -> Result<()> {
    let from = rewrite.from;
    for position in view.live_positions(&from.log) {
        let Some(record) = rewrite.intact(from.log.record(position), &[])? else { continue };
        let Some(value) = rewrite.intact(record.value(), record.key)? else { continue };
        let (mut tag, mut payload) = (record.tag, value.to_vec());
        if let Some(last) = crate::value::last_of_run(tag, value) {
            (tag, payload) = last;
        }
        let mut flags = record.flags & COMPRESSED;
        if record.flags & IN_EXTENT != 0 && payload.len() == value.len() {
            let bytes = sealed_bytes(value.len() as u64);
            let reservation = Reservation { bytes, align: 64, first_row: 0, rows: 0 };
            let start = rewrite.reserve(table.id, &reservation)?;
            rewrite.region().allocate(start + bytes)?;
            payload = fill(rewrite.region(), start, value)?.encode().to_vec();
            flags |= IN_EXTENT;
        }
        let origin = rewrite.origin(&record);
        rewrite.push(Carried {
            kind: RecordKind::Put,
            tag,
            flags,
            table: table.id,
            key: record.key.to_vec(),
            payload,
            origin,
        })?;
    }
    Ok(())
}
