//! Centroids of a sample that is unlike the rows.

use super::*;

/// Sums of random numbers, near to a bell curve.
fn gaussian(random: &mut Random, dimensions: usize) -> Vec<f32> {
    let mut one = || (0..12).map(|_| random.float()).sum::<f32>() / 2.0;
    (0..dimensions).map(|_| one()).collect()
}

fn moved(vectors: &[Vec<f32>], by: f32) -> Vec<Vec<f32>> {
    vectors.iter().map(|vector| vector.iter().map(|value| value + by).collect()).collect()
}

fn built(metric: Metric, sample: &[Vec<f32>], source: &Memory) -> Result<IvfIndex, IndexError> {
    let (rows, from) = (RowSet::range(RowId(0), source.rows_end()), Memory::new(sample, 32));
    let ids: Vec<RowId> = (0..sample.len() as u32).map(RowId).collect();
    let (config, job) = (IvfConfig::default(), Job::default());
    IvfIndex::build_from_sample(metric, &config, (&ids, &from), &rows, source, &job)
}

#[test]
fn a_sample_unlike_the_rows_costs_no_recall() -> Result<(), IndexError> {
    let mut random = Random(77);
    let all: Vec<Vec<f32>> = (0..3200).map(|_| gaussian(&mut random, 32)).collect();
    let (vectors, queries) = all.split_at(3000);
    let groups = clustered(5, 3200, 32, 64);
    let (grouped, of_groups) = groups.split_at(3000);
    let half: Vec<Vec<f32>> =
        (0..3000).filter(|at| at % 64 < 32).map(|at| grouped[at].clone()).collect();
    let positive = vectors.iter().map(|vector| vector.iter().map(|value| value.abs()).collect());
    let positive: Vec<Vec<f32>> = positive.collect();
    let samples = [
        (vectors, queries, moved(&vectors[..300], 100.0)),
        (vectors, queries, moved(&vectors[..1000], 3.0)),
        (vectors, queries, moved(&vectors[..1000], 1.0)),
        (vectors, queries, positive),
        (vectors, queries, vec![vec![0.0; 32]; 500]),
        (vectors, queries, vectors[..1].to_vec()),
        (grouped, of_groups, half),
        (grouped, of_groups, moved(&grouped[..1000], -7.0)),
    ];
    for metric in METRICS {
        for (at, (vectors, queries, sample)) in samples.iter().enumerate() {
            let source = Memory::new(vectors, 32);
            let (of_rows, of_sample) =
                (built(metric, &[], &source)?, built(metric, sample, &source)?);
            let find = |index: &IvfIndex| {
                let how = index.default_search();
                recall(index, how, queries, vectors, &Filter::All, &source)
            };
            let (most, found) = (find(&of_rows)?, find(&of_sample)?);
            assert!(found >= most - 0.005, "{metric:?} {at}: {found} of {most}");
        }
    }
    Ok(())
}

#[test]
fn the_centroids_of_a_sample_like_the_rows_are_kept() -> Result<(), IndexError> {
    let groups = clustered(6, 9000, 32, 64);
    let (vectors, sample) = groups.split_at(3000);
    let source = Memory::new(vectors, 32);
    for metric in METRICS {
        let (of_rows, of_sample) = (built(metric, &[], &source)?, built(metric, sample, &source)?);
        let points = |index: &IvfIndex| {
            let sections = index.export().into_iter();
            let points = sections.filter(|(name, _)| *name == "ivf.points");
            points.map(|(_, bytes)| bytes.into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(points(&of_rows).len(), 1);
        assert!(points(&of_rows) != points(&of_sample), "{metric:?}");
        let how = of_sample.default_search();
        let found = recall(&of_sample, how, &sample[..200], vectors, &Filter::All, &source)?;
        assert!(found >= 0.98, "{metric:?} {found}");
    }
    Ok(())
}
