//! From the candidates of a search to the rows found: finer codes, then full vectors.

use synadb_types::RowId;

use super::FineRows;
use super::search::Probe;
use crate::quantize::CodeQuery;

/// Candidates that are put in order at once, at least.
const STEP: usize = 24;
/// The bounds of finer codes allow for so many times the errors that those of one bit do: they
/// end the comparison, and errors are small.
const FINE_ERROR: f32 = 1.5;
/// Candidates whose codes are on their way while those of one are looked at.
const CODES_AHEAD: usize = 12;
/// Candidates that are prefetched before they are compared.
const AHEAD: usize = 6;

impl Probe<'_> {
    /// Puts rows in the order of the bounds that their finer codes give, and compares them.
    pub(super) fn compare_refined(
        &mut self,
        fine: &FineRows,
        prepared: &CodeQuery,
        found: &mut [(f32, u32)],
        nearest: &mut Vec<f64>,
    ) {
        let bounds = fine.bounds(prepared, FINE_ERROR);
        for &(_, row) in found.iter().take(CODES_AHEAD) {
            bounds.prefetch(RowId(row));
        }
        for at in 0..found.len() {
            if let Some(&(_, next)) = found.get(at + CODES_AHEAD) {
                bounds.prefetch(RowId(next));
            }
            found[at].0 = bounds.lower(RowId(found[at].1));
        }
        self.compare_lowest(found, nearest);
    }

    /// Offers rows in the order of their bounds, of which it brings as many in order as are
    /// looked at.
    pub(super) fn compare_lowest(&mut self, found: &mut [(f32, u32)], nearest: &mut Vec<f64>) {
        let mut rest = found;
        let mut count = STEP.max(self.out.k().saturating_mul(2));
        while !rest.is_empty() {
            let order = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
            if count < rest.len() {
                rest.select_nth_unstable_by(count - 1, order);
            }
            let (front, others) = rest.split_at_mut(count.min(rest.len()));
            front.sort_unstable_by(order);
            if !self.compare(front, nearest) {
                return;
            }
            (rest, count) = (others, count.saturating_mul(2));
        }
    }

    /// Offers rows with their keys at full precision, in the order of their bounds; false once a
    /// bound says that no other is among the `k` nearest.
    fn compare(&mut self, found: &[(f32, u32)], nearest: &mut Vec<f64>) -> bool {
        let k = self.out.k();
        for &(_, row) in found.iter().take(AHEAD) {
            self.source.prefetch(RowId(row));
        }
        for (at, &(lower, row)) in found.iter().enumerate() {
            let is_beyond = |last: f64| f64::from(lower) > self.index.origin.limit(last);
            let is_full = nearest.len() == k && nearest.last().is_some_and(|&last| is_beyond(last));
            if is_full || is_beyond(self.out.worst()) {
                return false;
            }
            if let Some(&(_, next)) = found.get(at + AHEAD) {
                self.source.prefetch(RowId(next));
            }
            let Some(key) = self.compare_one(row) else { continue };
            if nearest.len() == k && nearest.pop_if(|last| key < *last).is_none() {
                continue;
            }
            nearest.insert(nearest.partition_point(|&other| other <= key), key);
        }
        true
    }

    /// Offers a row with its key at full precision.
    fn compare_one(&mut self, row: u32) -> Option<f64> {
        let vector = self.source.vector(RowId(row))?;
        let (mut key, mut norm) = ([0.0], [0.0]);
        if self.query.needs_norms() {
            self.source.inverse_norms(RowId(row), &mut norm);
        }
        self.query.keys(vector, vector.len(), &norm, &mut key);
        let reliable = self.query.is_reliable(key[0]) && !self.index.origin.needs_exact_keys();
        let key = if reliable { f64::from(key[0]) } else { self.query.exact_key(vector) };
        self.out.offer(RowId(row), key);
        Some(key)
    }
}
