//! The one write path: validate, encode, append, then as every frame.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use synadb_storage::StorageError;
use synadb_storage::extent::Reservation;
use synadb_storage::frame::{Encoder, Head};
use synadb_storage::log::{Log, Record, Shape};
use synadb_storage::record::{Draft, RecordKind};
use synadb_types::TableId;
use synadb_types::limits::{SMALL_PAYLOAD_BYTES_MAX, TABLES_MAX};
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use super::engine::Commit;
use super::reserve::Reserved;
use super::{Engine, Generation, TableInfo, TableKind};
use crate::config::{Durability, Maintenance, Terms};
use crate::error::{Error, Result};

/// One record of a commit.
#[derive(Clone, Copy)]
pub(crate) struct Op<'a> {
    pub kind: RecordKind,
    pub tag: u8,
    pub flags: u8,
    pub table: TableId,
    pub key: &'a [u8],
    /// Of the key.
    pub hash: u64,
    pub payload: &'a [u8],
    /// Position of the key's record before this one, 0 where there is none.
    pub previous: u64,
}

/// As [`Op`], and owns what it says.
pub(crate) struct OwnedOp {
    pub kind: RecordKind,
    pub table: TableId,
    pub key: Vec<u8>,
    pub hash: u64,
    pub payload: Vec<u8>,
    pub previous: u64,
}

impl OwnedOp {
    /// The record, borrowed.
    pub fn as_op(&self) -> Op<'_> {
        Op {
            kind: self.kind,
            tag: 0,
            flags: 0,
            table: self.table,
            key: &self.key,
            hash: self.hash,
            payload: &self.payload,
            previous: self.previous,
        }
    }
}

/// Changes of one table that commit in the same frame as those of others.
pub(crate) trait Contribution: Send + Sync {
    /// Adds the records; nothing is visible before they are appended.
    fn stage(&self, transaction: &mut Transaction<'_>, staged: &mut Vec<OwnedOp>) -> Result<()>;

    /// Fails where one of the keys was changed after `sequence`.
    fn check_unchanged(&self, transaction: &Transaction<'_>, sequence: u64) -> Result<()>;

    /// Number of changes.
    fn len(&self) -> usize;

    /// Whether its table lies in this file.
    fn belongs_to(&self, engine: &Arc<Engine>) -> bool;

    /// These changes, the type of which only their component knows.
    fn as_any(&self) -> &dyn std::any::Any;

    /// As `as_any`, to add some.
    fn as_any_mut(&mut self) -> &mut dyn std::any::Any;

    /// A copy.
    fn boxed(&self) -> Box<dyn Contribution>;
}

/// The write lock, held: what is looked up now is true when the commit is appended.
pub(crate) struct Transaction<'a> {
    engine: &'a Engine,
    commit: MutexGuard<'a, Commit>,
    generation: Arc<Generation>,
    end: u64,
    /// Tables that the next frame brings, in order of their numbers.
    new_tables: Vec<Arc<TableInfo>>,
}

impl Engine {
    /// Runs `plan` under the write lock; what it appends is durable when this returns.
    ///
    /// The plan is the precondition: it looks, and appends or does not.
    pub fn transact<R>(
        &self,
        terms: &Terms,
        durability: Durability,
        plan: impl FnOnce(&mut Transaction<'_>) -> Result<R>,
    ) -> Result<R> {
        self.transact_as(None, terms, durability, plan)
    }

    /// As `transact`, for the owner of a reservation.
    pub fn transact_as<R>(
        &self,
        owner: Option<&Reserved>,
        terms: &Terms,
        durability: Durability,
        plan: impl FnOnce(&mut Transaction<'_>) -> Result<R>,
    ) -> Result<R> {
        let mut commit = self.lock_to_write(owner, terms)?;
        self.enter(&mut commit, terms)?;
        let generation = self.generation.load_full();
        let mut transaction = Transaction::new(self, commit, generation);
        let result = plan(&mut transaction);
        let Transaction { mut commit, generation, end, .. } = transaction;
        if end > 0 && durability == Durability::Process {
            self.expect_sync(&mut commit, terms);
        }
        self.leave(&mut commit, durability)?;
        let result = result?;
        if end > 0 && self.checkpoint_due(&commit) {
            self.checkpoint_behind(&mut commit, &generation);
        }
        let looks = end > 0 && self.ask_for_upkeep(&commit);
        let syncs = end > 0 && (durability == Durability::Sync || self.is_to_sync(&commit));
        if syncs {
            commit.unsynced.is_taken();
        }
        drop(commit);
        if looks {
            self.keep_up(terms);
        }
        if syncs {
            self.sync_taken(&generation, end)?;
        }
        Ok(result)
    }

    /// As `transact`, but `None` where something might block: a lock, growth, a checkpoint.
    pub fn try_transact<R>(
        &self,
        terms: &Terms,
        bytes: usize,
        plan: impl FnOnce(&mut Transaction<'_>) -> Result<R>,
    ) -> Result<Option<R>> {
        self.check_poison()?;
        let Ok(commit) = self.commit.try_lock() else { return Ok(None) };
        if commit.closed {
            return Err(Error::Closed);
        }
        let generation = self.generation.load_full();
        let ours = !self.is_shared() || commit.write.is_held();
        let room = commit.writer.has_room(&generation.log, bytes as u64);
        let is_due =
            self.checkpoint_due(&commit) || self.upkeep.is_due(&commit) || self.is_to_sync(&commit);
        if !ours || commit.reserved.is_some() || !room || is_due {
            return Ok(None);
        }
        if self.is_shared() {
            self.check_poison_of_all(generation.log.region())?;
        }
        let mut transaction = Transaction::new(self, commit, generation);
        let result = plan(&mut transaction);
        let Transaction { mut commit, end, .. } = transaction;
        if end > 0 {
            self.expect_sync(&mut commit, terms);
        }
        self.leave(&mut commit, Durability::Process)?;
        result.map(Some)
    }

    pub(super) fn checkpoint_due(&self, commit: &Commit) -> bool {
        if self.maintenance == Maintenance::Off {
            return false;
        }
        let least = self.checkpoint_bytes.load(Ordering::Relaxed);
        // A checkpoint is complete: in steps of half the log all of them cost what one costs.
        commit.unsaved_bytes - commit.put_off_at >= least.max(commit.saved_bytes / 2)
    }
}

impl<'a> Transaction<'a> {
    fn new(
        engine: &'a Engine,
        commit: MutexGuard<'a, Commit>,
        generation: Arc<Generation>,
    ) -> Self {
        Self { engine, commit, generation, end: 0, new_tables: Vec::new() }
    }

    /// The generation that the commit goes into.
    pub fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// Sequence number of the last commit.
    pub fn sequence(&self) -> u64 {
        self.commit.writer.sequence
    }

    pub fn log(&self) -> &Log {
        &self.generation.log
    }

    /// Says which keys will be looked up next; a few at a time, so that they stay near.
    pub fn touch(&self, table: TableId, hashes: &[u64]) {
        if let Some(view) = self.commit.views.get(&table) {
            view.touch(hashes);
        }
    }

    /// The newest record of a key, whatever it is.
    pub fn newest(&self, table: TableId, key: &[u8], hash: u64) -> Result<Option<Record<'_>>> {
        let Some(view) = self.commit.views.get(&table) else { return Ok(None) };
        let found = view.newest(&self.generation.log, key, hash);
        found.map_err(|error| self.engine.failure(error).for_key(key))
    }

    /// Sequence number of the commit that gave a key its value, `None` where it has none.
    pub fn last_change(&self, table: TableId, key: &str) -> Result<Option<u64>> {
        let found = self.newest(table, key.as_bytes(), self.hash(key.as_bytes()))?;
        let Some(record) = found.filter(|record| record.kind != RecordKind::Delete) else {
            return Ok(None);
        };
        self.commit_of(&record).map(Some)
    }

    fn commit_of(&self, record: &Record<'_>) -> Result<u64> {
        let found = self.generation.commit_of(record);
        found.map(|(sequence, _)| sequence).map_err(|e| self.engine.failure(e).for_key(record.key))
    }

    /// Fails where a key was changed after `sequence`.
    ///
    /// Of a key that is not there nobody knows what happened before the last compaction.
    pub fn check_unchanged(&self, table: TableId, key: &str, sequence: u64) -> Result<()> {
        let found = self.newest(table, key.as_bytes(), self.hash(key.as_bytes()))?;
        let (last, now, forgotten) = match &found {
            Some(record) => {
                let commit = self.commit_of(record)?;
                (commit, Some(commit), None)
            }
            None => {
                let forgotten = self.generation.log.identity().history_from;
                (forgotten, None, Some(forgotten))
            }
        };
        if last > sequence {
            let (key, expected) = (key.to_owned(), Some(sequence));
            return Err(Error::Conflict { key, expected, now, forgotten });
        }
        Ok(())
    }

    /// Hash of a key.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.generation.hash(key)
    }

    /// Keys of a table that are alive.
    pub fn live(&self, table: TableId) -> u64 {
        self.commit.views.get(&table).map_or(0, |view| view.live())
    }

    /// A failure of this file.
    pub fn failure(&self, error: StorageError) -> Error {
        self.engine.failure(error)
    }

    /// The writer's half of a view, as its component knows it.
    pub fn view<V: 'static>(&mut self, table: TableId) -> Option<&mut V> {
        self.commit.views.get_mut(&table)?.as_any().downcast_mut()
    }

    /// The number of a table that is there.
    pub fn find_table(&self, name: &str) -> Option<TableId> {
        self.generation.table(name).map(|table| table.info.id)
    }

    /// The table of that name; where there is none yet, one that the next frame brings.
    pub fn table(&mut self, name: &str, kind: TableKind, config: &[u8]) -> Result<Arc<TableInfo>> {
        if let Some(table) = self.generation.table(name) {
            return Ok(Arc::clone(&table.info));
        }
        if let Some(table) = self.new_tables.iter().find(|table| table.name == name) {
            return Ok(Arc::clone(table));
        }
        TableInfo::check(name, config)?;
        let id = (self.generation.tables().count() + self.new_tables.len()) as u32 + 1;
        if id > TABLES_MAX {
            let reason = format!("a database holds at most {TABLES_MAX} tables");
            return Err(Error::InvalidArgument { argument: "name", reason });
        }
        let (name, config) = (name.to_owned(), config.to_vec());
        let table = Arc::new(TableInfo { id: TableId(id), name, kind, config });
        self.new_tables.push(Arc::clone(&table));
        Ok(table)
    }

    /// Appends one commit and makes it visible; returns the position of its last record.
    ///
    /// Tables that are new get their records in front.
    pub fn append(&mut self, ops: &[Op<'_>]) -> Result<u64> {
        self.append_each(ops.iter().copied())
    }

    /// As `append`, of records that are made as they are encoded, several times over.
    pub fn append_each<'b>(
        &mut self,
        ops: impl ExactSizeIterator<Item = Op<'b>> + Clone,
    ) -> Result<u64> {
        self.append_frame(ops, 0, false).map(|(_, last)| last)
    }

    /// Reserves an extent behind a frame of its own; returns where it begins.
    ///
    /// It belongs to the caller, who may fill it after giving the write lock back; `tag` says what
    /// it is for.
    pub fn reserve(&mut self, table: TableId, reservation: &Reservation, tag: u8) -> Result<u64> {
        let payload = reservation.encode();
        let op = Op {
            kind: RecordKind::Extent,
            tag,
            flags: 0,
            table,
            key: &[],
            hash: 0,
            payload: &payload,
            previous: 0,
        };
        let (head, _) = self.append_frame(std::iter::once(op), reservation.gap(), true)?;
        Ok(reservation.start(head.gap_start()))
    }

    /// Says how much the records of this commit vouch for in extents.
    pub fn vouch_for(&mut self, bytes: u64) {
        self.commit.unsynced.grow(bytes);
    }

    fn append_frame<'b>(
        &mut self,
        ops: impl ExactSizeIterator<Item = Op<'b>> + Clone,
        gap: u64,
        reserves: bool,
    ) -> Result<(Head, u64)> {
        let guard = PanicGuard(self.engine);
        let new_tables = std::mem::take(&mut self.new_tables);
        let table_payloads: Vec<Vec<u8>> = new_tables.iter().map(|table| table.encode()).collect();
        let commit = &mut *self.commit;
        let log = &self.generation.log;
        let records = ops.len() + new_tables.len();
        let large = ops.clone().any(|op| op.payload.len() > SMALL_PAYLOAD_BYTES_MAX)
            || table_payloads.iter().any(|payload| payload.len() > SMALL_PAYLOAD_BYTES_MAX);
        let synced = self.generation.synced();
        let mut encoder =
            commit.writer.encoder(log, Shape { records, large, gap, synced, reserves });
        for (table, payload) in new_tables.iter().zip(&table_payloads) {
            encoder.push(&Draft {
                kind: RecordKind::Table,
                tag: 0,
                flags: 0,
                table: TableId(0),
                key: table.name.as_bytes(),
                previous: 0,
                payload,
                origin: None,
            });
        }
        encoder.reserve(ops.len(), ops.clone().map(|op| op.key.len() + op.payload.len()).sum());
        let last = push_all(&mut encoder, ops.clone());
        let image = encoder.finish().map_err(|e| self.engine.failure(e))?;
        let committed = commit.writer.append(log, image).map_err(|e| self.engine.failure(e))?;
        if ops.len() > 1
            && let Some(op) = ops.clone().next()
            && let Some(view) = commit.views.get_mut(&op.table)
        {
            view.expect(ops.len());
        }
        let (generation, factory) = (&self.generation, &*self.engine.factory);
        let applied = if records > 1 {
            // Nobody looks for the key of a table under its hash.
            let hashes = std::iter::repeat_n(0, new_tables.len()).chain(ops.map(|op| op.hash));
            let hashes: Vec<u64> = hashes.collect();
            commit.apply_hashed(generation, factory, &committed.head, &hashes)
        } else {
            commit.apply(generation, factory, &committed.head)
        };
        applied.map_err(|error| {
            self.engine.poison();
            self.engine.failure(error)
        })?;
        let length = u64::from(committed.head.length);
        commit.unsaved_bytes += length;
        commit.unsynced.grow(length);
        self.generation.note(&committed.head, commit.writer.sequence);
        commit.publish(&self.generation);
        self.end = committed.tail;
        std::mem::forget(guard);
        Ok((committed.head, last))
    }
}

/// Encodes the records; the later ones of a key follow the earlier ones of the same commit.
fn push_all<'a, 'b: 'a>(
    encoder: &mut Encoder<'a>,
    ops: impl ExactSizeIterator<Item = Op<'b>> + Clone,
) -> u64 {
    let mut positions: HashMap<(TableId, &[u8]), u64, Xxh3DefaultBuilder> = HashMap::default();
    let repeats = repeats_a_key(ops.clone().map(|op| op.hash));
    let mut last = 0;
    for op in ops {
        let place = (op.table, op.key);
        let earlier = if repeats { positions.get(&place).copied() } else { None };
        last = encoder.push(&Draft {
            kind: op.kind,
            tag: op.tag,
            flags: op.flags,
            table: op.table,
            key: op.key,
            previous: earlier.unwrap_or(op.previous),
            payload: op.payload,
            origin: None,
        });
        if repeats {
            positions.insert(place, last);
        }
    }
    last
}

/// Whether some key may stand twice: equal hashes say so, and a rare accident does no harm.
fn repeats_a_key(hashes: impl ExactSizeIterator<Item = u64> + Clone) -> bool {
    if hashes.len() < 2 {
        return false;
    }
    // One bit of a table 16 times as large for most keys; the few that meet are compared.
    let mask = (hashes.len() * 16).next_power_of_two().max(64) as u64 - 1;
    let words = (mask as usize + 1) / 64;
    let (mut seen, mut met) = (vec![0u64; words], vec![0u64; words]);
    let place = |hash: u64| ((hash & mask) as usize / 64, 1 << (hash % 64));
    let mut meetings = 0;
    for hash in hashes.clone() {
        let (word, bit) = place(hash);
        let again = seen[word] & bit;
        seen[word] |= bit;
        met[word] |= again;
        meetings += usize::from(again != 0);
    }
    let mut suspects = Vec::with_capacity(2 * meetings);
    suspects.extend(hashes.filter(|hash| {
        let (word, bit) = place(*hash);
        met[word] & bit != 0
    }));
    suspects.sort_unstable();
    suspects.windows(2).any(|pair| pair[0] == pair[1])
}

/// A panic between append and apply leaves views that do not hold what the log does.
struct PanicGuard<'a>(&'a Engine);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison();
        }
    }
}
