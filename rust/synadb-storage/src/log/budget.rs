//! How much may be checksummed in search of what a damaged log still holds.

/// Bytes that may be checksummed in search of frames, for each byte of the log.
pub(super) const FRAME_BUDGET: u64 = 4;

/// Bytes that may yet be checksummed.
///
/// What looks like a frame or a record by chance may claim to be of any length, and would have a
/// search read the file as often as there is such a place.
pub(super) struct Budget(u64);

impl Budget {
    /// So many times some bytes.
    pub fn of(bytes: u64, times: u64) -> Self {
        Self(bytes.saturating_mul(times))
    }

    /// Whether that is no more than half of what is left: what claims to be much must leave enough
    /// for what is less.
    pub fn affords(&self, bytes: u64) -> bool {
        bytes <= self.0 / 2
    }

    /// Spends what it affords; false where that is less.
    pub fn spend(&mut self, bytes: u64) -> bool {
        let is_affordable = self.affords(bytes);
        if is_affordable {
            self.0 -= bytes;
        }
        is_affordable
    }

    /// Spends on what decides something: as long as it lasts.
    pub fn spend_all(&mut self, bytes: u64) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }

    /// Has so many times some bytes more to spend.
    pub fn earn(&mut self, bytes: u64, times: u64) {
        self.0 = self.0.saturating_add(bytes.saturating_mul(times));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_that_are_too_large_leave_enough_for_smaller_ones() {
        let mut budget = Budget::of(1_000, 4);
        assert!(!budget.spend(2_001));
        let spent = (0..100).filter(|_| budget.spend(1_000)).count();
        assert_eq!((spent, budget.0), (3, 1_000));
        for _ in 0..100 {
            budget.spend(300);
        }
        assert!(budget.0 >= 300 && budget.spend(150));
        budget.earn(1_000, 4);
        assert!(budget.spend(2_000));
    }

    #[test]
    fn what_decides_may_use_it_up() {
        let mut budget = Budget::of(10, 10);
        assert!(budget.spend_all(60) && !budget.spend_all(41));
        assert!(budget.spend_all(40) && !budget.spend_all(1) && budget.spend_all(0));
    }
}
