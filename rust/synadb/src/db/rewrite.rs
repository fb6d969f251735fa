//! A log in the making: records carried over from another one, in rewritten frames, and its views.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use synadb_storage::control;
use synadb_storage::extent::Reservation;
use synadb_storage::frame::Head;
use synadb_storage::identity::{FRAMES_START, GENERATION_END, Identity, PAGE_BYTES};
use synadb_storage::log::{Log, Shape, Writer};
use synadb_storage::record::{Draft, RecordKind};
use synadb_storage::region::Region;
use synadb_storage::{Result, StorageError};
use synadb_types::TableId;
use synadb_types::limits::{COUNTER_END, SMALL_PAYLOAD_BYTES_MAX};
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use super::engine::Commit;
use super::view::{TableView, ViewFactory};
use super::{Generation, TableInfo};

/// Records of one rewritten frame.
const FRAME_RECORDS: usize = 1024;
const FRAME_BYTES: usize = 4 << 20;

/// A record to be carried over.
pub(crate) struct Carried {
    pub kind: RecordKind,
    pub tag: u8,
    pub flags: u8,
    pub table: TableId,
    pub key: Box<[u8]>,
    pub payload: Vec<u8>,
    /// Sequence number and time of its commit.
    pub origin: (u64, u64),
    /// Whether the new log has no record of the key yet, as the caller knows.
    pub is_first: bool,
}

/// A log in the making. Nobody sees it before it is finished and has a name.
pub(crate) struct Rewrite<'a> {
    generation: Generation,
    commit: Commit,
    factory: &'a dyn ViewFactory,
    /// Records of the next frame.
    waiting: Vec<Carried>,
    waiting_bytes: usize,
    /// Whether their keys are alive behind them.
    waiting_keys: HashMap<(TableId, Box<[u8]>), bool, Xxh3DefaultBuilder>,
    frames: Vec<Head>,
    /// What the components remember from record to record, by table.
    notes: BTreeMap<TableId, Box<dyn Any>>,
}

impl<'a> Rewrite<'a> {
    /// Begins a log in `region`, whose frames are later than `time`.
    ///
    /// # Errors
    /// `Corrupt` where no generation is left; as [`Region::allocate`].
    pub fn new(
        region: Arc<dyn Region>,
        identity: Identity,
        time: u64,
        factory: &'a dyn ViewFactory,
    ) -> Result<Self> {
        if identity.generation >= GENERATION_END {
            return Err(StorageError::corrupt(0, "no generation is left behind this one"));
        }
        region.allocate(FRAMES_START + PAGE_BYTES)?;
        let writer = Writer::new(FRAMES_START, 0, 0, time, identity.horizon);
        Ok(Self {
            generation: Generation::new(Log::new(region, identity)),
            commit: Commit::new(writer, BTreeMap::new(), (0, 0), 0),
            factory,
            waiting: Vec::new(),
            waiting_bytes: 0,
            waiting_keys: HashMap::default(),
            frames: Vec::new(),
            notes: BTreeMap::new(),
        })
    }

    /// Adds a table, which has to be the next by its number.
    ///
    /// # Errors
    /// As [`Region::store`].
    pub fn add_table(&mut self, table: &TableInfo, origin: (u64, u64)) -> Result<()> {
        self.push(Carried {
            kind: RecordKind::Table,
            tag: 0,
            flags: 0,
            table: TableId(0),
            key: table.name.as_bytes().into(),
            payload: table.encode(),
            origin,
            is_first: true,
        })
    }

    /// Adds a record; several make a frame.
    ///
    /// # Errors
    /// As [`Region::store`].
    pub fn push(&mut self, record: Carried) -> Result<()> {
        let bytes = record.key.len() + record.payload.len() + 64;
        if self.waiting_bytes + bytes > FRAME_BYTES || self.waiting.len() == FRAME_RECORDS {
            self.flush()?;
        }
        if !record.is_first {
            let is_live = record.kind != RecordKind::Delete;
            self.waiting_keys.insert((record.table, record.key.clone()), is_live);
        }
        self.waiting_bytes += bytes;
        self.waiting.push(record);
        Ok(())
    }

    /// Adds the end of a key; false where there is nothing to end.
    ///
    /// # Errors
    /// As [`Region::store`].
    pub fn delete(&mut self, table: TableId, key: &[u8], origin: (u64, u64)) -> Result<bool> {
        if !self.is_live(table, key)? {
            return Ok(false);
        }
        let (kind, key) = (RecordKind::Delete, key.into());
        let (tag, flags, payload, is_first) = (0, 0, Vec::new(), false);
        self.push(Carried { kind, tag, flags, table, key, payload, origin, is_first })?;
        Ok(true)
    }

    /// Whether a key is alive behind everything that was added.
    fn is_live(&self, table: TableId, key: &[u8]) -> Result<bool> {
        if let Some(is_live) = self.waiting_keys.get(&(table, key.into())) {
            return Ok(*is_live);
        }
        let Some(view) = self.commit.views.get(&table) else { return Ok(false) };
        let newest = view.newest(&self.generation.log, key, self.generation.hash(key))?;
        Ok(newest.is_some_and(|record| record.kind != RecordKind::Delete))
    }

    /// Reserves space behind everything that was added; returns where it begins.
    ///
    /// # Errors
    /// As [`Region::store`].
    pub fn reserve(&mut self, table: TableId, reservation: &Reservation, tag: u8) -> Result<u64> {
        self.flush()?;
        let payload = reservation.encode();
        let draft = Draft {
            kind: RecordKind::Extent,
            tag,
            flags: 0,
            table,
            key: &[],
            previous: 0,
            payload: &payload,
            origin: None,
        };
        let shape = Shape { records: 1, gap: reservation.gap(), ..Shape::default() };
        let log = self.generation.log.clone();
        let mut encoder = self.commit.writer.rewriting_encoder(&log, shape, 0);
        encoder.push(&draft);
        let head = self.commit.writer.append(&log, encoder.finish()?)?.head;
        self.take_in(head)?;
        Ok(reservation.start(head.gap_start()))
    }

    /// The bytes of the new log.
    pub fn region(&self) -> &dyn Region {
        self.generation.log.region()
    }

    /// The writer's half of a view, as its component knows it.
    pub fn view<V: 'static>(&mut self, table: TableId) -> Option<&mut V> {
        self.commit.views.get_mut(&table)?.as_any().downcast_mut()
    }

    /// The writer's half of a view.
    pub fn table_view(&self, table: TableId) -> Option<&dyn TableView> {
        self.commit.views.get(&table).map(|view| &**view)
    }

    /// What a component remembers of a table while it is carried over.
    pub fn note<N: Default + 'static>(&mut self, table: TableId) -> Option<&mut N> {
        let note = self.notes.entry(table).or_insert_with(|| Box::new(N::default()));
        note.downcast_mut()
    }

    /// Writes what waits as one frame.
    ///
    /// # Errors
    /// As [`Region::store`].
    pub fn flush(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        self.waiting_keys.clear();
        if waiting.is_empty() {
            return Ok(());
        }
        let large = waiting.iter().any(|record| record.payload.len() > SMALL_PAYLOAD_BYTES_MAX);
        let shape = Shape { records: waiting.len(), large, ..Shape::default() };
        let time = waiting.iter().map(|record| record.origin.1).max().unwrap_or(0);
        let log = self.generation.log.clone();
        let Commit { writer, views, .. } = &mut self.commit;
        let mut encoder = writer.rewriting_encoder(&log, shape, time);
        let mut in_frame: HashMap<(TableId, &[u8]), u64, Xxh3DefaultBuilder> = HashMap::default();
        for record in &waiting {
            let place = (record.table, &*record.key);
            let mut previous = in_frame.get(&place).copied().unwrap_or(0);
            if let Some(view) = views.get(&record.table).filter(|_| previous == 0)
                && !record.is_first
            {
                let newest = view.newest(&log, &record.key, self.generation.hash(&record.key))?;
                previous = newest.map_or(0, |record| record.position);
            }
            let position = encoder.push(&Draft {
                kind: record.kind,
                tag: record.tag,
                flags: record.flags,
                table: record.table,
                key: &record.key,
                previous,
                payload: &record.payload,
                origin: Some(record.origin),
            });
            if !record.is_first {
                in_frame.insert(place, position);
            }
        }
        let head = writer.append(&log, encoder.finish()?)?.head;
        if let Some(view) = waiting.first().and_then(|record| views.get_mut(&record.table)) {
            view.expect(waiting.len());
        }
        self.take_in(head)
    }

    fn take_in(&mut self, head: Head) -> Result<()> {
        self.commit.apply(&self.generation, self.factory, &head)?;
        self.commit.unsaved_bytes += u64::from(head.length);
        self.frames.push(head);
        Ok(())
    }

    /// What was carried so far, to save it.
    ///
    /// # Errors
    /// As [`Region::store`].
    pub(super) fn so_far(&mut self) -> Result<(&Generation, &Commit)> {
        self.flush()?;
        Ok((&self.generation, &self.commit))
    }

    /// Writes the rest and completes the file; it is to be synced before it gets a name.
    ///
    /// # Errors
    /// `Corrupt` where no sequence number is left; as [`Region::store`].
    pub(super) fn finish(mut self, horizon: u64) -> Result<(Generation, Commit)> {
        self.flush()?;
        let identity = Identity { horizon, ..*self.generation.log.identity() };
        if horizon >= COUNTER_END {
            return Err(StorageError::corrupt(0, "no sequence number is left"));
        }
        let (mut generation, mut commit) = (self.generation, self.commit);
        let region = generation.log.shared_region();
        region.store(0, &identity.page())?;
        let word = control::pack_synced(commit.writer.tail, &identity.database_id);
        region.publish(control::SYNCED, word)?;
        generation.log = Log::new(region, identity);
        commit.writer.sequence = horizon;
        self.frames.iter().for_each(|head| generation.note(head, horizon));
        commit.publish(&generation);
        Ok((generation, commit))
    }

    /// As `finish`, and puts the file on the medium; returns where it ends.
    ///
    /// # Errors
    /// As [`Region::store`] and [`Region::sync`].
    pub fn complete(self) -> Result<u64> {
        let horizon = self.generation.log.identity().horizon;
        let (generation, commit) = self.finish(horizon)?;
        let (tail, region) = (commit.writer.tail, generation.log.region());
        region.trim((tail + 8).next_multiple_of(PAGE_BYTES))?;
        region.sync()?;
        Ok(tail)
    }
}
