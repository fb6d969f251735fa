//! k-means on a sample of rows.

pub(crate) mod assign;
pub(crate) mod codes;
pub(crate) mod dots;
pub(crate) mod frame;
pub(crate) mod regions;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::random::Random;
use assign::{NONE, Near, nearest};
use codes::{Panels, RowCodes};
use dots::tile_kernel;
use frame::Frame;
use synadb_types::RowId;

use crate::distance::{Kernels, Metric, kernels};
use crate::job::Crew;
use crate::{IndexError, Job, VectorSource};

/// The first rounds look at a part of the sample; this many rows a centroid at least.
const ROWS_PER_CENTROID_MIN: usize = 12;
/// Rows may be so many times as far (squared) from the centroids of a sample as from the means of
/// the cells that other rows make of these. Of twenty vectors a centroid that are like the rows it
/// was .95, of such as lie elsewhere, lack half of the groups or are very few 1.25 to 12,000.
const SUITED: f64 = 1.05;
/// Centroids whose means a worker computes at once.
const PIECE_CENTROIDS: usize = 32;

/// How to find centroids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KMeans {
    /// Number of centroids; no more are made than there are rows in the sample.
    pub centroids: usize,
    /// Rounds of Lloyd's algorithm.
    pub iterations: usize,
    /// Rows of the sample for each centroid.
    pub sample_per_centroid: usize,
    /// Keeps the centroids at unit length (spherical k-means: Dhillon and Modha 2001); meant for
    /// the cosine.
    pub spherical: bool,
    /// Seed of the sample and of the first centroids.
    pub seed: u64,
}

impl Default for KMeans {
    fn default() -> Self {
        Self { centroids: 256, iterations: 6, sample_per_centroid: 64, spherical: false, seed: 0 }
    }
}

impl KMeans {
    /// Finds centroids of `rows` (Lloyd's algorithm from random rows as first centroids).
    ///
    /// The result holds the centroids side by side, `source.dimensions()` `f32` each: at the
    /// cosine the means of vectors of unit length, else means of the vectors. There are fewer
    /// than asked for when the sample has fewer rows. A centroid that loses all its rows takes
    /// half of those of the largest one. The same seed and kernel level give the same bytes, on
    /// any number of threads.
    ///
    /// Time: about a third of `iterations * sample * centroids * dimensions` multiply-adds of the
    /// blocked kernel (the first rounds look at a part of the sample); memory: two bytes a
    /// component of the sample.
    ///
    /// # Errors
    ///
    /// [`IndexError::Cancelled`]; the errors of [`kernels`].
    pub fn train(
        &self,
        metric: Metric,
        rows: &[RowId],
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<Vec<f32>, IndexError> {
        let mut meter = job.meter();
        let trained = self.train_in_frame(metric, rows, source, &job.crew(), |share| {
            meter.tell(share);
        })?;
        Ok(trained.leave())
    }

    pub(crate) fn train_in_frame(
        &self,
        metric: Metric,
        rows: &[RowId],
        source: &dyn VectorSource,
        crew: &Crew<'_>,
        mut progress: impl FnMut(f32),
    ) -> Result<Centroids, IndexError> {
        let kernels = kernels()?;
        let sample = self.drawn(rows);
        let frame = Frame::of(metric, &sample, source);
        let codes = frame.encode(&sample, source, kernels, crew)?;
        let dimensions = source.dimensions();
        let mut lloyd = Lloyd::new(&codes, self.centroids, dimensions, kernels);
        let spherical = self.spherical.then_some(&frame);
        for round in 0..self.iterations {
            lloyd.round(share_of_round(round, self.iterations), spherical, crew)?;
            progress((round + 1) as f32 / self.iterations as f32);
        }
        Ok(Centroids { frame, points: lloyd.points, dimensions })
    }

    /// The rows that a training looks at, in random order.
    fn drawn(&self, rows: &[RowId]) -> Vec<RowId> {
        let mut sample = rows.to_vec();
        let count = self.centroids.saturating_mul(self.sample_per_centroid.max(1));
        let count = count.min(sample.len());
        Random::new(self.seed).draw(&mut sample, count);
        sample.truncate(count);
        sample
    }

    /// The centroids of a sample, in the frame of the rows that they are for: that of vectors that
    /// lie elsewhere would cost the codes of rows their digits. None where the sample is unlike the
    /// rows: where a round of the algorithm brings its centroids nearer to them.
    ///
    /// Time: three passes over as many rows as a training looks at, beside the training.
    pub(crate) fn train_for(
        &self,
        metric: Metric,
        (sample, from): (&[RowId], &dyn VectorSource),
        (rows, source): (&[RowId], &dyn VectorSource),
        crew: &Crew<'_>,
        progress: impl FnMut(f32),
    ) -> Result<Option<Centroids>, IndexError> {
        let trained = self.train_in_frame(metric, sample, from, crew, progress)?;
        let rows = self.drawn(rows);
        let trained = trained.moved_to(Frame::of(metric, &rows, source));
        Ok(trained.suit(&rows, source, crew)?.then_some(trained))
    }
}

/// The part of the sample that a round looks at: a quarter, a half in the last but one, all in
/// the last. Early rounds move centroids far, which a few rows show as well as many.
fn share_of_round(round: usize, rounds: usize) -> f64 {
    match rounds - round {
        1 => 1.0,
        2 => 0.5,
        _ => 0.25,
    }
}

/// Centroids in the frame that they were found in.
#[derive(Debug, Clone)]
pub(crate) struct Centroids {
    pub(crate) frame: Frame,
    pub(crate) points: Vec<f32>,
    pub(crate) dimensions: usize,
}

impl Centroids {
    pub(crate) fn count(&self) -> usize {
        self.points.len() / self.dimensions.max(1)
    }

    pub(crate) fn point(&self, cell: u32) -> &[f32] {
        &self.points[cell as usize * self.dimensions..][..self.dimensions]
    }

    /// The same centroids in another frame.
    fn moved_to(self, frame: Frame) -> Self {
        let (points, dimensions) = (self.leave(), self.dimensions);
        let mut moved = vec![0.0; points.len()];
        let width = dimensions.max(1);
        for (out, point) in moved.chunks_mut(width).zip(points.chunks(width)) {
            frame.enter_scaled(point, 1.0, out);
        }
        Self { frame, points: moved, dimensions }
    }

    /// Whether half of the rows are not much nearer to the means of the cells that the other half
    /// makes than to the centroids: the means of few rows are near to these, and say nothing.
    fn suit(
        &self,
        rows: &[RowId],
        source: &dyn VectorSource,
        crew: &Crew<'_>,
    ) -> Result<bool, IndexError> {
        let (kernels, dimensions) = (kernels()?, self.dimensions);
        let (half, rest) = rows.split_at(rows.len() / 2);
        let half = self.frame.encode(half, source, kernels, crew)?;
        let (points, near) = (self.points.clone(), Vec::new());
        let mut moved = Lloyd { codes: &half, kernels, dimensions, points, near };
        moved.round(1.0, None, crew)?;
        let codes = &self.frame.encode(rest, source, kernels, crew)?;
        let (points, near) = (self.points.clone(), Vec::new());
        let before = Lloyd { codes, kernels, dimensions, points, near }.error(crew)?;
        let (points, near) = (moved.points, Vec::new());
        let after = Lloyd { codes, kernels, dimensions, points, near }.error(crew)?;
        Ok(before <= SUITED * after)
    }

    /// The centroids in the coordinates of the vectors.
    pub(crate) fn leave(&self) -> Vec<f32> {
        let mut vectors = vec![0.0; self.points.len()];
        let width = self.dimensions.max(1);
        for (out, point) in vectors.chunks_mut(width).zip(self.points.chunks(width)) {
            self.frame.leave(point, out);
        }
        vectors
    }
}

/// Lloyd's algorithm over codes.
pub(crate) struct Lloyd<'a> {
    codes: &'a RowCodes,
    kernels: &'static Kernels,
    dimensions: usize,
    pub(crate) points: Vec<f32>,
    near: Vec<[Near; 1]>,
}

impl<'a> Lloyd<'a> {
    /// Begins with the first rows as centroids: the rows are in random order.
    pub(crate) fn new(
        codes: &'a RowCodes,
        centroids: usize,
        dimensions: usize,
        kernels: &'static Kernels,
    ) -> Self {
        let centroids = centroids.min(codes.count());
        let mut points = vec![0.0; centroids * dimensions];
        for (row, point) in points.chunks_mut(dimensions.max(1)).enumerate() {
            codes.add_to(row, point);
        }
        Self { codes, kernels, dimensions, points, near: Vec::new() }
    }

    /// Assigns a share of the rows and moves the centroids to the means of theirs.
    pub(crate) fn round(
        &mut self,
        share: f64,
        spherical: Option<&Frame>,
        crew: &Crew<'_>,
    ) -> Result<(), IndexError> {
        if self.points.is_empty() {
            return Ok(());
        }
        let centroids = self.points.len() / self.dimensions;
        let rows = (self.codes.count() as f64 * share) as usize;
        let rows = rows.max(centroids * ROWS_PER_CENTROID_MIN).min(self.codes.count());
        self.assign(rows, crew)?;
        let mut groups = Groups::new(&self.near, centroids);
        groups.fill_empty(self.codes, &self.near);
        let width = PIECE_CENTROIDS * self.dimensions;
        let pieces = self.points.chunks_mut(width).enumerate().collect();
        crew.each(pieces, |(piece, points): (usize, &mut [f32])| {
            for (at, point) in points.chunks_mut(self.dimensions).enumerate() {
                let members = groups.of(piece * PIECE_CENTROIDS + at);
                mean(self.codes, members, point);
                if let Some(frame) = spherical {
                    frame.to_unit(point);
                }
            }
            Ok(())
        })
    }

    /// Sum of the squared distances of all rows from their nearest centroids.
    fn error(&mut self, crew: &Crew<'_>) -> Result<f64, IndexError> {
        let codes = self.codes;
        let near = self.assign(codes.count(), crew)?.iter().enumerate();
        Ok(near.map(|(row, [near])| f64::from(near.key + codes.squared_norm(row))).sum())
    }

    /// Finds the nearest centroid of the first rows.
    pub(crate) fn assign(
        &mut self,
        rows: usize,
        crew: &Crew<'_>,
    ) -> Result<&[[Near; 1]], IndexError> {
        let panels = Panels::pack(&self.points, self.dimensions, self.kernels);
        let kernel = tile_kernel(self.kernels.level);
        self.near.clear();
        self.near.resize(rows, [NONE]);
        nearest(self.codes, 0..rows, &panels, kernel, crew, &mut self.near)?;
        Ok(&self.near)
    }
}

fn mean(codes: &RowCodes, members: &[u32], out: &mut [f32]) {
    if members.is_empty() {
        return;
    }
    out.fill(0.0);
    for &row in members {
        codes.add_to(row as usize, out);
    }
    let inverse = 1.0 / members.len() as f32;
    out.iter_mut().for_each(|sum| *sum *= inverse);
}

/// Rows by centroid, each group in row order, so that sums do not depend on threads.
struct Groups {
    ranges: Vec<Range<usize>>,
    members: Vec<u32>,
}

impl Groups {
    fn new(near: &[[Near; 1]], centroids: usize) -> Self {
        let mut ranges = vec![0..0; centroids];
        for [nearest] in near {
            ranges[nearest.cell as usize].end += 1;
        }
        let mut start = 0;
        for range in &mut ranges {
            // Empty ranges that grow as their rows arrive.
            (*range, start) = (start..start, start + range.end);
        }
        let mut members = vec![0; near.len()];
        for (row, [nearest]) in near.iter().enumerate() {
            let range = &mut ranges[nearest.cell as usize];
            members[range.end] = row as u32;
            range.end += 1;
        }
        Self { ranges, members }
    }

    fn of(&self, cell: usize) -> &[u32] {
        &self.members[self.ranges[cell].clone()]
    }

    /// Gives each centroid without rows half of the largest group, cut across the direction of
    /// its farthest member.
    fn fill_empty(&mut self, codes: &RowCodes, near: &[[Near; 1]]) {
        for cell in 0..self.ranges.len() {
            if !self.ranges[cell].is_empty() {
                continue;
            }
            let largest = (0..self.ranges.len())
                .max_by_key(|&other| (self.ranges[other].len(), std::cmp::Reverse(other)))
                .expect("there is a centroid");
            let range = self.ranges[largest].clone();
            if range.len() < 2 {
                return;
            }
            let members = &mut self.members[range.clone()];
            cut(codes, near, members);
            let middle = range.start.midpoint(range.end);
            self.ranges[largest].end = middle;
            self.ranges[cell] = middle..range.end;
        }
    }
}

/// Orders members by how far they reach towards the one farthest from the centroid.
fn cut(codes: &RowCodes, near: &[[Near; 1]], members: &mut [u32]) {
    let distance = |&row: &u32| near[row as usize][0].key + codes.squared_norm(row as usize);
    let farthest = members.iter().max_by(|a, b| distance(a).total_cmp(&distance(b)));
    let farthest = codes.vector(*farthest.expect("the group has members") as usize);
    let mut keyed: Vec<(f32, u32)> =
        members.iter().map(|&row| (codes.dot(row as usize, &farthest), row)).collect();
    keyed.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    for (member, (_, row)) in members.iter_mut().zip(keyed) {
        *member = row;
    }
}
