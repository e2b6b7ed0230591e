//! The target process: starting it with the agent or bringing the agent into it, talking to the agent, reading `/proc`, and
//! stopping threads.
//!
//! Knows nothing of ELF symbols, plans or policy. Everything here is an effect on another process.

mod agent_image;
pub mod attach;
pub mod halt;
mod helper;
mod incoming;
pub mod launch;
pub mod link;
pub mod maps;
pub mod process;
mod program;
mod registers;
pub mod space;
pub mod stop;
mod stop_helper;
pub mod store;
mod threads;
pub mod vitals;

pub use helper::{helper_main, is_helper};
