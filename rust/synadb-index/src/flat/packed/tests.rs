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
