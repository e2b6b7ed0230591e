//! The measured tool: a session on the program it launched, auto mode on for all modules. What `run --headless` does, in a
//! small program that needs no window to be built.

use std::{ffi::OsString, process::ExitCode, thread};

use crossbeam_channel::bounded;
use reload_engine::{
    model::Mode,
    session::{Command, Event, Session, Update},
    target::launch::{LaunchOptions, Launched, launch},
};

/// The hidden first argument; the command follows.
pub const ARGUMENT: &str = "__dashboard";

/// Follows the target to its end. Its output is the target's, with a line `target PID` once it is followed, a line
/// `loaded NAME` for each library that it opens, and a line `receipt JSON` for each attempt.
pub fn main(command: &[OsString]) -> ExitCode {
    let Launched { mut child, pid, link } = launch(command, &LaunchOptions::default()).expect("the target starts");
    let (ended, exit) = bounded(1);
    thread::spawn(move || {
        let status = child.wait().ok().and_then(|status| status.code());
        // The session may have ended before.
        let _ = ended.send(status);
    });
    let session = Session::adopt(link.expect("the target lives"), exit, || ()).expect("its agent answers");
    session.order(Command::SetMode(Mode::All)).expect("a mode can be set");
    for update in session.updates.iter() {
        match update {
            Update::Event {
                event: Event::Reloaded { receipt, .. } | Event::Refused { receipt, .. } | Event::Failed { receipt, .. },
                ..
            } => {
                let line = serde_json::json!({
                    "outcome": receipt.outcome, "timings": receipt.timings_ms, "changed": receipt.functions.changed,
                    "failure": receipt.failure.map(|failure| failure.trace),
                });
                println!("receipt {line}");
            }
            Update::Event { event: Event::Attached { .. }, .. } => println!("target {pid}"),
            Update::Event { event: Event::Loaded { module, .. }, .. } => println!("loaded {module}"),
            Update::Event { event: Event::Exited { .. }, .. } => break,
            _ => {}
        }
    }
    ExitCode::SUCCESS
}
