//! Every node is reached from the entry points.

use crate::hnsw::NO_NODE;
use crate::hnsw::build::leaves::node_of;

/// Rounds of repair; what is not reached then gets entry points of its own.
const ROUNDS_MAX: usize = 8;

/// Replaces links until every node is reached, and returns further entry points: one for each
/// island that no node beside it leads to, as where more rows are alike than a node has candidates.
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
        let missing = (0..count).filter(|&node| !reached[node]);
        let mut repaired = false;
        for node in missing {
            let near = nearest[node].iter().map(|&entry| node_of(entry) as usize);
            let mut near = near.filter(|&near| reached[near]);
            let Some(from) = near.find(|&near| usize::from(replaced[near]) < degree / 2) else {
                continue;
            };
            replaced[from] += 1;
            links[(from + 1) * degree - usize::from(replaced[from])] = node as u32;
            repaired = true;
        }
        if !repaired {
            break;
        }
    }
    let mut reached = reached(links, degree, entries);
    let mut islands = Vec::new();
    for node in 0..count as u32 {
        if !reached[node as usize] {
            islands.push(node);
            spread(links, degree, node, &mut reached);
        }
    }
    islands
}

fn reached(links: &[u32], degree: usize, entries: &[u32]) -> Vec<bool> {
    let mut reached = vec![false; links.len() / degree];
    entries.iter().for_each(|&entry| spread(links, degree, entry, &mut reached));
    reached
}

/// Marks what is reached from a node.
fn spread(links: &[u32], degree: usize, from: u32, reached: &mut [bool]) {
    reached[from as usize] = true;
    let mut stack = vec![from];
    while let Some(node) = stack.pop() {
        for &next in &links[node as usize * degree..][..degree] {
            if next != NO_NODE && !reached[next as usize] {
                reached[next as usize] = true;
                stack.push(next);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hnsw::build::leaves::entry;

    const DEGREE: usize = 4;

    fn links(of: &[&[u32]]) -> Vec<u32> {
        let padded = |links: &&[u32]| {
            let mut links = links.to_vec();
            links.resize(DEGREE, NO_NODE);
            links
        };
        of.iter().flat_map(padded).collect()
    }

    #[test]
    fn a_node_that_nothing_leads_to_gets_a_link_from_a_near_one() {
        let mut links = links(&[&[1], &[0], &[0, 1]]);
        let nearest = [vec![], vec![], vec![entry(1.0, 1), entry(2.0, 0)]];
        assert_eq!(repair(&mut links, DEGREE, &nearest, &[0]), []);
        assert!(links[DEGREE..2 * DEGREE].contains(&2), "{links:?}");
        assert!(links[DEGREE..2 * DEGREE].contains(&0), "{links:?}");
    }

    #[test]
    fn an_island_gets_one_entry_point() {
        let mut links = links(&[&[], &[2], &[3], &[1], &[5], &[4]]);
        let near = |node| vec![entry(1.0, node)];
        let nearest = [vec![], near(2), near(3), near(1), near(5), near(4)];
        assert_eq!(repair(&mut links, DEGREE, &nearest, &[0]), [1, 4]);
    }
}
