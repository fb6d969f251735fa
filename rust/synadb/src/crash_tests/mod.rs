//! Crash evidence: a database on a simulated medium.

mod database;
mod regressions;
