//! The dashboard as a library: the window and what works for it. The binary adds the command line.

pub mod window;
pub mod worker;
