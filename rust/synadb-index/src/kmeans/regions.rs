//! Nearest centroids by way of groups of them, where there are many.

use super::assign::{NONE, Near, keep, piece};
use super::codes::{Panels, RowCodes, encode};
use super::dots::{PANEL, Pair, TILE_ROWS, Tile, TileKernel, tile_kernel};
use super::{Centroids, Lloyd};
use crate::IndexError;
use crate::distance::Kernels;
use crate::job::Crew;

/// Groups whose centroids a row is compared with: where the nearest one is in none of them, the row
/// gets one that is little further.
const TRIED: usize = 4;
/// Rounds of k-means over the centroids.
const ROUNDS: usize = 5;
/// Rows of a piece of work.
const PIECE_ROWS: usize = 256 * TILE_ROWS;

/// Centroids in groups of near ones, about as many groups as each has centroids: a row is compared
/// with the means of the groups and with the centroids of the nearest few. A tree of two levels, as in the
/// hierarchical k-means of Nister and Stewenius (2006).
#[derive(Debug)]
pub(crate) struct Regions {
    means: Panels,
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    /// Number of its first centroid; the others follow.
    first: u32,
    panels: Panels,
}

impl Regions {
    /// Groups centroids, and puts them in the order of their groups.
    pub(crate) fn of(
        centroids: &mut Centroids,
        kernels: &'static Kernels,
        crew: &Crew<'_>,
    ) -> Result<Self, IndexError> {
        let (count, dimensions) = (centroids.count(), centroids.dimensions);
        let codes = coded(&centroids.points, dimensions, kernels);
        let wanted = (count as f64).sqrt() as usize;
        let mut lloyd = Lloyd::new(&codes, wanted, dimensions, kernels);
        for _ in 0..ROUNDS {
            lloyd.round(1.0, None, crew)?;
        }
        let near = lloyd.assign(count, crew)?;
        let mut order: Vec<(u32, u32)> =
            near.iter().zip(0..).map(|([n], at)| (n.cell, at)).collect();
        order.sort_unstable();
        let points = order.iter().flat_map(|&(_, at)| centroids.point(at).iter().copied());
        centroids.points = points.collect();
        let mut first = 0;
        let groups = order.chunk_by(|a, b| a.0 == b.0).map(|members| {
            let group = first;
            first += members.len() as u32;
            let points = group as usize * dimensions..first as usize * dimensions;
            let panels = Panels::pack(&centroids.points[points], dimensions, kernels);
            (members[0].0, Group { first: group, panels })
        });
        let (held, groups): (Vec<u32>, Vec<Group>) = groups.unzip();
        // A mean whose centroids are all nearer to others has no group.
        let point = |group: u32| &lloyd.points[group as usize * dimensions..][..dimensions];
        let means: Vec<f32> = held.iter().flat_map(|&group| point(group)).copied().collect();
        Ok(Self { means: Panels::pack(&means, dimensions, kernels), groups })
    }

    /// Bytes of the means and centroids.
    pub(crate) fn memory_bytes(&self) -> usize {
        let panels = self.groups.iter().map(|group| group.panels.memory_bytes());
        self.means.memory_bytes() + panels.sum::<usize>()
    }

    /// A near centroid of each row, mostly the nearest. Time: for each row the groups and the
    /// centroids of a few, with as many multiply-adds as it has dimensions.
    pub(crate) fn nearest(
        &self,
        rows: &RowCodes,
        kernels: &Kernels,
        crew: &Crew<'_>,
        out: &mut [Near],
    ) -> Result<(), IndexError> {
        let kernel = tile_kernel(kernels.level);
        let pieces = out.chunks_mut(PIECE_ROWS).enumerate().collect();
        crew.each(pieces, |(at, out): (usize, &mut [Near])| {
            let first = at * PIECE_ROWS;
            let mut near = vec![[NONE; TRIED]; out.len()];
            piece(rows, first, &self.means, kernel, &mut near);
            let mut members: Vec<Vec<u32>> = vec![Vec::new(); self.groups.len()];
            for (at, near) in near.iter().enumerate() {
                for near in near.iter().filter(|near| near.cell != NONE.cell) {
                    members[near.cell as usize].push(at as u32);
                }
            }
            let mut found = vec![[NONE; 1]; out.len()];
            for (group, members) in self.groups.iter().zip(&members) {
                group.offer(rows, first, members, kernel, &mut found);
            }
            for (out, [found]) in out.iter_mut().zip(found) {
                *out = found;
            }
            Ok(())
        })
    }
}

impl Group {
    /// Compares some rows with the centroids, by twelve that are brought together.
    fn offer(
        &self,
        rows: &RowCodes,
        first: usize,
        members: &[u32],
        kernel: TileKernel,
        found: &mut [[Near; 1]],
    ) {
        let pairs = rows.pairs();
        let mut together: Vec<Pair> = vec![[0; 2]; TILE_ROWS * pairs];
        let mut tile = Tile::default();
        for members in members.chunks(TILE_ROWS) {
            let mut scales = [0.0; TILE_ROWS];
            for (at, &member) in members.iter().enumerate() {
                let row = first + member as usize;
                let (codes, scale) = rows.rows(row..row + 1);
                together[at * pairs..][..pairs].copy_from_slice(codes);
                scales[at] = scale[0];
            }
            for (panel, (codes, factors, norms)) in self.panels.iter().enumerate() {
                kernel(&together, codes, &mut tile);
                let from = self.first + (panel * PANEL) as u32;
                for ((dots, &scale), &member) in tile.iter().zip(&scales).zip(members) {
                    keep(dots, scale, factors, norms, from, &mut found[member as usize]);
                }
            }
        }
    }
}

/// Vectors side by side as codes of rows.
fn coded(points: &[f32], dimensions: usize, kernels: &Kernels) -> RowCodes {
    let width = dimensions.max(1);
    let mut codes = RowCodes::new(points.len() / width, dimensions);
    let pairs = codes.pairs().max(1);
    let (pair_slots, scales, norms) = codes.slots();
    let slots = pair_slots.chunks_mut(pairs).zip(scales).zip(norms);
    for (point, ((pairs, scale), norm)) in points.chunks_exact(width).zip(slots) {
        (*scale, *norm) = encode(point, pairs, kernels);
    }
    codes
}
