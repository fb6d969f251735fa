//! Searching the part, and what came after it.

use std::sync::Arc;

use synadb_index::{
    Beyond, CascadeConfig, CascadeIndex, CascadeSearch, Filter, HnswConfig, IndexError, IvfIndex,
    IvfSearch, PackedSearch, Query, Scratch, TopK, VectorSource, search_batch,
};

use super::pieces::{Effort, search_pieces};
use super::{Built, Loaded, StoreIndex};
use crate::collection::Snapshot;
use crate::vector::VectorStore;
use crate::vector::filter::{Filters, KeyFilter};
use crate::vector::source::{CommittedVectors, MappedVectors};

/// How one search is done; what is `None` is as the index was built.
#[derive(Debug, Clone, Default)]
pub struct SearchOptions {
    /// Scan every vector, index or not.
    pub exact: bool,
    /// Length of the queue of a search through a graph, a cascade's too.
    pub ef_search: Option<usize>,
    /// Cells of an inverted file that are searched.
    pub nprobe: Option<usize>,
    /// Rows that their codes find nearest and that are then compared more closely: of an inverted
    /// file three times as many as are wanted at least, of codes alone as many at least.
    pub candidates: Option<usize>,
    /// Buckets of a cascade that are looked into.
    pub num_probes: Option<usize>,
    /// Recall to be reached in the place of all these numbers, above 0 and at most 1: for the first
    /// search with this one and this `k`, the index is tuned on a sample of its own rows, in some
    /// seconds at most, and remembers what it found. A scan where nothing less reaches it.
    pub target_recall: Option<f64>,
    /// Whether the numbers are those of a configuration, and not of this search: a recall goes
    /// before them, also one that the store or the index has.
    pub are_usual: bool,
    /// Keys that may be found; all where there is none.
    pub filter: Option<Arc<KeyFilter>>,
}

impl SearchOptions {
    /// Those that reach a recall; see [`SearchOptions::target_recall`].
    #[must_use]
    pub fn for_recall(target_recall: f64) -> Self {
        Self { target_recall: Some(target_recall), ..Self::default() }
    }
}

/// The numbers that a search of an index of that kind heeds.
fn heeded(kind: &str) -> &'static [&'static str] {
    match kind {
        "flat" => &["candidates"],
        "hnsw" => &["ef_search"],
        "gravity_well" => &["nprobe", "candidates"],
        "cascade" => &["num_probes", "ef_search"],
        _ => &[],
    }
}

/// What the numbers of a search mean to a table.
pub(in crate::vector) struct Heeding {
    /// The kind of its index, or that which it is to have.
    pub kind: &'static str,
    /// Whether nobody has asked for this one: the numbers of the kind that the table is to have are
    /// none of its own then, and no mistake.
    is_chosen: bool,
    usual: &'static str,
}

impl Heeding {
    /// Whether a search of the table knows what to do with a number.
    pub fn understands(&self, number: &str) -> bool {
        let is_usual = self.is_chosen && heeded(self.usual).contains(&number);
        is_usual || heeded(self.kind).contains(&number)
    }

    /// The options with the numbers alone that the index heeds.
    pub fn of(&self, options: &SearchOptions) -> SearchOptions {
        let heeds =
            |name, number: Option<usize>| number.filter(|_| heeded(self.kind).contains(&name));
        SearchOptions {
            ef_search: heeds("ef_search", options.ef_search),
            nprobe: heeds("nprobe", options.nprobe),
            candidates: heeds("candidates", options.candidates),
            num_probes: heeds("num_probes", options.num_probes),
            ..options.clone()
        }
    }
}

impl VectorStore {
    /// What the numbers of a search mean to this table, which is to have an index of the `usual`
    /// kind, as of a snapshot.
    pub(in crate::vector) fn heeding(
        &self,
        snapshot: Option<&Arc<Snapshot>>,
        usual: &'static str,
    ) -> Heeding {
        let loaded = snapshot.and_then(|snapshot| self.config.index_of(snapshot));
        // A compaction leaves but the kind, and that is what is built next.
        let index = loaded.as_ref().and_then(Loaded::any);
        let built = index.and_then(|index| Some((index.built.as_deref()?.name(), index.is_chosen)));
        let (kind, is_chosen) = built.unwrap_or((usual, false));
        Heeding { kind, is_chosen, usual }
    }
}

impl StoreIndex {
    /// Rows behind the part that a search passes over, where several queries share the pass.
    pub(in crate::vector) fn rows_passed_over(&self, snapshot: &Snapshot) -> usize {
        self.tail_rows() + self.known.rows_behind(snapshot)
    }

    /// Offers the nearest rows of the part, of the pieces and the tail behind it, and of what is
    /// known to none of them.
    pub(in crate::vector) fn search(
        &self,
        built: &Built,
        (queries, options, filters): (&[Query], &SearchOptions, &Filters),
        source: &MappedVectors<'_>,
        scratch: &mut Scratch,
        tops: &mut [TopK],
    ) -> Result<(), IndexError> {
        let (indexed, unborn) = match &filters.part {
            Some(part) => (&part.indexed, &part.unborn),
            None => (&Filter::All, &self.known.unborn),
        };
        let committed = CommittedVectors(source);
        let is_older = source.snapshot.visible() < self.coded_visible;
        let of_coded: &dyn VectorSource = if is_older { source } else { &committed };
        let of_part: &dyn VectorSource = match built {
            // It grows, and a snapshot may be older than what it has come to.
            Built::Packed(_) => of_coded,
            _ => &committed,
        };
        // Numbers that were found for a recall, and those alone: others are taken at their word.
        let beyond = match options.target_recall {
            Some(_) => {
                Beyond::WhereHidden { shown: self.tuned.shown(built.part().rows(), indexed) }
            }
            None => Beyond::default(),
        };
        built.search((queries, options, indexed), beyond, of_part, scratch, tops)?;
        let behind = filters.part.as_ref().map(|part| &part.behind);
        if !self.pieces.is_empty() {
            let effort = built.effort(options, self.is_chosen);
            let allowed = behind.map(|behind| &behind.pieces[..]);
            search_pieces(&self.pieces, effort, queries, allowed, source, scratch, tops)?;
        }
        if let Some(coded) = &self.tail {
            let tail = behind.map_or(&Filter::All, |behind| &behind.tail);
            coded.search_batch(queries, tail, of_coded, scratch, tops)?;
        }
        let (end, rows_end) = (self.known.end, source.snapshot.rows_end());
        if let Some(unborn) = unborn {
            search_batch(0..end, queries, unborn, source, scratch, tops)?;
        }
        // A snapshot may be older than the tail.
        search_batch(end.min(rows_end)..rows_end, queries, &filters.all, source, scratch, tops)
    }
}

impl Built {
    /// How far a search looks that is done so. An index that was chosen is tuned, its pieces too.
    fn effort(&self, options: &SearchOptions, is_chosen: bool) -> Effort {
        let looked_at = match self {
            Self::Packed(_) => (1, 1),
            Self::Hnsw(index) => {
                let usual = HnswConfig::default().ef_search;
                (options.ef_search.unwrap_or(index.config().ef_search), usual)
            }
            Self::GravityWell(index) => {
                let usual = if is_chosen { index.default_search() } else { IvfSearch::default() };
                (probes(index, options).nprobe, usual.nprobe)
            }
            Self::Cascade(index) => {
                (buckets(index, options).ef_search, CascadeConfig::default().ef_search)
            }
        };
        Effort::new(looked_at, options)
    }

    fn search(
        &self,
        (queries, options, filter): (&[Query], &SearchOptions, &Filter),
        beyond: Beyond,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
        tops: &mut [TopK],
    ) -> Result<(), IndexError> {
        let mut pairs = queries.iter().zip(&mut *tops);
        match self {
            Self::Packed(index) => match options.candidates {
                Some(candidates) => {
                    let search = PackedSearch { candidates, beyond };
                    index.search_batch_with(search, queries, filter, source, scratch, tops)
                }
                None => index.search_batch(queries, filter, source, scratch, tops),
            },
            Self::Hnsw(index) => {
                let ef = options.ef_search.unwrap_or(index.config().ef_search);
                pairs.try_for_each(|(query, top)| {
                    index.search_with_ef(query, filter, source, scratch, top, ef)
                })
            }
            Self::GravityWell(index) => {
                let search = IvfSearch { beyond, ..probes(index, options) };
                pairs.try_for_each(|(query, top)| {
                    index.search_with(search, query, filter, source, scratch, top)
                })
            }
            Self::Cascade(index) => {
                let search = buckets(index, options);
                pairs.try_for_each(|(query, top)| {
                    index.search_with(search, query, filter, source, scratch, top)
                })
            }
        }
    }
}

/// What a search of an inverted file looks at.
fn probes(index: &IvfIndex, options: &SearchOptions) -> IvfSearch {
    let built = index.default_search();
    IvfSearch {
        nprobe: options.nprobe.unwrap_or(built.nprobe),
        candidates: options.candidates.unwrap_or(built.candidates),
        ..built
    }
}

/// What a search of a cascade looks at.
fn buckets(index: &CascadeIndex, options: &SearchOptions) -> CascadeSearch {
    let built = index.default_search();
    CascadeSearch {
        num_probes: options.num_probes.unwrap_or(built.num_probes),
        ef_search: options.ef_search.unwrap_or(built.ef_search),
    }
}
