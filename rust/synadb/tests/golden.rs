//! The golden files of the format: this version writes the same bytes as the one that made them.

#[path = "../examples/golden_files/content.rs"]
mod content;
#[path = "../examples/golden_files/script.rs"]
mod script;

use std::path::PathBuf;

fn kept() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/format/v1"))
}

#[test]
fn the_generator_writes_the_golden_files_byte_for_byte() {
    let directory = tempfile::tempdir().expect("a directory");
    let names = content::write_all(directory.path());
    let mut found: Vec<String> = std::fs::read_dir(kept())
        .expect("golden files")
        .map(|entry| script::name_of(&entry.expect("an entry").path()))
        .collect();
    found.sort();
    let mut expected = names.clone();
    expected.sort();
    assert_eq!(found, expected);
    for name in names {
        let new = std::fs::read(directory.path().join(&name)).expect("written");
        let old = std::fs::read(kept().join(&name)).expect("kept");
        let differs = old.iter().zip(&new).position(|(old, new)| old != new);
        let lengths = (old.len(), new.len());
        assert!(
            differs.is_none() && old.len() == new.len(),
            "{name}: byte {differs:?}, lengths {lengths:?}"
        );
    }
}
