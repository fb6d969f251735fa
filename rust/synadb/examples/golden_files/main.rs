//! Writes the golden files of the format: `golden_files DIRECTORY`, or `make golden`.
//!
//! Ids and clock are seeded, so that the same code writes the same bytes: `tests/golden.rs`
//! compares them with what is kept in `tests/format`.

mod content;
mod script;

use std::path::Path;

fn main() {
    let Some(directory) = std::env::args().nth(1) else {
        eprintln!("usage: golden_files DIRECTORY");
        std::process::exit(2);
    };
    for name in content::write_all(Path::new(&directory)) {
        println!("{name}");
    }
}
