//! The log: frames in a region.

mod reader;
mod recover;
mod verify;
mod writer;

pub use reader::{Log, Record};
pub use recover::{Recovery, Start, recover};
pub use verify::{Damage, verify};
pub use writer::{Committed, Shape, Writer};
