//! Rows in the order of their keys, for filters that name a prefix and are made for one search: keys
//! that begin alike stand together, and no other is looked at.

use std::cmp::Ordering;
use std::sync::atomic::{self, AtomicU64};
use std::sync::{Arc, Mutex, TryLockError};

use synadb_storage::Result;
use synadb_types::RowId;

use super::Snapshot;
use super::row_keys::KeptKeys;

/// Rows are put in order once filters have looked at so many times as many, which takes about as long.
const LOOKED_AT: u64 = 8;
/// To look at a row whose key is in the log alone takes as long as at so many others.
const IN_THE_LOG: u64 = 8;
/// Fewer rows than these are put in order by comparing them.
const COMPARED: usize = 32;
/// Bytes of a key by which rows are put in order eight at a time; beyond them they are compared.
const HEADS_END: usize = 64;

/// The order of a table, once it pays.
#[derive(Default)]
pub(super) struct KeyOrders {
    state: Mutex<State>,
    bytes: AtomicU64,
}

#[derive(Default)]
struct State {
    order: Option<Arc<KeyOrder>>,
    /// What it took to look at rows since: those that are in no order, one by one.
    looked_at: u64,
}

/// The rows of a table by their keys.
pub(crate) struct KeyOrder {
    keys: KeptKeys,
    rows: Vec<u32>,
    /// Rows below `end` that were not born when they were put in order, and may come.
    pub unborn: Vec<u32>,
    /// Rows below `end` that never come.
    pub passed_over: Vec<u32>,
    pub end: u32,
    /// Snapshots as of earlier positions may not show the rows.
    since: u64,
}

impl KeyOrders {
    /// Memory that the order takes beside the keys.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(atomic::Ordering::Relaxed)
    }
}

impl KeyOrder {
    fn new(keys: KeptKeys, snapshot: &Snapshot) -> Self {
        let (mut known, mut unborn, mut passed_over) = (Vec::new(), Vec::new(), Vec::new());
        let end = snapshot.rows_end();
        for row in 0..end {
            let is_known = !snapshot.is_unborn(RowId(row)) && keys.get(RowId(row)).is_some();
            if is_known {
                known.push((0, row));
            } else if snapshot.reader.is_passed_over(row) {
                passed_over.push(row);
            } else {
                unborn.push(row);
            }
        }
        sort(&keys, &mut known, 0);
        let rows = known.into_iter().map(|(_, row)| row).collect();
        Self { keys, rows, unborn, passed_over, end, since: snapshot.visible() }
    }

    /// The key of a row that has one here.
    pub fn key(&self, row: u32) -> &str {
        key(&self.keys, row)
    }

    /// The rows whose keys begin so. O(log n).
    pub fn with_prefix(&self, prefix: &str) -> &[u32] {
        let from = self.rows.partition_point(|&row| self.key(row) < prefix);
        let rows = &self.rows[from..];
        &rows[..rows.partition_point(|&row| self.key(row).starts_with(prefix))]
    }

    fn bytes(&self) -> u64 {
        let rows = [&self.rows, &self.unborn, &self.passed_over];
        let rows: usize = rows.iter().map(|rows| rows.capacity()).sum();
        (size_of::<Self>() + size_of::<u32>() * rows) as u64
    }
}

fn key(keys: &KeptKeys, row: u32) -> &str {
    keys.get(RowId(row)).unwrap_or_default()
}

/// Eight bytes of a key as a number that orders keys as these bytes do; what lies behind its end is 0.
fn head(key: &str, depth: usize) -> u64 {
    let mut bytes = [0; size_of::<u64>()];
    let rest = key.as_bytes().get(depth..).unwrap_or_default();
    let len = rest.len().min(bytes.len());
    bytes[..len].copy_from_slice(&rest[..len]);
    u64::from_be_bytes(bytes)
}

/// Puts rows in order whose keys have the same first `depth` bytes: by the next eight, and those that
/// have the same again likewise. Each key is looked at once for eight bytes, and not once for each
/// row that it is compared with.
fn sort(keys: &KeptKeys, rows: &mut [(u64, u32)], depth: usize) {
    let whole = |a: &(u64, u32), b: &(u64, u32)| -> Ordering {
        key(keys, a.1).cmp(key(keys, b.1)).then(a.1.cmp(&b.1))
    };
    if rows.len() < COMPARED || depth >= HEADS_END {
        return rows.sort_unstable_by(whole);
    }
    for (head_of, row) in rows.iter_mut() {
        *head_of = head(key(keys, *row), depth);
    }
    rows.sort_unstable();
    let next = depth + size_of::<u64>();
    for same in rows.chunk_by_mut(|a, b| a.0 == b.0) {
        if same.iter().all(|(_, row)| key(keys, *row).len() <= next) {
            // Ends and zero bytes read alike.
            same.sort_unstable_by(whole);
        } else {
            sort(keys, same, next);
        }
    }
}

impl Snapshot {
    /// The rows by their keys, where filters have looked at enough of them to be worth it. Who meets
    /// another thread at it looks at them one by one once more.
    pub fn key_order(&self) -> Result<Option<Arc<KeyOrder>>> {
        let orders = &self.reader.row_keys.orders;
        let mut state = match orders.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        let all = u64::from(self.rows_end());
        state.looked_at += match &state.order {
            Some(order) if order.since > self.visible() => return Ok(None),
            Some(order) => IN_THE_LOG * all.saturating_sub(u64::from(order.end)),
            None => all,
        };
        if state.looked_at > LOOKED_AT * all {
            let order = KeyOrder::new(self.keep_keys(self.rows_end())?, self);
            orders.bytes.store(order.bytes(), atomic::Ordering::Relaxed);
            *state = State { order: Some(Arc::new(order)), looked_at: 0 };
        }
        Ok(state.order.clone())
    }
}
