//! Every method that the original's vector stores have, by its name and with the arguments it takes.

use std::collections::BTreeSet;

use synadb::arch::{HybridConfig, HybridVectorStore, ResultSource};
use synadb::cascade::{CascadeConfig, CascadeIndex, MmapCascadeConfig, MmapCascadeIndex};
use synadb::distance::DistanceMetric;
use synadb::gwi::{GravityWellIndex, GwiConfig};
use synadb::hnsw::{HnswConfig, HnswIndex};
use synadb::mmap_vector::{MmapVectorConfig, MmapVectorStore};

const WIDTH: u16 = 64;
const COUNT: usize = 40;
const METRIC: DistanceMetric = DistanceMetric::Euclidean;

/// Vectors on a line: the nearest of one are its neighbours.
fn rows() -> Vec<Vec<f32>> {
    (0..COUNT).map(|row| vec![row as f32; usize::from(WIDTH)]).collect()
}

fn names() -> Vec<String> {
    (0..COUNT).map(|row| format!("v{row}")).collect()
}

fn set<'a>(keys: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    keys.into_iter().map(str::to_owned).collect()
}

/// The three nearest of row 7.
fn nearest() -> BTreeSet<String> {
    set(["v6", "v7", "v8"])
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn the_graph_has_all_methods() {
    let (folder, rows, names) = (folder(), rows(), names());
    let config = HnswConfig::with_m(8).ef_construction(120).ef_search(70);
    assert_eq!(
        (config.m, config.m_max, config.ef_construction, config.ef_search),
        (8, 16, 120, 70)
    );
    assert!((config.ml - 1.0 / 8_f64.ln()).abs() < 1e-12);
    let usual = HnswConfig::default();
    assert_eq!((usual.m, usual.m_max, usual.ef_construction, usual.ef_search), (16, 32, 200, 100));
    let mut index = HnswIndex::new(WIDTH, METRIC, config);
    assert!(index.is_empty() && index.entry_point().is_none());
    for (name, row) in names.iter().zip(&rows) {
        index.insert(name, row).expect("inserts");
    }
    assert_eq!((index.len(), index.dimensions(), index.metric()), (COUNT, WIDTH, METRIC));
    assert_eq!(index.config().ef_search, 70);
    assert!(index.contains_key("v3") && !index.contains_key("v40"));
    let node = index.get_node_id("v3").expect("a node");
    assert_eq!(index.get_node(node).expect("a node").key, "v3");
    assert_eq!(index.keys().collect::<BTreeSet<_>>().len(), COUNT);
    // It has one layer.
    assert!(index.random_level() == 0 && index.entry_point().is_some());
    assert_eq!(index.distance_to_node(&rows[3], node), 0.0);
    assert!(!index.nodes_at_level(0).is_empty());
    index.set_max_level(3);
    let stats = index.stats();
    assert_eq!((index.max_level(), stats.max_level, stats.num_nodes + stats.tail), (0, 0, COUNT));
    assert_eq!(stats.level_counts, [stats.num_nodes]);
    assert!(stats.total_edges as f64 >= stats.avg_edges_per_node * stats.num_nodes as f64);
    let found = |found: Vec<(String, f32)>| found.into_iter().map(|hit| hit.0).collect();
    let found: [BTreeSet<String>; 2] =
        [found(index.search(&rows[7], 3)), found(index.search_with_ef(&rows[7], 3, 40))];
    assert_eq!(found, [nearest(), nearest()]);
    let path = folder.path().join("a.hnsw");
    index.save(&path).expect("saves");
    assert_eq!(HnswIndex::load(&path).expect("loads").len(), COUNT);
    assert_eq!(HnswIndex::load_validated(&path, WIDTH, METRIC).expect("loads").len(), COUNT);
    assert!(HnswIndex::load_validated(&path, WIDTH + 1, METRIC).is_err());
}

#[test]
fn the_gravity_well_has_all_methods() {
    let (folder, rows, names) = (folder(), rows(), names());
    let usual = GwiConfig::default();
    assert_eq!((usual.dimensions, usual.branching_factor, usual.num_levels), (768, 16, 3));
    // Of vectors without structure its default of 3 cells found less than .3 of the neighbours.
    assert_eq!((usual.nprobe, usual.initial_capacity, usual.kmeans_iterations), (50, 10_000, 10));
    assert_eq!((usual.num_leaf_attractors(), usual.total_attractors()), (4096, 4369));
    let path = folder.path().join("a.gwi");
    let config = GwiConfig {
        dimensions: WIDTH,
        metric: METRIC,
        kmeans_iterations: 5,
        ..GwiConfig::default()
    };
    let vectors: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let gwi = GravityWellIndex::new(&path, config).expect("opens");
    gwi.initialize_attractors(&vectors[..10]).expect("takes them");
    gwi.insert(keys[0], vectors[0]).expect("inserts");
    assert_eq!(gwi.insert_batch(&keys[1..], &vectors[1..]).expect("inserts"), COUNT - 1);
    let of = |found: Vec<synadb::gwi::GwiSearchResult>| -> BTreeSet<String> {
        found.into_iter().map(|hit| hit.key).collect()
    };
    assert_eq!(of(gwi.search(&rows[7], 3).expect("searches")), nearest());
    assert_eq!(of(gwi.search_with_nprobe(&rows[7], 3, 4096).expect("searches")), nearest());
    assert_eq!(gwi.get("v3").expect("reads").as_ref(), Some(&rows[3]));
    assert!(gwi.contains_key("v3") && gwi.num_clusters() > 0);
    assert_eq!((gwi.keys().len(), gwi.len(), gwi.is_empty()), (COUNT, COUNT, false));
    gwi.flush().expect("syncs");
    let synced = gwi.store().database().stats().expect("open");
    assert_eq!(synced.synced_bytes, synced.log_bytes, "all of it");
    gwi.close().expect("closes");
    let gwi = GravityWellIndex::open(&path).expect("opens");
    assert_eq!((gwi.len(), gwi.dimensions(), gwi.cluster_stats()), (COUNT, WIDTH, vec![]));
}

#[test]
fn the_cascade_has_all_methods_and_presets() {
    type Numbers = (usize, usize, usize, usize, usize, usize, usize, usize);
    let numbers = |c: &CascadeConfig| -> Numbers {
        let (tree, graph) = ((c.split_threshold, c.max_bucket_depth), (c.m, c.m_max));
        (c.num_bits, c.num_tables, tree.0, tree.1, graph.0, graph.1, c.num_probes, c.ef_search)
    };
    let presets = [
        (CascadeConfig::default(), (6, 10, 400, 4, 20, 40, 16, 80)),
        (CascadeConfig::small(), (5, 8, 200, 3, 16, 32, 12, 100)),
        (CascadeConfig::large(), (8, 16, 1000, 5, 32, 64, 24, 300)),
        (CascadeConfig::high_recall(), (4, 20, 2000, 3, 48, 96, 32, 500)),
        (CascadeConfig::fast_search(), (8, 6, 300, 5, 16, 32, 8, 50)),
    ];
    for (preset, expected) in &presets {
        assert_eq!(numbers(preset), *expected);
        assert_eq!((preset.dimensions, preset.metric), (768, DistanceMetric::Cosine));
        assert!(preset.bidirectional);
    }
    let sized = [
        CascadeConfig::preset_small(WIDTH),
        CascadeConfig::preset_large(WIDTH),
        CascadeConfig::preset_high_recall(WIDTH),
        CascadeConfig::preset_fast_search(WIDTH),
    ];
    let (folder, rows, names) = (folder(), rows(), names());
    let vectors: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    for (number, (config, (_, expected))) in sized.iter().zip(&presets[1..]).enumerate() {
        assert_eq!((numbers(config), config.dimensions), (*expected, WIDTH));
        let config = CascadeConfig { metric: METRIC, ..config.clone() };
        let path = folder.path().join(format!("{number}.cascade"));
        let mut cascade = CascadeIndex::new(&path, config.clone()).expect("opens");
        cascade.insert(keys[0], vectors[0]).expect("inserts");
        cascade.insert_batch(&keys[1..], &vectors[1..]).expect("inserts");
        let of = |found: Vec<synadb::cascade::SearchResult>| -> BTreeSet<String> {
            found.into_iter().map(|hit| hit.key).collect()
        };
        assert_eq!(of(cascade.search(&rows[7], 3).expect("searches")), nearest());
        let found = cascade.search_with_params(&rows[7], 3, 32, 50).expect("searches");
        assert_eq!(of(found), nearest());
        assert!(cascade.delete("v39").expect("deletes") && !cascade.delete("v39").expect("gone"));
        assert_eq!(cascade.get("v3").expect("reads").as_ref(), Some(&rows[3]));
        assert_eq!((cascade.len(), cascade.is_empty()), (COUNT - 1, false));
        assert_eq!((cascade.dimensions(), cascade.config().ef_search), (WIDTH, config.ef_search));
        assert_eq!(cascade.stats().vector_count, COUNT - 1);
        let copy = folder.path().join(format!("{number}.copy"));
        cascade.save(&copy).expect("saves");
        cascade.flush().expect("syncs");
        assert_eq!(CascadeIndex::load(&copy).expect("loads").len(), COUNT - 1);
        let mut memory = CascadeIndex::in_memory(config);
        memory.insert_batch(&keys, &vectors).expect("inserts");
        assert_eq!(of(memory.search(&rows[7], 3).expect("searches")), nearest());
    }
}

#[test]
fn the_mapped_stores_have_all_methods() {
    let (folder, rows, names) = (folder(), rows(), names());
    let vectors: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let usual = MmapVectorConfig::default();
    assert_eq!((usual.dimensions, usual.initial_capacity), (768, 100_000));
    assert_eq!((usual.index_threshold, usual.checkpoint_interval_secs), (10_000, 30));
    let config = MmapVectorConfig { dimensions: WIDTH, metric: METRIC, ..usual };
    let store = MmapVectorStore::new(folder.path().join("a.mmap"), config).expect("opens");
    store.insert(keys[0], vectors[0]).expect("inserts");
    store.insert_batch(&keys[1..], &vectors[1..]).expect("inserts");
    assert_eq!(store.get_slice("v3").as_deref(), Some(&rows[3][..]));
    assert_eq!(store.get("v3").expect("reads").as_ref(), Some(&rows[3]));
    assert!(store.is_dirty());
    store.build_index().expect("builds");
    let found = store.search(&rows[7], 3).expect("searches");
    assert_eq!(found.iter().map(|hit| hit.key.clone()).collect::<BTreeSet<_>>(), nearest());
    store.checkpoint().expect("saves");
    assert!(!store.is_dirty() && store.has_index());
    store.flush().expect("syncs");
    assert_eq!((store.keys().len(), store.len(), store.is_empty()), (COUNT, COUNT, false));
    assert_eq!((store.dimensions(), store.metric()), (WIDTH, METRIC));

    let presets = [
        (MmapCascadeConfig::small(), 10_000, 100),
        (MmapCascadeConfig::large(), 1_000_000, 200),
        (MmapCascadeConfig::high_recall(), 100_000, 400),
        (MmapCascadeConfig::fast_search(), 100_000, 50),
    ];
    for (preset, capacity, ef_search) in presets {
        assert_eq!((preset.initial_capacity, preset.ef_search), (capacity, ef_search));
    }
    let small = MmapCascadeConfig::small();
    let config = MmapCascadeConfig { dimensions: WIDTH, metric: METRIC, ..small };
    let path = folder.path().join("a.cmvs");
    let mut cascade = MmapCascadeIndex::new(&path, config.clone()).expect("opens");
    cascade.insert(keys[0], vectors[0]).expect("inserts");
    assert_eq!(cascade.insert_batch(&keys[1..], &vectors[1..]).expect("inserts"), COUNT - 1);
    let found = cascade.search_with_params(&rows[7], 3, 32, 100).expect("searches");
    assert_eq!(found.iter().map(|hit| hit.key.clone()).collect::<BTreeSet<_>>(), nearest());
    assert_eq!(cascade.search(&rows[7], 3).expect("searches").len(), 3);
    assert_eq!(cascade.get("v3").as_ref(), Some(&rows[3]));
    assert!(cascade.contains("v3") && !cascade.contains("v40") && !cascade.is_empty());
    assert_eq!((cascade.len(), cascade.dimensions()), (COUNT, WIDTH));
    cascade.save().expect("saves");
    cascade.flush().expect("syncs");
    assert_eq!(cascade.stats().vector_count, COUNT);
    assert!(MmapCascadeIndex::in_memory(config).expect("in memory").is_empty());
}

#[test]
fn the_hybrid_store_has_all_methods() {
    let (folder, rows, names) = (folder(), rows(), names());
    let vectors: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let hot = GwiConfig { dimensions: WIDTH, metric: METRIC, ..GwiConfig::default() };
    let cold = CascadeConfig { metric: METRIC, ..CascadeConfig::preset_small(WIDTH) };
    let paths = (folder.path().join("hot.gwi"), folder.path().join("cold.cascade"));
    let config = HybridConfig { hot, cold: cold.clone() };
    let store = HybridVectorStore::new(&paths.0, &paths.1, config).expect("opens");
    store.initialize_hot(&vectors[..10]).expect("takes them");
    store.ingest(keys[0], vectors[0]).expect("ingests");
    assert_eq!(store.ingest_batch(&keys[1..20], &vectors[1..20]).expect("ingests"), 19);
    assert_eq!((store.hot_count(), store.cold_count()), (20, 0));
    assert_eq!(store.promote_to_cold().expect("promotes"), 20);
    assert_eq!((store.hot_count(), store.cold_count()), (0, 20));
    store.ingest_batch(&keys[20..], &vectors[20..]).expect("ingests");
    assert_eq!((store.len(), store.is_empty()), (COUNT, false));
    let found = store.search(&rows[19], 3).expect("searches");
    let of = |found: &[synadb::arch::HybridSearchResult]| -> BTreeSet<String> {
        found.iter().map(|hit| hit.key.clone()).collect()
    };
    assert_eq!(of(&found), set(["v18", "v19", "v20"]));
    for hit in &found {
        let is_hot = hit.source == ResultSource::Hot;
        assert_eq!(is_hot, hit.key == "v20", "{hit:?}");
    }
    assert!(found.is_sorted_by(|a, b| a.score <= b.score));
    assert_eq!(of(&store.search_hot(&rows[19], 2).expect("searches")), set(["v20", "v21"]));
    assert_eq!(of(&store.search_cold(&rows[7], 3).expect("searches")), nearest());
    store.flush_hot().expect("syncs");
    store.save_cold().expect("saves");
    store.close().expect("closes");
    let store = HybridVectorStore::open(&paths.0, &paths.1, cold).expect("opens");
    assert_eq!((store.hot_count(), store.cold_count()), (20, 20));
}
