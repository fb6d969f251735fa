//! A checkpoint whose index is damaged, cut, of another version or a lie: it is ignored or used
//! rightly, the answers stay, and it can be built anew.

mod common;

use std::path::{Path, PathBuf};

use common::hostile::{extreme, mutate, seal_checkpoint};
use common::{Note, Random, checkpoint_of, folder, load, store};
use synadb::distance::DistanceMetric;
use synadb::vector::{
    CascadeParameters, HnswConfig, IndexBackend, IvfCodes, IvfConfig, PackedConfig, SearchOptions,
    SearchResult, VectorConfig, VectorStore,
};
use synadb::{Access, Durability, Error, OpenOptions};

const WIDTH: usize = 40;
/// So many that a graph is walked, and not scanned by its codes, with a queue of [`QUEUE`] nodes.
const COUNT: usize = 1500;
const QUEUE: usize = 16;
/// Sections from this kind on are the index.
const FIRST_KIND: u32 = 16;
const ENTRY_BYTES: usize = 28;
/// The section of a graph, the bytes of a node in it, and which of them are the links: behind the
/// point and its additional coordinate in single precision.
const GRAPH_KIND: u32 = 28;
const NODE_BYTES: usize = 320;
const LINKS: std::ops::Range<usize> = 4 * (WIDTH + 1)..4 * (WIDTH + 1) + 4 * 32;

fn backends() -> [IndexBackend; 5] {
    let full = IvfConfig { codes: IvfCodes::Full, ..IvfConfig::default() };
    [
        IndexBackend::Flat(PackedConfig::default()),
        IndexBackend::Hnsw(HnswConfig::default()),
        IndexBackend::GravityWell(IvfConfig::default()),
        IndexBackend::GravityWell(full),
        IndexBackend::Cascade(CascadeParameters::small()),
    ]
}

/// How an index is searched: as it is told to be, and a graph so that it is walked, too.
fn ways(backend: &IndexBackend) -> Vec<SearchOptions> {
    let usual = SearchOptions::default();
    match backend {
        IndexBackend::Hnsw(_) | IndexBackend::Cascade(_) => {
            vec![SearchOptions { ef_search: Some(QUEUE), ..usual.clone() }, usual]
        }
        _ => vec![usual],
    }
}

fn options(access: Access) -> OpenOptions {
    OpenOptions::new().durability(Durability::Process).access(access)
}

fn open(path: &Path, access: Access) -> VectorStore {
    let (dimensions, metric) = (WIDTH as u16, DistanceMetric::Euclidean);
    let config = VectorConfig { dimensions, metric, ..VectorConfig::default() };
    VectorStore::open_with(path, config, options(access)).expect("opens")
}

fn row(number: usize) -> Vec<f32> {
    let mut random = Random(number as u64 + 1);
    let group = (number % 23) as f32;
    (0..WIDTH)
        .map(|axis| (group + axis as f32).sin() + random.below(1000) as f32 / 2000.0)
        .collect()
}

/// A closed file with an index, and what came after it.
struct Saved {
    path: PathBuf,
    log: Vec<u8>,
    checkpoint: Vec<u8>,
    backend: IndexBackend,
}

impl Saved {
    fn new(folder: &Path, backend: IndexBackend) -> Self {
        let path = folder.join("a.db");
        let store = open(&path, Access::Exclusive);
        let insert = |numbers: std::ops::Range<usize>| {
            let keys: Vec<String> = numbers.clone().map(|number| number.to_string()).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let rows: Vec<f32> = numbers.flat_map(row).collect();
            store.insert_rows(&keys, &rows).expect("inserts");
        };
        insert(0..COUNT - 100);
        store.build_index_with(&backend, 1, &mut |_, _| true).expect("builds");
        for number in (0..200).step_by(7) {
            store.delete(&number.to_string()).expect("deletes");
        }
        insert(COUNT - 100..COUNT);
        store.close_handle().expect("closes");
        let (log, checkpoint) = load(&path);
        let checkpoint = checkpoint.expect("a checkpoint");
        Self { path, log, checkpoint, backend }
    }

    /// The same file with an index of all its rows, which is built of nothing.
    fn with_all_rows(&self) -> Self {
        store(&self.path, &self.log, None);
        let anew = open(&self.path, Access::Exclusive);
        anew.build_index_with(&self.backend, 1, &mut |_, _| true).expect("builds");
        anew.close_handle().expect("closes");
        self.as_it_is_now()
    }

    fn as_it_is_now(&self) -> Self {
        let (log, checkpoint) = load(&self.path);
        let checkpoint = checkpoint.expect("a checkpoint");
        Self { path: self.path.clone(), log, checkpoint, backend: self.backend.clone() }
    }

    /// The bytes of the index, by kind, without what says when it was built.
    fn built(&self) -> Vec<(u32, &[u8])> {
        let sections = self.sections().into_iter().filter(|(kind, _)| *kind > FIRST_KIND);
        sections.map(|(kind, range)| (kind, &self.checkpoint[range])).collect()
    }

    /// Where each section of the index lies, by kind.
    fn sections(&self) -> Vec<(u32, std::ops::Range<usize>)> {
        let bytes = &self.checkpoint;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i])) as usize;
        let (directory, len) = (word(80), word(88));
        let entries = (directory..directory + len).step_by(ENTRY_BYTES).map(|entry| {
            let kind = u32::from_le_bytes(std::array::from_fn(|i| bytes[entry + i]));
            let start = word(entry + 8);
            (kind, start..start + word(entry + 16))
        });
        entries.filter(|(kind, range)| *kind >= FIRST_KIND && !range.is_empty()).collect()
    }

    /// Opens the log beside that checkpoint; whether the index was used.
    fn try_with(&self, checkpoint: &[u8], truth: &Truth, access: Access) -> bool {
        store(&self.path, &self.log, Some(checkpoint));
        let store = open(&self.path, access);
        let is_used = store.has_index().expect("open");
        truth.check(&store, !is_used);
        if access == Access::Exclusive {
            let before = store.index_stats().expect("open");
            store.build_index_with(&self.backend, 1, &mut |_, _| true).expect("builds anew");
            truth.check(&store, false);
            // One that was used lends its links to what is built.
            assert!(is_used || truth.answers(&store) == truth.anew, "nothing of it is left");
            let after = store.index_stats().expect("open").expect("built");
            assert_eq!((after.rows, after.dead, after.tail), (COUNT - 29, 0, 0), "{before:?}");
        }
        store.close_handle().expect("closes");
        is_used
    }
}

/// What a search finds.
type Found = Vec<SearchResult>;

/// What is asked and how; what an exact search finds, and an index that is built where none was.
struct Truth {
    ways: Vec<SearchOptions>,
    exact: Vec<(Vec<f32>, Found)>,
    anew: Vec<Found>,
}

impl Truth {
    fn new(saved: &Saved) -> Self {
        let whole = saved.with_all_rows();
        let reader = open(&whole.path, Access::ReadOnly);
        let exact = SearchOptions { exact: true, ..SearchOptions::default() };
        let asked =
            (1..COUNT).step_by(COUNT / 24).filter(|number| !number.is_multiple_of(7)).map(row);
        let ask = |query: Vec<f32>| {
            let found = reader.search_with(&query, 5, &exact).expect("searches");
            (query, found)
        };
        let (ways, exact) = (ways(&saved.backend), asked.map(ask).collect());
        let mut truth = Self { ways, exact, anew: Vec::new() };
        truth.anew = truth.answers(&reader);
        reader.close_handle().expect("closes");
        store(&saved.path, &saved.log, Some(&saved.checkpoint));
        truth
    }

    /// What is found for all queries, one way after the other.
    fn answers(&self, store: &VectorStore) -> Vec<Found> {
        let ask = |way, query: &[f32]| store.search_with(query, 5, way).expect("searches");
        let all = |way| self.exact.iter().map(move |(query, _)| ask(way, query));
        self.ways.iter().flat_map(all).collect()
    }

    /// Without an index the same; with one, what is found is there, with its true score.
    fn check(&self, store: &VectorStore, is_exact: bool) {
        let answers = self.answers(store);
        for (found, (query, truth)) in answers.into_iter().zip(self.exact.iter().cycle()) {
            if is_exact {
                assert_eq!(found, *truth);
                continue;
            }
            assert_eq!(found.len(), 5);
            assert!(found.is_sorted_by(|a, b| a.score <= b.score));
            for hit in found {
                let number: usize = hit.key.parse().expect("a key of ours");
                assert!(
                    number < COUNT && (number >= 200 || !number.is_multiple_of(7)),
                    "{number} is dead"
                );
                assert_eq!(store.get(&hit.key).expect("reads"), Some(row(number)));
                let score = DistanceMetric::Euclidean.distance(query, &row(number));
                assert!((hit.score - score).abs() <= 1e-4 * score.max(1.0), "{hit:?}: {score}");
            }
        }
    }

    /// Share of the truth that is found in each way.
    fn recalls(&self, store: &VectorStore) -> Vec<f64> {
        let hits = |(found, (_, truth)): (&Found, &(Vec<f32>, Found))| {
            truth.iter().filter(|hit| found.contains(hit)).count()
        };
        let of_way = |found: &[Found]| {
            let hits: usize = found.iter().zip(&self.exact).map(hits).sum();
            hits as f64 / (5 * self.exact.len()) as f64
        };
        self.answers(store).chunks(self.exact.len()).map(of_way).collect()
    }
}

/// Runs a trial on a file with an index of each kind.
fn with_each(mut trial: impl FnMut(&Saved, &Truth)) {
    for backend in backends() {
        let _note = Note(|| format!("{backend:?}"));
        let folder = folder();
        let saved = Saved::new(folder.path(), backend.clone());
        let truth = Truth::new(&saved);
        let store = open(&saved.path, Access::ReadOnly);
        assert!(store.has_index().expect("open"));
        let recalls = truth.recalls(&store);
        assert!(recalls.iter().all(|recall| *recall > 0.95), "{recalls:?}");
        store.close_handle().expect("closes");
        trial(&saved, &truth);
    }
}

#[test]
fn a_flipped_byte_anywhere_leaves_the_answers() {
    with_each(|saved, truth| {
        let mut ignored = 0;
        let mut trials: Vec<usize> =
            (0..saved.checkpoint.len()).step_by(saved.checkpoint.len() / 60).collect();
        // And in each section of the index, at its ends and within.
        for (_, range) in saved.sections() {
            trials.extend([range.start, range.start + range.len() / 2, range.end - 1]);
        }
        for (trial, at) in trials.iter().enumerate() {
            let _note = Note(|| format!("byte {at}"));
            let mut checkpoint = saved.checkpoint.clone();
            checkpoint[*at] ^= 1 << (trial % 8);
            let access = if trial % 16 == 0 { Access::Exclusive } else { Access::ReadOnly };
            ignored += usize::from(!saved.try_with(&checkpoint, truth, access));
        }
        assert!(ignored >= 3 * saved.sections().len(), "{ignored} of {}", trials.len());
    });
}

#[test]
fn a_checkpoint_cut_anywhere_leaves_the_answers() {
    with_each(|saved, truth| {
        for part in 0..30 {
            let len = saved.checkpoint.len() * part / 30;
            let _note = Note(|| format!("{len} bytes"));
            let access = if part % 8 == 0 { Access::Exclusive } else { Access::ReadOnly };
            assert!(!saved.try_with(&saved.checkpoint[..len], truth, access));
        }
        std::fs::remove_file(checkpoint_of(&saved.path)).expect("removed");
    });
}

#[test]
fn an_index_of_another_version_is_ignored_and_built_anew() {
    with_each(|saved, truth| {
        let headers = saved.sections();
        // Version of what a store saves, and the first word of the header of each structure.
        let versions = headers.iter().filter_map(|(kind, range)| match kind {
            16 => Some(range.start + 8),
            18 | 23 | 29 | 37 => Some(range.start),
            _ => None,
        });
        let versions: Vec<usize> = versions.collect();
        assert!(versions.len() >= 2, "{headers:?}");
        for at in versions {
            let _note = Note(|| format!("version at {at}"));
            for version in [0, 77, u32::MAX] {
                let mut checkpoint = saved.checkpoint.clone();
                checkpoint[at..at + 4].copy_from_slice(&version.to_le_bytes());
                seal_checkpoint(&mut checkpoint);
                assert!(!saved.try_with(&checkpoint, truth, Access::ReadOnly));
                assert!(!saved.try_with(&checkpoint, truth, Access::Exclusive));
            }
        }
    });
}

#[test]
fn what_is_built_in_the_place_of_a_damaged_index_is_what_was_there() {
    with_each(|saved, truth| {
        let whole = saved.with_all_rows();
        for (kind, range) in whole.sections().iter().step_by(3) {
            let _note = Note(|| format!("section {kind}"));
            let mut checkpoint = whole.checkpoint.clone();
            checkpoint[range.start + range.len() / 2] ^= 1;
            assert!(!whole.try_with(&checkpoint, truth, Access::Exclusive), "it is ignored");
            assert!(whole.as_it_is_now().built() == whole.built(), "byte for byte");
            let store = open(&whole.path, Access::ReadOnly);
            assert!(store.has_index().expect("open"), "it was saved");
            assert!(truth.answers(&store) == truth.anew, "the answers before the damage");
            store.close_handle().expect("closes");
        }
    });
}

#[test]
fn lies_in_an_index_with_good_checksums_find_nothing_that_is_not_there() {
    with_each(|saved, truth| {
        let (sections, mut random, mut used) = (saved.sections(), Random(5), 0);
        let mut sealed = saved.checkpoint.clone();
        seal_checkpoint(&mut sealed);
        assert!(sealed == saved.checkpoint, "a good checkpoint is sealed already");
        for round in 0..250 {
            let mut checkpoint = saved.checkpoint.clone();
            let (kind, range) = &sections[round % sections.len()];
            let _note = Note(|| format!("round {round}, section {kind}"));
            for _ in 0..1 + random.below(8) {
                let at = range.start + random.below(range.len());
                if random.below(3) == 0 && at + 8 <= range.end {
                    checkpoint[at..at + 8].copy_from_slice(&extreme(&mut random).to_le_bytes());
                } else {
                    mutate(&mut checkpoint[at], &mut random);
                }
            }
            seal_checkpoint(&mut checkpoint);
            let access = if round % 50 == 0 { Access::Exclusive } else { Access::ReadOnly };
            store(&saved.path, &saved.log, Some(&checkpoint));
            used += usize::from(try_lies(saved, truth, access));
        }
        println!("{used} of 250 were believed");
        assert!(used > 20, "all were refused");
    });
}

#[test]
fn links_that_lead_nowhere_end_a_walk_and_no_scan() {
    let folder = folder();
    let saved = Saved::new(folder.path(), IndexBackend::Hnsw(HnswConfig::default()));
    let truth = Truth::new(&saved);
    let (_, graph) =
        saved.sections().into_iter().find(|(kind, _)| *kind == GRAPH_KIND).expect("a graph");
    assert_eq!(graph.len(), (COUNT - 100) * NODE_BYTES);
    let mut checkpoint = saved.checkpoint.clone();
    for node in checkpoint[graph].chunks_mut(NODE_BYTES) {
        node[LINKS].fill(0xff);
    }
    seal_checkpoint(&mut checkpoint);
    store(&saved.path, &saved.log, Some(&checkpoint));
    let store = open(&saved.path, Access::ReadOnly);
    assert!(store.has_index().expect("open"), "links are believed");
    // Of so few a walk finds as many as it wants where it begins.
    let found = |way: &SearchOptions| {
        let of = |(query, truth): &(Vec<f32>, Found)| {
            let found = store.search_with(query, 3, way).expect("searches");
            found.iter().filter(|hit| truth[..3].contains(hit)).count()
        };
        truth.exact.iter().map(of).sum::<usize>()
    };
    let all = 3 * truth.exact.len();
    let [walked, scanned] = [&truth.ways[0], &truth.ways[1]].map(found);
    assert!(walked * 2 < all && scanned * 20 > all * 19, "{walked} and {scanned} of {all}");
}

/// As `Saved::try_with`; but a lie that says of other rows that they are indexed hides them.
fn try_lies(saved: &Saved, truth: &Truth, access: Access) -> bool {
    let store = open(&saved.path, access);
    let is_used = store.has_index().expect("open");
    if !is_used {
        truth.check(&store, true);
    }
    for found in truth.answers(&store) {
        assert!(is_used || found.len() == 5);
        for hit in found {
            let number: usize = hit.key.parse().expect("a key of ours");
            assert!(
                number < COUNT && (number >= 200 || !number.is_multiple_of(7)),
                "{number} is dead"
            );
        }
    }
    if access == Access::Exclusive {
        let built = store.build_index_with(&IndexBackend::None, 1, &mut |_, _| true);
        built.expect("drops");
        store.build_index_with(&saved.backend, 1, &mut |_, _| true).expect("builds anew");
        assert!(truth.recalls(&store).iter().all(|recall| *recall > 0.95));
        assert!(truth.answers(&store) == truth.anew, "nothing of the lies is left");
    }
    store.close_handle().expect("closes");
    is_used
}

/// Codes and graphs have no checksum of the row: what they find is read from the log, and verified.
#[test]
fn a_damaged_row_that_an_index_finds_is_reported_and_costs_the_others_nothing() {
    const DAMAGED: usize = 701;
    let folder = folder();
    for backend in backends() {
        let saved = Saved::new(folder.path(), backend);
        let bytes: Vec<u8> = row(DAMAGED).iter().flat_map(|value| value.to_le_bytes()).collect();
        let places = saved.log.windows(bytes.len()).enumerate();
        let places: Vec<usize> =
            places.filter(|(_, window)| *window == bytes).map(|(at, _)| at).collect();
        let [at] = places[..] else { panic!("{places:?}") };
        let mut log = saved.log.clone();
        log[at + 4 * 20 + 1] ^= 0x10;
        store(&saved.path, &log, Some(&saved.checkpoint));
        for access in [Access::ReadOnly, Access::Exclusive] {
            let store = open(&saved.path, access);
            assert!(store.has_index().expect("open"), "of rows as they were");
            for way in ways(&saved.backend) {
                match store.search_with(&row(DAMAGED), 3, &way) {
                    Err(Error::Corruption { offset, key, .. }) => {
                        assert_eq!(key.as_deref(), Some("701"), "{offset}");
                    }
                    other => panic!("{:?}: {other:?}", saved.backend),
                }
                // Of another group of vectors.
                let found = store.search_with(&row(DAMAGED + 11), 1, &way).expect("searches");
                assert_eq!(found[0].key, (DAMAGED + 11).to_string());
            }
            store.close_handle().expect("closes");
        }
        std::fs::remove_file(&saved.path).expect("removed");
    }
}
