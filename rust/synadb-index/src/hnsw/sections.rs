//! The index as sections of bytes, which the caller stores and maps again.
//!
//! Numbers are little-endian. `hnsw.header`: version (2, or 3 where the configuration wants no codes),
//! metric, dimensions, nodes, rows, length of `ends`, entry points, degree, packed dimensions (`u32`
//! each), then `m`, `m_max`, `ef_construction`, `ef_search`, seed (`u64`), scale (`f64`).
//! `hnsw.centre`: `f32`. `hnsw.rows`: the rows of all nodes, by node, and `hnsw.ends`: where those of
//! each node end, or nothing when each has one row; `hnsw.entries`: the entry points; `u32`.
//! `hnsw.graph`: for each node a block of whole cache lines: its code, an `i8` for each dimension up to
//! a multiple of 64, or up to 48 dimensions and in version 3 an `f32` for each and one for the
//! additional coordinate; in version 2 above 192 dimensions, for each 32 links, a block of
//! [`crate::quantize`] of neighbours; the links (`u32`, all ones for none); scale, additional
//! coordinate and squared length of the code, and the two steps of each block (`f32`). The codes depend
//! on the rotation that the seed gives: another rotation is another version.

use std::borrow::Cow;
use std::sync::Arc;

use synadb_types::{RowId, RowSet};

use crate::hnsw::codes::Codes;
use crate::hnsw::config::{DEGREE_ALIGN, DEGREE_MAX, HnswConfig};
use crate::hnsw::graph::{Graph, Layout, packed_dimensions};
use crate::hnsw::members::Members;
use crate::hnsw::space::Space;
use crate::hnsw::{HnswIndex, NO_NODE};
use crate::{IndexError, Metric, Section, SharedBytes};

const VERSION: u32 = 2;
/// That of a graph whose nodes hold their points in single precision because that was asked for.
const VERSION_UNQUANTIZED: u32 = 3;
const HEADER: &str = "hnsw.header";
const CENTRE: &str = "hnsw.centre";
const ROWS: &str = "hnsw.rows";
const ENDS: &str = "hnsw.ends";
const ENTRIES: &str = "hnsw.entries";
const GRAPH: &str = "hnsw.graph";
const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Euclidean, Metric::DotProduct];
const DIMENSIONS_MAX: usize = 1 << 16;
/// Numbers of the header, of four and of eight bytes.
const WORDS: usize = 9;
const LONGS: usize = 6;

impl HnswIndex {
    /// The sections that [`HnswIndex::import`] makes the index of again. The graph, by far the
    /// largest, is not copied.
    #[must_use]
    pub fn export(&self) -> Vec<Section<'_>> {
        let words = |values: &[u32]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let centre = self.space.centre.iter().flat_map(|value| value.to_le_bytes()).collect();
        vec![
            (HEADER, Cow::Owned(self.header())),
            (CENTRE, Cow::Owned(centre)),
            (ROWS, Cow::Owned(words(&self.members.rows))),
            (ENDS, Cow::Owned(words(&self.members.ends))),
            (ENTRIES, Cow::Owned(words(&self.entries))),
            (GRAPH, Cow::Borrowed(self.graph.bytes())),
        ]
    }

    fn header(&self) -> Vec<u8> {
        let metric = METRICS.iter().position(|&metric| metric == self.space.metric);
        let layout = self.graph.layout;
        let version = if self.config.quantized { VERSION } else { VERSION_UNQUANTIZED };
        let words = [
            version as usize,
            metric.expect("every metric has a number"),
            self.space.dimensions(),
            self.graph.nodes,
            self.members.rows.len(),
            self.members.ends.len(),
            self.entries.len(),
            layout.degree,
            layout.packed,
        ];
        let HnswConfig { m, m_max, ef_construction, ef_search, seed, .. } = self.config;
        let sizes = [m, m_max, ef_construction, ef_search].map(|size| size as u64);
        let longs = sizes.into_iter().chain([seed, self.space.scale.to_bits()]);
        let words = words.iter().flat_map(|&word| (word as u32).to_le_bytes());
        words.chain(longs.flat_map(u64::to_le_bytes)).collect()
    }

    /// Makes an index of its sections; of the graph the codes of the entry points alone are read and
    /// copied. Rows are below `rows_end`. O(rows + entry points x d log d).
    ///
    /// # Errors
    ///
    /// [`IndexError::Section`] when a section is missing or is not what `export` writes. Codes and
    /// links are not looked at: links that lead nowhere are left out by the search.
    pub fn import(sections: &[(&str, SharedBytes)], rows_end: u32) -> Result<Self, IndexError> {
        let find = |name: &'static str| {
            let found = sections.iter().find(|(other, _)| *other == name);
            found.map(|(_, bytes)| Arc::clone(bytes)).ok_or(bad(name, "is missing"))
        };
        let header = Header::read((*find(HEADER)?).as_ref())?;
        let words = |name, count| read_words(name, (*find(name)?).as_ref(), count);
        let members = Members { rows: words(ROWS, header.rows)?, ends: words(ENDS, header.ends)? };
        let nodes = header.layout_nodes;
        check_members(&members, nodes, rows_end)?;
        let entries = words(ENTRIES, header.entries)?;
        if entries.iter().any(|&entry| entry as usize >= nodes) {
            return Err(bad(ENTRIES, "names a node that does not exist"));
        }
        let mut seen = RowSet::new();
        if !entries.iter().all(|&entry| seen.insert(RowId(entry))) {
            return Err(bad(ENTRIES, "names a node twice"));
        }
        let centre = words(CENTRE, header.dimensions)?.into_iter().map(f32::from_bits).collect();
        let space = Space { metric: header.metric, scale: header.scale, centre };
        let blocks = find(GRAPH)?;
        let len = nodes.checked_mul(header.layout.stride());
        if len != Some((*blocks).as_ref().len()) {
            return Err(bad(GRAPH, "has not one block for each node"));
        }
        let graph = Graph { layout: header.layout, nodes, blocks, start: 0 };
        Ok(Self::assemble(header.config, space, members, graph, entries))
    }
}

fn bad(name: &'static str, problem: &'static str) -> IndexError {
    IndexError::Section { name, problem }
}

/// What the header says, checked.
struct Header {
    metric: Metric,
    dimensions: usize,
    layout: Layout,
    layout_nodes: usize,
    rows: usize,
    ends: usize,
    entries: usize,
    config: HnswConfig,
    scale: f64,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, IndexError> {
        let (words, rest) = bytes.split_at_checked(4 * WORDS).unwrap_or_default();
        let (words, longs) = (words.as_chunks().0, rest.as_chunks().0);
        if words.len() != WORDS || longs.len() != LONGS || rest.len() != 8 * LONGS {
            return Err(bad(HEADER, "has the wrong length"));
        }
        let word = |index: usize| u32::from_le_bytes(words[index]) as usize;
        let long = |index: usize| u64::from_le_bytes(longs[index]);
        let quantized = word(0) == VERSION as usize;
        if !quantized && word(0) != VERSION_UNQUANTIZED as usize {
            return Err(bad(HEADER, "is of another version"));
        }
        let metric = *METRICS.get(word(1)).ok_or(bad(HEADER, "names no metric"))?;
        let (dimensions, nodes) = (word(2), word(3));
        if dimensions > DIMENSIONS_MAX || nodes > (NO_NODE / 2) as usize {
            return Err(bad(HEADER, "exceeds the limits"));
        }
        let (degree, packed, codes) = (word(7), word(8), Codes::new(dimensions, quantized));
        let layout = Layout { code_bytes: codes.code_bytes(), packed, degree };
        let sound = degree > 0 && degree <= DEGREE_MAX && degree.is_multiple_of(DEGREE_ALIGN);
        if !sound || packed != packed_dimensions(dimensions, quantized) {
            return Err(bad(HEADER, "describes another layout"));
        }
        let config = HnswConfig {
            m_max: long(1) as usize,
            ef_construction: long(2) as usize,
            ef_search: long(3) as usize,
            seed: long(4),
            quantized,
            ..HnswConfig::with_m(long(0) as usize)
        };
        let (rows, ends, entries) = (word(4), word(5), word(6));
        let scale = f64::from_bits(long(5));
        Ok(Self {
            metric,
            dimensions,
            layout,
            layout_nodes: nodes,
            rows,
            ends,
            entries,
            config,
            scale,
        })
    }
}

fn read_words(name: &'static str, bytes: &[u8], count: usize) -> Result<Vec<u32>, IndexError> {
    if count.checked_mul(size_of::<u32>()) != Some(bytes.len()) {
        return Err(bad(name, "has the wrong length"));
    }
    Ok(bytes.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word)).collect())
}

/// Checks that every node has rows and every row one node.
fn check_members(members: &Members, nodes: usize, rows_end: u32) -> Result<(), IndexError> {
    if members.nodes() != nodes {
        return Err(bad(ENDS, "counts other nodes than the header"));
    }
    let mut start = 0;
    for &end in &members.ends {
        if end <= start || end as usize > members.rows.len() {
            return Err(bad(ENDS, "is out of order"));
        }
        start = end;
    }
    if !members.ends.is_empty() && start as usize != members.rows.len() {
        return Err(bad(ENDS, "leaves rows without a node"));
    }
    if members.rows.iter().any(|&row| row >= rows_end) {
        return Err(bad(ROWS, "names a row that does not exist"));
    }
    let mut seen = RowSet::with_rows(rows_end);
    if members.rows.iter().all(|&row| seen.insert(RowId(row))) {
        Ok(())
    } else {
        Err(bad(ROWS, "names a row twice"))
    }
}
