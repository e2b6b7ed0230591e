//! The window, driven by keys and pointer without a display. The test plays the session's side of the channels with real
//! snapshots and asserts which orders arrive.

mod commands;
mod peer;
mod pictures;
mod raster;
mod sample;
mod states;
mod table;
