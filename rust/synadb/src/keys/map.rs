//! The key map of a table: a mapped image from the checkpoint, and what changed since.

use std::sync::{Arc, Mutex, PoisonError};

use synadb_storage::log::{Log, Record};
use synadb_storage::record::RecordKind;
use synadb_storage::{Result, StorageError};

use super::{AppendWords, HashIndex};
use crate::sections::{Section, SectionWriter, TableSections};

/// Sections of a key map: its image, and the number of its live keys.
const IMAGE: u32 = 1;
const LIVE: u32 = 2;

const SLOT_BYTES: u64 = 16;
/// Set in the position of a delete: who follows a damaged record still knows what it ended.
const DEAD: u64 = 1 << 63;
/// Fewer records than this are no reason to grow at once.
const EXPECTED_MIN: usize = 256;

/// Readers' half, and all that there is: the writer's half adds the count of live keys.
#[derive(Default)]
pub(crate) struct KeyMapReader {
    /// Slots of hash and position, with `DEAD` or without; never written.
    image: Option<Section>,
    /// Keys changed since, with their newest position, and `DEAD` where that is a delete.
    delta: HashIndex,
    /// Positions of the records that brought keys into the delta, in order.
    fresh: AppendWords,
    sorted: Mutex<Sorted>,
}

/// Keys in order, each by the position of some record of it. Dead keys stay until a checkpoint.
#[derive(Default)]
struct Sorted {
    entries: Arc<Vec<Entry>>,
    fresh_seen: u64,
    image_seen: bool,
}

/// A key's first eight bytes, big-endian, and a position: most comparisons end at the former.
type Entry = (u64, u64);

impl KeyMapReader {
    /// Position of the newest record of a key, whatever it is.
    #[inline]
    pub fn newest(&self, log: &Log, key: &[u8], hash: u64) -> Result<Option<u64>> {
        let is_key = |position| Ok(log.record(position)?.key == key);
        let found = match self.in_delta(hash, is_key)? {
            None => self.in_image(hash, is_key)?,
            found => found,
        };
        Ok(found.map(|word| word & !DEAD))
    }

    /// The newest record of a key that is visible; `None` where that is a delete.
    #[inline]
    pub fn get<'a>(
        &self,
        log: &'a Log,
        key: &[u8],
        hash: u64,
        visible: u64,
    ) -> Result<Option<Record<'a>>> {
        let mut found: Option<Record<'a>> = None;
        let accept = |position| {
            let record = log.record(position)?;
            let same = record.key == key;
            if same {
                found = Some(record);
            }
            Ok(same)
        };
        if self.in_delta(hash, accept)?.is_none() {
            let accept = |position| {
                let record = log.record(position)?;
                let same = record.key == key;
                if same {
                    found = Some(record);
                }
                Ok(same)
            };
            self.in_image(hash, accept)?;
        }
        while let Some(record) = found {
            if record.position < visible {
                return Ok((record.kind != RecordKind::Delete).then_some(record));
            }
            found = match record.previous {
                0 => None,
                previous => Some(log.record(previous)?),
            };
        }
        Ok(None)
    }

    /// Brings near the slots of some keys; the waits overlap.
    pub fn touch(&self, hashes: &[u64]) {
        self.delta.touch(hashes);
        let Some(image) = &self.image else { return };
        let slots = image.bytes();
        let count = slots.len() as u64 / SLOT_BYTES;
        if count > 0 {
            let load = |hash: &u64| slot(slots, hash & (count - 1)).1;
            std::hint::black_box(hashes.iter().map(load).fold(0, |all, word| all | word));
        }
    }

    /// Brings near the newest records of some keys, likewise; their slots had better be near.
    pub fn touch_records(&self, log: &Log, hashes: &[u64]) {
        let load = |&hash: &u64| {
            let any = |_| Ok(true);
            let word = self
                .in_delta(hash, any)
                .transpose()
                .or_else(|| self.in_image(hash, any).transpose());
            let position = word?.ok()? & !DEAD;
            log.region().bytes(position, 1)?.first().copied()
        };
        std::hint::black_box(hashes.iter().filter_map(load).fold(0, |all, byte| all | byte));
    }

    /// The word of a position that `accept` takes.
    fn in_delta(
        &self,
        hash: u64,
        mut accept: impl FnMut(u64) -> Result<bool>,
    ) -> Result<Option<u64>> {
        self.delta.find(hash, |word| accept(word & !DEAD))
    }

    /// The word of a position that `accept` takes.
    fn in_image(
        &self,
        hash: u64,
        mut accept: impl FnMut(u64) -> Result<bool>,
    ) -> Result<Option<u64>> {
        let Some(image) = &self.image else { return Ok(None) };
        let slots = image.bytes();
        let count = slots.len() as u64 / SLOT_BYTES;
        if count == 0 {
            return Ok(None);
        }
        let mut place = hash & (count - 1);
        for _ in 0..count {
            let (found, word) = slot(slots, place);
            if word == 0 {
                return Ok(None);
            }
            if found == hash && accept(word & !DEAD)? {
                return Ok(Some(word));
            }
            place = (place + 1) & (count - 1);
        }
        Ok(None)
    }

    /// Records of all keys that begin with `prefix` and are alive at `visible`, in order of keys.
    pub fn scan<'a>(
        &self,
        log: &'a Log,
        seed: u64,
        prefix: &[u8],
        visible: u64,
        take: &mut dyn FnMut(Record<'a>),
    ) -> Result<()> {
        let entries = self.sorted(log)?;
        let key_of = |entry: &Entry| log.record(entry.1).map(|record| record.key);
        let (mut from, mut to) = (0, entries.len());
        while from < to {
            let middle = usize::midpoint(from, to);
            if key_of(&entries[middle])? < prefix { from = middle + 1 } else { to = middle }
        }
        for entry in &entries[from..] {
            let key = key_of(entry)?;
            if !key.starts_with(prefix) {
                break;
            }
            if let Some(record) = self.get(log, key, super::hash(key, seed), visible)? {
                take(record);
            }
        }
        Ok(())
    }

    /// All keys of image and delta, sorted once and then kept up to date.
    fn sorted(&self, log: &Log) -> Result<Arc<Vec<Entry>>> {
        let mut sorted = self.sorted.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = self.fresh.len();
        if sorted.image_seen && sorted.fresh_seen == fresh {
            return Ok(Arc::clone(&sorted.entries));
        }
        let mut added = Vec::new();
        let mut add = |position| -> Result<()> {
            added.push((leading(log.record(position)?.key), position));
            Ok(())
        };
        if !sorted.image_seen {
            for (_, word) in self.image_pairs() {
                add(word & !DEAD)?;
            }
        }
        for index in sorted.fresh_seen..fresh {
            self.fresh.get(index).map_or(Ok(()), &mut add)?;
        }
        let mut failed = None;
        let mut key = |position| match log.record(position) {
            Ok(record) => record.key,
            Err(error) => {
                failed = Some(error);
                &[]
            }
        };
        let mut order = |a: &Entry, b: &Entry| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(key(b.1)));
        added.sort_unstable_by(&mut order);
        let merged = merge(&sorted.entries, added, &mut order);
        if let Some(error) = failed {
            return Err(error);
        }
        *sorted = Sorted { entries: Arc::new(merged), fresh_seen: fresh, image_seen: true };
        Ok(Arc::clone(&sorted.entries))
    }

    /// Positions of the newest records of all keys that are alive at `visible`, in no order.
    ///
    /// Where damage hides which record that is, the damaged one.
    pub fn live_positions(&self, log: &Log, visible: u64) -> Vec<u64> {
        let words = self.newest_of_all(log).into_iter().map(|pair| pair.1);
        words.filter_map(|word| live_before(log, word, visible)).collect()
    }

    /// Hash and word of the newest record of every key, deletes too, in no order.
    ///
    /// Where a record is damaged, equal hashes stand for equal keys.
    fn newest_of_all(&self, log: &Log) -> Vec<(u64, u64)> {
        let mut pairs: Vec<(u64, u64)> = self.delta.pairs().collect();
        for (hash, word) in self.image_pairs() {
            let replaces = |newer| match (log.record(newer), log.record(word & !DEAD)) {
                (Ok(newer), Ok(older)) => Ok(newer.key == older.key),
                _ => Ok(true),
            };
            if self.in_delta(hash, replaces).ok().flatten().is_none() {
                pairs.push((hash, word));
            }
        }
        pairs
    }

    fn image_pairs(&self) -> impl Iterator<Item = (u64, u64)> {
        let slots = self.image.as_ref().map_or(&[][..], |image| image.bytes());
        (0..slots.len() as u64 / SLOT_BYTES).map(|i| slot(slots, i)).filter(|pair| pair.1 != 0)
    }
}

/// Position of the newest record before `visible` of the key that `word` is of, if it is alive.
fn live_before(log: &Log, word: u64, visible: u64) -> Option<u64> {
    let (mut position, mut is_live) = (word & !DEAD, word & DEAD == 0);
    while position >= visible {
        let Ok(record) = log.record(position) else { return Some(position) };
        position = record.previous;
        // Who was there before the oldest record that is too new?
        is_live = position != 0;
    }
    if is_live && position != word & !DEAD {
        is_live = log.record(position).map_or(true, |r| r.kind != RecordKind::Delete);
    }
    is_live.then_some(position)
}

fn merge(
    old: &[Entry],
    added: Vec<Entry>,
    order: &mut impl FnMut(&Entry, &Entry) -> std::cmp::Ordering,
) -> Vec<Entry> {
    let mut merged = Vec::with_capacity(old.len() + added.len());
    let mut rest = old.iter().copied().peekable();
    let push =
        |merged: &mut Vec<Entry>, entry: Entry, order: &mut dyn FnMut(&Entry, &Entry) -> _| {
            if merged.last().is_none_or(|last| order(last, &entry) != std::cmp::Ordering::Equal) {
                merged.push(entry);
            }
        };
    for entry in added {
        while let Some(&next) = rest.peek() {
            if order(&next, &entry) == std::cmp::Ordering::Greater {
                break;
            }
            rest.next();
            push(&mut merged, next, order);
        }
        push(&mut merged, entry, order);
    }
    merged.extend(rest);
    merged
}

fn slot(slots: &[u8], place: u64) -> (u64, u64) {
    let at = (place * SLOT_BYTES) as usize;
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| slots[at + i]));
    (word(at), word(at + 8))
}

fn leading(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = key.len().min(8);
    bytes[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(bytes)
}

/// Writer's half.
#[derive(Default)]
pub(crate) struct KeyMap {
    reader: Arc<KeyMapReader>,
    live: u64,
}

impl KeyMap {
    pub fn reader(&self) -> Arc<KeyMapReader> {
        Arc::clone(&self.reader)
    }

    /// Keys that are not deleted.
    pub fn live(&self) -> u64 {
        self.live
    }

    /// The newest record of a key, whatever it is.
    pub fn newest<'a>(&self, log: &'a Log, key: &[u8], hash: u64) -> Result<Option<Record<'a>>> {
        let position = self.reader.newest(log, key, hash)?;
        position.map(|position| log.record(position)).transpose()
    }

    /// As [`KeyMapReader::touch`].
    pub fn touch(&self, hashes: &[u64]) {
        self.reader.touch(hashes);
    }

    /// Makes room for so many records at once.
    pub fn expect(&mut self, records: usize) {
        if records >= EXPECTED_MIN {
            self.reader.delta.reserve(records);
        }
    }

    /// Makes a record the newest of its key; false, and nothing changed, where it cannot be.
    ///
    /// A record names the one before it: where the map holds that position under the same hash,
    /// the key need not be compared again.
    pub fn apply(&mut self, log: &Log, record: &Record<'_>, hash: u64) -> bool {
        let is_live = record.kind != RecordKind::Delete;
        if record.previous == 0 {
            // What is damaged below the marks is not to blame on the new record.
            let known = self.reader.newest(log, record.key, hash).ok().flatten();
            if known.is_some() || !is_live {
                return false;
            }
            self.live += 1;
            self.reader.fresh.push(record.position);
            self.reader.delta.set(hash, None, record.position);
            return true;
        }
        let named = |position| Ok(position == record.previous);
        let in_delta = self.reader.in_delta(hash, named).ok().flatten();
        let in_image = || self.reader.in_image(hash, named).ok().flatten();
        let Some(before) = in_delta.or_else(in_image) else { return false };
        let was_live = before & DEAD == 0;
        if !was_live && !is_live {
            return false;
        }
        self.live = (self.live + u64::from(is_live)).saturating_sub(u64::from(was_live));
        if in_delta.is_none() || !was_live {
            self.reader.fresh.push(record.position);
        }
        let word = record.position | if is_live { 0 } else { DEAD };
        self.reader.delta.set(hash, in_delta, word);
        true
    }

    /// Saves an image of all keys, deleted ones too: a record that follows a delete names it.
    pub fn export(&self, log: &Log, table: u32, out: &mut SectionWriter) -> Result<()> {
        let pairs = self.reader.newest_of_all(log);
        let slots = (pairs.len() as u64 * 10 / 7 + 1).next_power_of_two().max(2);
        let mut image = vec![0; (slots * SLOT_BYTES) as usize];
        for (hash, word) in pairs {
            let mut place = hash & (slots - 1);
            while slot(&image, place).1 != 0 {
                place = (place + 1) & (slots - 1);
            }
            let at = (place * SLOT_BYTES) as usize;
            image[at..at + 8].copy_from_slice(&hash.to_le_bytes());
            image[at + 8..at + 16].copy_from_slice(&word.to_le_bytes());
        }
        out.put(IMAGE, table, &image)?;
        out.put(LIVE, table, &self.live.to_le_bytes())
    }

    /// Takes over an image.
    pub fn import(sections: &TableSections<'_>) -> Result<Self> {
        let Some(image) = sections.get(IMAGE)? else { return Ok(Self::default()) };
        let count = sections.get(LIVE)?;
        let live = count.and_then(|count| Some(u64::from_le_bytes(count.bytes().try_into().ok()?)));
        let slots = image.bytes().len() as u64 / SLOT_BYTES;
        if !slots.is_power_of_two() || live.is_none_or(|live| live >= slots) {
            return Err(StorageError::corrupt(0, "a key image of an impossible size"));
        }
        let reader = KeyMapReader { image: Some(image), ..KeyMapReader::default() };
        Ok(Self { reader: Arc::new(reader), live: live.unwrap_or(0) })
    }
}
