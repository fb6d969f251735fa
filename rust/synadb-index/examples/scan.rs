//! Compares a flat search with one pass over the same memory.
//!
//! `cargo run --release --example scan [rows] [dimensions]`

mod memory;

use std::hint::black_box;
use std::time::Instant;

use synadb_index::{
    Filter, IndexError, Metric, Query, Scratch, TopK, VectorSource, inverse_norm, kernels,
    search_batch, search_tail,
};
use synadb_types::{RowId, RowSet};

use memory::Rows;

const ROUNDS: usize = 25;
const K: usize = 10;
const BATCH: usize = 32;

fn random(count: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Best time of several rounds, in milliseconds.
fn best_ms(mut round: impl FnMut()) -> f64 {
    let time = |round: &mut dyn FnMut()| {
        let start = Instant::now();
        round();
        start.elapsed().as_secs_f64() * 1e3
    };
    (0..ROUNDS).map(|_| time(&mut round)).fold(f64::INFINITY, f64::min)
}

fn search_ms(source: &Rows, metric: Metric, filter: &Filter) -> Result<f64, IndexError> {
    let query = Query::new(metric, &source.data[..source.dimensions])?;
    let (mut scratch, mut top, mut hits) = (Scratch::new(), TopK::new(K), Vec::new());
    let mut outcome = Ok(());
    let time = best_ms(|| {
        top.reset(K);
        hits.clear();
        let found =
            search_tail(0..source.rows_end(), &query, filter, source, &mut scratch, &mut top);
        if found.is_err() {
            outcome = found;
        }
        top.finish(&query, source, &mut hits);
        black_box(&hits);
    });
    outcome.map(|()| time)
}

fn batch_ms(source: &Rows, metric: Metric) -> Result<f64, IndexError> {
    let vectors = source.data.chunks(source.dimensions).take(BATCH);
    let queries =
        vectors.map(|vector| Query::new(metric, vector)).collect::<Result<Vec<_>, _>>()?;
    let mut tops: Vec<TopK> = queries.iter().map(|_| TopK::new(K)).collect();
    let mut scratch = Scratch::new();
    let mut outcome = Ok(());
    let time = best_ms(|| {
        tops.iter_mut().for_each(|top| top.reset(K));
        let all = 0..source.rows_end();
        let found = search_batch(all, &queries, &Filter::All, source, &mut scratch, &mut tops);
        if found.is_err() {
            outcome = found;
        }
    });
    outcome.map(|()| time)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let rows = arguments.next().transpose()?.unwrap_or(100_000);
    let dimensions = arguments.next().transpose()?.unwrap_or(384);
    let table = kernels()?;
    let data = random(rows * dimensions);
    let inverse_norms = data.chunks(dimensions).map(inverse_norm).collect();
    let source = Rows { dimensions, data, inverse_norms };

    // One pass over the bytes, with enough independent sums for the memory to be the limit.
    let pass = best_ms(|| {
        let (chunks, _) = source.data.as_chunks::<64>();
        let mut sums = [0_u32; 64];
        for chunk in chunks {
            for (sum, value) in sums.iter_mut().zip(chunk) {
                *sum = sum.wrapping_add(value.to_bits());
            }
        }
        black_box(sums);
    });
    let gigabytes = (rows * dimensions * size_of::<f32>()) as f64 / 1e6;
    println!("{} {rows} x {dimensions}", table.level.name());
    println!("one pass        {pass:8.3} ms  {:6.1} GB/s", gigabytes / pass);
    for metric in [Metric::Cosine, Metric::Euclidean, Metric::DotProduct] {
        let time = search_ms(&source, metric, &Filter::All)?;
        println!("{:<15} {time:8.3} ms  ratio {:.3}", format!("{metric:?}"), time / pass);
        let batch = batch_ms(&source, metric)? / BATCH as f64;
        println!("  in a batch    {batch:8.3} ms  ratio {:.3}", batch / pass);
    }
    for step in [2, 10, 100] {
        let allowed: RowSet = (0..rows as u32).step_by(step).map(RowId).collect();
        let time = search_ms(&source, Metric::Cosine, &Filter::Rows(allowed))?;
        println!("one row in {step:<4} {time:8.3} ms  ratio {:.3}", time / pass);
    }
    Ok(())
}
