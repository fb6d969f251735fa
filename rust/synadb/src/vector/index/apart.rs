//! Indexes that nobody asked for: a thread of its own builds one when searches have scanned enough.

use std::sync::Arc;

use synadb_index::Filter;

use super::build::Build;
use super::{Built, Loaded, StoreIndex};
use crate::collection::Snapshot;
use crate::config::Terms;
use crate::error::Result;
use crate::vector::config::IndexBackend;
use crate::vector::{PackedConfig, VectorStore};

/// An index is built once searches have scanned so many times as many rows as there are. To build
/// one costs as much as some tens (codes) to hundreds (a graph) of scans: who waits until he has
/// paid about that much never pays more than a small multiple of the least (ski rental: Karlin,
/// Manasse, Rudolph and Sleator 1988), and who searches seldom never pays for an index.
const SCANS: u64 = 30;
const ROWS_PER_CELL: usize = 8;

impl VectorStore {
    /// Counts the rows that so many searches scanned, `most` each, and has an index built where it pays.
    ///
    /// Nothing comes of it while another one is being built, and where nobody may work apart.
    pub(in crate::vector) fn count_scans(
        &self,
        snapshot: &Snapshot,
        loaded: Option<&Loaded>,
        (queries, most): (usize, usize),
    ) {
        let index = loaded.and_then(Loaded::any);
        let tail = rows_behind(index, snapshot);
        if tail < self.index_threshold.max(1) {
            return;
        }
        let slot = &snapshot.reader.companion;
        let scanned = slot.count_scanned((queries * tail.min(most)) as u64);
        if scanned < SCANS * u64::from(snapshot.rows_end()) {
            return;
        }
        if rows_there(index, snapshot) < self.index_threshold.max(1) {
            slot.forget_scanned();
            return;
        }
        let backend = next_backend(index, &self.wish.load());
        let Ok(engine) = self.handle.open() else { return };
        if backend == IndexBackend::None || (snapshot.rows_end() as usize) < rows_for(&backend) {
            return;
        }
        let (table, config, least) = (Arc::clone(&self.table), self.config, self.index_threshold);
        let saves = self.handle.writable().is_ok();
        let is_taken = engine.do_apart(move |engine, terms| {
            let build = Build { engine, saves, table: &table, config, threads: 1 };
            if build.apart(&backend, least, terms).is_err() {
                // Searches go on scanning; after as many of them it is tried again.
            }
        });
        if is_taken {
            slot.forget_scanned();
        }
    }
}

/// What follows an index: one of its kind, unless nobody had asked for it.
fn next_backend(index: Option<&StoreIndex>, wish: &IndexBackend) -> IndexBackend {
    let Some(index) = index else { return wish.clone() };
    match &index.built {
        // It was dropped on purpose.
        None => IndexBackend::None,
        Some(_) if index.is_chosen => wish.clone(),
        Some(Built::Hnsw(graph)) => IndexBackend::Hnsw(*graph.config()),
        Some(Built::GravityWell(cells)) => IndexBackend::GravityWell(cells.config().clone()),
        Some(Built::Cascade(cascade)) => IndexBackend::Cascade(*cascade.config()),
        Some(Built::Packed(_)) => match wish {
            IndexBackend::Flat(config) => IndexBackend::Flat(*config),
            _ => IndexBackend::Flat(PackedConfig::default()),
        },
    }
}

/// With fewer rows most of the cells that were asked for would be all but empty.
fn rows_for(backend: &IndexBackend) -> usize {
    match backend {
        IndexBackend::GravityWell(config) => {
            config.cells.unwrap_or(0).saturating_mul(ROWS_PER_CELL)
        }
        _ => 0,
    }
}

impl Build<'_> {
    /// Builds and saves an index, unless another process has done so.
    fn apart(&self, backend: &IndexBackend, least: usize, terms: &Terms) -> Result<()> {
        if self.saves {
            self.engine.take_over_saved()?;
        }
        let Some(snapshot) = self.snapshot()? else { return Ok(()) };
        let loaded = self.config.index_of(&snapshot);
        if rows_there(loaded.as_ref().and_then(Loaded::any), &snapshot) < least {
            return Ok(());
        }
        drop(snapshot);
        self.run(backend, &mut |_, _| !terms.is_interrupted())?;
        if self.saves { self.engine.checkpoint_anew(terms) } else { Ok(()) }
    }
}

/// Rows that a search has to look at beside the index, also those that may never come.
fn rows_behind(index: Option<&StoreIndex>, snapshot: &Snapshot) -> usize {
    let unborn = match index.and_then(|index| index.unborn.as_ref()) {
        Some(Filter::Rows(rows)) => rows.len(),
        _ => 0,
    };
    rows_after(index, snapshot) + unborn
}

/// Those of them that a new index would take in: what a writer that died had reserved stays unborn,
/// however often an index is built.
fn rows_there(index: Option<&StoreIndex>, snapshot: &Snapshot) -> usize {
    let born = match index.and_then(|index| index.unborn.as_ref()) {
        Some(Filter::Rows(rows)) => rows.iter().filter(|row| snapshot.is_live(*row)).count(),
        _ => 0,
    };
    rows_after(index, snapshot) + born
}

fn rows_after(index: Option<&StoreIndex>, snapshot: &Snapshot) -> usize {
    let end = snapshot.rows_end();
    (end - index.map_or(0, |index| index.end.min(end))) as usize
}

#[cfg(test)]
mod tests {
    use synadb_index::PackedFlat;
    use synadb_types::{RowId, RowSet};

    use super::*;
    use crate::vector::VectorConfig;
    use crate::vector::source::MappedVectors;

    fn rows(numbers: &[u32]) -> RowSet {
        let mut rows = RowSet::new();
        for number in numbers {
            rows.insert(RowId(*number));
        }
        rows
    }

    #[test]
    fn rows_that_never_come_do_not_have_an_index_built_again_and_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let (dimensions, index_threshold) = (1, 3);
        let config = VectorConfig { dimensions, index_threshold, ..VectorConfig::default() };
        let store = VectorStore::new(directory.path().join("a.db"), config).expect("opens");
        store.insert_rows(&["a", "b", "c", "d", "e", "f"], &[1.0; 6]).expect("inserts");
        for key in ["a", "b", "d"] {
            store.remove(key).expect("deletes");
        }
        let snapshot = store.snapshot().expect("open").expect("rows");
        let source = MappedVectors { snapshot: &snapshot, dimensions: 1 };
        let (metric, packed) = (store.metric().kernel(), PackedConfig::default());
        let built = PackedFlat::build(metric, packed, &rows(&[4]), &source, 1).expect("builds");
        let index = StoreIndex {
            built: Some(Built::Packed(built)),
            is_chosen: true,
            age: 1000,
            visible: snapshot.visible(),
            end: 5,
            unborn: Some(Filter::Rows(rows(&[0, 1, 2, 3]))),
            bytes: 0,
        };
        assert_eq!(rows_behind(Some(&index), &snapshot), 5, "0 to 3, and 5");
        assert_eq!(rows_there(Some(&index), &snapshot), 2, "2, which was born since, and 5");
        snapshot.reader.companion.set(Box::new(index));
        for _ in 0..20_000 {
            assert_eq!(store.search(&[1.0], 3).expect("searches").len(), 3);
        }
        store.close_handle().expect("closes");
        assert_eq!(snapshot.reader.companion.age(), Some(1000), "the index that there was");
    }
}
