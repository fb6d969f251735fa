//! The graph as a search reads it: one block of bytes a node.
//!
//! With the codes of the neighbours packed beside the links, a step of a walk reads one block and
//! nothing else (SymphonyQG: Gou et al. 2025).

use std::fmt;
use std::sync::Arc;

use crate::hnsw::codes::CODE_ALIGN;
use crate::hnsw::codes::{Code, Terms};
use crate::pages::Pages;
use crate::quantize::{BLOCK_ROWS, LinkSteps, link_block_bytes};
use crate::{IndexError, SharedBytes};

/// Bytes that a block's length is a multiple of: a cache line.
pub(super) const LINE: usize = 64;
/// Numbers of the terms behind the links of a block.
const TERMS: usize = 3;

/// Up to this many dimensions the codes of the neighbours are not packed: a bit for each says too
/// little, and the codes of the nodes are short.
const PLAIN_DIMENSIONS_MAX: usize = 192;

/// Dimensions of the packed codes of vectors; 0 when there are none.
pub(super) fn packed_dimensions(dimensions: usize, quantized: bool) -> usize {
    let packed = quantized && dimensions > PLAIN_DIMENSIONS_MAX;
    if packed { dimensions.next_multiple_of(CODE_ALIGN) } else { 0 }
}

/// Where the pieces of a block lie: code | packed codes of the neighbours, in groups of 32 | links
/// | terms | steps of the groups, padded to whole cache lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bytes of the node's own code.
    pub(super) code_bytes: usize,
    /// Dimensions of the packed codes; 0 when there are none.
    pub(super) packed: usize,
    /// Links of a node.
    pub(super) degree: usize,
}

impl Layout {
    pub(super) fn stride(&self) -> usize {
        (self.steps_at() + size_of::<LinkSteps>() * self.groups()).next_multiple_of(LINE)
    }

    /// Bytes of the packed codes of one group of neighbours.
    pub(super) fn group_bytes(&self) -> usize {
        if self.packed > 0 { link_block_bytes(self.packed) } else { 0 }
    }

    /// Groups of neighbours whose codes are packed.
    pub(super) fn groups(&self) -> usize {
        if self.packed > 0 { self.degree / BLOCK_ROWS } else { 0 }
    }

    fn links_at(&self) -> usize {
        self.code_bytes + self.groups() * self.group_bytes()
    }

    fn terms_at(&self) -> usize {
        self.links_at() + size_of::<u32>() * self.degree
    }

    fn steps_at(&self) -> usize {
        self.terms_at() + size_of::<f32>() * TERMS
    }
}

/// The blocks of all nodes.
#[derive(Clone)]
pub(super) struct Graph {
    pub(super) layout: Layout,
    pub(super) nodes: usize,
    pub(super) blocks: SharedBytes,
    /// Where the first block begins.
    pub(super) start: usize,
}

impl fmt::Debug for Graph {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layout, nodes, .. } = self;
        formatter.debug_struct("Graph").field("layout", layout).field("nodes", nodes).finish()
    }
}

impl Graph {
    pub(super) fn view(&self) -> GraphView<'_> {
        let (layout, nodes) = (self.layout, self.nodes);
        GraphView { layout, nodes, stride: layout.stride(), blocks: self.bytes() }
    }

    /// The bytes of all blocks.
    pub(super) fn bytes(&self) -> &[u8] {
        let len = self.nodes * self.layout.stride();
        &(*self.blocks).as_ref()[self.start..][..len]
    }

    /// The graph of blocks that `write` makes where they stay, each at a cache line.
    ///
    /// # Errors
    ///
    /// Those of `write`.
    pub(super) fn written(
        layout: Layout,
        nodes: usize,
        write: impl FnOnce(&mut [u8]) -> Result<(), IndexError>,
    ) -> Result<Self, IndexError> {
        let len = nodes * layout.stride();
        let mut bytes = Pages::zeroed(len + LINE);
        let start = bytes.as_ref().as_ptr().align_offset(LINE).min(LINE);
        write(&mut bytes.as_mut()[start..][..len])?;
        Ok(Self { layout, nodes, blocks: Arc::new(bytes), start })
    }
}

/// The blocks of a graph while it is searched.
#[derive(Clone, Copy)]
pub(super) struct GraphView<'a> {
    pub(super) layout: Layout,
    nodes: usize,
    stride: usize,
    blocks: &'a [u8],
}

impl<'a> GraphView<'a> {
    /// The block of a node, which is below the number of nodes.
    pub(super) fn block(&self, node: u32) -> &'a [u8] {
        &self.blocks[node as usize * self.stride..][..self.stride]
    }

    pub(super) fn nodes(&self) -> usize {
        self.nodes
    }

    /// The bytes of the code at the beginning of a block.
    pub(super) fn code(&self, block: &'a [u8]) -> &'a [u8] {
        &block[..self.layout.code_bytes]
    }

    /// The packed codes of a group of neighbours.
    pub(super) fn group(&self, block: &'a [u8], group: usize) -> &'a [u8] {
        let bytes = self.layout.group_bytes();
        &block[self.layout.code_bytes + group * bytes..][..bytes]
    }

    /// One link of a block, if it leads to a node.
    #[inline]
    pub(super) fn link(&self, block: &[u8], slot: usize) -> Option<u32> {
        let at = self.layout.links_at() + size_of::<u32>() * slot;
        let bytes = block.get(at..at + size_of::<u32>())?;
        let link = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        ((link as usize) < self.nodes()).then_some(link)
    }

    /// The links of a block that lead to a node; what else a section may hold is left out.
    pub(super) fn links(&self, block: &'a [u8]) -> impl Iterator<Item = u32> + use<'a> {
        let at = self.layout.links_at();
        let (links, _) = block[at..at + size_of::<u32>() * self.layout.degree].as_chunks();
        let nodes = self.nodes();
        links.iter().map(|&link| u32::from_le_bytes(link)).filter(move |&l| (l as usize) < nodes)
    }

    /// The terms of the code of a block.
    pub(super) fn terms(&self, block: &[u8]) -> Terms {
        let [scale, extra, norm] = floats(&block[self.layout.terms_at()..]);
        Terms { scale, extra, norm }
    }

    /// What the steps of a group of neighbours are worth.
    pub(super) fn steps(&self, block: &[u8], group: usize) -> LinkSteps {
        let at = self.layout.steps_at() + size_of::<LinkSteps>() * group;
        let [add, slope] = floats(&block[at..]);
        LinkSteps { add, slope }
    }
}

/// The numbers at the beginning of some bytes, which hold so many.
fn floats<const N: usize>(bytes: &[u8]) -> [f32; N] {
    let (floats, _) = bytes.as_chunks();
    std::array::from_fn(|index| f32::from_le_bytes(floats[index]))
}

/// Appends the block of a node; `packed` holds the codes of its neighbours, `steps` what the numbers
/// of each group of them are worth.
pub(super) fn push_block(
    layout: Layout,
    code: Code<'_>,
    (packed, steps): (&[u8], &[LinkSteps]),
    links: &[u32],
    out: &mut Vec<u8>,
) {
    let end = out.len() + layout.stride();
    out.extend_from_slice(code.bytes);
    out.extend(code.floats.iter().flat_map(|value| value.to_le_bytes()));
    out.extend_from_slice(packed);
    out.extend(links.iter().flat_map(|link| link.to_le_bytes()));
    let Terms { scale, extra, norm } = code.terms;
    let of_groups = steps.iter().flat_map(|steps| [steps.add, steps.slope]);
    let floats = [scale, extra, norm].into_iter().chain(of_groups);
    out.extend(floats.flat_map(f32::to_le_bytes));
    out.resize(end, 0);
}
