//! Entry points for groups that walks miss.
//!
//! What links lead to need not be found: where rows lie in groups of about as many as a node
//! has candidates, nearly all links of a group stay in it, and a walk that begins elsewhere comes
//! there only if it happens to pass one of the few that do not. So a sample of the rows is searched
//! for, and where walks end far from too many of them, these become entry points.

use synadb_types::RowId;

use crate::hnsw::HnswIndex;
use crate::hnsw::search::{distance_of_nodes, is_walked};
use crate::hnsw::workers::Workers;
use crate::random::Random;
use crate::{Filter, IndexError, Job, Query, Scratch, TopK, VectorSource};

/// Nodes that are searched for in one round, of queues up to [`QUEUE`]; of longer ones as many
/// fewer, so that a round takes about as long.
const SAMPLE: usize = 2048;
const QUEUE: usize = 128;
/// The queue of these searches at least and at most, whatever is usual: a search for ten has no
/// shorter one, and what one of so many does not find needs help.
const QUEUE_RANGE: std::ops::RangeInclusive<usize> = 10..=1024;
/// One in so many of the first round may be missed: on real data a short walk misses some too, and
/// an entry point more makes every search compare all of them by their own codes.
const MISSED: usize = 200;
/// Rounds, each with other nodes, for as long as one finds some that are missed.
const ROUNDS: usize = 4;
/// Entry points that are added at most.
const ADDED: usize = 1024;
/// Links of a node that are near it: a walk that ends no farther off than these was not lost.
const NEAR: usize = 8;
/// Nodes that a thread searches for before it looks whether to stop.
const GRAIN: usize = 4;
/// Mixed into the seed, so that the sample does not begin with the entry points.
const DRAW: u64 = 0x1057;

impl HnswIndex {
    /// Makes entry points of nodes that a search with the usual queue ends far from. The same
    /// for the same seed, on any number of threads. Of at most `ROUNDS` samples each node is
    /// searched for once, and once more where it is missed.
    ///
    /// # Errors
    ///
    /// [`IndexError::Cancelled`] when the job says so; those of a search.
    pub(super) fn enter_lost(
        &mut self,
        source: &dyn VectorSource,
        job: &Job<'_>,
        workers: &mut Workers<'_>,
        (begin, end): (f32, f32),
    ) -> Result<(), IndexError> {
        let size = SAMPLE * QUEUE / self.queue().max(QUEUE);
        let mut added = 0;
        for (round, sample) in self.sample(ROUNDS * size).chunks(size).enumerate() {
            workers.stage(begin + (end - begin) * (round + 1) as f32 / (ROUNDS + 1) as f32);
            let missed = workers.map(sample.len(), GRAIN, Scratch::new, |scratch, range| {
                let missed = |&node: &u32| self.misses(node, source, scratch).transpose();
                sample[range].iter().filter_map(missed).collect::<Result<Vec<u32>, _>>()
            })?;
            let missed = missed.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
            if missed.is_empty() || (round == 0 && missed.len() * MISSED <= sample.len()) {
                break;
            }
            added += self.enter(&missed, ADDED - added, source, job)?;
            if added == ADDED {
                break;
            }
        }
        workers.stage(end);
        workers.skip();
        job.check()
    }

    /// Length of the queue that nodes are searched for with.
    fn queue(&self) -> usize {
        self.config.ef_search.clamp(*QUEUE_RANGE.start(), *QUEUE_RANGE.end())
    }

    /// So many nodes, in random order; none where the usual search compares all of them.
    fn sample(&self, count: usize) -> Vec<u32> {
        if !is_walked(self.nodes(), self.config.ef_search.max(self.queue())) {
            return Vec::new();
        }
        let mut nodes: Vec<u32> = (0..self.nodes() as u32).collect();
        Random::new(self.config.seed ^ DRAW).draw(&mut nodes, count);
        nodes.truncate(count);
        nodes
    }

    /// Makes entry points of those that are missed still, up to so many, and counts them.
    fn enter(
        &mut self,
        missed: &[u32],
        most: usize,
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<usize, IndexError> {
        let (mut scratch, mut rests, mut added) = (Scratch::new(), job.rests(), 0);
        for &node in missed {
            job.check()?;
            // The entry point of another one of its group may have been enough.
            let is_new = added < most && !self.entries.contains(&node);
            if is_new && self.misses(node, source, &mut scratch)?.is_some() {
                self.add_entry(node);
                added += 1;
            }
            rests.take();
        }
        Ok(added)
    }

    /// The node, where a search for its vector ends far from it.
    fn misses(
        &self,
        node: u32,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
    ) -> Result<Option<u32>, IndexError> {
        let live = self.members.of(node).iter().map(|&row| RowId(row));
        let mut live = live.filter(|&row| source.is_live(row));
        let Some(vector) = live.next().and_then(|row| source.vector(row)) else { return Ok(None) };
        let query = match Query::new(self.metric(), vector) {
            Ok(query) => query,
            // A row that was damaged is none to look for.
            Err(IndexError::NonFinite { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (mut top, mut hits) = (TopK::new(1), Vec::new());
        self.search_with_ef(&query, &Filter::All, source, scratch, &mut top, self.queue())?;
        top.finish(&query, source, &mut hits);
        let found = hits.first().and_then(|hit| Some((self.node_of_row(hit.row.0)?, hit.score)));
        let is_found = found.is_some_and(|(found, score)| {
            found == node
                || score <= query.score(self.best_key(node, &query, vector, source))
                || self.is_near(node, found)
        });
        Ok((!is_found).then_some(node))
    }

    /// Key of the best of a node and its links: by the inner product one may be better than itself.
    fn best_key(&self, node: u32, query: &Query, own: &[f32], source: &dyn VectorSource) -> f64 {
        let view = self.graph.view();
        let first_row = |link: u32| RowId(self.members.of(link)[0]);
        let links = view.links(view.block(node)).filter_map(|link| source.vector(first_row(link)));
        links.map(|vector| query.exact_key(vector)).fold(query.exact_key(own), f64::min)
    }

    /// Whether another node is no farther from a node than the nearer of its links.
    fn is_near(&self, node: u32, other: u32) -> bool {
        let view = self.graph.view();
        let distance = |other| distance_of_nodes(view, &self.entry_codes, node, other);
        let mut links: Vec<f32> = view.links(view.block(node)).map(distance).collect();
        links.sort_unstable_by(f32::total_cmp);
        links.truncate(NEAR);
        links.last().is_some_and(|&farthest| distance(other) <= farthest)
    }

    fn add_entry(&mut self, node: u32) {
        let view = self.graph.view();
        let block = view.block(node);
        self.entry_codes.push_bytes(view.code(block), view.terms(block));
        self.entries.push(node);
        // It is the only way to others, and compared by its own code.
        self.entry_links = None;
    }
}
