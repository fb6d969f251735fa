//! Distance kernels and search structures of synadb: rows and floats, no keys and no files.
//!
//! An index is a few immutable parts and one tail. A [`Part`] finds the rows nearest to a
//! [`Query`] among its own and offers them to a [`TopK`]; [`search_tail`] does so by exact scan
//! for the rows that no part holds yet; [`TopK::finish`] re-scores what was kept in double
//! precision, but for the rows that a part has compared so.

mod cascade;
mod distance;
mod error;
mod flat;
mod gathered;
mod hidden;
mod hnsw;
mod ivf;
mod job;
mod kmeans;
mod lowest;
mod pages;
mod part;
pub mod quantize;
mod query;
mod random;
mod sample;
mod scratch;
mod section;
mod source;
pub mod testing;
mod topk;

pub use cascade::{CascadeConfig, CascadeIndex, CascadeSearch, CascadeStats};
pub use distance::{
    Kernels, Metric, PairKernel, RowsKernel, SimdLevel, kernels, prefetch_ahead, prefetch_bytes,
};
pub use error::IndexError;
pub use flat::{
    FlatIndex, PackedConfig, PackedFlat, PackedSearch, search_batch, search_exactly, search_tail,
};
pub use gathered::GatheredRows;
pub use hidden::Beyond;
pub use hnsw::{HnswConfig, HnswIndex, SearchCounts, TunedEf};
pub use ivf::{IvfCodes, IvfConfig, IvfIndex, IvfPart, IvfSearch, SharedCells, Tuned};
pub use job::Job;
pub use kmeans::KMeans;
pub use part::{Filter, Part};
pub use query::{Query, first_non_finite, inverse_norm};
pub use sample::{Sample, Searching};
pub use scratch::Scratch;
pub use section::{Section, SharedBytes};
pub use source::{Block, VectorSource};
pub use topk::{Hit, TopK};
