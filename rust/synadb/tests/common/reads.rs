//! Reading everything, and comparing it with the model or with another database.

use synadb::{Error, Pattern, Result, Value};

use super::Open;
use super::model::{Model, STORES};

/// A value, bit for bit: NaN equals itself, and zero is not minus zero.
pub fn bits(value: &Value) -> Vec<u8> {
    let (tag, bytes) = match value {
        Value::Null => (0, Vec::new()),
        Value::Float(float) => (1, float.to_bits().to_le_bytes().to_vec()),
        Value::Int(int) => (2, int.to_le_bytes().to_vec()),
        Value::Text(text) => (3, text.clone().into_bytes()),
        Value::Bytes(bytes) => (4, bytes.clone()),
        Value::Vector(vector, _) => (5, vector.iter().flat_map(|x| x.to_le_bytes()).collect()),
    };
    [vec![tag], bytes].concat()
}

pub fn bits64(floats: &[f64]) -> Vec<u64> {
    floats.iter().map(|float| float.to_bits()).collect()
}

pub fn bits32(vector: &[f32]) -> Vec<u32> {
    vector.iter().map(|float| float.to_bits()).collect()
}

/// Compares answers with what they should be.
#[derive(Debug, Default)]
pub struct Judge {
    /// Whether `Corruption` is an answer too.
    pub lenient: bool,
    /// Offsets of the errors seen.
    pub errors: Vec<u64>,
}

impl Judge {
    /// Accepts nothing but the right answer.
    pub fn strict() -> Self {
        Self::default()
    }

    /// Accepts the right answer or an error with an offset.
    pub fn lenient() -> Self {
        Self { lenient: true, errors: Vec::new() }
    }

    pub fn same<T: PartialEq + std::fmt::Debug>(
        &mut self,
        what: &str,
        got: Result<T>,
        expected: &T,
    ) {
        match got {
            Ok(got) => assert_eq!(got, *expected, "{what}"),
            Err(Error::Corruption { offset, .. }) if self.lenient => self.errors.push(offset),
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

/// Reads everything that the model knows, what is in `absent`, and the lists of keys.
pub fn read_all(open: &Open, model: &Model, absent: &[&str], judge: &mut Judge) {
    let db = &open.db;
    for (key, history) in &model.values {
        let newest = history.last().map(bits);
        judge.same(key, db.get(key).map(|v| v.as_ref().map(bits)), &newest);
        judge.same(key, db.contains(key), &true);
        let got = db.get_history(key).map(|h| h.iter().map(bits).collect::<Vec<_>>());
        judge.same(key, got, &history.iter().map(bits).collect());
        let got = db.get_history_floats(key).map(|points| bits64(&points));
        judge.same(key, got, &bits64(&model.floats(key)));
    }
    for key in absent.iter().filter(|key| !model.values.contains_key(**key)) {
        judge.same(key, db.get(key), &None);
        judge.same(key, db.get_history(key), &Vec::new());
        judge.same(key, db.get_history_floats(key), &Vec::new());
    }
    let keys: Vec<String> = model.values.keys().cloned().collect();
    judge.same("keys", db.keys_matching(&Pattern::All), &keys);
    assert_eq!(db.len(), keys.len(), "number of keys");
    for (index, (store, vectors)) in open.stores.iter().zip(&model.vectors).enumerate() {
        for (key, vector) in vectors {
            let got = store.get(key).map(|v| v.as_deref().map(bits32));
            judge.same(key, got, &Some(bits32(vector)));
            judge.same(key, store.contains(key), &true);
        }
        for key in absent.iter().filter(|key| !vectors.contains_key(**key)) {
            judge.same(key, store.get(key), &None);
        }
        let keys: Vec<String> = vectors.keys().cloned().collect();
        judge.same("keys of vectors", store.keys_matching(&Pattern::All), &keys);
        assert_eq!(store.len(), vectors.len(), "number of vectors of {}", STORES[index].table);
        // All of them: the rows that a search returns are verified, those it passes over are not.
        let query = query(index);
        judge.same("search", search(open, index, &query, vectors.len(), model), &());
    }
}

/// A fixed query for a store.
pub fn query(store: usize) -> Vec<f32> {
    (0..STORES[store].dimensions).map(|i| f32::from(i % 7) - 2.5).collect()
}

/// Searches, and compares with all distances computed in f64.
///
/// Vectors at the same distance may come in any order.
pub fn search(open: &Open, store: usize, query: &[f32], k: usize, model: &Model) -> Result<()> {
    let hits = open.stores[store].search(query, k)?;
    let vectors = &model.vectors[store];
    let distance = |vector: &[f32]| STORES[store].distance(query, vector);
    let mut exact: Vec<f64> = vectors.values().map(|vector| distance(vector)).collect();
    exact.sort_unstable_by(f64::total_cmp);
    assert_eq!(hits.len(), k.min(vectors.len()), "number of hits");
    let mut seen = std::collections::BTreeSet::new();
    for (hit, nearest) in hits.iter().zip(&exact) {
        assert!(seen.insert(&hit.key), "{:?} is found twice", hit.key);
        let stored = vectors.get(&hit.key).map(|vector| bits32(vector));
        assert_eq!(Some(bits32(&hit.vector)), stored, "vector of {:?}", hit.key);
        let tolerance = 1e-12 + f64::from(f32::EPSILON) * nearest.abs();
        for distance in [distance(&hit.vector), f64::from(hit.score)] {
            assert!((distance - nearest).abs() <= tolerance, "{hit:?}: {distance}, {nearest}");
        }
    }
    Ok(())
}

/// Everything that a reader can see, to compare two databases.
#[derive(Debug, PartialEq)]
pub struct Seen {
    sequence: u64,
    log_bytes: u64,
    tables: Vec<(String, u64)>,
    values: Vec<(String, Vec<Vec<u8>>, Vec<u64>)>,
    vectors: Vec<Vec<(String, Vec<u32>)>>,
    hits: Vec<Vec<(String, u32)>>,
}

impl Seen {
    pub fn of(open: &Open) -> Result<Self> {
        let (db, stats) = (&open.db, open.db.stats()?);
        let tables = stats.tables.into_iter().map(|table| (table.name, table.keys)).collect();
        let mut values = Vec::new();
        for key in db.keys_matching(&Pattern::All)? {
            let mut history: Vec<_> = db.get_history(&key)?.iter().map(bits).collect();
            history.extend(db.get(&key)?.as_ref().map(bits));
            let points = bits64(&db.get_history_floats(&key)?);
            values.push((key, history, points));
        }
        let (mut vectors, mut hits) = (Vec::new(), Vec::new());
        for (index, store) in open.stores.iter().enumerate() {
            let mut all = Vec::new();
            for key in store.keys_matching(&Pattern::All)? {
                let vector = store.get(&key)?.unwrap_or_default();
                all.push((key, bits32(&vector)));
            }
            vectors.push(all);
            for k in [1, 10] {
                let found = store.search(&query(index), k)?;
                hits.push(found.into_iter().map(|hit| (hit.key, hit.score.to_bits())).collect());
            }
        }
        let (sequence, log_bytes) = (stats.sequence, stats.log_bytes);
        Ok(Self { sequence, log_bytes, tables, values, vectors, hits })
    }
}
