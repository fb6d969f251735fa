//! Where a log ends, after whatever happened to it: clean, torn, or corrupt.

use std::borrow::Cow;

use synadb_types::limits::FRAME_BYTES_MAX;

use super::Log;
use super::budget::{Budget, FRAME_BUDGET};
use crate::control;
use crate::frame::{HEAD_BYTES_MAX, Head, Records, Seed, next_offset};
use crate::identity::FRAMES_START;
use crate::region::Region;
use crate::{Result, StorageError};

/// Where to begin: the first frame, or the end of a checkpoint that fits.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// Offset of the next frame.
    pub position: u64,
    /// Checksum of the frame before.
    pub link: u32,
    /// Offset of the frame before, 0 where there is none.
    pub last_frame: u64,
    /// Time of the frame before.
    pub time: u64,
}

impl Start {
    /// The beginning of the log.
    #[must_use]
    pub fn beginning() -> Self {
        Self { position: FRAMES_START, link: 0, last_frame: 0, time: 0 }
    }
}

/// What recovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Where the log ends.
    pub tail: u64,
    /// Position up to which everything is known to be synced.
    pub synced: u64,
    /// Commits accepted behind the start.
    pub commits: u64,
    /// Whether something was (or, for a reader, would be) cut.
    pub torn: bool,
    /// Whole commits behind the tail that were cut.
    pub commits_dropped: u64,
    /// Bytes behind the tail, up to the last byte that is not zero, that were cut.
    pub bytes_dropped: u64,
}

/// Walks the log from `start` and decides where it ends; changes nothing.
///
/// # Errors
/// `Corrupt` where durable bytes are gone: the message names both offsets.
pub fn recover(log: &Log, start: Start, synced_floor: u64) -> Result<Recovery> {
    walk_to_end(log, start, synced_floor, |from, _| {
        let region = log.region();
        let behind = region.bytes(from, (region.len() - from) as usize);
        Ok(behind.map(Cow::Borrowed))
    })
}

/// As `recover`, while others may close the file and give back what lies behind its end: that is read
/// and not mapped, for to touch a page of a map that is gone ends the process.
///
/// Says `torn` where the file has shrunk meanwhile: it is to be looked at again.
///
/// # Errors
/// As `recover`.
pub fn recover_beside(log: &Log, start: Start, synced_floor: u64) -> Result<Recovery> {
    walk_to_end(log, start, synced_floor, |from, to| {
        let region = log.region();
        // A frame may end with zeros.
        let end = region.len().min(to + FRAME_BYTES_MAX as u64).max(to);
        let mut bytes = vec![0; (end - from) as usize];
        match region.read(from, &mut bytes[..(to - from) as usize]) {
            Ok(()) => Ok(Some(Cow::Owned(bytes))),
            Err(_) if region.refresh()? < to => Ok(None),
            Err(error) => Err(error),
        }
    })
}

/// Looks for the end; `behind` gives the bytes between two places and some more, `None` where they
/// are gone.
fn walk_to_end<'a>(
    log: &'a Log,
    start: Start,
    synced_floor: u64,
    behind: impl FnOnce(u64, u64) -> Result<Option<Cow<'a, [u8]>>>,
) -> Result<Recovery> {
    let region = log.region();
    let (mut end, mut link, mut time) = (start.position, start.link, start.time);
    let mut accepted: Vec<Head> = Vec::new();
    let word = control::synced(region, &log.identity().database_id);
    let mut synced = synced_floor.max(word);
    while let Ok(Some(head)) = log.frame(end) {
        // A writer makes room for a gap before it publishes the frame.
        let is_cut = head.gap > 0 && head.next() > region.len();
        if head.link != link || head.time <= time || head.mark > head.offset || is_cut {
            break;
        }
        synced = synced.max(head.mark);
        (link, time, end) = (head.crc, head.time, head.next());
        accepted.push(head);
    }
    // What no sync vouched for may have lost pages behind the front.
    let mut cut = None;
    for (index, head) in accepted.iter().enumerate() {
        if head.next() > synced && !commits_whole(log, head) {
            cut = Some(index);
            break;
        }
    }
    if let Some(index) = cut {
        end = accepted[index].offset;
        accepted.truncate(index);
    }
    let commits = accepted.iter().filter(|head| head.counts()).count() as u64;
    let last = last_nonzero(region, end)?;
    if last.is_none() && synced <= end && (synced == 0 || synced <= region.len()) {
        return Ok(Recovery { tail: end, synced, commits, ..Recovery::default() });
    }
    let bytes = match last {
        Some(last) => behind(end, last)?,
        None => Some(Cow::Borrowed(&[][..])),
    };
    let Some(bytes) = bytes else {
        return Ok(Recovery { tail: end, synced, commits, torn: true, ..Recovery::default() });
    };
    let (is_torn, last) = (last.is_some(), last.unwrap_or(end));
    let time = accepted.last().map_or(start.time, |head| head.time);
    let (found, marks) = scan(log.seed(), &bytes, (end, last), time)?;
    let synced = synced.max(marks);
    if synced > end || synced > region.len() {
        let reason = format!("the log ends there, but everything up to {synced} was synced");
        return Err(StorageError::corrupt(end.min(region.len()), reason));
    }
    Ok(Recovery {
        tail: end,
        synced,
        commits,
        torn: is_torn,
        commits_dropped: found,
        bytes_dropped: last - end,
    })
}

/// Whether everything that the frame commits behind its front is there.
fn commits_whole(log: &Log, head: &Head) -> bool {
    for (position, raw) in Records::of(head, log.region()) {
        let Some(raw) = raw else { return false };
        let Some(record) = super::Record::new(position, raw, log.region()) else { return false };
        if record.value().is_err() || record.row_bytes().is_err() {
            return false;
        }
    }
    true
}

/// Where the last byte that is not zero ends, `None` where there is none at or behind `from`.
///
/// It is read and not mapped: see [`recover_beside`].
pub(super) fn last_nonzero(region: &dyn Region, from: u64) -> Result<Option<u64>> {
    const STEP: u64 = 1 << 16;
    let mut buffer = vec![0; STEP as usize];
    let mut end = region.len();
    while end > from {
        let start = end.saturating_sub(STEP).max(from);
        let bytes = &mut buffer[..(end - start) as usize];
        if let Err(error) = region.read(start, bytes) {
            let len = region.refresh()?;
            if len >= end {
                return Err(error);
            }
            end = len;
            continue;
        }
        if let Some(index) = bytes.iter().rposition(|byte| *byte != 0) {
            return Ok(Some(start + index as u64 + 1));
        }
        end = start;
    }
    Ok(None)
}

/// Looks for whole frames in `(from, to)` that are later than `time`: how many of them are commits, and
/// the highest of their marks.
///
/// # Errors
/// `Corrupt` where too much would have to be checksummed to know whether a mark behind `from` is one.
/// Commits without such a mark, of which nothing depends, are not counted then.
fn scan(seed: Seed, bytes: &[u8], (from, to): (u64, u64), time: u64) -> Result<(u64, u64)> {
    let end = from + bytes.len() as u64;
    let mut budget = Budget::of(end, FRAME_BUDGET);
    let (mut found, mut marks) = (0, 0);
    let mut at = from + 8;
    while at + 24 <= to {
        let rest = &bytes[(at - from) as usize..];
        let (word, window) = (rest.first_chunk(), &rest[..rest.len().min(HEAD_BYTES_MAX)]);
        let word = word.map_or(0, |word| u64::from_le_bytes(*word));
        let head = (word != 0).then(|| Head::decode(seed, at, word, window)).flatten();
        // What is laid out like a head has a fitting check by chance in one of 65,536 places, and
        // may claim to be of any length.
        let is_candidate = |head: &Head| head.end() <= end && head.time > time;
        let Some(head) = head.filter(is_candidate) else {
            at += 8;
            continue;
        };
        let (decides, front) = (head.mark > from, head.front_len as u64);
        let is_affordable = if decides { budget.spend_all(front) } else { budget.spend(front) };
        if decides && !is_affordable {
            let reason = "too much to check behind the last good frame";
            return Err(StorageError::corrupt(from, reason));
        }
        if is_affordable && head.is_of(seed, rest) {
            found += u64::from(head.counts());
            marks = marks.max(head.mark);
            at = next_offset(head.end(), head.gap);
        } else {
            at += 8;
        }
    }
    Ok((found, marks))
}
