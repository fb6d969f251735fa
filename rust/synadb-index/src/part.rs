//! Immutable pieces of an index.

use synadb_types::{RowId, RowSet};

use crate::{IndexError, Query, Scratch, TopK, VectorSource};

/// Which rows a search may return, dead ones apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Every row.
    All,
    /// These rows.
    Rows(RowSet),
}

impl Filter {
    /// True when the row may be returned.
    #[must_use]
    pub fn allows(&self, row: RowId) -> bool {
        match self {
            Self::All => true,
            Self::Rows(rows) => rows.contains(row),
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
        Filter::Rows(rows)
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
