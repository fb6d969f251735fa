//! The graph index: HNSW by its public name (Malkov and Yashunin 2018).
//!
//! It is a graph of one layer and fixed degree with several entry points, as SymphonyQG's (Gou et
//! al. 2025), built from overlapping leaves in one go, after `PiPNN` (arXiv 2602.21247), with the
//! choice of links of Vamana (Subramanya et al. 2019). A search walks the codes that lie in the
//! nodes' blocks and scores the rows it found by their full vectors.

mod build;
mod codes;
mod config;
mod entries;
mod graph;
mod members;
pub(crate) mod search;
mod sections;
mod space;
pub(crate) mod tune;
mod workers;

use synadb_types::{RowId, RowSet};

use crate::quantize::Rotation;

use codes::Codes;
use entries::EntryLinks;
use graph::Graph;
use members::Members;
use space::Space;

pub(crate) use config::DEGREE_MAX;
pub use config::HnswConfig;
pub use search::SearchCounts;
pub use tune::TunedEf;

/// A link that leads nowhere.
const NO_NODE: u32 = u32::MAX;

/// The graph index: an immutable part over a fixed set of rows.
#[derive(Debug, Clone)]
pub struct HnswIndex {
    config: HnswConfig,
    space: Space,
    rows: RowSet,
    members: Members,
    /// The node of each row, from `first_row` on.
    node_of_row: Vec<u32>,
    first_row: u32,
    graph: Graph,
    entries: Vec<u32>,
    /// Codes of the entry points.
    entry_codes: Codes,
    /// The same packed; none where there are no packed codes, or these would tell little.
    entry_links: Option<Box<EntryLinks>>,
    /// The rotation of the packed codes; none where there are none.
    rotation: Option<Rotation>,
}

impl HnswIndex {
    /// Puts an index together from what was built or read.
    fn assemble(
        config: HnswConfig,
        space: Space,
        members: Members,
        graph: Graph,
        entries: Vec<u32>,
    ) -> Self {
        let (rows, node_of_row) = (members.set(), members.nodes_of_rows());
        let first_row = members.first_row();
        let mut entry_codes = Codes::new(space.dimensions(), config.quantized);
        let view = graph.view();
        for &entry in &entries {
            let block = view.block(entry);
            entry_codes.push_bytes(view.code(block), view.terms(block));
        }
        let packed = graph.layout.packed > 0;
        let rotation = packed.then(|| Rotation::new(space.dimensions(), config.seed));
        // Where there are more entry points than are drawn, some are the only way to others.
        let drawn = rotation.as_ref().filter(|_| entries.len() <= build::ENTRIES);
        let links = drawn.and_then(|rotation| EntryLinks::new(&entry_codes, rotation));
        let entry_links = links.map(Box::new);
        Self {
            config,
            space,
            rows,
            members,
            node_of_row,
            first_row,
            graph,
            entries,
            entry_codes,
            entry_links,
            rotation,
        }
    }

    /// Parameters that it was built with.
    #[must_use]
    pub fn config(&self) -> &HnswConfig {
        &self.config
    }

    /// Metric that it was built for.
    #[must_use]
    pub fn metric(&self) -> crate::Metric {
        self.space.metric
    }

    /// Dimensions of its vectors.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.space.dimensions()
    }

    /// Number of nodes: rows with equal vectors share one.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.graph.nodes
    }

    /// Bytes of the graph in memory or in the map.
    #[must_use]
    pub fn graph_bytes(&self) -> usize {
        self.graph.nodes * self.graph.layout.stride()
    }

    /// Writes the point of a vector, its additional coordinate last: what is near by the metric is
    /// near by the distance of points.
    pub(crate) fn place(&self, vector: &[f32], point: &mut Vec<f32>) {
        let dimensions = self.space.dimensions();
        point.clear();
        point.resize(dimensions + 1, 0.0);
        point[dimensions] = self.space.place(vector, &mut point[..dimensions]);
    }

    /// The first row of a node that there is.
    pub(crate) fn row_of_node(&self, node: usize) -> u32 {
        self.members.of(node as u32)[0]
    }

    /// Links of all nodes. O(nodes).
    #[must_use]
    pub fn links(&self) -> usize {
        let view = self.graph.view();
        (0..self.graph.nodes as u32).map(|node| view.links(view.block(node)).count()).sum()
    }

    /// The other rows of a row's node, which are equal to it, and those of the nodes that it leads to;
    /// none where the row is not in the graph. O(degree + rows).
    #[must_use]
    pub fn neighbors(&self, row: RowId) -> Vec<RowId> {
        let Some(node) = self.node_of_row(row.0) else { return Vec::new() };
        let view = self.graph.view();
        let nodes = std::iter::once(node).chain(view.links(view.block(node)));
        let rows = nodes.flat_map(|node| self.members.of(node)).map(|&row| RowId(row));
        rows.filter(|&other| other != row).collect()
    }

    /// Rows of the nodes that walks begin from: the first of each.
    pub fn entry_rows(&self) -> impl Iterator<Item = RowId> {
        self.entries.iter().map(|&entry| RowId(self.row_of_node(entry as usize)))
    }

    fn node_of_row(&self, row: u32) -> Option<u32> {
        let node = *self.node_of_row.get(row.checked_sub(self.first_row)? as usize)?;
        (node != NO_NODE).then_some(node)
    }
}
