//! `CascadeIndex` in a file and in memory, through the crate.

use synadb::cascade::{
    CascadeConfig, CascadeIndex, MmapCascadeConfig, MmapCascadeIndex, SearchResult,
};
use synadb::distance::DistanceMetric;
use synadb::vector::{VectorConfig, VectorStore};
use synadb::{Error, Result};

const WIDTH: usize = 24;
const METRICS: [DistanceMetric; 3] =
    [DistanceMetric::Cosine, DistanceMetric::Euclidean, DistanceMetric::DotProduct];

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// Points of 50 clusters; a small generator of its own, seeded.
fn rows(count: usize) -> Vec<Vec<f32>> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let centres: Vec<Vec<f32>> =
        (0..50).map(|_| (0..WIDTH).map(|_| 4.0 * next()).collect()).collect();
    let of = |row: usize| &centres[row % 50];
    (0..count).map(|row| of(row).iter().map(|centre| centre + next()).collect()).collect()
}

fn config(metric: DistanceMetric) -> CascadeConfig {
    CascadeConfig { metric, ..CascadeConfig::preset_small(WIDTH as u16) }
}

fn fill(index: &mut CascadeIndex, rows: &[Vec<f32>]) -> usize {
    let names: Vec<String> = (0..rows.len()).map(|row| row.to_string()).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let vectors: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    index.insert_batch(&keys, &vectors).expect("inserts")
}

fn keys_of(found: &[SearchResult]) -> Vec<&str> {
    found.iter().map(|hit| hit.key.as_str()).collect()
}

/// Of how many hits of exact searches in `rows` the index has found so many.
fn recall(index: &CascadeIndex, rows: &[Vec<f32>], queries: &[Vec<f32>]) -> f64 {
    let (mut hits, mut wanted) = (0, 0);
    for query in queries {
        let mut all: Vec<(f32, String)> = (rows.iter().enumerate())
            .map(|(row, vector)| (index.metric().distance(query, vector), row.to_string()))
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let found = index.search(query, 10).expect("searches");
        assert!(found.is_sorted_by(|a, b| a.score <= b.score) && found.len() == 10);
        hits += all[..10].iter().filter(|(_, key)| keys_of(&found).contains(&&**key)).count();
        wanted += 10;
    }
    hits as f64 / f64::from(wanted)
}

#[test]
fn file_has_its_cascade_after_reopening_and_any_store_opens_it() {
    for metric in METRICS {
        let (directory, rows) = (directory(), rows(3100));
        let path = directory.path().join("vectors.cascade");
        assert!(matches!(CascadeIndex::load(&path), Err(Error::MissingDatabase { .. })));
        let mut index = CascadeIndex::new(&path, config(metric)).expect("opens");
        assert_eq!(fill(&mut index, &rows[..3000]), 3000);
        assert_eq!((index.stats().vector_count, index.stats().graph_edges), (3000, 0));
        assert_eq!(recall(&index, &rows[..3000], &rows[3000..3010]), 1.0);
        index.build_index().expect("builds");
        assert!(recall(&index, &rows[..3000], &rows[3000..]) >= 0.95, "{}", metric.name());
        let stats = index.stats();
        assert!(stats.bucket_count > 8 && stats.avg_neighbors > 8.0, "{stats:?}");
        index.insert("new", &rows[3000]).expect("inserts");
        assert!(index.delete("7").expect("deletes") && !index.delete("7").expect("deletes"));
        index.save(&path).expect("saves");
        let found = index.search(&rows[3000], 20).expect("searches");
        index.close().expect("closes");
        assert!(index.search(&rows[3000], 1).is_err() && index.stats().graph_edges == 0);

        let loaded = CascadeIndex::load(&path).expect("loads");
        assert_eq!(loaded.config(), &config(metric));
        assert_eq!(loaded.search(&rows[3000], 20).expect("searches"), found);
        assert_eq!((loaded.len(), loaded.stats().graph_edges), (3000, stats.graph_edges));
        assert_eq!(loaded.get("8").expect("reads").as_ref(), Some(&rows[8]));
        assert_eq!(found[0].vector, loaded.get(&found[0].key).expect("reads"));
        let store = VectorStore::new(&path, VectorConfig { dimensions: 0, ..Default::default() });
        assert_eq!(store.expect("opens").index_stats().expect("open").expect("built").tail, 1);
    }
}

#[test]
fn index_in_memory_builds_itself_and_saves_as_a_file() -> Result<()> {
    let (directory, rows) = (directory(), rows(5100));
    let path = directory.path().join("saved.cascade");
    let mut index = CascadeIndex::in_memory(config(DistanceMetric::Euclidean));
    assert_eq!((index.search(&rows[0], 5)?, index.is_empty()), (vec![], true));
    fill(&mut index, &rows[..5000]);
    assert!(index.stats().bucket_count > 0 && index.store().is_none());
    assert!(recall(&index, &rows[..5000], &rows[5000..]) >= 0.95);
    index.insert("3", &rows[5001])?;
    assert!(index.delete("4")? && !index.delete("4")?);
    assert_eq!((index.len(), index.get("4")?), (4999, None));
    assert_eq!(index.search(&rows[5001], 1)?[0].vector.as_ref(), Some(&rows[5001]));
    assert!(!keys_of(&index.search(&rows[4], 5000)?).contains(&"4"));
    index.save(&path)?;
    index.delete("5")?;
    index.save(&path)?;
    let loaded = CascadeIndex::load(&path)?;
    assert_eq!((loaded.len(), loaded.get("5")?, loaded.get("3")?), (4998, None, index.get("3")?));
    assert!(loaded.stats().graph_edges > 0);

    // A file saves itself as another one, and leaves its own as it was.
    let copy = directory.path().join("copy.cascade");
    loaded.save(&copy)?;
    let copied = CascadeIndex::load(&copy)?;
    assert_eq!((copied.len(), copied.config()), (4998, loaded.config()));
    let keys = |index: &CascadeIndex| index.store().map(VectorStore::keys);
    assert_eq!(keys(&copied), keys(&loaded));
    index.flush()?;
    index.close()
}

#[test]
fn what_is_refused_is_named_and_changes_nothing() {
    let directory = directory();
    let path = directory.path().join("a.cascade");
    let good = CascadeConfig::preset_fast_search(2);
    for (argument, bad) in [
        ("num_bits", CascadeConfig { num_bits: 25, ..good.clone() }),
        ("num_tables", CascadeConfig { num_tables: 0, ..good.clone() }),
        ("split_threshold", CascadeConfig { split_threshold: 0, ..good.clone() }),
        ("max_bucket_depth", CascadeConfig { max_bucket_depth: 17, ..good.clone() }),
        ("m", CascadeConfig { m: 0, ..good.clone() }),
        ("m_max", CascadeConfig { m_max: 129, ..good.clone() }),
        ("num_probes", CascadeConfig { num_probes: 0, ..good.clone() }),
        ("ef_search", CascadeConfig { ef_search: 0, ..good.clone() }),
    ] {
        match CascadeIndex::new(&path, bad) {
            Err(Error::InvalidArgument { argument: named, .. }) => assert_eq!(named, argument),
            other => panic!("{argument}: {other:?}"),
        }
        assert!(!path.exists());
    }
    let in_file = CascadeIndex::new(&path, good.clone()).expect("opens");
    for mut index in [in_file, CascadeIndex::in_memory(good)] {
        let class = |error: Error| error.class();
        let keys = ["a", "b"];
        let short: [&[f32]; 2] = [&[1.0, 2.0], &[1.0]];
        let wrong: [&[f32]; 2] = [&[1.0, 2.0], &[1.0, f32::NAN]];
        assert_eq!(index.insert_batch(&keys, &short).map_err(class), Err("DimensionError"));
        assert_eq!(index.insert_batch(&keys, &wrong).map_err(class), Err("InvalidVectorError"));
        assert_eq!(index.insert_batch(&keys, &[]).map_err(class), Err("InvalidArgumentError"));
        assert_eq!(index.insert("", &[1.0, 2.0]).map_err(class), Err("EmptyKeyError"));
        assert_eq!(index.delete("").map_err(class), Err("EmptyKeyError"));
        assert_eq!(index.search(&[1.0], 1).map_err(class), Err("DimensionError"));
        assert_eq!(index.search(&[f32::NAN, 0.0], 1).map_err(class), Err("InvalidVectorError"));
        for (probes, ef, named) in [(0, 9, "num_probes"), (9, 0, "ef")] {
            let error = index.search_with_params(&[1.0, 0.0], 1, probes, ef).expect_err("refused");
            assert!(error.to_string().contains(named), "{error}");
        }
        assert!(index.is_empty());
    }
}

#[test]
fn defect_75_files_whose_names_differ_in_the_extension_are_two() -> Result<()> {
    let directory = directory();
    let names = ["index.v1", "index.v2", "index"];
    for (number, name) in names.iter().enumerate() {
        let path = directory.path().join(name);
        let mut index = CascadeIndex::new(&path, CascadeConfig::preset_small(2))?;
        assert!(index.is_empty(), "{name}");
        index.insert(name, &[number as f32, 1.0])?;
        index.build_index()?;
    }
    for name in names {
        let index = CascadeIndex::load(directory.path().join(name))?;
        assert_eq!(keys_of(&index.search(&[1.0, 1.0], 5)?), [name]);
    }
    Ok(())
}

#[test]
fn mapped_cascade_is_a_cascade_by_other_names() -> Result<()> {
    let (directory, rows) = (directory(), rows(3000));
    let path = directory.path().join("mapped.cascade");
    let metric = DistanceMetric::Euclidean;
    let small =
        MmapCascadeConfig { dimensions: WIDTH as u16, metric, ..MmapCascadeConfig::small() };
    let mut mapped = MmapCascadeIndex::new(&path, small.clone())?;
    for (row, vector) in rows[..10].iter().enumerate() {
        mapped.insert(&row.to_string(), vector)?;
    }
    let names: Vec<String> = (0..3000).map(|row| row.to_string()).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let vectors: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    assert_eq!(mapped.insert_batch(&keys, &vectors)?, 2990);
    let stats = mapped.stats();
    assert_eq!((stats.vector_count, stats.graph_nodes, stats.bucket_count), (3000, 0, 0));
    assert_eq!((mapped.len(), mapped.is_empty(), mapped.dimensions()), (3000, false, 24));
    assert_eq!((mapped.get("7"), mapped.get("absent")), (Some(rows[7].clone()), None));
    assert!(mapped.contains("7") && !mapped.contains("absent"));
    let store = mapped.index().store().expect("in a file").clone();
    let parameters = CascadeConfig::from(small.clone()).parameters();
    store.build_index_with(
        &synadb::vector::IndexBackend::Cascade(parameters),
        2,
        &mut |_, _| true,
    )?;
    let stats = mapped.stats();
    assert!(stats.graph_nodes == 3000 && stats.graph_edges > 3000, "{stats:?}");
    assert!(stats.bucket_count > 8, "{stats:?}");
    let found = mapped.search_with_params(&rows[5], 3, 200, 400)?;
    assert_eq!((&*found[0].key, found[0].score), ("5", 0.0));
    assert_eq!(found[0].vector.as_ref(), Some(&rows[5]));
    let found = mapped.search(&rows[5], 10)?;
    assert_eq!((found.len(), &*found[0].key), (10, "5"));
    mapped.flush()?;
    mapped.save()?;
    drop((mapped, store));
    let names = std::fs::read_dir(directory.path()).expect("lists").map(|e| e.expect("is"));
    let names: Vec<_> =
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(names.iter().all(|name| name.starts_with("mapped.cascade")), "{names:?}");
    let again = MmapCascadeIndex::new(&path, small.clone())?;
    assert_eq!((again.stats(), again.search(&rows[5], 10)?), (stats, found));
    assert_eq!(CascadeIndex::load(&path)?.len(), 3000);

    let mut memory = MmapCascadeIndex::in_memory(small.clone())?;
    assert_eq!(memory.insert_batch(&keys, &vectors)?, 3000);
    assert!(memory.stats().graph_nodes > 0);
    assert_eq!(memory.search(&rows[5], 1)?[0].key, "5");
    assert_eq!(memory.get("7"), Some(rows[7].clone()));
    memory.flush()?;
    memory.save()?;
    let beyond = MmapCascadeConfig { num_tables: 65, ..small };
    for refused in
        [MmapCascadeIndex::in_memory(beyond.clone()), MmapCascadeIndex::new(&path, beyond)]
    {
        assert!(matches!(refused, Err(Error::InvalidArgument { argument: "num_tables", .. })));
    }
    Ok(())
}

#[test]
fn presets_of_a_mapped_cascade_are_the_originals() {
    let of = |config: MmapCascadeConfig| {
        let MmapCascadeConfig { initial_capacity, num_bits, num_tables, num_probes, .. } = config;
        let MmapCascadeConfig { m, m_max, ef_search, .. } = config;
        (
            (config.dimensions, num_bits, num_tables, num_probes),
            (m, m_max),
            (ef_search, initial_capacity),
        )
    };
    assert_eq!(of(MmapCascadeConfig::default()), ((768, 6, 10, 16), (20, 40), (80, 100_000)));
    assert_eq!(of(MmapCascadeConfig::small()), ((768, 5, 8, 12), (16, 32), (100, 10_000)));
    assert_eq!(of(MmapCascadeConfig::large()), ((768, 8, 16, 24), (32, 64), (200, 1_000_000)));
    assert_eq!(of(MmapCascadeConfig::high_recall()), ((768, 4, 20, 32), (48, 96), (400, 100_000)));
    assert_eq!(of(MmapCascadeConfig::fast_search()), ((768, 8, 6, 8), (16, 32), (50, 100_000)));
}
