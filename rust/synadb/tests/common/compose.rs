//! Logs of well-formed frames whose records do not always make sense.

use std::collections::BTreeMap;
use std::sync::Arc;

use synadb_storage::checksum::crc32c;
use synadb_storage::control;
use synadb_storage::extent::{Reservation, Row, Seal};
use synadb_storage::frame::Records;
use synadb_storage::identity::{FRAMES_START, GENERATION_END, Identity};
use synadb_storage::log::{Log, Shape, Writer};
use synadb_storage::record::{COMPRESSED, Draft, IN_EXTENT, RecordKind};
use synadb_storage::region::{MemoryRegion, Region};
use synadb_types::TableId;
use synadb_types::limits::SMALL_PAYLOAD_BYTES_MAX;

use super::Random;
use super::hostile::extreme;

/// A record about to be written.
struct Made {
    kind: RecordKind,
    tag: u8,
    flags: u8,
    table: u32,
    key: Vec<u8>,
    previous: u64,
    payload: Vec<u8>,
    gap: u64,
}

/// The space for rows that a table has.
#[derive(Clone, Copy, Default)]
struct Extent {
    first: u32,
    rows: u32,
    start: u64,
    next_row: u32,
}

/// Writes well-formed frames of records that do not always make sense.
pub struct Composer<'a> {
    random: &'a mut Random,
    log: Log,
    writer: Writer,
    tables: u32,
    /// Position of the last record of each table and key, and whether it is a delete.
    last: BTreeMap<(u32, Vec<u8>), (u64, bool)>,
    extents: BTreeMap<u32, Extent>,
}

const NAMES: [&str; 5] = ["kv", "vector:vec/", "points", "products", "\u{e9}"];
/// Bytes of a row of the tables above, where they hold vectors.
const ROW_BYTES: [u32; 5] = [20, 20, 64, 80, 4];
const KEYS: usize = 6;

impl<'a> Composer<'a> {
    pub fn new(random: &'a mut Random) -> Self {
        let end = |random: &mut Random| match random.below(8) {
            0 => (1 << 63) - random.below(3) as u64,
            _ => 0,
        };
        let generation = if end(random) == 0 { 0 } else { GENERATION_END - 1 };
        let horizon = end(random);
        let history_from = horizon;
        let database_id = *b"a fixed identity";
        let identity = Identity { database_id, generation, horizon, history_from };
        let region = MemoryRegion::with_capacity(4 << 20).expect("memory");
        region.allocate(FRAMES_START + 4096).expect("room");
        region.store(0, &identity.page()).expect("stored");
        let log = Log::new(Arc::new(region), identity);
        let writer = Writer::new(FRAMES_START, 0, 0, 1, 0);
        let (last, extents) = (BTreeMap::new(), BTreeMap::new());
        Self { random, log, writer, tables: 0, last, extents }
    }

    /// The bytes of a file of some frames.
    pub fn compose(mut self) -> Vec<u8> {
        for _ in 0..4 + self.random.below(40) {
            let count = if self.random.below(3) > 0 { 1 } else { 1 + self.random.below(KEYS) };
            let made: Vec<Made> = (0..count).map(|index| self.record(index)).collect();
            self.write(&made);
        }
        if self.random.below(10) == 0 {
            self.writer.time = (1 << 63) - 3 + self.random.below(2) as u64;
            let made = self.record(0);
            self.write(&[made]);
        }
        let len = (self.writer.tail + 8).next_multiple_of(4096) as usize;
        let region = self.log.region();
        // Else the first writer stores the identity again, to which a made-up row may point.
        region.publish(control::DIR_SYNCED, 1).expect("published");
        // Of what was synced only the fronts are verified when the file is opened.
        if self.random.below(3) > 0 {
            let id = &self.log.identity().database_id;
            let word = control::pack_synced(self.writer.tail, id);
            region.publish(control::SYNCED, word).expect("published");
        }
        let bytes = region.bytes(0, len.min(region.len() as usize));
        bytes.expect("the region").to_vec()
    }

    fn write(&mut self, made: &[Made]) {
        let drafts = made.iter().map(|made| Draft {
            kind: made.kind,
            tag: made.tag,
            flags: made.flags,
            table: TableId(made.table),
            key: &made.key,
            previous: made.previous.min(self.writer.tail),
            payload: &made.payload,
            origin: None,
        });
        let drafts: Vec<Draft<'_>> = drafts.collect();
        let gap = made.iter().map(|made| made.gap).max().unwrap_or(0);
        let shape = Shape {
            records: drafts.len(),
            large: drafts.iter().any(|draft| draft.payload.len() > SMALL_PAYLOAD_BYTES_MAX),
            gap,
            synced: 0,
            reserves: gap > 0 && self.random.below(4) > 0,
        };
        let mut encoder = self.writer.encoder(&self.log, shape);
        drafts.iter().for_each(|draft| {
            encoder.push(draft);
        });
        let Ok(image) = encoder.finish() else { return };
        let Ok(committed) = self.writer.append(&self.log, image) else { return };
        let head = committed.head;
        for ((position, _), made) in Records::of(&head, self.log.region()).zip(made) {
            let dead = made.kind == RecordKind::Delete;
            self.last.insert((made.table, made.key.clone()), (position, dead));
            let reserved = Reservation::decode(&made.payload);
            if let Some(found) = reserved.filter(|_| made.kind == RecordKind::Extent) {
                let (first, rows) = (found.first_row, found.rows);
                let start = found.start(head.gap_start());
                self.extents.insert(made.table, Extent { first, rows, start, next_row: first });
            }
        }
    }

    /// Mostly `usual`, at times anything.
    fn or_any(&mut self, usual: u64) -> u64 {
        match self.random.below(400) {
            0 => self.random.next(),
            1 => usual.wrapping_add(1),
            2 => extreme(self.random),
            _ => usual,
        }
    }

    /// The record of that index in its frame; those of a frame have different keys.
    fn record(&mut self, index: usize) -> Made {
        let mut kind = match self.random.below(if self.tables == 0 { 1 } else { 12 }) {
            0 => RecordKind::Table,
            1..=5 => RecordKind::Put,
            6 => RecordKind::Delete,
            7 if index == 0 => RecordKind::Extent,
            _ => RecordKind::Row,
        };
        let with_rows: Vec<u32> = self.extents.keys().copied().filter(|table| *table > 1).collect();
        let table = match kind {
            RecordKind::Put => self.or_any(1) as u32,
            RecordKind::Row | RecordKind::Delete if !with_rows.is_empty() => {
                with_rows[self.random.below(with_rows.len())]
            }
            _ => 1 + self.random.below(self.tables as usize) as u32,
        };
        let key = format!("key/{}", (self.writer.tail as usize + index) % KEYS).into_bytes();
        let known = self.last.get(&(table, key.clone())).copied();
        let extent = self.extents.get(&table).copied().unwrap_or_default();
        match kind {
            // What cannot be is rare: it ends the file.
            _ if self.random.below(200) == 0 => {}
            RecordKind::Delete if known.is_none_or(|(_, dead)| dead) => kind = RecordKind::Put,
            RecordKind::Row if table == 1 => kind = RecordKind::Put,
            RecordKind::Row if extent.next_row >= extent.first.saturating_add(extent.rows) => {
                kind = if index == 0 { RecordKind::Extent } else { RecordKind::Put };
            }
            _ => {}
        }
        let table = if kind == RecordKind::Put { self.or_any(1) as u32 } else { table };
        let (tag, flags, gap) = (0, 0, 0);
        let mut made = Made { kind, tag, flags, table, key, previous: 0, payload: vec![], gap };
        match kind {
            RecordKind::Table => self.table(&mut made),
            RecordKind::Put => self.value(&mut made),
            RecordKind::Extent => self.extent(&mut made),
            RecordKind::Row => self.row(&mut made, extent),
            RecordKind::Delete => {}
        }
        let known = self.last.get(&(made.table, made.key.clone())).map_or(0, |known| known.0);
        made.previous = match made.kind {
            RecordKind::Table | RecordKind::Extent => 0,
            _ => self.or_any(known),
        };
        made
    }

    fn table(&mut self, made: &mut Made) {
        let name = self.tables as usize % NAMES.len();
        (made.table, made.key) = (0, NAMES[name].as_bytes().to_vec());
        if self.tables as usize >= NAMES.len() && self.random.below(20) > 0 {
            // There is no other name: a value instead.
            (made.kind, made.table) = (RecordKind::Put, 1);
            return self.value(made);
        }
        self.tables += 1;
        made.payload = (self.or_any(u64::from(self.tables)) as u32).to_le_bytes().to_vec();
        if name == 0 {
            made.payload.push(self.or_any(1) as u8);
        } else {
            let dimensions = self.or_any(u64::from(ROW_BYTES[name] / 4)) as u16;
            let [low, high] = dimensions.to_le_bytes();
            let metric = [0, 0, 1, 2, 0][name];
            made.payload.extend([2, low, high, self.or_any(metric) as u8, self.or_any(0) as u8]);
        }
    }

    fn value(&mut self, made: &mut Made) {
        made.tag = self.random.below(8) as u8;
        let count = self.random.below(12);
        made.payload = self.random.bytes(8 * count);
        match self.random.below(4) {
            0 => {
                made.flags = COMPRESSED;
                let size = [3, u32::MAX, 300, 0][self.random.below(4)];
                made.payload.splice(0..0, u32::to_le_bytes(size));
            }
            1 => {
                made.flags = IN_EXTENT;
                let start = self.extents.get(&1).map_or(8192, |extent| extent.start);
                let (start, bytes) = (self.or_any(start), self.or_any(128));
                made.payload = Seal { start, bytes, list_crc: 0 }.encode().to_vec();
            }
            _ => {
                let more = self.random.below(3);
                made.payload.extend(vec![0; more]);
            }
        }
    }

    fn extent(&mut self, made: &mut Made) {
        made.key.clear();
        let extent = self.extents.get(&made.table).copied().unwrap_or_default();
        let stride = u64::from(row_bytes(made.table)).next_multiple_of(64);
        let wanted = 1 + self.random.below(8) as u64;
        let align = self.or_any(64) as u32;
        let first_row = self.or_any(u64::from(extent.first.wrapping_add(extent.rows))) as u32;
        let (bytes, rows) = (self.or_any(wanted * stride), self.or_any(wanted) as u32);
        made.gap = wanted * stride;
        made.payload = Reservation { bytes, align, first_row, rows }.encode().to_vec();
    }

    fn row(&mut self, made: &mut Made, extent: Extent) {
        let stride = u64::from(row_bytes(made.table)).next_multiple_of(64);
        let row = self.or_any(u64::from(extent.next_row)) as u32;
        let next_row = row.wrapping_add(1);
        self.extents.insert(made.table, Extent { next_row, ..extent });
        let ahead = u64::from(row.wrapping_sub(extent.first)).wrapping_mul(stride);
        let offset = self.or_any(extent.start.wrapping_add(ahead));
        let bytes = self.or_any(u64::from(row_bytes(made.table))) as u32;
        let data = self.random.bytes(bytes.min(80) as usize);
        let region = self.log.region();
        let crc = crc32c(&data);
        // A row outside of the region stays unwritten: its record lies.
        if offset < region.len() - 80 && region.store(offset, &data).is_err() {
            return;
        }
        let inverse_norm = f32::from_bits(self.random.next() as u32);
        let row = Row { dtype: 0, row, offset, bytes, crc, inverse_norm, replaces: u32::MAX };
        made.payload = row.encode().to_vec();
    }
}

fn row_bytes(table: u32) -> u32 {
    ROW_BYTES[(table as usize).wrapping_sub(1) % ROW_BYTES.len()]
}
