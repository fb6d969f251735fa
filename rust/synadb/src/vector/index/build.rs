//! Building the index of a store.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use synadb_index::{
    CascadeIndex, Filter, HnswIndex, IndexError, IvfConfig, IvfIndex, IvfSearch, Job, PackedFlat,
    Part, Query, VectorSource,
};
use synadb_types::{RowId, RowSet};

use super::sample::{Sample, build_of};
use super::{Built, Extent, Loaded, StoreIndex, Tunings, check_target, filter_of, index_in, saved};
use crate::collection::Snapshot;
use crate::db::Engine;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::vector::VectorStore;
use crate::vector::config::{IndexBackend, StoredConfig};
use crate::vector::search::index_failure;
use crate::vector::source::MappedVectors;

/// In so many steps the progress of a build is told.
const STEPS: u64 = 1000;
/// Recall at ten that an inverted file is tuned to which nobody has asked for, on so many rows, each
/// of which is its own nearest: of 99,000 passages tuned to .99, queries that were no rows found
/// .987.
const CHOSEN_RECALL: f64 = 0.994;
const TUNED_K: usize = 10;
const TUNED_ON: usize = 200;
/// On fewer where that takes more than some seconds, and so many at least.
const TUNED_WORK: usize = 1 << 35;
const TUNED_ON_MIN: usize = 50;
/// An inverted file with so many times the rows gets cells and a search of its own.
const GROWN: usize = 2;
/// The same of one that was asked for, without its search: on as many rows as cost so many products
/// of components, and so many at least. It is what tells rows without structure from others, of
/// which the standard finds far more.
const RAISED_RECALL: f64 = 0.965;
const RAISED_ON: usize = 16;
const RAISED_WORK: usize = 1 << 31;
/// Queries that a piece is tried with, at most: one that is tuned, and one in the cells of others.
const PIECE_ON: usize = 50;
const SUITED_ON: usize = 20;
/// Standard deviations that so few queries may find less.
const DEVIATIONS: f64 = 3.0;

/// What an index is and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexStats {
    /// `"flat"`, `"hnsw"`, `"gravity_well"` or `"cascade"`.
    pub kind: &'static str,
    /// Live vectors in it.
    pub rows: usize,
    /// Vectors in it that were deleted or replaced since.
    pub dead: usize,
    /// Live vectors that came after it.
    pub tail: usize,
    /// Those of them that were coded since; the others are scanned in full.
    pub coded: usize,
    /// Pieces that most of those are in: small inverted files.
    pub pieces: usize,
    /// Bytes that it takes beside the vectors, copies of codes for filters that are used often included.
    pub bytes: usize,
}

pub(super) fn stats_of(built: &Built, index: &StoreIndex, snapshot: &Snapshot) -> IndexStats {
    let rows = built.part().rows();
    let live_of = |rows: &RowSet| rows.iter().filter(|row| snapshot.is_live(*row)).count();
    let live = live_of(rows);
    let in_tail = index.tail.as_ref().map_or(0, |tail| live_of(tail.rows()));
    let coded = in_tail + index.pieces.iter().map(|piece| live_of(&piece.rows())).sum::<usize>();
    let pieces = index.pieces.len();
    let all = (0..snapshot.rows_end()).filter(|row| snapshot.is_live(RowId(*row))).count();
    let copied: usize = index.parts(built).map(Part::copied_bytes).sum();
    let (kind, dead, tail) = (built.name(), rows.len() - live, all - live);
    let bytes = index.bytes() + copied;
    IndexStats { kind, rows: live, dead, tail, coded, pieces, bytes }
}

impl VectorStore {
    /// Builds the index on one thread that was built last through this handle, or that it was
    /// opened for; see [`VectorStore::build_index_with`].
    ///
    /// # Errors
    /// As there.
    pub fn build_index(&self) -> Result<()> {
        self.build_index_with(&self.wish.load_full(), 1, &mut |_, _| true).map(|_| ())
    }

    /// Builds an index of all vectors that are there and puts it in the place of the one before.
    ///
    /// Meanwhile others read, search and write. The file keeps it in its checkpoint, so that
    /// reopening costs no rebuild, where the handle may write and there is space for it; compaction
    /// drops it but for its kind, and a backup has none. Returns whether it was saved: without
    /// space, or where something else has the checkpoint's name, it is built anew after the next
    /// opening, and that is all. With [`IndexBackend::None`] there is none afterwards.
    /// `progress` is told steps done and steps in all, anew after a compaction meanwhile.
    ///
    /// # Errors
    /// `InvalidArgument` for a recall that cannot be asked for; `Cancelled`, and the index is as
    /// before; `Closed`; `Io` and `Busy` where it cannot be saved: it is used all the same.
    pub fn build_index_with(
        &self,
        backend: &IndexBackend,
        threads: usize,
        progress: &mut Progress<'_>,
    ) -> Result<bool> {
        self.put_index(backend, threads, progress)?;
        self.try_save_index()
    }

    /// As [`VectorStore::build_index_with`], and leaves it to [`VectorStore::try_save_index`] to put
    /// the index into the file: who calls the two knows which of them has failed.
    ///
    /// # Errors
    /// As there, and the index is as before.
    pub fn put_index(
        &self,
        backend: &IndexBackend,
        threads: usize,
        progress: &mut Progress<'_>,
    ) -> Result<()> {
        let writable = self.handle.writable();
        let backend = &self.aims(backend)?;
        let engine = writable.as_ref().ok().copied().map_or_else(|| self.handle.open(), Ok)?;
        let (table, config) = (&*self.table, self.config);
        let (saves, sample) = (writable.is_ok(), self.sample.load_full());
        let build = Build { engine, saves, table, config, sample, threads, is_apart: false };
        build.run(backend, progress)?;
        self.want(backend.clone());
        Ok(())
    }

    /// Says which index is to be built where nobody says otherwise.
    pub fn want(&self, backend: IndexBackend) {
        let backend = backend.aimed_at(self.target_recall);
        self.wish.store(Arc::new(backend));
    }

    /// The index to build, which is tuned to the recall of the store.
    fn aims(&self, backend: &IndexBackend) -> Result<IndexBackend> {
        let backend = backend.clone().aimed_at(self.target_recall);
        check_target(backend.parts().1)?;
        Ok(backend)
    }

    /// Returns once everything written so far is on the medium, and a checkpoint of it beside the
    /// file, from which it opens fast: with the index, and what it was tuned to.
    ///
    /// # Errors
    /// `Io`, `Busy`, `DiskFull`, `ReadOnly`, `Closed`.
    pub fn checkpoint(&self) -> Result<()> {
        self.sync()?;
        let (engine, terms) = (self.handle.writable()?, &self.handle.terms);
        if self.knows_more()? { engine.checkpoint_anew(terms) } else { engine.checkpoint(terms) }
    }

    /// Puts the index into the file's checkpoint, where the handle may write, there is space for
    /// it, and nothing else has its name.
    ///
    /// # Errors
    /// `Io`, `Busy`.
    pub fn save_index(&self) -> Result<()> {
        self.try_save_index().map(|_| ())
    }

    /// The original's name of [`VectorStore::save_index`].
    ///
    /// # Errors
    /// As there.
    pub fn checkpoint_index(&self) -> Result<()> {
        self.save_index()
    }

    /// As [`VectorStore::save_index`]; returns whether the index is there.
    ///
    /// # Errors
    /// `Io`, `Busy`.
    pub fn try_save_index(&self) -> Result<bool> {
        let Ok(engine) = self.handle.writable() else { return Ok(false) };
        match engine.checkpoint_anew(&self.handle.terms) {
            Err(Error::DiskFull { .. } | Error::Exists { .. }) => Ok(false),
            saved => saved.map(|()| true),
        }
    }
}

/// A build of the index of a table.
pub(super) struct Build<'a> {
    pub engine: &'a Engine,
    /// Whether the engine may write.
    pub saves: bool,
    pub table: &'a str,
    pub config: StoredConfig,
    /// Where an inverted file finds its centroids, if not in its own rows.
    pub sample: Option<Arc<Sample>>,
    pub threads: usize,
    /// Whether nobody asked for it now: an inverted file may go on with the cells of the one before,
    /// what that was searched with is tuned before it is in its place, and its threads rest.
    pub is_apart: bool,
}

impl Build<'_> {
    /// Builds the index and puts it in its place; the caller saves it.
    ///
    /// # Errors
    /// `Cancelled`, `Closed`.
    pub fn run(&self, backend: &IndexBackend, progress: &mut Progress<'_>) -> Result<()> {
        loop {
            let Some(snapshot) = self.snapshot()? else {
                progress(STEPS, STEPS);
                return Ok(());
            };
            let index = self.build_over(&snapshot, backend, progress)?;
            if !self.is_of_now(&snapshot)? {
                continue;
            }
            if !progress(STEPS, STEPS) {
                return Err(Error::Cancelled { what: "the build of the index" });
            }
            let slot = &snapshot.reader.companion;
            slot.set(|before| Box::new(index.with_tail_of(before.and_then(index_in), &snapshot)));
            if self.is_of_now(&snapshot)? {
                return Ok(());
            }
        }
    }

    pub fn snapshot(&self) -> Result<Option<Arc<Snapshot>>> {
        self.config.snapshot(self.engine, self.table)
    }

    /// Whether no compaction has moved the file on: the rows have other numbers then.
    fn is_of_now(&self, snapshot: &Snapshot) -> Result<bool> {
        let now = self.snapshot()?;
        Ok(now.is_some_and(|now| Arc::ptr_eq(&now.generation, &snapshot.generation)))
    }

    fn build_over(
        &self,
        snapshot: &Snapshot,
        backend: &IndexBackend,
        progress: &mut Progress<'_>,
    ) -> Result<StoreIndex> {
        let (cancel, told) = (AtomicBool::new(false), RefCell::new(progress));
        let tell = |share: f32| {
            let done = ((share * STEPS as f32) as u64).min(STEPS - 1);
            let goes_on = told.borrow_mut()(done, STEPS);
            cancel.fetch_or(!goes_on, Ordering::Relaxed);
        };
        let threads = self.threads;
        let (cancel, progress) = (Some(&cancel), Some(&tell as _));
        let job = Job { threads, cancel, progress, rests: self.is_apart };
        let (rows, unborn) = rows_of(snapshot);
        let (backend, target) = backend.parts();
        let is_chosen = *backend == IndexBackend::Auto;
        let built = self.built(snapshot, &rows, backend, &job).map_err(index_failure)?;
        let tuned = Tunings::for_recall(target);
        if let Some(built) = &built {
            self.tune(&tuned, built, snapshot, &job).map_err(index_failure)?;
        }
        let sections = built.iter().flat_map(saved::sections);
        let bytes = sections.map(|(_, bytes)| bytes.len()).sum();
        if self.saves {
            self.engine.take_over_saved()?;
        }
        let next = snapshot.reader.companion.age().map_or(0, |age| age.saturating_add(1));
        let age = snapshot.generation.sequence().max(next);
        let known = Extent { end: snapshot.rows_end(), unborn: filter_of(unborn) };
        let built = built.map(Arc::new);
        let since = (age, snapshot.visible());
        Ok(StoreIndex::of_part(built, is_chosen, since, known, bytes).tuned_as(tuned))
    }

    /// Tunes an index for what it was built for, and one that a thread apart builds for what the one
    /// before was searched with.
    fn tune(
        &self,
        tuned: &Tunings,
        built: &Built,
        snapshot: &Snapshot,
        job: &Job<'_>,
    ) -> std::result::Result<(), IndexError> {
        let source = self.source(snapshot);
        tuned.begin(built, &source, job)?;
        let before = self.config.index_of(snapshot).filter(|_| self.is_apart);
        match before.as_ref().and_then(Loaded::index) {
            Some((_, before)) => tuned.follow(&before.tuned, built, &source, job),
            None => Ok(()),
        }
    }

    fn source<'s>(&self, snapshot: &'s Snapshot) -> MappedVectors<'s> {
        MappedVectors { snapshot, dimensions: usize::from(self.config.dimensions) }
    }

    fn built(
        &self,
        snapshot: &Snapshot,
        rows: &RowSet,
        backend: &IndexBackend,
        job: &Job<'_>,
    ) -> std::result::Result<Option<Built>, IndexError> {
        let (source, metric) = (self.source(snapshot), self.config.metric.kernel());
        Ok(match &backend.for_rows(rows.len()) {
            IndexBackend::None | IndexBackend::Auto | IndexBackend::Aimed { .. } => None,
            IndexBackend::Flat(config) => {
                let index = PackedFlat::build(metric, *config, rows, &source, job)?;
                Some(Built::Packed(index))
            }
            IndexBackend::Hnsw(config) => {
                let before = self.config.index_of(snapshot);
                let alike = match before.as_ref().and_then(Loaded::index) {
                    Some((Built::Hnsw(graph), _)) if graph.config() == config => Some(graph),
                    _ => None,
                };
                let parts = alike.as_slice();
                Some(Built::Hnsw(HnswIndex::merge(metric, parts, rows, &source, *config, job)?))
            }
            IndexBackend::Cascade(config) => {
                let before = self.config.index_of(snapshot);
                let alike = match before.as_ref().and_then(Loaded::index) {
                    Some((Built::Cascade(before), _)) if before.config() == config => {
                        Some(&**before)
                    }
                    _ => None,
                };
                let parts = alike.as_slice();
                let index = CascadeIndex::merge(metric, config, parts, rows, &source, job)?;
                Some(Built::Cascade(Box::new(index)))
            }
            IndexBackend::GravityWell(config) => {
                let is_chosen = *backend == IndexBackend::Auto;
                if let Some(index) = self.extended(snapshot, (config, is_chosen), rows, job)? {
                    return Ok(Some(Built::GravityWell(index)));
                }
                let sample = self.sample.as_deref();
                let index = build_of(sample, (metric, config), rows, &source, job)?;
                let search = search_of(&index, is_chosen, rows, &source, job)?;
                Some(Built::GravityWell(index.with_search(search)))
            }
        })
    }
}

impl Build<'_> {
    /// The inverted file that there is, with the rows that came since in its cells; `None` where
    /// it is another kind, or had half the rows: cells and search are found anew then.
    fn extended(
        &self,
        snapshot: &Snapshot,
        (config, is_chosen): (&IvfConfig, bool),
        rows: &RowSet,
        job: &Job<'_>,
    ) -> std::result::Result<Option<IvfIndex>, IndexError> {
        let loaded = self.config.index_of(snapshot).filter(|_| self.is_apart);
        let Some((Built::GravityWell(before), index)) = loaded.as_ref().and_then(Loaded::index)
        else {
            return Ok(None);
        };
        let is_alike = before.config() == config && index.is_chosen == is_chosen;
        if !is_alike || before.rows().len().saturating_mul(GROWN) <= rows.len() {
            return Ok(None);
        }
        before.extend(rows, &self.source(snapshot), job).map(Some)
    }
}

/// What a search does that is not told otherwise: of an inverted file that nobody asked for what
/// finds enough; of another what was asked for, where anything was, and else the standard, raised
/// where the rows have so little structure that it finds too few.
fn search_of(
    index: &IvfIndex,
    is_chosen: bool,
    rows: &RowSet,
    source: &MappedVectors<'_>,
    job: &Job<'_>,
) -> std::result::Result<IvfSearch, IndexError> {
    let (asked, standard) = (index.config().search, IvfSearch::default());
    if !is_chosen && asked.candidates != standard.candidates {
        return Ok(asked);
    }
    let most = if is_chosen { (TUNED_WORK, TUNED_ON_MIN) } else { (RAISED_WORK, RAISED_ON) };
    let (queries, own) = sample_of(index, rows, source, most)?;
    if queries.is_empty() {
        return Ok(asked);
    }
    let (quiet, all) = (Job { progress: None, ..*job }, Filter::All);
    let of = (&queries[..], &all, source as &dyn VectorSource);
    let sample = synadb_index::Sample::among_rows(index.row_set(), TUNED_K, &own, of, &quiet)?;
    if is_chosen {
        return index.tune_on(&sample, CHOSEN_RECALL).map(|found| found.search);
    }
    let keeps_cells = asked.nprobe != standard.nprobe;
    let found = index.raise_on(&sample, RAISED_RECALL, keeps_cells)?;
    Ok(IvfSearch { nprobe: found.search.nprobe.max(asked.nprobe), ..found.search })
}

/// A piece, asked for or chosen, with a search that finds enough of a sample: as much as its
/// configuration says, else of twice the cells again and again, with more candidates where that
/// helps. To try every number between costs more than to seal.
pub(super) fn tuned_piece(
    mut piece: IvfIndex,
    is_chosen: bool,
    rows: &RowSet,
    source: &MappedVectors<'_>,
    job: &Job<'_>,
) -> std::result::Result<IvfIndex, IndexError> {
    let (queries, own) =
        spread(sample_of(&piece, rows, source, (RAISED_WORK, RAISED_ON))?, PIECE_ON);
    if queries.is_empty() {
        return Ok(piece);
    }
    let (quiet, all) = (Job { progress: None, ..*job }, Filter::All);
    let of = (&queries[..], &all, source as &dyn VectorSource);
    let sample = synadb_index::Sample::among_rows(piece.row_set(), TUNED_K, &own, of, &quiet)?;
    let recall = if is_chosen { CHOSEN_RECALL } else { RAISED_RECALL };
    loop {
        let found = piece.raise_on(&sample, recall, true)?;
        let nprobe = piece.default_search().nprobe;
        piece = piece.with_search(found.search);
        if found.recall >= recall || nprobe >= piece.cells() {
            return Ok(piece);
        }
        let search = piece.config().search;
        piece = piece.with_search(IvfSearch { nprobe: 2 * nprobe.max(1), ..search });
    }
}

/// A piece in the cells of others, searched as they are; `None` where it misses more than chance
/// would have it.
pub(super) fn suited_piece(
    piece: IvfIndex,
    search: IvfSearch,
    is_chosen: bool,
    rows: &RowSet,
    source: &MappedVectors<'_>,
    job: &Job<'_>,
) -> std::result::Result<Option<IvfIndex>, IndexError> {
    let piece = piece.with_search(search);
    let (queries, own) =
        spread(sample_of(&piece, rows, source, (RAISED_WORK, RAISED_ON))?, SUITED_ON);
    let (quiet, all) = (Job { progress: None, ..*job }, Filter::All);
    let of = (&queries[..], &all, source as &dyn VectorSource);
    let sample = synadb_index::Sample::among_rows(piece.row_set(), TUNED_K, &own, of, &quiet)?;
    let wanted = if is_chosen { CHOSEN_RECALL } else { RAISED_RECALL };
    let results = (queries.len() * TUNED_K).max(1) as f64;
    let least = wanted - DEVIATIONS * ((1.0 - wanted) / results).sqrt();
    let found = piece.raise_on(&sample, least, true)?;
    Ok((found.recall >= least).then(|| piece.with_search(found.search)))
}

/// So many of them at most, from the first to the last.
fn spread((queries, own): Queries, most: usize) -> Queries {
    let step = queries.len().div_ceil(most).max(1);
    (queries.into_iter().step_by(step).collect(), own.into_iter().step_by(step).collect())
}

/// Queries, and the rows that they are.
type Queries = (Vec<Query>, Vec<RowId>);

/// Some of the rows, as queries: for so much work, and so many at least.
fn sample_of(
    index: &IvfIndex,
    rows: &RowSet,
    source: &MappedVectors<'_>,
    (work, least): (usize, usize),
) -> std::result::Result<Queries, IndexError> {
    let row = rows.len().saturating_mul(source.dimensions()).max(1);
    let most = (work / row).clamp(least, TUNED_ON);
    let step = (rows.len() / most).max(1);
    let vectors = rows.iter().step_by(step).filter_map(|row| Some((row, source.vector(row)?)));
    vectors.map(|(row, vector)| Ok((Query::new(index.metric(), vector)?, row))).collect()
}

/// The live rows, and those that are not there yet and may come.
fn rows_of(snapshot: &Snapshot) -> (RowSet, RowSet) {
    let end = snapshot.rows_end();
    let (mut live, mut unborn) = (RowSet::with_rows(end), RowSet::new());
    for row in (0..end).map(RowId) {
        if snapshot.is_live(row) {
            live.insert(row);
        } else if snapshot.may_come(row) {
            unborn.insert(row);
        }
    }
    (live, unborn)
}
