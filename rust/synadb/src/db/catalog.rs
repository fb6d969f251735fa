//! The catalogue: which tables there are. Its own records stand in table 0.

use synadb_types::TableId;

/// What a table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableKind {
    /// Keys and typed values with their history.
    KeyValue,
    /// Keys and rows of vectors.
    Vectors,
}

/// A table of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableInfo {
    pub id: TableId,
    pub name: String,
    pub kind: TableKind,
    /// Encoded by the component that owns the table.
    pub config: Vec<u8>,
}

impl TableInfo {
    /// Payload of the table's record, whose key is the name.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.id.0.to_le_bytes().to_vec();
        out.push(match self.kind {
            TableKind::KeyValue => 1,
            TableKind::Vectors => 2,
        });
        out.extend_from_slice(&self.config);
        out
    }

    /// Reads a table's record.
    pub fn decode(name: &[u8], payload: &[u8]) -> Option<Self> {
        let (id, rest) = payload.split_at_checked(4)?;
        let (kind, config) = rest.split_first()?;
        let kind = match kind {
            1 => TableKind::KeyValue,
            2 => TableKind::Vectors,
            _ => return None,
        };
        let id = TableId(u32::from_le_bytes(id.try_into().ok()?));
        let name = String::from_utf8(name.to_vec()).ok()?;
        Some(Self { id, name, kind, config: config.to_vec() })
    }
}
