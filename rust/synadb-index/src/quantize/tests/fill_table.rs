//! Tables of a query for one-bit codes.

use super::{CodeKernels, gamma, padded_lengths, tables, values};

/// Numbers of a table up to which a group of coordinates reaches.
const LARGEST: f64 = 63.0;

/// A table, the bits of what one of its numbers is worth, of the smallest sums and of all.
fn filled(kernels: &CodeKernels, coordinates: &[f32]) -> (Vec<u8>, [u32; 3]) {
    let mut table = vec![0; coordinates.len() * 4];
    let found = (kernels.fill_table)(coordinates, &mut table);
    let worth = [found.step, found.least, found.all].map(|value| value + 0.0);
    // Which of the numbers that are none it is does not matter.
    let bits = worth.map(|value| if value.is_nan() { u32::MAX } else { value.to_bits() });
    (table, bits)
}

/// The same on every level.
fn of_every_level(coordinates: &[f32]) -> (Vec<u8>, [u32; 3]) {
    let mut first = None;
    for kernels in tables() {
        let found = filled(kernels, coordinates);
        let first = first.get_or_insert_with(|| found.clone());
        assert_eq!(*first, found, "{:?} {}", kernels.level, coordinates.len());
    }
    first.expect("every processor has the scalar level")
}

#[test]
fn tables_have_the_same_bits_on_every_level_whatever_the_coordinates() {
    let smooth = values(7, 192);
    let one_of = |value: f32| (0..192).map(|at| if at == 77 { value } else { 0.0 }).collect();
    let negative = smooth.iter().map(|value| -value.abs()).collect();
    let zeros = (0..192).map(|at| if at % 3 == 0 { -0.0 } else { 0.0 }).collect();
    let sized = |size: f32| smooth.iter().map(|value| value * size).collect();
    let mut all: Vec<Vec<f32>> = vec![negative, zeros, sized(1.0), sized(1e-38), sized(1e-44)];
    all.extend([sized(1e37), one_of(3.0), one_of(-3.0), one_of(f32::MAX), one_of(f32::INFINITY)]);
    all.push(one_of(f32::NAN));
    for coordinates in all {
        of_every_level(&coordinates);
    }
}

#[test]
fn tables_of_every_length_hold_the_sums_of_subsets_on_every_level() {
    for padded in padded_lengths() {
        let coordinates = values(padded as u64, padded);
        let (table, bits) = of_every_level(&coordinates);
        let [step, least, all] = bits.map(|bits| f64::from(f32::from_bits(bits)));
        let (mut smallest, mut widest) = (0.0, 0.0_f64);
        for (group, numbers) in coordinates.chunks(4).zip(table.chunks(16)) {
            let negative: f64 = group.iter().map(|&value| f64::from(value.min(0.0))).sum();
            for (subset, &number) in numbers.iter().enumerate() {
                let of_subset = group.iter().enumerate().filter(|(at, _)| subset >> at & 1 == 1);
                let sum: f64 = of_subset.map(|(_, &value)| f64::from(value)).sum();
                let steps = (sum - negative) / step;
                // A few roundings of a number of at most 63.
                let error = (f64::from(number) - steps).abs();
                assert!(error <= 0.5 + 1e-4, "{padded} {group:?} {subset}: {number} and {steps}");
            }
            smallest += negative;
            widest = widest.max(group.iter().map(|&value| f64::from(value.abs())).sum());
        }
        let sum: f64 = coordinates.iter().map(|&value| f64::from(value)).sum();
        let size: f64 = coordinates.iter().map(|&value| f64::from(value.abs())).sum();
        let bound = gamma(padded) * size;
        assert!((least - smallest).abs() <= bound, "{padded}: {least} and {smallest}");
        assert!((all - sum).abs() <= bound, "{padded}: {all} and {sum}");
        assert!((step * LARGEST - widest).abs() <= gamma(6) * widest, "{padded}: {step}");
    }
}
