//! A medium that several processes cannot share: `shared` is refused, everything else works.

use std::path::Path;
use std::sync::Arc;

use synadb_storage::directory::{Directory, SimulatedDirectory};
use synadb_storage::simulation::Medium;

use super::database::{Database, PATH};
use crate::config::{Access, OpenOptions};
use crate::error::Error;
use crate::value::Value;

const WHY: &str = "access 'shared' on some network file system; use access 'exclusive'";

fn directory(medium: &Arc<Medium>) -> Arc<SimulatedDirectory> {
    let directory = Arc::new(SimulatedDirectory::new(medium));
    directory.refuse_sharing(WHY);
    directory
}

fn open(medium: &Arc<Medium>, access: Access) -> crate::error::Result<Database> {
    Database::open_through(directory(medium), &OpenOptions::new().access(access))
}

#[test]
fn shared_is_refused_with_the_reason_and_makes_no_file() {
    let medium = Medium::new();
    match open(&medium, Access::Shared) {
        Err(Error::Unsupported { what }) => assert_eq!(what, WHY),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened"),
    }
    assert!(directory(&medium).inode(Path::new(PATH)).is_err(), "no file was made");
}

#[test]
fn exclusive_and_read_only_work_and_a_refusal_changes_nothing() {
    let medium = Medium::new();
    let database = open(&medium, Access::Exclusive).expect("opens");
    database.synced.append("k", Value::Int(1)).expect("puts");
    database.stores[0].1.insert("v", &[1.0; 5]).expect("inserts");
    assert!(matches!(open(&medium, Access::Shared), Err(Error::Unsupported { .. })));
    database.synced.append("k", Value::Int(2)).expect("goes on");
    database.synced.compact().expect("compacts");
    database.close().expect("closes");
    let database = open(&medium, Access::Exclusive).expect("opens again");
    assert_eq!(database.synced.get("k").expect("reads"), Some(Value::Int(2)));
    assert_eq!(database.stores[0].0.search(&[1.0; 5], 1).expect("searches")[0].key, "v");
    database.close().expect("closes");
    let reader = open(&medium, Access::ReadOnly).expect("opens for reading");
    assert_eq!(reader.synced.get("k").expect("reads"), Some(Value::Int(2)));
    reader.close().expect("closes");
}
