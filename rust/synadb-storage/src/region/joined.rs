//! Pieces of a file that memory shows one behind the other; see `docs/safety.md`, "Mapped memory".
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::ptr::{NonNull, null_mut};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous, mprotect, munmap};
use rustix::param::page_size;

/// Pieces of one joined memory: a process may have 65,530 mappings on Linux, for all it does.
const PIECES_MAX: usize = 4096;
/// Of so many bytes at most one is a copy.
const BYTES_PER_COPIED: u64 = 16;

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
}

// SAFETY: the memory belongs to this value alone until it is dropped, and nobody writes to it once
// `Joined::of` has returned.
unsafe impl Send for Joined {}
// SAFETY: as for `Send`.
unsafe impl Sync for Joined {}

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
        self.mapped.len() <= PIECES_MAX && copied * BYTES_PER_COPIED <= self.len
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
    /// Ranges of `file`, all inside of it; `None` where more than a sixteenth would be a copy, where
    /// there would be too many pieces, or where the system grants no such mappings.
    pub(super) fn of(file: &File, ranges: &[Range<u64>]) -> io::Result<Option<Self>> {
        let plan = Plan::of(ranges, page_size() as u64);
        if plan.len == 0 || !plan.is_worth_it() {
            return Ok(None);
        }
        let mapped = (plan.shift + plan.len).next_multiple_of(page_size() as u64) as usize;
        let Some(start) = anonymous(mapped) else { return Ok(None) };
        let joined = Self { start, mapped, shift: plan.shift as usize, len: plan.len as usize };
        for piece in &plan.mapped {
            if !joined.show(file, *piece) {
                return Ok(None);
            }
        }
        for piece in &plan.copied {
            joined.copy(file, *piece)?;
        }
        Ok(joined.protect().then_some(joined))
    }

    /// The ranges.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `shift + len` bytes from `start` on are mapped until `self` is dropped: pages of
        // the file that were inside of it, whose bytes are published and so never change, and
        // anonymous ones that nobody has written to since `of` returned.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(self.shift), self.len) }
    }

    /// Puts pages of the file in the place of anonymous ones; false where the system refuses.
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

    fn copy(&self, file: &File, piece: Piece) -> io::Result<()> {
        assert!(piece.at + piece.len <= self.mapped as u64, "a piece behind the mapping");
        // SAFETY: bytes of anonymous pages of our own mapping, which no other reference leads to;
        // the pages of `show` are others, as a plan maps no byte that it copies.
        let bytes = unsafe {
            let at = self.start.as_ptr().add(piece.at as usize);
            std::slice::from_raw_parts_mut(at, piece.len as usize)
        };
        file.read_exact_at(bytes, piece.from)
    }

    /// Lets nobody write to it; false where the system refuses.
    fn protect(&self) -> bool {
        // SAFETY: our own mapping, which no reference leads to.
        unsafe { mprotect(self.start.as_ptr().cast(), self.mapped, MprotectFlags::READ) }.is_ok()
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        // SAFETY: mapped by `anonymous`, with these bytes; slices of it borrow from `self`.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.mapped) };
        debug_assert!(unmapped.is_ok(), "a mapping of our own");
    }
}

/// Zeroed memory of whole pages.
fn anonymous(len: usize) -> Option<NonNull<u8>> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address of the system's choice.
    let start = unsafe { mmap_anonymous(null_mut(), len, access, flags) };
    start.ok().and_then(|start| NonNull::new(start.cast()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let file = numbered(400);
        let of = |ranges: &[Range<u64>]| {
            let joined = Joined::of(&file, ranges).expect("reads").expect("is worth it");
            assert_eq!(joined.bytes(), bytes_of(ranges, &file), "{ranges:?}");
        };
        let pages = |first: u64, count: u64| first * PAGE..(first + count) * PAGE;
        of(&[pages(3, 20), pages(40, 1), pages(30, 7)]);
        // The last one ends within a page, and at the end of the file.
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
        let file = numbered(64);
        let ranges = [2 * PAGE..12 * PAGE, 20 * PAGE..42 * PAGE];
        let joined = Joined::of(&file, &ranges).expect("reads").expect("is worth it");
        file.write_all_at(&[7; 8], 30 * PAGE).expect("writes");
        assert_eq!(joined.bytes()[20 * PAGE as usize..][..8], [7; 8]);
    }

    #[test]
    fn more_than_a_sixteenth_is_not_copied() {
        let file = numbered(64);
        let of = |ranges: &[Range<u64>]| Joined::of(&file, ranges).expect("reads").is_some();
        assert!(of(&[0..16 * PAGE, 20 * PAGE + 64..21 * PAGE + 64]));
        assert!(!of(&[0..14 * PAGE, 20 * PAGE + 64..21 * PAGE + 64]));
        assert!(!of(&[]));
        assert!(!of(&[0..64, 128..192]), "within one page");
    }

    #[test]
    fn too_many_pieces_are_not_mapped() {
        let every_other = |count: u64| (0..count).map(|i| 2 * i * PAGE..(2 * i + 1) * PAGE);
        let plan = |count| Plan::of(&every_other(count).collect::<Vec<_>>(), PAGE);
        assert!(plan(PIECES_MAX as u64).is_worth_it());
        assert!(!plan(PIECES_MAX as u64 + 1).is_worth_it());
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
