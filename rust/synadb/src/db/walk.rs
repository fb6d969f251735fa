//! The records of a damaged log, each with the sequence and time of its commit.

use synadb_storage::Result;
use synadb_storage::frame::Records;
use synadb_storage::log::{Found, Log, Lost, Record, salvage};

/// What the walk comes upon.
pub(crate) enum Event<'a> {
    /// A record, with the sequence and time that it is of.
    Record(Record<'a>, (u64, u64)),
    /// Bytes that nothing can be read from.
    Lost(Lost<'a>),
}

/// Counts commits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// Of the last commit.
    pub sequence: u64,
    /// The largest time so far.
    pub time: u64,
    /// Whole commits so far.
    pub whole: u64,
    /// A position of which the sequence of the commit before is known.
    anchor: Option<(u64, u64)>,
    /// Commits that were counted before the anchor.
    pub before_anchor: u64,
}

impl Clock {
    /// A clock that stands before the first commit.
    pub fn new(horizon: u64, anchor: Option<(u64, u64)>) -> Self {
        Self { sequence: horizon, time: 0, whole: 0, anchor, before_anchor: 0 }
    }

    /// Steps to the commit at `offset`.
    fn step(&mut self, offset: u64, time: u64, counted: bool) {
        if self.anchor.is_some_and(|(position, _)| offset >= position) {
            self.settle();
        }
        self.sequence = self.sequence.saturating_add(u64::from(counted));
        self.before_anchor += u64::from(counted && self.anchor.is_some());
        self.time = self.time.max(time);
    }

    /// Where heads are gone, commits are missing in the count: the anchor knows better.
    fn settle(&mut self) {
        if let Some((_, sequence)) = self.anchor.take() {
            self.sequence = self.sequence.max(sequence);
        }
    }
}

/// Walks over all of a log that is readable, to `end`; before `vouched` all was committed.
///
/// # Errors
/// What `visit` returns; `Interrupted` where `goes_on` is false.
pub(crate) fn walk<'a>(
    log: &'a Log,
    (end, vouched): (u64, u64),
    clock: &mut Clock,
    goes_on: &mut dyn FnMut(u64) -> bool,
    visit: &mut dyn FnMut(Event<'a>) -> Result<()>,
) -> Result<()> {
    let mut place = (clock.sequence, 0);
    salvage(log, (end, vouched), goes_on, &mut |found| match found {
        Found::Frame(head) => {
            clock.step(head.offset, head.time, head.counts());
            clock.whole += 1;
            place = (clock.sequence, head.time);
            for (position, raw) in Records::of(&head, log.region()) {
                let record = raw.and_then(|raw| Record::new(position, raw, log.region()));
                let Some(record) = record else {
                    let end = head.offset + head.front_len as u64;
                    let reason = "a record cannot be decoded";
                    let bytes = end - position;
                    visit(Event::Lost(Lost { offset: position, bytes, reason, seems: None }))?;
                    break;
                };
                visit(Event::Record(record, record.origin.unwrap_or(place)))?;
            }
            Ok(())
        }
        Found::Remains { offset, time, counted } => {
            clock.step(offset, time, counted);
            place = (clock.sequence, time);
            Ok(())
        }
        Found::Record(record) => visit(Event::Record(record, record.origin.unwrap_or(place))),
        Found::Lost(lost) => visit(Event::Lost(lost)),
    })?;
    clock.settle();
    Ok(())
}
