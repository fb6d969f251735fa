//! Reports of the engine as dicts of plain Python values.

use std::collections::BTreeMap;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use synadb::{
    BackupReport, Bytes, CompactionReport, RecoveryReport, RepairReport, Stats, Usage, VerifyReport,
};

/// Sizes and counts; `tables` has the number of live keys of each table, times are in seconds.
///
/// # Errors
/// Python could not allocate it.
pub fn stats<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
    let tables = PyDict::new(py);
    for table in &stats.tables {
        tables.set_item(&table.name, table.keys)?;
    }
    let dict = PyDict::new(py);
    dict.set_item("file_bytes", stats.file_bytes)?;
    dict.set_item("log_bytes", stats.log_bytes)?;
    dict.set_item("tail_bytes", stats.tail_bytes)?;
    dict.set_item("checkpoint_age", stats.checkpoint_age.map(|age| age.as_secs_f64()))?;
    dict.set_item("synced_bytes", stats.synced_bytes)?;
    dict.set_item("sequence", stats.sequence)?;
    dict.set_item("generation", stats.generation)?;
    dict.set_item("access", stats.access)?;
    dict.set_item("region", stats.region)?;
    dict.set_item("handles", stats.handles)?;
    dict.set_item("filter_bytes", stats.filter_bytes)?;
    dict.set_item("tables", tables)?;
    dict.set_item("needs_recovery", stats.recovery.needs_recovery)?;
    dict.set_item("recovery", recovery(py, &stats.recovery)?)?;
    Ok(dict)
}

/// Adds where the bytes of the log have gone: all in all, by type and by table.
///
/// # Errors
/// Python could not allocate it.
pub fn add_usage(dict: &Bound<'_, PyDict>, usage: &Usage) -> PyResult<()> {
    let py = dict.py();
    let total = usage.total();
    dict.set_item("live_bytes", total.live)?;
    dict.set_item("history_bytes", total.history)?;
    dict.set_item("dead_bytes", total.dead)?;
    dict.set_item("reserved_bytes", usage.reserved())?;
    dict.set_item("overhead_bytes", usage.overhead)?;
    dict.set_item("bytes_by_type", types(py, &usage.types())?)?;
    let tables = PyDict::new(py);
    for table in &usage.tables {
        let entry = bytes(py, table.total())?;
        entry.set_item("reserved", table.reserved)?;
        entry.set_item("types", types(py, &table.types)?)?;
        tables.set_item(&table.name, entry)?;
    }
    dict.set_item("bytes_by_table", tables)
}

fn types<'py>(
    py: Python<'py>,
    types: &BTreeMap<&'static str, Bytes>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, found) in types {
        dict.set_item(name, bytes(py, *found)?)?;
    }
    Ok(dict)
}

fn bytes(py: Python<'_>, found: Bytes) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("live", found.live)?;
    dict.set_item("history", found.history)?;
    dict.set_item("dead", found.dead)?;
    Ok(dict)
}

/// What opening the file found.
///
/// # Errors
/// Python could not allocate it.
pub fn recovery<'py>(py: Python<'py>, report: &RecoveryReport) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("tail", report.tail)?;
    dict.set_item("replayed_from", report.replayed_from)?;
    dict.set_item("commits_replayed", report.commits_replayed)?;
    dict.set_item("torn", report.torn)?;
    dict.set_item("commits_dropped", report.commits_dropped)?;
    dict.set_item("bytes_dropped", report.bytes_dropped)?;
    dict.set_item("dropped_from", report.dropped().start)?;
    dict.set_item("dropped_to", report.dropped().end)?;
    dict.set_item("needs_recovery", report.needs_recovery)?;
    Ok(dict)
}

/// Bytes before and after, and the damaged records that were left out.
///
/// # Errors
/// Python could not allocate it.
pub fn compaction<'py>(py: Python<'py>, report: &CompactionReport) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("bytes_before", report.bytes_before)?;
    dict.set_item("bytes_after", report.bytes_after)?;
    dict.set_item("skipped", places(py, &report.skipped)?)?;
    Ok(dict)
}

/// Bytes of log in the copy.
///
/// # Errors
/// Python could not allocate it.
pub fn backup<'py>(py: Python<'py>, report: &BackupReport) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("bytes", report.bytes)?;
    Ok(dict)
}

/// Bytes that were checked, whether all are good, and the places that are not.
///
/// # Errors
/// Python could not allocate it.
pub fn verification<'py>(py: Python<'py>, report: &VerifyReport) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("ok", report.damage.is_empty())?;
    dict.set_item("bytes", report.bytes)?;
    dict.set_item("damage", places(py, &report.damage)?)?;
    Ok(dict)
}

/// Records kept, by table, and each place of the damaged file that is lost.
///
/// # Errors
/// Python could not allocate it.
pub fn repair<'py>(py: Python<'py>, report: &RepairReport) -> PyResult<Bound<'py, PyDict>> {
    let (kept, lost) = (PyDict::new(py), PyList::empty(py));
    for table in &report.kept {
        kept.set_item(&table.name, table.records)?;
    }
    for place in &report.lost {
        let dict = PyDict::new(py);
        dict.set_item("offset", place.offset)?;
        dict.set_item("bytes", place.bytes)?;
        dict.set_item("reason", &place.reason)?;
        dict.set_item("table", &place.table)?;
        dict.set_item("key", &place.key)?;
        dict.set_item("certain", place.is_certain)?;
        lost.append(dict)?;
    }
    let dict = PyDict::new(py);
    dict.set_item("bytes_read", report.bytes_read)?;
    dict.set_item("bytes_written", report.bytes_written)?;
    dict.set_item("kept", kept)?;
    dict.set_item("lost", lost)?;
    Ok(dict)
}

fn places<'py>(py: Python<'py>, places: &[(u64, String)]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for (offset, reason) in places {
        let place = PyDict::new(py);
        place.set_item("offset", offset)?;
        place.set_item("reason", reason)?;
        list.append(place)?;
    }
    Ok(list)
}
