//! What a log holds, record by record, and which bytes each of them needs.
#![allow(dead_code)] // Each test takes what it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use synadb::vector::{VectorConfig, VectorStore};
use synadb::{Durability, OpenOptions, SynaDB, Value, WriteBatch};
use synadb_storage::directory::{Directory, DiskDirectory};
use synadb_storage::extent::{Row, Seal, sealed_bytes};
use synadb_storage::frame::{Head, Records, SOLE, Seed};
use synadb_storage::identity::{FRAMES_START, Identity};
use synadb_storage::log::{Log, Record};
use synadb_storage::record::{IN_EXTENT, RecordKind};

/// One record of a table, as it should come back.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    pub table: String,
    pub kind: RecordKind,
    pub key: String,
    pub tag: u8,
    /// Stored bytes of the value, or of the row.
    pub value: Vec<u8>,
    pub sequence: u64,
    pub time: u64,
    /// Bytes of the file without which it is not to be had.
    pub needs: Vec<Range<u64>>,
    /// Bytes that say when it was written.
    pub dated_by: Range<u64>,
}

impl Item {
    pub fn is_touched(&self, bytes: &Range<u64>) -> bool {
        self.needs.iter().any(|range| overlap(range, bytes))
    }

    /// Equal but for time and sequence, and for where it lies.
    pub fn same_content(&self, other: &Self) -> bool {
        (&self.table, self.kind, &self.key, self.tag, &self.value)
            == (&other.table, other.kind, &other.key, other.tag, &other.value)
    }
}

pub fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

impl Content {
    /// What can be had in spite of damage: not what it touches, nor what is in a table of vectors
    /// whose record it touches.
    pub fn beside(&self, damage: &[Range<u64>]) -> Vec<Item> {
        let is_touched = |item: &&Item| damage.iter().any(|bytes| item.is_touched(bytes));
        let is_gone = |name: &str| {
            let named = |(table, range): &&(String, Range<u64>)| {
                table == name && name != "kv" && damage.iter().any(|bytes| overlap(bytes, range))
            };
            self.tables.iter().any(|table| named(&table))
        };
        let stays = |item: &&Item| !is_touched(item) && !is_gone(&item.table);
        self.items.iter().filter(stays).cloned().collect()
    }
}

/// A log read frame by frame.
#[derive(Default)]
pub struct Content {
    pub items: Vec<Item>,
    /// Heads, and records of tables and extents.
    pub others: Vec<Range<u64>>,
    /// Tables, and the bytes that name them.
    pub tables: Vec<(String, Range<u64>)>,
    /// Offsets of frames.
    pub frames: Vec<u64>,
    /// Where it ends.
    pub end: u64,
    pub sequence: u64,
}

/// Reads a good file with nothing but the storage crate.
pub fn content(path: &Path) -> Content {
    let opened = DiskDirectory.open(path, false, false).expect("opens");
    let page = opened.region.bytes(0, 4096).expect("a page");
    let (identity, _) = Identity::read(page).expect("an identity");
    let log = Log::new(opened.region, identity);
    let mut names: BTreeMap<u32, String> = BTreeMap::new();
    let mut found = Content { sequence: identity.horizon, ..Content::default() };
    let mut at = FRAMES_START;
    while let Some(head) = log.frame(at).expect("a good frame") {
        found.frames.push(at);
        found.others.push(at..at + head.head_len as u64);
        found.sequence += u64::from(head.counts());
        let front = head.offset..head.offset + head.front_len as u64;
        for (position, raw) in Records::of(&head, log.region()) {
            let record = raw.and_then(|raw| Record::new(position, raw, log.region()));
            let record = record.expect("a good record");
            let own = position..position + record.len as u64;
            let mut needs = vec![if head.flags & SOLE == 0 { own } else { front.clone() }];
            if matches!(record.kind, RecordKind::Table | RecordKind::Extent) {
                if record.kind == RecordKind::Table {
                    let payload = record.payload().expect("a payload");
                    let id = u32::from_le_bytes(payload[..4].try_into().expect("four bytes"));
                    let name = String::from_utf8_lossy(record.key).into_owned();
                    found.tables.push((name.clone(), needs[0].clone()));
                    names.insert(id, name);
                }
                found.others.extend(needs);
                continue;
            }
            needs.extend(data_of(&record));
            let value = match record.kind {
                RecordKind::Row => record.row_bytes(),
                _ => record.value(),
            };
            let (sequence, time) = record.origin.unwrap_or((found.sequence, head.time));
            let has_origin = record.origin.is_some();
            found.items.push(Item {
                table: names[&record.table.0].clone(),
                kind: record.kind,
                key: String::from_utf8_lossy(record.key).into_owned(),
                tag: record.tag,
                value: value.expect("a value").to_vec(),
                sequence,
                time,
                needs,
                dated_by: if has_origin { 0..0 } else { head.offset..head.offset + 36 },
            });
        }
        at = head.next();
    }
    found.end = at;
    found
}

/// Where the data of a record lie, apart from the record.
fn data_of(record: &Record<'_>) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    if record.is_large() {
        let start = record.position + u64::from(record.large.1);
        found.push(start..start + record.payload_len as u64);
    }
    if record.flags & IN_EXTENT != 0 {
        let seal = Seal::decode(record.payload().expect("a payload")).expect("a seal");
        let list = seal.start + seal.bytes.next_multiple_of(64);
        found.push(seal.start..seal.start + seal.bytes);
        found.push(list..list + 4 * seal.bytes.div_ceil(65_536));
        assert!(list < seal.start + sealed_bytes(seal.bytes));
    }
    if record.kind == RecordKind::Row {
        let row = Row::decode(record.small).expect("a row");
        found.push(row.offset..row.offset + u64::from(row.bytes));
    }
    found
}

/// Items without deletes of what is not there.
pub fn effective(items: &[Item]) -> Vec<Item> {
    let mut live: BTreeSet<(String, String)> = BTreeSet::new();
    let has_effect = |item: &&Item| {
        let key = (item.table.clone(), item.key.clone());
        if item.kind == RecordKind::Delete {
            return live.remove(&key);
        }
        live.insert(key);
        true
    };
    items.iter().filter(has_effect).cloned().collect()
}

pub fn fast() -> OpenOptions {
    OpenOptions::new().durability(Durability::Process)
}

/// A small file with a bit of everything, closed.
pub fn write_everything(path: &Path, compacted: bool) {
    let db = fast().compression(true).open(path).expect("opens");
    let store = |name: &str, dimensions| {
        let config = VectorConfig { dimensions, ..VectorConfig::default() };
        VectorStore::attach(&db, name, config).expect("attaches")
    };
    write_values(&db, 0);
    let (wide, narrow) = (store("vector:wide/", 40), store("vector:vec/", 3));
    write_vectors(&wide, 40);
    write_vectors(&narrow, 3);
    if compacted {
        db.compact().expect("compacts");
    }
    write_values(&db, 100);
    write_vectors(&narrow, 3);
    db.sync().expect("syncs");
    db.append("last", Value::Int(1)).expect("appends");
    db.append("last", Value::Int(2)).expect("appends");
    store("vector:vec/", 3).close_handle().expect("closes");
    wide.close_handle().expect("closes");
    narrow.close_handle().expect("closes");
    db.close().expect("closes");
}

fn write_values(db: &SynaDB, from: i64) {
    for i in from..from + 12 {
        db.append("history", Value::Float(i as f64)).expect("appends");
        db.append(&format!("k{i}"), Value::Int(i)).expect("appends");
    }
    db.append_floats("history", &[0.5; 20]).expect("appends");
    db.append("text", Value::Text("again and again ".repeat(30))).expect("appends");
    db.append("bytes", Value::Bytes((0..300).map(|i| (i * 7 % 256) as u8).collect()))
        .expect("appends");
    db.append("vector", Value::Vector(vec![1.5, -2.5], 2)).expect("appends");
    let mut batch = WriteBatch::new();
    for i in from..from + 8 {
        batch.put(&format!("batch/{i}"), Value::Text(format!("value {i}"))).expect("fits");
        batch.put("batch/same", Value::Int(i)).expect("fits");
    }
    batch.put("batch/large", Value::Bytes(vec![from as u8; 200])).expect("fits");
    batch.put("batch/larger", Value::Bytes(vec![from as u8 + 1; 500])).expect("fits");
    db.commit(&batch).expect("commits");
    for key in ["k3", "batch/same", "text"] {
        assert!(db.remove(key).is_ok());
    }
    db.append("k3", Value::Null).expect("appends");
}

fn write_vectors(store: &VectorStore, dimensions: usize) {
    let vector = |i: usize| (0..dimensions).map(|d| (i * 31 + d) as f32 + 0.25).collect::<Vec<_>>();
    for i in 0..3 {
        store.insert(&format!("v{i}"), &vector(i)).expect("inserts");
    }
    let keys: Vec<String> = (0..20).map(|i| format!("b{i}")).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let rows: Vec<f32> = (100..120).flat_map(vector).collect();
    store.insert_rows(&names, &rows).expect("inserts");
    store.insert("v1", &vector(7)).expect("replaces");
    store.remove("v2").expect("deletes");
}

pub fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("test.db");
    (directory, path)
}

/// A generator with a fixed seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.word() % end.max(1)
    }
}

/// Fills a part of a file with what looks like heads of frames of `length` by chance, as a place in
/// 65,536 does where small numbers lie.
pub fn chance_heads(bytes: &mut [u8], range: Range<u64>, length: u32) {
    let (identity, _) = Identity::read(&bytes[..4096]).expect("an identity");
    let seed = Seed::of(&identity);
    for at in (range.start..range.end - 24).step_by(24).take(200) {
        let mut head = [0; 24];
        head[..4].copy_from_slice(&length.to_le_bytes());
        // Later than all others.
        head[23] = 0x40;
        let mut fits = |check: u16| {
            head[14..16].copy_from_slice(&check.to_le_bytes());
            Head::decode(seed, at, u64::from(length), &head).is_some()
        };
        assert!((0..=u16::MAX).any(&mut fits), "one of the checks fits");
        bytes[at as usize..at as usize + 24].copy_from_slice(&head);
    }
}
