//! Every limit of the format and the API, in one table.

/// Longest key in bytes of UTF-8; the shortest is one byte.
pub const KEY_BYTES_MAX: usize = 65_535;
/// Longest frame (one commit) in bytes.
pub const FRAME_BYTES_MAX: usize = 64 << 20;
/// Largest value of a key in bytes; larger than the original's accepted 1,000,000,000 - 1.
pub const VALUE_BYTES_MAX: usize = 1 << 30;
/// A payload up to this many bytes stands in the front of its frame, under the frame's checksum.
pub const SMALL_PAYLOAD_BYTES_MAX: usize = 64;
/// A value larger than this lies in an extent of its own.
pub const INLINE_VALUE_BYTES_MAX: usize = 4 << 20;
/// Largest number of tables in a file.
pub const TABLES_MAX: u32 = 65_535;
/// Largest configuration of a table in bytes; its name is as long as a key.
pub const TABLE_CONFIG_BYTES_MAX: usize = 4096;
/// Largest number of dimensions of a vector; the smallest is one.
pub const DIMENSIONS_MAX: usize = 65_535;
/// Largest number of rows of a table, dead ones included.
pub const ROWS_MAX: u32 = u32::MAX - 1;
/// Times, sequence numbers and numbers of generations are smaller: one more never overflows.
pub const COUNTER_END: u64 = 1 << 63;
/// Positions in a file are smaller, as the synced word says them in 48 bits.
pub const POSITION_END: u64 = 1 << 48;
/// Extents are aligned to, and gaps counted in, this many bytes.
pub const EXTENT_ALIGN: u64 = 64;
/// One checksum stands for this many bytes of an extent.
pub const EXTENT_CHUNK_BYTES: usize = 64 << 10;
