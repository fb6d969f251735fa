//! Searches of the graph.

mod direct;
mod packed;
pub(crate) mod pool;

use std::cmp::Ordering;

use synadb_types::{RowId, RowSet};

use crate::distance::prefetch_bytes;
use crate::hnsw::HnswIndex;
use crate::hnsw::codes::{Code, CodeKernels, Codes, Terms, rounding};
use crate::hnsw::graph::GraphView;
use crate::quantize::CodeQuery;
use crate::{Filter, IndexError, Job, Part, Query, Scratch, TopK, VectorSource};

use pool::{Fresh, Pool, Seen};

/// A walk begins from one entry point, the nearest ones, for so many nodes of its queue: where the
/// neighbours of a query are scattered, no one leads to all of them.
const STARTS_EF: usize = 4;
/// Entry points that a walk begins from at least.
pub(super) const STARTS_MIN: usize = 4;
/// A step of a walk costs as much as this many codes of a scan, measured at 384 dimensions.
const STEP_CODES: usize = 48;
/// A walk suffices when it finds one in so many of the nodes that it finds without a filter.
const ENOUGH: usize = 2;
/// Of so many nodes of the queue one is ranked by its full vector, at most.
const RANKED_EF: usize = 6;
/// Codes that are on their way while one is compared.
const AHEAD: usize = 4;
/// Rows that are.
const ROWS_AHEAD: usize = 2;

/// Memory of a search.
#[derive(Debug, Default)]
pub(crate) struct HnswScratch {
    pool: Pool,
    seen: Seen,
    /// Neighbours of one node that were not seen before.
    fresh: Vec<u32>,
    /// Nodes with the distances of their codes.
    visited: Vec<(f32, u32)>,
    point: Vec<f32>,
    code: Option<Codes>,
    /// The query of the packed codes.
    packed: Option<CodeQuery>,
    /// Neighbours of one node by their estimates.
    found: Fresh,
    distances: Vec<f32>,
    nodes: Vec<u32>,
    /// Rows that are compared in full, and their inverse norms.
    rows: Vec<RowId>,
    norms: Vec<f32>,
    /// Nodes near the query that the caller knows.
    seeds: Vec<u32>,
    counts: SearchCounts,
}

/// Appends nodes that are likely to be near a point and its additional coordinate of zero; asked
/// for when a search walks.
pub(crate) type Seeds<'a> = &'a mut dyn FnMut(&[f32], &mut Vec<u32>);

/// What searches did since the counts were last taken.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SearchCounts {
    /// Nodes visited.
    pub steps: u64,
    /// Distances of codes, estimates included.
    pub distances: u64,
    /// Full vectors read.
    pub rows: u64,
}

impl Scratch {
    /// Takes the counts of the graph searches that used this scratch.
    pub fn take_counts(&mut self) -> SearchCounts {
        std::mem::take(&mut self.hnsw.counts)
    }
}

/// Which of the visited nodes may be returned.
struct Accept<'a> {
    index: &'a HnswIndex,
    filter: &'a Filter,
    source: &'a dyn VectorSource,
}

impl<'a> Accept<'a> {
    fn rows(&self, node: u32) -> impl Iterator<Item = RowId> + use<'a> {
        let Self { index, filter, source } = *self;
        let rows = index.members.of(node).iter().map(|&row| RowId(row));
        rows.filter(move |&row| filter.allows(row) && source.is_live(row))
    }

    fn node(&self, node: u32) -> bool {
        self.rows(node).next().is_some()
    }
}

impl Part for HnswIndex {
    fn rows(&self) -> &RowSet {
        &self.rows
    }

    fn search(
        &self,
        query: &Query,
        filter: &Filter,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
        out: &mut TopK,
    ) -> Result<(), IndexError> {
        self.search_with_ef(query, filter, source, scratch, out, self.config.ef_search)
    }
}

impl HnswIndex {
    /// As [`Part::search`] with a queue of `ef` nodes: recall and time grow with it.
    ///
    /// Dead rows and rows that the filter refuses are passed through and not returned; the queue
    /// grows until enough others are found. Where that would cost more than a scan of the codes
    /// of all rows that pass, and in small parts, it is such a scan.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when the query does not fit the source.
    ///
    /// # Panics
    ///
    /// Panics when the query has another metric than the index.
    pub fn search_with_ef(
        &self,
        query: &Query,
        filter: &Filter,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
        out: &mut TopK,
        ef: usize,
    ) -> Result<(), IndexError> {
        self.search_from(query, filter, source, scratch, out, ef, None)
    }

    /// As [`HnswIndex::search_with_ef`], beginning from the nearest of some nodes too.
    #[allow(clippy::too_many_arguments)] // Those of a search, and one more.
    pub(crate) fn search_from(
        &self,
        query: &Query,
        filter: &Filter,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
        out: &mut TopK,
        ef: usize,
        seeds: Option<Seeds<'_>>,
    ) -> Result<(), IndexError> {
        query.check(source)?;
        assert_eq!(query.metric(), self.space.metric, "an index answers queries of its metric");
        if out.k() == 0 || self.graph.nodes == 0 || query.dimensions() != self.space.dimensions() {
            return Ok(());
        }
        let allowed = filter.rows().map_or(self.rows.len(), |rows| rows.len().min(self.rows.len()));
        if allowed == 0 {
            return Ok(());
        }
        let accept = Accept { index: self, filter, source };
        let nodes = self.graph.nodes;
        let ef = ef.max(out.k()).min(nodes);
        // A walk has to visit so many nodes that enough of them are allowed ones.
        let wide = (ef as u128 * self.rows.len() as u128 / allowed as u128).min(nodes as u128);
        let wide = wide as usize;
        let scratch = &mut scratch.hnsw;
        scratch.prepare(self, query)?;
        let code = scratch.code.take().expect("just prepared");
        let job = Search { index: self, accept, query, source, ef };
        let scanned = allowed.min(nodes);
        let k = out.k();
        let walked = is_walked(scanned, wide) && {
            scratch.find_seeds(seeds, nodes);
            job.walk(code.code(0), wide, k.min(allowed), scratch)
        };
        let keep = if walked {
            (ef / RANKED_EF).max(k.saturating_add(k / 4 + 2))
        } else {
            job.scan(code.code(0), scratch);
            // After so many codes these rows cost little, and far ones have the coarser codes.
            ef.max(k.saturating_mul(4))
        };
        job.nearest(code.code(0).terms, keep, scratch, k);
        scratch.code = Some(code);
        job.rank(scratch, out);
        Ok(())
    }

    /// As [`HnswIndex::search_with_ef`] for several queries, on as many threads as asked for.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when a query does not fit the source.
    ///
    /// # Panics
    ///
    /// Panics when `outs` has another length than `queries`.
    pub fn search_batch(
        &self,
        queries: &[Query],
        filter: &Filter,
        source: &dyn VectorSource,
        outs: &mut [TopK],
        ef: usize,
        threads: usize,
    ) -> Result<(), IndexError> {
        let job = Job::with_threads(threads);
        job.crew().each_query(queries, outs, |query, scratch, out| {
            self.search_with_ef(query, filter, source, scratch, out, ef)
        })
    }
}

impl HnswScratch {
    /// Asks for the nodes to begin from and leaves out those that there are not.
    fn find_seeds(&mut self, seeds: Option<Seeds<'_>>, nodes: usize) {
        self.seeds.clear();
        if let Some(seeds) = seeds {
            seeds(&self.point, &mut self.seeds);
            self.seeds.retain(|&seed| (seed as usize) < nodes);
        }
    }

    /// Encodes the query.
    fn prepare(&mut self, index: &HnswIndex, query: &Query) -> Result<(), IndexError> {
        self.point.resize(index.space.dimensions(), 0.0);
        index.space.place_query(query, &mut self.point);
        let mut code = match self.code.take() {
            Some(code) if code.is_like(&index.entry_codes) => code,
            _ => index.entry_codes.empty(),
        };
        code.clear();
        code.push(&self.point, 0.0, CodeKernels::new(query.kernels()));
        self.code = Some(code);
        if let Some(rotation) = &index.rotation {
            packed::prepare(&mut self.packed, query, &self.point, rotation)?;
        }
        Ok(())
    }
}

/// One search.
struct Search<'a> {
    index: &'a HnswIndex,
    accept: Accept<'a>,
    query: &'a Query,
    source: &'a dyn VectorSource,
    ef: usize,
}

impl Search<'_> {
    fn kernels(&self) -> CodeKernels {
        CodeKernels::new(self.query.kernels())
    }

    /// Leaves those of the visited nodes that may be returned. Walks again with a longer queue
    /// while they are fewer than `least`, or far fewer than a queue of `self.ef` finds where all
    /// may be returned. False when a scan costs less than the next walk.
    fn walk(&self, code: Code<'_>, ef: usize, least: usize, scratch: &mut HnswScratch) -> bool {
        let view = self.index.graph.view();
        let (mut ef, mut wanted) = (ef, None);
        while is_walked(view.nodes(), ef) {
            self.start(view, code, ef, scratch);
            if self.index.rotation.is_some() {
                packed::walk(view, code, self.kernels(), scratch);
            } else {
                direct::walk(view, code, self.kernels(), scratch);
            }
            let usual = (scratch.visited.len() as u128 * self.ef as u128 / ef as u128) as usize;
            scratch.visited.retain(|&(_, node)| self.accept.node(node));
            let found = scratch.visited.len();
            let wanted = *wanted.get_or_insert(least.max(usual / ENOUGH));
            if found >= wanted {
                return true;
            }
            // Long enough for twice as many as are wanted, at the share that this walk has met.
            let longer = (ef as u128 * 2 * wanted as u128).div_ceil(found.max(1) as u128);
            ef = longer.min(view.nodes() as u128) as usize;
        }
        false
    }

    /// Puts the nearest entry points into the queue.
    fn start(&self, view: GraphView<'_>, code: Code<'_>, ef: usize, scratch: &mut HnswScratch) {
        scratch.visited.clear();
        scratch.seen.reset(view.nodes());
        let (entries, codes) = (&self.index.entries, &self.index.entry_codes);
        scratch.counts.distances += entries.len() as u64;
        let (kernels, starts) = (self.kernels(), (ef / STARTS_EF).max(STARTS_MIN));
        scratch.pool.reset(starts);
        if let Some(links) = &self.index.entry_links
            && scratch.seeds.is_empty()
            && packed::start(entries, links, kernels, scratch)
        {
            scratch.pool.lengthen(ef);
            return;
        }
        scratch.distances.resize(entries.len(), 0.0);
        codes.distances(code, 0, kernels, &mut scratch.distances);
        let HnswScratch { pool, visited, distances, seeds, counts, .. } = scratch;
        let found = distances.iter().copied().zip(entries.iter().copied());
        if seeds.is_empty() {
            found.for_each(|(distance, entry)| pool.insert(distance, entry));
            pool.lengthen(ef);
            return;
        }
        visited.extend(found);
        counts.distances += seeds.len() as u64;
        for (index, &seed) in seeds.iter().enumerate() {
            if let Some(&ahead) = seeds.get(index + AHEAD) {
                prefetch_bytes(view.code(view.block(ahead)));
            }
            visited.push((direct::distance(view, code, kernels, seed), seed));
        }
        // A seed may be an entry point, whose distance another kernel rounds otherwise.
        visited.sort_unstable_by(|a, b| a.1.cmp(&b.1).then(a.0.total_cmp(&b.0)));
        visited.dedup_by_key(|found| found.1);
        visited.drain(..).for_each(|(distance, entry)| pool.insert(distance, entry));
        pool.lengthen(ef);
    }

    /// The distances of the codes of all nodes that may be returned.
    fn scan(&self, code: Code<'_>, scratch: &mut HnswScratch) {
        let (view, kernels) = (self.index.graph.view(), self.kernels());
        let HnswScratch { nodes, visited, counts, seen, .. } = scratch;
        nodes.clear();
        visited.clear();
        match self.accept.filter.rows() {
            Some(rows) if rows.len() < view.nodes() => {
                seen.reset(view.nodes());
                let live = rows.iter().filter(|&row| self.source.is_live(row));
                let of_part = live.filter_map(|row| self.index.node_of_row(row.0));
                nodes.extend(of_part.filter(|&node| seen.insert(node)));
            }
            _ => nodes.extend((0..view.nodes() as u32).filter(|&node| self.accept.node(node))),
        }
        counts.distances += nodes.len() as u64;
        for (index, &node) in nodes.iter().enumerate() {
            if let Some(&ahead) = nodes.get(index + AHEAD) {
                prefetch_bytes(view.code(view.block(ahead)));
            }
            visited.push((direct::distance(view, code, kernels, node), node));
        }
    }

    /// Leaves the `k` visited nodes that are nearest by their codes, and of the next ones up to
    /// `most` in all those that may be nearer but for the rounding of the codes.
    fn nearest(&self, query: Terms, most: usize, scratch: &mut HnswScratch, k: usize) {
        let visited = &mut scratch.visited;
        if visited.len() > most {
            visited.select_nth_unstable_by(most - 1, nearer);
            visited.truncate(most);
        }
        visited.sort_unstable_by(nearer);
        let Some(&(distance, node)) = visited.get(k - 1) else { return };
        let view = self.index.graph.view();
        let limit = distance + rounding(query, view.terms(view.block(node)), distance);
        visited.truncate(visited.partition_point(|found| found.0 <= limit).max(k));
    }

    /// Offers the rows of the visited nodes.
    fn rank(&self, scratch: &mut HnswScratch, out: &mut TopK) {
        let HnswScratch { visited, rows, norms, counts, .. } = scratch;
        rows.clear();
        rows.extend(visited.iter().flat_map(|&(_, node)| self.accept.rows(node)));
        counts.rows += rows.len() as u64;
        // Of so few as these each would be compared a second time.
        let exactly = out.has_room_for(rows.len());
        norms.resize(rows.len(), 0.0);
        if self.query.needs_norms() && !exactly {
            for (&row, norm) in rows.iter().zip(&mut *norms) {
                self.source.inverse_norms(row, std::slice::from_mut(norm));
            }
        }
        rows.iter().take(ROWS_AHEAD).for_each(|&row| self.source.prefetch(row));
        for (index, (&row, &norm)) in rows.iter().zip(&*norms).enumerate() {
            let next = rows.get(index + ROWS_AHEAD);
            let Some(vector) = self.source.vector(row) else { continue };
            if exactly {
                let next = next.and_then(|&row| self.source.vector(row)).unwrap_or_default();
                out.offer_exact(row, self.query.exact_key_before(vector, next));
            } else {
                next.into_iter().for_each(|&row| self.source.prefetch(row));
                out.offer(row, self.key(vector, norm));
            }
        }
    }

    fn key(&self, vector: &[f32], inverse_norm: f32) -> f64 {
        let mut key = [0.0];
        self.query.keys(vector, vector.len(), &[inverse_norm], &mut key);
        if self.query.is_reliable(key[0]) {
            f64::from(key[0])
        } else {
            self.query.exact_key(vector)
        }
    }
}

/// Whether a search of all of so many nodes walks; it scans fewer.
pub(super) fn is_walked(nodes: usize, ef: usize) -> bool {
    nodes > ef.saturating_mul(STEP_CODES)
}

/// Squared distance of the codes of two nodes; `like` are codes of the same shape.
pub(super) fn distance_of_nodes(view: GraphView<'_>, like: &Codes, one: u32, other: u32) -> f32 {
    let (block, mut code) = (view.block(one), like.empty());
    code.push_bytes(view.code(block), view.terms(block));
    let kernels = crate::kernels().expect("the graph was built with them");
    direct::distance(view, code.code(0), CodeKernels::new(kernels), other)
}

/// The order of nodes by their distances; among equals the smaller is the nearer.
fn nearer(a: &(f32, u32), b: &(f32, u32)) -> Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
}
