//! What opening does to a file that it cannot use.

mod content;

use std::sync::Arc;

use synadb::{Durability, Error, OpenOptions, Value};
use synadb_storage::control;
use synadb_storage::directory::{Directory, DiskDirectory};
use synadb_storage::identity::{FRAMES_START, Identity};
use synadb_storage::log::{Log, Shape, Writer};
use synadb_storage::record::{Draft, RecordKind};
use synadb_types::TableId;

#[test]
fn a_torn_file_whose_commits_make_no_sense_is_left_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.db");
    std::fs::write(&path, b"").expect("written");
    let opened = DiskDirectory.open(&path, true, false).expect("opens");
    let identity = Identity { database_id: [7; 16], ..Identity::UNNAMED };
    opened.region.allocate(FRAMES_START + 4096).expect("room");
    opened.region.store(0, &identity.page()).expect("stored");
    // Else opening would first make the name of the file durable, and say so in page 1.
    opened.region.publish(control::DIR_SYNCED, 1).expect("published");
    let log = Log::new(Arc::clone(&opened.region), identity);
    let mut writer = Writer::new(FRAMES_START, 0, 0, 0, 0);
    let mut encoder = writer.encoder(&log, Shape { records: 1, ..Shape::default() });
    encoder.push(&Draft {
        kind: RecordKind::Put,
        tag: 0,
        flags: 0,
        table: TableId(1),
        key: b"of no table",
        previous: 0,
        payload: b"",
        origin: None,
    });
    let image = encoder.finish().expect("small enough");
    writer.append(&log, image).expect("room");
    opened.region.store(writer.tail + 16, b"a torn end").expect("stored");
    drop((log, opened));
    let before = std::fs::read(&path).expect("read");
    for _ in 0..2 {
        let error = OpenOptions::new().open(&path).expect_err("a record of no table");
        assert!(matches!(error, Error::Corruption { offset: FRAMES_START.., .. }), "{error}");
        assert!(std::fs::read(&path).expect("read") == before, "the file was changed");
    }
}

#[test]
fn a_file_that_ends_inside_a_gap_is_torn_there_and_does_not_grow_to_fill_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, cut) = (directory.path().join("a.db"), directory.path().join("cut.db"));
    let fast = || OpenOptions::new().durability(Durability::Process);
    let db = fast().open(&path).expect("opens");
    db.append("small", Value::Int(1)).expect("appends");
    let end = db.stats().expect("open").log_bytes;
    db.append("large", Value::Bytes(vec![7; 5_000_000])).expect("appends");
    // What a writer leaves that dies now, on a medium that took none of the value.
    let bytes = std::fs::read(&path).expect("read");
    std::fs::write(&cut, &bytes[..end as usize + 4096]).expect("written");
    let db = fast().open(&cut).expect("opens");
    assert_eq!(db.get("small").expect("reads"), Some(Value::Int(1)));
    assert!(!db.exists("large"));
    let recovery = db.recovery().expect("open");
    assert_eq!((recovery.torn, recovery.dropped().start), (true, end));
    assert!(db.stats().expect("open").file_bytes < 1_000_000);
}

#[test]
fn what_looks_like_commits_by_chance_behind_a_torn_end_is_no_reason_to_refuse_the_file() {
    let (directory, path) = content::place();
    let db = content::fast().open(&path).expect("opens");
    db.append("there", Value::Int(1)).expect("appends");
    let end = db.stats().expect("open").log_bytes;
    // What a writer leaves that dies over a batch, of which the first page never came.
    let mut bytes = std::fs::read(&path).expect("read");
    bytes.resize(end as usize, 0);
    bytes.resize(end as usize + (1 << 20), 0);
    content::chance_heads(&mut bytes, end + 4096..end + 100_000, 900_000);
    let killed = directory.path().join("killed.db");
    std::fs::write(&killed, &bytes).expect("written");
    let db = content::fast().open(&killed).expect("opens");
    assert_eq!(db.get("there").expect("reads"), Some(Value::Int(1)));
    let recovery = db.recovery().expect("open");
    assert_eq!((recovery.torn, recovery.dropped().start), (true, end));
}
