//! Many vectors of a store in one call: by key, where they lie, and as answers to queries.

use std::num::NonZero;
use std::ops::Range;
use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use numpy::{PyArray1, PyArray2, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyBytes, PyList, PyString};
use synadb::arch::HybridSearchResult;
use synadb::vector::{Answers, Mark, Reader, VectorStore};

use crate::convert::{answered, names_of, tuple_of_keys};
use crate::errors::{dimension, width};
use crate::numpy::{Shown, check_finite, float_array, mapped, owned};

/// Queries that one thread answers before the first look at the signals.
const QUERIES_PER_LOOK: usize = 64;
/// Fewer queries are not worth a thread.
const QUERIES_PER_THREAD: usize = 32;
/// Looks that take less than this are made rarer.
const LOOK: Duration = Duration::from_millis(50);
/// Keys looked up, and rows named, between two looks at the signals.
const ROWS_PER_LOOK: usize = 1 << 14;

/// Queries, row-major, and how they are shared out.
pub struct Asked<'a> {
    pub queries: &'a [f32],
    /// Components of each.
    pub width: usize,
    pub threads: Option<usize>,
}

impl Asked<'_> {
    fn rows(&self) -> usize {
        self.queries.len() / self.width
    }
}

/// Answers to several queries.
pub trait Answered: Send {
    /// Number of queries.
    fn queries(&self) -> usize;
    /// Keys and scores that answer one of them.
    fn of(&self, query: usize) -> impl Iterator<Item = (&str, f32)>;
}

impl Answered for Answers {
    fn queries(&self) -> usize {
        self.queries()
    }

    fn of(&self, query: usize) -> impl Iterator<Item = (&str, f32)> {
        self.of(query)
    }
}

impl Answered for Vec<Vec<HybridSearchResult>> {
    fn queries(&self) -> usize {
        self.len()
    }

    fn of(&self, query: usize) -> impl Iterator<Item = (&str, f32)> {
        self[query].iter().map(|found| (&*found.key, found.score))
    }
}

/// What `find` finds for every query, in order; `take` gets it piece by piece. `find` is called by
/// several threads at once, each with some of the queries.
///
/// # Errors
/// What the engine says, what `take` says, and what the handler of a signal raises.
pub fn search<A: Send>(
    py: Python<'_>,
    asked: &Asked<'_>,
    find: &(impl Fn(&[f32]) -> synadb::Result<A> + Sync),
    mut take: impl FnMut(A) -> PyResult<()>,
) -> PyResult<()> {
    let all = || thread::available_parallelism().map_or(1, NonZero::get);
    let (rows, width) = (asked.rows(), asked.width);
    let useful = rows.div_ceil(QUERIES_PER_THREAD).max(1);
    let threads = asked.threads.unwrap_or_else(all).min(useful);
    if rows > QUERIES_PER_LOOK {
        py.detach(|| check_finite(asked.queries, width))?;
    }
    let mut rest = asked.queries;
    let mut piece = QUERIES_PER_LOOK * threads;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(piece * width));
        let begun = Instant::now();
        for answers in answered(py.detach(|| in_threads(now, width, threads, find)))? {
            take(answers)?;
        }
        rest = later;
        if !rest.is_empty() {
            py.check_signals()?;
        }
        if begun.elapsed() < LOOK {
            piece *= 2;
        }
    }
    Ok(())
}

/// What each thread found, in the order of the queries.
fn in_threads<A: Send>(
    queries: &[f32],
    width: usize,
    threads: usize,
    find: &(impl Fn(&[f32]) -> synadb::Result<A> + Sync),
) -> synadb::Result<Vec<A>> {
    let rows = queries.len() / width;
    let share = rows.div_ceil(threads).next_multiple_of(QUERIES_PER_THREAD);
    let mut pieces = queries.chunks(share * width);
    let own = pieces.next().unwrap_or_default();
    thread::scope(|scope| {
        let spawned: Vec<_> = pieces
            .map(|piece| {
                let named = thread::Builder::new().name("synadb-search".to_owned());
                (piece, named.spawn_scoped(scope, move || find(piece)))
            })
            .collect();
        let mut found = vec![find(own)?];
        for (piece, handle) in spawned {
            // Without a thread to be had this one does it.
            found.push(match handle {
                Ok(handle) => handle.join().unwrap_or_else(|panic| resume_unwind(panic))?,
                Err(_) => find(piece)?,
            });
        }
        Ok(found)
    })
}

/// Keys and scores of the answers, one row a query.
pub type Arrays<'py> = (Bound<'py, PyArray2<Py<PyAny>>>, Bound<'py, PyArray2<f32>>);

/// The answers as arrays of shape `(queries, k)`: `None` and infinity where there are fewer.
///
/// # Errors
/// As `search`; `MemoryError`.
pub fn search_arrays<'py, A: Answered>(
    py: Python<'py>,
    asked: &Asked<'_>,
    k: usize,
    find: &(impl Fn(&[f32]) -> synadb::Result<A> + Sync),
) -> PyResult<Arrays<'py>> {
    let numpy = py.import("numpy")?;
    // numpy allocates: where there is no such memory it raises.
    let full = |value: Py<PyAny>, kind: &str| {
        let options = [("dtype", kind)].into_py_dict(py)?;
        numpy.call_method("full", ((asked.rows(), k), value), Some(&options))
    };
    let keys = full(py.None(), "object")?.cast_into::<PyArray2<Py<PyAny>>>()?;
    let infinity = f32::INFINITY.into_pyobject(py)?.into_any().unbind();
    let scores = full(infinity, "float32")?.cast_into::<PyArray2<f32>>()?;
    {
        let (mut names, mut distances) = (keys.try_readwrite()?, scores.try_readwrite()?);
        let (names, distances) = (names.as_slice_mut()?, distances.as_slice_mut()?);
        let mut at = 0;
        search(py, asked, find, |answers| {
            for query in 0..answers.queries() {
                for (place, (key, score)) in (at..at + k).zip(answers.of(query)) {
                    names[place] = PyString::new(py, key).into_any().unbind();
                    distances[place] = score;
                }
                at += k;
            }
            Ok(())
        })?;
    }
    Ok((keys, scores))
}

/// Zeroed memory of numpy's for so many vectors: an array that owns it, or `MemoryError`.
fn room(py: Python<'_>, rows: usize, wide: usize) -> PyResult<Bound<'_, PyArray2<f32>>> {
    let zeros = py.import("numpy")?.call_method1("zeros", ((rows, wide), "float32"))?;
    Ok(zeros.cast_into()?)
}

/// A number, or a vector, that stands in for an absent one.
fn stand_in(default: &Bound<'_, PyAny>, wide: usize) -> PyResult<Vec<f32>> {
    let array = float_array::<f32>(default, "default")?;
    let values = array.as_slice()?;
    match *array.shape() {
        [] => Ok(vec![values[0]; wide]),
        [len] if len == wide => Ok(values.to_vec()),
        [len] => Err(width("Default", len, wide)),
        ref shape => Err(dimension(format!("Default has shape {shape:?}, expected [{wide}]"))),
    }
}

/// The vectors of keys as rows, which `read` puts into an array piece by piece.
///
/// # Errors
/// `KeyNotFoundError` without a default; `TypeError` for keys without an order; `MemoryError`.
pub fn get_batch<'py>(
    py: Python<'py>,
    wide: usize,
    keys: &Bound<'py, PyAny>,
    default: Option<&Bound<'py, PyAny>>,
    read: impl Fn(&[&str], Option<&[f32]>, &mut [f32]) -> synadb::Result<()> + Sync,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let held = tuple_of_keys(keys, "keys")?;
    let names = names_of(&held)?;
    let default = default.map(|default| stand_in(default, wide)).transpose()?;
    let array = room(py, names.len(), wide)?;
    let mut filling = array.try_readwrite()?;
    let values = filling.as_slice_mut()?;
    let pieces = names.chunks(ROWS_PER_LOOK).zip(values.chunks_mut(ROWS_PER_LOOK * wide));
    for (count, (names, values)) in pieces.enumerate() {
        if count > 0 {
            py.check_signals()?;
        }
        answered(py.detach(|| read(names, default.as_deref(), values)))?;
    }
    drop(filling);
    Ok(array)
}

/// Parts of runs, between which signals are looked at.
fn parts(run: &Range<u32>) -> impl Iterator<Item = Range<u32>> + use<> {
    let (start, end) = (run.start, run.end);
    (start..end).step_by(ROWS_PER_LOOK).map(move |at| at..end.min(at + ROWS_PER_LOOK as u32))
}

/// The keys of a run, appended.
fn name_run(
    py: Python<'_>,
    reader: &Reader,
    run: &Range<u32>,
    keys: &Bound<'_, PyList>,
) -> PyResult<()> {
    for part in parts(run) {
        py.check_signals()?;
        for key in answered(py.detach(|| reader.keys(part)))? {
            keys.append(key)?;
        }
    }
    Ok(())
}

/// Vectors as rows, and their keys.
pub type Block<'py> = (Bound<'py, PyArray2<f32>>, Bound<'py, PyList>);

fn view<'py>(
    py: Python<'py>,
    reader: &Reader,
    run: &Range<u32>,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let view = mapped(py, Shown::Run(reader.clone(), run.clone()))?;
    view.ok_or_else(|| PyValueError::new_err(format!("rows {run:?} do not lie side by side")))
}

fn block<'py>(py: Python<'py>, reader: &Reader, run: &Range<u32>) -> PyResult<Block<'py>> {
    let keys = PyList::empty(py);
    name_run(py, reader, run, &keys)?;
    Ok((view(py, reader, run)?, keys))
}

/// Rows of a table in runs, and the reader that shows them.
pub type Rows = (Reader, Vec<Range<u32>>);

/// Every live row of a store.
///
/// # Errors
/// `DatabaseClosedError`.
pub fn rows_of(py: Python<'_>, store: &VectorStore) -> PyResult<Rows> {
    let reader = answered(store.reader())?;
    let runs = py.detach(|| reader.runs());
    Ok((reader, runs))
}

/// Every one of the rows as views of the mapped file, each with its keys.
///
/// # Errors
/// `CorruptionError`.
pub fn blocks<'py>(py: Python<'py>, tables: &[Rows]) -> PyResult<Vec<Block<'py>>> {
    runs_of(tables).map(|(reader, run)| block(py, reader, run)).collect()
}

fn runs_of(tables: &[Rows]) -> impl Iterator<Item = (&Reader, &Range<u32>)> {
    tables.iter().flat_map(|(reader, runs)| runs.iter().map(move |run| (reader, run)))
}

/// The rows that lie in several places as one view, where they fill pages.
fn joined<'py>(py: Python<'py>, tables: &[Rows]) -> PyResult<Option<Block<'py>>> {
    let Some(joined) = answered(py.detach(|| Reader::join(tables)))? else { return Ok(None) };
    let keys = PyList::empty(py);
    for (reader, run) in runs_of(tables) {
        name_run(py, reader, run, &keys)?;
    }
    Ok(mapped(py, Shown::Joined(joined))?.map(|view| (view, keys)))
}

/// Every one of the rows in one array, with the keys: a view where they lie side by side, or can be
/// shown so page by page.
///
/// # Errors
/// `ValueError` where it would be a copy and must not, with what brings them `together`;
/// `CorruptionError`, `MemoryError`.
pub fn matrix<'py>(
    py: Python<'py>,
    tables: &[Rows],
    wide: usize,
    copy: Option<bool>,
    together: &str,
) -> PyResult<Block<'py>> {
    let places = runs_of(tables).count();
    let wants_view = copy != Some(true);
    if let (1, true, Some((reader, run))) = (places, wants_view, runs_of(tables).next()) {
        return block(py, reader, run);
    }
    if wants_view && let Some(view) = joined(py, tables)? {
        return Ok(view);
    }
    if copy == Some(false) && places > 0 {
        let message = format!(
            "copy=False: the vectors lie in {places} places, and no view shows these as one: \
             as_blocks() gives each, {together}"
        );
        return Err(PyValueError::new_err(message));
    }
    copied(py, tables, wide)
}

/// Every one of the rows in an array that owns them, with the keys.
fn copied<'py>(py: Python<'py>, tables: &[Rows], wide: usize) -> PyResult<Block<'py>> {
    let rows = runs_of(tables).map(|(_, run)| run.len()).sum();
    let array = room(py, rows, wide)?;
    let mut filling = array.try_readwrite()?;
    let values = filling.as_slice_mut()?;
    let keys = PyList::empty(py);
    let mut slots = values.chunks_exact_mut(wide);
    let parts =
        runs_of(tables).flat_map(|(reader, run)| parts(run).map(move |part| (reader, part)));
    for (reader, part) in parts {
        name_run(py, reader, &part, &keys)?;
        let copied = py.detach(|| {
            let block = reader.block(part)?;
            slots.by_ref().take(block.rows).enumerate().for_each(|(row, slot)| {
                slot.copy_from_slice(block.row(row));
            });
            Some(())
        });
        copied.ok_or_else(|| PyValueError::new_err("rows do not lie side by side"))?;
    }
    Ok(((*filling.make_nonwriteable()).clone(), keys))
}

/// A view, its keys and the commits that stored its rows.
type Added<'py> = (Bound<'py, PyArray2<f32>>, Bound<'py, PyList>, Bound<'py, PyArray1<u64>>);
/// Where the store is, what is new and which keys are not what they were.
pub type Since<'py> = (Option<Bound<'py, PyBytes>>, Vec<Added<'py>>, Vec<String>);

/// The number of a store's database in hexadecimal; empty while the table has had no vector.
///
/// # Errors
/// `DatabaseClosedError`.
pub fn number(store: &VectorStore) -> PyResult<String> {
    let mark = answered(store.reader())?.mark().map(Mark::to_bytes);
    Ok(mark.iter().flat_map(|mark| &mark[..16]).map(|byte| format!("{byte:02x}")).collect())
}

/// What came and went since a mark, or all there is; `None` where that can no longer be told.
///
/// # Errors
/// `CorruptionError`; `ValueError` for bytes that are no mark.
pub fn changes<'py>(
    py: Python<'py>,
    store: &VectorStore,
    since: Option<&[u8]>,
) -> PyResult<Option<Since<'py>>> {
    let since = since.map(|bytes| {
        Mark::from_bytes(bytes).ok_or_else(|| PyValueError::new_err("since: it is no mark"))
    });
    let since = since.transpose()?;
    let reader = answered(store.reader())?;
    let (runs, removed) = match since {
        None => (py.detach(|| reader.runs()), Vec::new()),
        Some(since) => match py.detach(|| reader.changes(since)) {
            Some(changes) => (changes.added, changes.removed),
            None => return Ok(None),
        },
    };
    let mut added = Vec::with_capacity(runs.len());
    for run in &runs {
        let (view, keys) = block(py, &reader, run)?;
        let versions = answered(py.detach(|| reader.versions(run.clone())))?;
        added.push((view, keys, owned(py, versions)));
    }
    let removed: synadb::Result<_> = removed.iter().map(|row| reader.key(*row, false)).collect();
    let mark = reader.mark().map(|mark| PyBytes::new(py, &mark.to_bytes()));
    Ok(Some((mark, added, answered(removed)?)))
}
