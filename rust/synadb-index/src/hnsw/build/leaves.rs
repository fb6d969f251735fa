//! The nearest nodes of every node, from all pairs within each leaf.

use std::sync::Mutex;

use crate::IndexError;
use crate::hnsw::codes::{CodeKernels, Codes};
use crate::hnsw::workers::Workers;

/// Bytes of codes that stay in the innermost cache while the nodes of a leaf pass by.
const BLOCK_BYTES: usize = 24 << 10;
/// Entries that a list takes beyond its size before it is cut down.
const SLACK: usize = 64;
/// Rows and columns of a tile of the matrix of a leaf.
const TILE: usize = 16;
/// Distances compared with the limit at once.
const SELECT_CHUNK: usize = 16;

/// A node with its distance: ordered by distance, then by number.
///
/// Distances are not negative, so that their bits are in the order of their values.
pub(super) fn entry(distance: f32, node: u32) -> u64 {
    u64::from(distance.to_bits()) << 32 | u64::from(node)
}

pub(super) fn node_of(entry: u64) -> u32 {
    entry as u32
}

pub(super) fn distance_of(entry: u64) -> f32 {
    f32::from_bits((entry >> 32) as u32)
}

/// Appends the entries that are known of a node beforehand.
pub(super) type Known<'a> = &'a dyn Fn(u32, &mut Vec<u64>);

/// The nearest distinct nodes that were offered; the same in whatever order they come.
struct Nearest {
    entries: Vec<u64>,
    /// Nodes at this distance or farther are refused.
    limit: f32,
}

impl Nearest {
    fn offer(&mut self, distances: &[f32], nodes: &[u32], keep: usize) {
        let chunks = distances.chunks(SELECT_CHUNK).zip(nodes.chunks(SELECT_CHUNK));
        for (distances, nodes) in chunks {
            let limit = self.limit;
            if distances.iter().fold(true, |beyond, &distance| beyond & (distance > limit)) {
                continue;
            }
            for (&distance, &node) in distances.iter().zip(nodes) {
                if distance <= self.limit {
                    self.entries.push(entry(distance, node));
                    if self.entries.len() >= keep + SLACK {
                        self.cut(keep);
                    }
                }
            }
        }
    }

    fn cut(&mut self, keep: usize) {
        self.entries.sort_unstable();
        self.entries.dedup();
        self.entries.truncate(keep);
        if self.entries.len() == keep {
            self.limit = self.entries.last().map_or(self.limit, |&last| distance_of(last));
        }
    }
}

/// Memory of a worker.
struct LeafScratch {
    codes: Codes,
    distances: Vec<f32>,
}

/// The `keep` nearest nodes of every node among those that share a leaf with it or are given in
/// `known`, in order, as entries.
///
/// # Errors
///
/// [`IndexError::Cancelled`].
pub(super) fn nearest(
    codes: &Codes,
    kernels: CodeKernels,
    leaves: &[Vec<u32>],
    known: Option<Known<'_>>,
    keep: usize,
    workers: &Workers<'_>,
) -> Result<Vec<Vec<u64>>, IndexError> {
    let list = |node| {
        let mut entries = Vec::new();
        if let Some(known) = known {
            known(node, &mut entries);
        }
        Mutex::new(Nearest { entries, limit: f32::INFINITY })
    };
    let lists: Vec<_> = (0..codes.len() as u32).map(list).collect();
    let scratch = || LeafScratch { codes: codes.empty(), distances: Vec::new() };
    workers.map(leaves.len(), 1, scratch, |scratch, range| {
        for leaf in &leaves[range] {
            pairs_of_leaf(codes, kernels, leaf, &lists, keep, scratch);
        }
    })?;
    let finish = |list: Mutex<Nearest>| {
        let mut list = list.into_inner().expect("no worker panicked");
        list.cut(keep);
        list.entries.shrink_to_fit();
        list.entries
    };
    Ok(lists.into_iter().map(finish).collect())
}

fn pairs_of_leaf(
    codes: &Codes,
    kernels: CodeKernels,
    leaf: &[u32],
    lists: &[Mutex<Nearest>],
    keep: usize,
    scratch: &mut LeafScratch,
) {
    let count = leaf.len();
    scratch.codes.pick(codes, leaf);
    scratch.distances.resize(count * count, 0.0);
    let block = (BLOCK_BYTES / codes.code_bytes().max(1)).clamp(16, 512);
    for first in (0..count).step_by(block) {
        let end = count.min(first + block);
        for node in 0..end {
            let from = first.max(node + 1);
            let out = &mut scratch.distances[node * count..][from..end.max(from)];
            scratch.codes.distances(scratch.codes.code(node), from, kernels, out);
        }
    }
    mirror(&mut scratch.distances, count);
    for (index, &node) in leaf.iter().enumerate() {
        let distances = &mut scratch.distances[index * count..][..count];
        // A node is not its own neighbour.
        distances[index] = f32::INFINITY;
        let mut list = lists[node as usize].lock().expect("no worker panicked");
        if list.limit.is_infinite() {
            let (before, after) = (0..index, index + 1..count);
            list.offer(&distances[before.clone()], &leaf[before], keep);
            list.offer(&distances[after.clone()], &leaf[after], keep);
        } else {
            list.offer(distances, leaf, keep);
        }
    }
}

/// Completes a square matrix of which the part above the diagonal is given. In tiles, since a
/// column of a large matrix does not stay in the innermost cache.
fn mirror(matrix: &mut [f32], count: usize) {
    for rows in (0..count).step_by(TILE) {
        for columns in (0..=rows).step_by(TILE) {
            for row in rows..count.min(rows + TILE) {
                for column in columns..row.min(columns + TILE) {
                    matrix[row * count + column] = matrix[column * count + row];
                }
            }
        }
    }
}
