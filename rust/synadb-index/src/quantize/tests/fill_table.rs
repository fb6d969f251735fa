//! Tables of a query for one-bit codes.

use super::{tables, values};

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
        let mut first = None;
        for kernels in tables() {
            let mut table = vec![0; coordinates.len() * 4];
            let found = (kernels.fill_table)(&coordinates, &mut table);
            let worth = [found.step, found.least, found.all].map(|value| value + 0.0);
            // Which of the numbers that are none it is does not matter.
            let bits = worth.map(|value| if value.is_nan() { u32::MAX } else { value.to_bits() });
            let found = (table, bits);
            assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "{:?}", kernels.level);
        }
    }
}
