//! Walks over a damaged log and finds all of it that a checksum still vouches for.

use std::ops::Range;

use synadb_types::limits::{EXTENT_ALIGN, FRAME_BYTES_MAX};

use super::budget::{Budget, FRAME_BUDGET};
use super::recover::last_nonzero;
use super::{Log, Record};
use crate::extent::Reservation;
use crate::frame::{HEAD_BYTES_MAX, Head, SOLE};
use crate::identity::FRAMES_START;
use crate::record::{self, Raw, RecordKind};
use crate::{Result, StorageError};

/// Bytes that are searched between two looks at whether to go on.
const STEP_BYTES: u64 = 1 << 20;
/// Fewer zero bytes than this in front of a frame are what fills up the one before.
const PADDING_BYTES_MAX: u64 = 64;
/// Bytes that may be looked through in search of records, for each byte of a stretch without frames.
/// A byte of garbage costs a hundred as a rule; what is forged to cost more must not keep the walk
/// busy for hours.
const RECORD_BUDGET: u64 = 256;
/// Lengths of heads.
const HEADS: [u64; 4] = [24, 28, 32, 36];

/// What the walk comes upon, in order of the log.
#[derive(Clone, Copy)]
pub enum Found<'a> {
    /// A whole commit.
    Frame(Head),
    /// A place where there was one; what is left of it follows.
    Remains {
        /// Where it began.
        offset: u64,
        /// Its time, or that of the commit before and one.
        time: u64,
        /// Whether it counts as a commit.
        counted: bool,
    },
    /// A record of such a place, verified by its own checksum.
    Record(Record<'a>),
    /// Bytes that nothing can be read from.
    Lost(Lost<'a>),
}

/// Bytes that nothing can be read from.
#[derive(Debug, Clone, Copy)]
pub struct Lost<'a> {
    /// Where they begin.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// What is wrong with them.
    pub reason: &'static str,
    /// The record that they seem to be; nothing vouches for it.
    pub seems: Option<Raw<'a>>,
}

/// A frame whose head can be read and whose front cannot, or a stretch without a head.
struct Broken {
    range: Range<u64>,
    head: Option<Head>,
}

/// Stretches of the log, and what is wrong with each.
type Stretches = Vec<(Range<u64>, &'static str)>;

/// Walks over a log; see [`salvage`].
struct Walk<'a, 'v> {
    log: &'a Log,
    /// Nothing behind this position is looked at.
    end: u64,
    /// Everything before this position was on the medium.
    vouched: u64,
    /// Of the last frame, as far as one can tell.
    time: u64,
    /// Of the last whole frame: all behind it are later.
    last_time: u64,
    /// The farthest place that a head has named as the next one's.
    passed: u64,
    /// Bytes that may yet be checksummed in search of frames.
    budget: Budget,
    goes_on: &'v mut dyn FnMut(u64) -> bool,
    visit: &'v mut dyn FnMut(Found<'a>) -> Result<()>,
}

/// Visits whatever is whole in a log and names what is not; changes nothing.
///
/// `end` is where the log ends, or the position of a frame at which to stop.
/// `vouched` is the position up to which all is known to have been on the medium. Records of broken
/// commits are visited below it and before some whole commit only: behind both nobody knows whether
/// they were ever committed. `goes_on` gets the offset reached.
///
/// # Errors
/// What `visit` returns; `Interrupted` where `goes_on` is false.
pub fn salvage<'a>(
    log: &'a Log,
    (end, vouched): (u64, u64),
    goes_on: &mut dyn FnMut(u64) -> bool,
    visit: &mut dyn FnMut(Found<'a>) -> Result<()>,
) -> Result<()> {
    let end = end.min(log.region().len());
    let budget = Budget::of(end, FRAME_BUDGET);
    let mut walk =
        Walk { log, end, vouched, time: 0, last_time: 0, passed: 0, budget, goes_on, visit };
    let mut at = FRAMES_START;
    loop {
        if at >= end {
            return walk.end(at);
        }
        walk.look(at)?;
        if let Ok(Some(head)) = log.frame(at) {
            walk.whole(head)?;
            at = head.next();
            continue;
        }
        match walk.next_whole(at)? {
            Some((broken, next)) => {
                walk.pick_over(&broken, Some(&next))?;
                at = next.offset;
            }
            None => return walk.end(at),
        }
    }
}

impl<'a> Walk<'a, '_> {
    fn look(&mut self, at: u64) -> Result<()> {
        if (self.goes_on)(at) { Ok(()) } else { Err(StorageError::Interrupted) }
    }

    fn whole(&mut self, head: Head) -> Result<()> {
        self.vouched = self.vouched.max(head.mark);
        (self.time, self.last_time) = (head.time, head.time);
        self.budget.earn(u64::from(head.length), FRAME_BUDGET);
        (self.visit)(Found::Frame(head))
    }

    fn lost(&mut self, range: Range<u64>, reason: &'static str) -> Result<()> {
        let (offset, bytes) = (range.start, range.end.saturating_sub(range.start));
        let seems = self.seems(range);
        (self.visit)(Found::Lost(Lost { offset, bytes, reason, seems }))
    }

    /// The record that stands at the front of some bytes, as far as one can tell.
    fn seems(&self, range: Range<u64>) -> Option<Raw<'a>> {
        let bytes = self.bytes(range)?;
        let plausible = |raw: &Raw<'_>| !raw.key.is_empty() && str::from_utf8(raw.key).is_ok();
        // The record of a commit of one stands behind a head of one of these lengths.
        let heads = HEADS.into_iter().filter_map(|skip| bytes.get(skip as usize..));
        let behind = std::iter::once(bytes).chain(heads);
        behind.filter_map(record::decode).find(plausible)
    }

    /// Whether some bytes look like a frame whose one record reserves space.
    fn seems_to_reserve(&self, range: &Range<u64>) -> bool {
        let bytes = self.bytes(range.clone()).unwrap_or_default();
        HEADS.into_iter().any(|head| {
            let raw = bytes.get(head as usize..).and_then(record::decode);
            raw.is_some_and(|raw| {
                raw.kind == RecordKind::Extent
                    && raw.flags & record::SOLE != 0
                    && raw.frame_head_len() == head
                    && Reservation::decode(raw.small).is_some()
            })
        })
    }

    /// The bytes of a range, as far as the file has them.
    fn bytes(&self, range: Range<u64>) -> Option<&'a [u8]> {
        let end = range.end.min(self.end);
        self.log.region().bytes(range.start, end.checked_sub(range.start)? as usize)
    }

    /// The head at `at`, if its own check fits.
    fn head(&self, at: u64) -> Option<Head> {
        let region = self.log.region();
        let word = region.load(at).filter(|word| *word != 0)?;
        let bytes = self.bytes(at..at + HEAD_BYTES_MAX as u64)?;
        Head::decode(self.log.seed(), at, word, bytes)
    }

    /// As `head`, of what may be a frame that lies behind the last whole one.
    ///
    /// What is laid out like a head has a fitting check by chance in one of 65,536 places, and may
    /// claim to be of any length.
    fn candidate(&mut self, at: u64) -> Option<Head> {
        let len = self.log.region().len();
        let head = self.head(at).filter(|head| head.end() <= len && head.time > self.last_time)?;
        self.budget.spend(head.front_len as u64).then_some(head)
    }

    /// As `head`, of a broken frame, whose length says where the next one is. To come by once costs
    /// nothing, so that the way from frame to frame is open when nothing is left for a search.
    fn milestone(&mut self, at: u64) -> Option<Head> {
        let head = self.head(at)?;
        // By chance, and in a file that was cut, it may name any place.
        let is_first = head.next() > self.passed && head.next() <= self.log.region().len();
        if is_first {
            self.passed = head.next();
        }
        (is_first || self.budget.spend(head.front_len as u64)).then_some(head)
    }

    /// The next whole frame behind `at`, and what is broken before it.
    fn next_whole(&mut self, at: u64) -> Result<Option<(Vec<Broken>, Head)>> {
        let mut broken = Vec::new();
        let mut next = at;
        while let Some(head) = self.milestone(next) {
            broken.push(Broken { range: next..head.end(), head: Some(head) });
            next = head.next();
            if next >= self.end {
                break;
            }
            if let Ok(Some(whole)) = self.log.frame(next) {
                return Ok(Some((broken, whole)));
            }
        }
        let found = self.search(at + 8)?;
        let stretch = |whole: Head| (vec![Broken { range: at..whole.offset, head: None }], whole);
        Ok(found.map(stretch))
    }

    /// The first whole frame at or behind `from`.
    fn search(&mut self, from: u64) -> Result<Option<Head>> {
        let Some(last) = last_nonzero(self.log.region(), from)? else { return Ok(None) };
        let mut at = from;
        while at + 24 <= last.min(self.end) {
            if at.is_multiple_of(STEP_BYTES) {
                self.look(at)?;
            }
            if self.candidate(at).is_some()
                && let Ok(Some(head)) = self.log.frame(at)
            {
                return Ok(Some(head));
            }
            at += 8;
        }
        Ok(None)
    }

    /// Visits what is left of broken frames, in front of a whole one where there is one.
    fn pick_over(&mut self, broken: &[Broken], next: Option<&Head>) -> Result<()> {
        for (index, one) in broken.iter().enumerate() {
            let link = match broken.get(index + 1) {
                Some(follower) => follower.head.map(|head| head.link),
                None => next.map(|next| next.link),
            };
            if let Some(head) = link.and_then(|link| self.restored(one, link)) {
                self.whole(head)?;
                continue;
            }
            self.remains(one, next)?;
        }
        Ok(())
    }

    fn remains(&mut self, broken: &Broken, next: Option<&Head>) -> Result<()> {
        let time = broken.head.map_or(self.time.saturating_add(1), |head| head.time);
        let (records, lost) = self.records(broken)?;
        let telling = records.iter().find(|record| record.kind != RecordKind::Table);
        let counted = match (broken.head, telling.or(records.first())) {
            (Some(head), _) => head.counts(),
            (None, Some(record)) => record.origin.is_none() && record.kind != RecordKind::Extent,
            (None, None) => {
                !next.is_some_and(Head::is_rewritten) && !self.seems_to_reserve(&broken.range)
            }
        };
        let offset = broken.range.start;
        self.time = time;
        (self.visit)(Found::Remains { offset, time, counted })?;
        for record in records {
            (self.visit)(Found::Record(record))?;
        }
        for (range, reason) in lost {
            self.lost(range, reason)?;
        }
        Ok(())
    }

    /// The frame whose first word alone is broken: the next frame's link repeats its checksum.
    fn restored(&self, broken: &Broken, link: u32) -> Option<Head> {
        let (region, offset) = (self.log.region(), broken.range.start);
        let lengths = match broken.head {
            Some(head) => u64::from(head.length)..=u64::from(head.length),
            None => {
                let head = self.bytes(offset..offset + HEAD_BYTES_MAX as u64)?;
                let gap = Head::claimed_gap(head)?;
                let longest = (broken.range.end - offset).checked_sub(gap)?;
                let padding = if gap == 0 { 7 } else { PADDING_BYTES_MAX - 1 };
                longest.saturating_sub(padding)..=longest
            }
        };
        let lengths = lengths.filter(|length| *length <= FRAME_BYTES_MAX as u64);
        let mut words = lengths.map(|length| length | (u64::from(link) << 32));
        words.find_map(|word| Head::verified(self.log.seed(), region, offset, word))
    }

    /// The records of a broken frame that can be told by their own checksums, and what is lost.
    fn records(&mut self, broken: &Broken) -> Result<(Vec<Record<'a>>, Stretches)> {
        let (reason, mut range) = match broken.head {
            Some(head) if head.flags & SOLE != 0 => {
                let lost = (broken.range.clone(), "a commit does not fit its checksum");
                return Ok((Vec::new(), vec![lost]));
            }
            Some(head) => {
                let front = head.offset + head.head_len as u64..head.offset + head.front_len as u64;
                ("a record does not fit its checksum", front)
            }
            None => ("no commit can be read here", broken.range.clone()),
        };
        range.end = range.end.min(self.end);
        let bytes = self.bytes(range.clone()).unwrap_or_default();
        let mut records = Vec::new();
        // What the records take up, their large payloads too.
        let mut taken: Vec<Range<u64>> = Vec::new();
        let mut budget = Budget::of(bytes.len() as u64, RECORD_BUDGET);
        let mut at = 0;
        while at < bytes.len() {
            if (at as u64).is_multiple_of(STEP_BYTES) {
                self.look(range.start + at as u64)?;
            }
            let Some(record) = self.record((bytes, range.start), at, &mut budget) else {
                at += 1;
                continue;
            };
            taken.push(record.position..record.position + record.len as u64);
            if record.is_large() {
                let payload = record.position + u64::from(record.large.1);
                taken.push(payload..payload + record.payload_len as u64);
            }
            if record.kind == RecordKind::Extent {
                // Such a frame ends with this record, and a gap is behind it.
                let gap = Reservation::decode(record.small).map_or(0, |found| found.gap());
                let end = record.position + record.len as u64;
                taken.push(end..end.next_multiple_of(EXTENT_ALIGN).saturating_add(gap));
            }
            at += record.len;
            records.push(record);
        }
        let mut lost = Vec::new();
        for stretch in without(&range, taken) {
            let behind = records.iter().find(|record| record.position == stretch.end);
            match behind.filter(|_| HEADS.contains(&(stretch.end - stretch.start))) {
                // The records of a rewritten commit say themselves when they are of.
                Some(record) if record.origin.is_some() => {}
                Some(_) => lost.push((stretch, "the head of a commit; its time is a guess")),
                None if self.is_padding(&stretch, &range) => {}
                None => lost.push((stretch, reason)),
            }
        }
        Ok((records, lost))
    }

    /// The record at an index of some bytes that stand at `start`, if its own checksum fits.
    fn record(
        &self,
        (bytes, start): (&'a [u8], u64),
        index: usize,
        budget: &mut Budget,
    ) -> Option<Record<'a>> {
        let raw = record::decode(&bytes[index..])?;
        if raw.flags & record::SOLE != 0 || !budget.affords(raw.covered as u64) {
            return None;
        }
        // Most of what looks like a record by chance has a key that cannot be one.
        let (looked_through, is_key) = match str::from_utf8(raw.key) {
            Ok(_) => (raw.covered, true),
            Err(error) => (error.valid_up_to(), false),
        };
        if !budget.spend(looked_through as u64) || !is_key {
            return None;
        }
        let position = start + index as u64;
        let (covered, stored) = bytes[index..index + raw.len].split_at_checked(raw.covered)?;
        let crc = self.log.seed().record_crc(position, covered);
        if stored != crc.to_le_bytes() {
            return None;
        }
        Record::new(position, raw, self.log.region())
    }

    fn is_padding(&self, stretch: &Range<u64>, of: &Range<u64>) -> bool {
        stretch.end == of.end
            && stretch.start > of.start
            && stretch.end - stretch.start < PADDING_BYTES_MAX
            && self.bytes(stretch.clone()).is_some_and(|b| b.iter().all(|byte| *byte == 0))
    }

    /// Behind the last whole frame: what was on the medium is picked over, the rest is torn.
    fn end(&mut self, from: u64) -> Result<()> {
        let len = self.log.region().len();
        let mut at = from;
        while at < self.vouched.min(self.end) {
            let known = self.head(at).filter(|head| head.next() <= self.vouched);
            let end = known.map_or(self.vouched, |head| head.end()).min(self.end);
            self.pick_over(&[Broken { range: at..end, head: known }], None)?;
            at = known.map_or(self.vouched, |head| head.next());
        }
        if self.vouched > len {
            self.lost(len..self.vouched, "the file ends before what was on the medium")?;
        }
        let torn = last_nonzero(self.log.region(), at)?.filter(|_| at < self.end);
        match torn {
            Some(last) => self.lost(at..last, "a torn end; nothing says that it was whole"),
            None => Ok(()),
        }
    }
}

/// A range without some ranges that may overlap, in order.
fn without(range: &Range<u64>, mut taken: Vec<Range<u64>>) -> Vec<Range<u64>> {
    taken.sort_unstable_by_key(|taken| taken.start);
    let mut left = Vec::new();
    let mut at = range.start;
    for taken in taken {
        if taken.start > at && at < range.end {
            left.push(at..taken.start.min(range.end));
        }
        at = at.max(taken.end);
    }
    if at < range.end {
        left.push(at..range.end);
    }
    left
}
