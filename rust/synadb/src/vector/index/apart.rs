//! Indexes that nobody asked for: a thread of its own builds one when searches have scanned enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use synadb_index::{IndexError, Job, Part};
use synadb_types::RowId;

use super::build::Build;
use super::{Built, Loaded, StoreIndex};
use crate::collection::Snapshot;
use crate::config::Terms;
use crate::db::{Work, building};
use crate::error::Result;
use crate::vector::config::IndexBackend;
use crate::vector::search::index_failure;
use crate::vector::{PackedConfig, VectorStore};

/// An index is built once searches have scanned so many times as many rows as there are. To build
/// one costs as much as some tens (codes) to hundreds (a graph) of scans: who waits until he has
/// paid about that much never pays more than a small multiple of the least (ski rental: Karlin,
/// Manasse, Rudolph and Sleator 1988), and who searches seldom never pays for an index.
const SCANS: u64 = 30;
/// An inverted file takes new rows in at the cost of some fifty scans of these, of which a stream
/// of rows would wait for the most part in vain, and copies its own in the time of two scans.
const EXTEND_SCANS: u64 = 10;
const COPY_SCANS: u64 = 2;
/// While one in so many of all rows comes as these are counted, none is built beside an index: it
/// would be behind when it is done, and takes a processor from those that insert and search.
const STREAM_SHARE: u32 = 8;
/// Codes of so many times as many rows as live are made anew.
const DEAD_SHARE: usize = 2;
const ROWS_PER_CELL: usize = 8;
/// Codes of so many rows are scanned in the time of one row in full, and a search of pieces looks
/// at so many times fewer of them.
const CODED_AS_ONE: usize = 32;
const IN_PIECES: usize = 4;

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
        let (tail, wish) = (rows_behind(index, snapshot), self.wish.load());
        let searched = index.filter(|index| index.is_of_rows());
        if let Some(index) = index {
            self.count_behind(snapshot, index, queries * tail.min(most));
        }
        let coded = index.map_or(0, |index| rows_coded(index, &wish, self.len()));
        if self.index_threshold == 0 || tail + coded < self.index_threshold {
            return;
        }
        let slot = &snapshot.reader.companion;
        let in_pieces = index.map_or(0, StoreIndex::piece_rows);
        let looked_at = (coded - in_pieces + in_pieces / IN_PIECES).min(most);
        // What is scanned behind an index is about to be coded.
        let scanned = match searched {
            Some(_) if self.codes_tails() => (tail.min(most) + looked_at) / CODED_AS_ONE,
            _ => tail.min(most) + looked_at / CODED_AS_ONE,
        };
        let all = snapshot.rows_end();
        let (scanned, came) = slot.count_scanned((queries * scanned) as u64, all);
        if scanned < worth(searched, tail + coded, u64::from(all)) {
            return;
        }
        let is_stream = searched.is_some() && self.codes_tails() && came > all / STREAM_SHARE;
        if is_stream || rows_there(index, snapshot) + coded < self.index_threshold {
            slot.forget_scanned();
            return;
        }
        let backend = next_backend(index, &wish);
        let Ok(engine) = self.handle.open() else { return };
        if backend == IndexBackend::None || (snapshot.rows_end() as usize) < rows_for(&backend) {
            return;
        }
        let (table, config, least) = (Arc::clone(&self.table), self.config, self.index_threshold);
        let (saves, sample) = (self.handle.writable().is_ok(), self.sample.load_full());
        let is_taken = engine.do_apart(Work::Build, move |engine, terms| {
            let (table, is_apart) = (&*table, true);
            let build = Build { engine, saves, table, config, sample, threads: 1, is_apart };
            if build.apart(&backend, least, terms).is_err() {
                // Searches go on scanning; after as many of them it is tried again.
            }
        });
        if is_taken {
            slot.forget_scanned();
        }
    }
}

/// Rows that have to be scanned before an index is worth it that takes `new` of all rows in.
fn worth(index: Option<&StoreIndex>, new: usize, all: u64) -> u64 {
    match index.and_then(|index| index.built.as_deref()) {
        Some(Built::GravityWell(_)) => {
            (EXTEND_SCANS * new as u64 + COPY_SCANS * all).min(SCANS * all)
        }
        _ => SCANS * all,
    }
}

/// What follows an index: one of its kind, unless nobody had asked for it.
fn next_backend(index: Option<&StoreIndex>, wish: &IndexBackend) -> IndexBackend {
    let Some(index) = index else { return wish.clone() };
    let (plain, _) = wish.parts();
    if !index.is_of_rows() && *plain == IndexBackend::None {
        return IndexBackend::None;
    }
    let next = match index.built.as_deref() {
        // It was dropped on purpose.
        None => return IndexBackend::None,
        Some(_) if index.is_chosen => return wish.clone(),
        Some(Built::Hnsw(graph)) => IndexBackend::Hnsw(*graph.config()),
        Some(Built::GravityWell(cells)) => IndexBackend::GravityWell(cells.config().clone()),
        Some(Built::Cascade(cascade)) => IndexBackend::Cascade(*cascade.config()),
        Some(Built::Packed(_)) => match plain {
            IndexBackend::Flat(config) => IndexBackend::Flat(*config),
            _ => IndexBackend::Flat(PackedConfig::default()),
        },
    };
    next.aimed_at(index.tuned.target)
}

/// With fewer rows most of the cells that were asked for would be all but empty.
fn rows_for(backend: &IndexBackend) -> usize {
    match backend.parts().0 {
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
        let index = loaded.as_ref().and_then(Loaded::any);
        let live = || (0..snapshot.rows_end()).filter(|row| snapshot.is_live(RowId(*row))).count();
        let coded = index.map_or(0, |index| rows_coded(index, backend, live()));
        if rows_there(index, &snapshot) + coded < least {
            return Ok(());
        }
        drop(snapshot);
        building(|| self.run(backend, &mut |_, _| !terms.is_interrupted()))?;
        if self.saves { self.engine.checkpoint_anew(terms) } else { Ok(()) }
    }
}

/// Has something done by this thread, which nobody waits for: it rests for those that do, and ends
/// as the terms say.
pub(super) fn at_leisure<T>(
    terms: &Terms,
    work: impl FnOnce(&Job<'_>) -> std::result::Result<T, IndexError>,
) -> Result<T> {
    let cancel = AtomicBool::new(terms.is_interrupted());
    let tell = |_| cancel.store(terms.is_interrupted(), Ordering::Relaxed);
    let job = Job { cancel: Some(&cancel), progress: Some(&tell), rests: true, ..Job::default() };
    work(&job).map_err(index_failure)
}

/// Rows that a search scans in full, also those that may never come.
fn rows_behind(index: Option<&StoreIndex>, snapshot: &Snapshot) -> usize {
    index.map_or(snapshot.rows_end() as usize, |index| index.known.rows_behind(snapshot))
}

/// Those of them that a new index would take in: what a writer that died had reserved stays unborn,
/// however often an index is built.
fn rows_there(index: Option<&StoreIndex>, snapshot: &Snapshot) -> usize {
    let is_live = |row| snapshot.is_live(row);
    let there = |index: &StoreIndex| index.known.rows_there(snapshot, is_live);
    index.map_or(snapshot.rows_end() as usize, there)
}

/// Rows whose codes a search scans though a new index would have found a better place for them:
/// those of the tail, and of codes all where most are of dead rows, or where there are so many that
/// nobody would have chosen codes.
fn rows_coded(index: &StoreIndex, wish: &IndexBackend, live: usize) -> usize {
    let tail = index.tail_rows() + index.piece_rows();
    let Some(Built::Packed(part)) = index.built.as_deref() else { return tail };
    let rows = part.rows().len() + tail;
    let is_free = index.is_chosen && *wish.parts().0 == IndexBackend::Auto;
    let is_outgrown = is_free && !matches!(wish.for_rows(live), IndexBackend::Flat(_));
    if is_outgrown || rows > DEAD_SHARE * live { rows } else { tail }
}

#[cfg(test)]
mod tests {
    use synadb_index::{Filter, PackedFlat};
    use synadb_types::RowSet;

    use super::super::Extent;
    use super::*;
    use crate::vector::source::MappedVectors;
    use crate::vector::{HnswConfig, VectorConfig};

    fn rows(numbers: &[u32]) -> RowSet {
        let mut rows = RowSet::new();
        for number in numbers {
            rows.insert(RowId(*number));
        }
        rows
    }

    #[test]
    fn what_nobody_waits_for_rests_and_ends_when_it_is_told() {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let terms = Terms::of_upkeep(Arc::new(move || told.load(Ordering::Relaxed)));
        let outcome = at_leisure(&terms, |job| {
            assert!(job.rests && job.threads == 1);
            job.check()?;
            ends.store(true, Ordering::Relaxed);
            job.progress.expect("it asks the terms")(0.5);
            job.check()
        });
        assert!(outcome.is_err());
        assert!(at_leisure(&terms, |job| job.check()).is_err(), "told before");
    }

    #[test]
    fn slots_that_batches_leave_empty_are_not_scanned() {
        let directory = tempfile::tempdir().expect("a directory");
        let backend = IndexBackend::Hnsw(HnswConfig::default());
        let config = VectorConfig { dimensions: 100, backend, ..VectorConfig::default() };
        let store = VectorStore::new(directory.path().join("a.db"), config).expect("opens");
        let keys: Vec<String> = (0..900).map(|number| number.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let insert = |keys: &[&str]| {
            for keys in keys.chunks(150) {
                store.insert_rows(keys, &vec![1.0; 100 * keys.len()]).expect("inserts");
            }
        };
        insert(&keys[..600]);
        store.build_index().expect("builds");
        let check = |rows: u32| {
            let snapshot = store.snapshot().expect("open").expect("rows");
            assert!(snapshot.rows_end() > rows, "some slots stay empty");
            let index = store.config.index_of(&snapshot).expect("an index");
            let known = &index.any().expect("an index").known;
            assert!(known.unborn.is_none(), "{:?}", known.rows_behind(&snapshot));
            assert_eq!(snapshot.unborn_rows(), []);
            // As an index of an earlier version or another process may have it.
            let all = RowSet::range(RowId(0), snapshot.rows_end());
            let empty = all.iter().filter(|row| snapshot.is_unborn(*row));
            let unborn = Some(Filter::Rows(empty.collect()));
            let known = Extent { end: snapshot.rows_end(), unborn };
            assert!(known.rows_behind(&snapshot) > 0);
            assert!(known.without_passed_over(&snapshot).unborn.is_none());
            let (born, known) = Extent { end: 0, unborn: None }.look_on(&snapshot);
            assert_eq!((born.len(), known.unborn.is_none()), (rows as usize, true));
        };
        check(600);
        insert(&keys[600..]);
        store.build_index().expect("builds");
        check(900);
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
        let job = Job::default();
        let built = PackedFlat::build(metric, packed, &rows(&[4]), &source, &job).expect("builds");
        let known = Extent { end: 5, unborn: Some(Filter::Rows(rows(&[0, 1, 2, 3]))) };
        let (built, since) = (Some(Arc::new(Built::Packed(built))), (1000, snapshot.visible()));
        let index = StoreIndex::of_part(built, true, since, known, 0);
        assert_eq!(rows_behind(Some(&index), &snapshot), 5, "0 to 3, and 5");
        assert_eq!(rows_there(Some(&index), &snapshot), 2, "2, which was born since, and 5");
        snapshot.reader.companion.set(|_| Box::new(index));
        for _ in 0..20_000 {
            assert_eq!(store.search(&[1.0], 3).expect("searches").len(), 3);
        }
        store.close_handle().expect("closes");
        assert_eq!(snapshot.reader.companion.age(), Some(1000), "the index that there was");
    }
}
