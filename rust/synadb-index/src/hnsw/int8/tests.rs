use super::*;

fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Extremes are frequent: they are what overflows.
        match state >> 60 {
            0..3 => 127_i8,
            3..6 => -127,
            _ => (state >> 40) as i8,
        }
    };
    (0..count).map(|_| next().max(-127).cast_unsigned()).collect()
}

#[test]
fn every_level_gives_the_sums_of_integers() {
    for len in (0..=4096).step_by(CODE_ALIGN) {
        let (count, stride) = (len / CODE_ALIGN % 7, len + len / CODE_ALIGN % 3);
        let code = &bytes(len as u64, len + 1)[1..];
        let rows = &bytes(!(len as u64), count * stride + len + 1)[1..];
        let expected: Vec<i64> = (0..count)
            .map(|index| {
                let row = &rows[index * stride..][..len];
                let pairs = code.iter().zip(row);
                pairs.map(|(&x, &y)| i64::from(x as i8) * i64::from(y as i8)).sum()
            })
            .collect();
        for level in SimdLevel::ALL {
            let mut found = vec![i32::MIN; count];
            (int8_kernels(level).dot_rows)(code, rows, stride, &mut found);
            let found: Vec<i64> = found.into_iter().map(i64::from).collect();
            assert_eq!(found, expected, "{level:?} {len}");
        }
    }
}

#[test]
#[should_panic(expected = "do not hold 3 codes")]
fn rows_that_are_too_short_are_a_programmer_error() {
    (int8_kernels(SimdLevel::Scalar).dot_rows)(&[0; 64], &[0; 191], 64, &mut [0; 3]);
}
