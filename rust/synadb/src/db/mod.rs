//! The engine: catalogue, commits, views, checkpoint, compaction.

mod apply;
mod backup;
mod catalog;
mod checkpoint;
mod commit;
mod compact;
mod engine;
mod generation;
mod handle;
mod identify;
mod maintenance;
mod open;
mod registry;
mod report;
mod reserve;
mod rewrite;
mod share;
mod source;
mod sync;
mod view;

pub(crate) use apply::TOUCHED;
pub use backup::BackupReport;
pub(crate) use catalog::{TableInfo, TableKind};
pub(crate) use checkpoint::{catalog, fits, path_of};
pub(crate) use commit::{Contribution, Op, OwnedOp, Transaction};
pub use compact::{CompactOptions, CompactionReport, Keep};
pub(crate) use engine::Engine;
pub(crate) use generation::{Generation, Table};
pub(crate) use handle::Handle;
pub(crate) use registry::resolve;
pub use report::{RecoveryReport, Stats, TableStats, VerifyReport};
pub(crate) use reserve::Reserved;
pub(crate) use rewrite::{Carried, Rewrite};
pub(crate) use source::Source;
pub(crate) use view::{Applied, TableView, ViewFactory};
