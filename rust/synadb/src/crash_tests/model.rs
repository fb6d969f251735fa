//! What a database holds, in few bytes: for each key how many values, and a digest of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use synadb_storage::simulation::mix;
use xxhash_rust::xxh3::xxh3_64;

use super::database::Database;
use crate::value::Value;
use crate::vector::{SearchOptions, VectorStore};

/// The table of `SynaDB`; those of vectors follow.
pub(super) const VALUES: usize = 0;

/// The values of a key since its last delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct History {
    count: u64,
    digest: u64,
    newest: u64,
}

impl History {
    fn one(value: u64) -> Self {
        Self { count: 1, digest: mix(value), newest: value }
    }

    fn then(self, value: u64) -> Self {
        let digest = mix(self.digest.rotate_left(9) ^ value);
        Self { count: self.count + 1, digest, newest: value }
    }
}

/// All keys of all tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Model {
    keys: BTreeMap<(usize, Arc<str>), History>,
}

impl Model {
    pub fn put(&mut self, key: &str, value: &Value) {
        self.push(key, digest_of(value));
    }

    pub fn floats(&mut self, key: &str, values: &[f64]) {
        values.iter().for_each(|value| self.push(key, digest_of(&Value::Float(*value))));
    }

    fn push(&mut self, key: &str, value: u64) {
        let entry = self.keys.entry((VALUES, key.into()));
        let changed = entry.and_modify(|history| *history = history.then(value));
        changed.or_insert_with(|| History::one(value));
    }

    pub fn row(&mut self, table: usize, key: &str, row: &[f32]) {
        self.keys.insert((table, key.into()), History::one(digest_of_row(row)));
    }

    pub fn remove(&mut self, table: usize, key: &str) {
        self.keys.remove(&(table, key.into()));
    }

    /// Compaction keeps the newest value of each key.
    pub fn compact(&mut self) {
        self.keys.values_mut().for_each(|history| *history = History::one(history.newest));
    }

    /// A number for the whole.
    pub fn digest(&self) -> u64 {
        let digest_of = |((table, key), history): (&(usize, Arc<str>), &History)| {
            let key = xxh3_64(key.as_bytes()) ^ mix(*table as u64);
            mix(key ^ history.digest.wrapping_add(history.count))
        };
        self.keys.iter().map(digest_of).fold(0, u64::wrapping_add)
    }

    /// Some keys in which two differ, for messages.
    pub fn difference(&self, other: &Self) -> String {
        let mut keys: Vec<_> = self.keys.keys().chain(other.keys.keys()).collect();
        keys.retain(|key| self.keys.get(*key) != other.keys.get(*key));
        keys.sort();
        keys.dedup();
        let of = |model: &Self, key| model.keys.get(key).map(|history| history.count);
        let mut out = format!("{} keys differ", keys.len());
        for key in keys.into_iter().take(4) {
            out += &format!("; {key:?}: {:?} values for {:?}", of(self, key), of(other, key));
        }
        out
    }

    /// Everything that an open database says it holds, read in all the ways that there are.
    pub fn read(database: &Database) -> Result<Self, String> {
        let mut model = Self::default();
        read_values(database, &mut model)?;
        for (number, (store, _)) in database.stores.iter().enumerate() {
            let fail = |error| format!("reading store {number}: {error}");
            let keys = store.keys();
            if keys.len() != store.len() {
                return Err(format!("store {number}: {} keys of {}", keys.len(), store.len()));
            }
            for key in &keys {
                let row = store.get(key).map_err(fail)?;
                let row = row.ok_or_else(|| format!("store {number}: no row of {key:?}"))?;
                model.row(number + 1, key, &row);
            }
            let zero = vec![0.0; usize::from(store.dimensions())];
            let mut found = store.search(&zero, keys.len()).map_err(fail)?;
            found.sort_by(|a, b| a.key.cmp(&b.key));
            if !found.iter().map(|result| &result.key).eq(&keys) {
                return Err(format!("store {number}: a search finds other keys than there are"));
            }
            search(store, &keys).map_err(|what| format!("store {number}: {what}"))?;
        }
        Ok(model)
    }
}

/// An index, where there is one, finds what an exact search finds: each row by itself, and at most
/// one of its neighbours is another, for codes tell equally far ones apart but nearly always.
fn search(store: &VectorStore, keys: &[String]) -> Result<(), String> {
    let Some(index) = store.index_stats().map_err(|error| error.to_string())? else {
        return Ok(());
    };
    let usual = SearchOptions::default();
    let exact = SearchOptions { exact: true, ..SearchOptions::default() };
    for key in keys.iter().step_by(1 + keys.len() / 8) {
        let row = store.get(key).ok().flatten().ok_or_else(|| format!("no row of {key:?}"))?;
        let find = |options| {
            let hits = store.search_with(&row, 4, options).map_err(|error| error.to_string())?;
            Ok::<_, String>(hits.into_iter().map(|hit| (hit.score, hit.key)).collect::<Vec<_>>())
        };
        let (found, truth) = (find(&usual)?, find(&exact)?);
        let same = truth.iter().filter(|hit| found.contains(hit)).count();
        let is_first = found.first().map(|hit| hit.0) == truth.first().map(|hit| hit.0);
        if found.len() != truth.len() || !is_first || same + 1 < truth.len() {
            return Err(format!("{index:?} finds at {key:?} {found:?} for {truth:?}"));
        }
    }
    Ok(())
}

fn read_values(database: &Database, model: &mut Model) -> Result<(), String> {
    let db = &database.synced;
    let keys = db.keys();
    if keys.len() != db.len() {
        return Err(format!("{} keys of {}", keys.len(), db.len()));
    }
    for key in &keys {
        let fail = |error| format!("reading key {key:?}: {error}");
        let values = db.get_history(key).map_err(fail)?;
        values.iter().for_each(|value| model.put(key, value));
        let newest = db.get(key).map_err(fail)?.map(|value| digest_of(&value));
        let floats = db.get_history_floats(key).map_err(fail)?;
        let walked = values.iter().filter_map(Value::as_float).map(f64::to_bits);
        if newest != values.last().map(digest_of) {
            return Err(format!("key {key:?}: its newest value is not the last of its history"));
        }
        if !floats.iter().map(|float| float.to_bits()).eq(walked) {
            return Err(format!("key {key:?}: its floats are not those of its history"));
        }
    }
    Ok(())
}

fn digest_of(value: &Value) -> u64 {
    let (tag, digest) = match value {
        Value::Null => (0, 0),
        Value::Float(float) => (1, mix(float.to_bits())),
        Value::Int(int) => (2, mix(*int as u64)),
        Value::Text(text) => (3, xxh3_64(text.as_bytes())),
        Value::Bytes(bytes) => (4, xxh3_64(bytes)),
        Value::Vector(vector, _) => (5, digest_of_row(vector)),
    };
    mix(digest ^ tag)
}

fn digest_of_row(row: &[f32]) -> u64 {
    xxh3_64(bytemuck::cast_slice(row))
}
