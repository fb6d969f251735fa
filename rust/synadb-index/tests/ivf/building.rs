//! Builds, growth, drift, seeds, cancelling.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};

use synadb_index::Part;

use super::*;

fn owned(index: &IvfIndex) -> Vec<(&'static str, Vec<u8>)> {
    index.export().into_iter().map(|(name, bytes)| (name, bytes.into_owned())).collect()
}

#[test]
fn recall_holds_when_the_data_drift() -> Result<(), IndexError> {
    // The sample knows the first groups only; later rows lie elsewhere.
    let mut vectors = clustered(11, 1500, 32, 15);
    let sample: Vec<RowId> = (0..1500).map(RowId).collect();
    let far = clustered(12, 4500, 32, 45);
    vectors.extend(far.iter().map(|vector| vector.iter().map(|value| value + 3.0).collect()));
    let queries = clustered(12, 4530, 32, 45).split_off(4500);
    let queries: Vec<Vec<f32>> =
        queries.iter().map(|query| query.iter().map(|value| value + 3.0).collect()).collect();
    let source = Memory::new(&vectors, 32);
    for codes in CODES {
        let first = RowSet::range(RowId(0), 1500);
        let (from, job) = ((sample.as_slice(), &source as &dyn VectorSource), Job::default());
        let config = config(codes, 48);
        let metric = Metric::Euclidean;
        let mut index = IvfIndex::build_from_sample(metric, &config, from, &first, &source, &job)?;
        for end in [2500, 4000, 6000] {
            index = index.extend(&RowSet::range(RowId(0), end), &source, &job)?;
        }
        let how = IvfSearch { nprobe: 12, candidates: 100, ..IvfSearch::default() };
        let found = recall(&index, how, &queries, &vectors, &Filter::All, &source)?;
        assert!(found >= 0.9, "{codes:?} {found}");
        let largest = (0..index.cells()).filter_map(|cell| index.cell_len(cell)).max();
        let mean = 2 * 6000 / index.cells();
        assert!(largest.is_some_and(|largest| largest <= 6 * mean), "{largest:?} {mean}");
        // The first rows die: their cells go.
        let cells = index.cells();
        let index = index.extend(&RowSet::range(RowId(1500), 4500), &source, &job)?;
        assert!(index.cells() < cells, "{} {cells}", index.cells());
        assert_eq!(index.rows().len(), 4500);
        let filter = Filter::Rows(RowSet::range(RowId(1500), 4500));
        let found = recall(&index, how, &queries, &vectors, &filter, &source)?;
        assert!(found >= 0.9, "{codes:?} {found}");
    }
    Ok(())
}

#[test]
fn the_same_seed_gives_the_same_bytes() -> Result<(), IndexError> {
    let vectors = clustered(15, 2000, 20, 30);
    let source = Memory::new(&vectors, 20);
    let all = RowSet::range(RowId(0), 2000);
    for codes in CODES {
        let config = IvfConfig { seed: 4, ..config(codes, 50) };
        let export = |config: &IvfConfig, threads| {
            let job = Job::with_threads(threads);
            let index = IvfIndex::build(Metric::Cosine, config, &all, &source, &job)?;
            Ok::<_, IndexError>(owned(&index))
        };
        let alone = export(&config, 1)?;
        assert_eq!(alone, export(&config, 1)?);
        assert_eq!(alone, export(&config, 3)?);
        assert_ne!(alone, export(&IvfConfig { seed: 5, ..config.clone() }, 1)?);
    }
    Ok(())
}

#[test]
fn a_cancelled_build_says_so_and_progress_only_rises() -> Result<(), IndexError> {
    let vectors = clustered(19, 1000, 10, 10);
    let source = Memory::new(&vectors, 10);
    let all = RowSet::range(RowId(0), 1000);
    let told = RefCell::new(Vec::new());
    let tell = |share| told.borrow_mut().push(share);
    let config = IvfConfig::default();
    let job = Job { progress: Some(&tell), ..Job::default() };
    let index = IvfIndex::build(Metric::Cosine, &config, &all, &source, &job)?;
    assert!(told.borrow().is_sorted());
    assert_eq!(told.borrow().last(), Some(&1.0));
    let cancel = AtomicBool::new(true);
    let job = Job { cancel: Some(&cancel), ..Job::with_threads(2) };
    let build = IvfIndex::build(Metric::Cosine, &config, &all, &source, &job);
    assert_eq!(build.err(), Some(IndexError::Cancelled));
    assert_eq!(index.extend(&all, &source, &job).err(), Some(IndexError::Cancelled));
    Ok(())
}

#[test]
fn a_build_stops_wherever_it_is_told_to() -> Result<(), IndexError> {
    let vectors = clustered(41, 3000, 16, 10);
    let source = Memory::new(&vectors, 16);
    let all = RowSet::range(RowId(0), 3000);
    for threads in [1, 2] {
        let mut stopped = 0;
        for share in [0.1, 0.3, 0.5, 0.89] {
            let (cancel, told) = (AtomicBool::new(false), Cell::new(0.0));
            let tell = |now| {
                told.set(now);
                cancel.store(now >= share, Ordering::Relaxed);
            };
            let watched =
                Job { cancel: Some(&cancel), progress: Some(&tell), threads, ..Job::default() };
            let built =
                IvfIndex::build(Metric::Euclidean, &IvfConfig::default(), &all, &source, &watched);
            assert_eq!(built.err(), Some(IndexError::Cancelled), "{share}");
            assert!(told.get() < 1.0);
            stopped += 1;
        }
        assert_eq!(stopped, 4);
    }
    Ok(())
}

#[test]
fn parts_merge_into_one() -> Result<(), IndexError> {
    let vectors = clustered(43, 4000, 24, 30);
    let queries = clustered(43, 4030, 24, 30).split_off(4000);
    let source = Memory::new(&vectors, 24);
    let job = Job::default();
    for codes in CODES {
        let config = config(codes, 40);
        let part = |first: u32, count: u32| {
            let rows = RowSet::range(RowId(first), count);
            IvfIndex::build(Metric::Cosine, &config, &rows, &source, &job)
        };
        let parts = [part(0, 900)?, part(900, 2100)?, part(3000, 700)?];
        let wanted: RowSet = (0..4000).filter(|row| row % 7 != 0).map(RowId).collect();
        let merged = parts[0].merge(&[&parts[1], &parts[2]], &wanted, &source, &job)?;
        assert_eq!(*merged.rows(), wanted);
        let alone = parts[1].extend(&wanted, &source, &job)?;
        assert_eq!(owned(&merged), owned(&alone), "the largest lends its cells");
        let how = IvfSearch { nprobe: 10, candidates: 100, ..IvfSearch::default() };
        let filter = Filter::Rows(wanted);
        let found = recall(&merged, how, &queries, &vectors, &filter, &source)?;
        assert!(found >= 0.9, "{codes:?} {found}");
    }
    Ok(())
}

#[test]
fn an_index_that_grows_sixteenfold_is_built_anew() -> Result<(), IndexError> {
    let vectors = clustered(45, 1600, 10, 12);
    let source = Memory::new(&vectors, 10);
    let job = Job::default();
    let (few, all) = (RowSet::range(RowId(0), 100), RowSet::range(RowId(0), 1600));
    let config = IvfConfig::default();
    let index = IvfIndex::build(Metric::Euclidean, &config, &few, &source, &job)?;
    let grown = index.extend(&all, &source, &job)?;
    let anew = IvfIndex::build(Metric::Euclidean, &config, &all, &source, &job)?;
    assert_eq!(owned(&grown), owned(&anew));
    let other = RowSet::range(RowId(0), 1599);
    let kept = index.extend(&other, &source, &job)?;
    let anew = IvfIndex::build(Metric::Euclidean, &config, &other, &source, &job)?;
    assert_ne!(owned(&kept), owned(&anew), "one row less keeps its cells");
    Ok(())
}
