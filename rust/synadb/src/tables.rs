//! Which component makes the view of which table.

use std::sync::Arc;

use synadb_storage::log::Record;
use synadb_storage::record::RecordKind;
use synadb_storage::{Result, StorageError};

use crate::collection::{self, RowTable, RowsView};
use crate::db::{Generation, Rewrite, Source, Table, TableInfo, TableKind, TableView, ViewFactory};
use crate::kv::{self, KvView};
use crate::sections::TableSections;
use crate::vector::StoredConfig;

/// The components of this crate.
struct Components;

/// The factory that every engine gets.
pub(crate) fn components() -> Arc<dyn ViewFactory> {
    Arc::new(Components)
}

fn row_bytes(table: &TableInfo) -> Option<u32> {
    StoredConfig::decode(&table.config).map(StoredConfig::row_bytes)
}

fn rows_of(table: &TableInfo) -> Result<RowTable> {
    let row_bytes = row_bytes(table).ok_or_else(unknown)?;
    Ok(RowTable { id: table.id, row_bytes })
}

fn unknown() -> StorageError {
    StorageError::corrupt(0, "a table of an unknown configuration")
}

impl ViewFactory for Components {
    fn create(&self, table: &TableInfo) -> Option<Box<dyn TableView>> {
        Some(match table.kind {
            TableKind::KeyValue => Box::new(KvView::new(table.id)),
            TableKind::Vectors => Box::new(RowsView::new(table.id, row_bytes(table)?)),
        })
    }

    fn import(
        &self,
        table: &TableInfo,
        sections: &TableSections<'_>,
    ) -> Result<Box<dyn TableView>> {
        Ok(match table.kind {
            TableKind::KeyValue => Box::new(KvView::import(table.id, sections)?),
            TableKind::Vectors => {
                let row_bytes = row_bytes(table).ok_or_else(unknown)?;
                Box::new(RowsView::import(table.id, row_bytes, sections)?)
            }
        })
    }

    fn carry_live(
        &self,
        table: &Table,
        (source, rewrite): (&mut Source<'_>, &mut Rewrite<'_>),
    ) -> Result<()> {
        let (info, to) = (&table.info, (source, rewrite));
        match info.kind {
            TableKind::KeyValue => kv::carry_live(table.reader().ok_or_else(unknown)?, info.id, to),
            TableKind::Vectors => {
                collection::carry_live(table.reader().ok_or_else(unknown)?, rows_of(info)?, to)
            }
        }
    }

    fn hand_on(
        &self,
        (generation, table): (&Arc<Generation>, &TableInfo),
        to: &dyn TableView,
    ) -> bool {
        match StoredConfig::decode(&table.config).filter(|_| table.kind == TableKind::Vectors) {
            Some(config) => config.hand_on(generation, &table.name, to),
            None => false,
        }
    }

    fn carry_newest(
        &self,
        table: &TableInfo,
        record: &Record<'_>,
        origin: (u64, u64),
        (source, rewrite): (&mut Source<'_>, &mut Rewrite<'_>),
    ) -> Result<()> {
        match (record.kind, table.kind) {
            (RecordKind::Put, TableKind::KeyValue) => {
                kv::carry_newest(table.id, record, origin, (source, rewrite))
            }
            _ => self.carry(table, record, origin, (source, rewrite)),
        }
    }

    fn carry(
        &self,
        table: &TableInfo,
        record: &Record<'_>,
        origin: (u64, u64),
        (source, rewrite): (&mut Source<'_>, &mut Rewrite<'_>),
    ) -> Result<()> {
        match (record.kind, table.kind) {
            (RecordKind::Put | RecordKind::Delete, TableKind::KeyValue) => {
                kv::carry(table.id, record, origin, (source, rewrite))
            }
            (RecordKind::Row, TableKind::Vectors) => {
                collection::carry(rows_of(table)?, record, origin, (source, rewrite))
            }
            (RecordKind::Delete, TableKind::Vectors) => {
                rewrite.delete(table.id, record.key, origin).map(|_| ())
            }
            _ => Err(StorageError::corrupt(record.position, "a record that its table cannot hold")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::db::Engine;
    use crate::{OpenOptions, Value};

    /// Makes views once it may: a replay that takes as long as the test wants.
    struct Held {
        began: Sender<()>,
        may_go_on: Mutex<Receiver<()>>,
    }

    impl ViewFactory for Held {
        fn create(&self, table: &TableInfo) -> Option<Box<dyn TableView>> {
            self.began.send(()).ok()?;
            self.may_go_on.lock().ok()?.recv().ok()?;
            Components.create(table)
        }

        fn import(&self, table: &TableInfo, of: &TableSections<'_>) -> Result<Box<dyn TableView>> {
            Components.import(table, of)
        }

        fn carry_live(&self, of: &Table, to: (&mut Source<'_>, &mut Rewrite<'_>)) -> Result<()> {
            Components.carry_live(of, to)
        }

        fn carry_newest(
            &self,
            of: &TableInfo,
            record: &Record<'_>,
            origin: (u64, u64),
            to: (&mut Source<'_>, &mut Rewrite<'_>),
        ) -> Result<()> {
            Components.carry_newest(of, record, origin, to)
        }

        fn carry(
            &self,
            of: &TableInfo,
            record: &Record<'_>,
            origin: (u64, u64),
            to: (&mut Source<'_>, &mut Rewrite<'_>),
        ) -> Result<()> {
            Components.carry(of, record, origin, to)
        }
    }

    #[test]
    fn defect_20_replay_of_one_file_lets_others_be_opened_and_closed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name| directory.path().join(name);
        let options = OpenOptions::new();
        options.open(path("a")).expect("opens").append("k", Value::Null).expect("appends");
        let ((began, has_begun), (go_on, may_go_on)) = (channel(), channel());
        let factory = Arc::new(Held { began, may_go_on: Mutex::new(may_go_on) });
        let replayed = path("a");
        let replay = thread::spawn(move || {
            Engine::open(&replayed, &OpenOptions::new(), || factory).map(|handle| handle.close())
        });
        has_begun.recv().expect("the replay has begun");
        let (done, is_done) = channel();
        let other = path("b");
        thread::spawn(move || done.send(options.open(other).is_ok_and(|db| db.close().is_ok())));
        let opened = is_done.recv_timeout(Duration::from_secs(60));
        go_on.send(()).expect("the replay waits");
        assert_eq!(opened, Ok(true), "opened and closed during the replay");
        replay.join().expect("no panic").expect("opens").expect("closes");
    }
}
