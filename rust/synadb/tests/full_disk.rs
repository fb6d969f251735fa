//! A real file system that is full: a small tmpfs in a mount namespace of its own.
//!
//! Where the machine does not allow that, the tests say why and do nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use synadb::{Access, Error, OpenOptions, SynaDB, Value};

/// Says where the small file system is, in the process that runs inside the namespace.
const MOUNTED: &str = "SYNADB_TEST_MOUNTED";
const SIZE: &str = "size=6m";
const VALUE_BYTES: usize = 10_000;
const BALLAST_BYTES: usize = 1 << 20;

/// Runs the test of that name again where a small file system is mounted; `None` if this is there.
fn inside(name: &str) -> Option<PathBuf> {
    if let Some(mounted) = std::env::var_os(MOUNTED) {
        return Some(PathBuf::from(mounted));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mount = format!("mount -t tmpfs -o {SIZE} tmpfs \"${MOUNTED}\"");
    let namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script]);
        command.env(MOUNTED, directory.path());
        command
    };
    match namespace(&mount).output() {
        Ok(tried) if tried.status.success() => {}
        Ok(tried) => {
            println!("skipped: no mounting here: {}", String::from_utf8_lossy(&tried.stderr));
            return None;
        }
        Err(error) => {
            println!("skipped: unshare cannot be run: {error}");
            return None;
        }
    }
    let program = std::env::current_exe().expect("this program");
    let script = format!("{mount} && exec \"$PROGRAM\" --exact {name} --nocapture");
    let run = namespace(&script).env("PROGRAM", program).output().expect("runs");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    assert!(said.contains("1 passed"), "{said}");
    None
}

fn value(number: usize) -> Value {
    Value::Bytes((0..VALUE_BYTES).map(|at| (number * 31 + at * 7) as u8).collect())
}

fn key(number: usize) -> String {
    format!("key{number}")
}

/// Writes until the disk is full; how many values are there.
fn fill(db: &SynaDB) -> usize {
    for number in 0.. {
        match db.append(&key(number), value(number)) {
            Ok(_) => {}
            Err(Error::DiskFull { .. }) => return number,
            Err(error) => panic!("value {number}: {error}"),
        }
    }
    unreachable!("the disk is small")
}

fn check(db: &SynaDB, values: usize) {
    assert_eq!(db.len(), values);
    for number in 0..values {
        assert_eq!(db.get(&key(number)).expect("reads"), Some(value(number)), "{number}");
    }
    assert_eq!(db.verify().expect("verifies").damage, []);
}

fn writes_go_on_once_there_is_space(directory: &Path, access: Access) {
    let (path, ballast) = (directory.join("a.db"), directory.join("ballast"));
    fs::write(&ballast, vec![1; BALLAST_BYTES]).expect("writes");
    let options = OpenOptions::new().access(access);
    let db = options.open(&path).expect("opens");
    let values = fill(&db);
    assert!(values > 50, "{values}");
    check(&db, values);
    for full in [db.compact().err(), db.append("large", Value::Bytes(vec![1; 5 << 20])).err()] {
        assert!(matches!(full, Some(Error::DiskFull { .. })), "{full:?}");
    }
    check(&db, values);
    fs::remove_file(&ballast).expect("removes");
    db.append(&key(values), value(values)).expect("there is space again");
    check(&db, values + 1);
    db.close().expect("closes");
    check(&options.open(&path).expect("opens"), values + 1);
    for file in fs::read_dir(directory).expect("lists").flatten() {
        let name = file.file_name().into_string().expect("a name of ours");
        assert!(!name.contains("-tmp-"), "{name} was left behind");
        fs::remove_file(file.path()).expect("removes");
    }
}

#[test]
fn full_disk_is_an_error_that_changes_nothing() {
    let Some(directory) = inside("full_disk_is_an_error_that_changes_nothing") else { return };
    for access in [Access::Shared, Access::Exclusive] {
        writes_go_on_once_there_is_space(&directory, access);
    }
}

#[test]
fn database_is_born_on_a_full_disk_once_there_is_space() {
    let Some(directory) = inside("database_is_born_on_a_full_disk_once_there_is_space") else {
        return;
    };
    let (path, ballast) = (directory.join("a.db"), directory.join("ballast"));
    // The file system is full when no more of this goes in.
    let written = fs::write(&ballast, vec![1; 8 << 20]);
    assert_eq!(written.map_err(|error| error.kind()), Err(std::io::ErrorKind::StorageFull));
    for _ in 0..2 {
        match OpenOptions::new().open(&path) {
            Err(Error::DiskFull { .. }) => {}
            other => panic!("{:?}", other.err()),
        }
        assert!(!path.exists(), "it left a file");
    }
    fs::write(&path, b"").expect("a name takes no space");
    assert!(matches!(OpenOptions::new().open(&path), Err(Error::DiskFull { .. })));
    assert!(path.exists(), "it was there before");
    fs::remove_file(&ballast).expect("removes");
    let db = OpenOptions::new().open(&path).expect("opens");
    db.append("k", Value::Int(1)).expect("appends");
    check_one(&path, db);
}

#[test]
fn closing_and_opening_on_a_full_disk_need_no_space_for_a_checkpoint() {
    let name = "closing_and_opening_on_a_full_disk_need_no_space_for_a_checkpoint";
    let Some(directory) = inside(name) else { return };
    for access in [Access::Shared, Access::Exclusive] {
        let path = directory.join(format!("{access:?}.db"));
        let options = OpenOptions::new().access(access);
        let db = options.open(&path).expect("opens");
        let values = fill(&db);
        // What is left goes as well: the checkpoint of so few keys would fit.
        let ballast = directory.join("ballast");
        let written = fs::write(&ballast, vec![1; 8 << 20]);
        assert_eq!(written.map_err(|error| error.kind()), Err(std::io::ErrorKind::StorageFull));
        db.close().expect("the log has it all");
        fs::write(&ballast, vec![1; 8 << 20]).expect_err("closing has trimmed the file");
        let db = options.open(&path).expect("opens without a checkpoint");
        check(&db, values);
        db.close().expect("closes");
        for file in fs::read_dir(&directory).expect("lists").flatten() {
            fs::remove_file(file.path()).expect("removes");
        }
    }
}

fn check_one(path: &Path, db: SynaDB) {
    db.close().expect("closes");
    let db = OpenOptions::new().open(path).expect("opens");
    assert_eq!(db.get("k").expect("reads"), Some(Value::Int(1)));
}
