//! Searching a hybrid store: both tables as of one moment, each key once.

use std::sync::Arc;

use super::{HybridSearchResult, HybridVectorStore, ResultSource};
use crate::collection::Snapshot;
use crate::error::Result;
use crate::vector::search::Hit;
use crate::vector::{MeasuredRecall, SearchOptions};

impl HybridVectorStore {
    /// The `k` nearest of all vectors, nearest first, each key once.
    ///
    /// # Errors
    /// As [`VectorStore::search`](crate::VectorStore::search).
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<HybridSearchResult>> {
        self.search_with(query, k, &SearchOptions::default())
    }

    /// As [`HybridVectorStore::search`], done as the options say; see
    /// [`HybridVectorStore::search_batch_with`].
    ///
    /// # Errors
    /// As there.
    pub fn search_with(
        &self,
        query: &[f32],
        k: usize,
        options: &SearchOptions,
    ) -> Result<Vec<HybridSearchResult>> {
        self.hot.check_dimensions("Query", query.len())?;
        Ok(self.search_batch_with(query, k, options)?.pop().unwrap_or_default())
    }

    /// The answers of [`HybridVectorStore::search`] to several queries, row-major, all as of one
    /// moment.
    ///
    /// # Errors
    /// As [`VectorStore::search`](crate::VectorStore::search).
    pub fn search_batch(&self, queries: &[f32], k: usize) -> Result<Vec<Vec<HybridSearchResult>>> {
        self.search_batch_with(queries, k, &SearchOptions::default())
    }

    /// As [`HybridVectorStore::search_batch`], done as the options say.
    ///
    /// Both tables reach a recall, and both heed a filter. `nprobe` and `candidates` are for the
    /// inverted file of the hot table, `num_probes` and `ef_search` for the cascade of the cold
    /// one: a table that is told nothing of its own is searched as without options. So it goes
    /// by the table where somebody built an index of another kind, too: a number that is not of
    /// the table counts there only where neither the index nor the store has a recall.
    ///
    /// # Errors
    /// As [`VectorStore::search_with`](crate::VectorStore::search_with).
    pub fn search_batch_with(
        &self,
        queries: &[f32],
        k: usize,
        options: &SearchOptions,
    ) -> Result<Vec<Vec<HybridSearchResult>>> {
        let [looks_hot, looks_cold] = self.looks(options)?;
        let [hot, cold] = self.snapshots()?;
        let found = self.hot.search_hits_in(hot.clone(), queries, k, &looks_hot)?;
        let colder = self.cold.search_hits_in(cold.clone(), queries, k, &looks_cold)?;
        let width = usize::from(self.dimensions());
        let queries = queries.chunks_exact(width);
        let mut answers = Vec::with_capacity(found.len());
        for (query, (found, mut colder)) in queries.zip(found.into_iter().zip(colder)) {
            self.leave_out_hot(hot.as_ref(), cold.as_ref(), (query, k, &looks_cold), &mut colder)?;
            let mut all = results(found, ResultSource::Hot);
            all.extend(results(colder, ResultSource::Cold));
            all.sort_by(|a, b| a.score.total_cmp(&b.score));
            all.truncate(k);
            answers.push(all);
        }
        Ok(answers)
    }

    /// Takes away hits whose keys have a new vector: only somebody who writes to the cold table by
    /// itself brings such about. What they hid is looked for again.
    fn leave_out_hot(
        &self,
        hot: Option<&Arc<Snapshot>>,
        cold: Option<&Arc<Snapshot>>,
        (query, k, options): (&[f32], usize, &SearchOptions),
        hits: &mut Vec<Hit>,
    ) -> Result<()> {
        let Some(hot) = hot else { return Ok(()) };
        let mut asked = k;
        loop {
            let (all, mut failure) = (hits.len(), None);
            hits.retain(|hit| match hot.get(hit.key.as_bytes()) {
                Ok(found) => found.is_none(),
                Err(error) => {
                    failure = Some(self.hot.failure(error).for_key(hit.key.as_bytes()));
                    true
                }
            });
            failure.map_or(Ok(()), Err)?;
            let hidden = all - hits.len();
            if hidden == 0 || all < asked || hits.len() >= k {
                return Ok(());
            }
            asked = asked.saturating_mul(2).max(asked.saturating_add(hidden));
            let again = self.cold.search_hits_in(cold.cloned(), query, asked, options)?;
            *hits = again.into_iter().flatten().collect();
        }
    }

    /// The `k` nearest of the new vectors.
    ///
    /// # Errors
    /// As [`VectorStore::search`](crate::VectorStore::search).
    pub fn search_hot(&self, query: &[f32], k: usize) -> Result<Vec<HybridSearchResult>> {
        self.search_layer(ResultSource::Hot, query, k, &SearchOptions::default())
    }

    /// The `k` nearest of those that stay.
    ///
    /// # Errors
    /// As [`VectorStore::search`](crate::VectorStore::search).
    pub fn search_cold(&self, query: &[f32], k: usize) -> Result<Vec<HybridSearchResult>> {
        self.search_layer(ResultSource::Cold, query, k, &SearchOptions::default())
    }

    /// The `k` nearest of one of the two tables; options as for
    /// [`HybridVectorStore::search_batch_with`].
    ///
    /// # Errors
    /// As there.
    pub fn search_layer(
        &self,
        layer: ResultSource,
        query: &[f32],
        k: usize,
        options: &SearchOptions,
    ) -> Result<Vec<HybridSearchResult>> {
        let [looks_hot, looks_cold] = self.looks(options)?;
        let (store, options) = match layer {
            ResultSource::Hot => (&self.hot, looks_hot),
            ResultSource::Cold => (&self.cold, looks_cold),
        };
        store.check_dimensions("Query", query.len())?;
        let found = store.search_hits(query, k, &options)?;
        Ok(results(found.into_iter().flatten().collect(), layer))
    }

    /// What share of its `k` nearest a search of each table finds, the hot one first; see
    /// [`VectorStore::measure_recall`](crate::VectorStore::measure_recall).
    ///
    /// # Errors
    /// As there.
    pub fn measure_recall(&self, k: usize, sample: usize) -> Result<[MeasuredRecall; 2]> {
        let [looks_hot, looks_cold] = self.looks(&SearchOptions::default())?;
        let hot = self.hot.measure_recall(k, sample, &looks_hot)?;
        Ok([hot, self.cold.measure_recall(k, sample, &looks_cold)?])
    }

    /// How each table is searched. The numbers of the configuration stand in for those that were
    /// not given; a recall that the store or an index has goes before them where a table was told
    /// none of its own.
    fn looks(&self, options: &SearchOptions) -> Result<[SearchOptions; 2]> {
        options.check()?;
        let (of_hot, of_cold) = (&self.config.hot, &self.config.cold);
        let is_hot_told = options.nprobe.or(options.candidates).is_some();
        let hot = SearchOptions {
            nprobe: options.nprobe.or(Some(of_hot.nprobe)),
            are_usual: options.are_usual || !is_hot_told,
            ..options.clone()
        };
        let is_cold_told = options.num_probes.or(options.ef_search).is_some();
        let cold = SearchOptions {
            num_probes: options.num_probes.or(Some(of_cold.num_probes)),
            ef_search: options.ef_search.or(Some(of_cold.ef_search)),
            are_usual: options.are_usual || !is_cold_told,
            ..options.clone()
        };
        Ok([hot, cold])
    }
}

fn results(hits: Vec<Hit>, source: ResultSource) -> Vec<HybridSearchResult> {
    let result = |hit: Hit| HybridSearchResult { key: hit.key, score: hit.score, source };
    hits.into_iter().map(result).collect()
}
