//! Which bytes of the log can still be read, by table and by type.
//!
//! A walk from frame to frame, which holds no lock: what is visible does not change any more. It
//! asks no view, so that it costs the commit path nothing; and the tests use it to check the views.

use std::collections::{BTreeMap, HashMap};

use arc_swap::Guard;
use synadb_storage::StorageError;
use synadb_storage::extent::{Row, Seal, sealed_bytes};
use synadb_storage::frame::{Head, Records};
use synadb_storage::identity::FRAMES_START;
use synadb_storage::log::Record;
use synadb_storage::record::{IN_EXTENT, RecordKind};
use synadb_types::limits::EXTENT_ALIGN;

use super::{Engine, Generation};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::value;

/// Frames between two looks at whether to go on.
const FRAMES_PER_LOOK: u32 = 1 << 12;
/// The types of values, and one for records of deletion.
const TYPES: usize = value::TYPE_NAMES.len() + 1;
const DELETE: u8 = value::TYPE_NAMES.len() as u8;
const DELETE_NAME: &str = "delete";
/// The type of rows of a table of vectors.
const ROW: u8 = value::type_of_tag(value::VECTOR);

/// Where the bytes of the log have gone.
///
/// `bytes` is the sum of all the others, here and in the tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of log that were looked at: what was visible when the walk began.
    pub bytes: u64,
    /// The file's first pages, the catalogue, announcements of extents, and of frames with several
    /// records their heads; the same for padding.
    pub overhead: u64,
    /// Tables, in order of their creation.
    pub tables: Vec<TableUsage>,
}

/// Where the bytes of one table have gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableUsage {
    /// Its name.
    pub name: String,
    /// In extents, and taken by no commit: free for rows to come, or given up.
    pub reserved: u64,
    /// By type of value, those that occur: "null", "float", "int", "text", "bytes", "vector", and
    /// "delete" for records of deletion.
    pub types: BTreeMap<&'static str, Bytes>,
}

/// Bytes of records with what they hold, in the log and in extents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Of the newest values of keys that are not deleted.
    pub live: u64,
    /// Of older values that a history still gives.
    pub history: u64,
    /// That nothing gives any more: what was deleted, records of deletion, replaced vectors.
    pub dead: u64,
}

impl Usage {
    /// All tables together, by type.
    #[must_use]
    pub fn types(&self) -> BTreeMap<&'static str, Bytes> {
        let mut all: BTreeMap<&'static str, Bytes> = BTreeMap::new();
        for (name, bytes) in self.tables.iter().flat_map(|table| &table.types) {
            all.entry(name).or_default().add(*bytes);
        }
        all
    }

    /// All tables together.
    #[must_use]
    pub fn total(&self) -> Bytes {
        let mut total = Bytes::default();
        self.tables.iter().for_each(|table| total.add(table.total()));
        total
    }

    /// Space in extents of all tables that no commit has taken.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        self.tables.iter().map(|table| table.reserved).sum()
    }
}

impl TableUsage {
    /// All types together.
    #[must_use]
    pub fn total(&self) -> Bytes {
        let mut total = Bytes::default();
        self.types.values().for_each(|bytes| total.add(*bytes));
        total
    }
}

impl Bytes {
    fn add(&mut self, other: Self) {
        self.live += other.live;
        self.history += other.history;
        self.dead += other.dead;
    }
}

/// A key with a value, known by the position of its newest record.
struct Key {
    table: u32,
    /// Number of the newest value's type.
    kind: u8,
    newest: u64,
    /// Bytes of what its history gives beside the newest, by type.
    older: Option<Box<[u64; TYPES]>>,
}

/// The walk so far.
struct Walk {
    overhead: u64,
    /// What is reserved in each table, and the bytes of its records by type.
    tables: Vec<(u64, [Bytes; TYPES])>,
    keys: HashMap<u64, Key>,
    records: u64,
}

impl Walk {
    fn bytes_of(&mut self, table: usize, kind: u8) -> &mut Bytes {
        &mut self.tables[table].1[usize::from(kind)]
    }

    /// Takes a frame in: what of it belongs to no record of a table is overhead.
    fn frame(&mut self, generation: &Generation, head: &Head) {
        let region = generation.log.region();
        let (mut gap, mut rest) = (0, head.next() - head.offset);
        if head.gap > 0 {
            gap = head.next() - head.gap_start();
            rest -= gap;
        }
        for (position, raw) in Records::of(head, region) {
            let Some(record) = raw.and_then(|raw| Record::new(position, raw, region)) else {
                break;
            };
            self.records += 1;
            let Some(table) = (record.table.0 as usize).checked_sub(1) else { continue };
            if table >= self.tables.len() {
                continue;
            }
            if record.kind == RecordKind::Extent {
                self.tables[table].0 += std::mem::take(&mut gap);
                continue;
            }
            let large = if record.is_large() { record.payload_len } else { 0 };
            let own = if head.is_sole() { rest } else { rest.min((record.len + large) as u64) };
            rest -= own;
            self.record(table, &record, own);
        }
        self.overhead += rest + gap;
    }

    fn record(&mut self, table: usize, record: &Record<'_>, own: u64) {
        let number = record.table.0;
        let before = self.keys.remove(&record.previous).filter(|before| before.table == number);
        let keeps_history = record.kind == RecordKind::Put;
        if let Some(before) = &before {
            let bytes = self.bytes_of(table, before.kind);
            bytes.live -= before.newest;
            *(if keeps_history { &mut bytes.history } else { &mut bytes.dead }) += before.newest;
        }
        if record.kind == RecordKind::Delete {
            self.bytes_of(table, DELETE).dead += own;
            let ended = before.and_then(|before| before.older);
            for (kind, older) in ended.iter().flat_map(|older| older.iter().enumerate()) {
                let bytes = &mut self.tables[table].1[kind];
                bytes.history -= older;
                bytes.dead += older;
            }
            return;
        }
        let newest = own + self.take_from_extent(table, record);
        let kind = kind_of(record);
        self.bytes_of(table, kind).live += newest;
        let older = before.filter(|_| keeps_history).map(|before| {
            let mut older = before.older.unwrap_or_default();
            older[usize::from(before.kind)] += before.newest;
            older
        });
        self.keys.insert(record.position, Key { table: number, kind, newest, older });
    }

    /// Bytes of an extent that a record takes, no longer counted as reserved.
    fn take_from_extent(&mut self, table: usize, record: &Record<'_>) -> u64 {
        let taken = if record.kind == RecordKind::Row {
            let row = Row::decode(record.small);
            row.map_or(0, |row| u64::from(row.bytes).next_multiple_of(EXTENT_ALIGN))
        } else if record.flags & IN_EXTENT != 0 {
            Seal::decode(record.small).map_or(0, |seal| sealed_bytes(seal.bytes))
        } else {
            0
        };
        let reserved = &mut self.tables[table].0;
        let taken = taken.min(*reserved);
        *reserved -= taken;
        taken
    }
}

fn kind_of(record: &Record<'_>) -> u8 {
    if record.kind == RecordKind::Row { ROW } else { value::type_of_tag(record.tag) }
}

impl TableUsage {
    fn new(name: &str, (reserved, bytes): &(u64, [Bytes; TYPES])) -> Self {
        let names = value::TYPE_NAMES.into_iter().chain([DELETE_NAME]);
        let types = names.zip(*bytes).filter(|(_, bytes)| *bytes != Bytes::default());
        Self { name: name.to_owned(), reserved: *reserved, types: types.collect() }
    }
}

impl Engine {
    /// Where the bytes of the log have gone; O(records), and some words for each live key.
    pub fn usage(&self, progress: &mut Progress<'_>) -> Result<Usage> {
        self.count_usage(progress).map(|(usage, _)| usage)
    }

    /// As `usage`, with the number of records that it took to find out.
    pub(super) fn count_usage(&self, progress: &mut Progress<'_>) -> Result<(Usage, u64)> {
        let generation = Guard::into_inner(self.current()?);
        let visible = generation.visible();
        let start = FRAMES_START.min(visible);
        let count = generation.tables().count();
        let tables = vec![(0, [Bytes::default(); TYPES]); count];
        let mut walk = Walk { overhead: start, tables, keys: HashMap::new(), records: 0 };
        let (mut at, mut frames) = (start, 0);
        while at < visible {
            let unread = || StorageError::corrupt(at, "a frame within the log");
            let found = generation.log.frame(at).and_then(|head| head.ok_or_else(unread));
            let head = found.map_err(|error| self.failure(error))?;
            walk.frame(&generation, &head);
            at = head.next();
            frames += 1;
            if frames % FRAMES_PER_LOOK == 0 && !progress(at, visible) {
                return Err(Error::Cancelled { what: "the count of bytes" });
            }
        }
        let named = generation.tables().zip(&walk.tables);
        let tables = named.map(|(table, found)| TableUsage::new(&table.info.name, found)).collect();
        Ok((Usage { bytes: visible, overhead: walk.overhead, tables }, walk.records))
    }
}
