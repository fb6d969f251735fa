//! The index of a store: one part over the rows that were there when it was built, and behind it
//! what came later: pieces, codes that are too few for one, and the newest rows, which are scanned.

mod apart;
mod build;
mod depth;
mod handed_on;
mod measured;
mod pieces;
mod sample;
mod sampled;
mod saved;
mod search;
mod tail;
mod tuned;

use std::any::Any;
use std::sync::{Arc, Weak};

use synadb_index::{CascadeIndex, Filter, HnswIndex, IvfIndex, Metric, PackedFlat, Part};
use synadb_storage::Result as StorageResult;
use synadb_types::RowSet;

use super::{StoredConfig, VectorStore};
use crate::collection::{Companion, SharedCompanion, Snapshot};
use crate::error::Result;

use pieces::{Piece, Setback};

pub use build::IndexStats;
pub use measured::MeasuredRecall;
pub(super) use sample::Sample;
pub use search::SearchOptions;
pub(in crate::vector) use tail::Behind;
pub use tuned::TunedSearch;
pub(super) use tuned::{Tunings, check_target};

/// A built index of any kind.
pub(super) enum Built {
    Packed(PackedFlat),
    Hnsw(HnswIndex),
    GravityWell(IvfIndex),
    Cascade(Box<CascadeIndex>),
}

impl Built {
    pub(super) fn part(&self) -> &dyn Part {
        match self {
            Self::Packed(index) => index,
            Self::Hnsw(index) => index,
            Self::GravityWell(index) => index,
            Self::Cascade(index) => &**index,
        }
    }

    fn metric(&self) -> Metric {
        match self {
            Self::Packed(index) => index.metric(),
            Self::Hnsw(index) => index.metric(),
            Self::GravityWell(index) => index.metric(),
            Self::Cascade(index) => index.metric(),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Packed(_) => "flat",
            Self::Hnsw(_) => "hnsw",
            Self::GravityWell(_) => "gravity_well",
            Self::Cascade(_) => "cascade",
        }
    }
}

/// An index with the rows that it knows of.
pub(super) struct StoreIndex {
    /// None where the index was dropped, or other processes would bring it back. Shared by those
    /// that have more of a tail.
    built: Option<Arc<Built>>,
    /// Whether nobody asked for this kind.
    is_chosen: bool,
    /// Sequence number of the last commit that it knows, or that of the index before and one.
    age: u64,
    /// What it was built of was visible up to here: an older snapshot may miss what it leaves out.
    visible: u64,
    /// What was coded, in a part that grows or in the tail, was committed before this moment.
    coded_visible: u64,
    /// What the part was built of; it is saved, what is behind it is not.
    of_part: Extent,
    /// Rows that came after the part was built, also such as died since, in cells.
    pieces: Vec<Arc<Piece>>,
    /// Codes of those that came after these.
    tail: Option<PackedFlat>,
    /// What part, pieces and tail were made of: all that is behind it is scanned.
    pub(super) known: Extent,
    /// Bytes that part and tail take.
    bytes: usize,
    /// Which searches reach which recall. Shared as `built` is.
    tuned: Arc<Tunings>,
    /// Why the tail is not sealed. Shared likewise.
    setback: Arc<Setback>,
}

/// Rows that were looked at.
#[derive(Clone)]
pub(super) struct Extent {
    /// Those below this one were looked at.
    end: u32,
    /// Those of them that were reserved and may be committed later, none where there are none: a
    /// filter, for every search scans them.
    pub(super) unborn: Option<Filter>,
}

impl Companion for StoreIndex {
    fn age(&self) -> u64 {
        self.age
    }

    fn export(&self, put: &mut dyn FnMut(u32, &[u8]) -> StorageResult<()>) -> StorageResult<()> {
        saved::export(self, put)
    }

    fn keep_as_saved(&self) {
        self.tuned.keep_as_saved();
    }
}

fn index_in(companion: &SharedCompanion) -> Option<&StoreIndex> {
    let companion: &dyn Any = &***companion;
    companion.downcast_ref()
}

/// Rows as the index keeps those that may still come.
fn filter_of(unborn: RowSet) -> Option<Filter> {
    (!unborn.is_empty()).then_some(Filter::Rows(unborn))
}

/// The index as the slot for it holds it.
pub(super) struct Loaded(SharedCompanion);

/// Tells an index from others, also after it is gone.
#[derive(Clone)]
pub(super) struct WeakIndex(Weak<Box<dyn Companion>>);

impl Loaded {
    pub(super) fn downgrade(&self) -> WeakIndex {
        WeakIndex(Arc::downgrade(&self.0))
    }

    pub(super) fn is(&self, other: &WeakIndex) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.0), other.0.as_ptr())
    }

    fn any(&self) -> Option<&StoreIndex> {
        index_in(&self.0)
    }

    /// The index, unless it was dropped, or a compaction has left but its kind.
    pub(super) fn index(&self) -> Option<(&Built, &StoreIndex)> {
        let index = self.any().filter(|index| index.is_of_rows())?;
        Some((index.built.as_deref()?, index))
    }
}

impl StoredConfig {
    /// The index of the rows that a snapshot shows, opened where it was saved.
    ///
    /// None where it knows of later changes: a key that was replaced since is neither in it nor,
    /// by its new row, in the snapshot.
    pub(super) fn index_of(self, snapshot: &Snapshot) -> Option<Loaded> {
        let slot = &snapshot.reader.companion;
        let open = |saved: &[_], before: Option<&_>| self.open_index(snapshot, saved, before);
        let loaded = slot.get(open).map(Loaded);
        loaded
            .filter(|loaded| loaded.any().is_some_and(|index| index.visible <= snapshot.visible()))
    }
}

impl VectorStore {
    /// Whether there is an index. The newest rows that came after it are scanned.
    ///
    /// # Errors
    /// `Closed`.
    pub fn has_index(&self) -> Result<bool> {
        let snapshot = self.snapshot()?;
        let loaded = snapshot.and_then(|snapshot| self.config.index_of(&snapshot));
        Ok(loaded.as_ref().and_then(Loaded::index).is_some())
    }

    /// What the index is and holds, `None` where there is none.
    ///
    /// # Errors
    /// `Closed`.
    pub fn index_stats(&self) -> Result<Option<IndexStats>> {
        let Some(snapshot) = self.snapshot()? else { return Ok(None) };
        let loaded = self.config.index_of(&snapshot);
        let index = loaded.as_ref().and_then(Loaded::index);
        Ok(index.map(|(built, index)| build::stats_of(built, index, &snapshot)))
    }

    /// Why the coded rows behind the index could not be made a piece of when that was tried last, in
    /// this process; `None` where nothing failed. It is tried again once they are a quarter more, and
    /// searches find them meanwhile.
    ///
    /// # Errors
    /// `Closed`.
    pub fn seal_failure(&self) -> Result<Option<String>> {
        let Some(snapshot) = self.snapshot()? else { return Ok(None) };
        let loaded = self.config.index_of(&snapshot);
        let index = loaded.as_ref().and_then(Loaded::index);
        Ok(index.and_then(|(_, index)| index.setback.reason()))
    }
}
