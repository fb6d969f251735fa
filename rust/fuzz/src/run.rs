//! Running inputs: one, those of a folder, and new ones until the time is over.

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::mutate::{Random, mutate};
use crate::targets::Target;

/// Longer than this no input may take.
const INPUT_TIME_MAX: Duration = Duration::from_secs(20);
/// How long a failing input is made smaller.
const SHRINK_TIME: Duration = Duration::from_secs(10);

/// An input that a target failed on.
#[derive(Debug)]
pub struct Failure {
    /// The input.
    pub input: Vec<u8>,
    /// What the panic said.
    pub message: String,
}

/// What a loop did.
#[derive(Debug)]
pub struct Summary {
    /// Inputs that were run.
    pub runs: u64,
    /// Inputs that took a path of their own, those of the corpus too.
    pub known: Vec<Vec<u8>>,
}

/// A folder for the files of a target: in memory where there is such a place.
///
/// # Panics
/// Where none can be made.
#[must_use]
pub fn workplace() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder")
}

/// The inputs in a folder, in order of their names.
///
/// # Panics
/// Where one cannot be read.
#[must_use]
pub fn corpus(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
}

/// Runs one input.
///
/// # Errors
/// What it panicked with.
///
/// # Panics
/// Where the files of the run cannot be removed.
pub fn once(target: &Target, input: &[u8], folder: &Path) -> Result<String, Failure> {
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(input, folder)));
    for entry in fs::read_dir(folder).expect("listed").flatten() {
        fs::remove_file(entry.path()).expect("removed");
    }
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let message = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Failure { input: input.to_vec(), message: message.unwrap_or_default() }
    })
}

/// Ends the process, the input saved, where one takes too long.
struct Watch(Arc<Mutex<(Instant, Vec<u8>)>>);

impl Watch {
    fn begin(findings: PathBuf) -> Self {
        let shared = Arc::new(Mutex::new((Instant::now(), Vec::new())));
        let watch = Self(Arc::clone(&shared));
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let current = shared.lock().unwrap_or_else(PoisonError::into_inner);
                if current.0.elapsed() > INPUT_TIME_MAX {
                    let path = save(&findings, "slow", &current.1);
                    eprintln!("an input takes too long: {}", path.display());
                    std::process::exit(2);
                }
            }
        });
        watch
    }

    fn next(&self, input: &[u8]) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.0 = Instant::now();
        current.1.clear();
        current.1.extend_from_slice(input);
    }
}

/// Saves an input under a name that comes from its bytes.
///
/// # Panics
/// Where it cannot.
#[must_use]
pub fn save(folder: &Path, prefix: &str, input: &[u8]) -> PathBuf {
    fs::create_dir_all(folder).expect("a folder");
    let name = format!("{prefix}-{:08x}", synadb_storage::checksum::crc32c(input));
    let path = folder.join(name);
    fs::write(&path, input).expect("saved");
    path
}

/// Runs all of `known` and then mutations of them, until the time is over or one fails.
///
/// # Errors
/// The failure, made smaller.
pub fn fuzz(
    target: &Target,
    known: Vec<Vec<u8>>,
    seed: u64,
    time: Duration,
    findings: &Path,
) -> Result<Summary, Failure> {
    let (place, watch, began) = (workplace(), Watch::begin(findings.to_owned()), Instant::now());
    let run = |input: &[u8]| {
        watch.next(input);
        once(target, input, place.path())
    };
    let mut seen = HashSet::new();
    let mut summary = Summary { runs: 0, known: Vec::new() };
    for input in known {
        seen.insert(run(&input)?);
        summary.known.push(input);
    }
    let mut random = Random::new(seed);
    while began.elapsed() < time && !summary.known.is_empty() {
        let input = next(target, &summary.known, &mut random);
        summary.runs += 1;
        match run(&input) {
            Ok(signature) => {
                if seen.insert(signature) {
                    summary.known.push(input);
                }
            }
            Err(failure) => return Err(shrunk(failure, &run)),
        }
    }
    Ok(summary)
}

/// A mutation of one of the known inputs.
#[must_use]
pub fn next(target: &Target, known: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = known[random.below(known.len())].clone();
    let other = &known[random.below(known.len())];
    let fixed = (target.fixed)(&input).min(input.len());
    if fixed == 0 || random.below(16) == 0 {
        mutate(&mut input, other, random);
        return input;
    }
    if random.below(2) == 0 {
        input[0] ^= 1;
    }
    let mut changed = input.split_off(fixed);
    mutate(&mut changed, &other[(target.fixed)(other).min(other.len())..], random);
    input.extend(changed);
    input
}

/// Leaves pieces out as long as it fails the same way.
fn shrunk(mut failure: Failure, run: &dyn Fn(&[u8]) -> Result<String, Failure>) -> Failure {
    let began = Instant::now();
    let start = |message: &str| message.chars().take(24).collect::<String>();
    let mut piece = failure.input.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < failure.input.len() && began.elapsed() < SHRINK_TIME {
            let mut smaller = failure.input.clone();
            smaller.drain(at..(at + piece).min(failure.input.len()));
            match run(&smaller) {
                Err(other) if start(&other.message) == start(&failure.message) => failure = other,
                _ => at += piece,
            }
        }
        piece /= 2;
    }
    failure
}
