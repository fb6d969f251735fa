//! The promises of the presets on the embeddings that the repository ships.

#[path = "../common/npz.rs"]
mod npz;

use super::*;

#[test]
fn every_preset_keeps_its_promise_on_shipped_embeddings() -> Result<(), IndexError> {
    let (passages, questions) = npz::shipped();
    assert_eq!((passages.len(), questions.len()), (2500, 1000));
    let source = Memory::new(&passages, 384);
    for (name, floor) in PRESETS {
        for metric in [Metric::Cosine, Metric::Euclidean] {
            let index = build(metric, &preset(name), &source)?;
            let found = recall(&index, &questions[..100], &passages, &Filter::All, &source)?;
            assert!(found >= floor, "{name} {metric:?} {found}");
            // A quarter of the queue is walked in so small a store too.
            let ef_search = index.default_search().ef_search / 4;
            let short = CascadeSearch { ef_search, ..index.default_search() };
            let index = index.with_search(short);
            let found = recall(&index, &questions[..100], &passages, &Filter::All, &source)?;
            assert!(found >= 0.85, "{name} {metric:?} {found} with a queue of {ef_search}");
        }
    }
    Ok(())
}
