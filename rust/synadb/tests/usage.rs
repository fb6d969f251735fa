//! Which bytes of the log can still be read, against a model that weighs every commit.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use synadb::vector::{VectorConfig, VectorStore};
use synadb::{Access, Bytes, Durability, OpenOptions, SynaDB, Usage, Value, WriteBatch, limits};

const KEYS: [&str; 4] = ["a", "b", "a longer key", "\u{e9}"];

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("test.db");
    (directory, path)
}

fn open(path: &PathBuf) -> SynaDB {
    OpenOptions::new().durability(Durability::Process).open(path).expect("opens")
}

fn log_bytes(db: &SynaDB) -> u64 {
    db.stats().expect("stats").log_bytes
}

/// The usage, once its parts are seen to make up the whole log.
fn usage(db: &SynaDB) -> Usage {
    let usage = db.usage().expect("walks");
    let total = usage.total();
    let parts = total.live + total.history + total.dead + usage.reserved() + usage.overhead;
    assert_eq!(parts, usage.bytes);
    assert_eq!(usage.bytes, log_bytes(db));
    usage
}

#[derive(Debug, Clone)]
enum Op {
    Put(usize, Value),
    Floats(usize, usize),
    Delete(usize),
    Reopen,
}

fn ops() -> impl Strategy<Value = Op> {
    let value = prop_oneof![
        Just(Value::Null),
        any::<f64>().prop_map(Value::Float),
        any::<i64>().prop_map(Value::Int),
        "[a-z]{0,200}".prop_map(Value::Text),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Value::Bytes),
        (1..60usize).prop_map(|n| Value::Vector(vec![0.5; n], n as u16)),
    ];
    let key = || 0..KEYS.len();
    prop_oneof![
        8 => (key(), value).prop_map(|(key, value)| Op::Put(key, value)),
        2 => (key(), 1..50usize).prop_map(|(key, count)| Op::Floats(key, count)),
        2 => key().prop_map(Op::Delete),
        1 => Just(Op::Reopen),
    ]
}

/// What each commit cost, by key since its last delete, and what nothing gives any more.
#[derive(Default)]
struct Model {
    keys: BTreeMap<usize, Vec<(String, u64)>>,
    dead: BTreeMap<String, u64>,
}

impl Model {
    fn apply(&mut self, op: &Op, cost: u64) {
        match op {
            Op::Put(key, value) => {
                let kind = value.borrowed().type_name().to_owned();
                self.keys.entry(*key).or_default().push((kind, cost));
            }
            Op::Floats(key, _) => {
                self.keys.entry(*key).or_default().push(("float".to_owned(), cost));
            }
            Op::Delete(key) => {
                for (kind, bytes) in self.keys.remove(key).unwrap_or_default() {
                    *self.dead.entry(kind).or_default() += bytes;
                }
                if cost > 0 {
                    *self.dead.entry("delete".to_owned()).or_default() += cost;
                }
            }
            Op::Reopen => assert_eq!(cost, 0),
        }
    }

    fn types(&self) -> BTreeMap<String, Bytes> {
        let mut types: BTreeMap<String, Bytes> = BTreeMap::new();
        for (kind, bytes) in &self.dead {
            types.entry(kind.clone()).or_default().dead += bytes;
        }
        for records in self.keys.values() {
            let (newest, older) = records.split_last().expect("a value");
            types.entry(newest.0.clone()).or_default().live += newest.1;
            for (kind, bytes) in older {
                types.entry(kind.clone()).or_default().history += bytes;
            }
        }
        types
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A commit of one record costs what the log grows by, the heads of frames included.
    #[test]
    fn usage_is_what_every_commit_cost(ops in proptest::collection::vec(ops(), 1..60)) {
        let (_directory, path) = place();
        let mut db = open(&path);
        db.put("first", &synadb::ValueRef::Null).expect("puts");
        db.remove("first").expect("deletes");
        let first = usage(&db).types();
        let mut model = Model::default();
        for op in &ops {
            let before = log_bytes(&db);
            match op {
                Op::Put(key, value) => drop(db.put(KEYS[*key], &value.borrowed()).expect("puts")),
                Op::Floats(key, count) => {
                    db.append_floats(KEYS[*key], &vec![1.5; *count]).expect("appends");
                }
                Op::Delete(key) => drop(db.remove(KEYS[*key]).expect("deletes")),
                Op::Reopen => {
                    db.checkpoint().expect("saves");
                    drop(db);
                    db = open(&path);
                }
            }
            model.apply(op, log_bytes(&db) - before);
        }
        let mut expected = model.types();
        for (kind, bytes) in first {
            expected.entry(kind.to_owned()).or_default().dead += bytes.dead;
        }
        let found: BTreeMap<String, Bytes> =
            usage(&db).types().into_iter().map(|(kind, bytes)| (kind.to_owned(), bytes)).collect();
        prop_assert_eq!(found, expected);
        let reader = OpenOptions::new().access(Access::ReadOnly).open(&path).expect("opens");
        prop_assert_eq!(reader.usage().expect("walks"), usage(&db));
        db.compact().expect("compacts");
        let total = usage(&db).total();
        prop_assert_eq!((total.history, total.dead), (0, 0));
        prop_assert_eq!(total.live > 0, !model.keys.is_empty());
    }
}

#[test]
fn a_large_value_counts_with_its_extent() {
    let (_directory, path) = place();
    let db = open(&path);
    db.append("small", Value::Int(1)).expect("puts");
    let large = vec![7; limits::INLINE_VALUE_BYTES_MAX + 1];
    let (before, overhead) = (log_bytes(&db), usage(&db).overhead);
    db.append("large", Value::Bytes(large.clone())).expect("puts");
    let first = usage(&db);
    let live = first.types()["bytes"].live;
    assert!(live > large.len() as u64 + 256, "with the list of checksums behind it");
    assert_eq!(live + first.overhead - overhead, log_bytes(&db) - before);
    assert_eq!(first.reserved(), 0, "the extent is taken");
    db.append("large", Value::Bytes(large)).expect("puts");
    let Bytes { live: newest, history, dead } = usage(&db).types()["bytes"];
    assert_eq!((history, dead), (live, 0));
    assert!(newest.abs_diff(live) < 64);
    db.remove("large").expect("deletes");
    let bytes = usage(&db).types()["bytes"];
    assert_eq!(bytes, Bytes { live: 0, history: 0, dead: newest + live });
}

#[test]
fn vectors_count_with_their_rows_and_free_rows_as_reserved() {
    let (_directory, path) = place();
    let db = open(&path);
    db.append("other", Value::Int(1)).expect("puts");
    let config = VectorConfig { dimensions: 100, ..VectorConfig::default() };
    let store = VectorStore::attach(&db, "points", config).expect("attaches");
    let stride = 448; // 400 bytes, rounded up to 64
    let of_store = |db: &SynaDB| {
        let usage = usage(db);
        assert_eq!(usage.tables.len(), 2);
        let table = usage.tables.into_iter().find(|table| table.name == "points");
        table.expect("the store's table")
    };
    store.insert("a", &[1.0; 100]).expect("inserts");
    let one = of_store(&db);
    assert!(one.types["vector"].live > stride && one.types["vector"].live < stride + 120);
    assert!(one.reserved >= 15 * stride, "the first extent has 16 rows");
    store.insert("a", &[2.0; 100]).expect("replaces");
    let two = of_store(&db);
    assert_eq!(two.reserved, one.reserved - stride);
    assert_eq!(two.types["vector"].history, 0, "replaced vectors are not kept");
    assert!(two.types["vector"].dead >= stride && two.types["vector"].live >= stride);
    store.remove("a").expect("deletes");
    let three = of_store(&db);
    assert_eq!(three.total().live, 0);
    assert!(three.types["delete"].dead > 0 && three.types["vector"].dead > 2 * stride);
    let keys: Vec<String> = (0..1000).map(|n| format!("k{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    store.insert_rows(&keys, &vec![1.0; 100_000]).expect("inserts");
    assert!(of_store(&db).types["vector"].live >= 1000 * stride);
}

#[test]
fn records_of_one_commit_count_each_for_itself() {
    let (_directory, path) = place();
    let db = open(&path);
    db.append("first", Value::Null).expect("puts");
    let overhead = usage(&db).overhead;
    let mut batch = WriteBatch::new();
    batch.put("a", Value::Text("t".repeat(1000))).expect("fits");
    batch.put("b", Value::Int(1)).expect("fits");
    batch.put("c", Value::Bytes(vec![0; 10])).expect("fits");
    db.commit(&batch).expect("commits");
    let found = usage(&db);
    let types = found.types();
    for (kind, payload) in [("text", 1000), ("int", 8), ("bytes", 10)] {
        let Bytes { live, history, dead } = types[kind];
        assert!(live > payload && live < payload + 30, "{kind}: {live}");
        assert_eq!((history, dead), (0, 0));
    }
    assert!(found.overhead > overhead + 23 && found.overhead < overhead + 50);
}

#[test]
fn a_walk_can_be_ended() {
    let (_directory, path) = place();
    let db = open(&path);
    for n in 0..5000 {
        db.append("n", Value::Int(n)).expect("puts");
    }
    let mut asked = 0;
    let ended = db.usage_with(&mut |done, total| {
        asked += 1;
        assert!(done <= total);
        false
    });
    assert!(matches!(ended, Err(synadb::Error::Cancelled { .. })));
    assert_eq!(asked, 1);
}
