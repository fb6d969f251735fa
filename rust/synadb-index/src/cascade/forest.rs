//! The buckets of all tables: binary trees whose leaves list nodes of the graph.

use crate::SharedBytes;
use crate::cascade::planes::{SIGNATURE_WORDS, Signature};

/// A side of a hyperplane on which no node lies.
pub(super) const NOTHING: u32 = u32::MAX;
/// What marks the number of a bucket among branches.
const BUCKET: u32 = 1 << 31;
/// Bytes of a signature.
pub(super) const SIGNATURE_BYTES: usize = 8 * SIGNATURE_WORDS;

/// Where a branch leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Branch {
    Nothing,
    Split(usize),
    Bucket(usize),
}

impl Branch {
    pub(super) fn decode(branch: u32) -> Self {
        match branch {
            NOTHING => Self::Nothing,
            bucket if bucket & BUCKET != 0 => Self::Bucket((bucket & !BUCKET) as usize),
            split => Self::Split(split as usize),
        }
    }

    pub(super) fn encode(self) -> u32 {
        match self {
            Self::Nothing => NOTHING,
            Self::Split(split) => split as u32,
            Self::Bucket(bucket) => bucket as u32 | BUCKET,
        }
    }

    /// The branch when `splits` and `buckets` come before its tree.
    pub(super) fn moved(self, splits: usize, buckets: usize) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Split(split) => Self::Split(split + splits),
            Self::Bucket(bucket) => Self::Bucket(bucket + buckets),
        }
    }
}

/// A bucket that was split by the hyperplane of its level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Split {
    /// Points below this distance from the hyperplane go to the first branch.
    pub(super) threshold: f32,
    pub(super) branches: [Branch; 2],
}

/// The buckets of all tables.
#[derive(Clone)]
pub(super) struct Forest {
    /// The tree of each table.
    pub(super) roots: Vec<Branch>,
    /// A split stands behind the one that leads to it.
    pub(super) splits: Vec<Split>,
    /// Where the entries of each bucket begin, and the end of the last.
    pub(super) starts: Vec<u32>,
    /// Nodes of the graph, `u32` each, bucket behind bucket.
    pub(super) entries: SharedBytes,
    /// Signatures by node.
    pub(super) signatures: SharedBytes,
}

impl std::fmt::Debug for Forest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (tables, buckets) = (self.roots.len(), self.buckets());
        write!(formatter, "{tables} tables of {buckets} buckets together")
    }
}

impl Forest {
    pub(super) fn buckets(&self) -> usize {
        self.starts.len() - 1
    }

    /// The nodes of a bucket, as bytes; the bucket is one that there is.
    pub(super) fn bucket(&self, bucket: usize) -> &[[u8; 4]] {
        let entries = (*self.entries).as_ref().as_chunks().0;
        &entries[self.starts[bucket] as usize..self.starts[bucket + 1] as usize]
    }

    /// The signatures of all nodes, as bytes.
    pub(super) fn signatures(&self) -> &[[u8; SIGNATURE_BYTES]] {
        (*self.signatures).as_ref().as_chunks().0
    }

    /// Bytes of trees, lists and signatures.
    pub(super) fn memory_bytes(&self) -> usize {
        let lists = (*self.entries).as_ref().len() + (*self.signatures).as_ref().len();
        lists + size_of_val(&*self.splits) + size_of_val(&*self.starts)
    }
}

pub(super) fn signature_of(bytes: &[u8; SIGNATURE_BYTES]) -> Signature {
    let mut signature = [0; SIGNATURE_WORDS];
    for (word, &bytes) in signature.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(bytes);
    }
    signature
}
