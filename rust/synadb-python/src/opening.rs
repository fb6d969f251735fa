//! The options of a handle and the wait for its lock, which Ctrl-C ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule};
use synadb::distance::DistanceMetric;
use synadb::{Access, Durability, Keep, Maintenance, OpenOptions, Settings, SynaDB, vector};

use crate::convert::{Count, Interval, Seconds, Share, absolute_path, answered};
use crate::database::Database;
use crate::errors::{config_mismatch, dimension, invalid_argument};
use crate::interrupt::{is_signalled, on_worker};

/// Stands for the dimensions that the file has.
const AS_STORED: u16 = 0;
/// Seconds that a wait may take at most: ten years, which no clock runs over.
const TIME_MAX: f64 = 315_360_000.0;

/// How a handle is opened.
pub struct Opening {
    options: OpenOptions,
}

impl Opening {
    /// Checks the options that every handle has.
    ///
    /// # Errors
    /// `InvalidArgumentError` for an unknown access or a bad time.
    pub fn new(access: &str, lock_timeout: Option<Seconds>, sync_on_write: bool) -> PyResult<Self> {
        let access = match access {
            "exclusive" => Access::Exclusive,
            "read_only" => Access::ReadOnly,
            "shared" => Access::Shared,
            other => {
                return Err(invalid_argument(
                    "access",
                    format!("it must be 'shared', 'exclusive' or 'read_only', got '{other}'"),
                ));
            }
        };
        let mut options = OpenOptions::new().access(access).durability(durability(sync_on_write));
        if let Some(Seconds(seconds)) = lock_timeout {
            options = options.lock_timeout(duration("lock_timeout", seconds)?);
        }
        Ok(Self { options })
    }

    /// Sets after how long what was not synced is; with 0 never.
    ///
    /// # Errors
    /// `InvalidArgumentError` for a bad time.
    pub fn sync_after(&mut self, interval: Option<Interval>) -> PyResult<()> {
        let Some(Interval(seconds)) = interval else { return Ok(()) };
        let interval = duration("sync_interval", seconds)?;
        // What is less than a nanosecond is not never.
        let interval = (seconds > 0.0).then(|| interval.max(Duration::from_nanos(1)));
        self.options = self.options.clone().sync_interval(interval);
        Ok(())
    }

    /// Sets who does what need not be done within a call.
    ///
    /// # Errors
    /// `InvalidArgumentError` for an unknown word.
    pub fn maintain(&mut self, maintenance: &str) -> PyResult<()> {
        let maintenance = match maintenance {
            "thread" => Maintenance::Thread,
            "inline" => Maintenance::Inline,
            "off" => Maintenance::Off,
            other => {
                return Err(invalid_argument(
                    "maintenance",
                    format!("it must be 'thread', 'inline' or 'off', got '{other}'"),
                ));
            }
        };
        self.options = self.options.clone().maintenance(maintenance);
        Ok(())
    }

    /// Sets when to compact without being asked, and whether histories stay.
    ///
    /// # Errors
    /// `InvalidArgumentError` for a share that can never be reached, or always is.
    pub fn compact_by_itself(&mut self, share: Option<Share>, history: bool) -> PyResult<()> {
        let Some(Share(share)) = share else { return Ok(()) };
        if !(share > 0.0 && share < 1.0) {
            return Err(invalid_argument(
                "auto_compact",
                format!("it must be a share of the log above 0 and below 1, got {share}"),
            ));
        }
        let keep = if history { Keep::Histories } else { Keep::Newest };
        self.options = self.options.clone().auto_compact(share, keep);
        Ok(())
    }

    /// Adds a `DbConfig`, the size at which a checkpoint is written, and whether to create.
    ///
    /// # Errors
    /// `TypeError` where it is no `DbConfig`, or an attribute of another type.
    pub fn apply(
        &mut self,
        config: Option<&Bound<'_, PyAny>>,
        checkpoint_bytes: Option<u64>,
        create: bool,
    ) -> PyResult<()> {
        let mut options = self.options.clone().create(create);
        if let Some(config) = config {
            if !config.hasattr("enable_compression")? || !config.hasattr("sync_on_write")? {
                let name = config.get_type().qualname()?;
                return Err(PyTypeError::new_err(format!(
                    "config must be a DbConfig, got '{name}'"
                )));
            }
            let compress = switch(config, "enable_compression")?;
            let sync = switch(config, "sync_on_write")?;
            if config.hasattr("enable_delta")? {
                switch(config, "enable_delta")?;
            }
            options = options.compression(compress).durability(durability(sync));
        }
        if let Some(bytes) = checkpoint_bytes {
            options = options.checkpoint_bytes(bytes);
        }
        self.options = options;
        Ok(())
    }
}

/// A time that an argument gives in seconds.
fn duration(argument: &'static str, seconds: f64) -> PyResult<Duration> {
    if (0.0..=TIME_MAX).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    let reason = format!("it must be 0 or more seconds, at most {TIME_MAX}, got {seconds}");
    Err(invalid_argument(argument, reason))
}

/// A field of a `DbConfig`.
fn switch(config: &Bound<'_, PyAny>, field: &str) -> PyResult<bool> {
    let value = config.getattr(field)?;
    value.extract().map_err(|_| match value.get_type().qualname() {
        Ok(name) => PyTypeError::new_err(format!("config.{field} must be a bool, got '{name}'")),
        Err(error) => error,
    })
}

/// Opens on a worker thread, so that Ctrl-C ends a wait for a lock and a long recovery.
///
/// # Errors
/// What the engine says, or `KeyboardInterrupt`.
pub fn open<T, F>(py: Python<'_>, opening: Opening, open: F) -> PyResult<T>
where
    T: Send + 'static,
    F: FnOnce(OpenOptions) -> synadb::Result<T> + Send + 'static,
{
    answered(on_worker(py, move |stop| {
        let stop = Arc::clone(stop);
        // Later calls wait on the thread that makes them.
        let interrupt = move || stop.load(Ordering::Relaxed) || is_signalled();
        open(opening.options.interrupt(Arc::new(interrupt)))
    })?)
}

fn durability(sync_on_write: bool) -> Durability {
    if sync_on_write { Durability::Sync } else { Durability::Process }
}

/// Where both tables of a hybrid store lie.
pub enum Place {
    /// The file that is not made, and the one that is.
    Paths([PathBuf; 2]),
    /// An open database.
    In(SynaDB),
}

impl Place {
    /// What the arguments `hot_path` and `cold_path` name.
    ///
    /// # Errors
    /// `TypeError` for neither a path nor a database, `InvalidArgumentError` for one of each and
    /// for two databases.
    pub fn of(hot: &Bound<'_, PyAny>, cold: &Bound<'_, PyAny>) -> PyResult<Self> {
        let database = |place: &Bound<'_, PyAny>| {
            place.cast::<Database>().ok().map(|database| database.get().engine().clone())
        };
        match (database(hot), database(cold)) {
            (None, None) => Ok(Self::Paths([
                absolute_path(hot, "hot_path")?,
                absolute_path(cold, "cold_path")?,
            ])),
            (Some(hot), Some(cold)) if hot.path() == cold.path() => Ok(Self::In(cold)),
            (Some(hot), Some(cold)) => {
                let (hot, cold) = (hot.path().display(), cold.path().display());
                let reason = format!("both tables lie in one database, got {hot} and {cold}");
                Err(invalid_argument("hot_path", reason))
            }
            (on_hot, _) => {
                let (argument, other) =
                    if on_hot.is_some() { ("cold_path", cold) } else { ("hot_path", hot) };
                let path = absolute_path(other, argument)?;
                let reason = format!(
                    "both tables lie in the SynaDB that the other path is: name it twice, got {}",
                    path.display()
                );
                Err(invalid_argument(argument, reason))
            }
        }
    }
}

/// Refuses options that a store on an open database has from it; `sync_on_write` where it differs.
///
/// # Errors
/// `InvalidArgumentError` by the name of the first that was given.
pub fn refuse_own(
    database: &SynaDB,
    (access, has_timeout, maintenance): (&str, bool, &str),
    sync_on_write: Option<bool>,
) -> PyResult<()> {
    let options = [
        ("access", access != "shared"),
        ("lock_timeout", has_timeout),
        ("maintenance", maintenance != "thread"),
    ];
    let reason = "it is that of the database that the store is opened on";
    if let Some((option, _)) = options.into_iter().find(|(_, is_given)| *is_given) {
        return Err(invalid_argument(option, reason.to_owned()));
    }
    let name = |is_on: bool| if is_on { "True" } else { "False" };
    let own = database.settings().durability == Durability::Sync;
    match sync_on_write.filter(|asked| *asked != own) {
        None => Ok(()),
        Some(asked) => {
            let reason = format!(
                "{reason}, which has {}, got {}: leave it out, or open another SynaDB with it",
                name(own),
                name(asked)
            );
            Err(invalid_argument("sync_on_write", reason))
        }
    }
}

/// Refuses a metric that is asked for without dimensions, and is not that of the file.
///
/// # Errors
/// `ConfigMismatchError` names both.
pub fn check_metric(
    table: &str,
    stored: DistanceMetric,
    asked: Option<DistanceMetric>,
) -> PyResult<()> {
    match asked.filter(|asked| *asked != stored) {
        None => Ok(()),
        Some(asked) => Err(config_mismatch(table, stored.name(), asked.name())),
    }
}

/// The keyword arguments that open another handle like this one, a database or a store.
///
/// # Errors
/// Python could not allocate them.
pub fn keywords<'py>(py: Python<'py>, settings: &Settings) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("sync_on_write", settings.durability == Durability::Sync)?;
    let access = match settings.access {
        Access::ReadOnly => "read_only",
        Access::Exclusive => "exclusive",
        _ => "shared",
    };
    dict.set_item("access", access)?;
    dict.set_item("lock_timeout", settings.lock_timeout.map(|wait| wait.as_secs_f64()))?;
    let maintenance = match settings.maintenance {
        Maintenance::Inline => "inline",
        Maintenance::Off => "off",
        _ => "thread",
    };
    dict.set_item("maintenance", maintenance)?;
    Ok(dict)
}

/// Further ones, that a database takes and a store does not.
///
/// # Errors
/// Python could not allocate them.
pub fn database_keywords<'py>(
    py: Python<'py>,
    settings: &Settings,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = keywords(py, settings)?;
    dict.set_item("checkpoint_bytes", settings.checkpoint_bytes)?;
    let interval = settings.sync_interval.unwrap_or(Duration::ZERO);
    dict.set_item("sync_interval", interval.as_secs_f64())?;
    dict.set_item("create", settings.create)?;
    if let Some(wish) = settings.auto_compact {
        dict.set_item("auto_compact", wish.share)?;
        dict.set_item("auto_compact_history", wish.keep == Keep::Histories)?;
    }
    if settings.compression {
        let config = PyModule::import(py, "synadb.config")?.getattr("DbConfig")?;
        let sync = settings.durability == Durability::Sync;
        dict.set_item("config", config.call1((true, false, sync))?)?;
    }
    Ok(dict)
}

/// The configuration that the arguments ask for; without any, the one that the file has.
///
/// # Errors
/// `DimensionError`, `InvalidArgumentError`.
pub fn configuration(
    dimensions: Option<Count>,
    metric: Option<&str>,
    sync_on_write: bool,
) -> PyResult<vector::VectorConfig> {
    let dimensions = match dimensions {
        None => AS_STORED,
        Some(Count(asked)) => {
            u16::try_from(asked).ok().filter(|width| *width != AS_STORED).ok_or_else(|| {
                dimension(format!("Dimensions must be between 1 and 65535, got {asked}"))
            })?
        }
    };
    let metric = match metric.map(str::to_ascii_lowercase).as_deref() {
        None | Some("cosine") => DistanceMetric::Cosine,
        Some("euclidean") => DistanceMetric::Euclidean,
        Some("dot_product" | "dotproduct") => DistanceMetric::DotProduct,
        Some(other) => {
            let reason =
                format!("'{other}' is unknown; it must be one of: cosine, euclidean, dot_product");
            return Err(invalid_argument("metric", reason));
        }
    };
    Ok(vector::VectorConfig { dimensions, metric, sync_on_write, ..Default::default() })
}
