//! The ledger as a session holds it: read, changed with compare-and-set, and what somebody else's change means in events.

use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::Event;
use crate::{
    error::{Error, Result},
    ledger::{Ledger, ModuleLedger, NewWishes, Rejected, parts},
    model::{Change, HistoryEntry, Outcome, Receipt, Status, file_name},
    target::link::AgentLink,
};

/// How long to wait for another controller's reload before giving up.
pub const BUSY_PATIENCE: Duration = Duration::from_secs(3);
/// Between two tries meanwhile.
pub const BUSY_PAUSE: Duration = Duration::from_millis(15);

/// The ledger and its revision at the agent.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub revision: u64,
    pub ledger: Ledger,
    /// What another controller has done that was met while changing it, and that is still to be told.
    pub missed: Vec<Event>,
}

impl Record {
    /// What the agent holds now.
    pub fn read(link: &mut AgentLink) -> Result<Record> {
        let mut record = Record::default();
        record.refresh(link)?;
        Ok(record)
    }

    /// Takes over what has changed since it was read.
    pub fn refresh(&mut self, link: &mut AgentLink) -> Result<()> {
        let (revision, ledger) = parts::latest(link, self.revision, &self.ledger)?;
        self.replace(revision, ledger);
        Ok(())
    }

    /// The ledger as this controller has just written it.
    pub fn replace(&mut self, revision: u64, ledger: Ledger) {
        self.revision = revision;
        self.ledger = ledger;
    }

    /// Changes the ledger at the agent and here. Where another controller was faster, its change is read and `change` is
    /// applied to that; where one is reloading, its end is waited for.
    pub fn change(&mut self, link: &mut AgentLink, change: impl Fn(&mut Ledger)) -> Result<()> {
        let deadline = Instant::now() + BUSY_PATIENCE;
        loop {
            let mut next = self.ledger.clone();
            change(&mut next);
            let parts = parts::changes(&self.ledger, &next, link.space())?;
            if parts.is_empty() {
                return Ok(());
            }
            match link.set_ledger(self.revision, parts) {
                Ok(revision) => {
                    self.replace(revision, next);
                    return Ok(());
                }
                Err(Error::Stale) => {
                    let before = self.ledger.clone();
                    self.refresh(link)?;
                    self.missed.extend(differences(&before, &self.ledger));
                }
                Err(Error::Busy { .. }) if Instant::now() < deadline => thread::sleep(BUSY_PAUSE),
                Err(error) => return Err(error),
            }
        }
    }

    pub fn module(&self, path: &Path) -> Option<&ModuleLedger> {
        self.ledger.module(path)
    }
}

/// Changes how a target is to be treated, before a session takes it up.
///
/// # Errors
/// The agent is lost, or another controller does not let go of the ledger.
pub fn set_wishes(link: &mut AgentLink, new: NewWishes) -> Result<()> {
    if new == NewWishes::default() {
        return Ok(());
    }
    Record::read(link)?.change(link, |ledger| ledger.wishes = new.applied_to(ledger.wishes))
}

/// Adds a line to a module's history. It is as old as this moment, so that lines are in order whoever adds them, and newer than
/// the last though a clock may be set back: it is known by its time.
pub fn remember(module: &mut ModuleLedger, what: Change, receipt: &Receipt) {
    let least = module.history.last().map_or(SystemTime::UNIX_EPOCH, |last| last.time + Duration::from_nanos(1));
    let time = SystemTime::now().max(least);
    module.history.push(Arc::new(HistoryEntry { time, what, receipt: receipt.clone() }));
    let excess = module.history.len().saturating_sub(ModuleLedger::HISTORY);
    module.history.drain(..excess);
}

/// Whether this stands for a reload that did not come about, rather than for a rollback.
pub fn is_failure(rejected: &Rejected) -> bool {
    matches!(rejected.status, Status::Refused | Status::Failed)
}

/// The event that tells of a finished attempt.
pub fn told(what: Change, receipt: Receipt) -> Option<Event> {
    let module = receipt.name.clone();
    match (what, receipt.outcome) {
        (Change::Rollback, Outcome::Reloaded) => Some(Event::RolledBack { module, receipt }),
        (Change::Reload, Outcome::Reloaded) => Some(Event::Reloaded { module, receipt }),
        (_, Outcome::Refused) => Some(Event::Refused { module, receipt }),
        (_, Outcome::Failed) => Some(Event::Failed { module, receipt }),
        (_, Outcome::Unchanged | Outcome::Skipped) => None,
    }
}

/// What another controller has done between two ledgers.
pub fn differences(old: &Ledger, new: &Ledger) -> Vec<Event> {
    let mut events = Vec::new();
    if old.mode != new.mode {
        events.push(Event::Mode { mode: new.mode });
    }
    if new.detached && !old.detached {
        events.push(Event::Detached);
    }
    let nothing = ModuleLedger::default();
    for (path, before, now) in parts::modules(old, new) {
        let Some(now) = now else { continue };
        let before = before.unwrap_or(&nothing);
        if before.mark != now.mark {
            events.push(Event::Mark { module: file_name(path), mark: now.mark });
        }
        if let Some(shield) = now.shield.filter(|_| before.shield != now.shield) {
            events.push(Event::Shielded { module: file_name(path), shield });
        }
        let known = before.history.last().map(|line| line.time);
        let fresh = now.history.iter().filter(|line| known.is_none_or(|known| line.time > known));
        let mut failing = before.rejected.as_ref().is_some_and(is_failure);
        for line in fresh {
            events.extend(told(line.what, line.receipt.clone()));
            if failing && line.what == Change::Reload && line.receipt.outcome == Outcome::Reloaded {
                events.push(Event::Recovered { module: file_name(path) });
            }
            failing = matches!(line.receipt.outcome, Outcome::Refused | Outcome::Failed);
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::Arc,
        time::{Duration, SystemTime},
    };

    use super::differences;
    use crate::{
        ledger::{Ledger, ModuleLedger, Rejected},
        model::{Change, Generation, HistoryEntry, Mark, Mode, Outcome, Receipt, Status},
    };

    fn line(second: u64, what: Change, outcome: Outcome) -> Arc<HistoryEntry> {
        Arc::new(HistoryEntry {
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
            what,
            receipt: Receipt::empty("libfoo.so", outcome, Generation(1)),
        })
    }

    fn ledger(mode: Mode, mark: Mark, failing: bool, history: Vec<Arc<HistoryEntry>>) -> Ledger {
        let rejected =
            failing.then_some(Rejected { stamp: None, content: None, status: Status::Failed, failure: None });
        let module = ModuleLedger { mark, rejected, history, ..ModuleLedger::default() };
        let modules = [(Path::new("/p/libfoo.so").into(), Arc::new(module))].into();
        Ledger { mode, modules, ..Ledger::default() }
    }

    fn check(old: &Ledger, new: &Ledger, expected: &[&str]) {
        let found: Vec<String> = differences(old, new)
            .iter()
            .map(|event| serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_others_did() {
        let first = line(1, Change::Reload, Outcome::Reloaded);
        let old = ledger(Mode::Off, Mark::None, false, vec![first.clone()]);
        check(&old, &old, &[]);
        check(&old, &ledger(Mode::All, Mark::Skip, false, vec![first.clone()]), &["mode", "mark"]);
        let then = |what, outcome| vec![first.clone(), line(2, what, outcome)];
        check(&old, &ledger(Mode::Off, Mark::None, false, then(Change::Reload, Outcome::Reloaded)), &["reloaded"]);
        check(&old, &ledger(Mode::Off, Mark::None, false, then(Change::Rollback, Outcome::Reloaded)), &["rolled-back"]);
        let failing = ledger(Mode::Off, Mark::None, true, then(Change::Reload, Outcome::Failed));
        check(&old, &failing, &["failed"]);
        let mut recovered = failing.modules[Path::new("/p/libfoo.so")].history.clone();
        recovered.push(line(3, Change::Reload, Outcome::Reloaded));
        check(&failing, &ledger(Mode::Off, Mark::None, false, recovered), &["reloaded", "recovered"]);
        let detached = Ledger { detached: true, ..old.clone() };
        check(&old, &detached, &["detached"]);
        check(&detached, &old, &[]);
    }
}
