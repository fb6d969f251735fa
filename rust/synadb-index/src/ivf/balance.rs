//! Splits cells that hold too many rows and drops those that hold too few.

use synadb_types::RowId;

use super::assign::{Cells, NO_CELL, assign};
use crate::distance::Kernels;
use crate::job::Crew;
use crate::kmeans::{Centroids, Lloyd};
use crate::{IndexError, VectorSource};

/// A cell with so many times the mean is split.
const OVERFULL: usize = 4;
/// A cell that the mean exceeds so many times is dropped.
const UNDERFULL: usize = 12;
/// Cells below this size are never split.
const SPLIT_MIN: usize = 128;
/// Parts of a split at most; a larger cell is split again in the next pass.
const PARTS_MAX: usize = 64;
/// Rounds of k-means in a split.
const ROUNDS: usize = 5;
/// Splits can leave parts that are overfull or underfull again.
const PASSES: usize = 4;

/// Brings the sizes of the cells nearer to each other, as after growth or a drift of the data:
/// rows of split and dropped cells are assigned anew (as LIRE does: Xu et al. 2023, without its
/// look at the neighbours). Sizes are those of `wanted` cells, when there are not more.
///
/// Returns for each cell the one that it was before, or [`NO_CELL`] where it is new.
pub(super) fn rebalance(
    centroids: &mut Centroids,
    wanted: usize,
    rows: &[RowId],
    cells: &mut [Cells],
    second: bool,
    source: &dyn VectorSource,
    kernels: &'static Kernels,
    crew: &Crew<'_>,
) -> Result<Vec<u32>, IndexError> {
    let mut origins: Vec<u32> = (0..centroids.count() as u32).collect();
    for _ in 0..PASSES {
        let found = Change::find(centroids, wanted, rows, cells, source, kernels, crew)?;
        let Some(change) = found else {
            break;
        };
        centroids.points = change.points;
        let mut moved_origins = vec![NO_CELL; centroids.count()];
        for (&origin, &cell) in origins.iter().zip(&change.renamed) {
            if cell != NO_CELL {
                moved_origins[cell as usize] = origin;
            }
        }
        origins = moved_origins;
        let gone = |cells: &Cells| {
            cells.iter().any(|&cell| cell != NO_CELL && change.renamed[cell as usize] == NO_CELL)
        };
        let moved: Vec<usize> = (0..rows.len()).filter(|&at| gone(&cells[at])).collect();
        let moved_rows: Vec<RowId> = moved.iter().map(|&at| rows[at]).collect();
        let anew = assign(centroids, &moved_rows, source, second, kernels, crew, |_| ())?;
        for cell in cells.as_flattened_mut() {
            if *cell != NO_CELL {
                *cell = change.renamed[*cell as usize];
            }
        }
        for (at, new) in moved.into_iter().zip(anew) {
            cells[at] = new;
        }
    }
    Ok(origins)
}

/// New centroids, and the new number of each old cell or [`NO_CELL`].
struct Change {
    points: Vec<f32>,
    renamed: Vec<u32>,
}

impl Change {
    fn find(
        centroids: &Centroids,
        wanted: usize,
        rows: &[RowId],
        cells: &[Cells],
        source: &dyn VectorSource,
        kernels: &'static Kernels,
        crew: &Crew<'_>,
    ) -> Result<Option<Self>, IndexError> {
        let mut members = vec![0_usize; centroids.count()];
        for &cell in cells.as_flattened().iter().filter(|&&cell| cell != NO_CELL) {
            members[cell as usize] += 1;
        }
        let mean = members.iter().sum::<usize>() / members.len().max(wanted).max(1);
        let limit = (OVERFULL * mean).max(SPLIT_MIN);
        let mut kept: Vec<bool> =
            members.iter().map(|&count| count > 0 && count * UNDERFULL >= mean).collect();
        let mut parts = Vec::new();
        for (cell, inside) in rows_of_larger(limit, &members, rows, cells) {
            let count = (inside.len() / mean.max(1)).clamp(2, PARTS_MAX);
            if let Some(points) = split(centroids, &inside, count, source, kernels, crew)? {
                parts.extend(points);
                kept[cell] = false;
            }
        }
        if kept.iter().all(|&kept| kept) {
            return Ok(None);
        }
        let mut change = Self { points: Vec::new(), renamed: vec![NO_CELL; kept.len()] };
        for cell in (0..kept.len()).filter(|&cell| kept[cell]) {
            change.renamed[cell] = (change.points.len() / centroids.dimensions) as u32;
            change.points.extend_from_slice(centroids.point(cell as u32));
        }
        change.points.extend(parts);
        Ok((!change.points.is_empty()).then_some(change))
    }
}

/// The cells with more rows than `limit`, each with its rows: one pass over all of them.
fn rows_of_larger(
    limit: usize,
    members: &[usize],
    rows: &[RowId],
    cells: &[Cells],
) -> Vec<(usize, Vec<RowId>)> {
    let mut found: Vec<(usize, Vec<RowId>)> = Vec::new();
    let mut places = vec![None; members.len()];
    for (cell, &count) in members.iter().enumerate().filter(|&(_, &count)| count > limit) {
        places[cell] = Some(found.len());
        found.push((cell, Vec::with_capacity(count)));
    }
    if found.is_empty() {
        return found;
    }
    for (&row, cells) in rows.iter().zip(cells) {
        for &cell in cells.iter().filter(|&&cell| cell != NO_CELL) {
            if let Some(place) = places[cell as usize] {
                found[place].1.push(row);
            }
        }
    }
    found
}

/// Centroids of the parts of a cell; none when its rows are all alike.
fn split(
    centroids: &Centroids,
    rows: &[RowId],
    parts: usize,
    source: &dyn VectorSource,
    kernels: &'static Kernels,
    crew: &Crew<'_>,
) -> Result<Option<Vec<f32>>, IndexError> {
    // Enough to find the parts; their rows are assigned afterwards.
    let step = (rows.len() / (parts * 256)).max(1);
    let sample: Vec<RowId> = rows.iter().copied().step_by(step).collect();
    let codes = centroids.frame.encode(&sample, source, kernels, crew)?;
    let mut lloyd = Lloyd::new(&codes, parts, centroids.dimensions, kernels);
    for _ in 0..ROUNDS {
        lloyd.round(1.0, None, crew)?;
    }
    let mut used: Vec<u32> =
        lloyd.assign(sample.len(), crew)?.iter().map(|[near]| near.cell).collect();
    used.sort_unstable();
    used.dedup();
    if used.len() < 2 {
        return Ok(None);
    }
    let width = centroids.dimensions;
    let point = |&cell: &u32| lloyd.points[cell as usize * width..][..width].to_vec();
    Ok(Some(used.iter().flat_map(point).collect()))
}
