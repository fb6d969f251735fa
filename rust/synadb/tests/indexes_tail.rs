//! The codes of what came after an index was built, and the pieces that are made of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use synadb::distance::DistanceMetric;
use synadb::vector::{
    HnswConfig, IndexBackend, IndexStats, IvfConfig, KeyFilter, PackedConfig, SearchOptions,
    SearchResult, VectorConfig, VectorStore,
};
use synadb::{Access, Durability, Maintenance, OpenOptions};

const WIDTH: usize = 48;
/// From so many rows on a tail is coded, and no other index is built within a test.
const LEAST: usize = 300;

fn open(directory: &tempfile::TempDir, options: OpenOptions) -> VectorStore {
    let (dimensions, metric) = (WIDTH as u16, DistanceMetric::Euclidean);
    let config =
        VectorConfig { dimensions, metric, index_threshold: LEAST, ..VectorConfig::default() };
    let options = options.durability(Durability::Process);
    VectorStore::open_with(directory.path().join("a.db"), config, options).expect("opens")
}

/// Pseudorandom, the same for a number every time.
fn row(number: usize) -> Vec<f32> {
    let mut state = number as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..WIDTH).map(|_| next()).collect()
}

fn insert(store: &VectorStore, numbers: std::ops::Range<usize>) {
    insert_of(store, numbers, row);
}

fn insert_of(store: &VectorStore, numbers: std::ops::Range<usize>, row: fn(usize) -> Vec<f32>) {
    let rows: Vec<f32> = numbers.clone().flat_map(row).collect();
    let keys: Vec<String> = numbers.map(|number| number.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    store.insert_rows(&keys, &rows).expect("inserts");
}

fn backends() -> [IndexBackend; 3] {
    [
        IndexBackend::Flat(PackedConfig::default()),
        IndexBackend::Hnsw(HnswConfig { ef_search: 300, ..HnswConfig::with_m(16) }),
        IndexBackend::GravityWell(IvfConfig::default()),
    ]
}

fn build(store: &VectorStore, backend: &IndexBackend) {
    store.build_index_with(backend, 1, &mut |_, _| true).expect("builds");
}

fn stats(store: &VectorStore) -> IndexStats {
    store.index_stats().expect("open").expect("built")
}

/// Rows that are neither in the part nor coded.
fn plain(store: &VectorStore) -> usize {
    let stats = stats(store);
    stats.tail - stats.coded
}

/// Searches until all but a few rows are in the index or coded, a minute at most.
fn search_until_coded(store: &VectorStore) {
    let began = Instant::now();
    while plain(store) >= LEAST {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", stats(store));
        (0..20).for_each(|number| drop(store.search(&row(number), 1).expect("searches")));
    }
}

fn keys(found: &[SearchResult]) -> Vec<&str> {
    found.iter().map(|hit| hit.key.as_str()).collect()
}

/// Share of the ten nearest that a search finds; none twice, and none that is not there.
fn recall(store: &VectorStore, filter: Option<&Arc<KeyFilter>>) -> f64 {
    let thorough = SearchOptions {
        ef_search: Some(400),
        nprobe: Some(1000),
        candidates: Some(1000),
        filter: filter.cloned(),
        ..SearchOptions::default()
    };
    let exact = SearchOptions { exact: true, ..thorough.clone() };
    let (mut found, mut all) = (0, 0);
    for number in 0..60 {
        let query: Vec<f32> = row(number * 97).iter().map(|value| value * 0.9).collect();
        let got = store.search_with(&query, 10, &thorough).expect("searches");
        let truth = store.search_with(&query, 10, &exact).expect("searches");
        assert_eq!(got.len(), truth.len());
        let distinct: HashSet<&str> = keys(&got).into_iter().collect();
        assert_eq!(distinct.len(), got.len(), "{:?}", keys(&got));
        found += truth.iter().filter(|hit| got.contains(hit)).count();
        all += truth.len();
    }
    found as f64 / f64::from(u32::try_from(all).expect("few"))
}

#[test]
fn what_came_later_is_coded_and_found_as_by_an_exact_search() {
    for backend in backends() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(&directory, OpenOptions::new());
        insert(&store, 0..2000);
        build(&store, &backend);
        insert(&store, 2000..4000);
        // Rows that die before they are coded, and rows of the part that are replaced.
        insert(&store, 3900..4000);
        insert(&store, 50..100);
        (2000..2050).for_each(|n| store.delete(&n.to_string()).expect("deletes"));
        assert_eq!(plain(&store), 2000, "{backend:?}");
        search_until_coded(&store);
        assert!(recall(&store, None) >= 0.99, "{backend:?}");
        // The same again, behind codes.
        insert(&store, 4000..4500);
        insert(&store, 2100..2200);
        (3000..3100).for_each(|n| store.delete(&n.to_string()).expect("deletes"));
        assert!(recall(&store, None) >= 0.99, "{backend:?}");
        search_until_coded(&store);
        assert!(recall(&store, None) >= 0.99, "{backend:?}");
        let is_flat = matches!(backend, IndexBackend::Flat(_));
        let found = stats(&store);
        assert_eq!(found.rows + found.tail, store.len(), "{found:?}");
        assert_eq!(found.coded == 0, is_flat, "codes grow themselves: {found:?}");
        assert!(found.rows > 4000 || !is_flat, "{found:?}");
    }
}

#[test]
fn a_filter_allows_rows_of_part_tail_and_rest() {
    for backend in backends() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(&directory, OpenOptions::new());
        let filter = Arc::new(KeyFilter::passing(|key| key.ends_with(['1', '3', '7'])));
        let few = Arc::new(KeyFilter::of_keys((1900..2600).step_by(31).map(|n| n.to_string())));
        insert(&store, 0..2000);
        build(&store, &backend);
        for end in [2500, 3500, 3600] {
            let begin = store.len();
            insert(&store, begin..end);
            for filter in [&filter, &few] {
                assert!(recall(&store, Some(filter)) >= 0.99, "{backend:?} {end}");
            }
            search_until_coded(&store);
            for filter in [&filter, &few] {
                assert!(recall(&store, Some(filter)) >= 0.99, "{backend:?} {end}");
            }
        }
    }
}

#[test]
fn an_index_that_is_built_anew_takes_the_rows_over() {
    for backend in backends() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(&directory, OpenOptions::new());
        insert(&store, 0..1000);
        build(&store, &IndexBackend::Hnsw(HnswConfig::with_m(8)));
        insert(&store, 1000..2500);
        search_until_coded(&store);
        assert!(stats(&store).coded > 0);
        // What comes and is coded while the next one is built stays coded.
        let mut is_first = true;
        let came_meanwhile = |_, _| {
            if std::mem::take(&mut is_first) {
                insert(&store, 2500..4000);
                store.delete("2600").expect("deletes");
                search_until_coded(&store);
            }
            true
        };
        let mut came_meanwhile = came_meanwhile;
        store.build_index_with(&backend, 1, &mut came_meanwhile).expect("builds");
        let found = stats(&store);
        assert_eq!((found.rows, found.tail), (2500, 1499), "{found:?}");
        assert!(found.coded > 1499 - LEAST, "{found:?}");
        assert!(recall(&store, None) >= 0.99, "{backend:?}");
        // And grows on.
        insert(&store, 4000..5000);
        search_until_coded(&store);
        assert!(recall(&store, None) >= 0.99, "{backend:?}");
        build(&store, &backend);
        let found = stats(&store);
        assert_eq!((found.rows, found.tail, found.coded), (4999, 0, 0));
        assert!(recall(&store, None) >= 0.99, "{backend:?}");
    }
}

/// Rows that make a piece.
const PIECE: usize = 32 * LEAST;
/// Rows that are coded in one step: so many a part of codes that was chosen may take in at once.
const STEP: usize = 16_384;

/// Searches until so many pieces were sealed, a minute at most; so seldom that no index is built
/// meanwhile, for that pays after some four hundred searches.
fn search_until_sealed(store: &VectorStore, pieces: usize) {
    let began = Instant::now();
    for number in 1.. {
        let found = stats(store);
        if found.pieces >= pieces {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{found:?}");
        drop(store.search(&row(number), 1).expect("searches"));
        std::thread::sleep(Duration::from_millis(20 * number.min(10) as u64));
    }
}

/// A store with an index of 1000 rows, and rows behind it that make two pieces and some more.
fn with_pieces(store: &VectorStore, backend: &IndexBackend) {
    insert(store, 0..1000);
    build(store, backend);
    insert(store, 1000..1000 + STEP + 2 * PIECE + LEAST);
    search_until_sealed(store, 2);
}

#[test]
fn what_was_coded_is_sealed_in_pieces_and_found_as_before() {
    let chosen = IndexBackend::Auto;
    for backend in backends().into_iter().skip(1).chain([chosen.clone()]) {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(&directory, OpenOptions::new());
        with_pieces(&store, &backend);
        let found = stats(&store);
        assert_eq!(found.rows + found.tail, store.len(), "{found:?}");
        assert_eq!(plain(&store), found.tail - found.coded);
        assert!(recall(&store, None) >= 0.99, "{backend:?}");
        // Rows of the pieces die, and others take their place.
        (2000..2400).for_each(|n| store.delete(&n.to_string()).expect("deletes"));
        for number in 3000..3200 {
            store.update(&number.to_string(), &row(1_000_000 + number)).expect("is there");
        }
        assert!(recall(&store, None) >= 0.99, "{backend:?}");
        let first = |number: usize| store.search(&row(number), 1).expect("searches").remove(0);
        for number in (3000..3200).step_by(9) {
            let found = first(1_000_000 + number);
            assert_eq!((&*found.key, found.score), (&*number.to_string(), 0.0), "{backend:?}");
            assert!(first(number).score > 0.0, "{backend:?}");
            assert!(first(number - 1000).score > 0.0, "{backend:?}");
        }
        let odd = Arc::new(KeyFilter::passing(|key| key.ends_with(['1', '3', '7'])));
        let few = Arc::new(KeyFilter::of_keys((900..9000).step_by(97).map(|n| n.to_string())));
        for filter in [&odd, &few] {
            assert!(recall(&store, Some(filter)) >= 0.99, "{backend:?}");
        }
        // An index that is built anew has them all.
        build(&store, &backend);
        let found = stats(&store);
        assert_eq!((found.rows, found.tail, found.pieces), (store.len(), 0, 0), "{found:?}");
        // Of rows without structure a graph of so many finds .975.
        let all = recall(&store, None);
        assert!(all >= 0.95, "{backend:?} {all}");
    }
}

#[test]
fn a_search_by_default_finds_of_pieces_what_it_finds_of_an_index() {
    let shorter = |number| row(number * 97).iter().map(|value| value * 0.9).collect();
    for (backend, least) in
        [(IndexBackend::GravityWell(IvfConfig::default()), 0.95), (IndexBackend::Auto, 0.985)]
    {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(&directory, OpenOptions::new());
        with_pieces(&store, &backend);
        let usual = share_found(&store, 0, &SearchOptions::default(), shorter);
        assert!(usual >= least, "{backend:?}: {usual}");
        // Pieces are not tuned to a recall: they have to find as much as the codes of a tail.
        for target in [0.8, 0.99] {
            let aimed = SearchOptions::for_recall(target);
            let aimed = share_found(&store, stats(&store).rows, &aimed, shorter);
            assert!(aimed >= 0.99, "{backend:?}: {aimed} for {target}");
        }
    }
}

const CLUSTERS: usize = 64;

fn clustered(number: usize) -> Vec<f32> {
    let (center, own) = (row(10_000_000 + number % CLUSTERS), row(number));
    center.iter().zip(&own).map(|(center, own)| 4.0 * center + 0.5 * own).collect()
}

#[test]
fn what_is_not_in_the_nearest_cells_is_found_where_a_filter_or_a_recall_wants_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory, OpenOptions::new());
    insert_of(&store, 0..1000, clustered);
    build(&store, &IndexBackend::Hnsw(HnswConfig::with_m(16)));
    insert_of(&store, 1000..1000 + 2 * PIECE + LEAST, clustered);
    search_until_sealed(&store, 2);
    let is_in_half = |key: &str| key.parse::<usize>().is_ok_and(|n| n % CLUSTERS < CLUSTERS / 2);
    let half = Some(Arc::new(KeyFilter::passing(is_in_half)));
    let filtered = SearchOptions { filter: half, ..SearchOptions::default() };
    // Nearest to what the filter leaves out, and between several clusters.
    let left_out = |number| clustered(CLUSTERS / 2 + number % (CLUSTERS / 2));
    let between = |number| {
        let mut sum = vec![0.0; WIDTH];
        for cluster in number..number + 5 {
            sum.iter_mut().zip(clustered(cluster)).for_each(|(sum, value)| *sum += value / 5.0);
        }
        sum
    };
    let found = share_found(&store, 0, &filtered, left_out);
    assert!(found >= 0.98, "{found}");
    let found = share_found(&store, 0, &SearchOptions::for_recall(0.98), between);
    assert!(found >= 0.98, "{found}");
}

type Make = fn(usize) -> Vec<f32>;

/// What share of the nearest is found, of those among them that were inserted from a number on.
fn share_found(store: &VectorStore, first: usize, options: &SearchOptions, query: Make) -> f64 {
    let exact = SearchOptions { exact: true, target_recall: None, ..options.clone() };
    let (mut found, mut all) = (0, 0);
    for number in 0..100 {
        let query = query(number);
        let got = store.search_with(&query, 10, options).expect("searches");
        let mut truth = store.search_with(&query, 10, &exact).expect("searches");
        truth.retain(|hit| hit.key.parse::<usize>().is_ok_and(|number| number >= first));
        found += truth.iter().filter(|hit| got.contains(hit)).count();
        all += truth.len();
    }
    found as f64 / f64::from(u32::try_from(all).expect("few"))
}

#[test]
fn pieces_outlive_a_build_that_does_not_know_their_rows_and_no_closing() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory, OpenOptions::new());
    insert(&store, 0..2000);
    build(&store, &IndexBackend::Hnsw(HnswConfig::with_m(8)));
    // Half of the piece is in the index that is built, too.
    let in_both = 2000 + PIECE / 2;
    insert(&store, 2000..in_both);
    let mut is_first = true;
    let came_meanwhile = |_, _| {
        if std::mem::take(&mut is_first) {
            insert(&store, in_both..in_both + PIECE + LEAST);
            search_until_coded(&store);
            search_until_sealed(&store, 1);
        }
        true
    };
    let mut came_meanwhile = came_meanwhile;
    let backend = IndexBackend::GravityWell(IvfConfig::default());
    store.build_index_with(&backend, 1, &mut came_meanwhile).expect("builds");
    let found = stats(&store);
    assert_eq!((found.kind, found.rows, found.pieces), ("gravity_well", in_both, 1), "{found:?}");
    assert!(found.tail - found.coded < LEAST, "{found:?}");
    assert!(recall(&store, None) >= 0.99);
    checkpoint_and_close(&store);
    // Closed while it seals: nothing of it is left, and all is found.
    for _ in 0..3 {
        let store = open(&directory, OpenOptions::new());
        assert_eq!((stats(&store).coded, stats(&store).pieces), (0, 0));
        search_until_coded(&store);
        drop(store.search(&row(0), 1).expect("searches"));
        store.close_handle().expect("closes");
    }
    let store = open(&directory, OpenOptions::new());
    search_until_coded(&store);
    search_until_sealed(&store, 1);
    (0..5000).for_each(|n| store.delete(&n.to_string()).expect("deletes"));
    assert!(recall(&store, None) >= 0.99);
}

#[test]
fn codes_that_are_mostly_of_dead_rows_are_made_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory, OpenOptions::new());
    insert(&store, 0..1000);
    build(&store, &IndexBackend::Flat(PackedConfig::default()));
    for _ in 0..3 {
        insert(&store, 0..1000);
        search_until_coded(&store);
    }
    let began = Instant::now();
    while stats(&store).dead >= 1000 {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", stats(&store));
        (0..100).for_each(|number| drop(store.search(&row(number), 1).expect("searches")));
    }
    assert!(recall(&store, None) >= 0.99);
}

#[test]
fn an_inverted_file_takes_the_tail_in() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory, OpenOptions::new());
    insert(&store, 0..2000);
    build(&store, &IndexBackend::GravityWell(IvfConfig::default()));
    for end in [3500, 6000] {
        let begin = store.len();
        insert(&store, begin..end);
        let began = Instant::now();
        while stats(&store).rows < end {
            assert!(began.elapsed() < Duration::from_secs(60), "{:?}", stats(&store));
            (0..100).for_each(|number| drop(store.search(&row(number), 1).expect("searches")));
        }
        assert_eq!((stats(&store).tail, stats(&store).coded), (0, 0));
        assert!(recall(&store, None) >= 0.98);
    }
}

#[test]
fn a_row_is_found_as_soon_as_its_insert_returned() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory, OpenOptions::new());
    insert(&store, 0..1000);
    build(&store, &IndexBackend::GravityWell(IvfConfig::default()));
    let (done, ends) = (AtomicUsize::new(1000), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1000..12_000 {
                store.insert(&number.to_string(), &row(number)).expect("inserts");
                done.store(number + 1, Ordering::Release);
                if number % 7 == 0 {
                    // Another row takes its place: what was replaced is not found again.
                    let key = (number - 500).to_string();
                    store.update(&key, &row(1_000_000 + number)).expect("is there");
                }
            }
            ends.store(true, Ordering::Release);
        });
        for seed in [3, 5] {
            let (store, done, ends) = (&store, &done, &ends);
            scope.spawn(move || {
                let mut searches = 0;
                while !ends.load(Ordering::Acquire) {
                    let newest = done.load(Ordering::Acquire) - 1;
                    // The newest ones are replaced only after five hundred more.
                    let number = newest - (searches * seed) % 300;
                    let found = store.search(&row(number), 3).expect("searches");
                    let distinct: HashSet<&str> = keys(&found).into_iter().collect();
                    assert_eq!(distinct.len(), 3);
                    if done.load(Ordering::Acquire) < number + 500 {
                        assert_eq!((&*found[0].key, found[0].score), (&*number.to_string(), 0.0));
                    }
                    searches += 1;
                }
            });
        }
    });
    search_until_coded(&store);
    assert!(recall(&store, None) >= 0.98);
    let mut newest: HashMap<usize, usize> = (0..12_000).map(|n| (n, n)).collect();
    for number in (1000..12_000).filter(|number| number % 7 == 0) {
        newest.insert(number - 500, 1_000_000 + number);
    }
    for number in (0..12_000).step_by(61) {
        let found = store.search(&row(newest[&number]), 1).expect("searches");
        assert_eq!((&*found[0].key, found[0].score), (&*number.to_string(), 0.0));
    }
}

#[test]
fn each_handle_codes_for_itself_and_none_where_nothing_works_apart() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory, OpenOptions::new());
    insert(&store, 0..1000);
    build(&store, &IndexBackend::Hnsw(HnswConfig::with_m(8)));
    insert(&store, 1000..2000 + PIECE);
    let reader = open(&directory, OpenOptions::new().access(Access::ReadOnly));
    search_until_coded(&reader);
    assert_eq!(stats(&store).coded, 0, "others see nothing of it");
    assert!(recall(&reader, None) >= 0.99);
    search_until_sealed(&reader, 1);
    assert_eq!((stats(&store).coded, stats(&store).pieces), (0, 0));
    reader.close_handle().expect("closes");
    checkpoint_and_close(&store);
    // What is saved is the part: the tail is coded again after the next opening.
    let store = open(&directory, OpenOptions::new().maintenance(Maintenance::Inline));
    let later = 1000 + PIECE;
    assert_eq!(stats(&store).tail, later);
    for number in 0..100 {
        store.search(&row(number), 1).expect("searches");
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(plain(&store), later);
    store.close_handle().expect("closes");
    let store = open(&directory, OpenOptions::new());
    search_until_coded(&store);
    assert!(recall(&store, None) >= 0.99);
}

/// Ends a store with what it has saved.
fn checkpoint_and_close(store: &VectorStore) {
    store.save_index().expect("saves");
    store.close_handle().expect("closes");
}
