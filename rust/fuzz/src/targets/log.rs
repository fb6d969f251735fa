//! Opening a file, whatever stands in it: for reading, for writing, and its repair.

use std::fs;
use std::path::Path;

use synadb::{Access, Error, Result, SynaDB, Value, repair};

use super::{Content, class, content, fast};
use crate::frames::{self, RESEAL};
use crate::input::Input;

/// Files of inputs are small, and what is written into them is, too.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// What a reader sees.
struct Seen {
    content: Content,
    is_whole: bool,
}

/// The input: options, identity, synced position, log.
pub fn run(input: &[u8], folder: &Path) -> String {
    let mut input = Input::new(input);
    let options = input.byte();
    let file = frames::file(options, &mut input, usize::MAX);
    let path = folder.join("log.db");
    fs::write(&path, &file).expect("written");
    let is_forged = options & RESEAL != 0;
    let seen = read(&path);
    assert!(fs::read(&path).expect("read") == file, "a reader changed the file");
    let signature = match &seen {
        Ok(seen) => format!("{} {}", seen.is_whole, seen.content.len()),
        Err(error) => class(error),
    };
    // Records whose checksums were made to fit may say anything: keys that are no text, payloads in
    // places that a writer changes. They must do no harm, and no more is asked of them.
    let sure = seen.as_ref().ok().filter(|_| !is_forged);
    let repaired = repaired(&path, folder, sure);
    assert!(fs::read(&path).expect("read") == file, "the repair changed the file");
    let written = written(&path, sure, is_forged);
    if seen.is_err() {
        assert!(written.is_err(), "a file that cannot be read was opened for writing");
        assert!(fs::read(&path).expect("read") == file, "a damaged file was changed");
    }
    let outcome = |result: Result<()>| result.map_or_else(|error| class(&error), |()| "ok".into());
    format!("{signature} | {} | {}", outcome(repaired), outcome(written))
}

fn read(path: &Path) -> Result<Seen> {
    let db = fast().access(Access::ReadOnly).open(path)?;
    let report = db.verify()?;
    let is_whole = report.damage.is_empty() && !db.recovery()?.torn;
    Ok(Seen { content: content(&db), is_whole })
}

/// Repairs the file into a new one, which is to be good.
fn repaired(path: &Path, folder: &Path, seen: Option<&Seen>) -> Result<()> {
    let target = folder.join("repaired.db");
    let result = repair(path, &target, &mut |_, _| true);
    if let Err(error) = result {
        assert!(!target.exists(), "a failed repair left a file");
        // A file of zeros is a database that nobody has written to yet.
        let is_blank = matches!(error, Error::NotADatabase { .. });
        assert!(seen.is_none() || is_blank, "a file that opens was not repaired: {error}");
        return Err(error);
    }
    let new = read(&target).expect("a repaired file opens");
    assert!(new.is_whole, "a repaired file is whole");
    if let Some(seen) = seen.filter(|seen| seen.is_whole) {
        assert_eq!(seen.content, new.content, "a whole file came back different");
    }
    Ok(())
}

/// Opens for writing, writes, compacts and reopens.
fn written(path: &Path, seen: Option<&Seen>, is_forged: bool) -> Result<()> {
    let db = fast().open(path)?;
    if let Some(seen) = seen {
        assert_eq!(seen.content, content(&db), "a writer sees something else than a reader");
    }
    let before = db.get_history("fuzz");
    db.append("fuzz", Value::Int(7))?;
    if let Ok(mut history) = before {
        history.push(Value::Int(7));
        same(&db.get_history("fuzz")?, &history);
    }
    let written = content(&db);
    db.close()?;
    let bytes = fs::metadata(path).expect("there").len();
    assert!(bytes < GROWTH_BYTES_MAX, "an input made a file of {bytes} bytes");
    let db = fast().open(path)?;
    assert!(is_forged || written == content(&db), "what was written is not there");
    compacted(&db, is_forged)
}

fn compacted(db: &SynaDB, is_forged: bool) -> Result<()> {
    let keys = db.keys();
    let values: Vec<_> = keys.iter().map(|key| db.get(key)).collect();
    db.compact()?;
    for (key, value) in keys.iter().zip(values) {
        match value {
            Ok(value) => same(&db.get(key)?, &value),
            // Bytes under a good checksum are carried, whether or not they make sense.
            Err(error) => assert!(is_forged, "a damaged value was carried: {error}"),
        }
    }
    assert!(is_forged || db.keys() == keys, "other keys than before");
    Ok(())
}

/// Compares as text: NaN is equal to NaN.
fn same<T: std::fmt::Debug>(left: &T, right: &T) {
    assert_eq!(format!("{left:?}"), format!("{right:?}"));
}
