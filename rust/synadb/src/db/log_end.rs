//! Where a log ends for who opens it: a reader looks while others write.

use synadb_storage::directory::Opened;
use synadb_storage::identity::FRAMES_START;
use synadb_storage::lock::{LockKind, Locks};
use synadb_storage::log::{Log, Recovery, Start, recover, recover_beside};
use synadb_storage::{Result as StorageResult, StorageError};

use super::open::LOCK_POLL;

/// How often a reader looks before it takes what it finds for the truth.
const LOOKS_MAX: usize = 500;

/// Where the log ends; a reader, which holds no lock, waits for a writer that is at work.
///
/// A reader's walk can stop where a frame is not published yet, and its look behind that end
/// then see frames that vouch for more than was walked. So a torn or contradictory end is
/// believed where two looks in a row stop at the same place with nobody registered; one does
/// not do, since whoever wrote during the walk may be gone after it, with the file, which a
/// compaction replaced. A contradiction is also believed that outlasts `LOOKS_MAX` looks.
pub(super) fn find_end(
    log: &Log,
    start: Start,
    floor: u64,
    writes: bool,
    opened: Option<&Opened>,
) -> StorageResult<Recovery> {
    if writes {
        return recover(log, start, floor);
    }
    if log.region().len() < FRAMES_START {
        return Ok(Recovery { tail: FRAMES_START, ..Recovery::default() });
    }
    let locks = opened.and_then(|opened| opened.locks.as_deref());
    let mut quiet_end = None;
    for _ in 0..LOOKS_MAX {
        log.region().refresh()?;
        let found = recover_beside(log, start, floor);
        let end = match &found {
            Ok(found) if found.torn => found.tail,
            Err(StorageError::Corrupt { offset, .. }) => *offset,
            _ => return found,
        };
        if is_being_written(locks) {
            // Between what was loaded first and last the writer went on: what it published fits.
            if let Ok(found) = found {
                return Ok(Recovery { torn: false, commits_dropped: 0, bytes_dropped: 0, ..found });
            }
            quiet_end = None;
            std::thread::sleep(LOCK_POLL);
        } else if quiet_end.replace(end) == Some(end) {
            return found;
        }
    }
    recover_beside(log, start, floor)
}

fn is_being_written(locks: Option<&dyn Locks>) -> bool {
    locks.is_some_and(|locks| locks.is_held_elsewhere(LockKind::Registration).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

    use synadb_storage::frame::Head;
    use synadb_storage::identity::{Identity, PAGE_BYTES};
    use synadb_storage::region::{MemoryRegion, Region};

    use super::*;
    use crate::{Durability, OpenOptions, Value};

    /// A log of which the frame at `hidden` is shown from a certain look on, as if published then, and
    /// of which only `kept` bytes are left behind the first look, as if somebody closed it then.
    struct Late {
        body: MemoryRegion,
        kept: u64,
        hidden: u64,
        shown_from: usize,
        looks: AtomicUsize,
    }

    impl Region for Late {
        fn len(&self) -> u64 {
            let is_first = self.looks.load(Ordering::Relaxed) <= 1;
            if is_first { self.body.len() } else { self.kept }
        }
        fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]> {
            assert!(offset + len as u64 <= self.kept, "a page of a map that is gone");
            self.body.bytes(offset, len)
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> StorageResult<()> {
            if offset + out.len() as u64 > self.kept {
                return Err(StorageError::corrupt(offset, "bytes behind the end of the file"));
            }
            self.body.read(offset, out)
        }
        fn load(&self, offset: u64) -> Option<u64> {
            assert!(offset + 8 <= self.kept, "a page of a map that is gone");
            let is_shown = self.looks.load(Ordering::Relaxed) >= self.shown_from;
            if offset == self.hidden && !is_shown { Some(0) } else { self.body.load(offset) }
        }
        fn store(&self, offset: u64, bytes: &[u8]) -> StorageResult<()> {
            self.body.store(offset, bytes)
        }
        fn publish(&self, offset: u64, word: u64) -> StorageResult<()> {
            self.body.publish(offset, word)
        }
        fn hint(&self, offset: u64, word: u64) {
            self.body.hint(offset, word);
        }
        fn signal(&self, offset: u64) -> Option<&AtomicU32> {
            self.body.signal(offset)
        }
        fn allocate(&self, len: u64) -> StorageResult<()> {
            self.body.allocate(len)
        }
        fn zero(&self, offset: u64, len: u64) -> StorageResult<()> {
            self.body.zero(offset, len)
        }
        fn trim(&self, len: u64) -> StorageResult<()> {
            self.body.trim(len)
        }
        fn sync(&self) -> StorageResult<()> {
            self.body.sync()
        }
        fn refresh(&self) -> StorageResult<u64> {
            self.looks.fetch_add(1, Ordering::Relaxed);
            Ok(self.len())
        }
        fn kind(&self) -> &'static str {
            self.body.kind()
        }
    }

    /// A log of commits that were synced one by one, without the control page's word on it, its
    /// frames, and what it is named by.
    fn written() -> (Vec<u8>, Vec<Head>, Identity) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let options = OpenOptions::new().durability(Durability::Process);
        let db = options.open(&path).expect("opens");
        for number in 0..4 {
            db.append("key", Value::Int(number)).expect("written");
            db.sync().expect("synced");
        }
        db.close().expect("closes");
        let mut bytes = std::fs::read(&path).expect("a file");
        bytes[PAGE_BYTES as usize..FRAMES_START as usize].fill(0);
        let (identity, _) = Identity::read(&bytes[..PAGE_BYTES as usize]).expect("an identity");
        let log = Log::new(region(&bytes, 0, 0), identity);
        let mut frames = Vec::new();
        let mut at = FRAMES_START;
        while let Some(head) = log.frame(at).expect("a good frame") {
            at = head.next();
            frames.push(head);
        }
        (bytes, frames, identity)
    }

    fn region(bytes: &[u8], hidden: u64, shown_from: usize) -> Arc<Late> {
        let body = MemoryRegion::with_capacity(bytes.len() as u64).expect("memory");
        body.allocate(bytes.len() as u64).expect("room");
        body.store(0, bytes).expect("stored");
        let kept = bytes.len() as u64;
        Arc::new(Late { body, kept, hidden, shown_from, looks: AtomicUsize::new(0) })
    }

    fn found(bytes: &[u8], identity: Identity, hidden: u64, from: usize) -> StorageResult<u64> {
        let log = Log::new(region(bytes, hidden, from), identity);
        find_end(&log, Start::beginning(), 0, false, None).map(|found| found.tail)
    }

    #[test]
    fn a_frame_published_between_a_readers_walk_and_its_look_behind_is_no_damage() {
        let (bytes, frames, identity) = written();
        let [.., hidden, last] = &frames[..] else { panic!("{frames:?}") };
        assert!(last.mark > hidden.offset, "a later frame vouches for the one before");
        let end = last.next();
        assert_eq!(found(&bytes, identity, hidden.offset, 0).expect("whole"), end);
        assert_eq!(found(&bytes, identity, hidden.offset, 2).expect("a second look"), end);
        match found(&bytes, identity, hidden.offset, usize::MAX) {
            Err(StorageError::Corrupt { offset, .. }) => assert_eq!(offset, hidden.offset),
            other => panic!("a frame that never comes is damage, found {other:?}"),
        }
    }
    #[test]
    fn a_last_frame_published_while_a_reader_looks_is_read_and_one_that_never_is_torn() {
        let (bytes, frames, identity) = written();
        let last = frames.last().expect("frames");
        assert_eq!(found(&bytes, identity, last.offset, 2).expect("whole"), last.next());
        assert_eq!(found(&bytes, identity, last.offset, usize::MAX).expect("torn"), last.offset);
    }

    /// Who closes a file last gives back what is behind its end: to touch a page of a map that is gone
    /// ends the process.
    #[test]
    fn a_file_that_shrinks_while_a_reader_looks_is_read_to_its_end() {
        let (bytes, frames, identity) = written();
        let end = frames.last().expect("frames").next();
        for garbage in [false, true] {
            let mut longer = bytes.clone();
            longer.resize(bytes.len() + (1 << 20), 0);
            // A writer that died has left something, and the next one has cut it off.
            longer[end as usize + 100] = u8::from(garbage);
            let whole = Arc::into_inner(region(&longer, 0, 0)).expect("nobody has it yet");
            let kept = (end + 8).next_multiple_of(PAGE_BYTES);
            let log = Log::new(Arc::new(Late { kept, ..whole }), identity);
            let found = find_end(&log, Start::beginning(), 0, false, None).expect("an end");
            assert_eq!((found.tail, found.torn), (end, garbage));
        }
    }
}
