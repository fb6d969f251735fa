//! `synadb._native`: the engine as Python sees it.
//!
//! A method here converts its arguments, calls the crate `synadb` and converts the answer. What
//! may take long runs with the GIL released, in pieces or on a worker thread, so that Ctrl-C is
//! heard; what is short and hot runs with the GIL held.

mod arrays;
mod batch;
mod bulk;
mod convert;
mod database;
mod errors;
mod filtering;
mod hybrid;
mod indexing;
mod interrupt;
mod jobs;
mod numpy;
mod opening;
mod reports;
mod results;
mod searching;
mod storing;
mod vectors;

/// The compiled part of the package `synadb`.
#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use crate::batch::{Batch, Transaction};
    #[pymodule_export]
    use crate::database::Database;
    #[pymodule_export]
    use crate::filtering::KeyFilter;
    #[pymodule_export]
    use crate::hybrid::HybridVectorStore;
    #[pymodule_export]
    use crate::indexing::cascade_parameters;
    #[pymodule_export]
    use crate::jobs::repair;
    #[pymodule_export]
    use crate::results::SearchResult;
    #[pymodule_export]
    use crate::vectors::VectorStore;
}
