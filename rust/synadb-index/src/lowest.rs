//! The lowest of some numbers, as integers of the same order.

use std::collections::BinaryHeap;

/// Adds a number to the `count` lowest; true when they are complete and changed.
pub(crate) fn lowest(heap: &mut BinaryHeap<u32>, count: usize, bits: u32) -> bool {
    if heap.len() < count {
        heap.push(bits);
        return heap.len() == count;
    }
    match heap.peek_mut() {
        Some(mut top) if bits < *top => {
            *top = bits;
            true
        }
        _ => false,
    }
}

/// An integer in the order of the number; what is not a number comes first.
pub(crate) fn ordered(value: f32) -> u32 {
    if value.is_nan() {
        return 0;
    }
    let bits = value.to_bits();
    // Negative numbers lie in descending order of their bits, below the others.
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The number of [`ordered`].
pub(crate) fn unordered(bits: u32) -> f32 {
    if bits == 0 {
        f32::NAN
    } else if bits >> 31 == 1 {
        f32::from_bits(bits & !(1 << 31))
    } else {
        f32::from_bits(!bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_numbers_is_order_of_bits() {
        let values =
            [f32::NEG_INFINITY, f32::MIN, -1.0, -1e-40, -0.0, 0.0, 1e-40, 2.0, f32::INFINITY];
        assert!(values.is_sorted_by_key(|&value| ordered(value)));
        for value in values {
            assert_eq!(unordered(ordered(value)).to_bits(), value.to_bits());
        }
        assert!(ordered(f32::NAN) < ordered(f32::NEG_INFINITY) && unordered(0).is_nan());
    }
}
