//! What the window may not wait for: opening sessions, listing processes, asking for a file. Each request runs on a thread of
//! its own, since any of them may take seconds; the answer wakes the window.

use std::{path::PathBuf, sync::Arc, thread};

use crossbeam_channel::{Receiver, Sender, unbounded};
use reload_engine::{discovery, error::Result, session::Session};

pub use reload_engine::discovery::Candidate;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Open {
        pid: u32,
    },
    List,
    /// The desktop's file dialog, for a library to load.
    PickFile,
}

pub enum Reply {
    Opened {
        pid: u32,
        session: Result<Session>,
    },
    Candidates(Vec<Candidate>),
    /// `None`: cancelled, or this desktop has no file dialog.
    Picked(Option<PathBuf>),
}

/// The window's end of the worker. Dropping it ends the worker's thread.
pub struct Connector {
    pub requests: Sender<Request>,
    pub replies: Receiver<Reply>,
}

impl Connector {
    /// Starts the worker. `wake` is called after each reply and handed to the sessions.
    pub fn start(wake: impl Fn() + Send + Sync + 'static) -> std::io::Result<Connector> {
        let (requests, incoming) = unbounded();
        let (outgoing, replies) = unbounded();
        let wake: Wake = Arc::new(wake);
        thread::Builder::new().name("worker".to_owned()).spawn(move || {
            for request in incoming {
                let (outgoing, wake) = (outgoing.clone(), Arc::clone(&wake));
                thread::spawn(move || {
                    let reply = answer(request, &wake);
                    // The window may be gone by now; then nobody needs the reply.
                    let _ = outgoing.send(reply);
                    wake();
                });
            }
        })?;
        Ok(Connector { requests, replies })
    }
}

type Wake = Arc<dyn Fn() + Send + Sync>;

fn answer(request: Request, wake: &Wake) -> Reply {
    match request {
        Request::Open { pid } => {
            let wake = Arc::clone(wake);
            Reply::Opened { pid, session: Session::open(pid, move || wake()) }
        }
        Request::List => Reply::Candidates(discovery::candidates()),
        Request::PickFile => Reply::Picked(
            rfd::FileDialog::new()
                .set_title("Load a module into the target")
                .add_filter("Shared libraries", &["so"])
                .add_filter("All files", &["*"])
                .pick_file(),
        ),
    }
}
