//! Vector stores: a collection of one vector a key, searched exactly or through an index.

mod answers;
mod batch;
mod batch_order;
mod bulk;
mod config;
mod fill;
mod filter;
mod index;
mod key_set;
mod matrix;
mod reader;
mod search;
mod source;
mod store;
mod stores;
mod sums;
mod write;

pub use answers::Answers;
pub use bulk::PendingRows;
pub use config::{IndexBackend, VectorConfig};
pub use filter::KeyFilter;
pub use index::{IndexStats, MeasuredRecall, SearchOptions, TunedSearch};
pub use matrix::JoinedRows;
pub use reader::{Changes, MappedRows, Mark, Reader};
pub use search::{Hit, SearchResult};
pub use store::VectorStore;
pub(crate) use stores::{cascade, graph, graph_nodes, gravity, hybrid, mmap};
pub use synadb_index::{
    CascadeConfig as CascadeParameters, HnswConfig, IvfCodes, IvfConfig, IvfSearch, PackedConfig,
};

pub(crate) use config::StoredConfig;
