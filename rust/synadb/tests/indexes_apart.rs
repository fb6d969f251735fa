//! Indexes that are built without being asked for, once searches have scanned enough.

use std::time::{Duration, Instant};

use synadb::distance::DistanceMetric;
use synadb::vector::{
    CascadeParameters, HnswConfig, IndexBackend, IndexStats, IvfConfig, PackedConfig,
    SearchOptions, VectorConfig, VectorStore,
};
use synadb::{Access, CompactOptions, Durability, Keep, Maintenance, OpenOptions, SynaDB};

const WIDTH: usize = 48;
const LEAST: usize = 500;

fn fast() -> OpenOptions {
    OpenOptions::new().durability(Durability::Process)
}

fn config(backend: IndexBackend) -> VectorConfig {
    let (dimensions, metric) = (WIDTH as u16, DistanceMetric::Euclidean);
    let index_threshold = LEAST;
    VectorConfig { dimensions, metric, index_threshold, backend, ..VectorConfig::default() }
}

fn open(directory: &tempfile::TempDir, backend: IndexBackend, options: OpenOptions) -> VectorStore {
    let path = directory.path().join("a.db");
    VectorStore::open_with(path, config(backend), options).expect("opens")
}

fn row(number: usize) -> Vec<f32> {
    let value = |axis: usize| {
        let phase = (number % 37) as f32 + axis as f32 * 0.7;
        phase.sin() + (number as f32 * 0.013 + axis as f32).cos()
    };
    (0..WIDTH).map(value).collect()
}

fn fill(store: &VectorStore, numbers: std::ops::Range<usize>) {
    let rows: Vec<f32> = numbers.clone().flat_map(row).collect();
    let keys: Vec<String> = numbers.map(|number| number.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    store.insert_rows(&keys, &rows).expect("inserts");
}

/// Searches as often as it takes until the index is as it should be, two minutes at most.
fn search_until(store: &VectorStore, is_done: impl Fn(&Option<IndexStats>) -> bool) {
    let began = Instant::now();
    let mut searches = 0;
    while !is_done(&store.index_stats().expect("open")) {
        assert!(began.elapsed() < Duration::from_secs(120), "{:?}", store.index_stats());
        for number in 0..40 {
            let found = store.search(&row(number), 1).expect("searches");
            assert_eq!((found[0].key.as_str(), found[0].score), (&*number.to_string(), 0.0));
        }
        searches += 40;
    }
    println!("{searches} searches");
}

fn knows(rows: usize, kind: &'static str) -> impl Fn(&Option<IndexStats>) -> bool {
    move |stats| stats.is_some_and(|stats| stats.rows == rows && stats.kind == kind)
}

#[test]
fn searches_have_an_index_built_that_is_saved() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory, IndexBackend::Auto, fast());
    fill(&store, 0..3000);
    assert!(store.index_stats().expect("open").is_none(), "not before somebody searches");
    search_until(&store, knows(3000, "flat"));
    // One of a few rows more is not worth it, one of many is.
    fill(&store, 3000..3000 + LEAST - 100);
    for number in 0..400 {
        store.search(&row(number), 1).expect("searches");
    }
    std::thread::sleep(Duration::from_millis(200));
    assert!(knows(3000, "flat")(&store.index_stats().expect("open")));
    fill(&store, 3000 + LEAST - 100..5000);
    search_until(&store, knows(5000, "flat"));
    // The codes have grown by those rows: that alone is not worth a checkpoint.
    store.save_index().expect("saves");
    store.close_handle().expect("closes");
    let store = open(&directory, IndexBackend::Auto, fast().access(Access::ReadOnly));
    assert!(knows(5000, "flat")(&store.index_stats().expect("open")), "it was saved");
}

#[test]
fn one_that_follows_another_is_tuned_for_the_newest_searches_of_that() {
    let directory = tempfile::tempdir().expect("a directory");
    let graph = IndexBackend::Hnsw(HnswConfig::with_m(8));
    let store = open(&directory, graph.clone(), fast());
    fill(&store, 0..2000);
    store.build_index_with(&graph, 2, &mut |_, _| true).expect("builds");
    let known = || {
        let (_, known) = store.tuned_searches().expect("open").expect("an index");
        known.iter().map(|tuned| (tuned.k, tuned.target_recall)).collect::<Vec<_>>()
    };
    let asked = [(3, 0.8), (4, 0.9), (5, 0.8), (6, 0.95), (7, 0.9)];
    for (k, target) in asked {
        store.search_with(&row(5), k, &SearchOptions::for_recall(target)).expect("searches");
    }
    assert_eq!(known(), asked);
    fill(&store, 2000..4000);
    // None of these searches asks for a recall.
    search_until(&store, knows(4000, "hnsw"));
    assert_eq!(known(), asked[1..], "in the order in which they came");
    // Of those the oldest makes room.
    store.search_with(&row(5), 8, &SearchOptions::for_recall(0.9)).expect("searches");
    fill(&store, 4000..8000);
    search_until(&store, knows(8000, "hnsw"));
    assert_eq!(known(), [&asked[2..], &[(8, 0.9)]].concat());
}

#[test]
fn it_is_built_again_after_a_compaction() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory, IndexBackend::Auto, fast());
    fill(&store, 0..2000);
    let graph = HnswConfig { ef_construction: 60, ..HnswConfig::with_m(8) };
    store.build_index_with(&IndexBackend::Hnsw(graph), 1, &mut |_, _| true).expect("builds");
    let database: SynaDB = store.database();
    database.compact().expect("compacts");
    assert!(store.index_stats().expect("open").is_none());
    search_until(&store, knows(2000, "hnsw"));
}

#[test]
fn a_kind_that_was_asked_for_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory, IndexBackend::Auto, fast());
    fill(&store, 0..1000);
    let graph = IndexBackend::Hnsw(HnswConfig::with_m(8));
    store.build_index_with(&graph, 1, &mut |_, _| true).expect("builds");
    store.close_handle().expect("closes");
    let store = open(&directory, IndexBackend::Auto, fast());
    fill(&store, 1000..3000);
    search_until(&store, knows(3000, "hnsw"));
    store.build_index_with(&IndexBackend::None, 1, &mut |_, _| true).expect("drops");
    store.close_handle().expect("closes");
    let store = open(&directory, IndexBackend::Auto, fast());
    never_built(&store);
}

fn never_built(store: &VectorStore) {
    for _ in 0..3 {
        for number in 0..200 {
            store.search(&row(number), 1).expect("searches");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(store.index_stats().expect("open"), None);
}

#[test]
fn the_kind_outlives_compactions_by_whoever_and_openings() {
    let cells = IvfConfig { cells: Some(24), ..IvfConfig::default() };
    let kinds = [
        ("hnsw", IndexBackend::Hnsw(HnswConfig::with_m(8))),
        ("gravity_well", IndexBackend::GravityWell(cells)),
        ("cascade", IndexBackend::Cascade(CascadeParameters::small())),
        ("flat", IndexBackend::Flat(PackedConfig::default())),
    ];
    for (kind, backend) in kinds {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(&directory, IndexBackend::Auto, fast());
        fill(&store, 0..2000);
        // So much that each row finds itself.
        let aimed = IndexBackend::Aimed { backend: Box::new(backend), target_recall: 0.999 };
        store.build_index_with(&aimed, 1, &mut |_, _| true).expect("builds");
        store.close_handle().expect("closes");
        for keep in [Keep::Newest, Keep::Everything, Keep::Histories] {
            // By one that never looks at the vectors, and closes the file behind each.
            let path = directory.path().join("a.db");
            let database = fast().open(path).expect("opens");
            let options = CompactOptions { keep, ..CompactOptions::default() };
            database.compact_with(&options, &mut |_, _| true).expect("compacts");
            database.close_handle().expect("closes");
        }
        let exact = open(&directory, IndexBackend::None, fast());
        assert!(!exact.has_index().expect("open"), "{kind}: of no row it is none");
        never_built(&exact);
        exact.close_handle().expect("closes");
        let store = open(&directory, IndexBackend::Auto, fast());
        search_until(&store, knows(2000, kind));
        assert_eq!(store.aim().expect("open"), Some(0.999), "{kind}: the recall outlives them too");
        if kind == "gravity_well" {
            let cells = store.cell_sizes().expect("open").expect("is there").len();
            assert!((12..=48).contains(&cells), "as many as were asked for: {cells}");
        }
    }
}

#[test]
fn an_index_that_was_dropped_is_not_brought_back_by_a_compaction() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory, IndexBackend::Auto, fast());
    fill(&store, 0..1000);
    store.build_index_with(&IndexBackend::None, 1, &mut |_, _| true).expect("drops");
    store.database().compact().expect("compacts");
    store.close_handle().expect("closes");
    never_built(&open(&directory, IndexBackend::Auto, fast()));
}

#[test]
fn who_wants_none_gets_none() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory, IndexBackend::None, fast());
    fill(&store, 0..1000);
    never_built(&store);
    store.close_handle().expect("closes");
    let inline = fast().maintenance(Maintenance::Inline);
    let store = open(&directory, IndexBackend::Auto, inline);
    never_built(&store);
    store.close_handle().expect("closes");
    let store = open(&directory, IndexBackend::Auto, fast());
    let exact = SearchOptions { exact: true, ..SearchOptions::default() };
    for number in 0..200 {
        store.search_with(&row(number), 1, &exact).expect("searches");
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(store.index_stats().expect("open"), None, "an exact search needs no index");
}

#[test]
fn a_build_that_was_cancelled_is_not_what_is_built_later() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory, IndexBackend::Auto, fast());
    fill(&store, 0..1000);
    let graph = IndexBackend::Hnsw(HnswConfig::with_m(8));
    for backend in [graph, IndexBackend::None] {
        store.build_index_with(&backend, 1, &mut |_, _| false).expect_err("cancelled");
    }
    search_until(&store, knows(1000, "flat"));
}

#[test]
fn closing_ends_a_build_and_leaves_the_file_good() {
    let directory = tempfile::tempdir().expect("a directory");
    for round in 0..4 {
        let graph = HnswConfig { ef_construction: 400, ..HnswConfig::with_m(32) };
        let store = open(&directory, IndexBackend::Hnsw(graph), fast());
        fill(&store, 0..6000);
        for number in 0..70 {
            store.search(&row(number), 1).expect("searches");
        }
        std::thread::sleep(Duration::from_millis(20 * round));
        store.close_handle().expect("closes");
        let store = open(&directory, IndexBackend::None, fast());
        assert_eq!(store.len(), 6000);
        assert_eq!(store.verify().expect("reads").damage, []);
        store.close_handle().expect("closes");
    }
}
