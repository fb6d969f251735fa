//! The mapped rows, as the index crate reads them.

use synadb_index::{Block, VectorSource};
use synadb_types::RowId;

use crate::collection::Snapshot;

/// Vectors of a snapshot.
pub(crate) struct MappedVectors<'a> {
    pub snapshot: &'a Snapshot,
    pub dimensions: usize,
}

impl VectorSource for MappedVectors<'_> {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn rows_end(&self) -> u32 {
        self.snapshot.rows_end()
    }

    fn filled_from(&self, row: RowId) -> Option<RowId> {
        self.snapshot.filled_from(row)
    }

    fn block(&self, row: RowId) -> Option<Block<'_>> {
        let slots = self.snapshot.slots(row)?;
        // Extents are aligned to 64 bytes and so is the stride.
        let data: &[f32] = bytemuck::try_cast_slice(slots.bytes).ok()?;
        let stride = (4 * self.dimensions).next_multiple_of(64) / 4;
        Some(Block { first: row, count: slots.count, stride, data })
    }

    fn inverse_norms(&self, first: RowId, out: &mut [f32]) {
        self.snapshot.inverse_norms(first, out);
    }

    fn is_live(&self, row: RowId) -> bool {
        self.snapshot.is_live(row)
    }
}

/// The same of rows that were all committed before the snapshot was taken: to see that they live
/// takes a look at few bytes.
pub(crate) struct CommittedVectors<'a>(pub &'a MappedVectors<'a>);

impl VectorSource for CommittedVectors<'_> {
    fn dimensions(&self) -> usize {
        self.0.dimensions()
    }

    fn rows_end(&self) -> u32 {
        self.0.rows_end()
    }

    fn filled_from(&self, row: RowId) -> Option<RowId> {
        self.0.filled_from(row)
    }

    fn block(&self, row: RowId) -> Option<Block<'_>> {
        self.0.block(row)
    }

    fn inverse_norms(&self, first: RowId, out: &mut [f32]) {
        self.0.inverse_norms(first, out);
    }

    fn is_live(&self, row: RowId) -> bool {
        !self.0.snapshot.has_died(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::{VectorConfig, VectorStore};

    fn live(store: &VectorStore, snapshot: &Snapshot) -> Vec<u32> {
        let vectors = MappedVectors { snapshot, dimensions: usize::from(store.dimensions()) };
        let rows = (0..snapshot.rows_end()).map(RowId);
        let live: Vec<u32> =
            rows.clone().filter(|row| vectors.is_live(*row)).map(|r| r.0).collect();
        let committed = CommittedVectors(&vectors);
        let same: Vec<u32> = rows.filter(|row| committed.is_live(*row)).map(|r| r.0).collect();
        assert_eq!(live, same, "all rows were committed");
        live
    }

    #[test]
    fn rows_that_died_are_seen_by_those_that_came_before_and_by_no_others() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("a.db");
        let config = VectorConfig { dimensions: 1, ..VectorConfig::default() };
        let store = VectorStore::new(&path, config.clone()).expect("opens");
        (0..200_u8).for_each(|n| store.insert(&n.to_string(), &[1.0]).expect("inserts"));
        let snapshot = |store: &VectorStore| store.snapshot().expect("open").expect("rows");
        let before = snapshot(&store);
        store.delete("7").expect("deletes");
        store.insert("70", &[2.0]).expect("replaces");
        let after: Vec<u32> = (0..=200).filter(|row| ![7, 70].contains(row)).collect();
        assert_eq!(live(&store, &before), (0..200).collect::<Vec<_>>());
        assert_eq!(live(&store, &snapshot(&store)), after);
        store.database().checkpoint().expect("saves");
        drop((store, before));
        let store = VectorStore::new(&path, config).expect("opens");
        assert_eq!(live(&store, &snapshot(&store)), after);
    }
}
