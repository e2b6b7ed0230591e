//! Helper processes: the current program started again with a hidden first argument, for what must not be done in the dashboard
//! itself, since whoever traces a process and hangs can only be ended.
//!
//! Orders and answers are one line of JSON each, over the helper's standard input, a socket. What they say is decided by the
//! stop helper and the attach helper.

use std::{
    env, io,
    io::{BufRead, BufReader, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use nix::{
    libc,
    sys::signal::{SigHandler, SigSet, Signal, signal},
    unistd::setsid,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{attach, stop_helper};
use crate::error::{Error, Result};

/// The program that is running, even if its file was replaced meanwhile.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// A helper that waits for orders. It ends when this value does, or when this process does.
#[derive(Debug)]
pub struct Helper {
    child: Child,
    socket: UnixStream,
}

impl Helper {
    /// Starts `program` with its hidden argument; its `main` must begin with [`helper_main`].
    pub fn spawn(program: &Path, argument: &str) -> Result<Helper> {
        let failed = |source| Error::Launch { command: format!("{} {argument}", program.display()), source };
        let (socket, theirs) = UnixStream::pair().map_err(failed)?;
        let child = Command::new(program)
            .arg0("reload-dashboard")
            .arg(argument)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // It is not a target, whatever this process is.
            .env_remove("LD_PRELOAD")
            .spawn()
            .map_err(failed)?;
        Ok(Helper { child, socket })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `None` if the helper has ended.
    pub fn order(&mut self, order: &impl Serialize) -> Option<()> {
        write_line(&mut self.socket, order).ok()
    }

    /// `None` if the helper ended, or the time did, without an answer.
    pub fn answer<Answer: DeserializeOwned>(&mut self, patience: Duration) -> Option<Answer> {
        self.socket.set_read_timeout(Some(patience)).ok()?;
        let mut line = String::new();
        BufReader::new(&self.socket).read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Idle it ends by itself when its socket does; but it may hang, and then its tracees with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other end: who gives a helper its orders.
pub struct Controller {
    lines: BufReader<UnixStream>,
    socket: UnixStream,
}

impl Controller {
    fn of_this_process() -> io::Result<Controller> {
        let stdin: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
        let socket = UnixStream::from(stdin);
        Ok(Controller { lines: BufReader::new(socket.try_clone()?), socket })
    }

    /// Waits for the next order; `None` once the controller has ended.
    pub fn next_order<Order: DeserializeOwned>(&mut self) -> io::Result<Option<Order>> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&line)?))
    }

    pub fn answer(&mut self, answer: &impl Serialize) -> io::Result<()> {
        write_line(&mut self.socket, answer)
    }
}

fn write_line(socket: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_string(message)?;
    line.push('\n');
    socket.write_all(line.as_bytes())
}

/// Does a helper's work if this process was started as one; `None` otherwise. A program that uses the engine calls this
/// first thing in `main` and returns what it gets.
pub fn helper_main() -> Option<ExitCode> {
    let argument = env::args_os().nth(1)?;
    let serve = match argument.to_str()? {
        stop_helper::ARGUMENT => stop_helper::serve,
        attach::helper::ARGUMENT => attach::helper::serve,
        _ => return None,
    };
    become_independent();
    Some(match Controller::of_this_process().and_then(|mut controller| serve(&mut controller)) {
        Ok(()) => ExitCode::SUCCESS,
        // The controller reads the same from the closed socket.
        Err(_) => ExitCode::FAILURE,
    })
}

/// Whether a process with this [`command_line`](super::process::command_line) is a helper, of whatever dashboard.
pub fn is_helper(command_line: &[u8]) -> bool {
    let argument = command_line.split(|byte| *byte == 0).nth(1);
    [stop_helper::ARGUMENT, attach::helper::ARGUMENT].iter().any(|known| argument == Some(known.as_bytes()))
}

/// What ends the dashboard (Ctrl-C, a closed terminal) must not end a helper in the middle of its work; and it must not be
/// the one that waits for a processor while others wait for it. All best effort.
fn become_independent() {
    let _ = setsid();
    for ignored in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE] {
        // SAFETY: no handler is installed.
        let _ = unsafe { signal(ignored, SigHandler::SigIgn) };
    }
    for default in [Signal::SIGALRM, Signal::SIGCHLD] {
        // SAFETY: no handler is installed. An ignored SIGCHLD would not tell of stops.
        let _ = unsafe { signal(default, SigHandler::SigDfl) };
    }
    let _ = SigSet::empty().thread_set_mask();
    // SAFETY: changes how this process is paged and scheduled, no memory.
    unsafe {
        // Short waits are meant as they are said.
        libc::prctl(libc::PR_SET_TIMERSLACK, 1);
        libc::mlockall(libc::MCL_CURRENT | libc::MCL_ONFAULT);
        let lowest = libc::sched_param { sched_priority: 1 };
        if libc::sched_setscheduler(0, libc::SCHED_FIFO, &lowest) != 0 {
            libc::setpriority(libc::PRIO_PROCESS, 0, -20);
        }
    }
}
