//! What the window may not wait for: sessions, processes, dialogs, editors, files. A request runs on a thread of its own,
//! since any may take seconds; those about the user's file run on one thread, in their order. The answer wakes the window.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use reload_engine::{
    discovery,
    error::{Error, Result},
    model::file_name,
    session::Session,
    target::launch::{LaunchOptions, Launched, launch},
};

pub use reload_engine::discovery::Candidate;

/// Stands in every report.
pub const MADE_BY: &str = "made by reload-dashboard";

use crate::{
    config::{
        Change,
        file::{self, Found, Problem},
    },
    desktop, editor, glyphs, sources,
};
pub use crate::{
    desktop::{NoDialog, Wanted},
    glyphs::Font,
    sources::Place,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Open {
        pid: u32,
    },
    /// Starts a program as a target.
    Launch {
        command: Vec<String>,
    },
    List,
    /// The desktop's file dialog.
    Pick(Wanted),
    /// Opens a source in the user's editor.
    Edit {
        /// The editor of the user's file.
        editor: Option<String>,
        place: Place,
        /// The module whose trace named it.
        module: PathBuf,
    },
    /// Fonts that have these characters, which those of the window lack.
    Fonts(BTreeSet<char>),
    /// A desktop notification.
    Notify {
        summary: String,
        body: String,
    },
    /// Writes a text where the user wants it.
    Export {
        path: PathBuf,
        text: String,
    },
    ReadConfig,
    Remember {
        program: String,
        change: Change,
    },
}

pub enum Reply {
    Opened {
        pid: u32,
        session: Result<Session>,
    },
    Launched {
        command: Vec<String>,
        started: Result<Started>,
    },
    Candidates(Vec<Candidate>),
    Picked {
        wanted: Wanted,
        answer: std::result::Result<Option<PathBuf>, NoDialog>,
    },
    Fonts(Vec<Font>),
    /// The user's file as it is now.
    Config(std::result::Result<Found, Problem>),
    /// The user's file with a decision of the window's in it.
    Remembered(std::result::Result<Found, Problem>),
    /// Something was done that is not seen otherwise.
    Done(String),
    /// Something could not be done, in one line.
    Failed(String),
}

/// A program just started.
pub struct Started {
    pub pid: u32,
    pub name: String,
    pub session: Session,
}

/// The window's end of the worker. Dropping it ends the worker's threads.
pub struct Connector {
    pub requests: Sender<Request>,
    pub replies: Receiver<Reply>,
}

impl Connector {
    /// Starts the worker. `wake` is called after each reply and handed to the sessions.
    pub fn start(wake: impl Fn() + Send + Sync + 'static) -> std::io::Result<Connector> {
        let (requests, incoming) = unbounded::<Request>();
        let (in_order, ordered) = unbounded::<Request>();
        let (outgoing, replies) = unbounded();
        let worker = Worker { outgoing, wake: Arc::new(wake), notification: Arc::default() };
        let writer = worker.clone();
        thread::Builder::new().name("settings".to_owned()).spawn(move || {
            for request in ordered {
                writer.carry_out(request);
            }
        })?;
        thread::Builder::new().name("worker".to_owned()).spawn(move || {
            for request in incoming {
                if matches!(request, Request::ReadConfig | Request::Remember { .. }) {
                    // It lives as long as this thread does.
                    let _ = in_order.send(request);
                    continue;
                }
                let worker = worker.clone();
                thread::spawn(move || worker.carry_out(request));
            }
        })?;
        Ok(Connector { requests, replies })
    }
}

#[derive(Clone)]
struct Worker {
    outgoing: Sender<Reply>,
    wake: Arc<dyn Fn() + Send + Sync>,
    /// The last notification shown, to be replaced by the next.
    notification: Arc<AtomicU32>,
}

impl Worker {
    fn carry_out(&self, request: Request) {
        if let Some(reply) = self.answer(request) {
            // The window may be gone by now; then nobody needs the reply.
            let _ = self.outgoing.send(reply);
            (self.wake)();
        }
    }

    fn answer(&self, request: Request) -> Option<Reply> {
        Some(match request {
            Request::Open { pid } => {
                let wake = Arc::clone(&self.wake);
                Reply::Opened { pid, session: Session::open(pid, move || wake()) }
            }
            Request::Launch { command } => {
                let started = self.launch(&command);
                Reply::Launched { command, started }
            }
            Request::List => Reply::Candidates(discovery::candidates()),
            Request::Pick(wanted) => Reply::Picked { wanted, answer: desktop::pick(wanted) },
            Request::Edit { editor, place, module } => {
                let place = match place {
                    Place::Line { file, line } => sources::of_file(&file, &module).map(|file| (file, line)),
                    Place::Function(name) => sources::of_function(&module, &name),
                };
                match place.and_then(|(file, line)| editor::open(editor.as_deref(), &file, line)) {
                    Ok(()) => return None,
                    Err(reason) => Reply::Failed(reason),
                }
            }
            Request::Notify { summary, body } => {
                match desktop::notify(&summary, &body, self.notification.load(Ordering::Relaxed)) {
                    Ok(number) => self.notification.store(number, Ordering::Relaxed),
                    // The window shows the same, and asks for attention.
                    Err(error) => tracing::debug!("no notification: {error}"),
                }
                return None;
            }
            Request::Export { path, text } => match export(&path, &text) {
                Ok(()) => {
                    // Nobody sees which folder the window was started in.
                    let path = std::path::absolute(&path).unwrap_or(path);
                    Reply::Done(format!("The report is in {}", path.display()))
                }
                Err(error) => Reply::Failed(format!("{}: {error}", path.display())),
            },
            Request::Fonts(characters) => Reply::Fonts(glyphs::fonts_for(&characters)),
            Request::ReadConfig => Reply::Config(file::read()),
            Request::Remember { program, change } => Reply::Remembered(file::remember(&program, &change)),
        })
    }

    fn launch(&self, command: &[String]) -> Result<Started> {
        let words: Vec<_> = command.iter().map(Into::into).collect();
        let Launched { mut child, pid, link } = launch(&words, &LaunchOptions::default())?;
        let name = command.first().map_or_else(String::new, |program| file_name(program.as_ref()));
        let (ended, exit) = bounded(1);
        thread::spawn(move || {
            let status = child.wait().ok().map(shell_status);
            // The session may be closed by then.
            let _ = ended.send(status);
        });
        let Some(link) = link else {
            let status = exit.recv().ok().flatten();
            let status = status.map_or_else(String::new, |status| format!(" with status {status}"));
            return Err(Error::Unsupported(format!("{name} ended{status} before it could be taken up")));
        };
        let wake = Arc::clone(&self.wake);
        Ok(Started { pid, name, session: Session::adopt(link, exit, move || wake())? })
    }
}

/// Writes a report, also over an earlier one, but over nothing else: a path is easily mistyped.
fn export(path: &Path, text: &str) -> io::Result<()> {
    if let Ok(before) = fs::read(path)
        && !before.is_empty()
        && !String::from_utf8_lossy(&before).contains(MADE_BY)
    {
        let reason = "exists and is no report of ours; choose another name";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, reason));
    }
    fs::write(path, text)
}

/// As a shell tells it: 128 + signal for a program that was killed.
pub fn shell_status(status: ExitStatus) -> i32 {
    status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{MADE_BY, export};

    #[test]
    fn a_report_replaces_an_earlier_one_and_nothing_else() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("report.md");
        for text in [format!("- {MADE_BY} 1"), format!("- {MADE_BY} 2")] {
            export(&path, &text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::write(&path, "my diary").unwrap();
        assert!(export(&path, MADE_BY).unwrap_err().to_string().contains("choose another name"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "my diary");
    }
}
