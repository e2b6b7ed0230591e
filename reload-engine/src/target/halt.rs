//! Test hook: `RELOAD_DASHBOARD_HALT=STEP` makes whoever carries out that step of a reload, or of attaching, stop itself
//! (SIGSTOP) right after it, so that a test can kill it exactly there. Not set, it does nothing.
//!
//! `loaded`, `bound`, `adapted`, `staged` and `ended` stop the controller; `stopped`, `closed`, `gone` and `done` the stop
//! helper; the others, the steps of attaching, the attach helper.

use nix::sys::signal::{Signal, raise};

pub const VARIABLE: &str = "RELOAD_DASHBOARD_HALT";

/// The steps of a reload, in order; then those of attaching.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A shadow is in the target's link map.
    Loaded,
    /// Its references are retargeted.
    Bound,
    /// The interpreter of a Python extension has prepared itself and waits.
    Adapted,
    /// The agent holds the prepared transaction.
    Staged,
    /// Every thread of the target is stopped.
    Stopped,
    /// The text is closed to execution.
    Closed,
    /// The agent has been told to write.
    Gone,
    /// It has written; the threads are still stopped.
    Done,
    /// The controller has given back the right to reload, and has not written the line of history yet.
    Ended,
    /// Attaching: one thread is stopped at a safe point.
    Arrested,
    /// Its registers lead elsewhere.
    Redirected,
    /// It has mapped memory.
    Mapped,
    /// It is about to call `dlopen`,
    Called,
    /// is being handed the agent, where it cannot open it,
    Passed,
    /// is in the middle of it,
    Loading,
    /// has started the agent and is about to unmap that memory,
    Leaving,
    /// has done so,
    Unmapped,
    /// and is back where it was.
    Restored,
}

/// Where to halt, read from the environment once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Halt(Option<Step>);

impl Halt {
    pub fn from_environment() -> Halt {
        let step = std::env::var(VARIABLE).ok().and_then(|name| match name.as_str() {
            "loaded" => Some(Step::Loaded),
            "bound" => Some(Step::Bound),
            "adapted" => Some(Step::Adapted),
            "staged" => Some(Step::Staged),
            "stopped" => Some(Step::Stopped),
            "closed" => Some(Step::Closed),
            "gone" => Some(Step::Gone),
            "done" => Some(Step::Done),
            "ended" => Some(Step::Ended),
            "arrested" => Some(Step::Arrested),
            "redirected" => Some(Step::Redirected),
            "mapped" => Some(Step::Mapped),
            "called" => Some(Step::Called),
            "passed" => Some(Step::Passed),
            "loading" => Some(Step::Loading),
            "leaving" => Some(Step::Leaving),
            "unmapped" => Some(Step::Unmapped),
            "restored" => Some(Step::Restored),
            _ => None,
        });
        Halt(step)
    }

    /// `step` has just been done.
    pub fn at(self, step: Step) {
        if self.0 == Some(step) {
            // It cannot fail for a signal that exists.
            let _ = raise(Signal::SIGSTOP);
        }
    }
}
