//! The catalogue: which tables there are. Its own records stand in table 0.

use synadb_types::TableId;
use synadb_types::limits::{KEY_BYTES_MAX, TABLE_CONFIG_BYTES_MAX};

use crate::error::{Error, Result};

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
    /// Refuses what no record of a table can hold: the name is its key.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn check(name: &str, config: &[u8]) -> Result<()> {
        let refuse = |argument, reason| Err(Error::InvalidArgument { argument, reason });
        let (bytes, most) = (name.len(), KEY_BYTES_MAX);
        if !(1..=most).contains(&bytes) {
            let reason = format!("a name of a table has 1 to {most} bytes of UTF-8, got {bytes}");
            return refuse("name", reason);
        }
        let (bytes, most) = (config.len(), TABLE_CONFIG_BYTES_MAX);
        if bytes > most {
            let reason = format!("a table's configuration has at most {most} bytes, got {bytes}");
            return refuse("config", reason);
        }
        Ok(())
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_record_of_a_table_can_hold_is_taken_and_no_more() {
        let refused = |name: &str, config: &[u8]| match TableInfo::check(name, config) {
            Ok(()) => None,
            Err(Error::InvalidArgument { argument, .. }) => Some(argument),
            Err(other) => panic!("{other}"),
        };
        let longest = "n".repeat(KEY_BYTES_MAX);
        assert_eq!(refused(&longest, &[0; TABLE_CONFIG_BYTES_MAX]), None);
        assert_eq!(refused(&(longest + "n"), &[]), Some("name"));
        assert_eq!(refused("", &[]), Some("name"));
        assert_eq!(refused("n", &[0; TABLE_CONFIG_BYTES_MAX + 1]), Some("config"));
    }
}
