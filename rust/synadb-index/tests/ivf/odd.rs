//! Vectors and sets out of the ordinary.

use super::*;

#[test]
fn odd_rows_are_found() -> Result<(), IndexError> {
    // Zero vectors, exact duplicates, constant dimensions, and scales that f32 cannot square.
    let mut vectors = clustered(13, 400, 12, 8);
    vectors.extend(vec![vec![0.0; 12]; 30]);
    vectors.extend(vec![vec![7.0; 12]; 300]);
    vectors.extend(vectors[..40].to_vec());
    for scale in [1.0, 1e-25_f32, 1e25] {
        let scaled: Vec<Vec<f32>> =
            vectors.iter().map(|vector| vector.iter().map(|x| x * scale).collect()).collect();
        let source = Memory::new(&scaled, 12);
        for metric in METRICS {
            for codes in CODES {
                let index = build(metric, &config(codes, 16), &source)?;
                for query in [0, 410, 500, 760] {
                    let all = all_of(&index);
                    let hits = search(&index, all, &scaled[query], &Filter::All, &source, 5)?;
                    let truth = naive(metric, &scaled[query], &scaled, |_| true, 5);
                    assert_eq!(hits.len(), 5);
                    for (hit, (_, expected)) in hits.iter().zip(truth) {
                        let expected = expected.clamp(f32::MIN.into(), f32::MAX.into());
                        let error = (f64::from(hit.score) - expected).abs();
                        assert!(error <= 1e-5 * expected.abs() + 1e-7, "{metric:?} {codes:?}");
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn small_and_empty_sets_are_taken() -> Result<(), IndexError> {
    let vectors = clustered(14, 3, 5, 2);
    let source = Memory::new(&vectors, 5);
    for codes in CODES {
        let none = IvfConfig { codes, ..IvfConfig::default() };
        let job = Job::default();
        let empty = IvfIndex::build(Metric::Cosine, &none, &RowSet::new(), &source, &job)?;
        let how = empty.default_search();
        assert!(search(&empty, how, &vectors[0], &Filter::All, &source, 5)?.is_empty());
        let grown = empty.extend(&RowSet::range(RowId(0), 3), &source, &job)?;
        let hits = search(&grown, how, &vectors[1], &Filter::All, &source, 5)?;
        assert_eq!((hits.len(), hits[0].row), (3, RowId(1)));
        // A sample of nothing stands for the rows.
        let from = (&[][..], &source as &dyn VectorSource);
        let rows = RowSet::range(RowId(0), 3);
        let index = IvfIndex::build_from_sample(Metric::Cosine, &none, from, &rows, &source, &job)?;
        assert_eq!(search(&index, how, &vectors[1], &Filter::All, &source, 5)?.len(), 3);
        let gone = grown.extend(&RowSet::new(), &source, &job)?;
        assert!(search(&gone, how, &vectors[1], &Filter::All, &source, 5)?.is_empty());
    }
    Ok(())
}

#[test]
fn constant_dimensions_and_equal_rows_are_searched() -> Result<(), IndexError> {
    // Half of the dimensions are the same far number in every row; then all dimensions are.
    let mut vectors = clustered(51, 900, 20, 9);
    for vector in &mut vectors {
        vector[..10].fill(1000.0);
    }
    let equal = vec![vec![3.0; 20]; 900];
    for vectors in [vectors, equal] {
        let source = Memory::new(&vectors, 20);
        for metric in METRICS {
            for codes in CODES {
                let index = build(metric, &config(codes, 24), &source)?;
                let grown =
                    index.extend(&RowSet::range(RowId(0), 900), &source, &Job::default())?;
                let mut query = vectors[450].clone();
                query[15] += 0.01;
                for index in [index, grown] {
                    let how = IvfSearch {
                        nprobe: index.cells(),
                        candidates: 900,
                        ..IvfSearch::default()
                    };
                    let hits = search(&index, how, &query, &Filter::All, &source, 20)?;
                    let truth = naive(metric, &query, &vectors, |_| true, 20);
                    let error = 1e-5 * truth[19].1.abs() + 1e-6;
                    assert_eq!(hits.len(), 20);
                    let near = |hit: &&Hit| f64::from(hit.score) <= truth[19].1 + error;
                    let found = hits.iter().filter(near).count();
                    assert!(found >= 19, "{metric:?} {codes:?} {found}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn queries_near_to_nothing_are_answered() -> Result<(), IndexError> {
    let vectors = clustered(53, 700, 24, 9);
    let source = Memory::new(&vectors, 24);
    for metric in METRICS {
        for codes in CODES {
            let index = build(metric, &config(codes, 16), &source)?;
            for scale in [0.0, 1e-45_f32, 1e-38, 1e-31, 1e-19, 1e30] {
                let query: Vec<f32> = vectors[9].iter().map(|value| value * scale).collect();
                let how = all_of(&index);
                let hits = search(&index, how, &query, &Filter::All, &source, 5)?;
                let truth = naive(metric, &query, &vectors, |_| true, 5);
                for (hit, (_, expected)) in hits.iter().zip(truth) {
                    let error = (f64::from(hit.score) - expected).abs();
                    let allowed = 1e-5 * expected.abs() + 1e-6;
                    assert!(error <= allowed, "{metric:?} {codes:?} {scale} {error}");
                }
                assert_eq!(hits.len(), 5);
            }
        }
    }
    Ok(())
}
