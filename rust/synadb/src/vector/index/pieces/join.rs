//! Joining pieces, so that their number grows with the logarithm of the rows.

use std::sync::Arc;

use synadb_index::{Filter, IndexError, IvfIndex, IvfSearch, Job, Part};

use super::super::StoreIndex;
use super::super::apart::at_leisure;
use super::{Piece, Sealing, are_alike};
use crate::config::Terms;
use crate::error::Result;

/// So many pieces of about one size become one, as the runs of a tiered log-structured merge tree
/// do (O'Neil et al. 1996): a piece costs a search its cells' beginnings, wherever they lie, and
/// each row is copied once for each fourfold of the rows.
const JOINED: usize = 4;
/// Of one size are those of which none has so many times the rows of the last.
const ALIKE: usize = 2;
/// The candidates of a joined piece grow with such a power of its rows: by a half for four times as
/// many. Codes tell more rows apart less well: where the number of rows within a distance grows with
/// its twentieth power, and their errors are a seventh of it, they let a fifth more in.
const GROWTH: f64 = 0.3;
/// A piece that has lost all but one in so many of its rows to a part is copied without them: they
/// stay in the codes that a search looks at.
const HOLLOW: usize = 2;

impl Piece {
    /// The rows of several pieces in one. `None` where they are in different cells.
    pub(super) fn joined(
        pieces: &[Arc<Self>],
        job: &Job<'_>,
    ) -> std::result::Result<Option<Self>, IndexError> {
        let parts: Vec<(&IvfIndex, &Filter)> =
            pieces.iter().map(|piece| (&*piece.index, &piece.kept)).collect();
        let (Some(first), Some(index)) = (pieces.first(), IvfIndex::joined(&parts, job)?) else {
            return Ok(None);
        };
        let nprobe = parts.iter().map(|part| part.0.default_search().nprobe).max().unwrap_or(1);
        let all = index.rows().len() as f64;
        let wanted = |&(candidates, rows): &(usize, usize)| {
            candidates as f64 * (all / rows.max(1) as f64).max(1.0).powf(GROWTH)
        };
        let tried = pieces.iter().map(|piece| piece.tried);
        let tried = tried.max_by(|a, b| wanted(a).total_cmp(&wanted(b))).unwrap_or_default();
        let candidates = wanted(&tried) as usize;
        let search = IvfSearch { nprobe, candidates, ..index.default_search() };
        let (rows, index) = (index.rows().len(), Arc::new(index.with_search(search)));
        let visible = pieces.iter().fold(0, |most, piece| most.max(piece.visible));
        let founder = first.founder;
        Ok(Some(Self { index, kept: Filter::All, rows, visible, founder, tried }))
    }

    fn is_hollow(&self) -> bool {
        self.rows.saturating_mul(HOLLOW) < self.index.rows().len()
    }
}

impl StoreIndex {
    /// The pieces that are in the cells of the newest one.
    pub(super) fn in_newest_cells(&self) -> impl Iterator<Item = &Arc<Piece>> {
        let newest = self.pieces.last().and_then(|piece| piece.cells());
        self.pieces.iter().filter(move |piece| are_alike(piece.cells(), newest))
    }

    /// Whether a piece is to be copied without the rows that it lost.
    pub(in super::super) fn has_hollow_piece(&self) -> bool {
        self.pieces.iter().any(|piece| piece.is_hollow())
    }

    /// The last pieces, where they are to be joined, or one that is hollow.
    pub(super) fn to_join(&self) -> Option<&[Arc<Piece>]> {
        if let Some(at) = self.pieces.iter().position(|piece| piece.is_hollow()) {
            return Some(&self.pieces[at..=at]);
        }
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
    /// Joins pieces until none are to be.
    pub(super) fn join(&self, terms: &Terms) -> Result<()> {
        while !terms.is_interrupted() {
            let Some(snapshot) = self.snapshot()? else { break };
            let Some(loaded) = self.config.index_of(&snapshot) else { break };
            let parts = loaded.any().and_then(StoreIndex::to_join).map(<[_]>::to_vec);
            drop(loaded);
            let Some(parts) = parts else { break };
            let joined = at_leisure(terms, |job| Piece::joined(&parts, job))?;
            let Some(joined) = joined.map(Arc::new) else { break };
            if !self.replace_with(&snapshot, terms, |index| index.with_joined(&parts, &joined))? {
                break;
            }
        }
        Ok(())
    }
}
