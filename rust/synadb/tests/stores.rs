//! The stores of the original under their own names: mmap store, gravity well, graph in memory.

use std::time::{Duration, Instant};

use synadb::distance::DistanceMetric;
use synadb::gwi::{GravityWellIndex, GwiConfig};
use synadb::hnsw::{HnswConfig, HnswIndex};
use synadb::mmap_vector::{MmapVectorConfig, MmapVectorStore};
use synadb::vector::{SearchOptions, VectorConfig, VectorStore};
use synadb::{Error, SearchResult};

mod common;

const WIDTH: usize = 24;
const METRICS: [DistanceMetric; 3] =
    [DistanceMetric::Cosine, DistanceMetric::Euclidean, DistanceMetric::DotProduct];

/// Nodes in the queue of a search, and how many of the ten nearest of 99 queries it finds at least.
/// A graph of 4,000 nodes is scanned by its codes with the first, the usual one, and walked with the
/// others.
const QUEUES: [(usize, usize); 3] = [(100, 940), (64, 970), (32, 970)];

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// Points of 50 clusters, in order of the clusters; a small generator of its own, seeded.
fn rows(count: usize) -> Vec<Vec<f32>> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let centres: Vec<Vec<f32>> =
        (0..50).map(|_| (0..WIDTH).map(|_| 4.0 * next()).collect()).collect();
    let of = |row: usize| &centres[row * 50 / count];
    (0..count).map(|row| of(row).iter().map(|centre| centre + next()).collect()).collect()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|row| row.to_string()).collect()
}

fn borrowed<'a>(names: &'a [String], rows: &'a [Vec<f32>]) -> (Vec<&'a str>, Vec<&'a [f32]>) {
    (names.iter().map(String::as_str).collect(), rows.iter().map(Vec::as_slice).collect())
}

/// Keys of the ten nearest of all rows but those that are left out.
fn nearest(
    metric: DistanceMetric,
    rows: &[Vec<f32>],
    query: &[f32],
    without: usize,
) -> Vec<String> {
    let mut all: Vec<(f32, usize)> = rows
        .iter()
        .enumerate()
        .filter(|(row, _)| *row != without)
        .map(|(row, vector)| (metric.distance(query, vector), row))
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.iter().take(10).map(|(_, row)| row.to_string()).collect()
}

fn keys_of(found: Vec<SearchResult>) -> Vec<String> {
    found.into_iter().map(|hit| hit.key).collect()
}

#[test]
fn mmap_store_keeps_vectors_and_graph_in_one_file_that_any_store_opens() {
    let (directory, rows, names) = (directory(), rows(3000), names(3000));
    let (keys, vectors) = borrowed(&names, &rows);
    let path = directory.path().join("vectors.mmap");
    let config = MmapVectorConfig { dimensions: WIDTH as u16, ..MmapVectorConfig::default() };
    let store = MmapVectorStore::new(&path, config.clone()).expect("opens");
    assert_eq!(store.insert_batch(&keys, &vectors).expect("inserts"), 3000);
    store.insert("7", &rows[8]).expect("replaces");
    assert!(!store.has_index());
    store.build_index().expect("builds");
    store.insert("new", &rows[9]).expect("inserts");
    let slice = store.get_slice("7").expect("is there");
    assert_eq!((&*slice, slice.as_ptr() as usize % 64), (&*rows[8], 0));
    store.insert("7", &rows[7]).expect("replaces");
    assert_eq!((&*slice, store.get("7").expect("reads")), (&*rows[8], Some(rows[7].clone())));
    assert!(store.get_slice("absent").is_none());
    assert!(store.is_dirty());
    store.checkpoint().expect("saves");
    assert!(!store.is_dirty());
    assert_eq!((store.len(), store.has_index()), (3001, true));
    store.store().close_handle().expect("closes");
    assert!((store.get_slice("7").is_none(), store.has_index()) == (true, false));

    let other = VectorStore::new(&path, VectorConfig { dimensions: 0, ..Default::default() });
    let other = other.expect("opens");
    assert!(other.has_index().expect("open"));
    let found = keys_of(other.search(&rows[9], 2).expect("searches"));
    assert_eq!(found.iter().collect::<std::collections::BTreeSet<_>>().len(), 2);
    assert!(found.contains(&"9".to_owned()) && found.contains(&"new".to_owned()));
    let files = std::fs::read_dir(directory.path()).expect("lists").count();
    assert_eq!(files, 2, "the log and its checkpoint");
}

#[test]
fn gravity_well_opens_what_is_there_and_answers_at_every_size() {
    let (directory, rows, names) = (directory(), rows(11_000), names(11_000));
    let (keys, vectors) = borrowed(&names, &rows);
    let path = directory.path().join("vectors.gwi");
    let config = GwiConfig {
        dimensions: WIDTH as u16,
        metric: DistanceMetric::Euclidean,
        branching_factor: 8,
        num_levels: 2,
        ..GwiConfig::default()
    };
    assert!(matches!(GravityWellIndex::open(&path), Err(Error::MissingDatabase { .. })));
    let gwi = GravityWellIndex::new(&path, config.clone()).expect("opens");
    gwi.initialize_attractors(&vectors[..100]).expect("checks");
    gwi.insert_batch(&keys[..5000], &vectors[..5000]).expect("inserts");
    assert_eq!((gwi.num_clusters(), gwi.cluster_stats()), (64, vec![]));
    let exact = nearest(DistanceMetric::Euclidean, &rows[..5000], &rows[3], usize::MAX);
    let found = gwi.search_with_nprobe(&rows[3], 10, 1).expect("searches");
    assert_eq!(keys_of(found), exact);
    gwi.insert_batch(&keys[5000..], &vectors[5000..]).expect("inserts");
    assert_eq!(gwi.search(&rows[9000], 1).expect("searches")[0].key, "9000");
    let end = Instant::now() + Duration::from_secs(120);
    while gwi.cluster_stats().is_empty() {
        assert!(Instant::now() < end, "no inverted file");
        gwi.search(&rows[9000], 1).expect("searches");
    }
    let clusters = gwi.num_clusters();
    assert!((32..=128).contains(&clusters), "{clusters}");
    let entries: usize = gwi.cluster_stats().iter().map(|(_, entries)| entries).sum();
    assert!((11_000..=22_000).contains(&entries), "{entries}");
    gwi.close().expect("closes");
    gwi.close().expect("closes again");

    let gwi = GravityWellIndex::open(&path).expect("opens");
    assert_eq!((gwi.len(), gwi.num_clusters(), gwi.dimensions()), (11_000, clusters, WIDTH as u16));
    assert_eq!(gwi.metric(), DistanceMetric::Euclidean);
    let again = GravityWellIndex::new(&path, config).expect("opens what is there");
    assert!(again.contains_key("10999") && !again.contains_key("11000"));
}

#[test]
fn defect_68_gravity_well_finds_nine_of_ten_by_default_in_rows_without_structure() {
    const COUNT: usize = 12_000;
    let (directory, names) = (directory(), names(COUNT));
    let mut random = common::Random(5);
    // Sums of uniform numbers are next to gaussian ones.
    let mut row = || -> Vec<f32> {
        let uniform: Vec<Vec<f32>> = (0..4).map(|_| random.vector(64)).collect();
        (0..64).map(|i| uniform.iter().map(|one| one[i]).sum()).collect()
    };
    let rows: Vec<Vec<f32>> = (0..COUNT + 50).map(|_| row()).collect();
    let (keys, vectors) = borrowed(&names, &rows[..COUNT]);
    let config = GwiConfig { dimensions: 64, ..GwiConfig::default() };
    let gwi = GravityWellIndex::new(directory.path().join("a.gwi"), config).expect("opens");
    gwi.insert_batch(&keys, &vectors).expect("inserts");
    let exact = SearchOptions { exact: true, ..SearchOptions::default() };
    let truths: Vec<_> = rows[COUNT..]
        .iter()
        .map(|query| gwi.store().search_with(query, 10, &exact).expect("searches"))
        .collect();
    gwi.initialize_attractors(&vectors[..2000]).expect("builds");
    let share_found = |search: &dyn Fn(&[f32]) -> Vec<SearchResult>| -> f64 {
        let pairs = rows[COUNT..].iter().zip(&truths);
        let is_found = |found: &[SearchResult], truth: &SearchResult| {
            found.iter().any(|hit| hit.key == truth.key)
        };
        let found: usize = pairs
            .map(|(query, truth)| {
                let found = search(query);
                truth.iter().filter(|truth| is_found(&found, truth)).count()
            })
            .sum();
        found as f64 / 500.0
    };
    let few = share_found(&|query| gwi.search_with_nprobe(query, 10, 3).expect("searches"));
    let usual = share_found(&|query| gwi.search(query, 10).expect("searches"));
    assert!(few < 0.5 && usual >= 0.9, "{few} {usual}");
}

#[test]
fn gravity_well_names_what_it_refuses() {
    let directory = directory();
    let path = directory.path().join("a.gwi");
    let config = GwiConfig { dimensions: 2, ..GwiConfig::default() };
    let argument = |result: Result<GravityWellIndex, Error>| match result {
        Err(Error::InvalidArgument { argument, .. }) => argument,
        other => panic!("{other:?}"),
    };
    let zero = GwiConfig { branching_factor: 0, ..config.clone() };
    assert_eq!(argument(GravityWellIndex::new(&path, zero)), "branching_factor");
    let zero = GwiConfig { nprobe: 0, ..config.clone() };
    assert_eq!(argument(GravityWellIndex::new(&path, zero)), "nprobe");
    assert!(!path.exists());
    let gwi = GravityWellIndex::new(&path, config).expect("opens");
    for (sample, wanted) in [
        (vec![], "InvalidArgumentError"),
        (vec![&[1.0][..]], "DimensionError"),
        (vec![&[1.0, f32::NAN][..]], "InvalidVectorError"),
    ] {
        let error = gwi.initialize_attractors(&sample).expect_err("is refused");
        assert_eq!(error.class(), wanted);
    }
    let error = gwi.search_with_nprobe(&[1.0, 0.0], 1, 0).expect_err("is refused");
    assert!(error.to_string().contains("nprobe"), "{error}");
}

#[test]
fn gravity_config_counts_the_nodes_of_its_tree() {
    let config = GwiConfig { branching_factor: 4, num_levels: 2, ..GwiConfig::default() };
    assert_eq!((config.num_leaf_attractors(), config.total_attractors()), (16, 21));
    assert_eq!(GwiConfig::default().num_leaf_attractors(), 4096);
}

#[test]
fn defect_47_graph_filled_one_by_one_in_order_of_clusters_finds_its_neighbours() {
    let rows = rows(6000);
    for metric in METRICS {
        let mut index = HnswIndex::new(WIDTH as u16, metric, HnswConfig::default());
        for (row, vector) in rows.iter().enumerate() {
            index.insert(&row.to_string(), vector).expect("inserts");
        }
        let stats = index.stats();
        assert!(stats.num_nodes >= 4000 && stats.num_nodes + stats.tail == 6000, "{stats:?}");
        assert!(index.remove("17") && !index.remove("17"));
        let mut hits = [0; QUEUES.len()];
        for query in (0..6000).step_by(61) {
            let exact = nearest(metric, &rows, &rows[query], 17);
            for ((ef, _), hits) in QUEUES.into_iter().zip(&mut hits) {
                let found = index.search_with_ef(&rows[query], 10, ef);
                assert!(found.is_sorted_by(|a, b| a.1 <= b.1) && found.len() == 10);
                let is_found = |key: &&String| found.iter().any(|hit| hit.0 == **key);
                let near = exact.iter().filter(is_found).count();
                assert!(near > 0, "query {query} finds nothing with {ef} under {}", metric.name());
                *hits += near;
            }
        }
        for ((ef, floor), hits) in QUEUES.into_iter().zip(hits) {
            assert!(hits >= floor, "{hits} of 990 with {ef} under {}", metric.name());
        }
        let usual = index.search(&rows[61], 10);
        assert_eq!(usual, index.search_with_ef(&rows[61], 10, HnswConfig::default().ef_search));
    }
}

#[test]
fn graph_saves_as_a_store_and_loads_with_its_graph() {
    let (directory, rows) = (directory(), rows(3000));
    let path = directory.path().join("graph.db");
    let config = HnswConfig::with_m(32).ef_construction(150).ef_search(77);
    let mut index = HnswIndex::new(WIDTH as u16, DistanceMetric::Euclidean, config);
    for (row, vector) in rows.iter().enumerate() {
        index.insert(&row.to_string(), vector).expect("inserts");
    }
    index.insert("5", &rows[6]).expect("replaces");
    index.save(&path).expect("saves");
    index.remove("8");
    index.insert("9", &rows[10]).expect("replaces");
    index.save(&path).expect("saves again");
    let bytes = std::fs::metadata(&path).expect("is there").len();
    index.save(&path).expect("saves what has not changed");
    assert_eq!(std::fs::metadata(&path).expect("is there").len(), bytes);

    let loaded = HnswIndex::load(&path).expect("loads");
    assert_eq!((loaded.len(), loaded.contains_key("8")), (2999, false));
    assert_eq!((loaded.config(), loaded.stats().tail), (&config, 0));
    assert_eq!((loaded.get("5"), loaded.get("9")), (Some(&*rows[6]), Some(&*rows[10])));
    let found = loaded.search(&rows[8], 3000);
    assert!(found.len() == 2999 && found.iter().all(|hit| hit.0 != "8"));

    let store = VectorStore::new(&path, VectorConfig { dimensions: 0, ..Default::default() });
    let store = store.expect("opens");
    assert_eq!((store.len(), store.has_index().expect("open")), (2999, true));
    for (dimensions, metric) in
        [(WIDTH as u16 + 1, DistanceMetric::Euclidean), (WIDTH as u16, DistanceMetric::Cosine)]
    {
        let error = HnswIndex::load_validated(&path, dimensions, metric).expect_err("differs");
        assert_eq!(error.class(), "ConfigMismatchError");
    }
    let missing = HnswIndex::load(directory.path().join("absent.db"));
    assert!(matches!(missing, Err(Error::MissingDatabase { .. })));
}

#[test]
fn graph_in_memory_refuses_by_name_and_forgets_what_is_dead() {
    let mut index = HnswIndex::new(2, DistanceMetric::Cosine, HnswConfig::default());
    assert_eq!((index.search(&[1.0, 0.0], 5), index.is_empty()), (vec![], true));
    let class = |error: Error| error.class();
    assert_eq!(index.insert("", &[1.0, 0.0]).map_err(class), Err("EmptyKeyError"));
    assert_eq!(index.insert("k", &[1.0]).map_err(class), Err("DimensionError"));
    assert_eq!(index.insert("k", &[1.0, f32::NAN]).map_err(class), Err("InvalidVectorError"));
    assert_eq!(index.try_search(&[1.0], 1, 9).map_err(class), Err("DimensionError"));
    assert_eq!(
        index.try_search(&[f32::INFINITY, 0.0], 1, 9).map_err(class),
        Err("InvalidVectorError")
    );
    for round in 0..9000 {
        let angle = round as f32;
        let key = (round % 10).to_string();
        index.insert(&key, &[angle.cos(), angle.sin()]).expect("inserts");
    }
    assert_eq!((index.len(), index.keys().count()), (10, 10));
    let stats = index.stats();
    assert!(stats.tail < 3000 && stats.num_nodes <= 10, "{stats:?}");
    let last = 8997.0_f32;
    assert_eq!(index.search(&[last.cos(), last.sin()], 1)[0].0, "7");
    assert_eq!(index.search(&[1.0, 0.0], 100).len(), 10);
}

#[test]
#[should_panic(expected = "Query has 1")]
fn graph_in_memory_panics_at_a_query_of_another_length() {
    let index = HnswIndex::new(2, DistanceMetric::Cosine, HnswConfig::default());
    let _ = index.search(&[1.0], 1);
}
