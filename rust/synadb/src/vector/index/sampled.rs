//! Rows of a store that stand for the queries to come.
//!
//! Queries to come lie between the rows: each row is mixed with another one. The row is none of the
//! neighbours of its query, and none that is equal to it. It is not kept from the search by a filter: a
//! graph is searched in another way with one, which may be a scan, and tells nothing then of walks
//! without.

use synadb_index::{IndexError, Query, VectorSource, inverse_norm};
use synadb_types::RowId;

use super::Built;
use crate::vector::source::MappedVectors;

/// Queries are a row and so much of another one. With twice as much a graph of passages is searched
/// with six times the queue that questions need for .90.
const MIXED: f32 = 0.4;
/// Neighbours that the queries of a sample have together: to tell a recall to some parts in a
/// thousand. With many neighbours each there are so many queries at least, with few at most.
const NEIGHBOURS: usize = 4000;
const QUERIES_MIN: usize = 100;
const QUERIES_MAX: usize = 1000;
/// Products of components that the exact searches of the sample take: a few seconds of one thread.
const WORK: usize = 1 << 36;
/// One in so many rows is taken for a query at most.
pub(super) const ROWS_A_QUERY: usize = 8;

/// Queries of the rows of an index, and the row of each.
pub(super) fn sample(
    built: &Built,
    k: usize,
    source: &MappedVectors<'_>,
) -> std::result::Result<(Vec<Query>, Vec<RowId>), IndexError> {
    let rows = built.part().rows();
    let live: Vec<RowId> = rows.iter().filter(|row| source.is_live(*row)).collect();
    let scan = live.len().saturating_mul(source.dimensions()).max(1);
    let affordable = (WORK / scan).max(QUERIES_MIN);
    let count = (NEIGHBOURS / k.max(1)).clamp(QUERIES_MIN, QUERIES_MAX).min(affordable);
    let step = (live.len() / count).max(ROWS_A_QUERY);
    let chosen: Vec<RowId> = live.into_iter().step_by(step).collect();
    queries_of(built.metric(), &chosen, source)
}

/// The rows as queries, each mixed with the one half of them away, with the row of each.
pub(super) fn queries_of(
    metric: synadb_index::Metric,
    chosen: &[RowId],
    source: &MappedVectors<'_>,
) -> std::result::Result<(Vec<Query>, Vec<RowId>), IndexError> {
    let (mut queries, mut own) = (Vec::with_capacity(chosen.len()), Vec::new());
    for (row, other) in chosen.iter().zip(chosen.iter().cycle().skip(chosen.len() / 2)) {
        let (Some(vector), Some(other)) = (source.vector(*row), source.vector(*other)) else {
            continue;
        };
        let mixed = mix(vector, other);
        // The sum of two rows may be beyond what a float holds.
        queries.push(Query::new(metric, &mixed).or_else(|_| Query::new(metric, vector))?);
        own.push(*row);
    }
    Ok((queries, own))
}

/// A vector between two, as long as the first.
fn mix(vector: &[f32], other: &[f32]) -> Vec<f32> {
    let (inverse, of_other) = (inverse_norm(vector), inverse_norm(other));
    let share = if inverse > 0.0 { MIXED * of_other / inverse } else { MIXED };
    let sum: Vec<f32> = vector.iter().zip(other).map(|(a, b)| a + share * b).collect();
    let scale = inverse_norm(&sum) / inverse;
    if scale.is_normal() { sum.iter().map(|value| value * scale).collect() } else { sum }
}
