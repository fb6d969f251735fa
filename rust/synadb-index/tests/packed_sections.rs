//! Saving and reading back the packed flat index.

mod common;

use std::sync::Arc;

use common::{Memory, Random};
use synadb_index::{
    Filter, Hit, IndexError, Job, Metric, PackedConfig, PackedFlat, Part, Query, Scratch,
    SharedBytes, TopK,
};
use synadb_types::{RowId, RowSet};

const ROWS: u32 = 5000;
type Saved = Vec<(&'static str, Vec<u8>)>;

fn source() -> Memory {
    Memory::new(&Random(1).vectors(ROWS as usize, 70), 70)
}

fn build(metric: Metric, seed: u64, refine: bool, threads: usize) -> PackedFlat {
    let config = PackedConfig { seed, refine, ..Default::default() };
    let rows: RowSet = (0..ROWS).filter(|row| row % 5 != 1).map(RowId).collect();
    PackedFlat::build(metric, config, &rows, &source(), &Job::with_threads(threads))
        .expect("a level of this machine")
}

fn save(index: &PackedFlat) -> Saved {
    index.export().into_iter().map(|(name, bytes)| (name, bytes.into_owned())).collect()
}

fn load(saved: &Saved, rows_end: u32) -> Result<PackedFlat, IndexError> {
    let sections: Vec<(&str, SharedBytes)> =
        saved.iter().map(|(name, bytes)| (*name, Arc::new(bytes.clone()) as SharedBytes)).collect();
    PackedFlat::import(&sections, rows_end)
}

fn find(index: &PackedFlat, source: &Memory) -> Result<Vec<Hit>, IndexError> {
    let query = Query::new(index.metric(), &Random(9).vector(70))?;
    let (mut scratch, mut top, mut hits) = (Scratch::new(), TopK::new(15), Vec::new());
    index.search(&query, &Filter::All, source, &mut scratch, &mut top)?;
    top.finish(&query, source, &mut hits);
    Ok(hits)
}

#[test]
fn a_saved_index_comes_back_and_grows_on() {
    let source = source();
    for metric in [Metric::Cosine, Metric::Euclidean, Metric::DotProduct] {
        for refine in [true, false] {
            let index = build(metric, 3, refine, 1);
            let saved = save(&index);
            let read = load(&saved, ROWS).unwrap();
            assert_eq!(read.metric(), metric);
            assert_eq!(read.rows(), index.rows());
            assert_eq!(find(&read, &source), find(&index, &source));
            assert_eq!(save(&read), saved);
            let rest = RowSet::range(RowId(0), ROWS);
            let grown = [&read, &index]
                .map(|index| index.extended(&rest, &source, &Job::with_threads(2)).unwrap());
            assert_eq!(save(&grown[0]), save(&grown[1]));
            assert_eq!(grown[0].rows().len(), ROWS as usize);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
    let saved = save(&build(Metric::Cosine, 3, true, 1));
    for threads in [0, 2, 3, 64] {
        assert_eq!(save(&build(Metric::Cosine, 3, true, threads)), saved);
    }
    assert_ne!(save(&build(Metric::Cosine, 4, true, 1)), saved);
}

#[test]
fn a_section_that_is_missing_or_of_another_size_is_named() {
    let saved = save(&build(Metric::Euclidean, 3, true, 1));
    for index in 0..saved.len() {
        let name = saved[index].0;
        let mut damaged = saved.clone();
        damaged.remove(index);
        let problem = "is missing";
        assert_eq!(load(&damaged, ROWS).err(), Some(IndexError::Section { name, problem }));
        let mut damaged = saved.clone();
        damaged[index].1.pop();
        assert!(load(&damaged, ROWS).is_err_and(|error| error.to_string().contains(name)));
        damaged[index].1.extend([0; 9]);
        assert!(load(&damaged, ROWS).is_err());
    }
    let past = IndexError::Section { name: "packed.places", problem: "has a row past the end" };
    assert_eq!(load(&saved, ROWS - 1).err(), Some(past));
}

/// What `import` says of the sections after a change to one of them.
fn refusal(section: usize, change: impl Fn(&mut Vec<u8>)) -> Option<(&'static str, &'static str)> {
    let mut saved = save(&build(Metric::Cosine, 3, true, 1));
    change(&mut saved[section].1);
    match load(&saved, ROWS) {
        Err(IndexError::Section { name, problem }) => {
            assert_eq!(name, saved[section].0);
            Some((name, problem))
        }
        _ => None,
    }
}

#[test]
fn every_lie_of_the_header_is_refused() {
    let word = |at: usize, value: u32| {
        refusal(0, |bytes| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes()))
    };
    let header = |problem| Some(("packed.header", problem));
    assert_eq!(word(0, 1), None);
    for version in [0, 2, u32::MAX] {
        assert_eq!(word(0, version), header("is of another version"));
    }
    assert_eq!(word(4, 3), header("names no metric"));
    assert_eq!(word(8, (1 << 20) + 1), header("has too many dimensions"));
    assert_eq!(word(12, 1), header("has too many dimensions"));
    for epsilon in [f32::NAN, f32::INFINITY, -1.0] {
        assert_eq!(word(32, epsilon.to_bits()), header("has a bound that is no number"));
    }
    assert_eq!(word(36, 2), header("is of another version"));
    assert_eq!(refusal(1, |bytes| bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes())), {
        Some(("packed.anchor", "is not finite"))
    });
}

#[test]
fn places_past_the_end_twice_or_empty_are_refused() {
    let places = |problem| Some(("packed.places", problem));
    let last = (ROWS / 32) as usize * 8;
    // The last block begins at row 4992; its eighth slot is the first row past the end.
    for (at, first, mask) in
        [(last, 4992, 1 << 8), (last, 4992, 1 << 31), (0, 5024, 1), (8, u32::MAX - 31, 1 << 31)]
    {
        let found = refusal(2, |bytes| {
            bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(mask << 32 | u64::from(first)));
        });
        assert_eq!(found, places("has a row past the end"), "{first}");
    }
    let twice = refusal(2, |bytes| bytes.copy_within(..8, 8));
    assert_eq!(twice, places("has a row twice"));
    let unaligned = refusal(2, |bytes| bytes[0] = 1);
    assert_eq!(unaligned, places("has a block without rows or off its place"));
    let empty = refusal(2, |bytes| bytes[4..8].fill(0));
    assert_eq!(empty, places("has a block without rows or off its place"));
}

#[test]
fn flipped_bits_are_refused_or_lead_to_rows_that_are_there() {
    let source = source();
    let saved = save(&build(Metric::Cosine, 3, true, 1));
    let mut random = Random(5);
    let mut refused = 0;
    for index in 0..saved.len() {
        let len = saved[index].1.len();
        let all = if len <= 40 { 8 * len } else { 100 };
        for flip in 0..all {
            let bit = if len <= 40 { flip } else { random.next() as usize % (8 * len) };
            let mut damaged = saved.clone();
            damaged[index].1[bit / 8] ^= 1 << (bit % 8);
            let read = load(&damaged, ROWS);
            match read.and_then(|read| Ok((find(&read, &source)?, read))) {
                Err(IndexError::Section { name, .. }) => {
                    // A lie of the header can make any other section the one that does not fit.
                    assert!(index == 0 || name == saved[index].0, "{name}");
                    refused += 1;
                }
                Err(error) => assert!(matches!(error, IndexError::Dimensions { .. }), "{error}"),
                Ok((found, read)) => {
                    assert!(found.iter().all(|hit| read.rows().contains(hit.row)));
                }
            }
        }
    }
    assert!(refused > 100, "{refused}");
}
