//! Operations: drawn at random, run on a database, and told to the model.

use synadb_storage::simulation::Random;

use super::among::Compaction;
use super::database::{DIMENSIONS, Database};
use super::model::{Model, VALUES};
use crate::config::Keep;
use crate::error::Result;
use crate::kv::WriteBatch;
use crate::value::Value;
use crate::vector::IndexBackend;
use crate::vector::{CascadeParameters, HnswConfig, IvfConfig, PackedConfig};

/// One change of a batch.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Put(Value),
    Floats(Vec<f64>),
    Remove,
    /// In the store of that number.
    Row(usize, Vec<f32>),
    RemoveRow(usize),
}

/// One call of a user; each is one commit, or none.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Put(String, Value),
    TryPut(String, Value),
    Many(Vec<(String, Value)>),
    Batch(Vec<(String, Change)>),
    Floats(String, Vec<f64>),
    Remove(String),
    /// Into the store of that number.
    Insert(usize, Vec<String>, Vec<f32>),
    RemoveRow(usize, String),
    /// The index of the store of that number.
    Build(usize, IndexBackend),
    Sync,
    Checkpoint,
    Compact(Compaction),
}

impl Op {
    /// Whether everything before is on the medium too when it returns. A build promises nothing:
    /// an index that cannot be saved is used all the same.
    pub fn syncs_all(&self) -> bool {
        matches!(self, Self::Sync | Self::Checkpoint | Self::Compact(_))
    }

    /// The same, without calls of others within it.
    pub fn alone(&self) -> Self {
        match self {
            Self::Compact(compaction) => {
                Self::Compact(Compaction { among: Vec::new(), ..*compaction })
            }
            other => other.clone(),
        }
    }

    /// Runs it; `synced` says through which handle.
    pub fn run(&self, database: &Database, synced: bool) -> Result<()> {
        let db = if synced { &database.synced } else { &database.fast };
        let store = |number: usize| {
            let (synced_store, fast_store) = &database.stores[number];
            if synced { synced_store } else { fast_store }
        };
        match self {
            Self::Put(key, value) => db.append(key, value.clone()).map(|_| ()),
            Self::TryPut(key, value) => match db.try_put(key, &value.borrowed())? {
                Some(_) => Ok(()),
                None => db.append(key, value.clone()).map(|_| ()),
            },
            Self::Many(values) => {
                let borrowed = values.iter().map(|(key, value)| (key.as_str(), value.borrowed()));
                db.put_many(&borrowed.collect::<Vec<_>>()).map(|_| ())
            }
            Self::Batch(changes) => {
                let mut batch = WriteBatch::new();
                for (key, change) in changes {
                    match change {
                        Change::Put(value) => batch.put(key, value.clone())?,
                        Change::Floats(values) => batch.append_floats(key, values)?,
                        Change::Remove => batch.delete(key)?,
                        Change::Row(number, row) => {
                            store(*number).insert_in(&mut batch, key, row)?;
                        }
                        Change::RemoveRow(number) => {
                            store(*number).remove_in(&mut batch, key)?;
                        }
                    }
                }
                db.commit(&batch).map(|_| ())
            }
            Self::Floats(key, values) => db.append_floats(key, values).map(|_| ()),
            Self::Remove(key) => db.delete(key),
            Self::Insert(number, keys, rows) => {
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                store(*number).insert_rows(&keys, rows).map(|_| ())
            }
            Self::RemoveRow(number, key) => store(*number).delete(key),
            Self::Build(number, backend) => {
                store(*number).build_index_with(backend, 1, &mut |_, _| true).map(|_| ())
            }
            Self::Sync => db.sync(),
            Self::Checkpoint => db.checkpoint(),
            Self::Compact(compaction) => compaction.run(database),
        }
    }

    /// Does the same to the model.
    pub fn apply(&self, model: &mut Model) {
        match self {
            Self::Put(key, value) | Self::TryPut(key, value) => model.put(key, value),
            Self::Many(values) => values.iter().for_each(|(key, value)| model.put(key, value)),
            Self::Batch(changes) => {
                for (key, change) in changes {
                    match change {
                        Change::Put(value) => model.put(key, value),
                        Change::Floats(values) => model.floats(key, values),
                        Change::Remove => model.remove(VALUES, key),
                        Change::Row(number, row) => model.row(number + 1, key, row),
                        Change::RemoveRow(number) => model.remove(number + 1, key),
                    }
                }
            }
            Self::Floats(key, values) => model.floats(key, values),
            Self::Remove(key) => model.remove(VALUES, key),
            Self::Insert(number, keys, rows) => {
                let rows = rows.chunks_exact(usize::from(DIMENSIONS[*number]));
                keys.iter().zip(rows).for_each(|(key, row)| model.row(number + 1, key, row));
            }
            Self::RemoveRow(number, key) => model.remove(number + 1, key),
            Self::Build(..) | Self::Sync | Self::Checkpoint => {}
            Self::Compact(compaction) if compaction.keep == Keep::Newest => model.compact(),
            Self::Compact(_) => {}
        }
    }
}

/// What a part of the tests does, and how often.
#[derive(Debug, Clone)]
pub(super) struct Style {
    pub name: &'static str,
    /// States, in percent of those that are asked for; those with indexes come on top.
    pub share: u64,
    /// Operations of the first trace, and of those between crashes.
    pub ops: (u64, u64),
    /// Keys of each table.
    pub keys: u64,
    /// Of 100 values so many have up to 4 KiB, up to 60 KiB, or lie in an extent of their own.
    pub larger: [u64; 3],
    /// All values have one length, and so have most frames.
    pub equal: bool,
    /// Of 100 commits so many are synced.
    pub synced: u64,
    /// Bytes of frames after which a checkpoint is written.
    pub checkpoint_bytes: u64,
    /// How often which kind of step is taken.
    pub weights: Weights,
}

/// Weights of steps, relative to each other.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weights {
    pub put: u64,
    pub many: u64,
    pub batch: u64,
    pub floats: u64,
    pub remove: u64,
    pub insert: u64,
    pub insert_many: u64,
    pub remove_row: u64,
    pub build: u64,
    pub sync: u64,
    pub checkpoint: u64,
    pub compact: u64,
    pub reopen: u64,
    pub kill: u64,
    pub kill_within: u64,
}

/// What a runner does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Op(Kind),
    Reopen,
    Kill,
    KillWithin(Kind),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Put,
    Many,
    Batch,
    Floats,
    Remove,
    Insert,
    InsertMany,
    RemoveRow,
    Build,
    Sync,
    Checkpoint,
    Compact,
}

impl Style {
    /// Draws the next step.
    pub fn step(&self, random: &mut Random) -> Step {
        let w = &self.weights;
        let kinds = [
            (Kind::Put, w.put),
            (Kind::Many, w.many),
            (Kind::Batch, w.batch),
            (Kind::Floats, w.floats),
            (Kind::Remove, w.remove),
            (Kind::Insert, w.insert),
            (Kind::InsertMany, w.insert_many),
            (Kind::RemoveRow, w.remove_row),
            (Kind::Build, w.build),
            (Kind::Sync, w.sync),
            (Kind::Checkpoint, w.checkpoint),
            (Kind::Compact, w.compact),
        ];
        let total: u64 = kinds.iter().map(|(_, weight)| weight).sum();
        let kind = |random: &mut Random| {
            let mut at = random.below(total);
            for (kind, weight) in kinds {
                if at < weight {
                    return kind;
                }
                at -= weight;
            }
            Kind::Put
        };
        let others = w.reopen + w.kill + w.kill_within;
        let at = random.below(total + others);
        if at < w.reopen {
            Step::Reopen
        } else if at < w.reopen + w.kill {
            Step::Kill
        } else if at < others {
            Step::KillWithin(kind(random))
        } else {
            Step::Op(kind(random))
        }
    }

    /// Draws an operation of a kind.
    pub fn op(&self, kind: Kind, random: &mut Random) -> Op {
        match kind {
            Kind::Put if random.chance(20) => Op::TryPut(self.key(random), self.value(random)),
            Kind::Put => Op::Put(self.key(random), self.value(random)),
            Kind::Many => {
                let count = 1 + random.below(30);
                // Without values in extents it is one commit.
                let inline = Self { larger: [self.larger[0], self.larger[1], 0], ..self.clone() };
                Op::Many((0..count).map(|_| (self.key(random), inline.value(random))).collect())
            }
            Kind::Batch => {
                let count = 1 + random.below(10);
                Op::Batch((0..count).map(|_| (self.key(random), self.change(random))).collect())
            }
            Kind::Floats => Op::Floats(self.key(random), floats(random)),
            Kind::Remove => Op::Remove(self.key(random)),
            Kind::Insert => self.rows(1, random),
            Kind::InsertMany => self.rows(1 + random.below(60), random),
            Kind::RemoveRow => Op::RemoveRow(random.index(DIMENSIONS.len()), self.key(random)),
            Kind::Build => Op::Build(random.index(DIMENSIONS.len()), backend(random)),
            Kind::Sync => Op::Sync,
            Kind::Checkpoint => Op::Checkpoint,
            Kind::Compact => Op::Compact(self.compaction(random)),
        }
    }

    fn compaction(&self, random: &mut Random) -> Compaction {
        const AMONG: [Kind; 6] =
            [Kind::Put, Kind::Batch, Kind::Floats, Kind::Remove, Kind::Insert, Kind::RemoveRow];
        let count = if random.chance(50) { random.index(5) } else { 0 };
        let mut call = || {
            let kind = AMONG[random.index(AMONG.len())];
            (self.op(kind, random), random.chance(self.synced))
        };
        let among = (0..count).map(|_| call()).collect();
        let keep = [Keep::Newest, Keep::Newest, Keep::Histories, Keep::Everything];
        Compaction { keep: keep[random.index(4)], among }
    }

    fn key(&self, random: &mut Random) -> String {
        let number = random.below(self.keys);
        // A few keys are longer than the window in which a record usually fits.
        let is_long = !self.equal && number % 16 == 7;
        format!("key{number:04}{}", if is_long { "+".repeat(300) } else { String::new() })
    }

    fn change(&self, random: &mut Random) -> Change {
        let number = random.index(DIMENSIONS.len());
        match random.below(14) {
            0..=5 => Change::Put(self.value(random)),
            6 | 7 => Change::Floats(floats(random)),
            8..=10 => Change::Row(number, row(DIMENSIONS[number], random)),
            11 => Change::RemoveRow(number),
            _ => Change::Remove,
        }
    }

    fn value(&self, random: &mut Random) -> Value {
        if self.equal {
            return Value::Bytes(random.bytes(40));
        }
        let [page, frame, extent] = self.larger;
        let at = random.below(100);
        let len = if at < extent {
            (4 << 20) + 1 + random.index(300_000)
        } else if at < extent + frame {
            random.index(60_000)
        } else if at < extent + frame + page {
            random.index(4096)
        } else {
            return small(random);
        };
        Value::Bytes(random.bytes(len))
    }

    fn rows(&self, count: u64, random: &mut Random) -> Op {
        let number = random.index(DIMENSIONS.len());
        let rows = (0..count).flat_map(|_| row(DIMENSIONS[number], random)).collect();
        Op::Insert(number, (0..count).map(|_| self.key(random)).collect(), rows)
    }
}

/// An index of any kind, none among them.
fn backend(random: &mut Random) -> IndexBackend {
    let seed = random.draw();
    match random.below(9) {
        0 | 1 => IndexBackend::Flat(PackedConfig { seed, ..PackedConfig::default() }),
        2 | 3 => IndexBackend::Hnsw(HnswConfig { seed, ..HnswConfig::default() }),
        4 | 5 => IndexBackend::GravityWell(IvfConfig { seed, ..IvfConfig::default() }),
        6 | 7 => IndexBackend::Cascade(CascadeParameters { seed, ..CascadeParameters::small() }),
        _ => IndexBackend::None,
    }
}

fn small(random: &mut Random) -> Value {
    match random.below(7) {
        0 => Value::Null,
        1 => Value::Float(f64::from_bits(random.draw() >> 2)),
        2 => Value::Int(random.draw() as i64),
        3 => Value::Text("text ".repeat(random.index(40))),
        4 => Value::Vector((0..3).map(|_| random.below(100) as f32).collect(), 3),
        _ => {
            let len = random.index(100);
            Value::Bytes(random.bytes(len))
        }
    }
}

fn floats(random: &mut Random) -> Vec<f64> {
    let most = if random.chance(10) { 400 } else { 12 };
    let count = 1 + random.below(most);
    (0..count).map(|_| random.below(1 << 40) as f64 / 8.0).collect()
}

fn row(dimensions: u16, random: &mut Random) -> Vec<f32> {
    (0..dimensions).map(|_| random.below(2000) as f32 - 1000.0).collect()
}
