//! No content of a file causes a panic.

mod common;

use std::path::Path;

use common::compose::Composer;
use common::hostile::{Places, mutate, mutate_checkpoint, seal_checkpoint};
use common::model::Op;
use common::reads::{Seen, query};
use common::scribe::Scribe;
use common::{Note, Open, Random, fast, folder, load, reading, store};
use synadb::{CompactOptions, Pattern, Result, Value, VectorStore};

/// A log with a checkpoint in its middle.
fn write(path: &Path) -> (Vec<u8>, Vec<u8>) {
    let mut random = Random(5);
    let mut scribe = Scribe::create(path);
    scribe.run((0..30).map(|i| Op::Put("series".into(), Value::Float(f64::from(i)))));
    scribe.run((0..60).map(|_| Op::random(&mut random)));
    scribe.act(&Op::Checkpoint);
    let (_, checkpoint) = load(path);
    scribe.run((0..40).map(|_| Op::random(&mut random)));
    scribe.close();
    (load(path).0, checkpoint.expect("a checkpoint"))
}

/// Reads all that can be read, whatever is wrong with the rest; returns how much could be.
fn read(open: &Open) -> usize {
    let db = &open.db;
    let mut answers = usize::from(Seen::of(open).is_ok());
    let known = (0..30).map(|i| format!("key/{i}"));
    let listed = db.keys_matching(&Pattern::All).unwrap_or_default();
    for key in known.chain(listed).chain(["series".into(), "never".into()]) {
        answers += usize::from(matches!(db.get(&key), Ok(Some(_))));
        answers += usize::from(db.get_history(&key).is_ok_and(|history| !history.is_empty()));
        answers += usize::from(db.get_history_floats(&key).is_ok_and(|points| !points.is_empty()));
        answers += usize::from(db.exists(&key));
        for store in &open.stores {
            answers += usize::from(matches!(store.get(&key), Ok(Some(_))));
        }
    }
    for (index, store) in open.stores.iter().enumerate() {
        answers += store.keys().len() + store.len();
        for k in [1, 5, 1000] {
            answers += store.search(&query(index), k).map_or(0, |hits| hits.len());
        }
    }
    answers += usize::from(db.verify().is_ok_and(|report| report.damage.is_empty()));
    answers + usize::from(db.stats().is_ok())
}

/// Writes on behind whatever is there.
fn write_on(open: &Open) -> Result<()> {
    open.db.append("key/1", Value::Int(1))?;
    open.db.append("series", Value::Float(0.5))?;
    open.db.remove("key/2")?;
    for (index, store) in open.stores.iter().enumerate() {
        store.insert("key/3", &query(index))?;
        store.remove("key/4")?;
    }
    open.db.checkpoint()
}

/// Does everything with a file; counts files that opened, and what could be read.
#[derive(Debug, Default)]
struct Tried {
    files: usize,
    opened: usize,
    read: usize,
    written: usize,
    compacted: usize,
    vectors: usize,
}

impl Tried {
    fn try_file(&mut self, path: &Path) {
        self.files += 1;
        let Ok(reader) = Open::new(path, &reading()) else {
            assert!(Open::new(path, &fast()).is_err(), "a reader refuses what a writer takes");
            return;
        };
        self.opened += 1;
        self.read += read(&reader);
        self.vectors += reader.stores.iter().map(VectorStore::len).sum::<usize>();
        // A gap may say that it is larger than the disk, and a writer takes its word.
        if reader.db.stats().is_ok_and(|stats| stats.log_bytes > 1 << 28) {
            return;
        }
        drop(reader);
        let Ok(open) = Open::new(path, &fast()) else { return };
        self.written += usize::from(write_on(&open).is_ok());
        self.read += read(&open);
        let skipping = CompactOptions { skip_damaged: true, ..CompactOptions::default() };
        let compacted = open.db.compact_with(&skipping, &mut |_, _| true);
        self.compacted += usize::from(compacted.is_ok());
        self.read += read(&open);
        drop(open);
        if let Ok(open) = Open::new(path, &fast()) {
            self.read += read(&open);
        }
    }
}

/// Changes bytes, ranges and the length of a file, as accidents do.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(6) {
        let (at, len) = (random.below(bytes.len()), 1 + random.below(64));
        let end = (at + len).min(bytes.len());
        match random.below(10) {
            0 => bytes[at..end].fill(0),
            1 => bytes[at..end].fill(0xff),
            2 => {
                let from = random.below(bytes.len() - len);
                bytes.copy_within(from..from + (end - at), at);
            }
            3 if random.below(8) == 0 => bytes.truncate(at.max(1)),
            4 if random.below(8) == 0 => bytes.extend(random.bytes(len)),
            _ => mutate(&mut bytes[at], random),
        }
    }
}

#[test]
fn accidents_in_log_header_and_checkpoint_cause_no_panic() {
    let folder = folder();
    let path = folder.path().join("log.db");
    let (log, checkpoint) = write(&path);
    let (mut random, mut tried) = (Random(6), Tried::default());
    for round in 0..2000 {
        let _note = Note(|| format!("round {round}"));
        let (mut log, mut checkpoint) = (log.clone(), checkpoint.clone());
        match round % 4 {
            0 => damage(&mut log, &mut random),
            1 => damage(&mut checkpoint, &mut random),
            // Pages 0 and 1 and the first frames.
            2 => (0..1 + random.below(5)).for_each(|_| {
                let at = random.below(8500);
                mutate(&mut log[at], &mut random);
            }),
            _ => {
                damage(&mut log, &mut random);
                damage(&mut checkpoint, &mut random);
            }
        }
        store(&path, &log, (round % 8 != 0).then_some(&*checkpoint));
        tried.try_file(&path);
    }
    println!("{tried:?}");
    assert!(tried.opened > 700, "{tried:?}");
}

/// Defect 12 of the original, its second half: no size in a file is taken at its word.
#[test]
fn lies_in_frames_with_good_checksums_cause_no_panic() {
    let folder = folder();
    let path = folder.path().join("log.db");
    let (log, checkpoint) = write(&path);
    let places = Places::of(&log);
    let mut sealed = log.clone();
    places.seal(&mut sealed);
    assert!(sealed == log, "a good log is sealed already");
    let (mut random, mut tried) = (Random(7), Tried::default());
    for round in 0..1200 {
        let _note = Note(|| format!("round {round}"));
        let mut log = log.clone();
        places.mutate(&mut log, &mut random);
        places.seal(&mut log);
        // Without the word that says that all was synced, so that what fits is taken.
        log[4544..4552].fill(0);
        store(&path, &log, (round % 3 == 0).then_some(&*checkpoint));
        tried.try_file(&path);
    }
    println!("{tried:?}");
    assert!(tried.opened > 300, "{tried:?}");
}

#[test]
fn lies_in_checkpoints_with_good_checksums_cause_no_panic() {
    let folder = folder();
    let path = folder.path().join("log.db");
    let (log, checkpoint) = write(&path);
    let mut sealed = checkpoint.clone();
    seal_checkpoint(&mut sealed);
    assert!(sealed == checkpoint, "a good checkpoint is sealed already");
    let (mut random, mut tried) = (Random(8), Tried::default());
    for round in 0..1200 {
        let _note = Note(|| format!("round {round}"));
        let mut checkpoint = checkpoint.clone();
        mutate_checkpoint(&mut checkpoint, &mut random);
        seal_checkpoint(&mut checkpoint);
        store(&path, &log, Some(&checkpoint));
        tried.try_file(&path);
    }
    println!("{tried:?}");
    assert!(tried.opened > 900, "{tried:?}");
}

/// Defect 12 of the original, its second half: lengths of LZ4 blocks, extents and rows that lie.
#[test]
fn logs_of_any_records_cause_no_panic() {
    let folder = folder();
    let path = folder.path().join("log.db");
    let (mut random, mut tried) = (Random(9), Tried::default());
    for round in 0..2000 {
        let _note = Note(|| format!("round {round}"));
        store(&path, &Composer::new(&mut random).compose(), None);
        tried.try_file(&path);
    }
    println!("{tried:?}");
    assert!(tried.opened > 350 && tried.compacted > 200 && tried.vectors > 700, "{tried:?}");
}
