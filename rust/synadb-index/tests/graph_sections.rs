//! The sections of the graph index: what is written is read again, and nothing is believed.

mod common;

use std::sync::Arc;

use common::{Memory, Random};
use synadb_index::{
    Filter, Hit, HnswConfig, HnswIndex, IndexError, Job, Metric, Part, Query, Scratch, SharedBytes,
    TopK,
};
use synadb_types::{RowId, RowSet};

/// So many that a queue of 20 is walked and not a scan.
const ROWS: usize = 1100;

type Owned = Vec<(&'static str, Vec<u8>)>;

fn source(dimensions: usize) -> Memory {
    let mut random = Random(dimensions as u64);
    let mut vectors = random.vectors(ROWS, dimensions);
    // Rows that share a node, so that there are `ends`.
    vectors[9] = vectors[4].clone();
    Memory::new(&vectors, dimensions)
}

fn build(metric: Metric, source: &Memory) -> Result<HnswIndex, IndexError> {
    build_as(metric, source, true)
}

fn build_as(metric: Metric, source: &Memory, quantized: bool) -> Result<HnswIndex, IndexError> {
    let rows = RowSet::range(RowId(0), ROWS as u32);
    let config = HnswConfig::default().quantized(quantized);
    HnswIndex::build(metric, &rows, source, config, &Job::default())
}

fn owned(index: &HnswIndex) -> Owned {
    index.export().into_iter().map(|(name, bytes)| (name, bytes.into_owned())).collect()
}

fn import(sections: &Owned) -> Result<HnswIndex, IndexError> {
    let shared = |bytes: &Vec<u8>| -> SharedBytes { Arc::new(bytes.clone()) };
    let sections: Vec<_> = sections.iter().map(|(name, bytes)| (*name, shared(bytes))).collect();
    HnswIndex::import(&sections, ROWS as u32)
}

fn search(index: &HnswIndex, source: &Memory) -> Result<Vec<Hit>, IndexError> {
    let mut random = Random(77);
    let (mut scratch, mut top, mut hits) = (Scratch::new(), TopK::new(10), Vec::new());
    for _ in 0..5 {
        let query = Query::new(index.metric(), &random.vector(source.dimensions))?;
        for filter in [Filter::All, Filter::Rows(RowSet::range(RowId(30), 40))] {
            index.search_with_ef(&query, &filter, source, &mut scratch, &mut top, 20)?;
            top.finish(&query, source, &mut hits);
        }
    }
    Ok(hits)
}

#[test]
fn an_imported_index_is_the_same() -> Result<(), IndexError> {
    for dimensions in [3, 100, 200] {
        let source = source(dimensions);
        for metric in [Metric::Cosine, Metric::Euclidean, Metric::DotProduct] {
            let index = build(metric, &source)?;
            let sections = owned(&index);
            let again = import(&sections)?;
            assert_eq!(owned(&again), sections);
            assert_eq!((again.rows(), again.config()), (index.rows(), index.config()));
            assert_eq!(search(&again, &source)?, search(&index, &source)?);
        }
    }
    Ok(())
}

#[test]
fn a_section_that_is_missing_or_cut_is_refused() -> Result<(), IndexError> {
    let sections = owned(&build(Metric::Cosine, &source(64))?);
    for place in 0..sections.len() {
        let mut without = sections.clone();
        let name = without.remove(place).0;
        let refused = |found: Result<HnswIndex, IndexError>| {
            assert!(matches!(found, Err(IndexError::Section { .. })), "{name}: {found:?}");
        };
        refused(import(&without));
        let mut cut = sections.clone();
        cut[place].1.pop();
        refused(import(&cut));
        let mut longer = sections.clone();
        longer[place].1.push(0);
        refused(import(&longer));
    }
    Ok(())
}

#[test]
fn no_byte_of_a_section_is_believed() -> Result<(), IndexError> {
    for (dimensions, quantized) in [(8, true), (64, true), (200, true), (100, false)] {
        let source = source(dimensions);
        let sections = owned(&build_as(Metric::DotProduct, &source, quantized)?);
        let mut random = Random(5);
        let mut accepted = 0;
        for round in 0..600 {
            let mut broken = sections.clone();
            let place = round % broken.len();
            let bytes = &mut broken[place].1;
            for _ in 0..1 + round % 40 {
                let at = random.next() as usize % bytes.len();
                bytes[at] = [0, 0xff, random.next() as u8][round % 3];
            }
            // Refused, or searched without a panic and without a row that does not exist.
            let Ok(index) = import(&broken) else { continue };
            if index.metric() != Metric::DotProduct {
                continue;
            }
            accepted += 1;
            let hits = search(&index, &source);
            assert!(
                hits.is_err() || hits.is_ok_and(|h| h.iter().all(|h| (h.row.0 as usize) < ROWS))
            );
        }
        assert!(accepted > 50, "{accepted}");
    }
    Ok(())
}

#[test]
fn rows_beyond_the_end_and_rows_of_two_nodes_are_refused() -> Result<(), IndexError> {
    let sections = owned(&build(Metric::Cosine, &source(64))?);
    let place = sections.iter().position(|(name, _)| *name == "hnsw.rows").expect("a section");
    for (row, problem) in [(ROWS as u32, "does not exist"), (1, "twice")] {
        let mut broken = sections.clone();
        broken[place].1[..4].copy_from_slice(&row.to_le_bytes());
        let error = import(&broken).expect_err("refused").to_string();
        assert!(error.contains(problem), "{error}");
    }
    Ok(())
}

#[test]
fn entry_points_that_are_no_nodes_or_the_same_node_are_refused() -> Result<(), IndexError> {
    let sections = owned(&build(Metric::Cosine, &source(64))?);
    let place = sections.iter().position(|(name, _)| *name == "hnsw.entries").expect("a section");
    let entries = &sections[place].1;
    let second = u32::from_le_bytes(entries[4..8].try_into().expect("four bytes"));
    for (entry, problem) in [(ROWS as u32, "does not exist"), (second, "twice")] {
        let mut broken = sections.clone();
        broken[place].1[..4].copy_from_slice(&entry.to_le_bytes());
        let error = import(&broken).expect_err("refused").to_string();
        assert!(error.contains(problem), "{error}");
    }
    Ok(())
}
