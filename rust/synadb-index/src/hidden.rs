//! Whether deletions or a filter hide what is near a query.
//!
//! Numbers that were tuned to a recall hold for queries whose neighbours can be found. Where those
//! are hidden the nearest of the others lie farther away, among more rows at about the same distance:
//! in more cells, and told apart less well by codes.

use std::collections::BinaryHeap;

use crate::lowest::{lowest, ordered, unordered};

/// What is near is hidden where the last row that is wanted is that many times as far down among
/// all rows as it should be, and so many standard deviations: less is chance, and hardly costs
/// recall.
const TIMES: f64 = 1.25;
const DEVIATIONS: f64 = 3.0;

/// When a search looks at more than it was told.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Beyond {
    /// Never: an inverted file may find fewer than `k` rows then.
    Never,
    /// Until `k` rows were found.
    #[default]
    UntilFound,
    /// Also where deletions or the filter hide what is near: as far as the bounds of the cells
    /// allow, and as many candidates as by default.
    WhereHidden {
        /// Share of all rows that can be found, above 0 and at most 1.
        shown: f64,
    },
}

impl Beyond {
    /// So many hidden rows may be nearer than the last of `k`; `None` where nobody asks.
    fn hidden_most(self, k: usize) -> Option<usize> {
        let Self::WhereHidden { shown } = self else { return None };
        let (k, shown) = (k as f64, shown.clamp(f64::MIN_POSITIVE, 1.0));
        // Were it up to chance which rows can be found, the place of the last among all would have
        // a negative binomial distribution.
        let (mean, variance) = (k / shown, k * (1.0 - shown) / (shown * shown));
        Some((TIMES * mean + DEVIATIONS * variance.sqrt() - k) as usize)
    }
}

/// The nearest rows that a search met and that cannot be found, by their bounds.
#[derive(Debug, Default)]
pub(crate) struct Hidden {
    /// How many are too many; 0 where nobody asks.
    many: usize,
    nearest: BinaryHeap<u32>,
}

impl Hidden {
    /// Forgets all rows.
    pub fn begin(&mut self, beyond: Beyond, k: usize) {
        self.many = beyond.hidden_most(k).map_or(0, |most| most.saturating_add(1));
        self.nearest.clear();
    }

    /// True when a row with this bound may count.
    pub fn counts(&self, bound: f32) -> bool {
        self.many > 0 && (self.nearest.len() < self.many || bound <= self.worst())
    }

    pub fn push(&mut self, bound: f32) {
        lowest(&mut self.nearest, self.many, ordered(bound));
    }

    /// True when too many are nearer than a bound, that of the last row that is wanted.
    pub fn are_many(&self, last: f32) -> bool {
        self.is_full() && self.worst() <= last
    }

    /// True when there are so many that it may be too many.
    pub fn is_full(&self) -> bool {
        self.many > 0 && self.nearest.len() >= self.many
    }

    fn worst(&self) -> f32 {
        self.nearest.peek().map_or(f32::INFINITY, |&bits| unordered(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_chance_hides_are_many() {
        let most = |k, shown| Beyond::WhereHidden { shown }.hidden_most(k);
        assert_eq!((most(1, 1.0), most(10, 1.0), most(100, 1.0)), (Some(0), Some(2), Some(25)));
        assert_eq!((most(10, 0.5), most(1, 0.01)), (Some(28), Some(422)));
        assert_eq!(most(10, 0.0), Some(usize::MAX));
        let mut hidden = Hidden::default();
        hidden.begin(Beyond::UntilFound, 10);
        assert!(!hidden.counts(0.0) && !hidden.are_many(f32::INFINITY));
        hidden.begin(Beyond::WhereHidden { shown: 1.0 }, 10);
        for bound in [5.0, 1.0, 4.0, 3.0] {
            assert!(hidden.counts(bound));
            hidden.push(bound);
        }
        // Three are too many: those up to 4.
        assert!(!hidden.counts(4.5) && hidden.are_many(4.0) && !hidden.are_many(3.5));
    }
}
