//! The walk by packed codes: one block gives the estimates of all neighbours of a node.

use crate::distance::prefetch_many;
use crate::hnsw::codes::{self, Code};
use crate::hnsw::entries::EntryLinks;
use crate::hnsw::graph::{GraphView, LINE};
use crate::hnsw::search::pool::{Pool, Seen};
use crate::hnsw::search::{HnswScratch, direct};
use crate::quantize::{BLOCK_ROWS, CodeKernels, CodeQuery, Rotation, code_kernels};
use crate::{IndexError, Query};

/// Pieces in which a block is asked for.
const PIECES: usize = 3;

/// Prepares the point of a query for packed codes, in memory that may have served another.
///
/// # Errors
///
/// Those of [`CodeQuery::reset`].
pub(super) fn prepare(
    place: &mut Option<CodeQuery>,
    query: &Query,
    point: &[f32],
    rotation: &Rotation,
) -> Result<(), IndexError> {
    let level = query.kernels().level;
    let codes = match place {
        Some(codes) if codes.level() == level => codes,
        _ => {
            let kernels = CodeKernels::for_level(level).or_else(|_| code_kernels())?;
            place.insert(CodeQuery::unset(level, kernels))
        }
    };
    codes.reset_moved_bits(query, point, rotation, 0.0)
}

/// Puts the entry points nearest to a query into the queue, by the estimates of their codes. False
/// where the query is too far for estimates; the queue is then as before.
pub(super) fn start(
    entries: &[u32],
    links: &EntryLinks,
    kernels: codes::CodeKernels,
    scratch: &mut HnswScratch,
) -> bool {
    let HnswScratch { pool, packed, found, .. } = scratch;
    let Some(query) = packed.as_ref().filter(|query| query.is_reliable()) else { return false };
    let (from, estimate) = (query.squared_norm(), query.kernels().estimate_links);
    let mut keys = [0.0; BLOCK_ROWS];
    for (first, block, steps) in links.blocks() {
        let mut near = estimate(block, query, from, steps, pool.limit(), &mut keys);
        found.clear();
        while near != 0 {
            let slot = near.trailing_zeros() as usize;
            near &= near - 1;
            let key = if keys[slot].is_nan() { from } else { keys[slot] };
            // Behind the last there is room without codes.
            if let Some(&entry) = entries.get(first + slot) {
                found.push(key, entry);
            }
        }
        pool.merge(found, kernels.insert);
    }
    true
}

/// Visits the nodes nearest to a query by the estimates of their codes, and notes them with the
/// distances of their own codes.
///
/// A node that two parents lead to may stand in the queue twice, with two estimates: looking for
/// it there would cost more than passing it over when it comes up again.
///
/// The next node is chosen before the neighbours of one are known, so that its block is on its way
/// for a whole step: a node that is not quite the nearest costs less than waiting for memory.
pub(super) fn walk(
    view: GraphView<'_>,
    code: Code<'_>,
    kernels: codes::CodeKernels,
    scratch: &mut HnswScratch,
) {
    let HnswScratch { pool, seen, visited, counts, packed, found, .. } = scratch;
    let Some(query) = packed else { return };
    let estimate = query.kernels().estimate_links;
    let mut keys = [0.0; BLOCK_ROWS];
    let mut next = pop_new(pool, seen);
    while let Some(node) = next {
        next = pop_new(pool, seen);
        let mut ahead = Ahead::of(next.map_or(&[], |next| view.block(next)));
        ahead.fetch();
        let block = view.block(node);
        let distance = direct::distance(view, code, kernels, node);
        ahead.fetch();
        visited.push((distance, node));
        counts.steps += 1;
        let extra = view.terms(block).extra;
        let from = distance - extra * extra;
        found.clear();
        let limit = pool.limit();
        for group in 0..view.layout.groups() {
            let (codes, steps) = (view.group(block, group), view.steps(block, group));
            let mut near = estimate(codes, query, from, &steps, limit, &mut keys);
            counts.distances += BLOCK_ROWS as u64;
            ahead.fetch();
            while near != 0 {
                let slot = near.trailing_zeros() as usize;
                near &= near - 1;
                let Some(link) = view.link(block, group * BLOCK_ROWS + slot) else { continue };
                // A query too far for estimates has none.
                let key = keys[slot];
                let key = if key.is_nan() { distance } else { key };
                if key < limit && !seen.contains(link) {
                    found.push(key, link);
                }
            }
        }
        pool.merge(found, kernels.insert);
        if next.is_none() {
            next = pop_new(pool, seen);
        }
    }
}

/// A block that will be read soon, asked for piece by piece between pieces of work: all of its lines
/// at once took a twentieth longer, in the first level of the caches more by far.
struct Ahead<'a> {
    rest: &'a [u8],
    piece: usize,
}

impl<'a> Ahead<'a> {
    /// Asks for the last line, for with the terms of its own code a block is begun.
    fn of(block: &'a [u8]) -> Self {
        let (rest, last) = block.split_at(block.len().saturating_sub(LINE));
        prefetch_many(last);
        Self { rest, piece: rest.len().div_ceil(PIECES).next_multiple_of(LINE) }
    }

    fn fetch(&mut self) {
        let (now, later) = self.rest.split_at(self.piece.min(self.rest.len()));
        prefetch_many(now);
        self.rest = later;
    }
}

/// Takes the nearest node that was not visited yet.
fn pop_new(pool: &mut Pool, seen: &mut Seen) -> Option<u32> {
    loop {
        let (_, node) = pool.pop()?;
        if seen.insert(node) {
            return Some(node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hnsw::codes::Codes;
    use crate::random::Random;
    use crate::{Metric, kernels};

    const DIMENSIONS: usize = 256;

    #[test]
    fn those_that_seem_nearest_are_among_the_nearest_and_far_queries_tell_nothing()
    -> Result<(), IndexError> {
        let mut random = Random::new(3);
        let mut value = || (random.next() % 2001) as f32 / 1000.0 - 1.0;
        // The last block has room for more.
        let points: Vec<Vec<f32>> =
            (0..75).map(|_| (0..DIMENSIONS).map(|_| value()).collect()).collect();
        let mut codes = Codes::new(DIMENSIONS, true);
        let of_codes = codes::CodeKernels::new(kernels()?);
        points.iter().for_each(|point| codes.push(point, 0.0, of_codes));
        let rotation = Rotation::new(DIMENSIONS, 1);
        let links = EntryLinks::new(&codes, &rotation).expect("alike in length");
        let entries: Vec<u32> = (0..75).map(|number| 1000 - number).collect();
        let mut scratch = HnswScratch::default();
        let nearest = |point: &[f32], scratch: &mut HnswScratch| {
            let query = Query::new(Metric::Euclidean, point)?;
            prepare(&mut scratch.packed, &query, point, &rotation)?;
            scratch.pool.reset(8);
            Ok::<_, IndexError>(start(&entries, &links, of_codes, scratch))
        };
        for (point, &entry) in points.iter().zip(&entries) {
            let near: Vec<f32> = point.iter().map(|value| value + 0.1).collect();
            assert!(nearest(&near, &mut scratch)?);
            let found: Vec<u32> = scratch.pool.nodes().collect();
            assert_eq!(found[0], entry, "far nearer than all others");
            assert!(found.len() == 8 && found.iter().all(|node| entries.contains(node)));
        }
        assert!(!nearest(&[1e17; DIMENSIONS], &mut scratch)?);
        assert_eq!(scratch.pool.nodes().count(), 0);
        Ok(())
    }
}
