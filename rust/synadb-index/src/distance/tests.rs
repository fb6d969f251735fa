use proptest::prelude::*;

use super::*;

/// Unit roundoff of `f32`.
const UNIT: f64 = (f32::EPSILON / 2.0) as f64;
/// Of a bound for `f32` that of two sums in double precision.
const EXACTLY: f64 = 2.0 * f64::EPSILON / f32::EPSILON as f64;
/// Smallest subnormal: the absolute error of one product that underflows.
const UNDERFLOW: f64 = 1.401_298_464_324_817e-45;

/// Higham's gamma: the relative error of a sum after `n` roundings, in any order of summation.
fn gamma(n: usize) -> f64 {
    let rounded = n as f64 * UNIT;
    rounded / (1.0 - rounded)
}

/// The exact inner product and the bound of an `f32` one: each term meets at most one rounding
/// of its product and `n` of the sums.
fn dot_and_bound(a: &[f32], b: &[f32]) -> (f64, f64) {
    let terms = a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y));
    let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
    (sum, gamma(a.len() + 1) * size + a.len() as f64 * UNDERFLOW)
}

/// As above for squared differences: the difference is rounded once and enters twice.
fn squared_and_bound(a: &[f32], b: &[f32]) -> (f64, f64) {
    let terms = a.iter().zip(b).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2));
    let sum: f64 = terms.sum();
    (sum, gamma(a.len() + 3) * sum + a.len() as f64 * UNDERFLOW)
}

fn tables() -> Vec<&'static Kernels> {
    SimdLevel::ALL.into_iter().filter_map(|level| Kernels::for_level(level).ok()).collect()
}

fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn check_pair(table: &Kernels, a: &[f32], b: &[f32]) {
    let (expected, bound) = dot_and_bound(a, b);
    let found = f64::from((table.dot)(a, b));
    assert!((found - expected).abs() <= bound, "{:?} dot {}", table.level, a.len());
    let (expected, bound) = squared_and_bound(a, b);
    let found = f64::from((table.squared_euclidean)(a, b));
    assert!((found - expected).abs() <= bound, "{:?} squared {}", table.level, a.len());
    let same = |found: f64, expected: f64| found.to_bits() == expected.to_bits();
    let (doubles, reference) = (doubles(a), &scalar::KERNELS);
    let (expected, bound) = squared_and_bound(a, b);
    let found = (reference.exact_squared_euclidean)(&doubles, b, a);
    assert!((found - expected).abs() <= bound * EXACTLY, "exact squared {}", a.len());
    let (expected, bound) = dot_and_bound(a, b);
    assert!((exact_dot(a, b) - expected).abs() <= bound * EXACTLY, "exact dot {}", a.len());
    let (dot, square) = (table.exact_dots)(&doubles, b, a);
    assert!(same(dot, exact_dot(a, b)), "{:?} exact", table.level);
    assert!(same(square, exact_dot(b, b)), "{:?} exact square", table.level);
    let found = (table.exact_squared_euclidean)(&doubles, b, a);
    let expected = (reference.exact_squared_euclidean)(&doubles, b, a);
    assert!(same(found, expected), "{:?} exact squared", table.level);
}

fn check_rows(table: &Kernels, query: &[f32], rows: &[f32], stride: usize, count: usize) {
    let mut dots = vec![f32::NAN; count];
    let mut squares = vec![f32::NAN; count];
    (table.dot_rows)(query, rows, stride, count, &mut dots);
    (table.squared_euclidean_rows)(query, rows, stride, count, &mut squares);
    for index in 0..count {
        let row = &rows[index * stride..][..query.len()];
        let (expected, bound) = dot_and_bound(query, row);
        assert!((f64::from(dots[index]) - expected).abs() <= bound, "{:?} dot", table.level);
        let (expected, bound) = squared_and_bound(query, row);
        assert!((f64::from(squares[index]) - expected).abs() <= bound, "{:?}", table.level);
        let mut alone = [0.0];
        (table.dot_rows)(query, row, 0, 1, &mut alone);
        assert_eq!(alone[0].to_bits(), dots[index].to_bits(), "position changes a dot product");
        (table.squared_euclidean_rows)(query, row, 0, 1, &mut alone);
        assert_eq!(alone[0].to_bits(), squares[index].to_bits(), "position changes a distance");
    }
}

#[test]
fn every_length_keeps_the_error_bound() {
    for len in 0..=4096 {
        let (a, b) = (values(len as u64, len + 7), values(!(len as u64), len + 7));
        for table in tables() {
            let (left, right) = (len % 7, (len / 3) % 7);
            check_pair(table, &a[left..left + len], &b[right..right + len]);
        }
    }
}

#[test]
fn rows_of_every_length_keep_the_error_bound() {
    for len in 0..=4096 {
        let (count, stride) = (len % 11, len + len % 5);
        let query = values(5, len + 3);
        let rows = values(len as u64 + 9, count * stride + len + 1);
        for table in tables() {
            check_rows(table, &query[len % 3..][..len], &rows[1..], stride, count);
        }
    }
}

proptest! {
    #[test]
    fn mixed_scales_keep_the_error_bound(
        pairs in prop::collection::vec((-1e18_f32..1e18, -1e-3_f32..1e18), 1..300),
        shift in 0_usize..4,
    ) {
        let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        let shift = shift.min(a.len());
        for table in tables() {
            check_pair(table, &a[shift..], &b[shift..]);
        }
    }
}

#[test]
fn a_level_is_chosen_by_name_or_refused() {
    assert_eq!(choose(Some("scalar")).map(|table| table.level), Ok(SimdLevel::Scalar));
    assert_eq!(choose(None).map(|table| table.level), Ok(best_level()));
    assert_eq!(choose(Some("")).map(|table| table.level), Ok(best_level()));
    for level in SimdLevel::ALL {
        let chosen = choose(Some(level.name())).map(|table| table.level);
        let refused = IndexError::UnsupportedSimdLevel { name: level.name() };
        assert_eq!(chosen, if level.is_supported() { Ok(level) } else { Err(refused) });
    }
    let error = choose(Some("avx3")).err().map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some("SYNADB_SIMD is 'avx3', expected scalar, avx2 or avx512"));
}

#[test]
#[should_panic(expected = "do not hold 3 rows")]
fn a_block_that_is_too_short_is_a_programmer_error() {
    (tables()[0].dot_rows)(&[1.0; 4], &[1.0; 15], 6, 3, &mut [0.0; 3]);
}
