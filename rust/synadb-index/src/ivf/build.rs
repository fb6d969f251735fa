//! Building an inverted file, and a new one from an old one and new rows.

use synadb_types::{RowId, RowSet};

use super::assign::{Cells, assign};
use super::balance::rebalance;
use super::bits::{BitCells, rotate_all};
use super::{Directory, IvfCodes, IvfConfig, IvfIndex, Lists, PlainCells, Store, block_of};
use crate::distance::{Metric, kernels};
use crate::flat::FlatIndex;
use crate::kmeans::Centroids;
use crate::quantize::Rotation;
use crate::{IndexError, Job, KMeans, VectorSource};

/// Shares of the work, as measured: training, then assignment, then the rest.
const TRAINED: f32 = 0.55;
const ASSIGNED: f32 = 0.9;

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
        let sample: Vec<RowId> = rows.iter().collect();
        Self::build_from_sample(metric, config, (&sample, source), rows, source, job)
    }

    /// As [`IvfIndex::build`], with the centroids of other vectors: rows of a source of the same
    /// dimensions, of which at most `config.sample_per_cell` a cell are looked at. An empty
    /// sample stands for the rows themselves.
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
        let mut meter = job.meter();
        let training = KMeans {
            centroids: config.cells_for(rows.len().max(sample.0.len())),
            iterations: config.iterations,
            sample_per_centroid: config.sample_per_cell,
            spherical: false,
            seed: config.seed,
        };
        let tell = |share| meter.tell(TRAINED * share);
        let all: Vec<RowId>;
        let (sample, from) = if sample.0.is_empty() {
            all = rows.iter().collect();
            (all.as_slice(), source)
        } else {
            sample
        };
        let centroids = training.train_in_frame(metric, sample, from, &job.crew(), tell)?;
        let old = (Vec::new(), Vec::new());
        Self::assemble(metric, config, centroids, old, rows, source, job)
    }

    /// A new index of `rows`: those that this one has keep their cells, the others are assigned
    /// to the cells there are. Cells that grew too large are split, those that lost their rows
    /// are dropped, so that recall holds when the data drift away from the sample.
    ///
    /// Time: `O(new rows * cells * dimensions)` for the assignment, and one pass over all rows.
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
        if self.cells() == 0 {
            return Self::build(self.metric, &self.config, rows, source, job);
        }
        let (mut old, mut cells) = self.lists.assignments();
        let mut kept = old.iter().map(|&row| rows.contains(row));
        cells.retain(|_| kept.next().unwrap_or(false));
        old.retain(|&row| rows.contains(row));
        let centroids = self.centroids.clone();
        Self::assemble(self.metric, &self.config, centroids, (old, cells), rows, source, job)
    }

    fn assemble(
        metric: Metric,
        config: &IvfConfig,
        mut centroids: Centroids,
        (mut rows, mut cells): (Vec<RowId>, Vec<Cells>),
        wanted: &RowSet,
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<Self, IndexError> {
        let (kernels, crew, mut meter) = (kernels()?, job.crew(), job.meter());
        let second = config.second;
        let held: RowSet = rows.iter().copied().collect();
        let new: Vec<RowId> = wanted.iter().filter(|&row| !held.contains(row)).collect();
        if centroids.count() > 0 {
            let tell = |share| meter.tell(TRAINED + (ASSIGNED - TRAINED) * share);
            cells.extend(assign(&centroids, &new, source, second, kernels, &crew, tell)?);
            rows.extend(new);
            rebalance(&mut centroids, &rows, &mut cells, second, source, kernels, &crew)?;
        }
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        order.sort_unstable_by_key(|&at| rows[at as usize]);
        let sorted: Vec<RowId> = order.iter().map(|&at| rows[at as usize]).collect();
        let cells: Vec<Cells> = order.iter().map(|&at| cells[at as usize]).collect();
        let lists = Lists::new(&sorted, &cells, centroids.count(), block_of(config.codes));
        let points = centroids.leave();
        let mut directory = Directory::new(points, centroids.dimensions, Vec::new(), kernels);
        directory.radii = directory.measure(metric, &lists, source, kernels);
        let (directory, store) = if config.codes == IvfCodes::Bits {
            let rotation = Rotation::new(centroids.dimensions, config.seed);
            let points = rotate_all(&rotation, &directory.points)?;
            let cells = BitCells::new(metric, rotation, &points, &lists, source, &crew)?;
            let padded = cells.rotation.padded();
            let directory =
                Directory::new(points, padded, directory.radii, kernels).with_codes(metric);
            (directory, Store::Bits(cells))
        } else {
            let cells = PlainCells::new(&lists, source, &crew)?;
            (directory, Store::Plain(cells))
        };
        meter.tell(1.0);
        let flat = FlatIndex::new(wanted.clone());
        Ok(Self { metric, config: config.clone(), flat, centroids, directory, lists, store })
    }
}
