//! The window, driven by keys and pointer without a display. The test plays the session's side of the channels with real
//! snapshots and asserts which orders arrive.

mod accessibility;
mod commands;
mod contrast;
mod details;
mod peer;
mod pictures;
mod raster;
mod receipts;
mod sample;
mod states;
mod table;
mod targets;
