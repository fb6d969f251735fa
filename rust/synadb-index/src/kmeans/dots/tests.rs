use super::*;

fn codes(seed: u64, count: usize, limit: i16) -> Vec<Pair> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((state >> 33) % (2 * limit as u64 + 1)) as i64 - i64::from(limit)) as i16
    };
    (0..count).map(|_| [next(), next()]).collect()
}

fn exact(rows: &[Pair], panel: &[[Pair; PANEL]], row: usize, column: usize) -> i64 {
    let row = rows[row * panel.len()..].iter();
    let terms = row.zip(panel).flat_map(|(x, columns)| {
        let y = columns[column];
        [i64::from(x[0]) * i64::from(y[0]), i64::from(x[1]) * i64::from(y[1])]
    });
    terms.sum()
}

#[test]
fn every_level_gives_the_exact_products_of_every_length() {
    const LEN_MAX: usize = 2048;
    let (all, columns) = (codes(1, TILE_ROWS * LEN_MAX, 500), codes(2, PANEL * LEN_MAX, 500));
    let (panel, _) = columns.as_chunks::<PANEL>();
    let mut expected = [[0; PANEL]; TILE_ROWS];
    for len in 1..=LEN_MAX {
        let row = |row: usize| &all[row * LEN_MAX..][..len];
        let rows: Vec<Pair> = (0..TILE_ROWS).flat_map(|at| row(at).to_vec()).collect();
        let product = |x: i16, y: i16| i32::from(x) * i32::from(y);
        for (at, sums) in expected.iter_mut().enumerate() {
            let [x, y] = all[at * LEN_MAX + len - 1];
            for (sum, column) in sums.iter_mut().zip(&panel[len - 1]) {
                *sum += product(x, column[0]) + product(y, column[1]);
            }
        }
        for level in SimdLevel::ALL {
            // The plain kernel takes its time without optimisation.
            if level != SimdLevel::Scalar || len < 100 || len % 64 == 0 {
                let mut tile = Tile::default();
                tile_kernel(level)(&rows, &panel[..len], &mut tile);
                assert_eq!(tile, expected, "{level:?} {len}");
            }
        }
    }
}

#[test]
fn large_codes_are_exact() {
    for dimensions in (0_usize..=140).chain([255, 384, 785, 1024, 1535, 2048, 4095, 4096]) {
        let len = dimensions.div_ceil(2);
        // As large as rows of this length may be: the products come near to 2^30.
        let limit = (32_000.0 / f64::from(2 * len.max(1) as u32).sqrt()) as i16;
        let rows = codes(dimensions as u64, TILE_ROWS * len, limit);
        let columns = codes(!(dimensions as u64), PANEL * len, limit);
        let (panel, _) = columns.as_chunks::<PANEL>();
        for level in SimdLevel::ALL {
            let mut tile = [[-1; PANEL]; TILE_ROWS];
            tile_kernel(level)(&rows, panel, &mut tile);
            for (row, results) in tile.iter().enumerate() {
                for (column, &result) in results.iter().enumerate() {
                    assert_eq!(i64::from(result), exact(&rows, panel, row, column), "{level:?}");
                }
            }
        }
    }
}

#[test]
fn the_longest_rows_do_not_overflow() {
    for len in [1, 2048] {
        let component = if len == 1 { 22_627 } else { 500 };
        let rows = vec![[component; 2]; TILE_ROWS * len];
        let panel = vec![[[-component; 2]; PANEL]; len];
        for level in SimdLevel::ALL {
            let mut tile = Tile::default();
            tile_kernel(level)(&rows, &panel, &mut tile);
            let expected = -2 * len as i64 * i64::from(component).pow(2);
            assert!(tile.iter().flatten().all(|&sum| i64::from(sum) == expected), "{level:?}");
        }
    }
}

#[test]
#[should_panic(expected = "as long as its panel")]
fn rows_that_are_too_short_are_a_programmer_error() {
    tile_kernel(SimdLevel::Scalar)(&[[0; 2]; 11], &[[[0; 2]; PANEL]], &mut Tile::default());
}
