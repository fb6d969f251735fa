//! Checks every byte of a log that something vouches for.

use super::{Log, Record};
use crate::frame::Records;
use crate::identity::{FRAMES_START, Identity, PAGE_BYTES};

/// A damaged place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where, in bytes from the start of the file.
    pub offset: u64,
    /// What does not fit.
    pub reason: String,
}

/// Verifies the identity, every frame up to `tail`, its payloads, extents and padding.
///
/// `progress` is called with the offset reached and stops the walk by returning false.
pub fn verify(log: &Log, tail: u64, progress: &mut dyn FnMut(u64) -> bool) -> Vec<Damage> {
    let mut damage = Vec::new();
    let mut report = |offset, reason: &str| damage.push(Damage { offset, reason: reason.into() });
    let page = log.region().bytes(0, PAGE_BYTES as usize).unwrap_or_default();
    match Identity::read(page) {
        Ok((_, offsets)) => {
            offsets.into_iter().for_each(|at| report(at, "the header page is damaged"));
        }
        Err(_) => report(0, "both copies of the identity are damaged"),
    }
    let (mut at, mut link) = (FRAMES_START, 0);
    while at < tail && progress(at) {
        let Ok(Some(head)) = log.frame(at) else {
            report(at, "a frame does not fit its checksum; what follows it was not checked");
            break;
        };
        if head.link != link {
            report(at, "a frame does not follow the one before");
        }
        for (position, raw) in Records::of(&head, log.region()) {
            let checked = raw.and_then(|raw| Record::new(position, raw, log.region()));
            let Some(record) = checked else {
                report(position, "a record cannot be decoded");
                break;
            };
            for result in [record.value().map(|_| ()), record.row_bytes().map(|_| ())] {
                match result {
                    Err(crate::StorageError::Corrupt { offset, reason }) => report(offset, &reason),
                    Err(error) => report(position, &error.to_string()),
                    Ok(()) => {}
                }
            }
        }
        let padded = head.end().next_multiple_of(8).min(head.next());
        let padded = if head.gap == 0 { padded } else { head.gap_start() };
        let padding = log.region().bytes(head.end(), (padded - head.end()) as usize);
        if padding.is_none_or(|bytes| bytes.iter().any(|byte| *byte != 0)) {
            report(head.end(), "padding behind a frame is not zero");
        }
        (at, link) = (head.next(), head.crc);
    }
    damage
}
