//! A hash index of atomics: one writer, any number of readers, nobody waits.
//!
//! Open addressing with linear probing, as in Knuth, The Art of Computer Programming 6.4; a full
//! table is followed by one of twice the size, and the old ones stay until the index is dropped,
//! so that a reader may finish in them. 16 bytes a slot, at most three quarters full.
//!
//! A large index is in stripes, which double one after the other: to double millions of words at
//! once took a writer, and whoever follows it, a tenth of a second and more.

use std::slice;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const TABLES: usize = 32;
const FIRST_SLOTS: usize = 64;
/// Stripes of a large index, by the leading bits of the hash; a power of two.
const STRIPES: usize = 64;
/// An index of so many words is large: its table of 32,768 slots is full.
const LARGE: usize = 3 << 13;
/// Slots of a stripe at first, a power of two.
const STRIPE_SLOTS: usize = 1024;
/// Parts of a table that are full before it is doubled, of so many: the stripes have from the
/// one to the other, so that they do not all grow at once.
const PARTS: usize = 1024;
const FULL_FROM: usize = 640;
const FULL_TO: usize = 768;

struct Slot {
    hash: AtomicU64,
    /// 0 while the slot is free.
    word: AtomicU64,
}

/// Hash to word.
pub(crate) struct HashIndex {
    whole: Stripe,
    /// What comes in its place once it is large.
    stripes: OnceLock<Box<[Stripe]>>,
}

/// The words of some hashes.
struct Stripe {
    tables: [OnceLock<Box<[Slot]>>; TABLES],
    newest: AtomicUsize,
    used: AtomicUsize,
    /// Of `PARTS`, how many are full before it grows.
    full: usize,
}

impl Default for HashIndex {
    fn default() -> Self {
        Self { whole: Stripe::new(FIRST_SLOTS, FULL_TO), stripes: OnceLock::new() }
    }
}

fn new_table(slots: usize) -> Box<[Slot]> {
    (0..slots).map(|_| Slot { hash: AtomicU64::new(0), word: AtomicU64::new(0) }).collect()
}

/// The stripe of a hash; its table goes by the bits at the other end.
fn stripe_of(hash: u64) -> usize {
    (hash >> (u64::BITS - STRIPES.ilog2())) as usize
}

impl HashIndex {
    #[inline]
    fn stripe(&self, hash: u64) -> &Stripe {
        self.stripes.get().map_or(&self.whole, |stripes| &stripes[stripe_of(hash)])
    }

    fn all(&self) -> &[Stripe] {
        self.stripes.get().map_or(slice::from_ref(&self.whole), |stripes| stripes)
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
        let table = self.stripe(hash).table();
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
        let load = |&hash: &u64| {
            let table = self.stripe(hash).table();
            table[hash as usize & (table.len() - 1)].word.load(Ordering::Relaxed)
        };
        std::hint::black_box(hashes.iter().map(load).fold(0, |all, word| all | word));
    }

    /// Puts `word` in the place of `old` (under the same hash), or in a free slot; for the writer.
    pub fn set(&self, hash: u64, old: Option<u64>, word: u64) {
        let stripe = self.stripe(hash);
        if old.is_some_and(|old| stripe.replace(hash, old, word)) {
            return;
        }
        self.divide_at(1);
        self.stripe(hash).add(hash, word);
    }

    /// Makes room for so many more words at once; for the writer.
    pub fn reserve(&self, more: usize) {
        self.divide_at(more);
        let stripes = self.all();
        // They get about as many each, but for four standard deviations.
        let share = more / stripes.len();
        let share = if stripes.len() > 1 { share + 4 * share.isqrt() + 1 } else { more };
        stripes.iter().for_each(|stripe| stripe.reserve(share));
    }

    /// Divides what has become large with so many more words; for the writer.
    fn divide_at(&self, more: usize) {
        if self.whole.used.load(Ordering::Relaxed) + more < LARGE || self.stripes.get().is_some() {
            return;
        }
        let full = |at: usize| FULL_FROM + at * (FULL_TO - FULL_FROM) / (STRIPES - 1);
        let stripes: Box<[Stripe]> =
            (0..STRIPES).map(|at| Stripe::new(STRIPE_SLOTS, full(at))).collect();
        for (hash, word) in self.whole.pairs() {
            stripes[stripe_of(hash)].add(hash, word);
        }
        self.stripes.get_or_init(|| stripes);
    }

    /// All pairs of hash and word, in no order.
    pub fn pairs(&self) -> impl Iterator<Item = (u64, u64)> {
        self.all().iter().flat_map(Stripe::pairs)
    }
}

impl Stripe {
    fn new(slots: usize, full: usize) -> Self {
        let stripe = Self {
            tables: std::array::from_fn(|_| OnceLock::new()),
            newest: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            full,
        };
        stripe.tables[0].get_or_init(|| new_table(slots));
        stripe
    }

    #[inline]
    fn table(&self) -> &[Slot] {
        let newest = self.newest.load(Ordering::Acquire);
        self.tables[newest].get().map_or(&[], |table| table)
    }

    /// Puts `word` in the place of `old`; false where that is not there.
    fn replace(&self, hash: u64, old: u64, word: u64) -> bool {
        let table = self.table();
        let mask = table.len() - 1;
        let mut place = hash as usize & mask;
        loop {
            let found = table[place].word.load(Ordering::Relaxed);
            if found == 0 {
                return false;
            }
            if found == old && table[place].hash.load(Ordering::Relaxed) == hash {
                table[place].word.store(word, Ordering::Release);
                return true;
            }
            place = (place + 1) & mask;
        }
    }

    fn add(&self, hash: u64, word: u64) {
        let used = self.used.load(Ordering::Relaxed) + 1;
        if used * PARTS > self.table().len() * self.full {
            self.grow_to(self.table().len() * 2);
        }
        insert(self.table(), hash, word);
        self.used.store(used, Ordering::Relaxed);
    }

    fn reserve(&self, more: usize) {
        let needed = (self.used.load(Ordering::Relaxed) + more + 1) * PARTS / self.full + 1;
        if needed > self.table().len() {
            self.grow_to(needed.next_power_of_two());
        }
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

    fn pairs(&self) -> impl Iterator<Item = (u64, u64)> {
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

    fn mixed(i: u64) -> u64 {
        let x = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    #[test]
    fn a_large_index_is_divided_and_keeps_its_words() {
        let count = 3 * LARGE as u64;
        for reserved in [0, 1000, LARGE, 4 * LARGE] {
            let index = HashIndex::default();
            index.reserve(reserved);
            for i in 1..=count {
                index.set(mixed(i), None, i);
                // A word is replaced that may be from before the division.
                if i == count / 2 {
                    index.set(mixed(7), Some(7), count + 7);
                    index.reserve(reserved);
                }
            }
            assert!(index.stripes.get().is_some());
            let word = |i| if i == 7 { count + 7 } else { i };
            for i in 1..=count {
                let found = index.find(mixed(i), |found| Ok::<_, ()>(found == word(i)));
                assert_eq!(found, Ok(Some(word(i))));
            }
            let mut words: Vec<u64> = index.pairs().map(|pair| pair.1).collect();
            words.sort_unstable();
            let mut wanted: Vec<u64> = (1..=count).map(word).collect();
            wanted.sort_unstable();
            assert_eq!(words, wanted);
            assert_eq!(index.find(mixed(count + 1), |_| Ok::<_, ()>(true)), Ok(None));
        }
    }

    #[test]
    fn stripes_do_not_double_all_at_once() {
        let index = HashIndex::default();
        let (count, step) = (16 * LARGE, LARGE / 8);
        let slots = || index.all().iter().map(|stripe| stripe.table().len()).collect::<Vec<_>>();
        let (mut before, mut grown) = (Vec::new(), 0);
        for first in (0..count).step_by(step) {
            index.reserve(step);
            (first..first + step).for_each(|i| index.set(mixed(i as u64), None, i as u64 + 1));
            let now = slots();
            if first >= 2 * LARGE {
                let more = now.iter().zip(&before).filter(|(now, before)| now > before).count();
                assert!(more <= STRIPES / 3, "{more} stripes at once, {first}");
                grown += more;
            }
            before = now;
        }
        assert!(grown >= 2 * STRIPES, "{grown}");
        let used = index.all().iter().map(|stripe| (stripe.used.load(Ordering::Relaxed), stripe));
        for (used, stripe) in used {
            assert!(used * 4 <= stripe.table().len() * 3, "three quarters at most");
        }
    }

    #[test]
    fn readers_find_every_word_while_the_index_grows() {
        let (index, count) = (HashIndex::default(), 3 * LARGE as u64);
        let written = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let reader = || {
                let mut at = 1;
                while written.load(Ordering::Relaxed) < count {
                    let end = written.load(Ordering::Acquire);
                    for _ in 0..64.min(end) {
                        at = at % end + 1;
                        let found = index.find(mixed(at), |word| Ok::<_, ()>(word == at));
                        assert_eq!(found, Ok(Some(at)));
                    }
                }
            };
            scope.spawn(reader);
            scope.spawn(reader);
            for i in 1..=count {
                index.set(mixed(i), None, i);
                written.store(i, Ordering::Release);
            }
        });
    }
}
