//! Searches that may return some keys only, against a model.

use std::collections::BTreeMap;
use std::sync::Arc;

use synadb::distance::DistanceMetric;
use synadb::vector::{
    CascadeParameters, HnswConfig, IndexBackend, IvfConfig, KeyFilter, PackedConfig, SearchOptions,
    VectorConfig, VectorStore,
};
use synadb::{Durability, OpenOptions, SynaDB};

const WIDTH: usize = 24;

type Model = BTreeMap<String, Vec<f32>>;

fn fast() -> OpenOptions {
    OpenOptions::new().durability(Durability::Process)
}

fn config() -> VectorConfig {
    let (dimensions, metric) = (WIDTH as u16, DistanceMetric::Euclidean);
    let backend = IndexBackend::None;
    VectorConfig { dimensions, metric, backend, ..VectorConfig::default() }
}

fn vector(seed: usize) -> Vec<f32> {
    let value = |axis: usize| {
        let phase = (seed % 37) as f32 + axis as f32 * 0.7;
        phase.sin() + (seed as f32 * 0.0137 + axis as f32).cos()
    };
    (0..WIDTH).map(value).collect()
}

fn key(number: usize) -> String {
    format!("{}:{number}", if number.is_multiple_of(10) { "ten" } else { "one" })
}

/// A store of `count` rows and what it holds.
fn filled(db: &SynaDB, count: usize) -> (VectorStore, Model) {
    let store = VectorStore::attach(db, "v", config()).expect("attaches");
    let model: Model = (0..count).map(|number| (key(number), vector(number))).collect();
    let keys: Vec<&str> = model.keys().map(String::as_str).collect();
    let rows: Vec<f32> = model.values().flatten().copied().collect();
    store.insert_rows(&keys, &rows).expect("inserts");
    (store, model)
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()
}

/// What a filter lets through, nearest first.
fn expected(model: &Model, filter: &KeyFilter, query: &[f32], k: usize) -> Vec<f32> {
    let allowed = model.iter().filter(|(key, _)| filter.allows(key));
    let mut scores: Vec<f32> = allowed.map(|(_, vector)| distance(vector, query)).collect();
    scores.sort_by(f32::total_cmp);
    scores.truncate(k);
    scores
}

fn filters() -> Vec<Arc<KeyFilter>> {
    let some = || (0..3000).step_by(70).map(key);
    let most = || (0..3000).filter(|n| n % 7 > 0).map(key);
    let all = [
        KeyFilter::with_prefix("ten:"),
        KeyFilter::matching("one:*7"),
        KeyFilter::of_keys(some()),
        KeyFilter::of_keys(most()),
        KeyFilter::of_keys(some()).except(),
        KeyFilter::of_keys(most()).except(),
        KeyFilter::with_prefix("ten:").except(),
        KeyFilter::passing(|key| key.ends_with("00")),
        KeyFilter::of_keys(["ten:20"]),
        KeyFilter::of_keys(["nobody"]),
        KeyFilter::of_keys(Vec::<String>::new()),
        KeyFilter::of_keys(Vec::<String>::new()).except(),
    ];
    all.into_iter().map(Arc::new).collect()
}

/// Searches with every filter; at least so many of a hundred expected scores are found.
fn check(store: &VectorStore, model: &Model, filters: &[Arc<KeyFilter>], least: usize) {
    for filter in filters {
        let (mut hits, mut asked) = (0, 0);
        for seed in (3..3000).step_by(173) {
            let query = vector(seed);
            let options = SearchOptions {
                filter: Some(Arc::clone(filter)),
                ef_search: Some(200),
                nprobe: Some(1000),
                ..SearchOptions::default()
            };
            let found = store.search_with(&query, 10, &options).expect("searches");
            let wanted = expected(model, filter, &query, 10);
            for hit in &found {
                assert!(filter.allows(&hit.key), "{} of {filter:?}", hit.key);
                assert_eq!(hit.vector, model[&hit.key], "the newest vector of {}", hit.key);
            }
            assert_eq!(found.len(), wanted.len(), "{filter:?}");
            let near = |(hit, wanted): (&_, &f32)| -> bool {
                let hit: &synadb::vector::SearchResult = hit;
                hit.score <= wanted + 1e-4
            };
            hits += found.iter().zip(&wanted).filter(|pair| near(*pair)).count();
            asked += wanted.len();
        }
        assert!(100 * hits >= least * asked, "{hits} of {asked}: {filter:?}");
    }
}

fn backends() -> [(IndexBackend, usize); 5] {
    [
        (IndexBackend::None, 100),
        (IndexBackend::Flat(PackedConfig::default()), 100),
        (IndexBackend::Hnsw(HnswConfig::default()), 97),
        (IndexBackend::GravityWell(IvfConfig::default()), 99),
        (IndexBackend::Cascade(CascadeParameters::default()), 97),
    ]
}

#[test]
fn a_filter_is_kept_by_every_kind_while_the_store_changes() {
    for (backend, least) in backends() {
        let folder = tempfile::tempdir().expect("a directory");
        let db = fast().open(folder.path().join("a.db")).expect("opens");
        let (store, mut model) = filled(&db, 2000);
        let filters = filters();
        // Filters that know the store before the index is there, and those that do not.
        check(&store, &model, &filters[..6], 100);
        store.build_index_with(&backend, 1, &mut |_, _| true).expect("builds");
        check(&store, &model, &filters, least);
        // Rows behind the index: new keys, others with a new vector, and deleted ones.
        for number in (0..3000).step_by(3) {
            model.insert(key(number), vector(number + 5000));
            store.insert(&key(number), &vector(number + 5000)).expect("inserts");
            if number % 300 == 0 {
                check(&store, &model, &filters[..2], least);
            }
        }
        for number in (0..2000).step_by(11) {
            model.remove(&key(number));
            store.remove(&key(number)).expect("removes");
        }
        check(&store, &model, &filters, least);
        db.compact().expect("compacts");
        check(&store, &model, &filters, least);
        store.build_index_with(&backend, 1, &mut |_, _| true).expect("builds");
        check(&store, &model, &filters, least);
    }
}

#[test]
fn one_filter_serves_several_stores_and_threads() {
    let folder = tempfile::tempdir().expect("a directory");
    let db = fast().open(folder.path().join("a.db")).expect("opens");
    let (store, model) = filled(&db, 2000);
    let other = fast().open(folder.path().join("b.db")).expect("opens");
    let (other, other_model) = filled(&other, 500);
    let filter = [Arc::new(KeyFilter::with_prefix("ten:"))];
    std::thread::scope(|scope| {
        for (store, model) in [(&store, &model), (&other, &other_model)] {
            for _ in 0..2 {
                scope.spawn(|| (0..5).for_each(|_| check(store, model, &filter, 100)));
            }
        }
    });
}

#[test]
fn keys_that_move_meanwhile_are_found_once_each() {
    let folder = tempfile::tempdir().expect("a directory");
    let db = fast().open(folder.path().join("a.db")).expect("opens");
    let (store, _) = filled(&db, 1000);
    let named = || (0..1000).step_by(100).map(key);
    let mut all: Vec<String> = named().collect();
    all.sort_unstable();
    // A new filter is looked through as of one moment and may be used as of an earlier one.
    let filter = std::sync::Mutex::new(Arc::new(KeyFilter::of_keys(named())));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let search = || {
            let mut looks = 0;
            while looks < 200 || !done.load(std::sync::atomic::Ordering::Relaxed) {
                let filter = Some(Arc::clone(&filter.lock().expect("no panic")));
                let options = SearchOptions { filter, ..SearchOptions::default() };
                let found = store.search_with(&vector(7), 50, &options).expect("searches");
                let mut keys: Vec<&str> = found.iter().map(|hit| hit.key.as_str()).collect();
                keys.sort_unstable();
                assert_eq!(keys, all);
                looks += 1;
            }
        };
        (0..3).for_each(|_| drop(scope.spawn(search)));
        for round in 0..1000 {
            for key in named() {
                store.insert(&key, &vector(round)).expect("inserts");
                *filter.lock().expect("no panic") = Arc::new(KeyFilter::of_keys(named()));
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
