//! Every byte of a closed file flipped: the right answer or an error with an offset.

mod common;

use std::os::unix::fs::FileExt;
use std::path::Path;

use common::frames::{Class, classes};
use common::model::{Change, Model, Op};
use common::reads::{Judge, read_all};
use common::scribe::Scribe;
use common::{Note, Open, fast, folder, load, reading, store};
use synadb::{CompactOptions, Error, Value};

const ABSENT: [&str; 3] = ["gone", "never", "dead"];

/// A small closed file with something of everything.
struct Written {
    log: Vec<u8>,
    /// Saved in the middle, and at the end.
    checkpoints: [Vec<u8>; 2],
    model: Model,
    classes: Vec<Class>,
}

fn put(key: &str, value: impl Into<Value>) -> Op {
    Op::Put(key.to_owned(), value.into())
}

fn vector(dimensions: u16, first: f32) -> Vec<f32> {
    (0..dimensions).map(|i| first - f32::from(i)).collect()
}

fn delete(key: &str) -> Op {
    Op::Delete(key.to_owned())
}

/// What is saved in the middle is changed behind it in every way that there is.
fn write(path: &Path) -> Written {
    let mut scribe = Scribe::create(path);
    let change = |key: &str, change| (key.to_owned(), change);
    scribe.run([
        put("text", "t".repeat(80)),
        put("int", 1),
        put("int", 2),
        Op::Batch(vec![
            change("batch/1", Change::Put(Value::Float(0.5))),
            change("batch/2", Change::Put(Value::Text("two".into()))),
        ]),
        Op::Floats("run".into(), (0..10).map(f64::from).collect()),
        put("gone", 1.0),
        delete("gone"),
        put("back", 1),
        delete("back"),
        put("ends", 1),
        Op::InsertMany(0, ["a", "b", "c"].map(|k| (k.to_owned(), vector(5, 9.0))).into()),
        Op::Insert(0, "dead".into(), vector(5, 8.0)),
        Op::Insert(0, "back".into(), vector(5, 7.0)),
        Op::Remove(0, "back".into()),
        Op::Insert(1, "a".into(), vector(16, 1.0)),
    ]);
    scribe.run((0..9).map(|i| put("series", f64::from(i))));
    scribe.act(&Op::Checkpoint);
    let (_, middle) = load(path);
    scribe.run([
        put("int", 3),
        put("back", 2),
        delete("ends"),
        put("series", 9.5),
        Op::Floats("run".into(), vec![0.25; 3]),
        Op::Insert(0, "back".into(), vector(5, 6.0)),
        Op::Update(0, "b".into(), vector(5, 5.0)),
        Op::Remove(0, "dead".into()),
        put("text", "u".repeat(90)),
        put("last", 4),
        Op::Checkpoint,
    ]);
    let model = scribe.model.clone();
    scribe.close();
    let (log, end) = load(path);
    let classes = classes(&log);
    Written { log, checkpoints: [middle.expect("saved"), end.expect("saved")], model, classes }
}

/// What a reader of a damaged file was told.
struct Told {
    /// Offsets by `verify`, or by the refusal to open.
    offsets: Vec<u64>,
    torn: bool,
}

fn examine(path: &Path, written: &Written, writes: bool) -> Told {
    let before = load(path);
    match Open::new(path, &if writes { fast() } else { reading() }) {
        Ok(open) => {
            let mut judge = Judge::lenient();
            read_all(&open, &written.model, &ABSENT, &mut judge);
            let report = open.db.verify().expect("verifies");
            let offsets = report.damage.into_iter().map(|(offset, _)| offset).collect();
            Told { offsets, torn: open.db.recovery().expect("open").torn }
        }
        Err(Error::Corruption { offset, .. }) => {
            assert!(load(path) == before, "a file that is refused was changed");
            Told { offsets: vec![offset], torn: false }
        }
        Err(error) => panic!("{error}"),
    }
}

/// Flips one bit of each byte; of page 1 what is looked at alone.
fn flip_each(checkpoint: Option<usize>) {
    let folder = folder();
    let path = folder.path().join("log.db");
    let written = write(&path);
    let beside = checkpoint.map(|index| &*written.checkpoints[index]);
    let words = (4096..8192usize).filter(|at| at % 64 < 8);
    let others = (0..4096).chain(8192..written.log.len());
    for at in others.chain(words) {
        let _note = Note(|| format!("a flip at {at} of {:?}", written.classes[at]));
        let mut log = written.log.clone();
        log[at] ^= 1 << (at * 5 % 8);
        store(&path, &log, beside);
        let told = examine(&path, &written, at % 3 > 0);
        let at = at as u64;
        match written.classes[at as usize] {
            Class::Checked => {
                let near = |offset: &u64| *offset <= at && at - *offset < 2048;
                assert!(told.offsets.iter().any(near), "not found: {:?}", told.offsets);
            }
            Class::Behind => assert!(told.torn && told.offsets.is_empty()),
            Class::Control | Class::Dead => assert_eq!(told.offsets, [0; 0]),
        }
    }
}

/// Defects 2 and 3 of the original: no flip changes an answer in silence.
#[test]
fn a_flip_in_a_log_without_checkpoint_is_found_and_gives_no_other_answer() {
    flip_each(None);
}

/// Defects 2 and 3 of the original, and what was saved is behind the damage or before it.
#[test]
fn a_flip_in_a_log_with_a_checkpoint_in_its_middle_is_found_and_gives_no_other_answer() {
    flip_each(Some(0));
}

/// Defects 2 and 3 of the original: nothing is replayed, so that each read finds out by itself.
#[test]
fn a_flip_in_a_log_with_a_checkpoint_at_its_end_is_found_and_gives_no_other_answer() {
    flip_each(Some(1));
}

#[test]
fn a_flip_in_a_checkpoint_changes_no_answer() {
    let folder = folder();
    let path = folder.path().join("log.db");
    let written = write(&path);
    for checkpoint in &written.checkpoints {
        for at in 0..checkpoint.len() {
            let _note = Note(|| format!("a flip at {at} of a checkpoint"));
            let mut checkpoint = checkpoint.clone();
            checkpoint[at] ^= 1 << (at * 5 % 8);
            store(&path, &written.log, Some(&checkpoint));
            let open = Open::new(&path, &fast()).expect("opens");
            read_all(&open, &written.model, &ABSENT, &mut Judge::strict());
        }
    }
}

#[test]
fn a_checkpoint_cut_anywhere_changes_no_answer() {
    let folder = folder();
    let path = folder.path().join("log.db");
    let written = write(&path);
    let checkpoint = &written.checkpoints[0];
    for len in (0..checkpoint.len()).step_by(3) {
        let _note = Note(|| format!("a checkpoint cut at {len}"));
        store(&path, &written.log, Some(&checkpoint[..len]));
        let open = Open::new(&path, &reading()).expect("opens");
        read_all(&open, &written.model, &ABSENT, &mut Judge::strict());
    }
}

/// Defect 15 of the original: one damaged value does not keep the rest from being compacted.
#[test]
fn compaction_names_what_is_damaged_and_carries_the_rest_over() {
    let folder = folder();
    let path = folder.path().join("log.db");
    let Written { mut log, mut model, .. } = write(&path);
    let at = log.windows(90).position(|bytes| bytes == [b'u'; 90]).expect("the newest text");
    log[at + 7] ^= 1;
    store(&path, &log, None);
    let open = Open::new(&path, &fast()).expect("opens");
    let frames = || std::fs::read(&path).expect("read").split_off(8192);
    let before = frames();
    match open.db.compact() {
        Err(Error::Corruption { offset, reason, .. }) => {
            assert_eq!(offset, at as u64);
            assert!(reason.contains("\"text\""), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert!(frames() == before, "a compaction that failed has changed the log");
    let skipping = CompactOptions { skip_damaged: true, ..CompactOptions::default() };
    let report = open.db.compact_with(&skipping, &mut |_, _| true).expect("compacts");
    let [(offset, reason)] = &report.skipped[..] else { panic!("{report:?}") };
    assert!(*offset == at as u64 && reason.contains("\"text\""), "{report:?}");
    // Only the newest of several is damaged.
    model.values.get_mut("text").map(Vec::pop);
    assert!(model.values["text"].last().is_some());
    model.compact();
    read_all(&open, &model, &ABSENT, &mut Judge::strict());
    assert_eq!(open.db.verify().expect("verifies").damage, []);
}

/// Of a value in an extent some bytes of each chunk; of its checksums and the frames more of them.
#[test]
fn a_flip_in_a_value_in_an_extent_is_found() {
    let folder = folder();
    let path = folder.path().join("log.db");
    let mut scribe = Scribe::create(&path);
    let large: Vec<u8> = (0..(4 << 20) + 70_000u32).map(|i| (i % 251) as u8).collect();
    scribe.run([put("large", large), put("int", 1)]);
    let model = scribe.model.clone();
    scribe.close();
    let (log, _) = load(&path);
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("opens");
    let classes = classes(&log);
    let value = (4 << 20) + 70_000;
    let end = classes.iter().rposition(|class| *class == Class::Dead).expect("an end");
    let places = (8192..8400).step_by(5).chain((8400..8400 + value).step_by(50_021));
    for at in places.chain((end - 400..log.len()).step_by(7)) {
        let _note = Note(|| format!("a flip at {at} of {:?}", classes[at]));
        file.write_all_at(&[log[at] ^ (1 << (at % 8))], at as u64).expect("flips");
        let mut offsets = Vec::new();
        match Open::new(&path, &reading()) {
            Ok(open) => {
                let mut judge = Judge::lenient();
                judge.same("int", open.db.get("int"), &model.values["int"].last().cloned());
                judge.same("large", open.db.get("large"), &model.values["large"].last().cloned());
                let report = open.db.verify().expect("verifies");
                offsets.extend(report.damage.iter().map(|(offset, _)| *offset));
                // What reading finds, `verify` finds.
                assert!(judge.errors.iter().all(|offset| offsets.contains(offset)));
            }
            Err(Error::Corruption { offset, .. }) => offsets.push(offset),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(classes[at] == Class::Checked, !offsets.is_empty(), "found: {offsets:?}");
        file.write_all_at(&[log[at]], at as u64).expect("mends");
    }
}
