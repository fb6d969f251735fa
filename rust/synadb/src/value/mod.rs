//! Typed values and their codec.

use std::borrow::Cow;

use synadb_storage::record::COMPRESSED;
use synadb_types::limits::SMALL_PAYLOAD_BYTES_MAX;

/// One typed datum.
#[derive(Debug, Clone, PartialEq)]
#[doc(alias = "Atom")]
pub enum Value {
    /// Absence of a value, stored.
    Null,
    /// 64-bit floating point.
    Float(f64),
    /// 64-bit signed integer.
    Int(i64),
    /// UTF-8 text.
    Text(String),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// An embedding and its number of dimensions.
    Vector(Vec<f32>, u16),
}

/// A value borrowed from the caller or from the mapped log.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // As in `Value`.
pub enum ValueRef<'a> {
    Null,
    Float(f64),
    Int(i64),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    Vector(Cow<'a, [f32]>),
}

const NULL: u8 = 0;
const FLOAT: u8 = 1;
const INT: u8 = 2;
const TEXT: u8 = 3;
const BYTES: u8 = 4;
pub(crate) const VECTOR: u8 = 5;
/// Tag of a run of floats: several points of a history in one record.
pub(crate) const FLOATS: u8 = 6;
/// Names of the types, as `ValueRef::type_name` has them, by tag.
pub(crate) const TYPE_NAMES: [&str; 6] = ["null", "float", "int", "text", "bytes", "vector"];
/// dtype of vectors: 32-bit floats.
pub(crate) const DTYPE_F32: u8 = 0;

impl Value {
    /// The value, borrowed.
    #[must_use]
    pub fn borrowed(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Float(v) => ValueRef::Float(*v),
            Self::Int(v) => ValueRef::Int(*v),
            Self::Text(v) => ValueRef::Text(Cow::Borrowed(v)),
            Self::Bytes(v) => ValueRef::Bytes(Cow::Borrowed(v)),
            Self::Vector(v, _) => ValueRef::Vector(Cow::Borrowed(v)),
        }
    }

    /// Name of the variant, as the original spells it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "Null",
            Self::Float(_) => "Float",
            Self::Int(_) => "Int",
            Self::Text(_) => "Text",
            Self::Bytes(_) => "Bytes",
            Self::Vector(..) => "Vector",
        }
    }

    /// Whether it is `Null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether it is a float.
    #[must_use]
    pub fn is_float(&self) -> bool {
        matches!(self, Self::Float(_))
    }

    /// Whether it is a vector.
    #[must_use]
    pub fn is_vector(&self) -> bool {
        matches!(self, Self::Vector(..))
    }

    /// The float, if it is one.
    #[must_use]
    pub fn as_float(&self) -> Option<f64> {
        if let Self::Float(v) = self { Some(*v) } else { None }
    }

    /// The integer, if it is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        if let Self::Int(v) = self { Some(*v) } else { None }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(v) = self { Some(v) } else { None }
    }

    /// The bytes, if it is bytes.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(v) = self { Some(v) } else { None }
    }

    /// The vector and its dimensions, if it is one.
    #[must_use]
    pub fn as_vector(&self) -> Option<(&[f32], u16)> {
        if let Self::Vector(v, dimensions) = self { Some((v, *dimensions)) } else { None }
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

/// A value as it goes into a record.
pub(crate) struct Encoded<'a> {
    pub tag: u8,
    pub flags: u8,
    pub payload: Payload<'a>,
}

impl Encoded<'_> {
    /// Number of components where it is a vector.
    pub fn components(&self) -> Option<usize> {
        (self.tag == VECTOR).then(|| self.payload.bytes().len() / size_of::<f32>())
    }
}

/// Bytes of a payload, without an allocation where they fit into a word.
pub(crate) enum Payload<'a> {
    Word([u8; 8]),
    Slice(&'a [u8]),
    Owned(Vec<u8>),
}

impl Payload<'_> {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Word(word) => word,
            Self::Slice(slice) => slice,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl ValueRef<'_> {
    /// Name of the type, in lower case.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Float(_) => "float",
            Self::Int(_) => "int",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::Vector(_) => "vector",
        }
    }

    /// The value, owned.
    #[must_use]
    pub fn to_owned(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Float(v) => Value::Float(*v),
            Self::Int(v) => Value::Int(*v),
            Self::Text(v) => Value::Text(v.clone().into_owned()),
            Self::Bytes(v) => Value::Bytes(v.clone().into_owned()),
            Self::Vector(v) => {
                let dimensions = u16::try_from(v.len()).unwrap_or(u16::MAX);
                Value::Vector(v.clone().into_owned(), dimensions)
            }
        }
    }

    pub(crate) fn encode(&self, compress: bool) -> Encoded<'_> {
        let (tag, payload) = match self {
            Self::Null => (NULL, Payload::Slice(&[])),
            Self::Float(v) => (FLOAT, Payload::Word(v.to_le_bytes())),
            Self::Int(v) => (INT, Payload::Word(v.to_le_bytes())),
            Self::Text(v) => (TEXT, Payload::Slice(v.as_bytes())),
            Self::Bytes(v) => (BYTES, Payload::Slice(v)),
            Self::Vector(v) => (VECTOR, Payload::Owned(encode_vector(v))),
        };
        if compress && matches!(tag, TEXT | BYTES) {
            let bytes = payload.bytes();
            if bytes.len() > SMALL_PAYLOAD_BYTES_MAX && u32::try_from(bytes.len()).is_ok() {
                let packed = lz4_flex::block::compress_prepend_size(bytes);
                if packed.len() < bytes.len() {
                    return Encoded { tag, flags: COMPRESSED, payload: Payload::Owned(packed) };
                }
            }
        }
        Encoded { tag, flags: 0, payload }
    }
}

fn encode_vector(vector: &[f32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + 4 * vector.len());
    out.push(DTYPE_F32);
    vector.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes()));
    out
}

/// Decodes the stored bytes of a single value; `None` where they are not what the tag says.
pub(crate) fn decode(tag: u8, flags: u8, bytes: &[u8]) -> Option<ValueRef<'_>> {
    if flags & COMPRESSED != 0 {
        return decode_compressed(tag, bytes);
    }
    let word = || bytes.try_into().ok();
    Some(match tag {
        NULL if bytes.is_empty() => ValueRef::Null,
        FLOAT => ValueRef::Float(f64::from_le_bytes(word()?)),
        INT => ValueRef::Int(i64::from_le_bytes(word()?)),
        TEXT => ValueRef::Text(Cow::Borrowed(std::str::from_utf8(bytes).ok()?)),
        BYTES => ValueRef::Bytes(Cow::Borrowed(bytes)),
        VECTOR => {
            let (dtype, bytes) = bytes.split_first()?;
            if *dtype != DTYPE_F32 || !bytes.len().is_multiple_of(4) {
                return None;
            }
            ValueRef::Vector(Cow::Owned(floats32(bytes)))
        }
        FLOATS => ValueRef::Float(*floats64(bytes)?.last()?),
        _ => return None,
    })
}

fn decode_compressed(tag: u8, bytes: &[u8]) -> Option<ValueRef<'static>> {
    let (size, block) = bytes.split_at_checked(4)?;
    let size = u32::from_le_bytes(size.try_into().ok()?) as usize;
    // LZ4 packs at most about 255 to 1: more is a lie that is not allocated for.
    if size > block.len().saturating_mul(255) + 64 {
        return None;
    }
    let plain = lz4_flex::block::decompress(block, size).ok().filter(|p| p.len() == size)?;
    match tag {
        TEXT => Some(ValueRef::Text(Cow::Owned(String::from_utf8(plain).ok()?))),
        BYTES => Some(ValueRef::Bytes(Cow::Owned(plain))),
        _ => None,
    }
}

/// The floats of a run, oldest first.
pub(crate) fn floats64(bytes: &[u8]) -> Option<Vec<f64>> {
    let (words, rest) = bytes.as_chunks::<8>();
    rest.is_empty().then(|| words.iter().map(|word| f64::from_le_bytes(*word)).collect())
}

fn floats32(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

/// Which of `TYPE_NAMES` a record's value has; bytes, where this version knows no such tag.
pub(crate) const fn type_of_tag(tag: u8) -> u8 {
    match tag {
        NULL..=VECTOR => tag,
        FLOATS => FLOAT,
        _ => BYTES,
    }
}

/// Whether a record of this tag holds floats for a history.
pub(crate) fn is_float(tag: u8) -> bool {
    matches!(tag, FLOAT | FLOATS)
}

/// The points of a run; `None` for a record of any other type.
pub(crate) fn run_points(tag: u8, bytes: &[u8]) -> Option<Vec<f64>> {
    if tag == FLOATS { floats64(bytes) } else { None }
}

/// The last point of a run as a record of its own: tag and payload.
pub(crate) fn last_of_run(tag: u8, bytes: &[u8]) -> Option<(u8, Vec<u8>)> {
    (tag == FLOATS).then(|| (FLOAT, bytes[bytes.len() - bytes.len().min(8)..].to_vec()))
}

/// The points that a record adds to a history: a single float, or a run.
pub(crate) fn history_points(tag: u8, bytes: &[u8]) -> Option<Vec<f64>> {
    match tag {
        FLOAT => Some(vec![f64::from_le_bytes(bytes.try_into().ok()?)]),
        FLOATS => floats64(bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
