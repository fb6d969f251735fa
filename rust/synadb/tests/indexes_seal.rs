//! A tail that cannot be sealed: it is found all the same, and not tried again by every search.

use std::cell::Cell;
use std::fs::{File, OpenOptions as Files};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use synadb::distance::DistanceMetric;
use synadb::vector::{HnswConfig, IndexBackend, VectorConfig, VectorStore};
use synadb::{Durability, OpenOptions};

const WIDTH: usize = 32;
/// From so many rows on a tail is coded, and 32 times as many make a piece.
const LEAST: usize = 100;
const PIECE: usize = 32 * LEAST;
const PATIENCE: Duration = Duration::from_secs(60);

/// Pseudorandom, the same for a number every time.
fn row(number: usize) -> Vec<f32> {
    let mut state = number as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..WIDTH).map(|_| next()).collect()
}

fn insert(store: &VectorStore, numbers: std::ops::Range<usize>) {
    let rows: Vec<f32> = numbers.clone().flat_map(row).collect();
    let keys: Vec<String> = numbers.map(|number| number.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    store.insert_rows(&keys, &rows).expect("inserts");
}

/// Searches for rows that are whole until something is so, each of which has to be found; so
/// seldom that no other index is built meanwhile.
fn search_until(store: &VectorStore, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    for number in 1.. {
        if is_so() {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{:?}", store.index_stats());
        let found = store.search(&row(number), 1).expect("searches");
        assert_eq!(found[0].key, number.to_string());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The file, and where the bytes of a row lie in it.
fn place_of(path: &Path, number: usize) -> (File, u64) {
    let wanted: Vec<u8> = row(number).iter().flat_map(|value| value.to_le_bytes()).collect();
    let bytes = std::fs::read(path).expect("reads");
    let at = bytes.windows(wanted.len()).position(|window| window == wanted).expect("is there");
    (Files::new().write(true).open(path).expect("opens"), at as u64)
}

#[test]
fn a_tail_that_cannot_be_sealed_is_left_alone_until_it_has_grown() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.db");
    let (dimensions, metric) = (WIDTH as u16, DistanceMetric::Euclidean);
    let config =
        VectorConfig { dimensions, metric, index_threshold: LEAST, ..VectorConfig::default() };
    let options = OpenOptions::new().durability(Durability::Process);
    let store = VectorStore::open_with(&path, config, options).expect("opens");
    insert(&store, 0..1000);
    let graph = IndexBackend::Hnsw(HnswConfig::with_m(16));
    store.build_index_with(&graph, 1, &mut |_, _| true).expect("builds");
    let stats = || store.index_stats().expect("open").expect("built");
    let failure = || store.seal_failure().expect("open");
    insert(&store, 1000..1000 + PIECE / 2);
    search_until(&store, || stats().coded == PIECE / 2);
    assert_eq!(failure(), None);
    // The first row of the piece to come rots once it is coded.
    let (file, at) = place_of(&path, 1000);
    file.write_all_at(&f32::NAN.to_le_bytes(), at).expect("writes");
    insert(&store, 1000 + PIECE / 2..1000 + PIECE);
    search_until(&store, || failure().is_some());
    let said = failure().expect("something");
    assert!(said.starts_with(&format!("{PIECE} coded rows: ")) && said.contains("NaN"), "{said}");
    // It could be sealed by now, and is not tried before it pays.
    file.write_all_at(&row(1000)[0].to_le_bytes(), at).expect("writes");
    let (searches, enough) = (Cell::new(0), 25);
    search_until(&store, || searches.replace(searches.get() + 1) == enough);
    assert_eq!((stats().pieces, failure()), (0, Some(said)));
    insert(&store, 1000 + PIECE..1000 + PIECE + PIECE / 4 + LEAST);
    search_until(&store, || stats().pieces == 1);
    assert_eq!(failure(), None);
    let found = store.search(&row(1000), 1).expect("searches");
    assert_eq!(found[0].key, "1000");
}
