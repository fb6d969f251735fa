//! Long calls that tell how far they are, and that Ctrl-C ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString};
use synadb::vector::IndexBackend;
use synadb::{CompactOptions, Error, Keep, Progress, SynaDB, VectorStore};

use crate::convert::{absolute_path, answered, is_false};
use crate::errors::invalid_argument;
use crate::interrupt::{Caller, SIGNAL_POLL};
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
        Ok(!is_false(&progress.call1(reached)?)?)
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

/// Work that was done, although a signal may have asked to end it: too late, behind its last look.
struct Done<T> {
    answer: T,
    /// What the signal's handler raised.
    raised: Option<PyErr>,
}

impl<T> Done<T> {
    /// The report of the answer. Where it cannot be returned, because the handler has raised, a
    /// note of the exception says that the work is done, and the report.
    fn report<'py>(
        self,
        py: Python<'py>,
        report: impl FnOnce(Python<'py>, &T) -> PyResult<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let report = report(py, &self.answer)?;
        let Some(raised) = self.raised else { return Ok(report) };
        raised.add_note(py, format!("synadb: it came too late, the call is done: {report}"))?;
        Err(raised)
    }
}

/// Runs `work` on a thread of its own, tells `progress` how far it is and answers to signals.
///
/// What ends it early is raised once `work`, which is told to stop, has tidied up and returned.
/// `progress` is called for the last time before what cannot be taken back, so what it raises or
/// answers always ends the work.
///
/// # Errors
/// That of `work`; what a signal's handler or `progress` raised; no thread could be started;
/// `UnsupportedError` in a child that one of the two has forked: the work goes on in its parent.
fn run<T, F>(py: Python<'_>, progress: Option<&Bound<'_, PyAny>>, work: F) -> PyResult<Done<T>>
where
    T: Send + 'static,
    F: FnOnce(&mut Progress<'_>) -> synadb::Result<T> + Send + 'static,
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
    let caller = Caller::this();
    loop {
        let waited = py.detach(move || {
            let said = receiver.recv_timeout(SIGNAL_POLL);
            (receiver, said)
        });
        receiver = waited.0;
        match waited.1 {
            Ok(Said::Answer(answer)) => {
                // A signal of the last moment would be raised behind this call, without a note.
                watch.raised = watch.raised.take().or_else(|| py.check_signals().err());
                return match (answer, watch.raised) {
                    (Err(_), Some(raised)) => Err(raised),
                    (answer, raised) => Ok(Done { answer: answered(answer)?, raised }),
                };
            }
            Ok(Said::Whole) | Err(RecvTimeoutError::Timeout) => {
                let looked = watch.look(py);
                if let Err(left) = caller.check() {
                    // The worker is the parent's, and may have left their locks taken.
                    std::mem::forget((receiver, go));
                    return Err(looked.err().or(watch.raised).unwrap_or(left));
                }
                looked?;
                if matches!(waited.1, Ok(Said::Whole)) {
                    // The worker waits for this, or has gone and no longer needs it.
                    let _ = go.send(());
                }
            }
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
    let (database, path) = (database.clone(), absolute_path(path, "path")?);
    run(py, progress, move |told| database.backup_with(path, told))?.report(py, reports::backup)
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
    answered(py.detach(|| database.check_no_own_transaction()))?;
    let done = run(py, progress, move |told| database.compact_with(&options, told))?;
    done.report(py, reports::compaction)
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
    let done = run(py, progress, move |told| {
        let mut cancelled = false;
        let report = database.verify_with(&mut |done, total| {
            cancelled |= !told(done, total);
            !cancelled
        });
        if cancelled { Err(Error::Cancelled { what: "the check" }) } else { report }
    })?;
    done.report(py, reports::verification)
}

/// Whether the file has the index that a handle built last.
///
/// The worker says it: a build that raises may have put its index in place, and have saved it.
#[derive(Clone, Default)]
pub struct Saved(Arc<AtomicU8>);

impl Saved {
    const NOTHING_BUILT: u8 = 0;
    const NO: u8 = 1;
    const YES: u8 = 2;

    /// `None` before something was built.
    pub fn get(&self) -> Option<bool> {
        match self.0.load(Ordering::Acquire) {
            Self::NOTHING_BUILT => None,
            state => Some(state == Self::YES),
        }
    }

    fn set(&self, is_saved: bool) {
        self.0.store(if is_saved { Self::YES } else { Self::NO }, Ordering::Release);
    }
}

/// Builds an index of a store; returns whether it was saved, and keeps that.
///
/// # Errors
/// What the engine says; as `run`.
pub fn build_index(
    py: Python<'_>,
    (store, saved): (&VectorStore, &Saved),
    backend: IndexBackend,
    threads: usize,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    let (store, saved) = (store.clone(), saved.clone());
    let work = move |told: &mut Progress<'_>| {
        store.put_index(&backend, threads, told)?;
        saved.set(false);
        let is_saved = store.try_save_index()?;
        saved.set(is_saved);
        Ok(is_saved)
    };
    let done = run(py, progress, work)?;
    let is_saved = done.answer;
    done.report(py, |py, _| {
        let report = PyDict::new(py);
        report.set_item("saved", is_saved)?;
        Ok(report)
    })?;
    Ok(is_saved)
}

/// Sizes and states of a handle's file, and with `usage` where the bytes of its log have gone.
///
/// # Errors
/// What the engine says; as `run`.
pub fn stats<'py>(py: Python<'py>, database: &SynaDB, usage: bool) -> PyResult<Bound<'py, PyDict>> {
    let stats = answered(py.detach(|| database.stats()))?;
    let report = reports::stats(py, &stats)?;
    if usage {
        let database = database.clone();
        let done = run(py, None, move |told| database.usage_with(told))?;
        return done.report(py, |_, usage| reports::add_usage(&report, usage).map(|()| report));
    }
    Ok(report)
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
    let (path, to) = (absolute_path(path, "path")?, absolute_path(to, "to")?);
    run(py, progress, move |told| synadb::repair(path, to, told))?.report(py, reports::repair)
}
