//! The first inputs, made from files that the engine writes.

use std::fs;
use std::path::Path;

use synadb::vector::{VectorConfig, VectorStore};
use synadb::{SynaDB, Value, WriteBatch};

use crate::frames::{RESEAL, input_of};
use crate::mutate::Random;
use crate::targets::fast;

/// Inputs of a target.
///
/// # Panics
/// Where no file can be written below `folder`.
#[must_use]
pub fn seeds(target: &str, folder: &Path) -> Vec<Vec<u8>> {
    let mut random = Random::new(1);
    match target {
        "log" => [0, 1, 2].iter().flat_map(|kind| logs(folder, *kind)).collect(),
        "checkpoint" => [0, 1].iter().flat_map(|kind| checkpoints(folder, *kind)).collect(),
        "value" => values(),
        _ => (0..8).map(|_| (0..120).map(|_| random.word() as u8).collect()).collect(),
    }
}

/// A file as it was closed, and as a writer that died leaves it.
fn logs(folder: &Path, kind: usize) -> Vec<Vec<u8>> {
    let path = folder.join(format!("{kind}.db"));
    let db = fast().compression(kind == 1).open(&path).expect("opens");
    write(&db, kind);
    let open = fs::read(&path).expect("read");
    db.close().expect("closes");
    let closed = fs::read(&path).expect("read");
    let of = |options: u8, file: &[u8]| [&[options], &input_of(file)[..]].concat();
    vec![of(0, &open), of(RESEAL, &open), of(0, &closed), of(RESEAL, &closed)]
}

fn write(db: &SynaDB, kind: usize) {
    let put = |key: &str, value: Value| db.append(key, value).expect("appends");
    for i in 0..3 {
        put("number", Value::Int(i));
        put("text", Value::Text("again and again ".repeat(8)));
    }
    db.append_floats("floats", &[1.0, 2.0, 3.0]).expect("appends");
    put("vector", Value::Vector(vec![1.5, -2.5], 2));
    let mut batch = WriteBatch::new();
    batch.put("batch", Value::Bytes(vec![9; 100])).expect("a key");
    batch.put("batch", Value::Null).expect("a key");
    batch.delete("text").expect("a key");
    db.commit(&batch).expect("commits");
    if kind > 0 {
        let config = VectorConfig { dimensions: 3, ..VectorConfig::default() };
        let store = VectorStore::attach(db, "vector:vec/", config).expect("attaches");
        for i in 0..4u8 {
            store.insert(&format!("v{}", i % 3), &[f32::from(i), 1.0, 2.0]).expect("inserts");
        }
        store.remove("v1").expect("deletes");
    }
    if kind > 1 {
        db.compact().expect("compacts");
        put("number", Value::Float(0.5));
    }
}

/// A log with a checkpoint, as it is and with its checksums made to fit.
fn checkpoints(folder: &Path, kind: usize) -> Vec<Vec<u8>> {
    let path = folder.join(format!("{kind}.db"));
    let db = fast().open(&path).expect("opens");
    write(&db, kind);
    db.checkpoint().expect("saves");
    db.append("behind", Value::Int(1)).expect("appends");
    db.close().expect("closes");
    let log = input_of(&fs::read(&path).expect("read"));
    let checkpoint = fs::read(folder.join(format!("{kind}.db-ckpt"))).expect("read");
    let end = checkpoint.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let parts = |options: u8| {
        let len = (log.len() - 72) as u16;
        let sections = &checkpoint[4096..end];
        [&[options], &len.to_le_bytes()[..], &log, &checkpoint[..128], sections].concat()
    };
    vec![parts(0), parts(RESEAL)]
}

fn values() -> Vec<Vec<u8>> {
    let floats: Vec<u8> = [1.0f64, 2.0, 3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    // Length and block of 100 times the letter a, as LZ4 packs it.
    let packed = [&[100, 0, 0, 0, 0x1f, b'a', 1, 0, 75, 0x50], &b"aaaaa"[..]].concat();
    let payloads: [(u8, u8, &[u8]); 10] = [
        (0, 0, b""),
        (1, 0, &2.5f64.to_le_bytes()),
        (2, 0, &7i64.to_le_bytes()),
        (3, 0, "text".as_bytes()),
        (4, 0, &[7; 100]),
        (5, 0, &[0, 0, 0, 0x80, 0x3f, 0, 0, 0, 0x40]),
        (6, 0, &floats),
        (3, 32, &packed),
        (4, 32, &packed),
        (4, 64, &[0; 20]),
    ];
    let one = |&(tag, flags, payload): &(u8, u8, &[u8])| {
        [&[tag, flags], &(payload.len() as u16).to_le_bytes()[..], payload].concat()
    };
    let all = payloads.iter().flat_map(one).collect();
    payloads.iter().map(one).chain([all]).collect()
}
