//! Which keys a search may return.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

use synadb_index::Filter;
use synadb_storage::extent::Row;
use synadb_storage::{Result, fork};
use synadb_types::{RowId, RowSet};
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use super::index::{Behind, Loaded, WeakIndex};
use crate::collection::{KeyOrder, RowsReader, Snapshot};
use crate::glob::Pattern;

/// Of fewer keys than one in so many rows each is looked up; else every row says its key.
const LOOKED_UP_OF: usize = 4;
/// Tables whose rows a filter remembers: those that it was used with last. A hybrid store has two.
const TABLES_MAX: usize = 4;

/// Keys that a search may return.
///
/// The first search that uses a filter finds the rows that it allows, in a time in proportion to the
/// keys it names, or to the rows of the store; later searches look only at rows that came since.
/// It is made for no store in particular, and remembers the four tables that it was used with last;
/// with another one, or after a compaction, it begins anew. From the second pattern or test on that
/// looks at all keys of a table they are kept in memory, with 4 bytes for each row, and where many
/// filters name a prefix, alone or as what a pattern begins with, their order, with 4 bytes more:
/// each of them then looks only at keys that begin so.
/// [`Stats::filter_bytes`](crate::Stats::filter_bytes) says how much it is.
///
/// ```
/// # fn main() -> synadb::Result<()> {
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let path = directory.path().join("vectors.db");
/// use std::sync::Arc;
/// use synadb::vector::{KeyFilter, SearchOptions, VectorConfig, VectorStore};
///
/// let store = VectorStore::new(&path, VectorConfig { dimensions: 2, ..VectorConfig::default() })?;
/// store.insert("en:sun", &[1.0, 0.0])?;
/// store.insert("de:sonne", &[0.9, 0.1])?;
/// let german = Arc::new(KeyFilter::with_prefix("de:"));
/// let options = SearchOptions { filter: Some(german), ..SearchOptions::default() };
/// let found = store.search_with(&[1.0, 0.0], 10, &options)?;
/// assert_eq!(found.len(), 1);
/// assert_eq!(found[0].key, "de:sonne");
/// # Ok(())
/// # }
/// ```
pub struct KeyFilter {
    rule: Arc<Rule>,
    /// Whether the keys are those that a search may not return.
    is_inverted: bool,
    /// Of each table, that which was used last first.
    found: Mutex<Vec<Arc<Found>>>,
    /// Forks before it was made: a child may have been forked while another thread held `found`.
    epoch: u64,
}

enum Rule {
    Keys(Keys),
    Pattern(Pattern),
    Test(Box<dyn Fn(&str) -> bool + Send + Sync>),
}

type Keys = HashSet<Box<str>, Xxh3DefaultBuilder>;

/// Rows of one table that a filter allows.
#[derive(Clone)]
pub(super) struct Found {
    reader: Weak<RowsReader>,
    /// Snapshots as of earlier positions may show rows that were not looked at.
    since: u64,
    allowed: RowSet,
    /// The rows below this one were looked at.
    end: u32,
    /// Those of them that were not committed yet.
    unborn: Vec<u32>,
    filters: Filters,
}

/// Rows as a search takes them.
#[derive(Clone)]
pub(super) struct Filters {
    /// Of the whole table.
    pub all: Filter,
    /// Of an index.
    pub part: Option<OfPart>,
}

impl Filters {
    pub const ALL: Self = Self { all: Filter::All, part: None };
}

/// The rows of an index that a filter allows.
#[derive(Clone)]
pub(super) struct OfPart {
    index: WeakIndex,
    pub indexed: Filter,
    /// Of those that came after it and were coded.
    pub behind: Behind,
    /// Of those that the index left out, for they might still come.
    pub unborn: Option<Filter>,
}

impl fmt::Debug for KeyFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match &*self.rule {
            Rule::Keys(keys) => format!("{} keys", keys.len()),
            Rule::Pattern(pattern) => format!("{pattern:?}"),
            Rule::Test(_) => "a test".to_owned(),
        };
        f.debug_struct("KeyFilter").field("rule", &rule).field("except", &self.is_inverted).finish()
    }
}

impl KeyFilter {
    fn new(rule: Rule) -> Self {
        Self::over(Arc::new(rule), false)
    }

    fn over(rule: Arc<Rule>, is_inverted: bool) -> Self {
        Self { rule, is_inverted, found: Mutex::default(), epoch: fork::epoch() }
    }

    /// These keys, whether the store has them now, later or never.
    #[must_use]
    pub fn of_keys<K: AsRef<str>>(keys: impl IntoIterator<Item = K>) -> Self {
        Self::new(Rule::Keys(keys.into_iter().map(|key| key.as_ref().into()).collect()))
    }

    /// Keys that begin so.
    #[must_use]
    pub fn with_prefix(prefix: &str) -> Self {
        Self::new(Rule::Pattern(Pattern::Prefix(prefix.to_owned())))
    }

    /// Keys that a shell pattern matches: `*`, `?`, `[a-z]`, `[!a-z]`.
    #[must_use]
    pub fn matching(glob: &str) -> Self {
        Self::new(Rule::Pattern(Pattern::Glob(glob.into())))
    }

    /// Keys that pass a test, which has to say the same of a key every time.
    #[must_use]
    pub fn passing(test: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self::new(Rule::Test(Box::new(test)))
    }

    /// All keys but these.
    #[must_use]
    pub fn except(&self) -> Self {
        Self::over(Arc::clone(&self.rule), !self.is_inverted)
    }

    /// Whether a search may return the key.
    #[must_use]
    pub fn allows(&self, key: &str) -> bool {
        let is_named = match &*self.rule {
            Rule::Keys(keys) => keys.contains(key),
            Rule::Pattern(pattern) => pattern.matches(key),
            Rule::Test(test) => test(key),
        };
        is_named != self.is_inverted
    }

    /// The rows that a snapshot shows and the filter allows, those of an index apart.
    pub(super) fn rows_of(
        &self,
        snapshot: &Snapshot,
        loaded: Option<&Loaded>,
    ) -> Result<Arc<Found>> {
        // One that was dropped is none.
        let loaded = loaded.filter(|loaded| loaded.index().is_some());
        let Some(mut tables) = self.tables() else { return self.anew(snapshot, loaded) };
        // Others were compacted, or their file is closed.
        tables.retain(|found| found.reader.strong_count() > 0);
        let at = tables.iter().position(|found| found.is_of(snapshot));
        let cached = at.map(|at| tables.remove(at));
        if let Some(newer) = cached.as_ref().filter(|found| found.since > snapshot.visible()) {
            // Rows that only this snapshot shows may be missing there.
            tables.insert(0, Arc::clone(newer));
            drop(tables);
            return self.anew(snapshot, loaded);
        }
        let found = match cached {
            Some(found) if found.knows(snapshot, loaded) => found,
            Some(found) => {
                let mut found = Arc::try_unwrap(found).unwrap_or_else(|shared| (*shared).clone());
                self.look_on(&mut found, snapshot)?;
                found.prepare(loaded);
                Arc::new(found)
            }
            None => self.anew(snapshot, loaded)?,
        };
        tables.truncate(TABLES_MAX - 1);
        tables.insert(0, Arc::clone(&found));
        Ok(found)
    }

    /// What was found before; `None` in a forked child where another thread may hold it for good.
    fn tables(&self) -> Option<MutexGuard<'_, Vec<Arc<Found>>>> {
        if self.epoch == fork::epoch() {
            return Some(self.found.lock().unwrap_or_else(PoisonError::into_inner));
        }
        match self.found.try_lock() {
            Ok(tables) => Some(tables),
            Err(TryLockError::Poisoned(tables)) => Some(tables.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// What is found without anything that was found before.
    fn anew(&self, snapshot: &Snapshot, loaded: Option<&Loaded>) -> Result<Arc<Found>> {
        let mut found = self.first_look(snapshot)?;
        found.prepare(loaded);
        Ok(Arc::new(found))
    }

    fn first_look(&self, snapshot: &Snapshot) -> Result<Found> {
        let end = snapshot.rows_end();
        let mut found = Found {
            reader: Arc::downgrade(&snapshot.reader),
            since: 0,
            allowed: RowSet::with_rows(end),
            end: 0,
            unborn: Vec::new(),
            filters: Filters::ALL,
        };
        match &*self.rule {
            Rule::Keys(keys) if keys.len() < end as usize / LOOKED_UP_OF => {
                found.since = snapshot.visible();
                found.end = end;
                found.unborn = (0..end).filter(|row| snapshot.is_unborn(RowId(*row))).collect();
                self.look_up(keys, &mut found.allowed, snapshot)?;
            }
            Rule::Pattern(pattern) if !pattern.prefix().is_empty() => {
                if let Some(order) = snapshot.key_order()? {
                    self.look_into(&order, pattern, &mut found);
                }
                self.look_on(&mut found, snapshot)?;
            }
            _ => self.look_on(&mut found, snapshot)?,
        }
        Ok(found)
    }

    /// Finds the rows of an order that the filter allows.
    fn look_into(&self, order: &KeyOrder, pattern: &Pattern, found: &mut Found) {
        let Found { allowed, unborn, end, .. } = found;
        (*unborn, *end) = (order.unborn.clone(), order.end);
        if self.is_inverted {
            *allowed = RowSet::range(RowId(0), order.end);
            unborn.iter().for_each(|row| _ = allowed.remove(RowId(*row)));
        }
        for &row in order.with_prefix(pattern.prefix()) {
            if !pattern.is_prefix() && !pattern.matches(order.key(row)) {
                continue;
            }
            if self.is_inverted {
                allowed.remove(RowId(row));
            } else {
                allowed.insert(RowId(row));
            }
        }
    }

    fn look_up(&self, keys: &Keys, allowed: &mut RowSet, snapshot: &Snapshot) -> Result<()> {
        if self.is_inverted {
            *allowed = RowSet::range(RowId(0), snapshot.rows_end());
        }
        for key in keys {
            let Some(record) = snapshot.get(key.as_bytes())? else { continue };
            let Some(row) = Row::decode(record.payload()?) else { continue };
            if self.is_inverted {
                allowed.remove(RowId(row.row));
            } else {
                allowed.insert(RowId(row.row));
            }
        }
        Ok(())
    }

    /// Looks at rows that came since.
    fn look_on(&self, found: &mut Found, snapshot: &Snapshot) -> Result<()> {
        let end = snapshot.rows_end().max(found.end);
        let Found { unborn, allowed, .. } = found;
        let mut take = |row: RowId, key: Option<&str>, unborn: &mut Vec<u32>| match key {
            None => unborn.push(row.0),
            Some(key) if self.allows(key) => _ = allowed.insert(row),
            Some(_) => _ = allowed.remove(row),
        };
        for row in std::mem::take(unborn).into_iter().map(RowId) {
            let key = (!snapshot.is_unborn(row)).then(|| snapshot.key_of(row)).transpose()?;
            take(row, key.as_deref(), unborn);
        }
        snapshot.for_each_key(found.end..end, |row, key| take(row, key, unborn))?;
        found.end = end;
        Ok(())
    }
}

impl Found {
    /// The rows as a search takes them.
    pub fn filters(&self) -> &Filters {
        &self.filters
    }

    /// How many rows are allowed, dead ones included.
    pub fn len(&self) -> usize {
        self.allowed.len()
    }

    fn is_of(&self, snapshot: &Snapshot) -> bool {
        std::ptr::eq(self.reader.as_ptr(), Arc::as_ptr(&snapshot.reader))
    }

    /// Whether there is nothing in the snapshot, or of the index, that is yet to be looked at.
    fn knows(&self, snapshot: &Snapshot, loaded: Option<&Loaded>) -> bool {
        self.end >= snapshot.rows_end()
            && self.unborn.iter().all(|row| snapshot.is_unborn(RowId(*row)))
            && match (&self.filters.part, loaded) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(part), Some(loaded)) => loaded.is(&part.index),
            }
    }

    fn prepare(&mut self, loaded: Option<&Loaded>) {
        let part = loaded.and_then(|loaded| {
            let (built, index) = loaded.index()?;
            let unborn = index.known.unborn.as_ref().and_then(|unborn| {
                let mut rows = self.allowed.clone();
                if let Filter::Rows(unborn) = unborn {
                    rows.intersect_with(unborn);
                }
                (!rows.is_empty()).then_some(Filter::Rows(rows))
            });
            let indexed = built.part().prepare(&self.allowed);
            let behind = index.prepare_tail(&self.allowed);
            Some(OfPart { index: loaded.downgrade(), indexed, behind, unborn })
        });
        self.filters = Filters { all: Filter::Rows(self.allowed.clone()), part };
    }
}

#[cfg(test)]
mod tests {
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
                let key =
                    if number % 5 == 0 { key } else { format!("{key}{}", number * 7919 % 512) };
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
        assert!(middle.key_order().expect("reads").is_some_and(|order| order.end == 4_000));
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
        assert!(snapshot().key_order().expect("reads").is_some_and(|order| order.end == 4_100));
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
}
