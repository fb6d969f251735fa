//! Floors of recall, filters and deletes.

use super::*;

#[test]
fn every_preset_keeps_its_promise_on_clustered_rows() -> Result<(), IndexError> {
    let mut random = Random(1);
    let vectors = clustered(&mut random, 6000, 200);
    let queries = clustered(&mut random, 25, 200);
    let source = Memory::new(&vectors, 200);
    for metric in METRICS {
        for (name, floor) in PRESETS {
            // A longer queue would be a scan of so few rows.
            let ef_search = preset(name).ef_search.min(120);
            let config = CascadeConfig { ef_search, ..preset(name) };
            let index = build(metric, &config, &source)?;
            let found = recall(&index, &queries, &vectors, &Filter::All, &source)?;
            assert!(found >= floor, "{name} {metric:?} {found}");
        }
    }
    Ok(())
}

#[test]
fn recall_has_a_floor_in_all_dimensions_and_metrics() -> Result<(), IndexError> {
    let mut random = Random(2);
    for dimensions in [1, 2, 17, 49, 193] {
        let vectors = clustered(&mut random, 2500, dimensions);
        let queries = clustered(&mut random, 20, dimensions);
        let source = Memory::new(&vectors, dimensions);
        for metric in METRICS {
            // On a line every cosine is 1 or -1, and any ten rows are as good as any other.
            if dimensions == 1 && metric == Metric::Cosine {
                continue;
            }
            let index = build(metric, &tight(), &source)?;
            let found = recall(&index, &queries, &vectors, &Filter::All, &source)?;
            assert!(found >= 0.95, "{dimensions} {metric:?} {found}");
        }
    }
    Ok(())
}

#[test]
fn buckets_lead_a_walk_to_more_than_the_entry_points_do() -> Result<(), IndexError> {
    // Groups of tens of rows, far more of them than the graph has entry points.
    let mut random = Random(3);
    let corners = random.vectors(400, 64);
    let vectors: Vec<Vec<f32>> = (0..12_000)
        .map(|row| {
            let noise = random.vector(64);
            corners[row % 400].iter().zip(noise).map(|(c, n)| c + 0.05 * n).collect()
        })
        .collect();
    let source = Memory::new(&vectors, 64);
    let config = CascadeConfig { ef_search: 14, split_threshold: 60, ..CascadeConfig::default() };
    let index = build(Metric::Euclidean, &config, &source)?;
    let at = |probes| {
        let how = CascadeSearch { num_probes: probes, ef_search: 14 };
        let index = index.clone().with_search(how);
        recall(&index, &vectors[..60], &vectors, &Filter::All, &source)
    };
    let (without, with) = (at(0)?, at(16)?);
    assert!(with >= 0.95 && with > without, "{without} without buckets, {with} with");
    Ok(())
}

#[test]
fn filters_and_dead_rows_are_minded() -> Result<(), IndexError> {
    let mut random = Random(4);
    let vectors = clustered(&mut random, 6000, 100);
    let queries = clustered(&mut random, 15, 100);
    let mut source = Memory::new(&vectors, 100);
    let index = build(Metric::Cosine, &tight(), &source)?;
    for step in [2, 10, 400] {
        let some: RowSet = (0..6500).step_by(step).map(RowId).collect();
        for filter in [index.prepare(&some), Filter::Rows(some)] {
            let found = recall(&index, &queries, &vectors, &filter, &source)?;
            assert!(found >= 0.9, "one in {step}: {found}");
        }
    }
    let (none, one) = (Filter::Rows(RowSet::new()), Filter::Rows(RowSet::range(RowId(77), 1)));
    assert_eq!(find(&index, &queries[0], &none, &source, 10)?, []);
    assert_eq!(rows(&find(&index, &queries[0], &one, &source, 10)?), [77]);
    source.live = (0..6000).filter(|row| row % 10 == 0).map(RowId).collect();
    let found = recall(&index, &queries, &vectors, &Filter::All, &source)?;
    assert!(found >= 0.9, "one in ten lives: {found}");
    source.live = RowSet::new();
    assert_eq!(find(&index, &queries[0], &Filter::All, &source, 10)?, []);
    Ok(())
}

#[test]
fn a_queue_is_tuned_to_a_recall() -> Result<(), IndexError> {
    let mut random = Random(5);
    let source = Memory::new(&clustered(&mut random, 5000, 100), 100);
    let index = build(Metric::Euclidean, &tight(), &source)?;
    let queries = clustered(&mut random, 40, 100);
    let queries = queries.iter().map(|values| Query::new(Metric::Euclidean, values));
    let queries = queries.collect::<Result<Vec<_>, _>>()?;
    let found = index.tune(0.99, 10, &queries, &Filter::All, &source, &Job::default())?;
    assert!(found.recall >= 0.99 && found.ef >= 10, "{found:?}");
    Ok(())
}
