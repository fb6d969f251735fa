//! Which keys a search may return.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

use synadb_index::Filter;
use synadb_storage::extent::Row;
use synadb_storage::{Result, fork};
use synadb_types::{RowId, RowSet};

use super::index::{Behind, Loaded, WeakIndex};
use super::key_set::KeySet;
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
/// [`Stats::filter_bytes`](crate::Stats::filter_bytes) says how much it is. For filters that are used
/// often an index copies the codes of the rows that they allow, 64 bytes a row of 384 dimensions and
/// more in inverted files, of all together as many as it has;
/// [`IndexStats::bytes`](super::IndexStats::bytes) counts them.
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
    Keys(KeySet),
    Pattern(Pattern),
    Test(Box<dyn Fn(&str) -> bool + Send + Sync>),
}

/// Rows of one table that a filter allows.
#[derive(Clone)]
pub(super) struct Found {
    reader: Weak<RowsReader>,
    /// Snapshots as of earlier positions may show rows that were not looked at.
    since: u64,
    allowed: RowSet,
    /// The rows below this one were looked at.
    end: u32,
    /// Those of them that were not committed yet, and may be.
    unborn: Vec<u32>,
    filters: Filters,
    /// What was prepared for an index, while searches go past it.
    former: Option<OfPart>,
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

impl OfPart {
    /// Keeps what was prepared before of the same rows for the same part of an index: that counts the
    /// searches, and finds what was copied.
    fn take_over(&mut self, before: &Self) {
        for filter in self.behind.filters_mut().chain([&mut self.indexed]) {
            let Filter::Gathered(rows) = filter else { continue };
            let serves =
                |old: &&Filter| matches!(old, Filter::Gathered(old) if rows.is_served_by(old));
            if let Some(old) = before.behind.filters().chain([&before.indexed]).find(serves) {
                *filter = old.clone();
            }
        }
    }
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
        Self::new(Rule::Keys(keys.into_iter().collect()))
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

    /// The keys that it names, where it names some, as they were given.
    pub fn keys(&self) -> Option<impl Iterator<Item = &str>> {
        match &*self.rule {
            Rule::Keys(keys) => Some(keys.iter()),
            Rule::Pattern(_) | Rule::Test(_) => None,
        }
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
            former: None,
        };
        match &*self.rule {
            Rule::Keys(keys) if keys.len() < end as usize / LOOKED_UP_OF => {
                found.since = snapshot.visible();
                found.end = end;
                found.unborn = snapshot.unborn_rows();
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
            let absent = unborn.iter().chain(&order.passed_over);
            absent.for_each(|row| _ = allowed.remove(RowId(*row)));
        }
        for &row in order.with_prefix(pattern.prefix()) {
            if !pattern.is_prefix() && !pattern.matches(order.key(row)) {
                continue;
            }
            self.take_named(RowId(row), allowed);
        }
    }

    /// Takes a row whose key is named in, or out where those are named that are not allowed.
    fn take_named(&self, row: RowId, allowed: &mut RowSet) {
        let _ = if self.is_inverted { allowed.remove(row) } else { allowed.insert(row) };
    }

    fn look_up(&self, keys: &KeySet, allowed: &mut RowSet, snapshot: &Snapshot) -> Result<()> {
        if self.is_inverted {
            *allowed = RowSet::range(RowId(0), snapshot.rows_end());
        }
        snapshot.for_each_of(keys.iter(), |record| {
            if let Some(row) = Row::decode(record.payload()?) {
                self.take_named(RowId(row.row), allowed);
            }
            Ok(())
        })
    }

    /// Looks at rows that came since.
    fn look_on(&self, found: &mut Found, snapshot: &Snapshot) -> Result<()> {
        let end = snapshot.rows_end().max(found.end);
        let Found { unborn, allowed, .. } = found;
        let mut take = |row: RowId, key: Option<&str>, unborn: &mut Vec<u32>| match key {
            None if !snapshot.may_come(row) => {}
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

    /// Prepares the rows for an index; what it has copied of them stays, where they are the same.
    fn prepare(&mut self, loaded: Option<&Loaded>) {
        let former = self.filters.part.take().or_else(|| self.former.take());
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
            let mut part = OfPart { index: loaded.downgrade(), indexed, behind, unborn };
            former.iter().for_each(|former| part.take_over(former));
            Some(part)
        });
        self.former = former.filter(|_| part.is_none());
        self.filters = Filters { all: Filter::Rows(self.allowed.clone()), part };
    }
}
