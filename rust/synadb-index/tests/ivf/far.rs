//! Vectors whose differences are small beside what they share.

use super::sections::shared;
use super::*;

/// Vectors of unit length in groups, moved by so much in every dimension.
fn moved(count: usize, dimensions: usize, by: f32) -> Vec<Vec<f32>> {
    let mut vectors = clustered(61, count, dimensions, 50);
    for vector in &mut vectors {
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|value| *value = *value / length + by);
    }
    vectors
}

#[test]
fn far_from_the_origin_the_recall_holds() -> Result<(), IndexError> {
    for by in [0.0, 3.0, 100.0] {
        let mut rows = moved(3600, 96, by);
        let queries = rows.split_off(3550);
        let source = Memory::new(&rows, 96);
        for metric in METRICS {
            for codes in [IvfCodes::Bits, IvfCodes::Refined] {
                let index = build(metric, &config(codes, 60), &source)?;
                let all = recall(&index, all_of(&index), &queries, &rows, &Filter::All, &source)?;
                assert!(all >= 0.99, "{metric:?} {codes:?} moved by {by}: {all}");
                let few = IvfSearch { nprobe: 16, candidates: 100, ..IvfSearch::default() };
                let few = recall(&index, few, &queries, &rows, &Filter::All, &source)?;
                assert!(few >= 0.95, "{metric:?} {codes:?} moved by {by}, few cells: {few}");
            }
        }
    }
    Ok(())
}

#[test]
fn far_from_the_origin_near_cells_are_near() -> Result<(), IndexError> {
    // One group a cell: the first cell holds the neighbours, wherever the origin is.
    for by in [0.0, 1000.0] {
        let mut rows = moved(2040, 48, by);
        let queries = rows.split_off(2000);
        let source = Memory::new(&rows, 48);
        let index = build(Metric::Euclidean, &config(IvfCodes::Full, 50), &source)?;
        let few = IvfSearch { nprobe: 6, candidates: 0, ..IvfSearch::default() };
        let found = recall(&index, few, &queries, &rows, &Filter::All, &source)?;
        assert!(found >= 0.95, "moved by {by}: {found}");
    }
    Ok(())
}

#[test]
fn far_rows_are_taken_in_and_saved() -> Result<(), IndexError> {
    let mut rows = moved(2040, 40, 100.0);
    let queries = rows.split_off(2000);
    let source = Memory::new(&rows, 40);
    let job = Job::default();
    for metric in [Metric::Cosine, Metric::Euclidean] {
        let config = config(IvfCodes::Refined, 40);
        let half = RowSet::range(RowId(0), 1000);
        let index = IvfIndex::build(metric, &config, &half, &source, &job)?;
        let grown = index.extend(&RowSet::range(RowId(0), 2000), &source, &job)?;
        let opened = IvfIndex::import(&shared(&grown.export()), source.rows_end(), &source, &job)?;
        let all = all_of(&grown);
        let found = recall(&grown, all, &queries, &rows, &Filter::All, &source)?;
        assert!(found >= 0.99, "{metric:?} {found}");
        for query in &queries {
            let before = search(&grown, all, query, &Filter::All, &source, 10)?;
            assert_eq!(search(&opened, all, query, &Filter::All, &source, 10)?, before);
        }
    }
    Ok(())
}
