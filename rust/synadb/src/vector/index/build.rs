//! Building the index of a store.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use synadb_index::{HnswIndex, IvfIndex, Job, PackedFlat};
use synadb_types::{RowId, RowSet};

use super::{Built, Loaded, StoreIndex, filter_of, saved, search};
use crate::collection::Snapshot;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::vector::VectorStore;
use crate::vector::config::IndexBackend;
use crate::vector::search::index_failure;
use crate::vector::source::MappedVectors;

/// In so many steps the progress of a build is told.
const STEPS: u64 = 1000;

/// What an index is and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexStats {
    /// `"flat"`, `"hnsw"` or `"gravity_well"`.
    pub kind: &'static str,
    /// Live vectors in it.
    pub rows: usize,
    /// Vectors in it that were deleted or replaced since.
    pub dead: usize,
    /// Live vectors that came after it: they are scanned.
    pub tail: usize,
    /// Bytes that it takes beside the vectors.
    pub bytes: usize,
}

pub(super) fn stats_of(built: &Built, index: &StoreIndex, snapshot: &Snapshot) -> IndexStats {
    let rows = built.part().rows();
    let live = rows.iter().filter(|row| snapshot.is_live(*row)).count();
    let all = (0..snapshot.rows_end()).filter(|row| snapshot.is_live(RowId(*row))).count();
    let kind = built.name();
    IndexStats { kind, rows: live, dead: rows.len() - live, tail: all - live, bytes: index.bytes }
}

impl VectorStore {
    /// Builds the index of the configuration's kind on one thread; see
    /// [`VectorStore::build_index_with`].
    ///
    /// # Errors
    /// As there.
    pub fn build_index(&self) -> Result<()> {
        self.build_index_with(&self.backend, 1, &mut |_, _| true)
    }

    /// Builds an index of all vectors that are there and puts it in the place of the one before.
    ///
    /// Meanwhile others read, search and write. The file keeps it in its checkpoint, so that
    /// reopening costs no rebuild, where the handle may write and there is space for it; compaction
    /// drops it, and a backup has none. With [`IndexBackend::None`] there is none afterwards.
    /// `progress` is told steps done and steps in all, anew after a compaction meanwhile.
    ///
    /// # Errors
    /// `Cancelled`, and the index is as before; `Closed`; `Io` and `Busy` where it cannot be saved:
    /// it is used all the same.
    pub fn build_index_with(
        &self,
        backend: &IndexBackend,
        threads: usize,
        progress: &mut Progress<'_>,
    ) -> Result<()> {
        let cancelled = || Error::Cancelled { what: "the build of the index" };
        loop {
            let Some(snapshot) = self.snapshot()? else {
                progress(STEPS, STEPS);
                return Ok(());
            };
            let index = self.build_over(&snapshot, backend, threads, progress)?;
            if !self.is_of_now(&snapshot)? {
                continue;
            }
            if !progress(STEPS, STEPS) {
                return Err(cancelled());
            }
            snapshot.reader.companion.set(Box::new(index));
            if self.is_of_now(&snapshot)? {
                return self.save_index();
            }
        }
    }

    /// Whether no compaction has moved the file on: the rows have other numbers then.
    fn is_of_now(&self, snapshot: &Snapshot) -> Result<bool> {
        let now = self.snapshot()?;
        Ok(now.is_some_and(|now| Arc::ptr_eq(&now.generation, &snapshot.generation)))
    }

    /// Puts the index into the file's checkpoint, where the handle may write.
    ///
    /// # Errors
    /// `Io`, `Busy`.
    pub fn save_index(&self) -> Result<()> {
        let Ok(engine) = self.handle.writable() else { return Ok(()) };
        match engine.checkpoint_anew(&self.handle.terms) {
            // Without space it is built anew after the next opening, and that is all.
            Err(Error::DiskFull { .. } | Error::Exists { .. }) => Ok(()),
            saved => saved,
        }
    }

    fn build_over(
        &self,
        snapshot: &Snapshot,
        backend: &IndexBackend,
        threads: usize,
        progress: &mut Progress<'_>,
    ) -> Result<StoreIndex> {
        let (cancel, told) = (AtomicBool::new(false), RefCell::new(progress));
        let tell = |share: f32| {
            let done = ((share * STEPS as f32) as u64).min(STEPS - 1);
            let goes_on = told.borrow_mut()(done, STEPS);
            cancel.fetch_or(!goes_on, Ordering::Relaxed);
        };
        let job = Job { threads, cancel: Some(&cancel), progress: Some(&tell) };
        let (rows, unborn) = rows_of(snapshot);
        let source = MappedVectors { snapshot, dimensions: usize::from(self.dimensions()) };
        let metric = self.metric().kernel();
        let before = self.index_of(snapshot);
        let built = match backend {
            IndexBackend::None => Ok(None),
            IndexBackend::Flat(config) => {
                let built = PackedFlat::build(metric, *config, &rows, &source, threads);
                built.map(|index| Some(Built::Packed(index)))
            }
            IndexBackend::Hnsw(config) => {
                let graph = before.as_ref().and_then(Loaded::index);
                let graph = graph.and_then(|(built, _)| search::graph_of(built));
                let alike = graph.filter(|graph| graph.config() == config);
                HnswIndex::merge(metric, alike.as_slice(), &rows, &source, *config, &job)
                    .map(|index| Some(Built::Hnsw(index)))
            }
            IndexBackend::GravityWell(config) => {
                let built = IvfIndex::build(metric, config, &rows, &source, &job);
                built.map(|index| Some(Built::GravityWell(index)))
            }
        };
        let built = built.map_err(index_failure)?;
        let sections = built.iter().flat_map(saved::sections);
        let bytes = sections.map(|(_, bytes)| bytes.len()).sum();
        if let Ok(engine) = self.handle.writable() {
            engine.take_over_saved()?;
        }
        let next = snapshot.reader.companion.age().map_or(0, |age| age + 1);
        let age = snapshot.generation.sequence().max(next);
        let (visible, end) = (snapshot.visible(), snapshot.rows_end());
        let unborn = filter_of(unborn);
        Ok(StoreIndex { built, age, visible, end, unborn, bytes })
    }
}

/// The live rows, and those that are not there yet and may come.
fn rows_of(snapshot: &Snapshot) -> (RowSet, RowSet) {
    let end = snapshot.rows_end();
    let (mut live, mut unborn) = (RowSet::with_rows(end), RowSet::new());
    for row in (0..end).map(RowId) {
        if snapshot.is_live(row) {
            live.insert(row);
        } else if snapshot.is_unborn(row) {
            unborn.insert(row);
        }
    }
    (live, unborn)
}
