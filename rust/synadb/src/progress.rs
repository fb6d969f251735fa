//! How far a long call is, and whether it is to go on.

/// Told the bytes that are done and all that there are; false cancels the call.
pub type Progress<'a> = dyn FnMut(u64, u64) -> bool + 'a;
