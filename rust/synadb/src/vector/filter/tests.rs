//! Rows that are looked at, and those that are not looked at twice.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::vector::{SearchOptions, VectorConfig, VectorStore};

#[test]
fn rows_of_several_tables_are_looked_at_once() {
    let folder = tempfile::tempdir().expect("a directory");
    let config = || VectorConfig { dimensions: 1, ..VectorConfig::default() };
    let open = |n: usize| {
        let path = folder.path().join(n.to_string());
        VectorStore::new(path, config()).expect("opens")
    };
    let stores: Vec<VectorStore> = (0..=TABLES_MAX).map(open).collect();
    for store in &stores {
        (0..10_u8).for_each(|n| store.insert(&n.to_string(), &[1.0]).expect("inserts"));
    }
    let looks = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&looks);
    let filter = Arc::new(KeyFilter::passing(move |key| {
        counter.fetch_add(1, Ordering::Relaxed);
        key < "5"
    }));
    let options = SearchOptions { filter: Some(filter), ..SearchOptions::default() };
    let search = |store: &VectorStore| {
        let found = store.search_with(&[1.0], 9, &options).expect("searches");
        assert_eq!(found.len(), 5);
        looks.load(Ordering::Relaxed)
    };
    let (four, fifth) = (&stores[..TABLES_MAX], &stores[TABLES_MAX]);
    for _ in 0..3 {
        four.iter().for_each(|store| assert!(search(store) <= 10 * TABLES_MAX));
    }
    stores[1].insert("new", &[1.0]).expect("inserts");
    assert_eq!(search(&stores[1]), 10 * TABLES_MAX + 1);
    // One more pushes out that which was not used for longest, and no other.
    assert_eq!(search(fifth), 10 * TABLES_MAX + 11);
    assert_eq!(search(&stores[1]), 10 * TABLES_MAX + 11);
    assert_eq!(search(&stores[0]), 10 * TABLES_MAX + 21);
}

#[test]
fn fresh_filters_find_the_same_from_the_log_and_from_keys_that_are_kept() {
    let folder = tempfile::tempdir().expect("a directory");
    let config = VectorConfig { dimensions: 1, ..VectorConfig::default() };
    let store = VectorStore::new(folder.path().join("a.db"), config).expect("opens");
    let insert = |numbers: std::ops::Range<u32>| {
        let keys: Vec<String> = numbers.map(|n| format!("{}:{n}", n % 7)).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let rows: Vec<&[f32]> = keys.iter().map(|_| [1.0].as_slice()).collect();
        assert_eq!(store.insert_batch(&keys, &rows).expect("inserts"), keys.len());
    };
    let snapshot = || store.snapshot().expect("open").expect("rows");
    // More than a chunk of keys; where one ends, another begins. Slots between are left empty.
    let keys_of = |snapshot: &Snapshot, filter: &KeyFilter| {
        let found = filter.rows_of(snapshot, None).expect("reads");
        assert_eq!(found.unborn, snapshot.unborn_rows());
        let key = |row| snapshot.key_of(row).expect("reads").into_owned();
        found.allowed.iter().map(key).collect::<Vec<_>>()
    };
    let mut earlier = Vec::new();
    for numbers in [0..20_000, 20_000..32_768, 32_768..32_769, 32_769..50_000] {
        insert(numbers.clone());
        earlier.push((snapshot(), numbers.end));
        for (snapshot, end) in &earlier {
            let named = |allows: fn(u32) -> bool| {
                let numbers = (0..*end).filter(|n| allows(n % 7));
                numbers.map(|n| format!("{}:{n}", n % 7)).collect::<Vec<_>>()
            };
            let prefix = KeyFilter::with_prefix("3:");
            assert_eq!(keys_of(snapshot, &prefix), named(|m| m == 3));
            assert_eq!(keys_of(snapshot, &prefix.except()), named(|m| m != 3));
        }
    }
    // Who has not come by now may come where nobody has come behind it in its extent.
    let now = snapshot();
    let is_last = |row: u32| {
        let extent = now.reader.extent_of(row).expect("a row of the table");
        (row..extent.first + extent.rows).all(|row| now.is_unborn(RowId(row)))
    };
    for (snapshot, _) in &earlier {
        let is_unborn = |row: &u32| snapshot.is_unborn(RowId(*row));
        let may_come = |row: &u32| is_unborn(row) && (!now.is_unborn(RowId(*row)) || is_last(*row));
        let one_by_one = (0..snapshot.rows_end()).filter(may_come);
        assert!(snapshot.unborn_rows().into_iter().eq(one_by_one));
    }
    assert!(earlier.iter().any(|(snapshot, _)| !snapshot.unborn_rows().is_empty()));
    // Rows far behind the keys that are kept, for a filter that has seen all before them.
    let old = KeyFilter::with_prefix("3:");
    let before = keys_of(&snapshot(), &old).len();
    insert(50_000..50_700);
    assert_eq!(keys_of(&snapshot(), &old).len(), before + 100);
    store.insert("3:3", &[2.0]).expect("inserts");
    let again = KeyFilter::passing(|key| key == "3:3");
    // Rows that died are allowed too.
    assert_eq!(keys_of(&snapshot(), &again), ["3:3"; 2]);
}

#[test]
fn an_order_of_keys_has_what_the_keys_one_by_one_have() {
    let folder = tempfile::tempdir().expect("a directory");
    let config = VectorConfig { dimensions: 1, ..VectorConfig::default() };
    let store = VectorStore::new(folder.path().join("a.db"), config).expect("opens");
    // Ends and zero bytes, keys that begin others, many bytes alike.
    let long = "long ".repeat(20);
    let starts = ["a", "a\0", "a\0\0", "aa", "\u{e4}", "tenant:1:", "tenant:10:", &long];
    let fill = |numbers: std::ops::Range<usize>| {
        for number in numbers {
            let key = format!("{}{}", starts[number % 8], "0123456789".repeat(number % 3));
            let key = if number % 5 == 0 { key } else { format!("{key}{}", number * 7919 % 512) };
            store.insert(&key, &[number as f32]).expect("inserts");
        }
    };
    let snapshot = || store.snapshot().expect("open").expect("rows");
    let rows = |filter: &KeyFilter, snapshot: &Snapshot| -> Vec<u32> {
        filter.rows_of(snapshot, None).expect("reads").allowed.iter().map(|row| row.0).collect()
    };
    fill(0..3_000);
    let before = snapshot();
    fill(3_000..4_000);
    let middle = snapshot();
    (0..20).for_each(|_| _ = rows(&KeyFilter::with_prefix("a"), &middle));
    let (end, order) = (middle.rows_end(), middle.key_order().expect("reads"));
    assert!(order.is_some_and(|order| order.end == end));
    assert!(before.key_order().expect("reads").is_none(), "it has rows that were not there");
    fill(4_000..4_100);
    let far = format!("{long}0*");
    let globs = ["a*", "tenant:1:*9", "[a-t]*", "a\0", "*7", "tenant:?:0", &far];
    let globs = globs.map(KeyFilter::matching);
    let prefixes = starts.into_iter().chain(["", "tenant", "b", &long[..70], "zzz"]);
    for filter in prefixes.map(KeyFilter::with_prefix).chain(globs) {
        for filter in [filter.except(), filter] {
            for at in [&before, &middle, &snapshot()] {
                let allows = |row: &u32| {
                    let row = RowId(*row);
                    !at.is_unborn(row) && filter.allows(&at.key_of(row).expect("reads"))
                };
                let one_by_one: Vec<u32> = (0..at.rows_end()).filter(allows).collect();
                assert_eq!(rows(&filter.except().except(), at), one_by_one, "{filter:?}");
            }
        }
    }
    // So many look at what came since that it is put in order, too.
    (0..400).for_each(|_| _ = rows(&KeyFilter::with_prefix("a"), &snapshot()));
    let (end, order) = (snapshot().rows_end(), snapshot().key_order().expect("reads"));
    assert!(order.is_some_and(|order| order.end == end));
}

#[test]
fn what_was_found_later_does_not_serve_an_earlier_snapshot() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("a.db");
    let config = VectorConfig { dimensions: 1, ..VectorConfig::default() };
    let store = VectorStore::new(&path, config).expect("opens");
    (0..100_u8).for_each(|n| store.insert(&n.to_string(), &[1.0]).expect("inserts"));
    let snapshot = || store.snapshot().expect("open").expect("rows");
    let (filter, before) = (KeyFilter::of_keys(["7"]), snapshot());
    store.insert("7", &[2.0]).expect("inserts");
    let rows = |snapshot: &Snapshot| {
        let found = filter.rows_of(snapshot, None).expect("reads");
        let live = found.allowed.iter().filter(|row| snapshot.is_live(*row));
        live.map(|row| row.0).collect::<Vec<_>>()
    };
    assert_eq!([rows(&snapshot()), rows(&before), rows(&snapshot())], [[100], [7], [100]]);
}

#[test]
fn what_an_index_has_copied_stays_while_rows_come_behind_it() {
    let folder = tempfile::tempdir().expect("a directory");
    let config = VectorConfig { dimensions: 32, ..VectorConfig::default() };
    let store = VectorStore::new(folder.path().join("a.db"), config).expect("opens");
    let vector = |n: u32| -> Vec<f32> {
        (0..32)
            .map(|at| (n.wrapping_mul(2_654_435_761).wrapping_add(at * n) % 1000) as f32 - 500.0)
            .collect()
    };
    let fill = |numbers: std::ops::Range<u32>| {
        let keys: Vec<String> = numbers.clone().map(|n| format!("{}:{n}", n % 5)).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let rows: Vec<Vec<f32>> = numbers.map(vector).collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        store.insert_batch(&keys, &rows).expect("inserts");
    };
    fill(0..5000);
    store.build_index().expect("builds");
    let (bytes, filter) = (
        || store.index_stats().expect("open").expect("built").bytes,
        Arc::new(KeyFilter::with_prefix("3:")),
    );
    let options = SearchOptions { filter: Some(filter), ..SearchOptions::default() };
    let search = |times: u32| {
        for n in 0..times {
            let found = store.search_with(&vector(n), 10, &options).expect("searches");
            let exact = SearchOptions { exact: true, ..options.clone() };
            assert_eq!(found, store.search_with(&vector(n), 10, &exact).expect("searches"));
        }
    };
    let before = bytes();
    search(30);
    let copied = bytes();
    assert!(copied > before);
    // The same object as before: it finds the copies, and counts the searches.
    let prepared = || {
        let (snapshot, filter) = (store.snapshot().expect("open").expect("rows"), &options.filter);
        let loaded = store.config.index_of(&snapshot);
        let filter = filter.as_ref().expect("there is one");
        let found = filter.rows_of(&snapshot, loaded.as_ref()).expect("reads");
        let part = found.filters().part.as_ref().expect("an index");
        std::ptr::from_ref(part.indexed.rows().expect("a filter"))
    };
    let first = prepared();
    for n in 0..50 {
        // A search that goes past the index is the first that finds the new row.
        fill(5000 + n..5001 + n);
        if n % 2 == 0 {
            let exact = SearchOptions { exact: true, ..options.clone() };
            store.search_with(&vector(n), 10, &exact).expect("searches");
        }
        search(1);
        assert_eq!((bytes(), prepared()), (copied, first), "{n}");
    }
}
