//! The walk by the codes of the nodes themselves: a distance for each neighbour not seen before.

use crate::distance::prefetch_bytes;
use crate::hnsw::codes::{Code, CodeKernels, FLOAT_DIMENSIONS_MAX, squared_distance};
use crate::hnsw::graph::GraphView;
use crate::hnsw::search::HnswScratch;

/// Sums that a distance of floats is made of.
const LANES: usize = 8;
/// Neighbours whose codes are on their way while one is compared.
const AHEAD: usize = 3;

/// Visits the nodes nearest to a code and notes them with their distances.
pub(super) fn walk(
    view: GraphView<'_>,
    code: Code<'_>,
    kernels: CodeKernels,
    scratch: &mut HnswScratch,
) {
    let HnswScratch { pool, seen, fresh, visited, counts, found, .. } = scratch;
    pool.nodes().for_each(|entry| {
        seen.insert(entry);
    });
    while let Some((distance, node)) = pool.pop() {
        visited.push((distance, node));
        counts.steps += 1;
        let limit = pool.limit();
        let block = view.block(node);
        fresh.clear();
        found.clear();
        fresh.extend(view.links(block).filter(|&link| seen.insert(link)));
        counts.distances += fresh.len() as u64;
        for &ahead in fresh.iter().take(AHEAD) {
            prefetch_bytes(view.code(view.block(ahead)));
        }
        for (index, &link) in fresh.iter().enumerate() {
            if let Some(&ahead) = fresh.get(index + AHEAD) {
                prefetch_bytes(view.code(view.block(ahead)));
            }
            let distance = self::distance(view, code, kernels, link);
            if distance < limit {
                found.push(distance, link);
            }
        }
        pool.merge(found, kernels.insert);
    }
}

/// Squared distance of a code from a node.
pub(super) fn distance(
    view: GraphView<'_>,
    code: Code<'_>,
    kernels: CodeKernels,
    node: u32,
) -> f32 {
    let block = view.block(node);
    let bytes = view.code(block);
    if code.floats.is_empty() {
        let mut dot = [0];
        let (code_bytes, bytes) = (bytemuck::cast_slice(code.bytes), bytemuck::cast_slice(bytes));
        (kernels.dot_bytes)(code_bytes, bytes, 0, &mut dot);
        return squared_distance(code.terms, view.terms(block), dot[0]);
    }
    // So many numbers repay the call of a kernel; they lie as it wants them wherever blocks begin at
    // a cache line.
    if code.floats.len() > FLOAT_DIMENSIONS_MAX + 1
        && let Ok(values) = bytemuck::try_cast_slice(bytes)
    {
        return (kernels.float.squared_euclidean)(code.floats, values);
    }
    let (values, _) = bytes.as_chunks::<4>();
    let (full, rest) = values.as_chunks::<LANES>();
    let (code_full, code_rest) = code.floats.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (values, code) in full.iter().zip(code_full) {
        for lane in 0..LANES {
            let difference = f32::from_le_bytes(values[lane]) - code[lane];
            sums[lane] += difference * difference;
        }
    }
    let rest = rest.iter().zip(code_rest);
    let rest: f32 = rest.map(|(&value, code)| (f32::from_le_bytes(value) - code).powi(2)).sum();
    sums.iter().sum::<f32>() + rest
}
