//! Long calls that Ctrl-C can end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use synadb::Error;

use crate::errors::raised;

/// How long Ctrl-C may wait to be heard, and the longest piece of a wait for a lock.
pub const SIGNAL_POLL: Duration = Duration::from_millis(50);

/// The process that made a call: a child that it forks meanwhile has no thread that does the work.
pub struct Caller(u32);

impl Caller {
    /// This process.
    pub fn this() -> Self {
        Self(std::process::id())
    }

    /// Fails in a child.
    ///
    /// # Errors
    /// `UnsupportedError`.
    pub fn check(&self) -> PyResult<()> {
        if std::process::id() == self.0 {
            return Ok(());
        }
        let what = format!(
            "this process was forked in a call of process {}, which goes on there and not here: a \
             child that is forked by a progress function or by the handler of a signal must not \
             return from it",
            self.0
        );
        Err(raised(Error::Unsupported { what }))
    }
}

/// Runs `work` on a thread of its own and answers to signals meanwhile.
///
/// After a signal whose handler raises, the call returns at once: `work` is told by its flag to
/// stop, ends by itself, and what it returns is dropped. It owns all that it touches, and the
/// engine's commits are atomic, so the file is good whichever way it ends.
///
/// # Errors
/// What the signal's handler raised (`KeyboardInterrupt`), or no thread could be started; in a child
/// that the handler has forked, `UnsupportedError`.
pub fn on_worker<T, F>(py: Python<'_>, work: F) -> PyResult<T>
where
    T: Send + 'static,
    F: FnOnce(&Arc<AtomicBool>) -> T + Send + 'static,
{
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let (sender, mut receiver) = sync_channel(1);
    thread::Builder::new().name("synadb-call".to_owned()).spawn(move || {
        // The receiver is gone after an interrupt; the answer is then dropped here.
        let _ = sender.send(work(&seen));
    })?;
    let caller = Caller::this();
    loop {
        let waited = py.detach(move || {
            let answer = receiver.recv_timeout(SIGNAL_POLL);
            (receiver, answer)
        });
        receiver = waited.0;
        match waited.1 {
            Ok(answer) => return Ok(answer),
            Err(RecvTimeoutError::Timeout) => {
                let heard = py.check_signals();
                if let Err(left) = caller.check() {
                    // The worker is the parent's, and may have left its lock taken.
                    std::mem::forget(receiver);
                    return Err(heard.err().unwrap_or(left));
                }
                if let Err(interrupt) = heard {
                    stop.store(true, Ordering::Relaxed);
                    return Err(interrupt);
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("the call's thread ended without an answer"));
            }
        }
    }
}

/// Whether a signal asks the call of this thread to end; what its handler raised is kept.
///
/// Only the main thread is asked by signals.
pub fn is_signalled() -> bool {
    Python::attach(|py| match py.check_signals() {
        Ok(()) => false,
        Err(raised) => {
            raised.restore(py);
            true
        }
    })
}
