//! Committing a staged transaction: through the stop helper, or by signal where the target cannot be traced.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    attach::yama_scope,
    helper::{Helper, OWN_PROGRAM},
    link::AgentLink,
    process::why_not_traceable,
    stop_helper::{ARGUMENT, Answer, Job, Order, Outcome},
};
use crate::error::{Error, Result};

/// For all of a helper's attempts together.
const PATIENCE: Duration = Duration::from_secs(30);
/// Helpers that may fall to their watchdog before it is given up.
const HELPERS: u32 = 8;

/// What a commit was and cost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitReceipt {
    /// The ledger's new revision.
    pub revision: u64,
    /// From telling those threads to stop that are at work to the last one's release. Those that wait are told a little earlier.
    pub pause: Duration,
    /// `ptrace`, or `signal: ` and why not.
    pub method: String,
    /// Stops that it took until no thread stood in the way.
    pub attempts: u32,
    pub threads: usize,
}

/// A stop helper, which is made ready for each commit ahead of time. It ends when this value does, or when this process does.
#[derive(Debug)]
pub struct StopHelper {
    program: PathBuf,
    /// `None`: the last one had to end.
    helper: Option<Helper>,
    /// The target that it is ready to stop.
    ready: Option<u32>,
}

impl StopHelper {
    /// Starts the current program as a helper; its `main` must begin with [`super::helper_main`].
    pub fn spawn() -> Result<StopHelper> {
        StopHelper::spawn_from(Path::new(OWN_PROGRAM))
    }

    /// Starts `program` instead.
    pub fn spawn_from(program: &Path) -> Result<StopHelper> {
        let mut stopper = StopHelper { program: program.to_owned(), helper: None, ready: None };
        stopper.start()?;
        Ok(stopper)
    }

    /// Starts a new process if the last one had to end.
    pub fn start(&mut self) -> Result<()> {
        if self.helper.is_none() {
            self.helper = Some(Helper::spawn(&self.program, ARGUMENT)?);
        }
        Ok(())
    }

    /// Its process id, while there is a process.
    pub fn pid(&self) -> Option<u32> {
        self.helper.as_ref().map(Helper::pid)
    }

    /// Has it connect to the target's agent and find the target's threads, while others do something else. Without, or where it
    /// fails, that is part of the commit.
    pub fn prepare(&mut self, link: &AgentLink) {
        match self.get_ready(link) {
            Ok(()) => self.ready = Some(link.pid()),
            Err(error) => tracing::debug!("the stop helper is not ready yet: {error}"),
        }
    }

    /// Takes back a preparation that was for nothing.
    pub fn stand_down(&mut self) {
        if self.ready.take().is_some() {
            // Its connection ends with it.
            self.helper = None;
        }
    }

    fn get_ready(&mut self, link: &AgentLink) -> Result<()> {
        self.ready = None;
        self.start()?;
        let job = Job { pid: link.pid(), folder: link.folder().path().to_owned() };
        // One that has ended will not answer later.
        let _ = self.helper.as_mut().and_then(|helper| helper.order(&Order::Prepare(job)));
        Ok(())
    }

    /// `None` if it has ended, or has to.
    fn commit(&mut self, transaction: u64) -> Option<Outcome> {
        let helper = self.helper.as_mut()?;
        let answer: Option<Answer> =
            helper.order(&Order::Commit { transaction }).and_then(|()| helper.answer(PATIENCE));
        if answer.as_ref().is_none_or(|answer| answer.last) {
            // One that hangs would keep the agent's next answer waiting.
            self.helper = None;
        }
        answer.map(|answer| answer.outcome)
    }
}

/// Commits what was staged as `transaction`. With an error nothing in the target has changed.
pub fn commit(link: &mut AgentLink, helper: &mut StopHelper, transaction: u64) -> Result<CommitReceipt> {
    let pid = link.pid();
    for attempt in 1..=HELPERS {
        let is_ready = helper.ready.take() == Some(pid);
        let allow = is_leave_needed();
        // A filter may punish the target for the system call that Yama makes it do.
        if (allow || !is_ready)
            && let Some(reason) = why_not_traceable(pid)
        {
            return commit_by_signal(link, transaction, &reason);
        }
        if !is_ready {
            helper.get_ready(link)?;
        }
        if allow {
            link.allow_tracer(helper.pid().unwrap_or(0))?;
        }
        let before = link.revision();
        let begun = Instant::now();
        let outcome = helper.commit(transaction);
        let spent = begun.elapsed();
        if allow {
            link.allow_tracer(0)?;
        }
        match outcome {
            Some(Outcome::Committed { revision, pause_ns, attempts, threads }) => {
                link.note_revision(revision);
                let pause = Duration::from_nanos(pause_ns);
                return Ok(CommitReceipt { revision, pause, method: "ptrace".into(), attempts, threads });
            }
            // It died or lost the agent after it had told it to go: done, and the agent, with whom nobody else may have had
            // anything done meanwhile, says so.
            _ if link.ledger(before)?.revision > before => {
                let (revision, method) = (link.revision(), "ptrace (the stop helper ended early)".into());
                return Ok(CommitReceipt { revision, pause: spent, method, attempts: attempt, threads: 0 });
            }
            Some(Outcome::NotTraceable { reason }) => {
                let reason = why_not_traceable(pid).unwrap_or(reason);
                return commit_by_signal(link, transaction, &reason);
            }
            Some(Outcome::NotNow { reason }) => return Err(Error::Stop { pid, reason }),
            Some(Outcome::ModuleClosed) => return Err(Error::ModuleClosed { pid }),
            Some(Outcome::Failed { reason }) => return Err(Error::Agent(reason)),
            None => {}
        }
    }
    let reason = format!("the stop helper ended {HELPERS} times before it was done; is the machine overloaded?");
    Err(Error::Stop { pid, reason })
}

/// Whether a helper could stop the target, as far as can be told before it tries.
///
/// # Errors
/// Why not.
pub fn is_possible_from_outside(pid: u32) -> Result<()> {
    why_not_traceable(pid).map_or(Ok(()), |reason| Err(Error::Stop { pid, reason }))
}

/// Whether the target itself has to let a helper trace it (`PR_SET_PTRACER`).
fn is_leave_needed() -> bool {
    yama_scope() != 0
}

fn commit_by_signal(link: &mut AgentLink, transaction: u64, reason: &str) -> Result<CommitReceipt> {
    let stop = link.commit_by_signal(transaction)?;
    Ok(CommitReceipt {
        revision: stop.revision,
        pause: Duration::from_nanos(stop.pause_ns),
        method: format!("signal: {reason}"),
        attempts: 1,
        threads: stop.threads as usize,
    })
}
