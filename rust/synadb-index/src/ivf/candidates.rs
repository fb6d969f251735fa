//! The rows that the codes of a search found nearest.

use crate::TopK;

/// Room beyond the rows that are kept: the larger, the fewer the selections.
const SLACK: usize = 64;

/// Collects the entries with the smallest lower bounds. The limit falls as better ones come.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    keep: usize,
    limit: f32,
    /// Bound and entry.
    found: Vec<(f32, u32)>,
}

impl Candidates {
    /// Forgets all entries; takes those within `limit` from now on.
    pub(super) fn reset(&mut self, keep: usize, limit: f32) {
        self.keep = keep.max(1);
        self.limit = limit;
        self.found.clear();
    }

    /// Bound above which an entry is refused.
    pub(super) fn limit(&self) -> f32 {
        self.limit
    }

    pub(super) fn len(&self) -> usize {
        self.found.len()
    }

    /// Takes an entry that is within the limit; a bound that is not a number comes first.
    pub(super) fn push(&mut self, lower: f32, entry: u32) {
        let lower = if lower.is_nan() { f32::NEG_INFINITY } else { lower };
        self.found.push((lower, entry));
        if self.found.len() >= self.keep.saturating_add(self.keep.max(SLACK)) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.found.len() > self.keep {
            let last = self.keep - 1;
            self.found.select_nth_unstable_by(last, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            self.limit = self.found[last].0;
            self.found.truncate(self.keep);
        }
    }

    /// The bound of the `k`-th entry, infinity where there are fewer.
    pub(super) fn bound_of(&mut self, k: usize) -> f32 {
        let last = k.max(1) - 1;
        if last >= self.found.len() {
            return f32::INFINITY;
        }
        self.found.select_nth_unstable_by(last, |a, b| a.0.total_cmp(&b.0)).1.0
    }

    /// The entries that are left, in any order.
    pub(super) fn finish(&mut self) -> &[(f32, u32)] {
        self.cut();
        &self.found
    }
}

/// Candidates for each row asked for, at least.
pub(super) const CANDIDATES_A_RESULT: usize = 3;

/// Candidates of a search that wants so many.
pub(super) fn candidates_for(out: &TopK, wanted: usize) -> usize {
    wanted.max(out.k().saturating_mul(CANDIDATES_A_RESULT))
}
