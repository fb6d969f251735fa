//! Large batches: space is reserved at once, filled without the write lock, committed in pieces.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::ScopedJoinHandle;

use synadb_storage::region::Region;

use super::VectorStore;
use super::fill::Payloads;
use super::write::bytes_of;
use crate::collection::{RowsView, Slots, stride};
use crate::config::Durability;
use crate::db::{Engine, Generation};
use crate::error::Result;

/// Bytes of records that are one commit: the write lock is held for as long as they take.
const COMMIT_BYTES: usize = 1 << 20;
/// Of larger batches, so much at a time: the slots of the key index that it needs stay in the cache
/// from the lookup to the entry.
const PIECE_BYTES: usize = 1 << 18;
/// From so many bytes on a second thread stores the rows, while this one checks and sums them and
/// commits what is stored: a store is a copy into the page cache, which takes a little less.
const SHARED_BYTES_MIN: usize = 4 << 20;
/// One of so many rows is checked and summed by the thread that stores them.
const DESCRIBED_OF: usize = 2;
/// Bytes of one store there: fewer and larger ones are faster.
const STORED_BYTES: usize = 1 << 20;

/// A batch on its way.
struct Bulk<'a> {
    keys: &'a [&'a str],
    rows: &'a [f32],
    /// Where they are stored.
    generation: Arc<Generation>,
    payloads: Payloads,
}

impl VectorStore {
    /// Stores rows in an extent of their own; returns how many keys are new.
    ///
    /// All rows are checked before the first is committed.
    pub(super) fn insert_apart(
        &self,
        engine: &Engine,
        keys: &[&str],
        rows: &[f32],
    ) -> Result<usize> {
        let terms = &self.handle.terms;
        let reserved = engine.transact(terms, Durability::Process, |transaction| {
            let table = self.table_info(transaction)?;
            let slots = self.own_slots(transaction, table.id, keys.len())?;
            Ok((Arc::clone(transaction.generation()), slots))
        });
        let (generation, slots) = reserved?;
        let payloads = Payloads::with_capacity(keys.len());
        let mut bulk = Bulk { keys, rows, generation, payloads };
        let region = bulk.generation.log.shared_region();
        if size_of_val(rows) < SHARED_BYTES_MIN {
            let filled = self.fill(&*region, (keys, rows), slots, &mut bulk.payloads);
            return match filled {
                Ok(()) => self.commit_pieces(engine, &bulk, |_| true),
                Err(error) => self.give_back(engine, &bulk.generation, slots).and(Err(error)),
            };
        }
        self.share(engine, &*region, slots, bulk)
    }

    /// Stores rows in a second thread, which describes the last of them first; both are busy until
    /// the end then.
    fn share(
        &self,
        engine: &Engine,
        region: &dyn Region,
        slots: Slots,
        mut bulk: Bulk<'_>,
    ) -> Result<usize> {
        let own = bulk.keys.len() / DESCRIBED_OF * (DESCRIBED_OF - 1);
        let (keys, rows) = (bulk.keys, bulk.rows);
        let (own_rows, last_rows) = rows.split_at(own * usize::from(self.config.dimensions));
        let refused = AtomicBool::new(false);
        let (send_described, last_described) = channel();
        let (stored, progress) = channel();
        std::thread::scope(|scope| {
            let storing = scope.spawn(|| {
                let mut last = Payloads::with_capacity(keys.len() - own);
                let slots_of_last = self.part_of(slots, own);
                let described = self.describe(&keys[own..], last_rows, slots_of_last, &mut last);
                let is_refused = described.is_err();
                // Nobody waits for it where an earlier row was refused.
                let _ = send_described.send(described.map(|()| last));
                if is_refused {
                    Ok(())
                } else {
                    self.store_all(region, rows, slots, &refused, stored)
                }
            });
            // Of several bad rows the first is named.
            let described =
                self.describe(&keys[..own], own_rows, slots, &mut bulk.payloads).and_then(|()| {
                    let last = last_described.recv().unwrap_or_else(|_| Ok(Payloads::new()));
                    last.map(|mut last| bulk.payloads.append(&mut last))
                });
            refused.store(described.is_err(), Ordering::Relaxed);
            let mut progress = Progress { told: progress, stored: 0 };
            let committed = described
                .and_then(|()| self.commit_pieces(engine, &bulk, |rows| progress.reaches(rows)));
            // Who no longer waits for it needs no more of it.
            drop(progress);
            let stored = join(storing);
            if refused.load(Ordering::Relaxed) {
                self.give_back(engine, &bulk.generation, slots)?;
            }
            stored.and(committed)
        })
    }

    /// Stores all rows, telling after each block how many are there.
    fn store_all(
        &self,
        region: &dyn Region,
        rows: &[f32],
        slots: Slots,
        refused: &AtomicBool,
        stored: Sender<usize>,
    ) -> Result<()> {
        let dimensions = usize::from(self.config.dimensions);
        let count = (STORED_BYTES / stride(self.config.row_bytes()) as usize).max(1);
        let (mut done, mut padded) = (0, Vec::new());
        for block in rows.chunks(count * dimensions) {
            if refused.load(Ordering::Relaxed) {
                break;
            }
            self.store(region, block, self.part_of(slots, done), &mut padded)?;
            done += block.len() / dimensions;
            if stored.send(done).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Commits the rows in order; `stored` waits until so many are in place, false if they will
    /// never be.
    fn commit_pieces(
        &self,
        engine: &Engine,
        bulk: &Bulk<'_>,
        mut stored: impl FnMut(usize) -> bool,
    ) -> Result<usize> {
        let terms = &self.handle.terms;
        let is_one = rows_of_a_commit(bulk.keys, COMMIT_BYTES) == bulk.keys.len();
        let bytes_max = if is_one { COMMIT_BYTES } else { PIECE_BYTES };
        let (mut done, mut new) = (0, 0);
        while done < bulk.keys.len() {
            let count = rows_of_a_commit(&bulk.keys[done..], bytes_max);
            if !stored(done + count) {
                break;
            }
            let is_last = done + count == bulk.keys.len();
            let durability = if is_last { terms.durability } else { Durability::Process };
            new += engine.transact(terms, durability, |transaction| {
                let table = self.table_info(transaction)?.id;
                let keys = &bulk.keys[done..done + count];
                if Arc::ptr_eq(transaction.generation(), &bulk.generation) {
                    if done == 0
                        && let Some(view) = transaction.view::<RowsView>(table)
                    {
                        view.expect_rows(bulk.keys.len());
                    }
                    let payloads = &bulk.payloads[done..done + count];
                    return self.append_rows(transaction, table, keys, payloads);
                }
                // A compaction has moved the file on, and what was filled lies in the old one.
                let dimensions = usize::from(self.config.dimensions);
                let rows = &bulk.rows[done * dimensions..(done + count) * dimensions];
                let slots = self.own_slots(transaction, table, count)?;
                let mut payloads = Payloads::with_capacity(count);
                self.fill(transaction.log().region(), (keys, rows), slots, &mut payloads)?;
                self.append_rows(transaction, table, keys, &payloads)
            })?;
            done += count;
        }
        Ok(new)
    }

    /// Slots that were not filled go to whoever comes next.
    fn give_back(&self, engine: &Engine, generation: &Arc<Generation>, slots: Slots) -> Result<()> {
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

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// How far the other thread has come.
struct Progress {
    told: Receiver<usize>,
    stored: usize,
}

impl Progress {
    /// Waits until so many rows are stored; false if they will never be.
    fn reaches(&mut self, rows: usize) -> bool {
        while self.stored < rows {
            match self.told.recv() {
                Ok(stored) => self.stored = stored,
                Err(_) => return false,
            }
        }
        true
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
