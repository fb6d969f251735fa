//! The entry points as neighbours of a node at the origin: one look estimates 32 of them.

use crate::hnsw::codes::Codes;
use crate::hnsw::search::STARTS_MIN;
use crate::quantize::{
    Anchor, BLOCK_ROWS, CodeQuery, LinkSteps, Rotation, code_kernels, encode_links,
    link_block_bytes,
};
use crate::{Metric, Query};

/// So many times the squared length of the median entry point that of the farthest may be: all
/// estimates of a block are multiples of one step.
const FARTHEST: f32 = 32.0;
/// Of so many entry points one may seem farther from itself than others.
const MISTAKEN: usize = 20;

/// The packed codes of the entry points, in their order.
#[derive(Debug, Clone)]
pub(super) struct EntryLinks {
    blocks: Vec<u8>,
    steps: Vec<LinkSteps>,
    padded: usize,
}

impl EntryLinks {
    /// Packs the points that codes stand for. None where the estimates would tell nothing: where one
    /// is far beyond the others, or many lie closer together than one bit a dimension tells. O(d log d
    /// + n d) each of n.
    pub(super) fn new(codes: &Codes, rotation: &Rotation) -> Option<Self> {
        let terms = || (0..codes.len()).map(|index| codes.code(index).terms);
        let of_points = has_far(terms().map(|terms| terms.norm))?;
        let in_all = has_far(terms().map(|terms| terms.norm + terms.extra * terms.extra))?;
        if of_points || in_all {
            return None;
        }
        let (padded, kernels) = (rotation.padded(), code_kernels().ok()?);
        let origin = Anchor::new(vec![0.0; padded]);
        let mut points = vec![0.0; BLOCK_ROWS * padded];
        let mut blocks = vec![0; codes.len().div_ceil(BLOCK_ROWS) * link_block_bytes(padded)];
        let mut steps = Vec::new();
        let firsts = (0..codes.len()).step_by(BLOCK_ROWS);
        for (first, block) in firsts.zip(blocks.chunks_exact_mut(link_block_bytes(padded))) {
            let indexes = first..codes.len().min(first + BLOCK_ROWS);
            for (index, point) in indexes.clone().zip(points.chunks_exact_mut(padded)) {
                rotation.rotate(kernels, &decoded(codes, index, rotation), 1.0, point);
            }
            let extra = |index: usize| codes.code(index).terms.extra.powi(2);
            let points = indexes.zip(points.chunks_exact(padded));
            let points = points.map(|(index, point)| Some((point, extra(index))));
            steps.push(encode_links(&origin, points, block));
        }
        let links = Self { blocks, steps, padded };
        links.tell_apart(codes, rotation).then_some(links)
    }

    /// Whether a search for almost any of the points would begin there.
    fn tell_apart(&self, codes: &Codes, rotation: &Rotation) -> bool {
        let is_found = |index: usize| {
            let query = Query::new(Metric::Euclidean, &decoded(codes, index, rotation)).ok()?;
            let query = CodeQuery::new(&query, rotation, 0.0).ok()?;
            let (estimate, from) = (query.kernels().estimate_links, query.squared_norm());
            let (mut keys, mut all) = ([0.0; BLOCK_ROWS], Vec::new());
            for (_, block, steps) in self.blocks() {
                estimate(block, &query, from, steps, f32::INFINITY, &mut keys);
                all.extend_from_slice(&keys);
            }
            let own = *all.get(index)?;
            Some(all.iter().take(codes.len()).filter(|&&key| key < own).count() < STARTS_MIN)
        };
        let mistaken = (0..codes.len()).filter(|&index| is_found(index) != Some(true)).count();
        mistaken * MISTAKEN <= codes.len()
    }

    /// The blocks, what their numbers are worth, and the number of the first entry point in each.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (usize, &[u8], &LinkSteps)> {
        let blocks = self.blocks.chunks_exact(link_block_bytes(self.padded)).zip(&self.steps);
        (0..).step_by(BLOCK_ROWS).zip(blocks).map(|(first, (block, steps))| (first, block, steps))
    }
}

/// The point that a code stands for, without its additional coordinate.
fn decoded(codes: &Codes, index: usize, rotation: &Rotation) -> Vec<f32> {
    let code = codes.code(index);
    let values = &code.bytes[..rotation.dimensions()];
    values.iter().map(|&value| f32::from(value.cast_signed()) * code.terms.scale).collect()
}

/// Whether the largest of some squared lengths is far beyond most; none of none.
fn has_far(lengths: impl Iterator<Item = f32>) -> Option<bool> {
    let mut lengths: Vec<f32> = lengths.collect();
    lengths.sort_unstable_by(f32::total_cmp);
    Some(*lengths.last()? > FARTHEST * lengths[lengths.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IndexError;
    use crate::hnsw::codes::CodeKernels;
    use crate::random::Random;

    const DIMENSIONS: usize = 200;

    /// So many points, each as many times as long as it was drawn as `length` says of its number.
    fn points(count: usize, length: impl Fn(usize) -> f32) -> Vec<Vec<f32>> {
        let mut random = Random::new(5);
        let mut value = || (random.next() % 2001) as f32 / 1000.0 - 1.0;
        let mut point = |at| (0..DIMENSIONS).map(|_| value() * length(at)).collect();
        (0..count).map(&mut point).collect()
    }

    fn codes(points: &[Vec<f32>], extra: f32) -> Codes {
        let kernels = CodeKernels::new(crate::kernels().expect("a level"));
        let mut codes = Codes::new(DIMENSIONS, true);
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
                // One bit a dimension errs by about the product of the lengths by the root of these.
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
        // The additional coordinate of all hides how much longer one is.
        let mut hidden = points(40, |at| if at == 7 { 1.0 } else { 1e-5 });
        hidden[7].iter_mut().for_each(|value| *value *= 0.1);
        assert!(EntryLinks::new(&codes(&hidden, 1e3), &rotation).is_none());
        let same = codes(&points(40, |_| 0.0), 0.0);
        assert!(EntryLinks::new(&same, &rotation).is_some(), "all lie at the origin");
        // Forty near one place, far from the middle.
        let mut close = points(40, |_| 0.02);
        close.iter_mut().flatten().for_each(|value| *value += 1.0);
        assert!(EntryLinks::new(&codes(&close, 0.0), &rotation).is_none());
    }
}
