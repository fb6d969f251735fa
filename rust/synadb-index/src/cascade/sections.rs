//! Saving a cascade as byte sections, and opening it again.
//!
//! All numbers are little-endian, in version 1. `cascade.header`: 14 `u32`: version, dimensions,
//! nodes of the graph, tables, splits, buckets, entries, then `num_bits`, `num_tables`,
//! `split_threshold`, `max_bucket_depth`, `m`, `m_max`, `num_probes` as the configuration names
//! them, and two `u64`: `ef_search`, seed. `cascade.trees`: a `u32` for each table, the branch to
//! its tree, then 12 bytes for each split: threshold (`f32`) and two branches (`u32`). A branch is
//! the number of a split, a bucket's number with the highest bit set, or all ones where no row is;
//! every split and bucket has one branch, and a split's number is above that of the one before it.
//! `cascade.starts`: where the entries of each bucket begin, and the end (`u32`).
//! `cascade.entries`: nodes, bucket behind bucket (`u32`). `cascade.signatures`: 128 bits a node.
//! The sections of the graph, `hnsw.` by name, belong to it too.
//!
//! A level's hyperplane is number `level * tables + table`; hyperplanes are the coordinates of
//! rotations, whose seeds follow from the configuration's.

use std::borrow::Cow;
use std::sync::Arc;

use crate::cascade::CascadeIndex;
use crate::cascade::config::{CascadeConfig, Shape};
use crate::cascade::forest::{Branch, Forest, SIGNATURE_BYTES, Split};
use crate::cascade::planes::Planes;
use crate::{HnswIndex, IndexError, Section, SharedBytes};

const VERSION: u32 = 1;
const HEADER: &str = "cascade.header";
const TREES: &str = "cascade.trees";
const STARTS: &str = "cascade.starts";
const ENTRIES: &str = "cascade.entries";
const SIGNATURES: &str = "cascade.signatures";
/// Numbers of the header, of four and of eight bytes.
const WORDS: usize = 14;
const LONGS: usize = 2;
const SPLIT_BYTES: usize = 12;

impl CascadeIndex {
    /// The sections that [`CascadeIndex::import`] makes the index of again. Graph, entries and
    /// signatures are not copied.
    #[must_use]
    pub fn export(&self) -> Vec<Section<'_>> {
        let Forest { roots, splits, starts, entries, signatures } = &self.forest;
        let mut trees: Vec<u8> =
            roots.iter().flat_map(|root| root.encode().to_le_bytes()).collect();
        for split in splits {
            trees.extend(split.threshold.to_le_bytes());
            trees.extend(split.branches.iter().flat_map(|branch| branch.encode().to_le_bytes()));
        }
        let starts = starts.iter().flat_map(|start| start.to_le_bytes()).collect();
        let mut sections = vec![
            (HEADER, Cow::Owned(self.header())),
            (TREES, Cow::Owned(trees)),
            (STARTS, Cow::Owned(starts)),
            (ENTRIES, Cow::Borrowed((**entries).as_ref())),
            (SIGNATURES, Cow::Borrowed((**signatures).as_ref())),
        ];
        sections.extend(self.graph.export());
        sections
    }

    fn header(&self) -> Vec<u8> {
        let (config, forest) = (&self.config, &self.forest);
        let entries = forest.starts.last().copied().unwrap_or_default() as usize;
        let sizes = [
            self.dimensions(),
            self.graph.nodes(),
            forest.roots.len(),
            forest.splits.len(),
            forest.buckets(),
            entries,
            config.num_bits,
            config.num_tables,
            config.split_threshold,
            config.max_bucket_depth,
            config.m,
            config.m_max,
            config.num_probes,
        ];
        // A parameter beyond its limit is as good as any other there.
        let words = sizes.iter().map(|&size| u32::try_from(size).unwrap_or(u32::MAX));
        let words = std::iter::once(VERSION).chain(words).flat_map(u32::to_le_bytes);
        let longs = [config.ef_search as u64, config.seed];
        words.chain(longs.into_iter().flat_map(u64::to_le_bytes)).collect()
    }

    /// Makes an index of its sections; nothing of entries, signatures and graph is read or
    /// copied. Rows are below `rows_end`. O(rows) for the list of the graph's rows.
    ///
    /// # Errors
    ///
    /// [`IndexError::Section`] when a section is missing or is not what `export` writes. Codes,
    /// signatures, links and entries are not looked at: those that name no node are left out by
    /// the search.
    pub fn import(sections: &[(&str, SharedBytes)], rows_end: u32) -> Result<Self, IndexError> {
        let find = |name: &'static str| {
            let found = sections.iter().find(|(other, _)| *other == name);
            found.map(|(_, bytes)| Arc::clone(bytes)).ok_or(bad(name, "is missing"))
        };
        let header = Header::read((*find(HEADER)?).as_ref())?;
        let graph = HnswIndex::import(sections, rows_end)?;
        if header.dimensions != graph.dimensions() || header.nodes != graph.nodes() {
            return Err(bad(HEADER, "belongs to another graph"));
        }
        let shape = header.config.shape();
        if header.tables != shape.tables {
            return Err(bad(HEADER, "has other tables than its configuration"));
        }
        let (roots, splits) = header.trees((*find(TREES)?).as_ref())?;
        check_trees(&roots, &splits, header.buckets, shape)?;
        let starts = header.starts((*find(STARTS)?).as_ref())?;
        let (entries, signatures) = (find(ENTRIES)?, find(SIGNATURES)?);
        if (*entries).as_ref().len() != size_of::<u32>() * header.entries {
            return Err(bad(ENTRIES, "has another length"));
        }
        if (*signatures).as_ref().len() != SIGNATURE_BYTES * header.nodes {
            return Err(bad(SIGNATURES, "has another length"));
        }
        let config = CascadeConfig { quantized: graph.config().quantized, ..header.config };
        let planes = Planes::new(graph.dimensions() + 1, shape.planes(), config.seed);
        let forest = Forest { roots, splits, starts, entries, signatures };
        Ok(Self { config, graph, planes, forest })
    }
}

fn bad(name: &'static str, problem: &'static str) -> IndexError {
    IndexError::Section { name, problem }
}

/// What the header says.
struct Header {
    dimensions: usize,
    nodes: usize,
    tables: usize,
    splits: usize,
    buckets: usize,
    entries: usize,
    config: CascadeConfig,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, IndexError> {
        let (words, rest) = bytes.split_at_checked(4 * WORDS).unwrap_or_default();
        let (words, longs) = (words.as_chunks().0, rest.as_chunks().0);
        if words.len() != WORDS || rest.len() != 8 * LONGS {
            return Err(bad(HEADER, "has another length"));
        }
        let word = |index: usize| u32::from_le_bytes(words[index]) as usize;
        let long = |index: usize| u64::from_le_bytes(longs[index]);
        if word(0) != VERSION as usize {
            return Err(bad(HEADER, "is of another version"));
        }
        let out_of_range = |_| bad(HEADER, "holds a number out of range");
        let config = CascadeConfig {
            num_bits: word(7),
            num_tables: word(8),
            split_threshold: word(9),
            max_bucket_depth: word(10),
            m: word(11),
            m_max: word(12),
            num_probes: word(13),
            ef_search: usize::try_from(long(0)).map_err(out_of_range)?,
            seed: long(1),
            ..CascadeConfig::default()
        };
        let (dimensions, nodes, tables) = (word(1), word(2), word(3));
        let (splits, buckets, entries) = (word(4), word(5), word(6));
        Ok(Self { dimensions, nodes, tables, splits, buckets, entries, config })
    }

    /// The roots and splits, as many as there should be.
    fn trees(&self, bytes: &[u8]) -> Result<(Vec<Branch>, Vec<Split>), IndexError> {
        let (roots, rest) = bytes
            .split_at_checked(size_of::<u32>() * self.tables)
            .ok_or(bad(TREES, "has another length"))?;
        let (splits, over) = rest.as_chunks::<SPLIT_BYTES>();
        if splits.len() != self.splits || !over.is_empty() {
            return Err(bad(TREES, "has another length"));
        }
        let roots = roots.as_chunks().0.iter().map(|&root| branch(root)).collect();
        let split = |bytes: &[u8; SPLIT_BYTES]| {
            let [threshold, first, second] =
                [0, 4, 8].map(|at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            let threshold = f32::from_le_bytes(threshold);
            Split { threshold, branches: [branch(first), branch(second)] }
        };
        Ok((roots, splits.iter().map(split).collect()))
    }

    /// The starts of the buckets, in order up to the end.
    fn starts(&self, bytes: &[u8]) -> Result<Vec<u32>, IndexError> {
        let (words, rest) = bytes.as_chunks();
        if words.len() != self.buckets.saturating_add(1) || !rest.is_empty() {
            return Err(bad(STARTS, "has another length"));
        }
        let starts: Vec<u32> = words.iter().map(|&word| u32::from_le_bytes(word)).collect();
        let ends = starts.last().is_some_and(|&end| end as usize == self.entries);
        if starts[0] != 0 || !ends || !starts.is_sorted() {
            return Err(bad(STARTS, "is out of order"));
        }
        Ok(starts)
    }
}

fn branch(bytes: [u8; 4]) -> Branch {
    Branch::decode(u32::from_le_bytes(bytes))
}

/// Checks that the branches make trees: one leads to each split and to each bucket, none back,
/// and none deeper than there are hyperplanes.
fn check_trees(
    roots: &[Branch],
    splits: &[Split],
    buckets: usize,
    shape: Shape,
) -> Result<(), IndexError> {
    let wrong = bad(TREES, "is no set of trees");
    let (mut levels, mut met) =
        (vec![None; splits.len()], vec![false; buckets.min(splits.len() + roots.len())]);
    let mut visit =
        |branch: Branch, level: usize, levels: &mut [Option<usize>], after: usize| match branch {
            Branch::Nothing => true,
            Branch::Split(split) => {
                let free = split >= after && level < shape.levels();
                let slot = levels.get_mut(split).filter(|slot| free && slot.is_none());
                slot.is_some_and(|slot| slot.replace(level).is_none())
            }
            Branch::Bucket(bucket) => {
                met.get_mut(bucket).is_some_and(|met| !std::mem::replace(met, true))
            }
        };
    let mut sound = roots.iter().all(|&root| visit(root, 0, &mut levels, 0));
    for (index, split) in splits.iter().enumerate() {
        let Some(level) = levels[index] else { return Err(wrong) };
        sound &= split.branches.iter().all(|&b| visit(b, level + 1, &mut levels, index + 1));
    }
    if sound && met.len() == buckets && met.iter().all(|&met| met) { Ok(()) } else { Err(wrong) }
}
