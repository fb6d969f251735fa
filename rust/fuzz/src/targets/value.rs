//! Decoding values: any tag, any flags, any bytes, under checksums that fit.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use synadb::{Access, Value};
use synadb_storage::control;
use synadb_storage::directory::{Directory, DiskDirectory};
use synadb_storage::identity::{FRAMES_START, Identity};
use synadb_storage::log::{Log, Shape, Writer};
use synadb_storage::record::{COMPRESSED, Draft, IN_EXTENT, RecordKind};
use synadb_types::TableId;

use super::{class, content, fast};
use crate::input::Input;

const KEY: &str = "k";
/// Number and kind of the table of values.
const TABLE: [u8; 5] = [1, 0, 0, 0, 1];

/// The input: for each value its tag and flags (one byte), the length of its bytes (two), these.
pub fn run(input: &[u8], folder: &Path) -> String {
    let path = folder.join("value.db");
    write(&path, input);
    let db = match fast().access(Access::ReadOnly).open(&path) {
        Ok(db) => db,
        Err(error) => return class(&error),
    };
    let (value, history) = (db.get(KEY), db.get_history(KEY));
    let mut signature = format!("{:?}", content(&db).len());
    for result in [value.as_ref().map(|_| ()), history.as_ref().map(|_| ())] {
        signature += &result.map_or_else(class, |()| " ok".to_owned());
    }
    let floats = db.get_history_floats(KEY);
    if let (Ok(history), Ok(floats)) = (&history, floats) {
        let of_history: Vec<f64> = history.iter().filter_map(Value::as_float).collect();
        assert_eq!(format!("{of_history:?}"), format!("{floats:?}"), "two histories of one key");
    }
    if let (Ok(Some(value)), Ok(history)) = (&value, &history) {
        assert_eq!(format!("{:?}", Some(value)), format!("{:?}", history.last()));
        signature += value.type_name();
        again(value.clone(), folder);
    }
    signature
}

/// Stores a value that was read, and reads it again.
fn again(value: Value, folder: &Path) {
    let path = folder.join("again.db");
    for compression in [false, true] {
        let db = fast().compression(compression).open(&path).expect("opens");
        // A vector of no or of too many components cannot be written.
        if db.append(KEY, value.clone()).is_ok() {
            let read = db.get(KEY).expect("reads");
            assert_eq!(format!("{:?}", Some(&value)), format!("{read:?}"));
        }
        db.close().expect("closes");
    }
}

/// A file with these values under one key.
fn write(path: &Path, input: &[u8]) {
    drop(fs::File::create(path));
    let opened = DiskDirectory.open(path, true, false).expect("opens");
    let identity = Identity { database_id: *b"a database's id.", ..Identity::UNNAMED };
    opened.region.allocate(FRAMES_START + (1 << 20)).expect("room");
    opened.region.store(0, &identity.page()).expect("stored");
    let log = Log::new(Arc::clone(&opened.region), identity);
    let mut writer = Writer::new(FRAMES_START, 0, 0, 0, 0);
    let (mut input, mut previous, mut has_table) = (Input::new(input), 0, false);
    while !input.is_empty() {
        let (first, flags) = (input.byte(), input.byte());
        let len = usize::from(input.half());
        let payload = input.take(len);
        let put = Draft {
            kind: RecordKind::Put,
            tag: first & 15,
            flags: flags & (COMPRESSED | IN_EXTENT),
            table: TableId(1),
            key: KEY.as_bytes(),
            previous,
            payload,
            origin: None,
        };
        let shape = Shape {
            records: if has_table { 1 } else { 2 },
            large: payload.len() > 64,
            ..Shape::default()
        };
        let mut encoder = writer.encoder(&log, shape);
        if !std::mem::replace(&mut has_table, true) {
            encoder.push(&Draft {
                kind: RecordKind::Table,
                tag: 0,
                flags: 0,
                table: TableId(0),
                key: b"kv",
                previous: 0,
                payload: &TABLE,
                origin: None,
            });
        }
        previous = encoder.push(&put);
        let image = encoder.finish().expect("small enough");
        writer.append(&log, image).expect("room");
    }
    let word = control::pack_synced(writer.tail, &identity.database_id);
    opened.region.publish(control::SYNCED, word).expect("published");
}
