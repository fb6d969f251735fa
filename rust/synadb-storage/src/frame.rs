//! Frames: one commit each, whole or not at all.

use synadb_types::limits::{COUNTER_END, EXTENT_ALIGN, FRAME_BYTES_MAX, SMALL_PAYLOAD_BYTES_MAX};

use crate::checksum::{append, crc32c, fold16, high32, low32};
use crate::identity::Identity;
use crate::log::Log;
use crate::record::{self, Draft, Raw};
use crate::region::Region;
use crate::{Result, StorageError};

/// Smallest head of a frame.
pub const HEAD_BYTES: usize = 24;
/// Largest head of a frame.
pub const HEAD_BYTES_MAX: usize = 36;
/// What a record usually takes beside its key and payload.
const RECORD_OVERHEAD_BYTES: usize = 18;
const MARK: u16 = 2;
const GAP: u16 = 4;
const FRONT: u16 = 8;
const KNOWN_FLAGS: u16 = MARK | GAP | FRONT | REWRITTEN | SOLE | RESERVES;
/// The frame holds one record.
pub const SOLE: u16 = 1;
/// The frame was written by compaction and is not counted.
pub const REWRITTEN: u16 = 16;
/// The frame changes nothing but reserves space, and is not counted.
pub const RESERVES: u16 = 32;

/// Checksum state over what binds frames to one generation of one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(u32);

impl Seed {
    /// The seed of a file.
    #[must_use]
    pub fn of(identity: &Identity) -> Self {
        let crc = crc32c(&identity.database_id);
        Self(append(crc, &identity.generation.to_le_bytes()))
    }

    fn frame_crc(self, offset: u64, length: u32, body: &[u8]) -> u32 {
        let mut place = [0; 12];
        place[..8].copy_from_slice(&offset.to_le_bytes());
        place[8..].copy_from_slice(&length.to_le_bytes());
        append(append(self.0, &place), body)
    }

    fn head_check(self, offset: u64, length: u32, head: &[u8]) -> u16 {
        let mut bytes = [0; 12 + HEAD_BYTES_MAX];
        bytes[..8].copy_from_slice(&offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        let mut len = 12;
        // Link and flags, then all behind the check itself.
        for part in [&head[8..14], &head[16..]] {
            bytes[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        fold16(append(self.0, &bytes[..len]))
    }

    /// Checksum of a record in a frame of several.
    #[must_use]
    pub fn record_crc(self, position: u64, bytes: &[u8]) -> u32 {
        append(append(self.0, &position.to_le_bytes()), bytes)
    }
}

/// A decoded head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Offset of the frame.
    pub offset: u64,
    /// Bytes of the frame, padding not counted.
    pub length: u32,
    /// Its checksum.
    pub crc: u32,
    /// Checksum of the frame before.
    pub link: u32,
    /// Flags.
    pub flags: u16,
    /// Microseconds since 1970.
    pub time: u64,
    /// Position known to be synced when the frame was written, 0 where not stated.
    pub mark: u64,
    /// Bytes of the gap behind the frame.
    pub gap: u64,
    /// Bytes of the head.
    pub head_len: usize,
    /// Bytes from the frame's start to the end of its front.
    pub front_len: usize,
}

impl Head {
    /// End of the frame itself.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.length)
    }

    /// Where the next frame begins.
    #[must_use]
    pub fn next(&self) -> u64 {
        next_offset(self.end(), self.gap)
    }

    /// Where the gap begins.
    #[must_use]
    pub fn gap_start(&self) -> u64 {
        self.end().next_multiple_of(EXTENT_ALIGN)
    }

    /// Whether it has a single record.
    #[must_use]
    pub fn is_sole(&self) -> bool {
        self.flags & SOLE != 0
    }

    /// Whether compaction wrote the frame.
    #[must_use]
    pub fn is_rewritten(&self) -> bool {
        self.flags & REWRITTEN != 0
    }

    /// Whether the frame is a commit: sequence numbers count those.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.flags & (REWRITTEN | RESERVES) == 0
    }

    /// Decodes and checks a head; says nothing of the rest of the frame.
    #[must_use]
    pub fn decode(seed: Seed, offset: u64, word: u64, bytes: &[u8]) -> Option<Self> {
        let (head, check) = Self::parse(offset, word, bytes)?;
        let stated = bytes.get(..head.head_len)?;
        (seed.head_check(offset, head.length, stated) == check).then_some(head)
    }

    /// What a head states, with its check.
    #[inline]
    fn parse(offset: u64, word: u64, bytes: &[u8]) -> Option<(Self, u16)> {
        let (length, crc) = (low32(word), high32(word));
        let fixed = bytes.get(..HEAD_BYTES)?;
        let half = |at: usize| {
            bytes.get(at..at + 4).map(|b| u32::from_le_bytes(std::array::from_fn(|i| b[i])))
        };
        let link = half(8)?;
        let flags = u16::from_le_bytes([fixed[12], fixed[13]]);
        let check = u16::from_le_bytes([fixed[14], fixed[15]]);
        let time = u64::from_le_bytes(std::array::from_fn(|i| fixed[16 + i]));
        if flags & !KNOWN_FLAGS != 0 || time >= COUNTER_END {
            return None;
        }
        let mut head_len = HEAD_BYTES;
        let mut optional = |flag| -> Option<Option<u32>> {
            if flags & flag == 0 {
                return Some(None);
            }
            let value = half(head_len)?;
            head_len += 4;
            Some(Some(value))
        };
        let mark = match optional(MARK)? {
            Some(back) => offset.checked_sub(8 * u64::from(back))?,
            None => 0,
        };
        let gap = u64::from(optional(GAP)?.unwrap_or(0)) * EXTENT_ALIGN;
        let front_len = optional(FRONT)?.unwrap_or(length) as usize;
        if length as usize > FRAME_BYTES_MAX || front_len > length as usize || head_len > front_len
        {
            return None;
        }
        let head = Self { offset, length, crc, link, flags, time, mark, gap, head_len, front_len };
        Some((head, check))
    }

    /// Bytes of the gap that an unverified head states.
    #[must_use]
    pub fn claimed_gap(bytes: &[u8]) -> Option<u64> {
        let flags = u16::from_le_bytes([*bytes.get(12)?, *bytes.get(13)?]);
        if flags & GAP == 0 {
            return Some(0);
        }
        let at = HEAD_BYTES + if flags & MARK == 0 { 0 } else { 4 };
        let word = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u64::from(u32::from_le_bytes(word)) * EXTENT_ALIGN)
    }

    /// Decodes the frame at `offset` and verifies its front.
    #[must_use]
    pub fn verified(seed: Seed, region: &dyn Region, offset: u64, word: u64) -> Option<Self> {
        let left = usize::try_from(region.len().checked_sub(offset)?).ok()?;
        let head = region.bytes(offset, left.min(HEAD_BYTES_MAX))?;
        Self::decode(seed, offset, word, head)?.fits(seed, region)
    }

    /// As `verified`, where nothing but a frame can begin.
    ///
    /// The frame's checksum covers its head: the check of the head alone, which keeps a search from
    /// reading as much as chance bytes ask for, is spared.
    #[inline]
    pub(crate) fn verified_at_record(
        seed: Seed,
        region: &dyn Region,
        offset: u64,
        word: u64,
    ) -> Option<Self> {
        let left = usize::try_from(region.len().checked_sub(offset)?).ok()?;
        let head = region.bytes(offset, left.min(HEAD_BYTES_MAX))?;
        Self::parse(offset, word, head)?.0.fits(seed, region)
    }

    #[inline]
    fn fits(self, seed: Seed, region: &dyn Region) -> Option<Self> {
        let bytes = region.bytes(self.offset, self.length as usize)?;
        self.is_of(seed, bytes).then_some(self)
    }

    /// Whether it is the head of a frame with these bytes.
    #[inline]
    pub(crate) fn is_of(&self, seed: Seed, bytes: &[u8]) -> bool {
        bytes.len() >= self.length as usize
            && seed.frame_crc(self.offset, self.length, &bytes[8..self.front_len]) == self.crc
    }
}

/// Where a frame with that end and gap is followed by the next.
#[must_use]
pub fn next_offset(end: u64, gap: u64) -> u64 {
    if gap == 0 { end.next_multiple_of(8) } else { end.next_multiple_of(EXTENT_ALIGN) + gap }
}

/// Where the frames end that are published at or behind `from`, by their heads alone.
#[must_use]
pub fn published_end(log: &Log, from: u64) -> u64 {
    let region = log.region();
    let mut end = from;
    while let Some(word) = region.load(end).filter(|word| *word != 0) {
        let left = region.len().saturating_sub(end).min(HEAD_BYTES_MAX as u64) as usize;
        let head = region.bytes(end, left);
        match head.and_then(|bytes| Head::decode(log.seed(), end, word, bytes)) {
            Some(head) => end = head.next(),
            None => break,
        }
    }
    end
}

/// What is known of a frame before its records are.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Where the frame will stand.
    pub offset: u64,
    /// Checksum of the frame before.
    pub link: u32,
    /// Microseconds since 1970.
    pub time: u64,
    /// Position to state as synced, 0 for none.
    pub mark: u64,
    /// Bytes of the gap, a multiple of 64.
    pub gap: u64,
    /// Whether exactly one record follows.
    pub sole: bool,
    /// Whether some payload is larger than 64 bytes.
    pub large: bool,
    /// Whether compaction writes it.
    pub rewritten: bool,
    /// Whether it only reserves space.
    pub reserves: bool,
}

/// Encodes one frame into a buffer that is used again.
pub struct Encoder<'a> {
    plan: Plan,
    seed: Seed,
    front: Vec<u8>,
    large: Vec<&'a [u8]>,
    large_len: usize,
    /// Of each record with a large payload: start, place of the distance, bytes before in the tail.
    patches: Vec<(usize, usize, usize)>,
    /// Start and end of each record whose own checksum waits for such a patch.
    records: Vec<(usize, usize)>,
    head_words: u8,
}

/// An encoded frame.
pub struct Image<'a> {
    /// The front, its first word not yet set.
    pub front: Vec<u8>,
    /// Payloads behind the front.
    pub large: Vec<&'a [u8]>,
    /// The head as it will read.
    pub head: Head,
}

impl Image<'_> {
    /// The word whose store makes the frame visible.
    #[must_use]
    pub fn first_word(&self) -> u64 {
        u64::from(self.head.length) | (u64::from(self.head.crc) << 32)
    }
}

impl<'a> Encoder<'a> {
    /// Starts a frame in `buffer`, whose content is dropped.
    #[must_use]
    pub fn new(plan: Plan, seed: Seed, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        let mut flags = if plan.sole { SOLE } else { 0 };
        flags |= if plan.rewritten { REWRITTEN } else { 0 };
        flags |= if plan.reserves { RESERVES } else { 0 };
        let back = (plan.offset - plan.mark.min(plan.offset)) / 8;
        let mark = u32::try_from(back).ok().filter(|_| plan.mark != 0);
        flags |= if mark.is_some() { MARK } else { 0 };
        flags |= if plan.gap != 0 { GAP } else { 0 };
        flags |= if plan.large { FRONT } else { 0 };
        buffer.extend_from_slice(&[0; 8]);
        buffer.extend_from_slice(&plan.link.to_le_bytes());
        buffer.extend_from_slice(&flags.to_le_bytes());
        buffer.extend_from_slice(&[0; 2]);
        buffer.extend_from_slice(&plan.time.to_le_bytes());
        let mut head_words = 0;
        let gap = (plan.gap != 0).then_some((plan.gap / EXTENT_ALIGN) as u32);
        for word in [mark, gap, plan.large.then_some(0)].into_iter().flatten() {
            buffer.extend_from_slice(&word.to_le_bytes());
            head_words += 1;
        }
        Self {
            plan,
            seed,
            front: buffer,
            large: Vec::new(),
            large_len: 0,
            patches: Vec::new(),
            records: Vec::new(),
            head_words,
        }
    }

    /// Makes room for so many records with so many bytes of keys and payloads.
    pub fn reserve(&mut self, records: usize, bytes: usize) {
        self.front.reserve(bytes + records * RECORD_OVERHEAD_BYTES);
    }

    /// Where the next record will stand.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.plan.offset + self.front.len() as u64
    }

    /// Bytes of the frame so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.front.len() + self.large_len
    }

    /// Appends a record and returns its position.
    pub fn push(&mut self, draft: &Draft<'a>) -> u64 {
        let position = self.position();
        let start = self.front.len();
        let is_large = draft.payload.len() > SMALL_PAYLOAD_BYTES_MAX;
        debug_assert!(!is_large || self.plan.large);
        let crc = is_large.then(|| crc32c(draft.payload));
        let words = self.plan.sole.then_some(self.head_words);
        if let Some(patch) = record::encode(&mut self.front, draft, position, words, crc) {
            self.patches.push((start, patch, self.large_len));
            self.large.push(draft.payload);
            self.large_len += draft.payload.len();
        }
        if !self.plan.sole && is_large {
            self.records.push((start, self.front.len()));
            self.front.extend_from_slice(&[0; 4]);
        } else if !self.plan.sole {
            // What is in the cache now will not be there when the frame is complete.
            let crc = self.seed.record_crc(position, &self.front[start..]);
            self.front.extend_from_slice(&crc.to_le_bytes());
        }
        position
    }

    /// Completes the frame.
    ///
    /// # Errors
    /// `FrameTooLarge`.
    pub fn finish(mut self) -> Result<Image<'a>> {
        let length = self.bytes();
        if length > FRAME_BYTES_MAX {
            return Err(StorageError::FrameTooLarge { bytes: length as u64 });
        }
        let (front_len, offset) = (self.front.len(), self.plan.offset);
        if self.plan.time >= COUNTER_END {
            return Err(StorageError::corrupt(offset, "no time is left behind the frame before"));
        }
        for &(start, patch, before) in &self.patches {
            let distance = (front_len - start + before) as u32;
            self.front[patch..patch + 4].copy_from_slice(&distance.to_le_bytes());
        }
        for &(start, end) in &self.records {
            let crc = self.seed.record_crc(offset + start as u64, &self.front[start..end]);
            self.front[end..end + 4].copy_from_slice(&crc.to_le_bytes());
        }
        let head_len = HEAD_BYTES + 4 * usize::from(self.head_words);
        if self.plan.large {
            let at = head_len - 4;
            self.front[at..at + 4].copy_from_slice(&(front_len as u32).to_le_bytes());
        }
        let length = length as u32;
        let check = self.seed.head_check(offset, length, &self.front[..head_len]);
        self.front[14..16].copy_from_slice(&check.to_le_bytes());
        let crc = self.seed.frame_crc(offset, length, &self.front[8..]);
        let flags = u16::from_le_bytes([self.front[12], self.front[13]]);
        let head = Head {
            offset,
            length,
            crc,
            link: self.plan.link,
            flags,
            time: self.plan.time,
            mark: if flags & MARK == 0 { 0 } else { self.plan.mark },
            gap: self.plan.gap,
            head_len,
            front_len,
        };
        Ok(Image { front: self.front, large: self.large, head })
    }
}

/// Decodes the records of a verified frame one after the other.
pub struct Records<'a> {
    front: &'a [u8],
    position: u64,
    /// Where the payloads behind the front begin and end.
    behind: (u64, u64),
}

impl<'a> Records<'a> {
    /// The records of the frame that `head` describes.
    #[must_use]
    pub fn of(head: &Head, region: &'a dyn Region) -> Self {
        let front = region.bytes(head.offset, head.front_len).unwrap_or_default();
        let front = front.get(head.head_len..).unwrap_or_default();
        let behind = (head.offset + head.front_len as u64, head.end());
        Self { front, position: head.offset + head.head_len as u64, behind }
    }
}

impl Records<'_> {
    fn holds(&self, raw: &Raw<'_>) -> bool {
        let start = self.position + u64::from(raw.large.1);
        let end = start.saturating_add(raw.payload_len as u64);
        start >= self.behind.0 && end <= self.behind.1
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (u64, Option<Raw<'a>>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.front.is_empty() {
            return None;
        }
        let position = self.position;
        // A payload elsewhere than in its own frame is forged, whatever its checksum says.
        let within = |raw: &Raw<'_>| !raw.is_large() || self.holds(raw);
        let Some(raw) = record::decode(self.front).filter(within) else {
            self.front = &[];
            return Some((position, None));
        };
        self.front = &self.front[raw.len..];
        self.position += raw.len as u64;
        Some((position, Some(raw)))
    }
}

#[cfg(test)]
mod tests;
