//! Entry points for groups that walks miss.
//!
//! What links lead to need not be found: where rows lie in groups of about as many as a node has
//! candidates, nearly all links of a group stay in it, and a walk that begins elsewhere comes there
//! only if it happens to pass one of the few that do not. So a sample of the rows is searched for, and
//! where too many do not find themselves, of each group that is missed one becomes an entry point.

use crate::hnsw::HnswIndex;
use crate::{Filter, IndexError, Metric, Query, Scratch, TopK, VectorSource};

/// Nodes that are searched for in one round, about.
const SAMPLE: usize = 2048;
/// One in so many of them may be missed: of any data a short walk misses some.
const MISSED: usize = 50;
/// Rounds, each with other nodes.
const ROUNDS: usize = 4;
/// Distance at which something else is as good as the row itself.
const EQUAL: f32 = 1e-6;

impl HnswIndex {
    /// Makes entry points of nodes that a search with the usual queue does not find. By the inner
    /// product no row is its own nearest, and nothing is done.
    ///
    /// # Errors
    ///
    /// Those of a search.
    pub(super) fn find_lost(&mut self, source: &dyn VectorSource) -> Result<(), IndexError> {
        if self.metric() == Metric::DotProduct {
            return Ok(());
        }
        let step = (self.nodes() / SAMPLE).max(1);
        let mut scratch = Scratch::new();
        for round in 0..ROUNDS.min(step) {
            let sample =
                (round * step / ROUNDS..self.nodes()).step_by(step).map(|node| node as u32);
            let count = sample.len();
            let mut missed = Vec::new();
            for node in sample {
                if self.misses(node, source, &mut scratch)? {
                    missed.push(node);
                }
            }
            if missed.len() * MISSED <= count {
                break;
            }
            for node in missed {
                // The entry point of another one of its group may have been enough.
                if self.misses(node, source, &mut scratch)? && !self.entries.contains(&node) {
                    self.add_entry(node);
                }
            }
        }
        Ok(())
    }

    /// Whether a search for the vector of a node finds neither it nor an equal one.
    fn misses(
        &self,
        node: u32,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
    ) -> Result<bool, IndexError> {
        let rows = self.members.of(node);
        let Some(vector) = source.vector(synadb_types::RowId(rows[0])) else { return Ok(false) };
        let query = Query::new(self.metric(), vector)?;
        let (mut top, mut hits) = (TopK::new(1), Vec::new());
        self.search_with_ef(
            &query,
            &Filter::All,
            source,
            scratch,
            &mut top,
            self.config.ef_search,
        )?;
        top.finish(&query, source, &mut hits);
        Ok(hits.first().is_some_and(|hit| hit.score > EQUAL && !rows.contains(&hit.row.0)))
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
