//! Builds, merges, batches, seeds, cancelling.

use std::cell::Cell;

use super::*;
use crate::common::stop_at;

#[test]
fn the_same_seed_gives_the_same_bytes() -> Result<(), IndexError> {
    let mut random = Random(21);
    let source = Memory::new(&clustered(&mut random, 1500, 200), 200);
    let bytes = |seed, threads| {
        let config = CascadeConfig { seed, ..tight() };
        let job = Job::with_threads(threads);
        let built = CascadeIndex::build(Metric::Cosine, &config, &all(&source), &source, &job)?;
        Ok::<_, IndexError>(owned(&built))
    };
    let alone = bytes(1, 1)?;
    assert_eq!(alone, bytes(1, 1)?);
    assert_eq!(alone, bytes(1, 3)?);
    let other = bytes(2, 1)?;
    for name in ["cascade.trees", "cascade.entries", "cascade.signatures"] {
        let place = alone.iter().position(|section| section.0 == name).expect("a section");
        assert_ne!(alone[place], other[place], "{name}");
    }
    Ok(())
}

#[test]
fn no_bucket_is_fuller_than_it_may_be() -> Result<(), IndexError> {
    let mut random = Random(22);
    let source = Memory::new(&clustered(&mut random, 4000, 40), 40);
    for split_threshold in [20, 100, 1000] {
        let config = CascadeConfig {
            split_threshold,
            num_bits: 3,
            max_bucket_depth: 16,
            ..CascadeConfig::default()
        };
        let index = build(Metric::Euclidean, &config, &source)?;
        let sections = owned(&index);
        let starts = &sections.iter().find(|s| s.0 == "cascade.starts").expect("a section").1;
        let starts: Vec<u32> =
            starts.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word)).collect();
        let sizes = starts.windows(2).map(|pair| (pair[1] - pair[0]) as usize);
        assert!(sizes.clone().all(|size| size > 0 && size <= split_threshold));
        assert_eq!(sizes.sum::<usize>(), 10 * 4000, "every table lists every row");
        assert_eq!(index.stats().bucket_count, starts.len() - 1);
        assert!(index.stats().avg_neighbors > 8.0);
    }
    Ok(())
}

#[test]
fn a_build_stops_when_told_and_reports_how_far_it_is() -> Result<(), IndexError> {
    let mut random = Random(23);
    let source = Memory::new(&clustered(&mut random, 2000, 64), 64);
    let config = CascadeConfig::default();
    for (threads, share) in [(1, 0.0), (1, 0.3), (3, 0.6), (1, 0.92), (1, 1.0)] {
        stop_at(share, threads, |job| {
            CascadeIndex::build(Metric::Cosine, &config, &all(&source), &source, job)
        });
    }
    let last = Cell::new(0.0);
    let progress = |share| last.set(share);
    let job = Job { threads: 2, progress: Some(&progress), ..Job::default() };
    CascadeIndex::build(Metric::Cosine, &config, &all(&source), &source, &job)?;
    assert_eq!(last.get(), 1.0);
    Ok(())
}

#[test]
fn two_parts_and_new_rows_become_one() -> Result<(), IndexError> {
    let mut random = Random(24);
    let vectors = clustered(&mut random, 4000, 100);
    let queries = clustered(&mut random, 20, 100);
    let mut source = Memory::new(&vectors, 100);
    let (config, job) = (tight(), Job::default());
    let part = |first, count, source: &Memory| {
        let rows = RowSet::range(RowId(first), count);
        CascadeIndex::build(Metric::Cosine, &config, &rows, source, &job)
    };
    let (left, right) = (part(0, 1900, &source)?, part(1900, 1600, &source)?);
    (0..4000).step_by(7).for_each(|row| {
        source.live.remove(RowId(row));
    });
    let tail = RowSet::range(RowId(3500), 500);
    let parts = [&left, &right];
    let merged = CascadeIndex::merge(Metric::Cosine, &config, &parts, &tail, &source, &job)?;
    assert_eq!(merged.rows(), &source.live);
    let found = recall(&merged, &queries, &vectors, &Filter::All, &source)?;
    assert!(found >= 0.95, "{found}");
    Ok(())
}

#[test]
fn a_batch_finds_what_its_queries_find_alone() -> Result<(), IndexError> {
    let mut random = Random(25);
    let source = Memory::new(&clustered(&mut random, 3000, 100), 100);
    let index = build(Metric::Euclidean, &tight(), &source)?;
    let values = clustered(&mut random, 21, 100);
    let queries = values.iter().map(|values| Query::new(Metric::Euclidean, values));
    let queries = queries.collect::<Result<Vec<_>, _>>()?;
    for threads in [1, 4] {
        let mut tops: Vec<TopK> = queries.iter().map(|_| TopK::new(10)).collect();
        let (how, job) = (index.default_search(), Job::with_threads(threads));
        index.search_batch(how, &queries, &Filter::All, &source, &job, &mut tops)?;
        for ((query, values), top) in queries.iter().zip(&values).zip(&mut tops) {
            let mut hits = Vec::new();
            top.finish(query, &source, &mut hits);
            assert_eq!(hits, find(&index, values, &Filter::All, &source, 10)?);
        }
    }
    Ok(())
}
