//! What a database should hold, as plain maps.

use std::collections::BTreeMap;

use synadb::{DistanceMetric, Result, SynaDB, Value, VectorConfig, VectorStore};

use super::Random;

/// A vector store of the test databases.
pub struct Store {
    pub table: &'static str,
    pub metric: DistanceMetric,
    pub dimensions: u16,
}

/// One of each metric, with rows that fill a part of a stride, one stride and several.
pub const STORES: [Store; 3] = [
    Store { table: "vector:vec/", metric: DistanceMetric::Cosine, dimensions: 5 },
    Store { table: "points", metric: DistanceMetric::Euclidean, dimensions: 16 },
    Store { table: "products", metric: DistanceMetric::DotProduct, dimensions: 20 },
];

impl Store {
    pub fn attach(&self, db: &SynaDB) -> Result<VectorStore> {
        let (dimensions, metric) = (self.dimensions, self.metric);
        let config = VectorConfig { dimensions, metric, ..VectorConfig::default() };
        VectorStore::attach(db, self.table, config)
    }

    /// The distance in f64, from the definition of the metric.
    pub fn distance(&self, a: &[f32], b: &[f32]) -> f64 {
        let pairs = || a.iter().zip(b).map(|(x, y)| (f64::from(*x), f64::from(*y)));
        let dot: f64 = pairs().map(|(x, y)| x * y).sum();
        let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        match self.metric {
            DistanceMetric::Cosine => match norm(a) * norm(b) {
                0.0 => 1.0,
                norms => 1.0 - dot / norms,
            },
            DistanceMetric::Euclidean => pairs().map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt(),
            DistanceMetric::DotProduct => -dot,
        }
    }
}

/// A change of a batch.
#[derive(Debug, Clone)]
pub enum Change {
    Put(Value),
    Floats(Vec<f64>),
    Delete,
}

/// An act on a database; stores go by their index.
#[derive(Debug, Clone)]
pub enum Op {
    Put(String, Value),
    PutMany(Vec<(String, Value)>),
    Floats(String, Vec<f64>),
    Delete(String),
    Batch(Vec<(String, Change)>),
    Insert(usize, String, Vec<f32>),
    InsertMany(usize, Vec<(String, Vec<f32>)>),
    Update(usize, String, Vec<f32>),
    Remove(usize, String),
    Search(usize, Vec<f32>, usize),
    Compact,
    Checkpoint,
    Sync,
    Reopen { compression: bool, exclusive: bool },
    Kill,
}

impl Op {
    /// Something that writes, mostly a commit.
    pub fn random(random: &mut Random) -> Self {
        let key = format!("key/{}", random.below(30));
        let store = random.below(STORES.len());
        let vector = random.vector(STORES[store].dimensions);
        match random.below(20) {
            0..=6 => Self::Put(key, value(random)),
            7..=8 => Self::Floats(key, (0..random.below(12)).map(|i| i as f64 / 3.0).collect()),
            9..=10 => Self::Delete(key),
            11..=12 => {
                let change = |random: &mut Random| match random.below(3) {
                    0 => Change::Delete,
                    1 => Change::Floats(vec![0.5; 1 + random.below(20)]),
                    _ => Change::Put(value(random)),
                };
                let keys = (0..1 + random.below(6)).map(|_| format!("key/{}", random.below(30)));
                let keys: Vec<String> = keys.collect();
                Self::Batch(keys.into_iter().map(|key| (key, change(random))).collect())
            }
            13..=16 => Self::Insert(store, key, vector),
            17 => Self::Update(store, key, vector),
            _ => Self::Remove(store, key),
        }
    }
}

fn value(random: &mut Random) -> Value {
    match random.below(5) {
        0 => Value::Int(random.next() as i64),
        1 => Value::Float(random.below(1000) as f64 / 7.0),
        2 => Value::Text("text ".repeat(random.below(30))),
        3 => {
            let count = random.below(200);
            Value::Bytes(random.bytes(count))
        }
        _ => Value::Vector(random.vector(7), 7),
    }
}

/// Histories by key, and the vectors of each store by key.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub values: BTreeMap<String, Vec<Value>>,
    pub vectors: [BTreeMap<String, Vec<f32>>; STORES.len()],
}

impl Model {
    pub fn change(&mut self, key: &str, change: &Change) {
        let history = |values: &mut BTreeMap<String, Vec<Value>>, added: Vec<Value>| {
            values.entry(key.to_owned()).or_default().extend(added);
        };
        match change {
            Change::Put(value) => history(&mut self.values, vec![value.clone()]),
            Change::Floats(points) if points.is_empty() => {}
            Change::Floats(points) => {
                history(&mut self.values, points.iter().map(|p| Value::Float(*p)).collect());
            }
            Change::Delete => {
                self.values.remove(key);
            }
        }
    }

    /// Compaction keeps the newest value of each key.
    pub fn compact(&mut self) {
        for history in self.values.values_mut() {
            history.drain(..history.len() - 1);
        }
    }

    /// Floats of a key, other types passed over.
    pub fn floats(&self, key: &str) -> Vec<f64> {
        self.values.get(key).into_iter().flatten().filter_map(Value::as_float).collect()
    }
}
