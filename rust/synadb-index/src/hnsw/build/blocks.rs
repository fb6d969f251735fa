//! The blocks of the finished graph, with the codes of the neighbours.

use bytemuck::{cast_slice, cast_slice_mut};
use synadb_types::RowId;

use crate::distance::prefetch_many;
use crate::hnsw::NO_NODE;
use crate::hnsw::codes::Codes;
use crate::hnsw::config::HnswConfig;
use crate::hnsw::graph::{Graph, Layout, packed_dimensions, push_block};
use crate::hnsw::space::Space;
use crate::hnsw::workers::Workers;
use crate::pages::Pages;
use crate::quantize::{
    Anchor, BLOCK_ROWS, LinkSteps, Rotation, code_kernels, encode_links, link_block_bytes,
};
use crate::{IndexError, VectorSource};

/// Nodes that a worker writes at once.
const GRAIN: usize = 256;
/// Neighbours whose points are on their way while one is coded.
const AHEAD: usize = 2;

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
    fn rotated(&self, rotation: &Rotation, workers: &Workers<'_>) -> Result<Pages, IndexError> {
        let kernels = code_kernels()?;
        let (dimensions, padded) = (self.space.dimensions(), rotation.padded());
        assert_eq!(padded, packed_dimensions(dimensions, self.config.quantized));
        let point = || vec![0.0; dimensions];
        let mut rotated = Pages::zeroed(size_of::<f32>() * self.rows.len() * padded);
        let floats = cast_slice_mut(rotated.as_mut());
        workers.fill((floats, padded), GRAIN, point, |point, range, out: &mut [f32]| {
            for (&row, out) in self.rows[range].iter().zip(out.chunks_exact_mut(padded)) {
                point.fill(0.0);
                self.space.place(self.source.vector(RowId(row)).unwrap_or_default(), point);
                rotation.rotate(kernels, point, 1.0, out);
            }
        })?;
        Ok(rotated)
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
        Pages::zeroed(0)
    };
    let rotated = cast_slice(rotated.as_ref());
    let layout = Layout { code_bytes: codes.code_bytes(), packed: padded, degree };
    let (groups, stride) = (layout.groups(), layout.stride());
    let scratch = || {
        let packed = vec![0; groups * layout.group_bytes()];
        (packed, vec![LinkSteps::default(); groups], Vec::with_capacity(stride))
    };
    Graph::written(layout, codes.len(), |blocks| {
        workers.fill((blocks, stride), GRAIN, scratch, |(packed, steps, block), range, out| {
            for (node, out) in range.zip(out.chunks_exact_mut(stride)) {
                let links = &links[node * degree..][..degree];
                if padded > 0 {
                    pack(codes, (rotated, padded), node, links, (packed, steps));
                }
                block.clear();
                push_block(layout, codes.code(node), (packed, steps), links, block);
                out.copy_from_slice(block);
            }
        })
    })
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
    let ask = |index: usize| {
        let ahead = links.get(index).filter(|&&link| link != NO_NODE);
        ahead.into_iter().for_each(|&link| prefetch_many(cast_slice(point(link as usize))));
    };
    (0..AHEAD).for_each(ask);
    let groups = packed.chunks_exact_mut(link_block_bytes(padded));
    for (group, ((bytes, steps), links)) in
        groups.zip(steps).zip(links.chunks(BLOCK_ROWS)).enumerate()
    {
        let links = links.iter().enumerate().map(|(index, link)| {
            ask(group * BLOCK_ROWS + index + AHEAD);
            neighbour(link)
        });
        *steps = encode_links(&anchor, links, bytes);
    }
}
