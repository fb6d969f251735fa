//! Joining pieces, so that their number grows with the logarithm of the rows.

use std::sync::Arc;

use synadb_index::{Filter, IvfIndex};
use synadb_types::RowSet;

use super::super::StoreIndex;
use super::{Piece, Sealing, are_alike};
use crate::config::Terms;
use crate::error::Result;

/// So many pieces of about one size become one, as the runs of a tiered log-structured merge tree
/// do (O'Neil et al. 1996): a piece costs a search its cells' beginnings, wherever they lie, and
/// each row is copied once for each fourfold of the rows.
const JOINED: usize = 4;
/// Of one size are those of which none has so many times the rows of the last.
const ALIKE: usize = 2;

impl Piece {
    /// The rows of several pieces in one.
    pub(super) fn joined(pieces: &[Arc<Self>]) -> Option<Self> {
        let mut rows = RowSet::new();
        pieces.iter().for_each(|piece| rows.union_with(&piece.rows()));
        let indexes: Vec<&IvfIndex> = pieces.iter().map(|piece| &*piece.index).collect();
        let index = IvfIndex::joined(&indexes, &rows)?;
        let (visible, crowding) =
            (pieces.iter().map(|piece| piece.visible).max()?, pieces.first()?.crowding);
        let rows = rows.len();
        Some(Self { index: Arc::new(index), kept: Filter::All, rows, visible, crowding })
    }
}

impl StoreIndex {
    /// The pieces that are in the cells of the newest one.
    pub(super) fn in_newest_cells(&self) -> impl Iterator<Item = &Arc<Piece>> {
        let newest = self.pieces.last().and_then(|piece| piece.cells());
        self.pieces.iter().filter(move |piece| are_alike(piece.cells(), newest))
    }

    /// The last pieces, where they are to be joined.
    pub(super) fn to_join(&self) -> Option<&[Arc<Piece>]> {
        let last = &self.pieces[self.pieces.len().checked_sub(JOINED)?..];
        let newest = last.last()?;
        let is_alike = |piece: &Arc<Piece>| {
            piece.len() < ALIKE * newest.len() && are_alike(piece.cells(), newest.cells())
        };
        last.iter().all(is_alike).then_some(last)
    }

    /// The index with a piece in the place of those that it was joined of.
    pub(super) fn with_joined(&self, parts: &[Arc<Piece>], joined: &Arc<Piece>) -> Option<Self> {
        let are_parts = |window: &[Arc<Piece>]| {
            window.iter().zip(parts).all(|(piece, part)| Arc::ptr_eq(piece, part))
        };
        let at = self.pieces.windows(parts.len()).position(are_parts)?;
        let mut pieces = self.pieces.clone();
        pieces.splice(at..at + parts.len(), [Arc::clone(joined)]);
        Some(Self { pieces, ..self.shared() })
    }
}

impl Sealing<'_> {
    /// Joins pieces until none are to be; false where no index is left.
    pub(super) fn join(&self, terms: &Terms) -> Result<bool> {
        while !terms.is_interrupted() {
            let Some(snapshot) = self.snapshot()? else { return Ok(false) };
            let Some(loaded) = self.config.index_of(&snapshot) else { return Ok(false) };
            let parts = loaded.any().and_then(StoreIndex::to_join).map(<[_]>::to_vec);
            drop(loaded);
            let Some(parts) = parts else { break };
            let Some(joined) = Piece::joined(&parts).map(Arc::new) else { break };
            if !self.replace_with(&snapshot, terms, |index| index.with_joined(&parts, &joined))? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
