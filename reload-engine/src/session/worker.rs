//! The session's thread: waits for whatever comes first, acts on it, tells about it.
//!
//! Idle costs a few reads of short files of `/proc` per second, and the agent sleeps: it tells of other controllers, inotify of
//! files, and only a `dlopen` has to be polled for.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use crossbeam_channel::{Receiver, Select, Sender, never};
use reload_protocol::Notice;

use super::{
    Event, Order, Update,
    forks::Forks,
    modules::Tracked,
    originals,
    record::{Record, differences},
};
use crate::{
    error::{Error, Result},
    ledger::{Ledger, ModuleLedger},
    model::{Connection, Snapshot, Target},
    progress::Progress,
    reloader::Engine,
    target::{
        attach,
        link::AgentLink,
        maps,
        process::{Process, is_alive},
        space::Space,
        store::TargetFolder,
        vitals::Vitals,
    },
};

/// Between two looks at the target's size, which says whether something was loaded, and at its children. What is loaded from
/// a watched folder is seen at once; each look costs 0.3 ms, and a dashboard is open all day.
const MODULE_PACE: Duration = Duration::from_secs(1);
/// After a library was opened near by: `dlopen` maps it a moment later. Looked for so soon, then with doubled pauses.
const SOON: Duration = Duration::from_millis(3);
const SOON_TIMES: u32 = 6;
/// Between two comparisons of stamps, for what inotify cannot see, done together with the next look at the size; and where it
/// sees nothing.
const FILE_PACE: Duration = Duration::from_secs(2);
const POLLED_FILE_PACE: Duration = Duration::from_millis(250);
/// What is mapped is looked at this often even if the target's size never changes: one library may come for another.
const LISTING_PACE: Duration = Duration::from_secs(5);
/// How long a target that has called `exec` may take until its new program's agent answers.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// After so much of it the agent is brought in.
const EXEC_PATIENCE: Duration = Duration::from_millis(300);
/// Reloads in a row that are begun anew because the target has closed a library meanwhile. Then it closes libraries all the time,
/// and hardly ever this one.
pub const CLOSED_AGAIN: u32 = 3;

/// Whether a session acts by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows files and reloads as the mode says.
    Follower,
    /// Carries out orders only.
    Visitor,
}

/// Everything one session knows. The other files of this room add what it does.
pub struct Worker {
    pub pid: u32,
    pub role: Role,
    pub link: AgentLink,
    pub engine: Engine,
    pub folder: TargetFolder,
    pub target: Target,
    pub record: Record,
    /// In the order of the link map.
    pub modules: Vec<Tracked>,
    pub watcher: crate::watcher::Watcher,
    pub connection: Connection,
    /// Something that a snapshot shows has changed.
    pub dirty: bool,
    /// The target has closed a library while one was being reloaded, which is begun again once the modules are listed anew.
    pub to_begin_again: bool,
    /// How often in a row.
    pub closed_again: u32,
    /// Modules whose file asked for what nobody offered, and somebody does by now.
    pub supplied: Vec<PathBuf>,
    /// Of the target, at the last listing.
    pub pages: u64,
    /// The target's page faults and the fingerprint of what it executes, when these were looked at last.
    mapped: (u64, u64),
    updates: Sender<Update>,
    /// Has whoever looks look again.
    pub wake: Box<dyn Fn() + Send>,
    snapshots: u64,
    forks: Forks,
    pub vitals: Vitals,
    next_modules: Instant,
    /// How often already since a library was opened; [`SOON_TIMES`] in quiet times.
    soon: u32,
    next_listing: Instant,
    next_files: Instant,
}

impl Worker {
    /// Takes up a target: reads its ledger, lists its modules, keeps their originals.
    pub fn start(
        link: AgentLink,
        role: Role,
        progress: Progress,
        updates: Sender<Update>,
        wake: Box<dyn Fn() + Send>,
    ) -> Result<Worker> {
        let pid = link.pid();
        let folder = TargetFolder::of_agent(pid).ok_or(Error::NoAgent { pid })?;
        let now = Instant::now();
        let mut worker = Worker {
            pid,
            role,
            link,
            engine: Worker::engine(&folder, progress),
            folder,
            target: describe(pid)?,
            record: Record::default(),
            modules: Vec::new(),
            watcher: crate::watcher::Watcher::new(),
            connection: Connection::Attached,
            dirty: true,
            to_begin_again: false,
            supplied: Vec::new(),
            closed_again: 0,
            pages: 0,
            mapped: (0, 0),
            updates,
            wake,
            snapshots: 0,
            forks: Forks::default(),
            vitals: Vitals::of(pid).map_err(|_| Error::NoSuchProcess { pid })?,
            next_modules: now + MODULE_PACE,
            soon: SOON_TIMES,
            next_listing: now + LISTING_PACE,
            next_files: now + FILE_PACE,
        };
        worker.take_up()?;
        Ok(worker)
    }

    pub fn engine(folder: &TargetFolder, progress: Progress) -> Engine {
        Engine::new(folder.path().join("shadows"), progress)
    }

    fn take_up(&mut self) -> Result<()> {
        // Made here with the right permissions; the engine adds to it.
        self.folder.shadows()?;
        self.record = Record::read(&mut self.link)?;
        self.take_over_files()?;
        self.list_modules()?;
        self.attachment_changed();
        self.tell_attached();
        if self.role == Role::Visitor {
            // One answer is all that will be asked: it should be about the files as they are.
            let all: Vec<usize> =
                (0..self.modules.len()).filter(|&index| self.modules[index].look.due().is_some()).collect();
            self.settle(&all, false);
        }
        self.publish();
        Ok(())
    }

    /// A forked process has its parent's ledger, which names the parent's files.
    fn take_over_files(&mut self) -> Result<()> {
        let files = self.record.ledger.modules.values().flat_map(|module| &module.generations);
        let mut moved = HashMap::new();
        for file in files.map(|record| &record.file) {
            if let Some(own) = originals::take_over(file, self.pid, self.folder.path())? {
                moved.insert(file.clone(), own);
            }
        }
        self.record.change(&mut self.link, |ledger| {
            for module in ledger.modules.values_mut().map(Arc::make_mut) {
                for record in &mut module.generations {
                    if let Some(own) = moved.get(&record.file) {
                        Arc::make_mut(record).file.clone_from(own);
                    }
                }
            }
        })
    }

    pub fn tell_attached(&mut self) {
        let Target { pid, name, exe } = self.target.clone();
        self.tell(Event::Attached { pid, name, exe, modules: self.modules.len() });
    }

    /// Runs until it is closed. Through `exit` comes the status of a target whose parent tells it.
    pub fn run(mut self, orders: &Receiver<Order>, exit: Option<&Receiver<Option<i32>>>) {
        self.reconsider();
        let nothing = never();
        let no_status = never();
        loop {
            self.publish_if_dirty();
            let ended = matches!(self.connection, Connection::Exited(_) | Connection::Lost(_));
            let notices = if ended { never() } else { self.link.notices() };
            let wake = self.watcher.wake().clone();
            let mut select = Select::new();
            let order = select.recv(orders);
            let notice = select.recv(&notices);
            let touched = select.recv(if ended { &nothing } else { &wake });
            // Once the status is there, its channel is closed, which is no news: the end is told once.
            let exit = exit.filter(|_| !ended);
            let status = exit.unwrap_or(&no_status);
            let exited = select.recv(status);
            let deadline = if ended { Instant::now() + LISTING_PACE } else { self.deadline() };
            match select.ready_deadline(deadline) {
                Ok(ready) if ready == order => match orders.try_recv() {
                    Ok(order) => {
                        if !self.carry_out_order(order) {
                            return;
                        }
                    }
                    Err(error) if error.is_disconnected() => return,
                    Err(_) => {}
                },
                Ok(ready) if ready == notice => match notices.try_recv() {
                    Ok(Notice::LedgerChanged { .. }) => self.follow_ledger(),
                    Err(error) if error.is_disconnected() => self.link_ended(exit),
                    Err(_) => {}
                },
                Ok(ready) if ready == touched => {
                    let _ = wake.try_recv();
                    self.take_touched();
                }
                Ok(ready) if ready == exited => {
                    if let Ok(status) = status.try_recv() {
                        self.exited(status);
                    } else {
                        // The parent has given up on the status; the pid tells the rest.
                        self.link_ended(None);
                    }
                }
                Ok(_) => {}
                Err(_) => self.work_ahead(),
            }
            if matches!(self.connection, Connection::Attached | Connection::Detached) {
                self.keep_pace(exit);
                while std::mem::take(&mut self.to_begin_again) {
                    self.relist();
                    self.reconsider();
                }
                self.closed_again = 0;
            }
        }
    }

    fn deadline(&self) -> Instant {
        let looks = self.modules.iter().filter_map(|module| module.look.due());
        let files = self.watcher.polls().then_some(self.next_files);
        looks.chain(self.idle_work_due()).chain(files).fold(self.next_modules, Instant::min)
    }

    /// Does what is due by the clock.
    fn keep_pace(&mut self, exit: Option<&Receiver<Option<i32>>>) {
        let now = Instant::now();
        for index in 0..self.modules.len() {
            // An attempt may take up a change of the list of modules.
            if index < self.modules.len()
                && !self.to_begin_again
                && let Some(verdict) = self.look(index, now)
            {
                self.act(index, verdict);
            }
        }
        self.reload_supplied();
        if now >= self.next_modules {
            let opened = self.soon < SOON_TIMES;
            self.next_modules = now + if opened { SOON * (1 << self.soon) } else { MODULE_PACE };
            self.soon = (self.soon + 1).min(SOON_TIMES);
            let again = now >= self.next_listing;
            if self.soon == SOON_TIMES
                && self.role == Role::Follower
                && (again || self.forks.is_due(self.vitals.newest_process()))
            {
                for pid in self.forks.look(self.pid, &self.target.exe) {
                    self.tell(Event::Forked { pid });
                }
            }
            match self.vitals.size_in_pages() {
                Ok(pages) if pages == self.pages && !opened && now < self.next_listing => {}
                Ok(pages) if is_alive(self.pid) => {
                    self.next_listing = now + LISTING_PACE;
                    if self.mapped_anew() || pages != self.pages {
                        self.relist();
                    }
                }
                Ok(_) | Err(_) => self.link_ended(exit),
            }
        }
        if now >= self.next_files {
            self.next_files = now + if self.watcher.polls() { POLLED_FILE_PACE } else { FILE_PACE };
            let touched = self.watcher.poll();
            self.touch(touched);
        }
    }

    /// Whether the target executes other files than when this was asked last, as far as can be told from outside.
    fn mapped_anew(&mut self) -> bool {
        let Ok(faults) = maps::faults(self.pid) else { return true };
        if faults == self.mapped.0 {
            return false;
        }
        let Ok(fingerprint) = maps::code_fingerprint(self.pid) else { return true };
        let before = std::mem::replace(&mut self.mapped, (faults, fingerprint));
        before.1 != fingerprint
    }

    pub fn relist(&mut self) {
        let result = self.list_modules();
        if let Err(error) = result {
            tracing::debug!("listing the modules: {error}");
            self.lost_if(&error);
        }
    }

    fn take_touched(&mut self) {
        let touched = self.watcher.touched();
        if self.watcher.library_opened() {
            self.soon = 0;
            self.next_modules = self.next_modules.min(Instant::now() + SOON);
        }
        self.touch(touched);
        self.take_forerunners();
    }

    fn touch(&mut self, touched: std::collections::BTreeMap<std::path::PathBuf, crate::watcher::Evidence>) {
        let now = Instant::now();
        for (path, evidence) in touched {
            for module in self.modules.iter_mut().filter(|module| module.path == path) {
                module.look.touch(evidence, now);
            }
        }
    }

    /// Before an order: what was loaded and written until now counts.
    pub fn catch_up(&mut self) -> Result<()> {
        self.take_touched();
        self.list_modules()
    }

    /// Another controller has changed the ledger.
    fn follow_ledger(&mut self) {
        match self.reread() {
            Ok(()) => {
                if let Err(error) = self.keep_originals(&[]) {
                    self.lost_if(&error);
                }
                self.watch();
                self.reconsider();
            }
            Err(error) => self.lost_if(&error),
        }
    }

    /// Reads the ledger and tells what is new in it.
    pub fn reread(&mut self) -> Result<()> {
        let before = (self.record.revision, self.record.ledger.clone());
        self.record.refresh(&mut self.link)?;
        self.forget_outdated_drafts();
        for event in std::mem::take(&mut self.record.missed) {
            self.tell(event);
        }
        let (revision, ledger) = before;
        if self.record.revision == revision {
            return Ok(());
        }
        let was_detached = ledger.detached;
        for event in differences(&ledger, &self.record.ledger) {
            self.tell(event);
        }
        if was_detached && !self.record.ledger.detached {
            self.tell_attached();
        }
        self.attachment_changed();
        self.dirty = true;
        Ok(())
    }

    pub fn attachment_changed(&mut self) {
        let now = if self.record.ledger.detached { Connection::Detached } else { Connection::Attached };
        if self.connection != now && matches!(self.connection, Connection::Attached | Connection::Detached) {
            self.connection = now;
            self.dirty = true;
        }
    }

    /// The agent hung up: the target has ended, or has become another program.
    fn link_ended(&mut self, exit: Option<&Receiver<Option<i32>>>) {
        let deadline = Instant::now() + RECONNECT_PATIENCE;
        loop {
            if let Some(Ok(status)) = exit.map(Receiver::try_recv) {
                return self.exited(status);
            }
            if !is_alive(self.pid) {
                // A parent's wait gives the status a moment after the end.
                return self.exited(exit.and_then(|exit| exit.recv_deadline(deadline).ok()).flatten());
            }
            match self.find_agent(deadline).and_then(|link| self.start_again(link)) {
                Ok(()) => return,
                Err(error) if Instant::now() >= deadline => {
                    self.connection = Connection::Lost(error.to_string());
                    self.dirty = true;
                    return self.tell(Event::Notice { message: format!("lost the agent: {error}") });
                }
                Err(error) => tracing::debug!("taking up the new program: {error}"),
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// A target that was launched brings its agent into the next program by itself; one that was attached does not.
    fn find_agent(&self, deadline: Instant) -> Result<AgentLink> {
        let own_agent = deadline.saturating_duration_since(Instant::now()) > RECONNECT_PATIENCE - EXEC_PATIENCE;
        if own_agent { AgentLink::connect(self.pid) } else { attach::link(self.pid) }
    }

    /// The target runs another program, or this one's link broke: takes it up anew, with the user's wishes.
    fn start_again(&mut self, link: AgentLink) -> Result<()> {
        let wishes = self.record.ledger.clone();
        let revision_lost = link.welcome().revision == 0;
        self.link = link;
        self.folder = TargetFolder::of_agent(self.pid).ok_or(Error::NoAgent { pid: self.pid })?;
        self.engine = Worker::engine(&self.folder, self.engine.progress.clone());
        self.target = describe(self.pid)?;
        self.modules.clear();
        if revision_lost {
            self.record = Record::read(&mut self.link)?;
            self.record.change(&mut self.link, |ledger| carry_over(&wishes, ledger))?;
        }
        self.take_up()
    }

    fn exited(&mut self, status: Option<i32>) {
        self.connection = Connection::Exited(status);
        self.dirty = true;
        self.tell(Event::Exited { status });
    }

    /// Takes note of an error that means that the link is of no use any more.
    pub fn lost_if(&mut self, error: &Error) {
        if matches!(error, Error::LinkLost { .. } | Error::LinkTimeout { .. } | Error::NoSuchProcess { .. }) {
            // The notices' channel ends with the link, and the loop finds out what happened.
            tracing::debug!("{error}");
            self.next_modules = Instant::now();
        }
    }

    pub fn tell(&mut self, event: Event) {
        self.send(Update::Event { time: SystemTime::now(), event });
    }

    pub fn send(&mut self, update: Update) {
        // The receiver may be gone; the orders' channel then ends the loop.
        let _ = self.updates.send(update);
        (self.wake)();
    }

    pub fn publish_if_dirty(&mut self) {
        if self.dirty {
            self.publish();
        }
    }

    pub fn publish(&mut self) {
        self.dirty = false;
        self.snapshots += 1;
        let nothing = ModuleLedger::default();
        let row = |module: &Tracked| module.row(self.record.module(&module.path).unwrap_or(&nothing));
        let snapshot = Snapshot {
            target: self.target.clone(),
            mode: self.record.ledger.mode,
            modules: self.modules.iter().map(row).collect(),
            revision: self.snapshots,
            connection: self.connection.clone(),
            watched_directories: self.watcher.directories(),
        };
        self.send(Update::Snapshot(Arc::new(snapshot)));
    }
}

fn describe(pid: u32) -> Result<Target> {
    let Process { name, exe, .. } = Process::of(pid)?;
    let exe = exe.map(|exe| Space::of(pid).from_here(&exe)).unwrap_or_default();
    Ok(Target { pid, name, exe })
}

/// The user's wishes survive `exec`; what was done to the earlier program does not.
fn carry_over(from: &Ledger, to: &mut Ledger) {
    to.mode = from.mode;
    to.detached = from.detached;
    to.wishes = from.wishes;
    for (path, module) in &from.modules {
        if module.mark != Default::default() {
            to.entry(path).mark = module.mark;
        }
    }
}
