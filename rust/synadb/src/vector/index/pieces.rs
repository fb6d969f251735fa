//! Pieces: rows that were coded behind the part, in cells, once there are so many that a scan of
//! their codes takes long.
//!
//! A thread of its own seals the tail as a small inverted file in the cells of the piece before, so
//! that a search ranks them once for all; where the data have drifted away from them, in new ones.
//! It has one-bit codes and no second cells: a second cell makes a search a fifth faster and the
//! sealing twice as long, and the pieces are gone when the next index takes their rows in.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use synadb_index::{
    Filter, IndexError, IvfCodes, IvfConfig, IvfIndex, IvfPart, IvfSearch, Job, PackedConfig,
    PackedFlat, Part, Query, Scratch, SharedCells, TopK, VectorSource,
};
use synadb_types::{RowId, RowSet};

use super::apart::at_leisure;
use super::build::{suited_piece, tuned_piece};
use super::{SearchOptions, StoreIndex};
use crate::collection::Snapshot;
use crate::config::Terms;
use crate::db::{Engine, Work};
use crate::error::{Error, Result};
use crate::vector::StoredConfig;
use crate::vector::source::{CommittedVectors, MappedVectors};

/// A tail is sealed with so many times the rows that are coded at least, 131,072 as a rule, which
/// are scanned in 0.3 ms, and sealed in half a second.
const ROWS: usize = 32;
/// And with a share of the rows in pieces that it can't be joined with, so that their number grows
/// slowly where the data drift: each costs a search some 0.1 ms.
const SHARE: usize = 16;
/// Rows of a cell, of up to so many cells.
const ROWS_PER_CELL: usize = 64;
const CELLS: usize = 2048;
/// Rounds of k-means, and rows of a cell that they look at: more make no better cells.
const ITERATIONS: usize = 3;
const SAMPLE_PER_CELL: usize = 32;
/// Cells that are searched for each square root of their number, unless a sample wants more. When
/// there were half as many, 64 of 1,024 were enough for 17 of 24 pieces of 131,072 passages, 52 for
/// 6 of 10.
const PROBED_PER_ROOT: f64 = 2.0;
/// A piece is built in cells of its own where its rows crowd in those of the one before so many times
/// as much as the rows that these were made of.
const CROWDED: f64 = 2.0;
/// Rows that were crowded so much themselves say nothing: most are alike, and in one cell.
const CROWDED_MOST: f64 = 16.0;
/// And where their number asks for so many times the cells.
const OUTGROWN: usize = 2;

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

mod join;

/// Rows in cells, of which a part that was built later may have some.
pub(in crate::vector) struct Piece {
    index: Arc<IvfIndex>,
    /// Rows that no part has.
    kept: Filter,
    /// How many they are.
    rows: usize,
    /// All of them were committed before this moment.
    visible: u64,
    founder: Founder,
    /// Candidates that it was found to need when it was sealed, and of how many rows.
    tried: (usize, usize),
}

/// The rows that cells were made of.
#[derive(Clone, Copy)]
struct Founder {
    /// How much they crowd.
    crowding: f64,
    /// How a piece of about as many rows is searched.
    search: IvfSearch,
}

impl Piece {
    /// That of an index, in the cells of another piece where there is one.
    fn new(index: IvfIndex, first: Option<&Self>, made_of: &Snapshot) -> Self {
        let (rows, visible) = (index.rows().len(), made_of.visible());
        let like = first.filter(|first| are_alike(first.cells(), index.shared_cells()));
        let own = || Founder { crowding: index.crowding(), search: index.default_search() };
        let founder = like.map_or_else(own, |first| first.founder);
        let tried = (index.default_search().candidates, rows);
        Self { index: Arc::new(index), kept: Filter::All, rows, visible, founder, tried }
    }

    fn cells(&self) -> Option<&Arc<SharedCells>> {
        self.index.shared_cells()
    }

    /// How many rows are found in it, those that died since included.
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// Its rows.
    pub(super) fn rows(&self) -> RowSet {
        self.kept.rows().unwrap_or(self.index.rows()).clone()
    }

    /// The piece with those of its rows alone, `None` where it has none of them.
    pub(super) fn restricted_to(self: &Arc<Self>, keep: &RowSet) -> Option<Arc<Self>> {
        let mut kept = self.rows();
        kept.intersect_with(keep);
        if kept.len() == self.rows {
            return Some(Arc::clone(self));
        }
        let (index, rows) = (Arc::clone(&self.index), kept.len());
        (rows > 0).then(|| Arc::new(Self { index, kept: Filter::Rows(kept), rows, ..**self }))
    }

    /// Those of its rows that a filter allows.
    pub(super) fn prepare(&self, allowed: &RowSet) -> Filter {
        match self.kept.rows() {
            None => self.index.prepare(allowed),
            Some(kept) => {
                let mut rows = kept.clone();
                rows.intersect_with(allowed);
                self.index.prepare(&rows)
            }
        }
    }

    /// Its file, with rows in it that it lost since.
    pub(super) fn file(&self) -> &dyn Part {
        &*self.index
    }

    /// How it is searched for one of several queries: all of it that a filter allows, where there is
    /// one.
    fn part<'a>(
        &'a self,
        effort: Effort,
        k: usize,
        allowed: Option<&'a Filter>,
        (source, committed): (&'a MappedVectors<'a>, &'a CommittedVectors<'a>),
    ) -> IvfPart<'a> {
        let is_thorough = effort.is_aimed || allowed.is_some();
        let search = effort.of(self.index.default_search(), is_thorough.then_some(k));
        let is_older = source.snapshot.visible() < self.visible;
        let source: &dyn VectorSource = if is_older { source } else { committed };
        IvfPart { index: &self.index, search, filter: allowed.unwrap_or(&self.kept), source }
    }
}

fn are_alike(cells: Option<&Arc<SharedCells>>, others: Option<&Arc<SharedCells>>) -> bool {
    cells.zip(others).is_some_and(|(cells, others)| Arc::ptr_eq(cells, others))
}

/// Offers the nearest rows of pieces to each query, of those that filters allow where there are some.
pub(super) fn search_pieces(
    pieces: &[Arc<Piece>],
    effort: Effort,
    queries: &[Query],
    allowed: Option<&[Filter]>,
    source: &MappedVectors<'_>,
    scratch: &mut Scratch,
    tops: &mut [TopK],
) -> std::result::Result<(), IndexError> {
    let committed = CommittedVectors(source);
    let mut parts = Vec::with_capacity(pieces.len());
    for (query, top) in queries.iter().zip(tops) {
        parts.clear();
        parts.extend(pieces.iter().enumerate().map(|(at, piece)| {
            let allowed = allowed.and_then(|allowed| allowed.get(at));
            piece.part(effort, top.k(), allowed, (source, &committed))
        }));
        IvfIndex::search_several(&parts, query, scratch, top)?;
    }
    Ok(())
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

    /// Those of them that are in other cells than the newest, which are never joined with it.
    fn rows_in_older_cells(&self) -> usize {
        self.piece_rows() - self.in_newest_cells().map(|piece| piece.len()).sum::<usize>()
    }

    /// Bytes that it takes: cells that pieces share count once.
    pub(super) fn bytes(&self) -> usize {
        let mut cells: Vec<&Arc<SharedCells>> = Vec::new();
        for piece in &self.pieces {
            let is_new = !cells.iter().any(|other| are_alike(Some(other), piece.cells()));
            cells.extend(piece.cells().filter(|_| is_new));
        }
        let pieces = self.pieces.iter().map(|piece| piece.index.memory_bytes());
        let cells = cells.iter().map(|cells| cells.memory_bytes());
        self.bytes + pieces.sum::<usize>() + cells.sum::<usize>()
    }

    /// Whether the tail has as many rows as make a piece, where `least` are coded.
    pub(super) fn is_full(&self, least: usize) -> bool {
        self.tail_rows() >= self.next_rows(least)
    }

    /// The rows that make the next piece.
    fn next_rows(&self, least: usize) -> usize {
        rows_of_one(least).max(self.rows_in_older_cells() / SHARE)
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
        let bytes = self.bytes + rest.as_ref().map_or(0, PackedFlat::bytes);
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

/// How a piece of so many rows is built that has cells of its own.
fn piece_config(rows: usize) -> IvfConfig {
    let cells = (rows / ROWS_PER_CELL).clamp(1, CELLS);
    let nprobe = ((cells as f64).sqrt() * PROBED_PER_ROOT).ceil() as usize;
    IvfConfig {
        cells: Some(cells),
        iterations: ITERATIONS,
        sample_per_cell: SAMPLE_PER_CELL,
        second: false,
        codes: IvfCodes::Bits,
        search: IvfSearch { nprobe, ..IvfSearch::default() },
        ..IvfConfig::default()
    }
}

/// The sealing of what is coded of a table.
struct Sealing<'a> {
    engine: &'a Engine,
    table: &'a str,
    config: StoredConfig,
    least: usize,
}

impl Sealing<'_> {
    /// Joins pieces and seals until the tail is no longer full; where that fails searches go on with
    /// the tail.
    fn run(&self, terms: &Terms) {
        while !terms.is_interrupted() {
            // Without a snapshot, or while the store is closed, every search fails, and says why.
            if self.join(terms).is_err() {
                break;
            }
            let Ok(Some(snapshot)) = self.snapshot() else { break };
            let sealed = self.seal_one(&snapshot, terms);
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

    /// Makes a piece; false where the tail is not full, or no index is left.
    fn seal_one(&self, snapshot: &Snapshot, terms: &Terms) -> Result<bool> {
        let Some(piece) = self.next_of(snapshot, terms)? else { return Ok(false) };
        self.put(&Arc::new(piece), snapshot, terms)
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
        let rows: RowSet = rows.iter().filter(|row| !snapshot.is_unborn(*row)).collect();
        if rows.is_empty() {
            return Ok(None);
        }
        let (is_chosen, first) = (index.is_chosen, index.in_newest_cells().next().cloned());
        drop(loaded);
        let index = at_leisure(terms, |job| {
            self.sealed(&rows, first.as_deref(), is_chosen, snapshot, job)
        })?;
        Ok(Some(Piece::new(index, first.as_deref(), snapshot)))
    }

    /// An inverted file of some rows: in the cells of the newest piece, of which `first` was the
    /// first, or where they do not suit the rows in new ones.
    fn sealed(
        &self,
        rows: &RowSet,
        first: Option<&Piece>,
        is_chosen: bool,
        snapshot: &Snapshot,
        job: &Job<'_>,
    ) -> std::result::Result<IvfIndex, IndexError> {
        let source = MappedVectors { snapshot, dimensions: usize::from(self.config.dimensions) };
        let config = piece_config(rows.len());
        if let Some(first) = first
            && let Some(cells) = first.cells()
            && config.cells_for(rows.len()) < OUTGROWN * first.index.cells().max(1)
        {
            let index = IvfIndex::build_in(cells, rows, &source, job)?;
            let own = first.founder.crowding.min(CROWDED_MOST);
            let is_crowded = index.crowding() > CROWDED * own;
            let search = first.founder.search;
            let suited = || suited_piece(index, search, is_chosen, rows, &source, job);
            if !is_crowded && let Some(index) = suited()? {
                return Ok(index);
            }
        }
        let cells = SharedCells::of(self.config.metric.kernel(), &config, rows, &source, job)?;
        let index = IvfIndex::build_in(&Arc::new(cells), rows, &source, job)?;
        tuned_piece(index, is_chosen, rows, &source, job)
    }

    /// Puts a piece behind what there is by now; false where the rows have other numbers, or no
    /// index is left.
    fn put(&self, piece: &Arc<Piece>, made_of: &Snapshot, terms: &Terms) -> Result<bool> {
        self.replace_with(made_of, terms, |index| index.with_piece(piece))
    }

    /// Puts what an index becomes in its place; false where its rows have other numbers than they
    /// had in a snapshot, or no index is left.
    fn replace_with(
        &self,
        made_of: &Snapshot,
        terms: &Terms,
        grown: impl Fn(&StoreIndex) -> Option<StoreIndex>,
    ) -> Result<bool> {
        while !terms.is_interrupted() {
            let Some(snapshot) = self.snapshot()? else { break };
            if !Arc::ptr_eq(&snapshot.reader, &made_of.reader) {
                break;
            }
            let Some(loaded) = self.config.index_of(&snapshot) else { break };
            let Some(index) = loaded.any().filter(|index| index.built.is_some()) else { break };
            let Some(grown) = grown(index) else { return Ok(true) };
            // Where another index was put there meanwhile, it is done to that one.
            if snapshot.reader.companion.grow(&loaded.0, Box::new(grown)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
