//! Carrying over what is intact of a damaged log.
//!
//! Indexes lead to the newest record of a key and, where that is damaged, to nothing: here the log
//! is walked over from its beginning instead.

use std::cell::RefCell;
use std::collections::HashMap;

use synadb_storage::Result;
use synadb_storage::log::Record;
use synadb_storage::record::RecordKind;
use synadb_types::TableId;

use super::source::Moment;
use super::view::ViewFactory;
use super::walk::{Clock, Event, walk};
use super::{Generation, Rewrite, Source};
use crate::config::Keep;

/// A record with the sequence number and time of its commit.
type Origin<'a> = (Record<'a>, (u64, u64));

/// Records that are to be kept, by table and key.
#[derive(Default)]
struct Chosen<'a> {
    of_key: HashMap<(TableId, &'a [u8]), Vec<Origin<'a>>>,
}

impl<'a> Chosen<'a> {
    /// Takes in the next intact record.
    fn take(&mut self, keep: Keep, (record, origin): Origin<'a>) {
        let place = (record.table, record.key);
        if record.kind == RecordKind::Delete {
            self.of_key.remove(&place);
            return;
        }
        let kept = self.of_key.entry(place).or_default();
        if keep == Keep::Newest {
            kept.clear();
        }
        kept.push((record, origin));
    }

    fn in_order(self) -> Vec<Origin<'a>> {
        let mut all: Vec<_> = self.of_key.into_values().flatten().collect();
        all.sort_unstable_by_key(|(record, _)| record.position);
        all
    }
}

impl<'a> Source<'a> {
    /// As `carry_live` and `carry_all`, and leaves behind what is damaged: the newest record of a
    /// key that is intact counts.
    ///
    /// Takes memory for every key that is kept.
    ///
    /// # Errors
    /// `Interrupted`; as [`synadb_storage::region::Region::store`].
    pub(super) fn carry_intact(
        &mut self,
        moment: &Moment,
        factory: &dyn ViewFactory,
        rewrite: &mut Rewrite<'_>,
    ) -> Result<()> {
        let now = (moment.sequence, moment.time);
        for table in self.from.tables().take(moment.tables) {
            rewrite.add_table(&table.info, now)?;
        }
        rewrite.flush()?;
        let from = self.from;
        let mut chosen = Chosen::default();
        self.walk_over(moment, &mut |source, (record, origin)| {
            let Some(table) = of_table(from, &record) else {
                source.leave_behind(record.position, "a record of an unknown table", record.key);
                return Ok(());
            };
            if source.keep() == Keep::Everything {
                return factory.carry(&table.info, &record, origin, (source, rewrite));
            }
            let read =
                if record.kind == RecordKind::Row { record.row_bytes() } else { record.value() };
            if source.intact(read, record.key)?.is_some() {
                chosen.take(source.keep(), (record, origin));
            }
            Ok(())
        })?;
        for (record, origin) in chosen.in_order() {
            let Some(table) = of_table(from, &record) else { continue };
            let to = (&mut *self, &mut *rewrite);
            match to.0.keep() {
                Keep::Newest => factory.carry_newest(&table.info, &record, origin, to)?,
                _ => factory.carry(&table.info, &record, origin, to)?,
            }
        }
        rewrite.flush()
    }

    /// Visits every intact record before the moment that belongs to a key.
    fn walk_over(
        &mut self,
        moment: &Moment,
        visit: &mut dyn FnMut(&mut Self, Origin<'a>) -> Result<()>,
    ) -> Result<()> {
        let log = &self.from.log;
        let mut clock = Clock::new(log.identity().horizon, None);
        let limits = (moment.position, moment.position);
        let this = RefCell::new(self);
        let mut goes_on = |at| this.borrow_mut().look_at(at).is_ok();
        walk(log, limits, &mut clock, &mut goes_on, &mut |event| {
            let this = &mut **this.borrow_mut();
            match event {
                Event::Record(record, _) if record.key.is_empty() => Ok(()),
                Event::Record(record, _) if record.kind == RecordKind::Table => Ok(()),
                Event::Record(record, origin) => {
                    // Where heads are gone the count is a guess, which may be too high.
                    let origin = (origin.0.min(moment.sequence), origin.1.min(moment.time));
                    visit(this, (record, origin))
                }
                Event::Lost(lost) => {
                    let key = lost.seems.map_or(&[][..], |raw| raw.key);
                    this.leave_behind(lost.offset, lost.reason, key);
                    Ok(())
                }
            }
        })
    }
}

fn of_table<'a>(from: &'a Generation, record: &Record<'_>) -> Option<&'a super::Table> {
    from.table_by_id(record.table)
}
