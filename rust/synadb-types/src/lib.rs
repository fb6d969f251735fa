//! Identifiers, row sets and limits shared by the crates of synadb.

pub mod limits;
mod row_set;

pub use row_set::RowSet;

/// Number of one version of an item in a table, stable within a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RowId(pub u32);

/// Number of a table in the catalogue; 0 is the catalogue itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TableId(pub u32);

/// Number of a commit since the birth of a database; the first commit is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sequence(pub u64);
