//! Indexes that nobody asked for: a thread of its own builds one when searches have scanned enough.

use std::sync::Arc;

use synadb_index::Filter;

use super::build::Build;
use super::{Built, Loaded, StoreIndex};
use crate::collection::Snapshot;
use crate::config::Terms;
use crate::error::Result;
use crate::vector::config::IndexBackend;
use crate::vector::{PackedConfig, VectorStore};

/// An index is built once searches have scanned so many times as many rows as there are. To build
/// one costs as much as some tens (codes) to hundreds (a graph) of scans: who waits until he has
/// paid about that much never pays more than a small multiple of the least (ski rental: Karlin,
/// Manasse, Rudolph and Sleator 1988), and who searches seldom never pays for an index.
const SCANS: u64 = 30;
const ROWS_PER_CELL: usize = 8;

impl VectorStore {
    /// Counts the rows that so many searches scanned, `most` each, and has an index built where it pays.
    ///
    /// Nothing comes of it while another one is being built, and where nobody may work apart.
    pub(in crate::vector) fn count_scans(
        &self,
        snapshot: &Snapshot,
        loaded: Option<&Loaded>,
        (queries, most): (usize, usize),
    ) {
        let index = loaded.and_then(Loaded::any);
        let tail = rows_behind(index, snapshot);
        if tail < self.index_threshold.max(1) {
            return;
        }
        let slot = &snapshot.reader.companion;
        let scanned = slot.count_scanned((queries * tail.min(most)) as u64);
        if scanned < SCANS * u64::from(snapshot.rows_end()) {
            return;
        }
        let backend = next_backend(index, &self.wish.load());
        let Ok(engine) = self.handle.open() else { return };
        if backend == IndexBackend::None || (snapshot.rows_end() as usize) < rows_for(&backend) {
            return;
        }
        let (table, config, least) = (Arc::clone(&self.table), self.config, self.index_threshold);
        let saves = self.handle.writable().is_ok();
        let is_taken = engine.do_apart(move |engine, terms| {
            let build = Build { engine, saves, table: &table, config, threads: 1 };
            if build.apart(&backend, least, terms).is_err() {
                // Searches go on scanning; after as many of them it is tried again.
            }
        });
        if is_taken {
            slot.forget_scanned();
        }
    }
}

/// What follows an index: one of its kind, unless nobody had asked for it.
fn next_backend(index: Option<&StoreIndex>, wish: &IndexBackend) -> IndexBackend {
    let Some(index) = index else { return wish.clone() };
    match &index.built {
        // It was dropped on purpose.
        None => IndexBackend::None,
        Some(_) if index.is_chosen => wish.clone(),
        Some(Built::Hnsw(graph)) => IndexBackend::Hnsw(*graph.config()),
        Some(Built::GravityWell(cells)) => IndexBackend::GravityWell(cells.config().clone()),
        Some(Built::Packed(_)) => match wish {
            IndexBackend::Flat(config) => IndexBackend::Flat(*config),
            _ => IndexBackend::Flat(PackedConfig::default()),
        },
    }
}

/// With fewer rows most of the cells that were asked for would be all but empty.
fn rows_for(backend: &IndexBackend) -> usize {
    match backend {
        IndexBackend::GravityWell(config) => {
            config.cells.unwrap_or(0).saturating_mul(ROWS_PER_CELL)
        }
        _ => 0,
    }
}

impl Build<'_> {
    /// Builds and saves an index, unless another process has done so.
    fn apart(&self, backend: &IndexBackend, least: usize, terms: &Terms) -> Result<()> {
        if self.saves {
            self.engine.take_over_saved()?;
        }
        let Some(snapshot) = self.snapshot()? else { return Ok(()) };
        let loaded = self.config.index_of(&snapshot);
        if rows_behind(loaded.as_ref().and_then(Loaded::any), &snapshot) < least {
            return Ok(());
        }
        drop(snapshot);
        self.run(backend, &mut |_, _| !terms.is_interrupted())?;
        if self.saves { self.engine.checkpoint_anew(terms) } else { Ok(()) }
    }
}

/// Rows that a search has to scan beside the index.
fn rows_behind(index: Option<&StoreIndex>, snapshot: &Snapshot) -> usize {
    let end = snapshot.rows_end();
    let behind = end - index.map_or(0, |index| index.end.min(end));
    let unborn = match index.and_then(|index| index.unborn.as_ref()) {
        Some(Filter::Rows(rows)) => rows.len(),
        _ => 0,
    };
    behind as usize + unborn
}
