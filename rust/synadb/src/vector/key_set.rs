//! Keys side by side in memory, as a filter names them.

use std::sync::OnceLock;

use xxhash_rust::xxh3::xxh3_64;

/// A set of keys, which may name one twice.
///
/// Most that are made are looked up in a store once, each key after the other. What it takes to be
/// asked for a key is made when it is.
#[derive(Default)]
pub(super) struct KeySet {
    text: String,
    /// Where each key ends in the text.
    ends: Vec<usize>,
    /// One more than the number of a key in a place that its hash leads to, 0 where there is none.
    places: OnceLock<Box<[usize]>>,
}

impl KeySet {
    /// How many keys it names.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The keys, as they were named.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|number| self.key(number))
    }

    /// Whether it names a key. O(1), but for the first time.
    pub fn contains(&self, key: &str) -> bool {
        let places = match self.places.get() {
            Some(places) => places,
            None => {
                // Made before it is put there: nobody waits for who is at it, nor a forked child for good.
                let made = self.placed();
                self.places.get_or_init(|| made)
            }
        };
        let mut place = first_place(key, places.len());
        while let Some(number) = places[place].checked_sub(1) {
            if self.key(number) == key {
                return true;
            }
            place = (place + 1) % places.len();
        }
        false
    }

    fn key(&self, number: usize) -> &str {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[number]]
    }

    /// The places of the keys: at least one in four is free.
    fn placed(&self) -> Box<[usize]> {
        let mut places = vec![0; (self.len() / 3 * 4 + 4).next_power_of_two()];
        for (number, key) in self.iter().enumerate() {
            let mut place = first_place(key, places.len());
            // One that is named again has its place.
            while places[place] != 0 && self.key(places[place] - 1) != key {
                place = (place + 1) % places.len();
            }
            places[place] = number + 1;
        }
        places.into()
    }
}

fn first_place(key: &str, places: usize) -> usize {
    xxh3_64(key.as_bytes()) as usize % places
}

impl<K: AsRef<str>> FromIterator<K> for KeySet {
    fn from_iter<I: IntoIterator<Item = K>>(keys: I) -> Self {
        let keys = keys.into_iter();
        let mut set = Self { ends: Vec::with_capacity(keys.size_hint().0), ..Self::default() };
        for key in keys {
            set.text.push_str(key.as_ref());
            set.ends.push(set.text.len());
        }
        set.text.shrink_to_fit();
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_keys_that_were_named_and_no_others() {
        for count in [0, 1, 2, 3, 4, 100, 5000] {
            let key = |n: usize| format!("{}{n}", "\u{e4}".repeat(n % 3));
            let named: Vec<String> = (0..count).map(|n| key(n / 2 * 2)).collect();
            let set: KeySet = named.iter().collect();
            assert!(set.iter().eq(&named), "the same order, and those that come twice");
            assert_eq!(set.len(), count);
            for n in 0..count + 10 {
                assert_eq!(set.contains(&key(n)), n % 2 == 0 && n < count, "{n} of {count}");
            }
            assert!(!set.contains(""));
        }
        let set: KeySet = std::iter::repeat_n("often", 1_000_000).collect();
        assert!(set.contains("often") && !set.contains("seldom"));
        let set: KeySet = ["", "ab", "c"].iter().collect();
        assert!(set.contains("") && set.contains("ab") && !set.contains("abc"));
    }
}
