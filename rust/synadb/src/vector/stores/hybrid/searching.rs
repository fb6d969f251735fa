//! Searching a hybrid store: both tables as of one moment, each key once.

use std::sync::Arc;

use super::{HybridSearchResult, HybridVectorStore, ResultSource};
use crate::collection::Snapshot;
use crate::error::{Error, Result};
use crate::vector::search::Hit;
use crate::vector::stores::gravity::GwiConfig;
use crate::vector::{CascadeParameters, MeasuredRecall, SearchOptions};

/// Kinds of index that the tables have unless somebody builds another.
const HOT_KIND: &str = "gravity_well";
const COLD_KIND: &str = "cascade";

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
    /// Both tables reach a recall, and both heed a filter. A number goes to the table whose index
    /// knows what to do with it, or to both: `nprobe` and `candidates` to an inverted file, which the
    /// hot table has, `num_probes` and `ef_search` to a cascade, which the cold one has, `ef_search`
    /// to a graph and `candidates` to codes, where somebody built such an index. A table that is told
    /// nothing of its own is searched as without options.
    ///
    /// # Errors
    /// As [`VectorStore::search_with`](crate::VectorStore::search_with); `InvalidArgument` by the
    /// name of a number that no table understands.
    pub fn search_batch_with(
        &self,
        queries: &[f32],
        k: usize,
        options: &SearchOptions,
    ) -> Result<Vec<Vec<HybridSearchResult>>> {
        let [hot, cold] = self.snapshots()?;
        let [looks_hot, looks_cold] = self.looks(options, [hot.as_ref(), cold.as_ref()])?;
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

    /// The `k` nearest of those that stay, but for such as a new vector hides.
    ///
    /// # Errors
    /// As [`VectorStore::search`](crate::VectorStore::search).
    pub fn search_cold(&self, query: &[f32], k: usize) -> Result<Vec<HybridSearchResult>> {
        self.search_layer(ResultSource::Cold, query, k, &SearchOptions::default())
    }

    /// The `k` nearest of one of the two tables, of the cold one those that a search of both could
    /// find; options as for [`HybridVectorStore::search_batch_with`].
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
        let [hot, cold] = self.snapshots()?;
        let [looks_hot, looks_cold] = self.looks(options, [hot.as_ref(), cold.as_ref()])?;
        self.hot.check_dimensions("Query", query.len())?;
        let hits = match layer {
            ResultSource::Hot => self.hot.search_hits_in(hot, query, k, &looks_hot)?,
            ResultSource::Cold => {
                let found = self.cold.search_hits_in(cold.clone(), query, k, &looks_cold)?;
                let mut hits = found.into_iter().flatten().collect();
                let asked = (query, k, &looks_cold);
                self.leave_out_hot(hot.as_ref(), cold.as_ref(), asked, &mut hits)?;
                hits.truncate(k);
                vec![hits]
            }
        };
        Ok(results(hits.into_iter().flatten().collect(), layer))
    }

    /// What share of its `k` nearest a search of each table finds, the hot one first; see
    /// [`VectorStore::measure_recall`](crate::VectorStore::measure_recall).
    ///
    /// # Errors
    /// As there.
    pub fn measure_recall(&self, k: usize, sample: usize) -> Result<[MeasuredRecall; 2]> {
        let [hot, cold] = self.snapshots()?;
        let usual = SearchOptions::default();
        let [looks_hot, looks_cold] = self.looks(&usual, [hot.as_ref(), cold.as_ref()])?;
        let hot = self.hot.measure_recall(k, sample, &looks_hot)?;
        Ok([hot, self.cold.measure_recall(k, sample, &looks_cold)?])
    }

    /// How each table is searched: with the numbers that its index understands.
    ///
    /// Those of the configuration stand in where it has an index of the kind that they are for, and
    /// none was given; a recall that the store or an index has goes before them. The standard ones
    /// stand for those that the index was built with.
    fn looks(
        &self,
        options: &SearchOptions,
        [hot, cold]: [Option<&Arc<Snapshot>>; 2],
    ) -> Result<[SearchOptions; 2]> {
        options.check()?;
        let of_hot = self.hot.heeding(hot, HOT_KIND);
        let of_cold = self.cold.heeding(cold, COLD_KIND);
        let is_strange = |name| !of_hot.understands(name) && !of_cold.understands(name);
        if let Some((argument, got)) = options.numbers().find(|(name, _)| is_strange(*name)) {
            let reason = format!(
                "no table has an index that it is for: the hot one has '{}', the cold one '{}', got \
                 {got}",
                of_hot.kind, of_cold.kind
            );
            return Err(Error::InvalidArgument { argument, reason });
        }
        let [mut hot, mut cold] = [of_hot.of(options), of_cold.of(options)];
        for looks in [&mut hot, &mut cold] {
            looks.are_usual = options.are_usual || looks.numbers().next().is_none();
        }
        let own = |number, standard| (number != standard).then_some(number);
        if of_hot.kind == HOT_KIND {
            let standard = GwiConfig::default().nprobe;
            hot.nprobe = hot.nprobe.or(own(self.config.hot.nprobe, standard));
        }
        if of_cold.kind == COLD_KIND {
            let (config, standard) = (&self.config.cold, CascadeParameters::default());
            cold.num_probes = cold.num_probes.or(own(config.num_probes, standard.num_probes));
            cold.ef_search = cold.ef_search.or(own(config.ef_search, standard.ef_search));
        }
        Ok([hot, cold])
    }
}

fn results(hits: Vec<Hit>, source: ResultSource) -> Vec<HybridSearchResult> {
    let result = |hit: Hit| HybridSearchResult { key: hit.key, score: hit.score, source };
    hits.into_iter().map(result).collect()
}
