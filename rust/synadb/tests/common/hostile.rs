//! Files that lie with good checksums: damage that is sealed again.

use synadb_storage::checksum::{append, crc32c, fold16};
use synadb_storage::frame::{Records, Seed};
use synadb_storage::record::SOLE;

use super::Random;
use super::frames::{frames, log_of};

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i])) as usize
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn put(bytes: &mut [u8], at: usize, word: &[u8]) {
    bytes[at..at + word.len()].copy_from_slice(word);
}

/// Changes a byte to something of interest.
pub fn mutate(byte: &mut u8, random: &mut Random) {
    *byte = match random.below(6) {
        0 => 0,
        1 => 0xff,
        2 => byte.wrapping_add(1),
        3 => byte.wrapping_sub(1),
        4 => *byte ^ (1 << random.below(8)),
        _ => random.below(256) as u8,
    };
}

/// A number near an end of a range.
pub fn extreme(random: &mut Random) -> u64 {
    let less = random.below(70) as u64;
    [u64::MAX, 1 << 63, 1 << 62, 1 << 48, 1 << 40, 1 << 32][random.below(6)] - less
}

/// Where the frames and records of a good log are, to seal them again.
pub struct Places {
    seed: Seed,
    seed_crc: u32,
    /// Offset of each frame, and position and covered bytes of its records with a checksum.
    frames: Vec<(usize, Vec<(u64, usize)>)>,
}

impl Places {
    pub fn of(bytes: &[u8]) -> Self {
        let log = log_of(bytes);
        let identity = log.identity();
        let seed_crc = append(crc32c(&identity.database_id), &identity.generation.to_le_bytes());
        let records = |head: &_| {
            let records = Records::of(head, log.region()).filter_map(|(position, raw)| {
                raw.filter(|raw| raw.flags & SOLE == 0).map(|raw| (position, raw.covered))
            });
            records.collect()
        };
        let frames = frames(bytes);
        let frames = frames.iter().map(|head| (head.offset as usize, records(head))).collect();
        Self { seed: log.seed(), seed_crc, frames }
    }

    /// Changes some bytes of fronts of frames.
    pub fn mutate(&self, bytes: &mut [u8], random: &mut Random) {
        for _ in 0..1 + random.below(4) {
            let frame = self.frames[random.below(self.frames.len())].0;
            let front = u32_at(bytes, frame).min(120);
            let at = (frame + random.below(front)).min(bytes.len() - 1);
            mutate(&mut bytes[at], random);
        }
    }

    /// Makes every link and checksum fit what the bytes say now.
    pub fn seal(&self, bytes: &mut [u8]) {
        let mut link = 0;
        for (at, records) in &self.frames {
            let (at, length) = (*at, u32_at(bytes, *at));
            let flags = bytes[at + 12];
            let head_len = 24 + 4 * (flags & 14).count_ones() as usize;
            let front_len = if flags & 8 == 0 { length } else { u32_at(bytes, at + head_len - 4) };
            if front_len < head_len || at + front_len > bytes.len() {
                return;
            }
            for (position, covered) in records {
                let start = *position as usize;
                let crc = self.seed.record_crc(*position, &bytes[start..start + covered]);
                put(bytes, start + covered, &crc.to_le_bytes());
            }
            put(bytes, at + 8, &u32::to_le_bytes(link));
            let place = [&at.to_le_bytes()[..], &bytes[at..at + 4]].concat();
            let seed = append(self.seed_crc, &place);
            let check =
                append(append(seed, &bytes[at + 8..at + 14]), &bytes[at + 16..at + head_len]);
            put(bytes, at + 14, &fold16(check).to_le_bytes());
            let crc = append(seed, &bytes[at + 8..at + front_len]);
            put(bytes, at + 4, &crc.to_le_bytes());
            link = crc;
        }
    }
}

/// The list of checksums of a sealed range, and its checksum.
fn list_of(bytes: &[u8], start: usize, len: usize) -> Option<(usize, Vec<u8>)> {
    let value = bytes.get(start..start.checked_add(len)?)?;
    let list = value.chunks(65_536).flat_map(|chunk| crc32c(chunk).to_le_bytes());
    let (list, at) = (list.collect::<Vec<u8>>(), start + len.next_multiple_of(64));
    (at + list.len() <= bytes.len()).then_some((at, list))
}

/// Changes some bytes of a checkpoint: of its header, its directory or its sections.
pub fn mutate_checkpoint(bytes: &mut [u8], random: &mut Random) {
    let (directory, len) = (u64_at(bytes, 80) as usize, u64_at(bytes, 88) as usize);
    for _ in 0..1 + random.below(4) {
        let at = match random.below(8) {
            0 => 40 + random.below(60),
            1 | 2 => directory + random.below(len),
            3 | 4 => {
                let at = 4096 + random.below((directory - 4096) / 8) * 8;
                let word = extreme(random);
                put(bytes, at, &word.to_le_bytes());
                continue;
            }
            _ => 4096 + random.below(directory - 4096),
        };
        mutate(&mut bytes[at], random);
    }
}

/// Makes every checksum of a checkpoint fit, as far as it says where it stands.
pub fn seal_checkpoint(bytes: &mut [u8]) {
    let (directory, len) = (u64_at(bytes, 80) as usize, u64_at(bytes, 88) as usize);
    if directory.checked_add(len).is_some_and(|end| end <= bytes.len()) {
        for entry in (directory..directory + len / 28 * 28).step_by(28) {
            let (start, len) = (u64_at(bytes, entry + 8), u64_at(bytes, entry + 16));
            if let Some((at, list)) = list_of(bytes, start as usize, len as usize) {
                put(bytes, at, &list);
                put(bytes, entry + 24, &crc32c(&list).to_le_bytes());
            }
        }
    }
    if let Some((at, list)) = list_of(bytes, directory, len) {
        put(bytes, at, &list);
        put(bytes, 96, &crc32c(&list).to_le_bytes());
    }
    let crc = crc32c(&bytes[..124]);
    put(bytes, 124, &crc.to_le_bytes());
}
