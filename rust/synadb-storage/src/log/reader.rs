//! Reading verified records from a log.

use std::sync::Arc;

use crate::checksum::{crc32c, high32, low32};
use crate::extent::{self, Row, Seal};
use crate::frame::{Head, Seed};
use crate::identity::Identity;
use crate::record::{self, IN_EXTENT, Raw, RecordKind, SOLE};
use crate::region::Region;
use crate::{Result, StorageError};

/// Bytes that the head, key and small payload of a record usually fit in.
const RECORD_WINDOW_BYTES: usize = 256;

/// A log: a region with an identity.
#[derive(Clone)]
pub struct Log {
    region: Arc<dyn Region>,
    identity: Identity,
    seed: Seed,
}

/// A verified record; what it says of itself is reached through [`Raw`].
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// Where it stands.
    pub position: u64,
    /// Position of the key's previous record, 0 where there is none.
    pub previous: u64,
    raw: Raw<'a>,
    region: &'a dyn Region,
}

impl<'a> std::ops::Deref for Record<'a> {
    type Target = Raw<'a>;

    fn deref(&self) -> &Raw<'a> {
        &self.raw
    }
}

impl<'a> Record<'a> {
    /// The decoded record over the region it stands in; `None` if its distance leads nowhere.
    #[must_use]
    pub fn new(position: u64, raw: Raw<'a>, region: &'a dyn Region) -> Option<Self> {
        let previous = if raw.back == 0 { 0 } else { position.checked_sub(raw.back)? };
        Some(Self { position, previous, raw, region })
    }

    /// The payload as stored, its own checksum verified where it has one.
    ///
    /// # Errors
    /// `Corrupt` by the payload's offset.
    pub fn payload(&self) -> Result<&'a [u8]> {
        if !self.raw.is_large() {
            return Ok(self.raw.small);
        }
        let (crc, distance) = self.raw.large;
        let offset = self.position + u64::from(distance);
        let payload = self.region.bytes(offset, self.raw.payload_len);
        let payload =
            payload.ok_or_else(|| StorageError::corrupt(offset, "a payload behind the file"))?;
        if crc32c(payload) != crc {
            return Err(StorageError::corrupt(offset, "a payload does not fit its checksum"));
        }
        Ok(payload)
    }

    /// The stored bytes of the value: the payload, or what lies in its extent.
    ///
    /// # Errors
    /// `Corrupt` by offset.
    pub fn value(&self) -> Result<&'a [u8]> {
        let payload = self.payload()?;
        if self.flags & IN_EXTENT == 0 {
            return Ok(payload);
        }
        let seal = Seal::decode(payload)
            .ok_or_else(|| StorageError::corrupt(self.position, "a seal of another length"))?;
        extent::read(self.region, seal)
    }

    /// The bytes of the row that a row record commits, verified; empty for other records.
    ///
    /// # Errors
    /// `Corrupt` by the offset of the row.
    pub fn row_bytes(&self) -> Result<&'a [u8]> {
        if self.kind != RecordKind::Row {
            return Ok(&[]);
        }
        let row = Row::decode(self.raw.small).ok_or_else(|| {
            StorageError::corrupt(self.position, "a row record of another length")
        })?;
        let bytes = self
            .region
            .bytes(row.offset, row.bytes as usize)
            .ok_or_else(|| StorageError::corrupt(row.offset, "a row outside of the file"))?;
        if crc32c(bytes) != row.crc {
            return Err(StorageError::corrupt(row.offset, "a row does not fit its checksum"));
        }
        Ok(bytes)
    }
}

impl Log {
    /// A log over a region whose identity was read.
    #[must_use]
    pub fn new(region: Arc<dyn Region>, identity: Identity) -> Self {
        Self { region, identity, seed: Seed::of(&identity) }
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &dyn Region {
        &*self.region
    }

    /// The region, shared.
    #[must_use]
    pub fn shared_region(&self) -> Arc<dyn Region> {
        Arc::clone(&self.region)
    }

    /// The identity.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The seed of its checksums.
    #[must_use]
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// The frame at `offset`, its front verified; `Ok(None)` where none was published.
    ///
    /// # Errors
    /// `Corrupt` where something stands there that is no good frame.
    pub fn frame(&self, offset: u64) -> Result<Option<Head>> {
        match self.region.load(offset) {
            None | Some(0) => Ok(None),
            Some(word) => Head::verified(self.seed, self.region(), offset, word)
                .map(Some)
                .ok_or_else(|| StorageError::corrupt(offset, "a frame does not fit its checksum")),
        }
    }

    /// The verified record at `position`.
    ///
    /// # Errors
    /// `Corrupt` by the record's offset.
    #[inline]
    pub fn record(&self, position: u64) -> Result<Record<'_>> {
        self.find(position)
            .ok_or_else(|| StorageError::corrupt(position, "a record does not fit its checksum"))
    }

    fn find(&self, position: u64) -> Option<Record<'_>> {
        let left = usize::try_from(self.region.len().checked_sub(position)?).ok()?;
        let window = self.region.bytes(position, left.min(RECORD_WINDOW_BYTES))?;
        let raw = match record::decode(window) {
            Some(raw) => raw,
            // A long key, or damage: look at as much as the longest record takes.
            None => record::decode(self.region.bytes(position, left.min(1 << 17))?)?,
        };
        if raw.flags & SOLE == 0 {
            let bytes = self.region.bytes(position, raw.len)?;
            let (covered, stored) = bytes.split_at_checked(raw.covered)?;
            let crc = self.seed.record_crc(position, covered);
            if stored != crc.to_le_bytes() {
                return None;
            }
        } else {
            let frame = position.checked_sub(raw.frame_head_len())?;
            let word = self.region.load(frame)?;
            let head = Head::verified_at_record(self.seed, self.region(), frame, word)?;
            if head.head_len as u64 != raw.frame_head_len()
                || head.head_len + raw.len != head.front_len
            {
                return None;
            }
        }
        Record::new(position, raw, self.region())
    }

    /// Checksum that the frame at `offset` claims, 0 where there is none.
    #[must_use]
    pub fn frame_crc_claimed(&self, offset: u64) -> (u32, u32) {
        self.region.load(offset).map_or((0, 0), |word| (low32(word), high32(word)))
    }
}
