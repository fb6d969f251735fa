//! Saving and opening.

use std::sync::Arc;

use synadb_index::{Part, Section, SharedBytes};

use super::*;

pub fn shared<'a>(saved: &[Section<'a>]) -> Vec<(&'a str, SharedBytes)> {
    let share = |(name, bytes): &Section<'a>| (*name, Arc::new(bytes.to_vec()) as SharedBytes);
    saved.iter().map(share).collect()
}

#[test]
fn an_opened_index_is_the_saved_one() -> Result<(), IndexError> {
    let vectors = clustered(16, 1200, 30, 20);
    let source = Memory::new(&vectors, 30);
    for metric in METRICS {
        for codes in CODES {
            let index = build(metric, &config(codes, 32), &source)?;
            let saved = index.export();
            let opened = IvfIndex::import(&shared(&saved), u32::MAX, &source, &Job::default())?;
            assert_eq!(opened.export(), saved);
            assert_eq!(opened.rows(), index.rows());
            for query in &vectors[..20] {
                let how = IvfSearch { nprobe: 5, candidates: 50, ..IvfSearch::default() };
                let expected = search(&index, how, query, &Filter::All, &source, 10)?;
                assert_eq!(search(&opened, how, query, &Filter::All, &source, 10)?, expected);
            }
        }
    }
    Ok(())
}

#[test]
fn the_sections_of_another_version_are_refused() -> Result<(), IndexError> {
    let vectors = clustered(16, 200, 12, 5);
    let source = Memory::new(&vectors, 12);
    let index = build(Metric::Euclidean, &config(IvfCodes::Refined, 8), &source)?;
    for version in [0, 1, 2, 4_u64] {
        let mut saved = index.export();
        saved[0].1.to_mut()[..8].copy_from_slice(&version.to_le_bytes());
        let refused = IvfIndex::import(&shared(&saved), u32::MAX, &source, &Job::default()).err();
        let problem = "is of another version";
        assert_eq!(refused, Some(IndexError::Section { name: "ivf.header", problem }));
    }
    Ok(())
}

#[test]
fn a_damaged_section_is_refused_or_harmless() -> Result<(), IndexError> {
    let vectors = clustered(17, 300, 8, 10);
    let source = Memory::new(&vectors, 8);
    let mut random = Random(18);
    for codes in CODES {
        let index = build(Metric::Euclidean, &config(codes, 12), &source)?;
        let saved = index.export();
        let mut refused = 0;
        for round in 0..600 {
            let mut damaged = saved.clone();
            let at = round % damaged.len();
            let bytes = damaged[at].1.to_mut();
            let place = ((random.float() + 1.0) * 0.5 * bytes.len() as f32) as usize;
            if bytes.is_empty() || round % 5 == 0 {
                bytes.truncate(place);
                bytes.extend_from_slice(&[0; 3][..round % 4]);
            } else {
                let last = bytes.len() - 1;
                bytes[place.min(last)] ^= 1 << (round % 8);
            }
            match IvfIndex::import(&shared(&damaged), u32::MAX, &source, &Job::default()) {
                Ok(index) => {
                    let how = IvfSearch { nprobe: 4, candidates: 20, ..IvfSearch::default() };
                    search(&index, how, &vectors[1], &Filter::All, &source, 10)?;
                }
                Err(IndexError::Section { .. }) => refused += 1,
                Err(other) => return Err(other),
            }
        }
        assert!(refused > 200, "{refused}");
        assert!(IvfIndex::import(&[], u32::MAX, &source, &Job::default()).is_err());
        let other = Memory::new(&clustered(17, 300, 9, 10), 9);
        let sections = shared(&saved);
        assert!(IvfIndex::import(&sections, u32::MAX, &other, &Job::default()).is_err());
        // Rows that the source does not have are refused, and rows that others search.
        let fewer = Memory::new(&vectors[..200], 8);
        assert!(IvfIndex::import(&sections, u32::MAX, &fewer, &Job::default()).is_err());
        assert!(IvfIndex::import(&sections, 300, &source, &Job::default()).is_ok());
        assert!(IvfIndex::import(&sections, 299, &source, &Job::default()).is_err());
    }
    Ok(())
}

#[test]
fn a_row_in_more_than_two_places_is_refused() -> Result<(), IndexError> {
    let vectors = clustered(19, 300, 8, 10);
    let source = Memory::new(&vectors, 8);
    for codes in CODES {
        let index = build(Metric::Euclidean, &config(codes, 12), &source)?;
        let mut saved = index.export();
        let rows = saved.iter_mut().find(|(name, _)| *name == "ivf.rows").expect("rows");
        for row in rows.1.to_mut().chunks_mut(4).filter(|row| **row != [0xff; 4]) {
            row.copy_from_slice(&7_u32.to_le_bytes());
        }
        let refused = IvfIndex::import(&shared(&saved), 300, &source, &Job::default()).err();
        let problem = "names a row more than twice";
        assert_eq!(refused, Some(IndexError::Section { name: "ivf.rows", problem }));
    }
    Ok(())
}
