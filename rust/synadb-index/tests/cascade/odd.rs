//! Stores and vectors out of the ordinary.

use super::*;

#[test]
fn small_stores_are_searched_in_full() -> Result<(), IndexError> {
    let mut random = Random(11);
    for count in [0, 1, 2, 33, 200] {
        let vectors = clustered(&mut random, count, 70);
        let source = Memory::new(&vectors, 70);
        for metric in METRICS {
            let index = build(metric, &CascadeConfig::small(), &source)?;
            assert_eq!((index.rows().len(), index.stats().vector_count), (count, count));
            let query = random.vector(70);
            for k in [0, 1, count, count + 5, usize::MAX] {
                let hits = find(&index, &query, &Filter::All, &source, k)?;
                let truth = naive(metric, &query, &vectors, |_| true, k);
                let truth: Vec<u32> = truth.iter().map(|(row, _)| row.0).collect();
                assert_eq!(hits.len(), k.min(count), "{k} of {count}");
                assert!(k < count || rows(&hits) == truth, "{metric:?} {k} of {count}");
            }
        }
    }
    Ok(())
}

#[test]
fn equal_and_zero_vectors_are_found() -> Result<(), IndexError> {
    let mut random = Random(12);
    let mut vectors = clustered(&mut random, 4000, 60);
    let one = vectors[3].clone();
    (300..900).for_each(|row| vectors[row].clone_from(&one));
    (950..960).for_each(|row| vectors[row].fill(0.0));
    let source = Memory::new(&vectors, 60);
    for metric in METRICS {
        let index = build(metric, &tight(), &source)?;
        let distinct = Filter::Rows((0..300).chain(900..4000).map(RowId).collect());
        let queries = clustered(&mut random, 20, 60);
        let found = recall(&index, &queries, &vectors, &distinct, &source)?;
        assert!(found >= 0.9, "{metric:?} {found}");
        if metric != Metric::DotProduct {
            let expected: Vec<u32> = [3].into_iter().chain(300..319).collect();
            assert_eq!(rows(&find(&index, &one, &Filter::All, &source, 20)?), expected);
        }
        // Under the cosine a zero query is as far from every row.
        let hits = find(&index, &[0.0; 60], &Filter::All, &source, 10)?;
        assert_eq!(hits.len(), 10);
        let zeros = metric == Metric::Euclidean;
        assert!(!zeros || rows(&hits) == (950..960).collect::<Vec<_>>());
    }
    Ok(())
}

#[test]
fn all_rows_may_be_equal() -> Result<(), IndexError> {
    let vectors = vec![vec![3.0; 20]; 3000];
    let source = Memory::new(&vectors, 20);
    for metric in METRICS {
        let index = build(metric, &tight(), &source)?;
        let hits = find(&index, &[1.0; 20], &Filter::All, &source, 30)?;
        assert_eq!(rows(&hits), (0..30).collect::<Vec<_>>());
    }
    Ok(())
}

#[test]
fn parameters_beyond_their_limits_are_taken() -> Result<(), IndexError> {
    let mut random = Random(13);
    let vectors = clustered(&mut random, 1500, 30);
    let source = Memory::new(&vectors, 30);
    let most = usize::MAX;
    for (sizes, split_threshold) in [(0, 0), (0, most), (most, 1), (most, most)] {
        let config = CascadeConfig {
            num_bits: sizes,
            num_tables: sizes,
            split_threshold,
            max_bucket_depth: sizes,
            m: sizes,
            m_max: sizes,
            num_probes: sizes,
            ef_search: 20,
            seed: 1,
            quantized: true,
        };
        let index = build(Metric::Euclidean, &config, &source)?;
        let found = recall(&index, &vectors[..10], &vectors, &Filter::All, &source)?;
        assert!(found >= 0.8, "{config:?} {found}");
    }
    Ok(())
}

#[test]
fn a_query_of_other_dimensions_is_refused() -> Result<(), IndexError> {
    let mut random = Random(14);
    let source = Memory::new(&random.vectors(40, 8), 8);
    let index = build(Metric::Cosine, &CascadeConfig::default(), &source)?;
    let error = find(&index, &[1.0; 7], &Filter::All, &source, 1).err();
    assert_eq!(error, Some(IndexError::Dimensions { query: 7, source: 8 }));
    Ok(())
}
