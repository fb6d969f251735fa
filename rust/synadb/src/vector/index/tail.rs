//! The coded tail: a thread of its own codes the rows that came after the part, so that a search
//! compares but the newest in full.
//!
//! A part that is codes itself grows instead. What is coded is put in the place of the index as a
//! whole, so that a search finds every row in one of these: part, pieces, tail, what it scans.

use std::sync::Arc;

use synadb_index::{Filter, IndexError, Job, PackedConfig, PackedFlat, Part};
use synadb_types::{RowId, RowSet};

use super::apart::at_leisure;
use super::{Built, Extent, StoreIndex, Tunings, filter_of, pieces};
use crate::collection::Snapshot;
use crate::config::Terms;
use crate::db::{Engine, Work};
use crate::error::Result;
use crate::vector::source::MappedVectors;
use crate::vector::{StoredConfig, VectorStore};

/// Fewer rows are not worth a block of codes each time: 4,096 of 384 dimensions are scanned in half
/// a millisecond.
const ROWS_MIN: usize = 4096;
/// Rows that are coded before searches get to see the codes: some 25 ms of work.
const ROWS_AT_ONCE: u32 = 4 * ROWS_MIN as u32;
/// Rows are coded once they were scanned so often. To code one costs as much as some ten scans of
/// it; who comes so often comes again, and a stream of rows would pile up meanwhile.
const SCANS: u64 = 4;
/// Shorter vectors are compared in full, codes or not.
const DIMENSIONS_MIN: u16 = 32;

impl StoreIndex {
    /// An index without a tail; `since` are its age and the position that it is visible from.
    pub(super) fn of_part(
        built: Option<Arc<Built>>,
        is_chosen: bool,
        (age, visible): (u64, u64),
        known: Extent,
        bytes: usize,
    ) -> Self {
        Self {
            built,
            is_chosen,
            age,
            visible,
            coded_visible: visible,
            of_part: known.clone(),
            pieces: Vec::new(),
            tail: None,
            known,
            bytes,
            tuned: Arc::default(),
            setback: Arc::default(),
        }
    }

    /// The same index with what is known of it.
    pub(super) fn tuned_as(self, tuned: Tunings) -> Self {
        Self { tuned: Arc::new(tuned), ..self }
    }

    /// The same index once more, for one that is to have something else.
    pub(super) fn shared(&self) -> Self {
        Self {
            built: self.built.clone(),
            of_part: self.of_part.clone(),
            pieces: self.pieces.clone(),
            tail: self.tail.clone(),
            known: self.known.clone(),
            tuned: Arc::clone(&self.tuned),
            setback: Arc::clone(&self.setback),
            ..*self
        }
    }

    /// What is behind the part of an index before this one, but for the rows that this one has in
    /// its part.
    ///
    /// What neither holds is scanned until it is coded, whichever of the two was built of what.
    pub(super) fn with_tail_of(mut self, before: Option<&Self>, snapshot: &Snapshot) -> Self {
        let Some(before) = before.filter(|before| before.known.end > self.known.end) else {
            return self;
        };
        let coded = match (&before.tail, before.built.as_deref()) {
            (Some(tail), _) => Some(tail),
            (None, Some(Built::Packed(part))) if before.pieces.is_empty() => Some(part),
            _ => None,
        };
        // Rows that were there for the part before, and not for this one, may be in no codes.
        let is_in_part = before.tail.is_none() && before.pieces.is_empty();
        let is_all_coded = is_in_part || before.of_part.end <= self.known.end;
        let has_none = coded.is_none() && before.pieces.is_empty();
        if self.built.is_none() || !is_all_coded || has_none {
            return self;
        }
        let end = before.known.end;
        let mut missing = RowSet::range(RowId(self.known.end), end - self.known.end);
        if let Some(Filter::Rows(unborn)) = &self.known.unborn {
            missing.union_with(unborn);
        }
        let pieces = before.pieces.iter().filter_map(|piece| piece.restricted_to(&missing));
        self.pieces = pieces.collect();
        self.tail = coded.map(|coded| coded.restricted_to(&missing));
        self.coded_visible = self.coded_visible.max(before.coded_visible);
        if let Some(tail) = &self.tail {
            missing.subtract(tail.rows());
            self.bytes += tail.bytes();
        }
        self.pieces.iter().for_each(|piece| missing.subtract(&piece.rows()));
        self.known = Extent { end, unborn: filter_of(missing) }.without_passed_over(snapshot);
        self
    }

    /// What it consists of: the part, the files of the pieces and the tail.
    pub(super) fn parts<'a>(&'a self, built: &'a Built) -> impl Iterator<Item = &'a dyn Part> {
        let pieces = self.pieces.iter().map(|piece| piece.file());
        let tail = self.tail.iter().map(|tail| -> &dyn Part { tail });
        std::iter::once(built.part()).chain(pieces).chain(tail)
    }

    /// The rows behind the part that a filter allows.
    pub(in crate::vector) fn prepare_tail(&self, allowed: &RowSet) -> Behind {
        let pieces = self.pieces.iter().map(|piece| piece.prepare(allowed)).collect();
        let tail = match &self.tail {
            Some(tail) => tail.prepare(allowed),
            None => Filter::Rows(RowSet::new()),
        };
        Behind { pieces, tail }
    }

    /// How many rows of the tail are coded.
    pub(super) fn tail_rows(&self) -> usize {
        self.tail.as_ref().map_or(0, |tail| tail.rows().len())
    }
}

/// The rows behind a part that a filter allows.
#[derive(Clone)]
pub(in crate::vector) struct Behind {
    /// Of each piece.
    pub pieces: Vec<Filter>,
    pub tail: Filter,
}

impl Behind {
    pub(in crate::vector) fn filters(&self) -> impl Iterator<Item = &Filter> {
        self.pieces.iter().chain([&self.tail])
    }

    pub(in crate::vector) fn filters_mut(&mut self) -> impl Iterator<Item = &mut Filter> {
        self.pieces.iter_mut().chain([&mut self.tail])
    }
}

impl Extent {
    /// Rows that a search scans beside the index, also those that may never come.
    pub(super) fn rows_behind(&self, snapshot: &Snapshot) -> usize {
        let unborn = match &self.unborn {
            Some(Filter::Rows(rows)) => rows.len(),
            _ => 0,
        };
        self.rows_after(snapshot) + unborn
    }

    /// Those of them that are of a kind; of the rows behind the end that is not asked.
    pub(super) fn rows_there(
        &self,
        snapshot: &Snapshot,
        is_there: impl Fn(RowId) -> bool,
    ) -> usize {
        let there = match &self.unborn {
            Some(Filter::Rows(rows)) => rows.iter().filter(|row| is_there(*row)).count(),
            _ => 0,
        };
        self.rows_after(snapshot) + there
    }

    /// Those of them that can be coded: what a writer that died had reserved stays unborn.
    fn rows_to_code(&self, snapshot: &Snapshot) -> usize {
        self.rows_there(snapshot, |row| !snapshot.is_unborn(row))
    }

    /// As it is, but for rows that will never be born.
    pub(super) fn without_passed_over(mut self, snapshot: &Snapshot) -> Self {
        if let Some(Filter::Rows(rows)) = self.unborn.take() {
            let may_come = |row: &RowId| !snapshot.reader.is_passed_over(row.0);
            self.unborn = filter_of(rows.iter().filter(may_come).collect());
        }
        self
    }

    fn rows_after(&self, snapshot: &Snapshot) -> usize {
        snapshot.rows_end().saturating_sub(self.end) as usize
    }

    /// Looks at some rows more: those that were born, and what is known then.
    pub(super) fn look_on(&self, snapshot: &Snapshot) -> (RowSet, Self) {
        let end = snapshot.rows_end().min(self.end.saturating_add(ROWS_AT_ONCE)).max(self.end);
        let (mut born, mut unborn) = (RowSet::with_rows(end), RowSet::new());
        let mut look = |row| {
            if !snapshot.is_unborn(row) {
                born.insert(row);
            } else if snapshot.may_come(row) {
                unborn.insert(row);
            }
        };
        if let Some(Filter::Rows(rows)) = &self.unborn {
            rows.iter().for_each(&mut look);
        }
        (self.end..end).map(RowId).for_each(&mut look);
        (born, Self { end, unborn: filter_of(unborn) })
    }
}

/// Rows behind an index that are worth a piece of their own, of a store that has an index built from
/// so many vectors on, or never.
fn least_rows(index_threshold: usize) -> usize {
    if index_threshold == 0 { ROWS_MIN } else { ROWS_MIN.min(index_threshold) }
}

impl VectorStore {
    /// Whether rows behind an index are coded.
    pub(super) fn codes_tails(&self) -> bool {
        self.dimensions() >= DIMENSIONS_MIN
    }

    /// Counts the rows that so many searches scanned beside an index, has them coded where it pays,
    /// and what was coded before sealed where it is enough, or pieces copied that lost their rows.
    pub(super) fn count_behind(&self, snapshot: &Snapshot, index: &StoreIndex, scanned: usize) {
        let behind = index.known.rows_behind(snapshot);
        let least = least_rows(self.index_threshold);
        if !self.codes_tails() || index.built.is_none() || !index.is_of_rows() {
            return;
        }
        if (index.is_full(least) || index.has_hollow_piece())
            && !index.setback.puts_off(index.tail_rows())
            && let Ok(engine) = self.handle.open()
        {
            pieces::seal(engine, &self.table, self.config, least);
        }
        if behind < least {
            return;
        }
        let slot = &snapshot.reader.companion;
        if slot.count_scanned_behind(scanned as u64) < SCANS * behind as u64 {
            return;
        }
        slot.forget_scanned_behind();
        if index.known.rows_to_code(snapshot) < least {
            return;
        }
        let Ok(engine) = self.handle.open() else { return };
        let (table, config) = (Arc::clone(&self.table), self.config);
        engine.do_apart(Work::Code, move |engine, terms| {
            let coding = Coding { engine, table: &table, config, least };
            if coding.run(terms).is_err() {
                // Searches go on scanning; after some more it is tried again.
            }
        });
    }
}

/// The coding of what came to a table.
pub(super) struct Coding<'a> {
    pub engine: &'a Engine,
    pub table: &'a str,
    pub config: StoredConfig,
    pub least: usize,
}

impl Coding<'_> {
    /// Codes what is there until little is left.
    pub fn run(&self, terms: &Terms) -> Result<()> {
        while !terms.is_interrupted() {
            let Some(snapshot) = self.config.snapshot(self.engine, self.table)? else { break };
            if !self.step(&snapshot, terms)? {
                break;
            }
        }
        Ok(())
    }

    /// Codes some rows that a snapshot shows; false where too few are left.
    pub fn step(&self, snapshot: &Snapshot, terms: &Terms) -> Result<bool> {
        let Some(loaded) = self.config.index_of(snapshot) else { return Ok(false) };
        let Some(index) = loaded.any().filter(|index| self.has_work(index, snapshot)) else {
            return Ok(false);
        };
        let grown = at_leisure(terms, |job| self.grown(index, snapshot, job))?;
        // Where another index was put there meanwhile, that one is looked at next.
        snapshot.reader.companion.grow(&loaded.0, Box::new(grown));
        Ok(true)
    }

    fn has_work(&self, index: &StoreIndex, snapshot: &Snapshot) -> bool {
        index.built.is_some()
            && index.is_of_rows()
            && index.known.rows_to_code(snapshot) >= self.least
    }

    /// Whether a part of codes takes rows in: one that was asked for always does, another as long
    /// as it is no larger than a piece.
    fn grows(&self, part: &PackedFlat, index: &StoreIndex) -> bool {
        let is_small = part.rows().len() < pieces::rows_of_one(self.least);
        index.pieces.is_empty() && (is_small || !index.is_chosen)
    }

    /// The index with the codes of some rows more.
    fn grown(
        &self,
        index: &StoreIndex,
        snapshot: &Snapshot,
        job: &Job<'_>,
    ) -> std::result::Result<StoreIndex, IndexError> {
        let (rows, known) = index.known.look_on(snapshot);
        let dimensions = usize::from(self.config.dimensions);
        let source = MappedVectors { snapshot, dimensions };
        let coded_visible = index.coded_visible.max(snapshot.visible());
        let mut grown = StoreIndex { known, coded_visible, ..index.shared() };
        match (&index.tail, index.built.as_deref()) {
            (None, Some(Built::Packed(part))) if self.grows(part, index) => {
                let part = part.extended(&rows, &source, job)?;
                grown.bytes = part.bytes();
                grown.of_part = grown.known.clone();
                grown.built = Some(Arc::new(Built::Packed(part)));
            }
            (before, _) => {
                // One bit is enough for what is coded anew before long, and half the work.
                let packed = PackedConfig { refine: false, ..PackedConfig::default() };
                let metric = self.config.metric.kernel();
                let tail = match before {
                    Some(tail) => tail.extended(&rows, &source, job),
                    None => PackedFlat::build(metric, packed, &rows, &source, job),
                }?;
                grown.bytes += tail.bytes() - before.as_ref().map_or(0, PackedFlat::bytes);
                grown.tail = Some(tail);
            }
        }
        Ok(grown)
    }
}
