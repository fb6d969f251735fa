//! Large batches: space is reserved at once, filled without the write lock, committed in pieces.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use synadb_storage::extent::ROW_BYTES;
use synadb_storage::region::Region;

use super::VectorStore;
use super::fill::Payloads;
use super::sums::Summing;
use super::write::bytes_of;
use crate::collection::{RowsView, Slots, stride};
use crate::config::Durability;
use crate::db::{Generation, Transaction};
use crate::error::Result;

/// Bytes of records that are one commit: the write lock is held for as long as they take.
const COMMIT_BYTES: usize = 1 << 20;
/// Of larger batches, so much at a time: the slots of the key index that it needs stay in the cache
/// from the lookup to the entry.
const PIECE_BYTES: usize = 512 << 10;
/// Bytes of rows for which space is reserved at once.
pub(super) const RESERVED_BYTES_MAX: usize = 1 << 30;
/// From so many bytes on a second thread checks rows while their keys are fetched, and stores them
/// while this one commits what is stored: a store is a copy into the page cache, and takes about as
/// long.
const SHARED_BYTES_MIN: usize = scaled(4 << 20);
/// Bytes of one store there: fewer and larger ones are faster, until the records of a commit wait
/// for too long behind one.
const STORED_BYTES: usize = scaled(512 << 10);

/// Less in the tests of this crate, which let every operation of such a batch fail.
pub(super) const fn scaled(bytes: usize) -> usize {
    if cfg!(test) { bytes / 32 } else { bytes }
}

/// A batch on its way.
#[derive(Clone, Copy)]
struct Bulk<'a> {
    keys: &'a [&'a str],
    rows: &'a [f32],
    /// Where they are stored.
    generation: &'a Arc<Generation>,
}

/// What the second thread of a batch is told when the rows may be stored.
struct Storing {
    region: Arc<dyn Region>,
    slots: Slots,
    /// Takes how many rows are there.
    progress: Sender<Result<usize>>,
}

/// Rows that wait for their keys, and are looked at meanwhile if they are many.
pub struct PendingRows<'a> {
    store: &'a VectorStore,
    rows: &'a [f32],
    second: Option<Second<'a>>,
}

/// The thread that checks rows, and stores them.
struct Second<'a> {
    summing: &'a Summing<'a>,
    told_summed: Receiver<()>,
    say_where: Sender<Storing>,
}

impl VectorStore {
    /// Stores many vectors, row-major, whose keys are yet to be fetched: `insert` does that, and
    /// hands them over. The rows of a large batch are checked meanwhile, in a thread of its own.
    ///
    /// ```
    /// use synadb::vector::{VectorConfig, VectorStore};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let store = VectorStore::new(folder.path().join("a.db"), VectorConfig::default())?;
    /// let rows = vec![1.0; 2 * usize::from(store.dimensions())];
    /// let new = store.insert_rows_with(&rows, |pending| pending.insert(&["east", "north"]))?;
    /// assert_eq!(new, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert_rows_with<R>(
        &self,
        rows: &[f32],
        insert: impl FnOnce(PendingRows<'_>) -> R,
    ) -> R {
        let is_shared = (SHARED_BYTES_MIN..=RESERVED_BYTES_MAX).contains(&size_of_val(rows));
        if !is_shared || self.handle.writable().is_err() {
            return insert(PendingRows { store: self, rows, second: None });
        }
        self.insert_with_second(rows, insert, std::thread::Builder::new())
    }

    /// As `insert_rows_with`; this thread does it all where no second one can be had.
    fn insert_with_second<R>(
        &self,
        rows: &[f32],
        insert: impl FnOnce(PendingRows<'_>) -> R,
        builder: std::thread::Builder,
    ) -> R {
        let summing = &Summing::new(usize::from(self.config.dimensions), rows);
        let (say_summed, told_summed) = channel();
        let (say_where, told_where) = channel::<Storing>();
        std::thread::scope(|scope| {
            let spawned = builder.name("synadb-insert".to_owned()).spawn_scoped(scope, move || {
                let mut place = None;
                summing.help_while(|| {
                    place = told_where.try_recv().ok();
                    place.is_none()
                });
                // Nobody waits for it where the keys were refused.
                let _ = say_summed.send(());
                drop(say_summed);
                if let Some(storing) = place.or_else(|| told_where.recv().ok()) {
                    self.store_all(rows, &storing, || summing.is_stopped());
                }
            });
            let Ok(thread) = spawned else {
                return insert(PendingRows { store: self, rows, second: None });
            };
            let second = Some(Second { summing, told_summed, say_where });
            let result = insert(PendingRows { store: self, rows, second });
            summing.stop();
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
            result
        })
    }

    /// Stores rows in an extent of their own, in this thread; returns how many keys are new.
    ///
    /// All rows are checked before the first is committed.
    pub(super) fn insert_apart(&self, keys: &[&str], rows: &[f32]) -> Result<usize> {
        let (generation, slots) = self.reserve_for(keys)?;
        let bulk = Bulk { keys, rows, generation: &generation };
        let mut payloads = Payloads::with_capacity(keys.len());
        match self.fill(generation.log.region(), (keys, rows), slots, &mut payloads) {
            Ok(()) => self.commit_pieces(bulk, |rows| Ok(Some(Cow::Borrowed(&payloads[rows])))),
            Err(error) => self.give_back(&generation, slots).and(Err(error)),
        }
    }

    /// Slots for rows of their own, in a generation that compaction may replace meanwhile.
    fn reserve_for(&self, keys: &[&str]) -> Result<(Arc<Generation>, Slots)> {
        let (engine, terms) = (self.handle.writable()?, &self.handle.terms);
        engine.transact(terms, Durability::Process, |transaction| {
            let table = self.table_info(transaction)?;
            let slots = self.own_slots(transaction, table.id, keys.len())?;
            if let Some(view) = transaction.view::<RowsView>(table.id) {
                view.expect_rows(keys.len());
            }
            Ok((Arc::clone(transaction.generation()), slots))
        })
    }

    /// Stores all rows, telling after each block how many are there.
    fn store_all(&self, rows: &[f32], storing: &Storing, is_stopped: impl Fn() -> bool) {
        let (offset, stride) = (storing.slots.offset, stride(self.config.row_bytes()));
        let is_dense = stride == u64::from(self.config.row_bytes());
        let dimensions = usize::from(self.config.dimensions);
        let len = (rows.len() / dimensions) as u64 * stride;
        let (mut done, mut padded) = (0, Vec::new());
        while done < len {
            let next = block_end(offset, done, stride, is_dense).min(len);
            let stored = if is_dense {
                let bytes = &bytemuck::cast_slice(rows)[done as usize..next as usize];
                storing.region.store(offset + done, bytes).map_err(|error| self.failure(error))
            } else {
                let (from, to) = ((done / stride) as usize, (next / stride) as usize);
                let slots = self.part_of(storing.slots, from);
                let block = &rows[from * dimensions..to * dimensions];
                self.store(&*storing.region, block, slots, &mut padded)
            };
            done = next;
            let is_last = stored.is_err() || is_stopped();
            let whole = (done / stride) as usize;
            // Who no longer waits for it needs no more of it.
            if storing.progress.send(stored.map(|()| whole)).is_err() || is_last {
                break;
            }
        }
    }

    /// Commits the rows in order; `payloads` of some waits until they are in place, `None` if they
    /// will never be.
    fn commit_pieces<'p>(
        &self,
        bulk: Bulk<'_>,
        mut payloads: impl FnMut(Range<usize>) -> Result<Option<Cow<'p, [[u8; ROW_BYTES]]>>>,
    ) -> Result<usize> {
        let (engine, terms) = (self.handle.writable()?, &self.handle.terms);
        let is_one = rows_of_a_commit(bulk.keys, COMMIT_BYTES) == bulk.keys.len();
        let bytes_max = if is_one { COMMIT_BYTES } else { PIECE_BYTES };
        let (mut done, mut new) = (0, 0);
        while done < bulk.keys.len() {
            let piece = done..done + rows_of_a_commit(&bulk.keys[done..], bytes_max);
            let Some(payloads) = payloads(piece.clone())? else { break };
            let is_last = piece.end == bulk.keys.len();
            let durability = if is_last { terms.durability } else { Durability::Process };
            new += engine.transact(terms, durability, |transaction| {
                self.commit_piece(transaction, bulk, piece.clone(), &payloads)
            })?;
            done = piece.end;
        }
        Ok(new)
    }

    fn commit_piece(
        &self,
        transaction: &mut Transaction<'_>,
        bulk: Bulk<'_>,
        piece: Range<usize>,
        payloads: &[[u8; ROW_BYTES]],
    ) -> Result<usize> {
        let table = self.table_info(transaction)?.id;
        let keys = &bulk.keys[piece.clone()];
        transaction.vouch_for(keys.len() as u64 * u64::from(self.config.row_bytes()));
        if Arc::ptr_eq(transaction.generation(), bulk.generation) {
            return self.append_rows(transaction, table, keys, payloads);
        }
        // A compaction has moved the file on, and what was filled lies in the old one.
        let dimensions = usize::from(self.config.dimensions);
        let rows = &bulk.rows[piece.start * dimensions..piece.end * dimensions];
        let slots = self.own_slots(transaction, table, keys.len())?;
        let mut payloads = Payloads::with_capacity(keys.len());
        self.fill(transaction.log().region(), (keys, rows), slots, &mut payloads)?;
        self.append_rows(transaction, table, keys, &payloads)
    }

    /// Slots that were not filled go to whoever comes next.
    fn give_back(&self, generation: &Arc<Generation>, slots: Slots) -> Result<()> {
        let engine = self.handle.writable()?;
        engine.transact(&self.handle.terms, Durability::Process, |transaction| {
            let table = self.table_info(transaction)?;
            if Arc::ptr_eq(transaction.generation(), generation)
                && let Some(view) = transaction.view::<RowsView>(table.id)
            {
                view.spare(slots);
            }
            Ok(())
        })
    }
}

impl PendingRows<'_> {
    /// Stores the rows under their keys; returns how many are new.
    ///
    /// # Errors
    /// As [`VectorStore::insert_rows`].
    pub fn insert(self, keys: &[&str]) -> Result<usize> {
        let Some(second) = self.second else {
            return self.store.insert_ready(keys, self.rows);
        };
        self.store.handle.writable()?;
        self.store.check_keys(keys, self.rows)?;
        second.commit(self.store, keys, self.rows)
    }
}

impl Second<'_> {
    /// Commits what the thread stores, once all rows are checked.
    fn commit(self, store: &VectorStore, keys: &[&str], rows: &[f32]) -> Result<usize> {
        let (generation, slots) = store.reserve_for(keys)?;
        let (progress, told) = channel();
        let region = generation.log.shared_region();
        // What is stored before all rows are checked lies where nobody looks.
        let _ = self.say_where.send(Storing { region, slots, progress });
        let summing = self.summing;
        summing.help_while(|| true);
        // Who ends without a word has panicked.
        let is_summed = self.told_summed.recv().is_ok();
        if !is_summed || summing.refused().is_some() {
            summing.stop();
            // A block may be on its way into these slots.
            told.iter().for_each(drop);
            store.give_back(&generation, slots)?;
            return summing.refused().map_or(Ok(0), |at| Err(store.not_finite(keys, rows, at)));
        }
        let mut progress = Progress { told, stored: 0 };
        let bulk = Bulk { keys, rows, generation: &generation };
        store.commit_pieces(bulk, |rows| {
            let payload = |row| store.payload(&summing.of_row(row), slots, row);
            let is_stored = progress.reaches(rows.end)?;
            Ok(is_stored.then(|| rows.map(payload).collect()))
        })
    }
}

/// Where the store ends that begins behind `done` bytes of rows at `offset`.
///
/// Where rows have no gaps, at a multiple of its size in the file: the page cache then takes the
/// largest pages, which is a fifth faster (ext4, 18.3 ms instead of 22.3 for 154 MB).
fn block_end(offset: u64, done: u64, stride: u64, is_dense: bool) -> u64 {
    let size = STORED_BYTES as u64;
    if is_dense {
        return ((offset + done) / size + 1) * size - offset;
    }
    done + (size / stride).max(1) * stride
}

/// How far the other thread has come.
struct Progress {
    told: Receiver<Result<usize>>,
    stored: usize,
}

impl Progress {
    /// Waits until so many rows are stored; false if they will never be.
    fn reaches(&mut self, rows: usize) -> Result<bool> {
        while self.stored < rows {
            match self.told.recv() {
                Ok(stored) => self.stored = stored?,
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// How many of the first keys commit together.
fn rows_of_a_commit(keys: &[&str], bytes_max: usize) -> usize {
    let mut bytes = 0;
    let fits = |key: &&&str| {
        bytes += bytes_of(std::slice::from_ref(*key));
        bytes <= bytes_max
    };
    keys.iter().take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use std::thread::Builder;

    use super::*;
    use crate::error::Error;
    use crate::vector::VectorConfig;

    const COUNT: usize = SHARED_BYTES_MIN / 16 + 3;

    /// A stack that no address space has room for: the thread can't be had.
    fn impossible() -> Builder {
        Builder::new().stack_size(1 << 60)
    }

    #[test]
    fn one_thread_stores_a_large_batch_where_no_second_one_can_be_had() {
        assert!(impossible().spawn(|| ()).is_err(), "such a thread can be had");
        let directory = tempfile::tempdir().expect("a directory");
        let config = VectorConfig { dimensions: 4, ..VectorConfig::default() };
        let store = VectorStore::new(directory.path().join("a.db"), config).expect("opens");
        let keys: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let mut rows: Vec<f32> = (0..4 * COUNT).map(|number| number as f32).collect();
        let insert = |rows: &[f32]| {
            store.insert_with_second(rows, |pending| pending.insert(&keys), impossible())
        };
        rows[4 * COUNT - 2] = f32::NAN;
        let refused = insert(&rows);
        assert!(matches!(&refused, Err(Error::InvalidVector { .. })), "{refused:?}");
        assert!(store.is_empty());
        rows[4 * COUNT - 2] = 0.5;
        assert_eq!(insert(&rows).expect("inserts"), COUNT);
        for (key, row) in keys.iter().zip(rows.chunks_exact(4)) {
            assert_eq!(store.get(key).expect("reads").as_deref(), Some(row));
        }
    }

    #[test]
    fn what_a_dead_writer_had_reserved_is_not_waited_for_once_nobody_else_has_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || {
            let config = VectorConfig { dimensions: 16, ..VectorConfig::default() };
            VectorStore::new(directory.path().join("a.db"), config).expect("opens")
        };
        let keys: Vec<String> = (0..3000).map(|number| number.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let store = open();
        let insert = |store: &VectorStore, keys: &[&str]| {
            store.insert_rows(keys, &vec![1.0; 16 * keys.len()]).expect("inserts");
        };
        // As one that dies between the reservation and its commits.
        drop(store.reserve_for(&keys).expect("reserves"));
        insert(&store, &keys[..1500]);
        let unborn = |store: &VectorStore| {
            let snapshot = store.snapshot().expect("open").expect("rows");
            (snapshot.rows_end(), snapshot.unborn_rows().len())
        };
        assert_eq!(unborn(&store), (4500, 3000));
        drop(store);
        let store = open();
        assert_eq!(unborn(&store), (4500, 0));
        insert(&store, &keys[1500..]);
        assert_eq!((unborn(&store).1, store.len()), (0, 3000));
    }
}
