//! Vectors that one writer appends to while any number of threads read, without a lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

const FIRST_BUCKET: u64 = 16;
const BUCKETS: usize = 40;

/// Bucket and place in it of an index; bucket b holds `16 << b` items.
fn locate(index: u64) -> (usize, usize) {
    let shifted = index + FIRST_BUCKET;
    let bucket = (shifted.ilog2() - FIRST_BUCKET.ilog2()) as usize;
    (bucket, (shifted - (FIRST_BUCKET << bucket)) as usize)
}

/// Words in buckets that never move.
pub(crate) struct AppendWords {
    buckets: [OnceLock<Box<[AtomicU64]>>; BUCKETS],
    len: AtomicU64,
}

impl Default for AppendWords {
    fn default() -> Self {
        let buckets = std::array::from_fn(|_| OnceLock::new());
        Self { buckets, len: AtomicU64::new(0) }
    }
}

impl AppendWords {
    /// Number of words that readers may look at.
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Appends a word; for the one writer.
    pub fn push(&self, word: u64) {
        let index = self.len.load(Ordering::Relaxed);
        self.slot(index).store(word, Ordering::Relaxed);
        self.len.store(index + 1, Ordering::Release);
    }

    /// Extends with zeros up to `len` words; for the one writer.
    #[inline]
    pub fn extend_to(&self, len: u64) {
        let index = self.len.load(Ordering::Relaxed);
        if index < len {
            self.extend_from(index, len);
        }
    }

    fn extend_from(&self, mut index: u64, len: u64) {
        while index < len {
            let (bucket, _) = locate(index);
            self.slot(index);
            index = ((FIRST_BUCKET << (bucket + 1)) - FIRST_BUCKET).min(len);
            self.len.store(index, Ordering::Release);
        }
    }

    fn slot(&self, index: u64) -> &AtomicU64 {
        let (bucket, place) = locate(index);
        let bucket_words = || (0..FIRST_BUCKET << bucket).map(|_| AtomicU64::new(0)).collect();
        &self.buckets[bucket].get_or_init(bucket_words)[place]
    }

    /// The word at `index`.
    pub fn get(&self, index: u64) -> Option<u64> {
        let (bucket, place) = locate(index);
        if index >= self.len() {
            return None;
        }
        Some(self.buckets.get(bucket)?.get()?[place].load(Ordering::Acquire))
    }

    /// Replaces the word at `index`; for the one writer.
    pub fn set(&self, index: u64, word: u64) {
        if index < self.len() {
            self.slot(index).store(word, Ordering::Release);
        }
    }

    /// Hands words `from..to` to `take`, bucket by bucket.
    pub fn for_each_slice(&self, from: u64, to: u64, mut take: impl FnMut(&[AtomicU64])) {
        let to = to.min(self.len());
        let mut index = from;
        while index < to {
            let (bucket, place) = locate(index);
            let Some(words) = self.buckets[bucket].get() else { return };
            let count = (words.len() - place).min((to - index) as usize);
            take(&words[place..place + count]);
            index += count as u64;
        }
    }
}

/// Items in buckets that never move.
pub(crate) struct AppendVec<T> {
    buckets: [OnceLock<Box<[OnceLock<T>]>>; BUCKETS],
    len: AtomicU64,
}

impl<T> Default for AppendVec<T> {
    fn default() -> Self {
        let buckets = std::array::from_fn(|_| OnceLock::new());
        Self { buckets, len: AtomicU64::new(0) }
    }
}

impl<T> AppendVec<T> {
    /// Number of items that readers may look at.
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Appends an item; for the one writer.
    pub fn push(&self, item: T) -> u64 {
        let index = self.len.load(Ordering::Relaxed);
        let (bucket, place) = locate(index);
        let items = || (0..FIRST_BUCKET << bucket).map(|_| OnceLock::new()).collect();
        let set = self.buckets[bucket].get_or_init(items)[place].set(item);
        debug_assert!(set.is_ok(), "one writer appends");
        self.len.store(index + 1, Ordering::Release);
        index
    }

    /// The item at `index`.
    pub fn get(&self, index: u64) -> Option<&T> {
        let (bucket, place) = locate(index);
        if index >= self.len() {
            return None;
        }
        self.buckets.get(bucket)?.get()?[place].get()
    }

    /// All items that readers may look at now.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len()).map_while(|index| self.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_places() {
        let words = AppendWords::default();
        (0..1000).for_each(|i| words.push(i * 3));
        assert!((0..1000).all(|i| words.get(i) == Some(i * 3)));
        assert_eq!(words.get(1000), None);
        let mut seen = Vec::new();
        words.for_each_slice(5, 900, |slice| {
            seen.extend(slice.iter().map(|word| word.load(Ordering::Relaxed)));
        });
        assert_eq!(seen, (5..900).map(|i| i * 3).collect::<Vec<_>>());
        words.extend_to(1500);
        assert_eq!((words.get(1499), words.get(999)), (Some(0), Some(2997)));
    }
}
