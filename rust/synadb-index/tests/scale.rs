//! Orders at scales where single precision gives out.

mod common;

use common::{Memory, Random, distance, naive, rows, search};
use proptest::prelude::*;
use synadb_index::{Filter, IndexError, Metric};
use synadb_types::RowId;

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Euclidean, Metric::DotProduct];

fn scaled(vectors: &[Vec<f32>], scale: impl Fn(usize) -> f32) -> Vec<Vec<f32>> {
    let scale_row =
        |(row, vector): (usize, &Vec<f32>)| vector.iter().map(|value| value * scale(row)).collect();
    vectors.iter().enumerate().map(scale_row).collect()
}

#[test]
fn the_cosine_order_does_not_depend_on_scale() -> Result<(), IndexError> {
    let mut random = Random(11);
    let vectors = random.vectors(400, 48);
    let query = random.vector(48);
    let expected: Vec<u32> =
        naive(Metric::Cosine, &query, &vectors, |_| true, 40).iter().map(|hit| hit.0.0).collect();
    // Powers of two keep every bit, so that the true order is the same.
    let scales = [2.0_f32.powi(-27), 2.0_f32.powi(66), 2.0_f32.powi(-100), 2.0_f32.powi(125)];
    for scale in scales {
        let source = Memory::new(&scaled(&vectors, |_| scale), 48);
        assert_eq!(rows(&search(Metric::Cosine, &query, &Filter::All, &source, 40)?), expected);
        let mixed = Memory::new(&scaled(&vectors, |row| scales[row % 4]), 48);
        assert_eq!(rows(&search(Metric::Cosine, &query, &Filter::All, &mixed, 40)?), expected);
        let query: Vec<f32> = query.iter().map(|value| value * scale).collect();
        assert_eq!(rows(&search(Metric::Cosine, &query, &Filter::All, &mixed, 40)?), expected);
    }
    Ok(())
}

#[test]
fn every_metric_is_in_order_at_every_scale() -> Result<(), IndexError> {
    let mut random = Random(12);
    for scale in [1e-42_f32, 1e-38, 1e-25, 1e-15, 1e-8, 1e20, 1e30, 2e38] {
        let vectors = scaled(&random.vectors(300, 20), |_| scale);
        let source = Memory::new(&vectors, 20);
        for query_scale in [1.0, scale] {
            let query: Vec<f32> =
                random.vector(20).iter().map(|value| value * query_scale).collect();
            for metric in METRICS {
                let found = search(metric, &query, &Filter::All, &source, 25)?;
                assert_eq!(found.len(), 25);
                assert!(found.iter().all(|hit| hit.score.is_finite()));
                let expected = naive(metric, &query, &vectors, |_| true, 25);
                for (hit, (_, nearest)) in found.iter().zip(expected) {
                    let real = distance(metric, &query, &vectors[hit.row.0 as usize]);
                    // Tiny vectors are all as far from a large query: single precision chooses.
                    let blurred = metric == Metric::Euclidean && query_scale > scale;
                    let relative = if blurred { 1e-7 } else { 1e-14 };
                    let allowed = relative * nearest.abs() + 1e-15 * f64::from(scale).min(1.0);
                    assert!((real - nearest).abs() <= allowed, "{metric:?} {scale}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_vector_is_at_distance_zero_from_itself() -> Result<(), IndexError> {
    let mut random = Random(13);
    for scale in [1e-40_f32, 1e-8, 1.0, 1e20, 1e38] {
        let vectors = scaled(&random.vectors(60, 31), |_| scale);
        let source = Memory::new(&vectors, 31);
        for metric in [Metric::Cosine, Metric::Euclidean] {
            for row in [0, 31, 59] {
                let hits = search(metric, &vectors[row], &Filter::All, &source, 1)?;
                assert_eq!((hits[0].row, hits[0].score), (RowId(row as u32), 0.0));
            }
        }
    }
    Ok(())
}

/// A crowd of rows that fills the results, then one row that is nearer.
fn last_of_a_crowd(
    metric: Metric,
    query: &[f32],
    crowd: Vec<f32>,
    nearer: Vec<f32>,
) -> Result<Vec<u32>, IndexError> {
    let mut vectors = vec![crowd; 50];
    vectors.push(nearer);
    let source = Memory::new(&vectors, query.len());
    Ok(rows(&search(metric, query, &Filter::All, &source, 1)?))
}

#[test]
fn a_nearer_row_is_found_although_its_fast_key_underflows() -> Result<(), IndexError> {
    let mut crowd = vec![0.0; 100];
    // The hundred squares of the nearer row sum up to 0.8e-43, but each is rounded up to 1.4e-45.
    crowd[0] = 3.16e-22;
    let nearer = vec![2.83e-23; 100];
    assert_eq!(last_of_a_crowd(Metric::Euclidean, &[0.0; 100], crowd.clone(), nearer)?, [50]);
    // The hundred products of the nearer row are each rounded down to zero.
    crowd[0] = 2e-43;
    let nearer = vec![4.2e-45; 100];
    assert_eq!(last_of_a_crowd(Metric::DotProduct, &[1.0; 100], crowd, nearer)?, [50]);
    Ok(())
}

#[test]
fn a_nearer_row_is_found_although_the_query_underflows_at_unit_length() -> Result<(), IndexError> {
    // The first component is 3.6e-49 at unit length, zero in f32, and decides beside 4e33.
    let query = [1.927_626e-28, 5.342_256e20, 0.0];
    let nearer = vec![3.986_46e33, 5.931_802e-30, 0.0];
    let crowd = vec![0.0, 1e-20, 0.0];
    assert_eq!(last_of_a_crowd(Metric::DotProduct, &query, crowd.clone(), nearer)?, [50]);
    // Two units of the last place become two thirds of one, which is rounded up to one.
    let query = [2.8e-45, 3.0, 0.0];
    let (crowd, nearer) = (vec![1e38, 0.0, 0.0], vec![0.0, 1.1e-7, 0.0]);
    assert_eq!(last_of_a_crowd(Metric::DotProduct, &query, crowd, nearer)?, [50]);
    Ok(())
}

proptest! {
    #[test]
    fn any_finite_vectors_give_the_naive_scores(
        vectors in prop::collection::vec(
            prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL
                | prop::num::f32::ZERO, 3),
            1..40,
        ),
        k in 1_usize..50,
    ) {
        let (query, vectors) = vectors.split_first().expect("at least one vector");
        let source = Memory::new(vectors, 3);
        for metric in METRICS {
            let found = search(metric, query, &Filter::All, &source, k).expect("a finite query");
            let expected = naive(metric, query, vectors, |_| true, k);
            prop_assert_eq!(found.len(), expected.len());
            for (hit, (_, nearest)) in found.iter().zip(expected) {
                let limit = f64::from(f32::MAX);
                let nearest = nearest.clamp(-limit, limit);
                let error = (f64::from(hit.score) - nearest).abs();
                // Among more rows than are kept beside the wanted ones, cosines that differ by the
                // rounding of a fast key alone may change places.
                let crowd = if metric == Metric::Cosine { 2e-7 } else { 0.0 };
                let limit = 2e-7 * nearest.abs() + 1e-12 + crowd;
                prop_assert!(error <= limit, "{} {}", hit.score, nearest);
            }
        }
    }
}
