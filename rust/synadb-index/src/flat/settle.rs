//! Exact answers where rows are too near to each other for fast keys to order them.
//!
//! A scan keeps some rows more than are wanted and re-scores them. Where the last of those might be
//! nearer than the last one wanted, but for the rounding of the fast keys, so might others that it
//! did not keep: a second pass then computes the exact key of every row that may be wanted.

use std::ops::Range;
use std::slice;

use synadb_types::RowId;

use super::{ROWS_OF_ONE, Scan, check};
use crate::{Filter, IndexError, Metric, Query, Scratch, TopK, VectorSource};

/// As [`search_batch`](super::search_batch), for results that are empty: with exactly the nearest
/// rows, however near they are to each other.
///
/// In O(queries x rows x dimensions), in one pass over the rows for all queries, and one more for
/// each query for which fast keys do not tell the rows apart.
///
/// # Errors
///
/// [`IndexError::Dimensions`] when a query does not fit the source.
///
/// # Panics
///
/// Panics when `outs` has another length than `queries`.
pub fn search_exactly(
    range: Range<u32>,
    queries: &[Query],
    filter: &Filter,
    source: &dyn VectorSource,
    scratch: &mut Scratch,
    outs: &mut [TopK],
) -> Result<(), IndexError> {
    check(queries, source, outs)?;
    let within = range.start..range.end.min(source.rows_end());
    let pass = |mut scan: Scan<'_>| scan.filtered(within.clone(), filter);
    exactly(within.clone(), queries, source, scratch, (outs, &|| ()), &pass);
    Ok(())
}

/// Does a pass for all queries, and a second one for those that need it: not where other parts have
/// offered rows before, which a second pass over these would lose.
pub(super) fn exactly(
    rows: Range<u32>,
    queries: &[Query],
    source: &dyn VectorSource,
    scratch: &mut Scratch,
    (outs, pause): (&mut [TopK], &dyn Fn()),
    pass: &dyn Fn(Scan<'_>),
) {
    let were_empty: Vec<bool> = outs.iter().map(TopK::is_empty).collect();
    pass(Scan { pause, ..Scan::new(queries, source, scratch, outs) });
    let mut largest = None;
    let pairs = queries.iter().zip(outs).zip(were_empty);
    for (query, out) in pairs.filter_map(|(pair, was_empty)| was_empty.then_some(pair)) {
        let largest = match query.metric() {
            Metric::DotProduct => {
                *largest.get_or_insert_with(|| largest_norm(rows.clone(), source, scratch))
            }
            Metric::Cosine | Metric::Euclidean => 1.0,
        };
        let error = |key| query.key_error(key, largest);
        let Some(nearest) = out.undecided(error) else { continue };
        out.reset(out.k());
        let (query, out) = (slice::from_ref(query), slice::from_mut(out));
        // What an exact key of at most `nearest` may seem to be: the error of the greater key is
        // greater, by far less than itself.
        let exact_within = Some(nearest + 2.0 * error(nearest));
        pass(Scan { pause, exact_within, ..Scan::new(query, source, scratch, out) });
    }
}

/// The length of the longest row: infinite where a length is not known.
fn largest_norm(rows: Range<u32>, source: &dyn VectorSource, scratch: &mut Scratch) -> f64 {
    scratch.inverse_norms.resize(ROWS_OF_ONE, 0.0);
    let mut smallest = f32::INFINITY;
    for first in rows.clone().step_by(ROWS_OF_ONE) {
        let count = ROWS_OF_ONE.min((rows.end - first) as usize);
        let norms = &mut scratch.inverse_norms[..count];
        source.inverse_norms(RowId(first), norms);
        for &inverse in &*norms {
            if inverse.is_nan() {
                return f64::INFINITY;
            }
            // That of a zero vector is zero.
            smallest = if inverse > 0.0 { smallest.min(inverse) } else { smallest };
        }
    }
    1.0 / f64::from(smallest)
}
