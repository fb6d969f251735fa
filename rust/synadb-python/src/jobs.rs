//! Long calls that tell how far they are, and that Ctrl-C ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString};
use synadb::{CompactOptions, Error, Keep, Progress, SynaDB};

use crate::convert::{absolute_path, answered};
use crate::errors::invalid_argument;
use crate::interrupt::SIGNAL_POLL;
use crate::reports;

/// What the worker and the caller tell each other.
#[derive(Default)]
struct Shared {
    done: AtomicU64,
    total: AtomicU64,
    stop: AtomicBool,
}

/// The caller's side of a job.
struct Watch<'a, 'py> {
    /// A function of bytes done and bytes in all, which cancels by answering `False`.
    progress: Option<&'a Bound<'py, PyAny>>,
    shared: &'a Shared,
    shown: (u64, u64),
    /// What ended the job.
    raised: Option<PyErr>,
}

impl Watch<'_, '_> {
    /// Looks at the signals and tells how far the work is; the first failure ends the work.
    ///
    /// Fails at once only for a signal behind that, which ends the wait too.
    fn look(&mut self, py: Python<'_>) -> PyResult<()> {
        if let Err(signal) = py.check_signals() {
            if self.raised.is_some() {
                return Err(signal);
            }
            self.stop(Some(signal));
        }
        match self.tell() {
            Ok(true) => {}
            Ok(false) => self.stop(None),
            Err(error) => self.stop(Some(error)),
        }
        Ok(())
    }

    /// Calls the function where the numbers have moved; false where it cancels.
    fn tell(&mut self) -> PyResult<bool> {
        let reached =
            (self.shared.done.load(Ordering::Relaxed), self.shared.total.load(Ordering::Relaxed));
        let stopped = self.shared.stop.load(Ordering::Relaxed);
        let Some(progress) = self.progress.filter(|_| !stopped && reached != self.shown) else {
            return Ok(true);
        };
        self.shown = reached;
        let answer = progress.call1(reached)?;
        Ok(answer.is_none() || answer.is_truthy()?)
    }

    fn stop(&mut self, raised: Option<PyErr>) {
        self.raised = raised;
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// What the worker says.
enum Said<T> {
    /// Everything is done but the last step, which waits for the caller to see it.
    Whole,
    Answer(T),
}

/// Runs `work` on a thread of its own, tells `progress` how far it is and answers to signals.
///
/// What ends it early is raised once `work`, which is told to stop, has tidied up and returned.
///
/// # Errors
/// What a signal's handler or `progress` raised, or no thread could be started.
fn run<T, F>(py: Python<'_>, progress: Option<&Bound<'_, PyAny>>, work: F) -> PyResult<T>
where
    T: Send + 'static,
    F: FnOnce(&mut Progress<'_>) -> T + Send + 'static,
{
    let shared = Arc::new(Shared::default());
    let (seen, is_watched) = (Arc::clone(&shared), progress.is_some());
    let (sender, mut receiver) = sync_channel(1);
    let (go, going) = sync_channel::<()>(1);
    thread::Builder::new().name("synadb-job".to_owned()).spawn(move || {
        let answer = work(&mut |done, total| {
            seen.done.store(done, Ordering::Relaxed);
            seen.total.store(total, Ordering::Relaxed);
            let is_whole = is_watched && done == total;
            if is_whole && (sender.send(Said::Whole).is_err() || going.recv().is_err()) {
                return false;
            }
            !seen.stop.load(Ordering::Relaxed)
        });
        // The receiver is gone after a second signal; the answer is then dropped here.
        let _ = sender.send(Said::Answer(answer));
    })?;
    let mut watch = Watch { progress, shared: &shared, shown: (0, 0), raised: None };
    loop {
        let waited = py.detach(move || {
            let said = receiver.recv_timeout(SIGNAL_POLL);
            (receiver, said)
        });
        receiver = waited.0;
        match waited.1 {
            Ok(Said::Answer(answer)) => return watch.raised.take().map_or(Ok(answer), Err),
            Ok(Said::Whole) => {
                watch.look(py)?;
                // The worker waits for this, or has gone and no longer needs it.
                let _ = go.send(());
            }
            Err(RecvTimeoutError::Timeout) => watch.look(py)?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("the call's thread ended without an answer"));
            }
        }
    }
}

/// Copies the database of a handle into a new file.
///
/// # Errors
/// What the engine says; as `run`.
pub fn backup<'py>(
    py: Python<'py>,
    database: &SynaDB,
    path: &Bound<'py, PyAny>,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let (database, path) = (database.clone(), absolute_path(path)?);
    let report = run(py, progress, move |told| database.backup_with(path, told))?;
    reports::backup(py, &answered(report)?)
}

/// What `keep_history` asks for.
fn keep(keep_history: &Bound<'_, PyAny>) -> PyResult<Keep> {
    if let Ok(all) = keep_history.cast::<PyBool>() {
        return Ok(if all.is_true() { Keep::Everything } else { Keep::Newest });
    }
    let word = keep_history.cast::<PyString>().ok().map(|word| word.to_string_lossy().into_owned());
    if word.as_deref() == Some("live") {
        return Ok(Keep::Histories);
    }
    let reason = format!("True, False or 'live' is wanted, got {}", keep_history.repr()?);
    Err(invalid_argument("keep_history", reason))
}

/// Rewrites the file of a handle without what is dead.
///
/// # Errors
/// What the engine says; as `run`.
pub fn compact<'py>(
    py: Python<'py>,
    database: &SynaDB,
    (skip_damaged, keep_history): (bool, Option<&Bound<'py, PyAny>>),
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let keep = keep_history.map(keep).transpose()?.unwrap_or_default();
    let options = CompactOptions { skip_damaged, keep };
    let database = database.clone();
    let report = run(py, progress, move |told| database.compact_with(&options, told))?;
    reports::compaction(py, &answered(report)?)
}

/// Checks the whole file of a handle.
///
/// # Errors
/// `CancelledError` for a check that came to no end; what the engine says; as `run`.
pub fn verify<'py>(
    py: Python<'py>,
    database: &SynaDB,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let database = database.clone();
    let report = run(py, progress, move |told| {
        let mut cancelled = false;
        let report = database.verify_with(&mut |done, total| {
            cancelled |= !told(done, total);
            !cancelled
        });
        if cancelled { Err(Error::Cancelled { what: "the check" }) } else { report }
    })?;
    reports::verification(py, &answered(report)?)
}

/// Saves what is whole of a damaged file into a new one.
///
/// # Errors
/// What the engine says; as `run`.
#[pyfunction]
#[pyo3(signature = (path, to, progress=None))]
pub fn repair<'py>(
    py: Python<'py>,
    path: &Bound<'py, PyAny>,
    to: &Bound<'py, PyAny>,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let (path, to) = (absolute_path(path)?, absolute_path(to)?);
    let report = run(py, progress, move |told| synadb::repair(path, to, told))?;
    reports::repair(py, &answered(report)?)
}
