//! What a killed writer leaves opens with every earlier commit; a closed file that is cut does not.

mod common;

use std::path::Path;

use common::frames::{Class, Frame, classes, commits, frames, log_of};
use common::model::{Change, Op};
use common::reads::{Judge, read_all};
use common::scribe::{Scribe, Stage, stage_at};
use common::{Note, Open, Random, fast, folder, load, reading, store};
use synadb::{Error, Value};
use synadb_storage::frame::SOLE;

const ABSENT: [&str; 3] = ["gone", "late", "after"];

fn put(key: &str, value: impl Into<Value>) -> Op {
    Op::Put(key.to_owned(), value.into())
}

fn vector(dimensions: u16, first: f32) -> Vec<f32> {
    (0..dimensions).map(|i| first + f32::from(i)).collect()
}

/// A database of which the first part is synced and the rest is not.
struct Written {
    /// What a kill leaves.
    killed: Vec<u8>,
    /// The same, closed.
    closed: Vec<u8>,
    /// Saved where the part that is not synced begins.
    checkpoint: Option<Vec<u8>>,
    stages: Vec<Stage>,
    frames: Vec<Frame>,
    /// Index of the first frame that no mark is behind.
    unsynced: usize,
}

fn write(path: &Path, saves: bool) -> Written {
    let mut scribe = Scribe::create(path);
    scribe.run([
        put("text", "t".repeat(100)),
        put("int", 7),
        put("gone", 1.5),
        Op::Floats("floats".into(), (0..20).map(f64::from).collect()),
        Op::InsertMany(0, vec![("a".into(), vector(5, 1.0)), ("b".into(), vector(5, 2.0))]),
        Op::Delete("gone".into()),
        if saves { Op::Checkpoint } else { Op::Sync },
    ]);
    let synced = scribe.open.db.stats().expect("stats").synced_bytes;
    assert_eq!(synced, scribe.open.db.stats().expect("stats").log_bytes);
    let change = |key: &str, change| (key.to_owned(), change);
    scribe.run([
        put("int", 8),
        put("text", "u".repeat(200)),
        Op::Floats("floats".into(), vec![0.5; 10]),
        Op::Batch(vec![
            change("int", Change::Put(Value::Int(9))),
            change("late", Change::Put(Value::Bytes(vec![7; 90]))),
            change("text", Change::Delete),
            change("int", Change::Put(Value::Null)),
        ]),
        Op::InsertMany(0, vec![("b".into(), vector(5, 3.0)), ("c".into(), vector(5, 4.0))]),
        Op::Insert(1, "a".into(), vector(16, 5.0)),
        Op::Update(1, "a".into(), vector(16, 6.0)),
        Op::Remove(0, "a".into()),
        put("gone", "again"),
        Op::Delete("late".into()),
        put("int", 10),
    ]);
    let (killed, checkpoint) = load(path);
    let stages = scribe.close();
    let (closed, _) = load(path);
    let frames = frames(&killed);
    let unsynced = frames.iter().position(|frame| frame.offset == synced).expect("a frame");
    let marks: Vec<u64> = frames[unsynced..].iter().map(|frame| frame.mark).collect();
    assert!(marks[0] == synced && marks[1..].iter().all(|mark| *mark == 0), "{marks:?}");
    assert_eq!(commits(&frames), stages.last().expect("stages").sequence);
    Written { killed, closed, checkpoint, stages, frames, unsynced }
}

impl Written {
    /// Lengths at which a frame that is not synced is cut, and between such frames.
    fn cuts(&self) -> std::ops::Range<u64> {
        self.frames[self.unsynced].offset..self.tail()
    }

    fn tail(&self) -> u64 {
        self.frames.last().expect("frames").next()
    }

    /// Number of commits whose frames end at or before a length.
    fn whole(&self, len: u64) -> u64 {
        commits(self.frames.iter().filter(|frame| frame.end() <= len))
    }

    /// Where the last frame ends that lies before a length as a whole, its gap too.
    fn end_of_whole(&self, len: u64) -> u64 {
        let is_whole = |frame: &&Frame| match frame.gap {
            0 => frame.end() <= len,
            _ => frame.next() <= len,
        };
        let last = self.frames.iter().rfind(is_whole);
        last.map_or(8192, Frame::next).min(len)
    }

    /// Opens what is at `path`, finds the commits up to `sequence` and no other, and goes on.
    fn assert_holds(&self, path: &Path, sequence: u64) {
        let mut model = stage_at(&self.stages, sequence).clone();
        {
            let open = Open::new(path, &fast()).expect("opens");
            assert_eq!(open.db.stats().expect("stats").sequence, sequence);
            read_all(&open, &model, &ABSENT, &mut Judge::strict());
            open.db.append("after", Value::Int(3)).expect("appends");
            open.stores[0].insert("after", &vector(5, 7.0)).expect("inserts");
        }
        model.change("after", &Change::Put(Value::Int(3)));
        model.vectors[0].insert("after".into(), vector(5, 7.0));
        let open = Open::new(path, &fast()).expect("opens again");
        read_all(&open, &model, &ABSENT[..2], &mut Judge::strict());
    }
}

/// Opening fails by both offsets and leaves the file as it is.
fn assert_refused(path: &Path, bytes: &[u8], ends: &[u64], synced: u64) {
    for options in [fast(), reading()] {
        match Open::new(path, &options).map(|_| ()) {
            Err(Error::Corruption { offset, reason, .. }) => {
                assert!(ends.contains(&offset), "ends at {offset}, not {ends:?}");
                assert!(reason.contains(&synced.to_string()), "{reason}, not {synced}");
            }
            other => panic!("opened, or refused otherwise: {other:?}"),
        }
        assert!(std::fs::read(path).expect("read") == bytes, "the file was changed");
    }
}

fn killed_files_cut_anywhere_open(saves: bool) {
    let folder = folder();
    let path = folder.path().join("log.db");
    let written = write(&path, saves);
    for len in written.cuts().chain([written.tail(), written.killed.len() as u64]) {
        let _note = Note(|| format!("a cut at {len}"));
        store(&path, &written.killed[..len as usize], written.checkpoint.as_deref());
        let reader = Open::new(&path, &reading()).expect("opens for reading");
        let sequence = written.whole(len);
        assert_eq!(reader.db.stats().expect("stats").sequence, sequence);
        let model = stage_at(&written.stages, sequence);
        read_all(&reader, model, &ABSENT, &mut Judge::strict());
        drop(reader);
        written.assert_holds(&path, sequence);
    }
}

/// Defects 1 and 13 of the original: a torn tail takes nothing else along, and of a torn batch
/// nothing is there.
#[test]
fn a_killed_writers_file_cut_anywhere_opens_with_all_earlier_commits() {
    killed_files_cut_anywhere_open(false);
}

#[test]
fn so_does_one_with_a_checkpoint_beside_it() {
    killed_files_cut_anywhere_open(true);
}

/// Defect 3 of the original, where the damage is at the end: what was synced is gone, and said so.
#[test]
fn a_closed_file_cut_anywhere_is_refused_by_both_offsets_and_unchanged() {
    let folder = folder();
    let path = folder.path().join("log.db");
    let written = write(&path, false);
    let synced = written.tail();
    let boundaries = written.frames[1..].iter().map(|frame| frame.offset);
    for len in boundaries.chain(written.cuts()) {
        let _note = Note(|| format!("a cut at {len}"));
        let bytes = &written.closed[..len as usize];
        store(&path, bytes, None);
        let end = written.end_of_whole(len);
        assert_refused(&path, bytes, &[end], synced);
    }
    for len in synced as usize..=written.closed.len() {
        store(&path, &written.closed[..len], None);
        written.assert_holds(&path, written.whole(synced));
    }
}

#[test]
fn so_is_one_with_a_checkpoint_at_its_end() {
    let folder = folder();
    let path = folder.path().join("log.db");
    let written = write(&path, false);
    store(&path, &written.closed, None);
    Open::new(&path, &fast()).expect("opens").db.checkpoint().expect("saves");
    let (closed, checkpoint) = load(&path);
    let synced = written.tail();
    for len in written.cuts() {
        let _note = Note(|| format!("a cut at {len}"));
        let bytes = &closed[..len as usize];
        store(&path, bytes, checkpoint.as_deref());
        let end = written.end_of_whole(len);
        // Where the last frame's head is there, the checkpoint fits and the log ends at the cut.
        assert_refused(&path, bytes, &[end, len], synced);
    }
}

#[test]
fn a_flip_in_what_was_not_synced_takes_away_later_commits_only() {
    let folder = folder();
    let path = folder.path().join("log.db");
    let written = write(&path, false);
    let classes = classes(&written.killed);
    for at in written.cuts() {
        let _note = Note(|| format!("a flip at {at}"));
        let mut bytes = written.killed.clone();
        bytes[at as usize] ^= 1 << (at % 8);
        store(&path, &bytes, None);
        let open = Open::new(&path, &fast()).expect("opens");
        let sequence = open.db.stats().expect("stats").sequence;
        assert!(sequence >= written.whole(at), "{sequence} commits");
        let inside = written.frames.iter().any(|frame| (frame.offset..frame.end()).contains(&at));
        assert!(!inside || sequence == written.whole(at), "the frame itself is gone");
        assert!(classes[at as usize] != Class::Dead || sequence == commits(&written.frames));
        read_all(&open, stage_at(&written.stages, sequence), &ABSENT, &mut Judge::strict());
    }
}

/// Defects 18 and 22 of the original: junk behind the end costs one look, and is reported.
#[test]
fn megabytes_behind_the_end_are_dropped_and_reported() {
    const JUNK: u64 = 8 << 20;
    let folder = folder();
    let path = folder.path().join("log.db");
    let written = write(&path, false);
    let tail = written.tail();
    let mut bytes = written.killed[..tail as usize].to_vec();
    bytes.resize((tail + JUNK) as usize, 0xff);
    store(&path, &bytes, None);
    let reader = Open::new(&path, &reading()).expect("opens for reading");
    let report = reader.db.recovery().expect("open");
    assert!(report.torn && report.needs_recovery, "{report:?}");
    assert_eq!((report.tail, report.bytes_dropped, report.commits_dropped), (tail, JUNK, 0));
    assert_eq!(report.commits_replayed, commits(&written.frames));
    drop(reader);
    written.assert_holds(&path, commits(&written.frames));
}

/// One place in 65,536 passes the head check: the length that stands there proves nothing.
#[test]
fn what_looks_like_the_head_of_a_frame_larger_than_the_file_is_no_frame() {
    let folder = folder();
    let path = folder.path().join("log.db");
    let written = write(&path, false);
    let tail = written.tail();
    let mut bytes = written.killed[..tail as usize].to_vec();
    bytes.resize(tail as usize + 4096, 0);
    let (log, at, length) = (log_of(&bytes), tail + 64, 60u32 << 20);
    let word = u64::from(length) | 1 << 32;
    let mut head = [0; 36];
    head[..8].copy_from_slice(&word.to_le_bytes());
    head[12..14].copy_from_slice(&SOLE.to_le_bytes());
    head[16] = 1;
    let mut checks = 0..=u16::MAX;
    let check = checks.find(|check| {
        head[14..16].copy_from_slice(&check.to_le_bytes());
        Frame::decode(log.seed(), at, word, &head).is_some()
    });
    assert!(check.is_some());
    bytes[at as usize..at as usize + 36].copy_from_slice(&head);
    bytes[at as usize + 100] = 1;
    store(&path, &bytes, None);
    written.assert_holds(&path, commits(&written.frames));
}

/// The mark in a later frame says what the file lacks; of a payload its reader finds out.
#[test]
fn a_flip_below_a_killed_writers_mark_is_reported_and_takes_away_no_synced_commit() {
    let folder = folder();
    let path = folder.path().join("log.db");
    let written = write(&path, false);
    let synced = written.cuts().start;
    let mut refused = 0;
    for at in 8192..synced {
        let _note = Note(|| format!("a flip at {at}"));
        let mut bytes = written.killed.clone();
        bytes[at as usize] ^= 1 << (at % 8);
        store(&path, &bytes, None);
        let in_front =
            |frame: &&Frame| (frame.offset..frame.offset + frame.front_len as u64).contains(&at);
        if let Some(frame) = written.frames.iter().find(in_front) {
            assert_refused(&path, &bytes, &[frame.offset], synced);
            refused += 1;
            continue;
        }
        let open = Open::new(&path, &fast()).expect("opens");
        let sequence = open.db.stats().expect("stats").sequence;
        // Slots that were reserved below the mark are filled by commits behind it.
        assert!(sequence >= written.whole(synced), "{sequence} commits");
        let model = stage_at(&written.stages, sequence);
        read_all(&open, model, &ABSENT, &mut Judge::lenient());
    }
    assert!(refused > 300, "{refused}");
}

/// Two copies of a file went their own ways; a part of one lies behind a part of the other.
#[test]
fn frames_of_another_history_are_not_taken_for_the_next_ones() {
    let folder = folder();
    let path = folder.path().join("log.db");
    let mut scribe = Scribe::create(&path);
    scribe.run([put("int", 1), put("text", "t".repeat(100))]);
    let model = scribe.model.clone();
    scribe.close();
    let (base, _) = load(&path);
    let history = |value: i64| {
        store(&path, &base, None);
        let mut scribe = Scribe::open(&path, model.clone(), &fast());
        scribe.run((0..20).map(|i| put(&format!("key/{}", i % 5), value + i)));
        let (killed, _) = load(&path);
        scribe.close();
        killed
    };
    let (first, second) = (history(100), history(120));
    let places = frames(&first);
    assert!(places.iter().zip(&frames(&second)).all(|(a, b)| a.next() == b.next()));
    for (kept, place) in places.iter().enumerate().skip(3) {
        let _note = Note(|| format!("{kept} frames of the first"));
        let at = place.offset as usize;
        store(&path, &[&first[..at], &second[at..]].concat(), None);
        let open = Open::new(&path, &fast()).expect("opens");
        assert_eq!(open.db.stats().expect("stats").sequence, kept as u64);
        let mut model = model.clone();
        for i in 0..kept as i64 - 2 {
            model.change(&format!("key/{}", i % 5), &Change::Put(Value::Int(100 + i)));
        }
        read_all(&open, &model, &ABSENT, &mut Judge::strict());
    }
}

/// After a recovery that dropped `dropped`, a thousand acts and further recoveries bring nothing
/// of it back. On disk, where ranges are zeroed by another way than in memory.
fn assert_dropped_for_good(damage: impl FnOnce(&mut Vec<u8>, &[Frame]), seed: u64) {
    const TOKEN: &[u8] = b"a dropped value";
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.db");
    let mut random = Random(seed);
    let mut scribe = Scribe::create(&path);
    scribe.run((0..60).map(|_| Op::random(&mut random)).chain([Op::Sync]));
    let kept = (scribe.sequence(), scribe.model.clone());
    let synced = scribe.open.db.stats().expect("stats").log_bytes;
    let token = || Value::Bytes([TOKEN, &[7; 60]].concat());
    for i in 0..60 {
        scribe.act(&put(&format!("key/{}", i % 30), token()));
        scribe.act(&put(&format!("lost/{i}"), token()));
        scribe.act(&Op::Insert(1, format!("lost/{i}"), vec![777.0; 16]));
    }
    let (mut bytes, _) = load(&path);
    drop(scribe);
    let written = frames(&bytes);
    let first = written.iter().position(|frame| frame.offset == synced).expect("a frame");
    damage(&mut bytes, &written[first..]);
    let len = bytes.len() as u64;
    let whole = commits(written[first + 1..].iter().filter(|frame| frame.end() <= len));
    let last = bytes.iter().rposition(|byte| *byte != 0).expect("a byte") as u64;
    let bytes_dropped = last + 1 - synced;
    store(&path, &bytes, None);

    let mut scribe = Scribe::open(&path, kept.1, &fast());
    assert_eq!(scribe.sequence(), kept.0);
    let report = scribe.open.db.recovery().expect("open");
    assert_eq!((report.torn, report.needs_recovery, report.tail), (true, false, synced));
    assert_eq!(report.commits_dropped, whole);
    assert_eq!(report.bytes_dropped, bytes_dropped);
    scribe.run((0..1000).map(|_| Op::random(&mut random)));
    read_all(&scribe.open, &scribe.model, &["lost/0"], &mut Judge::strict());
    let (bytes, _) = load(&path);
    let has = |bytes: &[u8], token: &[u8]| bytes.windows(token.len()).any(|w| w == token);
    assert!(!has(&bytes, TOKEN), "a dropped value is in the file");
    assert!(!has(&bytes, &777f32.to_le_bytes().repeat(16)), "a dropped row is in the file");

    let written = frames(&bytes);
    let tail = written.last().expect("frames").next();
    let first = written[first].end();
    let copy = folder.path().join("copy.db");
    let mut place = || first + random.below((tail - first) as usize) as u64;
    let cuts: Vec<u64> = (0..100).map(|_| place()).chain([tail, bytes.len() as u64]).collect();
    for len in cuts {
        let _note = Note(|| format!("a cut at {len}"));
        store(&copy, &bytes[..len as usize], None);
        let open = Open::new(&copy, &fast()).expect("opens");
        let sequence = open.db.stats().expect("stats").sequence;
        assert_eq!(sequence, commits(written.iter().filter(|f| f.end() <= len)));
        let model = stage_at(&scribe.stages, sequence);
        read_all(&open, model, &["lost/0", "lost/59"], &mut Judge::strict());
    }
    for at in (0..100).map(|_| place()) {
        let _note = Note(|| format!("a flip at {at}"));
        let mut flipped = bytes.clone();
        flipped[at as usize] ^= 1 << (at % 8);
        store(&copy, &flipped, None);
        let open = Open::new(&copy, &fast()).expect("opens");
        let sequence = open.db.stats().expect("stats").sequence;
        let model = stage_at(&scribe.stages, sequence);
        read_all(&open, model, &["lost/0", "lost/59"], &mut Judge::strict());
    }
}

/// Defects 1 and 22 of the original: what was dropped is reported, and gone.
#[test]
fn what_a_cut_dropped_never_comes_back() {
    assert_dropped_for_good(|bytes, dropped| bytes.truncate(dropped[0].end() as usize - 1), 1);
}

/// Defect 22 of the original: whole commits that go with a damaged one are counted.
#[test]
fn what_was_dropped_behind_a_flip_never_comes_back() {
    assert_dropped_for_good(|bytes, dropped| bytes[dropped[0].offset as usize + 30] ^= 4, 2);
}
