//! One target: commands in, events out, on a thread of its own. The window and the command line drive the same session.

use std::{path::PathBuf, sync::Arc, thread, time::SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use serde::Serialize;

use crate::{
    error::{Error, Result},
    model::{Mark, Mode, Receipt, Shield, Snapshot, rfc3339},
    progress::Progress,
    target::{attach, link::AgentLink},
};

mod ahead;
mod failures;
mod forks;
mod modules;
mod orders;
mod originals;
mod record;
mod reloading;
mod shielding;
mod worker;

pub use record::set_wishes;
use worker::{Role, Worker};

/// What a window or a terminal may ask of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Reload the named modules, or every changed module except skipped ones. Named modules are tried even where an earlier
    /// attempt failed.
    Reload {
        modules: Vec<String>,
        force: bool,
    },
    SetMode(Mode),
    Mark {
        modules: Vec<String>,
        mark: Mark,
    },
    /// `dlopen` in the target, and mark.
    Load(PathBuf),
    /// To the generation before the active one, or to `generation`.
    Rollback {
        module: String,
        generation: Option<u32>,
    },
    /// Stop reloading by itself and leave the target on its current generation.
    Detach,
    /// Take up a detached target again.
    Attach,
    /// Ends the session's thread; the target stays as it is.
    Close,
}

/// The answer to one command.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Done,
    /// One receipt per module looked at.
    Receipts(Vec<Receipt>),
}

/// A command and where its answer goes; the window does not wait and passes `None`.
#[derive(Debug)]
pub struct Order {
    pub command: Command,
    pub reply: Option<Sender<Result<Answer>>>,
}

/// Something that happened, for `--json` (`{"time","event",...}`), the log line and the window.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    Attached {
        pid: u32,
        name: String,
        exe: PathBuf,
        modules: usize,
    },
    /// The set of loaded modules changed.
    Loaded {
        module: String,
        path: PathBuf,
    },
    Unloaded {
        module: String,
        path: PathBuf,
    },
    Changed {
        module: String,
    },
    /// The module's pages no longer follow its file on disk.
    Shielded {
        module: String,
        shield: Shield,
    },
    /// A reload of this module has begun.
    Reloading {
        module: String,
    },
    Reloaded {
        module: String,
        receipt: Receipt,
    },
    Refused {
        module: String,
        receipt: Receipt,
    },
    Failed {
        module: String,
        receipt: Receipt,
    },
    /// A module that was refused or failed reloads again.
    Recovered {
        module: String,
    },
    RolledBack {
        module: String,
        receipt: Receipt,
    },
    Missing {
        module: String,
    },
    Mode {
        mode: Mode,
    },
    Mark {
        module: String,
        mark: Mark,
    },
    Detached,
    /// The target has a child that runs the same program, as a server has workers. It is a target of its own.
    Forked {
        pid: u32,
    },
    /// The target has ended.
    Exited {
        status: Option<i32>,
    },
    /// Something the user should know that belongs to no module, as a watcher limit.
    Notice {
        message: String,
    },
}

/// What a session sends out.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a few per second; a box would show in every pattern")]
pub enum Update {
    Snapshot(Arc<Snapshot>),
    Event {
        time: SystemTime,
        event: Event,
    },
    /// What came of a command that nobody waited for, as far as modules were looked at for it.
    Done {
        command: Command,
        receipts: Vec<Receipt>,
    },
    /// A command that nobody waited for could not be carried out; one line, then detail.
    CommandFailed {
        command: Command,
        message: String,
        detail: Vec<String>,
    },
}

/// The line of `--json` for one event.
#[derive(Serialize)]
pub struct TimedEvent<'a> {
    #[serde(with = "rfc3339")]
    pub time: SystemTime,
    /// Whose event it is, where those of several processes are in one stream and it is not the one that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<u32>,
    #[serde(flatten)]
    pub event: &'a Event,
}

/// The handle of a session's owner. Dropping it closes the session.
pub struct Session {
    pub orders: Sender<Order>,
    pub updates: Receiver<Update>,
    /// What the session is doing, to be looked at and cancelled without waiting for it.
    pub progress: Progress,
}

/// How many orders may wait; a window that finds no room says so instead of waiting.
const WAITING_ORDERS: usize = 64;

impl Session {
    /// Opens a session with the agent of `pid`, which is brought into the process if it has none, that follows files
    /// and reloads by itself as the mode says. `wake` is called after each update.
    ///
    /// # Errors
    /// There is no such process, the agent cannot be brought into it, or it belongs to somebody else.
    pub fn open(pid: u32, wake: impl Fn() + Send + 'static) -> Result<Session> {
        Session::start(attach::link(pid)?, Role::Follower, None, wake)
    }

    /// Opens a session that only carries out orders, beside whoever else looks after the target.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn visit(pid: u32) -> Result<Session> {
        Session::start(attach::link(pid)?, Role::Visitor, None, || ())
    }

    /// As [`Session::open`] for a child of this process, whose exit status will come through `exit`.
    ///
    /// # Errors
    /// The child has ended already, or its agent is lost.
    pub fn adopt(link: AgentLink, exit: Receiver<Option<i32>>, wake: impl Fn() + Send + 'static) -> Result<Session> {
        Session::start(link, Role::Follower, Some(exit), wake)
    }

    fn start(
        link: AgentLink,
        role: Role,
        exit: Option<Receiver<Option<i32>>>,
        wake: impl Fn() + Send + 'static,
    ) -> Result<Session> {
        let (orders, incoming) = bounded(WAITING_ORDERS);
        let (outgoing, updates) = unbounded();
        let pid = link.pid();
        let progress = Progress::default();
        let worker = Worker::start(link, role, progress.clone(), outgoing, Box::new(wake))?;
        thread::Builder::new()
            .name(format!("session {pid}"))
            .spawn(move || worker.run(&incoming, exit.as_ref()))
            .map_err(|source| Error::Launch { command: "the session's thread".into(), source })?;
        Ok(Session { orders, updates, progress })
    }

    /// Gives an order and waits for its answer.
    ///
    /// # Errors
    /// What the order led to.
    pub fn order(&self, command: Command) -> Result<Answer> {
        let ended = || Error::Unsupported("the session has ended".into());
        let (reply, answer) = bounded(1);
        self.orders.send(Order { command, reply: Some(reply) }).map_err(|_| ended())?;
        answer.recv().map_err(|_| ended())?
    }

    /// The newest snapshot there is by now, and the updates before it.
    pub fn latest(&self) -> Option<Arc<Snapshot>> {
        self.updates
            .try_iter()
            .filter_map(|update| if let Update::Snapshot(snapshot) = update { Some(snapshot) } else { None })
            .last()
    }
}
