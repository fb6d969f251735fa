//! Zeroed atomic words for tables that are looked up at random places.

use std::ops::Deref;
use std::sync::atomic::AtomicU64;

use crate::region::Map;

/// From this size on a table is put on huge pages, of 2 MiB on the systems that have them: one that
/// is read at random would wait for the address of each page as well as for what lies on it.
const HUGE_BYTES: usize = 2 << 20;

/// A fixed number of words, all zero in the beginning.
pub struct Words {
    body: Body,
    len: usize,
}

enum Body {
    Heap(Box<[AtomicU64]>),
    /// And where the words begin in it.
    Huge(Map, u64),
}

impl Words {
    /// `len` zeroed words; on huge pages where there are many and the system has such pages.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let huge = (len * size_of::<AtomicU64>() >= HUGE_BYTES).then(|| Self::huge(len)).flatten();
        let heap = || Body::Heap((0..len).map(|_| AtomicU64::new(0)).collect());
        Self { body: huge.unwrap_or_else(heap), len }
    }

    fn huge(len: usize) -> Option<Body> {
        // Only whole huge pages count, so the words begin where one does.
        let bytes = len * size_of::<AtomicU64>() + HUGE_BYTES;
        let map = Map::anonymous(bytes as u64).ok()?;
        let start = map.start_of_page(HUGE_BYTES);
        map.on_huge_pages();
        map.words(start, len).is_some().then_some(Body::Huge(map, start))
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        match &self.body {
            Body::Heap(words) => words,
            Body::Huge(map, start) => map.words(*start, self.len).unwrap_or(&[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn words_are_zero_and_keep_what_is_stored() {
        for len in [0, 1, 100, HUGE_BYTES / 8 - 1, HUGE_BYTES / 8, HUGE_BYTES + 3] {
            let words = Words::zeroed(len);
            assert_eq!(words.len(), len);
            assert!(words.iter().all(|word| word.load(Ordering::Relaxed) == 0));
            for (i, word) in words.iter().enumerate() {
                word.store(i as u64, Ordering::Relaxed);
            }
            assert!(words.iter().enumerate().all(|(i, w)| w.load(Ordering::Relaxed) == i as u64));
        }
    }
}
