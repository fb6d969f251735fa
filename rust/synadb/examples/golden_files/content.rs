//! What the golden files hold: each kind of record, each flag of frames and records, each tag.

use std::path::Path;

use synadb::{DistanceMetric, Value};
use synadb_storage::checksum::crc32c;

use super::script::{Script, name_of};

/// The file that lists the others, with their lengths and checksums.
const MANIFEST: &str = "MANIFEST";
/// More than this lies in an extent.
const LARGE_BYTES: usize = 4 << 20;

/// Does what a file is made for; the names of what it wrote.
type Write = fn(Script) -> Vec<String>;

/// Writes all golden files into a directory; their names.
pub fn write_all(directory: &Path) -> Vec<String> {
    std::fs::create_dir_all(directory).expect("a directory");
    let mut names = Vec::new();
    let files: [(&str, Write); 9] = [
        ("values", values),
        ("batches", batches),
        ("compressed", compressed),
        ("large", large),
        ("vectors", vectors),
        ("checkpoint", checkpoint),
        ("compacted", compacted),
        ("killed", killed),
        ("torn", torn),
    ];
    for (seed, (name, write)) in files.into_iter().enumerate() {
        names.extend(write(Script::new(directory, name, seed as u64 + 1)));
    }
    names.sort();
    let lines = names.iter().map(|name| {
        let bytes = std::fs::read(directory.join(name)).expect("is there");
        format!("{name} {} {:08x}\n", bytes.len(), crc32c(&bytes))
    });
    let manifest = directory.join(MANIFEST);
    std::fs::write(&manifest, lines.collect::<String>()).expect("written");
    names.push(name_of(&manifest));
    names
}

fn words(count: usize) -> String {
    (0..count).map(|n| format!("word {n} and ")).collect()
}

fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut word = seed;
    let mut next = || {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (word >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn row(number: u32, dimensions: usize) -> Vec<f32> {
    let component = |n: usize| (number as usize * 31 + n * 7) as f32 % 64.0 / 8.0 - 3.5;
    (0..dimensions).map(component).collect()
}

/// Every type, at its edges; histories, deletes, keys that come back; marks of synced commits.
fn values(mut script: Script) -> Vec<String> {
    script.put("null", Value::Null);
    let floats = [0.0, -0.0, 0.1, -1e300, 5e-324, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    floats.into_iter().for_each(|float| script.put("float", Value::Float(float)));
    [0, -1, i64::MIN, i64::MAX].into_iter().for_each(|int| script.put("int", Value::Int(int)));
    for text in ["", "x", "quote \" and \\ and \u{e9}\u{4e16}\u{1f980}"] {
        script.put("text", Value::Text(text.to_owned()));
    }
    // Up to 64 bytes stand in the front of a frame, more behind it.
    for len in [0, 64, 65, 300] {
        script.put("bytes", Value::Bytes(noise(len, len as usize)));
    }
    script.put("vector", Value::Vector(vec![0.5, -2.0, 1e-30], 3));
    script.put("long vector", Value::Vector(row(3, 40), 40));
    script.put(&"k".repeat(1000), Value::Int(1));
    script.put("\u{e9}/\u{1f980}", Value::Int(2));
    script.db().sync().expect("syncs");
    for n in 0..3 {
        script.put("gone", Value::Int(n));
        script.put("back", Value::Int(n));
    }
    script.delete("gone");
    script.delete("back");
    script.db().sync().expect("syncs");
    // The first frame behind a sync says so, and this one has a payload behind its front too.
    script.put("bytes", Value::Bytes(noise(301, 301)));
    script.put("back", Value::Text("again".to_owned()));
    script.put("mixed", Value::Int(1));
    script.put("mixed", Value::Float(1.0));
    script.finish()
}

/// Several records in a frame: of one key, large and small, deletes, runs of floats.
fn batches(mut script: Script) -> Vec<String> {
    let text = |of: &str| Some(Value::Text(of.to_owned()));
    script.put("a", Value::Int(0));
    script.batch(&[("a", Some(Value::Int(1))), ("b", text(&"long ".repeat(40)))]);
    script.batch(&[
        ("a", Some(Value::Int(2))),
        ("a", None),
        ("a", Some(Value::Int(3))),
        ("b", None),
        ("c", Some(Value::Bytes(noise(1, 65)))),
        ("d", Some(Value::Bytes(noise(2, 64)))),
        ("e", Some(Value::Null)),
    ]);
    script.db().sync().expect("syncs");
    script.batch(&[("f", Some(Value::Bytes(noise(3, 500)))), ("g", text("small"))]);
    script.run("run", &(0..100).map(|n| f64::from(n) / 8.0).collect::<Vec<_>>());
    script.put("run", Value::Float(-1.0));
    script.run("run", &[1.5]);
    script.run("run", &[f64::MAX, f64::MIN_POSITIVE]);
    script.batch(&[("e", None)]);
    script.finish()
}

/// Text and bytes that are compressed, and some that are not worth it.
fn compressed(mut script: Script) -> Vec<String> {
    script.reopen(|options| options.compression(true));
    script.put("text", Value::Text(words(80)));
    script.put("bytes", Value::Bytes(vec![7; 4000]));
    script.put("noise", Value::Bytes(noise(4, 200)));
    script.put("short", Value::Text("t".repeat(64)));
    script.batch(&[
        ("text", Some(Value::Text(words(30)))),
        ("int", Some(Value::Int(1))),
        ("bytes", Some(Value::Bytes([vec![0; 500], noise(5, 100)].concat()))),
    ]);
    script.finish()
}

/// A value in an extent, of bytes that repeat, so that the file packs well.
fn large(mut script: Script) -> Vec<String> {
    script.put("before", Value::Int(1));
    let unit = *b"12345678";
    script.put("large", Value::Bytes(unit.repeat(LARGE_BYTES / unit.len() + 1)));
    script.put("after", Value::Int(2));
    script.finish()
}

/// Vectors of all metrics, one at a time and many at once, replaced and deleted, with values.
fn vectors(mut script: Script) -> Vec<String> {
    let cosine = script.store("vector:vec/", 3, DistanceMetric::Cosine);
    let euclidean = script.store("vector:e", 16, DistanceMetric::Euclidean);
    let dot = script.store("vector:d", 40, DistanceMetric::DotProduct);
    // More rows than the first extent holds.
    for n in 0..20 {
        script.insert(&cosine, &format!("c{n}"), row(n, 3));
    }
    script.insert(&cosine, "zero", vec![0.0; 3]);
    script.insert(&cosine, "far", vec![1e30; 3]);
    script.put("between", Value::Int(1));
    let rows = |from: u32, to: u32, width| {
        (from..to).map(|n| (format!("r{n}"), row(n, width))).collect::<Vec<_>>()
    };
    script.insert_many(&euclidean, rows(0, 9, 16));
    // 64 KiB and more get an extent of their own.
    script.insert_many(&euclidean, rows(9, 1100, 16));
    script.insert_many(&dot, rows(0, 5, 40));
    script.insert(&cosine, "c3", row(99, 3));
    script.remove(&cosine, "c4");
    script.insert(&cosine, "c4", row(98, 3));
    script.remove(&euclidean, "r1000");
    script.db().sync().expect("syncs");
    script.transaction(
        &[("between", Some(Value::Int(2))), ("together", Some(Value::Text("t".to_owned())))],
        &dot,
        &[("r1", None), ("r2", Some(row(97, 40))), ("new", Some(row(96, 40)))],
    );
    drop((cosine, euclidean, dot));
    script.finish()
}

/// A checkpoint of values, floats and vectors, and commits behind it.
fn checkpoint(mut script: Script) -> Vec<String> {
    let store = script.store("vector:vec/", 4, DistanceMetric::Euclidean);
    for n in 0..30 {
        script.put(&format!("k{}", n % 12), Value::Int(i64::from(n)));
        script.put("float", Value::Float(f64::from(n) / 4.0));
        script.insert(&store, &format!("v{}", n % 10), row(n, 4));
    }
    script.delete("k5");
    script.run("float", &[0.25; 20]);
    script.db().checkpoint().expect("saves");
    script.put("k5", Value::Text("back".to_owned()));
    script.put("k6", Value::Text("behind".to_owned()));
    script.delete("k7");
    script.remove(&store, "v2");
    script.insert(&store, "v3", row(77, 4));
    drop(store);
    script.finish()
}

/// A compacted file, with commits behind what was carried over.
fn compacted(mut script: Script) -> Vec<String> {
    let store = script.store("vector:vec/", 4, DistanceMetric::Euclidean);
    let empty = script.store("vector:empty", 2, DistanceMetric::Cosine);
    script.insert(&empty, "only", vec![1.0, 2.0]);
    script.remove(&empty, "only");
    for n in 0..20 {
        script.put(&format!("k{}", n % 7), Value::Int(i64::from(n)));
        script.insert(&store, &format!("v{}", n % 5), row(n, 4));
    }
    script.put("long", Value::Bytes(noise(6, 400)));
    script.run("run", &[1.0, 2.0, 3.0]);
    script.delete("k3");
    script.remove(&store, "v1");
    script.compact();
    script.put("k4", Value::Text("later".to_owned()));
    script.put("k3", Value::Int(-3));
    script.insert(&store, "v1", row(50, 4));
    drop((store, empty));
    script.finish()
}

/// The file of a writer that was killed: nothing vouches for its end.
fn killed(mut script: Script) -> Vec<String> {
    for n in 0..10 {
        script.put(&format!("k{}", n % 4), Value::Int(n));
    }
    script.keep_as_killed(|_, _| {})
}

/// An unfinished tail: a frame with a hole, and whole ones behind it that must not count.
fn torn(mut script: Script) -> Vec<String> {
    for n in 0..10 {
        script.put(&format!("k{}", n % 4), Value::Int(n));
    }
    script.db().sync().expect("syncs");
    script.put("k0", Value::Text("the last that counts".to_owned()));
    let before = script.model();
    let last = script.db().stats().expect("open").log_bytes;
    script.put("k1", Value::Bytes(noise(7, 300)));
    script.put("k2", Value::Int(1));
    script.put("k3", Value::Int(2));
    script.keep_as_killed(|script, bytes| {
        bytes[last as usize + 128..][..64].fill(0);
        script.go_back_to(before);
    })
}
