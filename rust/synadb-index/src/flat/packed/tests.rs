//! What only the inside shows: the same bytes from every level.

use super::*;
use crate::quantize::CodeKernels;
use crate::{Block, Query, SimdLevel};
use synadb_types::RowId;

/// Rows side by side with norms that no kernel has computed.
struct Rows {
    dimensions: usize,
    data: Vec<f32>,
    inverse_norms: Vec<f32>,
}

impl Rows {
    fn new(count: usize, dimensions: usize) -> Self {
        let mut state = 1_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 0.7
        };
        let data: Vec<f32> = (0..count * dimensions).map(|_| next()).collect();
        let inverse = |row: &[f32]| {
            let squared: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            (1.0 / squared.sqrt()) as f32
        };
        let inverse_norms = data.chunks(dimensions).map(inverse).collect();
        Self { dimensions, data, inverse_norms }
    }
}

impl VectorSource for Rows {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn rows_end(&self) -> u32 {
        self.inverse_norms.len() as u32
    }

    fn block(&self, row: RowId) -> Option<Block<'_>> {
        let (index, stride) = (row.0 as usize, self.dimensions);
        let count = self.inverse_norms.len().checked_sub(index).filter(|&count| count > 0)?;
        Some(Block { first: row, count, stride, data: &self.data[index * stride..] })
    }

    fn inverse_norms(&self, first: RowId, out: &mut [f32]) {
        out.copy_from_slice(&self.inverse_norms[first.0 as usize..][..out.len()]);
    }

    fn is_live(&self, _row: RowId) -> bool {
        true
    }
}

fn saved(
    metric: Metric,
    source: &Rows,
    kernels: &CodeKernels,
) -> Result<Vec<(&'static str, Vec<u8>)>, IndexError> {
    let rows = RowSet::range(RowId(0), source.rows_end());
    let config = PackedConfig::default();
    let index =
        PackedFlat::build_with(metric, config, &rows, source, &Job::with_threads(2), kernels)?;
    Ok(index.export().into_iter().map(|(name, bytes)| (name, bytes.into_owned())).collect())
}

#[test]
fn every_level_codes_the_same_bytes() -> Result<(), IndexError> {
    let scalar = CodeKernels::for_level(SimdLevel::Scalar)?;
    for dimensions in [1, 63, 64, 200, 384, 784] {
        let source = Rows::new(4200, dimensions);
        for metric in [Metric::Cosine, Metric::Euclidean, Metric::DotProduct] {
            let expected = saved(metric, &source, scalar)?;
            for level in SimdLevel::ALL {
                if let Ok(kernels) = CodeKernels::for_level(level) {
                    let found = saved(metric, &source, kernels)?;
                    assert!(found == expected, "{level:?} {metric:?} {dimensions}");
                }
            }
        }
    }
    Ok(())
}

/// FNV-1a (Fowler, Noll and Vo): enough to notice a change of layout, rotation or coding.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[test]
fn the_layout_of_version_one_stays() -> Result<(), IndexError> {
    let source = Rows::new(70, 100);
    let kernels = CodeKernels::for_level(SimdLevel::Scalar)?;
    let sections = saved(Metric::Cosine, &source, kernels)?;
    let found: Vec<_> =
        sections.iter().map(|(name, bytes)| (*name, bytes.len(), digest(bytes))).collect();
    // Another digest needs another version and an end to the old one, or a way to read it.
    let expected = [
        ("packed.header", 40, 18_440_610_570_034_434_907),
        ("packed.anchor", 512, 17_312_880_198_214_173_132),
        ("packed.places", 24, 358_618_872_366_833_874),
        ("packed.codes", 2688, 7_119_477_426_839_756_970),
        ("packed.fine", 7296, 9_518_270_835_311_311_497),
    ];
    assert_eq!(found, expected);
    Ok(())
}

#[test]
fn a_restricted_index_has_the_rows_that_are_kept_and_grows() -> Result<(), IndexError> {
    let (source, kernels) = (Rows::new(9000, 40), code_kernels()?);
    let config = PackedConfig { seed: 7, ..PackedConfig::default() };
    let (metric, rows) = (Metric::Euclidean, RowSet::range(RowId(0), 8500));
    let index = PackedFlat::build_with(metric, config, &rows, &source, &Job::default(), kernels)?;
    // One row of the first chunk, and from the middle of a block of the second one on.
    let mut keep = RowSet::range(RowId(5003), 4000);
    keep.insert(RowId(17));
    let kept = index.restricted_to(&keep);
    let mut wanted = RowSet::range(RowId(5003), 3497);
    wanted.insert(RowId(17));
    assert_eq!(kept.flat.rows, wanted);
    assert!(Arc::ptr_eq(&kept.chunks[2], &index.chunks[2]), "one that keeps all is shared");
    assert!(index.restricted_to(&RowSet::range(RowId(5003), 100)).chunks.len() == 1);
    let grown = kept.extended(&RowSet::range(RowId(8490), 510), &source, &Job::default())?;
    wanted.union_with(&RowSet::range(RowId(8490), 510));
    assert_eq!(grown.flat.rows, wanted);
    for row in [17, 18, 5002, 5003, 8499, 8999] {
        let query = Query::new(metric, &source.data[40 * row..40 * (row + 1)])?;
        let (mut top, mut hits) = (crate::TopK::new(1), Vec::new());
        let scratch = &mut crate::Scratch::new();
        crate::Part::search(&grown, &query, &Filter::All, &source, scratch, &mut top)?;
        top.finish(&query, &source, &mut hits);
        let is_found = hits[0].row == RowId(row as u32);
        assert_eq!(is_found, wanted.contains(RowId(row as u32)), "{row}");
    }
    Ok(())
}

fn found(
    index: &PackedFlat,
    query: &Query,
    filter: &Filter,
    source: &Rows,
) -> Result<Vec<u32>, IndexError> {
    let (mut top, mut hits) = (crate::TopK::new(10), Vec::new());
    crate::Part::search(index, query, filter, source, &mut crate::Scratch::new(), &mut top)?;
    top.finish(query, source, &mut hits);
    Ok(hits.iter().map(|hit| hit.row.0).collect())
}

#[test]
fn codes_of_a_filter_are_copied_once_it_is_used_often_and_serve_their_index_alone()
-> Result<(), IndexError> {
    let source = Rows::new(20_000, 64);
    let (metric, job) = (Metric::Euclidean, Job::default());
    let config = PackedConfig { epsilon: 40.0, candidates: usize::MAX, ..PackedConfig::default() };
    let rows = RowSet::range(RowId(0), 15_000);
    for refine in [true, false] {
        let config = PackedConfig { refine, ..config };
        let index = PackedFlat::build(metric, config, &rows, &source, &job)?;
        let allowed: RowSet = (0..20_000).filter(|row| row % 10 == 3).map(RowId).collect();
        let filter = crate::Part::prepare(&index, &allowed);
        let shared = filter.clone();
        let Filter::Gathered(gathered) = &shared else { panic!("{filter:?}") };
        let query = Query::new(metric, &source.data[64 * 77..64 * 78])?;
        let expected = found(&index, &query, &Filter::Rows(allowed.clone()), &source)?;
        assert_eq!(found(&index, &query, &filter, &source)?, expected);
        assert!(gathered.made().is_none(), "one search alone does not pay for it");
        for _ in 0..10 {
            assert_eq!(found(&index, &query, &filter, &source)?, expected);
        }
        let copies = gathered.made().expect("copied");
        assert_eq!(copies.as_codes().expect("codes").positions.len(), 1500);
        // One that has a part of the rows, at other positions, and one that has more.
        let parts = [
            index.restricted_to(&RowSet::range(RowId(4500), 9000)),
            index.extended(&RowSet::range(RowId(15_000), 5000), &source, &job)?,
        ];
        for part in parts {
            for filter in [&filter, &crate::Part::prepare(&part, &allowed)] {
                let expected = found(
                    &part,
                    &query,
                    &Filter::Rows(filter.rows().cloned().unwrap_or_default()),
                    &source,
                )?;
                for _ in 0..10 {
                    assert_eq!(found(&part, &query, filter, &source)?, expected);
                }
            }
        }
    }
    // Of so few rows each vector is compared, and of more than half the copy would save too little.
    let index = PackedFlat::build(metric, config, &rows, &source, &job)?;
    for many in [200, 7600] {
        let filter = crate::Part::prepare(&index, &RowSet::range(RowId(0), many));
        assert!(matches!(filter, Filter::Rows(_)), "{many}");
    }
    Ok(())
}

#[test]
fn an_index_holds_copies_of_as_many_codes_as_it_has() -> Result<(), IndexError> {
    let (source, job) = (Rows::new(8000, 64), Job::default());
    let (metric, rows) = (Metric::Cosine, RowSet::range(RowId(0), 8000));
    let index = PackedFlat::build(metric, PackedConfig::default(), &rows, &source, &job)?;
    let query = Query::new(metric, &source.data[..64])?;
    let filter = |at: u32| {
        let allowed: RowSet = (0..8000).filter(|row| row % 5 == at).map(RowId).collect();
        crate::Part::prepare(&index, &allowed)
    };
    let mut filters: Vec<Filter> = (0..5).chain([0]).map(filter).collect();
    let made =
        |filter: &Filter| matches!(filter, Filter::Gathered(gathered) if gathered.made().is_some());
    let search = |filter: &Filter, times: usize| -> Result<(), IndexError> {
        let plain = Filter::Rows(filter.rows().cloned().unwrap_or_default());
        let expected = found(&index, &query, &plain, &source)?;
        for _ in 0..times {
            assert_eq!(found(&index, &query, filter, &source)?, expected);
        }
        Ok(())
    };
    let sixth = &filters[5];
    filters[..5].iter().try_for_each(|filter| search(filter, 20))?;
    let bytes = 8000 * (bit_block_bytes(64) / BLOCK_ROWS + size_of::<u32>());
    assert_eq!(crate::Part::copied_bytes(&index), bytes);
    // Five have room. A sixth is refused for as long as they are used in turn with it.
    for _ in 0..20 {
        filters[..5].iter().try_for_each(|filter| search(filter, 1))?;
        search(sixth, 10)?;
        assert!(filters[..5].iter().all(made) && !made(sixth));
    }
    // No longer: it has one of them dropped, whose own searches have it copied again later.
    search(sixth, 100)?;
    let dropped: Vec<&Filter> = filters.iter().filter(|filter| !made(filter)).collect();
    assert!(made(sixth) && dropped.len() == 1);
    assert_eq!(crate::Part::copied_bytes(&index), bytes);
    search(dropped[0], 100)?;
    assert!(made(dropped[0]));
    // Copies go with their filter.
    filters.truncate(3);
    let held = filters.iter().filter(|filter| made(filter)).count();
    assert_eq!(crate::Part::copied_bytes(&index), held * bytes / 5);
    drop(index);
    assert!(!filters.iter().any(made), "they go with the index");
    Ok(())
}

#[test]
fn of_few_rows_as_many_are_found_once_their_codes_are_copied() -> Result<(), IndexError> {
    let (source, job) = (Rows::new(20_000, 64), Job::default());
    let (metric, rows) = (Metric::Euclidean, RowSet::range(RowId(0), 20_000));
    for step in [20, 60] {
        let config = PackedConfig { candidates: 1, ..PackedConfig::default() };
        let index = PackedFlat::build(metric, config, &rows, &source, &job)?;
        let allowed: RowSet = (0..20_000).step_by(step).map(RowId).collect();
        let filter = crate::Part::prepare(&index, &allowed);
        let (mut same, mut all) = (0, 0);
        for at in 0..200 {
            let query = Query::new(metric, &source.data[64 * at..64 * (at + 1)])?;
            let mut exact = crate::TopK::new(10);
            let (plain, scratch) = (Filter::Rows(allowed.clone()), &mut crate::Scratch::new());
            crate::Part::search(&index.flat, &query, &plain, &source, scratch, &mut exact)?;
            let mut hits = Vec::new();
            exact.finish(&query, &source, &mut hits);
            let found = found(&index, &query, &filter, &source)?;
            same += hits.iter().filter(|hit| found.contains(&hit.row.0)).count();
            all += hits.len();
        }
        assert!(matches!(&filter, Filter::Gathered(gathered) if gathered.made().is_some()));
        // Whatever the number of candidates is: all of them are looked at.
        assert!(same * 1000 >= all * 998, "{same} of {all}");
    }
    Ok(())
}
