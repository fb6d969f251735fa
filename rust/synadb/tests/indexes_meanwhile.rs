//! What others do in the midst of a build: its progress function does it, which the build waits for,
//! so that nothing here could wait for the build and come to an end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use synadb::distance::DistanceMetric;
use synadb::vector::{
    CascadeParameters, HnswConfig, IndexBackend, IvfConfig, PackedConfig, SearchOptions,
    VectorConfig, VectorStore,
};
use synadb::{Access, CompactOptions, Durability, Keep, OpenOptions};

const WIDTH: usize = 48;
const COUNT: usize = 1500;

type Model = BTreeMap<String, Vec<f32>>;

fn row(number: usize) -> Vec<f32> {
    let value = |axis: usize| {
        let phase = (number % 37) as f32 + axis as f32 * 0.7;
        phase.sin() + (number as f32 * 0.013 + axis as f32).cos()
    };
    (0..WIDTH).map(value).collect()
}

fn open(path: &Path, options: OpenOptions) -> VectorStore {
    let (dimensions, metric) = (WIDTH as u16, DistanceMetric::Euclidean);
    let config = VectorConfig { dimensions, metric, ..VectorConfig::default() };
    VectorStore::open_with(path, config, options.durability(Durability::Process)).expect("opens")
}

fn filled(path: &Path) -> (VectorStore, Model) {
    let store = open(path, OpenOptions::new());
    let model: Model = (0..COUNT).map(|number| (format!("{number:04}"), row(number))).collect();
    let keys: Vec<&str> = model.keys().map(String::as_str).collect();
    let rows: Vec<f32> = model.values().flatten().copied().collect();
    store.insert_rows(&keys, &rows).expect("inserts");
    (store, model)
}

fn backends() -> [IndexBackend; 4] {
    [
        IndexBackend::Flat(PackedConfig::default()),
        IndexBackend::Hnsw(HnswConfig::default()),
        IndexBackend::GravityWell(IvfConfig::default()),
        IndexBackend::Cascade(CascadeParameters::small()),
    ]
}

/// Codes are made at one go, and tell but that they are done.
fn least_turns(backend: &IndexBackend) -> usize {
    if matches!(backend, IndexBackend::Flat(_)) { 1 } else { 3 }
}

fn thorough() -> SearchOptions {
    let (ef_search, nprobe) = (Some(COUNT), Some(COUNT));
    let (candidates, num_probes) = (Some(COUNT), Some(200));
    SearchOptions { ef_search, nprobe, candidates, num_probes, ..SearchOptions::default() }
}

/// The store holds what the model does, and finds it.
fn check(store: &VectorStore, model: &Model) {
    assert_eq!(store.keys(), model.keys().cloned().collect::<Vec<_>>());
    for (key, row) in model.iter().step_by(29) {
        assert_eq!(store.get(key).expect("reads").as_ref(), Some(row), "{key}");
        let found = store.search_with(row, 1, &thorough()).expect("searches");
        assert_eq!((found[0].score, &found[0].vector), (0.0, row), "{key}");
    }
}

/// Inserts, replaces and deletes some rows, of another number each time.
fn change(store: &VectorStore, model: &mut Model, turn: usize) {
    for at in 0..3 {
        let number = COUNT + 10 * turn + at;
        let key = format!("late {number}");
        store.insert(&key, &row(number)).expect("inserts");
        model.insert(key, row(number));
    }
    let key = format!("{:04}", 3 * turn % COUNT);
    store.insert(&key, &row(9_000 + turn)).expect("replaces");
    model.insert(key, row(9_000 + turn));
    let key = format!("{:04}", (3 * turn + 1) % COUNT);
    assert_eq!(store.remove(&key).expect("deletes"), model.remove(&key).is_some());
}

/// Builds an index, and does something a few times meanwhile; how often.
fn build(store: &VectorStore, backend: &IndexBackend, mut does: impl FnMut(usize, bool)) -> usize {
    let mut turns = 0;
    let is_saved = store.build_index_with(backend, 2, &mut |done, total| {
        // Once at its beginning, in its midst and before the index is put there.
        if turns == 0 || (turns == 1 && 2 * done >= total) || done == total {
            does(turns, done == total);
            turns += 1;
        }
        true
    });
    assert!(is_saved.expect("builds"));
    turns
}

#[test]
fn nobody_waits_for_a_build() {
    for backend in backends() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.db");
        let (store, mut model) = filled(&path);
        store.build_index_with(&backend, 1, &mut |_, _| true).expect("builds");
        let other = store.clone();
        let reader = open(&path, OpenOptions::new().access(Access::ReadOnly));
        let turns = build(&store, &backend, |turn, _| {
            change(&other, &mut model, turn);
            check(&other, &model);
            reader.database().refresh().expect("follows");
            check(&reader, &model);
            // Another build, and what the first one would save.
            if turn == 0 {
                other.build_index_with(&backend, 1, &mut |_, _| true).expect("builds too");
            }
            other.database().checkpoint().expect("saves");
        });
        assert!(turns >= least_turns(&backend), "{backend:?}: {turns}");
        check(&store, &model);
        let stats = store.index_stats().expect("open").expect("is there");
        assert_eq!(stats.rows + stats.tail, model.len());
        store.close_handle().expect("closes");
        let again = open(&path, OpenOptions::new());
        assert!(again.has_index().expect("open"));
        check(&again, &model);
    }
}

#[test]
fn a_backup_in_the_midst_of_a_build_has_the_rows_of_its_moment() {
    for backend in backends() {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, mut model) = filled(&directory.path().join("a.db"));
        let (other, mut copies) = (store.clone(), Vec::new());
        build(&store, &backend, |turn, _| {
            change(&other, &mut model, turn);
            let copy = directory.path().join(format!("{turn}.db"));
            other.database().backup(&copy).expect("copies");
            copies.push((copy, model.clone()));
        });
        check(&store, &model);
        assert!(copies.len() >= least_turns(&backend), "{backend:?}");
        for (copy, model) in copies {
            let copied = open(&copy, OpenOptions::new());
            check(&copied, &model);
            copied.build_index_with(&backend, 1, &mut |_, _| true).expect("builds");
            check(&copied, &model);
        }
    }
}

#[test]
fn a_build_that_a_compaction_overtakes_is_of_the_new_rows() {
    for backend in backends() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.db");
        let (store, mut model) = filled(&path);
        let (other, mut compactions) = (store.clone(), 0);
        let told = RefCell::new(0);
        build(&store, &backend, |turn, is_last| {
            *told.borrow_mut() += usize::from(is_last);
            if compactions < 3 {
                change(&other, &mut model, turn);
                let keep = if compactions == 1 { Keep::Everything } else { Keep::Newest };
                let options = CompactOptions { keep, ..CompactOptions::default() };
                other.database().compact_with(&options, &mut |_, _| true).expect("compacts");
                compactions += 1;
                check(&other, &model);
            }
        });
        assert_eq!(compactions, 3, "{backend:?}");
        assert!(*told.borrow() >= 2, "{backend:?}: it was built anew");
        check(&store, &model);
        let stats = store.index_stats().expect("open").expect("is there");
        assert_eq!(stats.rows + stats.tail, model.len());
        assert!(stats.dead <= 3, "those of before the compaction are gone: {stats:?}");
        store.close_handle().expect("closes");
        let again = open(&path, OpenOptions::new());
        assert!(again.has_index().expect("open"), "{backend:?}");
        check(&again, &model);
        assert_eq!(again.verify().expect("verifies").damage, []);
    }
}
