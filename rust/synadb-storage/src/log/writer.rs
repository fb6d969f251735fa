//! Appending frames. The caller holds the write lock.

use std::time::{SystemTime, UNIX_EPOCH};

use synadb_types::limits::COUNTER_END;

use super::Log;
use crate::frame::{Encoder, Head, Image, Plan, next_offset};
use crate::{Result, StorageError};

const GROWTH_BYTES_MIN: u64 = 64 << 10;
const GROWTH_BYTES_MAX: u64 = 16 << 20;

/// Where a log ends and what the next frame follows.
#[derive(Debug)]
pub struct Writer {
    /// Where the next frame begins.
    pub tail: u64,
    /// Checksum of the last frame.
    pub link: u32,
    /// Offset of the last frame, 0 where there is none.
    pub last_frame: u64,
    /// Time of the last frame.
    pub time: u64,
    /// Sequence number of the last counted frame.
    pub sequence: u64,
    /// Highest mark stated so far.
    pub marked: u64,
    buffer: Vec<u8>,
}

/// What is known of a frame to come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shape {
    /// Number of its records.
    pub records: usize,
    /// Whether some payload is larger than 64 bytes.
    pub large: bool,
    /// Bytes of the gap behind it.
    pub gap: u64,
    /// Position known to be synced.
    pub synced: u64,
    /// Whether it only reserves space.
    pub reserves: bool,
}

/// A frame that was appended and can be seen.
#[derive(Debug, Clone, Copy)]
pub struct Committed {
    /// Its head.
    pub head: Head,
    /// Where the log ends now.
    pub tail: u64,
}

impl Writer {
    /// A writer that goes on behind `last`.
    #[must_use]
    pub fn new(tail: u64, link: u32, last_frame: u64, time: u64, sequence: u64) -> Self {
        Self { tail, link, last_frame, time, sequence, marked: 0, buffer: Vec::new() }
    }

    /// Whether a frame of `bytes` fits into the space that is allocated.
    #[must_use]
    pub fn has_room(&self, log: &Log, bytes: u64) -> bool {
        self.tail + bytes + 128 <= log.region().len()
    }

    /// An encoder for the next frame.
    pub fn encoder<'a>(&mut self, log: &Log, shape: Shape) -> Encoder<'a> {
        let mark = if shape.synced > self.marked { shape.synced } else { 0 };
        // A clock that is far out must leave room for the times of later frames.
        let now = now_us().min(COUNTER_END / 2);
        self.encoder_at(log, shape, now.max(self.time + 1), mark, false)
    }

    /// An encoder for a frame of records that are carried over, none of them younger than `time`.
    pub fn rewriting_encoder<'a>(&mut self, log: &Log, shape: Shape, time: u64) -> Encoder<'a> {
        self.encoder_at(log, shape, time.max(self.time + 1), 0, true)
    }

    fn encoder_at<'a>(
        &mut self,
        log: &Log,
        shape: Shape,
        time: u64,
        mark: u64,
        rewritten: bool,
    ) -> Encoder<'a> {
        let plan = Plan {
            offset: self.tail,
            link: self.link,
            time,
            mark,
            gap: shape.gap,
            sole: shape.records == 1,
            large: shape.large,
            rewritten,
            reserves: shape.reserves,
        };
        Encoder::new(plan, log.seed(), std::mem::take(&mut self.buffer))
    }

    /// Stores a frame behind the tail and publishes it.
    ///
    /// # Errors
    /// `DiskFull`, `Io`: the tail has not moved and nothing can be seen.
    pub fn append(&mut self, log: &Log, image: Image<'_>) -> Result<Committed> {
        let region = log.region();
        let head = image.head;
        let tail = next_offset(head.end(), head.gap);
        grow(log, tail + 8)?;
        region.store(head.offset + 8, &image.front[8..])?;
        let mut at = head.offset + head.front_len as u64;
        for payload in &image.large {
            region.store(at, payload)?;
            at += payload.len() as u64;
        }
        // A dead writer may have left bytes here: padding is zero, and so is the next first word.
        let padding = next_offset(head.end(), head.gap) - head.gap - head.end();
        if padding > 0 {
            region.store(head.end(), &[0; 64][..padding as usize])?;
        }
        region.publish(tail, 0)?;
        region.publish(head.offset, image.first_word())?;
        self.tail = tail;
        self.link = head.crc;
        self.last_frame = head.offset;
        self.time = head.time;
        self.marked = self.marked.max(head.mark);
        if head.counts() {
            self.sequence += 1;
        }
        self.buffer = image.front;
        Ok(Committed { head, tail })
    }
}

/// Allocates in steps that double from 64 KiB to 16 MiB.
fn grow(log: &Log, needed: u64) -> Result<()> {
    let have = log.region().len();
    if needed <= have {
        return Ok(());
    }
    let step = have.clamp(GROWTH_BYTES_MIN, GROWTH_BYTES_MAX).next_power_of_two();
    let wanted = needed.next_multiple_of(step.min(GROWTH_BYTES_MAX));
    match log.region().allocate(wanted) {
        Err(StorageError::DiskFull { .. }) if needed.next_multiple_of(4096) < wanted => {
            log.region().allocate(needed.next_multiple_of(4096))
        }
        other => other,
    }
}

/// Microseconds since 1970 by the system's clock, which may jump.
#[must_use]
pub fn now_us() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(time) = crate::simulation::seeded::now_us() {
        return time;
    }
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
