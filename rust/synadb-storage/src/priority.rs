//! Threads that give way to others.

use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::gettid;

/// The lowest priority that there is.
const NICE_MAX: i32 = 19;

/// Has the calling thread, and those that it starts, give way to others of the process and the
/// machine: each step of `nice` takes about a fifth of its share where all processors are busy.
///
/// Linux keeps the nice value of each thread apart. Without a privilege it cannot be taken back, so
/// this is for threads that do nothing else. Where it is not allowed nothing changes.
pub fn give_way(nice: u8) {
    let this = Some(gettid());
    let Ok(now) = getpriority_process(this) else { return };
    if setpriority_process(this, (now + i32::from(nice)).min(NICE_MAX)).is_err() {
        // It works at the priority of those that it works for.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gives_way_and_the_others_do_not() {
        let own = || getpriority_process(Some(gettid())).expect("a thread knows its own");
        let before = own();
        let other = std::thread::spawn(move || {
            give_way(3);
            own()
        });
        let lowered = other.join().expect("ends");
        assert_eq!(lowered, (before + 3).min(NICE_MAX));
        assert_eq!(own(), before);
    }
}
