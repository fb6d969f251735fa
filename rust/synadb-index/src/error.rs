//! What can go wrong in a search.

use std::fmt;

/// An error of this crate.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexError {
    /// `SYNADB_SIMD` names no level.
    UnknownSimdLevel {
        /// What was asked for.
        name: String,
    },
    /// The processor lacks the instructions of the level asked for.
    UnsupportedSimdLevel {
        /// Name of the level.
        name: &'static str,
    },
    /// The query has another number of dimensions than the vectors.
    Dimensions {
        /// Dimensions of the query.
        query: usize,
        /// Dimensions of the vectors.
        source: usize,
    },
    /// The query holds a NaN or an infinity.
    NonFinite {
        /// Position of the first such component.
        position: usize,
    },
    /// The build was told to stop.
    Cancelled,
    /// A saved section is not what an index of this version writes.
    Section {
        /// Name of the section.
        name: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl fmt::Display for IndexError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownSimdLevel { name } => {
                write!(formatter, "SYNADB_SIMD is '{name}', expected scalar, avx2 or avx512")
            }
            Self::UnsupportedSimdLevel { name } => {
                write!(formatter, "SYNADB_SIMD asks for {name}, which this processor lacks")
            }
            Self::Dimensions { query, source } => {
                write!(formatter, "query has {query} dimensions, the vectors have {source}")
            }
            Self::NonFinite { position } => {
                write!(formatter, "query component {position} is not a finite number")
            }
            Self::Cancelled => write!(formatter, "the build of the index was cancelled"),
            Self::Section { name, problem } => {
                write!(formatter, "section '{name}' of the index {problem}")
            }
        }
    }
}

impl std::error::Error for IndexError {}
