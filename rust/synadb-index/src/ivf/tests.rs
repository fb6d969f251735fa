use synadb_types::{RowId, RowSet};

use super::bits::rotate_all;
use super::*;
use crate::quantize::bit_block_bytes;
use crate::random::Random;
use crate::{
    Block, Filter, IndexError, Job, Part, Query, Scratch, TopK, VectorSource, inverse_norm, kernels,
};

struct Rows {
    dimensions: usize,
    data: Vec<f32>,
}

impl VectorSource for Rows {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn rows_end(&self) -> u32 {
        (self.data.len() / self.dimensions) as u32
    }

    fn block(&self, row: RowId) -> Option<Block<'_>> {
        let (first, stride) = (row.0 as usize, self.dimensions);
        let count = (self.rows_end() as usize).checked_sub(first).filter(|&count| count > 0)?;
        Some(Block { first: row, count, stride, data: &self.data[first * stride..] })
    }

    fn inverse_norms(&self, first: RowId, out: &mut [f32]) {
        let vectors = self.data.chunks(self.dimensions).skip(first.0 as usize);
        for (out, vector) in out.iter_mut().zip(vectors) {
            *out = inverse_norm(vector);
        }
    }

    fn is_live(&self, _row: RowId) -> bool {
        true
    }
}

fn rows(count: usize, dimensions: usize) -> Rows {
    let mut random = Random::new(3);
    let value = |_| random.below(2001) as f32 / 1000.0 - 1.0;
    Rows { dimensions, data: (0..count * dimensions).map(value).collect() }
}

/// What the index holds is what it would hold without the one that it extends.
fn check(index: &IvfIndex, source: &Rows, radii_grew: bool) -> Result<(), IndexError> {
    let (job, origin) = (Job::default(), &index.origin);
    let points = origin.points(&index.centroids);
    let marks = Marks::new(points.clone(), source.dimensions, kernels()?);
    let plain = Directory::new(marks, Vec::new());
    let radii = plain.measure(origin, &index.lists, None, source, kernels()?, &job.crew())?;
    if radii_grew {
        assert!(index.directory.radii.iter().zip(&radii).all(|(known, needed)| known >= needed));
    } else {
        assert_eq!(index.directory.radii, radii);
    }
    let Store::Bits(cells, fine) = &index.store else { panic!("the cells hold codes") };
    let points = rotate_all(&cells.rotation, &points)?;
    let rotation = cells.rotation.clone();
    let (lists, crew) = (&index.lists, job.crew());
    let fresh = BitCells::new(origin, rotation, &points, lists, None, source, &crew)?;
    assert!(*cells == fresh, "the codes are those of the rows");
    let anchor = origin.anchor(&index.centroids, &fresh.rotation)?;
    let rows = index.row_set();
    let fresh = FineRows::new(origin, &fresh.rotation, anchor, rows, None, source, &crew)?;
    assert!(*fine == fresh && fresh.is_some(), "so are the finer ones");
    Ok(())
}

#[test]
fn what_is_taken_over_is_what_would_be_computed() -> Result<(), IndexError> {
    let source = rows(3000, 20);
    let job = Job::default();
    for metric in [Metric::Cosine, Metric::Euclidean, Metric::DotProduct] {
        let config = IvfConfig { cells: Some(12), ..IvfConfig::default() };
        let first = RowSet::range(RowId(0), 1500);
        let index = IvfIndex::build(metric, &config, &first, &source, &job)?;
        check(&index, &source, false)?;
        let grown = index.extend(&RowSet::range(RowId(0), 2800), &source, &job)?;
        check(&grown, &source, false)?;
        let fewer: RowSet = (0..3000).filter(|row| row % 700 != 9).map(RowId).collect();
        check(&grown.extend(&fewer, &source, &job)?, &source, true)?;
    }
    Ok(())
}

#[test]
fn blocks_are_taken_over_where_cells_only_grew() -> Result<(), IndexError> {
    let source = rows(3000, 20);
    let (config, job) = (IvfConfig { cells: Some(6), ..IvfConfig::default() }, Job::default());
    let first = RowSet::range(RowId(0), 2500);
    let index = IvfIndex::build(Metric::Euclidean, &config, &first, &source, &job)?;
    let grown = index.extend(&RowSet::range(RowId(0), 3000), &source, &job)?;
    assert_eq!(grown.cells(), index.cells());
    let origins: Vec<u32> = (0..6).collect();
    let heritage = heritage::Heritage { index: &index, origins: &origins };
    let blocks: usize = (0..6).map(|cell| heritage.blocks(&grown.lists, cell).1).sum();
    assert!(blocks >= 2 * 2500 / BLOCK_ROWS - 6, "{blocks}");
    Ok(())
}

#[test]
fn cells_multiply_as_the_rows_do() -> Result<(), IndexError> {
    let source = rows(20_000, 6);
    let (config, job) = (IvfConfig::default(), Job::default());
    let mut end = 300;
    let first = RowSet::range(RowId(0), end);
    let mut index = IvfIndex::build(Metric::Euclidean, &config, &first, &source, &job)?;
    while end < 20_000 {
        end = (2 * end).min(20_000);
        index = index.extend(&RowSet::range(RowId(0), end), &source, &job)?;
    }
    let wanted = config.cells_for(20_000);
    assert!(index.cells() * 3 > wanted, "{} {wanted}", index.cells());
    let few = index.extend(&RowSet::range(RowId(0), 200), &source, &job)?;
    assert!(few.cells() <= config.cells_for(200), "{}", few.cells());
    Ok(())
}

#[test]
fn rounding_alone_leaves_no_cell_out() -> Result<(), IndexError> {
    // The fast key of a row at the query may be below zero: that of its cell is lower still.
    let row: Vec<f32> = (1..40).map(|at| 1.0 / at as f32).collect();
    let length = inverse_norm(&row);
    let unit: Vec<f32> = row.iter().map(|value| value * length).collect();
    let directory = Directory::new(Marks::new(unit.clone(), unit.len(), kernels()?), vec![0.0]);
    for metric in [Metric::Cosine, Metric::Euclidean] {
        let (mut near, mut keys) = (Vec::new(), Vec::new());
        directory.rank(metric, &unit, kernels()?, &mut near, &mut keys);
        let bound = directory.lower_bound(metric, &near[0], 1.0);
        assert!(bound < -1e-6, "{metric:?} {bound}");
    }
    Ok(())
}

fn found(
    index: &IvfIndex,
    search: IvfSearch,
    query: &Query,
    filter: &Filter,
    source: &Rows,
) -> Result<Vec<u32>, IndexError> {
    let (mut top, mut hits) = (TopK::new(10), Vec::new());
    index.search_with(search, query, filter, source, &mut Scratch::new(), &mut top)?;
    top.finish(query, source, &mut hits);
    Ok(hits.iter().map(|hit| hit.row.0).collect())
}

#[test]
fn codes_of_a_filter_are_copied_once_it_is_used_often_and_find_the_same() -> Result<(), IndexError>
{
    let (source, job) = (rows(12_000, 40), Job::default());
    let first = RowSet::range(RowId(0), 11_000);
    for (metric, codes) in [
        (Metric::Cosine, IvfCodes::Bits),
        (Metric::Euclidean, IvfCodes::Refined),
        (Metric::DotProduct, IvfCodes::Refined),
    ] {
        let config = IvfConfig { cells: Some(24), codes, ..IvfConfig::default() };
        let index = IvfIndex::build(metric, &config, &first, &source, &job)?;
        let allowed: RowSet = (0..12_000).filter(|row| row % 4 == 1).map(RowId).collect();
        let filter = index.prepare(&allowed);
        let Filter::Gathered(gathered) = &filter else { panic!("{filter:?}") };
        let plain = Filter::Rows(gathered.rows().clone());
        let query = |at: usize| Query::new(metric, &source.data[40 * at..40 * (at + 1)]);
        let some = IvfSearch { nprobe: 8, ..IvfSearch::default() };
        let hidden = IvfSearch { beyond: Beyond::WhereHidden { shown: 0.25 }, ..some };
        for at in 0..60 {
            let query = query(at * 190)?;
            for search in [some, hidden, IvfSearch { nprobe: 24, ..some }] {
                let expected = found(&index, search, &query, &plain, &source)?;
                assert_eq!(found(&index, search, &query, &filter, &source)?, expected, "{at}");
            }
            assert!(at > 0 || gathered.made().is_none(), "two searches do not pay for it");
        }
        let copies = gathered.made().expect("copied");
        let copies = copies.as_cells().expect("cells");
        let kept = |cell| index.lists.kept(cell, &plain).count() as u32;
        assert_eq!(copies.lists.counts, (0..index.cells()).map(kept).collect::<Vec<_>>());
        let bytes = bit_block_bytes(64) / BLOCK_ROWS * copies.lists.rows.len();
        assert!((bytes..2 * bytes).contains(&index.copied_bytes()));
        // One with the same rows and more, in other cells.
        let grown = index.extend(&RowSet::range(RowId(0), 12_000), &source, &job)?;
        let query = query(3)?;
        let expected = found(&grown, some, &query, &plain, &source)?;
        assert_eq!(found(&grown, some, &query, &filter, &source)?, expected);
        // A half leaves too many, and vectors in full are not copied.
        assert!(matches!(index.prepare(&RowSet::range(RowId(0), 6000)), Filter::Rows(_)));
    }
    let config = IvfConfig { cells: Some(24), codes: IvfCodes::Full, ..IvfConfig::default() };
    let index = IvfIndex::build(Metric::Cosine, &config, &first, &source, &job)?;
    assert!(matches!(index.prepare(&RowSet::range(RowId(0), 600)), Filter::Rows(_)));
    Ok(())
}

#[test]
fn cells_are_left_out_by_how_far_their_rows_reach() -> Result<(), IndexError> {
    let source = rows(3000, 20);
    let (job, all) = (Job::default(), RowSet::range(RowId(0), 3000));
    let how = IvfSearch { nprobe: 24, ..IvfSearch::default() };
    for metric in [Metric::Cosine, Metric::Euclidean, Metric::DotProduct] {
        for codes in [IvfCodes::Full, IvfCodes::Bits, IvfCodes::Refined] {
            let config = IvfConfig { cells: Some(24), codes, ..IvfConfig::default() };
            let index = IvfIndex::build(metric, &config, &all, &source, &job)?;
            // As if each cell reached everywhere, and as if its rows lay at its centroid.
            let (mut endless, mut narrow) = (index.clone(), index.clone());
            endless.directory.radii.fill(f32::INFINITY);
            narrow.directory.radii.fill(0.0);
            let (mut same, mut kept) = (0, 0);
            for at in 0..50 {
                let query = Query::new(metric, &source.data[20 * 60 * at..][..20])?;
                let of = |index| found(index, how, &query, &Filter::All, &source);
                let (expected, left) = (of(&endless)?, of(&narrow)?);
                same += usize::from(of(&index)? == expected);
                kept += expected.iter().filter(|row| left.contains(row)).count();
            }
            assert_eq!(same, 50, "{metric:?} {codes:?}: nothing is lost");
            assert!(kept < 450, "{metric:?} {codes:?}: {kept} of 500 are found all the same");
        }
    }
    Ok(())
}
