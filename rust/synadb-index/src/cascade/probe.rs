//! The buckets that a query is likely to find its neighbours in, and the most likely of their
//! nodes.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::cascade::config::Shape;
use crate::cascade::forest::{Branch, Forest, signature_of};
use crate::cascade::planes::{SIGNATURE_BITS, Signature, hamming};
use crate::distance::prefetch_bytes;
use crate::hnsw::search::pool::Seen;

/// Nodes whose signatures are on their way while one is compared.
const AHEAD: usize = 12;

/// A part of a tree that a search may still enter.
#[derive(Debug, Clone, Copy)]
struct Door {
    /// Squared distance of the query from the hyperplanes that it would have to cross.
    penalty: f32,
    table: u32,
    level: u32,
    branch: Branch,
}

impl Door {
    /// The order in which doors were made is that of the fields: two of one penalty come in the
    /// same order in every run.
    fn order(&self) -> (u32, u32, u32) {
        (self.table, self.level, self.branch.encode())
    }
}

impl Ord for Door {
    /// The smallest penalty is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.penalty.total_cmp(&self.penalty).then_with(|| other.order().cmp(&self.order()))
    }
}

impl PartialOrd for Door {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Door {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Door {}

/// Memory of the look into the buckets.
#[derive(Debug, Default)]
pub(super) struct ProbeScratch {
    doors: BinaryHeap<Door>,
    seen: Seen,
    /// Nodes met, with the bits by which their signatures differ from the query's.
    found: Vec<(u32, u32)>,
}

/// A look into the buckets.
pub(super) struct Probe<'a> {
    pub(super) forest: &'a Forest,
    pub(super) shape: Shape,
    /// Distances of the query from all hyperplanes.
    pub(super) projections: &'a [f32],
    pub(super) signature: Signature,
}

impl Probe<'_> {
    /// Appends the `wanted` nodes of `probes` buckets whose signatures are most like the query's.
    ///
    /// Buckets come in the order of the squared distances from the hyperplanes between them and
    /// the query: query-directed multi-probe (Lv et al. 2007), over all tables at once. A bucket
    /// that could not be split gives as many of its nodes as would have split it.
    pub(super) fn seeds(
        &self,
        probes: usize,
        wanted: usize,
        scratch: &mut ProbeScratch,
        out: &mut Vec<u32>,
    ) {
        let ProbeScratch { doors, seen, found, .. } = scratch;
        doors.clear();
        found.clear();
        seen.reset(self.forest.signatures().len());
        doors.extend((0..).zip(&self.forest.roots).map(|(table, &branch)| Door {
            penalty: 0.0,
            table,
            level: 0,
            branch,
        }));
        let mut left = probes;
        while left > 0
            && let Some(door) = doors.pop()
        {
            if let Some(bucket) = self.enter(door, doors) {
                self.look(bucket, seen, found);
                left -= 1;
            }
        }
        nearest(found, wanted, out);
    }

    /// Goes on from a door to the bucket on the query's sides, and notes the doors passed.
    fn enter(&self, door: Door, doors: &mut BinaryHeap<Door>) -> Option<usize> {
        let Door { penalty, table, mut level, mut branch } = door;
        loop {
            let split = match branch {
                Branch::Nothing => return None,
                Branch::Bucket(bucket) => return Some(bucket),
                Branch::Split(split) => self.forest.splits.get(split)?,
            };
            let plane = self.shape.plane(table as usize, level as usize);
            let margin = self.projections.get(plane)? - split.threshold;
            level += 1;
            let [below, above] = split.branches;
            let (near, far) = if margin < 0.0 { (below, above) } else { (above, below) };
            if far != Branch::Nothing {
                let penalty = penalty + margin * margin;
                doors.push(Door { penalty, table, level, branch: far });
            }
            branch = near;
        }
    }

    fn look(&self, bucket: usize, seen: &mut Seen, found: &mut Vec<(u32, u32)>) {
        let signatures = self.forest.signatures();
        let entries = self.forest.bucket(bucket);
        let step = entries.len().div_ceil(self.shape.split_above).max(1);
        for (at, &entry) in entries.iter().enumerate().step_by(step) {
            if let Some(&ahead) = entries.get(at + AHEAD * step)
                && let Some(bytes) = signatures.get(u32::from_le_bytes(ahead) as usize)
            {
                prefetch_bytes(bytes);
            }
            let node = u32::from_le_bytes(entry);
            // A damaged section may name any node.
            let Some(bytes) = signatures.get(node as usize) else { continue };
            if seen.insert(node) {
                found.push((hamming(signature_of(bytes), self.signature), node));
            }
        }
    }
}

/// Appends the nodes with the fewest bits of difference; among equals those met first.
fn nearest(found: &[(u32, u32)], wanted: usize, out: &mut Vec<u32>) {
    let mut counts = [0_usize; SIGNATURE_BITS + 1];
    for &(bits, _) in found {
        counts[bits as usize] += 1;
    }
    let (mut below, mut limit) = (0, 0);
    while limit < SIGNATURE_BITS && below + counts[limit] <= wanted {
        below += counts[limit];
        limit += 1;
    }
    let mut ties = wanted - below;
    for &(bits, node) in found {
        let is_tie = bits as usize == limit;
        if (bits as usize) < limit || (is_tie && ties > 0) {
            ties -= usize::from(is_tie);
            out.push(node);
        }
    }
}
