//! What the original's callers know of a graph and of a store, beside its searches.

use synadb::distance::DistanceMetric;
use synadb::hnsw::{HnswConfig, HnswIndex};
use synadb::vector::{IndexBackend, VectorConfig, VectorStore};

const WIDTH: usize = 24;
const METRICS: [DistanceMetric; 3] =
    [DistanceMetric::Cosine, DistanceMetric::Euclidean, DistanceMetric::DotProduct];

/// A vector of its own for each number, none of them equal to another.
fn row(number: usize) -> Vec<f32> {
    (0..WIDTH).map(|at| (number as f32 * 0.37 * (at + 1) as f32).sin() + 0.01).collect()
}

fn filled(metric: DistanceMetric, rows: usize) -> HnswIndex {
    let mut index = HnswIndex::new(WIDTH as u16, metric, HnswConfig::default());
    for number in 0..rows {
        index.insert(&number.to_string(), &row(number)).expect("inserts");
    }
    index.build(1).expect("builds");
    index
}

#[test]
fn nodes_know_their_keys_vectors_and_links() {
    for metric in METRICS {
        let index = filled(metric, 1500);
        let stats = index.stats();
        assert_eq!((stats.num_nodes, stats.tail, index.max_level()), (1500, 0, 0));
        let mut edges = 0;
        for number in 0..1500 {
            let id = index.get_node_id(&number.to_string()).expect("is there");
            let node = index.get_node(id).expect("is there");
            assert_eq!(
                (&*node.key, &node.vector, node.level()),
                (&*number.to_string(), &row(number), 0)
            );
            let [links] = &*node.neighbors else { panic!("{} layers", node.neighbors.len()) };
            for &(next, distance) in links {
                let there = &index.get_node(next).expect("is there").vector;
                assert_eq!(distance, metric.distance(&node.vector, there));
                assert_eq!(distance, index.distance_to_node(&node.vector, next));
                assert_ne!(next, id);
            }
            edges += links.len();
        }
        assert!(edges >= 1500 && stats.total_edges == edges, "{stats:?}");
        assert!((stats.avg_edges_per_node - edges as f64 / 1500.0).abs() < 1e-9);
    }
}

#[test]
fn there_is_one_layer_and_all_nodes_are_on_it() {
    let mut index = HnswIndex::new(WIDTH as u16, DistanceMetric::Cosine, HnswConfig::default());
    assert_eq!((index.entry_point(), index.nodes_at_level(0)), (None, vec![]));
    index.insert("a", &row(1)).expect("inserts");
    assert_eq!((index.entry_point(), index.get_node_id("a")), (Some(0), Some(0)));
    assert_eq!(index.get_node(0).expect("is there").neighbors, [vec![]]);

    let mut index = filled(DistanceMetric::Euclidean, 300);
    index.set_max_level(7);
    assert_eq!((index.max_level(), index.random_level()), (0, 0));
    assert_eq!((index.nodes_at_level(0).len(), index.nodes_at_level(1).len()), (300, 0));
    let entry = index.entry_point().expect("is there");
    let key = index.get_node(entry).expect("is there").key;
    assert!(index.remove(&key));
    assert_eq!((index.get_node(entry), index.get_node_id(&key)), (None, None));
    assert!(index.entry_point().is_some_and(|other| other != entry));
    assert!(!index.nodes_at_level(0).contains(&entry));
    let leads_there = |node: usize| {
        let node = index.get_node(node).expect("is there");
        node.neighbors[0].iter().any(|&(next, _)| next == entry)
    };
    assert!(!index.nodes_at_level(0).into_iter().any(leads_there));
    assert_eq!((index.get_node(300), index.get_node(usize::MAX)), (None, None));
}

#[test]
fn a_walk_of_a_layer_finds_what_is_near() {
    for metric in [DistanceMetric::Cosine, DistanceMetric::Euclidean] {
        let index = filled(metric, 2000);
        let entry = index.entry_point().expect("is there");
        let mut hits = 0;
        for number in (0..2000).step_by(41) {
            let found = index.search_layer(&row(number), entry, 200, 0);
            assert_eq!(found.len(), 200);
            assert!(found.is_sorted_by(|a, b| a.1 <= b.1));
            assert!(found.iter().all(|&(node, d)| d == index.distance_to_node(&row(number), node)));
            hits += usize::from(index.get_node_id(&number.to_string()) == Some(found[0].0));
        }
        assert!(hits >= 45, "{hits} of 49 under {}", metric.name());
        assert_eq!(index.search_layer(&row(3), entry, 64, 1), []);
        assert_eq!(index.search_layer(&row(3), entry, 0, 0), []);
        assert_eq!(index.search_layer(&row(3), entry, 1, 0).len(), 1);
    }
}

#[test]
fn equal_vectors_lead_to_each_other_and_one_stays_when_another_goes() {
    let mut index = HnswIndex::new(WIDTH as u16, DistanceMetric::Euclidean, HnswConfig::default());
    for number in 0..300 {
        index.insert(&number.to_string(), &row(number / 2)).expect("inserts");
    }
    index.build(1).expect("builds");
    assert_eq!((index.stats().num_nodes, index.nodes_at_level(0).len()), (150, 300));
    let (first, twin) =
        (index.get_node_id("40").expect("is"), index.get_node_id("41").expect("is"));
    let leads_to = |index: &HnswIndex, node: usize, next: usize| {
        let node = index.get_node(node).expect("is there");
        node.neighbors[0].iter().any(|link| link.0 == next)
    };
    assert!(leads_to(&index, first, twin) && leads_to(&index, twin, first));
    assert!(!leads_to(&index, first, first));
    let others: Vec<usize> = index.nodes_at_level(0).into_iter().filter(|n| *n != twin).collect();
    assert!(index.remove("40"));
    let lead = others.iter().filter(|&&node| node != first && leads_to(&index, node, twin));
    assert!(lead.count() > 0, "it was reached through its equal");
    let entry = index.get_node_id("299").expect("is there");
    let found = index.search_layer(&row(20), entry, 300, 0);
    assert!(found.len() == 299 && found[0] == (twin, 0.0));
}

#[test]
#[should_panic(expected = "the node is there")]
fn a_node_that_is_not_there_has_no_distance() {
    let _ = filled(DistanceMetric::Cosine, 3).distance_to_node(&row(0), 3);
}

#[test]
fn the_level_multiplier_is_known_and_changes_nothing() {
    let config = HnswConfig::with_m(32);
    assert!((config.ml - 1.0 / 32.0_f64.ln()).abs() < 1e-12);
    assert!((HnswConfig::default().ml - 1.0 / 16.0_f64.ln()).abs() < 1e-12);
    assert_eq!(HnswConfig { ml: 0.5, ..config }, config);
    assert_ne!(HnswConfig { m_max: 96, ..config }, config);
    assert_ne!(config.quantized(false), config);
}

#[test]
fn a_store_has_the_methods_of_the_original() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.db");
    let config = || VectorConfig {
        dimensions: WIDTH as u16,
        sync_on_write: false,
        index_threshold: 0,
        backend: IndexBackend::Hnsw(HnswConfig::with_m(8)),
        ..VectorConfig::default()
    };
    let store = VectorStore::new(&path, config()).expect("opens");
    let rows: Vec<Vec<f32>> = (0..2000).map(row).collect();
    let keys: Vec<String> = (0..2000).map(|number| number.to_string()).collect();
    let (keys, rows): (Vec<&str>, Vec<&[f32]>) =
        (keys.iter().map(|key| &**key).collect(), rows.iter().map(|row| &**row).collect());
    for update_index in [false, true] {
        let half = if update_index { 1000..2000 } else { 0..1000 };
        let new = store.insert_batch_fast(&keys[half.clone()], &rows[half], update_index);
        assert_eq!(new.expect("inserts"), 1000);
    }
    assert!(store.is_dirty());
    store.flush().expect("syncs");
    assert!(!store.is_dirty());
    // A threshold of 0 is never reached, however often is searched; closing waits for builds.
    for number in 0..200 {
        assert_eq!(store.search(rows[number], 1).expect("searches")[0].key, keys[number]);
    }
    store.close_handle().expect("closes");
    let store = VectorStore::new(&path, config()).expect("opens");
    assert!(!store.has_index().expect("open"));
    store.build_index().expect("builds");
    store.checkpoint_index().expect("saves");
    store.close_handle().expect("closes");
    assert!(!store.is_dirty());
    let store = VectorStore::new(&path, config()).expect("opens");
    assert!(store.has_index().expect("open"), "it was saved");
}
