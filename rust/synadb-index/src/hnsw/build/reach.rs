//! Every node is reached from the entry points.

use crate::hnsw::NO_NODE;
use crate::hnsw::build::leaves::node_of;

/// Rounds of repair; nodes that are not reached then become entry points themselves.
const ROUNDS_MAX: usize = 8;

/// Replaces links until every node is reached, and returns the nodes that are not even so.
pub(super) fn repair(
    links: &mut [u32],
    degree: usize,
    nearest: &[Vec<u64>],
    entries: &[u32],
) -> Vec<u32> {
    let count = links.len() / degree;
    // Links of a node that were replaced, the last ones: they are not replaced again.
    let mut replaced = vec![0_u8; count];
    for _ in 0..ROUNDS_MAX {
        let reached = reached(links, degree, entries);
        let mut missing = (0..count as u32).filter(|&node| !reached[node as usize]).peekable();
        if missing.peek().is_none() {
            return Vec::new();
        }
        for node in missing {
            let near = nearest[node as usize].iter().map(|&entry| node_of(entry) as usize);
            let mut near = near.filter(|&near| reached[near]);
            let Some(from) = near.find(|&near| usize::from(replaced[near]) < degree / 2) else {
                continue;
            };
            replaced[from] += 1;
            links[(from + 1) * degree - usize::from(replaced[from])] = node;
        }
    }
    let reached = reached(links, degree, entries);
    (0..count as u32).filter(|&node| !reached[node as usize]).collect()
}

fn reached(links: &[u32], degree: usize, entries: &[u32]) -> Vec<bool> {
    let mut reached = vec![false; links.len() / degree];
    let mut stack = entries.to_vec();
    for &entry in entries {
        reached[entry as usize] = true;
    }
    while let Some(node) = stack.pop() {
        for &next in &links[node as usize * degree..][..degree] {
            if next != NO_NODE && !reached[next as usize] {
                reached[next as usize] = true;
                stack.push(next);
            }
        }
    }
    reached
}
