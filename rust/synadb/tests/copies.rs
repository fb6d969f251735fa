//! A database that stores copies of itself never shows a record out of one.

mod common;

use std::path::Path;

use common::frames::{Frame, commits, frames, log_of};
use common::model::{Change, Op};
use common::reads::{Judge, read_all};
use common::scribe::{Scribe, Stage, stage_at};
use common::{Note, Open, Random, fast, folder, load, store};
use synadb::{Error, Value};
use synadb_storage::frame::Records;

const ABSENT: [&str; 2] = ["ghost", "never"];

fn put(key: &str, value: impl Into<Value>) -> Op {
    Op::Put(key.to_owned(), value.into())
}

/// Values that are in every copy, and no longer in the database.
fn ghosts(scribe: &mut Scribe) {
    scribe.run((0..20).map(|i| put("ghost", Value::Int(i))));
    scribe.run([
        put("key", "ghost".repeat(20)),
        Op::Insert(0, "ghost".into(), vec![666.0; 5]),
        Op::InsertMany(1, (0..4).map(|i| (format!("ghost/{i}"), vec![666.0; 16])).collect()),
        Op::Batch(vec![
            ("ghost/1".into(), Change::Put(Value::Null)),
            ("ghost/2".into(), Change::Put(Value::Null)),
        ]),
    ]);
}

fn bury(scribe: &mut Scribe) {
    scribe.run(["ghost", "ghost/1", "ghost/2", "key"].map(|key| Op::Delete(key.into())));
    scribe.act(&Op::Remove(0, "ghost".into()));
    scribe.run((0..4).map(|i| Op::Remove(1, format!("ghost/{i}"))));
    scribe.act(&put("key", "true"));
}

/// Opens a damaged file: the commits up to `first` or a later one, or corruption.
///
/// A payload that was synced is verified when it is read, not when the file is opened.
fn opens(path: &Path, stages: &[Stage], first: u64, synced: bool) -> bool {
    match Open::new(path, &fast()) {
        Ok(open) => {
            let sequence = open.db.stats().expect("stats").sequence;
            assert!(sequence >= first, "{sequence} commits of {first}");
            let mut judge = if synced { Judge::lenient() } else { Judge::strict() };
            read_all(&open, stage_at(stages, sequence), &ABSENT, &mut judge);
            true
        }
        Err(Error::Corruption { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Cuts, flips, and flips in heads of frames, in turn and at random from `from` on.
///
/// Returns how many of the 200 files of each sort opened.
fn damage(path: &Path, bytes: &[u8], stages: &[Stage], from: u64, synced: bool) -> [usize; 3] {
    let mut random = Random(from);
    let frames = frames(bytes);
    let heads: Vec<&Frame> = frames.iter().filter(|frame| frame.offset >= from).collect();
    let tail = frames.last().expect("frames").next();
    let kept =
        if synced { commits(&frames) } else { commits(&frames) - commits(heads.iter().copied()) };
    let mut opened = [0; 3];
    for round in 0..600 {
        let at = from as usize + random.below((tail - from) as usize);
        let mut damaged = bytes.to_vec();
        match round % 3 {
            0 => damaged.truncate(at),
            1 => damaged[at] ^= 1 << random.below(8),
            // What lies inside the payload would come to light.
            _ => {
                let head = heads[random.below(heads.len())].offset as usize;
                damaged[head + random.below(24)] ^= 1 << random.below(8);
            }
        }
        let _note = Note(|| format!("round {round}, {at}"));
        store(path, &damaged, None);
        opened[round % 3] += usize::from(opens(path, stages, kept, synced));
    }
    opened
}

#[test]
fn a_whole_copy_in_a_value_stays_a_value() {
    let folder = folder();
    let path = folder.path().join("log.db");
    let mut scribe = Scribe::create(&path);
    ghosts(&mut scribe);
    // The copy has a mark in it, which must not speak for the file around it.
    scribe.run([Op::Sync, put("ghost", 1), Op::Sync]);
    let (copy, _) = load(&path);
    let tail = scribe.open.db.stats().expect("stats").log_bytes as usize;
    bury(&mut scribe);
    scribe.act(&Op::Sync);
    let from = scribe.open.db.stats().expect("stats").log_bytes;
    // Frames are looked for at multiples of 8: the copy begins at each distance from one.
    let mut aligned = 0;
    for padding in 0..8 {
        let value = [&vec![0; padding], &copy[..tail]].concat();
        scribe.act(&put(&format!("copy/{padding}"), Value::Bytes(value)));
        let at = payload_at(&load(&path).0) + padding as u64;
        aligned += u32::from(at.is_multiple_of(8));
        scribe.act(&put("key", i64::try_from(padding).expect("small")));
    }
    assert_eq!(aligned, 1);
    let (killed, _) = load(&path);
    let stages = scribe.close();
    let (closed, _) = load(&path);
    assert_eq!(damage(&path, &killed, &stages, from, false), [200; 3]);
    let opened = damage(&path, &closed, &stages, from, true);
    assert_eq!((opened[0], opened[2]), (0, 0), "what was synced is gone");
}

#[test]
fn a_copy_in_an_extent_that_was_never_committed_stays_dead() {
    let folder = folder();
    let path = folder.path().join("log.db");
    let mut scribe = Scribe::create(&path);
    ghosts(&mut scribe);
    scribe.act(&Op::Sync);
    let (copy, _) = load(&path);
    bury(&mut scribe);
    scribe.act(&Op::Sync);
    let from = scribe.open.db.stats().expect("stats").log_bytes;
    scribe.act(&put("copy", Value::Bytes(copy.repeat((4 << 20) / copy.len() + 1))));
    let (killed, _) = load(&path);
    let stages = scribe.close();
    let written = frames(&killed);
    let commit = written.last().expect("frames").offset;
    let kept = commits(&written) - 1;
    // The frame that commits the value; the end of the extent; the frame that reserves it.
    for cut in [commit + 8, commit - 8, from + 70_000, from + 100, from + 8] {
        let _note = Note(|| format!("a cut at {cut}"));
        store(&path, &killed[..cut as usize], None);
        assert!(opens(&path, &stages, kept, false));
    }
    for flip in [commit, commit + 20, from, from + 20] {
        let _note = Note(|| format!("a flip at {flip}"));
        let mut bytes = killed.clone();
        bytes[flip as usize] ^= 16;
        store(&path, &bytes, None);
        assert!(opens(&path, &stages, kept, false));
    }
}

/// Where the payload of the last record lies.
fn payload_at(bytes: &[u8]) -> u64 {
    let (log, frames) = (log_of(bytes), frames(bytes));
    let (position, raw) =
        Records::of(frames.last().expect("frames"), log.region()).last().expect("a record");
    position + u64::from(raw.expect("decodes").large.1)
}

/// The hardest copy: of what the log once held behind its end, so stored that each frame lies at
/// the very offset that it was made for.
fn assert_ghosts_at_their_own_offsets_stay_dead(syncs: bool) {
    let folder = folder();
    let path = folder.path().join("log.db");
    let mut scribe = Scribe::create(&path);
    scribe.run([put("key", 1), put("key", 2)]);
    let model = scribe.model.clone();
    scribe.close();
    let (base, _) = load(&path);
    let from = frames(&base).last().expect("frames").next();

    // This future is forgotten, but for the copy. Its first frame lies under the head of the copy.
    let mut future = Scribe::open(&path, model.clone(), &fast());
    future.act(&put("first", Value::Bytes(vec![1; 300])));
    ghosts(&mut future);
    if syncs {
        future.run([Op::Sync, put("ghost", 1), put("ghost", 2)]);
    }
    let (copy, _) = load(&path);
    drop(future);
    let len = frames(&copy).last().expect("frames").next() as usize;

    let trial = |value: Vec<u8>| {
        store(&path, &base, None);
        let mut scribe = Scribe::open(&path, model.clone(), &fast());
        scribe.act(&put("copy", Value::Bytes(value)));
        let (bytes, _) = load(&path);
        (scribe, bytes)
    };
    let (scribe, bytes) = trial(vec![0; len - from as usize - 100]);
    let at = payload_at(&bytes) as usize;
    drop(scribe);
    let value = copy[at..at + len - from as usize - 100].to_vec();
    let end = at + value.len();
    let (mut scribe, bytes) = trial(value);
    assert_eq!(payload_at(&bytes) as usize, at);
    let whole =
        frames(&copy).into_iter().filter(|f| f.offset as usize >= at && f.end() as usize <= end);
    assert!(whole.count() > 10, "frames of the copy lie where they were made for");
    scribe.run((0..5).map(|i| put("key", 3 + i)));

    let (killed, _) = load(&path);
    let stages = scribe.close();
    let (closed, _) = load(&path);
    let opened = damage(&path, &killed, &stages, from, false);
    // Marks in the copy speak for what is gone, where the frame around them is; nothing else does.
    assert!(opened == [200; 3] || syncs && opened[0] > 100, "{opened:?}");
    let opened = damage(&path, &closed, &stages, from, true);
    assert_eq!((opened[0], opened[2]), (0, 0), "what was synced is gone");
}

#[test]
fn frames_at_their_own_offsets_in_a_value_stay_dead() {
    assert_ghosts_at_their_own_offsets_stay_dead(false);
}

#[test]
fn so_do_frames_with_marks() {
    assert_ghosts_at_their_own_offsets_stay_dead(true);
}
