//! The choice of links: no link to a node that another link leads towards.
//!
//! The rule of relative neighbourhood graphs with a factor (Vamana: Subramanya et al. 2019).

use std::ops::Range;

use crate::IndexError;
use crate::hnsw::NO_NODE;
use crate::hnsw::build::leaves::{distance_of, entry, node_of};
use crate::hnsw::codes::{CodeKernels, Codes};
use crate::hnsw::workers::Workers;

/// A candidate is dropped when a kept one is nearer to it by this factor, of squared distances.
const FACTOR: f32 = 1.1;
/// The factors of the final choice, one pass each, until the degree is reached.
const FACTORS: [f32; 6] = [1.0, 1.1, 1.25, 1.5, 2.0, 3.0];
/// Links that lead to a node and are considered at its final choice, at most.
const INCOMING_MAX: usize = 128;
/// Candidates of the final choice at most.
const POOL_MAX: usize = 160;
/// Nodes that a worker takes at once.
const GRAIN: usize = 256;
/// Kept nodes that a candidate is compared with at once.
const COMPARED: usize = 8;

/// Memory of a worker.
struct PruneScratch {
    nodes: Vec<u32>,
    codes: Codes,
    distances: Vec<f32>,
    factors: Vec<f32>,
    pool: Vec<u64>,
}

impl PruneScratch {
    fn new(codes: &Codes) -> Self {
        let (nodes, codes) = (Vec::new(), codes.empty());
        Self { nodes, codes, distances: Vec::new(), factors: Vec::new(), pool: Vec::new() }
    }
}

/// The links of all nodes, `degree` each and padded with [`NO_NODE`].
///
/// Nodes are worked on in the `order` given, in which those that lie near each other should follow
/// each other: they have candidates in common, whose codes then are in the caches. The links are
/// the same in any order.
///
/// # Errors
///
/// [`IndexError::Cancelled`].
pub(super) fn links(
    codes: &Codes,
    kernels: CodeKernels,
    nearest: &[Vec<u64>],
    (degree, order): (usize, &[u32]),
    workers: &mut Workers<'_>,
    stages: [f32; 2],
) -> Result<Vec<u32>, IndexError> {
    let scratch = || PruneScratch::new(codes);
    workers.stage(stages[0]);
    let pieces = workers.map(codes.len(), GRAIN, scratch, |scratch, range| {
        let mut kept = Kept { entries: Vec::new(), ends: Vec::with_capacity(range.len()) };
        for &node in &order[range] {
            let nearest = &nearest[node as usize];
            prune(codes, kernels, nearest, degree, scratch, &mut kept.entries);
            kept.ends.push(kept.entries.len());
        }
        kept
    })?;
    let incoming = Incoming::new(order, &pieces);
    workers.stage(stages[1]);
    let chosen = workers.map(codes.len(), GRAIN, scratch, |scratch, range| {
        let mut links = Vec::with_capacity(range.len() * degree);
        for at in range {
            let (node, piece) = (order[at], &pieces[at / GRAIN]);
            let kept = &piece.entries[piece.range(at % GRAIN)];
            gather(codes, node, kept, &incoming, &nearest[node as usize], scratch);
            choose(codes, kernels, degree, scratch, &mut links);
        }
        links
    })?;
    let mut links = vec![NO_NODE; codes.len() * degree];
    let chosen = chosen.iter().flat_map(|piece| piece.chunks_exact(degree));
    for (&node, chosen) in order.iter().zip(chosen) {
        links[node as usize * degree..][..degree].copy_from_slice(chosen);
    }
    Ok(links)
}

/// What the nodes of one piece of work kept, side by side.
struct Kept {
    entries: Vec<u64>,
    ends: Vec<usize>,
}

impl Kept {
    fn range(&self, index: usize) -> Range<usize> {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[index]
    }
}

/// For every node the entries of the nodes that keep it, by the number of those.
struct Incoming {
    entries: Vec<u64>,
    ends: Vec<usize>,
}

impl Incoming {
    /// Of what nodes in this order kept, by the numbers of the nodes.
    fn new(order: &[u32], pieces: &[Kept]) -> Self {
        let mut ends = vec![0; order.len()];
        for &kept in pieces.iter().flat_map(|piece| &piece.entries) {
            ends[node_of(kept) as usize] += 1;
        }
        let mut sum = 0;
        for end in &mut ends {
            // For now the beginning; each entry that is placed moves it towards the end.
            (*end, sum) = (sum, sum + *end);
        }
        let mut entries = vec![0; sum];
        let mut places = vec![0; order.len()];
        order.iter().enumerate().for_each(|(at, &node)| places[node as usize] = at);
        for (node, at) in (0..).zip(places) {
            let piece = &pieces[at / GRAIN];
            for &to in &piece.entries[piece.range(at % GRAIN)] {
                let place = &mut ends[node_of(to) as usize];
                entries[*place] = entry(distance_of(to), node);
                *place += 1;
            }
        }
        Self { entries, ends }
    }

    fn of(&self, node: u32) -> &[u64] {
        let node = node as usize;
        let start = node.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.entries[start..self.ends[node]]
    }
}

/// Appends the candidates that no kept one is nearer to, nearest first.
fn prune(
    codes: &Codes,
    kernels: CodeKernels,
    candidates: &[u64],
    degree: usize,
    scratch: &mut PruneScratch,
    kept: &mut Vec<u64>,
) {
    let first = kept.len();
    let near = &mut scratch.codes;
    near.clear();
    for (index, &candidate) in candidates.iter().enumerate() {
        if let Some(&ahead) = candidates.get(index + 4) {
            codes.prefetch(node_of(ahead));
        }
        let code = codes.code(node_of(candidate) as usize);
        let occluded = (0..near.len()).step_by(COMPARED).any(|start| {
            let mut distances = [0.0; COMPARED];
            let distances = &mut distances[..COMPARED.min(near.len() - start)];
            near.distances(code, start, kernels, distances);
            distances.iter().any(|&between| FACTOR * between < distance_of(candidate))
        });
        if !occluded {
            near.push_code(code);
            kept.push(candidate);
            if kept.len() - first == degree {
                return;
            }
        }
    }
}

/// Fills the pool: what the node kept, what keeps it, and its nearest, in order.
fn gather(
    codes: &Codes,
    node: u32,
    kept: &[u64],
    incoming: &Incoming,
    nearest: &[u64],
    scratch: &mut PruneScratch,
) {
    let pool = &mut scratch.pool;
    pool.clear();
    pool.extend_from_slice(kept);
    let incoming = incoming.of(node);
    let step = incoming.len().div_ceil(INCOMING_MAX).max(1);
    pool.extend(incoming.iter().step_by(step));
    pool.sort_unstable();
    pool.dedup();
    pool.truncate(POOL_MAX);
    let room = POOL_MAX - pool.len();
    pool.extend(nearest.iter().take(room));
    pool.sort_unstable();
    pool.dedup();
    scratch.nodes.clear();
    scratch.nodes.extend(pool.iter().map(|&entry| node_of(entry)));
    scratch.codes.pick(codes, &scratch.nodes);
}

/// Appends the links chosen from the pool: by passes of growing factors, then the nearest.
fn choose(
    codes: &Codes,
    kernels: CodeKernels,
    degree: usize,
    scratch: &mut PruneScratch,
    links: &mut Vec<u32>,
) {
    debug_assert_eq!(codes.stride, scratch.codes.stride);
    let (pool, factors) = (&scratch.pool, &mut scratch.factors);
    let end = links.len() + degree;
    factors.clear();
    factors.resize(pool.len(), 0.0);
    scratch.distances.resize(pool.len(), 0.0);
    for limit in FACTORS {
        for index in 0..pool.len() {
            if factors[index].is_nan() || factors[index] > limit {
                continue;
            }
            links.push(node_of(pool[index]));
            if links.len() == end {
                return;
            }
            // Chosen: no pass takes it again.
            factors[index] = f32::NAN;
            let rest = index + 1..pool.len();
            let between = &mut scratch.distances[rest.clone()];
            scratch.codes.distances(scratch.codes.code(index), index + 1, kernels, between);
            for ((factor, &between), &entry) in
                factors[rest.clone()].iter_mut().zip(&*between).zip(&pool[rest])
            {
                let occlusion = distance_of(entry) / between.max(f32::MIN_POSITIVE);
                if occlusion > *factor {
                    *factor = occlusion;
                }
            }
        }
    }
    let left = pool.iter().zip(&*factors).filter(|(_, factor)| !factor.is_nan());
    links.extend(left.map(|(&entry, _)| node_of(entry)).take(end - links.len()));
    links.resize(end, NO_NODE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hnsw::build::leaves;
    use crate::random::Random;
    use crate::{Job, kernels};

    const NODES: u32 = 700;
    const DEGREE: usize = 32;

    #[test]
    fn links_are_the_same_in_any_order() -> Result<(), IndexError> {
        let (mut random, kernels) = (Random::new(3), CodeKernels::new(kernels()?));
        let mut codes = Codes::new(60, true);
        for node in 0..NODES {
            // Every tenth lies in the middle: more nodes keep these than are considered.
            let scale = if node % 10 == 0 { 1e-3 } else { 1.0 };
            let mut point = || scale * (random.below(2001) as f32 / 1000.0 - 1.0);
            codes.push(&[(); 60].map(|()| point()), 0.0, kernels);
        }
        let job = Job::with_threads(2);
        let mut workers = Workers::new(&job);
        let leaf = [(0..NODES).collect::<Vec<u32>>()];
        let nearest = leaves::nearest(&codes, kernels, &leaf, None, 100, &workers)?;
        let ascending = leaf[0].clone();
        let mut drawn = ascending.clone();
        random.draw(&mut drawn, NODES as usize);
        let mut of = |order: &[u32]| {
            links(&codes, kernels, &nearest, (DEGREE, order), &mut workers, [0.5, 1.0])
        };
        let expected = of(&ascending)?;
        assert!(expected == of(&drawn)?);
        let most =
            ascending.iter().map(|node| expected.iter().filter(|&link| link == node).count());
        assert!(
            most.max() > Some(INCOMING_MAX),
            "no node has so many links to it that some are passed over"
        );
        Ok(())
    }
}
