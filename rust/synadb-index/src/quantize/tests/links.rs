//! Neighbours of a node.

use super::super::bits::{factors, signs};
use super::super::links::numbers;
use super::*;

/// Estimates of the neighbours of a node on every level against the sums in double precision, and
/// their numbers against the factors that the same rows have in a block of their own.
fn check_links(padded: usize, neighbours: usize) -> Result<(), IndexError> {
    let rotation = Rotation::new(padded, 5);
    let node = Anchor::new(values(11, padded));
    let mut rows: Vec<_> = (0..neighbours).map(|slot| values(slot as u64, padded)).collect();
    // One lies where the node does, one as good as there, and one of slot 9 is missing.
    rows[3] = node.vector().to_vec();
    rows[4] = node.vector().iter().map(|value| value + f32::MIN_POSITIVE).collect();
    let extra = |slot: usize| slot as f32 * 0.25;
    let of = |slot: usize| (slot != 9).then_some((&rows[slot][..], extra(slot)));
    let mut block = vec![0xa5; link_block_bytes(padded)];
    let steps = encode_links(&node, (0..neighbours).map(of), &mut block);
    let mut alone = vec![0; bit_block_bytes(padded)];
    for (slot, row) in rows.iter().enumerate().filter(|(slot, _)| *slot != 9) {
        encode_bits(Space::Distance, &node, row, slot, &mut alone);
        let (add, slope) = numbers(&block, padded, slot);
        let factors = factors(&alone, padded, slot);
        for (step, number, value) in
            [(steps.add, add, factors.add + extra(slot)), (steps.slope, slope, factors.slope)]
        {
            // Half a step, and what single precision adds to 32,767 of them.
            let found = f64::from(step) * f64::from(number);
            assert!((found - f64::from(value)).abs() <= 0.505 * f64::from(step), "{slot}");
        }
    }
    assert_eq!(block[..4 * padded], alone[..4 * padded]);
    let (from, vector) = (7.5_f32, values(99, padded));
    let mut expected: Option<(u32, [f32; BLOCK_ROWS])> = None;
    for table in tables() {
        let query =
            Query::with_kernels(Metric::Euclidean, &vector, Kernels::for_level(table.level)?)?;
        let prepared = CodeQuery::new(&query, &rotation, 0.0)?;
        let (mut keys, all) = ([f32::NAN; BLOCK_ROWS], f32::INFINITY);
        let mask = (table.estimate_links)(&block, &prepared, from, &steps, all, &mut keys);
        assert_eq!(mask, u32::MAX);
        let limit = keys[7];
        let mask = (table.estimate_links)(&block, &prepared, from, &steps, limit, &mut keys);
        for (slot, &key) in keys.iter().enumerate() {
            assert_eq!(mask >> slot & 1 == 1, key < limit, "{slot}");
            let (add, slope) = numbers(&block, padded, slot);
            let (add, slope) = (steps.add * f32::from(add), steps.slope * f32::from(slope));
            let inner = dot(&signs(&block, padded, slot), prepared.rotated());
            let exact = f64::from(from) + f64::from(add) + f64::from(slope) * inner;
            // As of a block of rows.
            let spread: f64 = prepared.rotated().iter().map(|&q| f64::from(q.abs())).sum();
            let sum_error =
                padded as f64 / 8.0 * f64::from(prepared.scale) + 2.0 * gamma(padded + 5) * spread;
            let slope = f64::from(slope.abs());
            let size = f64::from(from) + f64::from(add.abs()) + slope * 2.0 * spread;
            let error = (f64::from(key) - exact).abs();
            assert!(error <= slope * sum_error + gamma(6) * size, "{padded} {slot}: {error}");
        }
        assert_eq!(keys[9], from, "what is missing is as far as the node");
        let first = expected.get_or_insert((mask, keys));
        assert_eq!(*first, (mask, keys), "{:?}", table.level);
        // A node that is nowhere has no estimates, which pass every limit.
        let nowhere = (table.estimate_links)(&block, &prepared, f32::NAN, &steps, limit, &mut keys);
        assert_eq!(nowhere, u32::MAX);
    }
    Ok(())
}

#[test]
fn neighbours_of_every_length_keep_the_error_bound_on_every_level() -> Result<(), IndexError> {
    for padded in padded_lengths() {
        check_links(padded, if padded % 128 == 0 { 32 } else { 13 })?;
    }
    Ok(())
}

#[test]
fn neighbours_that_single_precision_cannot_hold_are_as_far_as_the_node() {
    let node = Anchor::origin(64);
    for (size, extra) in [(1e30, 0.5), (1e-30, 0.5), (0.0, 0.5), (0.0, f32::INFINITY)] {
        let (row, mut block) = ([size; 64], vec![0; link_block_bytes(64)]);
        let steps = encode_links(&node, [Some((&row[..], extra))].into_iter(), &mut block);
        let (add, slope) = numbers(&block, 64, 0);
        assert_eq!((add, slope), (i16::MAX, 0), "{size} {extra}");
        let known = steps.add * f32::from(add);
        assert!(known == extra || (known / extra - 1.0).abs() < 1e-4, "{size} {extra}: {known}");
    }
}
