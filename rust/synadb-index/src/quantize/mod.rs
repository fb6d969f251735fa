//! Compact codes: one, four or eight bits a dimension in place of a float.
//!
//! Rows and queries are turned by the same random [`Rotation`]; a code then holds, for each
//! coordinate of the difference between a row and an [`Anchor`], its sign or a small integer.
//! The inner product of that grid point with the query estimates the row's key (see
//! [`Query`](crate::Query)) without bias, and the angle between row and grid point, which is
//! known exactly, bounds the error: RaBitQ (Gao and Long, SIGMOD 2024) and its extension to more
//! bits (Gao et al., SIGMOD 2025).
//!
//! For a row `x`, an anchor `m`, the residual `t = x - m`, its grid point `c` and a query `q`,
//! all rotated, every kind of code has the same shape. With `S = <c, q>`:
//!
//! ```text
//! key   = terms.add + terms.gain * factors.add + factors.slope * S
//! lower = key + factors.slope * slack - factors.error * terms.error
//! ```
//!
//! [`Factors`] belong to the row, [`Terms`] to query and anchor. `slack` covers the rounding of
//! the query, `terms.error` carries `epsilon`, the number of standard deviations.

mod bits;
mod factors;
mod grid;
pub(crate) mod kernels;
mod links;
mod query;
mod rotation;
#[cfg(test)]
mod tests;

pub use bits::{BLOCK_ROWS, Estimates, bit_block_bytes, clear_bits, copy_bits, encode_bits};
pub use factors::{Anchor, FACTORS_BYTES, Factors, Space, Terms};
pub use grid::{encode_bytes, encode_nibbles, nibbles_bytes, unpack_nibbles};
pub use kernels::{CodeKernels, code_kernels};
pub(crate) use kernels::{DotsKernel, FillBytes};
pub use links::{LinkSteps, encode_links, link_block_bytes};
pub(crate) use query::ROUNDING;
pub use query::{CodeQuery, Estimate};
pub use rotation::Rotation;
