//! Saving an inverted file as byte sections, and opening it again.
//!
//! All numbers are little-endian, in version 3 (in version 1 codes were not relative to
//! the mean, in version 2 zero vectors were moved as others are):
//!
//! - `ivf.header`: 16 `u64`. Version; metric (0 cosine, 1 euclidean, 2 dot product); dimensions;
//!   cells; entries; then the configuration: cells (all ones where it names none), rounds of
//!   k-means, sampled rows a cell, second cells (0 or 1), codes (0 full, 1 bits, 2 refined), seed,
//!   `nprobe`, candidates; then `nprobe` and candidates of a search that is not told otherwise, and
//!   the bits of an `f64`, the scale of the frame.
//! - `ivf.mean`: the mean of the training sample, an `f32` for each dimension.
//! - `ivf.points`: the centroids in the frame, `(vector - mean) * scale`, an `f32` for each
//!   dimension of each cell.
//! - `ivf.radii`: an `f32` for each cell; no row of the cell is farther from its centroid.
//! - `ivf.counts`: a `u32` for each cell, the number of its rows.
//! - `ivf.rows`: a `u32` for each entry, its row, cell behind cell. Where there are codes each
//!   cell is filled up with `u32::MAX` to a multiple of 32.
//! - `ivf.codes`: a block of one-bit codes for every 32 entries, relative to the rotated centroid
//!   (see [`crate::quantize`]); empty without codes. Where the squared length of the mean is
//!   more than 0.81 of itself and the variance (the scale's inverse square), the vectors of the
//!   euclidean metric and the unit vectors of the cosine are moved by the mean first, and codes
//!   tell their squared distances. A zero vector of the cosine is put opposite to the mean then, at
//!   1 + sqrt(2) from the origin.
//! - `ivf.fine`: for each row number from the smallest to the largest four bits a dimension and
//!   three `f32`, relative to the rotated mean, or to the origin of moved
//!   vectors; zeros where a row is not in the index. Empty where
//!   most are not, and where the codes are not refined.
//!
//! Centroids are rotated, and their norms and codes made, when a saved index is opened.

use std::borrow::Cow;
use std::sync::Arc;

use synadb_types::{RowId, RowSet};

use super::bits::BitCells;
use super::bytes::Bytes;
use super::lists::NO_ROW;
use super::origin::Origin;
use super::{
    Directory, FineRows, IvfCodes, IvfConfig, IvfIndex, IvfSearch, Lists, Marks, PlainCells, Store,
    block_of,
};
use crate::distance::{Metric, kernels};
use crate::flat::FlatIndex;
use crate::kmeans::Centroids;
use crate::kmeans::frame::Frame;
use crate::quantize::{BLOCK_ROWS, Rotation, bit_block_bytes};
use crate::{Beyond, IndexError, Job, Section, SharedBytes, VectorSource};

/// Version of the sections.
const VERSION: u64 = 3;
const HEADER: &str = "ivf.header";
const MEAN: &str = "ivf.mean";
const POINTS: &str = "ivf.points";
const RADII: &str = "ivf.radii";
const COUNTS: &str = "ivf.counts";
const ROWS: &str = "ivf.rows";
const CODES: &str = "ivf.codes";
const FINE: &str = "ivf.fine";
/// Numbers of the header stand for these.
const CODES_KNOWN: [IvfCodes; 3] = [IvfCodes::Full, IvfCodes::Bits, IvfCodes::Refined];
/// Numbers of the header.
const FIELDS: usize = 16;
/// What stands for a number of cells that the configuration leaves open.
const OPEN: u64 = u64::MAX;

impl IvfIndex {
    /// Saves the index. Vectors are not in it: cells without codes are filled from the source
    /// when the index is opened.
    #[must_use]
    pub fn export(&self) -> Vec<Section<'_>> {
        let config = &self.config;
        let frame = &self.centroids.frame;
        let header: [u64; FIELDS] = [
            VERSION,
            metric_number(self.metric),
            self.centroids.dimensions as u64,
            self.cells() as u64,
            self.lists.rows.len() as u64,
            config.cells.map_or(OPEN, |cells| cells as u64),
            config.iterations as u64,
            config.sample_per_cell as u64,
            u64::from(config.second),
            CODES_KNOWN.iter().position(|&known| known == config.codes).map_or(0, |at| at as u64),
            config.seed,
            config.search.nprobe as u64,
            config.search.candidates as u64,
            self.search.nprobe as u64,
            self.search.candidates as u64,
            frame.factor().to_bits(),
        ];
        let section = |name, bytes| (name, Cow::Owned(bytes));
        let (codes, fine): (&[u8], &[u8]) = match &self.store {
            Store::Plain(_) => (&[], &[]),
            Store::Bits(cells, None) => (&cells.blocks, &[]),
            Store::Bits(cells, Some(fine)) => (&cells.blocks, &fine.records),
        };
        vec![
            section(HEADER, header.iter().flat_map(|field| field.to_le_bytes()).collect()),
            section(MEAN, from_floats(frame.mean())),
            section(POINTS, from_floats(&self.centroids.points)),
            section(RADII, from_floats(&self.directory.radii)),
            section(COUNTS, from_words(&self.lists.counts)),
            section(ROWS, from_words(&self.lists.rows)),
            (CODES, Cow::Borrowed(codes)),
            (FINE, Cow::Borrowed(fine)),
        ]
    }

    /// Opens a saved index over the source that holds its rows, all below `end`. The codes stay where
    /// they are, as in a mapped file; costs a copy of the vectors where there are none.
    ///
    /// # Errors
    ///
    /// [`IndexError::Section`] when a section is missing, was written by another version, or holds
    /// what cannot be: no number in it is trusted. The errors of [`kernels`].
    pub fn import(
        sections: &[(&str, SharedBytes)],
        end: u32,
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<Self, IndexError> {
        let find = |name: &'static str| {
            let found = sections.iter().find(|section| section.0 == name);
            found
                .map(|(_, bytes)| Bytes::shared(Arc::clone(bytes)))
                .ok_or(damaged(name, "is missing"))
        };
        let header = Header::read(&find(HEADER)?)?;
        let (dimensions, cells) = (source.dimensions(), header.cells);
        if header.dimensions != dimensions {
            return Err(damaged(HEADER, "is for vectors of other dimensions"));
        }
        let kernels = kernels()?;
        let mean = floats(MEAN, &find(MEAN)?, dimensions)?;
        let points = floats(POINTS, &find(POINTS)?, cells.saturating_mul(dimensions))?;
        let radii = floats(RADII, &find(RADII)?, cells)?;
        let counts = words(COUNTS, &find(COUNTS)?, cells)?;
        let listed = words(ROWS, &find(ROWS)?, header.entries)?;
        let block = block_of(header.config.codes);
        let lists = Lists::open(counts, listed, block).ok_or(damaged(ROWS, "has other counts"))?;
        let rows = checked_rows(&lists, end.min(source.rows_end()))?;
        let frame = Frame::new(header.metric, mean, header.factor);
        let centroids = Arc::new(Centroids { frame, points, dimensions });
        let origin = Origin::of(header.metric, &centroids.frame);
        let points = origin.points(&centroids);
        let (directory, store) = match header.config.codes {
            IvfCodes::Full => {
                let directory = Directory::new(Marks::new(points, dimensions, kernels), radii);
                (directory, Store::Plain(PlainCells::new(&lists, source, &job.crew())?))
            }
            IvfCodes::Bits | IvfCodes::Refined => {
                let rotation = Rotation::new(dimensions, header.config.seed);
                let padded = rotation.padded();
                let blocks = find(CODES)?;
                if blocks.len() != lists.rows.len() / BLOCK_ROWS * bit_block_bytes(padded) {
                    return Err(damaged(CODES, "has another length"));
                }
                let marks = Marks::rotated(&points, &rotation, origin.metric(), kernels)?;
                let directory = Directory::new(marks, radii);
                let fine = if header.config.codes == IvfCodes::Refined {
                    let anchor = origin.anchor(&centroids, &rotation)?;
                    FineRows::open(&rotation, anchor, &rows, find(FINE)?)
                        .map_err(|()| damaged(FINE, "has another length"))?
                } else {
                    None
                };
                let cells = BitCells { rotation, blocks };
                (directory, Store::Bits(cells, fine))
            }
        };
        let (metric, search, flat) = (header.metric, header.search, FlatIndex::new(rows));
        let config = header.config;
        let shared = None;
        Ok(Self {
            metric,
            config,
            search,
            flat,
            centroids,
            origin,
            directory,
            lists,
            store,
            shared,
            shelf: Arc::default(),
        })
    }
}

/// The numbers of the header, each within its range.
struct Header {
    metric: Metric,
    dimensions: usize,
    cells: usize,
    entries: usize,
    config: IvfConfig,
    search: IvfSearch,
    factor: f64,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, IndexError> {
        let (fields, rest) = bytes.as_chunks::<8>();
        let fields: Vec<u64> = fields.iter().map(|&field| u64::from_le_bytes(field)).collect();
        if fields.first() != Some(&VERSION) {
            return Err(damaged(HEADER, "is of another version"));
        }
        let fields: [u64; FIELDS] =
            fields.try_into().map_err(|_| damaged(HEADER, "has another length"))?;
        if !rest.is_empty() {
            return Err(damaged(HEADER, "has another length"));
        }
        let [_, metric, dimensions, cells, entries, wanted, iterations, sample, second, codes, ..] =
            fields;
        let [.., seed, nprobe, candidates, own_nprobe, own_candidates, factor] = fields;
        let factor = f64::from_bits(factor);
        let codes = usize::try_from(codes).ok().and_then(|at| CODES_KNOWN.get(at).copied());
        let codes = codes.ok_or(damaged(HEADER, "names codes that there are not"))?;
        if second > 1 || !(factor > 0.0 && factor.is_finite()) {
            return Err(damaged(HEADER, "holds a number out of range"));
        }
        // What else is in it only ever bounds loops over sections whose lengths are compared.
        let number = |field: u64| u32::try_from(field).map(|field| field as usize);
        let size = |field: u64| usize::try_from(field);
        let out_of_range = |_| damaged(HEADER, "holds a number out of range");
        let config = IvfConfig {
            cells: (wanted != OPEN).then(|| number(wanted)).transpose().map_err(out_of_range)?,
            iterations: number(iterations).map_err(out_of_range)?,
            sample_per_cell: number(sample).map_err(out_of_range)?,
            second: second == 1,
            codes,
            seed,
            search: IvfSearch {
                nprobe: size(nprobe).map_err(out_of_range)?,
                candidates: size(candidates).map_err(out_of_range)?,
                beyond: Beyond::default(),
            },
        };
        Ok(Self {
            metric: [Metric::Cosine, Metric::Euclidean, Metric::DotProduct]
                .into_iter()
                .find(|&known| metric_number(known) == metric)
                .ok_or(damaged(HEADER, "names no metric"))?,
            dimensions: number(dimensions).map_err(out_of_range)?,
            cells: number(cells).map_err(out_of_range)?,
            entries: number(entries).map_err(out_of_range)?,
            config,
            search: IvfSearch {
                nprobe: size(own_nprobe).map_err(out_of_range)?,
                candidates: size(own_candidates).map_err(out_of_range)?,
                beyond: Beyond::default(),
            },
            factor,
        })
    }
}

fn metric_number(metric: Metric) -> u64 {
    match metric {
        Metric::Cosine => 0,
        Metric::Euclidean => 1,
        Metric::DotProduct => 2,
    }
}

/// The rows that are listed, when all are below `end`, none is in more than two places, and only
/// padding is not a row.
fn checked_rows(lists: &Lists, end: u32) -> Result<RowSet, IndexError> {
    let (mut rows, mut again) = (RowSet::with_rows(end), RowSet::new());
    for cell in 0..lists.cells() {
        let entries = lists.entries(cell);
        let padding = &lists.rows[entries.end..lists.starts[cell + 1] as usize];
        if padding.iter().any(|&row| row != NO_ROW) {
            return Err(damaged(ROWS, "has rows beyond a cell's end"));
        }
        for &row in &lists.rows[entries] {
            if row >= end {
                return Err(damaged(ROWS, "names a row that there is not"));
            }
            if !rows.insert(RowId(row)) && !again.insert(RowId(row)) {
                return Err(damaged(ROWS, "names a row more than twice"));
            }
        }
    }
    Ok(rows)
}

fn damaged(name: &'static str, problem: &'static str) -> IndexError {
    IndexError::Section { name, problem }
}

fn from_floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn from_words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn words(name: &'static str, bytes: &[u8], count: usize) -> Result<Vec<u32>, IndexError> {
    let (words, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() || words.len() != count {
        return Err(damaged(name, "has another length"));
    }
    Ok(words.iter().map(|&word| u32::from_le_bytes(word)).collect())
}

fn floats(name: &'static str, bytes: &[u8], count: usize) -> Result<Vec<f32>, IndexError> {
    Ok(words(name, bytes, count)?.into_iter().map(f32::from_bits).collect())
}
