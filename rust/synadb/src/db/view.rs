//! What a component gives the engine: a view of one table's records.

use std::any::Any;
use std::sync::Arc;

use synadb_storage::Result;
use synadb_storage::log::{Log, Record};

use super::generation::{Generation, Table};
use super::{Rewrite, Source, TableInfo};
use crate::sections::{SectionWriter, TableSections};

/// A record on its way into a view, valid.
pub(crate) struct Applied<'a> {
    pub log: &'a Log,
    pub record: Record<'a>,
    /// Of the key.
    pub hash: u64,
    /// Where the gap behind the record's frame begins, and its bytes.
    pub gap_start: u64,
    pub gap: u64,
    /// Everything before this position is visible to readers; the record is not yet.
    pub visible: u64,
}

/// The writer's half of a view of one table, owned by the commit path.
///
/// The reader's half is handed out once, as `Any`; the component that made the view knows its type.
pub(crate) trait TableView: Send {
    /// The readers' half.
    fn reader(&self) -> Arc<dyn Any + Send + Sync>;

    /// The newest record of a key, whatever it is.
    fn newest<'a>(&self, log: &'a Log, key: &[u8], hash: u64) -> Result<Option<Record<'a>>>;

    /// Says that keys with these hashes will be looked up soon.
    fn touch(&self, hashes: &[u64]);

    /// Validates a record and takes it in; false, and nothing changed, is corruption.
    ///
    /// Validation runs on every path, own commits and replay alike; behind it nothing fails.
    fn apply(&mut self, applied: &Applied<'_>) -> bool;

    /// Says that a commit of so many records follows.
    fn expect(&mut self, records: usize);

    /// Called once behind each commit, before it is visible.
    fn publish(&mut self) {}

    /// Says that nobody but this process has the file, and that it has just opened it: what others
    /// had reserved and not committed never comes.
    fn forsake(&mut self) {}

    /// Keys that are alive.
    fn live(&self) -> u64;

    /// Memory of the keys that filters of searches look at.
    fn filter_bytes(&self) -> u64 {
        0
    }

    /// Saves the view.
    fn export(&self, log: &Log, out: &mut SectionWriter) -> Result<()>;

    /// Says that what was saved last is in its place.
    fn keep_as_saved(&self) {}

    /// Takes over what another process has saved beside the records, where it is newer.
    fn adopt(&self, _sections: &TableSections<'_>) {}

    /// This view, the type of which only its component knows.
    fn as_any(&mut self) -> &mut dyn Any;
}

/// Makes the views of tables; given to the engine by the layer above it.
pub(crate) trait ViewFactory: Send + Sync {
    /// An empty view.
    fn create(&self, table: &TableInfo) -> Option<Box<dyn TableView>>;

    /// A saved view.
    fn import(&self, table: &TableInfo, sections: &TableSections<'_>)
    -> Result<Box<dyn TableView>>;

    /// Carries what was alive in a table at the end of the source over, and nothing else.
    ///
    /// Others may write to the table meanwhile.
    fn carry_live(&self, table: &Table, to: (&mut Source<'_>, &mut Rewrite<'_>)) -> Result<()>;

    /// Gives the view of a table of a log in the making what the one before keeps beside the records
    /// and can hand on; whether that is anything.
    fn hand_on(&self, _from: (&Arc<Generation>, &TableInfo), _to: &dyn TableView) -> bool {
        false
    }

    /// Carries a record of a key over of which nothing else is to stay.
    fn carry_newest(
        &self,
        table: &TableInfo,
        record: &Record<'_>,
        origin: (u64, u64),
        to: (&mut Source<'_>, &mut Rewrite<'_>),
    ) -> Result<()>;

    /// Carries a record of a table over; those of a key come in order.
    fn carry(
        &self,
        table: &TableInfo,
        record: &Record<'_>,
        origin: (u64, u64),
        to: (&mut Source<'_>, &mut Rewrite<'_>),
    ) -> Result<()>;
}
