//! Saved pieces of an index.

use std::borrow::Cow;
use std::sync::Arc;

/// A named piece of a saved index.
pub type Section<'a> = (&'static str, Cow<'a, [u8]>);

/// Bytes of a saved section, owned or mapped.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;
