//! Superreloads the shared libraries of a running process: old functions, wherever they are pointed to from, run the new
//! code; state stays; a reload that cannot be done leaves the old code running and says why.
//!
//! Flow, one way: watcher -> policy -> image (parse) -> plan -> shadow -> commit -> report.
//! The engine plans outside the target; the agent (`reload-agent`) only executes. So all up to the shadow can be made of a file
//! that is not the module's yet (`reloader::draft`): by its content it is found to be the same once it is.

pub mod classes;
pub mod discovery;
pub mod error;
mod fingerprint;
mod hands;
pub mod image;
pub mod ledger;
mod memory;
pub mod model;
pub mod plan;
pub mod policy;
pub mod progress;
pub mod reloader;
pub mod session;
pub mod target;
pub mod watcher;
