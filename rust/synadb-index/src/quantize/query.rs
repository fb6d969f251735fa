//! A query prepared for codes.

use super::bits::{GROUP, GROUP_BYTES};
use super::factors::{dot, squared_distance};
use super::{Anchor, CodeKernels, Factors, Rotation, Space, Terms};
use crate::{IndexError, Metric, Query, SimdLevel};

/// Root mean square of the coordinates of grid points, taken high.
const BYTES_SIZE: f32 = 64.0;
const NIBBLES_SIZE: f32 = 8.0;
/// What a few roundings of a number come to, relative to it.
pub(crate) const ROUNDING: f32 = 8.0 * f32::EPSILON;
/// Squared lengths in this range have their digits in `f32`.
const SQUARED_RANGE: std::ops::RangeInclusive<f32> = 1e-30..=1e30;

/// An estimated key and its bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The estimate.
    pub key: f32,
    /// What the key exceeds with the likelihood that was asked for.
    pub lower: f32,
}

/// A query rotated and rounded for every kind of code.
///
/// Making one costs O(d log d) for the rotation and O(4 d) for the table of the one-bit codes.
#[derive(Debug, Clone)]
pub struct CodeQuery {
    space: Space,
    /// Key of a row at the origin.
    base: f32,
    epsilon: f32,
    level: SimdLevel,
    kernels: &'static CodeKernels,
    rotated: Vec<f32>,
    squared_norm: f32,
    is_reliable: bool,
    /// True when `rotated` is what remains beside a common anchor.
    is_centered: bool,
    pub(super) table: Vec<u8>,
    /// `S` of a sum of table numbers is `sum * scale + offset`, less or more than `slack`.
    pub(super) scale: f32,
    pub(super) offset: f32,
    pub(super) slack: f32,
    bytes: Vec<i8>,
    bytes_sum: i32,
    bytes_scale: f32,
    bytes_slack: f32,
}

impl CodeQuery {
    /// Prepares a query, with kernels of the level that the query's own have. The bounds of its
    /// estimates allow for errors of `epsilon` standard deviations: 2 for most rows, 3 for nearly
    /// all.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when the rotation has other dimensions.
    pub fn new(query: &Query, rotation: &Rotation, epsilon: f32) -> Result<Self, IndexError> {
        let kernels = CodeKernels::for_level(query.kernels().level)?;
        Self::with_kernels(query, rotation, epsilon, kernels)
    }

    /// Prepares a query that uses the kernels given.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when the rotation has other dimensions.
    pub fn with_kernels(
        query: &Query,
        rotation: &Rotation,
        epsilon: f32,
        kernels: &'static CodeKernels,
    ) -> Result<Self, IndexError> {
        let mut prepared = Self::unset(query.kernels().level, kernels);
        prepared.reset(query, rotation, epsilon)?;
        Ok(prepared)
    }

    /// Memory for a query that `reset`, or one like it, prepares.
    pub(crate) fn unset(level: SimdLevel, kernels: &'static CodeKernels) -> Self {
        Self {
            space: Space::Distance,
            base: 0.0,
            epsilon: 0.0,
            level,
            kernels,
            rotated: Vec::new(),
            squared_norm: 0.0,
            is_reliable: false,
            is_centered: false,
            table: Vec::new(),
            scale: 0.0,
            offset: 0.0,
            slack: 0.0,
            bytes: Vec::new(),
            bytes_sum: 0,
            bytes_scale: 0.0,
            bytes_slack: 0.0,
        }
    }

    /// Replaces the query and keeps kernels and memory.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when the rotation has other dimensions; what was prepared is
    /// then as before.
    pub fn reset(
        &mut self,
        query: &Query,
        rotation: &Rotation,
        epsilon: f32,
    ) -> Result<(), IndexError> {
        self.rotate(query, None, rotation, epsilon)?;
        self.fill();
        Ok(())
    }

    /// As [`CodeQuery::reset_moved`], for rows in one bit alone: there are no [`CodeQuery::bytes`].
    ///
    /// # Errors
    ///
    /// As [`CodeQuery::reset`].
    pub fn reset_moved_bits(
        &mut self,
        query: &Query,
        moved: &[f32],
        rotation: &Rotation,
        epsilon: f32,
    ) -> Result<(), IndexError> {
        self.rotate(query, Some(moved), rotation, epsilon)?;
        self.fill_table();
        self.bytes.clear();
        Ok(())
    }

    /// As [`CodeQuery::reset`], for rows that were moved and are compared by their squared
    /// distances there, in [`Space::Distance`]; `moved` is the query in their place.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when the rotation has other dimensions; what was prepared is
    /// then as before.
    pub fn reset_moved(
        &mut self,
        query: &Query,
        moved: &[f32],
        rotation: &Rotation,
        epsilon: f32,
    ) -> Result<(), IndexError> {
        self.rotate(query, Some(moved), rotation, epsilon)?;
        self.fill();
        Ok(())
    }

    /// As [`CodeQuery::reset`], for rows coded relative to one common anchor alone. What the query
    /// shares with the anchor is kept out of the rounding; [`CodeQuery::rotated`] is the rest.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when the rotation has other dimensions; what was prepared is
    /// then as before.
    ///
    /// # Panics
    ///
    /// Panics when the anchor is not common or has another length.
    pub fn reset_at(
        &mut self,
        query: &Query,
        rotation: &Rotation,
        anchor: &Anchor,
        epsilon: f32,
    ) -> Result<Terms, IndexError> {
        assert!(anchor.is_common(), "a query is relative to a common anchor only");
        assert_eq!(anchor.vector().len(), rotation.padded(), "the anchor is a rotated vector");
        self.rotate(query, None, rotation, epsilon)?;
        let mut terms = self.terms_at(anchor);
        let part = if self.space == Space::Distance { 1.0 } else { terms.gain };
        for (value, &anchor) in self.rotated.iter_mut().zip(anchor.vector()) {
            *value -= part * anchor;
        }
        let rest = dot(&self.rotated, &self.rotated);
        terms.error = epsilon * rest.sqrt();
        self.is_centered = true;
        self.fill();
        Ok(terms)
    }

    fn rotate(
        &mut self,
        query: &Query,
        moved: Option<&[f32]>,
        rotation: &Rotation,
        epsilon: f32,
    ) -> Result<(), IndexError> {
        let dimensions = moved.map_or(query.dimensions(), <[f32]>::len);
        let source = rotation.dimensions();
        if dimensions != source {
            return Err(IndexError::Dimensions { query: dimensions, source });
        }
        let padded = rotation.padded();
        self.space = if moved.is_some() { Space::Distance } else { Space::of(query.metric()) };
        let is_cosine = self.space == Space::Product && query.metric() == Metric::Cosine;
        self.base = if is_cosine { 1.0 } else { 0.0 };
        self.epsilon = epsilon;
        self.level = query.kernels().level;
        self.rotated.resize(padded, 0.0);
        let own = if self.space == Space::Distance { query.values() } else { query.unit() };
        rotation.rotate(self.kernels, moved.unwrap_or(own), 1.0, &mut self.rotated);
        self.squared_norm = dot(&self.rotated, &self.rotated);
        self.is_reliable = self.rotated.iter().all(|&value| value == 0.0)
            || SQUARED_RANGE.contains(&self.squared_norm);
        self.is_centered = false;
        Ok(())
    }

    fn fill(&mut self) {
        self.fill_table();
        self.bytes.resize(self.rotated.len(), 0);
        self.bytes_scale = (self.kernels.fill_bytes)(&self.rotated, |step| step, &mut self.bytes);
        self.bytes_sum = self.bytes.iter().map(|&byte| i32::from(byte)).sum();
        let dimensions = self.rotated.len() as f32;
        self.bytes_slack = self.epsilon * self.bytes_scale * (dimensions / 12.0).sqrt();
    }

    fn fill_table(&mut self) {
        let groups = self.rotated.len() / GROUP;
        self.table.resize(groups * GROUP_BYTES, 0);
        let filled = (self.kernels.fill_table)(&self.rotated, &mut self.table);
        self.scale = 2.0 * filled.step;
        self.offset = 2.0 * filled.least - filled.all;
        self.slack = self.epsilon * self.scale * (groups as f32 / 12.0).sqrt();
    }

    /// The kernels that it was made for.
    #[must_use]
    pub fn kernels(&self) -> &'static CodeKernels {
        self.kernels
    }

    /// Level of the kernels of the query that it was made of.
    pub(crate) fn level(&self) -> SimdLevel {
        self.level
    }

    /// The rotated query: at unit length but for the euclidean metric.
    #[must_use]
    pub fn rotated(&self) -> &[f32] {
        &self.rotated
    }

    /// Its length squared.
    #[must_use]
    pub fn squared_norm(&self) -> f32 {
        self.squared_norm
    }

    /// The rotated query in eight bits, and what one step is worth.
    #[must_use]
    pub fn bytes(&self) -> (&[i8], f32) {
        (&self.bytes, self.bytes_scale)
    }

    /// True when `f32` holds the query's keys with their digits. Without that the estimates say
    /// nothing, and rows are to be compared exactly.
    #[must_use]
    pub fn is_reliable(&self) -> bool {
        self.is_reliable
    }

    /// What the query and an anchor contribute to the estimates of its rows. O(padded).
    ///
    /// # Panics
    ///
    /// Panics for a common anchor and for a query of [`CodeQuery::reset_at`], whose terms that
    /// gives.
    #[must_use]
    pub fn terms(&self, anchor: &Anchor) -> Terms {
        assert!(!anchor.is_common() && !self.is_centered, "a common anchor takes its own queries");
        self.terms_at(anchor)
    }

    fn terms_at(&self, anchor: &Anchor) -> Terms {
        match self.space {
            Space::Distance => {
                let add = squared_distance(&self.rotated, anchor.vector());
                Terms { add, gain: 1.0, error: self.epsilon * add.sqrt() }
            }
            Space::Product => {
                let dot = dot(&self.rotated, anchor.vector());
                self.terms_of(dot, anchor.squared_norm())
            }
        }
    }

    /// As [`CodeQuery::terms`], from the inner product with the anchor and its squared length.
    #[must_use]
    pub fn terms_of(&self, dot: f32, squared_norm: f32) -> Terms {
        match self.space {
            Space::Distance => {
                let add = (self.squared_norm - 2.0 * dot + squared_norm).max(0.0);
                Terms { add, gain: 1.0, error: self.epsilon * add.sqrt() }
            }
            Space::Product => {
                // The part of the query along the anchor meets an exact sum of the row, and only
                // the rest meets the grid point.
                let sound = SQUARED_RANGE.contains(&squared_norm);
                let gain = if sound { dot / squared_norm } else { 0.0 };
                let rest = (self.squared_norm - gain * dot).max(0.0);
                Terms { add: self.base - dot, gain, error: self.epsilon * rest.sqrt() }
            }
        }
    }

    /// About what rounding alone adds to the estimate of a near row, or takes from it. Bounds of
    /// different rows tell nothing where they differ by less.
    #[must_use]
    pub fn rounding(&self, terms: &Terms, anchor: &Anchor) -> f32 {
        let size = match self.space {
            Space::Distance => terms.add + (terms.add * self.squared_norm).sqrt(),
            Space::Product => self.base + terms.add.abs() + anchor.squared_norm().sqrt(),
        };
        ROUNDING * size
    }

    /// The key of a row in four bits from `dot`, the inner product of its nibbles with
    /// [`CodeQuery::bytes`].
    #[must_use]
    pub fn estimate_nibbles(&self, dot: i32, factors: &Factors, terms: &Terms) -> Estimate {
        // A nibble stands for twice its number less 15.
        let of_grid = 2 * dot - 15 * self.bytes_sum;
        self.estimate(of_grid, self.bytes_slack * NIBBLES_SIZE, factors, terms)
    }

    /// As [`CodeQuery::estimate_nibbles`] for a row in eight bits, from the inner product of its
    /// grid point.
    #[must_use]
    pub fn estimate_bytes(&self, dot: i32, factors: &Factors, terms: &Terms) -> Estimate {
        self.estimate(dot, self.bytes_slack * BYTES_SIZE, factors, terms)
    }

    fn estimate(&self, dot: i32, slack: f32, factors: &Factors, terms: &Terms) -> Estimate {
        let sum = dot as f32 * self.bytes_scale;
        let key = terms.add + terms.gain * factors.add + factors.slope * sum;
        let lower = key + factors.slope * slack - factors.error * terms.error;
        Estimate { key, lower }
    }
}
