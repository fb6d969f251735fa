//! A checkpoint beside a log that it was not made from is ignored.

mod common;

use std::path::{Path, PathBuf};

use common::model::Op;
use common::reads::Seen;
use common::scribe::Scribe;
use common::{Note, Open, Random, fast, folder, load, reading, store};
use synadb::Value;

/// A log as it once was, and a checkpoint from the same time.
struct Moment {
    /// Which history it belongs to.
    history: &'static str,
    log: Vec<u8>,
    /// Where the checkpoint says that the log goes on.
    position: u64,
    checkpoint: Vec<u8>,
}

/// Saves and remembers the files of an open database.
fn remember(moments: &mut Vec<Moment>, history: &'static str, scribe: &mut Scribe) {
    scribe.act(&Op::Checkpoint);
    let position = scribe.open.db.stats().expect("stats").log_bytes;
    let (log, checkpoint) = load(&scribe.path);
    let checkpoint = checkpoint.expect("a checkpoint");
    moments.push(Moment { history, log, position, checkpoint });
}

/// Five rounds of random acts, remembered after each.
fn live(moments: &mut Vec<Moment>, history: &'static str, scribe: &mut Scribe, seed: u64) {
    let mut random = Random(seed);
    for _ in 0..5 {
        scribe.run((0..30).map(|_| Op::random(&mut random)));
        remember(moments, history, scribe);
    }
}

/// A copy of a closed database goes its own way; the acts are the same where the seed is.
fn diverge(from: &Path, to: &str) -> PathBuf {
    let path = from.with_file_name(to);
    let (log, _) = load(from);
    store(&path, &log, None);
    path
}

/// Histories that share an id, that share a beginning too, and one of another database.
fn moments(folder: &Path) -> Vec<Moment> {
    let mut moments = Vec::new();
    let path = folder.join("first.db");
    let mut first = Scribe::create(&path);
    live(&mut moments, "first", &mut first, 1);
    let model = first.model.clone();
    first.close();
    let fork = diverge(&path, "fork.db");
    for (history, path) in [("first", &path), ("fork", &fork)] {
        let mut scribe = Scribe::open(path, model.clone(), &fast());
        live(&mut moments, history, &mut scribe, 2);
        scribe.act(&Op::Compact);
        let history = if history == "first" { "compacted" } else { "compacted fork" };
        live(&mut moments, history, &mut scribe, 3);
    }
    // The same id from the first byte on, the same acts, other times.
    let mut twin = Scribe::create(&folder.join("twin.db"));
    live(&mut moments, "twin", &mut twin, 1);
    let other = folder.join("other.db");
    fast().create(true).open(&other).expect("created");
    let mut other = Scribe::open(&other, common::model::Model::default(), &fast());
    live(&mut moments, "other", &mut other, 1);
    moments
}

#[test]
fn a_checkpoint_beside_any_log_gives_the_answers_of_a_replay_from_zero() {
    let folder = folder();
    let moments = moments(folder.path());
    let path = folder.path().join("log.db");
    let (mut used, mut ignored) = (0, 0);
    for (i, log) in moments.iter().enumerate() {
        store(&path, &log.log, None);
        let open = Open::new(&path, &reading()).expect("opens");
        let expected = Seen::of(&open).expect("reads");
        assert_eq!(open.db.recovery().expect("open").replayed_from, 8192);
        drop(open);
        for (j, other) in moments.iter().enumerate() {
            let _note = Note(|| format!("log {i} ({}) and checkpoint {j}", log.history));
            store(&path, &log.log, Some(&other.checkpoint));
            let options = if j % 2 == 0 { fast() } else { reading() };
            let open = Open::new(&path, &options).expect("opens");
            assert_eq!(Seen::of(&open).expect("reads"), expected);
            let from = open.db.recovery().expect("open").replayed_from;
            // The first five moments of "first" are the beginning of "fork" too.
            let shares = log.history == other.history || (log.history == "fork" && j < 5);
            let fits = shares && other.position <= log.position;
            assert_eq!(from, if fits { other.position } else { 8192 });
            used += usize::from(fits);
            ignored += usize::from(!fits);
        }
    }
    assert!(used > 100 && ignored > 400, "{used} {ignored}");
}

#[test]
fn a_log_restored_beside_a_newer_checkpoint_goes_on_as_itself() {
    let folder = folder();
    let path = folder.path().join("log.db");
    let mut scribe = Scribe::create(&path);
    let mut random = Random(4);
    scribe.run((0..40).map(|_| Op::random(&mut random)));
    let model = scribe.model.clone();
    scribe.close();
    let (older, _) = load(&path);
    let mut scribe = Scribe::open(&path, model.clone(), &fast());
    let ghosts = |i: i64| Op::Put(format!("key/{}", i % 30), Value::Text("ghost".repeat(9)));
    scribe.run((0..40).map(ghosts).chain([Op::Checkpoint]));
    scribe.close();
    let (_, newer) = load(&path);

    // The log grows again past where the checkpoint says that it ends.
    store(&path, &older, newer.as_deref());
    let mut scribe = Scribe::open(&path, model, &fast());
    scribe.run((0..200).map(|_| Op::random(&mut random)));
    scribe.act(&Op::Reopen { compression: false, exclusive: false });
    let model = scribe.model.clone();
    let mut judge = common::reads::Judge::strict();
    common::reads::read_all(&scribe.open, &model, &[], &mut judge);
    assert_eq!(scribe.open.db.recovery().expect("open").replayed_from, 8192);
}
