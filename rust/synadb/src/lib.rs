//! synadb: an AI-native embedded database. Typed values with their history and vector
//! search, in one file beside the code, without a server.
//!
//! The log is the database; everything else is a view of it. `docs/architecture.md` is the tour.

mod collection;
mod config;
#[cfg(test)]
mod crash_tests;
mod db;
pub mod distance;
pub mod error;
mod glob;
mod keys;
mod kv;
mod original;
mod progress;
mod repair;
mod sections;
mod tables;
pub mod value;
pub mod vector;

pub use arch::{HybridConfig, HybridSearchResult, HybridVectorStore, ResultSource};
pub use cascade::{CascadeConfig, CascadeIndex};
pub use config::{
    Access, AutoCompact, DbConfig, Durability, Interrupt, Keep, Maintenance, OpenOptions, Settings,
};
pub use db::{
    BackupReport, Bytes, CompactOptions, CompactionReport, RecoveryReport, Stats, TableStats,
    TableUsage, Usage, VerifyReport,
};
pub use distance::DistanceMetric;
pub use error::{Error, Error as SynaError, Result};
pub use glob::{Glob, Pattern};
pub use gwi::{GravityWellIndex, GwiConfig};
pub use hnsw::{HnswConfig, HnswIndex};
pub use kv::{SynaDB, Transaction, WriteBatch};
pub use mmap_vector::{MmapSearchResult, MmapVectorConfig, MmapVectorStore};
pub use original::{
    close_db, free_tensor, new, open_db, open_db_with_config, synadb, with_config, with_db,
};
pub use progress::Progress;
pub use repair::{Lost, RepairReport, TableKept, repair};
pub use synadb_types::limits;
pub use value::{Value, Value as Atom, ValueRef};
pub use vector::{SearchResult, VectorConfig, VectorStore};

/// `HnswIndex`: a graph over vectors in memory.
pub mod hnsw {
    pub use crate::vector::HnswConfig;
    pub use crate::vector::graph::{HnswIndex, HnswStats};
    pub use crate::vector::graph_nodes::HnswNode;
}

/// `MmapVectorStore`: a vector table whose writes wait for no medium.
pub mod mmap_vector {
    pub use crate::vector::mmap::{
        MappedVector, MmapSearchResult, MmapVectorConfig, MmapVectorStore,
    };
}

/// `HybridVectorStore`: new vectors in a hot table, those that stay in a cold one.
pub mod arch {
    pub use crate::vector::hybrid::{
        HybridConfig, HybridReader, HybridSearchResult, HybridVectorStore, ResultSource,
    };
    pub use crate::{CascadeConfig, GwiConfig};
}

/// `CascadeIndex`: vectors with a cascade, in a file or in memory.
pub mod cascade {
    pub use crate::vector::cascade::{
        CascadeConfig, CascadeIndex, CascadeStats, MmapCascadeConfig, MmapCascadeIndex,
        MmapCascadeStats, MmapSearchResult, SearchResult,
    };
}

/// `GravityWellIndex`: a vector table that has its inverted file by itself.
pub mod gwi {
    pub use crate::vector::gravity::{GravityWellIndex, GwiConfig, GwiSearchResult};
}

impl OpenOptions {
    /// Opens a database, or joins the engine of this process that has it open.
    ///
    /// # Errors
    /// As [`SynaDB::new`]; `Locked` with the process id of the one that is waited for.
    pub fn open(&self, path: impl AsRef<std::path::Path>) -> Result<SynaDB> {
        let handle = db::Engine::open(path.as_ref(), self, tables::components)?;
        Ok(SynaDB::from_handle(std::sync::Arc::new(handle)))
    }

    /// As `open`, of a resolved path that may be that of a file in the making.
    pub(crate) fn open_unfinished(&self, path: &std::path::Path) -> Result<SynaDB> {
        let handle = db::Engine::open_resolved(path, self, tables::components)?;
        Ok(SynaDB::from_handle(std::sync::Arc::new(handle)))
    }
}
