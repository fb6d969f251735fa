//! The rows of each node: equal vectors share one, so that they cannot shut out other links.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use synadb_types::{RowId, RowSet};

use crate::hnsw::NO_NODE;
use crate::hnsw::codes::Codes;

/// The rows of all nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Members {
    /// Rows by node, ascending within a node.
    pub(super) rows: Vec<u32>,
    /// Where the rows of each node end; empty when every node has one row.
    pub(super) ends: Vec<u32>,
}

impl Members {
    pub(super) fn of(&self, node: u32) -> &[u32] {
        let node = node as usize;
        if self.ends.is_empty() {
            return &self.rows[node..=node];
        }
        let start = node.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        &self.rows[start..self.ends[node] as usize]
    }

    pub(super) fn nodes(&self) -> usize {
        if self.ends.is_empty() { self.rows.len() } else { self.ends.len() }
    }

    pub(super) fn first_row(&self) -> u32 {
        self.rows.iter().copied().min().unwrap_or(0)
    }

    /// The node of each row from the first one on; [`NO_NODE`] for rows of no node.
    pub(super) fn nodes_of_rows(&self) -> Vec<u32> {
        let (first, last) = (self.first_row(), self.rows.iter().copied().max());
        let mut nodes = vec![NO_NODE; last.map_or(0, |last| (last - first) as usize + 1)];
        for node in 0..self.nodes() as u32 {
            for &row in self.of(node) {
                nodes[(row - first) as usize] = node;
            }
        }
        nodes
    }

    pub(super) fn set(&self) -> RowSet {
        self.rows.iter().copied().map(RowId).collect()
    }
}

/// Makes one node of all rows with the same code, in the order of their first rows.
pub(super) fn group(rows: &[RowId], codes: Codes) -> (Members, Codes) {
    let mut node_of_hash: HashMap<u64, u32> = HashMap::with_capacity(rows.len());
    let mut first = Vec::with_capacity(rows.len());
    let mut node_of_row = Vec::with_capacity(rows.len());
    for index in 0..rows.len() {
        let node = match node_of_hash.entry(codes.hash(index)) {
            Entry::Occupied(found) if codes.equal(first[*found.get() as usize] as usize, index) => {
                *found.get()
            }
            // Another code with the same hash becomes a node of its own.
            Entry::Occupied(_) => NO_NODE,
            Entry::Vacant(place) => *place.insert(first.len() as u32),
        };
        if node as usize >= first.len() {
            node_of_row.push(first.len() as u32);
            first.push(index as u32);
        } else {
            node_of_row.push(node);
        }
    }
    if first.len() == rows.len() {
        let rows = rows.iter().map(|row| row.0).collect();
        return (Members { rows, ends: Vec::new() }, codes);
    }
    let mut groups = vec![Vec::new(); first.len()];
    for (row, &node) in rows.iter().zip(&node_of_row) {
        groups[node as usize].push(row.0);
    }
    let mut members = Members::default();
    for group in groups {
        members.rows.extend_from_slice(&group);
        members.ends.push(members.rows.len() as u32);
    }
    let mut unique = codes.empty();
    unique.pick(&codes, &first);
    (members, unique)
}
