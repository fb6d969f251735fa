//! Finding the cheapest search that reaches a recall.

use super::candidates::CANDIDATES_A_RESULT;
use super::{IvfCodes, IvfIndex, IvfSearch};
use crate::{Beyond, Filter, IndexError, Job, Query, Sample, VectorSource};

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

impl IvfIndex {
    /// Finds a search whose recall over the sample is at least `target_recall`, and that costs as
    /// little as can be: for a few numbers of candidates, each twice the one before, the smallest
    /// `nprobe` that is enough, but for one part in sixteen, by halving; of these the cheapest.
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
        let sample = Sample::new(self.row_set(), k, (queries, filter, source), job)?;
        meter.tell(TRUTH_SHARE);
        let found = self.tune_on(&sample, target_recall)?;
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
        let sample = Sample::new(self.row_set(), k, (queries, filter, source), job)?;
        self.raise_on(&sample, target_recall, keeps_cells)
    }

    /// As [`IvfIndex::raise`], on a sample whose true neighbours are known.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn raise_on(
        &self,
        sample: &Sample<'_>,
        target_recall: f64,
        keeps_cells: bool,
    ) -> Result<Tuned, IndexError> {
        let mut best = self.measure(sample, self.search)?;
        if best.recall < target_recall && !keeps_cells {
            return self.tune_on(sample, target_recall);
        }
        let most = if self.config.codes == IvfCodes::Full { 0 } else { self.row_set().len() };
        while best.recall < target_recall && best.search.candidates < most {
            let candidates = best.search.candidates.max(1).saturating_mul(2);
            let found = self.measure(sample, IvfSearch { candidates, ..best.search })?;
            if found.recall < best.recall + GAIN_MIN {
                break;
            }
            best = found;
        }
        Ok(best)
    }

    /// As [`IvfIndex::tune`], on a sample whose true neighbours are known.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn tune_on(&self, sample: &Sample<'_>, target_recall: f64) -> Result<Tuned, IndexError> {
        let k = sample.k();
        // Who searches for fewer than the sample has found them sooner.
        let with = |candidates| IvfSearch { candidates, beyond: Beyond::Never, ..self.search };
        let mut best: Option<Tuned> = None;
        let mut fallback = None;
        for candidates in self.ladder(k) {
            let high = best.map_or(self.cells().max(1), |best| best.search.nprobe);
            let floor = IvfSearch { nprobe: 1, ..with(candidates) };
            if best.is_some_and(|best| self.cost(floor) >= self.cost(best.search)) {
                break;
            }
            let widest = self.measure(sample, IvfSearch { nprobe: high, ..with(candidates) })?;
            if widest.recall < target_recall {
                if best.is_none() {
                    fallback = Some(widest);
                }
                continue;
            }
            let (nprobe, recall) = Sample::least(target_recall, (1, high), |nprobe| {
                let search = IvfSearch { nprobe, ..with(candidates) };
                if nprobe == high {
                    return Ok(widest.recall);
                }
                Ok(self.measure(sample, search)?.recall)
            })?;
            let found = Tuned { search: IvfSearch { nprobe, ..with(candidates) }, recall };
            if best.is_none_or(|best| self.cost(found.search) < self.cost(best.search)) {
                best = Some(found);
            }
        }
        let Some(mut found) = best.or(fallback) else { return self.measure(sample, self.search) };
        found.search.beyond = self.search.beyond;
        Ok(found)
    }

    /// Share of the true neighbours that a search finds.
    fn measure(&self, sample: &Sample<'_>, search: IvfSearch) -> Result<Tuned, IndexError> {
        let recall = sample.recall(&|query, filter, source, scratch, top| {
            self.search_with(search, query, filter, source, scratch, top)
        })?;
        Ok(Tuned { search, recall })
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
