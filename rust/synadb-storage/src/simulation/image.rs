//! What stands on a medium: pages, shared between the states that have them in common.

use std::sync::Arc;

use super::PAGE_BYTES;

pub(crate) type Page = [u8; PAGE_BYTES];

/// Content of a file as far as it is not zero.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pub len: u64,
    pages: Vec<Option<Arc<Page>>>,
}

impl Image {
    /// The page of that number, zero where nothing was stored.
    pub fn page(&self, number: u64) -> Page {
        self.shared(number).map_or([0; PAGE_BYTES], |page| **page)
    }

    /// The page of that number, if it is not zero.
    pub fn shared(&self, number: u64) -> Option<&Arc<Page>> {
        self.pages.get(number as usize)?.as_ref()
    }

    /// Puts a page in its place.
    pub fn set(&mut self, number: u64, page: &Page) {
        let number = number as usize;
        if number >= self.pages.len() {
            self.pages.resize(number + 1, None);
        }
        let is_zero = page.iter().all(|byte| *byte == 0);
        self.pages[number] = (!is_zero).then(|| Arc::new(*page));
    }

    /// Ends the file at `len`; what was behind is gone.
    pub fn cut(&mut self, len: u64) {
        self.len = len;
        let whole = (len / PAGE_BYTES as u64) as usize;
        self.pages.truncate(whole + 1);
        if whole < self.pages.len() {
            let mut last = self.page(whole as u64);
            last[len as usize % PAGE_BYTES..].fill(0);
            self.set(whole as u64, &last);
        }
    }

    /// Offsets and contents of the pages that are not zero.
    pub fn pages(&self) -> impl Iterator<Item = (u64, &Page)> {
        let numbered = self.pages.iter().enumerate();
        numbered.filter_map(|(number, page)| {
            page.as_deref().map(|page| ((number * PAGE_BYTES) as u64, page))
        })
    }
}
