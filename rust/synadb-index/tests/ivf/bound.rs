//! Cells that are too far away for any of the nearest are left out: nothing is lost, and less is
//! looked at.

use std::cell::Cell;
use std::sync::LazyLock;

use synadb_index::{Kernels, SimdLevel};

use super::*;

const DIMENSIONS: usize = 24;
const CELLS: usize = 40;

thread_local! {
    /// Rows of the matrices that a query was compared with.
    static COMPARED: Cell<usize> = const { Cell::new(0) };
}

fn plain() -> &'static Kernels {
    Kernels::for_level(SimdLevel::Scalar).expect("every processor has the scalar level")
}

fn distances(query: &[f32], rows: &[f32], stride: usize, count: usize, out: &mut [f32]) {
    COMPARED.set(COMPARED.get() + count);
    (plain().squared_euclidean_rows)(query, rows, stride, count, out);
}

fn products(query: &[f32], rows: &[f32], stride: usize, count: usize, out: &mut [f32]) {
    COMPARED.set(COMPARED.get() + count);
    (plain().dot_rows)(query, rows, stride, count, out);
}

/// Kernels that count what they compare.
static COUNTING: LazyLock<Kernels> =
    LazyLock::new(|| Kernels { squared_euclidean_rows: distances, dot_rows: products, ..*plain() });

/// Ten groups far from each other, each within a small part of the distance.
fn far_groups(count: usize) -> Vec<Vec<f32>> {
    let mut random = Random(71);
    let corners = random.vectors(10, DIMENSIONS);
    let mut near = |at: usize| -> Vec<f32> {
        let noise = random.vector(DIMENSIONS);
        corners[at % 10].iter().zip(noise).map(|(corner, noise)| corner + 0.1 * noise).collect()
    };
    (0..count).map(&mut near).collect()
}

/// What a search of all cells finds, and how many of their entries it looks at.
fn looked_at(
    index: &IvfIndex,
    values: &[f32],
    source: &Memory,
) -> Result<(Vec<Hit>, usize), IndexError> {
    let query = Query::with_kernels(index.metric(), values, &COUNTING)?;
    let (mut scratch, mut top, mut hits) = (Scratch::new(), TopK::new(10), Vec::new());
    let (how, everything) = (all_of(index), Filter::All);
    COMPARED.set(0);
    index.search_with(how, &query, &everything, source, &mut scratch, &mut top)?;
    top.finish(&query, source, &mut hits);
    // The centroids are compared first.
    Ok((hits, COMPARED.get() - index.cells()))
}

#[test]
fn of_far_groups_one_alone_is_looked_at() -> Result<(), IndexError> {
    let mut vectors = far_groups(3040);
    let queries = vectors.split_off(3000);
    let source = Memory::new(&vectors, DIMENSIONS);
    for metric in [Metric::Cosine, Metric::Euclidean] {
        for second in [false, true] {
            let config = IvfConfig { second, ..config(IvfCodes::Full, CELLS) };
            let index = build(metric, &config, &source)?;
            let entries: usize = (0..index.cells()).filter_map(|cell| index.cell_len(cell)).sum();
            assert_eq!(entries, if second { 6000 } else { 3000 });
            let mut most = 0;
            for query in &queries {
                let (hits, looked) = looked_at(&index, query, &source)?;
                assert_eq!(hits, scan(metric, query, &Filter::All, &source, 10)?, "{metric:?}");
                assert!(looked >= 10, "{metric:?}: {looked}");
                most = most.max(looked);
            }
            assert!(most * 8 <= entries, "{metric:?} {second}: {most} of {entries}");
        }
    }
    Ok(())
}

#[test]
fn where_all_rows_are_alike_all_cells_are_looked_at() -> Result<(), IndexError> {
    // Without structure the nearest are as far away as the cells are wide: the count is no matter
    // of the kernels alone.
    let mut random = Random(72);
    let vectors = random.vectors(2000, 48);
    let source = Memory::new(&vectors, 48);
    let index = build(Metric::Euclidean, &config(IvfCodes::Full, CELLS), &source)?;
    let entries: usize = (0..index.cells()).filter_map(|cell| index.cell_len(cell)).sum();
    for query in random.vectors(5, 48) {
        let (hits, looked) = looked_at(&index, &query, &source)?;
        assert_eq!(hits, scan(Metric::Euclidean, &query, &Filter::All, &source, 10)?);
        assert_eq!(looked, entries);
    }
    Ok(())
}
