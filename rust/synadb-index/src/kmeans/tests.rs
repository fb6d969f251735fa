use std::sync::atomic::AtomicBool;

use super::*;
use crate::{Block, SimdLevel, inverse_norm};

/// Vectors side by side.
struct Rows {
    dimensions: usize,
    data: Vec<f32>,
}

impl VectorSource for Rows {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn rows_end(&self) -> u32 {
        (self.data.len() / self.dimensions) as u32
    }

    fn block(&self, row: RowId) -> Option<Block<'_>> {
        let data = self.data.get(row.0 as usize * self.dimensions..)?;
        let count = data.len() / self.dimensions;
        (count > 0).then_some(Block { first: row, count, stride: self.dimensions, data })
    }

    fn inverse_norms(&self, first: RowId, out: &mut [f32]) {
        let vectors = self.data.chunks(self.dimensions).skip(first.0 as usize);
        for (out, vector) in out.iter_mut().zip(vectors) {
            *out = inverse_norm(vector);
        }
    }

    fn is_live(&self, _row: RowId) -> bool {
        true
    }
}

impl Rows {
    fn all(&self) -> Vec<RowId> {
        (0..self.rows_end()).map(RowId).collect()
    }
}

fn float(random: &mut Random) -> f32 {
    (random.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// Groups of rows around far corners.
fn groups(groups: usize, each: usize, dimensions: usize, spread: f32) -> Rows {
    let mut random = Random::new(7);
    let corners: Vec<f32> = (0..groups * dimensions).map(|_| 10.0 * float(&mut random)).collect();
    let mut data = Vec::new();
    for _ in 0..each {
        for corner in corners.chunks(dimensions) {
            data.extend(corner.iter().map(|value| value + spread * float(&mut random)));
        }
    }
    Rows { dimensions, data }
}

fn squared(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum()
}

/// Mean squared distance to the nearest centroid.
fn inertia(rows: &Rows, centroids: &[f32]) -> f64 {
    let nearest = |row: &[f32]| {
        let distances = centroids.chunks(rows.dimensions).map(|centroid| squared(row, centroid));
        distances.fold(f64::INFINITY, f64::min)
    };
    rows.data.chunks(rows.dimensions).map(nearest).sum::<f64>() / f64::from(rows.rows_end())
}

fn centred(rows: &Rows) -> RowCodes {
    let frame = Frame::of(Metric::Euclidean, &rows.all(), rows);
    let table = kernels().expect("a level");
    let crew = Job::default();
    frame.encode(&rows.all(), rows, table, &crew.crew()).expect("not cancelled")
}

#[test]
fn codes_are_off_by_half_a_scale_at_most() {
    let table = kernels().expect("a level");
    let mut random = Random::new(3);
    for dimensions in [1_usize, 2, 3, 31, 384, 785, 4096] {
        for size in [1e-9_f32, 1.0, 1e9] {
            let vector: Vec<f32> = (0..dimensions).map(|_| size * float(&mut random)).collect();
            let mut codes = vec![[0; 2]; dimensions.div_ceil(2)];
            let (scale, squared_norm) = codes::encode(&vector, &mut codes, table);
            assert!(
                (f64::from(squared_norm) / squared(&vector, &vec![0.0; dimensions]) - 1.0).abs()
                    < 1e-4
            );
            for (&code, &value) in codes.as_flattened().iter().zip(&vector) {
                // Half a step, and the rounding of the product of up to 32,000.
                let error = (f32::from(code) * scale - value).abs();
                assert!(error <= scale * 0.51, "{error} {scale}");
            }
        }
    }
}

#[test]
fn nearest_centroids_are_those_of_double_precision() -> Result<(), IndexError> {
    for (count, centroids, dimensions) in [(1, 1, 1), (13, 5, 3), (600, 40, 33), (50, 17, 384)] {
        let rows = groups(centroids, count, dimensions, 4.0);
        let rows = Rows { dimensions, data: rows.data[..count * dimensions].to_vec() };
        let codes = centred(&rows);
        let points: Vec<f32> = (0..centroids.min(count))
            .flat_map(|row| codes.vector(row)[..dimensions].to_vec())
            .collect();
        for level in SimdLevel::ALL.into_iter().filter(|level| level.is_supported()) {
            let panels = Panels::pack(&points, dimensions, Kernels::for_level(level)?);
            let mut out = vec![[NONE; 3]; count];
            let job = Job::with_threads(2);
            nearest(&codes, 0..count, &panels, tile_kernel(level), &job.crew(), &mut out)?;
            for (row, found) in out.iter().enumerate() {
                let vector = &codes.vector(row)[..dimensions];
                let mut exact: Vec<f64> =
                    points.chunks(dimensions).map(|point| squared(vector, point)).collect();
                let real = exact.clone();
                exact.sort_by(f64::total_cmp);
                for (near, expected) in found.iter().zip(&exact) {
                    // The codes are of both sides: twice half a step times the other's length.
                    let size = f64::from(codes.squared_norm(row)) + 16.0;
                    let bound = size * 2.0 * (dimensions as f64).sqrt() / 32_000.0;
                    assert!((real[near.cell as usize] - expected).abs() <= bound);
                    let key = f64::from(near.key + codes.squared_norm(row));
                    assert!((key - expected).abs() <= bound, "{key} {expected} {bound}");
                }
                assert!(found[exact.len().min(3)..].iter().all(|near| *near == NONE));
            }
        }
    }
    Ok(())
}

#[test]
fn separate_groups_are_found() -> Result<(), IndexError> {
    // Far from the origin, and tiny: the frame has to bring both to where codes have digits.
    for (shift, size) in [(0.0, 1.0), (3000.0, 1.0), (0.0, 1e-30), (0.0, 1e25)] {
        let mut rows = groups(12, 40, 20, 0.01);
        rows.data.iter_mut().for_each(|value| *value = (*value + shift) * size);
        let spread = 0.01 * f64::from(size);
        let settings = KMeans { centroids: 40, iterations: 10, ..KMeans::default() };
        let centroids = settings.train(Metric::Euclidean, &rows.all(), &rows, &Job::default())?;
        assert_eq!(centroids.len(), 40 * 20);
        let limit = 20.0 * spread.powi(2) + (f64::from(shift) * 1e-6).powi(2) * 20.0;
        assert!(
            inertia(&rows, &centroids) <= limit,
            "{shift} {size} {}",
            inertia(&rows, &centroids)
        );
    }
    Ok(())
}

#[test]
fn threads_do_not_change_a_byte() -> Result<(), IndexError> {
    let rows = groups(30, 100, 17, 5.0);
    let settings = KMeans { centroids: 64, seed: 9, ..KMeans::default() };
    let train = |threads| {
        let job = Job::with_threads(threads);
        let found = settings.train(Metric::Cosine, &rows.all(), &rows, &job)?;
        Ok::<Vec<u32>, IndexError>(found.iter().map(|value| value.to_bits()).collect())
    };
    let alone = train(1)?;
    assert_eq!(alone, train(1)?);
    assert_eq!(alone, train(3)?);
    let other = KMeans { seed: 10, ..settings.clone() };
    let other = other.train(Metric::Cosine, &rows.all(), &rows, &Job::default())?;
    assert_ne!(alone, other.iter().map(|value| value.to_bits()).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn spherical_centroids_have_unit_length() -> Result<(), IndexError> {
    let rows = groups(6, 50, 9, 3.0);
    let settings = KMeans { centroids: 8, spherical: true, ..KMeans::default() };
    let centroids = settings.train(Metric::Cosine, &rows.all(), &rows, &Job::default())?;
    for centroid in centroids.chunks(9) {
        assert!((squared(centroid, &[0.0; 9]) - 1.0).abs() < 1e-5);
    }
    Ok(())
}

#[test]
fn a_centroid_that_loses_its_rows_takes_half_of_the_largest() -> Result<(), IndexError> {
    // Equal first rows leave all but one centroid without rows.
    let mut data = vec![1.0; 60];
    data.extend((0..600).map(|value| (value % 30) as f32));
    let rows = Rows { dimensions: 2, data };
    let codes = centred(&rows);
    let mut lloyd = Lloyd::new(&codes, 16, 2, kernels()?);
    for _ in 0..4 {
        lloyd.round(1.0, None, &Job::default().crew())?;
    }
    let job = Job::default();
    let near = lloyd.assign(330, &job.crew())?;
    let mut used: Vec<u32> = near.iter().map(|[near]| near.cell).collect();
    used.sort_unstable();
    used.dedup();
    assert!(used.len() >= 12, "{} centroids have rows", used.len());
    Ok(())
}

#[test]
fn odd_inputs_are_taken() -> Result<(), IndexError> {
    let settings = KMeans::default();
    let none = Rows { dimensions: 4, data: Vec::new() };
    assert!(settings.train(Metric::Cosine, &[], &none, &Job::default())?.is_empty());
    let zeros = Rows { dimensions: 4, data: vec![0.0; 4 * 10] };
    for metric in [Metric::Cosine, Metric::Euclidean, Metric::DotProduct] {
        let centroids = settings.train(metric, &zeros.all(), &zeros, &Job::default())?;
        assert_eq!(centroids, vec![0.0; 4 * 10]);
    }
    let mut wide = groups(4, 30, 4, 1.0);
    wide.data[0] = f32::MAX;
    wide.data[7] = f32::MIN;
    let centroids = settings.train(Metric::Euclidean, &wide.all(), &wide, &Job::default())?;
    assert!(centroids.iter().all(|value| value.is_finite()));
    Ok(())
}

#[test]
fn a_cancelled_training_says_so() {
    let rows = groups(4, 30, 4, 1.0);
    let cancel = AtomicBool::new(true);
    let job = Job { cancel: Some(&cancel), ..Job::default() };
    let error = KMeans::default().train(Metric::Euclidean, &rows.all(), &rows, &job).err();
    assert_eq!(error, Some(IndexError::Cancelled));
}
