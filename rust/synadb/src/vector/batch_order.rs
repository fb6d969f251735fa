//! The order in which the queries of a batch are searched.
//!
//! Queries that are near each other look at the same cells, nodes and rows. Where they are searched
//! one after the other these are still in the caches: of pictures in groups an inverted file answers a
//! fifth and more queries in the same time, a graph some percent more.

use synadb_index::{IndexError, Metric, Query};

/// Queries of the batch that the others are put beside.
const PIVOTS: usize = 16;
/// Fewer queries for each of them hardly share anything.
const QUERIES_A_PIVOT: usize = 4;
/// Queries that are compared with all pivots while they are in the cache.
const QUERIES_AT_ONCE: usize = 16;

/// Sorts the numbers of the queries, row-major, so that near ones stand together; those of few are
/// left as they are. O(queries x dimensions).
pub(super) fn near_together(
    metric: Metric,
    queries: &[f32],
    dimensions: usize,
    order: &mut [u32],
) -> Result<(), IndexError> {
    let count = order.len();
    if count < PIVOTS * QUERIES_A_PIVOT {
        return Ok(());
    }
    // Which pivot is nearest in direction does not depend on the length of the query.
    let metric = if metric == Metric::Cosine { Metric::DotProduct } else { metric };
    let step = count / PIVOTS;
    let pivots = queries.chunks_exact(dimensions).step_by(step).take(PIVOTS);
    let pivots = pivots.map(|pivot| Query::new(metric, pivot));
    let pivots: Vec<Query> = pivots.collect::<Result<_, _>>()?;
    let mut nearest = Vec::with_capacity(count);
    for queries in queries.chunks(QUERIES_AT_ONCE * dimensions) {
        let mut best = [(f32::INFINITY, 0_u8); QUERIES_AT_ONCE];
        let best = &mut best[..queries.len() / dimensions];
        let mut keys = [0.0; QUERIES_AT_ONCE];
        let keys = &mut keys[..best.len()];
        for (number, pivot) in (0..).zip(&pivots) {
            pivot.keys(queries, dimensions, &[], keys);
            for (best, &key) in best.iter_mut().zip(&*keys) {
                if key < best.0 {
                    *best = (key, number);
                }
            }
        }
        nearest.extend(best.iter().map(|best| best.1));
    }
    order.sort_by_key(|&query| nearest[query as usize]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_queries_stand_together_and_each_comes_once() -> Result<(), IndexError> {
        let groups = 5;
        for metric in [Metric::Cosine, Metric::Euclidean, Metric::DotProduct] {
            for count in [0, 1, 63, 64, 1003] {
                // Groups by turns, of one direction each and of any length.
                let query = |at: usize| {
                    let mut query = [0.01 * (at % 7) as f32; 20];
                    query[at % groups] =
                        if metric == Metric::Euclidean { 5.0 } else { 1.0 + at as f32 };
                    query
                };
                let queries: Vec<f32> = (0..count).flat_map(query).collect();
                let mut order: Vec<u32> = (0..count as u32).collect();
                near_together(metric, &queries, 20, &mut order)?;
                let mut sorted = order.clone();
                sorted.sort_unstable();
                assert!(sorted.into_iter().eq(0..count as u32));
                let changes = order
                    .windows(2)
                    .filter(|two| two[0] as usize % groups != two[1] as usize % groups);
                if count == 1003 {
                    assert!(changes.count() < 16, "{metric:?}");
                }
            }
        }
        Ok(())
    }
}
