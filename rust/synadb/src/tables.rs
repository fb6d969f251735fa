//! Which component makes the view of which table.

use std::sync::Arc;

use synadb_storage::{Result, StorageError};

use crate::collection::{self, RowsView};
use crate::db::{Rewrite, TableInfo, TableKind, TableView, ViewFactory};
use crate::kv::{self, KvView};
use crate::sections::TableSections;
use crate::vector::StoredConfig;

/// The components of this crate.
struct Components;

/// The factory that every engine gets.
pub(crate) fn components() -> Arc<dyn ViewFactory> {
    Arc::new(Components)
}

fn row_bytes(table: &TableInfo) -> Option<u32> {
    StoredConfig::decode(&table.config).map(StoredConfig::row_bytes)
}

fn unknown() -> StorageError {
    StorageError::corrupt(0, "a table of an unknown configuration")
}

impl ViewFactory for Components {
    fn create(&self, table: &TableInfo) -> Option<Box<dyn TableView>> {
        Some(match table.kind {
            TableKind::KeyValue => Box::new(KvView::new(table.id)),
            TableKind::Vectors => Box::new(RowsView::new(table.id, row_bytes(table)?)),
        })
    }

    fn import(
        &self,
        table: &TableInfo,
        sections: &TableSections<'_>,
    ) -> Result<Box<dyn TableView>> {
        Ok(match table.kind {
            TableKind::KeyValue => Box::new(KvView::import(table.id, sections)?),
            TableKind::Vectors => {
                let row_bytes = row_bytes(table).ok_or_else(unknown)?;
                Box::new(RowsView::import(table.id, row_bytes, sections)?)
            }
        })
    }

    fn carry(
        &self,
        view: &dyn TableView,
        table: &TableInfo,
        rewrite: &mut Rewrite<'_>,
    ) -> Result<()> {
        match table.kind {
            TableKind::KeyValue => kv::carry(view, table, rewrite),
            TableKind::Vectors => {
                let row_bytes = row_bytes(table).ok_or_else(unknown)?;
                collection::carry(view, table, row_bytes, rewrite)
            }
        }
    }
}
