//! Reading a log to carry its records over: origins, damage, and how far it is.

use std::sync::Arc;

use synadb_storage::frame::{Head, Records};
use synadb_storage::identity::FRAMES_START;
use synadb_storage::log::Record;
use synadb_storage::record::RecordKind;
use synadb_storage::{Result, StorageError};

use super::compact::CompactOptions;
use super::generation::Passed;
use super::view::ViewFactory;
use super::{Generation, Rewrite, TableInfo};
use crate::config::Keep;

/// Bytes or records between two looks whether to go on.
const LOOK_BYTES: u64 = 256 << 10;
const LOOK_RECORDS: u64 = 256;

/// A state of a log: everything before a position.
pub(super) struct Moment {
    pub generation: Arc<Generation>,
    pub position: u64,
    pub sequence: u64,
    pub time: u64,
    /// Number of tables.
    pub tables: usize,
}

/// The log that records are carried over from.
pub(crate) struct Source<'a> {
    /// The generation that is read.
    pub from: &'a Generation,
    /// Everything before this position is carried over first.
    pub end: u64,
    options: CompactOptions,
    /// Offset and reason of each record that was left behind.
    pub(super) skipped: Vec<(u64, String)>,
    /// The frame of the last record that was asked for.
    last: Option<Passed>,
    /// For records whose commit damage hides.
    origin: (u64, u64),
    goes_on: &'a mut dyn FnMut(u64) -> bool,
    looked_at: u64,
    /// What `goes_on` was told last.
    told: u64,
    /// Whether it is not told: it is somebody else's, and may wait for what is held here.
    is_quiet: bool,
    carried: u64,
    live: u64,
}

impl<'a> Source<'a> {
    /// `goes_on` is told how many of the bytes before `moment` were carried over.
    pub(super) fn new(
        moment: &'a Moment,
        options: CompactOptions,
        goes_on: &'a mut dyn FnMut(u64) -> bool,
    ) -> Self {
        let tables = moment.generation.tables().take(moment.tables);
        Self {
            from: &moment.generation,
            end: moment.position,
            options,
            skipped: Vec::new(),
            last: None,
            origin: (moment.sequence, moment.time),
            goes_on,
            looked_at: 0,
            told: 0,
            is_quiet: false,
            carried: 0,
            live: tables.map(super::generation::Table::live).sum(),
        }
    }

    /// What was read; where it is damaged it is left behind, or this fails, as was asked for.
    ///
    /// # Errors
    /// That of the reading.
    pub fn intact<T>(&mut self, read: Result<T>, key: &[u8]) -> Result<Option<T>> {
        match read {
            Err(StorageError::Corrupt { offset, reason }) if self.options.skip_damaged => {
                self.leave_behind(offset, &reason, key);
                Ok(None)
            }
            Err(StorageError::Corrupt { offset, reason }) => {
                Err(StorageError::Corrupt { offset, reason: of_key(&reason, key) })
            }
            read => read.map(Some),
        }
    }

    /// Notes what was left behind; `key` is empty where damage hides it.
    pub(super) fn leave_behind(&mut self, offset: u64, reason: &str, key: &[u8]) {
        self.skipped.push((offset, of_key(reason, key)));
    }

    /// What is to be kept.
    pub fn keep(&self) -> Keep {
        self.options.keep
    }

    /// Sequence number and time of the commit that a record belongs to.
    ///
    /// Where damage hides them, those of the newest commit.
    pub fn origin(&mut self, record: &Record<'_>) -> (u64, u64) {
        let found = self.from.commit_behind(&mut self.last, record);
        found.unwrap_or(self.origin)
    }

    /// Counts a key that was carried over.
    ///
    /// # Errors
    /// `Interrupted` where the whole is to end.
    pub fn step(&mut self) -> Result<()> {
        self.carried += 1;
        if !self.carried.is_multiple_of(LOOK_RECORDS) {
            return Ok(());
        }
        let share = self.carried as f64 / self.live.max(self.carried) as f64;
        self.look((share * self.end as f64) as u64)
    }

    /// Says that everything before a position was carried over, which only grows.
    ///
    /// # Errors
    /// `Interrupted` where the whole is to end.
    pub fn look_at(&mut self, position: u64) -> Result<()> {
        if self.is_quiet || position < self.looked_at + LOOK_BYTES {
            return Ok(());
        }
        self.looked_at = position;
        self.look(position)
    }

    /// Asks once more before what cannot be taken back, and says nothing from then on.
    ///
    /// # Errors
    /// `Interrupted` where the whole is to end.
    pub(super) fn last_look(&mut self) -> Result<()> {
        self.tell(self.end)?;
        self.is_quiet = true;
        Ok(())
    }

    /// Before the last look it is never said that all is done.
    fn look(&mut self, at: u64) -> Result<()> {
        if self.is_quiet {
            return Ok(());
        }
        self.tell(at.min(self.end.saturating_sub(1)).max(self.told))
    }

    fn tell(&mut self, done: u64) -> Result<()> {
        self.told = done;
        if (self.goes_on)(done) { Ok(()) } else { Err(StorageError::Interrupted) }
    }

    /// Carries everything before the end over, every version.
    ///
    /// # Errors
    /// As `carry_frames`.
    pub(super) fn carry_all(
        &mut self,
        factory: &dyn ViewFactory,
        rewrite: &mut Rewrite<'_>,
    ) -> Result<()> {
        let start = (FRAMES_START, self.from.log.identity().horizon);
        self.carry_frames(start, self.end, factory, rewrite).map(|_| ())
    }

    /// Carries all records of the frames from `at` to `end` over, in their order.
    ///
    /// `sequence` is that of the last commit before `at`; returns the two for what is behind.
    ///
    /// # Errors
    /// `Corrupt`; `Interrupted`; as [`synadb_storage::region::Region::store`].
    pub(super) fn carry_frames(
        &mut self,
        (mut at, mut sequence): (u64, u64),
        end: u64,
        factory: &dyn ViewFactory,
        rewrite: &mut Rewrite<'_>,
    ) -> Result<(u64, u64)> {
        while at < end {
            let head = self.from.log.frame(at)?;
            let head = head.ok_or_else(|| StorageError::corrupt(at, "a frame vanished"))?;
            sequence += u64::from(head.counts());
            self.carry_frame(&head, (sequence, head.time), factory, rewrite)?;
            at = head.next();
            self.look_at(at)?;
        }
        Ok((at, sequence))
    }

    /// As `carry_frames`, with the write lock held: nobody is told how far it is, who may want to
    /// write.
    ///
    /// # Errors
    /// As `carry_frames`, but never `Interrupted`.
    pub(super) fn carry_quietly(
        &mut self,
        start: (u64, u64),
        end: u64,
        factory: &dyn ViewFactory,
        rewrite: &mut Rewrite<'_>,
    ) -> Result<(u64, u64)> {
        let was_quiet = std::mem::replace(&mut self.is_quiet, true);
        let carried = self.carry_frames(start, end, factory, rewrite);
        self.is_quiet = was_quiet;
        carried
    }

    fn carry_frame(
        &mut self,
        head: &Head,
        origin: (u64, u64),
        factory: &dyn ViewFactory,
        rewrite: &mut Rewrite<'_>,
    ) -> Result<()> {
        let (from, region) = (self.from, self.from.log.region());
        for (position, raw) in Records::of(head, region) {
            let record = raw.and_then(|raw| Record::new(position, raw, region));
            let record =
                record.ok_or_else(|| StorageError::corrupt(position, "a record of no kind"))?;
            let origin = record.origin.unwrap_or(origin);
            match record.kind {
                RecordKind::Extent => {}
                RecordKind::Table => {
                    let info = TableInfo::decode(record.key, record.payload()?);
                    let info =
                        info.ok_or_else(|| StorageError::corrupt(position, "a table record"))?;
                    rewrite.add_table(&info, origin)?;
                    rewrite.flush()?;
                }
                _ => {
                    let table = from.table_by_id(record.table);
                    let table =
                        table.ok_or_else(|| StorageError::corrupt(position, "an unknown table"))?;
                    factory.carry(&table.info, &record, origin, (self, rewrite))?;
                }
            }
        }
        Ok(())
    }
}

fn of_key(reason: &str, key: &[u8]) -> String {
    if key.is_empty() {
        return reason.to_owned();
    }
    format!("key {:?}: {reason}", String::from_utf8_lossy(key))
}
