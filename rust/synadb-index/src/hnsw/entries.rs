//! The entry points as neighbours of a node at the origin: one look estimates 32 of them.

use crate::hnsw::codes::Codes;
use crate::quantize::{
    Anchor, BLOCK_ROWS, LinkSteps, Rotation, code_kernels, encode_links, link_block_bytes,
};

/// So many times the squared length of the median entry point that of the farthest may be: all
/// estimates of a block are multiples of one step.
const FARTHEST: f32 = 32.0;

/// The packed codes of the entry points, in their order.
#[derive(Debug, Clone)]
pub(super) struct EntryLinks {
    blocks: Vec<u8>,
    steps: Vec<LinkSteps>,
    padded: usize,
}

impl EntryLinks {
    /// Packs the points that codes stand for. None where one is far beyond the others: the estimates
    /// of these would tell nothing. O(d log d) each.
    pub(super) fn new(codes: &Codes, rotation: &Rotation) -> Option<Self> {
        let kernels = code_kernels().ok()?;
        let (padded, origin) = (rotation.padded(), Anchor::new(vec![0.0; rotation.padded()]));
        let mut points = vec![0.0; codes.len() * padded];
        let mut lengths = Vec::with_capacity(codes.len());
        for (index, point) in points.chunks_exact_mut(padded).enumerate() {
            let code = codes.code(index);
            let values: &[i8] = bytemuck::cast_slice(&code.bytes[..rotation.dimensions()]);
            let values: Vec<f32> = values.iter().map(|&value| f32::from(value)).collect();
            rotation.rotate(kernels, &values, code.terms.scale, point);
            lengths.push(code.terms.norm + code.terms.extra * code.terms.extra);
        }
        lengths.sort_unstable_by(f32::total_cmp);
        let is_far = |&length: &f32| length > FARTHEST * lengths[lengths.len() / 2];
        if lengths.last().is_none_or(is_far) {
            return None;
        }
        let extra = |index: usize| codes.code(index).terms.extra;
        let mut blocks = vec![0; codes.len().div_ceil(BLOCK_ROWS) * link_block_bytes(padded)];
        let places = blocks.chunks_exact_mut(link_block_bytes(padded)).enumerate();
        let steps = places.map(|(number, block)| {
            let of_block = points.chunks_exact(padded).enumerate().skip(number * BLOCK_ROWS);
            let points = of_block.map(|(index, point)| Some((point, extra(index).powi(2))));
            encode_links(&origin, points.take(BLOCK_ROWS), block)
        });
        let steps = steps.collect();
        Some(Self { blocks, steps, padded })
    }

    /// The blocks, what their numbers are worth, and the number of the first entry point in each.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (usize, &[u8], &LinkSteps)> {
        let blocks = self.blocks.chunks_exact(link_block_bytes(self.padded)).zip(&self.steps);
        (0..).step_by(BLOCK_ROWS).zip(blocks).map(|(first, (block, steps))| (first, block, steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hnsw::codes::CodeKernels;
    use crate::quantize::CodeQuery;
    use crate::random::Random;
    use crate::{IndexError, Metric, Query};

    const DIMENSIONS: usize = 200;

    /// So many points, of which each is `length` of its number times as long as it was drawn.
    fn points(count: usize, length: impl Fn(usize) -> f32) -> Vec<Vec<f32>> {
        let mut random = Random::new(5);
        let mut value = || (random.next() % 2001) as f32 / 1000.0 - 1.0;
        let mut point = |at| (0..DIMENSIONS).map(|_| value() * length(at)).collect();
        (0..count).map(&mut point).collect()
    }

    fn codes(points: &[Vec<f32>], extra: f32) -> Codes {
        let kernels = CodeKernels::new(crate::kernels().expect("a level"));
        let mut codes = Codes::new(DIMENSIONS);
        points.iter().for_each(|point| codes.push(point, extra, kernels));
        codes
    }

    #[test]
    fn each_is_about_as_far_as_it_seems() -> Result<(), IndexError> {
        let points = points(70, |at| 1.0 + (at % 3) as f32);
        let rotation = Rotation::new(DIMENSIONS, 9);
        let extra = 20.0;
        let links = EntryLinks::new(&codes(&points, extra), &rotation).expect("alike in length");
        let query: Vec<f32> = points[40].iter().map(|value| value * 1.1 + 0.01).collect();
        let prepared = Query::new(Metric::Euclidean, &query)?;
        let prepared = CodeQuery::new(&prepared, &rotation, 0.0)?;
        let estimate = prepared.kernels().estimate_links;
        let (mut keys, mut compared) = ([0.0; BLOCK_ROWS], 0);
        for (first, block, steps) in links.blocks() {
            let from = prepared.squared_norm();
            estimate(block, &prepared, from, steps, f32::INFINITY, &mut keys);
            for (point, &key) in points[first..].iter().zip(&keys) {
                let difference = point.iter().zip(&query).map(|(a, b)| (a - b) * (a - b));
                let distance = difference.sum::<f32>() + extra * extra;
                // A bit errs by the root of the dimensions of the product of the lengths; four times.
                let length = point.iter().map(|value| value * value).sum::<f32>().sqrt();
                let error = 2.0 * length * from.sqrt() / (DIMENSIONS as f32).sqrt();
                assert!((key - distance).abs() < 4.0 * error, "{compared}: {key} {distance}");
                compared += 1;
            }
        }
        assert_eq!(compared, points.len());
        Ok(())
    }

    #[test]
    fn there_are_none_where_one_is_far_beyond_the_others() {
        let rotation = Rotation::new(DIMENSIONS, 9);
        let links = |far: f32| {
            let points = points(40, |at| if at == 7 { far } else { 1.0 });
            EntryLinks::new(&codes(&points, 0.0), &rotation)
        };
        assert!(links(4.0).is_some() && links(9.0).is_none() && links(1e18).is_none());
        assert!(EntryLinks::new(&codes(&[], 0.0), &rotation).is_none());
        let same = codes(&points(40, |_| 0.0), 0.0);
        assert!(EntryLinks::new(&same, &rotation).is_some(), "all lie at the origin");
    }
}
