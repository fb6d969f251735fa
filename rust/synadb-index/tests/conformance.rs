//! Every kind of index, held to the same checks.

use synadb_index::testing::{Kind, Saved};
use synadb_index::{
    CascadeConfig, CascadeIndex, FlatIndex, HnswConfig, HnswIndex, IndexError, IvfCodes, IvfConfig,
    IvfIndex, Job, Metric, PackedConfig, PackedFlat, Part, Section, SharedBytes, VectorSource,
    conformance,
};
use synadb_types::RowSet;

fn saved(sections: Vec<Section<'_>>) -> Option<Saved> {
    let own = |(name, bytes): Section<'_>| (name.to_owned(), bytes.into_owned());
    Some(sections.into_iter().map(own).collect())
}

/// The exact scan.
struct Plain;

impl Kind for Plain {
    fn build(
        &self,
        _metric: Metric,
        rows: &RowSet,
        _source: &dyn VectorSource,
        _job: &Job<'_>,
    ) -> Result<Box<dyn Part>, IndexError> {
        Ok(Box::new(FlatIndex::new(rows.clone())))
    }
}

/// Makes a kind of a configuration, how it is built and opened, and its floors.
macro_rules! kind {
    ($kind:ident, $config:ty, $index:ty, $floors:expr,
     |$this:ident, $metric:ident, $rows:ident, $source:ident, $job:ident| $build:expr,
     |$sections:ident, $from:ident| $open:expr) => {
        struct $kind($config);

        impl $kind {
            fn index(
                &self,
                $metric: Metric,
                $rows: &RowSet,
                $source: &dyn VectorSource,
                $job: &Job<'_>,
            ) -> Result<$index, IndexError> {
                let $this = &self.0;
                $build
            }
        }

        impl Kind for $kind {
            fn build(
                &self,
                metric: Metric,
                rows: &RowSet,
                source: &dyn VectorSource,
                job: &Job<'_>,
            ) -> Result<Box<dyn Part>, IndexError> {
                Ok(Box::new(self.index(metric, rows, source, job)?))
            }

            fn save(
                &self,
                metric: Metric,
                rows: &RowSet,
                source: &dyn VectorSource,
                job: &Job<'_>,
            ) -> Result<Option<Saved>, IndexError> {
                Ok(saved(self.index(metric, rows, source, job)?.export()))
            }

            fn open(
                &self,
                $sections: &[(&str, SharedBytes)],
                $from: &dyn VectorSource,
            ) -> Result<Box<dyn Part>, IndexError> {
                Ok(Box::new($open?))
            }

            fn floor(&self) -> f64 {
                $floors.0
            }

            fn floor_where_it_is_hard(&self) -> f64 {
                $floors.1
            }
        }
    };
}

kind!(
    Packed,
    PackedConfig,
    PackedFlat,
    (0.999, 0.99),
    |config, metric, rows, source, job| PackedFlat::build(metric, *config, rows, source, job),
    |sections, source| PackedFlat::import(sections, source.rows_end())
);
kind!(
    Ivf,
    IvfConfig,
    IvfIndex,
    (0.99, 0.95),
    |config, metric, rows, source, job| IvfIndex::build(metric, config, rows, source, job),
    |sections, source| IvfIndex::import(sections, source.rows_end(), source, &Job::default())
);
kind!(
    Hnsw,
    HnswConfig,
    HnswIndex,
    (0.99, 0.95),
    |config, metric, rows, source, job| HnswIndex::build(metric, rows, source, *config, job),
    |sections, source| HnswIndex::import(sections, source.rows_end())
);
kind!(
    Cascade,
    CascadeConfig,
    CascadeIndex,
    (0.99, 0.95),
    |config, metric, rows, source, job| CascadeIndex::build(metric, config, rows, source, job),
    |sections, source| CascadeIndex::import(sections, source.rows_end())
);

/// Nodes in the queue of [`Walked`] graphs.
const QUEUE: usize = 16;

/// A graph with so short a queue that its walks are checked; with the usual one it is scanned.
struct Walked<K>(K);

impl<K: Kind> Kind for Walked<K> {
    fn build(
        &self,
        metric: Metric,
        rows: &RowSet,
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<Box<dyn Part>, IndexError> {
        self.0.build(metric, rows, source, job)
    }

    fn save(
        &self,
        metric: Metric,
        rows: &RowSet,
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<Option<Saved>, IndexError> {
        self.0.save(metric, rows, source, job)
    }

    fn open(
        &self,
        sections: &[(&str, SharedBytes)],
        source: &dyn VectorSource,
    ) -> Result<Box<dyn Part>, IndexError> {
        self.0.open(sections, source)
    }

    fn floor(&self) -> f64 {
        0.99
    }

    fn floor_where_it_is_hard(&self) -> f64 {
        0.88
    }

    fn walks(&self) -> bool {
        true
    }
}

fn ivf(codes: IvfCodes) -> Ivf {
    Ivf(IvfConfig { codes, ..IvfConfig::default() })
}

conformance!(flat_plain, Plain);
conformance!(flat_packed, Packed(PackedConfig::default()));
conformance!(
    flat_packed_one_bit,
    Packed(PackedConfig { refine: false, ..PackedConfig::default() })
);
conformance!(ivf_full, ivf(IvfCodes::Full));
conformance!(ivf_bits, ivf(IvfCodes::Bits));
conformance!(ivf_refined, ivf(IvfCodes::Refined));
conformance!(hnsw, Hnsw(HnswConfig::default()));
conformance!(cascade, Cascade(CascadeConfig::default()));
conformance!(hnsw_walked, Walked(Hnsw(HnswConfig::default().ef_search(QUEUE))));
conformance!(
    cascade_walked,
    Walked(Cascade(CascadeConfig { ef_search: QUEUE, ..CascadeConfig::default() }))
);
conformance!(
    hnsw_unquantized,
    Walked(Hnsw(HnswConfig::default().ef_search(QUEUE).quantized(false)))
);
conformance!(
    cascade_unquantized,
    Walked(Cascade(CascadeConfig {
        ef_search: QUEUE,
        quantized: false,
        ..CascadeConfig::default()
    }))
);
