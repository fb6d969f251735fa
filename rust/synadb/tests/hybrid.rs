//! `HybridVectorStore`: each vector once, wherever it is, whatever happens.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use synadb::arch::{HybridConfig, HybridVectorStore, ResultSource};
use synadb::distance::DistanceMetric;
use synadb::vector::{KeyFilter, SearchOptions};
use synadb::{CascadeConfig, CascadeIndex, Error, GravityWellIndex, GwiConfig, Result};
use synadb::{SynaDB, Value};

const WIDTH: usize = 8;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn config() -> HybridConfig {
    let (dimensions, metric) = (WIDTH as u16, DistanceMetric::Euclidean);
    HybridConfig {
        hot: GwiConfig { dimensions, metric, ..GwiConfig::default() },
        cold: CascadeConfig { metric, ..CascadeConfig::preset_small(dimensions) },
    }
}

fn open(folder: &tempfile::TempDir) -> HybridVectorStore {
    let (hot, cold) = (folder.path().join("hot.gwi"), folder.path().join("cold.cascade"));
    HybridVectorStore::new(hot, cold, config()).expect("opens")
}

/// A vector for a number, no two alike.
fn vector(number: usize) -> [f32; WIDTH] {
    std::array::from_fn(|axis| ((number * (axis + 3)) as f32 * 0.37).sin() + number as f32 * 1e-3)
}

/// A small generator, seeded.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % end
    }
}

/// Filters that are used for the whole of a test: by keys, by a pattern, and by a test.
fn filters() -> Vec<Arc<KeyFilter>> {
    let keys: Vec<String> = (0..60).step_by(7).map(|n| n.to_string()).collect();
    let filters =
        [KeyFilter::of_keys(&keys), KeyFilter::matching("*3*"), KeyFilter::with_prefix("4")];
    let excluded = filters.iter().map(KeyFilter::except).collect::<Vec<_>>();
    let all = filters.into_iter().chain(excluded);
    all.chain([KeyFilter::passing(|key| key.len() == 1)]).map(Arc::new).collect()
}

/// Compares filtered answers with those of a plain map.
fn check_filtered(
    store: &HybridVectorStore,
    model: &BTreeMap<String, usize>,
    filters: &[Arc<KeyFilter>],
) {
    let query = vector(77);
    for filter in filters {
        let passing = model.iter().filter(|(key, _)| filter.allows(key));
        let mut wanted: Vec<(f32, &String)> = passing
            .map(|(key, n)| (DistanceMetric::Euclidean.distance(&query, &vector(*n)), key))
            .collect();
        wanted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let options = SearchOptions { filter: Some(Arc::clone(filter)), ..Default::default() };
        for k in [3, 1000] {
            let found = store.search_with(&query, k, &options).expect("searches");
            let found: Vec<&String> = found.iter().map(|hit| &hit.key).collect();
            let wanted: Vec<&String> = wanted.iter().take(k).map(|(_, key)| *key).collect();
            assert_eq!(found, wanted, "{filter:?}");
        }
    }
}

/// Compares every answer with that of a plain map.
fn check(store: &HybridVectorStore, model: &BTreeMap<String, usize>) {
    assert_eq!(store.len(), model.len());
    assert_eq!(store.keys(), model.keys().cloned().collect::<Vec<_>>());
    for (key, number) in model {
        let found = store.get(key).expect("reads").expect("is there");
        assert_eq!(found, vector(*number), "{key}");
    }
    assert_eq!(store.get("absent").expect("reads"), None);
    let reader = store.reader().expect("reads");
    let names: Vec<&str> = model.keys().map(String::as_str).collect();
    let mut rows = vec![0.0; WIDTH * names.len()];
    reader.read(&names, None, &mut rows).expect("reads");
    let wanted: Vec<f32> = model.values().flat_map(|number| vector(*number)).collect();
    assert_eq!(rows, wanted);
    let [hot, cold] = reader.runs().expect("reads");
    let hot = hot.into_iter().map(|run| reader.hot().keys(run).expect("reads"));
    let cold = cold.into_iter().map(|run| reader.cold().keys(run).expect("reads"));
    let mut keys: Vec<String> = hot.chain(cold).flatten().collect();
    keys.sort_unstable();
    assert_eq!(keys, names);
    for query in [3, 77, 500] {
        let query = vector(query);
        let mut wanted: Vec<f32> = model
            .values()
            .map(|number| DistanceMetric::Euclidean.distance(&query, &vector(*number)))
            .collect();
        wanted.sort_by(f32::total_cmp);
        for k in [1, 10, 1000] {
            let found = store.search(&query, k).expect("searches");
            let keys: HashSet<&str> = found.iter().map(|hit| hit.key.as_str()).collect();
            assert_eq!((keys.len(), found.len()), (k.min(model.len()), k.min(model.len())));
            for (hit, wanted) in found.iter().zip(&wanted) {
                assert!((hit.score - wanted).abs() < 1e-5, "{hit:?} {wanted}");
            }
        }
    }
}

#[test]
fn every_answer_is_that_of_a_map_whatever_was_done() {
    let folder = directory();
    let (mut store, mut model) = (open(&folder), BTreeMap::new());
    let (mut random, filters) = (Random(7), filters());
    for step in 0..400 {
        let key = random.below(60).to_string();
        match random.below(22) {
            0..8 => {
                store.ingest(&key, &vector(step)).expect("ingests");
                model.insert(key, step);
            }
            8..12 => {
                let keys: Vec<String> = (0..9).map(|_| random.below(60).to_string()).collect();
                let names: Vec<&str> = keys.iter().map(String::as_str).collect();
                let rows: Vec<[f32; WIDTH]> = (0..9).map(|n| vector(1000 + 9 * step + n)).collect();
                let rows: Vec<&[f32]> = rows.iter().map(<[f32; WIDTH]>::as_slice).collect();
                let before = model.len();
                let new = store.ingest_batch(&names, &rows).expect("ingests");
                for (n, key) in keys.into_iter().enumerate() {
                    model.insert(key, 1000 + 9 * step + n);
                }
                assert_eq!(new, model.len() - before);
            }
            12..16 => {
                let had = model.remove(&key).is_some();
                assert_eq!(store.delete(&key).expect("deletes"), had);
            }
            16..18 => {
                let hot = store.hot_count();
                assert_eq!(store.promote_to_cold().expect("promotes"), hot);
                assert_eq!((store.hot_count(), store.cold_count()), (0, model.len()));
                assert_eq!(store.promote_to_cold().expect("promotes"), 0);
            }
            18 => {
                store.database().compact().expect("compacts");
                store.build_cold(1).expect("builds");
            }
            19..21 => {
                let is_there = model.contains_key(&key);
                let updated = store.update(&key, &vector(step));
                assert_eq!(
                    updated.as_ref().err().map(Error::class),
                    (!is_there).then_some("KeyNotFoundError")
                );
                model.entry(key).and_modify(|number| *number = step);
            }
            _ => {
                store.close().expect("closes");
                assert_eq!((store.len(), store.keys()), (0, vec![]));
                store = open(&folder);
            }
        }
        if step % 10 == 0 {
            check(&store, &model);
        }
        if step % 3 == 0 {
            check_filtered(&store, &model, &filters);
        }
    }
    check(&store, &model);
    let names =
        std::fs::read_dir(folder.path()).expect("lists").map(|e| e.expect("is").file_name());
    assert!(names.into_iter().all(|name| name.to_string_lossy().starts_with("cold.cascade")));
}

#[test]
fn searches_beside_ingests_and_promotions_find_each_key_once() {
    let folder = directory();
    let store = open(&folder);
    for number in 0..300 {
        store.ingest(&number.to_string(), &vector(number)).expect("ingests");
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let found = store.search(&vector(17), 1000).expect("searches");
                    let keys: HashSet<&str> = found.iter().map(|hit| hit.key.as_str()).collect();
                    assert_eq!((found.len(), keys.len()), (300, 300));
                    assert_eq!((&*found[0].key, found[0].score), ("17", 0.0));
                    assert_eq!(store.get("17").expect("reads"), Some(vector(17).to_vec()));
                }
            });
        }
        let movers = [0, 1].map(|start| {
            let store = &store;
            scope.spawn(move || {
                for round in 0..60 {
                    for number in (start..300).step_by(7) {
                        store.ingest(&number.to_string(), &vector(number)).expect("ingests");
                    }
                    if round % 2 == start % 2 {
                        store.promote_to_cold().expect("promotes");
                    }
                }
            })
        });
        for mover in movers {
            mover.join().expect("ends");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(store.len(), 300);
}

#[test]
fn many_vectors_move_in_several_commits_and_the_cascade_finds_them() -> Result<()> {
    let folder = directory();
    let store = open(&folder);
    let keys: Vec<String> = (0..12_000).map(|n| format!("{n:0200}")).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let rows: Vec<f32> = (0..12_000).flat_map(vector).collect();
    let sequence = || store.database().sequence();
    let before = sequence()?;
    assert_eq!(store.ingest_rows(&names, &rows)?, 12_000);
    assert!(sequence()? >= before + 5, "several commits, of which each holds others up briefly");
    assert_eq!(store.ingest_rows(&names[..10], &rows[..10 * WIDTH])?, 0);
    assert_eq!(store.promote_to_cold()?, 12_000);
    store.build_cold(2)?;
    store.ingest("new", &vector(5))?;
    let [hot, cold] = store.index_stats()?;
    let cold = cold.expect("is built");
    assert_eq!((hot, cold.kind, cold.rows, cold.tail), (None, "cascade", 12_000, 0));
    let found = store.search(&vector(5), 2)?;
    assert!(found.iter().all(|hit| hit.score == 0.0), "{found:?}");
    assert_ne!(found[0].source, found[1].source);
    assert_eq!(store.search_hot(&vector(5), 9)?.len(), 1);
    assert!(store.search_cold(&vector(5), 9)?.iter().all(|hit| hit.source == ResultSource::Cold));
    store.save_cold()?;
    store.close()?;
    let (hot, cold) = (folder.path().join("hot.gwi"), folder.path().join("cold.cascade"));
    let index = CascadeIndex::load(&cold)?;
    assert_eq!((index.len(), index.get("new")?), (12_000, None));
    let store = HybridVectorStore::open(hot, cold, config().cold)?;
    assert_eq!((store.hot_count(), store.cold_count()), (1, 12_000));
    assert_eq!(store.index_stats()?[1].map(|stats| stats.rows), Some(12_000));
    Ok(())
}

#[test]
fn key_that_somebody_wrote_to_the_cold_table_too_is_found_once_at_its_new_vector() -> Result<()> {
    let folder = directory();
    let store = open(&folder);
    let mut cold = CascadeIndex::new(folder.path().join("cold.cascade"), config().cold)?;
    for number in 0..50 {
        store.ingest(&number.to_string(), &vector(number + 500))?;
        cold.insert(&number.to_string(), &vector(number))?;
    }
    for number in 50..60 {
        cold.insert(&number.to_string(), &vector(number))?;
    }
    let found = store.search(&vector(3), 60)?;
    let keys: HashSet<_> = found.iter().map(|hit| &hit.key).collect();
    assert_eq!((found.len(), keys.len()), (60, 60));
    assert_eq!(found.iter().filter(|hit| hit.source == ResultSource::Cold).count(), 10);
    let nearer = |key: &usize| DistanceMetric::Euclidean.distance(&vector(9), &vector(*key));
    let mut shown: Vec<usize> = (50..60).collect();
    shown.sort_by(|a, b| nearer(a).total_cmp(&nearer(b)));
    for k in [1, 5, 10, 60] {
        // Nine is hidden, and others that are nearer than those that are shown.
        let found = store.search_cold(&vector(9), k)?;
        let found: Vec<usize> = found.iter().filter_map(|hit| hit.key.parse().ok()).collect();
        assert_eq!(found, shown[..k.min(10)]);
    }
    // What a new vector hides is hidden from filters too, and what it hid is looked for again.
    let filter = Some(Arc::new(KeyFilter::matching("[3-5]?")));
    let options = SearchOptions { filter, ..SearchOptions::default() };
    // The keys 30 to 49 are at other vectors, 50 to 59 where they were.
    let number_of = |key: usize| if key < 50 { key + 500 } else { key };
    for query in (0..60).map(vector) {
        let distance = |key| DistanceMetric::Euclidean.distance(&query, &vector(number_of(key)));
        let mut wanted: Vec<usize> = (30..60).collect();
        wanted.sort_by(|a, b| distance(*a).total_cmp(&distance(*b)));
        let wanted: Vec<String> = wanted.iter().map(usize::to_string).collect();
        for k in [1, 3, 10, 25, 30, 60] {
            let found = store.search_with(&query, k, &options)?;
            let found: Vec<&String> = found.iter().map(|hit| &hit.key).collect();
            assert_eq!(found, wanted.iter().take(k).collect::<Vec<_>>());
        }
    }
    let [of_hot, of_cold] = store.reader()?.runs()?;
    assert_eq!(of_hot.into_iter().map(|run| run.len()).sum::<usize>(), 50);
    assert_eq!(of_cold.into_iter().flatten().collect::<Vec<_>>(), (50..60).collect::<Vec<_>>());
    assert_eq!(store.get("3")?, Some(vector(503).to_vec()));
    assert_eq!(store.promote_to_cold()?, 50);
    assert_eq!((store.len(), store.get("3")?), (60, Some(vector(503).to_vec())));
    // Of a key that both tables have nothing is new.
    store.ingest("7", &vector(7))?;
    cold.insert("7", &vector(8))?;
    let rows = [vector(900), vector(901), vector(902)].concat();
    assert_eq!(store.ingest_rows(&["7", "new", "55"], &rows)?, 1);
    assert_eq!((store.len(), store.get("7")?), (61, Some(vector(900).to_vec())));
    Ok(())
}

#[test]
fn what_is_refused_is_named_and_changes_nothing() -> Result<()> {
    let folder = directory();
    let (hot, cold) = (folder.path().join("hot.gwi"), folder.path().join("cold.cascade"));
    let class = |error: Error| error.class();
    let argument = |result: Result<HybridVectorStore>| match result {
        Err(Error::InvalidArgument { argument, .. }) => argument,
        other => panic!("{other:?}"),
    };
    let mut other = config();
    other.hot.dimensions += 1;
    assert_eq!(argument(HybridVectorStore::new(&hot, &cold, other)), "config");
    let mut other = config();
    other.cold.num_tables = 65;
    assert_eq!(argument(HybridVectorStore::new(&hot, &cold, other)), "num_tables");
    let missing = HybridVectorStore::open(&hot, &cold, config().cold);
    assert_eq!(missing.map_err(class).err(), Some("DatabaseMissingError"));
    assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 0);

    let well = GravityWellIndex::new(&hot, config().hot)?;
    well.insert("mine", &vector(1))?;
    well.close()?;
    let bytes = std::fs::read(&hot).expect("reads");
    assert_eq!(argument(HybridVectorStore::new(&hot, &cold, config())), "hot_path");
    assert_eq!((std::fs::read(&hot).expect("reads"), cold.exists()), (bytes, false));
    let same = HybridVectorStore::new(&hot, &hot, config())?;
    assert_eq!((same.cold_count(), same.hot_count()), (1, 0));

    std::fs::remove_file(&hot).expect("removes");
    let store = HybridVectorStore::new(&hot, &cold, config())?;
    let short: [&[f32]; 1] = [&[1.0]];
    assert_eq!(store.ingest("k", &[1.0]).map_err(class), Err("DimensionError"));
    assert_eq!(store.ingest_batch(&["k"], &short).map_err(class), Err("DimensionError"));
    assert_eq!(store.ingest_batch(&["k"], &[]).map_err(class), Err("InvalidArgumentError"));
    assert_eq!(store.ingest("k", &[f32::NAN; WIDTH]).map_err(class), Err("InvalidVectorError"));
    assert_eq!(store.ingest("", &vector(1)).map_err(class), Err("EmptyKeyError"));
    assert_eq!(store.delete("").map_err(class), Err("EmptyKeyError"));
    assert_eq!(store.search(&[1.0], 1).map_err(class), Err("DimensionError"));
    assert_eq!(store.initialize_hot(&[]).map_err(class), Err("InvalidArgumentError"));
    assert_eq!(store.initialize_hot(&short).map_err(class), Err("DimensionError"));
    assert_eq!((store.len(), store.delete("absent")?, store.promote_to_cold()?), (0, false, 0));
    assert_eq!(store.search(&vector(1), 5)?, vec![]);
    Ok(())
}

#[test]
fn store_in_an_open_database_shares_its_commits_and_is_closed_on_its_own() -> Result<()> {
    let folder = directory();
    let path = folder.path().join("all.db");
    let database = SynaDB::new(&path)?;
    database.append("note", Value::Int(1))?;
    let store = HybridVectorStore::attach(&database, config())?;
    store.ingest("a", &vector(1))?;
    store.promote_to_cold()?;
    store.ingest("b", &vector(2))?;
    assert_eq!(store.search(&vector(2), 1)?[0].source, ResultSource::Hot);
    store.close()?;
    assert!(store.is_closed() && !database.is_closed());
    assert_eq!(database.get("note")?, Some(Value::Int(1)));
    let again = HybridVectorStore::attach(&database, config())?;
    assert_eq!((again.hot_count(), again.cold_count()), (1, 1));
    let mut other = config();
    (other.hot.dimensions, other.cold.dimensions) = (9, 9);
    let refused = HybridVectorStore::attach(&database, other);
    assert_eq!(refused.map_err(|error| error.class()).err(), Some("ConfigMismatchError"));
    database.close_handle()?;
    assert_eq!(again.get("a")?, Some(vector(1).to_vec()));
    let refused = HybridVectorStore::attach(&database, config());
    assert_eq!(refused.map_err(|error| error.class()).err(), Some("DatabaseClosedError"));
    Ok(())
}
