//! Files out of inputs: pages around a log, and checksums that fit again after a mutation.

use synadb_storage::checksum::{append, crc32c, fold16};
use synadb_storage::record::{self, Raw};

use crate::input::Input;

/// Bytes of an identity.
const IDENTITY_BYTES: usize = 64;
const PAGE_BYTES: usize = 4096;
const FRAMES_START: usize = 2 * PAGE_BYTES;
const SYNCED: usize = PAGE_BYTES + 448;
const GAP: u16 = 4;
const MARK: u16 = 2;
const FRONT: u16 = 8;

/// Makes checksums fit, so that what is behind them is reached.
pub const RESEAL: u8 = 1;
const ONE_IDENTITY: u8 = 2;
const UNTRIMMED: u8 = 4;
const NO_MARK: u8 = 8;

/// A file of the input: identity, synced position and log, of which the rest of it is.
#[must_use]
pub fn file(options: u8, input: &mut Input<'_>, log_bytes: usize) -> Vec<u8> {
    let mut identity: [u8; IDENTITY_BYTES] = input.array();
    let synced = input.word();
    let log = input.take(log_bytes);
    if options & RESEAL != 0 {
        let crc = crc32c(&identity[..60]);
        identity[60..].copy_from_slice(&crc.to_le_bytes());
    }
    let mut file = vec![0; FRAMES_START];
    file[..IDENTITY_BYTES].copy_from_slice(&identity);
    if options & ONE_IDENTITY == 0 {
        file[2048..2048 + IDENTITY_BYTES].copy_from_slice(&identity);
    }
    if options & NO_MARK == 0 {
        file[SYNCED..SYNCED + 8].copy_from_slice(&synced.to_le_bytes());
    }
    file.extend_from_slice(log);
    if options & UNTRIMMED != 0 {
        file.resize(file.len() + (64 << 10), 0);
    }
    file.resize(file.len().next_multiple_of(8), 0);
    if options & RESEAL != 0 {
        reseal(&mut file);
    }
    file
}

/// The input that stands for a file: what [`file()`] takes.
#[must_use]
pub fn input_of(file: &[u8]) -> Vec<u8> {
    let end = file.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let log = file.get(FRAMES_START..end.next_multiple_of(8)).unwrap_or_default();
    [&file[..IDENTITY_BYTES], &file[SYNCED..SYNCED + 8], log].concat()
}

/// Makes the checksums of a chain of frames fit what they cover.
fn reseal(file: &mut [u8]) {
    let generation: [u8; 8] = std::array::from_fn(|i| if i < 4 { file[56 + i] } else { 0 });
    let seed = append(crc32c(&file[24..40]), &generation);
    let (mut at, mut link) = (FRAMES_START, 0);
    while let Some((next, crc)) = reseal_frame(file, seed, at, link) {
        (at, link) = (next, crc);
    }
}

fn half(file: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?))
}

/// The next frame's offset and the checksum of the one at `at`.
fn reseal_frame(file: &mut [u8], seed: u32, at: usize, link: u32) -> Option<(usize, u32)> {
    let length = half(file, at)?;
    let flags = u16::from_le_bytes(file.get(at + 12..at + 14)?.try_into().ok()?);
    let (mut head_len, mut gap, mut front_len) = (24, 0, length as usize);
    for flag in [MARK, GAP, FRONT] {
        if flags & flag != 0 {
            let word = half(file, at + head_len)?;
            match flag {
                GAP => gap = 64 * word as usize,
                FRONT => front_len = word as usize,
                _ => {}
            }
            head_len += 4;
        }
    }
    let end = at.checked_add(length as usize).filter(|end| *end <= file.len())?;
    if front_len > length as usize || head_len > front_len {
        return None;
    }
    reseal_records(file, seed, at + head_len, at + front_len);
    file[at + 8..at + 12].copy_from_slice(&link.to_le_bytes());
    let place = [&(at as u64).to_le_bytes()[..], &length.to_le_bytes()].concat();
    let base = append(seed, &place);
    let check = append(append(base, &file[at + 8..at + 14]), &file[at + 16..at + head_len]);
    file[at + 14..at + 16].copy_from_slice(&fold16(check).to_le_bytes());
    let crc = append(base, &file[at + 8..at + front_len]);
    file[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
    let next = if gap == 0 { end.next_multiple_of(8) } else { end.next_multiple_of(64) + gap };
    Some((next, crc))
}

fn reseal_records(file: &mut [u8], seed: u32, mut at: usize, end: usize) {
    while let Some(raw) = record::decode(&file[at..end]) {
        let (len, covered, sole) = (raw.len, raw.covered, raw.flags & record::SOLE != 0);
        let crcs = payload_crcs(file, at, &raw);
        for (place, crc) in crcs {
            file[place..place + 4].copy_from_slice(&crc.to_le_bytes());
        }
        if !sole {
            let crc = append(append(seed, &(at as u64).to_le_bytes()), &file[at..at + covered]);
            file[at + covered..at + len].copy_from_slice(&crc.to_le_bytes());
        }
        at += len;
    }
}

/// Where a record states checksums of what lies elsewhere, and which they should be.
fn payload_crcs(file: &[u8], at: usize, raw: &Raw<'_>) -> Vec<(usize, u32)> {
    let key_end = at + raw.covered - raw.small.len();
    let mut found = Vec::new();
    if raw.is_large() {
        let start = at + raw.large.1 as usize;
        let payload = start.checked_add(raw.payload_len).and_then(|end| file.get(start..end));
        let place = key_end - raw.key.len() - 8;
        found.extend(payload.map(|payload| (place, crc32c(payload))));
    }
    if raw.kind == record::RecordKind::Row && raw.small.len() == 29 {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| raw.small[at + i]));
        let (start, bytes) = (word(5) as usize, word(13) as u32 as usize);
        let row = start.checked_add(bytes).and_then(|end| file.get(start..end));
        found.extend(row.map(|row| (key_end + 17, crc32c(row))));
    }
    found
}

/// Makes the checksums of a checkpoint fit what they cover.
pub fn reseal_checkpoint(file: &mut [u8]) {
    if file.len() < 128 {
        return;
    }
    let word = |file: &[u8], at: usize| u64::from_le_bytes(std::array::from_fn(|i| file[at + i]));
    let (start, bytes) = (word(file, 80) as usize, word(file, 88) as usize);
    let end = start.saturating_add(bytes);
    if end <= file.len() {
        for at in (start..end.saturating_sub(27)).step_by(28) {
            let (from, len) = (word(file, at + 8) as usize, word(file, at + 16) as usize);
            reseal_extent(file, from, len, at + 24);
        }
    }
    reseal_extent(file, start, bytes, 96);
    let crc = crc32c(&file[..124]);
    file[124..128].copy_from_slice(&crc.to_le_bytes());
}

/// Makes the checksums behind some bytes fit, and that of the list at `place`.
fn reseal_extent(file: &mut [u8], start: usize, bytes: usize, place: usize) {
    let Some(end) = start.checked_add(bytes).filter(|end| *end <= file.len()) else { return };
    let crcs = file[start..end].chunks(64 << 10).map(crc32c);
    let list: Vec<u8> = crcs.flat_map(u32::to_le_bytes).collect();
    let at = start + bytes.next_multiple_of(64);
    let Some(room) = file.get_mut(at..at + list.len()) else { return };
    room.copy_from_slice(&list);
    file[place..place + 4].copy_from_slice(&crc32c(&list).to_le_bytes());
}
