//! What the tests stand on: real libraries, a real program, the real `reload-dashboard` binary, all in a temporary folder.
//!
//! Everything started here is ended by its process id when its owner is dropped, and every wait has a deadline. Nothing
//! here knows how the engine works: it speaks the command-line contract only.

pub mod case;
pub mod container;
pub mod dashboard;
pub mod deadline;
pub mod display;
pub mod greek;
pub mod hammer;
pub mod install;
pub mod package;
pub mod process;
pub mod program;
pub mod random;
pub mod skip;
pub mod stranger;
pub mod toolchain;
