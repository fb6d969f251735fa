//! What every kind of index is held to.
//!
//! A [`Kind`] says how an index is built and saved; [`conformance`](crate::conformance) makes a
//! test of every check in [`checks`]. The answers are compared with those of the definition: keys
//! in double precision of every live row that the filter allows.
//!
//! ```
//! use synadb_index::testing::{Kind, checks};
//! use synadb_index::{FlatIndex, IndexError, Job, Metric, Part, SharedBytes, VectorSource};
//! use synadb_types::RowSet;
//!
//! struct Exact;
//!
//! impl Kind for Exact {
//!     fn build(
//!         &self,
//!         _metric: Metric,
//!         rows: &RowSet,
//!         _source: &dyn VectorSource,
//!         _job: &Job<'_>,
//!     ) -> Result<Box<dyn Part>, IndexError> {
//!         Ok(Box::new(FlatIndex::new(rows.clone())))
//!     }
//! }
//!
//! checks::a_filter_is_heeded(&Exact)?;
//! // In a test program: `synadb_index::conformance!(exact, Exact);`
//! # Ok::<(), IndexError>(())
//! ```

pub mod checks;
pub(crate) mod vectors;

use std::collections::HashSet;

use synadb_types::{RowId, RowSet};

use crate::{
    Filter, Hit, IndexError, Job, Metric, Part, Query, Scratch, SharedBytes, TopK, VectorSource,
    search_tail,
};
pub(crate) use vectors::Vectors;

/// A saved index: sections by name.
pub type Saved = Vec<(String, Vec<u8>)>;

/// A kind of index, with its configuration.
pub trait Kind {
    /// An index of some rows.
    ///
    /// # Errors
    ///
    /// What the build returns.
    fn build(
        &self,
        metric: Metric,
        rows: &RowSet,
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<Box<dyn Part>, IndexError>;

    /// An index of some rows, built on so many threads and saved; none of a kind that is not.
    ///
    /// # Errors
    ///
    /// What the build returns.
    fn save(
        &self,
        _metric: Metric,
        _rows: &RowSet,
        _source: &dyn VectorSource,
        _job: &Job<'_>,
    ) -> Result<Option<Saved>, IndexError> {
        Ok(None)
    }

    /// The saved index, opened.
    ///
    /// # Errors
    ///
    /// What the import returns.
    fn open(
        &self,
        _sections: &[(&str, SharedBytes)],
        _source: &dyn VectorSource,
    ) -> Result<Box<dyn Part>, IndexError> {
        Err(IndexError::Section { name: "conformance", problem: "of a kind that is not saved" })
    }

    /// Share of the ten nearest that is found of vectors with structure, at least.
    fn floor(&self) -> f64 {
        1.0
    }

    /// The same for queries that lie elsewhere than the vectors, for many wide vectors, and where
    /// most rows are dead.
    fn floor_where_it_is_hard(&self) -> f64 {
        self.floor()
    }

    /// True when searches for ten of 800 rows or more walk a graph. Graphs of few rows are scanned
    /// where the queue is long: the checks make sure that those of such a kind are not.
    fn walks(&self) -> bool {
        false
    }
}

/// Makes a module of tests that hold a kind of index to all checks.
///
/// `conformance!(name, kind)`: the name of the module, and an expression that is a
/// [`Kind`](crate::testing::Kind).
#[macro_export]
macro_rules! conformance {
    ($name:ident, $kind:expr) => {
        $crate::conformance!(@tests $name, $kind,
            nothing_is_found_in_nothing,
            the_only_vector_is_found,
            all_are_found_where_k_is_larger,
            the_nearest_are_found,
            duplicates_are_kept_apart,
            zero_vectors_are_taken,
            nothing_is_found_where_all_are_dead,
            dead_rows_are_left_out,
            rows_come_back,
            a_replaced_vector_is_found_as_it_is_now,
            a_filter_is_heeded,
            random_operations_are_followed,
            a_saved_index_is_the_same,
            a_seed_gives_the_same_bytes,
            any_dimensions_are_taken,
            many_wide_vectors_are_taken,
            constant_dimensions_are_taken,
            vectors_of_any_length_are_taken,
            queries_from_elsewhere_are_answered,
            a_query_of_other_dimensions_is_refused,
            a_query_that_is_not_finite_is_refused,
        );
    };
    (@tests $name:ident, $kind:expr, $($check:ident,)+) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $(
                #[test]
                fn $check() -> Result<(), $crate::IndexError> {
                    $crate::testing::checks::$check(&$kind)
                }
            )+
        }
    };
}

/// Every metric.
const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Euclidean, Metric::DotProduct];

/// One index, its vectors, and the count of what its searches found.
struct Bench<'a> {
    metric: Metric,
    index: Box<dyn Part>,
    source: &'a Vectors,
    /// Rows that the index was built of end here; later ones are scanned.
    end: u32,
    found: usize,
    wanted: usize,
    searches: usize,
    /// Those of them that walked a graph.
    walks: usize,
    scratch: Scratch,
}

impl<'a> Bench<'a> {
    fn new(kind: &dyn Kind, metric: Metric, source: &'a Vectors) -> Result<Self, IndexError> {
        let index = kind.build(metric, &source.all(), source, &Job::default())?;
        Ok(Self::over(metric, index, source))
    }

    fn over(metric: Metric, index: Box<dyn Part>, source: &'a Vectors) -> Self {
        let (end, scratch) = (index.rows().extent(), Scratch::new());
        Self { metric, index, source, end, found: 0, wanted: 0, searches: 0, walks: 0, scratch }
    }

    /// Searches the index and what came after it. Every hit must be live, allowed and there once,
    /// with the score of the definition, nearest first, and there must be as many as there can be.
    fn search(
        &mut self,
        values: &[f32],
        allowed: Option<&RowSet>,
        k: usize,
    ) -> Result<Vec<Hit>, IndexError> {
        let query = Query::new(self.metric, values)?;
        let mut top = TopK::new(k);
        let everything = allowed.map_or(Filter::All, |rows| Filter::Rows(rows.clone()));
        let filter = allowed.map_or(Filter::All, |rows| self.index.prepare(rows));
        let scratch = &mut self.scratch;
        self.index.search(&query, &filter, self.source, scratch, &mut top)?;
        let tail = self.end..self.source.rows_end();
        search_tail(tail, &query, &everything, self.source, scratch, &mut top)?;
        let mut hits = Vec::new();
        top.finish(&query, self.source, &mut hits);
        self.searches += 1;
        self.walks += usize::from(self.scratch.take_counts().steps > 0);
        self.compare(&query, &everything, k, &hits);
        Ok(hits)
    }

    /// Compares hits with the answer of the definition and counts what was found of it.
    fn compare(&mut self, query: &Query, filter: &Filter, k: usize, hits: &[Hit]) {
        let rows = (0..self.source.rows_end()).map(RowId);
        let held = |row: &RowId| row.0 >= self.end || self.index.rows().contains(*row);
        let rows = rows.filter(|row| self.source.live.contains(*row) && filter.allows(*row));
        let mut truth: Vec<f64> =
            rows.filter(held).map(|row| query.exact_key(self.source.row(row))).collect();
        truth.sort_by(f64::total_cmp);
        truth.truncate(k);
        let metric = self.metric;
        assert_eq!(hits.len(), truth.len(), "{metric:?}: as many hits as there can be");
        let distinct: HashSet<RowId> = hits.iter().map(|hit| hit.row).collect();
        assert_eq!(distinct.len(), hits.len(), "{metric:?}: a row is found once");
        assert!(hits.is_sorted_by(|a, b| a.score <= b.score), "{metric:?}: the nearest come first");
        for hit in hits {
            assert!(self.source.live.contains(hit.row), "{metric:?}: {:?} is dead", hit.row);
            assert!(filter.allows(hit.row), "{metric:?}: {:?} is filtered out", hit.row);
            let score = query.score(query.exact_key(self.source.row(hit.row)));
            assert_eq!(hit.score, score, "{metric:?}: the score of {:?}", hit.row);
        }
        let Some(&last) = truth.last() else { return };
        let last = query.score(last);
        self.found += hits.iter().filter(|hit| hit.score <= last).count();
        self.wanted += truth.len();
    }

    /// Checks the share that was found of what there was.
    fn expect(&self, floor: f64, what: &str) {
        let recall = self.found as f64 / self.wanted.max(1) as f64;
        assert!(recall >= floor, "{:?}, {what}: recall {recall:.4}, floor {floor}", self.metric);
    }

    /// Checks that every search walked a graph, of a kind that does so.
    fn expect_walks(&self, kind: &dyn Kind, what: &str) {
        let (walks, searches) = (self.walks, self.searches);
        let is_so = !kind.walks() || walks == searches;
        assert!(is_so, "{:?}, {what}: {walks} walks in {searches} searches", self.metric);
    }
}
