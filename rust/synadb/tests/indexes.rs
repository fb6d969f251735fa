//! The index of a vector store, through the crate.

use synadb::distance::DistanceMetric;
use synadb::vector::{
    CascadeParameters, HnswConfig, IndexBackend, IvfConfig, PackedConfig, SearchOptions,
    VectorConfig, VectorStore,
};
use synadb::{Access, Durability, Error, OpenOptions};

const WIDTH: usize = 48;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn fast() -> OpenOptions {
    OpenOptions::new().durability(Durability::Process)
}

fn backends() -> [IndexBackend; 4] {
    [
        IndexBackend::Flat(PackedConfig::default()),
        IndexBackend::Hnsw(HnswConfig::default()),
        IndexBackend::GravityWell(IvfConfig::default()),
        IndexBackend::Cascade(CascadeParameters::small()),
    ]
}

fn config() -> VectorConfig {
    let (dimensions, metric) = (WIDTH as u16, DistanceMetric::Euclidean);
    VectorConfig { dimensions, metric, ..VectorConfig::default() }
}

/// Points along curves of their own: near ones are alike, and no two equal.
fn rows(count: usize) -> Vec<f32> {
    let value = |row: usize, axis: usize| {
        let phase = (row % 37) as f32 + axis as f32 * 0.7;
        phase.sin() + (row as f32 * 0.013 + axis as f32).cos()
    };
    (0..count).flat_map(|row| (0..WIDTH).map(move |axis| value(row, axis))).collect()
}

fn filled(store: &VectorStore, count: usize) -> Vec<f32> {
    let (rows, keys) = (rows(count), (0..count).map(|row| row.to_string()).collect::<Vec<_>>());
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    store.insert_rows(&keys, &rows).expect("inserts");
    rows
}

#[test]
fn every_kind_finds_its_rows_again_also_after_reopening() {
    for backend in backends() {
        let directory = directory();
        let path = directory.path().join("a.db");
        let config = VectorConfig { backend, ..config() };
        let options = fast().access(Access::Exclusive);
        let store = VectorStore::open_with(&path, config.clone(), options.clone()).expect("opens");
        let rows = filled(&store, 3000);
        assert!(!store.has_index().expect("open"));
        store.build_index().expect("builds");
        let check = |store: &VectorStore| {
            assert!(store.has_index().expect("open"));
            let thorough =
                SearchOptions { ef_search: Some(200), nprobe: Some(64), ..Default::default() };
            let mut hits = 0;
            for row in (0..3000).step_by(31) {
                let query = &rows[row * WIDTH..(row + 1) * WIDTH];
                let found = store.search_with(query, 5, &thorough).expect("searches");
                assert_eq!((found[0].key.as_str(), found[0].score), (&*row.to_string(), 0.0));
                let exact = SearchOptions { exact: true, ..Default::default() };
                let exact = store.search_with(query, 5, &exact).expect("searches");
                hits += exact.iter().filter(|hit| found.contains(hit)).count();
            }
            assert!(hits >= 97 * 5 * 95 / 100, "{hits} of {}", 97 * 5);
        };
        check(&store);
        store.close_handle().expect("closes");
        check(&VectorStore::open_with(&path, config, options).expect("opens"));
    }
}

#[test]
fn a_batch_finds_for_each_query_what_it_finds_alone() {
    for backend in backends() {
        let directory = directory();
        let config = VectorConfig { backend, ..config() };
        let store =
            VectorStore::open_with(directory.path().join("a.db"), config, fast()).expect("opens");
        let rows = filled(&store, 3000);
        store.build_index().expect("builds");
        // Near ones far apart, in more than one round, and more for some k than for the one before.
        let queries: Vec<f32> =
            rows.chunks(WIDTH).step_by(11).flatten().map(|value| value + 0.01).collect();
        for k in [3, 40, 1] {
            let options = SearchOptions::default();
            let found = store.search_hits(&queries, k, &options).expect("searches");
            let answers = store.search_answers(&queries, k, &options).expect("searches");
            assert_eq!(found.len(), queries.len() / WIDTH);
            assert_eq!(found.len(), answers.queries());
            for (number, (query, hits)) in queries.chunks(WIDTH).zip(&found).enumerate() {
                let pairs = hits.iter().map(|hit| (&*hit.key, hit.score));
                assert!(answers.of(number).eq(pairs));
                let alone = store.search_with(query, k, &options).expect("searches");
                let pairs = hits.iter().map(|hit| (&hit.key, hit.score));
                assert!(pairs.eq(alone.iter().map(|hit| (&hit.key, hit.score))));
            }
        }
        // One that is no vector is refused, whatever its place.
        let mut bad = queries.clone();
        bad[200 * WIDTH + 7] = f32::NAN;
        let refused = store.search_hits(&bad, 3, &SearchOptions::default());
        assert!(matches!(refused, Err(Error::InvalidVector { .. })));
    }
}

#[test]
fn a_cancelled_build_leaves_none_and_none_takes_the_index_away() {
    let directory = directory();
    let db = fast().open(directory.path().join("a.db")).expect("opens");
    let store = VectorStore::attach(&db, "v", config()).expect("attaches");
    filled(&store, 2000);
    for backend in backends() {
        let cancelled = store.build_index_with(&backend, 2, &mut |_, _| false);
        assert!(matches!(cancelled, Err(Error::Cancelled { .. })), "{cancelled:?}");
        assert_eq!(store.index_stats().expect("open"), None);
    }
    let mut steps = Vec::new();
    let mut told = |done, total| {
        steps.push((done, total));
        true
    };
    store.build_index_with(&backends()[1], 1, &mut told).expect("builds");
    assert!(steps.is_sorted() && steps.last() == Some(&(1000, 1000)), "{steps:?}");
    let stats = store.index_stats().expect("open").expect("built");
    assert_eq!((stats.kind, stats.rows, stats.dead, stats.tail), ("hnsw", 2000, 0, 0));
    store.build_index_with(&IndexBackend::None, 1, &mut |_, _| true).expect("drops");
    assert_eq!(store.index_stats().expect("open"), None);
}
