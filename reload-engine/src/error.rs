//! The one error type of the engine. Messages name the file, the symbol and the remedy.

use std::{io, path::PathBuf};

use crate::model::Stage;

/// A result of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No process of that id, or it has ended.
    #[error("no process {pid}")]
    NoSuchProcess { pid: u32 },

    #[error("no running process is called `{name}`")]
    NoSuchName { name: String },

    #[error("several processes are called `{name}`: {}; say which with --pid", list(.pids)) ]
    AmbiguousName { name: String, pids: Vec<u32> },

    /// The process has no agent, or not any more.
    #[error("process {pid} has no agent")]
    NoAgent { pid: u32 },

    /// What the process is or is doing keeps everybody from bringing an agent into it.
    #[error("cannot attach to {name} ({pid}): {reason}; {remedy}")]
    NotAttachable { pid: u32, name: String, reason: String, remedy: String },

    /// The agent could not be brought into the process, which runs on as before.
    #[error("cannot attach to {name} ({pid}): {reason}")]
    Attach { pid: u32, name: String, reason: String },

    #[error(
        "process {pid} may not be looked into: it is another user's (run as that user), or forbids it (PR_SET_DUMPABLE)"
    )]
    NotPermitted { pid: u32 },

    #[error("the agent in process {pid} speaks protocol {found}, this program {expected}; restart the target")]
    ProtocolVersion { pid: u32, found: u32, expected: u32 },

    /// The connection to the agent broke.
    #[error("lost the agent of process {pid}")]
    LinkLost {
        pid: u32,
        #[source]
        source: io::Error,
    },

    #[error("the agent of process {pid} did not answer within {seconds} s; is the target stopped or in a debugger?")]
    LinkTimeout { pid: u32, seconds: u64 },

    /// The agent could not do what was asked; nothing in the target has changed.
    #[error("{0}")]
    Agent(String),

    /// Another controller changed the ledger in between.
    #[error("another dashboard changed this target in the meantime")]
    Stale,

    /// A library may lie where another one did.
    #[error("process {pid} has closed a library in the meantime")]
    ModuleClosed { pid: u32 },

    /// The user did not want it any more, and nothing had been done yet.
    #[error("the reload of {module} was cancelled; nothing has changed")]
    Cancelled { module: String },

    /// Another controller is in the middle of a reload.
    #[error("process {pid} is reloading this target just now")]
    Busy { pid: u32 },

    #[error("no module `{wanted}` in the target{}", hint(.candidates))]
    NoSuchModule { wanted: String, candidates: Vec<String> },

    #[error("`{wanted}` names several modules: {}", .candidates.join(", "))]
    AmbiguousModule { wanted: String, candidates: Vec<String> },

    /// What was asked makes no sense for this module, and why.
    #[error("{module}: {reason}")]
    Unsuitable { module: String, reason: String },

    #[error("{}: {doing}", .path.display())]
    File {
        path: PathBuf,
        doing: &'static str,
        #[source]
        source: io::Error,
    },

    /// The file is not a library this engine can load, and why.
    #[error("{}: {reason}", .path.display())]
    Image { path: PathBuf, stage: Stage, reason: String },

    /// A reasoned decision before anything was touched; one line per reason.
    #[error("{}: {}", .module, .reasons.first().map_or("refused", |r| r.as_str()))]
    Refused { module: String, stage: Stage, reasons: Vec<String>, remedy: String },

    /// The module's language runtime could not be brought in step with the new generation, and what it says of that.
    #[error("{module}: {message}")]
    Adapter { module: String, message: String, trace: Vec<String> },

    /// The threads could not be stopped where nobody stands in the way.
    #[error("could not stop the threads of process {pid}: {reason}")]
    Stop { pid: u32, reason: String },

    #[error("starting `{command}`")]
    Launch {
        command: String,
        #[source]
        source: io::Error,
    },

    #[error("the file watcher: {0}")]
    Watch(#[from] notify::Error),

    #[error("{0}")]
    Unsupported(String),
}

fn list(pids: &[u32]) -> String {
    pids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

fn hint(candidates: &[String]) -> String {
    if candidates.is_empty() { String::new() } else { format!("; did you mean {}?", candidates.join(", ")) }
}

impl Error {
    /// The error's message and those of its causes, outermost first.
    pub fn chain(&self) -> Vec<String> {
        let mut lines = vec![self.to_string()];
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            lines.push(cause.to_string());
            source = cause.source();
        }
        lines
    }
}
