//! Saving and opening: what is written is read again, and nothing is believed.

use std::sync::Arc;

use synadb_index::SharedBytes;

use super::*;

/// So many that a short queue is walked and not a scan.
const ROWS: usize = 1500;

fn source() -> Memory {
    let mut vectors = clustered(&mut Random(31), ROWS, 64);
    vectors[9] = vectors[4].clone();
    Memory::new(&vectors, 64)
}

fn small_queue() -> CascadeConfig {
    CascadeConfig { ef_search: 20, num_tables: 4, ..tight() }
}

fn import(sections: &[(&'static str, Vec<u8>)]) -> Result<CascadeIndex, IndexError> {
    let shared = |bytes: &Vec<u8>| -> SharedBytes { Arc::new(bytes.clone()) };
    let sections: Vec<_> = sections.iter().map(|(name, bytes)| (*name, shared(bytes))).collect();
    CascadeIndex::import(&sections, ROWS as u32)
}

#[test]
fn an_imported_index_is_the_same() -> Result<(), IndexError> {
    let source = source();
    for metric in METRICS {
        let how = CascadeSearch { num_probes: 7, ef_search: 24 };
        let index = build(metric, &small_queue(), &source)?.with_search(how);
        let sections = owned(&index);
        let again = import(&sections)?;
        assert_eq!(owned(&again), sections);
        assert_eq!((again.rows(), again.config()), (index.rows(), index.config()));
        assert_eq!((again.default_search(), again.stats()), (how, index.stats()));
        for query in clustered(&mut Random(32), 20, 64) {
            let expected = find(&index, &query, &Filter::All, &source, 10)?;
            assert_eq!(find(&again, &query, &Filter::All, &source, 10)?, expected);
        }
    }
    Ok(())
}

#[test]
fn a_section_that_is_missing_or_cut_is_refused() -> Result<(), IndexError> {
    let sections = owned(&build(Metric::Cosine, &small_queue(), &source())?);
    assert_eq!(sections.len(), 11);
    for place in 0..sections.len() {
        let mut without = sections.clone();
        let name = without.remove(place).0;
        let refused = |found: Result<CascadeIndex, IndexError>| {
            assert!(matches!(found, Err(IndexError::Section { .. })), "{name}: {found:?}");
        };
        refused(import(&without));
        let mut cut = sections.clone();
        cut[place].1.pop();
        refused(import(&cut));
        let mut longer = sections.clone();
        longer[place].1.push(0);
        refused(import(&longer));
    }
    Ok(())
}

#[test]
fn branches_that_are_no_trees_are_refused() -> Result<(), IndexError> {
    let sections = owned(&build(Metric::Cosine, &small_queue(), &source())?);
    let place = sections.iter().position(|s| s.0 == "cascade.trees").expect("a section");
    // Behind four roots come a threshold and two branches for each split.
    for (at, branch) in [(0, 1), (20, 0), (20, 1 << 20), (24, 1 << 31 | 1 << 20), (20, u32::MAX)] {
        let mut broken = sections.clone();
        broken[place].1[at..at + 4].copy_from_slice(&branch.to_le_bytes());
        let error = import(&broken).expect_err("refused").to_string();
        assert!(error.contains("no set of trees"), "{error}");
    }
    Ok(())
}

#[test]
fn no_byte_of_a_section_is_believed() -> Result<(), IndexError> {
    let source = source();
    let sections = owned(&build(Metric::DotProduct, &small_queue(), &source)?);
    let (mut random, mut accepted, mut refused) = (Random(33), 0, 0);
    for round in 0..1100 {
        let mut broken = sections.clone();
        let place = round % broken.len();
        let bytes = &mut broken[place].1;
        for _ in 0..1 + round % 40 {
            let at = random.next() as usize % bytes.len();
            bytes[at] = [0, 0xff, random.next() as u8, bytes[at] ^ 1 << (round % 8)][round % 4];
        }
        // Refused, or searched without a panic and without a row that does not exist.
        let index = match import(&broken) {
            Ok(index) if index.metric() == Metric::DotProduct => index,
            Ok(_) => continue,
            Err(IndexError::Section { .. }) => {
                refused += 1;
                continue;
            }
            Err(other) => return Err(other),
        };
        accepted += 1;
        for query in clustered(&mut Random(34), 3, 64) {
            // Its own search may have become one of billions of buckets.
            let how = CascadeSearch { num_probes: 30, ef_search: 20 };
            let Ok(hits) = search(&index, how, &query, &Filter::All, &source, 10) else { continue };
            assert!(hits.iter().all(|hit| (hit.row.0 as usize) < ROWS));
        }
    }
    assert!(accepted > 100 && refused > 100, "{accepted} {refused}");
    Ok(())
}
