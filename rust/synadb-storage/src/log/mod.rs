//! The log: frames in a region.

mod budget;
mod reader;
mod recover;
mod salvage;
mod verify;
mod writer;

pub use reader::{Log, Record};
pub use recover::{Recovery, Start, recover, recover_beside};
pub use salvage::{Found, Lost, salvage};
pub use verify::{Damage, verify};
pub use writer::{Committed, Shape, Writer};
