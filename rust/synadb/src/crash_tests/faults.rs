//! Every operation on files fails once, and for good, in every call that a user can make.
//!
//! The call says clearly what went wrong and has done nothing, the next call works, and the file is
//! good when it is opened again, after a power cut too. Only a failed sync or a panic poisons it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};

use synadb_storage::directory::SimulatedDirectory;
use synadb_storage::simulation::{Failure, Fault, Medium, Operation, Random, Walk};

use super::among::Compaction;
use super::database::{DIMENSIONS, Database};
use super::model::Model;
use super::states::{leftovers, verify};
use super::workload::{Change, Op};
use crate::config::{Access, Keep, OpenOptions};
use crate::error::Error;
use crate::value::Value;
use crate::vector::{HnswConfig, IndexBackend};

/// The first so many operations of a call fail one by one, later ones at growing distances.
const DENSE: u64 = 12;
/// Power cuts after each failure.
const CUTS: usize = 2;

/// What a failure may come out as, and whether it may poison the file.
#[derive(Debug, Clone, Copy)]
struct Kind {
    operation: Operation,
    failure: Failure,
    poisons: bool,
}

const fn kind(operation: Operation, failure: Failure) -> Kind {
    Kind { operation, failure, poisons: false }
}

const fn poisoning(operation: Operation, failure: Failure) -> Kind {
    Kind { operation, failure, poisons: true }
}

const KINDS: [Kind; 24] = [
    kind(Operation::Store, Failure::DiskFull),
    kind(Operation::Store, Failure::Io),
    kind(Operation::Store, Failure::Short),
    poisoning(Operation::Store, Failure::Panic),
    kind(Operation::Publish, Failure::DiskFull),
    kind(Operation::Publish, Failure::Io),
    poisoning(Operation::Publish, Failure::Panic),
    kind(Operation::Allocate, Failure::DiskFull),
    kind(Operation::Allocate, Failure::Io),
    kind(Operation::Allocate, Failure::Short),
    kind(Operation::Map, Failure::Io),
    kind(Operation::Zero, Failure::Io),
    kind(Operation::Zero, Failure::DiskFull),
    kind(Operation::Trim, Failure::Io),
    poisoning(Operation::Sync, Failure::Io),
    poisoning(Operation::Sync, Failure::DiskFull),
    poisoning(Operation::Sync, Failure::Lie),
    poisoning(Operation::Sync, Failure::Panic),
    kind(Operation::Open, Failure::Io),
    kind(Operation::Create, Failure::DiskFull),
    kind(Operation::Rename, Failure::Io),
    kind(Operation::Remove, Failure::Io),
    poisoning(Operation::SyncParent, Failure::Io),
    poisoning(Operation::SyncParent, Failure::Lie),
];

/// What happens while something fails.
#[derive(Debug, Clone)]
enum Call {
    Op(Op),
    Open,
    Close,
}

/// One failure in one call.
struct Trial<'a> {
    call: &'a Call,
    access: Access,
    synced: bool,
    kind: Kind,
    fault: Fault,
}

fn bytes(len: usize) -> Value {
    Value::Bytes(Random::new(len as u64).bytes(len))
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("key{number}")).collect()
}

fn insert(number: usize, count: usize) -> Op {
    let components = count * usize::from(DIMENSIONS[number]);
    Op::Insert(number, keys(count), (0..components).map(|n| n as f32).collect())
}

fn calls() -> Vec<Call> {
    let batch = vec![
        ("key1".to_owned(), Change::Put(bytes(3000))),
        ("key2".to_owned(), Change::Row(0, vec![1.0; usize::from(DIMENSIONS[0])])),
        ("key1".to_owned(), Change::Remove),
        ("key3".to_owned(), Change::Floats(vec![2.5; 40])),
        ("key0".to_owned(), Change::RemoveRow(1)),
    ];
    let many = keys(30).into_iter().map(|key| (key, bytes(2500)));
    let ops = [
        Op::Put("key1".into(), Value::Int(7)),
        Op::TryPut("new".into(), Value::Text("text".into())),
        Op::Put("key2".into(), bytes(60_000)),
        Op::Put("key3".into(), bytes((4 << 20) + 9)),
        Op::Many(many.collect()),
        Op::Batch(batch),
        Op::Floats("key4".into(), vec![1.5; 400]),
        Op::Remove("key1".into()),
        insert(0, 1),
        insert(1, 60),
        insert(1, 600),
        // Enough for a second thread.
        insert(1, 1200),
        Op::RemoveRow(1, "key1".into()),
        Op::Build(1, IndexBackend::Hnsw(HnswConfig::default())),
        Op::Sync,
        Op::Checkpoint,
        Op::Compact(Compaction::default()),
        Op::Compact(Compaction { keep: Keep::Everything, ..Compaction::default() }),
    ];
    ops.into_iter().map(Call::Op).chain([Call::Open, Call::Close]).collect()
}

/// A database that was closed, with something of each kind in it.
fn base(options: &OpenOptions) -> Result<(Arc<Medium>, Model), Error> {
    let medium = Medium::new();
    let database = Database::open(&medium, options)?;
    let mut model = Model::default();
    let puts = keys(6).into_iter().map(|key| Op::Put(key, bytes(300)));
    let others = [
        insert(0, 3),
        insert(1, 3),
        Op::Floats("key5".into(), vec![3.5; 20]),
        Op::Remove("key4".into()),
        Op::Put("key3".into(), Value::Null),
    ];
    for op in puts.chain(others) {
        op.run(&database, false)?;
        op.apply(&mut model);
    }
    database.close()?;
    Ok((medium, model))
}

impl Trial<'_> {
    /// Whether the failure was reached; the error says what was wrong then.
    fn run(&self) -> Result<bool, String> {
        let text = |what: &'static str| move |error: Error| format!("{what}: {error}");
        let options = OpenOptions::new().access(self.access);
        let (medium, before) = base(&options).map_err(text("base"))?;
        let directory = Arc::new(SimulatedDirectory::new(&medium));
        let process = Arc::clone(directory.process());
        let (mut after, mut database) = (before.clone(), None);
        if !matches!(self.call, Call::Open) {
            let opened = Database::open_through(Arc::clone(&directory), &options);
            database = Some(opened.map_err(text("open"))?);
        }
        process.fail(self.fault);
        let result = catch_unwind(AssertUnwindSafe(|| match (self.call, database.take()) {
            (Call::Op(op), Some(opened)) => {
                let result = op.run(&opened, self.synced);
                database = Some(opened);
                result
            }
            (Call::Close, Some(opened)) => opened.close(),
            _ => {
                database = Some(Database::open_through(Arc::clone(&directory), &options)?);
                Ok(())
            }
        }));
        if process.heal() == 0 {
            return Ok(false);
        }
        if let Call::Op(op) = self.call {
            op.apply(&mut after);
        }
        let result = self.outcome(result)?;
        let poisoned = match database {
            Some(database) => self.go_on(database, result, (&before, &mut after))?,
            None => true,
        };
        let end = medium.position();
        let least = if result && !self.lies() { &after } else { &before };
        reopened(&medium, &options, &[least, &after], poisoned)?;
        if !self.lies() {
            self.cut((&medium, end), &options, &before, &after)?;
        }
        Ok(true)
    }

    /// Whether what failed was the sync of the log itself.
    fn must_poison(&self) -> bool {
        let fails = matches!(self.kind.failure, Failure::Io | Failure::DiskFull);
        let of_the_log = match self.call {
            Call::Op(op) => !matches!(op, Op::Build(..) | Op::Checkpoint | Op::Compact(_)),
            Call::Open | Call::Close => false,
        };
        self.kind.operation == Operation::Sync && fails && of_the_log && self.synced
    }

    fn lies(&self) -> bool {
        self.kind.failure == Failure::Lie
    }

    /// Whether the call was fine; an error must be the one that was made.
    fn outcome(&self, result: std::thread::Result<Result<(), Error>>) -> Result<bool, String> {
        let error = match result {
            Ok(Ok(())) => return Ok(true),
            Ok(Err(error)) => error,
            Err(_) if self.kind.failure == Failure::Panic => return Ok(false),
            Err(_) => return Err("a panic".to_owned()),
        };
        let fits = match (&error, self.kind.failure) {
            (Error::DiskFull { .. }, Failure::DiskFull | Failure::Short) => true,
            (Error::Io { .. }, Failure::Io) => true,
            (Error::Poisoned { .. }, _) => self.kind.poisons && self.fault.lasts,
            _ => false,
        };
        if fits { Ok(false) } else { Err(format!("an error that says something else: {error}")) }
    }

    /// With nothing failing any more: the next call works, unless the file may be poisoned and is.
    fn go_on(
        &self,
        database: Database,
        done: bool,
        (before, after): (&Model, &mut Model),
    ) -> Result<bool, String> {
        let probe = Op::Put("probe".into(), Value::Int(1));
        let shown = Model::read(&database);
        let poisoned = match probe.run(&database, true) {
            Ok(()) => false,
            Err(Error::Poisoned { .. }) if self.kind.poisons => true,
            Err(error) => return Err(format!("the next call: {error}")),
        };
        if !poisoned && self.must_poison() {
            return Err("a sync failed, and nothing was poisoned".to_owned());
        }
        if !poisoned {
            let expected = if done { &*after } else { before };
            let shown = shown?;
            // What failed last was the sync of a commit that stands, or a panic behind it.
            let stands = self.kind.poisons && shown == *after;
            if shown != *expected && !stands {
                return Err(format!("half done: {}", shown.difference(expected)));
            }
            *after = shown;
            probe.apply(after);
        }
        if self.fault.nth.is_multiple_of(2) {
            database.kill();
        } else if let Err(error) = database.close() {
            return Err(format!("close: {error}"));
        }
        Ok(poisoned)
    }

    /// The power goes.
    fn cut(
        &self,
        (medium, end): (&Arc<Medium>, usize),
        options: &OpenOptions,
        before: &Model,
        after: &Model,
    ) -> Result<(), String> {
        let mut walk = Walk::new(medium);
        walk.advance(end);
        let mut random = Random::new(self.fault.nth);
        for _ in 0..CUTS {
            let left = walk.state(&mut random).map_err(|error| error.to_string())?;
            let opened = reopened(&left, options, &[before, after], true);
            opened.map_err(|error| format!("after a power cut: {error}"))?;
        }
        Ok(())
    }
}

/// The file opens and holds one of these; `either` says that the first will do.
fn reopened(
    medium: &Arc<Medium>,
    options: &OpenOptions,
    models: &[&Model; 2],
    either: bool,
) -> Result<(), String> {
    let opened = Database::open(medium, options).map_err(|error| format!("reopen: {error}"))?;
    let read = Model::read(&opened)?;
    let expected = if either { &models[..] } else { &models[1..] };
    if !expected.contains(&&read) {
        return Err(format!("reopened: {}", read.difference(models[1])));
    }
    verify(&opened)?;
    leftovers(medium)?;
    let probe = Op::Put("last".into(), Value::Int(2)).run(&opened, true);
    probe.and_then(|()| opened.close()).map_err(|error| format!("after reopening: {error}"))
}

/// Simulated panics say nothing; all others still do.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let say = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload_as_str().is_some_and(|text| text.starts_with("a simulated panic")) {
                say(info);
            }
        }));
    });
}

/// Lets the kinds fail in all calls; returns how many failures there were, and what was wrong.
fn check(access: Access, kinds: &[Kind]) {
    let (mut trials, mut failures) = (0, Vec::new());
    hush();
    for call in &calls() {
        for kind in kinds {
            for (synced, lasts) in [(true, false), (false, true)] {
                if lasts && kind.failure == Failure::Panic {
                    // A panic while one unwinds ends the process.
                    continue;
                }
                let mut nth = 1;
                loop {
                    let Kind { operation, failure, .. } = *kind;
                    let fault = Fault { operation: Some(operation), nth, failure, lasts };
                    let trial = Trial { call, access, synced, kind: *kind, fault };
                    match trial.run() {
                        Ok(true) => trials += 1,
                        Ok(false) => break,
                        Err(failure) => {
                            let call = format!("{call:?}").chars().take(60).collect::<String>();
                            failures.push(format!("{call} synced {synced} {fault:?}: {failure}"));
                        }
                    }
                    nth += if nth < DENSE { 1 } else { nth / 2 };
                }
            }
        }
    }
    println!("{access:?}: {trials} failures in {} kinds were survived", kinds.len());
    let shown: Vec<_> = failures.iter().take(30).map(|f| format!("\n  {f}")).collect();
    assert!(failures.is_empty(), "{} of {trials}:{}", failures.len(), shown.concat());
}

#[test]
fn every_failure_is_survived_by_who_has_the_file_alone() {
    check(Access::Exclusive, &KINDS);
}

#[test]
fn every_failure_is_survived_by_who_shares_the_file() {
    check(Access::Shared, &KINDS);
}
