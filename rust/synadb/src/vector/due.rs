//! When a store that has its index by itself gets one: the one place where that is decided.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use super::VectorStore;
use super::index::Loaded;
use crate::error::Result;

/// Vectors that no index knows from which on one is due: a scan of so many takes milliseconds.
const ROWS_MIN: usize = 10_000;
/// Vectors for each cell that was asked for, below which most cells would be all but empty.
const ROWS_PER_CELL: usize = 8;
/// In the place of the next look while one is under way.
const BUSY: u32 = u32::MAX;

/// Keeps an eye on how many vectors of a store no index knows.
///
/// An index is due once a store has 10,000 vectors, and eight for each cell, and again when half as
/// many as it knows have come since, 10,000 at least. One that failed or was cancelled is not tried
/// again before as many more have come.
#[derive(Debug)]
pub struct IndexDue {
    /// Number of rows, dead ones included, at which to look again.
    next: AtomicU32,
    /// Number of keys at which to look again: a row may fill a slot that was reserved before.
    next_keys: AtomicUsize,
    /// Whether there was an index at the last look: compaction drops it.
    has_index: AtomicBool,
}

impl Default for IndexDue {
    fn default() -> Self {
        Self {
            next: AtomicU32::new(ROWS_MIN as u32),
            next_keys: AtomicUsize::new(ROWS_MIN),
            has_index: AtomicBool::new(false),
        }
    }
}

/// The turn to build an index, until it is dropped; nobody else gets one of the same [`IndexDue`].
#[derive(Debug)]
pub struct Turn<'a> {
    due: &'a IndexDue,
    next: u32,
    next_keys: usize,
    has_index: bool,
}

impl Turn<'_> {
    /// Says that the index is in place.
    pub fn done(mut self) {
        self.has_index = true;
    }

    /// Has the next look come so many rows or keys behind those of now.
    fn look_after(&mut self, (end, keys): (u32, usize), rows: usize) {
        self.next = after(end, rows);
        self.next_keys = keys.saturating_add(rows);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.due.has_index.store(self.has_index, Ordering::Relaxed);
        self.due.next_keys.store(self.next_keys, Ordering::Relaxed);
        self.due.next.store(self.next, Ordering::Release);
    }
}

impl IndexDue {
    /// The turn to build an index of that kind, where one is due and the handle may write.
    ///
    /// An index of another kind is left alone. Costs next to nothing where none is due.
    ///
    /// # Errors
    /// `Closed`, `ConfigMismatch`.
    pub fn turn(
        &self,
        store: &VectorStore,
        kind: &str,
        cells: Option<usize>,
    ) -> Result<Option<Turn<'_>>> {
        let next = self.next.load(Ordering::Acquire);
        let Some(snapshot) = store.snapshot()?.filter(|_| next != BUSY) else { return Ok(None) };
        let (end, keys) = (snapshot.rows_end(), store.len());
        let is_enough = end >= next || keys >= self.next_keys.load(Ordering::Relaxed);
        let has_index = || {
            let loaded = store.config.index_of(&snapshot);
            loaded.as_ref().and_then(Loaded::index).is_some()
        };
        let was_dropped = self.has_index.load(Ordering::Relaxed) && !has_index();
        if !(is_enough || was_dropped) || store.handle.writable().is_err() {
            return Ok(None);
        }
        let claimed = self.next.compare_exchange(next, BUSY, Ordering::AcqRel, Ordering::Relaxed);
        if claimed.is_err() {
            return Ok(None);
        }
        let mut turn = self.claimed((end, keys), ROWS_MIN);
        let least = ROWS_MIN.max(cells.unwrap_or(0).saturating_mul(ROWS_PER_CELL));
        let (unknown, limit) = match store.index_stats()? {
            Some(stats) => {
                turn.has_index = true;
                let is_ours = stats.kind == kind;
                (if is_ours { stats.tail } else { 0 }, ROWS_MIN.max(stats.rows / 2))
            }
            None => (keys, least),
        };
        if unknown < limit {
            turn.look_after((end, keys), limit - unknown);
            return Ok(None);
        }
        turn.look_after((end, keys), ROWS_MIN.max(keys / 2));
        turn.has_index = false;
        Ok(Some(turn))
    }

    fn claimed(&self, now: (u32, usize), rows: usize) -> Turn<'_> {
        let mut turn = Turn { due: self, next: 0, next_keys: 0, has_index: false };
        turn.look_after(now, rows);
        turn
    }
}

/// So many rows behind `end`.
fn after(end: u32, rows: usize) -> u32 {
    end.saturating_add(u32::try_from(rows).unwrap_or(BUSY)).min(BUSY - 1)
}
