//! Entry points for groups that walks miss.
//!
//! What links lead to need not be found: where rows lie in groups of about as many as a node has
//! candidates, nearly all links of a group stay in it, and a walk that begins elsewhere comes there
//! only if it happens to pass one of the few that do not. So a sample of the rows is searched for, and
//! where walks end far from too many of them, these become entry points, one for each group.

use synadb_types::RowId;

use crate::hnsw::HnswIndex;
use crate::hnsw::search::{distance_of_nodes, is_walked};
use crate::hnsw::workers::Workers;
use crate::random::Random;
use crate::{Filter, IndexError, Job, Query, Scratch, TopK, VectorSource};

/// Nodes that are searched for in one round, of queues up to [`QUEUE`]; of longer ones as many fewer.
const SAMPLE: usize = 2048;
const QUEUE: usize = 128;
/// Nodes that are searched for in a round at least.
const SAMPLE_MIN: usize = 64;
/// One in so many of the first round may be missed. A queue of 10 misses six of 2,048 of minilm, one
/// of 40 none, neither any of fashion; of 200 groups one of 100 misses 168 to 354.
const MISSED: usize = 200;
/// Rounds, each with other nodes, while one finds some that are missed.
const ROUNDS: usize = 4;
/// Entry points that are added at most: every search compares all of them with its query.
const ADDED: usize = 1024;
/// Nodes that a thread searches for before it looks whether to stop.
const GRAIN: usize = 16;
/// Mixed into the seed, so that other nodes are drawn than for entry points.
const DRAW: u64 = 0x10_57;

impl HnswIndex {
    /// Makes entry points of nodes that a search with the usual queue ends far from. The same
    /// for the same seed, on any number of threads.
    ///
    /// # Errors
    ///
    /// [`IndexError::Cancelled`] when the job says so.
    pub(super) fn enter_lost(
        &mut self,
        source: &dyn VectorSource,
        job: &Job<'_>,
        workers: &mut Workers<'_>,
        (begin, end): (f32, f32),
    ) -> Result<(), IndexError> {
        let (nodes, ef) = (self.nodes(), self.config.ef_search.max(1));
        let size = (SAMPLE * QUEUE / ef.max(QUEUE)).max(SAMPLE_MIN);
        let mut sample: Vec<u32> = Vec::new();
        if is_walked(nodes, ef) {
            sample.extend(0..nodes as u32);
            Random::new(self.config.seed ^ DRAW).draw(&mut sample, ROUNDS * size);
            sample.truncate(ROUNDS * size);
        }
        let mut added = 0;
        for (round, sample) in sample.chunks(size).enumerate() {
            workers.stage(begin + (end - begin) * (round + 1) as f32 / ROUNDS as f32);
            let missed = workers.map(sample.len(), GRAIN, Scratch::new, |scratch, range| {
                let mut missed = sample[range].to_vec();
                missed.retain(|&node| self.misses(node, source, scratch));
                missed
            })?;
            let missed = missed.concat();
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
            if is_new && self.misses(node, source, &mut scratch) {
                self.add_entry(node);
                added += 1;
            }
            rests.take();
        }
        Ok(added)
    }

    /// Whether a search for the vector of a node finds nothing that is as near as it, nor anything
    /// among the nearer half of its links.
    fn misses(&self, node: u32, source: &dyn VectorSource, scratch: &mut Scratch) -> bool {
        let rows = self.members.of(node);
        let Some(vector) = source.vector(RowId(rows[0])) else { return false };
        // A row that was damaged since is none to look for.
        let Ok(query) = Query::new(self.metric(), vector) else { return false };
        let (mut top, mut hits) = (TopK::new(1), Vec::new());
        let ef = self.config.ef_search;
        if self.search_with_ef(&query, &Filter::All, source, scratch, &mut top, ef).is_err() {
            return false;
        }
        top.finish(&query, source, &mut hits);
        let Some(hit) = hits.first() else { return true };
        if hit.score <= query.score(query.exact_key(vector)) {
            return false;
        }
        let Some(found) = self.node_of_row(hit.row.0) else { return true };
        let view = self.graph.view();
        let distance = |other| distance_of_nodes(view, &self.entry_codes, node, other);
        let mut links: Vec<f32> = view.links(view.block(node)).map(distance).collect();
        let middle = links.len() / 2;
        links.is_empty()
            || distance(found) > *links.select_nth_unstable_by(middle, f32::total_cmp).1
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
