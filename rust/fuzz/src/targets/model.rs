//! Calls on a database and on a map, with one answer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use synadb::{Access, Error, SynaDB, Value, WriteBatch};

use super::fast;
use crate::input::Input;

const KEYS: [&str; 6] = ["a", "b", "key/1", "key/2", "long key with a tail of some length", "e"];

/// Histories of the keys that are alive, each value with its place among the records.
#[derive(Debug, Clone, Default)]
struct Model {
    histories: BTreeMap<String, Vec<Value>>,
    /// Sequence of the commit that changed a key last, deletes too.
    changed: BTreeMap<String, u64>,
    sequence: u64,
    /// What it was at the last compaction, which forgets when absent keys were changed.
    horizon: u64,
}

/// One change of a key.
enum Change {
    Put(Value),
    Floats(Vec<f64>),
    Delete,
}

impl Model {
    fn apply(&mut self, key: &str, change: Change) {
        match change {
            Change::Put(value) => self.histories.entry(key.to_owned()).or_default().push(value),
            Change::Floats(floats) => {
                let history = self.histories.entry(key.to_owned()).or_default();
                history.extend(floats.into_iter().map(Value::Float));
            }
            Change::Delete => {
                if self.histories.remove(key).is_none() {
                    return;
                }
            }
        }
        self.changed.insert(key.to_owned(), self.sequence);
    }

    /// Applies the changes of one commit that the database says it made.
    fn commit(&mut self, changes: Vec<(String, Change)>) {
        self.sequence += 1;
        for (key, change) in changes {
            self.apply(&key, change);
        }
    }

    /// Only the newest value of each key stays.
    fn compact(&mut self) {
        self.horizon = self.sequence;
        for history in self.histories.values_mut() {
            history.drain(..history.len() - 1);
        }
    }

    fn check(&self, db: &SynaDB) {
        let wanted: Vec<_> = self.histories.keys().cloned().collect();
        let mut keys = db.keys();
        keys.sort();
        assert_eq!(keys, wanted);
        assert_eq!((db.len(), db.sequence().expect("open")), (wanted.len(), self.sequence));
        for key in KEYS {
            let wanted = self.histories.get(key).cloned().unwrap_or_default();
            same(&db.get(key).expect("reads"), &wanted.last().cloned());
            let floats: Vec<_> = wanted.iter().filter_map(Value::as_float).collect();
            same(&db.get_history_floats(key).expect("reads"), &floats);
            same(&db.get_history(key).expect("reads"), &wanted);
            assert_eq!(db.exists(key), !wanted.is_empty());
        }
    }
}

/// The input: options, then calls of a byte each, with arguments behind.
pub fn run(input: &[u8], folder: &Path) -> String {
    let mut input = Input::new(input);
    let options = input.byte();
    let path = folder.join("model.db");
    let open = || fast().compression(options & 1 != 0).checkpoint_bytes(512).open(&path);
    let mut db = open().expect("opens");
    let mut model = Model::default();
    let mut calls = 0u32;
    while !input.is_empty() && calls < 120 {
        calls += 1;
        match input.byte() % 16 {
            code @ 0..=8 => change(&db, &mut model, &mut input, code),
            9 | 10 => batch(&db, &mut model, &mut input),
            11 => {
                db.compact().expect("compacts");
                model.compact();
            }
            12 => db.checkpoint().expect("saves"),
            13 => {
                db.close().expect("closes");
                if input.byte() & 1 != 0 {
                    let _ = fs::remove_file(folder.join("model.db-ckpt"));
                }
                db = open().expect("opens again");
                model.check(&db);
            }
            14 => crash(&path, folder, &model),
            _ => model.check(&db),
        }
    }
    model.check(&db);
    crash(&path, folder, &model);
    assert_eq!(db.verify().expect("verifies").damage, []);
    let generation = db.stats().expect("stats").generation;
    format!("{} {} {generation}", model.histories.len(), calls.checked_ilog2().unwrap_or(0))
}

/// The file as it is now, as a killed process leaves it.
fn crash(path: &Path, folder: &Path, model: &Model) {
    let copy = folder.join("crashed.db");
    fs::copy(path, &copy).expect("copied");
    let reader = fast().access(Access::ReadOnly).open(&copy).expect("opens");
    model.check(&reader);
    reader.close().expect("closes");
    let writer = fast().open(&copy).expect("opens");
    model.check(&writer);
}

fn value(input: &mut Input<'_>) -> Value {
    match input.byte() % 8 {
        0 => Value::Null,
        1 => Value::Float(f64::from_bits(input.word())),
        2 => Value::Int(input.word() as i64),
        3 => Value::Text("text ".repeat(usize::from(input.byte()))),
        4 => {
            let len = usize::from(input.byte());
            Value::Bytes(input.take(len).to_vec())
        }
        5 => Value::Bytes(vec![input.byte(); usize::from(input.half())]),
        6 => {
            let count = u16::from(input.byte()) + 1;
            Value::Vector((0..count).map(f32::from).collect(), count)
        }
        _ => Value::Float(f64::from(input.byte())),
    }
}

fn key(input: &mut Input<'_>) -> &'static str {
    KEYS[usize::from(input.byte()) % KEYS.len()]
}

fn floats(input: &mut Input<'_>) -> Vec<f64> {
    (0..input.byte() % 40).map(f64::from).collect()
}

fn change(db: &SynaDB, model: &mut Model, input: &mut Input<'_>, code: u8) {
    let key = key(input);
    let change = match code {
        0..=3 => {
            let value = value(input);
            db.append(key, value.clone()).expect("appends");
            Change::Put(value)
        }
        4..=5 => {
            let floats = floats(input);
            db.append_floats(key, &floats).expect("appends");
            if floats.is_empty() {
                return;
            }
            Change::Floats(floats)
        }
        6 | 7 => {
            let there = db.remove(key).expect("deletes");
            assert_eq!(there, model.histories.contains_key(key));
            if !there {
                return;
            }
            Change::Delete
        }
        _ => {
            let mut transaction = db.transaction().expect("begins");
            let mut now = transaction.get(key).expect("reads");
            same(&now, &model.histories.get(key).and_then(|history| history.last()).cloned());
            if matches!(now, None | Some(Value::Vector(..))) {
                now = Some(Value::Int(0));
            }
            let next = now.unwrap_or(Value::Null);
            transaction.put(key, next.clone()).expect("puts");
            if input.byte().is_multiple_of(4) {
                transaction.rollback();
                return;
            }
            transaction.commit().expect("commits");
            Change::Put(next)
        }
    };
    model.commit(vec![(key.to_owned(), change)]);
}

fn batch(db: &SynaDB, model: &mut Model, input: &mut Input<'_>) {
    let (mut batch, mut changes) = (WriteBatch::new(), Vec::new());
    let condition = input.byte();
    for _ in 0..input.byte() % 12 {
        let key = key(input);
        let change = match input.byte() % 4 {
            0 => {
                batch.delete(key).expect("a key");
                Change::Delete
            }
            1 => {
                let floats = floats(input);
                batch.append_floats(key, &floats).expect("a key");
                if floats.is_empty() {
                    continue;
                }
                Change::Floats(floats)
            }
            _ => {
                let value = value(input);
                batch.put(key, value.clone()).expect("a key");
                Change::Put(value)
            }
        };
        changes.push((key.to_owned(), change));
    }
    let mut may_commit = true;
    if condition & 1 != 0 {
        let seen = model.sequence.saturating_sub(u64::from(condition >> 1) % 4);
        batch.expect_unchanged_since(seen);
        let is_newer = |key: &String| model.changed.get(key).is_some_and(|at| *at > seen);
        may_commit = !changes.iter().any(|(key, _)| is_newer(key));
    }
    match db.commit(&batch) {
        Ok(Some(sequence)) => {
            assert!(may_commit, "a conflict was not seen");
            model.commit(changes);
            assert_eq!(sequence, model.sequence);
        }
        // Nothing was to be done.
        Ok(None) => {
            let mut after = model.clone();
            after.commit(changes);
            same(&after.histories, &model.histories);
        }
        Err(Error::Conflict { key, expected, .. }) => {
            let forgotten = !model.histories.contains_key(&key) && expected < Some(model.horizon);
            assert!(!may_commit || forgotten, "{key} was not changed");
        }
        Err(error) => panic!("{error}"),
    }
}

/// Compares as text: NaN is equal to NaN.
fn same<T: std::fmt::Debug>(left: &T, right: &T) {
    assert_eq!(format!("{left:?}"), format!("{right:?}"));
}
