//! How the graph is made: leaves, nearest nodes, links, repair, entry points for what is
//! missed. No node is ever inserted.

mod blocks;
mod leaves;
mod lost;
mod prune;
mod reach;
mod split;

use synadb_types::{RowId, RowSet};

use crate::hnsw::HnswIndex;
use crate::hnsw::codes::{CodeKernels, Codes};
use crate::hnsw::config::HnswConfig;
use crate::hnsw::members::{Members, group};
use crate::hnsw::space::Space;
use crate::hnsw::workers::Workers;
use crate::random::Random;
use crate::{IndexError, Job, Metric, VectorSource, kernels};

use leaves::entry;

/// Rows that a worker encodes at once.
const GRAIN: usize = 1024;
/// Sampled entry points.
pub(super) const ENTRIES: usize = 128;
/// Leaders that a node joins at the first and at the second level. With 4 and 3 the build takes a
/// seventh less, and a search of as many steps finds .904 of the ten nearest in place of .923.
const FAN: [usize; 2] = [6, 4];
/// The same where most neighbours are known from the parts that are merged.
const FAN_OF_MERGE: [usize; 2] = [2, 2];
/// Shares of the build that are done after each stage, as measured; the last one takes a hundredth
/// of the build of 100,000 rows, more of a small one and where rows are missed.
const STAGES: [f32; 7] = [0.04, 0.12, 0.50, 0.70, 0.95, 0.97, 1.0];

impl HnswIndex {
    /// Builds the graph of the live ones among some rows, in O(n) for a bounded degree.
    ///
    /// Rows that die later stay in the graph as waypoints. Memory while it runs, beside the graph
    /// and for each row: a byte a dimension, or four without codes, and eight bytes a candidate; in the
    /// end four bytes a dimension more where there are packed codes.
    ///
    /// # Errors
    ///
    /// [`IndexError::Cancelled`] when the job says so; the errors of
    /// [`kernels`](crate::kernels).
    pub fn build(
        metric: Metric,
        rows: &RowSet,
        source: &dyn VectorSource,
        config: HnswConfig,
        job: &Job<'_>,
    ) -> Result<Self, IndexError> {
        Self::merge(metric, &[], rows, source, config, job)
    }

    /// Builds one graph of the live rows of some parts and of further rows. The links of the
    /// parts are candidates, so that less has to be searched than in a build from nothing.
    ///
    /// # Errors
    ///
    /// As for [`HnswIndex::build`].
    pub fn merge(
        metric: Metric,
        parts: &[&Self],
        rows: &RowSet,
        source: &dyn VectorSource,
        config: HnswConfig,
        job: &Job<'_>,
    ) -> Result<Self, IndexError> {
        let kernels = CodeKernels::new(kernels()?);
        let mut workers = Workers::new(job);
        let mut all = rows.clone();
        parts.iter().for_each(|part| all.union_with(&part.rows));
        let live = |row: &RowId| source.is_live(*row) && source.vector(*row).is_some();
        let rows: Vec<RowId> = all.iter().filter(live).collect();
        let space = Space::fit(metric, &rows, source);
        workers.stage(STAGES[0]);
        let codes = encode((&space, config.quantized), (&rows, source), kernels, &workers)?;
        let (members, codes) = group(&rows, codes);

        workers.stage(STAGES[1]);
        let fan = if parts.is_empty() { FAN } else { FAN_OF_MERGE };
        let leaves = split::split(&codes, kernels, fan, config.seed, &workers)?;
        workers.stage(STAGES[2]);
        let known = Known::new(parts, &members);
        let known = |node: u32, out: &mut Vec<u64>| known.candidates(node, &codes, kernels, out);
        let known = (!parts.is_empty()).then_some(&known as leaves::Known<'_>);
        let keep = config.candidates();
        let nearest = leaves::nearest(&codes, kernels, &leaves, known, keep, &workers)?;
        let order = split::order(&leaves, codes.len());
        drop(leaves);

        let (degree, stages) = (config.degree(), [STAGES[3], STAGES[4]]);
        let of = (degree, order.as_slice());
        let mut links = prune::links(&codes, kernels, &nearest, of, &mut workers, stages)?;
        let mut entries: Vec<u32> = (0..codes.len() as u32).collect();
        Random::new(config.seed).draw(&mut entries, ENTRIES);
        entries.truncate(ENTRIES);
        entries.extend(reach::repair(&mut links, degree, &nearest, &entries));
        drop(nearest);

        workers.stage(STAGES[5]);
        let rows: Vec<u32> = (0..codes.len() as u32).map(|node| members.of(node)[0]).collect();
        let points = blocks::Points { space: &space, rows: &rows, source, config };
        let graph = blocks::write(&codes, &points, &links, degree, &workers)?;
        let mut index = Self::assemble(config, space, members, graph, entries);
        index.enter_lost(source, job, &mut workers, (STAGES[5], STAGES[6]))?;
        Ok(index)
    }
}

/// Encodes the points of all rows.
fn encode(
    (space, quantized): (&Space, bool),
    (rows, source): (&[RowId], &dyn VectorSource),
    kernels: CodeKernels,
    workers: &Workers<'_>,
) -> Result<Codes, IndexError> {
    let dimensions = space.dimensions();
    let point = || vec![0.0; dimensions];
    let pieces = workers.map(rows.len(), GRAIN, point, |point, range| {
        let mut codes = Codes::new(dimensions, quantized);
        for &row in &rows[range] {
            // A source keeps the rows it had; an absent one is coded as if it were zero.
            let vector = source.vector(row).unwrap_or_default();
            point.fill(0.0);
            let extra = space.place(vector, point);
            codes.push(point, extra, kernels);
        }
        codes
    })?;
    let mut codes = Codes::new(dimensions, quantized);
    pieces.into_iter().for_each(|piece| codes.append(piece));
    Ok(codes)
}

/// What the parts of a merge know of the neighbours of a node.
struct Known<'a> {
    parts: &'a [&'a HnswIndex],
    members: &'a Members,
    /// The node of each row, from the first row on.
    node_of_row: Vec<u32>,
}

impl<'a> Known<'a> {
    fn new(parts: &'a [&'a HnswIndex], members: &'a Members) -> Self {
        let node_of_row = if parts.is_empty() { Vec::new() } else { members.nodes_of_rows() };
        Self { parts, members, node_of_row }
    }

    /// Appends the neighbours of a node in its part, as entries.
    fn candidates(&self, node: u32, codes: &Codes, kernels: CodeKernels, out: &mut Vec<u64>) {
        let row = self.members.of(node)[0];
        let Some(part) = self.parts.iter().find(|part| part.rows.contains(RowId(row))) else {
            return;
        };
        let (view, code) = (part.graph.view(), codes.code(node as usize));
        let Some(old) = part.node_of_row(row) else { return };
        for link in view.links(view.block(old)) {
            let near = part.members.of(link).iter().find_map(|&row| self.node_of(row));
            if let Some(near) = near.filter(|&near| near != node) {
                let mut distance = [0.0];
                codes.distances(code, near as usize, kernels, &mut distance);
                out.push(entry(distance[0], near));
            }
        }
    }

    fn node_of(&self, row: u32) -> Option<u32> {
        let first = self.members.first_row();
        let node = self.node_of_row.get(row.checked_sub(first)? as usize)?;
        (*node != super::NO_NODE).then_some(*node)
    }
}
