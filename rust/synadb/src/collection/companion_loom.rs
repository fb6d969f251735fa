//! The swap of an index in all orders of its loads, stores and locks; built with `--cfg loom` alone.

use std::sync::{Arc, PoisonError};

use loom::sync::Mutex;

/// What `arc_swap` promises, as loom can follow it: a store is seen whole, by every later load.
pub(super) struct ArcSwapOption<T>(Mutex<Option<Arc<T>>>);

pub(super) struct Guard;

impl Guard {
    pub fn into_inner<T>(loaded: Option<Arc<T>>) -> Option<Arc<T>> {
        loaded
    }
}

impl<T> Default for ArcSwapOption<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> ArcSwapOption<T> {
    pub fn load(&self) -> Option<Arc<T>> {
        self.load_full()
    }

    pub fn load_full(&self) -> Option<Arc<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn store(&self, value: Option<Arc<T>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }
}

#[cfg(test)]
mod tests {
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU64, Ordering};
    use loom::thread;

    use super::super::*;

    /// An index that knows all rows of its age and before, and what it was made of.
    struct Aged {
        age: u64,
        of: Option<u64>,
    }

    impl Companion for Aged {
        fn age(&self) -> u64 {
            self.age
        }

        fn export(&self, _put: &mut dyn FnMut(u32, &[u8]) -> Result<()>) -> Result<()> {
            Ok(())
        }
    }

    fn aged(age: u64, before: Option<&SharedCompanion>) -> Box<dyn Companion> {
        Box::new(Aged { age, of: before.map(|before| before.age()) })
    }

    fn of(companion: &SharedCompanion) -> Option<u64> {
        let companion: &dyn Any = &***companion;
        companion.downcast_ref::<Aged>().expect("one of ours").of
    }

    fn set(slot: &CompanionSlot, age: u64) {
        slot.set(|before| aged(age, before));
    }

    fn adopt(slot: &CompanionSlot, age: u64) {
        slot.adopt_sections(vec![(FIRST_KIND, Saved::in_memory(&age.to_le_bytes()))]);
    }

    /// As a search: it opens what was saved.
    fn get(slot: &CompanionSlot) -> Option<SharedCompanion> {
        slot.get(|sections, before| Some(aged(age_of(sections)?, before)))
    }

    #[test]
    fn loom_a_search_uses_what_a_build_has_put_there_before_or_something_newer() {
        loom::model(|| {
            let shared = Arc::new((CompanionSlot::default(), AtomicU64::new(0)));
            let builds = Arc::clone(&shared);
            let builder = thread::spawn(move || {
                for age in 1..=2 {
                    set(&builds.0, age);
                    builds.1.store(age, Ordering::Release);
                }
            });
            let (slot, built) = &*shared;
            let least = built.load(Ordering::Acquire);
            let found = get(slot).map_or(0, |found| found.age());
            assert!(found >= least, "{found} though {least} was there");
            builder.join().expect("no panic");
            let last = get(slot).expect("set");
            assert_eq!((last.age(), of(&last)), (2, Some(1)));
        });
    }

    #[test]
    fn loom_what_another_process_saved_is_opened_once_and_no_search_is_without() {
        loom::model(|| {
            let slot = Arc::new(CompanionSlot::default());
            set(&slot, 1);
            let adopts = Arc::clone(&slot);
            let adopter = thread::spawn(move || {
                adopt(&adopts, 5);
                get(&adopts).expect("one of the two").age()
            });
            let first = get(&slot).expect("one of the two").age();
            let second = get(&slot).expect("one of the two").age();
            assert!(first <= second, "{first}, then {second}");
            assert_eq!(adopter.join().expect("no panic"), 5);
            let last = get(&slot).expect("adopted");
            assert_eq!((last.age(), of(&last)), (5, Some(1)), "opened with what was in use");
        });
    }

    #[test]
    fn loom_what_has_grown_never_takes_the_place_of_what_was_built() {
        loom::model(|| {
            let slot = Arc::new(CompanionSlot::default());
            set(&slot, 1);
            let grows = Arc::clone(&slot);
            let coder = thread::spawn(move || {
                let from = get(&grows).expect("set");
                grows.grow(&from, aged(from.age() + 1, Some(&from)))
            });
            set(&slot, 10);
            let has_grown = coder.join().expect("no panic");
            let last = get(&slot).expect("set");
            let ages = (last.age(), of(&last));
            // Grown before, and the build was of that; too late; or behind the build.
            let expected = [(10, Some(2)), (10, Some(1)), (11, Some(10))];
            assert!(expected.contains(&ages), "{ages:?}");
            assert_eq!(has_grown, ages != (10, Some(1)), "{ages:?}");
        });
    }

    #[test]
    fn loom_of_a_build_and_one_that_was_saved_the_later_stays() {
        for built in [2, 9] {
            loom::model(move || {
                let slot = Arc::new(CompanionSlot::default());
                set(&slot, 1);
                let adopts = Arc::clone(&slot);
                let adopter = thread::spawn(move || {
                    adopt(&adopts, 5);
                    get(&adopts).expect("one of the three").age()
                });
                set(&slot, built);
                let seen = adopter.join().expect("no panic");
                assert!([5, built].contains(&seen), "{seen}");
                let last = get(&slot).expect("set").age();
                assert!(last == built || (last == 5 && built < 5), "{last} of {built}");
                assert_eq!(slot.age(), Some(last));
            });
        }
    }
}
