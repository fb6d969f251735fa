//! The graph index without codes.

mod common;

use std::sync::Arc;

use common::graph::{METRICS, all, clustered, compare, recall};
use common::{Memory, Random};
use synadb_index::{Filter, HnswConfig, HnswIndex, IndexError, Job, Metric, SharedBytes};
use synadb_types::{RowId, RowSet};

/// Short enough a queue that two thousand nodes are walked.
const EF: usize = 32;

fn build(metric: Metric, source: &Memory, quantized: bool) -> Result<HnswIndex, IndexError> {
    let config = HnswConfig::default().ef_search(EF).quantized(quantized);
    HnswIndex::build(metric, &all(source), source, config, &Job::with_threads(2))
}

#[test]
fn recall_has_a_floor_in_all_dimensions_and_metrics() -> Result<(), IndexError> {
    let mut random = Random(1);
    for dimensions in [17, 49, 100, 193, 384, 1000] {
        let vectors = clustered(&mut random, 2000, dimensions);
        let source = Memory::new(&vectors, dimensions);
        let queries = clustered(&mut random, 25, dimensions);
        for metric in METRICS {
            let index = build(metric, &source, false)?;
            let recall = recall(&index, &queries, &vectors, &Filter::All, &source)?;
            assert!(recall >= 0.95, "{metric:?} {dimensions} {recall}");
        }
    }
    Ok(())
}

#[test]
fn rows_that_codes_cannot_tell_apart_are_found_in_their_order() -> Result<(), IndexError> {
    const DIMENSIONS: usize = 100;
    let mut random = Random(2);
    let mut around = |centre: &[f32], size: f32| -> Vec<f32> {
        centre.iter().map(|value| value + size * random.float()).collect()
    };
    // A step of a byte is some hundredths; those of one crowd differ by far less, in the end by little
    // more than what single precision leaves of a point.
    let centres: Vec<_> = (0..25).map(|_| around(&[0.0; DIMENSIONS], 4.0)).collect();
    for (size, kinds) in [(2e-3, &[false, true][..]), (1e-4, &[false][..])] {
        let mut near = |row: usize| around(&centres[row % centres.len()], size);
        let vectors: Vec<_> = (0..2500).map(&mut near).collect();
        let queries: Vec<_> = (0..50).map(&mut near).collect();
        let source = Memory::new(&vectors, DIMENSIONS);
        for &quantized in kinds {
            let index = build(Metric::Euclidean, &source, quantized)?;
            let found = recall(&index, &queries, &vectors, &Filter::All, &source)?;
            assert!(
                if quantized { found < 0.7 } else { found >= 0.95 },
                "{size} {quantized}: {found}"
            );
        }
    }
    Ok(())
}

fn import(index: &HnswIndex, version: Option<u8>) -> Result<HnswIndex, IndexError> {
    let sections = index.export().into_iter().map(|(name, bytes)| {
        let mut bytes = bytes.into_owned();
        if let (Some(version), "hnsw.header") = (version, name) {
            bytes[0] = version;
        }
        (name, Arc::new(bytes) as SharedBytes)
    });
    HnswIndex::import(&sections.collect::<Vec<_>>(), 2000)
}

#[test]
fn a_saved_graph_knows_whether_it_has_codes() -> Result<(), IndexError> {
    let mut random = Random(3);
    for dimensions in [20, 100, 200] {
        let vectors = clustered(&mut random, 2000, dimensions);
        let source = Memory::new(&vectors, dimensions);
        let queries = clustered(&mut random, 5, dimensions);
        let measure = |index: &HnswIndex| recall(index, &queries, &vectors, &Filter::All, &source);
        for (quantized, other) in [(false, 2), (true, 3)] {
            let index = build(Metric::Cosine, &source, quantized)?;
            let read = import(&index, None)?;
            assert_eq!(read.config(), index.config());
            assert_eq!(read.config().quantized, quantized);
            assert!((measure(&read)? - measure(&index)?).abs() < f64::EPSILON);
            // Few dimensions are in single precision either way; of others the blocks differ.
            assert_eq!(import(&index, Some(other)).is_ok(), dimensions == 20, "{dimensions}");
        }
    }
    Ok(())
}

#[test]
fn graphs_with_and_without_codes_become_one_of_either_kind() -> Result<(), IndexError> {
    let mut random = Random(4);
    let vectors = clustered(&mut random, 2000, 200);
    let (source, job) = (Memory::new(&vectors, 200), Job::with_threads(2));
    let queries = clustered(&mut random, 25, 200);
    let half = |first: u32, quantized: bool| {
        let config = HnswConfig::default().quantized(quantized);
        let rows = RowSet::range(RowId(first), 1000);
        HnswIndex::build(Metric::Cosine, &rows, &source, config, &job)
    };
    let (first, second) = (half(0, true)?, half(1000, false)?);
    for quantized in [true, false] {
        let config = HnswConfig::default().ef_search(EF).quantized(quantized);
        let parts = [&first, &second];
        let index =
            HnswIndex::merge(Metric::Cosine, &parts, &RowSet::new(), &source, config, &job)?;
        assert_eq!((index.config().quantized, index.nodes()), (quantized, 2000));
        for kind in [true, false] {
            let same = build(Metric::Cosine, &source, kind)?.graph_bytes() == index.graph_bytes();
            assert_eq!(same, kind == quantized);
        }
        let recall = recall(&index, &queries, &vectors, &Filter::All, &source)?;
        assert!(recall >= 0.95, "{quantized} {recall}");
    }
    Ok(())
}

#[test]
fn beside_one_far_row_a_long_queue_finds_all() -> Result<(), IndexError> {
    let mut random = Random(6);
    for (far, quantized) in [(1e12, true), (1e15, true), (1e12, false), (1e15, false)] {
        let mut vectors = clustered(&mut random, 1500, 100);
        vectors[0].iter_mut().for_each(|value| *value *= far);
        let source = Memory::new(&vectors, 100);
        let config = HnswConfig::default().ef_search(vectors.len()).quantized(quantized);
        let job = Job::with_threads(2);
        let index = HnswIndex::build(Metric::Euclidean, &all(&source), &source, config, &job)?;
        let found = compare(&index, &vectors[1..40], &vectors, &Filter::All, &source)?;
        assert!(found.recall >= 0.999, "{far} {quantized}: {}", found.recall);
    }
    Ok(())
}
