//! Finding the cheapest search that reaches a recall.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::candidates::CANDIDATES_A_RESULT;
use super::{IvfCodes, IvfIndex, IvfSearch};
use crate::job::Crew;
use crate::{Filter, IndexError, Job, Part, Query, Scratch, TopK, VectorSource};

/// Queries that a thread takes at once, at most.
const PIECE_QUERIES: usize = 32;
/// What a candidate costs, in entries that are scanned: its finer code or its vector is read from
/// anywhere.
const CANDIDATE_COST: usize = 12;
/// Twice the candidates that find less than this more are not worth their comparison.
const GAIN_MIN: f64 = 0.005;
/// Share of the work that the exact searches are taken for.
const TRUTH_SHARE: f32 = 0.5;

/// A search and the recall that it reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuned {
    /// How much to look at.
    pub search: IvfSearch,
    /// Share of the true neighbours that it found, 0 to 1; ties with the last one count.
    pub recall: f64,
}

/// The queries that stand for those to come, with the number and the last score of their true
/// neighbours.
struct Sample<'a> {
    index: &'a IvfIndex,
    k: usize,
    queries: &'a [Query],
    truth: Vec<(usize, f32)>,
    filter: &'a Filter,
    source: &'a dyn VectorSource,
    crew: Crew<'a>,
}

impl IvfIndex {
    /// Finds a search whose recall over the sample is at least `target_recall`, and that costs as
    /// little as can be: for a few numbers of candidates, each twice the one before, the smallest
    /// `nprobe` that is enough, by halving; of these the cheapest.
    ///
    /// The sample stands for the queries to come: take real ones where there are some, else rows
    /// of the store; a few hundred tell recall to one percent. Costs the exact search of every
    /// query once, then some tens of rounds of the sample. Returns the best search of all cells
    /// where nothing less is enough.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when a query does not fit the source;
    /// [`IndexError::Cancelled`].
    pub fn tune(
        &self,
        target_recall: f64,
        k: usize,
        queries: &[Query],
        filter: &Filter,
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<Tuned, IndexError> {
        let mut meter = job.meter();
        let sample = Sample::new(self, k, (queries, filter, source), job.crew())?;
        meter.tell(TRUTH_SHARE);
        let found = self.cheapest(target_recall, &sample)?;
        meter.tell(1.0);
        Ok(found)
    }

    /// The default search where its recall over the sample is at least `target_recall`. Where it is
    /// not, the cheapest one that is enough, as [`IvfIndex::tune`] finds it; with `keeps_cells`
    /// the default with twice the candidates as often as that is not enough and gains recall.
    ///
    /// Vectors without structure need many more candidates than others: their codes hardly tell
    /// near rows from the rest. Costs the exact search of every query once, and where the default
    /// is enough no more than that.
    ///
    /// # Errors
    ///
    /// As [`IvfIndex::tune`].
    pub fn raise(
        &self,
        target_recall: f64,
        k: usize,
        keeps_cells: bool,
        queries: &[Query],
        filter: &Filter,
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<Tuned, IndexError> {
        let sample = Sample::new(self, k, (queries, filter, source), job.crew())?;
        let mut best = sample.measure(self.search)?;
        if best.recall < target_recall && !keeps_cells {
            return self.cheapest(target_recall, &sample);
        }
        let most = if self.config.codes == IvfCodes::Full { 0 } else { self.row_set().len() };
        while best.recall < target_recall && best.search.candidates < most {
            let candidates = best.search.candidates.max(1).saturating_mul(2);
            let found = sample.measure(IvfSearch { candidates, ..best.search })?;
            if found.recall < best.recall + GAIN_MIN {
                break;
            }
            best = found;
        }
        Ok(best)
    }

    fn cheapest(&self, target_recall: f64, sample: &Sample<'_>) -> Result<Tuned, IndexError> {
        let k = sample.k;
        let mut best: Option<Tuned> = None;
        let mut fallback = None;
        for candidates in self.ladder(k) {
            let high = best.map_or(self.cells().max(1), |best| best.search.nprobe);
            let floor = IvfSearch { nprobe: 1, candidates };
            if best.is_some_and(|best| self.cost(floor) >= self.cost(best.search)) {
                break;
            }
            let widest = sample.measure(IvfSearch { nprobe: high, candidates })?;
            if widest.recall < target_recall {
                if best.is_none() {
                    fallback = Some(widest);
                }
                continue;
            }
            let found = sample.fewest_cells(target_recall, widest)?;
            if best.is_none_or(|best| self.cost(found.search) < self.cost(best.search)) {
                best = Some(found);
            }
        }
        let found = best.or(fallback);
        found.map_or_else(|| sample.measure(self.search), Ok)
    }

    /// Numbers of candidates that are tried.
    fn ladder(&self, k: usize) -> impl Iterator<Item = usize> + use<> {
        let first = k.saturating_mul(CANDIDATES_A_RESULT).max(1);
        let counts = self.config.codes != IvfCodes::Full;
        let last = if counts { self.row_set().len().max(first) } else { first };
        let next = move |&count: &usize| (count < last).then(|| count.saturating_mul(2).min(last));
        std::iter::successors(Some(first), next)
    }

    /// What a search costs, in entries that are scanned.
    fn cost(&self, search: IvfSearch) -> usize {
        let entries = self.lists.rows.len().div_ceil(self.cells().max(1));
        let counts = self.config.codes != IvfCodes::Full;
        let candidates = if counts { search.candidates } else { 0 };
        let cells = search.nprobe.saturating_mul(entries);
        candidates.saturating_mul(CANDIDATE_COST).saturating_add(cells)
    }
}

impl<'a> Sample<'a> {
    fn new(
        index: &'a IvfIndex,
        k: usize,
        (queries, filter, source): (&'a [Query], &'a Filter, &'a dyn VectorSource),
        crew: Crew<'a>,
    ) -> Result<Self, IndexError> {
        let mut sample = Self { index, k, queries, truth: Vec::new(), filter, source, crew };
        sample.truth = sample.exact()?;
        Ok(sample)
    }

    /// The smallest `nprobe` that is enough, below one that is.
    fn fewest_cells(&self, target_recall: f64, enough: Tuned) -> Result<Tuned, IndexError> {
        let (mut best, mut low, mut probe) = (enough, 0, 1);
        while low + 1 < best.search.nprobe {
            let found = self.measure(IvfSearch { nprobe: probe, ..enough.search })?;
            if found.recall >= target_recall {
                best = found;
            } else {
                low = probe;
            }
            // Up in doubles until one is enough, then between the two.
            let high = best.search.nprobe;
            let next = if high == enough.search.nprobe { 2 * probe } else { low.midpoint(high) };
            probe = next.clamp(low + 1, high.max(low + 2) - 1);
        }
        Ok(best)
    }

    /// Number and last score of the true neighbours of every query.
    fn exact(&self) -> Result<Vec<(usize, f32)>, IndexError> {
        let mut truth = vec![(0, 0.0); self.queries.len()];
        let len = self.crew.piece_len(self.queries.len(), PIECE_QUERIES);
        let pieces = self.queries.chunks(len).zip(truth.chunks_mut(len)).collect();
        self.crew.each(pieces, |(queries, truth): (&[Query], &mut [(usize, f32)])| {
            let (mut scratch, mut hits) = (Scratch::new(), Vec::new());
            let mut top = TopK::new(self.k);
            for (query, truth) in queries.iter().zip(truth) {
                top.reset(self.k);
                hits.clear();
                self.index.flat.search(query, self.filter, self.source, &mut scratch, &mut top)?;
                top.finish(query, self.source, &mut hits);
                *truth = hits.last().map_or((0, 0.0), |last| (hits.len(), last.score));
            }
            Ok(())
        })?;
        Ok(truth)
    }

    /// Share of the true neighbours that a search finds.
    fn measure(&self, search: IvfSearch) -> Result<Tuned, IndexError> {
        let found = AtomicUsize::new(0);
        let len = self.crew.piece_len(self.queries.len(), PIECE_QUERIES);
        let pieces = self.queries.chunks(len).zip(self.truth.chunks(len)).collect();
        self.crew.each(pieces, |(queries, truth): (&[Query], &[(usize, f32)])| {
            let (mut scratch, mut hits) = (Scratch::new(), Vec::new());
            let mut top = TopK::new(self.k);
            for (query, &(count, last)) in queries.iter().zip(truth) {
                top.reset(self.k);
                hits.clear();
                let (filter, source) = (self.filter, self.source);
                self.index.search_with(search, query, filter, source, &mut scratch, &mut top)?;
                top.finish(query, source, &mut hits);
                let near = hits.iter().filter(|hit| hit.score <= last).count().min(count);
                found.fetch_add(near, Ordering::Relaxed);
            }
            Ok(())
        })?;
        let wanted: usize = self.truth.iter().map(|&(count, _)| count).sum();
        let recall = if wanted == 0 { 1.0 } else { found.into_inner() as f64 / wanted as f64 };
        Ok(Tuned { search, recall })
    }
}
