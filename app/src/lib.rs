//! The dashboard as a library: the window, what works for it, and the user's file. The binary adds the command line.

pub mod config;
mod desktop;
mod editor;
mod glyphs;
mod sources;
pub mod steps;
pub mod window;
pub mod worker;
