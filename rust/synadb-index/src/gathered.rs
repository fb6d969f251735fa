//! Rows that a filter allows, and copies of what an index holds of them.
//!
//! A search looks at the codes of 32 rows at once, so that a filter which lets a tenth of all rows
//! pass saves it hardly any. For who searches with one filter again and again the codes of its rows
//! are copied side by side (docs/decisions/0012-codes-of-a-filter.md).

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};

use arc_swap::ArcSwapWeak;
use synadb_types::RowSet;

use crate::flat::GatheredCodes;
use crate::ivf::GatheredCells;

/// What an index has copied of some of its rows.
pub(crate) enum Copies {
    /// Of a packed flat index.
    Codes(GatheredCodes),
    /// Of an inverted file.
    Cells(GatheredCells),
}

impl Copies {
    pub fn as_codes(&self) -> Option<&GatheredCodes> {
        if let Self::Codes(codes) = self { Some(codes) } else { None }
    }

    pub fn as_cells(&self) -> Option<&GatheredCells> {
        if let Self::Cells(cells) = self { Some(cells) } else { None }
    }

    /// Slots for codes, empty ones included.
    fn slots(&self) -> usize {
        match self {
            Self::Codes(codes) => codes.slots(),
            Self::Cells(cells) => cells.slots(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Codes(codes) => codes.bytes(),
            Self::Cells(cells) => cells.bytes(),
        }
    }
}

/// The copies that an index holds: of as many codes as it has, at most. They go with their filter,
/// and where there is no room those that were not used since others wanted their place.
#[derive(Default)]
pub(crate) struct Shelf {
    held: Mutex<VecDeque<Held>>,
}

struct Held {
    filter: Weak<Gathered>,
    copies: Arc<Copies>,
}

impl Shelf {
    /// Memory that the copies take.
    pub fn bytes(&self) -> usize {
        self.held().map_or(0, |held| held.iter().map(|held| held.copies.bytes()).sum())
    }

    /// What it holds; `None` while somebody else is at it, which may be for good in a forked child.
    fn held(&self) -> Option<MutexGuard<'_, VecDeque<Held>>> {
        match self.held.try_lock() {
            Ok(held) => Some(held),
            Err(TryLockError::Poisoned(held)) => Some(held.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Drops what belongs to no filter.
    fn tidy(&self) {
        if let Some(mut held) = self.held() {
            held.retain(|held| held.filter.strong_count() > 0);
        }
    }

    /// Makes room for so many codes where all may be `most`; false where those that are there were
    /// used since this was last asked for.
    fn has_room(&self, codes: usize, most: usize) -> bool {
        let Some(mut held) = self.held() else { return false };
        let mut all = codes + slots_of(&held);
        let mut going = 0;
        while all > most
            && let Some(next) = held.get(going)
        {
            let filter = next.filter.upgrade();
            if filter.is_some_and(|filter| filter.is_used.swap(false, Ordering::Relaxed)) {
                // Behind the others: the next one that asks finds what is used least.
                let used = held.remove(going);
                held.extend(used);
                return false;
            }
            all -= next.copies.slots();
            going += 1;
        }
        held.drain(..going);
        true
    }

    /// Holds copies; false where others were faster and there is no room for both.
    fn hold(&self, filter: &Arc<Gathered>, copies: &Arc<Copies>, most: usize) -> bool {
        let Some(mut held) = self.held() else { return false };
        if !held.is_empty() && slots_of(&held) + copies.slots() > most {
            return false;
        }
        held.push_back(Held { filter: Arc::downgrade(filter), copies: Arc::clone(copies) });
        true
    }
}

fn slots_of(held: &VecDeque<Held>) -> usize {
    held.iter().map(|held| held.copies.slots()).sum()
}

impl fmt::Debug for Shelf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes of copies", self.bytes())
    }
}

/// What copies would cost, and what they would save.
pub(crate) struct Cost {
    /// Blocks of codes that the search at hand would be spared.
    pub spared: usize,
    /// To copy takes as long as a look at so many blocks.
    pub copying: usize,
    /// The codes that are copied, empty slots included, about.
    pub codes: usize,
    /// The codes of the index.
    pub all: usize,
}

/// Rows that a filter allows, as an index prepares them.
///
/// Once searches have spent on the codes of other rows what it takes to copy those of these, one bit
/// and some a dimension each, they are copied; later searches of the index look at the copies alone.
/// The index holds these, and all clones of the filter find them. To any other index these are rows
/// as [`Filter::Rows`](crate::Filter) has them.
#[derive(Clone)]
pub struct GatheredRows(Arc<Gathered>);

struct Gathered {
    rows: RowSet,
    /// That of the index.
    shelf: Weak<Shelf>,
    /// Blocks that searches looked at for the sake of other rows.
    spent: AtomicU64,
    is_copying: AtomicBool,
    /// Whether searches used the copies since somebody else asked for their place.
    is_used: AtomicBool,
    copies: ArcSwapWeak<Copies>,
}

impl Drop for Gathered {
    fn drop(&mut self) {
        if let Some(shelf) = self.shelf.upgrade() {
            shelf.tidy();
        }
    }
}

/// Ends a copying, whatever comes.
struct Copying<'a>(&'a Gathered);

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        self.0.spent.store(0, Ordering::Relaxed);
        self.0.is_copying.store(false, Ordering::Release);
    }
}

impl GatheredRows {
    pub(crate) fn new(rows: RowSet, shelf: &Arc<Shelf>) -> Self {
        Self(Arc::new(Gathered {
            rows,
            shelf: Arc::downgrade(shelf),
            spent: AtomicU64::new(0),
            is_copying: AtomicBool::new(false),
            is_used: AtomicBool::new(false),
            copies: ArcSwapWeak::default(),
        }))
    }

    /// The rows.
    #[must_use]
    pub fn rows(&self) -> &RowSet {
        &self.0.rows
    }

    /// Whether the other one was prepared by the same index, of the same rows: what it has spent, or
    /// copied, serves this one.
    #[must_use]
    pub fn is_served_by(&self, other: &Self) -> bool {
        Weak::ptr_eq(&self.0.shelf, &other.0.shelf) && self.rows() == other.rows()
    }

    /// The copies, where they were made for this index or it pays now. No thread waits for the one
    /// that copies.
    pub(crate) fn copies(
        &self,
        shelf: &Arc<Shelf>,
        cost: impl FnOnce() -> Cost,
        make: impl FnOnce() -> Option<Copies>,
    ) -> Option<Arc<Copies>> {
        let Gathered { spent, is_copying, is_used, copies, .. } = &*self.0;
        if !std::ptr::eq(self.0.shelf.as_ptr(), Arc::as_ptr(shelf)) {
            return None;
        }
        if let Some(found) = copies.load().upgrade() {
            // Stored seldom: many threads read it.
            if !is_used.load(Ordering::Relaxed) {
                is_used.store(true, Ordering::Relaxed);
            }
            return Some(found);
        }
        let Cost { spared, copying, codes, all } = cost();
        let before = spent.fetch_add(spared as u64, Ordering::Relaxed);
        // One search alone never copies.
        let is_due = before > 0 && before >= copying as u64;
        if !is_due || is_copying.swap(true, Ordering::Acquire) {
            return None;
        }
        let _copying = Copying(&self.0);
        // Another thread may have been at it since the look above.
        let found = copies.load().upgrade();
        if found.is_some() || !shelf.has_room(codes, all) {
            return found;
        }
        let made = Arc::new(make()?);
        if !shelf.hold(&self.0, &made, all) {
            return None;
        }
        copies.store(Arc::downgrade(&made));
        Some(made)
    }

    #[cfg(test)]
    pub(crate) fn made(&self) -> Option<Arc<Copies>> {
        self.0.copies.load().upgrade()
    }
}

impl PartialEq for GatheredRows {
    fn eq(&self, other: &Self) -> bool {
        self.rows() == other.rows()
    }
}

impl Eq for GatheredRows {}

impl fmt::Debug for GatheredRows {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("GatheredRows").field(self.rows()).finish()
    }
}
