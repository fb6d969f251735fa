//! The key-value component: typed values with their history.

mod batch;
mod carry;
mod database;
mod history;
mod published;
mod read;
mod seal;
mod transaction;
mod view;
mod write;

pub use batch::WriteBatch;
pub(crate) use carry::{carry, carry_live, carry_newest, carry_value};
pub use database::SynaDB;
pub use transaction::Transaction;
pub(crate) use view::{KvReader, KvView};

/// Name of the table that `SynaDB` sees.
pub(crate) const TABLE: &str = "kv";
