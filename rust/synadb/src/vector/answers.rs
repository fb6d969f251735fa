//! Answers to many queries, side by side in memory.

use std::ops::Range;

/// What was found for each of several queries: keys and scores, nearest first.
///
/// All keys lie in one string: a million answers are a few allocations.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    keys: String,
    /// Where a key ends, and its score.
    found: Vec<(usize, f32)>,
    /// Those of `found` that answer each query.
    of_query: Vec<Range<usize>>,
}

impl Answers {
    /// None yet, to so many queries.
    pub(super) fn to(queries: usize) -> Self {
        Self { of_query: vec![0..0; queries], ..Self::default() }
    }

    /// Adds to the answer of a query; its answers come one after the other.
    pub(super) fn add(&mut self, query: usize, key: &[u8], score: f32) {
        self.keys.push_str(&String::from_utf8_lossy(key));
        let at = self.found.len();
        self.found.push((self.keys.len(), score));
        let range = &mut self.of_query[query];
        *range = if range.start == range.end { at..at + 1 } else { range.start..at + 1 };
    }

    /// Number of queries.
    #[must_use]
    pub fn queries(&self) -> usize {
        self.of_query.len()
    }

    /// Keys and scores that answer a query, nearest first.
    ///
    /// # Panics
    /// Panics when there is no such query.
    pub fn of(&self, query: usize) -> impl Iterator<Item = (&str, f32)> {
        self.of_query[query].clone().map(|at| {
            let start = at.checked_sub(1).map_or(0, |before| self.found[before].0);
            let (end, score) = self.found[at];
            (&self.keys[start..end], score)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_query_has_its_own_in_any_order_of_queries() {
        let mut answers = Answers::to(4);
        for (query, key, score) in [(2, "far", 0.5), (2, "", 1.5), (0, "nah", 0.25)] {
            answers.add(query, key.as_bytes(), score);
        }
        answers.add(3, b"\xff", 1.0);
        let of = |query| answers.of(query).collect::<Vec<_>>();
        assert_eq!(answers.queries(), 4);
        assert_eq!(of(0), [("nah", 0.25)]);
        assert_eq!(of(1), []);
        assert_eq!(of(2), [("far", 0.5), ("", 1.5)]);
        assert_eq!(of(3), [("\u{fffd}", 1.0)]);
    }
}
