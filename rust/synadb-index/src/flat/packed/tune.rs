//! Finding the fewest candidates that reach a recall.

use std::slice;

use super::{PackedFlat, PackedSearch};
use crate::{Beyond, IndexError, Sample};

impl PackedFlat {
    /// The fewest candidates whose recall on a sample is at least `target`, but for one part in
    /// sixteen, and that recall. Those of all rows where none are enough: rows whose estimates err
    /// too much are missed then.
    ///
    /// # Errors
    ///
    /// [`IndexError::Cancelled`].
    ///
    /// # Panics
    ///
    /// Panics when a query of the sample has another metric than the index.
    pub fn tune_on(&self, sample: &Sample<'_>, target: f64) -> Result<(usize, f64), IndexError> {
        let first = sample.k().max(1);
        let last = self.flat.rows.len().max(first);
        Sample::least(target, (first, last), |candidates| {
            sample.recall(&|query, filter, source, scratch, top| {
                let (query, top) = (slice::from_ref(query), slice::from_mut(top));
                let search = PackedSearch { candidates, beyond: Beyond::Never };
                self.search_batch_with(search, query, filter, source, scratch, top)
            })
        })
    }
}
