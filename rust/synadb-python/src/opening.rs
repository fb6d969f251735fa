//! The options of a handle and the wait for its lock, which Ctrl-C ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use synadb::{Access, Durability, OpenOptions};

use crate::convert::answered;
use crate::errors::{invalid_argument, unsupported};
use crate::interrupt::{SIGNAL_POLL, on_worker};

/// Code of the error that another process's lock raises.
const LOCKED: i32 = -10;

/// How a handle is opened.
pub struct Opening {
    options: OpenOptions,
    wait: Duration,
}

impl Opening {
    /// Checks the options that every handle has.
    ///
    /// # Errors
    /// `InvalidArgumentError` for an unknown access or a bad time, `UnsupportedError` for shared
    /// writing.
    pub fn new(access: &str, lock_timeout: f64, sync_on_write: bool) -> PyResult<Self> {
        let access = match access {
            "exclusive" => Access::Exclusive,
            "read_only" => Access::ReadOnly,
            "shared" => {
                return Err(unsupported("access 'shared' is not supported yet".to_owned()));
            }
            other => {
                return Err(invalid_argument(
                    "access",
                    format!("it must be 'exclusive' or 'read_only', got '{other}'"),
                ));
            }
        };
        if lock_timeout.is_nan() || lock_timeout < 0.0 {
            return Err(invalid_argument(
                "lock_timeout",
                format!("it must be 0 or more seconds, got {lock_timeout}"),
            ));
        }
        let wait = Duration::try_from_secs_f64(lock_timeout).unwrap_or(Duration::MAX);
        let options = OpenOptions::new().access(access).durability(durability(sync_on_write));
        Ok(Self { options, wait })
    }

    /// Adds a `DbConfig`, the size at which a checkpoint is written, and whether to create.
    ///
    /// # Errors
    /// An attribute of the configuration is missing or of another type.
    pub fn apply(
        &mut self,
        config: Option<&Bound<'_, PyAny>>,
        checkpoint_bytes: Option<u64>,
        create: bool,
    ) -> PyResult<()> {
        let mut options = self.options.clone().create(create);
        if let Some(config) = config {
            let compress: bool = config.getattr("enable_compression")?.extract()?;
            let sync: bool = config.getattr("sync_on_write")?.extract()?;
            options = options.compression(compress).durability(durability(sync));
        }
        if let Some(bytes) = checkpoint_bytes {
            options = options.checkpoint_bytes(bytes);
        }
        self.options = options;
        Ok(())
    }
}

/// Opens on a worker thread, trying again for as long as the lock is another's.
///
/// # Errors
/// What the engine says, or `KeyboardInterrupt`.
pub fn open<T, F>(py: Python<'_>, opening: Opening, open: F) -> PyResult<T>
where
    T: Send + 'static,
    F: Fn(OpenOptions) -> synadb::Result<T> + Send + 'static,
{
    answered(on_worker(py, move |stop| attempts(&opening, stop, open))?)
}

fn attempts<T>(
    opening: &Opening,
    stop: &AtomicBool,
    open: impl Fn(OpenOptions) -> synadb::Result<T>,
) -> synadb::Result<T> {
    let began = Instant::now();
    loop {
        let left = opening.wait.saturating_sub(began.elapsed());
        let answer = open(opening.options.clone().lock_timeout(left.min(SIGNAL_POLL)));
        match answer {
            Err(error) if error.code() == LOCKED => {
                if stop.load(Ordering::Relaxed) || began.elapsed() >= opening.wait {
                    return Err(error);
                }
            }
            answer => return answer,
        }
    }
}

fn durability(sync_on_write: bool) -> Durability {
    if sync_on_write { Durability::Sync } else { Durability::Process }
}
