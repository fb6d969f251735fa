//! The nearest rows found so far.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use synadb_types::RowId;

use crate::{Query, VectorSource};

/// A row found, with its public score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The row.
    pub row: RowId,
    /// Its distance from the query; smaller is nearer.
    pub score: f32,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    key: f64,
    row: RowId,
    is_exact: bool,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.total_cmp(&other.key).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

/// Bounded collection of the nearest rows; among equals the smaller row is the nearer.
///
/// It keeps some rows more than it returns, since most are chosen by fast keys: two rows whose
/// fast keys differ by rounding alone are put in order when [`TopK::finish`] re-scores them. Which
/// of more equal rows than it keeps are kept is as the rounding has it, where some of them were
/// offered with exact keys.
#[derive(Debug, Default)]
pub struct TopK {
    k: usize,
    keep: usize,
    /// The farthest on top.
    heap: BinaryHeap<Candidate>,
    exact: Vec<Candidate>,
}

impl TopK {
    /// Collects the `k` nearest rows.
    #[must_use]
    pub fn new(k: usize) -> Self {
        let mut top = Self::default();
        top.reset(k);
        top
    }

    /// Forgets all rows and collects the `k` nearest from now on; the memory stays.
    pub fn reset(&mut self, k: usize) {
        self.k = k;
        self.keep = if k == 0 { 0 } else { k.saturating_add(k / 4 + 8) };
        self.heap.clear();
    }

    /// Number of rows that [`TopK::finish`] returns at most.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// True when there are as many rows as [`TopK::finish`] returns at most.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.heap.len() >= self.k
    }

    /// Key above which a row is refused: infinite while there is room.
    #[must_use]
    pub fn worst(&self) -> f64 {
        if self.heap.len() < self.keep {
            return f64::INFINITY;
        }
        self.heap.peek().map_or(f64::NEG_INFINITY, |candidate| candidate.key)
    }

    /// Offers a row with its key; true when it was kept. A row is offered once.
    pub fn offer(&mut self, row: RowId, key: f64) -> bool {
        self.consider(row, key, false)
    }

    /// As [`TopK::offer`], with [`Query::exact_key`]: it is not computed again.
    pub(crate) fn offer_exact(&mut self, row: RowId, key: f64) -> bool {
        self.consider(row, key, true)
    }

    /// True when no row was kept yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// True when as many rows more would all be kept: without exact keys each would be re-scored,
    /// but for those that rows of other parts drive out.
    pub(crate) fn has_room_for(&self, rows: usize) -> bool {
        self.heap.len().saturating_add(rows) <= self.keep
    }

    fn consider(&mut self, row: RowId, key: f64, is_exact: bool) -> bool {
        // Adding zero makes a negative zero positive, so that the two tie.
        let key = if key.is_nan() { f64::INFINITY } else { key + 0.0 };
        let candidate = Candidate { key, row, is_exact };
        if self.heap.len() < self.keep {
            self.heap.push(candidate);
            return true;
        }
        match self.heap.peek_mut() {
            Some(mut farthest) if candidate < *farthest => {
                *farthest = candidate;
                true
            }
            _ => false,
        }
    }

    /// The key that the `k`-th nearest row exceeds by no more than the error of keys, where a row that
    /// was not kept may be nearer, for the keys of those that were kept do not tell.
    pub(crate) fn undecided(&self, error: impl Fn(f64) -> f64) -> Option<f64> {
        let farthest = self.heap.peek()?.key;
        if self.heap.len() < self.keep {
            return None;
        }
        let mut keys: Vec<f64> = self.heap.iter().map(|candidate| candidate.key).collect();
        let (_, &mut wanted, _) = keys.select_nth_unstable_by(self.k - 1, f64::total_cmp);
        let nearest = wanted + error(wanted);
        // Infinite keys and errors decide nothing.
        let is_decided = farthest - error(farthest) > nearest;
        (!is_decided).then_some(nearest)
    }

    /// Re-scores the rows that were offered with fast keys of this query in double precision, and
    /// appends the nearest of all to `hits`, nearest first. The collection is empty afterwards.
    pub fn finish(&mut self, query: &Query, source: &dyn VectorSource, hits: &mut Vec<Hit>) {
        self.exact.clear();
        self.exact.extend(self.heap.drain().filter_map(|candidate| {
            if candidate.is_exact {
                return Some(candidate);
            }
            let vector = source.vector(candidate.row)?;
            Some(Candidate { key: query.exact_key(vector) + 0.0, is_exact: true, ..candidate })
        }));
        self.exact.sort_unstable();
        let nearest = self.exact.iter().take(self.k);
        hits.extend(nearest.map(|found| Hit { row: found.row, score: query.score(found.key) }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Vectors;
    use crate::{IndexError, Metric};

    #[test]
    fn keeps_the_smallest_keys_and_rows() {
        let mut top = TopK::new(1);
        assert_eq!(top.worst(), f64::INFINITY);
        for row in (0..100).rev() {
            top.offer(RowId(row), f64::from(row / 50));
        }
        let mut kept: Vec<u32> = top.heap.iter().map(|candidate| candidate.row.0).collect();
        kept.sort_unstable();
        assert_eq!(kept, (0..9).collect::<Vec<_>>());
        assert_eq!(top.worst(), 0.0);
        assert!(!top.offer(RowId(200), 0.0));
        assert!(!top.offer(RowId(200), f64::NAN));
    }

    #[test]
    fn fast_keys_are_computed_again_and_exact_ones_are_not() -> Result<(), IndexError> {
        let source = Vectors::of(&(0..20).map(|row| vec![row as f32]).collect::<Vec<_>>());
        let query = Query::new(Metric::Euclidean, &[0.0])?;
        let mut top = TopK::new(3);
        assert!(top.is_empty() && top.has_room_for(11) && !top.has_room_for(12));
        // Keys that are not those of the rows: to see which of them are taken.
        for row in 1..10 {
            top.offer(RowId(row), 1.0);
        }
        assert!(top.offer_exact(RowId(15), 2.25) && top.offer_exact(RowId(16), -0.0));
        assert!(!top.is_empty() && !top.has_room_for(1));
        let mut hits = Vec::new();
        top.finish(&query, &source, &mut hits);
        let hits: Vec<(u32, f32)> = hits.iter().map(|hit| (hit.row.0, hit.score)).collect();
        assert_eq!(hits, [(16, 0.0), (1, 1.0), (15, 1.5)]);
        assert!(top.is_empty());
        Ok(())
    }

    #[test]
    fn keeps_nothing_for_k_zero() {
        let mut top = TopK::new(0);
        assert!(!top.offer(RowId(0), 0.0));
        assert_eq!(top.worst(), f64::NEG_INFINITY);
    }
}
