//! Pieces: rows that were coded behind the part, in cells, once there are so many that a scan of
//! their codes takes long.
//!
//! A thread of its own seals the tail as a small inverted file with centroids of its own, so that
//! nothing has to be known of how the data drift. It has one-bit codes and no second cells: a
//! second cell makes a search a fifth faster and the sealing twice as long, and the pieces are gone
//! when the next index takes their rows in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use synadb_index::{
    Filter, IndexError, IvfCodes, IvfConfig, IvfIndex, IvfSearch, Job, PackedConfig, PackedFlat,
    Part, Query, Scratch, TopK, VectorSource,
};
use synadb_types::{RowId, RowSet};

use super::build::tuned_piece;
use super::{SearchOptions, StoreIndex};
use crate::collection::Snapshot;
use crate::config::Terms;
use crate::db::{Engine, Work};
use crate::error::{Error, Result};
use crate::vector::StoredConfig;
use crate::vector::search::index_failure;
use crate::vector::source::{CommittedVectors, MappedVectors};

/// A tail is sealed with so many times the rows that are coded at least, 131,072 as a rule, which
/// are scanned in 0.3 ms, and sealed in a third of a second.
const ROWS: usize = 32;
/// And with a share of the rows in the pieces before it, so that their number grows slowly: a piece
/// costs a search some 20 us whatever it holds, a row of the tail 2 ns.
const SHARE: usize = 16;
/// Rows of a cell, of up to so many cells, and the share of them that is searched unless a sample
/// wants more. Of 131,072 vectors of passages .97 of the ten nearest are found so, in a third of
/// the time of a scan of the codes; with twice the cells sealing takes a third longer.
const ROWS_PER_CELL: usize = 512;
const CELLS: usize = 256;
const PROBED: usize = 6;
/// Rounds of k-means, and rows of a cell that they look at: more make no better cells.
const ITERATIONS: usize = 3;
const SAMPLE_PER_CELL: usize = 32;

/// A tail that could not be sealed is tried again once it has grown by such a part of what it was:
/// a row that is damaged stays so, and each attempt takes as long as a sealing.
const GROWN_BY: usize = 4;

/// What the last sealing failed for, if it did; shared by the indexes that grow out of one.
#[derive(Default)]
pub(super) struct Setback(ArcSwapOption<Failed>);

struct Failed {
    reason: String,
    /// Rows that the tail had.
    rows: usize,
}

impl Setback {
    fn note(&self, error: &Error, rows: usize) {
        let reason = format!("{rows} coded rows: {error}");
        self.0.store(Some(Arc::new(Failed { reason, rows })));
    }

    fn is_over(&self) {
        self.0.store(None);
    }

    /// Whether a tail of so many rows has not grown enough since to be tried again.
    pub(super) fn puts_off(&self, rows: usize) -> bool {
        self.0.load().as_ref().is_some_and(|failed| rows < failed.rows + failed.rows / GROWN_BY)
    }

    pub(super) fn reason(&self) -> Option<String> {
        self.0.load().as_ref().map(|failed| failed.reason.clone())
    }
}

/// Rows in cells of their own, of which a part that was built later may have some.
pub(in crate::vector) struct Piece {
    index: Arc<IvfIndex>,
    /// Rows that no part has.
    kept: Filter,
    /// How many they are.
    rows: usize,
    /// All of them were committed before this moment.
    visible: u64,
}

impl Piece {
    fn new(index: IvfIndex, made_of: &Snapshot) -> Self {
        let (rows, visible) = (index.rows().len(), made_of.visible());
        Self { index: Arc::new(index), kept: Filter::All, rows, visible }
    }

    /// How many rows are found in it, those that died since included.
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.index.memory_bytes()
    }

    /// Its rows.
    pub(super) fn rows(&self) -> RowSet {
        match &self.kept {
            Filter::All => self.index.rows().clone(),
            Filter::Rows(rows) => rows.clone(),
        }
    }

    /// The piece with those of its rows alone, `None` where it has none of them.
    pub(super) fn restricted_to(self: &Arc<Self>, keep: &RowSet) -> Option<Arc<Self>> {
        let mut kept = self.rows();
        kept.intersect_with(keep);
        if kept.len() == self.rows {
            return Some(Arc::clone(self));
        }
        let (index, rows, visible) = (Arc::clone(&self.index), kept.len(), self.visible);
        (rows > 0).then(|| Arc::new(Self { index, kept: Filter::Rows(kept), rows, visible }))
    }

    /// Those of its rows that a filter allows.
    pub(super) fn prepare(&self, allowed: &RowSet) -> Filter {
        let mut rows = self.rows();
        rows.intersect_with(allowed);
        Filter::Rows(rows)
    }

    /// Offers the nearest rows of it, of those that a filter allows where there is one.
    pub(super) fn search(
        &self,
        effort: Effort,
        query: &Query,
        allowed: Option<&Filter>,
        source: &MappedVectors<'_>,
        scratch: &mut Scratch,
        top: &mut TopK,
    ) -> std::result::Result<(), IndexError> {
        let is_thorough = effort.is_aimed || allowed.is_some();
        let search = effort.of(self.index.default_search(), is_thorough.then(|| top.k()));
        let filter = allowed.unwrap_or(&self.kept);
        let committed = CommittedVectors(source);
        let is_older = source.snapshot.visible() < self.visible;
        let source: &dyn VectorSource = if is_older { source } else { &committed };
        self.index.search_with(search, query, filter, source, scratch, top)
    }
}

/// How much further than by default a search looks: who wants more of the part wants more of the
/// pieces.
#[derive(Clone, Copy)]
pub(super) struct Effort {
    times: f64,
    /// Rows that are compared in full, at least.
    candidates: usize,
    /// Whether a recall is to be reached.
    is_aimed: bool,
}

impl Effort {
    /// That of a search of so many cells, or so long a queue, where the other number is the usual
    /// one.
    pub(super) fn new((looked_at, usual): (usize, usize), options: &SearchOptions) -> Self {
        let times = (looked_at as f64 / usual.max(1) as f64).max(1.0);
        let (candidates, is_aimed) = (options.candidates, options.target_recall.is_some());
        Self { times, candidates: candidates.unwrap_or(0), is_aimed }
    }

    /// What a piece is searched with; of all cells, as the codes of the tail are, where `k` rows
    /// are to be found thoroughly: those that a filter allows lie further away than the nearest
    /// cells, and no piece is tuned to a recall that was asked for.
    fn of(self, search: IvfSearch, thoroughly: Option<usize>) -> IvfSearch {
        let times = |count: usize| (count as f64 * self.times) as usize;
        let candidates = times(search.candidates).max(self.candidates);
        let Some(k) = thoroughly else {
            return IvfSearch { nprobe: times(search.nprobe), candidates, ..search };
        };
        let least = PackedConfig::default().candidates_for(k);
        IvfSearch { nprobe: usize::MAX, candidates: candidates.max(least), ..search }
    }
}

impl StoreIndex {
    /// How many rows are in the pieces.
    pub(super) fn piece_rows(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum()
    }

    /// Whether the tail has as many rows as make a piece, where `least` are coded.
    pub(super) fn is_full(&self, least: usize) -> bool {
        self.tail_rows() >= self.next_rows(least)
    }

    /// The rows that make the next piece.
    fn next_rows(&self, least: usize) -> usize {
        rows_of_one(least).max(self.piece_rows() / SHARE)
    }

    /// The first rows of the tail, those of one piece: where sealing is late the others wait, for
    /// its cells would grow with it.
    fn next_piece(&self, least: usize) -> Option<RowSet> {
        let rows = self.tail.as_ref().filter(|_| self.is_full(least))?.rows();
        let last = rows.iter().nth(self.next_rows(least).max(1) - 1)?;
        let mut first = RowSet::range(RowId(0), last.0 + 1);
        first.intersect_with(rows);
        Some(first)
    }

    /// The index with a piece of what its tail still has of those rows.
    fn with_piece(&self, piece: &Arc<Piece>) -> Option<Self> {
        let tail = self.tail.as_ref()?;
        let piece = piece.restricted_to(tail.rows())?;
        let mut rest = tail.rows().clone();
        rest.subtract(&piece.rows());
        let rest = (!rest.is_empty()).then(|| tail.restricted_to(&rest));
        let bytes = self.bytes + piece.bytes() + rest.as_ref().map_or(0, PackedFlat::bytes);
        let mut pieces = self.pieces.clone();
        pieces.push(piece);
        Some(Self {
            pieces,
            tail: rest,
            bytes: bytes.saturating_sub(tail.bytes()),
            ..self.shared()
        })
    }
}

/// Has the tail of a table sealed where it is full.
pub(super) fn seal(engine: &Engine, table: &Arc<str>, config: StoredConfig, least: usize) {
    let table = Arc::clone(table);
    engine.do_apart(Work::Seal, move |engine, terms| {
        Sealing { engine, table: &table, config, least }.run(terms);
    });
}

/// The rows that make a piece where `least` are coded.
pub(super) fn rows_of_one(least: usize) -> usize {
    least.saturating_mul(ROWS)
}

/// The sealing of what is coded of a table.
struct Sealing<'a> {
    engine: &'a Engine,
    table: &'a str,
    config: StoredConfig,
    least: usize,
}

impl Sealing<'_> {
    /// Seals until the tail is no longer full; where that fails searches go on with the tail.
    fn run(&self, terms: &Terms) {
        while !terms.is_interrupted() {
            // Without a snapshot every search fails, and says why.
            let Ok(Some(snapshot)) = self.snapshot() else { break };
            let sealed = self.next_of(&snapshot, terms).and_then(|piece| match piece {
                Some(piece) => self.put(&Arc::new(piece), &snapshot, terms),
                None => Ok(false),
            });
            let goes_on = matches!(sealed, Ok(true));
            if let Some(loaded) = self.config.index_of(&snapshot)
                && let Some(index) = loaded.any()
            {
                match sealed {
                    Ok(true) => index.setback.is_over(),
                    Ok(false) => {}
                    Err(_) if terms.is_interrupted() => {}
                    Err(error) => index.setback.note(&error, index.tail_rows()),
                }
            }
            if !goes_on {
                break;
            }
        }
    }

    fn snapshot(&self) -> Result<Option<Arc<Snapshot>>> {
        self.config.snapshot(self.engine, self.table)
    }

    /// The next piece, of what a snapshot shows; `None` where the tail is not full.
    fn next_of(&self, snapshot: &Snapshot, terms: &Terms) -> Result<Option<Piece>> {
        let Some(loaded) = self.config.index_of(snapshot) else { return Ok(None) };
        let Some(index) = loaded.any() else { return Ok(None) };
        let Some(rows) = index.next_piece(self.least) else { return Ok(None) };
        // What was coded of a later moment than this one is not there yet.
        let rows = rows.iter().filter(|row| !snapshot.is_unborn(*row)).collect();
        let is_chosen = index.is_chosen;
        drop(loaded);
        let index = self.sealed(&rows, is_chosen, snapshot, terms).map_err(index_failure)?;
        Ok(Some(Piece::new(index, snapshot)))
    }

    /// An inverted file of some rows.
    fn sealed(
        &self,
        rows: &RowSet,
        is_chosen: bool,
        snapshot: &Snapshot,
        terms: &Terms,
    ) -> std::result::Result<IvfIndex, IndexError> {
        let source = MappedVectors { snapshot, dimensions: usize::from(self.config.dimensions) };
        let cancel = AtomicBool::new(false);
        let tell = |_| cancel.store(terms.is_interrupted(), Ordering::Relaxed);
        let job = Job { threads: 1, cancel: Some(&cancel), progress: Some(&tell) };
        let cells = (rows.len() / ROWS_PER_CELL).clamp(1, CELLS);
        let search = IvfSearch { nprobe: cells.div_ceil(PROBED), ..IvfSearch::default() };
        let config = IvfConfig {
            cells: Some(cells),
            iterations: ITERATIONS,
            sample_per_cell: SAMPLE_PER_CELL,
            second: false,
            codes: IvfCodes::Bits,
            search,
            ..IvfConfig::default()
        };
        let index = IvfIndex::build(self.config.metric.kernel(), &config, rows, &source, &job)?;
        tuned_piece(index, is_chosen, rows, &source, &job)
    }

    /// Puts a piece behind what there is by now; false where the rows have other numbers, or no
    /// index is left.
    fn put(&self, piece: &Arc<Piece>, made_of: &Snapshot, terms: &Terms) -> Result<bool> {
        while !terms.is_interrupted() {
            let Some(snapshot) = self.snapshot()? else { break };
            if !Arc::ptr_eq(&snapshot.reader, &made_of.reader) {
                break;
            }
            let Some(loaded) = self.config.index_of(&snapshot) else { break };
            let Some(index) = loaded.any().filter(|index| index.built.is_some()) else { break };
            let Some(grown) = index.with_piece(piece) else { return Ok(true) };
            // Where another index was put there meanwhile, that one gets the piece.
            if snapshot.reader.companion.grow(&loaded.0, Box::new(grown)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::distance::DistanceMetric;
    use crate::vector::{HnswConfig, IndexBackend, VectorConfig, VectorStore};

    const WIDTH: u16 = 32;
    /// From so many rows on the store codes, long before it seals.
    const LEAST: usize = 300;
    /// Rows of the part, with those behind it that the snapshot shows, and all.
    const PART: u32 = 500;
    const SEEN: u32 = 900;
    const ALL: u32 = 1700;

    fn row(number: u32) -> Vec<f32> {
        (0..u32::from(WIDTH))
            .map(|axis| ((number * 31 + 7) as f32 * (axis + 1) as f32).sin())
            .collect()
    }

    fn insert(store: &VectorStore, numbers: std::ops::Range<u32>) {
        let rows: Vec<f32> = numbers.clone().flat_map(row).collect();
        let keys: Vec<String> = numbers.map(|number| number.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        store.insert_rows(&keys, &rows).expect("inserts");
    }

    /// The key of the nearest row and its distance, as of a snapshot.
    fn nearest(store: &VectorStore, snapshot: &Arc<Snapshot>, number: u32) -> (String, f32) {
        let options = SearchOptions { ef_search: Some(1000), ..SearchOptions::default() };
        let snapshot = Some(Arc::clone(snapshot));
        let found = store.search_hits_in(snapshot, &row(number), 2, &options).expect("searches");
        let [first, second] = &found[0][..] else { panic!("two are there: {}", found[0].len()) };
        assert_ne!(first.key, second.key);
        (first.key.clone(), first.score)
    }

    #[test]
    fn rows_that_were_coded_of_a_later_moment_are_in_no_piece_of_an_earlier_one() {
        let folder = tempfile::tempdir().expect("a directory");
        let (dimensions, metric) = (WIDTH, DistanceMetric::Euclidean);
        let config =
            VectorConfig { dimensions, metric, index_threshold: LEAST, ..VectorConfig::default() };
        let store = VectorStore::new(folder.path().join("a.db"), config).expect("opens");
        insert(&store, 0..PART);
        let graph = IndexBackend::Hnsw(HnswConfig::with_m(16));
        store.build_index_with(&graph, 1, &mut |_, _| true).expect("builds");
        insert(&store, PART..SEEN);
        let before = store.snapshot().expect("open").expect("rows");
        insert(&store, SEEN..ALL);
        let stats = || store.index_stats().expect("open").expect("built");
        let began = Instant::now();
        while stats().coded < (ALL - PART) as usize {
            assert!(began.elapsed() < Duration::from_secs(60), "{:?}", stats());
            store.search(&row(0), 1).expect("searches");
        }
        // The first rows of the tail, of which the snapshot shows but some.
        let engine = store.handle.open().expect("open");
        let (table, config, least) = (&*store.table, store.config, 20);
        assert!(rows_of_one(least) > (SEEN - PART) as usize);
        let sealing = Sealing { engine, table, config, least };
        let terms = &store.handle.terms;
        let piece = sealing.next_of(&before, terms).expect("seals").expect("the tail is full");
        let sealed: Vec<u32> = piece.rows().iter().map(|row| row.0).collect();
        assert_eq!(sealed, (PART..SEEN).collect::<Vec<_>>());
        assert!(sealing.put(&Arc::new(piece), &before, terms).expect("is put"));
        let found = stats();
        assert_eq!((found.pieces, found.coded), (1, (ALL - PART) as usize), "{found:?}");
        let now = store.snapshot().expect("open").expect("rows");
        for number in 0..ALL {
            assert_eq!(nearest(&store, &now, number), (number.to_string(), 0.0));
            let (key, distance) = nearest(&store, &before, number);
            let is_shown = number < SEEN;
            assert_eq!((key == number.to_string(), distance == 0.0), (is_shown, is_shown));
        }
    }
}
