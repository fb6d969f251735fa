//! Sets of rows as bitmaps.

use std::fmt;
use std::ops::Range;

use crate::RowId;

const WORD_BITS: usize = u64::BITS as usize;
/// Words that are looked at at once.
const BLOCK_WORDS: usize = 8;

/// Set of rows: a bitmap of 64-bit words and a count of its members.
///
/// Memory is one bit for every row up to the largest member ever inserted, so callers bound row
/// numbers that come from a file before they insert them.
#[derive(Clone, Default)]
pub struct RowSet {
    words: Vec<u64>,
    len: usize,
}

impl RowSet {
    /// Makes an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an empty set with room for the rows below `rows_end`.
    #[must_use]
    pub fn with_rows(rows_end: u32) -> Self {
        Self { words: vec![0; (rows_end as usize).div_ceil(WORD_BITS)], len: 0 }
    }

    /// Makes the set of `count` rows from `first` on.
    ///
    /// # Panics
    ///
    /// Panics when the last row would not fit in a `u32`.
    #[must_use]
    pub fn range(first: RowId, count: u32) -> Self {
        let end = first.0.checked_add(count).expect("the end of a row range fits in 32 bits");
        let mut set = Self::with_rows(end);
        for (index, word) in set.words.iter_mut().enumerate() {
            *word = word_mask(index, &(first.0..end));
        }
        set.len = count as usize;
        set
    }

    /// Adds a row; true when it was not a member before.
    pub fn insert(&mut self, row: RowId) -> bool {
        let (index, bit) = place(row);
        if index >= self.words.len() {
            self.words.resize(index + 1, 0);
        }
        let added = self.words[index] & bit == 0;
        self.words[index] |= bit;
        self.len += usize::from(added);
        added
    }

    /// Takes a row out; true when it was a member.
    pub fn remove(&mut self, row: RowId) -> bool {
        let (index, bit) = place(row);
        let Some(word) = self.words.get_mut(index) else {
            return false;
        };
        let removed = *word & bit != 0;
        *word &= !bit;
        self.len -= usize::from(removed);
        removed
    }

    /// True when the row is a member.
    #[must_use]
    pub fn contains(&self, row: RowId) -> bool {
        let (index, bit) = place(row);
        self.words.get(index).is_some_and(|word| word & bit != 0)
    }

    /// Number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes all members out and keeps the memory.
    pub fn clear(&mut self) {
        self.words.fill(0);
        self.len = 0;
    }

    /// Largest member.
    #[must_use]
    pub fn max(&self) -> Option<RowId> {
        let index = self.words.iter().rposition(|&word| word != 0)?;
        let bit = self.words[index].ilog2() as usize;
        Some(row_at(index * WORD_BITS + bit))
    }

    /// One more than the largest member; 0 for the empty set.
    #[must_use]
    pub fn extent(&self) -> u32 {
        // The largest row number has no successor in 32 bits; saturation leaves it uncounted.
        self.max().map_or(0, |row| row.0.saturating_add(1))
    }

    /// Keeps only the members that `other` has too.
    pub fn intersect_with(&mut self, other: &RowSet) {
        self.words.truncate(other.words.len());
        for (word, &mask) in self.words.iter_mut().zip(&other.words) {
            *word &= mask;
        }
        self.recount();
    }

    /// Drops all members that `other` has too.
    pub fn subtract(&mut self, other: &RowSet) {
        for (word, &mask) in self.words.iter_mut().zip(&other.words) {
            *word &= !mask;
        }
        self.recount();
    }

    /// Adds all members of `other`.
    pub fn union_with(&mut self, other: &RowSet) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, &more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
        self.recount();
    }

    /// The bitmap: bit `row % 64` of word `row / 64` stands for a row. Rows beyond are no members.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Members in ascending order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { words: &self.words, index: 0, word: self.words.first().copied().unwrap_or(0) }
    }

    /// Runs of consecutive members inside `within`, in ascending order, each as long as it can be.
    #[must_use]
    pub fn runs(&self, within: Range<u32>) -> Runs<'_> {
        Runs { set: self, within }
    }

    fn recount(&mut self) {
        self.len = self.words.iter().map(|word| word.count_ones() as usize).sum();
    }

    /// First row from `from` on, below `end`, whose membership equals `member`; else `end`.
    fn find(&self, from: u32, end: u32, member: bool) -> u32 {
        let flip = if member { 0 } else { u64::MAX };
        let mut row = from as usize;
        while row < end as usize {
            let word = self.words.get(row / WORD_BITS).copied().unwrap_or(0) ^ flip;
            let rest = word >> (row % WORD_BITS);
            if rest != 0 {
                return end.min(row_at(row + rest.trailing_zeros() as usize).0);
            }
            if member && row / WORD_BITS >= self.words.len() {
                return end;
            }
            let next = row / WORD_BITS + 1;
            let words = next..(end as usize).div_ceil(WORD_BITS).min(self.words.len());
            row = (next + self.alike_in(words, flip)) * WORD_BITS;
        }
        end
    }

    /// How many words at the beginning of a range have the value given, as far as they fill blocks.
    /// A block is looked at at once: few members far apart are found as fast as memory is read.
    fn alike_in(&self, words: Range<usize>, value: u64) -> usize {
        let (blocks, _) = self.words.get(words).unwrap_or_default().as_chunks::<BLOCK_WORDS>();
        let is_alike = |block: &[u64; BLOCK_WORDS]| {
            block.iter().fold(0, |different, word| different | (word ^ value)) == 0
        };
        let others = blocks.iter().position(|block| !is_alike(block));
        others.unwrap_or(blocks.len()) * BLOCK_WORDS
    }
}

fn place(row: RowId) -> (usize, u64) {
    (row.0 as usize / WORD_BITS, 1 << (row.0 as usize % WORD_BITS))
}

fn row_at(position: usize) -> RowId {
    RowId(u32::try_from(position).expect("a bitmap holds no row beyond 32 bits"))
}

/// The bits of word `index` that stand for rows of `range`.
fn word_mask(index: usize, range: &Range<u32>) -> u64 {
    let base = index * WORD_BITS;
    let low = (range.start as usize).clamp(base, base + WORD_BITS) - base;
    let high = (range.end as usize).clamp(base, base + WORD_BITS) - base;
    let below = |bits: usize| {
        if bits == WORD_BITS { u64::MAX } else { (1 << bits) - 1 }
    };
    below(high) & !below(low)
}

/// Members of a [`RowSet`] in ascending order.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    words: &'a [u64],
    index: usize,
    word: u64,
}

impl Iterator for Iter<'_> {
    type Item = RowId;

    fn next(&mut self) -> Option<RowId> {
        while self.word == 0 {
            self.index += 1;
            self.word = *self.words.get(self.index)?;
        }
        let bit = self.word.trailing_zeros() as usize;
        self.word &= self.word - 1;
        Some(row_at(self.index * WORD_BITS + bit))
    }
}

/// Runs of consecutive members of a [`RowSet`], as half-open ranges.
#[derive(Debug, Clone)]
pub struct Runs<'a> {
    set: &'a RowSet,
    within: Range<u32>,
}

impl Iterator for Runs<'_> {
    type Item = Range<u32>;

    fn next(&mut self) -> Option<Range<u32>> {
        let start = self.set.find(self.within.start, self.within.end, true);
        if start >= self.within.end {
            self.within.start = self.within.end;
            return None;
        }
        let end = self.set.find(start, self.within.end, false);
        self.within.start = end;
        Some(start..end)
    }
}

impl<'a> IntoIterator for &'a RowSet {
    type Item = RowId;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl FromIterator<RowId> for RowSet {
    fn from_iter<I: IntoIterator<Item = RowId>>(rows: I) -> Self {
        let mut set = Self::new();
        set.extend(rows);
        set
    }
}

impl Extend<RowId> for RowSet {
    fn extend<I: IntoIterator<Item = RowId>>(&mut self, rows: I) {
        for row in rows {
            self.insert(row);
        }
    }
}

impl PartialEq for RowSet {
    fn eq(&self, other: &Self) -> bool {
        // The words may end in zeros of different number, but the members are counted.
        self.len == other.len && self.words.iter().zip(&other.words).all(|(a, b)| a == b)
    }
}

impl Eq for RowSet {}

impl fmt::Debug for RowSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.runs(0..self.extent())).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A fixed linear congruential generator, so that every run sees the same rows.
    fn rows(seed: u64, count: usize, below: u64) -> Vec<RowId> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            RowId(u32::try_from((state >> 33) % below).expect("below 2^32"))
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn subtracts_a_longer_and_a_shorter_set() {
        let of = |rows: Vec<RowId>| {
            (rows.iter().copied().collect::<RowSet>(), BTreeSet::from_iter(rows))
        };
        let (some, some_model) = of(rows(3, 300, 700));
        let (others, others_model) = of(rows(5, 300, 400));
        for ((left, left_model), (right, right_model)) in [
            ((&some, &some_model), (&others, &others_model)),
            ((&others, &others_model), (&some, &some_model)),
        ] {
            let (mut left, model) = (left.clone(), left_model - right_model);
            left.subtract(right);
            assert_eq!(left.len(), model.len());
            assert!(left.iter().eq(model));
        }
    }

    #[test]
    fn follows_an_ordered_set_through_inserts_and_removals() {
        let mut set = RowSet::new();
        let mut model = BTreeSet::new();
        for (step, row) in rows(7, 4000, 700).into_iter().enumerate() {
            if step % 3 == 2 {
                assert_eq!(set.remove(row), model.remove(&row));
            } else {
                assert_eq!(set.insert(row), model.insert(row));
            }
            assert_eq!(set.len(), model.len());
            assert_eq!(set.max(), model.last().copied());
        }
        assert!(set.iter().eq(model.iter().copied()));
        assert!((0..800).all(|row| set.contains(RowId(row)) == model.contains(&RowId(row))));
    }

    #[test]
    fn range_holds_exactly_its_rows() {
        for first in [0, 1, 63, 64, 65, 130] {
            for count in [0, 1, 2, 62, 63, 64, 65, 128, 200] {
                let set = RowSet::range(RowId(first), count);
                let expected = (first..first + count).map(RowId);
                assert!(set.iter().eq(expected), "{first} {count}");
                assert_eq!(set.len(), count as usize);
                assert_eq!(set.extent(), if count == 0 { 0 } else { first + count });
            }
        }
    }

    #[test]
    fn intersection_and_union_agree_with_ordered_sets() {
        let (left, right) = (rows(1, 300, 500), rows(2, 300, 900));
        let (left_set, right_set): (RowSet, RowSet) =
            (left.iter().copied().collect(), right.iter().copied().collect());
        let (left, right): (BTreeSet<_>, BTreeSet<_>) =
            (left.into_iter().collect(), right.into_iter().collect());
        for (a, b) in [(&left_set, &right_set), (&right_set, &left_set)] {
            let mut both = a.clone();
            both.intersect_with(b);
            assert!(both.iter().eq(left.intersection(&right).copied()));
            assert_eq!(both.len(), left.intersection(&right).count());
            let mut either = a.clone();
            either.union_with(b);
            assert!(either.iter().eq(left.union(&right).copied()));
            assert_eq!(either.len(), left.union(&right).count());
        }
    }

    #[test]
    fn runs_cover_the_members_inside_a_window() {
        let some: RowSet = rows(3, 500, 640).into_iter().collect();
        let few: RowSet = rows(9, 12, 9000).into_iter().collect();
        let mut most = RowSet::range(RowId(0), 9000);
        most.subtract(&few);
        for set in [some, few, most, RowSet::with_rows(9000)] {
            for window in [0..640, 5..5, 63..65, 64..128, 100..10_000, 700..900, 1000..7003] {
                let mut covered = Vec::new();
                let mut previous_end = None;
                for run in set.runs(window.clone()) {
                    assert!(run.start < run.end && previous_end.is_none_or(|end| end < run.start));
                    previous_end = Some(run.end);
                    covered.extend(run);
                }
                let members = set.iter().map(|row| row.0);
                let expected: Vec<u32> = members.filter(|row| window.contains(row)).collect();
                assert_eq!(covered, expected, "{window:?}");
            }
        }
    }

    #[test]
    fn equality_ignores_spare_room() {
        let mut roomy = RowSet::with_rows(1000);
        roomy.insert(RowId(3));
        let tight: RowSet = [RowId(3)].into_iter().collect();
        assert_eq!(roomy, tight);
        roomy.insert(RowId(900));
        assert_ne!(roomy, tight);
        roomy.clear();
        assert_eq!(roomy, RowSet::new());
        assert!(roomy.is_empty() && roomy.iter().next().is_none() && roomy.max().is_none());
    }
}
