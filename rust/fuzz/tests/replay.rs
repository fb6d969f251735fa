//! The inputs that are kept, and a few mutations of each, by every test run.

use std::path::Path;

use synadb_fuzz::mutate::Random;
use synadb_fuzz::run::{corpus, next, once, workplace};
use synadb_fuzz::targets::TARGETS;

const MUTATIONS: usize = 150;

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let (place, inputs) = (workplace(), corpus(&folder));
    assert!(!inputs.is_empty(), "no inputs in {}", folder.display());
    for (path, input) in &inputs {
        if let Err(failure) = once(target, input, place.path()) {
            panic!("{}: {}", path.display(), failure.message);
        }
    }
    let known: Vec<_> = inputs.into_iter().map(|(_, input)| input).collect();
    let mut random = Random::new(1);
    for _ in 0..MUTATIONS {
        let input = next(target, &known, &mut random);
        if let Err(failure) = once(target, &input, place.path()) {
            panic!("{:?}: {}", failure.input, failure.message);
        }
    }
}

#[test]
fn logs() {
    replay("log");
}

#[test]
fn values() {
    replay("value");
}

#[test]
fn checkpoints() {
    replay("checkpoint");
}

#[test]
fn models() {
    replay("model");
}
