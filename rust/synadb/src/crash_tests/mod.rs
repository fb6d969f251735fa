//! Crash evidence: random work on a simulated medium, power cuts at any point of it, four deep.
//!
//! After each power cut the file opens, holds every commit that was acknowledged as synced, whole
//! commits only, in their order, and nothing of a future that was lost. Kills, failures and jumps
//! of the clock stand beside them. `SYNADB_CRASH_STATES` says how many states are made.

mod among;
mod clock;
mod database;
mod faults;
mod held;
mod model;
mod panics;
mod parts;
mod regressions;
mod sabotage;
mod states;
mod timed;
mod trace;
mod unshared;
mod workload;
