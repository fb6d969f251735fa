//! Four bits a dimension of every row: they put candidates in order before vectors are read.

use synadb_types::{RowId, RowSet};

use super::bytes::Bytes;
use super::origin::Origin;
use crate::distance::prefetch_bytes;
use crate::job::Crew;
use crate::quantize::{
    Anchor, CodeQuery, FACTORS_BYTES, Factors, Rotation, Terms, code_kernels, encode_nibbles,
    nibbles_bytes,
};
use crate::{IndexError, VectorSource};

/// Rows coded by one call of a worker.
const PIECE_ROWS: usize = 1024;
/// The codes of all rows between the first and the last may have room for so many times the rows
/// that there are.
const SPREAD_MAX: usize = 2;

/// Codes by row number, relative to one anchor: `padded / 2 + 12` bytes a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FineRows {
    first: u32,
    record_bytes: usize,
    pub(super) anchor: Anchor,
    /// Code and factors of each row; zeros where a row is not in the index.
    pub(super) records: Bytes,
}

impl FineRows {
    /// The first row, and the rows from there to the last: none when most of them are not in the
    /// index.
    fn span(rows: &RowSet) -> Option<(u32, usize)> {
        let first = rows.iter().next()?.0;
        let count = (rows.extent() - first) as usize;
        (count <= rows.len().saturating_mul(SPREAD_MAX)).then_some((first, count))
    }

    /// Codes rows, those apart that `old` holds; none when they lie too far apart.
    /// O(d log d) a row.
    pub(super) fn new(
        origin: &Origin,
        rotation: &Rotation,
        anchor: Anchor,
        rows: &RowSet,
        old: Option<(&Self, &RowSet)>,
        source: &dyn VectorSource,
        crew: &Crew<'_>,
    ) -> Result<Option<Self>, IndexError> {
        let Some((first, count)) = Self::span(rows) else { return Ok(None) };
        let (kernels, space, padded) = (code_kernels()?, origin.space(), rotation.padded());
        let len = nibbles_bytes(padded) + FACTORS_BYTES;
        let mut records = vec![0; count * len];
        let pieces = records.chunks_mut(PIECE_ROWS * len).enumerate().collect();
        crew.each(pieces, |(piece, records): (usize, &mut [u8])| {
            let mut vector = vec![0.0; rotation.dimensions()];
            let mut rotated = vec![0.0; padded];
            let from = first + (piece * PIECE_ROWS) as u32;
            for (row, record) in (from..).map(RowId).zip(records.chunks_exact_mut(len)) {
                if !rows.contains(row) {
                    continue;
                }
                let known = old.filter(|(_, rows)| rows.contains(row));
                if let Some(known) = known.and_then(|(old, _)| old.record(row)) {
                    record.copy_from_slice(known);
                    continue;
                }
                if !origin.place(row, source, &mut vector) {
                    continue;
                }
                rotation.rotate(kernels, &vector, 1.0, &mut rotated);
                let (code, rest) = record.split_at_mut(nibbles_bytes(padded));
                let factors = encode_nibbles(space, &anchor, &rotated, code);
                rest.copy_from_slice(&factors.to_bytes());
            }
            Ok(())
        })?;
        Ok(Some(Self { first, record_bytes: len, anchor, records: records.into() }))
    }

    /// Opens saved records; `Err` when there are not as many as there should be.
    pub(super) fn open(
        rotation: &Rotation,
        anchor: Anchor,
        rows: &RowSet,
        records: Bytes,
    ) -> Result<Option<Self>, ()> {
        let record_bytes = nibbles_bytes(rotation.padded()) + FACTORS_BYTES;
        let (first, count) = Self::span(rows).unwrap_or_default();
        if count.checked_mul(record_bytes) != Some(records.len()) {
            return Err(());
        }
        Ok((count > 0).then_some(Self { first, record_bytes, anchor, records }))
    }

    fn record(&self, row: RowId) -> Option<&[u8]> {
        record(&self.records, self, row)
    }

    /// The bounds of a query, whose errors count so many times.
    pub(super) fn bounds<'a>(&'a self, query: &'a CodeQuery, errors: f32) -> FineBounds<'a> {
        let mut terms = query.terms(&self.anchor);
        terms.error *= errors;
        FineBounds { fine: self, records: &self.records, query, terms }
    }
}

fn record<'a>(records: &'a [u8], fine: &FineRows, row: RowId) -> Option<&'a [u8]> {
    let at = row.0.checked_sub(fine.first)? as usize;
    let len = fine.record_bytes;
    records.get(at * len..)?.get(..len)
}

/// What the codes say of a query. Where they lie is asked for once, and not for every row.
pub(super) struct FineBounds<'a> {
    fine: &'a FineRows,
    records: &'a [u8],
    query: &'a CodeQuery,
    terms: Terms,
}

impl FineBounds<'_> {
    pub(super) fn prefetch(&self, row: RowId) {
        if let Some(record) = record(self.records, self.fine, row) {
            prefetch_bytes(record);
        }
    }

    /// What the key of a row exceeds, by its code; less than everything when the code says
    /// nothing.
    #[inline]
    pub(super) fn lower(&self, row: RowId) -> f32 {
        let record = record(self.records, self.fine, row).and_then(<[u8]>::split_last_chunk);
        let Some((code, factors)) = record else { return f32::NEG_INFINITY };
        let mut dot = [0];
        (self.query.kernels().dot_nibbles)(self.query.bytes().0, code, 0, &mut dot);
        let factors = Factors::from_bytes(factors);
        let lower = self.query.estimate_nibbles(dot[0], &factors, &self.terms).lower;
        if lower.is_nan() { f32::NEG_INFINITY } else { lower }
    }
}
