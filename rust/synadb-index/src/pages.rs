//! Memory for what is large and read all over.

use bytemuck::{cast_slice, cast_slice_mut};
use memmap2::MmapMut;

/// From so many bytes on memory is mapped: less has few pages of any size.
const MAPPED_MIN: usize = 8 << 20;

/// Bytes that are zero at first, on pages of 2 MiB where the system gives such to those that ask:
/// a build first touches each page, and then reads points from all over them.
#[derive(Debug)]
pub(crate) enum Pages {
    /// Anonymous memory, private to the process.
    Mapped(MmapMut),
    /// Words, so that numbers of any kind may lie there, and how many bytes of them.
    Plain(Vec<u64>, usize),
}

impl Pages {
    /// So many bytes of zero.
    pub(crate) fn zeroed(len: usize) -> Self {
        let map = (len >= MAPPED_MIN).then(|| MmapMut::map_anon(len).ok()).flatten();
        let Some(map) = map else {
            return Self::Plain(vec![0; len.div_ceil(size_of::<u64>())], len);
        };
        // Where there are none the memory is as good as any.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Self::Mapped(map)
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Plain(words, len) => &cast_slice(words)[..*len],
        }
    }
}

impl AsMut<[u8]> for Pages {
    fn as_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Plain(words, len) => &mut cast_slice_mut(words)[..*len],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zero_and_as_long_as_asked_for() {
        for len in [0, 1, MAPPED_MIN - 1, MAPPED_MIN, 3 * MAPPED_MIN + 5] {
            let mut pages = Pages::zeroed(len);
            assert_eq!(matches!(pages, Pages::Mapped(_)), len >= MAPPED_MIN);
            assert_eq!(pages.as_ref().len(), len);
            assert!(pages.as_ref().iter().all(|&byte| byte == 0));
            pages.as_mut().fill(7);
            assert!(pages.as_ref().iter().all(|&byte| byte == 7));
        }
    }
}
