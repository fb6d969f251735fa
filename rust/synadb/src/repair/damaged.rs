//! A damaged file: whose it is, and which tables it has.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use synadb_storage::control;
use synadb_storage::directory::{Directory, DiskDirectory, Opened};
use synadb_storage::identity::{Identity, PAGE_BYTES};
use synadb_storage::log::Log;
use synadb_storage::region::Region;
use synadb_storage::{Result as StorageResult, StorageError};

use super::survey::{Survey, Table};
use crate::db::{self, Clock};
use crate::sections::{self, Checkpoint};

/// A damaged file, surveyed.
pub(super) struct Damaged {
    pub log: Log,
    /// Everything before this position was on the medium.
    pub vouched: u64,
    /// Before the first commit.
    pub clock: Clock,
    /// Behind the last.
    pub last: Clock,
    /// By their numbers in the file.
    pub tables: BTreeMap<u32, Table>,
}

impl Damaged {
    /// Looks at all of it.
    ///
    /// # Errors
    /// `Corrupt` without a database id; `NotADatabase`, `UnsupportedFormat`; `Interrupted`.
    pub fn survey(
        path: &Path,
        opened: &Opened,
        goes_on: &mut dyn FnMut(u64) -> bool,
    ) -> StorageResult<Self> {
        let region = &opened.region;
        let beside = DiskDirectory.open(&db::path_of(path), false, false).ok();
        let beside = beside.map(|opened| opened.region);
        let (mut identity, is_borrowed) = identify(&**region, beside.as_deref())?;
        let log = Log::new(Arc::clone(region), identity);
        let checkpoint = beside.and_then(|beside| Checkpoint::open(beside, &identity));
        let checkpoint = checkpoint.filter(|checkpoint| db::fits(&log, &checkpoint.start));
        let anchor = checkpoint.as_ref().map(|found| (found.start.position, found.sequence));
        let synced = control::synced(&**region, &identity.database_id);
        let vouched = synced.max(anchor.map_or(0, |(position, _)| position));
        let mut last = Clock::new(identity.horizon, anchor);
        let mut survey = Survey::of(&log, vouched, &mut last, goes_on)?;
        if is_borrowed {
            if last.whole == 0 {
                return Err(nameless("no commit fits the checkpoint beside the file"));
            }
            // The sequence at the checkpoint is known, and how many commits led there.
            let known = anchor.map_or(0, |(_, sequence)| sequence);
            identity.horizon = known.saturating_sub(last.before_anchor);
        }
        let saved = checkpoint.as_ref().and_then(|found| db::catalog(found).ok());
        for info in saved.into_iter().flatten() {
            survey.add(info, (identity.horizon, 0));
        }
        survey.guess(identity.horizon);
        survey.number();
        let clock = Clock::new(identity.horizon, anchor);
        let log = Log::new(Arc::clone(region), identity);
        Ok(Self { log, vouched, clock, last, tables: survey.tables })
    }
}

fn nameless(why: &str) -> StorageError {
    let reason = format!(
        "both copies of the identity are damaged, and {why}: without the database id no checksum \
         can be checked"
    );
    StorageError::corrupt(0, reason)
}

/// The identity of the file, or of the checkpoint beside it; the second says so.
fn identify(region: &dyn Region, beside: Option<&dyn Region>) -> StorageResult<(Identity, bool)> {
    let len = region.len().min(PAGE_BYTES) as usize;
    let error = match Identity::read(region.bytes(0, len).unwrap_or_default()) {
        Ok((identity, _)) => return Ok((identity, false)),
        Err(error @ StorageError::UnsupportedFormat { .. }) => return Err(error),
        Err(error) => error,
    };
    match (beside.and_then(sections::identity_of), error) {
        (Some(identity), _) => Ok((identity, true)),
        (None, StorageError::Corrupt { .. }) => {
            Err(nameless("there is no checkpoint beside the file that tells it"))
        }
        (None, other) => Err(other),
    }
}
