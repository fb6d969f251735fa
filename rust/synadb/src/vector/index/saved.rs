//! An index as sections of a checkpoint, and back.

use std::sync::Arc;

use synadb_index::{
    CascadeIndex, Filter, HnswIndex, IndexError, IvfIndex, Job, PackedFlat, Section, SharedBytes,
};
use synadb_storage::Result as StorageResult;
use synadb_types::limits::ROWS_MAX;
use synadb_types::{RowId, RowSet};

use super::{Built, Extent, StoreIndex, Tunings, filter_of, index_in};
use crate::collection::{Companion, FIRST_KIND, SharedCompanion, Snapshot};
use crate::sections::Saved;
use crate::vector::StoredConfig;
use crate::vector::source::MappedVectors;

const VERSION: u32 = 1;
const HEADER_BYTES: usize = 24;
/// In the place of the kind of an index.
const DROPPED: u32 = 3;
/// What the kinds of sections from the second one on hold; docs/format.md has the same list.
const NAMES: [&str; 27] = [
    "unborn",
    "packed.header",
    "packed.anchor",
    "packed.places",
    "packed.codes",
    "packed.fine",
    "hnsw.header",
    "hnsw.centre",
    "hnsw.rows",
    "hnsw.ends",
    "hnsw.entries",
    "hnsw.graph",
    "ivf.header",
    "ivf.mean",
    "ivf.points",
    "ivf.radii",
    "ivf.counts",
    "ivf.rows",
    "ivf.codes",
    "ivf.fine",
    "cascade.header",
    "cascade.trees",
    "cascade.starts",
    "cascade.entries",
    "cascade.signatures",
    EARLIER,
    TUNINGS,
];
/// Which searches reach which recall.
const TUNINGS: &str = "tunings";
/// The same when codes kept 16 candidates a neighbour whatever they were told.
const EARLIER: &str = "tuned";

fn kind_of(name: &str) -> Option<u32> {
    let place = NAMES.iter().position(|known| *known == name)?;
    Some(FIRST_KIND + 1 + place as u32)
}

/// The sections of the index proper.
pub(super) fn sections(built: &Built) -> Vec<Section<'_>> {
    match built {
        Built::Packed(index) => index.export(),
        Built::Hnsw(index) => index.export(),
        Built::GravityWell(index) => index.export(),
        Built::Cascade(index) => index.export(),
    }
}

pub(super) fn export(
    index: &StoreIndex,
    put: &mut dyn FnMut(u32, &[u8]) -> StorageResult<()>,
) -> StorageResult<()> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(&index.age.to_le_bytes());
    let kind: u32 = match index.built.as_deref() {
        Some(Built::Packed(_)) => 0,
        Some(Built::Hnsw(_)) => 1,
        Some(Built::GravityWell(_)) => 2,
        None => DROPPED,
        Some(Built::Cascade(_)) => 4,
    };
    for word in [VERSION, kind, index.of_part.end, u32::from(index.is_chosen)] {
        header.extend_from_slice(&word.to_le_bytes());
    }
    put(FIRST_KIND, &header)?;
    let unborn: Vec<u8> = match &index.of_part.unborn {
        Some(Filter::Rows(rows)) => rows.iter().flat_map(|row| row.0.to_le_bytes()).collect(),
        _ => Vec::new(),
    };
    let mut all = vec![("unborn", unborn.into())];
    all.extend(index.built.iter().flat_map(|built| sections(built)));
    all.extend(index.tuned.export().map(|bytes| (TUNINGS, bytes.into())));
    for (name, bytes) in all {
        if let Some(kind) = kind_of(name) {
            put(kind, &bytes)?;
        }
    }
    Ok(())
}

impl StoredConfig {
    /// Makes the index of its sections, with what is still of use of the one before; `None` where
    /// they are damaged or of another version.
    ///
    /// The rows are all there, so that nothing is lost but the time to build it anew.
    pub(super) fn open_index(
        self,
        snapshot: &Snapshot,
        saved: &[(u32, Saved)],
        before: Option<&SharedCompanion>,
    ) -> Option<Box<dyn Companion>> {
        let mut named: Vec<(&str, SharedBytes)> = Vec::with_capacity(saved.len());
        let mut header = None;
        let mut bytes = 0;
        for (kind, saved) in saved {
            let section = saved.read().ok()?;
            match kind.checked_sub(FIRST_KIND + 1) {
                None => header = Some(section),
                Some(place) => {
                    bytes += if place > 0 { section.bytes().len() } else { 0 };
                    named.push((*NAMES.get(place as usize)?, Arc::new(section)));
                }
            }
        }
        let header = header?;
        let header: &[u8; HEADER_BYTES] = header.bytes().try_into().ok()?;
        let age = u64::from_le_bytes(*header.first_chunk()?);
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        let (version, kind, end, is_chosen) = (word(8), word(12), word(16), word(20) != 0);
        // Another process may have saved it, and this snapshot be older than that.
        let visible = snapshot.generation.visible();
        if version != VERSION || u64::from(end) > snapshot.reader.born.len() {
            return None;
        }
        let unborn = named.iter().find(|(name, _)| *name == "unborn")?;
        let unborn = filter_of(rows_below((*unborn.1).as_ref(), end)?);
        let built = match kind {
            DROPPED => None,
            _ => Some(Arc::new(self.import(kind, &named, end, snapshot).ok()??)),
        };
        // What another process knows of rows may be more by now.
        let known = Extent { end, unborn }.without_passed_over(snapshot);
        let index = StoreIndex::of_part(built, is_chosen, (age, visible), known, bytes);
        let index = index.tuned_as(tunings_of(&named));
        Some(Box::new(index.with_tail_of(before.and_then(index_in), snapshot)))
    }

    fn import(
        self,
        kind: u32,
        named: &[(&str, SharedBytes)],
        end: u32,
        snapshot: &Snapshot,
    ) -> Result<Option<Built>, IndexError> {
        let dimensions = usize::from(self.dimensions);
        let source = MappedVectors { snapshot, dimensions };
        let metric = self.metric.kernel();
        Ok(match kind {
            0 => {
                let index = PackedFlat::import(named, end)?;
                let fits = index.metric() == metric && index.dimensions() == dimensions;
                fits.then_some(Built::Packed(index))
            }
            1 => {
                let index = HnswIndex::import(named, end)?;
                let fits = index.metric() == metric && index.dimensions() == dimensions;
                fits.then_some(Built::Hnsw(index))
            }
            2 => {
                let index = IvfIndex::import(named, end, &source, &Job::default())?;
                (index.metric() == metric).then_some(Built::GravityWell(index))
            }
            4 => {
                let index = CascadeIndex::import(named, end)?;
                let fits = index.metric() == metric && index.dimensions() == dimensions;
                fits.then_some(Built::Cascade(Box::new(index)))
            }
            _ => None,
        })
    }
}

/// What the index was tuned to; without it searches tune anew.
fn tunings_of(named: &[(&str, SharedBytes)]) -> Tunings {
    let of = |wanted| {
        let (_, bytes) = named.iter().find(|(name, _)| *name == wanted)?;
        Tunings::import((**bytes).as_ref())
    };
    let earlier = || of(EARLIER).map(|earlier| Tunings::for_recall(earlier.target));
    of(TUNINGS).or_else(earlier).unwrap_or_default()
}

/// A saved list of rows, all of them below `end`.
fn rows_below(bytes: &[u8], end: u32) -> Option<RowSet> {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut rows = RowSet::new();
    for word in words {
        let row = u32::from_le_bytes(*word);
        if row >= end.min(ROWS_MAX) {
            return None;
        }
        rows.insert(RowId(row));
    }
    rest.is_empty().then_some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_earlier_tunings_the_recall_is_read_that_the_index_was_built_for() {
        let target = 0.9_f64.to_le_bytes();
        // Recall asked for and found, k, rows and four numbers.
        let record = [0.8_f64, 0.81].map(f64::to_bits).into_iter().chain([10, 5000, 0, 0, 7, 0]);
        let bytes: Vec<u8> = target.into_iter().chain(record.flat_map(u64::to_le_bytes)).collect();
        let known = |name| {
            let tunings = tunings_of(&[("unborn", Arc::new([])), (name, Arc::new(bytes.clone()))]);
            (tunings.target, tunings.export().map(|bytes| bytes.len()))
        };
        assert_eq!(known(TUNINGS), (Some(0.9), Some(72)));
        assert_eq!(known(EARLIER), (Some(0.9), Some(8)));
        assert_eq!(known("ivf.mean"), (None, None));
    }
}
