//! What the parameters of a build do to the graph.

mod common;

use common::graph::{all, clustered, compare};
use common::{Memory, Random};
use synadb_index::{Filter, HnswConfig, HnswIndex, IndexError, Job, Metric};

/// So few that a node holds its point in single precision and no codes of its neighbours.
const DIMENSIONS: usize = 40;
const ROWS: usize = 2000;
/// What stands in the place of a link that there is not.
const NONE: u32 = u32::MAX;
/// Nodes in the queue of walks that have to be led well.
const QUEUE: usize = 12;

/// Rows in crowds of twenty, and a query in each: the nearest are of its crowd, and a row that has
/// links to little else leads to no other.
fn crowds() -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let mut random = Random(42);
    let centres = clustered(&mut random, ROWS / 20, DIMENSIONS);
    let mut near = |at: usize| -> Vec<f32> {
        centres[at % centres.len()].iter().map(|value| value + 0.1 * random.float()).collect()
    };
    let mut vectors: Vec<Vec<f32>> = (0..ROWS + 100).map(&mut near).collect();
    let queries = vectors.split_off(ROWS);
    (vectors, queries)
}

fn built(source: &Memory, config: HnswConfig) -> Result<HnswIndex, IndexError> {
    let config = config.ef_search(QUEUE);
    HnswIndex::build(Metric::Euclidean, &all(source), source, config, &Job::default())
}

/// The blocks of all nodes.
fn graph(index: &HnswIndex) -> Vec<u8> {
    let sections = index.export();
    let graph = sections.into_iter().find(|(name, _)| *name == "hnsw.graph");
    graph.expect("a section").1.into_owned()
}

/// The links of each node of a graph of this degree, which stand behind its point and the additional
/// coordinate of that.
fn links(index: &HnswIndex, degree: usize) -> Vec<Vec<u32>> {
    let at = size_of::<f32>() * (DIMENSIONS + 1);
    let bytes = graph(index);
    // Behind the links are the three numbers of the code.
    let stride = (at + size_of::<u32>() * degree + 3 * size_of::<f32>()).next_multiple_of(64);
    assert_eq!((bytes.len(), index.graph_bytes()), (ROWS * stride, ROWS * stride));
    let of_block = |block: &[u8]| {
        let (links, _) = block[at..at + size_of::<u32>() * degree].as_chunks::<4>();
        let links = links.iter().map(|&link| u32::from_le_bytes(link));
        let links: Vec<u32> = links.filter(|&link| link != NONE).collect();
        assert!(links.iter().all(|&link| (link as usize) < ROWS), "{links:?}");
        links
    };
    bytes.chunks(stride).map(of_block).collect()
}

#[test]
fn m_max_is_how_many_links_a_node_has() -> Result<(), IndexError> {
    let source = Memory::new(&clustered(&mut Random(41), ROWS, DIMENSIONS), DIMENSIONS);
    let config = HnswConfig::default();
    for (m_max, degree) in [(1, 32), (32, 32), (33, 64), (64, 64), (100, 128), (1000, 128)] {
        let links = links(&built(&source, config.m_max(m_max))?, degree);
        // Nearly all nodes have as many neighbours that are worth a link.
        let count: usize = links.iter().map(Vec::len).sum();
        assert!(count * 100 >= ROWS * degree * 99, "{m_max}: {count} links of {ROWS} nodes");
    }
    // `m` is but another way to say so.
    let graph_of = |config| Ok::<_, IndexError>(graph(&built(&source, config)?));
    assert!(graph_of(HnswConfig::with_m(32))? == graph_of(config.m_max(64))?);
    assert!(graph_of(HnswConfig { m: 48, ..config })? == graph_of(config)?);
    Ok(())
}

#[test]
fn ef_construction_is_twice_what_the_links_are_chosen_from() -> Result<(), IndexError> {
    let (vectors, queries) = crowds();
    let source = Memory::new(&vectors, DIMENSIONS);
    let config = HnswConfig::default();
    let of = |ef| built(&source, config.ef_construction(ef));
    let recall = |index: &HnswIndex| {
        let found = compare(index, &queries, &vectors, &Filter::All, &source)?;
        assert!(found.steps >= QUEUE as u64 * 100, "{} steps are no walks", found.steps);
        Ok::<_, IndexError>(found.recall)
    };
    let (few, many) = (of(64)?, of(400)?);
    // Few candidates are all of a node's own crowd: it is found through an entry point of its own.
    for index in [&few, &many] {
        let found = recall(index)?;
        assert!(found >= 0.96, "{found}");
    }
    // Fewer lead to what is near already, more to what is not.
    let (few, many) = (links(&few, 32), links(&many, 32));
    let is_new = |(few, many): (&Vec<u32>, &Vec<u32>)| {
        many.iter().filter(|link| !few.contains(link)).count()
    };
    let changed: usize = few.iter().zip(&many).map(is_new).sum();
    assert!(changed >= ROWS * 32 / 10, "{changed} links of {}", ROWS * 32);
    // As many as there are links at least, and 512 at most.
    assert!(graph(&of(0)?) == graph(&of(64)?));
    assert!(graph(&of(1024)?) == graph(&of(5000)?));
    Ok(())
}

#[test]
fn a_configuration_is_read_as_it_was_written_and_as_the_original_wrote_it() {
    let config = HnswConfig::with_m(24).ef_search(70).seed(9).quantized(false);
    let text = serde_json::to_string(&config).expect("writes");
    let read: HnswConfig = serde_json::from_str(&text).expect("reads");
    assert_eq!(read, config);
    assert!((read.ml - config.ml).abs() < 1e-12);
    let original =
        r#"{"m":8,"m_max":16,"ef_construction":100,"ef_search":50,"ml":0.480898346962988}"#;
    let read: HnswConfig = serde_json::from_str(original).expect("reads");
    assert_eq!(read, HnswConfig::with_m(8).ef_construction(100).ef_search(50));
    assert!((read.ml - HnswConfig::with_m(8).ml).abs() < 1e-12);
}
