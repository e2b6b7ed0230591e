//! The target process: starting it with the agent, talking to the agent, reading `/proc`, and stopping threads.
//!
//! Knows nothing of ELF symbols, plans or policy. Everything here is an effect on another process.

mod agent_image;
pub mod halt;
pub mod launch;
pub mod link;
pub mod maps;
pub mod process;
mod registers;
pub mod stop;
mod stop_helper;
pub mod store;
mod threads;

pub use stop_helper::stop_helper_main;
