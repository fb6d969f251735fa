//! The blocks of the finished graph, with the codes of the neighbours.

use synadb_types::RowId;

use crate::hnsw::NO_NODE;
use crate::hnsw::codes::Codes;
use crate::hnsw::config::HnswConfig;
use crate::hnsw::graph::{Graph, Layout, packed_dimensions, push_block};
use crate::hnsw::space::Space;
use crate::hnsw::workers::Workers;
use crate::quantize::{
    Anchor, BLOCK_ROWS, LinkSteps, Rotation, code_kernels, encode_links, link_block_bytes,
};
use crate::{IndexError, VectorSource};

/// Nodes that a worker writes at once.
const GRAIN: usize = 256;

/// Where the points of the nodes come from.
pub(super) struct Points<'a> {
    pub(super) space: &'a Space,
    /// A row of each node.
    pub(super) rows: &'a [u32],
    pub(super) source: &'a dyn VectorSource,
    pub(super) config: HnswConfig,
}

impl Points<'_> {
    /// The rotated points of all nodes, side by side.
    fn rotated(&self, rotation: &Rotation, workers: &Workers<'_>) -> Result<Vec<f32>, IndexError> {
        let kernels = code_kernels()?;
        let (dimensions, padded) = (self.space.dimensions(), rotation.padded());
        let point = || vec![0.0; dimensions];
        let pieces = workers.map(self.rows.len(), GRAIN, point, |point, range| {
            let mut rotated = vec![0.0; range.len() * padded];
            for (&row, out) in self.rows[range].iter().zip(rotated.chunks_exact_mut(padded)) {
                point.fill(0.0);
                self.space.place(self.source.vector(RowId(row)).unwrap_or_default(), point);
                rotation.rotate(kernels, point, 1.0, out);
            }
            rotated
        })?;
        Ok(pieces.concat())
    }
}

/// Writes the blocks of all nodes.
///
/// # Errors
///
/// [`IndexError::Cancelled`].
pub(super) fn write(
    codes: &Codes,
    points: &Points<'_>,
    links: &[u32],
    degree: usize,
    workers: &Workers<'_>,
) -> Result<Graph, IndexError> {
    let (dimensions, config) = (points.space.dimensions(), points.config);
    let padded = packed_dimensions(dimensions, config.quantized);
    let rotated = if padded > 0 {
        points.rotated(&Rotation::new(dimensions, config.seed), workers)?
    } else {
        Vec::new()
    };
    let layout = Layout { code_bytes: codes.code_bytes(), packed: padded, degree };
    let groups = layout.groups();
    let packed = || (vec![0; groups * layout.group_bytes()], vec![LinkSteps::default(); groups]);
    let pieces = workers.map(codes.len(), GRAIN, packed, |(packed, steps), range| {
        let mut bytes = Vec::with_capacity(range.len() * layout.stride());
        for node in range {
            let links = &links[node * degree..][..degree];
            if padded > 0 {
                pack(codes, (&rotated, padded), node, links, (packed, steps));
            }
            push_block(layout, codes.code(node), (packed, steps), links, &mut bytes);
        }
        bytes
    })?;
    Ok(Graph::from_pieces(layout, codes.len(), pieces))
}

/// Codes the neighbours of a node relative to it.
fn pack(
    codes: &Codes,
    (rotated, padded): (&[f32], usize),
    node: usize,
    links: &[u32],
    (packed, steps): (&mut [u8], &mut [LinkSteps]),
) {
    let point = |node: usize| &rotated[node * padded..][..padded];
    let anchor = Anchor::new(point(node).to_vec());
    let neighbour = |&link: &u32| {
        (link != NO_NODE).then(|| {
            // The additional coordinate of a query is zero, so that the neighbour's own is what it
            // adds to the squared distance.
            let extra = codes.code(link as usize).terms.extra;
            (point(link as usize), extra * extra)
        })
    };
    let groups = packed.chunks_exact_mut(link_block_bytes(padded));
    for ((group, steps), links) in groups.zip(steps).zip(links.chunks(BLOCK_ROWS)) {
        *steps = encode_links(&anchor, links.iter().map(neighbour), group);
    }
}
