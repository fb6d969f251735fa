use proptest::prelude::*;

use super::*;

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<f64>().prop_map(Value::Float),
        any::<i64>().prop_map(Value::Int),
        any::<String>().prop_map(Value::Text),
        proptest::collection::vec(any::<u8>(), 0..2000).prop_map(Value::Bytes),
        proptest::collection::vec(0u8..2, 0..2000).prop_map(Value::Bytes),
        proptest::collection::vec(-1e9f32..1e9, 0..40).prop_map(|v| {
            let dimensions = v.len() as u16;
            Value::Vector(v, dimensions)
        }),
    ]
}

proptest! {
    #[test]
    fn codec_is_exact(value in values(), compress: bool) {
        let borrowed = value.borrowed();
        let encoded = borrowed.encode(compress);
        let decoded = decode(encoded.tag, encoded.flags, encoded.payload.bytes()).expect("decodes");
        match (&value, decoded.to_owned()) {
            (Value::Float(a), Value::Float(b)) => prop_assert_eq!(a.to_bits(), b.to_bits()),
            (a, b) => prop_assert_eq!(a, &b),
        }
    }

    #[test]
    fn hostile_bytes_are_refused(tag in 0u8..16, flags: u8, bytes: Vec<u8>) {
        if let Some(value) = decode(tag, flags & COMPRESSED, &bytes) {
            prop_assert!(!value.type_name().is_empty());
        }
    }
}
