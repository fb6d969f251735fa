//! Repairing damaged files: what is kept, in which order and with which times, and what is named.

mod content;

use std::ops::Range;
use std::path::{Path, PathBuf};

use content::{
    Content, Item, Random, chance_heads, content, effective, fast, overlap, place, write_everything,
};
use synadb::vector::{VectorConfig, VectorStore};
use synadb::{Error, RepairReport, Value, WriteBatch, repair};
use synadb_storage::record::RecordKind;

const PAGE: u64 = 4096;

/// A damaged copy of a file, and where its repaired form goes.
struct Case {
    original: Vec<u8>,
    whole: Content,
    damaged: PathBuf,
    target: PathBuf,
    _directory: tempfile::TempDir,
}

impl Case {
    fn new(compacted: bool) -> Self {
        let (directory, path) = place();
        write_everything(&path, compacted);
        let original = std::fs::read(&path).expect("read");
        let whole = content(&path);
        let target = directory.path().join("repaired.db");
        Self { original, whole, damaged: path, target, _directory: directory }
    }

    fn repaired(&self, bytes: &[u8]) -> Result<(RepairReport, Content), Error> {
        std::fs::write(&self.damaged, bytes).expect("written");
        if self.target.exists() {
            std::fs::remove_file(&self.target).expect("removed");
        }
        let report = repair(&self.damaged, &self.target, &mut |_, _| true)?;
        assert_eq!(std::fs::read(&self.damaged).expect("read"), bytes, "nothing was changed");
        let db = fast().open(&self.target).expect("opens");
        assert_eq!(db.verify().expect("verifies").damage, []);
        assert!(!db.recovery().expect("a report").torn);
        db.close().expect("closes");
        let found = content(&self.target);
        Ok((report, found))
    }

    /// Repairs and compares: only what the damage touched may be missing.
    fn check(&self, bytes: &[u8], damage: &Range<u64>) {
        let (report, found) = self.repaired(bytes).expect("repairs");
        let expected = self.whole.beside(std::slice::from_ref(damage));
        let wanted = effective(&expected);
        assert_contains(&found.items, &wanted, damage);
        assert_contains(&self.whole.items, &found.items, damage);
        let kept: u64 = report.kept.iter().map(|table| table.records).sum();
        let written = found.items.len() as u64;
        assert!((written..=expected.len() as u64 + 1).contains(&kept), "{kept} of {written}");
        let is_lost = found.items.len() < effective(&self.whole.items).len();
        let may_be_lost = is_lost
            || self.whole.others.iter().any(|range| overlap(range, damage))
            || self.whole.items.iter().any(|item| overlap(&item.dated_by, damage))
            || damage.end > self.whole.end
            || (bytes.len() as u64) < self.whole.end;
        assert!(!is_lost || !report.lost.is_empty(), "{damage:?}: {report:?}");
        assert!(may_be_lost || report.lost.is_empty(), "{damage:?}: {report:?}");
        for lost in &report.lost {
            assert!(lost.bytes > 0 && !lost.reason.is_empty());
        }
    }

    fn flip(&self, at: u64, mask: u8) {
        let mut bytes = self.original.clone();
        bytes[at as usize] ^= mask;
        self.check(&bytes, &(at..at + 1));
    }
}

/// All of `wanted` is in `found`, in its order and with its times and sequences.
fn assert_contains(found: &[Item], wanted: &[Item], damage: &Range<u64>) {
    let mut rest = found.iter();
    for item in wanted {
        let same = rest.find(|found| found.same_content(item));
        let same = same.unwrap_or_else(|| panic!("{damage:?}: {item:?} is missing"));
        let undated = [item, same].iter().any(|item| overlap(&item.dated_by, damage));
        if !undated && damage.end - damage.start == 1 {
            let (a, b) = ((item.sequence, item.time), (same.sequence, same.time));
            assert_eq!(a, b, "{damage:?}: {}", item.key);
        }
    }
}

#[test]
fn an_undamaged_file_comes_back_whole() {
    for compacted in [false, true] {
        let case = Case::new(compacted);
        let (report, found) = case.repaired(&case.original).expect("repairs");
        assert_eq!(report.lost, []);
        assert_eq!(report.bytes_read, case.original.len() as u64);
        let dated = |item: &Item| (item.key.clone(), item.sequence, item.time, item.value.clone());
        let of = |items: &[Item]| items.iter().map(dated).collect::<Vec<_>>();
        assert_eq!(of(&found.items), of(&case.whole.items));
        assert_eq!(found.sequence, case.whole.sequence);
        let kept: u64 = report.kept.iter().map(|table| table.records).sum();
        assert_eq!(kept, case.whole.items.len() as u64);
        let names: Vec<&str> = report.kept.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["kv", "vector:wide/", "vector:vec/"]);
    }
}

#[test]
fn the_repaired_file_answers_as_the_damaged_did() {
    let (directory, path) = place();
    write_everything(&path, false);
    let target = directory.path().join("repaired.db");
    repair(&path, &target, &mut |_, _| true).expect("repairs");
    let (old, new) = (fast().open(&path).expect("opens"), fast().open(&target).expect("opens"));
    assert_eq!(old.keys(), new.keys());
    for key in old.keys() {
        assert_eq!(old.get_history(&key).expect("reads"), new.get_history(&key).expect("reads"));
    }
    let config = VectorConfig { dimensions: 0, ..VectorConfig::default() };
    let of = |db| VectorStore::attach(db, "vector:wide/", config.clone()).expect("attaches");
    let (old_store, new_store) = (of(&old), of(&new));
    assert_eq!(old_store.keys(), new_store.keys());
    let query = vec![1.0; 40];
    let hits = |store: &VectorStore| store.search(&query, 30).expect("searches");
    assert_eq!(hits(&old_store), hits(&new_store));
    let before = new.stats().expect("stats").sequence;
    assert_eq!(before, old.stats().expect("stats").sequence);
    new.append("after", Value::Null).expect("goes on");
    assert_eq!(new.stats().expect("stats").sequence, before + 1);
}

/// Flips bytes at `count` places of every part of the file.
fn flip_sampled(case: &Case, count: u64, seed: u64) {
    let mut random = Random(seed);
    for _ in 0..count {
        let at = 2 * PAGE + random.below(case.whole.end - 2 * PAGE);
        case.flip(at, 1 << random.below(8));
    }
    for at in [0, 9, 30, 63, 64, 1000, 2048, 2100, 2111, 2112, PAGE, PAGE + 448, PAGE + 454] {
        case.flip(at, 1 << random.below(8));
    }
}

#[test]
fn a_flipped_byte_costs_what_it_touches() {
    flip_sampled(&Case::new(false), 250, 1);
}

#[test]
fn a_broken_first_word_is_had_from_the_next_frame() {
    let case = Case::new(false);
    for (index, frame) in case.whole.frames.iter().enumerate() {
        let mut bytes = case.original.clone();
        bytes[*frame as usize + index % 8] ^= 0x81;
        let (report, found) = case.repaired(&bytes).expect("repairs");
        let is_last = index + 1 == case.whole.frames.len();
        assert_eq!(report.lost.len(), usize::from(is_last), "frame {index}");
        assert_eq!(found.items.len() + usize::from(is_last), case.whole.items.len());
    }
}

#[test]
fn what_looks_like_a_large_commit_by_chance_hides_nothing_behind_it() {
    let case = Case::new(false);
    let frames = case.whole.frames.windows(2).map(|pair| pair[0]..pair[1]);
    let (index, frame) = frames.enumerate().max_by_key(|(_, f)| f.end - f.start).expect("frames");
    assert!(index + 10 < case.whole.frames.len(), "much is behind it");
    let behind = (case.original.len() as u64 - frame.end) as u32;
    for length in [64 << 20, behind, behind / 2, behind / 16] {
        let mut bytes = case.original.clone();
        bytes[frame.start as usize] ^= 0x81;
        chance_heads(&mut bytes, frame.start + 24..frame.end, length);
        case.check(&bytes, &frame);
    }
}

/// Of a file that nobody closed, so that nothing but whole commits says what was there.
#[test]
fn chance_heads_in_a_value_do_not_cost_the_batches_behind_it() {
    let (directory, path) = place();
    let db = fast().open(&path).expect("opens");
    db.append("before", Value::Int(1)).expect("appends");
    db.append("value", Value::Bytes(vec![7; 200_000])).expect("appends");
    for i in 0..6 {
        let mut batch = WriteBatch::new();
        for j in 0..2_000 {
            batch.put(&format!("{i}/{j}"), Value::Int(j)).expect("fits");
        }
        db.commit(&batch).expect("commits");
    }
    let damaged = directory.path().join("damaged.db");
    std::fs::copy(&path, &damaged).expect("copied");
    let whole = content(&damaged);
    let (value, batches) = (whole.frames[1]..whole.frames[2], &whole.frames[2..]);
    assert_eq!((whole.frames.len(), value.end - value.start > 200_000), (8, true));
    let mut bytes = std::fs::read(&damaged).expect("read");
    bytes[value.start as usize] ^= 0x81;
    chance_heads(&mut bytes, value.start + 24..value.end, (whole.end - value.end) as u32);
    // Of one the checksum, and of one the length.
    bytes[batches[1] as usize + 5] ^= 1;
    bytes[batches[3] as usize] ^= 1;
    std::fs::write(&damaged, &bytes).expect("written");
    let target = directory.path().join("repaired.db");
    let report = repair(&damaged, &target, &mut |_, _| true).expect("repairs");
    let lost: Vec<_> = report.lost.iter().map(|lost| lost.offset).collect();
    assert_eq!(lost, [value.start]);
    let found = content(&target);
    let keys = |items: &[Item]| items.iter().map(|item| item.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&found.items), keys(&whole.beside(&[value])));
    assert_eq!(found.sequence, whole.sequence);
}

#[test]
fn garbage_hides_nothing_behind_it() {
    let (directory, path) = place();
    let db = fast().open(&path).expect("opens");
    for i in 0..2_000 {
        db.append(&format!("k{i}"), Value::Bytes(vec![i as u8; 500])).expect("appends");
    }
    db.close().expect("closes");
    let (whole, mut random) = (content(&path), Random(6));
    let garbage = whole.frames[500]..whole.frames[1_000];
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[garbage.start as usize..garbage.end as usize].fill_with(|| random.word() as u8);
    for broken in [1_200, 1_500] {
        bytes[whole.frames[broken] as usize + broken % 8] ^= 0x81;
    }
    std::fs::write(&path, &bytes).expect("written");
    let target = directory.path().join("repaired.db");
    let report = repair(&path, &target, &mut |_, _| true).expect("repairs");
    let lost: Vec<_> = report.lost.iter().map(|lost| (lost.offset, lost.bytes)).collect();
    assert_eq!(lost, [(garbage.start, garbage.end - garbage.start)]);
    let keys = |items: &[Item]| items.iter().map(|item| item.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&content(&target).items), keys(&whole.beside(&[garbage])));
}

#[test]
fn a_flipped_byte_of_a_compacted_file_costs_what_it_touches() {
    flip_sampled(&Case::new(true), 150, 2);
}

#[test]
#[ignore = "takes minutes: every byte of a file"]
fn every_flipped_byte_costs_what_it_touches() {
    for compacted in [false, true] {
        let case = Case::new(compacted);
        for at in (0..64).chain(2048..2112).chain(PAGE..PAGE + 512).chain(2 * PAGE..case.whole.end)
        {
            case.flip(at, 0x5a);
        }
    }
}

#[test]
fn a_cut_file_keeps_what_was_before_the_cut() {
    let case = Case::new(false);
    let mut random = Random(3);
    let end = case.whole.end;
    let places = (0..60).map(|_| 2 * PAGE + random.below(end - 2 * PAGE));
    for cut in places.chain([end, end - 1, 2 * PAGE + 1, 2 * PAGE]) {
        case.check(&case.original[..cut as usize], &(cut..end));
    }
    for cut in [2 * PAGE - 1, PAGE, 100, 64] {
        let (report, found) = case.repaired(&case.original[..cut as usize]).expect("repairs");
        assert_eq!((found.items.len(), report.lost.len()), (0, 1));
    }
    for cut in [63, 1, 0] {
        assert!(case.repaired(&case.original[..cut]).is_err());
        assert!(!case.target.exists());
    }
}

#[test]
fn a_zeroed_page_costs_what_it_held() {
    for compacted in [false, true] {
        let case = Case::new(compacted);
        for page in 2..case.whole.end / PAGE {
            let mut bytes = case.original.clone();
            bytes[(page * PAGE) as usize..((page + 1) * PAGE) as usize].fill(0);
            case.check(&bytes, &(page * PAGE..(page + 1) * PAGE));
        }
    }
}

#[test]
fn several_damaged_places_are_all_passed() {
    let case = Case::new(false);
    let mut random = Random(4);
    for _ in 0..40 {
        let mut bytes = case.original.clone();
        let mut damage = Vec::new();
        for _ in 0..=random.below(6) {
            let at = 2 * PAGE + random.below(case.whole.end - 2 * PAGE);
            let len = 1 + random.below(40);
            bytes[at as usize..(at + len) as usize].fill(random.word() as u8);
            damage.push(at..at + len);
        }
        let expected = case.whole.beside(&damage);
        let (_, found) = case.repaired(&bytes).expect("repairs");
        // Times are not compared: a head may be gone.
        assert_contains(&found.items, &effective(&expected), &(0..2));
    }
}

#[test]
fn garbage_in_place_of_the_log_is_no_panic() {
    let case = Case::new(false);
    let mut random = Random(5);
    let mut bytes = case.original.clone();
    bytes[2 * PAGE as usize..].iter_mut().for_each(|byte| *byte = random.word() as u8);
    let (report, found) = case.repaired(&bytes).expect("repairs");
    assert!(found.items.is_empty() && !report.lost.is_empty());
}

#[test]
fn large_values_and_damaged_payloads_are_told_apart_by_key() {
    let (directory, path) = place();
    let large =
        |seed: u8| Value::Bytes((0..5_000_000u32).map(|i| (i % 251) as u8 ^ seed).collect());
    let db = fast().open(&path).expect("opens");
    for (key, seed) in [("good", 1), ("bad", 2), ("bad", 3)] {
        db.append(key, large(seed)).expect("appends");
    }
    db.append("small", Value::Bytes(vec![9; 1000])).expect("appends");
    db.append("end", Value::Int(1)).expect("appends");
    db.close().expect("closes");
    let whole = content(&path);
    let mut bytes = std::fs::read(&path).expect("read");
    let data = |key: &str| {
        let item = whole.items.iter().rev().find(|item| item.key == key).expect("there");
        item.needs[1].start
    };
    for key in ["bad", "small"] {
        bytes[data(key) as usize + 100] ^= 1;
    }
    std::fs::write(&path, &bytes).expect("written");
    let target = directory.path().join("repaired.db");
    let report = repair(&path, &target, &mut |_, _| true).expect("repairs");
    let lost: Vec<_> = report.lost.iter().map(|l| (l.offset, l.key.as_deref())).collect();
    assert_eq!(lost, [(data("bad"), Some("bad")), (data("small"), Some("small"))]);
    assert!(report.lost.iter().all(|l| l.table.as_deref() == Some("kv") && l.is_certain));
    let db = fast().open(&target).expect("opens");
    assert_eq!(db.get("good").expect("reads"), Some(large(1)));
    assert_eq!(db.get_history("bad").expect("reads"), [large(2)]);
    assert_eq!(db.get("small").expect("reads"), None);
    assert_eq!(db.get("end").expect("reads"), Some(Value::Int(1)));
}

fn checkpoint_of(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}-ckpt", path.display()))
}

#[test]
fn both_identities_damaged_need_the_checkpoint() {
    for compacted in [false, true] {
        let (directory, path) = place();
        write_everything(&path, compacted);
        let db = fast().open(&path).expect("opens");
        db.checkpoint().expect("saves");
        db.append("behind", Value::Int(1)).expect("appends");
        db.close().expect("closes");
        let whole = content(&path);
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[30] ^= 1;
        bytes[2048 + 40] ^= 1;
        std::fs::write(&path, &bytes).expect("written");
        assert!(matches!(fast().open(&path), Err(Error::Corruption { .. })));
        let target = directory.path().join("repaired.db");
        let report = repair(&path, &target, &mut |_, _| true).expect("repairs");
        assert_eq!(report.lost, []);
        let found = content(&target);
        assert_eq!(found.items.len(), whole.items.len());
        assert_contains(&found.items, &whole.items, &(0..1));
        assert_eq!(found.sequence, whole.sequence);
        std::fs::remove_file(&target).expect("removed");
        std::fs::remove_file(checkpoint_of(&path)).expect("removed");
        let error = repair(&path, &target, &mut |_, _| true).expect_err("refused");
        assert!(error.to_string().contains("database id"), "{error}");
        assert!(!target.exists());
    }
}

#[test]
fn a_lost_table_is_had_from_the_checkpoint() {
    let (directory, path) = place();
    write_everything(&path, false);
    let whole = content(&path);
    let vectors = whole.items.iter().filter(|item| item.kind == RecordKind::Row).count() as u64;
    for has_checkpoint in [false, true] {
        if has_checkpoint {
            let db = fast().open(&path).expect("opens");
            db.checkpoint().expect("saves");
            db.close().expect("closes");
        }
        let good = std::fs::read(&path).expect("read");
        let mut bytes = good.clone();
        for name in [&b"vector:wide/"[..], b"vector:vec/"] {
            let at = bytes.windows(name.len()).position(|window| window == name);
            bytes[at.expect("the name of a table")] ^= 1;
        }
        std::fs::write(&path, &bytes).expect("written");
        let target = directory.path().join(format!("{has_checkpoint}.db"));
        let report = repair(&path, &target, &mut |_, _| true).expect("repairs");
        let lost = report.lost.iter().filter(|lost| lost.reason.contains("table")).count() as u64;
        let found = content(&target).items;
        let kept = found.iter().filter(|item| item.kind == RecordKind::Row).count() as u64;
        let expected = if has_checkpoint { (0, vectors) } else { (vectors + 2, 0) };
        assert!((lost, kept).0 >= expected.0 && kept == expected.1, "{lost} {kept}");
        std::fs::write(&path, &good).expect("written");
    }
}

#[test]
fn values_of_a_lost_table_are_those_of_kv() {
    let case = Case::new(false);
    let at = case.original.windows(4).position(|window| window == [2, b'k', b'v', 1]);
    let at = at.or_else(|| case.original.windows(2).position(|window| window == b"kv"));
    let mut bytes = case.original.clone();
    bytes[at.expect("the name of the table")] ^= 1;
    let (report, found) = case.repaired(&bytes).expect("repairs");
    assert_eq!(report.lost.len(), 1);
    assert_eq!(found.items.len(), case.whole.items.len());
}

#[test]
fn what_is_there_and_what_is_open_are_left_alone() {
    let (directory, path) = place();
    let target = directory.path().join("repaired.db");
    let go = |to: &Path| repair(&path, to, &mut |_, _| true);
    assert!(matches!(go(&target), Err(Error::MissingDatabase { .. })));
    let db = fast().open(&path).expect("opens");
    db.append("k", Value::Int(1)).expect("appends");
    assert!(matches!(go(&target), Err(Error::Locked { .. })));
    db.close().expect("closes");
    assert!(matches!(go(&path), Err(Error::Exists { .. })));
    std::fs::write(&target, b"mine").expect("written");
    assert!(matches!(go(&target), Err(Error::Exists { path }) if path == target));
    std::fs::write(&path, b"not a database at all").expect("written");
    assert!(matches!(go(&directory.path().join("x")), Err(Error::NotADatabase { .. })));
    assert_eq!(std::fs::read_dir(directory.path()).expect("listed").count(), 2);
}

#[test]
fn a_cancelled_repair_leaves_nothing() {
    let (directory, path) = place();
    write_everything(&path, false);
    let target = directory.path().join("repaired.db");
    let mut calls = 0;
    loop {
        let mut left = calls;
        let result = repair(&path, &target, &mut |_, _| {
            left -= 1;
            left >= 0
        });
        let count = std::fs::read_dir(directory.path()).expect("listed").count();
        match result {
            Ok(_) => break assert_eq!(count, 2),
            Err(error) => {
                assert!(matches!(error, Error::Cancelled { .. }), "{error}");
                assert_eq!(count, 1);
            }
        }
        calls += 17;
    }
    assert!(calls > 17);
}
