//! Which cells a row belongs to.

use synadb_types::RowId;

use crate::distance::Kernels;
use crate::job::Crew;
use crate::kmeans::Centroids;
use crate::kmeans::assign::{NONE, Near, nearest};
use crate::kmeans::codes::{Panels, RowCodes};
use crate::kmeans::dots::tile_kernel;
use crate::{IndexError, VectorSource};

/// Centroids that compete for a row's second cell.
const CHOICES: usize = 8;
/// Rows coded at once: 50 MiB at 768 dimensions.
pub(super) const ROWS_AT_ONCE: usize = 32_768;
/// Rows of a piece of work.
const PIECE_ROWS: usize = 2048;
/// Weight of the parallel part of the second residual (lambda of SOAR).
const SOAR_WEIGHT: f32 = 1.0;

/// What stands for a cell that a row does not have.
pub(super) const NO_CELL: u32 = u32::MAX;

/// The cells of a row: that of the nearest centroid, and a second one or [`NO_CELL`].
pub(super) type Cells = [u32; 2];

/// Assigns rows to the cells of their nearest centroids and, with `second`, to one more.
///
/// The second cell is chosen among the eight nearest as in SOAR (Sun, Guo, Kumar 2023): its
/// residual is short and far from parallel to the first one, so that a query for which the first
/// cell looks bad finds the row in the second.
pub(super) fn assign(
    centroids: &Centroids,
    rows: &[RowId],
    source: &dyn VectorSource,
    second: bool,
    kernels: &'static Kernels,
    crew: &Crew<'_>,
    mut progress: impl FnMut(f32),
) -> Result<Vec<Cells>, IndexError> {
    let mut cells = vec![[0, NO_CELL]; rows.len()];
    let dimensions = centroids.dimensions;
    if centroids.points.is_empty() {
        return Ok(cells);
    }
    let panels = Panels::pack(&centroids.points, dimensions, kernels);
    let kernel = tile_kernel(kernels.level);
    let mut one = vec![[NONE; 1]; if second { 0 } else { rows.len().min(ROWS_AT_ONCE) }];
    let mut many = vec![[NONE; CHOICES]; if second { rows.len().min(ROWS_AT_ONCE) } else { 0 }];
    let mut done = 0;
    for (rows_now, cells) in rows.chunks(ROWS_AT_ONCE).zip(cells.chunks_mut(ROWS_AT_ONCE)) {
        let count = rows_now.len();
        let codes = centroids.frame.encode(rows_now, source, kernels, crew)?;
        if second {
            let near = &mut many[..count];
            nearest(&codes, 0..count, &panels, kernel, crew, near)?;
            choose_second(centroids, &codes, near, cells, kernels, crew)?;
        } else {
            let near = &mut one[..count];
            nearest(&codes, 0..count, &panels, kernel, crew, near)?;
            for (cells, [near]) in cells.iter_mut().zip(near) {
                cells[0] = near.cell;
            }
        }
        done += count;
        progress(done as f32 / rows.len() as f32);
    }
    Ok(cells)
}

fn choose_second(
    centroids: &Centroids,
    codes: &RowCodes,
    near: &[[Near; CHOICES]],
    cells: &mut [Cells],
    kernels: &Kernels,
    crew: &Crew<'_>,
) -> Result<(), IndexError> {
    let pieces = near.chunks(PIECE_ROWS).zip(cells.chunks_mut(PIECE_ROWS)).enumerate().collect();
    crew.each(pieces, |(piece, (near, cells)): (usize, (&[[Near; CHOICES]], &mut [Cells]))| {
        let mut row_vector = vec![0.0; 2 * codes.pairs()];
        let mut residual = vec![0.0; centroids.dimensions];
        for (at, (near, cells)) in near.iter().zip(cells).enumerate() {
            let row = piece * PIECE_ROWS + at;
            let first = centroids.point(near[0].cell);
            row_vector.fill(0.0);
            codes.add_to(row, &mut row_vector);
            for ((out, &value), &mean) in residual.iter_mut().zip(&row_vector).zip(first) {
                *out = value - mean;
            }
            let first_length = (kernels.dot)(&residual, &residual).max(f32::MIN_POSITIVE);
            let along_row = (kernels.dot)(&residual, &row_vector[..centroids.dimensions]);
            let cost = |near: &Near| {
                let parallel = along_row - (kernels.dot)(&residual, centroids.point(near.cell));
                let length = near.key + codes.squared_norm(row);
                length + SOAR_WEIGHT * parallel * parallel / first_length
            };
            let others = near[1..].iter().filter(|near| near.cell != NO_CELL);
            let best =
                others.map(|near| (cost(near), near.cell)).min_by(|a, b| a.0.total_cmp(&b.0));
            *cells = [near[0].cell, best.map_or(NO_CELL, |(_, cell)| cell)];
        }
        Ok(())
    })
}
