//! The view of a table of rows: keys, extents, and where each row was born and died.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use synadb_storage::Result;
use synadb_storage::extent::{OPEN, PAGE_ALIGNED_BYTES_MIN, Reservation, Row};
use synadb_storage::log::{Log, Record};
use synadb_storage::record::RecordKind;
use synadb_types::TableId;
use synadb_types::limits::{EXTENT_ALIGN, POSITION_END, ROWS_MAX};

use super::companion::CompanionSlot;
use super::row_keys::RowKeys;
use crate::db::{Applied, TableView};
use crate::keys::{AppendVec, AppendWords, KeyMap, KeyMapReader};
use crate::sections::{SectionWriter, TableSections, implausible};

const EXTENTS: u32 = 3;
const ROWS: u32 = 4;
const EXTENT_BYTES: usize = 24;
const ROW_WORDS: usize = 3;
const PAGE: u64 = 4096;
/// Rows of the first extent for single rows; the next ones double up to this many bytes.
const FIRST_ROWS: u32 = 16;
const EXTENT_BYTES_MAX: u64 = 16 << 20;

/// No row.
pub(crate) const NO_ROW: u32 = u32::MAX;

/// Rows side by side.
#[derive(Debug)]
pub(crate) struct RowExtent {
    pub first: u32,
    pub rows: u32,
    pub start: u64,
    /// So many rows from the first on were committed, or passed over; what is behind may be
    /// written to at any time by whoever reserved it.
    filled: AtomicU32,
    /// Whether single rows fill it.
    open: bool,
    /// Whether who had reserved it is gone.
    forsaken: AtomicBool,
}

impl RowExtent {
    fn new(first: u32, rows: u32, start: u64, open: bool) -> Self {
        let forsaken = AtomicBool::new(false);
        Self { first, rows, start, filled: AtomicU32::new(0), open, forsaken }
    }

    /// Where one of its rows lies.
    fn offset(&self, row: u32, row_bytes: u32) -> u64 {
        self.start + u64::from(row - self.first) * stride(row_bytes)
    }

    /// Number of rows from the first on that nobody writes to any more.
    pub fn filled(&self) -> u32 {
        self.filled.load(Ordering::Acquire)
    }
}

/// Slots that the next rows take, side by side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slots {
    pub first: u32,
    pub count: u32,
    /// Where the first lies.
    pub offset: u64,
}

impl Slots {
    /// Those behind the first few.
    pub fn behind(self, count: u32, row_bytes: u32) -> Self {
        let offset = self.offset + u64::from(count) * stride(row_bytes);
        Self { first: self.first + count, count: self.count - count, offset }
    }
}

/// Readers' half.
#[derive(Default)]
pub(crate) struct RowsReader {
    pub keys: Arc<KeyMapReader>,
    pub extents: AppendVec<RowExtent>,
    /// Position of the record that committed the row, 0 where none did.
    pub born: AppendWords,
    /// Position of the record that ended it, 0 while it lives.
    pub died: AppendWords,
    /// A bit of each row that has ended: most live, and few bytes tell it of many.
    ended: AppendWords,
    /// Bits of the inverse norm.
    pub norms: AppendWords,
    /// An index of the rows.
    pub companion: CompanionSlot,
    pub row_keys: RowKeys,
}

/// Writer's half.
pub(crate) struct RowsView {
    table: TableId,
    /// Bytes of a row without what fills up the stride.
    row_bytes: u32,
    keys: KeyMap,
    reader: Arc<RowsReader>,
    /// Slots that were reserved by this process and not filled.
    spares: Vec<Slots>,
}

/// Bytes from one row to the next.
pub(crate) fn stride(row_bytes: u32) -> u64 {
    u64::from(row_bytes).next_multiple_of(EXTENT_ALIGN)
}

/// So many rows fill whole pages: stride and page share at least a factor of 64.
fn rows_of_whole_pages(stride: u64) -> u64 {
    PAGE >> stride.trailing_zeros().min(PAGE.trailing_zeros())
}

/// How many rows take at most so many bytes, one at least: whole pages of them where they are many.
pub(crate) fn rows_within(row_bytes: u32, bytes: u64) -> u64 {
    let rows = (bytes / stride(row_bytes)).max(1);
    let granule = rows_of_whole_pages(stride(row_bytes));
    if rows < granule { rows } else { rows / granule * granule }
}

/// Slots that an extent for `rows` rows leaves empty at its begin, `before` rows being alive: the first
/// one then lies in its page as it does in a matrix of all of them, so that whole pages of the file can
/// be shown as pages of that. None in small extents, and no more than it has rows.
pub(crate) fn lead(row_bytes: u32, before: u64, rows: u32) -> u32 {
    let stride = stride(row_bytes);
    let lead = (before % rows_of_whole_pages(stride)) as u32;
    let is_worth_it = u64::from(rows) * stride >= PAGE_ALIGNED_BYTES_MIN && lead <= rows;
    if is_worth_it { lead } else { 0 }
}

/// The reservation for `rows` rows, or as many as a table may still have; large ones begin on a page.
pub(crate) fn reservation(row_bytes: u32, first_row: u32, rows: u32) -> Reservation {
    let rows = rows.min(ROWS_MAX - first_row);
    let bytes = u64::from(rows) * stride(row_bytes);
    let align = if bytes >= PAGE_ALIGNED_BYTES_MIN { PAGE } else { EXTENT_ALIGN } as u32;
    Reservation { bytes, align, first_row, rows }
}

/// Rows of the next extent for single ones, `first` being there: twice as many, within bounds.
pub(crate) fn open_rows(row_bytes: u32, first: u32, wanted: u32) -> u32 {
    let most = (EXTENT_BYTES_MAX / stride(row_bytes)).max(1) as u32;
    first.max(FIRST_ROWS).max(wanted).min(most)
}

impl RowsView {
    pub fn new(table: TableId, row_bytes: u32) -> Self {
        Self::over(table, row_bytes, KeyMap::default(), RowsReader::default())
    }

    fn over(table: TableId, row_bytes: u32, keys: KeyMap, rows: RowsReader) -> Self {
        let reader = Arc::new(RowsReader { keys: keys.reader(), ..rows });
        Self { table, row_bytes, keys, reader, spares: Vec::new() }
    }

    /// First row that no extent holds.
    pub fn reserved(&self) -> u32 {
        let last = self.reader.extents.len().checked_sub(1);
        last.and_then(|i| self.reader.extents.get(i)).map_or(0, |e| e.first + e.rows)
    }

    /// Where the row lies.
    fn offset(&self, row: u32) -> Option<u64> {
        Some(self.reader.extent_of(row)?.offset(row, self.row_bytes))
    }

    /// What is left of the newest extent for single rows, `taken` slots of it being spoken for.
    pub fn open_slots(&self, taken: u32) -> Option<Slots> {
        let extents = &self.reader.extents;
        let extent = (0..extents.len()).rev().filter_map(|i| extents.get(i)).find(|e| e.open)?;
        let used = extent.filled() + taken;
        let count = extent.rows.checked_sub(used).filter(|count| *count > 0)?;
        let first = extent.first + used;
        Some(Slots { first, count, offset: self.offset(first)? })
    }

    /// Makes room for the keys of so many rows, of several commits to come.
    pub fn expect_rows(&mut self, rows: usize) {
        self.keys.expect(rows);
    }

    /// Takes back slots of an extent of their own, nothing in which was committed.
    pub fn spare(&mut self, slots: Slots) {
        self.spares.push(slots);
    }

    /// Slots that were taken back, if there are enough of them side by side.
    pub fn take_spare(&mut self, wanted: u32) -> Option<Slots> {
        let index = self.spares.iter().position(|slots| slots.count >= wanted)?;
        Some(self.spares.swap_remove(index))
    }

    pub fn import(table: TableId, row_bytes: u32, sections: &TableSections<'_>) -> Result<Self> {
        let rows = RowsReader::default();
        let extents = sections.get(EXTENTS)?;
        for entry in extents.iter().flat_map(|s| s.bytes().chunks_exact(EXTENT_BYTES)) {
            let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| entry[at + i]));
            let start = u64::from_le_bytes(std::array::from_fn(|i| entry[8 + i]));
            let extent = RowExtent::new(half(0), half(4), start, half(20) != 0);
            if half(16) > extent.rows {
                return Err(implausible("an extent with more rows than it holds"));
            }
            extent.filled.store(half(16), Ordering::Relaxed);
            rows.extents.push(extent);
        }
        let saved = sections.get(ROWS)?;
        for entry in saved.iter().flat_map(|s| s.bytes().chunks_exact(8 * ROW_WORDS)) {
            let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|b| entry[8 * i + b]));
            rows.norms.push(word(2));
            rows.died.push(word(1));
            rows.born.push(word(0));
            if word(1) != 0 {
                rows.mark_ended(rows.born.len() as u32 - 1);
            }
        }
        rows.companion.adopt(sections);
        let view = Self::over(table, row_bytes, KeyMap::import(sections)?, rows);
        let mut next = 0;
        for extent in view.reader.extents.iter() {
            let fits = extent.first == next && extent.rows <= ROWS_MAX - next;
            if !fits || extent.start >= POSITION_END {
                return Err(implausible("extents of rows"));
            }
            next += extent.rows;
        }
        if view.reader.born.len() > u64::from(next) {
            return Err(implausible("rows outside of extents"));
        }
        Ok(view)
    }

    fn apply_extent(&mut self, applied: &Applied<'_>) -> bool {
        let payload = applied.record.payload().ok().and_then(Reservation::decode);
        let Some(found) = payload else { return false };
        let expected = u64::from(found.rows).checked_mul(stride(self.row_bytes));
        let fits = found.first_row == self.reserved()
            && found.rows > 0
            && found.rows <= ROWS_MAX - found.first_row
            && expected == Some(found.bytes)
            && found.gap() <= applied.gap;
        if fits {
            let start = found.start(applied.gap_start);
            let open = applied.record.tag == OPEN;
            self.reader.extents.push(RowExtent::new(found.first_row, found.rows, start, open));
        }
        fits
    }
}

/// What a row record commits.
fn row_of(record: &Record<'_>) -> Option<Row> {
    if record.kind != RecordKind::Row {
        return None;
    }
    Row::decode(record.payload().ok()?)
}

impl RowsReader {
    /// The row that a record commits and where it lies, if it may be one of this table.
    fn valid_row(&self, record: &Record<'_>, row_bytes: u32) -> Option<(Row, &RowExtent)> {
        let row = row_of(record)?;
        let extent = self.extent_of(row.row)?;
        let is_unborn = self.born.get(u64::from(row.row)).unwrap_or(0) == 0;
        let fits = row.bytes == row_bytes && row.offset == extent.offset(row.row, row_bytes);
        (is_unborn && fits).then_some((row, extent))
    }

    /// Takes a valid row in; for the writer.
    ///
    /// Rows of several batches may come in any order; those that never come stay unborn.
    fn set_row(&self, row: &Row, extent: &RowExtent, position: u64) {
        let (index, end) = (u64::from(row.row), u64::from(row.row) + 1);
        for words in [&self.norms, &self.died, &self.born] {
            words.extend_to(end);
        }
        self.norms.set(index, u64::from(row.inverse_norm.to_bits()));
        extent.filled.fetch_max(row.row - extent.first + 1, Ordering::Release);
        self.born.set(index, position);
    }

    fn mark_ended(&self, row: u32) {
        let word = u64::from(row / u64::BITS);
        self.ended.extend_to(word + 1);
        let bits = self.ended.get(word).unwrap_or(0);
        self.ended.set(word, bits | 1 << (row % u64::BITS));
    }

    /// Whether the row has ended by now. Who sees the commit that ended it sees this too.
    pub fn has_ended(&self, row: u32) -> bool {
        let bits = self.ended.get(u64::from(row / u64::BITS));
        bits.is_some_and(|bits| bits >> (row % u64::BITS) & 1 == 1)
    }

    /// Positions of the records of all rows that are alive at `visible`, in order of the rows.
    pub fn live_positions(&self, visible: u64) -> Vec<u64> {
        let is_live = |row: &u64| self.died.get(*row).is_none_or(|at| at == 0 || at >= visible);
        let rows = (0..self.born.len()).filter(is_live);
        let born = rows.filter_map(|row| self.born.get(row));
        born.filter(|at| *at != 0 && *at < visible).collect()
    }

    /// Whether the row will never be born: who fills an extent commits its rows in their order, so
    /// that what lies before the last one that is known is there or never comes, and so does all of
    /// an extent that nobody fills any more.
    pub fn is_passed_over(&self, row: u32) -> bool {
        let Some(extent) = self.extent_of(row) else { return false };
        // In this order: the last one may be on its way in, those before it are in.
        let is_forsaken = extent.forsaken.load(Ordering::Acquire);
        let filled = extent.filled();
        (is_forsaken || row - extent.first + 1 < filled)
            && self.born.get(u64::from(row)).unwrap_or(0) == 0
    }

    /// The extent that holds a row.
    pub fn extent_of(&self, row: u32) -> Option<&RowExtent> {
        let count = self.extents.len();
        let newest = self.extents.get(count.checked_sub(1)?)?;
        if newest.first <= row {
            return (row - newest.first < newest.rows).then_some(newest);
        }
        let (mut from, mut to) = (0, count);
        while from < to {
            let middle = u64::midpoint(from, to);
            if self.extents.get(middle)?.first <= row { from = middle + 1 } else { to = middle }
        }
        let extent = self.extents.get(from.checked_sub(1)?)?;
        (row - extent.first < extent.rows).then_some(extent)
    }
}

impl TableView for RowsView {
    fn forsake(&mut self) {
        // Single rows go on to fill an extent of theirs; others had one owner each.
        let owned = self.reader.extents.iter().filter(|extent| !extent.open);
        owned.for_each(|extent| extent.forsaken.store(true, Ordering::Release));
    }

    fn reader(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::clone(&self.reader) as _
    }

    fn newest<'a>(&self, log: &'a Log, key: &[u8], hash: u64) -> Result<Option<Record<'a>>> {
        self.keys.newest(log, key, hash)
    }

    fn touch(&self, hashes: &[u64]) {
        self.keys.touch(hashes);
    }

    fn apply(&mut self, applied: &Applied<'_>) -> bool {
        let record = &applied.record;
        if record.kind == RecordKind::Extent {
            return self.apply_extent(applied);
        }
        let row = match record.kind {
            RecordKind::Row => self.reader.valid_row(record, self.row_bytes),
            RecordKind::Delete => None,
            _ => return false,
        };
        if record.key.is_empty() || (record.kind == RecordKind::Row && row.is_none()) {
            return false;
        }
        let replaced = match record.previous {
            0 => None,
            previous => applied.log.record(previous).ok().and_then(|r| row_of(&r)),
        };
        if !self.keys.apply(applied.log, record, applied.hash) {
            return false;
        }
        if let Some(replaced) = replaced {
            self.reader.died.set(u64::from(replaced.row), record.position);
            self.reader.mark_ended(replaced.row);
        }
        if let Some((row, extent)) = row {
            self.reader.set_row(&row, extent, record.position);
        }
        true
    }

    fn expect(&mut self, records: usize) {
        self.keys.expect(records);
    }

    fn live(&self) -> u64 {
        self.keys.live()
    }

    fn filter_bytes(&self) -> u64 {
        self.reader.row_keys.bytes()
    }

    fn export(&self, log: &Log, out: &mut SectionWriter) -> Result<()> {
        self.keys.export(log, self.table.0, out)?;
        let mut extents = Vec::new();
        for extent in self.reader.extents.iter() {
            extents.extend_from_slice(&extent.first.to_le_bytes());
            extents.extend_from_slice(&extent.rows.to_le_bytes());
            extents.extend_from_slice(&extent.start.to_le_bytes());
            extents.extend_from_slice(&extent.filled().to_le_bytes());
            extents.extend_from_slice(&u32::from(extent.open).to_le_bytes());
        }
        out.put(EXTENTS, self.table.0, &extents)?;
        let reader = &self.reader;
        let mut rows = Vec::with_capacity(reader.born.len() as usize * 8 * ROW_WORDS);
        for row in 0..reader.born.len() {
            for words in [&reader.born, &reader.died, &reader.norms] {
                rows.extend_from_slice(&words.get(row).unwrap_or(0).to_le_bytes());
            }
        }
        out.put(ROWS, self.table.0, &rows)?;
        reader.companion.export(self.table.0, out)
    }

    fn keep_as_saved(&self) {
        self.reader.companion.keep_as_saved();
    }

    fn adopt(&self, sections: &TableSections<'_>) {
        self.reader.companion.adopt(sections);
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
