//! Saving an inverted file as byte sections, and opening it again.
