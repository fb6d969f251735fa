//! Rows that a filter allows, and copies of what an index holds of them.
//!
//! A search looks at the codes of 32 rows at once, so that a filter which lets a tenth of all rows
//! pass saves it hardly any. For who searches with one filter again and again the codes of its rows
//! are copied side by side (docs/decisions/0012-codes-of-a-filter.md).

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};

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
}

/// The copies that an index holds: of as many codes as it has, at most. What was copied first goes
/// first; a filter that is still used has it copied again then.
#[derive(Default)]
pub(crate) struct Shelf {
    held: Mutex<VecDeque<Held>>,
}

struct Held {
    copies: Arc<Copies>,
    codes: usize,
    bytes: usize,
}

impl Shelf {
    /// Memory that the copies take.
    pub fn bytes(&self) -> usize {
        // Somebody is adding, or did so when this process was forked: what there is then is not known.
        let held = match self.held.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            Err(TryLockError::WouldBlock) => return 0,
        };
        held.iter().map(|held| held.bytes).sum()
    }

    /// Holds copies, and as many of those before them as leave it at `most` codes; `None` where
    /// somebody else is at it.
    fn hold(&self, held: Held, most: usize) -> Option<Arc<Copies>> {
        let mut all = match self.held.try_lock() {
            Ok(all) => all,
            Err(TryLockError::Poisoned(all)) => all.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let mut codes = held.codes + all.iter().map(|held| held.codes).sum::<usize>();
        while codes > most
            && let Some(first) = all.pop_front()
        {
            codes -= first.codes;
        }
        let copies = Arc::clone(&held.copies);
        all.push_back(held);
        Some(copies)
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        write!(formatter, "{} copies", held.len())
    }
}

/// What copies would cost, and what they would save.
pub(crate) struct Cost {
    /// Blocks of codes that the search at hand would be spared.
    pub spared: usize,
    /// To copy takes as long as a look at so many blocks.
    pub copying: usize,
    /// The codes that are copied, empty slots included.
    pub codes: usize,
    /// The codes of the index.
    pub all: usize,
    /// Bytes of a code.
    pub code_bytes: usize,
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
    copies: ArcSwapWeak<Copies>,
}

impl GatheredRows {
    pub(crate) fn new(rows: RowSet, shelf: &Arc<Shelf>) -> Self {
        Self(Arc::new(Gathered {
            rows,
            shelf: Arc::downgrade(shelf),
            spent: AtomicU64::new(0),
            is_copying: AtomicBool::new(false),
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
        let Gathered { spent, is_copying, copies, .. } = &*self.0;
        if !std::ptr::eq(self.0.shelf.as_ptr(), Arc::as_ptr(shelf)) {
            return None;
        }
        if let Some(found) = copies.load().upgrade() {
            return Some(found);
        }
        let Cost { spared, copying, codes, all, code_bytes } = cost();
        let before = spent.fetch_add(spared as u64, Ordering::Relaxed);
        // One search alone never copies.
        let is_due = before > 0 && before >= copying as u64;
        if !is_due || is_copying.swap(true, Ordering::Relaxed) {
            return None;
        }
        let held = make().and_then(|made| {
            let (copies, bytes) = (Arc::new(made), codes * code_bytes);
            shelf.hold(Held { copies, codes, bytes }, all)
        });
        if let Some(held) = &held {
            copies.store(Arc::downgrade(held));
        }
        spent.store(0, Ordering::Relaxed);
        is_copying.store(false, Ordering::Relaxed);
        held
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
