//! A hash index of atomics: one writer, any number of readers, nobody waits.
//!
//! Open addressing with linear probing, as in Knuth, The Art of Computer Programming 6.4; a full
//! table is followed by one of twice the size, and the old ones stay until the index is dropped,
//! so that a reader may finish in them. 16 bytes a slot, at most three quarters full.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const TABLES: usize = 40;
const FIRST_SLOTS: usize = 64;

struct Slot {
    hash: AtomicU64,
    /// 0 while the slot is free.
    word: AtomicU64,
}

/// Hash to word.
pub(crate) struct HashIndex {
    tables: [OnceLock<Box<[Slot]>>; TABLES],
    newest: AtomicUsize,
    used: AtomicUsize,
}

impl Default for HashIndex {
    fn default() -> Self {
        let index = Self {
            tables: std::array::from_fn(|_| OnceLock::new()),
            newest: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
        };
        index.tables[0].get_or_init(|| new_table(FIRST_SLOTS));
        index
    }
}

fn new_table(slots: usize) -> Box<[Slot]> {
    (0..slots).map(|_| Slot { hash: AtomicU64::new(0), word: AtomicU64::new(0) }).collect()
}

impl HashIndex {
    fn table(&self) -> &[Slot] {
        let newest = self.newest.load(Ordering::Acquire);
        self.tables[newest].get().map_or(&[], |table| table)
    }

    /// The first word under `hash` that `accept` takes.
    ///
    /// # Errors
    /// What `accept` returns.
    #[inline]
    pub fn find<E>(
        &self,
        hash: u64,
        mut accept: impl FnMut(u64) -> Result<bool, E>,
    ) -> Result<Option<u64>, E> {
        let table = self.table();
        let mask = table.len() - 1;
        let mut place = hash as usize & mask;
        loop {
            let word = table[place].word.load(Ordering::Acquire);
            if word == 0 {
                return Ok(None);
            }
            if table[place].hash.load(Ordering::Relaxed) == hash && accept(word)? {
                return Ok(Some(word));
            }
            place = (place + 1) & mask;
        }
    }

    /// Brings the slots of some hashes near; nothing depends on a load, so that the waits overlap.
    pub fn touch(&self, hashes: &[u64]) {
        let table = self.table();
        let mask = table.len() - 1;
        let load = |hash: &u64| table[*hash as usize & mask].word.load(Ordering::Relaxed);
        std::hint::black_box(hashes.iter().map(load).fold(0, |all, word| all | word));
    }

    /// Puts `word` in the place of `old` (under the same hash), or in a free slot; for the writer.
    pub fn set(&self, hash: u64, old: Option<u64>, word: u64) {
        if let Some(old) = old {
            let table = self.table();
            let mask = table.len() - 1;
            let mut place = hash as usize & mask;
            loop {
                let found = table[place].word.load(Ordering::Relaxed);
                if found == 0 {
                    break;
                }
                if found == old && table[place].hash.load(Ordering::Relaxed) == hash {
                    table[place].word.store(word, Ordering::Release);
                    return;
                }
                place = (place + 1) & mask;
            }
        }
        let used = self.used.load(Ordering::Relaxed) + 1;
        if used * 4 > self.table().len() * 3 {
            self.grow();
        }
        insert(self.table(), hash, word);
        self.used.store(used, Ordering::Relaxed);
    }

    /// Makes room for so many more words at once; for the writer.
    pub fn reserve(&self, more: usize) {
        let needed = (self.used.load(Ordering::Relaxed) + more + 1) * 4 / 3 + 1;
        if needed > self.table().len() {
            self.grow_to(needed.next_power_of_two());
        }
    }

    fn grow(&self) {
        self.grow_to(self.table().len() * 2);
    }

    fn grow_to(&self, slots: usize) {
        let old = self.table();
        let number = self.newest.load(Ordering::Relaxed) + 1;
        let table = self.tables[number].get_or_init(|| new_table(slots));
        for slot in old {
            let word = slot.word.load(Ordering::Relaxed);
            if word != 0 {
                insert(table, slot.hash.load(Ordering::Relaxed), word);
            }
        }
        self.newest.store(number, Ordering::Release);
    }

    /// All pairs of hash and word, in no order.
    pub fn pairs(&self) -> impl Iterator<Item = (u64, u64)> {
        self.table().iter().filter_map(|slot| {
            let word = slot.word.load(Ordering::Acquire);
            (word != 0).then(|| (slot.hash.load(Ordering::Relaxed), word))
        })
    }
}

fn insert(table: &[Slot], hash: u64, word: u64) {
    let mask = table.len() - 1;
    let mut place = hash as usize & mask;
    while table[place].word.load(Ordering::Relaxed) != 0 {
        place = (place + 1) & mask;
    }
    table[place].hash.store(hash, Ordering::Relaxed);
    table[place].word.store(word, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_a_hash_map() {
        let index = HashIndex::default();
        let hash = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (i % 3);
        for i in 1..5000u64 {
            index.set(hash(i), None, i);
        }
        for i in (1..5000u64).step_by(2) {
            index.set(hash(i), Some(i), i + 10_000);
        }
        for i in 1..5000u64 {
            let expected = if i % 2 == 1 { i + 10_000 } else { i };
            let found = index.find(hash(i), |word| Ok::<_, ()>(word == expected));
            assert_eq!(found, Ok(Some(expected)));
        }
        assert_eq!(index.pairs().count(), 4999);
    }
}
