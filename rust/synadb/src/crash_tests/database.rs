//! A database on a simulated medium, opened by a process of its own.

use std::path::Path;
use std::sync::Arc;

use synadb_storage::directory::SimulatedDirectory;
use synadb_storage::simulation::{Medium, Process};

use crate::config::{Durability, Maintenance, OpenOptions};
use crate::db::Handle;
use crate::distance::DistanceMetric;
use crate::error::Result;
use crate::kv::SynaDB;
use crate::vector::{VectorConfig, VectorStore};

/// Where the database lies on every medium.
pub(super) const PATH: &str = "sim/a.db";
/// Dimensions of the two tables of vectors: rows of one sector, and of three.
pub(super) const DIMENSIONS: [u16; 2] = [5, 40];

/// Handles of both durabilities.
pub(super) struct Database {
    directory: Arc<SimulatedDirectory>,
    pub synced: SynaDB,
    pub fast: SynaDB,
    /// Each table of vectors, synced and fast.
    pub stores: Vec<(VectorStore, VectorStore)>,
}

impl Database {
    /// Opens the database of a medium in a new process.
    pub fn open(medium: &Arc<Medium>, options: &OpenOptions) -> Result<Self> {
        Self::open_through(Arc::new(SimulatedDirectory::new(medium)), options)
    }

    /// Opens it in a new process of which `prepare` hears first.
    pub fn open_as(
        medium: &Arc<Medium>,
        options: &OpenOptions,
        prepare: fn(&Process),
    ) -> Result<Self> {
        let directory = Arc::new(SimulatedDirectory::new(medium));
        prepare(directory.process());
        Self::open_through(directory, options)
    }

    /// Opens it in a process that may have failures before it.
    pub fn open_through(directory: Arc<SimulatedDirectory>, options: &OpenOptions) -> Result<Self> {
        // One thread does it all, so that a seed says what happens.
        let options = options.clone().durability(Durability::Sync).maintenance(Maintenance::Inline);
        let options = options.sync_interval(None);
        let shared = Arc::clone(&directory) as _;
        let handle =
            Handle::open_in(Path::new(PATH), &options, shared, &crate::tables::components())?;
        let fast = handle.another_with(&options.durability(Durability::Process))?;
        let synced = SynaDB::from_handle(Arc::new(handle));
        let fast = SynaDB::from_handle(Arc::new(fast));
        let store = |dimensions: u16, database: &SynaDB| {
            let metric = DistanceMetric::Euclidean;
            let config = VectorConfig { dimensions, metric, ..VectorConfig::default() };
            VectorStore::attach(database, &format!("vector:{dimensions}"), config)
        };
        let stores = DIMENSIONS.map(|n| Ok((store(n, &synced)?, store(n, &fast)?)));
        let stores = stores.into_iter().collect::<Result<_>>()?;
        Ok(Self { directory, synced, fast, stores })
    }

    pub fn process(&self) -> &Process {
        self.directory.process()
    }

    /// Ends the process, so that dropping the handles changes nothing any more.
    pub fn kill(self) {
        self.process().kill();
    }

    /// Closes all handles; the last one closes the file.
    pub fn close(self) -> Result<()> {
        for (synced, fast) in &self.stores {
            synced.close_handle()?;
            fast.close_handle()?;
        }
        self.fast.close_handle()?;
        self.synced.close_handle()
    }

    /// Generation and sequence.
    pub fn reached(&self) -> Result<(u64, u64)> {
        let stats = self.synced.stats()?;
        Ok((stats.generation, stats.sequence))
    }
}
