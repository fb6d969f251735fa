//! What a power cut leaves: for any point of a medium's log, media that it could become.
//!
//! Since a file's last sync each of its pages may or may not have been written, as it stood behind
//! any store, or in parts of 64 bytes, or of 8 behind page 0, that each stand as of another store. A
//! length is one that the file had since its last sync, or one on the way of its growth. Of what was
//! done to names since the directory's last sync a first part is there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::image::Page;
use super::{Event, Image, Medium, PAGE_BYTES, Random, State, mix};
use crate::{Result, control, identity};

const SECTOR_BYTES: usize = 64;
const WORD_BYTES: usize = 8;

/// Changes of a page that no sync has covered.
#[derive(Debug, Default)]
struct Pending {
    /// Places in the log, in order.
    events: Vec<usize>,
    /// A failed sync left the page clean and not stored: it stays as it is until it is changed.
    is_lost: bool,
}

/// A file at some point of the log.
#[derive(Default)]
struct FileAt {
    synced: Image,
    /// Lengths since the last sync, that of the sync first.
    lengths: Vec<u64>,
    pending: BTreeMap<u64, Pending>,
}

/// Of which version of a page a crash leaves which part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Synced,
    Newest,
    /// Whole, as it stood behind some store.
    Some,
    /// All of it but a few sectors, which stand as behind some store.
    Holes,
    /// Each sector as it stood behind some store.
    Sectors,
    /// Each word as it stood behind some store.
    Words,
}

/// A way along the log of a medium, on which crash states can be made.
pub struct Walk {
    medium: Arc<Medium>,
    position: usize,
    files: Vec<FileAt>,
    names: BTreeMap<PathBuf, usize>,
    /// Places in the log of what was done to names since the last sync of the directory.
    pending_names: Vec<usize>,
}

impl Walk {
    /// Begins at the birth of the medium.
    #[must_use]
    pub fn new(medium: &Arc<Medium>) -> Self {
        let state = medium.lock();
        let files = state.files.iter().map(|file| FileAt {
            synced: file.born.clone(),
            lengths: vec![file.born.len],
            pending: BTreeMap::new(),
        });
        let files = files.collect();
        let (names, pending_names) = (state.born_names.clone(), Vec::new());
        drop(state);
        Self { medium: Arc::clone(medium), position: 0, files, names, pending_names }
    }

    /// Goes on to the point at which so many events have happened.
    pub fn advance(&mut self, position: usize) {
        let medium = Arc::clone(&self.medium);
        let state = medium.lock();
        while self.position < position.min(state.log.len()) {
            self.step(&state);
            self.position += 1;
        }
    }

    fn step(&mut self, state: &State) {
        let at = self.position;
        match &state.log[at] {
            Event::Store { file, offset, len, .. } => {
                self.at(*file).touch(*offset, offset + *len as u64, at);
            }
            Event::Zero { file, offset, len } => {
                self.at(*file).touch_what_is_there(*offset, offset + len, at);
            }
            Event::Length { file, len } => {
                let file = self.at(*file);
                let before = file.lengths.last().copied().unwrap_or(0);
                file.touch_what_is_there(*len, before.max(*len), at);
                file.lengths.push(*len);
            }
            Event::Sync { file } => self.at(*file).sync(state),
            Event::SyncFailed { file } => self.at(*file).sync_failed(state, at),
            Event::Create { .. } | Event::Rename { .. } | Event::Remove { .. } => {
                self.pending_names.push(at);
            }
            Event::SyncParent => {
                for at in std::mem::take(&mut self.pending_names) {
                    rename(&mut self.names, &state.log[at]);
                }
            }
        }
    }

    fn at(&mut self, file: usize) -> &mut FileAt {
        while self.files.len() <= file {
            self.files.push(FileAt { lengths: vec![0], ..FileAt::default() });
        }
        &mut self.files[file]
    }

    /// A medium as a power cut here could leave it.
    ///
    /// # Errors
    /// `Io` where there is no memory for it.
    pub fn state(&self, random: &mut Random) -> Result<Arc<Medium>> {
        let state = self.medium.lock();
        let mut names = self.names.clone();
        let done = random.index(self.pending_names.len() + 1);
        for at in &self.pending_names[..done] {
            rename(&mut names, &state.log[*at]);
        }
        let mood = Mood::draw(random);
        let mut images = Vec::with_capacity(names.len());
        for file in names.values_mut() {
            let found = self.files.get(*file).map(|at| at.left(&state, mood, random));
            *file = images.len();
            images.push(found.unwrap_or_default());
        }
        drop(state);
        Medium::holding(images, names)
    }
}

fn rename(names: &mut BTreeMap<PathBuf, usize>, event: &Event) {
    match event {
        Event::Create { name, file } => {
            names.insert(name.clone(), *file);
        }
        Event::Rename { from, to } => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        Event::Remove { name } => {
            names.remove(name);
        }
        _ => {}
    }
}

/// What one crash tends to do, so that some leave nearly all and some nearly nothing.
#[derive(Debug, Clone, Copy)]
struct Mood {
    synced_percent: u64,
    newest_percent: u64,
}

impl Mood {
    fn draw(random: &mut Random) -> Self {
        let (synced_percent, newest_percent) =
            [(0, 100), (100, 0), (50, 50), (10, 70), (0, 0), (25, 25), (5, 90)][random.index(7)];
        Self { synced_percent, newest_percent }
    }

    fn choose(self, random: &mut Random) -> Left {
        let percent = random.below(100);
        if percent < self.synced_percent {
            Left::Synced
        } else if percent < self.synced_percent + self.newest_percent {
            Left::Newest
        } else {
            [Left::Some, Left::Holes, Left::Holes, Left::Sectors, Left::Words][random.index(5)]
        }
    }
}

impl FileAt {
    fn touch(&mut self, from: u64, to: u64, event: usize) {
        for page in pages(from, to) {
            let pending = self.pending.entry(page).or_default();
            pending.events.push(event);
            pending.is_lost = false;
        }
    }

    /// As `touch`, of pages that are not zero already.
    fn touch_what_is_there(&mut self, from: u64, to: u64, event: usize) {
        for page in pages(from, to) {
            if self.pending.contains_key(&page) || self.synced.shared(page).is_some() {
                self.touch(page * PAGE_BYTES as u64, (page + 1) * PAGE_BYTES as u64, event);
            }
        }
    }

    fn sync(&mut self, state: &State) {
        let synced = &mut self.synced;
        self.pending.retain(|number, pending| {
            if !pending.is_lost {
                synced.set(*number, &newest(synced.page(*number), *number, pending, state));
            }
            pending.is_lost
        });
        self.lengths = vec![self.lengths.last().copied().unwrap_or(0)];
        self.synced.len = self.lengths[0];
    }

    /// Of each page it depends on the place alone whether it was stored before the error.
    fn sync_failed(&mut self, state: &State, at: usize) {
        let synced = &mut self.synced;
        self.pending.retain(|number, pending| {
            let is_stored = mix(*number ^ ((at as u64) << 32)).is_multiple_of(2);
            if is_stored && !pending.is_lost {
                synced.set(*number, &newest(synced.page(*number), *number, pending, state));
                return false;
            }
            pending.is_lost = true;
            true
        });
    }

    fn left(&self, state: &State, mood: Mood, random: &mut Random) -> Image {
        let mut image = self.synced.clone();
        for (number, pending) in self.pending.iter().filter(|(_, pending)| !pending.is_lost) {
            let page = image.page(*number);
            let left = match mood.choose(random) {
                // Page 0 is stored by one call, while nothing of it is on its way to the medium.
                Left::Words if *number == 0 => {
                    torn(page, *number, pending, state, SECTOR_BYTES, random)
                }
                Left::Synced => continue,
                Left::Newest => newest(page, *number, pending, state),
                Left::Holes => holed(page, *number, pending, state, random),
                Left::Some => torn(page, *number, pending, state, PAGE_BYTES, random),
                Left::Sectors => torn(page, *number, pending, state, SECTOR_BYTES, random),
                Left::Words => torn(page, *number, pending, state, WORD_BYTES, random),
            };
            image.set(*number, &left);
        }
        image.cut(self.length_left(mood, random));
        scribble(&mut image, random);
        image
    }

    fn length_left(&self, mood: Mood, random: &mut Random) -> u64 {
        let last = self.lengths.len() - 1;
        let chosen = match mood.choose(random) {
            Left::Synced => 0,
            Left::Newest => last,
            _ => random.index(last + 1),
        };
        let length = self.lengths[chosen];
        let before = if chosen == 0 { length } else { self.lengths[chosen - 1] };
        if length > before && random.chance(25) {
            let pages = (length - before) / PAGE_BYTES as u64;
            let grown = before + random.below(pages) * PAGE_BYTES as u64;
            return grown.next_multiple_of(PAGE_BYTES as u64).min(length);
        }
        length
    }
}

/// Numbers of the pages that the range touches.
fn pages(from: u64, to: u64) -> std::ops::Range<u64> {
    from / PAGE_BYTES as u64..to.max(from).div_ceil(PAGE_BYTES as u64)
}

/// The page with all that was done to it.
fn newest(mut page: Page, number: u64, pending: &Pending, state: &State) -> Page {
    for at in &pending.events {
        apply(&state.log[*at], &state.bytes, number, &mut page);
    }
    page
}

/// The page, each part of it as of some of the events.
fn torn(
    synced: Page,
    number: u64,
    pending: &Pending,
    state: &State,
    part: usize,
    random: &mut Random,
) -> Page {
    let events = pending.events.len();
    let versions: Vec<usize> = (0..PAGE_BYTES / part).map(|_| random.index(events + 1)).collect();
    let (mut out, mut page) = (synced, synced);
    for (version, at) in pending.events.iter().enumerate() {
        apply(&state.log[*at], &state.bytes, number, &mut page);
        for (place, _) in versions.iter().enumerate().filter(|(_, v)| **v == version + 1) {
            let range = place * part..(place + 1) * part;
            out[range.clone()].copy_from_slice(&page[range]);
        }
    }
    out
}

/// The page with all that was done to it, but for a few sectors.
fn holed(synced: Page, number: u64, pending: &Pending, state: &State, random: &mut Random) -> Page {
    let mut out = newest(synced, number, pending, state);
    let older = torn(synced, number, pending, state, PAGE_BYTES, random);
    let sectors = (0..PAGE_BYTES).step_by(SECTOR_BYTES).map(|at| at..at + SECTOR_BYTES);
    let changed: Vec<_> = sectors.filter(|at| out[at.clone()] != older[at.clone()]).collect();
    for _ in 0..=random.index(3) {
        if let Some(at) = changed.get(random.index(changed.len())) {
            out[at.clone()].copy_from_slice(&older[at.clone()]);
        }
    }
    out
}

fn apply(event: &Event, bytes: &[u8], number: u64, page: &mut Page) {
    let start = number * PAGE_BYTES as u64;
    let end = start + PAGE_BYTES as u64;
    let part = |from: u64, to: u64| {
        let (from, to) = (from.clamp(start, end), to.clamp(start, end));
        (from - start) as usize..(to - start) as usize
    };
    match event {
        Event::Store { offset, start: at, len, .. } => {
            let range = part(*offset, offset + *len as u64);
            let from = at + (start + range.start as u64 - offset) as usize;
            page[range.clone()].copy_from_slice(&bytes[from..from + range.len()]);
        }
        Event::Zero { offset, len, .. } => page[part(*offset, offset + len)].fill(0),
        Event::Length { len, .. } => page[part(*len, u64::MAX)].fill(0),
        _ => {}
    }
}

/// Control words that are never logged may have reached the medium with any value.
fn scribble(image: &mut Image, random: &mut Random) {
    let number = identity::PAGE_BYTES / PAGE_BYTES as u64;
    if image.len < 2 * identity::PAGE_BYTES || image.shared(0).is_none() || random.chance(75) {
        return;
    }
    let mut page = image.page(number);
    let words =
        [control::WANT, control::RELEASED, control::HOLDER, control::NEXT, control::SYNC_GEN];
    for word in words {
        let at = (word - identity::PAGE_BYTES) as usize;
        page[at..at + WORD_BYTES].copy_from_slice(&random.draw().to_le_bytes());
    }
    image.set(number, &page);
}
