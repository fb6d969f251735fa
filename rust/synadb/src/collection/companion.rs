//! What a component keeps beside the rows of a table, an index: checkpoints save it with them.
//!
//! Searches take no lock while it is there. The swap is checked by loom, with `make loom`, over all
//! orders in which the loads, stores and locks of a few threads can take place.

#[cfg(loom)]
#[path = "companion_loom.rs"]
mod orders;

use std::any::Any;
use std::sync::{Arc, PoisonError};

#[cfg(not(loom))]
use arc_swap::{ArcSwapOption, Guard};
#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard};
#[cfg(loom)]
use orders::{ArcSwapOption, Guard};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::{Mutex, MutexGuard};
use synadb_storage::Result;

use crate::sections::{Saved, SectionWriter, TableSections};

/// Sections of this kind and above are a companion's; the first begins with its age.
pub(crate) const FIRST_KIND: u32 = 16;

/// Something that a component keeps beside the rows of a generation.
pub(crate) trait Companion: Any + Send + Sync {
    /// Sequence number as of which it was made: of two the later one is kept.
    fn age(&self) -> u64;

    /// Hands out its sections, the first one of kind [`FIRST_KIND`] and beginning with its age.
    fn export(&self, put: &mut dyn FnMut(u32, &[u8]) -> Result<()>) -> Result<()>;

    /// Says that what was exported last is in its place.
    fn keep_as_saved(&self) {}
}

/// Shared by the searches that use it.
pub(crate) type SharedCompanion = Arc<Box<dyn Companion>>;

/// A companion that was saved.
#[derive(Default)]
struct Pending {
    sections: Vec<(u32, Saved)>,
    /// What there was before, where it was in use: it may know rows that the saved one does not.
    before: Option<SharedCompanion>,
}

/// Place for a companion: one that was made, or one that was saved and is opened when it is needed.
#[derive(Default)]
pub(crate) struct CompanionSlot {
    current: ArcSwapOption<Box<dyn Companion>>,
    saved: Mutex<Pending>,
    /// Whether something may be in `saved`: searches without an index take no lock.
    has_saved: AtomicBool,
    /// Rows that were scanned for want of a companion that knows them.
    scanned: AtomicU64,
    /// Rows that there were when their count began.
    scanned_from: AtomicU32,
    /// The same since somebody saw to it that what the companion knows grows.
    scanned_behind: AtomicU64,
}

impl CompanionSlot {
    /// The companion; `open` makes it of its saved sections, with what there was before them,
    /// `None` where they are no good.
    pub fn get(
        &self,
        open: impl FnOnce(&[(u32, Saved)], Option<&SharedCompanion>) -> Option<Box<dyn Companion>>,
    ) -> Option<SharedCompanion> {
        if let Some(current) = Guard::into_inner(self.current.load()) {
            return Some(current);
        }
        if !self.has_saved.load(Ordering::Acquire) {
            return self.current.load_full();
        }
        let mut saved = self.saved();
        if !saved.sections.is_empty() {
            let Pending { sections, before } = std::mem::take(&mut *saved);
            let opened = open(&sections, before.as_ref());
            self.current.store(opened.map(Arc::new));
        }
        self.has_saved.store(false, Ordering::Release);
        self.current.load_full()
    }

    /// Counts rows that were scanned for want of a companion that knows them, of `all`; all since
    /// the last one was set, and how many rows have come since.
    pub fn count_scanned(&self, rows: u64, all: u32) -> (u64, u32) {
        let before = self.scanned.fetch_add(rows, Ordering::Relaxed);
        if before == 0 {
            self.scanned_from.store(all, Ordering::Relaxed);
        }
        let from = self.scanned_from.load(Ordering::Relaxed);
        (before + rows, all.saturating_sub(from))
    }

    /// Begins to count anew.
    pub fn forget_scanned(&self) {
        self.scanned.store(0, Ordering::Relaxed);
    }

    /// Counts rows that were scanned though there is a companion, or could be one.
    pub fn count_scanned_behind(&self, rows: u64) -> u64 {
        self.scanned_behind.fetch_add(rows, Ordering::Relaxed) + rows
    }

    /// Begins to count those anew.
    pub fn forget_scanned_behind(&self) {
        self.scanned_behind.store(0, Ordering::Relaxed);
    }

    /// Puts a new companion in the place of what there is, which it is made of: what was opened,
    /// `None` where that is nothing.
    pub fn set(&self, make: impl FnOnce(Option<&SharedCompanion>) -> Box<dyn Companion>) {
        self.forget_scanned();
        self.forget_scanned_behind();
        let mut saved = self.saved();
        let before = self.current.load_full().or_else(|| saved.before.take());
        let companion = make(before.as_ref());
        *saved = Pending::default();
        self.current.store(Some(Arc::new(companion)));
    }

    /// Puts what has grown out of a companion in its place; false where another one has taken it.
    pub fn grow(&self, from: &SharedCompanion, companion: Box<dyn Companion>) -> bool {
        let _saved = self.saved();
        let is_there = self.current.load().as_ref().is_some_and(|now| Arc::ptr_eq(now, from));
        if is_there {
            self.current.store(Some(Arc::new(companion)));
        }
        is_there
    }

    /// Age of what there is, opened or not.
    pub fn age(&self) -> Option<u64> {
        let saved = self.saved();
        let own = self.current.load().as_ref().map(|current| current.age());
        own.max(age_of(&saved.sections))
    }

    /// Takes a saved one over, unless there is one as new already.
    pub fn adopt(&self, sections: &TableSections<'_>) {
        self.adopt_sections(sections.from(FIRST_KIND));
    }

    fn adopt_sections(&self, found: Vec<(u32, Saved)>) {
        let mut saved = self.saved();
        let own = self.current.load().as_ref().map(|current| current.age());
        if age_of(&found) > own.or_else(|| age_of(&saved.sections)) {
            let before = self.current.load_full().or_else(|| saved.before.take());
            *saved = Pending { sections: found, before };
            self.has_saved.store(true, Ordering::Release);
            self.current.store(None);
        }
    }

    /// Saves it under a table; one that was never opened is copied.
    pub fn export(&self, table: u32, out: &mut SectionWriter) -> Result<()> {
        // Not under the lock: one that grows meanwhile need not wait.
        if let Some(current) = self.current.load_full() {
            return current.export(&mut |kind, bytes| out.put(kind, table, bytes));
        }
        let saved = self.saved();
        if let Some(current) = self.current.load_full() {
            return current.export(&mut |kind, bytes| out.put(kind, table, bytes));
        }
        let sections: Result<Vec<_>> =
            saved.sections.iter().map(|(kind, saved)| Ok((*kind, saved.read()?))).collect();
        // One that is damaged is not worth a failure: it is made anew from the rows.
        for (kind, section) in sections.unwrap_or_default() {
            out.put(kind, table, section.bytes())?;
        }
        Ok(())
    }

    /// Says that what was exported last is in its place. One that came since knows of no export.
    pub fn keep_as_saved(&self) {
        if let Some(current) = self.current.load_full() {
            current.keep_as_saved();
        }
    }

    fn saved(&self) -> MutexGuard<'_, Pending> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Age of a saved companion, `None` where there is none or it cannot be read.
fn age_of(saved: &[(u32, Saved)]) -> Option<u64> {
    let (_, first) = saved.iter().find(|(kind, _)| *kind == FIRST_KIND)?;
    let section = first.read().ok()?;
    Some(u64::from_le_bytes(*section.bytes().first_chunk()?))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    struct Aged(u64);

    impl Companion for Aged {
        fn age(&self) -> u64 {
            self.0
        }

        fn export(&self, _put: &mut dyn FnMut(u32, &[u8]) -> Result<()>) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_count_knows_how_many_rows_came_since_it_began() {
        let slot = CompanionSlot::default();
        assert_eq!(slot.count_scanned(10, 1000), (10, 0));
        assert_eq!(slot.count_scanned(20, 1300), (30, 300));
        slot.forget_scanned();
        assert_eq!(slot.count_scanned(5, 1400), (5, 0));
        assert_eq!(slot.count_scanned(5, 1200), (10, 0), "a snapshot that is older");
    }

    #[test]
    fn what_has_grown_takes_the_place_of_what_it_grew_from_alone() {
        let slot = CompanionSlot::default();
        let get = || slot.get(|_, _| None);
        assert!(get().is_none());
        slot.set(|before| {
            assert!(before.is_none());
            Box::new(Aged(1))
        });
        let first = get().expect("set");
        assert!(slot.grow(&first, Box::new(Aged(2))));
        assert!(!slot.grow(&first, Box::new(Aged(3))), "it is gone");
        let second = get().expect("grown");
        assert_eq!(second.age(), 2);
        slot.set(|before| Box::new(Aged(10 + before.map_or(0, |before| before.age()))));
        assert!(!slot.grow(&second, Box::new(Aged(4))), "another one was built");
        assert_eq!(slot.age(), Some(12));
    }
}
