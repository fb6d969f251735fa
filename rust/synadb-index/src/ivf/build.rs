//! Building an inverted file, and a new one from an old one and new rows.

use std::sync::Arc;

use synadb_types::{RowId, RowSet};

use super::assign::{Cells, assign};
use super::balance::rebalance;
use super::bits::BitCells;
use super::heritage::Heritage;
use super::origin::Origin;
use super::{
    Directory, FineRows, IvfCodes, IvfConfig, IvfIndex, Lists, Marks, PlainCells, SharedCells,
    Store, block_of,
};
use crate::distance::{Metric, kernels};
use crate::flat::FlatIndex;
use crate::job::Crew;
use crate::kmeans::Centroids;
use crate::quantize::Rotation;
use crate::{IndexError, Job, KMeans, VectorSource};

/// Shares of the work, as measured: training, then assignment, then the rest.
const TRAINED: f32 = 0.55;
const ASSIGNED: f32 = 0.9;
/// Of the training, that on a sample, where there is one.
const SAMPLED: f32 = 0.5;
/// An index with so many times the cells that its rows would get is built anew.
const SHRUNK: usize = 4;
/// So is one with so many times the rows: its few centroids say little about them.
const GROWN: usize = 16;
/// Vectors of fewer dimensions are hardly larger than their codes, whose bounds take the errors of
/// rotated coordinates for independent: those of two dimensions are not.
const CODED_DIMENSIONS_MIN: usize = 8;
/// Rounds of k-means at most, so that a damaged configuration can't make a build endless.
const ITERATIONS_MAX: usize = 1000;

impl IvfConfig {
    /// How centroids of so many rows are found.
    pub(super) fn training(&self, rows: usize) -> KMeans {
        KMeans {
            centroids: self.cells_for(rows),
            iterations: self.iterations.min(ITERATIONS_MAX),
            sample_per_centroid: self.sample_per_cell,
            spherical: false,
            seed: self.seed,
        }
    }

    /// The same for vectors of so many dimensions.
    pub(super) fn fitting(&self, dimensions: usize) -> Self {
        let is_short = dimensions < CODED_DIMENSIONS_MIN;
        let codes = if is_short { IvfCodes::Full } else { self.codes };
        Self { codes, ..self.clone() }
    }
}

impl IvfIndex {
    /// Builds an index of `rows`, with centroids from a random sample of them.
    ///
    /// Time: `O(rows * cells * dimensions)` multiply-adds of the blocked kernel for the
    /// assignment and about twice that for the training. The same seed gives the same index on
    /// any number of threads.
    ///
    /// # Errors
    ///
    /// [`IndexError::Cancelled`]; the errors of [`kernels`].
    pub fn build(
        metric: Metric,
        config: &IvfConfig,
        rows: &RowSet,
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<Self, IndexError> {
        Self::build_from_sample(metric, config, (&[], source), rows, source, job)
    }

    /// As [`IvfIndex::build`], with the centroids of other vectors: rows of a source of the same
    /// dimensions, of which at most `config.sample_per_cell` a cell are looked at. A sample that is
    /// empty, too small or clearly unlike the rows is not used: the centroids are those of the rows
    /// then.
    ///
    /// # Errors
    ///
    /// [`IndexError::Cancelled`]; [`IndexError::Dimensions`] when the sample has others; the
    /// errors of [`kernels`].
    pub fn build_from_sample(
        metric: Metric,
        config: &IvfConfig,
        sample: (&[RowId], &dyn VectorSource),
        rows: &RowSet,
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<Self, IndexError> {
        let (query, dimensions) = (sample.1.dimensions(), source.dimensions());
        if query != dimensions {
            return Err(IndexError::Dimensions { query, source: dimensions });
        }
        let (all, crew): (Vec<RowId>, _) = (rows.iter().collect(), job.crew());
        let mut meter = job.meter();
        let (mut begun, mut found) = (0.0, None);
        if !sample.0.is_empty() {
            begun = SAMPLED;
            let tell = |share| meter.tell(TRAINED * SAMPLED * share);
            let training = config.training(rows.len().max(sample.0.len()));
            found = training.train_for(metric, sample, (&all, source), &crew, tell)?;
        }
        let centroids = match found {
            Some(found) => found,
            None => {
                let tell = |share| meter.tell(TRAINED * (begun + (1.0 - begun) * share));
                config.training(rows.len()).train_in_frame(metric, &all, source, &crew, tell)?
            }
        };
        let config = &config.fitting(dimensions);
        let plan = Plan { metric, config, centroids: Arc::new(centroids), basis: Basis::None };
        plan.assemble(rows, source, job)
    }

    /// A new index of `rows`: those that this one has keep their cells, the others are assigned
    /// to the cells there are. Cells that grew too large are split, those that lost their rows
    /// are dropped, so that recall holds when the data drift away from the sample, and cost does
    /// when they grow. Codes are kept where a cell has the rows that it had.
    ///
    /// Time: `O(new rows * cells * dimensions)` for the assignment, a sort of the row numbers,
    /// and a copy of the codes.
    ///
    /// # Errors
    ///
    /// [`IndexError::Cancelled`]; [`IndexError::Dimensions`] when the source has others; the
    /// errors of [`kernels`].
    pub fn extend(
        &self,
        rows: &RowSet,
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<Self, IndexError> {
        let (query, dimensions) = (source.dimensions(), self.centroids.dimensions);
        if query != dimensions {
            return Err(IndexError::Dimensions { query, source: dimensions });
        }
        let fewer = self.config.cells_for(rows.len()).saturating_mul(SHRUNK) <= self.cells();
        let grown = self.row_set().len().saturating_mul(GROWN) <= rows.len();
        if self.cells() == 0 || fewer || grown {
            let anew = Self::build(self.metric, &self.config, rows, source, job)?;
            return Ok(anew.with_search(self.search));
        }
        let (metric, config, basis) = (self.metric, &self.config, Basis::Old(self));
        let centroids = Arc::clone(&self.centroids);
        Plan { metric, config, centroids, basis }.assemble(rows, source, job)
    }

    /// A new index of `rows` out of several: the largest lends its cells and codes as in
    /// [`IvfIndex::extend`], and the rows of the others are assigned to them. Those of another
    /// metric or other dimensions lend nothing.
    ///
    /// # Errors
    ///
    /// As [`IvfIndex::extend`].
    pub fn merge(
        &self,
        others: &[&Self],
        rows: &RowSet,
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<Self, IndexError> {
        let alike = |other: &&&Self| {
            let dimensions = other.centroids.dimensions == self.centroids.dimensions;
            dimensions && other.metric == self.metric
        };
        let size = |index: &Self| index.row_set().len();
        let mut largest = self;
        for other in others.iter().filter(alike) {
            if size(other) > size(largest) {
                largest = other;
            }
        }
        largest.extend(rows, source, job)
    }

    /// The rows that are also in `wanted`, with their cells.
    fn assigned(&self, wanted: &RowSet) -> (Vec<RowId>, Vec<Cells>) {
        let (mut rows, mut cells) = self.lists.assignments();
        let mut kept = rows.iter().map(|&row| wanted.contains(row));
        cells.retain(|_| kept.next().unwrap_or(false));
        rows.retain(|&row| wanted.contains(row));
        (rows, cells)
    }
}

/// What an index is built from.
pub(super) struct Plan<'a> {
    pub(super) metric: Metric,
    pub(super) config: &'a IvfConfig,
    pub(super) centroids: Arc<Centroids>,
    pub(super) basis: Basis<'a>,
}

/// What an index takes over.
pub(super) enum Basis<'a> {
    None,
    /// What holds of the index that is extended.
    Old(&'a IvfIndex),
    /// Cells, which stay as they are.
    Shared(&'a Arc<SharedCells>),
}

impl<'a> Plan<'a> {
    fn old(&self) -> Option<&'a IvfIndex> {
        if let Basis::Old(old) = self.basis { Some(old) } else { None }
    }

    fn shared(&self) -> Option<&'a Arc<SharedCells>> {
        if let Basis::Shared(cells) = self.basis { Some(cells) } else { None }
    }

    pub(super) fn assemble(
        mut self,
        wanted: &RowSet,
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<IvfIndex, IndexError> {
        let (kernels, crew, mut meter) = (kernels()?, job.crew(), job.meter());
        let second = self.config.second;
        let (mut rows, mut cells) = self.old().map(|old| old.assigned(wanted)).unwrap_or_default();
        let held: RowSet = rows.iter().copied().collect();
        let new: Vec<RowId> = wanted.iter().filter(|&row| !held.contains(row)).collect();
        let mut origins = Vec::new();
        if self.centroids.count() > 0 {
            let tell = |share| meter.tell(TRAINED + (ASSIGNED - TRAINED) * share);
            cells.extend(match self.shared() {
                Some(shared) => shared.assign(&new, source, kernels, &crew, tell)?,
                None => assign(&self.centroids, &new, source, second, kernels, &crew, tell)?,
            });
            rows.extend(new);
        }
        if self.centroids.count() > 0 && self.shared().is_none() {
            let count = self.config.cells_for(rows.len());
            let centroids = Arc::make_mut(&mut self.centroids);
            origins =
                rebalance(centroids, count, &rows, &mut cells, second, source, kernels, &crew)?;
        }
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        order.sort_unstable_by_key(|&at| rows[at as usize]);
        let sorted: Vec<RowId> = order.iter().map(|&at| rows[at as usize]).collect();
        let cells: Vec<Cells> = order.iter().map(|&at| cells[at as usize]).collect();
        let block = block_of(self.config.codes);
        let lists = Lists::new(&sorted, &cells, self.centroids.count(), block);
        let heritage = self.old().map(|index| Heritage { index, origins: &origins });
        let origin = Origin::of(self.metric, &self.centroids.frame);
        let (directory, store) = self.fill(&origin, &lists, wanted, heritage, source, &crew)?;
        meter.tell(1.0);
        let flat = FlatIndex::new(wanted.clone());
        let search = self.old().map_or(self.config.search, |old| old.search);
        let shared = self.shared().cloned();
        let (metric, config, centroids) = (self.metric, self.config.clone(), self.centroids);
        Ok(IvfIndex {
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

    fn fill(
        &self,
        origin: &Origin,
        lists: &Lists,
        rows: &RowSet,
        heritage: Option<Heritage<'_>>,
        source: &dyn VectorSource,
        crew: &Crew<'_>,
    ) -> Result<(Directory, Store), IndexError> {
        let (kernels, dimensions) = (kernels()?, self.centroids.dimensions);
        let points = origin.points(&self.centroids);
        let mut directory = Directory::new(Marks::new(points, dimensions, kernels), Vec::new());
        directory.radii = directory.measure(origin, lists, heritage, source, kernels, crew)?;
        if self.config.codes == IvfCodes::Full {
            if let Some(cells) = self.shared() {
                directory.marks = Arc::clone(cells.marks());
            }
            return Ok((directory, Store::Plain(PlainCells::new(lists, source, crew)?)));
        }
        let rotation = Rotation::new(dimensions, self.config.seed);
        let marks = match self.shared() {
            Some(cells) => Arc::clone(cells.marks()),
            None => {
                let points = &directory.marks.points;
                Arc::new(Marks::rotated(points, &rotation, origin.metric(), kernels)?)
            }
        };
        let points = &marks.points;
        let cells = BitCells::new(origin, rotation, points, lists, heritage, source, crew)?;
        let fine = if self.config.codes == IvfCodes::Refined && lists.cells() > 0 {
            let anchor = origin.anchor(&self.centroids, &cells.rotation)?;
            let old = heritage.and_then(|heritage| heritage.fine());
            FineRows::new(origin, &cells.rotation, anchor, rows, old, source, crew)?
        } else {
            None
        };
        Ok((Directory::new(marks, directory.radii), Store::Bits(cells, fine)))
    }
}
