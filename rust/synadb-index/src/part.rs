//! Immutable pieces of an index.

use synadb_types::{RowId, RowSet};

use crate::{GatheredRows, IndexError, Query, Scratch, TopK, VectorSource};

/// Which rows a search may return, dead ones apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Every row.
    All,
    /// These rows.
    Rows(RowSet),
    /// These rows, whose codes the index that prepared them copies once it pays.
    Gathered(GatheredRows),
}

impl Filter {
    /// True when the row may be returned.
    #[must_use]
    pub fn allows(&self, row: RowId) -> bool {
        self.rows().is_none_or(|rows| rows.contains(row))
    }

    /// The rows that may be returned, `None` where it is every one.
    #[must_use]
    pub fn rows(&self) -> Option<&RowSet> {
        match self {
            Self::All => None,
            Self::Rows(rows) => Some(rows),
            Self::Gathered(gathered) => Some(gathered.rows()),
        }
    }
}

/// An immutable piece of an index over a fixed set of rows.
pub trait Part: Send + Sync {
    /// Rows of the part, those that died since included.
    fn rows(&self) -> &RowSet;

    /// Prepares a filter of this part from the rows allowed in the whole index.
    fn prepare(&self, allowed: &RowSet) -> Filter {
        let mut rows = self.rows().clone();
        rows.intersect_with(allowed);
        self.filter_of(rows)
    }

    /// A filter of rows of this part.
    fn filter_of(&self, rows: RowSet) -> Filter {
        Filter::Rows(rows)
    }

    /// Memory that copies take: of its codes, made for filters that are used often, of as many as it
    /// has at most; of its vectors, where it searches them in another place than they lie.
    fn copied_bytes(&self) -> usize {
        0
    }

    /// Offers the nearest live rows of the part that pass the filter.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when the query does not fit the source.
    fn search(
        &self,
        query: &Query,
        filter: &Filter,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
        out: &mut TopK,
    ) -> Result<(), IndexError>;
}
