//! Everything that can be read from a database, comparable.

use std::collections::BTreeMap;

use synadb::vector::{VectorConfig, VectorStore};
use synadb::{Result, SynaDB};

use super::class;

/// What a database answers, by what was asked.
pub type Content = BTreeMap<String, String>;

/// Asks a database everything.
#[must_use]
pub fn content(db: &SynaDB) -> Content {
    let mut found = Content::new();
    for key in db.keys() {
        found.insert(format!("get {key:?}"), said(db.get(&key)));
        found.insert(format!("history {key:?}"), said(db.get_history(&key)));
        found.insert(format!("floats {key:?}"), said(db.get_history_floats(&key)));
    }
    found.insert("len".to_owned(), db.len().to_string());
    for table in db.stats().map(|stats| stats.tables).unwrap_or_default() {
        let config = VectorConfig { dimensions: 0, ..VectorConfig::default() };
        let Ok(store) = VectorStore::attach(db, &table.name, config) else { continue };
        let name = &table.name;
        for key in store.keys() {
            found.insert(format!("{name:?} vector {key:?}"), said(store.get(&key)));
        }
        let query = vec![1.0; usize::from(store.dimensions())];
        found.insert(format!("{name:?} search"), said(store.search(&query, 3)));
        found.insert(format!("{name:?} len"), store.len().to_string());
    }
    found
}

/// The answer, or the kind of error.
fn said<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result {
        Ok(answer) => format!("{answer:?}"),
        Err(error) => format!("error {}", class(&error)),
    }
}
