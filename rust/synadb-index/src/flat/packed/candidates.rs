//! The rows of a packed scan whose full vectors are worth a look.

use std::collections::BinaryHeap;

use crate::lowest::{lowest, ordered, unordered};
use crate::quantize::ROUNDING;

/// Rows by lower bound, the lowest ones kept.
///
/// A row stands for itself as one number: the bound, mapped to an integer of the same order, above
/// the row. Rows whose bound is not a number come first and are never dropped.
#[derive(Debug, Default, Clone)]
pub(super) struct Candidates {
    keep: usize,
    rows: Vec<u64>,
    /// Bound above which a row is refused.
    limit: f32,
    /// What rounding may do to a bound.
    margin: f32,
    /// The lowest upper bounds, as many as rows are wanted, the highest on top.
    upper: BinaryHeap<u32>,
    wanted: usize,
}

impl Candidates {
    /// Forgets all rows; keeps the `keep` lowest from now on, of which `wanted` are asked for.
    /// Bounds that differ by `margin` count as equal.
    pub(super) fn reset(&mut self, keep: usize, wanted: usize, margin: f32) {
        (self.keep, self.wanted, self.margin) = (keep.max(wanted).max(1), wanted, margin);
        self.rows.clear();
        self.limit = f32::INFINITY;
        self.upper.clear();
    }

    /// Forgets all rows; keeps the `keep` lowest from now on.
    pub(super) fn begin_again(&mut self, keep: usize) {
        self.reset(keep, self.wanted, self.margin);
    }

    /// As many of the lowest are kept.
    pub(super) fn keep(&self) -> usize {
        self.keep
    }

    /// Rows that are asked for.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    pub(super) fn limit(&self) -> f32 {
        self.limit
    }

    /// True when a row with this bound is to be added; one that is not a number passes.
    pub(super) fn accepts(&self, lower: f32) -> bool {
        lower <= self.limit || lower.is_nan()
    }

    /// The limit that follows from a key: a little above it.
    pub(super) fn widened(&self, key: f32) -> f32 {
        key + (self.margin + ROUNDING * key.abs())
    }

    /// Refuses rows above a limit from now on.
    pub(super) fn tighten(&mut self, limit: f32) {
        self.limit = self.limit.min(limit);
    }

    /// Adds a row with the bounds of its key.
    pub(super) fn push(&mut self, row: u32, lower: f32, upper: f32) {
        self.rows.push(u64::from(ordered(lower)) << 32 | u64::from(row));
        if !upper.is_nan() && lowest(&mut self.upper, self.wanted, ordered(upper)) {
            let most = self.upper.peek().map_or(f32::INFINITY, |&bits| unordered(bits));
            self.limit = self.limit.min(self.widened(most));
        }
        if self.rows.len() / 2 >= self.keep {
            self.cut();
        }
    }

    /// Drops all but the lowest.
    fn cut(&mut self) {
        let (_, &mut last, _) = self.rows.select_nth_unstable(self.keep - 1);
        let bits = (last >> 32) as u32;
        if bits == 0 {
            self.keep *= 2;
            return;
        }
        self.rows.truncate(self.keep);
        self.limit = self.limit.min(unordered(bits));
    }

    /// The bound of the last row that is wanted, infinity where there are fewer.
    pub(super) fn last(&mut self) -> f32 {
        let last = self.wanted.max(1) - 1;
        if last >= self.rows.len() {
            return f32::INFINITY;
        }
        let (_, &mut row, _) = self.rows.select_nth_unstable(last);
        unordered((row >> 32) as u32)
    }

    /// Moves the lowest `count` rows to the front of the rest that begins at `from`, in order;
    /// returns their bounds and rows.
    pub(super) fn lowest(&mut self, from: usize, count: usize) -> impl Iterator<Item = (f32, u32)> {
        let rest = self.rows.get_mut(from..).unwrap_or_default();
        let count = count.min(rest.len());
        if count < rest.len() {
            rest.select_nth_unstable(count);
        }
        let found = &mut rest[..count];
        found.sort_unstable();
        found.iter().map(|&number| (unordered((number >> 32) as u32), number as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_are_kept_and_those_without_bound_first() {
        let mut candidates = Candidates::default();
        candidates.reset(10, 3, 0.0);
        for row in 0..1000 {
            let lower = if row % 100 == 50 { f32::NAN } else { ((row * 7) % 1000) as f32 };
            if candidates.accepts(lower) {
                candidates.push(row, lower, lower + 500.0);
            }
        }
        let found: Vec<_> = candidates.lowest(0, 12).collect();
        assert!(found[..10].iter().all(|(lower, row)| lower.is_nan() && row % 100 == 50));
        assert_eq!(&found[10..], &[(0.0, 0), (1.0, 143)]);
        assert_eq!(candidates.lowest(12, 1).next(), Some((2.0, 286)));
        assert_eq!(candidates.lowest(10_000, 1).next(), None);
    }

    #[test]
    fn upper_bounds_refuse_what_cannot_be_wanted() {
        let mut candidates = Candidates::default();
        for (margin, limit) in [(0.0, 1.5), (0.25, 1.75)] {
            candidates.reset(100, 2, margin);
            for row in 0..5 {
                candidates.push(row, row as f32, row as f32 + 0.5);
            }
            assert!((candidates.limit() - limit).abs() < 1e-5);
        }
    }
}
