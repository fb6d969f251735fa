//! The checkpoint: saved views and the log position that they were saved at. Disposable.

use std::sync::Arc;

use synadb_storage::checksum::crc32c;
use synadb_storage::extent::{self, Seal};
use synadb_storage::identity::{CHECKPOINT_MAGIC as MAGIC, FORMAT, Identity};
use synadb_storage::log::Start;
use synadb_storage::region::Region;
use synadb_storage::{Result, StorageError};
use synadb_types::limits::COUNTER_END;

const HEADER_BYTES: usize = 128;
const FIRST_SECTION: u64 = 4096;
const ENTRY_BYTES: usize = 28;

/// A verified section of a mapped checkpoint.
#[derive(Clone)]
pub(crate) struct Section {
    region: Arc<dyn Region>,
    start: u64,
    len: usize,
}

impl Section {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.region.bytes(self.start, self.len).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Section {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

/// A section that was not read yet.
pub(crate) struct Saved {
    region: Arc<dyn Region>,
    seal: Seal,
}

impl Saved {
    /// One in memory.
    #[cfg(all(test, loom))]
    pub fn in_memory(bytes: &[u8]) -> Self {
        let region = synadb_storage::region::MemoryRegion::with_capacity(4096).expect("allocates");
        region.allocate(4096).expect("there is space");
        let seal = extent::fill(&region, 0, bytes).expect("fits");
        Self { region: Arc::new(region), seal }
    }

    /// The section, its checksums verified.
    pub fn read(&self) -> Result<Section> {
        let len = extent::read(&*self.region, self.seal)?.len();
        Ok(Section { region: Arc::clone(&self.region), start: self.seal.start, len })
    }
}

/// Writes sections one behind the other.
pub(crate) struct SectionWriter {
    region: Arc<dyn Region>,
    end: u64,
    entries: Vec<u8>,
}

impl SectionWriter {
    pub fn new(region: Arc<dyn Region>) -> Self {
        Self { region, end: FIRST_SECTION, entries: Vec::new() }
    }

    /// Adds a section.
    pub fn put(&mut self, kind: u32, table: u32, bytes: &[u8]) -> Result<()> {
        let end = self.end + extent::sealed_bytes(bytes.len() as u64);
        self.region.allocate(end.next_multiple_of(4096))?;
        let seal = extent::fill(&*self.region, self.end, bytes)?;
        self.entries.extend_from_slice(&kind.to_le_bytes());
        self.entries.extend_from_slice(&table.to_le_bytes());
        self.entries.extend_from_slice(&seal.encode());
        self.end = end;
        Ok(())
    }

    /// Puts the sections so far on the medium.
    pub fn sync(&self) -> Result<()> {
        self.region.sync()
    }

    /// Writes directory and header; nothing is valid before.
    pub fn finish(&mut self, identity: &Identity, at: Start, sequence: u64) -> Result<()> {
        let directory = self.end;
        let end = directory + extent::sealed_bytes(self.entries.len() as u64);
        self.region.allocate(end.next_multiple_of(4096))?;
        let seal = extent::fill(&*self.region, directory, &self.entries)?;
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        header[16..32].copy_from_slice(&identity.database_id);
        let words = [identity.generation, at.position, at.last_frame, at.time, sequence];
        for (index, word) in words.into_iter().enumerate() {
            header[32 + 8 * index..40 + 8 * index].copy_from_slice(&word.to_le_bytes());
        }
        header[72..76].copy_from_slice(&at.link.to_le_bytes());
        header[80..100].copy_from_slice(&seal.encode());
        let crc = crc32c(&header[..HEADER_BYTES - 4]);
        header[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        self.region.store(0, &header)?;
        self.region.sync()
    }
}

/// A checkpoint that was opened.
pub(crate) struct Checkpoint {
    region: Arc<dyn Region>,
    /// Where the log goes on.
    pub start: Start,
    /// Sequence number of the last counted frame before.
    pub sequence: u64,
    entries: Vec<(u32, u32, Seal)>,
}

/// The sections of one table.
pub(crate) struct TableSections<'a> {
    checkpoint: &'a Checkpoint,
    table: u32,
}

impl TableSections<'_> {
    /// The section of that kind, its checksums verified.
    pub fn get(&self, kind: u32) -> Result<Option<Section>> {
        self.checkpoint.section(kind, self.table)
    }

    /// The sections of that kind and above, not yet read.
    pub fn from(&self, kind: u32) -> Vec<(u32, Saved)> {
        let entries = self.checkpoint.entries.iter();
        let wanted = entries.filter(|entry| entry.0 >= kind && entry.1 == self.table);
        let region = &self.checkpoint.region;
        wanted.map(|entry| (entry.0, Saved { region: Arc::clone(region), seal: entry.2 })).collect()
    }
}

/// The header of a checkpoint, if its checksum fits.
fn header(region: &dyn Region) -> Option<&[u8]> {
    let header = region.bytes(0, HEADER_BYTES)?;
    let (covered, crc) = header.split_at(HEADER_BYTES - 4);
    let format = u16::from_le_bytes([header[8], header[9]]);
    let fits = header[..8] == MAGIC && format == FORMAT && crc32c(covered).to_le_bytes() == crc;
    fits.then_some(header)
}

/// Whose checkpoint it is; horizon and history are not known from it.
pub(crate) fn identity_of(region: &dyn Region) -> Option<Identity> {
    let header = header(region)?;
    let database_id = std::array::from_fn(|i| header[16 + i]);
    let generation = u64::from_le_bytes(std::array::from_fn(|i| header[32 + i]));
    Some(Identity { database_id, generation, ..Identity::UNNAMED })
}

impl Checkpoint {
    /// Reads the header; `None` unless it is whole and belongs to that generation of the database.
    pub fn open(region: Arc<dyn Region>, identity: &Identity) -> Option<Self> {
        let header = header(&*region)?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        if header[16..32] != identity.database_id
            || word(32) != identity.generation
            || word(64) >= COUNTER_END
        {
            return None;
        }
        let start =
            Start { position: word(40), last_frame: word(48), time: word(56), link: half(72) };
        let sequence = word(64);
        let directory = extent::read(&*region, Seal::decode(&header[80..100])?).ok()?;
        let entries = directory.chunks_exact(ENTRY_BYTES).map(|entry| {
            let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| entry[at + i]));
            Some((half(0), half(4), Seal::decode(&entry[8..])?))
        });
        let entries = entries.collect::<Option<Vec<_>>>()?;
        Some(Self { region, start, sequence, entries })
    }

    /// The sections of a table.
    pub fn table(&self, table: u32) -> TableSections<'_> {
        TableSections { checkpoint: self, table }
    }

    fn section(&self, kind: u32, table: u32) -> Result<Option<Section>> {
        let entry = self.entries.iter().find(|entry| (entry.0, entry.1) == (kind, table));
        let Some((_, _, seal)) = entry else { return Ok(None) };
        Saved { region: Arc::clone(&self.region), seal: *seal }.read().map(Some)
    }
}

/// A checkpoint that lies: caught by range checks where its numbers are used.
pub(crate) fn implausible(what: &str) -> StorageError {
    StorageError::corrupt(0, format!("checkpoint: {what}"))
}
