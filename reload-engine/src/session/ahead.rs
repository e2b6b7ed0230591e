//! What is done ahead of a reload, while there is nothing else to do: a module is analysed before its file first changes, and the
//! next file before it is the module's, or before its reload is ordered.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    modules::Tracked,
    worker::{Role, Worker},
};
use crate::{
    model::{Class, Connection, Mark},
    reloader::Candidate,
    watcher::{Reading, stamp},
};

/// Modules analysed ahead of their first reload: so many at most, none larger than so many bytes. The analysis stays in
/// memory.
const MOST_PREPARED: usize = 16;
const PREPARED_SIZE: u64 = 64 << 20;
/// A file that is in its place so soon after it was completed beside it is not read twice.
const IN_PLACE: Duration = Duration::from_millis(3);

/// What may be reloaded next, and when to begin with it.
#[derive(Debug)]
pub struct Forerunner {
    file: Next,
    due: Instant,
}

#[derive(Debug)]
enum Next {
    /// Completed elsewhere: perhaps about to become the module's file.
    Elsewhere(PathBuf),
    /// The module's file, which waits for an order.
    InPlace(Reading),
}

impl Worker {
    /// When there is something to be done ahead; `None` when there is nothing.
    pub fn idle_work_due(&self) -> Option<Instant> {
        if self.engine.wants_memory() || self.wants_origins() || self.next_to_prepare().is_some() {
            return Some(Instant::now());
        }
        let forerunners = self.modules.iter().filter_map(|module| module.forerunner.as_ref());
        forerunners.map(|forerunner| forerunner.due).filter(|_| self.connection == Connection::Attached).min()
    }

    /// Does one thing that is due.
    pub fn work_ahead(&mut self) {
        if self.engine.wants_memory() {
            self.engine.ready_memory();
        } else if self.wants_origins() {
            self.watcher.follow_origins();
        } else if let Some(index) = self.next_to_prepare() {
            self.prepare(index);
        } else if let Some(index) = self.due_forerunner() {
            self.draft(index);
        }
    }

    fn wants_origins(&self) -> bool {
        self.role == Role::Follower && self.watcher.has_origins_to_find()
    }

    /// Takes down which files have been completed that may become those of modules.
    pub fn take_forerunners(&mut self) {
        for (module, path) in self.watcher.forerunners() {
            let index = self.modules.iter().position(|tracked| tracked.path == module);
            if let Some(index) = index {
                // Cargo takes longer than that: 10 ms for a small program, a tenth of a second for a large one.
                let pause = if path.parent() == module.parent() { IN_PLACE } else { Duration::ZERO };
                self.expect_next(index, Next::Elsewhere(path), pause);
            }
        }
    }

    /// The module's file is new, and waits for somebody to order its reload.
    pub fn expect_reload(&mut self, index: usize, reading: Reading) {
        self.expect_next(index, Next::InPlace(reading), Duration::ZERO);
    }

    fn expect_next(&mut self, index: usize, file: Next, pause: Duration) {
        let module = &mut self.modules[index];
        let mark = self.record.ledger.module(&module.path).map_or(Mark::None, |ledger| ledger.mark);
        if mark != Mark::Skip && self.connection == Connection::Attached {
            module.forerunner = Some(Forerunner { file, due: Instant::now() + pause });
        }
    }

    /// Forgets what has been drafted for modules of which something else runs by now.
    pub fn forget_outdated_drafts(&mut self) {
        self.engine.forget_outdated_drafts(&self.record.ledger);
        for module in &mut self.modules {
            if !self.engine.has_draft(&module.path) {
                module.look.expect(None);
            }
        }
    }

    /// Analyses a module ahead of its first reload.
    fn prepare(&mut self, index: usize) {
        // It may take a while; whoever looks is told what.
        (self.wake)();
        let module = &mut self.modules[index];
        module.prepared = true;
        if let Some(ledger) = self.record.ledger.module(&module.path)
            && let Err(error) = self.engine.prepare(&mut self.link, &module.path, ledger)
        {
            // The reload will fail by the same reason, and tell it.
            tracing::debug!("{}: not prepared: {error}", module.name);
        }
        if let Err(error) = self.copy_of_program(index) {
            tracing::debug!("{error}");
        }
    }

    /// Whether that was of use, the content of the module's file will tell.
    fn draft(&mut self, index: usize) {
        let module = &mut self.modules[index];
        let Some(Forerunner { file, .. }) = module.forerunner.take() else { return };
        let Some(ledger) = self.record.ledger.module(&module.path).filter(|_| module.prepared) else { return };
        let reading = match file {
            Next::InPlace(reading) => Some(reading),
            Next::Elsewhere(path) if stamp(&path).is_ok_and(|stamp| stamp.size <= PREPARED_SIZE) => {
                // One that is not complete will be, or is of no use.
                module.look.ahead(path)
            }
            Next::Elsewhere(_) => None,
        };
        let Some(Reading { bytes, stamp, content }) = reading else { return };
        if ledger.running().is_some_and(|record| record.content == content) {
            // A copy that somebody keeps, for instance, or it has been put into place and reloaded meanwhile.
            return Arc::into_inner(bytes).into_iter().for_each(|memory| module.look.lend(memory));
        }
        if self.engine.has_draft_of(&module.path, &content, ledger) {
            return module.look.expect(Some((bytes, content)));
        }
        (self.wake)();
        let candidate = Candidate { path: module.path.clone(), bytes, stamp, content: content.clone() };
        match self.engine.draft(&mut self.link, &module.path, ledger, candidate) {
            Ok(bytes) => module.look.expect(Some((bytes, content))),
            Err(error) => {
                module.look.expect(None);
                tracing::debug!("{}: no draft: {error}", module.name);
            }
        }
    }

    fn due_forerunner(&self) -> Option<usize> {
        let now = Instant::now();
        let is_due = |module: &Tracked| module.forerunner.as_ref().is_some_and(|forerunner| forerunner.due <= now);
        self.modules.iter().position(is_due).filter(|_| self.connection == Connection::Attached)
    }

    fn next_to_prepare(&self) -> Option<usize> {
        let worth_it = |module: &Tracked| {
            !module.prepared
                && module.size().is_some_and(|size| size <= PREPARED_SIZE)
                && self.record.module(&module.path).is_some_and(|ledger| {
                    !ledger.generations.is_empty()
                        && (ledger.mark == Mark::Reload
                            || (matches!(module.class, Class::Executable | Class::Project)
                                && ledger.mark == Mark::None))
                })
        };
        if self.role != Role::Follower || matches!(self.connection, Connection::Exited(_) | Connection::Lost(_)) {
            return None;
        }
        let ready = self.modules.iter().filter(|module| module.prepared).count();
        if ready < MOST_PREPARED { self.modules.iter().position(worth_it) } else { None }
    }
}
