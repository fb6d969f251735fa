//! Pieces of a file that memory shows one behind the other; see `docs/safety.md`, "Mapped memory".
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous, mprotect, munmap};
use rustix::param::page_size;

use crate::{Result, StorageError};

/// Pieces of all joined memory of the process: Linux grants one 65,530 mappings, for all it does.
const PIECES_MAX: usize = 16_384;
/// Of so many bytes at most one is a copy.
const BYTES_PER_COPIED: u64 = 8;

static PIECES: AtomicUsize = AtomicUsize::new(0);

/// Read-only memory that shows ranges of a file one behind the other.
///
/// Whole pages are those of the file; what shares a page with something else is a copy.
#[derive(Debug)]
pub struct Joined {
    start: NonNull<u8>,
    /// Bytes of the mapping, whole pages.
    mapped: usize,
    /// Where the first range begins in it.
    shift: usize,
    /// Bytes of all ranges.
    len: usize,
    _pieces: Pieces,
}

// SAFETY: the memory belongs to this value alone until it is dropped. Once `Joined::of` has returned
// it is read-only, and what `bytes` shows of it is published, so that nobody writes there either
// through another map.
unsafe impl Send for Joined {}
// SAFETY: as for `Send`.
unsafe impl Sync for Joined {}

/// A share in the pieces that the process may have, given back by a drop.
#[derive(Debug)]
struct Pieces(usize);

impl Pieces {
    /// So many, if they are left.
    fn take(count: usize) -> Option<Self> {
        let taken = Self(count);
        let before = PIECES.fetch_add(count, Ordering::Relaxed);
        (before + count <= PIECES_MAX).then_some(taken)
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        PIECES.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// What is done with a piece: `len` bytes at `from` in the file are shown at `at` in the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    at: u64,
    from: u64,
    len: u64,
}

/// How ranges of a file become one memory.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    shift: u64,
    len: u64,
    /// Whole pages.
    mapped: Vec<Piece>,
    copied: Vec<Piece>,
}

impl Plan {
    fn of(ranges: &[Range<u64>], page: u64) -> Self {
        let mut plan = Self { shift: shift_of(ranges, page), ..Self::default() };
        for (index, range) in ranges.iter().enumerate() {
            let (begin, end) =
                (plan.shift + plan.len, plan.shift + plan.len + range.end - range.start);
            plan.len += range.end - range.start;
            let piece = |from: u64, to: u64| {
                let at = range.start.wrapping_add(from).wrapping_sub(begin);
                Piece { at: from, from: at, len: to - from }
            };
            // A page that no neighbour shares is shown whole.
            let first = if index == 0 { begin / page * page } else { begin.next_multiple_of(page) };
            let is_last = index + 1 == ranges.len();
            let last = if is_last { end.next_multiple_of(page) } else { end / page * page };
            if begin % page != range.start % page || first >= last {
                plan.copied.push(piece(begin, end));
                continue;
            }
            plan.mapped.push(piece(first, last));
            if begin < first {
                plan.copied.push(piece(begin, first));
            }
            if last < end {
                plan.copied.push(piece(last, end));
            }
        }
        plan
    }

    fn is_worth_it(&self) -> bool {
        let copied: u64 = self.copied.iter().map(|piece| piece.len).sum();
        self.len > 0 && copied * BYTES_PER_COPIED <= self.len
    }

    /// Mappings that it takes: pages of the file, and what lies between them.
    fn pieces(&self) -> usize {
        2 * self.mapped.len() + 1
    }
}

/// Where in its page the memory begins: where most bytes lie in the memory as they do in their pages.
fn shift_of(ranges: &[Range<u64>], page: u64) -> u64 {
    let mut bytes_at = BTreeMap::<u64, u64>::new();
    let mut before = 0_u64;
    for range in ranges {
        *bytes_at.entry(range.start.wrapping_sub(before) % page).or_default() +=
            range.end - range.start;
        before += range.end - range.start;
    }
    bytes_at.into_iter().max_by_key(|(_, bytes)| *bytes).map_or(0, |(shift, _)| shift)
}

impl Joined {
    /// Ranges of `file`, all inside of it and published; `None` where more than an eighth would be a
    /// copy, where the process has too many pieces, or where the system grants no such mapping.
    pub(super) fn of(file: &File, ranges: &[Range<u64>]) -> Result<Option<Self>> {
        let page = page_size() as u64;
        let plan = Plan::of(ranges, page);
        let pieces = plan.is_worth_it().then(|| Pieces::take(plan.pieces())).flatten();
        let mapped = (plan.shift + plan.len).next_multiple_of(page) as usize;
        let Some((_pieces, start)) = pieces.zip(reserved(mapped)) else { return Ok(None) };
        let (shift, len) = (plan.shift as usize, plan.len as usize);
        let joined = Self { start, mapped, shift, len, _pieces };
        // Before anything is shown: their pages are taken whole.
        for piece in &plan.copied {
            if !joined.copy(file, *piece, page)? {
                return Ok(None);
            }
        }
        for piece in &plan.mapped {
            if !joined.show(file, *piece) {
                joined.unmap_around(*piece);
                return Ok(None);
            }
        }
        Ok(Some(joined))
    }

    /// The ranges.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `shift + len` bytes from `start` on are mapped until `self` is dropped, and a plan
        // leaves none of them out: pages of the file that were inside of it, whose bytes here are
        // published and so never change, and anonymous ones that nobody writes to.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(self.shift), self.len) }
    }

    /// Puts pages of the file in the place of reserved ones; false where the system refuses.
    fn show(&self, file: &File, piece: Piece) -> bool {
        assert!(piece.at + piece.len <= self.mapped as u64, "a piece behind the mapping");
        // SAFETY: the pages lie in our own mapping, which no reference leads to yet; `at` and `from`
        // are multiples of the page.
        let shown = unsafe {
            let at = self.start.as_ptr().add(piece.at as usize).cast();
            let flags = MapFlags::SHARED | MapFlags::FIXED;
            mmap(at, piece.len as usize, ProtFlags::READ, flags, file, piece.from)
        };
        shown.is_ok()
    }

    /// Copies a piece into reserved pages; false where the system refuses to make them writable.
    fn copy(&self, file: &File, piece: Piece, page: u64) -> Result<bool> {
        let (from, to) = (piece.at / page * page, (piece.at + piece.len).next_multiple_of(page));
        assert!(to <= self.mapped as u64, "a piece behind the mapping");
        let protect = |access| {
            // SAFETY: whole pages of our own mapping, which no reference leads to.
            unsafe {
                let at = self.start.as_ptr().add(from as usize).cast();
                mprotect(at, (to - from) as usize, access)
            }
            .is_ok()
        };
        if !protect(MprotectFlags::READ | MprotectFlags::WRITE) {
            return Ok(false);
        }
        // SAFETY: anonymous pages of our own mapping, writable by now, which no other reference leads
        // to; pages of the file come into it later, and into others, as a plan maps no byte that it
        // copies.
        let bytes = unsafe {
            let at = self.start.as_ptr().add(piece.at as usize);
            std::slice::from_raw_parts_mut(at, piece.len as usize)
        };
        file.read_exact_at(bytes, piece.from).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => super::beyond(piece.from),
            _ => StorageError::io("read the log", error),
        })?;
        Ok(protect(MprotectFlags::READ))
    }

    /// Unmaps all but a piece that could not be shown: the system may have unmapped what was there,
    /// and given the place to somebody else.
    fn unmap_around(self, piece: Piece) {
        let this = std::mem::ManuallyDrop::new(self);
        let end = (piece.at + piece.len) as usize;
        unmap(this.start, 0..piece.at as usize);
        unmap(this.start, end..this.mapped);
        PIECES.fetch_sub(this._pieces.0, Ordering::Relaxed);
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        unmap(self.start, 0..self.mapped);
    }
}

/// Unmaps a part of a mapping that its owner gives up.
fn unmap(start: NonNull<u8>, part: Range<usize>) {
    if part.is_empty() {
        return;
    }
    // SAFETY: only called by the owner of the mapping, once for each page, when it goes; slices of it
    // borrow from the owner.
    let unmapped = unsafe { munmap(start.as_ptr().add(part.start).cast(), part.len()) };
    debug_assert!(unmapped.is_ok(), "a mapping of our own");
}

/// Addresses of whole pages that nobody may touch yet.
fn reserved(len: usize) -> Option<NonNull<u8>> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address of the system's choice.
    let start = unsafe { mmap_anonymous(null_mut(), len, ProtFlags::empty(), flags) };
    start.ok().and_then(|start| NonNull::new(start.cast()))
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::*;

    /// Tests that take pieces, of which the process has but so many, take turns.
    fn alone() -> MutexGuard<'static, ()> {
        static TURN: Mutex<()> = Mutex::new(());
        TURN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What plans are made for here; a system with larger pages maps less.
    const PAGE: u64 = 4096;

    /// A file whose words tell where they lie.
    fn numbered(pages: u64) -> File {
        let file = tempfile::tempfile().expect("a file");
        let words: Vec<u8> = (0..pages * PAGE / 8).flat_map(u64::to_le_bytes).collect();
        file.write_all_at(&words, 0).expect("writes");
        file
    }

    fn bytes_of(ranges: &[Range<u64>], file: &File) -> Vec<u8> {
        let mut bytes = Vec::new();
        for range in ranges {
            let at = bytes.len();
            bytes.resize(at + (range.end - range.start) as usize, 0);
            file.read_exact_at(&mut bytes[at..], range.start).expect("reads");
        }
        bytes
    }

    #[test]
    fn ranges_stand_one_behind_the_other() {
        let _turn = alone();
        let file = numbered(400);
        let of = |ranges: &[Range<u64>]| {
            let joined = Joined::of(&file, ranges).expect("reads").expect("is worth it");
            assert_eq!(joined.bytes(), bytes_of(ranges, &file), "{ranges:?}");
        };
        let pages = |first: u64, count: u64| first * PAGE..(first + count) * PAGE;
        of(&[pages(3, 20), pages(40, 1), pages(30, 7)]);
        // The last one ends within a page, and with the file.
        of(&[pages(3, 20), 40 * PAGE..41 * PAGE + 64]);
        of(&[pages(3, 20), pages(399, 1)]);
        // A first one that lies anywhere is a copy, and what follows is not.
        of(&[192..640, pages(10, 60), pages(90, 30)]);
        // One that goes on where the one before ended in its page: the page that both share is a copy.
        of(&[pages(0, 100).start..100 * PAGE + 512, 200 * PAGE + 512..300 * PAGE]);
        of(&[64..100 * PAGE + 512, 200 * PAGE + 512..300 * PAGE + 1024]);
    }

    #[test]
    fn the_pages_are_those_of_the_file() {
        let _turn = alone();
        let file = numbered(64);
        let ranges = [2 * PAGE..12 * PAGE, 20 * PAGE..42 * PAGE];
        let joined = Joined::of(&file, &ranges).expect("reads").expect("is worth it");
        file.write_all_at(&[7; 8], 30 * PAGE).expect("writes");
        assert_eq!(joined.bytes()[20 * PAGE as usize..][..8], [7; 8]);
    }

    #[test]
    fn more_than_an_eighth_is_not_copied() {
        let _turn = alone();
        let file = numbered(64);
        let of = |ranges: &[Range<u64>]| Joined::of(&file, ranges).expect("reads").is_some();
        assert!(of(&[0..8 * PAGE, 20 * PAGE + 64..21 * PAGE + 64]));
        assert!(!of(&[0..6 * PAGE, 20 * PAGE + 64..21 * PAGE + 64]));
        assert!(!of(&[]));
        assert!(!of(&[0..64, 128..192]), "within one page");
    }

    #[test]
    fn a_file_that_ends_within_a_page_is_shown_to_its_end() {
        let _turn = alone();
        let file = numbered(20);
        file.set_len(19 * PAGE + 128).expect("cuts");
        let ranges = [0..8 * PAGE, 10 * PAGE..19 * PAGE + 128];
        let joined = Joined::of(&file, &ranges).expect("reads").expect("is worth it");
        assert_eq!(joined.bytes(), bytes_of(&ranges, &file));
    }

    #[test]
    fn what_is_copied_behind_the_end_of_the_file_is_damage() {
        let _turn = alone();
        let file = numbered(20);
        let ranges = [0..16 * PAGE, 40 * PAGE + 64..40 * PAGE + 128];
        let error = Joined::of(&file, &ranges).expect_err("behind the end");
        assert!(matches!(error, StorageError::Corrupt { .. }), "{error:?}");
    }

    #[test]
    fn a_process_has_no_more_than_so_many_pieces() {
        let _turn = alone();
        let file = numbered(128);
        let every_other: Vec<_> = (0..64).map(|i| 2 * i * PAGE..(2 * i + 1) * PAGE).collect();
        let join = || Joined::of(&file, &every_other).expect("reads");
        let joined: Vec<Joined> = std::iter::from_fn(join).take(1000).collect();
        assert_eq!(joined.len(), PIECES_MAX / 129);
        drop(joined);
        assert!(join().is_some(), "they were given back");
    }

    #[test]
    fn every_byte_is_mapped_or_copied_once() {
        let mut seed = 1_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..2_000 {
            let mut end = 0;
            let ranges: Vec<_> = (0..=random(5))
                .map(|_| {
                    let start = end + 64 * random(150);
                    end = start + 64 * (1 + random(400));
                    start..end
                })
                .collect();
            let plan = Plan::of(&ranges, PAGE);
            let wanted = ranges.iter().flat_map(Clone::clone);
            let mut shown = BTreeMap::new();
            for piece in plan.mapped.iter().chain(&plan.copied) {
                for byte in (0..piece.len).step_by(64) {
                    assert_eq!(shown.insert(piece.at + byte, piece.from + byte), None);
                }
            }
            assert!(plan.mapped.iter().all(|piece| {
                [piece.at, piece.from, piece.len].iter().all(|number| number % PAGE == 0)
            }));
            for (at, from) in (plan.shift..).zip(wanted).step_by(64) {
                assert_eq!(shown.get(&at), Some(&from), "{ranges:?}");
            }
        }
    }
}
