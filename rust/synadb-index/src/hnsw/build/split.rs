//! The division of the nodes into overlapping leaves, after `PiPNN` (arXiv 2602.21247): each node
//! joins the leaves of its nearest leaders, which are sampled anew at every level.

use crate::IndexError;
use crate::hnsw::codes::{CodeKernels, Codes};
use crate::hnsw::workers::Workers;
use crate::random::{Random, mix};

/// Nodes of a leaf at most.
const LEAF_MAX: usize = 512;
/// Nodes that a leaf has on average.
const LEAF_MEAN: usize = 256;
/// Leaders of one level at most, so that the cost of a level is linear.
const LEADERS_MAX: usize = 256;
/// Levels after which a group is cut where it stands: its nodes are too alike to be divided.
const DEPTH_MAX: usize = 12;
/// Nodes that a worker takes at once.
const GRAIN: usize = 512;
/// Nodes that are compared with a piece of the leaders at once.
const TILE: usize = 16;
/// Bytes of codes of a piece, which stays in the innermost cache, and its leaders at least and at most.
const PIECE_BYTES: usize = 24 << 10;
const PIECE: [usize; 2] = [16, 64];

/// The leaves of all nodes. A node joins as many leaders as `fan` says for the first two levels,
/// and one from then on.
///
/// # Errors
///
/// [`IndexError::Cancelled`].
pub(super) fn split(
    codes: &Codes,
    kernels: CodeKernels,
    fan: [usize; 2],
    seed: u64,
    workers: &Workers<'_>,
) -> Result<Vec<Vec<u32>>, IndexError> {
    let all: Vec<u32> = (0..codes.len() as u32).collect();
    if all.len() <= LEAF_MAX {
        return Ok(vec![all]);
    }
    let leaders = leaders(codes, &all, fan[1], seed);
    let pieces = workers.map(all.len(), GRAIN, Vec::new, |distances, range| {
        let mut pairs = Vec::with_capacity(range.len() * fan[0]);
        let take = |node, leader| pairs.push((leader as u32, node));
        nearest_leaders(codes, &all[range], &leaders, fan[0], kernels, distances, take);
        pairs
    })?;
    let mut groups = vec![Vec::new(); leaders.len()];
    for (leader, node) in pieces.into_iter().flatten() {
        groups[leader as usize].push(node);
    }
    let leaves = workers.map(
        groups.len(),
        1,
        || (),
        |(), range| {
            let mut divide = Divide { codes, kernels, fan: fan[1], leaves: Vec::new() };
            for index in range {
                divide.run(groups[index].clone(), mix(seed ^ (index as u64 + 1)), 1);
            }
            divide.leaves
        },
    )?;
    Ok(leaves.into_iter().flatten().collect())
}

/// All of so many nodes, each in the place of the first leaf that it is in.
pub(super) fn order(leaves: &[Vec<u32>], count: usize) -> Vec<u32> {
    let (mut seen, mut order) = (vec![false; count], Vec::with_capacity(count));
    for &node in leaves.iter().flatten() {
        if !std::mem::replace(&mut seen[node as usize], true) {
            order.push(node);
        }
    }
    assert_eq!(order.len(), count, "every node is in a leaf");
    order
}

/// The division of a group of the first level.
struct Divide<'a> {
    codes: &'a Codes,
    kernels: CodeKernels,
    /// Leaders that a node joins at the second level.
    fan: usize,
    leaves: Vec<Vec<u32>>,
}

impl Divide<'_> {
    /// Divides a group until every piece is a leaf.
    fn run(&mut self, group: Vec<u32>, seed: u64, depth: usize) {
        if group.len() <= LEAF_MAX {
            self.leaves.push(group);
            return;
        }
        if depth >= DEPTH_MAX {
            self.leaves.extend(group.chunks(LEAF_MAX).map(<[u32]>::to_vec));
            return;
        }
        let fan = if depth == 1 { self.fan } else { 1 };
        let leaders = leaders(self.codes, &group, fan, seed);
        let mut pieces = vec![Vec::new(); leaders.len()];
        let (codes, kernels) = (self.codes, self.kernels);
        let take = |node, leader: usize| pieces[leader].push(node);
        nearest_leaders(codes, &group, &leaders, fan, kernels, &mut Vec::new(), take);
        drop(group);
        for (index, piece) in pieces.into_iter().enumerate() {
            self.run(piece, mix(seed ^ (index as u64 + 1)), depth + 1);
        }
    }
}

/// Samples the leaders of a group.
fn leaders(codes: &Codes, group: &[u32], fan: usize, seed: u64) -> Codes {
    let mut sample = group.to_vec();
    let count = (group.len() * fan / LEAF_MEAN).clamp(2, LEADERS_MAX);
    Random::new(seed).draw(&mut sample, count);
    sample.truncate(count);
    let mut leaders = codes.empty();
    leaders.pick(codes, &sample);
    leaders
}

/// Calls `take` with each node and the position of each of the leaders that are nearest to it. The
/// leaders pass by in pieces that stay in the innermost cache for all of a few nodes.
fn nearest_leaders(
    codes: &Codes,
    nodes: &[u32],
    leaders: &Codes,
    fan: usize,
    kernels: CodeKernels,
    distances: &mut Vec<f32>,
    mut take: impl FnMut(u32, usize),
) {
    let (count, [least, most]) = (leaders.len(), PIECE);
    let piece = (PIECE_BYTES / codes.code_bytes().max(1)).clamp(least, most);
    for nodes in nodes.chunks(TILE) {
        nodes.iter().for_each(|&node| codes.prefetch(node));
        distances.resize(nodes.len() * count, 0.0);
        for first in (0..count).step_by(piece) {
            let end = count.min(first + piece);
            for (&node, distances) in nodes.iter().zip(distances.chunks_exact_mut(count)) {
                let code = codes.code(node as usize);
                leaders.distances(code, first, kernels, &mut distances[first..end]);
            }
        }
        for (&node, distances) in nodes.iter().zip(distances.chunks_exact(count)) {
            nearest(distances, fan, |leader| take(node, leader));
        }
    }
}

/// Calls `take` with the positions of the smallest distances.
fn nearest(distances: &[f32], fan: usize, mut take: impl FnMut(usize)) {
    let mut nearest = [(f32::INFINITY, usize::MAX); 8];
    let nearest = &mut nearest[..fan.min(distances.len())];
    for (leader, &distance) in distances.iter().enumerate() {
        let last = nearest.len() - 1;
        if distance >= nearest[last].0 && nearest[last].1 != usize::MAX {
            continue;
        }
        let mut place = last;
        while place > 0 && (distance < nearest[place - 1].0 || nearest[place - 1].1 == usize::MAX) {
            nearest[place] = nearest[place - 1];
            place -= 1;
        }
        nearest[place] = (distance, leader);
    }
    nearest.iter().for_each(|&(_, leader)| take(leader));
}
