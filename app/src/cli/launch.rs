//! `run`: a command as the target, with the window beside it or without.
//!
//! The command is a child like any shell's: it keeps the terminal and its exit status is ours. It is never ended by us.

use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt,
    process::{Child, ExitCode, ExitStatus},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use nix::{sys::signal::kill, unistd::Pid};
use reload_dashboard::{
    config::{self, Program, wishes::Wishes},
    window::{self, Start, StartTarget, Wake},
    worker::shell_status,
};
use reload_engine::{
    ledger::NewWishes,
    model::{Mode, file_name},
    session::{Command, Event, Order, Session, Update, set_wishes},
    target::{
        launch::{LaunchOptions, Launched, launch},
        link::AgentLink,
        store::StoreRoot,
    },
};

use super::{
    failure::{FAILED, Failure},
    lines::Lines,
    signals::{Arrived, asks_to_end, receive},
};

/// How long after the target's end its session may take to tell of it.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What `run` and `demo` ask for.
pub struct Plan {
    pub command: Vec<OsString>,
    pub headless: bool,
    /// Where events are written, if anywhere.
    pub lines: Option<Lines>,
    /// Set once the target has started.
    pub mode: Option<Mode>,
    pub wishes: NewWishes,
}

pub fn run(plan: Plan) -> Result<ExitCode, Failure> {
    let signals = receive().map_err(|error| Failure::new(FAILED, format!("receiving signals: {error}")))?;
    let headless = plan.headless || !window_is_possible();
    // Before the program begins to write: what is wrong with the file should not stand among its lines. A window reads it too.
    let wishes = if headless { wishes(&plan.command, plan.mode) } else { Wishes::default() };
    let name = plan.command.first().map_or_else(String::new, |name| file_name(name.as_ref()));
    let Launched { child, pid, link } = launch(&plan.command, &LaunchOptions::default())?;
    let mut exit = Exit::watch(child);
    exit.pass_on(signals, pid);
    let wake = Wake::default();
    let session = link.and_then(|mut link| {
        if let Err(error) = set_wishes(&mut link, plan.wishes) {
            // As below.
            tracing::debug!("telling process {pid} how to be treated: {error}");
        }
        let wake = wake.clone();
        match Session::adopt(link, exit.status_channel(), move || wake.wake()) {
            Ok(session) => Some(session),
            Err(error) => {
                // A program that ends at once is no failure of ours.
                tracing::debug!("taking up process {pid}: {error}");
                None
            }
        }
    });
    if let (Some(session), Some(mode)) = (&session, plan.mode) {
        // A session that has ended meanwhile tells so by itself.
        let _ = session.orders.send(Order { command: Command::SetMode(mode), reply: None });
    }
    let mut lines = plan.lines;
    let status = match session {
        None => {
            let status = exit.wait();
            if let Some(lines) = &mut lines {
                // Nobody may read the lines; the target's status matters more.
                let _ = lines.event(SystemTime::now(), &Event::Exited { status: Some(shell_status(status)) });
            }
            status
        }
        Some(session) if headless => follow(&session, &mut lines, &exit, wishes),
        Some(session) => beside_window(session, Target { pid, name, command: plan.command, wake }, lines, &mut exit)?,
    };
    if let Ok(root) = StoreRoot::find() {
        root.sweep();
    }
    Ok(code(status))
}

fn window_is_possible() -> bool {
    match window::check() {
        Ok(()) => true,
        Err(error) => {
            Failure::from(error).report();
            eprintln!("reload-dashboard: going on without a window, as with --headless");
            false
        }
    }
}

/// What the user's file wants of the program; `mode` comes before its own.
fn wishes(command: &[OsString], mode: Option<Mode>) -> Wishes {
    let found = config::file::read().unwrap_or_else(|problem| {
        eprintln!("reload-dashboard: {problem}; going on without it");
        Default::default()
    });
    let program = command.first().map(|program| config::program_name(program.as_ref())).unwrap_or_default();
    let decided = found.config.of(&program);
    Wishes::new(Program { auto: mode.or(decided.auto), ..decided })
}

struct Target {
    pid: u32,
    name: String,
    command: Vec<OsString>,
    wake: Wake,
}

/// Opens the window; when it is closed before the target has ended, goes on without it.
fn beside_window(
    session: Session,
    target: Target,
    lines: Option<Lines>,
    exit: &mut Exit,
) -> Result<ExitStatus, Failure> {
    let Target { pid, name, command, wake } = target;
    let command = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let lines = Arc::new(Mutex::new(lines));
    let session = teed(session, &lines, wake.clone());
    exit.end_process_when_told();
    let shown = window::run(Start { target: Some(StartTarget::Session { pid, name, session, command }), wake });
    exit.stay_after_all();
    if let Err(error) = shown {
        Failure::from(error).report();
    }
    if let Some(status) = exit.status() {
        return Ok(status);
    }
    let reopened = AgentLink::connect(pid).and_then(|link| Session::adopt(link, exit.status_channel(), || ()));
    match reopened {
        Ok(session) => {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            // The window has asked for what the user's file wants.
            Ok(follow(&session, &mut lines, exit, Wishes::default()))
        }
        Err(error) => {
            tracing::debug!("following process {pid} without its window: {error}");
            Ok(exit.wait())
        }
    }
}

/// The session with its events written on the way to the window.
fn teed(session: Session, lines: &Arc<Mutex<Option<Lines>>>, wake: Wake) -> Session {
    if lines.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
        return session;
    }
    let Session { orders, updates, progress } = session;
    let (sender, through) = unbounded();
    let lines = Arc::clone(lines);
    thread::spawn(move || {
        for update in updates {
            if let Some(lines) = &mut *lines.lock().unwrap_or_else(PoisonError::into_inner) {
                // Nobody may read the lines; the window matters more.
                let _ = lines.write(&update);
            }
            if sender.send(update).is_err() {
                return;
            }
            wake.wake();
        }
    });
    Session { orders, updates: through, progress }
}

/// Asks for what the user wants of the target, and writes events until it has ended.
fn follow(session: &Session, lines: &mut Option<Lines>, exit: &Exit, mut wishes: Wishes) -> ExitStatus {
    let mut write = |update: &Update| {
        if let Some(lines) = lines {
            // Nobody may read the lines; the target goes on all the same.
            let _ = lines.write(update);
        }
        if let Update::Snapshot(snapshot) = update {
            for command in wishes.commands(snapshot) {
                // A session that has ended meanwhile tells so by itself.
                let _ = session.orders.try_send(Order { command, reply: None });
            }
        }
        matches!(update, Update::Event { event: Event::Exited { .. }, .. })
    };
    let mut ended = false;
    loop {
        select! {
            recv(session.updates) -> update => match update {
                Ok(update) => ended |= write(&update),
                Err(_) => return exit.wait(),
            },
            recv(exit.ended) -> _ => break,
        }
    }
    let deadline = Instant::now() + LAST_WORDS;
    while !ended {
        match session.updates.recv_deadline(deadline) {
            Ok(update) => ended = write(&update),
            Err(_) => break,
        }
    }
    exit.wait()
}

/// The target's end, known to everyone who waits for it.
struct Exit {
    status: Arc<Mutex<Option<ExitStatus>>>,
    /// Closed at the end.
    ended: Receiver<()>,
    session: Receiver<Option<i32>>,
    /// Whether a signal that ends the target is to end this process too, window and all.
    with_target: Arc<Mutex<bool>>,
}

impl Exit {
    fn watch(mut child: Child) -> Exit {
        let status = Arc::new(Mutex::new(None));
        let (alive, ended): (Sender<()>, _) = bounded(0);
        let (to_session, session) = bounded(1);
        let shared = Arc::clone(&status);
        thread::spawn(move || {
            let found = child.wait();
            if let Ok(found) = found {
                *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
                // A session that was never opened does not listen.
                let _ = to_session.send(Some(shell_status(found)));
            }
            drop(alive);
        });
        Exit { status, ended, session, with_target: Arc::new(Mutex::new(false)) }
    }

    /// Gives the status once, to the session that lives when the target ends.
    fn status_channel(&self) -> Receiver<Option<i32>> {
        self.session.clone()
    }

    fn status(&self) -> Option<ExitStatus> {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) -> ExitStatus {
        // Nothing is ever sent: this returns when the waiting thread has let go.
        let _ = self.ended.recv();
        // Only if our own child could not be waited for: then nothing is known but that it is gone.
        self.status().unwrap_or_else(|| ExitStatus::from_raw(i32::from(FAILED) << 8))
    }

    /// Passes signals on for as long as the target runs.
    fn pass_on(&self, signals: Receiver<Arrived>, pid: u32) {
        let (ended, status, with_target) =
            (self.ended.clone(), Arc::clone(&self.status), Arc::clone(&self.with_target));
        thread::spawn(move || {
            let mut told_to_end = false;
            loop {
                select! {
                    recv(signals) -> arrived => {
                        let Ok(arrived) = arrived else { return };
                        told_to_end |= asks_to_end(arrived.signal);
                        let found = *status.lock().unwrap_or_else(PoisonError::into_inner);
                        match found {
                            // The terminal has sent it to the target too.
                            None if arrived.from_terminal => {}
                            None => {
                                // It may have ended this very moment.
                                let _ = kill(Pid::from_raw(pid as i32), arrived.signal);
                            }
                            Some(found) => end_if(told_to_end, &with_target, found),
                        }
                    }
                    recv(ended) -> _ => {
                        let found = *status.lock().unwrap_or_else(PoisonError::into_inner);
                        if let Some(found) = found {
                            end_if(told_to_end, &with_target, found);
                        }
                        // From now on signals are for us.
                        for arrived in &signals {
                            if let Some(found) = found {
                                end_if(asks_to_end(arrived.signal), &with_target, found);
                            }
                        }
                        return;
                    }
                }
            }
        });
    }

    fn end_process_when_told(&self) {
        *self.with_target.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn stay_after_all(&self) {
        *self.with_target.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

/// A window whose user pressed Ctrl+C in the terminal has nothing left to show.
fn end_if(told: bool, with_target: &Mutex<bool>, status: ExitStatus) {
    if told && *with_target.lock().unwrap_or_else(PoisonError::into_inner) {
        if let Ok(root) = StoreRoot::find() {
            root.sweep();
        }
        std::process::exit(shell_status(status));
    }
}

fn code(status: ExitStatus) -> ExitCode {
    // A wait status has eight bits of exit code.
    ExitCode::from(shell_status(status) as u8)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Exit, shell_status};

    #[test]
    fn status_as_a_shell_tells_it() {
        for (script, expected) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)] {
            let exit = Exit::watch(Command::new("sh").args(["-c", script]).spawn().unwrap());
            assert_eq!(shell_status(exit.wait()), expected, "{script}");
            assert_eq!(exit.status_channel().recv().unwrap(), Some(expected));
        }
    }
}
