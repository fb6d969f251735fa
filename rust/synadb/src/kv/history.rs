//! Float histories: the points of a key, without a walk from record to record.
//!
//! Only keys with many floats have one; for the others, and wherever a history here is not the
//! answer, the records of the key are. A history holds single points by value, what a checkpoint
//! saved as a slice of it, and runs by the position of their record.

use std::sync::atomic::{AtomicU64, Ordering};

use synadb_storage::log::{Log, Record};
use synadb_storage::record::RecordKind;
use synadb_storage::{Result, StorageError};

use super::published::Published;
use crate::db::Applied;
use crate::keys::{AppendVec, AppendWords, HashIndex};
use crate::sections::{Section, SectionWriter, TableSections, implausible};
use crate::value;

/// A key whose last records hold this many float records gets a history.
const RECORDS_MIN: usize = 8;
/// How far back they are looked for.
const RECORDS_LOOKED_AT: usize = 16;
/// A run of this many points is not copied but referred to.
const RUN_POINTS_MIN: usize = 64;

const ENTRIES: u32 = 3;
const VALUES: u32 = 4;
const ENTRY_WORDS: usize = 5;

/// Histories of a table; one writer, any number of readers.
#[derive(Default)]
pub(crate) struct Histories {
    /// Key hash to number of the history and one.
    index: HashIndex,
    all: AppendVec<History>,
    saved: Option<Section>,
}

struct History {
    hash: u64,
    /// Position of a record of the key, to tell it from others of the same hash.
    key_at: u64,
    /// Saved points before all others: offset and count in the saved values.
    saved: (u64, u64),
    points: AppendWords,
    runs: AppendVec<Run>,
    /// Number of points and, in the upper 24 bits, of runs.
    state: Published,
    /// Position of the delete that ended it, `u64::MAX` while it goes on.
    ended: AtomicU64,
}

/// A run of points in a record of its own.
struct Run {
    /// Single points before it.
    after: u64,
    position: u64,
    count: u64,
}

const POINT_BITS: u32 = 40;

fn pack(points: u64, runs: u64) -> u64 {
    points | (runs << POINT_BITS)
}

fn unpack(state: u64) -> (u64, u64) {
    (state & ((1 << POINT_BITS) - 1), state >> POINT_BITS)
}

impl History {
    fn new(hash: u64, key_at: u64, saved: (u64, u64)) -> Self {
        Self {
            hash,
            key_at,
            saved,
            points: AppendWords::default(),
            runs: AppendVec::default(),
            state: Published::new(),
            ended: AtomicU64::new(u64::MAX),
        }
    }

    /// Adds a record's points; for the writer. Records before `visible` are published.
    fn push(&self, record: &Record<'_>, visible: u64) -> Option<()> {
        let (mut points, mut runs) = unpack(self.state.newest());
        let bytes = record.value().ok()?;
        let values = value::history_points(record.tag, bytes)?;
        self.state.begin(record.position, visible);
        if values.len() >= RUN_POINTS_MIN {
            let count = values.len() as u64;
            self.runs.push(Run { after: points, position: record.position, count });
            runs += 1;
        } else {
            for value in &values {
                self.points.push(value.to_bits());
            }
            points += values.len() as u64;
        }
        self.state.end(pack(points, runs));
        Some(())
    }

    /// What of it is visible, in points and runs; `None` if it is not the answer.
    ///
    /// Where the writer has published more meanwhile, that may be included: all of it, or nothing.
    fn visible_state(&self, visible: u64) -> Option<(u64, u64)> {
        if self.ended.load(Ordering::Acquire) < visible || self.key_at >= visible {
            return None;
        }
        Some(unpack(self.state.at(visible)))
    }

    fn read(&self, log: &Log, values: &[u8], state: (u64, u64)) -> Result<Vec<f64>> {
        let (points, runs) = state;
        let in_runs: u64 = (0..runs).filter_map(|i| self.runs.get(i)).map(|run| run.count).sum();
        let mut out = Vec::with_capacity((self.saved.1 + points + in_runs) as usize);
        let (from, count) = (self.saved.0 as usize * 8, self.saved.1 as usize * 8);
        extend(&mut out, values.get(from..from + count).unwrap_or_default());
        let mut taken = 0;
        for run in (0..runs).filter_map(|i| self.runs.get(i)) {
            self.take_points(&mut out, taken, run.after);
            taken = run.after;
            extend(&mut out, log.record(run.position)?.value()?);
        }
        self.take_points(&mut out, taken, points);
        Ok(out)
    }

    fn take_points(&self, out: &mut Vec<f64>, from: u64, to: u64) {
        self.points.for_each_slice(from, to, |words| {
            out.extend(words.iter().map(|word| f64::from_bits(word.load(Ordering::Relaxed))));
        });
    }
}

fn extend(out: &mut Vec<f64>, bytes: &[u8]) {
    out.extend(bytes.as_chunks::<8>().0.iter().map(|word| f64::from_le_bytes(*word)));
}

impl Histories {
    /// The points of a key that are visible; `None` where its records must be asked.
    pub fn read(&self, log: &Log, key: &[u8], hash: u64, visible: u64) -> Result<Option<Vec<f64>>> {
        let Some(history) = self.find(log, key, hash)? else { return Ok(None) };
        let Some(state) = history.visible_state(visible) else { return Ok(None) };
        let values = self.saved.as_ref().map_or(&[][..], |section| section.bytes());
        history.read(log, values, state).map(Some)
    }

    fn find(&self, log: &Log, key: &[u8], hash: u64) -> Result<Option<&History>> {
        let number = self.index.find(hash, |number| {
            let history = self.all.get(number - 1);
            history.map_or(Ok(false), |h| Ok(log.record(h.key_at)?.key == key))
        })?;
        Ok(number.and_then(|number| self.all.get(number - 1)))
    }

    /// Takes a record in; for the writer. What goes wrong here is left to the walk.
    pub fn apply(&self, applied: &Applied<'_>) {
        let &Applied { log, ref record, hash, visible, .. } = applied;
        if record.kind == RecordKind::Put && !value::is_float(record.tag) {
            return;
        }
        let found = self.find(log, record.key, hash).ok().flatten();
        let current = found.filter(|h| h.ended.load(Ordering::Relaxed) == u64::MAX);
        match (record.kind, current) {
            (RecordKind::Delete, Some(history)) => {
                history.ended.store(record.position, Ordering::Release);
            }
            (RecordKind::Put, Some(history)) if history.push(record, visible).is_none() => {
                history.ended.store(0, Ordering::Release);
            }
            (RecordKind::Put, None) => {
                // An ended history (0: given up) of the key stays where the walk is the answer.
                let given_up = found.is_some_and(|h| h.ended.load(Ordering::Relaxed) == 0);
                if !given_up && has_many_floats(log, record) {
                    self.begin(applied, found);
                }
            }
            _ => {}
        }
    }

    fn begin(&self, applied: &Applied<'_>, ended: Option<&History>) {
        let &Applied { log, ref record, hash, visible, .. } = applied;
        let Ok(records) = float_records(log, *record) else { return };
        let history = History::new(hash, record.position, (0, 0));
        for record in records.iter().rev() {
            if history.push(record, visible).is_none() {
                return;
            }
        }
        let old = ended.and_then(|ended| {
            let same =
                |number: &u64| self.all.get(number - 1).is_some_and(|h| std::ptr::eq(h, ended));
            self.index.find(hash, |number| Ok::<_, ()>(same(&number))).ok().flatten()
        });
        let number = self.all.push(history) + 1;
        self.index.set(hash, old, number);
    }

    /// Saves all points that are held by value, and where the runs are.
    pub fn export(&self, log: &Log, table: u32, out: &mut SectionWriter) -> Result<()> {
        let (mut entries, mut values) = (Vec::new(), Vec::new());
        let saved = self.saved.as_ref().map_or(&[][..], |section| section.bytes());
        for (_, number) in self.index.pairs() {
            let Some(history) = self.all.get(number - 1) else { continue };
            if history.ended.load(Ordering::Relaxed) != u64::MAX {
                continue;
            }
            let state = unpack(history.state.newest());
            // A history with runs begins anew from its records: runs are cheap to walk.
            if state.1 > 0 {
                continue;
            }
            let points = history.read(log, saved, state)?;
            let words =
                [history.hash, history.key_at, (values.len() / 8) as u64, points.len() as u64, 0];
            words.iter().for_each(|word| entries.extend_from_slice(&word.to_le_bytes()));
            points.iter().for_each(|point| values.extend_from_slice(&point.to_le_bytes()));
        }
        out.put(ENTRIES, table, &entries)?;
        out.put(VALUES, table, &values)
    }

    /// Takes saved histories over.
    pub fn import(sections: &TableSections<'_>) -> Result<Self> {
        let histories = Self { saved: sections.get(VALUES)?, ..Self::default() };
        let count = histories.saved.as_ref().map_or(0, |s| s.bytes().len() as u64 / 8);
        let Some(entries) = sections.get(ENTRIES)? else { return Ok(histories) };
        for entry in entries.bytes().chunks_exact(8 * ENTRY_WORDS) {
            let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|b| entry[8 * i + b]));
            if word(2).checked_add(word(3)).is_none_or(|end| end > count) {
                return Err(implausible("a history outside of the saved points"));
            }
            let history = History::new(word(0), word(1), (word(2), word(3)));
            let number = histories.all.push(history) + 1;
            histories.index.set(word(0), None, number);
        }
        Ok(histories)
    }
}

/// Whether enough of the key's last records are floats.
fn has_many_floats(log: &Log, record: &Record<'_>) -> bool {
    let mut floats = 1;
    let mut previous = record.previous;
    for _ in 0..RECORDS_LOOKED_AT {
        if previous == 0 {
            return false;
        }
        let Ok(earlier) = log.record(previous) else { return false };
        if earlier.kind == RecordKind::Delete {
            return false;
        }
        floats += usize::from(value::is_float(earlier.tag));
        if floats >= RECORDS_MIN {
            return true;
        }
        previous = earlier.previous;
    }
    false
}

/// The key's records that hold floats, newest first, back to the last delete.
pub(crate) fn float_records<'a>(log: &'a Log, newest: Record<'a>) -> Result<Vec<Record<'a>>> {
    let mut all = walk(log, newest)?;
    all.retain(|record| value::is_float(record.tag));
    Ok(all)
}

/// The key's records, newest first, back to the last delete.
pub(crate) fn walk<'a>(log: &'a Log, newest: Record<'a>) -> Result<Vec<Record<'a>>> {
    let mut all = Vec::new();
    let mut next = Some(newest);
    while let Some(record) = next {
        if record.kind == RecordKind::Delete {
            break;
        }
        all.push(record);
        next = match record.previous {
            0 => None,
            previous => Some(log.record(previous)?),
        };
    }
    Ok(all)
}

/// The floats of records, newest first, as a history.
pub(crate) fn points_of(records: &[Record<'_>]) -> Result<Vec<f64>> {
    let mut out = Vec::new();
    for record in records.iter().rev() {
        let bytes = record.value()?;
        let points = value::history_points(record.tag, bytes)
            .ok_or_else(|| StorageError::corrupt(record.position, "floats of another length"))?;
        out.extend(points);
    }
    Ok(out)
}
