//! Taking frames into the views: own commits, those of other processes, and those of a replay.

use std::sync::Arc;

use synadb_storage::frame::{Head, Records};
use synadb_storage::log::Record;
use synadb_storage::record::RecordKind;
use synadb_storage::{Result as StorageResult, StorageError};

use super::engine::Commit;
use super::view::{Applied, ViewFactory};
use super::{Generation, TableInfo};

/// Keys of a commit that are looked up at once.
pub(crate) const TOUCHED: usize = 32;

impl Commit {
    /// Applies every record of a verified frame.
    pub fn apply(
        &mut self,
        generation: &Generation,
        factory: &dyn ViewFactory,
        head: &Head,
    ) -> StorageResult<()> {
        self.apply_hashed(generation, factory, head, &[])
    }

    /// As `apply`, of a frame whose first keys have these hashes: they were looked up just now.
    pub fn apply_hashed(
        &mut self,
        generation: &Generation,
        factory: &dyn ViewFactory,
        head: &Head,
        hashes: &[u64],
    ) -> StorageResult<()> {
        let (log, visible) = (&generation.log, generation.visible());
        let mut known = hashes.iter();
        let mut records = Records::of(head, log.region()).map(|(position, raw)| {
            let record = raw.and_then(|raw| Record::new(position, raw, log.region()));
            let record = record.ok_or_else(|| cannot_follow(position))?;
            let hash = known.next().copied().unwrap_or_else(|| generation.hash(record.key));
            let (gap_start, gap) = (head.gap_start(), head.gap);
            Ok(Applied { log, record, hash, gap_start, gap, visible })
        });
        if head.is_sole() {
            return records.try_for_each(|applied| self.apply_one(generation, factory, &applied?));
        }
        let mut group: Vec<Applied<'_>> = Vec::with_capacity(TOUCHED);
        let mut hashes = Vec::with_capacity(TOUCHED);
        loop {
            group.clear();
            for applied in records.by_ref().take(TOUCHED) {
                group.push(applied?);
            }
            let Some(first) = group.first() else { return Ok(()) };
            // Most often all are of one table.
            if let Some(view) = self.views.get(&first.record.table) {
                hashes.clear();
                hashes.extend(group.iter().map(|applied| applied.hash));
                view.touch(&hashes);
            }
            for applied in &group {
                self.apply_one(generation, factory, applied)?;
            }
        }
    }

    fn apply_one(
        &mut self,
        generation: &Generation,
        factory: &dyn ViewFactory,
        applied: &Applied<'_>,
    ) -> StorageResult<()> {
        let record = &applied.record;
        let fits = if record.kind == RecordKind::Table {
            self.add_table(generation, factory, record).is_some()
        } else {
            self.views.get_mut(&record.table).is_some_and(|view| view.apply(applied))
        };
        if fits { Ok(()) } else { Err(cannot_follow(record.position)) }
    }

    fn add_table(
        &mut self,
        generation: &Generation,
        factory: &dyn ViewFactory,
        record: &Record<'_>,
    ) -> Option<()> {
        let info = TableInfo::decode(record.key, record.payload().ok()?)?;
        let expected = generation.tables().count() as u32 + 1;
        if info.id.0 != expected || generation.table(&info.name).is_some() {
            return None;
        }
        let view = factory.create(&info)?;
        generation.add_table(Arc::new(info.clone()), view.reader());
        self.views.insert(info.id, view);
        Some(())
    }

    /// Makes everything that was applied visible.
    pub fn publish(&mut self, generation: &Generation) {
        self.views.values_mut().for_each(|view| view.publish());
        generation.publish(self.writer.tail, self.writer.sequence);
        // Who counts and then reads finds as many keys, or those of a later commit.
        for (id, view) in &self.views {
            if let Some(table) = generation.table_by_id(*id) {
                table.set_live(view.live());
            }
        }
    }

    /// Applies the frames from the writer's tail up to `end`.
    pub fn catch_up(
        &mut self,
        generation: &Generation,
        factory: &dyn ViewFactory,
        end: u64,
    ) -> StorageResult<()> {
        while self.writer.tail < end {
            let at = self.writer.tail;
            let head = generation.log.frame(at)?;
            let head = head.ok_or_else(|| StorageError::corrupt(at, "a frame vanished"))?;
            self.apply(generation, factory, &head)?;
            self.step_over(generation, &head);
        }
        self.publish(generation);
        Ok(())
    }

    /// Moves the writer behind a frame that was applied.
    pub fn step_over(&mut self, generation: &Generation, head: &Head) {
        self.unsaved_bytes += u64::from(head.length);
        let writer = &mut self.writer;
        writer.tail = head.next();
        writer.link = head.crc;
        writer.last_frame = head.offset;
        writer.time = head.time;
        writer.marked = writer.marked.max(head.mark);
        if head.counts() {
            writer.sequence += 1;
        }
        generation.note(head, writer.sequence);
    }
}

fn cannot_follow(position: u64) -> StorageError {
    StorageError::corrupt(position, "a record that cannot follow")
}
