//! One golden file in the making: what is done to the database is done to a model of it as well.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use synadb::{
    DistanceMetric, Durability, Maintenance, OpenOptions, SynaDB, Value, VectorConfig, VectorStore,
    WriteBatch,
};
use synadb_storage::control;
use synadb_storage::simulation::seeded;

/// The first second of 2026, in microseconds.
const CLOCK_US: u64 = 1_767_225_600_000_000;

/// What a table of vectors must hold.
struct Rows {
    dimensions: u16,
    metric: &'static str,
    rows: BTreeMap<String, Vec<f32>>,
}

/// A database, and what it must hold.
pub struct Script {
    path: PathBuf,
    db: Option<SynaDB>,
    options: OpenOptions,
    histories: BTreeMap<String, Vec<Value>>,
    stores: BTreeMap<String, Rows>,
    /// Number of commits, and of compactions.
    sequence: u64,
    generation: u64,
    torn: bool,
}

impl Script {
    /// A new database with an id and a clock of its own.
    pub fn new(directory: &Path, name: &str, seed: u64) -> Self {
        seeded::seed_ids(Some(seed));
        seeded::set_clock(Some(CLOCK_US + seed * 1_000_000_000));
        let path = directory.join(format!("{name}.db"));
        for old in [path.clone(), checkpoint_of(&path)] {
            if old.exists() {
                std::fs::remove_file(old).expect("removed");
            }
        }
        // One thread, and no checkpoint that was not asked for.
        let options = OpenOptions::new()
            .durability(Durability::Process)
            .maintenance(Maintenance::Inline)
            .checkpoint_bytes(1 << 40);
        let (histories, stores) = (BTreeMap::new(), BTreeMap::new());
        let (db, sequence, generation, torn) = (None, 0, 0, false);
        let mut script = Self { path, db, options, histories, stores, sequence, generation, torn };
        script.reopen(|options| options);
        script
    }

    /// Closes the file, and opens it with other options.
    pub fn reopen(&mut self, change: impl FnOnce(OpenOptions) -> OpenOptions) {
        self.close();
        self.db = Some(change(self.options.clone()).open(&self.path).expect("opens"));
    }

    pub fn db(&self) -> &SynaDB {
        self.db.as_ref().expect("is open")
    }

    /// Closes the file.
    pub fn close(&mut self) {
        if let Some(db) = self.db.take() {
            db.close().expect("closes");
        }
    }

    /// Puts a value, in a commit of its own.
    pub fn put(&mut self, key: &str, value: Value) {
        self.db().append(key, value.clone()).expect("puts");
        self.sequence += 1;
        self.histories.entry(key.to_owned()).or_default().push(value);
    }

    /// Appends a run of floats.
    pub fn run(&mut self, key: &str, floats: &[f64]) {
        self.db().append_floats(key, floats).expect("appends");
        self.sequence += 1;
        let history = self.histories.entry(key.to_owned()).or_default();
        history.extend(floats.iter().map(|float| Value::Float(*float)));
    }

    /// Deletes a key that is there.
    pub fn delete(&mut self, key: &str) {
        self.db().delete(key).expect("deletes");
        self.sequence += 1;
        self.histories.remove(key);
    }

    /// Several changes in one commit; `None` deletes.
    pub fn batch(&mut self, changes: &[(&str, Option<Value>)]) {
        let mut batch = WriteBatch::new();
        self.add(&mut batch, changes);
        self.db().commit(&batch).expect("commits");
        self.sequence += 1;
    }

    fn add(&mut self, batch: &mut WriteBatch, changes: &[(&str, Option<Value>)]) {
        for (key, value) in changes {
            match value {
                Some(value) => {
                    batch.put(key, value.clone()).expect("puts");
                    self.histories.entry((*key).to_owned()).or_default().push(value.clone());
                }
                None => {
                    batch.delete(key).expect("deletes");
                    self.histories.remove(*key);
                }
            }
        }
    }

    /// Changes of values and of vectors in one transaction.
    pub fn transaction(
        &mut self,
        changes: &[(&str, Option<Value>)],
        store: &VectorStore,
        rows: &[(&str, Option<Vec<f32>>)],
    ) {
        let mut transaction = self.db().transaction().expect("begins");
        self.add(transaction.batch(), changes);
        for (key, row) in rows {
            match row {
                Some(row) => store.insert_in(transaction.batch(), key, row).expect("inserts"),
                None => store.remove_in(transaction.batch(), key).expect("removes"),
            }
        }
        transaction.commit().expect("commits");
        self.sequence += 1;
        for (key, row) in rows {
            self.set_row(store, key, row.clone());
        }
    }

    /// A table of vectors.
    pub fn store(&mut self, name: &str, dimensions: u16, metric: DistanceMetric) -> VectorStore {
        let config = VectorConfig { dimensions, metric, ..VectorConfig::default() };
        let metric = match metric {
            DistanceMetric::Cosine => "cosine",
            DistanceMetric::Euclidean => "euclidean",
            DistanceMetric::DotProduct => "dot_product",
        };
        let rows = || Rows { dimensions, metric, rows: BTreeMap::new() };
        self.stores.entry(name.to_owned()).or_insert_with(rows);
        VectorStore::attach(self.db(), name, config).expect("attaches")
    }

    /// Inserts or replaces one vector.
    pub fn insert(&mut self, store: &VectorStore, key: &str, row: Vec<f32>) {
        store.insert(key, &row).expect("inserts");
        self.sequence += 1;
        self.set_row(store, key, Some(row));
    }

    /// Inserts vectors of new keys; they take one commit.
    pub fn insert_many(&mut self, store: &VectorStore, rows: Vec<(String, Vec<f32>)>) {
        let keys: Vec<&str> = rows.iter().map(|(key, _)| &**key).collect();
        let vectors: Vec<&[f32]> = rows.iter().map(|(_, row)| &**row).collect();
        store.insert_batch(&keys, &vectors).expect("inserts");
        self.sequence += 1;
        for (key, row) in rows {
            self.set_row(store, &key, Some(row));
        }
    }

    /// Deletes a vector that is there.
    pub fn remove(&mut self, store: &VectorStore, key: &str) {
        store.delete(key).expect("deletes");
        self.sequence += 1;
        self.set_row(store, key, None);
    }

    fn set_row(&mut self, store: &VectorStore, key: &str, row: Option<Vec<f32>>) {
        let table = self.stores.get_mut(store.name()).expect("a table of this script");
        match row {
            Some(row) => drop(table.rows.insert(key.to_owned(), row)),
            None => drop(table.rows.remove(key)),
        }
    }

    /// Compacts to the newest values.
    pub fn compact(&mut self) {
        self.db().compact().expect("compacts");
        self.generation += 1;
        for history in self.histories.values_mut() {
            history.drain(..history.len() - 1);
        }
    }

    /// The model of the values as it is now, to go back to where a tail is cut off.
    pub fn model(&self) -> (u64, BTreeMap<String, Vec<Value>>) {
        (self.sequence, self.histories.clone())
    }

    /// What follows is not part of the file.
    pub fn go_back_to(&mut self, model: (u64, BTreeMap<String, Vec<Value>>)) {
        (self.sequence, self.histories) = model;
        self.torn = true;
    }

    /// Keeps the file as it is while it is open, as a killed writer leaves it, and as `change` does.
    pub fn keep_as_killed(mut self, change: impl FnOnce(&mut Self, &mut Vec<u8>)) -> Vec<String> {
        let mut bytes = std::fs::read(&self.path).expect("the log is read");
        change(&mut self, &mut bytes);
        self.close();
        // Space that was allocated ahead is zero, and says nothing.
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.resize((end + 8).next_multiple_of(4096), 0);
        std::fs::write(&self.path, bytes).expect("the log is written");
        self.finish()
    }

    /// Closes the file and writes down what it must hold; the names of the files.
    pub fn finish(mut self) -> Vec<String> {
        self.close();
        seeded::seed_ids(None);
        seeded::set_clock(None);
        scrub(&self.path);
        std::fs::write(self.path.with_extension("json"), self.expected()).expect("written");
        let beside = [self.path.with_extension("json"), checkpoint_of(&self.path)];
        let files = [self.path.clone()].into_iter().chain(beside);
        files.filter(|path| path.exists()).map(|path| name_of(&path)).collect()
    }

    fn expected(&self) -> String {
        let mut out = String::from("{\n");
        let (generation, sequence, torn) = (self.generation, self.sequence, self.torn);
        let _ = writeln!(out, "\"generation\": {generation},\n\"sequence\": {sequence},");
        let _ = writeln!(out, "\"torn\": {torn},\n\"histories\": {{");
        let histories = self.histories.iter().map(|(key, history)| {
            let values: Vec<String> = history.iter().map(shown).collect();
            format!("{}: [{}]", text(key), values.join(", "))
        });
        out += &histories.collect::<Vec<_>>().join(",\n");
        out += "\n},\n\"vectors\": {";
        let stores = self.stores.iter().map(|(name, table)| {
            let rows = table.rows.iter().map(|(key, row)| format!("{}: {row:?}", text(key)));
            let rows = rows.collect::<Vec<_>>().join(",\n");
            let (dimensions, metric) = (table.dimensions, table.metric);
            let head = format!("\"dimensions\": {dimensions}, \"metric\": \"{metric}\"");
            format!("{}: {{{head}, \"rows\": {{\n{rows}}}}}", text(name))
        });
        out += &stores.collect::<Vec<_>>().join(",\n");
        out += "}\n}\n";
        out
    }
}

fn checkpoint_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-ckpt");
    PathBuf::from(name)
}

/// The name of a file in the directory.
pub fn name_of(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

/// Zeroes the hints that name this process.
fn scrub(path: &Path) {
    let mut bytes = std::fs::read(path).expect("the log is read");
    let words =
        [control::WANT, control::RELEASED, control::HOLDER, control::NEXT, control::SYNC_GEN];
    for word in words {
        bytes[word as usize..][..8].fill(0);
    }
    std::fs::write(path, bytes).expect("the log is written");
}

/// A value with its type; repeated bytes by how often they come.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "{\"null\": null}".to_owned(),
        Value::Float(float) => match float.is_finite() {
            true => format!("{{\"float\": {float:?}}}"),
            false => format!("{{\"float\": \"{float}\"}}"),
        },
        Value::Int(int) => format!("{{\"int\": {int}}}"),
        Value::Text(of) => format!("{{\"text\": {}}}", text(of)),
        Value::Bytes(bytes) => {
            let times = if bytes.len() > 4096 { bytes.len() / 8 } else { 1 };
            let unit: String =
                bytes[..bytes.len() / times].iter().map(|b| format!("{b:02x}")).collect();
            format!("{{\"hex\": \"{unit}\", \"times\": {times}}}")
        }
        Value::Vector(vector, _) => format!("{{\"vector\": {vector:?}}}"),
    }
}

/// A text as JSON has it.
fn text(text: &str) -> String {
    let mut out = String::from("\"");
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(b'"' | b'\\') => out.extend(['\\', unit as u8 as char]),
            Ok(b' '..=b'~') => out.push(unit as u8 as char),
            _ => drop(write!(out, "\\u{unit:04x}")),
        }
    }
    out + "\""
}
