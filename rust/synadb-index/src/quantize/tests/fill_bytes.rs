//! Coordinates in bytes: those of a query, and those of the points of a graph.

use super::{CodeKernels, tables, values};

const LARGEST: f64 = 127.0;

/// A step as it is, and one with fewer digits that no coordinate is beyond.
const STEPS: [fn(f32) -> f32; 2] =
    [|step| step, |step| f32::from_bits(((step.to_bits() >> 12) + 1) << 12)];

fn filled(kernels: &CodeKernels, coordinates: &[f32], step: fn(f32) -> f32) -> (Vec<i8>, f32) {
    // What no kernel writes.
    let mut bytes = vec![-128; coordinates.len()];
    let step = (kernels.fill_bytes)(coordinates, step, &mut bytes);
    (bytes, step)
}

/// The bytes, which are the same on every level, and the step.
fn of_every_level(coordinates: &[f32], step: fn(f32) -> f32) -> (Vec<i8>, f32) {
    let mut first: Option<(Vec<i8>, f32)> = None;
    for kernels in tables() {
        let (bytes, step) = filled(kernels, coordinates, step);
        let (first_bytes, first_step) = first.get_or_insert_with(|| (bytes.clone(), step));
        let case = (kernels.level, coordinates.len());
        assert_eq!((&*first_bytes, first_step.to_bits()), (&bytes, step.to_bits()), "{case:?}");
    }
    first.expect("every processor has the scalar level")
}

/// Points of a graph have any length, and what is rotated a padded one.
#[test]
fn bytes_of_every_length_are_within_half_a_step_on_every_level() {
    for len in 1..=4096 {
        let coordinates = values(len as u64, len);
        let largest = coordinates.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        for (coarser, make) in STEPS.into_iter().enumerate() {
            let (bytes, step) = of_every_level(&coordinates, make);
            assert_eq!(step, make(largest / 127.0), "{len}");
            for (&byte, &value) in bytes.iter().zip(&coordinates) {
                let steps = f64::from(value) / f64::from(step);
                // Three roundings of a number of at most 127.
                let error = (f64::from(byte) - steps).abs();
                assert!(error <= 0.5 + 1e-4, "{len} {value}: {byte} and {steps}");
                assert!(f64::from(byte).abs() <= LARGEST, "{len} {value}: {byte}");
            }
            let most = bytes.iter().map(|byte| i32::from(*byte).abs()).max();
            assert!(coarser == 1 || most == Some(127), "{len}: all of the range, and {most:?}");
        }
    }
}

#[test]
fn bytes_have_the_same_bits_on_every_level_whatever_the_coordinates() {
    // No multiple of a register's width.
    let smooth = values(7, 203);
    let one_of = |value: f32| (0..203).map(|at| if at == 77 { value } else { 0.0 }).collect();
    let sized = |size: f32| smooth.iter().map(|value| value * size).collect();
    // Halves of a step are rounded to the even number.
    let halves = (0..203).map(|at| if at == 0 { 127.0 } else { at as f32 / 2.0 - 50.0 }).collect();
    let mut all: Vec<Vec<f32>> = vec![vec![0.0; 203], vec![-0.0; 203], halves, Vec::new()];
    all.extend([sized(1e-38), sized(1e-44), sized(1e37), one_of(3.0), one_of(-3.0)]);
    all.extend([one_of(f32::MAX), one_of(f32::INFINITY), one_of(f32::NAN)]);
    for coordinates in &all {
        for step in STEPS {
            of_every_level(coordinates, step);
        }
    }
    let (bytes, step) = of_every_level(&all[2], STEPS[0]);
    assert_eq!((step, &bytes[1..6]), (1.0, &[-50, -49, -48, -48, -48][..]));
    let (bytes, _) = of_every_level(&all[0], STEPS[0]);
    assert!(bytes.iter().all(|&byte| byte == 0), "a step of nothing has no inverse");
}
