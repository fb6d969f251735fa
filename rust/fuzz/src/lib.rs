//! Fuzzing on a stable toolchain: targets, a mutator with a fixed seed, and a loop around both.
//!
//! A target takes any bytes. It fails by a panic, or by taking too long; what it answers is a
//! signature of the path that the input took, by which the loop tells new inputs from known ones.

pub mod frames;
pub mod input;
pub mod mutate;
pub mod run;
pub mod seeds;
pub mod targets;
