//! The coded tail: a thread of its own codes the rows that came after the part, so that a search
//! compares but the newest in full.
//!
//! A part that is codes itself grows instead. What is coded is put in the place of the index as a
//! whole, so that a search finds every row in one of the three: part, tail, what it scans.

use std::sync::Arc;

use synadb_index::{Filter, PackedConfig, PackedFlat, Part};
use synadb_types::{RowId, RowSet};

use super::{Built, Extent, StoreIndex, Tunings, filter_of};
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
        let (of_part, tuned) = (known.clone(), Arc::default());
        Self { built, is_chosen, age, visible, of_part, tail: None, known, bytes, tuned }
    }

    /// The same index with what is known of it.
    pub(super) fn tuned_as(self, tuned: Tunings) -> Self {
        Self { tuned: Arc::new(tuned), ..self }
    }

    /// The tail of an index before this one, but for the rows that this one has in its part.
    ///
    /// What neither holds is scanned until it is coded, whichever of the two was built of what.
    pub(super) fn with_tail_of(mut self, before: Option<&Self>) -> Self {
        let Some(before) = before.filter(|before| before.known.end > self.known.end) else {
            return self;
        };
        let part = before.built.as_deref();
        let coded = match (&before.tail, part) {
            (Some(tail), _) | (None, Some(Built::Packed(tail))) => tail,
            _ => return self,
        };
        // Rows that were there for the part before, and not for this one, may be in no codes.
        let is_all_coded = before.tail.is_none() || before.of_part.end <= self.known.end;
        if self.built.is_none() || !is_all_coded {
            return self;
        }
        let end = before.known.end;
        let mut missing = RowSet::range(RowId(self.known.end), end - self.known.end);
        if let Some(Filter::Rows(unborn)) = &self.known.unborn {
            missing.union_with(unborn);
        }
        let tail = coded.restricted_to(&missing);
        let unborn: RowSet = missing.iter().filter(|row| !tail.rows().contains(*row)).collect();
        self.known = Extent { end, unborn: filter_of(unborn) };
        self.bytes += tail.bytes();
        self.tail = Some(tail);
        self
    }

    /// The rows of the tail that a filter allows.
    pub(in crate::vector) fn prepare_tail(&self, allowed: &RowSet) -> Filter {
        match &self.tail {
            Some(tail) => tail.prepare(allowed),
            None => Filter::Rows(RowSet::new()),
        }
    }

    /// How many rows are coded behind the part.
    pub(super) fn tail_rows(&self) -> usize {
        self.tail.as_ref().map_or(0, |tail| tail.rows().len())
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

    fn rows_after(&self, snapshot: &Snapshot) -> usize {
        snapshot.rows_end().saturating_sub(self.end) as usize
    }

    /// Looks at some rows more: those that were born, and what is known then.
    fn look_on(&self, snapshot: &Snapshot) -> (RowSet, Self) {
        let end = snapshot.rows_end().min(self.end.saturating_add(ROWS_AT_ONCE)).max(self.end);
        let (mut born, mut unborn) = (RowSet::with_rows(end), RowSet::new());
        let mut look = |row| {
            let _ = if snapshot.is_unborn(row) { unborn.insert(row) } else { born.insert(row) };
        };
        if let Some(Filter::Rows(rows)) = &self.unborn {
            rows.iter().for_each(&mut look);
        }
        (self.end..end).map(RowId).for_each(&mut look);
        (born, Self { end, unborn: filter_of(unborn) })
    }
}

impl VectorStore {
    /// Whether rows behind an index are coded.
    pub(super) fn codes_tails(&self) -> bool {
        self.dimensions() >= DIMENSIONS_MIN
    }

    /// Counts the rows that so many searches scanned beside an index, and has them coded where it
    /// pays.
    pub(super) fn count_behind(&self, snapshot: &Snapshot, index: &StoreIndex, scanned: usize) {
        let behind = index.known.rows_behind(snapshot);
        let least = ROWS_MIN.min(self.index_threshold.max(1));
        if behind < least || !self.codes_tails() || index.built.is_none() || !index.is_of_rows() {
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
struct Coding<'a> {
    engine: &'a Engine,
    table: &'a str,
    config: StoredConfig,
    least: usize,
}

impl Coding<'_> {
    /// Codes what is there until little is left.
    fn run(&self, terms: &Terms) -> Result<()> {
        while !terms.is_interrupted() {
            let Some(snapshot) = self.config.snapshot(self.engine, self.table)? else { break };
            let Some(loaded) = self.config.index_of(&snapshot) else { break };
            let Some(index) = loaded.any().filter(|index| self.has_work(index, &snapshot)) else {
                break;
            };
            let grown = self.grown(index, &snapshot)?;
            // Where another index was put there meanwhile, that one is looked at next.
            snapshot.reader.companion.grow(&loaded.0, Box::new(grown));
        }
        Ok(())
    }

    fn has_work(&self, index: &StoreIndex, snapshot: &Snapshot) -> bool {
        index.built.is_some()
            && index.is_of_rows()
            && index.known.rows_to_code(snapshot) >= self.least
    }

    /// The index with the codes of some rows more.
    fn grown(&self, index: &StoreIndex, snapshot: &Snapshot) -> Result<StoreIndex> {
        let (rows, known) = index.known.look_on(snapshot);
        let dimensions = usize::from(self.config.dimensions);
        let source = MappedVectors { snapshot, dimensions };
        let failure = crate::vector::search::index_failure;
        let mut grown = StoreIndex {
            built: index.built.clone(),
            of_part: index.of_part.clone(),
            tail: index.tail.clone(),
            tuned: Arc::clone(&index.tuned),
            known,
            ..*index
        };
        match (&index.tail, index.built.as_deref()) {
            (None, Some(Built::Packed(part))) => {
                let part = part.extended(&rows, &source, 1).map_err(failure)?;
                grown.bytes = part.bytes();
                grown.of_part = grown.known.clone();
                grown.built = Some(Arc::new(Built::Packed(part)));
            }
            (before, _) => {
                // One bit is enough for what is coded anew before long, and half the work.
                let packed = PackedConfig { refine: false, ..PackedConfig::default() };
                let metric = self.config.metric.kernel();
                let tail = match before {
                    Some(tail) => tail.extended(&rows, &source, 1),
                    None => PackedFlat::build(metric, packed, &rows, &source, 1),
                };
                let tail = tail.map_err(failure)?;
                grown.bytes += tail.bytes() - before.as_ref().map_or(0, PackedFlat::bytes);
                grown.tail = Some(tail);
            }
        }
        Ok(grown)
    }
}
