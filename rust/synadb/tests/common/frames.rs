//! What each byte of a log is, read with the storage crate from a copy in memory.

use std::ops::Range;
use std::sync::Arc;

use synadb_storage::extent::{Row, Seal, sealed_bytes};
use synadb_storage::frame::{Head, Records};
use synadb_storage::identity::{FRAMES_START, Identity, PAGE_BYTES};
use synadb_storage::log::{Log, Record};
use synadb_storage::record::{IN_EXTENT, RecordKind};
use synadb_storage::region::{MemoryRegion, Region};

/// A frame of a log.
pub type Frame = Head;

/// The log, in memory.
pub fn log_of(bytes: &[u8]) -> Log {
    let region = MemoryRegion::with_capacity(bytes.len().max(4096) as u64).expect("memory");
    region.allocate(bytes.len() as u64).expect("room");
    region.store(0, bytes).expect("stored");
    let (identity, _) = Identity::read(&bytes[..PAGE_BYTES as usize]).expect("an identity");
    Log::new(Arc::new(region), identity)
}

/// The frames of a good log, in order.
pub fn frames(bytes: &[u8]) -> Vec<Frame> {
    let log = log_of(bytes);
    let mut at = FRAMES_START;
    let next = || {
        let head = log.frame(at).expect("a good frame")?;
        at = head.next();
        Some(head)
    };
    std::iter::from_fn(next).collect()
}

/// How many of the frames are commits: those that only reserve space are none.
pub fn commits<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> u64 {
    frames.into_iter().filter(|frame| frame.counts()).count() as u64
}

/// Who vouches for a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A checksum, or that it must be zero.
    Checked,
    /// Page 1.
    Control,
    /// Nobody: space in extents that no record commits.
    Dead,
    /// Nobody: behind the end of the log.
    Behind,
}

/// What each byte of a good log is.
pub fn classes(bytes: &[u8]) -> Vec<Class> {
    let mut classes = vec![Class::Behind; bytes.len()];
    let mut set = |range: Range<u64>, class| {
        classes[range.start as usize..range.end as usize].fill(class);
    };
    set(0..PAGE_BYTES, Class::Checked);
    set(PAGE_BYTES..FRAMES_START, Class::Control);
    let log = log_of(bytes);
    let frames = frames(bytes);
    for frame in &frames {
        set(frame.offset..frame.next(), Class::Checked);
        if frame.gap > 0 {
            set(frame.gap_start()..frame.next(), Class::Dead);
        }
    }
    for frame in &frames {
        for (position, raw) in Records::of(frame, log.region()) {
            let record = Record::new(position, raw.expect("decodes"), log.region());
            let record = record.expect("a place before");
            let payload = record.payload().expect("a payload");
            if record.kind == RecordKind::Row {
                let row = Row::decode(payload).expect("a row");
                set(row.offset..row.offset + u64::from(row.bytes), Class::Checked);
            } else if record.flags & IN_EXTENT != 0 {
                let seal = Seal::decode(payload).expect("a seal");
                let (end, list) = (seal.start + seal.bytes, seal.bytes.div_ceil(65_536) * 4);
                set(seal.start..end, Class::Checked);
                let at = seal.start + seal.bytes.next_multiple_of(64);
                set(at..at + list, Class::Checked);
                assert!(at + list <= seal.start + sealed_bytes(seal.bytes));
            }
        }
    }
    classes
}
