//! Searches that reach a recall: what was found for which one, and finding it.
//!
//! An index is tuned on its own rows, as [`sampled`](super::sampled) takes them for queries. What is
//! found is kept with the index, in memory and in the checkpoint.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use synadb_index::{Filter, IndexError, Job, Sample};
use synadb_types::RowSet;

use super::depth::depth_of;
use super::sampled::sample;
use super::search::SearchOptions;
use super::{Built, Loaded, StoreIndex};
use crate::collection::Snapshot;
use crate::error::{Error, Result};
use crate::vector::VectorStore;
use crate::vector::search::index_failure;
use crate::vector::source::MappedVectors;

/// A sample is never quite like the queries to come: of what may be missed, so much is aimed at.
const MISSES: f64 = 0.5;
/// Fewer rows are scanned faster than a search through an index could be tuned.
const ROWS_MIN: usize = 1000;
/// Codes grow with the store: with so many times the rows they are tuned anew.
const GROWN: usize = 2;
/// A search for this many is tuned when an index is built for a recall.
pub(super) const BUILT_K: usize = 10;
/// So many searches that were tuned last are tuned anew for an index that a thread apart builds.
const FOLLOWED: usize = 4;
/// Bytes that are saved of a tuned search.
const RECORD: usize = 64;

/// A search that was found to reach a recall. An exact one has no numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TunedSearch {
    /// The recall that was asked for.
    pub target_recall: f64,
    /// For so many neighbours.
    pub k: usize,
    /// Recall of the sample.
    pub recall: f64,
    /// Length of the queue of a graph, a cascade's too.
    pub ef_search: Option<usize>,
    /// Cells of an inverted file.
    pub nprobe: Option<usize>,
    /// Rows that are compared in full, of an inverted file and of codes.
    pub candidates: Option<usize>,
    /// Buckets of a cascade.
    pub num_probes: Option<usize>,
    /// Rows that the index had.
    rows: usize,
}

impl TunedSearch {
    fn exact(target_recall: f64, k: usize, rows: usize) -> Self {
        let (ef_search, nprobe, candidates, num_probes) = (None, None, None, None);
        let recall = 1.0;
        Self { target_recall, k, recall, ef_search, nprobe, candidates, num_probes, rows }
    }

    /// Whether nothing less than a scan reaches the recall.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        let numbers = [self.ef_search, self.nprobe, self.candidates, self.num_probes];
        numbers.iter().all(Option::is_none)
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        let number = |number: Option<usize>| number.map_or(0, |number| number as u64);
        let words = [
            self.target_recall.to_bits(),
            self.recall.to_bits(),
            self.k as u64,
            self.rows as u64,
            number(self.ef_search),
            number(self.nprobe),
            number(self.candidates),
            number(self.num_probes),
        ];
        words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    }

    fn decode(bytes: &[u8; RECORD]) -> Option<Self> {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[8 * at + i]));
        let number = |at| usize::try_from(word(at)).ok().filter(|number| *number > 0);
        Some(Self {
            target_recall: target_of(f64::from_bits(word(0)))?,
            recall: f64::from_bits(word(1)),
            k: number(2)?,
            rows: usize::try_from(word(3)).ok()?,
            ef_search: number(4),
            nprobe: number(5),
            candidates: number(6),
            num_probes: number(7),
        })
    }
}

/// A recall that can be asked for.
pub(in crate::vector) fn target_of(recall: f64) -> Option<f64> {
    (recall > 0.0 && recall <= 1.0).then_some(recall)
}

/// Refuses a recall that cannot be asked for.
pub(in crate::vector) fn check_target(recall: Option<f64>) -> Result<()> {
    match recall {
        Some(got) if target_of(got).is_none() => {
            let reason = format!("it must be above 0 and at most 1, got {got}");
            Err(Error::InvalidArgument { argument: "target_recall", reason })
        }
        _ => Ok(()),
    }
}

/// What is known of an index, shared by those that it grows into.
#[derive(Default)]
pub(in crate::vector) struct Tunings {
    /// The recall that the index was built for.
    pub(super) target: Option<f64>,
    known: ArcSwap<Vec<TunedSearch>>,
    /// How much was found so far; of that what a checkpoint in the making has, and what the one has
    /// that is in its place.
    found: AtomicU64,
    exported: AtomicU64,
    saved: AtomicU64,
    /// Held by the one who tunes; others wait for what he finds.
    turn: Mutex<()>,
    /// How many rows of an index lived at a moment: live keys and rows of the table then.
    counted: Mutex<Option<(usize, u32, usize)>>,
}

impl Tunings {
    pub(super) fn for_recall(target: Option<f64>) -> Self {
        Self { target, ..Self::default() }
    }

    /// The section of a checkpoint; none where there is nothing to keep.
    pub(super) fn export(&self) -> Option<Vec<u8>> {
        // Counted before it is looked at: what is found meanwhile stays new.
        self.exported.store(self.found.load(Ordering::Acquire), Ordering::Relaxed);
        let known = self.known.load();
        if known.is_empty() && self.target.is_none() {
            return None;
        }
        let mut bytes = self.target.unwrap_or(0.0).to_le_bytes().to_vec();
        known.iter().for_each(|tuned| tuned.encode(&mut bytes));
        Some(bytes)
    }

    /// What [`Tunings::export`] made; `None` where that is damaged.
    pub(super) fn import(bytes: &[u8]) -> Option<Self> {
        let (target, records) = bytes.split_first_chunk()?;
        let target = f64::from_le_bytes(*target);
        let target = if target == 0.0 { None } else { Some(target_of(target)?) };
        let (records, rest) = records.as_chunks::<RECORD>();
        let known: Option<Vec<_>> = records.iter().map(TunedSearch::decode).collect();
        let tunings = Self { known: ArcSwap::from_pointee(known?), ..Self::for_recall(target) };
        rest.is_empty().then_some(tunings)
    }

    /// Says that the checkpoint is in its place that was exported last.
    pub(super) fn keep_as_saved(&self) {
        self.saved.store(self.exported.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether something was found that no checkpoint has.
    pub(super) fn is_new(&self) -> bool {
        self.found.load(Ordering::Acquire) > self.saved.load(Ordering::Relaxed)
    }

    fn find(&self, (target, k): (f64, usize), rows: usize) -> Option<TunedSearch> {
        let known = self.known.load();
        let is_it = |tuned: &&TunedSearch| tuned.target_recall == target && tuned.k == k;
        let found = known.iter().find(is_it).copied();
        found.filter(|tuned| rows <= tuned.rows.saturating_mul(GROWN))
    }

    fn remember(&self, tuned: TunedSearch) {
        let is_it =
            |other: &TunedSearch| other.target_recall == tuned.target_recall && other.k == tuned.k;
        let mut known = Vec::clone(&self.known.load());
        known.retain(|other| !is_it(other));
        known.push(tuned);
        self.known.store(Arc::new(known));
        self.found.fetch_add(1, Ordering::Release);
    }

    /// The search that reaches a recall for `k`, of which `live` is the share that lives; found
    /// now where it is not known.
    fn tuned(
        &self,
        built: &Built,
        (target, k, live): (f64, usize, f64),
        source: &MappedVectors<'_>,
        job: &Job<'_>,
    ) -> std::result::Result<TunedSearch, IndexError> {
        let rows = built.part().rows().len();
        if let Some(found) = self.find((target, k), rows) {
            return Ok(found);
        }
        let _turn = guard(&self.turn);
        if let Some(found) = self.find((target, k), rows) {
            return Ok(found);
        }
        let tuned = tune(built, (target, k, live), source, job)?;
        self.remember(tuned);
        Ok(tuned)
    }

    /// Finds the search for ten neighbours, where the index was built for a recall.
    pub(super) fn begin(
        &self,
        built: &Built,
        source: &MappedVectors<'_>,
        job: &Job<'_>,
    ) -> std::result::Result<(), IndexError> {
        let rows = built.part().rows().len();
        match self.target {
            Some(target) if target < 1.0 && rows >= ROWS_MIN => {
                self.tuned(built, (target, BUILT_K, 1.0), source, job).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// Finds for an index what is known of the one before it, the newest few: none of it holds for
    /// other cells or links, and who searches next would wait.
    pub(super) fn follow(
        &self,
        before: &Self,
        built: &Built,
        source: &MappedVectors<'_>,
        job: &Job<'_>,
    ) -> std::result::Result<(), IndexError> {
        if built.part().rows().len() < ROWS_MIN {
            return Ok(());
        }
        let known = before.known.load();
        // In their order: the newest are last here, too, for the index that comes after this one.
        for known in &known[known.len().saturating_sub(FOLLOWED)..] {
            // Only who is told of progress cancels.
            job.progress.iter().for_each(|tell| tell(1.0));
            job.check()?;
            self.tuned(built, (known.target_recall, known.k, 1.0), source, job)?;
        }
        Ok(())
    }

    /// Rows of the index that live, counted anew once a sixteenth of them may have changed.
    fn live_rows(&self, rows: &RowSet, snapshot: &Snapshot, keys: usize) -> usize {
        let mut counted = guard(&self.counted);
        let (end, most) = (snapshot.rows_end(), rows.len() / 16);
        if let Some((keys_then, end_then, live)) = *counted
            && keys.abs_diff(keys_then) <= most
            && end.abs_diff(end_then) as usize <= most
        {
            return live;
        }
        let live = rows.iter().filter(|row| snapshot.is_live(*row)).count();
        *counted = Some((keys, end, live));
        live
    }

    /// Share of the rows of the index that live, as last counted, and that a filter allows.
    pub(super) fn shown(&self, rows: &RowSet, allowed: &Filter) -> f64 {
        let all = rows.len().max(1) as f64;
        let live = guard(&self.counted).map_or(1.0, |(_, _, live)| live as f64 / all);
        live * allowed.rows().map_or(1.0, |allowed| (allowed.len() as f64 / all).min(1.0))
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The cheapest search of an index that finds so much of the `k` nearest of a sample, and a scan
/// where none does.
fn tune(
    built: &Built,
    (target, k, live): (f64, usize, f64),
    source: &MappedVectors<'_>,
    job: &Job<'_>,
) -> std::result::Result<TunedSearch, IndexError> {
    let rows = built.part().rows();
    let exact = TunedSearch::exact(target, k, rows.len());
    let wanted = ((k as f64 * live).ceil() as usize).max(1);
    let (queries, own) = sample(built, wanted, source)?;
    if queries.is_empty() {
        return Ok(exact);
    }
    let quiet = Job { progress: None, ..*job };
    let sample = Sample::of_rows(rows, wanted, &own, (&queries, &Filter::All, source), &quiet)?;
    let aim = 1.0 - MISSES * (1.0 - target);
    let found = match built {
        Built::Packed(index) => {
            let (candidates, recall) = index.tune_on(&sample, aim)?;
            TunedSearch { recall, candidates: Some(candidates), ..exact }
        }
        Built::Hnsw(index) => {
            let found = index.tune_on(&sample, aim)?;
            TunedSearch { recall: found.recall, ef_search: Some(found.ef), ..exact }
        }
        Built::GravityWell(index) => {
            let found = index.tune_on(&sample, aim)?;
            let (nprobe, candidates) = (found.search.nprobe, found.search.candidates);
            let (nprobe, candidates) = (Some(nprobe), Some(candidates));
            TunedSearch { recall: found.recall, nprobe, candidates, ..exact }
        }
        Built::Cascade(index) => {
            let (search, found) = index.tune_on(&sample, aim)?;
            let (ef_search, num_probes) = (Some(search.ef_search), Some(search.num_probes));
            TunedSearch { recall: found.recall, ef_search, num_probes, ..exact }
        }
    };
    Ok(if found.recall >= aim { found } else { exact })
}

impl SearchOptions {
    /// The numbers that are given, by their names.
    pub(in crate::vector) fn numbers(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let numbers = [
            ("ef_search", self.ef_search),
            ("nprobe", self.nprobe),
            ("candidates", self.candidates),
            ("num_probes", self.num_probes),
        ];
        numbers.into_iter().filter_map(|(name, number)| Some((name, number?)))
    }

    /// Refuses a recall that cannot be asked for, and one beside numbers that it takes the place of.
    pub(in crate::vector) fn check(&self) -> Result<()> {
        check_target(self.target_recall)?;
        match (self.target_recall, self.numbers().next().filter(|_| !self.are_usual)) {
            (Some(target), Some((name, number))) => {
                let reason = format!(
                    "it takes the place of {name}: give one of the two, got {target} and {name} \
                     {number}"
                );
                Err(Error::InvalidArgument { argument: "target_recall", reason })
            }
            _ => Ok(()),
        }
    }
}

impl VectorStore {
    /// The options with what reaches the recall that they ask for, or the store, or the index.
    ///
    /// Tunes the index where it was not tuned for this recall and `k`.
    ///
    /// # Errors
    /// `Unsupported` where the processor has no kernels for it.
    pub(in crate::vector) fn aimed<'o>(
        &self,
        options: &'o SearchOptions,
        k: usize,
        (snapshot, loaded): (&Snapshot, Option<&Loaded>),
        allowed: Option<&Filter>,
    ) -> Result<Cow<'o, SearchOptions>> {
        let Some((built, index)) = loaded.and_then(Loaded::index) else {
            return Ok(Cow::Borrowed(options));
        };
        let usual = || {
            let says_nothing = options.are_usual || options.numbers().next().is_none();
            self.target_recall.or(index.tuned.target).filter(|_| says_nothing)
        };
        let Some(target) = options.target_recall.or_else(usual) else {
            return Ok(Cow::Borrowed(options));
        };
        let found = self.tuned_for(target, k, (built, index), snapshot, allowed)?;
        let found = found.filter(|found| !found.is_exact());
        let mut candidates = found.and_then(|found| found.candidates);
        if let (Built::Packed(index), true) = (built, allowed.is_some()) {
            // A filter may hide what is near, and codes tell rows apart less well that are far.
            candidates = candidates.map(|tuned| tuned.max(index.config().candidates_for(k)));
        }
        Ok(Cow::Owned(SearchOptions {
            exact: found.is_none(),
            ef_search: found.and_then(|found| found.ef_search),
            nprobe: found.and_then(|found| found.nprobe),
            candidates,
            num_probes: found.and_then(|found| found.num_probes),
            target_recall: Some(target),
            are_usual: false,
            filter: options.filter.clone(),
        }))
    }

    /// The search that reaches a recall; `None` for a scan.
    fn tuned_for(
        &self,
        target: f64,
        k: usize,
        (built, index): (&Built, &StoreIndex),
        snapshot: &Snapshot,
        allowed: Option<&Filter>,
    ) -> Result<Option<TunedSearch>> {
        let rows = built.part().rows();
        if target >= 1.0 || rows.len() < ROWS_MIN || k == 0 {
            return Ok(None);
        }
        let (mut depth, mut live) = (k, 1.0);
        let count = || index.tuned.live_rows(rows, snapshot, self.len()) as f64 / rows.len() as f64;
        match built {
            Built::Packed(_) => _ = count(),
            Built::GravityWell(_) => {
                live = count();
                let shown = index.tuned.shown(rows, allowed.unwrap_or(&Filter::All));
                let Some(found) = depth_of(k, shown) else { return Ok(None) };
                depth = found;
            }
            // They look on by themselves for those that may be found.
            Built::Hnsw(_) | Built::Cascade(_) => {}
        }
        let dimensions = usize::from(self.dimensions());
        let source = MappedVectors { snapshot, dimensions };
        let job = Job::with_threads(usize::MAX);
        let tuned = index.tuned.tuned(built, (target, depth, live), &source, &job);
        tuned.map(Some).map_err(index_failure)
    }

    /// The recall that the index was built for, and what was found to reach one, of all values of
    /// `k` that were searched for; `None` where there is no index.
    ///
    /// # Errors
    /// `Closed`.
    pub fn tuned_searches(&self) -> Result<Option<(Option<f64>, Vec<TunedSearch>)>> {
        let Some(snapshot) = self.snapshot()? else { return Ok(None) };
        let loaded = self.config.index_of(&snapshot);
        let index = loaded.as_ref().and_then(Loaded::index);
        Ok(index.map(|(_, index)| (index.tuned.target, Vec::clone(&index.tuned.known.load()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_saved_and_damage_is_seen() {
        let tunings = Tunings::for_recall(Some(0.9));
        let tuned = TunedSearch { nprobe: Some(7), ..TunedSearch::exact(0.95, 10, 5000) };
        tunings.remember(tuned);
        tunings.remember(TunedSearch::exact(0.95, 20, 5000));
        tunings.remember(TunedSearch { nprobe: Some(8), ..tuned });
        assert!(tunings.is_new());
        let bytes = tunings.export().expect("something");
        assert!(tunings.is_new(), "the checkpoint may still fail");
        tunings.keep_as_saved();
        assert!(!tunings.is_new());
        tunings.export().expect("something");
        tunings.remember(TunedSearch { nprobe: Some(8), ..tuned });
        tunings.keep_as_saved();
        assert!(tunings.is_new(), "it was found behind the export");
        let read = Tunings::import(&bytes).expect("whole");
        assert_eq!(read.target, Some(0.9));
        assert_eq!(**read.known.load(), **tunings.known.load());
        assert_eq!(read.find((0.95, 10), 10_000).and_then(|found| found.nprobe), Some(8));
        assert!(read.find((0.95, 10), 10_001).is_none(), "it has grown");
        assert!(read.find((0.95, 20), 5000).is_some_and(|found| found.is_exact()));
        assert!(Tunings::default().export().is_none());
        assert!(Tunings::import(&bytes[..bytes.len() - 1]).is_none());
        for damage in [f64::NAN, -0.5, 1.5, 0.0] {
            let mut bytes = bytes.clone();
            bytes[8..16].copy_from_slice(&damage.to_le_bytes());
            assert!(Tunings::import(&bytes).is_none(), "{damage}");
        }
    }
}
