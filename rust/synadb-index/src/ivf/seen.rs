//! Rows that a search has met.

use crate::hidden::{Beyond, Hidden};

/// Rows met in a search: each is offered once although two cells may list it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    words: Vec<u64>,
    touched: Vec<u32>,
    /// Those among the nearest that cannot be found.
    pub(super) hidden: Hidden,
}

impl Seen {
    pub(super) fn begin(&mut self, rows_end: u32, beyond: Beyond, k: usize) {
        self.hidden.begin(beyond, k);
        for word in self.touched.drain(..) {
            self.words[word as usize] = 0;
        }
        let words = (rows_end as usize).div_ceil(64);
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
    }

    /// True when the row was not met before.
    pub(super) fn insert(&mut self, row: u32) -> bool {
        let (word, bit) = (row / 64, 1 << (row % 64));
        let Some(slot) = self.words.get_mut(word as usize) else {
            return true;
        };
        let new = *slot & bit == 0;
        if *slot == 0 {
            self.touched.push(word);
        }
        *slot |= bit;
        new
    }
}
