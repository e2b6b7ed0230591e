//! One target as the window knows it: its session's channels, the last snapshot, and what is derived from that.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use crossbeam_channel::{TryRecvError, TrySendError};
use reload_engine::{
    model::{Connection, Mark, Mode, Module, Snapshot},
    session::{Command, Event, Order, Session, Update},
};

use crate::window::{
    rows::{Index, Query},
    stats::Stats,
};

/// How the window stands to a target.
pub enum Link {
    /// A session is being opened.
    Opening,
    /// It could not be opened: one line, then what led to it.
    Refused {
        message: String,
        detail: Vec<String>,
    },
    Open(Session),
    /// The session's thread has ended by itself.
    Closed,
}

/// Something the user should read once.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    pub message: String,
    pub detail: Vec<String>,
    pub failed: bool,
}

pub struct TargetTab {
    pub pid: u32,
    /// The process's name, as far as it is known.
    pub name: String,
    pub link: Link,
    pub snapshot: Option<Arc<Snapshot>>,
    pub notice: Option<Notice>,
    index: Index,
    /// Revision and query the index was made for.
    indexed: Option<(u64, Query)>,
    stats: Stats,
    counted: Option<u64>,
    /// What to ask of the program when it runs again.
    wishes: Option<Wishes>,
}

/// What the user had decided about a program that has ended.
struct Wishes {
    mode: Mode,
    marks: Vec<(PathBuf, Mark)>,
}

impl TargetTab {
    pub fn new(pid: u32, name: impl Into<String>, link: Link) -> TargetTab {
        TargetTab {
            pid,
            name: name.into(),
            link,
            snapshot: None,
            notice: None,
            index: Index::default(),
            indexed: None,
            stats: Stats::default(),
            counted: None,
            wishes: None,
        }
    }

    /// The executable of a target that has ended, to know it again by.
    pub fn ended(&self) -> Option<&Path> {
        let snapshot = self.snapshot.as_ref()?;
        let ended = matches!(self.link, Link::Open(_)) && matches!(snapshot.connection, Connection::Exited(_));
        ended.then_some(snapshot.target.exe.as_path())
    }

    /// The ended program runs again as process `pid`; its session is being opened.
    pub fn revive(&mut self, pid: u32) {
        if let Some(snapshot) = &self.snapshot {
            let marked = snapshot.modules.iter().filter(|module| module.mark != Mark::None);
            let marks = marked.map(|module| (module.path.clone(), module.mark)).collect();
            self.wishes = Some(Wishes { mode: snapshot.mode, marks });
        }
        self.pid = pid;
        self.link = Link::Opening;
    }

    /// Asks the revived program for what the user had decided, once it is known what it has loaded. What was decided about it
    /// meanwhile stays.
    fn grant(&mut self) {
        let live = self.is_live();
        let (Some(snapshot), Some(wishes)) = (&self.snapshot, self.wishes.take_if(|_| live)) else {
            return;
        };
        let unmarked =
            |path: &Path| snapshot.modules.iter().any(|module| module.path == path && module.mark == Mark::None);
        let mut commands: Vec<Command> = wishes
            .marks
            .into_iter()
            .filter(|(path, _)| unmarked(path))
            .map(|(path, mark)| Command::Mark { modules: vec![path.to_string_lossy().into_owned()], mark })
            .collect();
        if snapshot.mode == Mode::Off && wishes.mode != Mode::Off {
            commands.push(Command::SetMode(wishes.mode));
        }
        for command in commands {
            self.order(command);
        }
    }

    /// Takes in what the session has sent. True if a reload failed.
    pub fn drain(&mut self) -> bool {
        let mut failed = false;
        loop {
            let Link::Open(session) = &self.link else {
                return failed;
            };
            match session.updates.try_recv() {
                Ok(Update::Snapshot(snapshot)) => {
                    self.name.clone_from(&snapshot.target.name);
                    self.pid = snapshot.target.pid;
                    self.snapshot = Some(snapshot);
                    self.grant();
                }
                Ok(Update::Event { event, .. }) => match event {
                    Event::Notice { message } => {
                        self.notice = Some(Notice { message, detail: Vec::new(), failed: false });
                    }
                    Event::Failed { .. } | Event::Refused { .. } => failed = true,
                    _ => {}
                },
                Ok(Update::CommandFailed { message, detail, .. }) => {
                    self.notice = Some(Notice { message, detail, failed: true });
                }
                Err(TryRecvError::Empty) => return failed,
                Err(TryRecvError::Disconnected) => self.link = Link::Closed,
            }
        }
    }

    /// Brings index and statistics up to date; cheap where nothing has changed.
    pub fn derive(&mut self, query: &Query) {
        let Some(snapshot) = &self.snapshot else {
            return;
        };
        let revision = snapshot.revision;
        if self.indexed.as_ref().is_none_or(|(of, with)| *of != revision || with != query) {
            self.index = Index::new(snapshot, query);
            self.indexed = Some((revision, query.clone()));
        }
        if self.counted != Some(revision) {
            self.stats = Stats::new(snapshot);
            self.counted = Some(revision);
        }
    }

    /// Hands a command to the session without waiting.
    pub fn order(&mut self, command: Command) {
        let Link::Open(session) = &self.link else {
            return;
        };
        match session.orders.try_send(Order { command, reply: None }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.notice = Some(Notice {
                    message: "The session is still busy with earlier commands; try again in a moment".to_owned(),
                    detail: Vec::new(),
                    failed: true,
                });
            }
            Err(TrySendError::Disconnected(_)) => self.link = Link::Closed,
        }
    }

    /// Whether commands reach the target.
    pub fn is_live(&self) -> bool {
        matches!(self.link, Link::Open(_))
            && self.snapshot.as_ref().is_some_and(|snapshot| snapshot.connection == Connection::Attached)
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    pub fn module(&self, path: &Path) -> Option<(usize, &Module)> {
        let snapshot = self.snapshot.as_ref()?;
        snapshot.modules.iter().enumerate().find(|(_, module)| module.path == path)
    }

    /// Every time shown, to know when it reads differently.
    pub fn times(&self) -> impl Iterator<Item = SystemTime> {
        let modules = self.snapshot.as_ref().map(|snapshot| snapshot.modules.as_slice()).unwrap_or_default();
        modules.iter().flat_map(|module| module.mtime.into_iter().chain(module.history.last().map(|entry| entry.time)))
    }
}
