//! Records: one change inside a frame.

use synadb_types::TableId;
use synadb_types::limits::{KEY_BYTES_MAX, SMALL_PAYLOAD_BYTES_MAX};

use crate::varint;

/// What a record changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// A value under a key.
    Put,
    /// The end of a key.
    Delete,
    /// A table of the catalogue.
    Table,
    /// Reserved space in the gap behind the frame.
    Extent,
    /// A row under a key of a collection.
    Row,
}

impl RecordKind {
    fn code(self) -> u8 {
        match self {
            Self::Put => 1,
            Self::Delete => 2,
            Self::Table => 3,
            Self::Extent => 4,
            Self::Row => 5,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Put,
            2 => Self::Delete,
            3 => Self::Table,
            4 => Self::Extent,
            5 => Self::Row,
            _ => return None,
        })
    }
}

/// The record is alone in its frame, whose checksum is its own.
pub const SOLE: u8 = 1;
const HEAD_WORDS_SHIFT: u8 = 1;
const HEAD_WORDS_MASK: u8 = 3;
/// The payload lies behind the front of the frame.
pub const LARGE: u8 = 8;
/// The record carries its own sequence number and time.
pub const REWRITTEN: u8 = 16;
/// The payload is compressed.
pub const COMPRESSED: u8 = 32;
/// The payload names an extent in which the value lies.
pub const IN_EXTENT: u8 = 64;

/// A record about to be written.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    /// What it changes.
    pub kind: RecordKind,
    /// Type of the value, 0 to 15, for the layer above.
    pub tag: u8,
    /// `COMPRESSED`, `IN_EXTENT` or 0.
    pub flags: u8,
    /// The table.
    pub table: TableId,
    /// The key.
    pub key: &'a [u8],
    /// Position of the key's previous record, 0 where there is none.
    pub previous: u64,
    /// The payload.
    pub payload: &'a [u8],
    /// Sequence and time, in frames that compaction writes.
    pub origin: Option<(u64, u64)>,
}

/// A record's head, key and small payload, decoded and not yet verified.
#[derive(Debug, Clone, Copy)]
pub struct Raw<'a> {
    /// What it changes.
    pub kind: RecordKind,
    /// Type of the value.
    pub tag: u8,
    /// All flags.
    pub flags: u8,
    /// The table.
    pub table: TableId,
    /// The key.
    pub key: &'a [u8],
    /// Distance to the key's previous record, 0 where there is none.
    pub back: u64,
    /// Bytes of the payload.
    pub payload_len: usize,
    /// The small payload; empty where it lies behind the front.
    pub small: &'a [u8],
    /// Checksum of the large payload and its distance from the record.
    pub large: (u32, u32),
    /// Sequence and time.
    pub origin: Option<(u64, u64)>,
    /// Bytes of the record in the front, its checksum included.
    pub len: usize,
    /// Bytes of the record that its own checksum covers.
    pub covered: usize,
}

impl Raw<'_> {
    /// Bytes between the start of a sole record's frame and the record.
    #[must_use]
    pub fn frame_head_len(&self) -> u64 {
        let words = (self.flags >> HEAD_WORDS_SHIFT) & HEAD_WORDS_MASK;
        24 + 4 * u64::from(words)
    }

    /// Whether the payload lies behind the front.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.flags & LARGE != 0
    }
}

/// Appends a record; returns where in `out` the distance of a large payload is to be stored.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    draft: &Draft<'_>,
    position: u64,
    sole_head_words: Option<u8>,
    payload_crc: Option<u32>,
) -> Option<usize> {
    debug_assert!(draft.key.len() <= KEY_BYTES_MAX, "no reader takes such a key");
    let mut flags = draft.flags;
    if let Some(words) = sole_head_words {
        flags |= SOLE | (words << HEAD_WORDS_SHIFT);
    }
    if payload_crc.is_some() {
        flags |= LARGE;
    }
    if draft.origin.is_some() {
        flags |= REWRITTEN;
    }
    let mut head = varint::Short::default();
    head.push(draft.kind.code() | (draft.tag << 4));
    head.push(flags);
    head.put(u64::from(draft.table.0));
    head.put(draft.key.len() as u64);
    head.put(draft.payload.len() as u64);
    head.put(if draft.previous == 0 { 0 } else { position - draft.previous });
    if let Some((sequence, time)) = draft.origin {
        head.put(sequence);
        head.put(time);
    }
    out.extend_from_slice(head.bytes());
    let mut patch = None;
    if let Some(crc) = payload_crc {
        out.extend_from_slice(&crc.to_le_bytes());
        patch = Some(out.len());
        out.extend_from_slice(&[0; 4]);
    }
    out.extend_from_slice(draft.key);
    if payload_crc.is_none() {
        out.extend_from_slice(draft.payload);
    }
    patch
}

/// Decodes the record at the front of `bytes`; `None` if it does not fit there.
#[inline]
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Raw<'_>> {
    let (head, mut rest) = bytes.split_at_checked(2)?;
    let kind = RecordKind::from_code(head[0] & 15)?;
    let (tag, flags) = (head[0] >> 4, head[1]);
    if flags & 128 != 0 {
        return None;
    }
    let table = TableId(u32::try_from(varint::get(&mut rest)?).ok()?);
    let key_len = usize::try_from(varint::get(&mut rest)?).ok()?;
    let payload_len = usize::try_from(varint::get(&mut rest)?).ok()?;
    let back = varint::get(&mut rest)?;
    let mut origin = None;
    if flags & REWRITTEN != 0 {
        origin = Some((varint::get(&mut rest)?, varint::get(&mut rest)?));
    }
    if key_len > KEY_BYTES_MAX {
        return None;
    }
    let mut large = (0, 0);
    let mut small_len = payload_len;
    if flags & LARGE != 0 {
        let (words, after) = rest.split_at_checked(8)?;
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| words[at + i]));
        large = (word(0), word(4));
        rest = after;
        small_len = 0;
    } else if payload_len > SMALL_PAYLOAD_BYTES_MAX {
        return None;
    }
    let (key, rest) = rest.split_at_checked(key_len)?;
    let (small, rest) = rest.split_at_checked(small_len)?;
    let covered = bytes.len() - rest.len();
    let len = covered + if flags & SOLE == 0 { 4 } else { 0 };
    if len > bytes.len() {
        return None;
    }
    Some(Raw {
        kind,
        tag,
        flags,
        table,
        key,
        back,
        payload_len,
        small,
        large,
        origin,
        len,
        covered,
    })
}
