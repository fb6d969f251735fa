//! `synadb-fuzz TARGET SECONDS [SEED]`, `synadb-fuzz run TARGET FILE...`, `synadb-fuzz seed`.
//!
//! Inputs are read from `rust/fuzz/corpus`; failing ones are saved below `target/fuzz-findings`, and with
//! `SYNADB_FUZZ_KEEP=1` those too that took a path of their own.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use synadb_fuzz::run::{self, Failure, corpus, save, workplace};
use synadb_fuzz::seeds::seeds;
use synadb_fuzz::targets::{TARGETS, Target};

fn corpus_of(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

fn findings_of(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fuzz-findings").join(target.name)
}

fn named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {})); // Who catches the panic shows it.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["seed"] => seed(),
        ["run", name, ref files @ ..] => match named(name) {
            Some(target) => run_files(target, files),
            None => usage(),
        },
        [name, seconds, ref rest @ ..] => {
            let number = rest.first().map_or(Some(1), |text| text.parse().ok());
            match (named(name), seconds.parse(), number) {
                (Some(target), Ok(seconds), Some(seed)) => fuzz(target, seconds, seed),
                _ => usage(),
            }
        }
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    eprintln!(
        "usage: synadb-fuzz ({}) SECONDS [SEED] | run TARGET FILE... | seed",
        names.join("|")
    );
    ExitCode::FAILURE
}

/// Writes the first inputs.
fn seed() -> ExitCode {
    for target in &TARGETS {
        for (index, input) in seeds(target.name, workplace().path()).iter().enumerate() {
            let path = save(&corpus_of(target), &format!("seed{index:02}"), input);
            println!("{}: {} bytes", path.display(), input.len());
        }
    }
    ExitCode::SUCCESS
}

fn run_files(target: &Target, files: &[&str]) -> ExitCode {
    let place = workplace();
    for file in files {
        let Ok(input) = std::fs::read(file) else {
            eprintln!("{file} cannot be read");
            return ExitCode::FAILURE;
        };
        match run::once(target, &input, place.path()) {
            Ok(signature) => println!("{file}: {signature}"),
            Err(Failure { message, .. }) => {
                println!("{file}: failed: {message}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn fuzz(target: &Target, seconds: u64, seed: u64) -> ExitCode {
    let known: Vec<Vec<u8>> =
        corpus(&corpus_of(target)).into_iter().map(|(_, file)| file).collect();
    let (name, count) = (target.name, known.len());
    let time = Duration::from_secs(seconds);
    match run::fuzz(target, known, seed, time, &findings_of(target)) {
        Ok(summary) => {
            let new = &summary.known[count..];
            println!("{name}: {} inputs, {} new paths, no failure", summary.runs, new.len());
            if std::env::var_os("SYNADB_FUZZ_KEEP").is_some() {
                new.iter().for_each(|input| drop(save(&findings_of(target), "path", input)));
            }
            ExitCode::SUCCESS
        }
        Err(Failure { input, message }) => {
            let path = save(&findings_of(target), "failure", &input);
            println!("{name}: failed: {message}\n{} has the input", path.display());
            ExitCode::FAILURE
        }
    }
}
