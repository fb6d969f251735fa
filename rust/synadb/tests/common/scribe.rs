//! A writer that keeps the model in step, and remembers it as of every commit.

use std::path::{Path, PathBuf};

use synadb::{Access, Error, OpenOptions, Result, WriteBatch};

use super::model::{Change, Model, Op};
use super::{Open, checkpoint_of, create, fast, load, reads, remove, store};

/// What a database held as of a sequence number.
#[derive(Debug, Clone)]
pub struct Stage {
    pub sequence: u64,
    pub model: Model,
}

/// An open database and what it should hold.
pub struct Scribe {
    pub path: PathBuf,
    pub options: OpenOptions,
    pub open: Open,
    pub model: Model,
    /// After each commit, in order; the first is the empty database, or the one that was opened.
    pub stages: Vec<Stage>,
    killed: usize,
}

/// What the newest stage at or before a sequence number holds.
pub fn stage_at(stages: &[Stage], sequence: u64) -> &Model {
    let newest = stages.iter().rev().find(|stage| stage.sequence <= sequence);
    &newest.expect("a stage at or before every sequence").model
}

impl Scribe {
    /// A new database.
    pub fn create(path: &Path) -> Self {
        create(path);
        Self::open(path, Model::default(), &fast())
    }

    /// A database that holds what `model` says.
    pub fn open(path: &Path, model: Model, options: &OpenOptions) -> Self {
        let open = Open::new(path, options).expect("opens");
        let sequence = open.db.stats().expect("stats").sequence;
        let stages = vec![Stage { sequence, model: model.clone() }];
        let (path, options) = (path.to_owned(), options.clone());
        Self { path, options, open, model, stages, killed: 0 }
    }

    pub fn sequence(&self) -> u64 {
        self.open.db.stats().expect("stats").sequence
    }

    /// Does all of it, in order.
    pub fn run(&mut self, ops: impl IntoIterator<Item = Op>) {
        ops.into_iter().for_each(|op| self.act(&op));
    }

    /// Does it to the database and to the model.
    pub fn act(&mut self, op: &Op) {
        match op {
            Op::Insert(..) | Op::InsertMany(..) | Op::Update(..) | Op::Remove(..) => {
                self.write_vectors(op).expect("writes vectors");
            }
            Op::Search(store, query, k) => {
                reads::search(&self.open, *store, query, *k, &self.model).expect("searches");
            }
            Op::Compact => {
                self.open.db.compact().expect("compacts");
                self.model.compact();
            }
            Op::Checkpoint => self.open.db.checkpoint().expect("saves"),
            Op::Sync => self.open.db.sync().expect("syncs"),
            Op::Reopen { compression, exclusive } => {
                let access = if *exclusive { Access::Exclusive } else { Access::Shared };
                let options = self.options.clone().compression(*compression).access(access);
                self.reopen(&self.path.clone(), options);
            }
            Op::Kill => self.kill(),
            _ => self.write_values(op).expect("writes values"),
        }
        let sequence = self.sequence();
        self.stages.push(Stage { sequence, model: self.model.clone() });
    }

    fn write_values(&mut self, op: &Op) -> Result<()> {
        let db = &self.open.db;
        match op {
            Op::Put(key, value) => {
                db.append(key, value.clone())?;
                self.model.change(key, &Change::Put(value.clone()));
            }
            Op::PutMany(items) => {
                let values: Vec<_> = items.iter().map(|(k, v)| (&**k, v.borrowed())).collect();
                assert_eq!(db.put_many(&values)?, items.len());
                for (key, value) in items {
                    self.model.change(key, &Change::Put(value.clone()));
                }
            }
            Op::Floats(key, points) => {
                assert_eq!(db.append_floats(key, points)?, points.len());
                self.model.change(key, &Change::Floats(points.clone()));
            }
            Op::Delete(key) => {
                assert_eq!(db.remove(key)?, self.model.values.contains_key(key), "{key:?}");
                self.model.change(key, &Change::Delete);
            }
            Op::Batch(changes) => {
                let mut batch = WriteBatch::new();
                for (key, change) in changes {
                    match change {
                        Change::Put(value) => batch.put(key, value.clone())?,
                        Change::Floats(points) => batch.append_floats(key, points)?,
                        Change::Delete => batch.delete(key)?,
                    }
                    self.model.change(key, change);
                }
                db.commit(&batch)?;
            }
            other => unreachable!("{other:?} writes no values"),
        }
        Ok(())
    }

    fn write_vectors(&mut self, op: &Op) -> Result<()> {
        let (Op::Insert(index, ..)
        | Op::InsertMany(index, ..)
        | Op::Update(index, ..)
        | Op::Remove(index, ..)) = op
        else {
            unreachable!("{op:?} writes no vectors")
        };
        let (store, vectors) = (&self.open.stores[*index], &mut self.model.vectors[*index]);
        match op {
            Op::Insert(_, key, vector) => {
                store.insert(key, vector)?;
                vectors.insert(key.clone(), vector.clone());
            }
            Op::InsertMany(_, items) => {
                let keys: Vec<&str> = items.iter().map(|(key, _)| &**key).collect();
                let rows: Vec<&[f32]> = items.iter().map(|(_, vector)| &**vector).collect();
                let before = vectors.len();
                vectors.extend(items.iter().cloned());
                assert_eq!(store.insert_batch(&keys, &rows)?, vectors.len() - before);
            }
            Op::Update(_, key, vector) => match (store.update(key, vector), vectors.get_mut(key)) {
                (Ok(()), Some(old)) => old.clone_from(vector),
                (Err(Error::KeyNotFound { .. }), None) => {}
                (got, known) => panic!("update of {key:?}: {got:?}, {known:?}"),
            },
            Op::Remove(_, key) => {
                assert_eq!(store.remove(key)?, vectors.remove(key).is_some(), "{key:?}");
            }
            other => unreachable!("{other:?} writes no vectors"),
        }
        Ok(())
    }

    /// Closes cleanly and opens `path`.
    pub fn reopen(&mut self, path: &Path, options: OpenOptions) {
        self.close_handles().expect("closes");
        self.open = Open::new(path, &options).expect("opens again");
        (self.path, self.options) = (path.to_owned(), options);
    }

    fn close_handles(&self) -> Result<()> {
        self.open.stores.iter().try_for_each(synadb::VectorStore::close_handle)?;
        self.open.db.close_handle()
    }

    /// Goes on with what a SIGKILL now would leave.
    fn kill(&mut self) {
        self.killed += 1;
        let name = format!("killed-{}.db", self.killed);
        let (log, checkpoint) = load(&self.path);
        let (path, old) = (self.path.with_file_name(name), self.path.clone());
        store(&path, &log, checkpoint.as_deref());
        self.reopen(&path, self.options.clone());
        remove(&old);
        remove(&checkpoint_of(&old));
    }

    /// Closes cleanly; what was written stays in the files.
    pub fn close(self) -> Vec<Stage> {
        self.close_handles().expect("closes");
        self.stages
    }
}
