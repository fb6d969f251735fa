//! Vector stores: a collection of one vector a key, searched exactly.

mod batch;
mod bulk;
mod config;
mod fill;
mod search;
mod source;
mod store;
mod write;

pub use config::{IndexBackend, VectorConfig};
pub use search::{Hit, SearchResult};
pub use store::VectorStore;

pub(crate) use config::StoredConfig;
