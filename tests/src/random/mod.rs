//! Libraries made up at random, and what a process that reloads them must do: the author writes and edits their sources, the
//! machine predicts, a trial compares.
//!
//! Everything about a library follows from its seed. Nothing here knows how the engine works.

mod author;
mod machine;
mod source;
mod trial;

pub use trial::{Tally, run};
