//! Codes and kernels of every level against double precision.

mod fill_bytes;
mod fill_table;
mod links;

use super::bits::{factors, signs};
use super::*;
use crate::{IndexError, Kernels, Metric, Query, SimdLevel, inverse_norm};

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Euclidean, Metric::DotProduct];
/// Unit roundoff of `f32`.
const UNIT: f64 = (f32::EPSILON / 2.0) as f64;

/// Higham's gamma: the relative error of a sum after `n` roundings.
fn gamma(n: usize) -> f64 {
    let rounded = n as f64 * UNIT;
    rounded / (1.0 - rounded)
}

fn tables() -> Vec<&'static CodeKernels> {
    SimdLevel::ALL.into_iter().filter_map(|level| CodeKernels::for_level(level).ok()).collect()
}

fn scalar() -> &'static CodeKernels {
    CodeKernels::for_level(SimdLevel::Scalar).unwrap()
}

/// About normal numbers: sums of four uniform ones.
fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next() + next() + next() + next()).collect()
}

fn padded_lengths() -> impl Iterator<Item = usize> {
    (64..=4096).step_by(64).chain([8320, 8384])
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// The key of a row in double precision.
fn key(query: &Query, row: &[f32]) -> f64 {
    query.exact_key(row)
}

fn scale(metric: Metric, row: &[f32]) -> f32 {
    if metric == Metric::Cosine { inverse_norm(row) } else { 1.0 }
}

fn rotated(rotation: &Rotation, metric: Metric, row: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; rotation.padded()];
    rotation.rotate(scalar(), row, scale(metric, row), &mut out);
    out
}

#[test]
fn a_rotation_keeps_inner_products_on_every_level() {
    for dimensions in 1..=4096 {
        let rotation = Rotation::new(dimensions, 7);
        let (a, b) = (values(1, dimensions), values(2, dimensions));
        let mut first: Option<Vec<f32>> = None;
        for table in tables() {
            let (mut x, mut y) = (vec![f32::NAN; rotation.padded()], vec![0.0; rotation.padded()]);
            rotation.rotate(table, &a, 0.5, &mut x);
            rotation.rotate(table, &b, 1.0, &mut y);
            // Each of four rounds rounds a coordinate once a doubling and once by its sign.
            let roundings = 2 * 4 * (rotation.padded().ilog2() as usize + 2);
            let size = (dot(&a, &a) * dot(&b, &b)).sqrt();
            let error = (dot(&x, &y) - 0.5 * dot(&a, &b)).abs();
            assert!(error <= gamma(roundings) * size, "{dimensions}: {error}");
            assert_eq!(*first.get_or_insert_with(|| x.clone()), x, "{:?}", table.level);
        }
    }
}

#[test]
fn a_rotation_belongs_to_its_seed_and_spreads_energy() {
    assert_eq!(Rotation::new(100, 3), Rotation::new(100, 3));
    assert_ne!(Rotation::new(100, 3), Rotation::new(100, 4));
    for dimensions in [64, 384, 784, 1000] {
        let rotation = Rotation::new(dimensions, 3);
        for axis in [0, dimensions / 2, dimensions - 1] {
            let mut unit = vec![0.0; dimensions];
            unit[axis] = 1.0;
            let largest = rotated(&rotation, Metric::Euclidean, &unit)
                .into_iter()
                .fold(0.0_f32, |most, value| most.max(value.abs()));
            assert!(largest < 0.5, "{dimensions} {axis}: {largest}");
        }
    }
}

/// Estimates of one block on every level against the sums in double precision.
fn check_block(padded: usize, rows: usize, metric: Metric) -> Result<(), IndexError> {
    let rotation = Rotation::new(padded, 5);
    let space = Space::of(metric);
    let anchor = Anchor::new(values(11, padded).iter().map(|value| value * 0.1).collect());
    let mut block = vec![0xa5; bit_block_bytes(padded)];
    clear_bits(&mut block);
    for slot in 0..rows {
        encode_bits(space, &anchor, &values(slot as u64, padded), slot, &mut block);
    }
    let vector = values(99, padded);
    let mut expected: Option<(u32, Estimates)> = None;
    for table in tables() {
        let query = Query::with_kernels(metric, &vector, Kernels::for_level(table.level)?)?;
        let prepared = CodeQuery::new(&query, &rotation, 2.0)?;
        let terms = prepared.terms(&anchor);
        let mut found = Estimates::default();
        (table.estimate_bits)(&block, &prepared, &terms, f32::INFINITY, &mut found);
        let limit = found.lower[7];
        let mask = (table.estimate_bits)(&block, &prepared, &terms, limit, &mut found);
        for slot in 0..BLOCK_ROWS {
            assert_eq!(mask >> slot & 1 == 1, found.lower[slot] <= limit, "{slot}");
            let row = factors(&block, padded, slot);
            let inner = dot(&signs(&block, padded, slot), prepared.rotated());
            let known = f64::from(terms.add) + f64::from(terms.gain) * f64::from(row.add);
            let exact = known + f64::from(row.slope) * inner;
            // Half a step in each group, twice; the sums of the query; five roundings of the key.
            let spread: f64 = prepared.rotated().iter().map(|&q| f64::from(q.abs())).sum();
            let sum_error =
                padded as f64 / 8.0 * f64::from(prepared.scale) + 2.0 * gamma(padded + 5) * spread;
            let size = f64::from(terms.add.abs())
                + f64::from((terms.gain * row.add).abs())
                + f64::from(row.slope.abs()) * 2.0 * spread;
            let bound = f64::from(row.slope.abs()) * sum_error + gamma(6) * size;
            let error = (f64::from(found.keys[slot]) - exact).abs();
            assert!(error <= bound, "{:?} {padded} {slot}: {error} {bound}", table.level);
        }
        let (first_mask, first) = expected.get_or_insert_with(|| (mask, found.clone()));
        assert_eq!(*first_mask, mask, "{:?}", table.level);
        assert_eq!(first.keys, found.keys, "{:?}", table.level);
        assert_eq!(first.lower, found.lower, "{:?}", table.level);
    }
    Ok(())
}

#[test]
fn bits_of_every_length_keep_the_error_bound_on_every_level() -> Result<(), IndexError> {
    for (index, padded) in padded_lengths().enumerate() {
        check_block(padded, if padded % 128 == 0 { 32 } else { 13 }, METRICS[index % 3])?;
    }
    Ok(())
}

#[test]
fn sums_of_the_largest_table_numbers_do_not_run_over() -> Result<(), IndexError> {
    for padded in padded_lengths() {
        let query = Query::new(Metric::Euclidean, &vec![1.0; padded])?;
        let mut block = vec![0xff; bit_block_bytes(padded)];
        let sums_begin = 4 * padded;
        block[sums_begin..].fill(0);
        for slot in 0..BLOCK_ROWS {
            block[sums_begin + 128 + slot * 4..][..4].copy_from_slice(&1_f32.to_le_bytes());
        }
        let rotation = Rotation::new(padded, 5);
        for table in tables() {
            let mut prepared = CodeQuery::new(&query, &rotation, 2.0)?;
            prepared.table.fill(63);
            (prepared.scale, prepared.offset) = (1.0, 0.0);
            let mut found = Estimates::default();
            (table.estimate_bits)(&block, &prepared, &Terms::default(), 0.0, &mut found);
            assert_eq!(found.keys, [(63 * padded / 4) as f32; BLOCK_ROWS], "{:?}", table.level);
        }
    }
    Ok(())
}

#[test]
fn integer_dots_are_exact_on_every_level() {
    let byte = |seed: u64, len: usize| -> Vec<u8> {
        values(seed, len).iter().map(|value| (value * 1e6) as i64 as u8).collect()
    };
    for padded in padded_lengths() {
        // Rows by the four and alone, at distances that leave them unaligned.
        let (count, stride) = (padded / 64 % 8, padded + 5);
        let mut query: Vec<i8> =
            byte(1, padded).into_iter().map(|value| (value as i8).max(-127)).collect();
        query[..8].fill(127);
        query[8..16].fill(-127);
        let mut codes: Vec<i8> =
            byte(2, count * stride + padded).into_iter().map(|value| value as i8).collect();
        codes[..16].fill(-128);
        let nibbles: Vec<u8> = codes.iter().map(|&code| code as u8).collect();
        let mut grid = vec![0; padded];
        for table in tables() {
            let mut found = vec![0; count];
            (table.dot_bytes)(&query, &codes, stride, &mut found);
            for (index, &found) in found.iter().enumerate() {
                let row = &codes[index * stride..];
                let exact: i32 =
                    query.iter().zip(row).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
                assert_eq!(found, exact, "{:?} {padded}", table.level);
            }
            let mut found = vec![0; count];
            (table.dot_nibbles)(&query, &nibbles, stride, &mut found);
            for (index, &found) in found.iter().enumerate() {
                unpack_nibbles(&nibbles[index * stride..][..padded / 2], &mut grid);
                let nibble = |grid: i8| (i32::from(grid) + 15) / 2;
                let exact: i32 =
                    query.iter().zip(&grid).map(|(&a, &b)| i32::from(a) * nibble(b)).sum();
                assert_eq!(found, exact, "{:?} {padded}", table.level);
            }
        }
    }
}

#[test]
fn integer_dots_of_extremes_do_not_overflow() {
    for padded in padded_lengths() {
        for (query, row) in [(127, 127), (127, -128), (-127, 127), (-127, -128)] {
            for table in tables() {
                let mut found = [0; 5];
                (table.dot_bytes)(&vec![query; padded], &vec![row; 5 * padded], padded, &mut found);
                let exact = i32::from(query) * i32::from(row) * padded as i32;
                assert_eq!(found, [exact; 5], "{:?} {padded} {query} {row}", table.level);
            }
        }
    }
}

#[test]
#[should_panic(expected = "do not hold 3 codes")]
fn rows_that_are_too_short_are_a_programmer_error() {
    let kernels = CodeKernels::up_to(SimdLevel::Avx512);
    (kernels.dot_bytes)(&[0; 64], &[0; 191], 64, &mut [0; 3]);
}

/// Estimates of a row by all three kinds of codes.
fn estimates(code: &CodeQuery, anchor: &Anchor, space: Space, row: &[f32]) -> [Estimate; 3] {
    estimates_at(code, &code.terms(anchor), anchor, space, row)
}

fn estimates_at(
    code: &CodeQuery,
    terms: &Terms,
    anchor: &Anchor,
    space: Space,
    row: &[f32],
) -> [Estimate; 3] {
    let kernels = code.kernels();
    let mut block = vec![0; bit_block_bytes(row.len())];
    encode_bits(space, anchor, row, 17, &mut block);
    let mut found = Estimates::default();
    (kernels.estimate_bits)(&block, code, terms, f32::INFINITY, &mut found);
    let bits = Estimate { key: found.keys[17], lower: found.lower[17] };
    let mut bytes = vec![0; row.len()];
    let mut nibbles = vec![0; nibbles_bytes(row.len())];
    let mut sum = [0];
    let of_nibbles = encode_nibbles(space, anchor, row, &mut nibbles);
    (kernels.dot_nibbles)(code.bytes().0, &nibbles, 0, &mut sum);
    let nibbles = code.estimate_nibbles(sum[0], &of_nibbles, terms);
    let of_bytes = encode_bytes(space, anchor, row, &mut bytes);
    (kernels.dot_bytes)(code.bytes().0, &bytes, 0, &mut sum);
    [bits, nibbles, code.estimate_bytes(sum[0], &of_bytes, terms)]
}

/// Errors of estimates over many rows, for each kind of code.
#[derive(Debug, Default)]
struct Errors {
    bias: [f64; 3],
    squares: [f64; 3],
    /// Mean distance of estimate and lower bound.
    gap: [f64; 3],
    /// Rows whose bound exceeds their key.
    beyond: [usize; 3],
}

const CASE_ROWS: u64 = 1000;

/// Errors for rows about a center that is `far` times as far away as they are from it.
fn errors(
    dimensions: usize,
    metric: Metric,
    is_common: bool,
    far: f32,
) -> Result<Errors, IndexError> {
    let center: Vec<f32> = values(4, dimensions).iter().map(|x| x * far).collect();
    let about = |seed: u64| -> Vec<f32> {
        values(seed, dimensions).iter().zip(&center).map(|(x, m)| x + m).collect()
    };
    let vector = if far > 1.0 { about(5) } else { values(5, dimensions) };
    let query = Query::new(metric, &vector)?;
    let mut errors = Errors::default();
    for seed in 0..CASE_ROWS {
        // Rows that shared a rotation would share the errors of the query's rounding.
        let rotation = Rotation::new(dimensions, seed);
        let point = rotated(&rotation, metric, &center);
        let anchor = if is_common { Anchor::common(point) } else { Anchor::new(point) };
        let mut code = CodeQuery::new(&query, &rotation, 2.0)?;
        let terms = match is_common {
            true => code.reset_at(&query, &rotation, &anchor, 2.0)?,
            false => code.terms(&anchor),
        };
        let row = about(100 + seed);
        let turned = rotated(&rotation, metric, &row);
        let found = estimates_at(&code, &terms, &anchor, Space::of(metric), &turned);
        let exact = key(&query, &row);
        for (kind, estimate) in found.into_iter().enumerate() {
            let error = f64::from(estimate.key) - exact;
            errors.bias[kind] += error / CASE_ROWS as f64;
            errors.squares[kind] += error * error / CASE_ROWS as f64;
            errors.gap[kind] += f64::from(estimate.key - estimate.lower) / CASE_ROWS as f64;
            errors.beyond[kind] += usize::from(f64::from(estimate.lower) > exact);
        }
    }
    Ok(errors)
}

#[test]
fn estimates_have_no_bias_and_keep_their_bound() -> Result<(), IndexError> {
    for dimensions in [2, 30, 64, 100, 384, 784] {
        for (metric, is_common) in METRICS.into_iter().flat_map(|m| [(m, false), (m, true)]) {
            let case = format!("{metric:?} {dimensions} {is_common}");
            let found = errors(dimensions, metric, is_common, 1.0)?;
            let deviation = found.squares.map(f64::sqrt);
            println!("{case}: {deviation:?} {found:?}");
            for (kind, deviation) in deviation.into_iter().enumerate() {
                assert!(found.bias[kind].abs() <= 0.25 * deviation, "{case} {kind}");
                // Errors in few dimensions have heavier tails.
                let most = if dimensions >= 64 { 50 } else { 100 };
                assert!(found.beyond[kind] <= most, "{case} {kind}: {}", found.beyond[kind]);
                // A bound that lets everything pass would be worth nothing.
                assert!(found.gap[kind] <= 6.0 * deviation, "{case} {kind}");
            }
            if dimensions >= 64 {
                assert!(deviation[1] < deviation[0] / 5.0, "{case}: {deviation:?}");
                assert!(deviation[2] < deviation[1] / 8.0, "{case}: {deviation:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_common_anchor_far_away_costs_no_digits() -> Result<(), IndexError> {
    for metric in METRICS {
        let (near, far) = (errors(384, metric, true, 1.0)?, errors(384, metric, true, 100.0)?);
        let apart = errors(384, metric, false, 100.0)?;
        println!("{metric:?} {near:?} {far:?} {apart:?}");
        for kind in 0..2 {
            assert!(far.beyond[kind] <= 50, "{metric:?} {kind}: {}", far.beyond[kind]);
            assert!(far.gap[kind] <= 6.0 * far.squares[kind].sqrt(), "{metric:?} {kind}");
            assert!(far.gap[kind] * 2.0 <= apart.gap[kind], "{metric:?} {kind}");
        }
    }
    Ok(())
}

#[test]
fn a_row_at_the_anchor_and_a_zero_row_have_exact_keys() -> Result<(), IndexError> {
    let dimensions = 100;
    for metric in METRICS {
        let rotation = Rotation::new(dimensions, 1);
        let query = Query::new(metric, &values(5, dimensions))?;
        let code = CodeQuery::new(&query, &rotation, 2.0)?;
        let row = values(6, dimensions);
        let turned = rotated(&rotation, metric, &row);
        let anchor = Anchor::new(turned.clone());
        for found in estimates(&code, &anchor, Space::of(metric), &turned) {
            assert!((f64::from(found.key) - key(&query, &row)).abs() < 1e-3, "{metric:?}");
        }
        let zero = vec![0.0; dimensions];
        let turned = rotated(&rotation, metric, &zero);
        for found in estimates(&code, &Anchor::origin(128), Space::of(metric), &turned) {
            assert!((f64::from(found.key) - key(&query, &zero)).abs() < 1e-3, "{metric:?}");
            assert!(f64::from(found.key - found.lower).abs() < 1e-3);
        }
    }
    Ok(())
}

#[test]
fn a_zero_query_is_estimated_exactly() -> Result<(), IndexError> {
    for metric in [Metric::Cosine, Metric::DotProduct] {
        let rotation = Rotation::new(64, 1);
        let query = Query::new(metric, &[0.0; 64])?;
        let code = CodeQuery::new(&query, &rotation, 2.0)?;
        assert!(code.is_reliable());
        let anchor = Anchor::new(values(1, 64));
        for found in estimates(&code, &anchor, Space::Product, &values(2, 64)) {
            assert_eq!(f64::from(found.key), key(&query, &values(2, 64)));
        }
    }
    Ok(())
}

#[test]
fn a_row_beyond_f32_passes_every_limit() -> Result<(), IndexError> {
    let rotation = Rotation::new(64, 1);
    for metric in METRICS {
        let query = Query::new(metric, &values(5, 64))?;
        let code = CodeQuery::new(&query, &rotation, 2.0)?;
        for size in [1e-25, 1e25, f32::MAX, f32::NAN] {
            let row = vec![size; 64];
            let anchor = Anchor::origin(64);
            for found in estimates(&code, &anchor, Space::of(metric), &row) {
                assert!(found.lower.is_nan(), "{metric:?} {size}");
            }
            let mut block = vec![0; bit_block_bytes(64)];
            encode_bits(Space::of(metric), &anchor, &row, 3, &mut block);
            for table in tables() {
                let (terms, mut out) = (code.terms(&anchor), Estimates::default());
                let mask =
                    (table.estimate_bits)(&block, &code, &terms, f32::NEG_INFINITY, &mut out);
                assert_eq!(mask, 1 << 3, "{:?}", table.level);
            }
        }
        for size in [1e-25, 1e25, f32::MAX] {
            let query = Query::new(Metric::Euclidean, &[size; 64])?;
            assert!(!CodeQuery::new(&query, &rotation, 2.0)?.is_reliable());
        }
    }
    Ok(())
}

#[test]
fn two_codes_in_eight_bits_give_the_distance_of_their_rows() {
    let (a, b) = (values(1, 384), values(2, 384));
    let anchor = Anchor::origin(384);
    let (mut left, mut right) = (vec![0; 384], vec![0; 384]);
    let first = encode_bytes(Space::Distance, &anchor, &a, &mut left);
    let second = encode_bytes(Space::Distance, &anchor, &b, &mut right);
    for table in tables() {
        let mut sum = [0];
        (table.dot_bytes)(&left, &right, 0, &mut sum);
        let found = first.add + second.add - first.slope * second.slope / 2.0 * sum[0] as f32;
        let exact = dot(&a, &a) + dot(&b, &b) - 2.0 * dot(&a, &b);
        assert!((f64::from(found) / exact - 1.0).abs() < 2e-3, "{found} {exact}");
    }
}

#[test]
fn a_slot_is_coded_whatever_it_held() {
    let (anchor, row) = (Anchor::origin(64), values(3, 64));
    let (mut clean, mut dirty) = (vec![0; bit_block_bytes(64)], vec![0xff; bit_block_bytes(64)]);
    for slot in 0..BLOCK_ROWS {
        encode_bits(Space::Distance, &anchor, &row, slot, &mut clean);
        encode_bits(Space::Distance, &anchor, &row, slot, &mut dirty);
    }
    assert_eq!(clean, dirty);
    assert!(
        (0..BLOCK_ROWS)
            .all(|slot| signs(&clean, 64, slot)
                == row.iter().map(|x| x.signum()).collect::<Vec<_>>())
    );
}

#[test]
fn a_copied_code_is_what_coding_the_row_there_gives() {
    let anchor = Anchor::new(values(7, 64));
    let coded = |order: &[usize]| {
        let mut block = vec![0xa5; bit_block_bytes(64)];
        for (slot, &row) in order.iter().enumerate() {
            encode_bits(Space::Distance, &anchor, &values(row as u64, 64), slot, &mut block);
        }
        block
    };
    let straight: Vec<usize> = (0..BLOCK_ROWS).collect();
    // Every slot goes to another one, over the whole order.
    for step in [1, 5, 8, 15, 16, 31] {
        let order: Vec<usize> = straight.iter().map(|slot| (slot + step) % BLOCK_ROWS).collect();
        let (from, mut to) = (coded(&straight), vec![0x5a; bit_block_bytes(64)]);
        for (slot, &row) in order.iter().enumerate() {
            copy_bits(64, (&from, row), &mut to, slot);
        }
        assert_eq!(to, coded(&order), "{step}");
    }
}

#[test]
#[should_panic(expected = "the block is for rows of this length")]
fn a_block_of_another_length_is_a_programmer_error() {
    let rotation = Rotation::new(64, 1);
    let query = Query::new(Metric::Euclidean, &[1.0; 64]).unwrap();
    let code = CodeQuery::new(&query, &rotation, 2.0).unwrap();
    let block = vec![0; bit_block_bytes(128)];
    (code.kernels().estimate_bits)(
        &block,
        &code,
        &Terms::default(),
        0.0,
        &mut Estimates::default(),
    );
}
