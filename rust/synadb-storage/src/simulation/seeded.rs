//! What is not determined elsewhere, determined for one thread: the clock and the database ids.

use std::cell::{Cell, RefCell};

use super::Random;

thread_local! {
    static CLOCK: Cell<Option<u64>> = const { Cell::new(None) };
    static IDS: RefCell<Option<Random>> = const { RefCell::new(None) };
}

/// From now on this thread's clock begins at `time_us`, one microsecond a look; `None` ends it.
pub fn set_clock(time_us: Option<u64>) {
    CLOCK.set(time_us);
}

/// From now on new databases of this thread get ids from `seed`; `None` ends it.
pub fn seed_ids(seed: Option<u64>) {
    IDS.set(seed.map(Random::new));
}

pub(crate) fn now_us() -> Option<u64> {
    let time = CLOCK.get()?;
    CLOCK.set(Some(time.saturating_add(1)));
    Some(time)
}

pub(crate) fn database_id() -> Option<[u8; 16]> {
    IDS.with_borrow_mut(|ids| {
        let ids = ids.as_mut()?;
        let (first, second) = (ids.draw().to_le_bytes(), ids.draw().to_le_bytes());
        Some(std::array::from_fn(|i| if i < 8 { first[i] } else { second[i - 8] }))
    })
}
