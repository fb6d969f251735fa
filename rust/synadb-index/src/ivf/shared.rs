//! Cells that several inverted files share.

use std::sync::Arc;

use synadb_types::{RowId, RowSet};

use super::assign::{Cells, NO_CELL, ROWS_AT_ONCE};
use super::build::{Basis, Plan};
use super::origin::Origin;
use super::{IvfCodes, IvfConfig, IvfIndex, IvfSearch, Marks};
use crate::distance::{Kernels, Metric, kernels};
use crate::job::Crew;
use crate::kmeans::Centroids;
use crate::kmeans::assign::NONE;
use crate::kmeans::regions::Regions;
use crate::quantize::Rotation;
use crate::{Filter, IndexError, Job, Query, Scratch, TopK, VectorSource};

/// Centroids for several inverted files of like rows. To build one in them needs no training, and a
/// search of [several](IvfIndex::search_several) ranks the cells once.
#[derive(Debug)]
pub struct SharedCells {
    metric: Metric,
    config: IvfConfig,
    centroids: Arc<Centroids>,
    regions: Regions,
    /// The centroids as searches see them.
    marks: Arc<Marks>,
}

impl SharedCells {
    /// Finds centroids of some rows, as [`IvfIndex::build`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn of(
        metric: Metric,
        config: &IvfConfig,
        rows: &RowSet,
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<Self, IndexError> {
        let (rows, crew): (Vec<RowId>, _) = (rows.iter().collect(), job.crew());
        let mut meter = job.meter();
        let config = config.fitting(source.dimensions());
        let training = config.training(rows.len());
        let tell = |share| meter.tell(share);
        let mut centroids = training.train_in_frame(metric, &rows, source, &crew, tell)?;
        let kernels = kernels()?;
        let regions = Regions::of(&mut centroids, kernels, &crew)?;
        let origin = Origin::of(metric, &centroids.frame);
        let points = origin.points(&centroids);
        let marks = match config.codes {
            IvfCodes::Full => Marks::new(points, centroids.dimensions, kernels),
            IvfCodes::Bits | IvfCodes::Refined => {
                let rotation = Rotation::new(centroids.dimensions, config.seed);
                Marks::rotated(&points, &rotation, origin.metric(), kernels)?
            }
        };
        let (centroids, marks) = (Arc::new(centroids), Arc::new(marks));
        Ok(Self { metric, config, centroids, regions, marks })
    }

    /// Bytes that the cells hold, without what is in them.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let centroids = self.centroids.points.len() * size_of::<f32>();
        centroids + self.regions.memory_bytes() + self.marks.memory_bytes()
    }

    pub(super) fn marks(&self) -> &Arc<Marks> {
        &self.marks
    }

    /// The cell of each row.
    pub(super) fn assign(
        &self,
        rows: &[RowId],
        source: &dyn VectorSource,
        kernels: &'static Kernels,
        crew: &Crew<'_>,
        mut progress: impl FnMut(f32),
    ) -> Result<Vec<Cells>, IndexError> {
        let mut cells = Vec::with_capacity(rows.len());
        let mut near = vec![NONE; rows.len().min(ROWS_AT_ONCE)];
        for rows_now in rows.chunks(ROWS_AT_ONCE) {
            let codes = self.centroids.frame.encode(rows_now, source, kernels, crew)?;
            let near = &mut near[..rows_now.len()];
            near.fill(NONE);
            self.regions.nearest(&codes, kernels, crew, near)?;
            // Each row has one; a cell that is not there would be one beyond the last.
            let cell = |cell: u32| if cell == NONE.cell { 0 } else { cell };
            cells.extend(near.iter().map(|near| [cell(near.cell), NO_CELL]));
            progress(cells.len() as f32 / rows.len() as f32);
        }
        Ok(cells)
    }
}

/// One of several inverted files that are searched for the same query.
pub struct IvfPart<'a> {
    /// The file.
    pub index: &'a IvfIndex,
    /// How much of it to look at.
    pub search: IvfSearch,
    /// The rows that may be found.
    pub filter: &'a Filter,
    /// Where its rows are read.
    pub source: &'a dyn VectorSource,
}

impl IvfIndex {
    /// Builds an index of rows in shared cells, the nearest of each row mostly; `config.cells`,
    /// seeds and codes are those of the cells. No cell is split or dropped: see
    /// [`IvfIndex::crowding`].
    ///
    /// Time: `O(rows * sqrt(cells) * dimensions)` multiply-adds where no group of cells is much larger
    /// than the others, and the codes.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when the source has others; as [`IvfIndex::build`].
    pub fn build_in(
        cells: &Arc<SharedCells>,
        rows: &RowSet,
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<Self, IndexError> {
        let (query, dimensions) = (source.dimensions(), cells.centroids.dimensions);
        if query != dimensions {
            return Err(IndexError::Dimensions { query, source: dimensions });
        }
        let (metric, config, basis) = (cells.metric, &cells.config, Basis::Shared(cells));
        let centroids = Arc::clone(&cells.centroids);
        Plan { metric, config, centroids, basis }.assemble(rows, source, job)
    }

    /// The cells that it shares with others.
    #[must_use]
    pub fn shared_cells(&self) -> Option<&Arc<SharedCells>> {
        self.shared.as_ref()
    }

    /// How much larger the cell of a row is on average than the average cell: 1 where all are
    /// alike, more the more unlike the rows are to those that the centroids were found of.
    #[must_use]
    pub fn crowding(&self) -> f64 {
        let rows: f64 = self.lists.counts.iter().map(|&count| f64::from(count)).sum();
        let squares: f64 = self.lists.counts.iter().map(|&count| f64::from(count).powi(2)).sum();
        if rows > 0.0 { squares / rows * self.cells() as f64 / rows } else { 1.0 }
    }

    /// Searches several indexes for one query, one after the other: what one has found bounds the
    /// search of the next, and those that follow one in the same cells take its ranking over.
    ///
    /// # Errors
    ///
    /// As [`IvfIndex::search_with`].
    pub fn search_several(
        parts: &[IvfPart<'_>],
        query: &Query,
        scratch: &mut Scratch,
        out: &mut TopK,
    ) -> Result<(), IndexError> {
        scratch.ivf.ranked = None;
        for part in parts {
            let (search, filter, source) = (part.search, part.filter, part.source);
            part.index.search_next(search, query, filter, source, scratch, out)?;
        }
        scratch.ivf.ranked = None;
        Ok(())
    }
}
