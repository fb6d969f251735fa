//! The nodes and links of a graph in memory, for those that look into it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use synadb_index::VectorSource;
use synadb_types::{RowId, RowSet};

use super::graph::HnswIndex;

/// A vector of the graph with its links, as it was when it was asked for.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HnswNode {
    /// Key of the vector.
    pub key: String,
    /// The vector.
    pub vector: Vec<f32>,
    /// Per layer, of which there is one, the nodes that it leads to with their distances from it, its
    /// equals among them. Empty where the vector came after the graph was built.
    pub neighbors: Vec<Vec<(usize, f32)>>,
}

impl HnswNode {
    /// The highest layer of the node: there is one.
    #[must_use]
    pub fn level(&self) -> usize {
        0
    }
}

/// A distance, for a queue.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Found(f32, usize);

impl Eq for Found {}

impl Ord for Found {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Nodes are numbered in the order in which vectors came; an inserted key gets the next number. A
/// number is good until the index changes. The graph has one layer, 0, with all nodes. Each vector is
/// one here; in the graph equal ones share a node, which is what [`HnswIndex::stats`] counts.
impl HnswIndex {
    /// A node that searches begin from; none where there is no vector.
    #[must_use]
    pub fn entry_point(&self) -> Option<usize> {
        let rows = &self.vectors.rows;
        let entries = self.vectors.part.iter().flat_map(synadb_index::HnswIndex::entry_rows);
        let mut live = entries.chain(rows.live().iter()).filter(|&row| rows.is_live(row));
        live.next().map(|row| row.0 as usize)
    }

    /// The highest layer: there is one.
    #[must_use]
    pub fn max_level(&self) -> usize {
        0
    }

    /// Kept for callers of the original. There is one layer whatever is set.
    pub fn set_max_level(&mut self, _level: usize) {}

    /// The layer that a new node is put on: there is one.
    pub fn random_level(&mut self) -> usize {
        0
    }

    /// The nodes of a layer.
    #[must_use]
    pub fn nodes_at_level(&self, level: usize) -> Vec<usize> {
        let live = self.vectors.rows.live().iter().filter(|_| level == 0);
        live.map(|row| row.0 as usize).collect()
    }

    /// The node of a key.
    #[must_use]
    pub fn get_node_id(&self, key: &str) -> Option<usize> {
        self.vectors.rows.row(key).map(|row| row.0 as usize)
    }

    /// A copy of a node, and its distances from those that it leads to. O(degree x dimensions).
    #[must_use]
    pub fn get_node(&self, node: usize) -> Option<HnswNode> {
        let row = self.live_row(node)?;
        let vector = self.vectors.rows.vector(row)?.to_vec();
        let neighbors = self.leads_to(row);
        let neighbors = neighbors.map(|next| (next, self.distance_to_node(&vector, next)));
        let neighbors = vec![neighbors.collect()];
        Some(HnswNode { key: self.vectors.rows.key(row).to_owned(), vector, neighbors })
    }

    /// The distance of a vector from a node.
    ///
    /// # Panics
    /// For a vector of another length, and where there is no such node.
    #[must_use]
    pub fn distance_to_node(&self, vector: &[f32], node: usize) -> f32 {
        assert_eq!(vector.len(), usize::from(self.dimensions()), "a vector has all dimensions");
        let row = self.live_row(node).and_then(|row| self.vectors.rows.vector(row));
        self.metric().distance(vector, row.expect("the node is there"))
    }

    /// The nodes that a walk from one finds with a queue of `ef`, nearest first, by the vectors
    /// themselves; none on another layer than 0. [`HnswIndex::search_with_ef`] is what finds the
    /// nearest: it has many entry points, compares codes, and knows vectors that came later.
    ///
    /// # Panics
    /// As [`HnswIndex::distance_to_node`].
    #[must_use]
    pub fn search_layer(
        &self,
        query: &[f32],
        entry: usize,
        ef: usize,
        level: usize,
    ) -> Vec<(usize, f32)> {
        if level > 0 || ef == 0 {
            return Vec::new();
        }
        let first = Found(self.distance_to_node(query, entry), entry);
        let (mut ahead, mut found) =
            (BinaryHeap::from([Reverse(first)]), BinaryHeap::from([first]));
        let mut seen = RowSet::new();
        seen.insert(RowId(entry as u32));
        while let Some(Reverse(nearest)) = ahead.pop() {
            if found.len() == ef && found.peek().is_some_and(|last| *last < nearest) {
                break;
            }
            for next in self.leads_to(RowId(nearest.1 as u32)) {
                if !seen.insert(RowId(next as u32)) {
                    continue;
                }
                let next = Found(self.distance_to_node(query, next), next);
                if found.len() < ef || found.peek().is_some_and(|last| next < *last) {
                    ahead.push(Reverse(next));
                    found.push(next);
                }
                if found.len() > ef {
                    found.pop();
                }
            }
        }
        found.into_sorted_vec().into_iter().map(|Found(distance, node)| (node, distance)).collect()
    }

    fn live_row(&self, node: usize) -> Option<RowId> {
        let row = RowId(u32::try_from(node).ok()?);
        self.vectors.rows.is_live(row).then_some(row)
    }

    /// The live nodes that one leads to.
    fn leads_to(&self, row: RowId) -> impl Iterator<Item = usize> + '_ {
        let next = self.vectors.part.as_ref().map(|graph| graph.neighbors(row));
        let next = next.unwrap_or_default().into_iter();
        next.filter(|&row| self.vectors.rows.is_live(row)).map(|row| row.0 as usize)
    }
}
