//! How deep an inverted file is searched where some of its rows may not be found.

/// An inverted file looks deeper where many of its rows may not be found, so deep at most, or so
/// many times as many as are wanted; the few that may be found are scanned then.
const DEPTH_MAX: usize = 1024;
const DEPTHS: usize = 4;

/// Among so many rows of an inverted file the `k` nearest of those that can be found are, `share` of
/// all: in steps, so that filters that let about as much pass need one tuning. `None` beyond what
/// is worth it.
pub(super) fn depth_of(k: usize, share: f64) -> Option<usize> {
    let deep = k as f64 / share.max(f64::MIN_POSITIVE);
    let most = DEPTH_MAX.max(k.saturating_mul(DEPTHS)) as f64;
    match deep {
        _ if deep > most => None,
        _ if deep * 4.0 <= k as f64 * 5.0 => Some(k),
        _ => (deep.ceil() as usize).checked_next_power_of_two(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inverted_file_looks_as_deep_as_its_rows_are_hidden() {
        assert_eq!(depth_of(10, 1.0), Some(10));
        assert_eq!(depth_of(10, 0.8), Some(10));
        assert_eq!(depth_of(10, 0.5), Some(32));
        assert_eq!(depth_of(10, 0.1), Some(128));
        assert_eq!(depth_of(10, 0.005), None);
        assert_eq!(depth_of(1000, 0.3), Some(4096));
        assert_eq!(depth_of(10, 0.0), None);
        assert_eq!(depth_of(usize::MAX, 0.6), None);
    }
}
