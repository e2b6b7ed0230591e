//! One attempt on one module, from the decision to the line in its history.
//!
//! How a reload is done is the reloader's business.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Instant,
};

use super::{
    Event, failures,
    modules::{Tracked, Verdict},
    record::{BUSY_PATIENCE, BUSY_PAUSE, Record, remember, told},
    worker::{CLOSED_AGAIN, Role, Worker},
};
use crate::{
    error::{Error, Result},
    ledger::{ModuleLedger, Rejected},
    model::{Change, Generation, Outcome, Receipt, Stage, Status, file_name},
    policy::{Decision, Disk, Trigger, concerns_reload_now, decide},
    reloader::{Candidate, Reloaded},
    watcher::Reading,
};

impl Worker {
    /// Acts on what looking at a file led to, as a file event does.
    pub fn act(&mut self, index: usize, verdict: Verdict) {
        match verdict {
            Verdict::Nothing => {}
            Verdict::Missing => {
                let module = self.modules[index].name.clone();
                self.tell(Event::Missing { module });
            }
            Verdict::News(reading) => {
                match self.decision(Trigger::All, index) {
                    Decision::Unchanged => return self.forgive(index),
                    Decision::Reload | Decision::Skip => {
                        let module = self.modules[index].name.clone();
                        self.tell(Event::Changed { module });
                    }
                    _ => {}
                }
                let by_itself = self.reloads_by_itself();
                if by_itself && self.decision(self.auto(), index) == Decision::Reload {
                    self.attempt(index, Some(Found::File(reading)), false);
                } else if by_itself && self.decision(Trigger::All, index) == Decision::Reload {
                    self.expect_reload(index, reading);
                }
            }
            Verdict::Unusable { stage, reason } => {
                if self.reloads_by_itself() && self.decision(self.auto(), index) == Decision::Reload {
                    self.attempt(index, Some(Found::Unusable { stage, reason }), false);
                }
            }
        }
    }

    /// Reloads whatever the mode says after something else than a file changed: the mode itself, a mark, the attachment.
    pub fn reconsider(&mut self) {
        for index in 0..self.modules.len() {
            if !self.to_begin_again
                && self.reloads_by_itself()
                && self.modules[index].look.due().is_none()
                && self.decision(self.auto(), index) == Decision::Reload
            {
                self.attempt(index, None, false);
            }
        }
    }

    fn reloads_by_itself(&self) -> bool {
        self.role == Role::Follower && !self.record.ledger.detached
    }

    fn auto(&self) -> Trigger {
        Trigger::Auto(self.record.ledger.mode)
    }

    fn decision(&self, trigger: Trigger, index: usize) -> Decision {
        let nothing = ModuleLedger::default();
        let module = &self.modules[index];
        decide(trigger, module.facts(self.record.module(&module.path).unwrap_or(&nothing)))
    }

    fn active(&self, index: usize) -> Generation {
        self.record.module(&self.modules[index].path).map_or(Generation(0), |ledger| ledger.active)
    }

    /// The order `Reload`, and what it did.
    pub fn reload_now(&mut self, indexes: Option<Vec<usize>>, force: bool) -> Vec<Receipt> {
        let trigger = if indexes.is_some() { Trigger::Named } else { Trigger::All };
        let indexes = indexes.unwrap_or_else(|| {
            let concerns = |index: &usize| {
                let module = &self.modules[*index];
                concerns_reload_now(
                    module.class,
                    self.record.module(&module.path).map_or_else(Default::default, |of| of.mark),
                )
            };
            (0..self.modules.len()).filter(concerns).collect()
        });
        let mut found: Vec<(usize, Verdict)> = self.settle(&indexes, trigger == Trigger::Named);
        let verdicts: Vec<(PathBuf, Option<Verdict>)> = indexes
            .into_iter()
            .map(|index| {
                let verdict = found.iter().position(|(of, _)| *of == index).map(|at| found.swap_remove(at).1);
                (self.modules[index].path.clone(), verdict)
            })
            .collect();
        let mut receipts: Vec<(PathBuf, Receipt)> = verdicts
            .into_iter()
            .map(|(path, verdict)| {
                let receipt = self.reload_one(&path, verdict, trigger, force);
                (path, receipt)
            })
            .collect();
        // Whose turn came before that of what they need. The others go as the mode says.
        let mut others = Vec::new();
        while let Some(path) = self.supplied.pop() {
            match receipts.iter_mut().find(|(of, _)| *of == path) {
                Some((_, receipt)) => *receipt = self.reload_one(&path, None, trigger, force),
                None => others.push(path),
            }
        }
        self.supplied = others;
        receipts.into_iter().map(|(_, receipt)| receipt).collect()
    }

    /// By itself, as the mode says, what could not be loaded before another module was reloaded.
    pub fn reload_supplied(&mut self) {
        if !std::mem::take(&mut self.supplied).is_empty() {
            self.reconsider();
        }
    }

    /// Another try for those whose files ask for what the module of this index offers now.
    fn note_supplied(&mut self, index: usize) {
        let Some(of) = self.record.module(&self.modules[index].path) else { return };
        let missing = |module: &Tracked| {
            let failure = self.record.module(&module.path)?.rejected.as_ref()?.failure.as_ref()?;
            failures::missing_symbol(failure.stage, &failure.message)
                .map(|symbol| (module.path.clone(), symbol.to_owned()))
        };
        let waiting: Vec<(PathBuf, String)> = self.modules.iter().filter_map(missing).collect();
        let supplied = waiting.into_iter().filter(|(_, symbol)| self.engine.offers(of, symbol));
        let supplied: Vec<PathBuf> = supplied.map(|(path, _)| path).collect();
        if !supplied.is_empty() && self.pardon(&supplied) {
            self.supplied.extend(supplied);
        }
    }

    /// Begins anew where the target has closed a library meanwhile.
    fn reload_one(&mut self, path: &Path, verdict: Option<Verdict>, trigger: Trigger, force: bool) -> Receipt {
        let mut verdict = verdict;
        loop {
            let Some(index) = self.position(path) else {
                self.closed_again = 0;
                let closed = Receipt::empty(file_name(path), Outcome::Skipped, Generation(0));
                return with_warning(closed, "the target has closed it");
            };
            if self.modules[index].disk == Disk::Unseen {
                // Of another life than the verdict, if there was one.
                verdict = self.settle(&[index], false).pop().map(|(_, verdict)| verdict);
            }
            let receipt = self.reload_as_it_is(index, verdict.take(), trigger, force);
            if !std::mem::take(&mut self.to_begin_again) {
                self.closed_again = 0;
                return receipt;
            }
            self.relist();
        }
    }

    fn position(&self, path: &Path) -> Option<usize> {
        self.modules.iter().position(|module| module.path == path)
    }

    fn reload_as_it_is(&mut self, index: usize, verdict: Option<Verdict>, trigger: Trigger, force: bool) -> Receipt {
        if let Some(Verdict::Missing) = verdict {
            self.act(index, Verdict::Missing);
        }
        let name = self.modules[index].name.clone();
        let nothing = |outcome| Receipt::empty(&name, outcome, self.active(index));
        match self.decision(trigger, index) {
            Decision::Reload => {
                let found = match verdict {
                    Some(Verdict::News(reading)) => Some(Found::File(reading)),
                    Some(Verdict::Unusable { stage, reason }) => Some(Found::Unusable { stage, reason }),
                    _ => None,
                };
                self.attempt(index, found, force)
            }
            Decision::Unchanged => {
                self.forgive(index);
                Receipt::empty(&name, Outcome::Unchanged, self.active(index))
            }
            Decision::Missing if trigger == Trigger::Named => self.missing(index),
            Decision::Missing => {
                with_warning(nothing(Outcome::Skipped), "its file is gone from disk; the loaded code runs on")
            }
            Decision::LeaveAlone => with_warning(nothing(Outcome::Skipped), &self.why_left_alone(index)),
            Decision::Skip | Decision::Wait => nothing(Outcome::Skipped),
            Decision::Protected => {
                let error = Error::Refused {
                    module: name.clone(),
                    stage: Stage::Validate,
                    reasons: vec!["the loader, libc and what they need can never be reloaded".to_owned()],
                    remedy: "restart the target after updating it".to_owned(),
                };
                failures::receipt(&self.modules[index].path, self.active(index), &error, None, self.folder.path())
            }
        }
    }

    fn why_left_alone(&self, index: usize) -> String {
        let module = &self.modules[index];
        let ledger = self.record.module(&module.path);
        let failure = ledger.and_then(|ledger| ledger.rejected.as_ref()?.failure.as_ref());
        let why = failure.map_or_else(String::new, |failure| format!(": {}", failure.without_name(&module.name)));
        // Without an original to compare with no change of the file helps.
        if ledger.is_some_and(|ledger| ledger.generations.is_empty()) {
            format!("cannot be reloaded{why}; restart the target")
        } else {
            format!("left alone until its file changes; name it to try again{why}")
        }
    }

    fn missing(&self, index: usize) -> Receipt {
        let module = &self.modules[index];
        let error = Error::File {
            path: module.path.clone(),
            doing: "opening the new file",
            source: std::io::Error::from_raw_os_error(nix::libc::ENOENT),
        };
        failures::receipt(&module.path, self.active(index), &error, None, self.folder.path())
    }

    /// The file is back to what runs: what was wrong with another state of it is over.
    fn forgive(&mut self, index: usize) {
        if !self.is_failing(index)
            || self.record.module(&self.modules[index].path).is_none_or(|of| of.generations.is_empty())
        {
            return;
        }
        self.pardon(&[self.modules[index].path.clone()]);
    }

    /// Nothing is wrong with these any more; whether that could be noted.
    fn pardon(&mut self, paths: &[PathBuf]) -> bool {
        let changed = self.record.change(&mut self.link, |ledger| {
            for path in paths {
                if let Some(module) = ledger.module_mut(path) {
                    module.rejected = None;
                }
            }
        });
        match changed {
            Ok(()) => {
                for path in paths {
                    self.tell(Event::Recovered { module: file_name(path) });
                }
                self.dirty = true;
                true
            }
            Err(error) => {
                tracing::debug!("not noted: {error}");
                false
            }
        }
    }

    /// Tries to reload one module and notes what came of it.
    pub fn attempt(&mut self, index: usize, found: Option<Found>, force: bool) -> Receipt {
        let found = found.unwrap_or_else(|| self.find(index));
        let failing = self.is_failing(index);
        let name = self.modules[index].name.clone();
        self.tell(Event::Reloading { module: name.clone() });
        self.modules[index].reloading = true;
        self.modules[index].forerunner = None;
        self.publish();
        let stamp = match &found {
            Found::File(reading) => Some(reading.stamp.clone()),
            Found::Unusable { .. } => match &self.modules[index].disk {
                Disk::Unusable { stamp } => stamp.clone(),
                _ => None,
            },
        };
        let content = if let Found::File(reading) = &found { Some(reading.content.clone()) } else { None };
        let result = self.carry_out(index, found, force);
        self.modules[index].reloading = false;
        self.dirty = true;
        if let Err(error @ Error::ModuleClosed { .. }) = &result {
            let message = format!("{name}: begun again: {error}");
            self.tell(Event::Notice { message });
            self.closed_again += 1;
            self.to_begin_again = true;
        }
        match result {
            Ok(receipt) => {
                self.tell_finished(&receipt);
                if failing && matches!(receipt.outcome, Outcome::Reloaded | Outcome::Unchanged) {
                    self.tell(Event::Recovered { module: name });
                }
                receipt
            }
            Err(error) => {
                let module = &self.modules[index];
                let mtime = stamp.as_ref().map(|stamp| stamp.mtime);
                let receipt = failures::receipt(&module.path, self.active(index), &error, mtime, self.folder.path());
                if !failures::is_transient(&error) {
                    let status = if receipt.outcome == Outcome::Refused { Status::Refused } else { Status::Failed };
                    self.reject(index, Rejected { stamp, content, status, failure: receipt.failure.clone() }, &receipt);
                }
                if !self.to_begin_again {
                    self.tell_finished(&receipt);
                }
                self.lost_if(&error);
                receipt
            }
        }
    }

    fn tell_finished(&mut self, receipt: &Receipt) {
        if let Some(event) = told(Change::Reload, receipt.clone()) {
            self.tell(event);
        }
    }

    /// Looks at the file now, for an attempt that no look preceded.
    fn find(&mut self, index: usize) -> Found {
        let module = &mut self.modules[index];
        module.look.touch(crate::watcher::Evidence::Touched, Instant::now());
        let before = std::mem::take(&mut module.disk);
        let verdict = self.settle(&[index], true).pop().map(|(_, verdict)| verdict);
        match verdict {
            Some(Verdict::News(reading)) => Found::File(reading),
            Some(Verdict::Unusable { stage, reason }) => Found::Unusable { stage, reason },
            Some(Verdict::Missing) => {
                Found::Unusable { stage: Stage::Read, reason: "the file is gone from disk".to_owned() }
            }
            Some(Verdict::Nothing) | None => {
                self.modules[index].disk = before;
                Found::Unusable { stage: Stage::Read, reason: "the file does not hold still".to_owned() }
            }
        }
    }

    fn carry_out(&mut self, index: usize, found: Found, force: bool) -> Result<Receipt> {
        let module = &self.modules[index];
        let path = module.path.clone();
        let refused = |stage, reason: &str, remedy: &str| {
            Err(Error::Refused {
                module: module.name.clone(),
                stage,
                reasons: vec![reason.to_owned()],
                remedy: remedy.to_owned(),
            })
        };
        let reading = match found {
            Found::File(reading) => reading,
            Found::Unusable { stage, reason } => return Err(Error::Image { path, stage, reason }),
        };
        // Named before anybody followed it, as a library of the system: only now is its original worth a copy.
        if self.record.module(&path).is_none_or(|ledger| ledger.generations.is_empty()) {
            let known = self.record.module(&path).and_then(|ledger| ledger.rejected.as_ref()?.failure.clone());
            let reason =
                known.as_ref().map_or("no copy of the file that the program loaded could be kept", |failure| {
                    failure.without_name(&module.name)
                });
            return refused(Stage::Read, reason, "restart the target");
        }
        let deadline = Instant::now() + BUSY_PATIENCE;
        let bytes = reading.bytes;
        self.keep_program_findable(index);
        loop {
            let running = self.record.module(&path).and_then(ModuleLedger::running);
            if running.is_some_and(|record| record.content == reading.content) {
                return Ok(Receipt::empty(&self.modules[index].name, Outcome::Unchanged, self.active(index)));
            }
            let candidate = Candidate {
                path: path.clone(),
                bytes: Arc::clone(&bytes),
                stamp: reading.stamp.clone(),
                content: reading.content.clone(),
            };
            self.heed_closings();
            let Record { revision, ledger, .. } = &self.record;
            match self.engine.reload(&mut self.link, *revision, ledger, &path, candidate, force) {
                Ok(Reloaded { receipt, ledger, revision, freed }) => {
                    self.record.replace(revision, ledger);
                    if let Some(memory) = freed {
                        self.modules[index].look.lend(memory);
                    }
                    if receipt.outcome == Outcome::Reloaded {
                        self.note(index, Change::Reload, &receipt);
                        self.note_supplied(index);
                    }
                    return Ok(receipt);
                }
                Err(Error::Image { stage, reason, .. })
                    if failures::missing_symbol(stage, &reason)
                        .is_some_and(|symbol| self.engine.find_supplier(ledger, &path, symbol)) => {}
                Err(error) => self.give_way(error, deadline)?,
            }
        }
    }

    /// Begun again so often, it takes the risk.
    fn heed_closings(&mut self) {
        self.link.heed_closings(self.closed_again < CLOSED_AGAIN);
    }

    /// Another controller was quicker or is in the middle of a reload: until the deadline, look what it did and try again.
    /// Any other error is the result.
    fn give_way(&mut self, error: Error, deadline: Instant) -> Result<()> {
        match error {
            Error::Stale if Instant::now() < deadline => self.reread(),
            Error::Busy { .. } if Instant::now() < deadline => {
                thread::sleep(BUSY_PAUSE);
                self.reread()
            }
            other => Err(other),
        }
    }

    /// Notes that this state of the file is not to be tried again by itself.
    fn reject(&mut self, index: usize, rejected: Rejected, receipt: &Receipt) {
        let path = self.modules[index].path.clone();
        let changed = self.record.change(&mut self.link, |ledger| {
            let module = ledger.entry(&path);
            module.rejected = Some(rejected.clone());
            remember(module, Change::Reload, receipt);
        });
        if let Err(error) = changed {
            tracing::warn!("{}: the failure could not be noted in the target: {error}", path.display());
        }
    }

    /// Adds the line about what has been committed. Whoever else has changed the ledger meanwhile, the line joins theirs.
    fn note(&mut self, index: usize, what: Change, receipt: &Receipt) {
        let path = self.modules[index].path.clone();
        let changed = self.record.change(&mut self.link, |ledger| {
            if let Some(module) = ledger.module_mut(&path) {
                remember(module, what, receipt);
            }
        });
        if let Err(error) = changed {
            tracing::warn!("{}: the line of its history was lost: {error}", path.display());
        }
    }

    /// The order `Rollback`.
    ///
    /// # Errors
    /// There is no such generation, or the threads could not be stopped.
    pub fn roll_back(&mut self, index: usize, to: Option<Generation>) -> Result<Receipt> {
        let module = &self.modules[index];
        let (path, name) = (module.path.clone(), module.name.clone());
        let deadline = Instant::now() + BUSY_PATIENCE;
        self.closed_again = 0;
        loop {
            let unsuitable = |reason: String| Err(Error::Unsuitable { module: name.clone(), reason });
            let Some(index) = self.position(&path) else { return unsuitable("the target has closed it".to_owned()) };
            self.heed_closings();
            let ledger = self.record.module(&path);
            let Some(ledger) = ledger.filter(|ledger| !ledger.generations.is_empty()) else {
                return unsuitable("it was never reloaded, so there is nothing to go back to".to_owned());
            };
            let to = match (to, ledger.running()) {
                (Some(to), _) => to,
                (None, Some(active)) if active.number.0 > 0 => active.parent,
                _ => return unsuitable("it runs what the program loaded; there is nothing before it".to_owned()),
            };
            if ledger.record(to).is_none() {
                let known: Vec<String> = ledger.generations.iter().map(|record| record.number.to_string()).collect();
                return unsuitable(format!("it has no generation {to}; there are {}", known.join(", ")));
            }
            if to == ledger.active {
                return unsuitable(format!("generation {to} is running already"));
            }
            let rejected = self.left_alone(index, ledger);
            let Record { revision, ledger, .. } = &self.record;
            match self.engine.rollback(&mut self.link, *revision, ledger, &path, to, rejected) {
                Ok(Reloaded { receipt, ledger, revision, .. }) => {
                    self.record.replace(revision, ledger);
                    self.note(index, Change::Rollback, &receipt);
                    self.note_supplied(index);
                    self.dirty = true;
                    if let Some(event) = told(Change::Rollback, receipt.clone()) {
                        self.tell(event);
                    }
                    return Ok(receipt);
                }
                Err(Error::ModuleClosed { .. }) => {
                    self.closed_again += 1;
                    self.relist();
                }
                Err(error) => self.give_way(error, deadline)?,
            }
        }
    }

    /// That the file as it is now is left alone, to be committed together with the rollback: between two steps another
    /// controller in auto mode would reload it.
    fn left_alone(&self, index: usize, of: &ModuleLedger) -> Rejected {
        let active = of.running();
        let (stamp, content) = match &self.modules[index].disk {
            Disk::Present { stamp, content } if !content.is_empty() => (Some(stamp.clone()), Some(content.clone())),
            _ => (active.map(|record| record.stamp.clone()), active.map(|record| record.content.clone())),
        };
        Rejected { stamp, content, status: Status::Changed, failure: None }
    }
}

/// What there is to load.
#[derive(Debug)]
pub enum Found {
    File(Reading),
    Unusable { stage: Stage, reason: String },
}

fn with_warning(mut receipt: Receipt, warning: &str) -> Receipt {
    receipt.warnings.push(warning.to_owned());
    receipt
}
