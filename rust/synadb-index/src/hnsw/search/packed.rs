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
pub(super) fn start(entries: &[u32], links: &EntryLinks, scratch: &mut HnswScratch) -> bool {
    let HnswScratch { pool, packed, .. } = scratch;
    let Some(query) = packed else { return false };
    let (from, estimate) = (query.squared_norm(), query.kernels().estimate_links);
    if !query.is_reliable() {
        return false;
    }
    let mut keys = [0.0; BLOCK_ROWS];
    for (first, block, steps) in links.blocks() {
        let mut near = estimate(block, query, from, steps, pool.limit(), &mut keys);
        while near != 0 {
            let slot = near.trailing_zeros() as usize;
            near &= near - 1;
            let key = if keys[slot].is_nan() { from } else { keys[slot] };
            if let Some(&entry) = entries.get(first + slot) {
                pool.insert(key, entry);
            }
        }
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
        pool.merge(found);
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
