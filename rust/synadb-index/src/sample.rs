//! Queries that stand for those to come: what share of their neighbours a search finds, and the
//! least effort that is enough.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use synadb_types::{RowId, RowSet};

use crate::job::Crew;
use crate::{Filter, FlatIndex, Hit, IndexError, Job, Part, Query, Scratch, TopK, VectorSource};

/// Queries that a thread takes at once, at most: they share each read of the exact scan.
const PIECE_QUERIES: usize = 32;
/// [`Sample::least`] ends when its number is at most this much larger than one that is too small:
/// one part in sixteen changes the time less than a busy machine does.
const STEP: usize = 16;
/// Rows that are equal to the one of a query and are looked past, at most.
const EQUAL_MAX: usize = 4096;

/// Queries with the number and the last score of their true neighbours.
pub struct Sample<'a> {
    k: usize,
    queries: &'a [Query],
    own: Vec<Own>,
    filter: &'a Filter,
    source: &'a dyn VectorSource,
    truth: Vec<(usize, f32)>,
    crew: Crew<'a>,
}

impl std::fmt::Debug for Sample<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Sample");
        shown.field("k", &self.k).field("queries", &self.queries.len()).finish_non_exhaustive()
    }
}

/// What of the neighbours of a query that was made of a row counts for nothing.
///
/// Rows that are equal to it lie where no query to come does, and each of its neighbours may have as
/// many: who looks for ten finds the ten of one row, and knows nothing of the others.
#[derive(Clone, Copy, Default)]
struct Own {
    row: Option<RowId>,
    /// Whether the row itself counts.
    counts: bool,
    /// How many rows are equal to it, and their score.
    equal: usize,
    score: f32,
}

impl Own {
    /// How many hits have `k` among them that count.
    fn asking(&self, k: usize) -> usize {
        k.saturating_add(self.equal + usize::from(self.row.is_some() && !self.counts))
    }

    /// Counts the rows that are equal to its own among the nearest, which has this score.
    fn look_at(&mut self, hits: &[Hit], score: Option<f32>) {
        let Some(score) = score else { return };
        let is_equal = |hit: &&Hit| Some(hit.row) != self.row && hit.score == score;
        (self.equal, self.score) = (hits.iter().filter(is_equal).count(), score);
    }

    /// The score of its row, of which there may be none any more.
    fn score(
        &self,
        query: &Query,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
    ) -> Result<Option<f32>, IndexError> {
        let Some(row) = self.row else { return Ok(None) };
        let (mut top, mut hits) = (TopK::new(1), Vec::new());
        let alone = FlatIndex::new(std::iter::once(row).collect());
        alone.search(query, &Filter::All, source, scratch, &mut top)?;
        top.finish(query, source, &mut hits);
        Ok(hits.first().map(|hit| hit.score))
    }

    fn is_passed(&self, hit: &Hit) -> bool {
        if Some(hit.row) == self.row {
            !self.counts
        } else {
            self.equal > 0 && hit.score == self.score
        }
    }
}

/// A search of one query for the rows that a filter allows.
pub type Searching<'a> = &'a (
        dyn Fn(
    &Query,
    &Filter,
    &dyn VectorSource,
    &mut Scratch,
    &mut TopK,
) -> Result<(), IndexError>
            + Sync
    );

/// Queries that a thread takes, and the rows that they were made of.
type Piece<'a> = (&'a [Query], &'a [Own]);
/// The same, with what is found out of each.
type Truths<'a> = ((&'a [Query], &'a mut [Own]), &'a mut [(usize, f32)]);

impl<'a> Sample<'a> {
    /// Scans `rows` for the `k` nearest of each query that the filter allows. O(queries * rows * d)
    /// on the threads of the job.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when a query does not fit the source;
    /// [`IndexError::Cancelled`].
    pub fn new(
        rows: &RowSet,
        k: usize,
        (queries, filter, source): (&'a [Query], &'a Filter, &'a dyn VectorSource),
        job: &Job<'a>,
    ) -> Result<Self, IndexError> {
        let own = vec![Own::default(); queries.len()];
        Self::with_own(rows, k, own, (queries, filter, source), job)
    }

    /// As [`Sample::new`], for queries that are rows: those that are equal to it are none of the
    /// neighbours of a query.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Panics
    ///
    /// Panics when there is not one row for each query.
    pub fn among_rows(
        rows: &RowSet,
        k: usize,
        own: &[RowId],
        (queries, filter, source): (&'a [Query], &'a Filter, &'a dyn VectorSource),
        job: &Job<'a>,
    ) -> Result<Self, IndexError> {
        assert_eq!(own.len(), queries.len(), "each query has a row");
        let own = own.iter().map(|row| Own { row: Some(*row), counts: true, ..Own::default() });
        Self::with_own(rows, k, own.collect(), (queries, filter, source), job)
    }

    /// As [`Sample::new`], for queries that were made of rows: the row of each is none of its
    /// neighbours, and none that is equal to it. A filter would have a graph searched in another way.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Panics
    ///
    /// Panics when there is not one row for each query.
    pub fn of_rows(
        rows: &RowSet,
        k: usize,
        own: &[RowId],
        (queries, filter, source): (&'a [Query], &'a Filter, &'a dyn VectorSource),
        job: &Job<'a>,
    ) -> Result<Self, IndexError> {
        assert_eq!(own.len(), queries.len(), "each query has a row");
        let own = own.iter().map(|row| Own { row: Some(*row), ..Own::default() });
        Self::with_own(rows, k, own.collect(), (queries, filter, source), job)
    }

    fn with_own(
        rows: &RowSet,
        k: usize,
        mut own: Vec<Own>,
        (queries, filter, source): (&'a [Query], &'a Filter, &'a dyn VectorSource),
        job: &Job<'a>,
    ) -> Result<Self, IndexError> {
        let (exact, crew) = (FlatIndex::new(rows.clone()), job.crew());
        let mut truth = vec![(0, 0.0); queries.len()];
        let len = crew.piece_len(queries.len(), PIECE_QUERIES);
        let pieces = queries.chunks(len).zip(own.chunks_mut(len)).zip(truth.chunks_mut(len));
        crew.each(pieces.collect(), |((queries, own), truth): Truths<'_>| {
            let mut tops: Vec<TopK> = own.iter().map(|own| TopK::new(own.asking(k))).collect();
            let (mut scratch, rests) = (Scratch::new(), RefCell::new(crew.rests()));
            let pause = || rests.borrow_mut().take();
            exact.search_pausing(queries, filter, source, &mut scratch, (&mut tops, &pause))?;
            let mut hits = Vec::new();
            for (((query, own), top), truth) in queries.iter().zip(own).zip(&mut tops).zip(truth) {
                let score = own.score(query, source, &mut scratch)?;
                let mut asked = own.asking(k);
                loop {
                    hits.clear();
                    top.finish(query, source, &mut hits);
                    own.look_at(&hits, score);
                    let counting = hits.iter().filter(|hit| !own.is_passed(hit)).count();
                    if counting >= k || hits.len() < asked || asked > k.saturating_add(EQUAL_MAX) {
                        break;
                    }
                    asked = asked.saturating_mul(2).max(own.asking(k));
                    top.reset(asked);
                    let (one, top) = (std::slice::from_ref(query), std::slice::from_mut(top));
                    exact.search_pausing(one, filter, source, &mut scratch, (top, &pause))?;
                }
                hits.retain(|hit| !own.is_passed(hit));
                hits.truncate(k);
                *truth = hits.last().map_or((0, 0.0), |last| (hits.len(), last.score));
            }
            Ok(())
        })?;
        Ok(Self { k, queries, own, filter, source, truth, crew })
    }

    /// Neighbours that are looked for.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// Share of the true neighbours that a search finds, 0 to 1; ties with the last one count. One
    /// where there is nothing to be found.
    ///
    /// # Errors
    ///
    /// Those of the search; [`IndexError::Cancelled`].
    pub fn recall(&self, search: Searching<'_>) -> Result<f64, IndexError> {
        let found = AtomicUsize::new(0);
        let len = self.crew.piece_len(self.queries.len(), PIECE_QUERIES);
        let pieces = self.queries.chunks(len).zip(self.own.chunks(len));
        let pieces = pieces.zip(self.truth.chunks(len)).collect();
        self.crew.each(pieces, |((queries, own), truth): (Piece<'_>, &[(usize, f32)])| {
            let (mut scratch, mut hits) = (Scratch::new(), Vec::new());
            let (mut top, mut rests) = (TopK::new(self.k), self.crew.rests());
            for ((query, own), &(count, last)) in queries.iter().zip(own).zip(truth) {
                top.reset(own.asking(self.k));
                hits.clear();
                search(query, self.filter, self.source, &mut scratch, &mut top)?;
                top.finish(query, self.source, &mut hits);
                hits.retain(|hit| hit.score <= last && !own.is_passed(hit));
                let near = hits.len().min(count);
                found.fetch_add(near, Ordering::Relaxed);
                rests.take();
            }
            Ok(())
        })?;
        let wanted: usize = self.truth.iter().map(|&(count, _)| count).sum();
        Ok(if wanted == 0 { 1.0 } else { found.into_inner() as f64 / wanted as f64 })
    }

    /// The smallest number from `first` to `last`, but for one part in sixteen, at which a search
    /// has a recall of `target`, and that recall: up in doubles until one is enough, then by
    /// halving what is between. The last one where none is enough.
    ///
    /// # Errors
    ///
    /// Those of the searches.
    pub(crate) fn least(
        target: f64,
        (first, last): (usize, usize),
        mut recall_at: impl FnMut(usize) -> Result<f64, IndexError>,
    ) -> Result<(usize, f64), IndexError> {
        let mut best = first.clamp(1, last.max(1));
        let mut recall = recall_at(best)?;
        let mut too_small = 0;
        while recall < target && best < last {
            too_small = best;
            best = best.saturating_mul(2).min(last);
            recall = recall_at(best)?;
        }
        while too_small > 0 && recall >= target && best - too_small > best / STEP + 1 {
            let between = too_small.midpoint(best);
            let found = recall_at(between)?;
            if found >= target {
                (best, recall) = (between, found);
            } else {
                too_small = between;
            }
        }
        Ok((best, recall))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metric;
    use crate::job::tests::ASKED;
    use crate::testing::vectors::{Vectors, grouped};

    #[test]
    fn the_scan_of_a_sample_rests_and_finds_the_same() -> Result<(), IndexError> {
        let source = Vectors::of(&grouped(1, 0, 3000, 96));
        let vectors = grouped(1, 1, 40, 96);
        let query = |vector: &Vec<f32>| Query::new(Metric::Cosine, vector);
        let queries: Vec<Query> = vectors.iter().map(query).collect::<Result<_, _>>()?;
        let some = Filter::Rows((0..3000).filter(|row| row % 5 > 0).map(RowId).collect());
        for filter in [&Filter::All, &some] {
            let of = |rests| {
                let job = Job { rests, ..Job::default() };
                ASKED.set(0);
                let sample = Sample::new(&source.all(), 9, (&queries, filter, &source), &job)?;
                Ok::<_, IndexError>((sample.truth, ASKED.get()))
            };
            let ((rested, asked), (tireless, never)) = (of(true)?, of(false)?);
            assert_eq!(rested, tireless);
            assert_eq!(never, 0);
            // Four pieces, each of 3,000 rows by some tens at once.
            assert!(asked > 4 * 3000 / 100, "{asked}");
        }
        Ok(())
    }

    #[test]
    fn the_least_that_is_enough_is_found_but_for_a_sixteenth() -> Result<(), IndexError> {
        for enough in [1, 5, 20, 21, 39, 40, 1000, 4096] {
            let mut asked = 0;
            let recall_at = |number| {
                asked += 1;
                Ok(if number >= enough { 0.9 } else { 0.1 })
            };
            let (found, recall) = Sample::least(0.8, (20, 5000), recall_at)?;
            assert!(recall >= 0.8 && found >= enough && found >= 20, "{found} for {enough}");
            assert!(found == 20 || found - enough <= found / STEP + 1, "{found} for {enough}");
            assert!(asked <= 14, "{asked}");
        }
        assert_eq!(Sample::least(0.8, (20, 5000), |_| Ok(0.5))?, (5000, 0.5));
        assert_eq!(Sample::least(0.8, (20, 7), |_| Ok(0.5))?, (7, 0.5));
        assert_eq!(Sample::least(0.8, (20, 0), |_| Ok(1.0))?, (1, 1.0));
        Ok(())
    }
}
