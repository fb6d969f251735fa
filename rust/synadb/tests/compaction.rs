//! Compaction while others read and write.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::model::{Change, Op, STORES};
use common::reads::{Judge, Seen, read_all};
use common::scribe::Scribe;
use common::{Open, Random, fast, folder, load, reading, store};
use synadb::{CompactOptions, CompactionReport, Error, Keep, SynaDB, Value};

const BULK: usize = 1500;

/// Values and vectors, some behind a checkpoint, some deleted, most written several times.
fn fill(scribe: &mut Scribe, random: &mut Random) {
    let values = |random: &mut Random| {
        (0..BULK).map(|i| (format!("bulk/{i:05}"), Value::Bytes(random.bytes(200)))).collect()
    };
    scribe.act(&Op::PutMany(values(random)));
    let rows = |random: &mut Random, index: usize| {
        let row = |random: &mut Random| random.vector(STORES[index].dimensions);
        (0..BULK / 3).map(|i| (format!("bulk/{i:05}"), row(random))).collect()
    };
    (0..STORES.len()).for_each(|index| scribe.act(&Op::InsertMany(index, rows(random, index))));
    (0..150).for_each(|_| scribe.act(&Op::random(random)));
    scribe.act(&Op::Checkpoint);
    scribe.act(&Op::PutMany(values(random)));
    scribe.act(&Op::InsertMany(1, rows(random, 1)));
    scribe.act(&Op::Put("large".into(), Value::Bytes(random.bytes(5 << 20))));
    (0..150).for_each(|_| scribe.act(&Op::random(random)));
}

/// What others do while the file is compacted, to keys that are being carried over too.
fn meddle(scribe: &mut Scribe, random: &mut Random) {
    let bulk = |random: &mut Random| format!("bulk/{:05}", random.below(BULK));
    let (key, index) = (bulk(random), random.below(STORES.len()));
    scribe.act(&Op::Put(key, Value::Int(random.next() as i64)));
    if scribe.model.values.contains_key("large") && random.below(9) == 0 {
        scribe.act(&Op::Delete("large".into()));
    }
    let key = bulk(random);
    if scribe.model.values.contains_key(&key) {
        scribe.act(&Op::Delete(key.clone()));
    }
    scribe.act(&Op::Batch(vec![
        (bulk(random), Change::Floats(vec![1.5; 70])),
        (key, Change::Put(Value::Null)),
    ]));
    let row = random.vector(STORES[index].dimensions);
    scribe.act(&Op::Insert(index, bulk(random), row));
    scribe.act(&Op::Remove(index, bulk(random)));
    (0..5).for_each(|_| scribe.act(&Op::random(random)));
}

fn temporary_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.to_string_lossy().contains("-tmp-")).collect()
}

/// Compacts, meddles meanwhile, and reads everything in all ways.
fn check_compaction(seed: u64, keep: Keep) {
    let folder = folder();
    let path = folder.path().join("a.db");
    let mut random = Random(seed);
    let mut scribe = Scribe::create(&path);
    fill(&mut scribe, &mut random);
    if keep == Keep::Newest {
        scribe.model.compact();
    }
    let db = scribe.open.db.clone();
    let untouched = scribe.model.values.keys().next().cloned().expect("a key");
    let version = db.version(&untouched).expect("reads");
    let options = CompactOptions { keep, ..CompactOptions::default() };
    let (mut told, mut reached) = (0, 0);
    let report = db.compact_with(&options, &mut |done, all| {
        assert!(done <= all && done >= reached, "{reached}, {done} of {all}");
        (told, reached) = (told + 1, done);
        meddle(&mut scribe, &mut random);
        if told == 2 {
            // A table that is born meanwhile.
            let config = synadb::VectorConfig { dimensions: 3, ..Default::default() };
            let late = synadb::VectorStore::attach(&scribe.open.db, "late", config);
            late.and_then(|late| late.insert("key", &[1.0, 2.0, 3.0])).expect("inserts");
        }
        true
    });
    let report = report.expect("compacts");
    assert!(told > 3, "asked {told} times");
    assert!(keep == Keep::Everything || report.bytes_after < report.bytes_before, "{report:?}");
    let sequence = scribe.sequence();
    if scribe.model.values.get(&untouched).is_some_and(|history| history.len() == 1) {
        assert_eq!(db.version(&untouched).expect("reads"), version);
    }
    read_all(&scribe.open, &scribe.model, &["none", "large"], &mut Judge::strict());
    assert_eq!(db.verify().expect("verifies").damage, []);
    assert!(temporary_files(folder.path()).is_empty());

    let expected = Seen::of(&scribe.open).expect("reads");
    let (log, checkpoint) = load(&path);
    assert!(checkpoint.is_some(), "the new views are saved");
    for (name, beside) in [("b.db", checkpoint.as_deref()), ("c.db", None)] {
        let path = folder.path().join(name);
        store(&path, &log, beside);
        let copy = Open::new(&path, &reading()).expect("opens");
        let recovery = copy.db.recovery().expect("open");
        assert_eq!(recovery.replayed_from > 8192, beside.is_some(), "{recovery:?}");
        assert_eq!(Seen::of(&copy).expect("reads"), expected, "{name}");
    }
    // What comes next counts on.
    (0..20).for_each(|_| meddle(&mut scribe, &mut random));
    assert!(scribe.sequence() > sequence);
    let kept = CompactOptions { keep: Keep::Everything, ..CompactOptions::default() };
    db.compact_with(&kept, &mut |_, _| true).expect("compacts once more");
    read_all(&scribe.open, &scribe.model, &["none"], &mut Judge::strict());
    let model = scribe.model.clone();
    drop(db);
    scribe.close();
    let again = Scribe::open(&path, model, &fast());
    read_all(&again.open, &again.model, &["none"], &mut Judge::strict());
}

#[test]
fn what_is_committed_meanwhile_is_kept_with_every_version() {
    (1..4).for_each(|seed| check_compaction(seed, Keep::Newest));
}

#[test]
fn history_is_kept_where_that_is_asked_for() {
    (11..13).for_each(|seed| check_compaction(seed, Keep::Everything));
    (21..23).for_each(|seed| check_compaction(seed, Keep::Histories));
}

#[test]
fn a_cancelled_compaction_changes_nothing() {
    let folder = folder();
    let path = folder.path().join("a.db");
    let mut random = Random(3);
    let mut scribe = Scribe::create(&path);
    fill(&mut scribe, &mut random);
    let db = scribe.open.db.clone();
    let before = load(&path);
    let mut last = 0;
    for asked in 1.. {
        let mut told = 0;
        let result = db.compact_with(&CompactOptions::default(), &mut |_, _| {
            told += 1;
            told < asked
        });
        if result.is_ok() {
            break;
        }
        assert!(matches!(result, Err(Error::Cancelled { .. })), "{result:?}");
        assert!(temporary_files(folder.path()).is_empty(), "left behind");
        assert_eq!(load(&path), before);
        if asked % 8 == 1 {
            read_all(&scribe.open, &scribe.model, &["none"], &mut Judge::strict());
        }
        last = asked;
    }
    assert!(last > 5, "cancelled {last} times");
    scribe.model.compact();
    read_all(&scribe.open, &scribe.model, &["none"], &mut Judge::strict());
}

/// Compacts on a thread of its own, which must come to an end, with a function that is given how
/// often it was called and whether all is done; returns what it was told, too.
fn compact_beside(
    db: &SynaDB,
    mut goes_on: impl FnMut(usize, bool) -> bool + Send + 'static,
) -> (Result<CompactionReport, Error>, Vec<(u64, u64)>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let db = db.clone();
    std::thread::spawn(move || {
        let mut told = Vec::new();
        let done = db.compact_with(&CompactOptions::default(), &mut |done, total| {
            told.push((done, total));
            goes_on(told.len(), done == total)
        });
        // Nobody waits for it any more where this came too late.
        let _ = sender.send((done, told));
    });
    receiver.recv_timeout(Duration::from_secs(60)).expect("who is told waits for nothing")
}

/// Each time it is told something, so much is written: a compaction that carries it over is told of
/// that, and has to hold up who writes.
const MEANWHILE: usize = 60;

fn write_meanwhile(db: &SynaDB, call: usize) {
    if call <= MEANWHILE {
        db.append("meanwhile", Value::Bytes(vec![call as u8; 1 << 20])).expect("appends");
    }
}

#[test]
fn who_is_told_how_far_it_is_may_write_close_and_cancel() {
    let folder = folder();
    let path = folder.path().join("a.db");
    let db = fast().create(true).open(&path).expect("opens");
    for i in 0..2_000 {
        db.append(&format!("{i}"), Value::Bytes(vec![i as u8; 2_000])).expect("appends");
    }
    let mut written = 0;
    // The first is cancelled where it holds others up.
    for calls in [MEANWHILE - 5, usize::MAX] {
        let writer = db.clone();
        let (done, told) = compact_beside(&db, move |call, _| {
            write_meanwhile(&writer, call);
            call < calls
        });
        let is_whole = |told: &&(u64, u64)| told.0 == told.1;
        let wholes = told.iter().filter(is_whole).count();
        if calls < usize::MAX {
            assert!(matches!(done, Err(Error::Cancelled { .. })), "{done:?}");
            assert_eq!((told.len(), wholes), (calls, 0));
            written += calls;
        } else {
            done.expect("compacts");
            assert!(told.len() >= MEANWHILE, "{}", told.len());
            assert!(wholes == 1 && told.last().is_some_and(|last| is_whole(&last)));
            written = db.get_history("meanwhile").expect("reads").len();
            assert!(written >= MEANWHILE);
        }
        assert!(db.get_history("meanwhile").expect("reads").len() >= written);
    }
    db.close_handle().expect("closes");
    for at_last in [false, true] {
        let db = fast().open(&path).expect("opens once more");
        let closing = db.clone();
        let (done, _) = compact_beside(&db, move |call, is_whole| {
            if is_whole || !at_last && call == 3 {
                closing.close_handle().expect("closes");
            }
            true
        });
        assert!(matches!(done, Err(Error::Closed)), "{done:?}");
        assert!(temporary_files(folder.path()).is_empty(), "left behind");
        let db = fast().open(&path).expect("opens");
        assert_eq!(db.get_history("meanwhile").expect("reads").len(), written);
        db.close().expect("closes");
    }
}

#[test]
fn readers_and_writers_wait_for_the_last_step_only() {
    let folder = folder();
    let mut scribe = Scribe::create(&folder.path().join("a.db"));
    fill(&mut scribe, &mut Random(4));
    let (db, rows) = (scribe.open.db.clone(), scribe.open.stores[0].clone());
    let mut told = 0;
    db.compact_with(&CompactOptions::default(), &mut |_, _| {
        told += 1;
        // A lock that the compaction held would keep these for ever.
        std::thread::scope(|scope| {
            scope.spawn(|| db.append("meanwhile", Value::Int(told)).expect("appends"));
            scope.spawn(|| assert_eq!(rows.search(&[1.0; 5], 3).expect("searches").len(), 3));
            scope.spawn(|| {
                let transaction = db.transaction().expect("begins");
                drop(transaction);
            });
        });
        true
    })
    .expect("compacts");
    let history = db.get_history("meanwhile").expect("reads");
    assert_eq!(history, (1..=told).map(Value::Int).collect::<Vec<_>>());
}

#[test]
fn the_new_file_takes_no_more_space_than_what_is_alive() {
    let folder = folder();
    let path = folder.path().join("a.db");
    let db = fast().create(true).open(&path).expect("opens");
    for round in 0..60_u8 {
        let values: Vec<_> = (0..1000).map(|i| (format!("key{i}"), vec![round; 1000])).collect();
        let values: Vec<_> =
            values.iter().map(|(k, v)| (k.as_str(), synadb::ValueRef::Bytes(v.into()))).collect();
        db.put_many(&values).expect("puts");
    }
    let mut most = 0;
    let report = db.compact_with(&CompactOptions::default(), &mut |_, _| {
        let sizes = temporary_files(folder.path()).into_iter();
        let sizes = sizes.map(|path| std::fs::metadata(path).expect("there").len());
        most = most.max(sizes.sum());
        true
    });
    let report = report.expect("compacts");
    assert!(report.bytes_before > 60_000_000 && report.bytes_after < 2 << 20, "{report:?}");
    // Files grow in steps that double.
    assert!(most <= 2 * report.bytes_after + (64 << 10), "{most} bytes for {report:?}");
}

#[test]
fn compactions_take_turns() {
    let folder = folder();
    let path = folder.path().join("a.db");
    let db = fast().create(true).open(&path).expect("opens");
    (0..2000).for_each(|i| drop(db.append(&format!("key{}", i % 500), Value::Int(i))));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                count += 1;
                db.append("count", Value::Int(count)).expect("appends");
            }
            count
        });
        let compact = || (0..10).for_each(|_| drop(db.compact().expect("compacts")));
        let others: Vec<_> = (0..3).map(|_| scope.spawn(compact)).collect();
        others.into_iter().for_each(|other| other.join().expect("no panic"));
        done.store(true, Ordering::Relaxed);
        let count = writer.join().expect("no panic");
        assert_eq!(db.get("count").expect("reads"), Some(Value::Int(count)));
    });
    assert_eq!(db.stats().expect("stats").generation, 30);
    assert_eq!(db.len(), 501);
    let nothing = fast().lock_timeout(std::time::Duration::ZERO).open(&path).expect("opens");
    let within = db.compact_with(&CompactOptions::default(), &mut |_, _| {
        let second = nothing.compact();
        assert!(matches!(second, Err(Error::Busy { .. })), "{second:?}");
        true
    });
    within.expect("compacts");
}

#[test]
fn a_writer_in_another_process_goes_on_in_the_new_file() {
    let folder = folder();
    let path = folder.path().join("a.db");
    let db = fast().create(true).open(&path).expect("opens");
    (0..2000).for_each(|i| drop(db.append(&format!("key{i}"), Value::Int(i))));
    let mut child = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "writing_child", "--ignored", "--nocapture"])
        .env("SYNADB_TEST_PATH", &path)
        .spawn()
        .expect("runs");
    let (mut compactions, mut newest) = (0, -1);
    let status = loop {
        db.compact().expect("compacts");
        compactions += 1;
        let count = db.get("count").expect("reads").map_or(-1, |v| v.as_int().unwrap_or(-1));
        assert!(count >= newest, "{count} after {newest}");
        newest = count;
        if compactions == 4 {
            // The other process goes on until it sees this, however slow compactions are.
            db.append("enough", Value::Null).expect("appends");
        }
        if let Some(status) = child.try_wait().expect("asked") {
            break status;
        }
    };
    assert!(status.success());
    assert!(compactions >= 4, "{compactions} compactions");
    let count = db.get("count").expect("reads").and_then(|v| v.as_int());
    assert!(count.is_some_and(|count| count + 1 >= COMMITS), "{count:?}");
    assert_eq!(db.len(), 2002);
    let commits = count.expect("just seen") + 1;
    assert!(db.stats().expect("stats").sequence as i64 > 2000 + commits);
}

/// The least number of commits of the other process.
const COMMITS: i64 = 20_000;

#[test]
#[ignore = "run by a_writer_in_another_process_goes_on_in_the_new_file in a process of its own"]
fn writing_child() {
    let Ok(path) = std::env::var("SYNADB_TEST_PATH") else { return };
    let db = fast().open(&path).expect("opens");
    let mut i = 0;
    while i < COMMITS || db.get("enough").expect("reads").is_none() {
        db.append("count", Value::Int(i)).expect("appends");
        assert_eq!(db.get("count").expect("reads"), Some(Value::Int(i)));
        i += 1;
    }
    db.close().expect("closes");
}
