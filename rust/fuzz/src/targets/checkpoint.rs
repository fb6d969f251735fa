//! Importing a checkpoint beside a good log.

use std::fs;
use std::path::Path;

use synadb::{Access, Result, Value};

use super::{Content, class, content, fast};
use crate::frames::{self, RESEAL};
use crate::input::Input;

/// Where sections begin.
const FIRST_SECTION: usize = 4096;
const HEADER_BYTES: usize = 128;

struct Seen {
    content: Content,
    /// Whether a part of it comes from the checkpoint.
    is_saved: bool,
    is_whole: bool,
}

/// Options, the length of the log, and the log with its identity and synced position.
pub fn fixed(input: &[u8]) -> usize {
    let mut input = Input::new(input);
    input.byte();
    3 + 72 + usize::from(input.half())
}

/// The input: options, length of the log, identity, synced position, log, header, sections.
pub fn run(input: &[u8], folder: &Path) -> String {
    let mut input = Input::new(input);
    let options = input.byte();
    let log_bytes = usize::from(input.half());
    let log = frames::file(options & !RESEAL, &mut input, log_bytes);
    let mut checkpoint = input.take(HEADER_BYTES).to_vec();
    checkpoint.resize(FIRST_SECTION, 0);
    checkpoint.extend_from_slice(input.rest());
    if options & RESEAL != 0 {
        frames::reseal_checkpoint(&mut checkpoint);
    }
    let path = folder.join("saved.db");
    fs::write(&path, &log).expect("written");
    let without = read(&path);
    fs::write(folder.join("saved.db-ckpt"), &checkpoint).expect("written");
    let with = read(&path);
    let signature = match &with {
        Ok(seen) => format!("{} {}", seen.content.len(), seen.is_saved),
        Err(error) => class(error),
    };
    // One whose checksums were made to fit may lie; any other is right or is ignored. The log that
    // it spares from being read may be damaged.
    let is_same = match (&with, &without) {
        (Ok(with), Ok(without)) => with.content == without.content || !without.is_whole,
        (with, without) => with.is_err() == without.is_err() || without.is_err(),
    };
    assert!(is_same || options & RESEAL != 0, "the checkpoint changed what is read");
    let written = written(&path);
    format!(
        "{signature} {is_same} {}",
        written.map_or_else(|error| class(&error), |()| "ok".into())
    )
}

fn read(path: &Path) -> Result<Seen> {
    let db = fast().access(Access::ReadOnly).open(path)?;
    let recovery = db.recovery()?;
    Ok(Seen {
        content: content(&db),
        is_saved: recovery.replayed_from > 8192,
        is_whole: !recovery.torn && db.verify()?.damage.is_empty(),
    })
}

/// Goes on from the checkpoint.
fn written(path: &Path) -> Result<()> {
    let db = fast().open(path)?;
    for key in db.keys() {
        db.append(&key, Value::Float(0.5))?;
        db.append_floats(&key, &[1.5, 2.5])?;
    }
    db.append("new", Value::Int(1))?;
    db.checkpoint()?;
    drop(content(&db));
    db.compact()?;
    Ok(())
}
