//! What a search finds, with filters, dead rows, in batches, tuned.

use std::sync::atomic::AtomicBool;

use synadb_index::Part;

use super::*;

#[test]
fn all_cells_at_full_precision_are_exact() -> Result<(), IndexError> {
    for (dimensions, second) in [(1, false), (7, true), (33, false), (96, true)] {
        let vectors = clustered(1, 1500, dimensions, 20);
        let source = Memory::new(&vectors, dimensions);
        let queries = clustered(2, 20, dimensions, 20);
        for metric in METRICS {
            let config = IvfConfig { second, ..config(IvfCodes::Full, 30) };
            let index = build(metric, &config, &source)?;
            for query in &queries {
                let expected = scan(metric, query, &Filter::All, &source, 10)?;
                let hits = search(&index, all_of(&index), query, &Filter::All, &source, 10)?;
                assert_eq!(hits, expected, "{metric:?} {dimensions}");
            }
        }
    }
    Ok(())
}

#[test]
fn few_cells_and_codes_keep_the_recall() -> Result<(), IndexError> {
    let vectors = clustered(3, 6000, 64, 60);
    let queries = clustered(3, 6040, 64, 60).split_off(6000);
    let source = Memory::new(&vectors, 64);
    for metric in METRICS {
        for codes in CODES {
            let index = build(metric, &config(codes, 64), &source)?;
            let few = IvfSearch { nprobe: 16, candidates: 100, ..IvfSearch::default() };
            let found = recall(&index, few, &queries, &vectors, &Filter::All, &source)?;
            assert!(found >= 0.9, "{metric:?} {codes:?} {found}");
            let all = recall(&index, all_of(&index), &queries, &vectors, &Filter::All, &source)?;
            assert!(all >= 0.99, "{metric:?} {codes:?} {all}");
        }
    }
    Ok(())
}

#[test]
fn a_second_cell_raises_the_recall() -> Result<(), IndexError> {
    let mut random = Random(5);
    let vectors = random.vectors(4000, 24);
    let (queries, source) = (random.vectors(60, 24), Memory::new(&vectors, 24));
    let search = IvfSearch { nprobe: 6, candidates: 100, ..IvfSearch::default() };
    let mut found = Vec::new();
    for second in [false, true] {
        let config = IvfConfig { second, ..config(IvfCodes::Full, 64) };
        let index = build(Metric::Euclidean, &config, &source)?;
        found.push(recall(&index, search, &queries, &vectors, &Filter::All, &source)?);
    }
    assert!(found[1] > found[0] + 0.03, "{found:?}");
    Ok(())
}

#[test]
fn dead_rows_and_filters_are_kept_out() -> Result<(), IndexError> {
    let vectors = clustered(7, 3000, 40, 25);
    let queries = clustered(7, 3020, 40, 25).split_off(3000);
    for codes in CODES {
        let mut source = Memory::new(&vectors, 40);
        let index = build(Metric::Cosine, &config(codes, 40), &source)?;
        for row in (0..3000).filter(|row| row % 10 != 3) {
            source.live.remove(RowId(row));
        }
        let all = all_of(&index);
        let found = recall(&index, all, &queries, &vectors, &Filter::All, &source)?;
        assert!(found >= 0.99, "90 % dead: {found}");
        for step in [1, 2, 20, 400] {
            let allowed: RowSet = (0..3000).step_by(step).map(|row| RowId(row + 3)).collect();
            let filter = index.prepare(&allowed);
            for nprobe in [4, index.cells()] {
                let how = IvfSearch { nprobe, candidates: 100, ..IvfSearch::default() };
                let found = recall(&index, how, &queries, &vectors, &filter, &source)?;
                // Few allowed rows are all looked at, however few cells are wanted.
                let least = if nprobe == 4 && step < 400 { 0.7 } else { 0.99 };
                assert!(found >= least, "{codes:?} one in {step}: {found}");
            }
        }
        let nothing = Filter::Rows(RowSet::new());
        assert!(search(&index, all, &queries[0], &nothing, &source, 10)?.is_empty());
    }
    Ok(())
}

#[test]
fn one_cell_probed_still_gives_k_rows() -> Result<(), IndexError> {
    let vectors = clustered(9, 900, 16, 90);
    let source = Memory::new(&vectors, 16);
    for codes in CODES {
        let index = build(Metric::Euclidean, &config(codes, 60), &source)?;
        let one = IvfSearch { nprobe: 0, candidates: 0, ..IvfSearch::default() };
        for k in [1, 50, 900, 2000] {
            let hits = search(&index, one, &vectors[5], &Filter::All, &source, k)?;
            assert_eq!(hits.len(), k.min(900));
            assert_eq!(hits[0].row, RowId(5));
        }
        assert!(search(&index, one, &vectors[5], &Filter::All, &source, 0)?.is_empty());
    }
    Ok(())
}

#[test]
fn a_batch_gives_what_single_searches_give() -> Result<(), IndexError> {
    let vectors = clustered(20, 2000, 24, 30);
    let source = Memory::new(&vectors, 24);
    let index = build(Metric::Cosine, &config(IvfCodes::Bits, 40), &source)?;
    let how = IvfSearch { nprobe: 6, candidates: 40, ..IvfSearch::default() };
    let queries: Result<Vec<Query>, IndexError> =
        vectors[..200].iter().map(|vector| Query::new(Metric::Cosine, vector)).collect();
    let queries = queries?;
    let mut tops: Vec<TopK> = queries.iter().map(|_| TopK::new(7)).collect();
    let job = Job::with_threads(2);
    index.search_batch(how, &queries, &Filter::All, &source, &job, &mut tops)?;
    for ((query, top), vector) in queries.iter().zip(&mut tops).zip(&vectors) {
        let mut hits = Vec::new();
        top.finish(query, &source, &mut hits);
        assert_eq!(hits, search(&index, how, vector, &Filter::All, &source, 7)?);
    }
    Ok(())
}

#[test]
fn tuning_reaches_the_recall_with_the_fewest_cells() -> Result<(), IndexError> {
    let mut random = Random(21);
    let vectors = random.vectors(3000, 16);
    let source = Memory::new(&vectors, 16);
    let index = build(Metric::Euclidean, &config(IvfCodes::Bits, 50), &source)?;
    let samples = random.vectors(60, 16);
    let queries: Result<Vec<Query>, IndexError> =
        samples.iter().map(|vector| Query::new(Metric::Euclidean, vector)).collect();
    let queries = queries?;
    let job = Job::with_threads(2);
    for target in [0.5, 0.9, 0.97] {
        let tuned = index.tune(target, 10, &queries, &Filter::All, &source, &job)?;
        assert!(tuned.recall >= target, "{tuned:?}");
        let alone = Job::default();
        let again = index.tune(target, 10, &queries, &Filter::All, &source, &alone)?;
        assert_eq!(again, tuned, "threads change nothing");
        let found = recall(&index, tuned.search, &samples, &vectors, &Filter::All, &source)?;
        assert!((found - tuned.recall).abs() < 1e-9, "{found} {tuned:?}");
        // But for one part in sixteen, and one.
        let nprobe = tuned.search.nprobe - tuned.search.nprobe / 16 - 1;
        if nprobe > 0 {
            let fewer = IvfSearch { nprobe, ..tuned.search };
            let found = recall(&index, fewer, &samples, &vectors, &Filter::All, &source)?;
            assert!(found < target, "{found} {tuned:?}");
        }
    }
    Ok(())
}

#[test]
fn what_was_tuned_for_many_rows_finds_few_of_them() -> Result<(), IndexError> {
    // A sample that wants nearly all rows would be searched through all cells, however few are
    // probed, and who wants ten not.
    let mut random = Random(23);
    let (vectors, samples) = (random.vectors(2000, 16), random.vectors(30, 16));
    let source = Memory::new(&vectors, 16);
    let queries: Result<Vec<Query>, IndexError> =
        samples.iter().map(|vector| Query::new(Metric::Euclidean, vector)).collect();
    let queries = queries?;
    for codes in CODES {
        let index = build(Metric::Euclidean, &config(codes, 40), &source)?;
        let job = Job::default();
        let tuned = index.tune(0.9, 1900, &queries, &Filter::All, &source, &job)?;
        assert_eq!(tuned.search.beyond, index.default_search().beyond);
        let found = recall(&index, tuned.search, &samples, &vectors, &Filter::All, &source)?;
        assert!(found >= 0.9, "{codes:?} {found} {tuned:?}");
    }
    Ok(())
}

#[test]
fn tuning_takes_more_candidates_where_more_cells_are_not_enough() -> Result<(), IndexError> {
    // The codes tell little apart: all cells and the fewest candidates do not reach the recall.
    let mut random = Random(22);
    let vectors = random.vectors(4000, 8);
    let source = Memory::new(&vectors, 8);
    let index = build(Metric::Euclidean, &config(IvfCodes::Bits, 16), &source)?;
    let samples = random.vectors(50, 8);
    let fewest = IvfSearch { nprobe: index.cells(), candidates: 0, ..IvfSearch::default() };
    let found = recall(&index, fewest, &samples, &vectors, &Filter::All, &source)?;
    let target = (found + 3.0) / 4.0;
    assert!(target < 0.999, "{found}");
    let queries: Result<Vec<Query>, IndexError> =
        samples.iter().map(|vector| Query::new(Metric::Euclidean, vector)).collect();
    let queries = queries?;
    let job = Job::default();
    let tuned = index.tune(target, 10, &queries, &Filter::All, &source, &job)?;
    assert!(tuned.recall >= target && tuned.search.candidates > 30, "{tuned:?}");
    let beyond = index.tune(1.5, 10, &queries, &Filter::All, &source, &job)?;
    assert_eq!(beyond.search.nprobe, index.cells());
    assert!(beyond.recall >= tuned.recall, "{beyond:?}");
    let cancel = AtomicBool::new(true);
    let job = Job { cancel: Some(&cancel), ..Job::default() };
    let stopped = index.tune(target, 10, &queries, &Filter::All, &source, &job);
    assert_eq!(stopped.err(), Some(IndexError::Cancelled));
    let nothing = index.tune(0.9, 10, &[], &Filter::All, &source, &Job::default())?;
    assert_eq!(nothing.recall, 1.0);
    Ok(())
}

#[test]
fn every_number_of_dimensions_is_searched() -> Result<(), IndexError> {
    for dimensions in [1, 2, 3, 5, 31, 63, 64, 65, 127, 384, 785, 1536, 4096] {
        let count = if dimensions > 1000 { 250 } else { 500 };
        let vectors = clustered(31, count, dimensions, 9);
        let queries = clustered(31, count + 10, dimensions, 9).split_off(count);
        let source = Memory::new(&vectors, dimensions);
        for metric in METRICS {
            for codes in CODES {
                let index = build(metric, &config(codes, 12), &source)?;
                let how = all_of(&index);
                let mut found = 0;
                for query in &queries {
                    let hits = search(&index, how, query, &Filter::All, &source, 10)?;
                    let truth = scan(metric, query, &Filter::All, &source, 10)?;
                    // Scores, since under the cosine most rows of one dimension tie.
                    found += hits.iter().filter(|hit| hit.score <= truth[9].score).count();
                }
                let floor = if codes == IvfCodes::Full { 100 } else { 98 };
                assert!(found >= floor, "{dimensions} {metric:?} {codes:?} {found}");
            }
        }
    }
    Ok(())
}

#[test]
fn one_row_or_none_is_found_when_the_others_are_dead_or_not_allowed() -> Result<(), IndexError> {
    let vectors = clustered(33, 1500, 48, 12);
    for codes in CODES {
        let mut source = Memory::new(&vectors, 48);
        let index = build(Metric::DotProduct, &config(codes, 30), &source)?;
        let few = IvfSearch { nprobe: 1, candidates: 1, ..IvfSearch::default() };
        for row in [0, 777, 1499] {
            let one: RowSet = [RowId(row), RowId(5000)].into_iter().collect();
            for filter in [Filter::Rows(one.clone()), index.prepare(&one)] {
                let hits = search(&index, few, &vectors[3], &filter, &source, 10)?;
                assert_eq!(rows(&hits), [row]);
            }
        }
        source.live.clear();
        assert!(search(&index, few, &vectors[3], &Filter::All, &source, 10)?.is_empty());
        let half = Filter::Rows(RowSet::range(RowId(0), 750));
        assert!(search(&index, few, &vectors[3], &half, &source, 10)?.is_empty());
        source.live.insert(RowId(640));
        let hits = search(&index, few, &vectors[3], &Filter::All, &source, 10)?;
        assert_eq!(rows(&hits), [640]);
    }
    Ok(())
}

#[test]
fn the_default_is_raised_where_rows_have_no_structure() -> Result<(), IndexError> {
    let mut random = Random(71);
    let vectors = random.vectors(5000, 48);
    let (source, all) = (Memory::new(&vectors, 48), Filter::All);
    let samples = random.vectors(40, 48);
    let queries: Result<Vec<Query>, IndexError> =
        samples.iter().map(|vector| Query::new(Metric::Cosine, vector)).collect();
    let (queries, job) = (queries?, Job::with_threads(2));
    let index = build(Metric::Cosine, &config(IvfCodes::Refined, 80), &source)?;
    let standard = index.default_search();
    let first = recall(&index, standard, &samples, &vectors, &all, &source)?;
    assert!(first < 0.85, "{first}");
    let kept = index.raise(0.95, 10, true, &queries, &all, &source, &job)?;
    assert!(kept.search.nprobe == standard.nprobe && kept.recall > first + 0.05, "{kept:?}");
    let raised = index.raise(0.95, 10, false, &queries, &all, &source, &job)?;
    assert!(raised.recall >= 0.95, "{raised:?}");
    let enough = index.raise(first, 10, false, &queries, &all, &source, &job)?;
    assert_eq!(enough.search, standard, "what is enough is not raised");
    // The default goes with the index and its successors; what was asked for stays.
    let index = index.with_search(raised.search);
    let grown = index.extend(&RowSet::range(RowId(0), 4990), &source, &job)?;
    let opened = IvfIndex::import(
        &super::sections::shared(&grown.export()),
        source.rows_end(),
        &source,
        &job,
    )?;
    assert_eq!((opened.default_search(), opened.config().search), (raised.search, standard));
    let cancel = AtomicBool::new(true);
    let job = Job { cancel: Some(&cancel), ..Job::default() };
    let stopped = index.raise(0.95, 10, true, &queries, &all, &source, &job);
    assert_eq!(stopped.err(), Some(IndexError::Cancelled));
    Ok(())
}
