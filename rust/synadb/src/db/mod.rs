//! The engine: catalogue, commits, views, checkpoint, compaction.

mod backup;
mod catalog;
mod checkpoint;
mod commit;
mod compact;
mod engine;
mod generation;
mod open;
mod registry;
mod report;
mod view;

pub use backup::BackupReport;
pub(crate) use catalog::{TableInfo, TableKind};
pub(crate) use commit::{Op, Transaction};
pub(crate) use compact::{Carried, Rewrite};
pub use compact::{CompactOptions, CompactionReport};
pub(crate) use engine::{Engine, Handle};
pub(crate) use generation::Generation;
pub use report::{RecoveryReport, Stats, TableStats, VerifyReport};
pub(crate) use view::{Applied, TableView, ViewFactory};
