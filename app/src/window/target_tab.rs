//! One target as the window knows it: its session's channels, the last snapshot, and what is derived from that.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crossbeam_channel::{TryRecvError, TrySendError};
use reload_engine::{
    model::{Connection, Mark, Mode, Module, Outcome, Snapshot},
    progress::Doing,
    session::{Command, Event, Order, Session, Update},
};

use crate::{
    config::{self, Config, wishes::Wishes},
    window::{
        news::{News, is_crash, signal_of, without_effect},
        rows::{Index, Prepared, Query},
        stats::Stats,
    },
};

/// What takes longer than this is told about while it lasts.
const LONG: Duration = Duration::from_millis(300);

/// How the window stands to a target.
pub enum Link {
    /// A session is being opened.
    Opening,
    /// It could not be opened: one line, then what led to it.
    Refused {
        message: String,
        detail: Vec<String>,
        /// There is no such process any more: to try again is of no use.
        gone: bool,
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
    /// What could not be done, to be tried once more.
    pub again: Option<Command>,
}

pub struct TargetTab {
    pub pid: u32,
    /// The process's name, as far as it is known.
    pub name: String,
    pub link: Link,
    pub snapshot: Option<Arc<Snapshot>>,
    pub notice: Option<Notice>,
    prepared: Prepared,
    index: Index,
    /// Revision and query the index was made for.
    indexed: Option<(u64, Query)>,
    stats: Stats,
    counted: Option<u64>,
    /// What is to be asked of the target; `None` until the user's file has been read.
    wishes: Option<Wishes>,
    /// The user's file.
    config: Option<Config>,
    /// The command that starts it, where that is known.
    pub command: Vec<String>,
    /// Whether the user's file has been told of it.
    command_told: bool,
    /// What the session is busy with.
    pub doing: Option<Doing>,
    /// When that began, by the window's clock.
    doing_since: Option<SystemTime>,
    /// When it ended.
    pub ended_at: Option<SystemTime>,
    /// Since when its session is being opened.
    pub opening_since: Option<SystemTime>,
    /// The selected module, while another target is shown.
    pub selected: Option<PathBuf>,
    /// Processes it has forked and nobody has decided about.
    pub forked: Vec<u32>,
    /// Orders of ours whose events are still to come; what comes besides was done by somebody else.
    expected: Vec<Expected>,
}

/// An event that an order of ours leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expected {
    Mode,
    Mark,
    Detach,
}

impl TargetTab {
    pub fn new(pid: u32, name: impl Into<String>, link: Link) -> TargetTab {
        TargetTab {
            pid,
            name: name.into(),
            link,
            snapshot: None,
            notice: None,
            prepared: Prepared::default(),
            index: Index::default(),
            indexed: None,
            stats: Stats::default(),
            counted: None,
            wishes: None,
            config: None,
            command: Vec::new(),
            command_told: false,
            doing: None,
            doing_since: None,
            ended_at: None,
            opening_since: None,
            selected: None,
            forked: Vec::new(),
            expected: Vec::new(),
        }
    }

    /// Name and process, as people tell targets apart.
    pub fn title(&self) -> String {
        if self.pid == 0 { self.name.clone() } else { format!("{} · {}", self.name, self.pid) }
    }

    /// Under which name the program stands in the user's file.
    pub fn program(&self) -> Option<String> {
        let snapshot = self.snapshot.as_ref()?;
        Some(config::program_name(&snapshot.target.exe)).filter(|name| !name.is_empty())
    }

    /// Whether there was never anything to show of it, and will not be.
    pub fn is_vain(&self) -> bool {
        self.snapshot.is_none() && matches!(self.link, Link::Refused { .. } | Link::Closed)
    }

    /// The executable of a target that has ended, to know it again by.
    pub fn ended(&self) -> Option<&Path> {
        let snapshot = self.snapshot.as_ref()?;
        let ended = match self.link {
            Link::Open(_) => matches!(snapshot.connection, Connection::Exited(_)),
            Link::Refused { gone, .. } => gone,
            Link::Opening | Link::Closed => false,
        };
        ended.then_some(snapshot.target.exe.as_path())
    }

    /// Program and command, once after it was started by one.
    pub fn command_to_remember(&mut self) -> Option<(String, Vec<String>)> {
        let (program, known) = (self.program()?, self.config.as_ref()?);
        if std::mem::replace(&mut self.command_told, true) || self.command.is_empty() {
            return None;
        }
        let mut command = self.command.clone();
        if command[0].contains('/') {
            // Another day it may be another working directory.
            let exe = self.snapshot.as_ref()?.target.exe.with_file_name(&program);
            command[0] = exe.to_str()?.to_owned();
        }
        (known.of(&program).launch != command).then_some((program, command))
    }

    /// The ended program runs again as process `pid`; its session is being opened.
    pub fn revive(&mut self, pid: u32) {
        self.start_again();
        self.pid = pid;
    }

    /// The ended program is being started; it is to stand as it stood.
    pub fn start_again(&mut self) {
        if let Some(snapshot) = &self.snapshot {
            self.wishes = Some(Wishes::as_in(snapshot));
        }
        self.pid = 0;
        self.link = Link::Opening;
        self.ended_at = None;
        self.forked.clear();
        self.expected.clear();
    }

    /// The program that was being started runs.
    pub fn started(&mut self, pid: u32, name: String, session: Session) {
        self.pid = pid;
        self.name = name;
        self.link = Link::Open(session);
    }

    /// What the user's file says now, perhaps edited by hand.
    pub fn heed(&mut self, config: &Config) {
        if self.config.as_ref() == Some(config) {
            return;
        }
        let before = self.config.replace(config.clone());
        if let (Some(before), Some(program), Some(wishes)) = (before, self.program(), &mut self.wishes) {
            wishes.revise(before.of(&program), config.of(&program));
        }
        self.grant();
    }

    /// What the user's file says after the window has written into it.
    pub fn told(&mut self, config: &Config) {
        self.config = Some(config.clone());
        if let (Some(program), Some(wishes)) = (self.program(), &mut self.wishes) {
            wishes.settle(config.of(&program));
        }
    }

    /// Asks of the target what the user's file wants of it, once it is known what it has loaded.
    fn grant(&mut self) {
        let (Some(snapshot), Some(program)) = (self.snapshot.clone(), self.program()) else {
            return;
        };
        if !self.is_live() {
            return;
        }
        let decided = self.config.as_ref().map(|config| config.of(&program));
        if self.command.is_empty()
            && let Some(decided) = &decided
        {
            self.command.clone_from(&decided.launch);
        }
        if self.wishes.is_none() {
            self.wishes = decided.map(Wishes::new);
        }
        let commands = self.wishes.as_mut().map(|wishes| wishes.commands(&snapshot)).unwrap_or_default();
        for command in commands {
            self.order(command);
        }
    }

    /// Takes in what the session has sent, and tells what is news to the user.
    pub fn drain(&mut self, now: SystemTime) -> Vec<News> {
        let mut news = Vec::new();
        self.opening_since = matches!(self.link, Link::Opening).then(|| self.opening_since.unwrap_or(now));
        let doing = match &self.link {
            Link::Open(session) => session.progress.doing(),
            _ => None,
        };
        let began = |doing: &Option<Doing>| doing.as_ref().map(|doing| doing.since);
        if began(&doing) != began(&self.doing) {
            self.doing_since = began(&doing).and_then(|since| now.checked_sub(since.elapsed()));
        }
        self.doing = doing;
        loop {
            let Link::Open(session) = &self.link else {
                return news;
            };
            match session.updates.try_recv() {
                Ok(Update::Snapshot(snapshot)) => {
                    self.name.clone_from(&snapshot.target.name);
                    self.pid = snapshot.target.pid;
                    self.snapshot = Some(snapshot);
                    self.grant();
                }
                Ok(Update::Event { time, event }) => news.extend(self.hear(time, event)),
                Ok(Update::Done { command: Command::Reload { modules, .. }, receipts }) => {
                    let snapshot = self.snapshot.as_deref();
                    news.extend(snapshot.and_then(|now| without_effect(now, modules.is_empty(), &receipts)));
                }
                Ok(Update::Done { .. }) => {}
                Ok(Update::CommandFailed { command, message, detail }) => {
                    self.expected.clear();
                    self.notice = Some(Notice { message, detail, failed: true, again: Some(command) });
                }
                Err(TryRecvError::Empty) => return news,
                Err(TryRecvError::Disconnected) => {
                    self.link = Link::Closed;
                    self.ended_at = Some(now);
                }
            }
        }
    }

    fn hear(&mut self, time: SystemTime, event: Event) -> Option<News> {
        match event {
            Event::Notice { message } => {
                self.notice = Some(Notice { message, detail: Vec::new(), failed: false, again: None });
                None
            }
            Event::Failed { module, receipt } | Event::Refused { module, receipt } => {
                let message = receipt.failure.map(|failure| failure.message).unwrap_or_default();
                let refused = receipt.outcome == Outcome::Refused;
                Some(News::Stopped { module, message, refused, running: receipt.generation })
            }
            Event::Recovered { module } => Some(News::Recovered { module }),
            Event::Forked { pid } => {
                self.forked.push(pid);
                None
            }
            Event::Exited { status } => {
                self.ended_at = Some(time);
                let signal = signal_of(status).filter(|signal| is_crash(*signal))?;
                Some(News::Crashed { program: self.name.clone(), signal })
            }
            Event::Mode { mode } => self.elsewhere(Expected::Mode, || {
                let what = match mode {
                    Mode::Off => "off",
                    Mode::Marked => "marked only",
                    Mode::All => "all except skipped",
                };
                format!("Auto was set to {what}")
            }),
            Event::Mark { module, mark } => self.elsewhere(Expected::Mark, || match mark {
                Mark::Reload => format!("{module} was marked"),
                Mark::Skip => format!("{module} was set to be skipped"),
                Mark::None => format!("{module} was unmarked"),
            }),
            Event::Detached => self.elsewhere(Expected::Detach, || "The target was detached".to_owned()),
            _ => None,
        }
    }

    /// News of what another window or terminal did; nothing where it was ordered here.
    fn elsewhere(&mut self, kind: Expected, tell: impl FnOnce() -> String) -> Option<News> {
        match self.expected.iter().position(|expected| *expected == kind) {
            Some(position) => {
                self.expected.remove(position);
                None
            }
            None => Some(News::Elsewhere(tell())),
        }
    }

    /// Brings index and statistics up to date; cheap where nothing has changed.
    pub fn derive(&mut self, query: &Query) {
        let Some(snapshot) = &self.snapshot else {
            return;
        };
        let revision = snapshot.revision;
        if self.indexed.as_ref().is_none_or(|(of, with)| *of != revision || with != query) {
            if self.indexed.as_ref().is_none_or(|(of, _)| *of != revision) || !self.prepared.serves(query) {
                self.prepared = Prepared::new(snapshot, query.sort);
            }
            self.index = Index::new(snapshot, &self.prepared, query);
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
        match &command {
            // What is so already leads to no event.
            Command::SetMode(mode) if self.snapshot.as_ref().is_some_and(|snapshot| snapshot.mode == *mode) => {}
            Command::SetMode(_) => self.expected.push(Expected::Mode),
            Command::Mark { .. } | Command::Load(_) => self.expected.push(Expected::Mark),
            Command::Detach => self.expected.push(Expected::Detach),
            _ => {}
        }
        match session.orders.try_send(Order { command, reply: None }) {
            Ok(()) => {}
            Err(TrySendError::Full(order)) => {
                self.notice = Some(Notice {
                    message: "The session is still busy with earlier commands; try again in a moment".to_owned(),
                    detail: Vec::new(),
                    failed: true,
                    again: Some(order.command),
                });
            }
            Err(TrySendError::Disconnected(_)) => self.link = Link::Closed,
        }
    }

    /// What has been going on for so long that people begin to wonder, and since when.
    pub fn long_work(&self, now: SystemTime) -> Option<(&Doing, Duration)> {
        let doing = self.doing.as_ref()?;
        let age = now.duration_since(self.doing_since?).ok()?;
        (age >= LONG).then_some((doing, age))
    }

    /// Asks that the reload under way be given up.
    pub fn cancel(&self) {
        if let Link::Open(session) = &self.link {
            session.progress.cancel();
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
        // As a text: paths are compared by their parts, and this is asked in every frame.
        let wanted = path.as_os_str();
        snapshot.modules.iter().enumerate().find(|(_, module)| module.path.as_os_str() == wanted)
    }
}
