//! What a compaction leaves of an index: which kind somebody had asked for, and which recall.
//!
//! The rows have other numbers then, so that nothing of the index itself is of use. An index of the
//! same kind and parameters over no row is put in its place and saved: it counts as none, and says
//! what is built next.

use std::sync::Arc;

use synadb_index::{
    CascadeIndex, HnswIndex, IndexError, IvfIndex, Job, Metric, PackedConfig, PackedFlat,
};
use synadb_types::RowSet;

use super::sample::Sample;
use super::{Built, Extent, Loaded, StoreIndex, Tunings};
use crate::collection::RowsReader;
use crate::db::{Generation, TableView};
use crate::vector::StoredConfig;

impl StoredConfig {
    /// Hands the kind of a table's index on to the table in another log; whether there was one.
    pub(crate) fn hand_on(self, from: &Arc<Generation>, name: &str, to: &dyn TableView) -> bool {
        let Ok(Some(snapshot)) = self.rows_in(from, name) else { return false };
        let loaded = self.index_of(&snapshot);
        let Some(index) = loaded.as_ref().and_then(Loaded::any) else { return false };
        let (metric, dimensions) = (self.metric.kernel(), usize::from(self.dimensions));
        let (Some(next), Ok(reader)) =
            (index.of_no_row(metric, dimensions), to.reader().downcast::<RowsReader>())
        else {
            return false;
        };
        reader.companion.set(|_| Box::new(next));
        true
    }
}

impl StoreIndex {
    /// Whether it was built of rows, or dropped when there were some.
    pub(super) fn is_of_rows(&self) -> bool {
        self.of_part.end > 0
    }

    /// One of the same kind over no row; none where nobody had asked for the kind.
    fn of_no_row(&self, metric: Metric, dimensions: usize) -> Option<Self> {
        if self.is_chosen {
            return None;
        }
        let built = match self.built.as_deref() {
            Some(built) => Some(Arc::new(built.of_no_row(metric, dimensions).ok()?)),
            None => None,
        };
        let known = Extent { end: 0, unborn: None };
        let next = Self::of_part(built, false, (self.age, 0), known, 0);
        Some(next.tuned_as(Tunings::for_recall(self.tuned.target)))
    }
}

impl Built {
    fn of_no_row(&self, metric: Metric, dimensions: usize) -> Result<Self, IndexError> {
        let (rows, job) = (RowSet::new(), Job::default());
        let source = Sample::of_no_row(dimensions);
        Ok(match self {
            Self::Packed(_) => {
                let config = PackedConfig::default();
                Self::Packed(PackedFlat::build(metric, config, &rows, &source, &job)?)
            }
            Self::Hnsw(graph) => {
                Self::Hnsw(HnswIndex::build(metric, &rows, &source, *graph.config(), &job)?)
            }
            Self::GravityWell(cells) => {
                Self::GravityWell(IvfIndex::build(metric, cells.config(), &rows, &source, &job)?)
            }
            Self::Cascade(cascade) => {
                let config = cascade.config();
                let index = CascadeIndex::build(metric, config, &rows, &source, &job)?;
                Self::Cascade(Box::new(index))
            }
        })
    }
}
