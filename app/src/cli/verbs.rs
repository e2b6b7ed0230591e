//! The verbs that do one thing to one target and end.
//!
//! They visit: whoever else looks after the target, a window or `run`, is told by the agent and follows.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use reload_dashboard::steps;
use reload_engine::{
    ledger::NewWishes,
    model::{Connection, Mark, Mode, Outcome, Receipt, Snapshot},
    progress::Progress,
    session::{Answer, Command, Session, set_wishes},
    target::link::AgentLink,
};
use serde::Serialize;

use super::{
    failure::{FAILED, Failure},
    lines::{detail, further, note, say, summary, word},
    tables,
};

/// A session and what it saw first.
fn visit(pid: u32) -> Result<(Session, Arc<Snapshot>), Failure> {
    let session = Session::visit(pid)?;
    let snapshot = session.latest().ok_or_else(|| Failure::new(FAILED, format!("process {pid} ended just now")))?;
    Ok((session, snapshot))
}

/// As [`visit`], for what changes the target: attaches first if it was detached.
fn visit_attached(pid: u32) -> Result<(Session, Arc<Snapshot>), Failure> {
    let (session, snapshot) = visit(pid)?;
    if snapshot.connection == Connection::Detached {
        session.order(Command::Attach)?;
    }
    Ok((session, snapshot))
}

/// Gives an order. While that takes its time, standard error says what is being waited for.
fn order(session: &Session, command: Command) -> Result<Answer, Failure> {
    thread::scope(|scope| {
        let (underway, over) = bounded::<()>(0);
        scope.spawn(move || tell_of_waiting(&session.progress, &over));
        let answer = session.order(command);
        drop(underway);
        Ok(answer?)
    })
}

/// How long nothing is said.
const PATIENCE: Duration = Duration::from_secs(2);

/// A line for each step that is come upon, until the other end is closed.
fn tell_of_waiting(progress: &Progress, over: &Receiver<()>) {
    let mut told = None;
    while over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
        if let Some(doing) = progress.doing()
            && told != Some((doing.since, doing.stage))
        {
            let step = if doing.ahead { "analysing it ahead of a reload" } else { steps::of(doing.stage) };
            note(format_args!("{}: after {} s, {step}", doing.module, doing.since.elapsed().as_secs_f64().round()));
            told = Some((doing.since, doing.stage));
        }
    }
}

pub fn attach(pid: u32, wishes: NewWishes) -> Result<ExitCode, Failure> {
    if wishes != NewWishes::default() {
        // Before a session sees the target, which it would shield.
        set_wishes(&mut AgentLink::connect(pid)?, wishes)?;
    }
    let (session, snapshot) = visit(pid)?;
    order(&session, Command::Attach)?;
    say(format_args!("attached to {} ({pid}), {} modules", snapshot.target.name, snapshot.modules.len()));
    Ok(ExitCode::SUCCESS)
}

pub fn detach(pid: u32) -> Result<ExitCode, Failure> {
    let (session, snapshot) = visit(pid)?;
    order(&session, Command::Detach)?;
    say(format_args!("detached from {} ({pid}); it stays on its current generation", snapshot.target.name));
    Ok(ExitCode::SUCCESS)
}

pub fn list(pid: u32, json: bool, all: bool) -> Result<ExitCode, Failure> {
    let (_session, snapshot) = visit(pid)?;
    if json {
        print_json(&*snapshot)?;
    } else {
        say(tables::modules(&snapshot, all).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

pub fn reload(pid: u32, modules: Vec<String>, json: bool, force: bool) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Receipts<'a> {
        modules: &'a [Receipt],
    }
    let (session, _) = visit_attached(pid)?;
    let receipts = match order(&session, Command::Reload { modules, force })? {
        Answer::Receipts(receipts) => receipts,
        Answer::Done => Vec::new(),
    };
    if json {
        print_json(&Receipts { modules: &receipts })?;
    } else {
        print_receipts(&receipts);
    }
    let stopped = |receipt: &Receipt| matches!(receipt.outcome, Outcome::Refused | Outcome::Failed);
    Ok(if receipts.iter().any(stopped) { FAILED.into() } else { ExitCode::SUCCESS })
}

/// What was done to standard output, what was not to standard error, with its trace.
fn print_receipts(receipts: &[Receipt]) {
    let noteworthy = |receipt: &&Receipt| receipt.outcome != Outcome::Unchanged || receipts.len() == 1;
    let mut told = false;
    for receipt in receipts.iter().filter(noteworthy) {
        told = true;
        let lines = std::iter::once(summary(receipt));
        let rest = detail(receipt).into_iter().chain(further(receipt)).map(|line| format!("  {line}"));
        for line in lines.chain(rest) {
            if receipt.failure.is_some() { eprintln!("{line}") } else { say(line) }
        }
    }
    if !told {
        say("nothing has changed");
    }
}

pub fn mode(pid: u32, mode: Option<Mode>) -> Result<ExitCode, Failure> {
    let (session, snapshot) = visit(pid)?;
    match mode {
        None => say(word(&snapshot.mode)),
        Some(mode) => drop(order(&session, Command::SetMode(mode))?),
    }
    Ok(ExitCode::SUCCESS)
}

pub fn mark(pid: u32, modules: Vec<String>, mark: Mark) -> Result<ExitCode, Failure> {
    let (session, _) = visit(pid)?;
    order(&session, Command::Mark { modules, mark })?;
    Ok(ExitCode::SUCCESS)
}

pub fn load(pid: u32, path: &Path) -> Result<ExitCode, Failure> {
    // The target's working directory may be another one.
    let path: PathBuf =
        std::path::absolute(path).map_err(|error| Failure::new(FAILED, format!("{}: {error}", path.display())))?;
    if !path.is_file() {
        return Err(Failure::new(FAILED, format!("{}: no such file", path.display())));
    }
    let (session, _) = visit_attached(pid)?;
    order(&session, Command::Load(path.clone()))?;
    say(format_args!("loaded and marked {}", path.display()));
    Ok(ExitCode::SUCCESS)
}

pub fn rollback(pid: u32, module: String, generation: Option<u32>) -> Result<ExitCode, Failure> {
    let (session, _) = visit_attached(pid)?;
    if let Answer::Receipts(receipts) = order(&session, Command::Rollback { module, generation })? {
        for receipt in &receipts {
            say(format_args!(
                "{}: rolled back to generation {}; {:.1} ms, of which the target stood still {:.2} ms",
                receipt.name, receipt.generation, receipt.timings_ms.total, receipt.timings_ms.pause
            ));
            for line in further(receipt) {
                say(format_args!("  {line}"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// On one line, for `jq` and friends.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::new(FAILED, format!("writing JSON: {error}")))?;
    say(text);
    Ok(())
}
