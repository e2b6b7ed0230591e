//! Bringing the agent into a process that was started without it: by a helper that sends one of the process's own threads to
//! `dlopen` and back. Afterwards the agent is found and spoken to as one that was preloaded.
//!
//! - `eligibility`: which processes, and why not the others
//! - `safe_point`: which thread may be sent, `modules` and `memory` what that is known from
//! - `detour`: the way there and back, `thread` one thread under ptrace
//! - `passing`: what it is handed on the way where it has other files than we
//! - `helper`: the process that does it

mod detour;
mod eligibility;
pub(super) mod helper;
mod memory;
mod modules;
mod passing;
mod safe_point;
mod thread;

use std::{
    fs::File,
    path::Path,
    time::{Duration, Instant},
};

pub use self::eligibility::{Obstacle, yama_scope};
use self::{
    eligibility::Facts,
    helper::{ARGUMENT, Job, Outcome, Way},
};
use super::{
    agent_image,
    helper::{Helper, OWN_PROGRAM},
    link::AgentLink,
    process::Process,
    space::Space,
    store::{self, StoreRoot},
};
use crate::error::{Error, Result};

/// For the helper: it gives up by itself before.
const PATIENCE: Duration = Duration::from_secs(60);
/// For the agent to listen once it was started, or once a helper that started it ended early.
const ANSWER: Duration = Duration::from_secs(10);
const ANSWER_UNSURE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(2);
/// For another dashboard to bring the agent in: longer than that takes at worst.
const TURN: Duration = Duration::from_secs(75);

/// Why `pid`, which has no agent, cannot be attached.
///
/// # Errors
/// There is no such process.
pub fn obstacle(pid: u32) -> Result<Option<Obstacle>> {
    let facts = Facts::of(pid).map_err(|_| Error::NoSuchProcess { pid })?;
    Ok(facts.judge().err())
}

/// The agent of `pid`, which is brought into the process if it has none.
///
/// # Errors
/// There is no such process, it belongs to somebody else, or the agent could not be brought into it; the process is as before.
pub fn link(pid: u32) -> Result<AgentLink> {
    match AgentLink::connect(pid) {
        Err(Error::NoAgent { .. }) => {}
        other => return other,
    }
    let name = Process::of(pid)?.name;
    // Another dashboard may be at it: it would be in the way as a tracer, and its socket must stay where it is.
    let turn = File::open(format!("/proc/{pid}"));
    if turn.as_ref().is_ok_and(|process| !store::await_lock(|| process.try_lock(), TURN)) {
        let reason =
            format!("another dashboard has been attaching to it for more than {} s: end that one", TURN.as_secs());
        return Err(Error::Attach { pid, name, reason });
    }
    match AgentLink::connect(pid) {
        Err(Error::NoAgent { .. }) => {}
        other => return other,
    }
    if let Some(Obstacle { reason, remedy }) = obstacle(pid)? {
        return Err(Error::NotAttachable { pid, name, reason, remedy });
    }
    let failed = |reason: String| Error::Attach { pid, name: name.clone(), reason };
    let store = StoreRoot::find()?;
    store.sweep();
    let library = agent_image::install(store.path())?;
    let mut helper = Helper::spawn(Path::new(OWN_PROGRAM), ARGUMENT)?;
    let way = if Space::of(pid).is_foreign() {
        Way::Descriptors { socket: store.target_folder(pid)?.socket() }
    } else {
        Way::Path { store: store.path().to_owned() }
    };
    let job = Job { pid, library, way };
    let outcome = helper.order(&job).and_then(|()| helper.answer::<Outcome>(PATIENCE));
    drop(helper);
    match outcome {
        Some(Outcome::Started { detour_ns, looks }) => {
            tracing::debug!("attached to {pid}: one thread was away for {} us; {looks} looks", detour_ns / 1000);
            connect(pid, ANSWER).map_err(|error| match error {
                // It had been started before.
                Error::NoAgent { .. } => failed(
                    "its agent does not listen where this dashboard looks: it was started by one with another store, or \
                     inside its container; use that one, or restart the program"
                        .into(),
                ),
                other => other,
            })
        }
        // What was permitted a moment ago: somebody else traces it by now, or a security module is in the way.
        Some(Outcome::NotPermitted) => {
            let Obstacle { reason, remedy } = obstacle(pid)?.unwrap_or_else(Obstacle::unknown);
            Err(Error::NotAttachable { pid, name, reason, remedy })
        }
        Some(Outcome::JobControl) => Err(failed("it was stopped meanwhile; continue it and try again".into())),
        Some(Outcome::NotNow { reason } | Outcome::Failed { reason }) => Err(failed(reason)),
        None => connect(pid, ANSWER_UNSURE).map_err(|error| match error {
            Error::NoAgent { .. } => failed("the attach helper ended before it was done; try again".into()),
            other => other,
        }),
    }
}

fn connect(pid: u32, patience: Duration) -> Result<AgentLink> {
    let deadline = Instant::now() + patience;
    loop {
        match AgentLink::connect(pid) {
            Err(Error::NoAgent { .. }) if Instant::now() < deadline => std::thread::sleep(POLL),
            other => return other,
        }
    }
}
