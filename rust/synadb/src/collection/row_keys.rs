//! Keys in the order of their rows, side by side in memory, for filters that look at every key: the log
//! verifies a record of each key that it is asked for, which takes ten times as long.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use synadb_storage::Result;
use synadb_types::RowId;

use super::Snapshot;
use super::key_order::KeyOrders;

/// Rows of a chunk: with keys of 64 KiB at most, three times as long where they are no UTF-8, their text
/// ends below 4 GiB.
const CHUNK_ROWS: usize = 1 << 14;

/// Keys of the rows from 0 on, as far as somebody looked at them; 4 bytes a row and the key itself.
#[derive(Default)]
pub(crate) struct RowKeys {
    chunks: Mutex<Vec<Arc<Chunk>>>,
    /// Whether all keys were looked at before. Who does so once, with a filter that is used again
    /// and again, is spared the memory.
    was_asked: AtomicBool,
    /// Memory that they take: told without the lock, which who adds to them holds for long.
    bytes: AtomicU64,
    pub(super) orders: KeyOrders,
}

/// Keys that were kept when they were asked for, which stay whatever comes.
#[derive(Default)]
pub(super) struct KeptKeys(Vec<Arc<Chunk>>);

#[derive(Clone, Default)]
struct Chunk {
    text: String,
    /// Where the key of each row ends. That of a row which was not born yet is empty.
    ends: Vec<u32>,
}

impl Chunk {
    fn bytes(&self) -> u64 {
        (size_of::<Self>() + self.text.capacity() + size_of::<u32>() * self.ends.capacity()) as u64
    }

    /// The key of a row, or `None` where only the log says it.
    fn key(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        let key = &self.text[start as usize..end as usize];
        (!key.is_empty()).then_some(key)
    }
}

impl KeptKeys {
    /// The key of a row, or `None` where only the log says it.
    pub fn get(&self, row: RowId) -> Option<&str> {
        let at = row.0 as usize;
        self.0.get(at / CHUNK_ROWS)?.key(at % CHUNK_ROWS)
    }
}

fn len(chunks: &[Arc<Chunk>]) -> usize {
    chunks.last().map_or(0, |last| (chunks.len() - 1) * CHUNK_ROWS + last.ends.len())
}

impl RowKeys {
    /// The keys that are kept; none while somebody adds to them, which takes longer than to ask the
    /// log for the few that came since.
    fn at_hand(&self) -> KeptKeys {
        match self.chunks.try_lock() {
            Ok(chunks) => KeptKeys(chunks.clone()),
            Err(TryLockError::Poisoned(chunks)) => KeptKeys(chunks.into_inner().clone()),
            Err(TryLockError::WouldBlock) => KeptKeys::default(),
        }
    }

    /// Memory that the keys take that are kept, and their order.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed) + self.orders.bytes()
    }
}

impl Snapshot {
    /// Visits rows with their keys, in order; without one that was not born as of this moment.
    pub fn for_each_key(
        &self,
        rows: Range<u32>,
        mut visit: impl FnMut(RowId, Option<&str>),
    ) -> Result<()> {
        let keys = &self.reader.row_keys;
        let is_again = rows.start == 0 && keys.was_asked.swap(true, Ordering::Relaxed);
        // Held, not locked: what `visit` calls may look at keys too.
        let kept = if is_again { self.keep_keys(rows.end)? } else { keys.at_hand() };
        for row in rows.map(RowId) {
            if self.is_unborn(row) {
                visit(row, None);
                continue;
            }
            match kept.get(row) {
                Some(key) => visit(row, Some(key)),
                None => visit(row, Some(&self.key_of(row)?)),
            }
        }
        Ok(())
    }

    /// The key of a row that was born, from the log.
    pub fn key_of(&self, row: RowId) -> Result<Cow<'_, str>> {
        Ok(String::from_utf8_lossy(self.record(row)?.key))
    }

    /// The keys that are kept, those of all rows below `end` among them.
    pub(super) fn keep_keys(&self, end: u32) -> Result<KeptKeys> {
        let keys = &self.reader.row_keys;
        let mut chunks = keys.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = self.keep_on(&mut chunks, end);
        // Where a record cannot be read those before it stay.
        keys.bytes.store(chunks.iter().map(|chunk| chunk.bytes()).sum(), Ordering::Relaxed);
        kept.map(|()| KeptKeys(chunks.clone()))
    }

    fn keep_on(&self, chunks: &mut Vec<Arc<Chunk>>, end: u32) -> Result<()> {
        for row in (len(chunks) as u32..end).map(RowId) {
            let key = if self.is_unborn(row) { Cow::Borrowed("") } else { self.key_of(row)? };
            if (row.0 as usize).is_multiple_of(CHUNK_ROWS) {
                chunks.push(Arc::default());
            }
            if let Some(last) = chunks.last_mut() {
                let chunk = Arc::make_mut(last);
                chunk.text.push_str(&key);
                chunk.ends.push(chunk.text.len() as u32);
            }
        }
        Ok(())
    }
}
