//! A recall in the place of numbers, in every store of the crate. That it is reached on real
//! embeddings is tested from Python.

use std::path::Path;

use synadb::arch::{HybridConfig, HybridVectorStore, ResultSource};
use synadb::distance::DistanceMetric;
use synadb::vector::{
    CascadeParameters, HnswConfig, IndexBackend, IvfConfig, PackedConfig, SearchOptions,
    VectorConfig, VectorStore,
};
use synadb::{
    CascadeConfig, CascadeIndex, Error, GravityWellIndex, GwiConfig, MmapVectorConfig,
    MmapVectorStore,
};

const WIDTH: usize = 24;
const ROWS: usize = 3000;
const METRIC: DistanceMetric = DistanceMetric::Euclidean;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// Numbers without structure: an index that looks at little finds little.
fn vectors(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count * WIDTH).map(|_| next()).collect()
}

fn fill(store: &VectorStore) {
    let keys: Vec<String> = (0..ROWS).map(|row| row.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    store.insert_rows(&keys, &vectors(ROWS, 1)).expect("inserts");
}

fn plain(path: &Path, target_recall: Option<f64>) -> VectorStore {
    let (dimensions, metric, sync_on_write) = (WIDTH as u16, METRIC, false);
    let config = VectorConfig { dimensions, metric, sync_on_write, ..VectorConfig::default() };
    VectorStore::new(path, VectorConfig { target_recall, ..config }).expect("opens")
}

fn backends() -> [IndexBackend; 4] {
    [
        IndexBackend::Flat(PackedConfig::default()),
        IndexBackend::Hnsw(HnswConfig { m: 4, m_max: 8, ..HnswConfig::default() }),
        IndexBackend::GravityWell(IvfConfig::default()),
        IndexBackend::Cascade(CascadeParameters::small()),
    ]
}

fn aimed(backend: IndexBackend, target_recall: f64) -> IndexBackend {
    IndexBackend::Aimed { backend: Box::new(backend), target_recall }
}

/// Share of the ten nearest of queries of its own that a search finds.
fn recall(exact: &VectorStore, mut search: impl FnMut(&[f32]) -> Vec<String>) -> f64 {
    let (mut found, mut all) = (0, 0);
    for query in vectors(150, 2).chunks_exact(WIDTH) {
        let options = SearchOptions { exact: true, ..SearchOptions::default() };
        let truth = exact.search_with(query, 10, &options).expect("searches");
        let near = search(query);
        found += truth.iter().filter(|hit| near.contains(&hit.key)).count();
        all += truth.len();
    }
    found as f64 / all as f64
}

fn keys(store: &VectorStore, query: &[f32], options: &SearchOptions) -> Vec<String> {
    let found = store.search_with(query, 10, options).expect("searches");
    found.into_iter().map(|hit| hit.key).collect()
}

fn of_store(store: &VectorStore, options: &SearchOptions) -> f64 {
    recall(store, |query| keys(store, query, options))
}

#[test]
fn every_kind_of_index_reaches_a_recall_and_keeps_what_it_found() {
    for backend in backends() {
        let directory = directory();
        let path = directory.path().join("a.db");
        let store = plain(&path, None);
        fill(&store);
        store.build_index_with(&aimed(backend.clone(), 0.9), 2, &mut |_, _| true).expect("builds");
        let usual = SearchOptions::default();
        assert!(of_store(&store, &usual) >= 0.88, "{backend:?}");
        let high = SearchOptions::for_recall(0.99);
        assert!(of_store(&store, &high) >= 0.98, "{backend:?}");
        assert!(of_store(&store, &SearchOptions::for_recall(1.0)) >= 1.0, "{backend:?}");
        let measured = store.measure_recall(10, 100, &high).expect("measures");
        assert!(measured.recall >= 0.98, "{backend:?}");
        assert_eq!((measured.k, measured.queries), (10, 100));
        store.checkpoint().expect("saves");
        let known = store.tuned_searches().expect("open").expect("an index");
        assert_eq!((known.0, known.1.len()), (Some(0.9), 2));
        assert!(known.1.iter().all(|tuned| tuned.recall >= tuned.target_recall), "{known:?}");
        store.close_handle().expect("closes");

        let store = plain(&path, None);
        let again = store.tuned_searches().expect("open").expect("an index");
        assert_eq!((again.0, again.1), known);
        assert_eq!(store.aim().expect("open"), Some(0.9));
        assert!(of_store(&store, &usual) >= 0.88, "{backend:?}");
        // That of the handle goes before that of the index.
        let other = plain(&path, Some(1.0));
        assert_eq!(other.aim().expect("open"), Some(1.0));
        assert!(of_store(&other, &usual) >= 1.0, "{backend:?}");
    }
}

#[test]
fn a_checkpoint_without_a_commit_has_what_was_tuned_since() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let store = plain(&path, None);
    fill(&store);
    let [_, graph, ..] = backends();
    store.build_index_with(&graph, 2, &mut |_, _| true).expect("builds");
    let query = vectors(1, 3);
    store.search_with(&query, 4, &SearchOptions::for_recall(0.8)).expect("searches");
    store.checkpoint().expect("saves");
    let saved = path.with_file_name("a.db-ckpt");
    let written = std::fs::metadata(&saved).and_then(|data| data.modified()).expect("a time");
    store.checkpoint().expect("has nothing to save");
    let later = std::fs::metadata(&saved).and_then(|data| data.modified()).expect("a time");
    assert_eq!(written, later);
    store.close_handle().expect("closes");
    let known = plain(&path, None).tuned_searches().expect("open").expect("an index");
    assert_eq!(known.1.iter().map(|tuned| tuned.k).collect::<Vec<_>>(), [4]);
}

#[test]
fn an_index_that_follows_another_is_tuned_to_the_same_recall() {
    let directory = directory();
    let store = plain(&directory.path().join("a.db"), Some(0.93));
    fill(&store);
    for backend in backends() {
        store.build_index_with(&backend, 2, &mut |_, _| true).expect("builds");
        let (target, known) = store.tuned_searches().expect("open").expect("an index");
        assert_eq!(target, Some(0.93));
        assert_eq!(known.iter().map(|tuned| tuned.k).collect::<Vec<_>>(), [10]);
    }
    // Dropped is dropped, and a recall of its own goes first.
    store.build_index_with(&IndexBackend::None, 1, &mut |_, _| true).expect("drops");
    assert!(store.tuned_searches().expect("open").is_none());
    let [codes, ..] = backends();
    store.build_index_with(&aimed(codes, 0.7), 1, &mut |_, _| true).expect("builds");
    assert_eq!(store.tuned_searches().expect("open").expect("an index").0, Some(0.7));
}

#[test]
fn an_index_that_is_built_again_is_searched_with_no_numbers_of_the_one_before() {
    let directory = directory();
    let store = plain(&directory.path().join("a.db"), None);
    fill(&store);
    let (few, more) = (HnswConfig::with_m(16), HnswConfig { m: 3, m_max: 6, ..Default::default() });
    let (query, aim) = (vectors(1, 3), SearchOptions::for_recall(0.95));
    let known = || store.tuned_searches().expect("open").expect("an index").1;
    for graph in [few, more] {
        store.build_index_with(&IndexBackend::Hnsw(graph), 2, &mut |_, _| true).expect("builds");
        assert_eq!(known(), [], "{graph:?}");
        store.search_with(&query, 25, &aim).expect("searches");
        assert_eq!(known().iter().map(|tuned| tuned.k).collect::<Vec<_>>(), [25]);
        let measured = store.measure_recall(25, 100, &aim).expect("measures");
        assert!(measured.recall >= 0.93, "{graph:?}: {measured:?}");
    }
}

#[test]
fn stores_of_the_original_reach_a_recall() {
    let directory = directory();
    let (dimensions, metric) = (WIDTH as u16, METRIC);
    let target_recall = Some(0.95);

    let config = MmapVectorConfig { dimensions, metric, ..MmapVectorConfig::default() };
    let config = MmapVectorConfig { target_recall, ..config };
    let store = MmapVectorStore::new(directory.path().join("a.mmap"), config).expect("opens");
    fill(store.store());
    store.build_index().expect("builds");
    let known = store.store().tuned_searches().expect("open").expect("an index");
    assert_eq!((known.0, known.1.len()), (target_recall, 1));
    let of = |query: &[f32]| store.search(query, 10).expect("searches");
    assert!(recall(store.store(), |q| of(q).into_iter().map(|hit| hit.key).collect()) >= 0.93);
    let of = |query: &[f32]| store.search_for_recall(query, 10, 1.0).expect("searches");
    assert!(recall(store.store(), |q| of(q).into_iter().map(|hit| hit.key).collect()) >= 1.0);

    let config = GwiConfig { dimensions, metric, nprobe: 1, ..GwiConfig::default() };
    let path = directory.path().join("a.gwi");
    let gwi = GravityWellIndex::new(&path, config.clone()).expect("opens");
    fill(gwi.store());
    gwi.build_index().expect("builds");
    let of = |query: &[f32]| gwi.search(query, 10).expect("searches");
    assert!(recall(gwi.store(), |q| of(q).into_iter().map(|hit| hit.key).collect()) < 0.8);
    let of = |query: &[f32]| gwi.search_for_recall(query, 10, 0.95).expect("searches");
    assert!(recall(gwi.store(), |q| of(q).into_iter().map(|hit| hit.key).collect()) >= 0.93);
    let gwi = GravityWellIndex::new(&path, GwiConfig { target_recall, ..config }).expect("opens");
    let of = |query: &[f32]| gwi.search(query, 10).expect("searches");
    assert!(recall(gwi.store(), |q| of(q).into_iter().map(|hit| hit.key).collect()) >= 0.93);
    let of = |query: &[f32]| gwi.search_with_nprobe(query, 10, 1).expect("searches");
    assert!(recall(gwi.store(), |q| of(q).into_iter().map(|hit| hit.key).collect()) < 0.8);
}

#[test]
fn a_cascade_reaches_a_recall_in_a_file_and_in_memory() {
    let directory = directory();
    let config = CascadeConfig { metric: METRIC, ..CascadeConfig::preset_small(WIDTH as u16) };
    let config = CascadeConfig { num_probes: 1, ef_search: 1, ..config };
    let path = directory.path().join("a.cascade");
    let mut file = CascadeIndex::new(&path, config.clone()).expect("opens");
    let mut memory = CascadeIndex::in_memory(config.clone());
    for (row, vector) in vectors(ROWS, 1).chunks_exact(WIDTH).enumerate() {
        memory.insert(&row.to_string(), vector).expect("inserts");
    }
    fill(file.store().expect("a file"));
    file.build_index().expect("builds");
    memory.build_index().expect("builds");
    let target_recall = Some(0.95);
    let aimed = CascadeIndex::new(&path, CascadeConfig { target_recall, ..config }).expect("opens");
    let exact = file.store().expect("a file");
    let of = |index: &CascadeIndex, target: Option<f64>| {
        recall(exact, |query| {
            let found = match target {
                Some(target) => index.search_for_recall(query, 10, target),
                None => index.search(query, 10),
            };
            found.expect("searches").into_iter().map(|hit| hit.key).collect()
        })
    };
    assert!(of(&file, None) < 0.9);
    assert!(of(&file, Some(0.95)) >= 0.93);
    assert!(of(&aimed, None) >= 0.93);
    assert!(of(&memory, None) < 0.9);
    assert!(of(&memory, Some(0.95)) >= 1.0);
    let refused = memory.search_for_recall(&vectors(1, 3), 10, 2.0);
    assert!(matches!(refused, Err(Error::InvalidArgument { argument: "target_recall", .. })));
}

/// Puts half of the rows into each table, and builds both indexes.
fn fill_both(store: &HybridVectorStore) {
    let rows = vectors(ROWS, 1);
    let names: Vec<String> = (0..ROWS).map(|row| row.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let half = ROWS / 2;
    store.ingest_rows(&names[..half], &rows[..half * WIDTH]).expect("ingests");
    store.promote_to_cold().expect("promotes");
    store.ingest_rows(&names[half..], &rows[half * WIDTH..]).expect("ingests");
    store.build_cold(2).expect("builds");
    store.initialize_hot(&[&rows[..WIDTH]]).expect("builds");
}

#[test]
fn number_for_one_table_of_a_hybrid_leaves_the_recall_of_the_other() {
    let directory = directory();
    let (dimensions, metric, target_recall) = (WIDTH as u16, METRIC, Some(1.0));
    // The numbers find so little that a scan, which the recall is, finds more.
    let hot = GwiConfig { dimensions, metric, target_recall, nprobe: 1, ..GwiConfig::default() };
    let (num_probes, ef_search) = (1, 10);
    let preset = CascadeConfig::preset_small(dimensions);
    let cold = CascadeConfig { metric, target_recall, num_probes, ef_search, ..preset };
    let path = directory.path().join("cold");
    let config = HybridConfig { hot, cold };
    let store = HybridVectorStore::new(directory.path().join("hot"), path, config).expect("opens");
    fill_both(&store);
    let queries = vectors(50, 2);
    let of = |layer: ResultSource, options: &SearchOptions| {
        let queries = queries.chunks_exact(WIDTH);
        let found = queries.map(|query| store.search_layer(layer, query, 10, options));
        found.collect::<synadb::Result<Vec<_>>>().expect("searches")
    };
    let usual = SearchOptions::default();
    let of_hot = SearchOptions { nprobe: Some(1), ..SearchOptions::default() };
    let (num_probes, ef_search) = (Some(num_probes), Some(ef_search));
    let of_cold = SearchOptions { num_probes, ef_search, ..SearchOptions::default() };
    let tables = [(ResultSource::Hot, &of_hot, &of_cold), (ResultSource::Cold, &of_cold, &of_hot)];
    for (layer, own, other) in tables {
        let exact = of(layer, &SearchOptions { exact: true, ..SearchOptions::default() });
        assert_eq!(of(layer, &usual), exact);
        assert_eq!(of(layer, other), exact);
        assert_ne!(of(layer, own), exact);
    }
}

/// A filled hybrid store whose tables have the usual indexes.
fn hybrid(directory: &tempfile::TempDir) -> HybridVectorStore {
    let (dimensions, metric) = (WIDTH as u16, METRIC);
    let hot = GwiConfig { dimensions, metric, ..GwiConfig::default() };
    let cold = CascadeConfig { dimensions, metric, ..CascadeConfig::default() };
    let (path, config) = (directory.path().join("cold"), HybridConfig { hot, cold });
    let store = HybridVectorStore::new(directory.path().join("hot"), path, config).expect("opens");
    fill_both(&store);
    store
}

#[test]
fn number_goes_to_the_table_of_a_hybrid_whose_index_understands_it() {
    let directory = directory();
    let store = hybrid(&directory);
    let queries = vectors(30, 2);
    let of = |layer: ResultSource, options: &SearchOptions| {
        let queries = queries.chunks_exact(WIDTH);
        let found = queries.map(|query| store.search_layer(layer, query, 10, options));
        found.collect::<synadb::Result<Vec<_>>>().expect("searches")
    };
    let (hot, cold) = (ResultSource::Hot, ResultSource::Cold);
    let usual = SearchOptions::default();
    let number = |name: &str, number: usize| {
        let only = |own: &str| (own == name).then_some(number);
        let [ef_search, nprobe] = ["ef_search", "nprobe"].map(only);
        let [candidates, num_probes] = ["candidates", "num_probes"].map(only);
        SearchOptions { ef_search, nprobe, candidates, num_probes, ..SearchOptions::default() }
    };
    let refused = |name: &str| match store.search_with(&queries[..WIDTH], 10, &number(name, 3)) {
        Err(Error::InvalidArgument { argument, reason }) => {
            argument == name && reason.contains('3')
        }
        _ => false,
    };
    let names = ["ef_search", "nprobe", "candidates", "num_probes"];
    assert!(!names.into_iter().any(refused));
    assert_ne!(of(hot, &number("nprobe", 1)), of(hot, &usual));
    assert_eq!(of(cold, &number("nprobe", 1)), of(cold, &usual));
    // Each table has the index of the other one.
    let graph = HnswConfig { ef_search: 200, ..HnswConfig::with_m(8) };
    store.hot().build_index_with(&IndexBackend::Hnsw(graph), 2, &mut |_, _| true).expect("builds");
    let cells = IndexBackend::GravityWell(IvfConfig::default());
    store.cold().build_index_with(&cells, 2, &mut |_, _| true).expect("builds");
    assert_eq!(of(hot, &usual), of(hot, &number("ef_search", 200)), "as it was built");
    assert_ne!(of(hot, &number("ef_search", 10)), of(hot, &usual));
    assert_eq!(of(cold, &number("ef_search", 10)), of(cold, &usual));
    assert_ne!(of(cold, &number("nprobe", 1)), of(cold, &usual));
    assert_eq!(of(hot, &number("nprobe", 1)), of(hot, &usual));
    assert_eq!(names.map(refused), [false, false, false, true]);
    // Both understand it, or none does; also when a compaction has left but the kinds.
    store.cold().build_index_with(&IndexBackend::Hnsw(graph), 2, &mut |_, _| true).expect("builds");
    assert_ne!(of(cold, &number("ef_search", 10)), of(cold, &usual));
    assert_ne!(of(hot, &number("ef_search", 10)), of(hot, &usual));
    assert_eq!(names.map(refused), [false, true, true, true]);
    store.database().compact().expect("compacts");
    assert_eq!(names.map(refused), [false, true, true, true]);
    // Of an index that nobody asked for the numbers of the usual kind are no mistake.
    store.cold().build_index_with(&IndexBackend::Auto, 2, &mut |_, _| true).expect("builds");
    assert_eq!(names.map(refused), [false, true, false, false]);
}

#[test]
fn cascade_of_a_hybrid_is_searched_as_it_was_built() {
    let directory = directory();
    let store = hybrid(&directory);
    let poor = CascadeParameters { num_probes: 1, ef_search: 10, ..CascadeParameters::default() };
    let poor = IndexBackend::Cascade(poor);
    store.cold().build_index_with(&poor, 2, &mut |_, _| true).expect("builds");
    let queries = vectors(30, 2);
    let of = |options: &SearchOptions| {
        let queries = queries.chunks_exact(WIDTH);
        let found = queries.map(|query| store.search_layer(ResultSource::Cold, query, 10, options));
        found.collect::<synadb::Result<Vec<_>>>().expect("searches")
    };
    let numbers = |num_probes, ef_search| SearchOptions {
        num_probes: Some(num_probes),
        ef_search: Some(ef_search),
        ..SearchOptions::default()
    };
    assert_eq!(of(&SearchOptions::default()), of(&numbers(1, 10)));
    assert_ne!(of(&SearchOptions::default()), of(&numbers(16, 80)));
}

#[test]
fn both_tables_of_a_hybrid_reach_a_recall() {
    let directory = directory();
    let (dimensions, metric, target_recall) = (WIDTH as u16, METRIC, Some(0.9));
    let hot = GwiConfig { dimensions, metric, target_recall, ..GwiConfig::default() };
    let cold = CascadeConfig { metric, target_recall, ..CascadeConfig::preset_small(dimensions) };
    let path = directory.path().join("cold");
    let config = HybridConfig { hot, cold };
    let store = HybridVectorStore::new(directory.path().join("hot"), path, config).expect("opens");
    let exact = plain(&directory.path().join("exact.db"), None);
    fill(&exact);
    fill_both(&store);
    let of = |target: Option<f64>| {
        recall(&exact, |query| {
            let options = SearchOptions { target_recall: target, ..SearchOptions::default() };
            let found = store.search_with(query, 10, &options).expect("searches");
            found.into_iter().map(|hit| hit.key).collect()
        })
    };
    assert!(of(None) >= 0.88);
    assert!(of(Some(0.99)) >= 0.98);
    assert!(of(Some(1.0)) >= 1.0);
    for layer in [ResultSource::Hot, ResultSource::Cold] {
        let exact = SearchOptions::for_recall(1.0);
        let found = store.search_layer(layer, &vectors(1, 1), 5, &exact).expect("searches");
        assert!(found.len() == 5 && found.iter().all(|hit| hit.source == layer));
    }
    let [hot, cold] = store.measure_recall(10, 100).expect("measures");
    assert!(hot.recall >= 0.85 && hot.queries == 100, "{hot:?}");
    assert!(cold.recall >= 0.85 && cold.queries == 100, "{cold:?}");
    store.save_cold().expect("saves");
}

#[test]
fn what_cannot_be_asked_for_is_refused_and_changes_nothing() {
    let directory = directory();
    let (dimensions, metric) = (WIDTH as u16, METRIC);
    let is_refused = |refused: Error| {
        matches!(refused, Error::InvalidArgument { argument: "target_recall", .. })
    };
    for target in [0.0, -0.5, 1.5, f64::NAN, f64::INFINITY] {
        let target_recall = Some(target);
        let path = directory.path().join("none.db");
        let config = VectorConfig { dimensions, target_recall, ..VectorConfig::default() };
        assert!(is_refused(VectorStore::new(&path, config).expect_err("beyond")));
        let backend = aimed(IndexBackend::Auto, target);
        let config = VectorConfig { dimensions, backend, ..VectorConfig::default() };
        assert!(is_refused(VectorStore::new(&path, config).expect_err("beyond")));
        let config = GwiConfig { dimensions, target_recall, ..GwiConfig::default() };
        assert!(is_refused(GravityWellIndex::new(&path, config.clone()).expect_err("beyond")));
        let cold = CascadeConfig { dimensions, target_recall, ..CascadeConfig::default() };
        assert!(is_refused(CascadeIndex::new(&path, cold.clone()).expect_err("beyond")));
        let config = HybridConfig { hot: config, cold };
        let hot = directory.path().join("hot");
        assert!(is_refused(HybridVectorStore::new(&hot, &path, config).expect_err("beyond")));
        assert_eq!(std::fs::read_dir(directory.path()).expect("a folder").count(), 0);
    }
    let store = plain(&directory.path().join("a.db"), None);
    let query = vectors(1, 3);
    let both = |options: SearchOptions| {
        let refused = store.search_with(&query, 3, &options).expect_err("both");
        (refused.to_string(), is_refused(refused))
    };
    let target = SearchOptions::for_recall(0.9);
    for (name, options) in [
        ("ef_search", SearchOptions { ef_search: Some(7), ..target.clone() }),
        ("nprobe", SearchOptions { nprobe: Some(7), ..target.clone() }),
        ("candidates", SearchOptions { candidates: Some(7), ..target.clone() }),
        ("num_probes", SearchOptions { num_probes: Some(7), ..target.clone() }),
    ] {
        let (message, is_named) = both(options);
        assert!(is_named && message.contains(&format!("got 0.9 and {name} 7")), "{message}");
    }
    assert!(both(SearchOptions::for_recall(1.01)).1);
    fill(&store);
    let [codes, graph, ..] = backends();
    store.build_index_with(&codes, 1, &mut |_, _| true).expect("builds");
    let refused = store.build_index_with(&aimed(graph, 1.01), 1, &mut |_, _| true);
    assert!(is_refused(refused.expect_err("beyond")));
    let stats = store.index_stats().expect("open").expect("an index");
    assert_eq!(stats.kind, "flat");
    assert_eq!(metric, store.metric());
}
