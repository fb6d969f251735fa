//! How the buckets are made.

use std::sync::Arc;

use synadb_types::RowId;

use crate::cascade::config::Shape;
use crate::cascade::forest::{Branch, Forest, SIGNATURE_BYTES, Split};
use crate::cascade::planes::{Planes, signature};
use crate::job::{Crew, Meter};
use crate::quantize::code_kernels;
use crate::{HnswIndex, IndexError, VectorSource};

/// Nodes that a worker projects at once.
const PIECE_NODES: usize = 512;
/// Bytes of projections that are held at once: as many tables as fit grow together.
const PROJECTIONS_BYTES: usize = 256 << 20;

/// The buckets of one table, numbered from zero.
struct Tree {
    root: Branch,
    splits: Vec<Split>,
    /// Ends of the buckets.
    ends: Vec<u32>,
    entries: Vec<u32>,
}

/// Puts all nodes of a graph into the buckets of all tables. O(d log d) a node and O(levels) a
/// node and table; the same on any number of threads.
///
/// # Errors
///
/// [`IndexError::Cancelled`]; the errors of [`code_kernels`].
pub(super) fn grow(
    shape: Shape,
    planes: &Planes,
    graph: &HnswIndex,
    source: &dyn VectorSource,
    crew: &Crew<'_>,
    meter: &mut Meter<'_>,
    begin: f32,
) -> Result<Forest, IndexError> {
    let nodes = graph.nodes();
    let mut signatures = vec![0; nodes * SIGNATURE_BYTES];
    let table_bytes = (size_of::<f32>() * nodes * shape.levels()).max(1);
    let together = (PROJECTIONS_BYTES / table_bytes).clamp(1, shape.tables);
    let mut forest = Builder::default();
    for first in (0..shape.tables).step_by(together) {
        let count = together.min(shape.tables - first);
        let width = count * shape.levels();
        let mut projections = vec![0.0; nodes * width];
        let project = Project { shape, planes, graph, source, first, count };
        project.all(&mut signatures, &mut projections, crew)?;
        let mut trees: Vec<Option<Tree>> = (0..count).map(|_| None).collect();
        crew.each(trees.iter_mut().enumerate().collect(), |(table, tree)| {
            let at = table * shape.levels();
            let mut growing = Growing { shape, width, at, projections: &projections, crew };
            *tree = Some(growing.tree(nodes)?);
            Ok(())
        })?;
        trees.into_iter().flatten().for_each(|tree| forest.add(tree));
        meter.tell(begin + (1.0 - begin) * (first + count) as f32 / shape.tables as f32);
    }
    Ok(forest.finish(signatures))
}

/// The projections of all nodes for some tables.
struct Project<'a> {
    shape: Shape,
    planes: &'a Planes,
    graph: &'a HnswIndex,
    source: &'a dyn VectorSource,
    first: usize,
    count: usize,
}

impl Project<'_> {
    /// Writes for each node its signature and its distances from the hyperplanes, level by level
    /// for each table.
    fn all(
        &self,
        signatures: &mut [u8],
        projections: &mut [f32],
        crew: &Crew<'_>,
    ) -> Result<(), IndexError> {
        let (kernels, levels) = (code_kernels()?, self.shape.levels());
        let width = self.count * levels;
        // Chunks of nothing where buckets take no hyperplane.
        let mut rest = projections;
        let mut pieces = Vec::new();
        for (piece, signatures) in signatures.chunks_mut(PIECE_NODES * SIGNATURE_BYTES).enumerate()
        {
            let (now, later) = rest.split_at_mut(signatures.len() / SIGNATURE_BYTES * width);
            pieces.push((piece * PIECE_NODES, signatures, now));
            rest = later;
        }
        crew.each(pieces, |(first, signatures, projections): (usize, &mut [u8], &mut [f32])| {
            let (mut point, mut all) = (Vec::new(), vec![0.0; self.planes.count()]);
            for (at, out) in signatures.as_chunks_mut::<SIGNATURE_BYTES>().0.iter_mut().enumerate()
            {
                let row = RowId(self.graph.row_of_node(first + at));
                self.graph.place(self.source.vector(row).unwrap_or_default(), &mut point);
                self.planes.project(kernels, &point, &mut all);
                let words = signature(&all);
                for (bytes, word) in out.as_chunks_mut().0.iter_mut().zip(words) {
                    *bytes = word.to_le_bytes();
                }
                let out = &mut projections[at * width..][..width];
                for (index, out) in out.iter_mut().enumerate() {
                    let (table, level) = (self.first + index / levels, index % levels);
                    *out = all[self.shape.plane(table, level)];
                }
            }
            Ok(())
        })
    }
}

/// One table on its way.
struct Growing<'a> {
    shape: Shape,
    /// Projections of a node, and where those of this table begin.
    width: usize,
    at: usize,
    projections: &'a [f32],
    crew: &'a Crew<'a>,
}

impl Growing<'_> {
    fn tree(&mut self, nodes: usize) -> Result<Tree, IndexError> {
        let mut tree = Tree {
            root: Branch::Nothing,
            splits: Vec::new(),
            ends: Vec::new(),
            entries: Vec::new(),
        };
        tree.entries.reserve(nodes);
        tree.root = self.divide((0..nodes as u32).collect(), 0, &mut tree)?;
        Ok(tree)
    }

    fn projection(&self, node: u32, level: usize) -> f32 {
        self.projections[node as usize * self.width + self.at + level]
    }

    /// Where the hyperplane of a level divides some nodes; none when they make a bucket.
    fn threshold(&self, nodes: &[u32], level: usize) -> Option<f32> {
        let Shape { bits, split_above, few, .. } = self.shape;
        if level < bits {
            return (nodes.len() > few).then_some(0.0);
        }
        if level >= self.shape.levels() || nodes.len() <= split_above {
            return None;
        }
        let mut values: Vec<f32> = nodes.iter().map(|&node| self.projection(node, level)).collect();
        let middle = values.len() / 2;
        let (_, &mut median, _) = values.select_nth_unstable_by(middle, f32::total_cmp);
        // Where so many are equal that nothing is below, they stay together.
        nodes.iter().any(|&node| self.projection(node, level) < median).then_some(median)
    }

    /// Divides nodes, in row order, into buckets from a level on.
    fn divide(&self, nodes: Vec<u32>, level: usize, tree: &mut Tree) -> Result<Branch, IndexError> {
        self.crew.check()?;
        if nodes.is_empty() {
            return Ok(Branch::Nothing);
        }
        let Some(threshold) = self.threshold(&nodes, level) else {
            tree.entries.extend_from_slice(&nodes);
            tree.ends.push(tree.entries.len() as u32);
            return Ok(Branch::Bucket(tree.ends.len() - 1));
        };
        let below = |&node: &u32| self.projection(node, level) < threshold;
        let (first, second): (Vec<u32>, Vec<u32>) = nodes.into_iter().partition(below);
        let place = tree.splits.len();
        tree.splits.push(Split { threshold, branches: [Branch::Nothing; 2] });
        let first = self.divide(first, level + 1, tree)?;
        let second = self.divide(second, level + 1, tree)?;
        tree.splits[place].branches = [first, second];
        Ok(Branch::Split(place))
    }
}

/// The trees of all tables side by side.
#[derive(Default)]
struct Builder {
    roots: Vec<Branch>,
    splits: Vec<Split>,
    starts: Vec<u32>,
    entries: Vec<u8>,
}

impl Builder {
    fn add(&mut self, tree: Tree) {
        let (splits, buckets) = (self.splits.len(), self.starts.len());
        let before = (self.entries.len() / size_of::<u32>()) as u32;
        self.roots.push(tree.root.moved(splits, buckets));
        self.splits.extend(tree.splits.iter().map(|split| Split {
            branches: split.branches.map(|branch| branch.moved(splits, buckets)),
            ..*split
        }));
        let starts = std::iter::once(0).chain(tree.ends.iter().copied());
        self.starts.extend(starts.take(tree.ends.len()).map(|start| before + start));
        self.entries.extend(tree.entries.iter().flat_map(|node| node.to_le_bytes()));
    }

    fn finish(mut self, signatures: Vec<u8>) -> Forest {
        self.starts.push((self.entries.len() / size_of::<u32>()) as u32);
        Forest {
            roots: self.roots,
            splits: self.splits,
            starts: self.starts,
            entries: Arc::new(self.entries),
            signatures: Arc::new(signatures),
        }
    }
}
