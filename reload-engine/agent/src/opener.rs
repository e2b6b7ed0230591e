//! `dlopen` on the user's behalf, constructors included.
//!
//! Constructors may take their time, open files, start threads and expect signals. So each runs on a fresh thread with no
//! signal blocked, and that thread comes from one which was started before the agent left the host's descriptor table.

use std::{
    io,
    mem::MaybeUninit,
    panic::{self, AssertUnwindSafe},
    ptr,
    sync::mpsc::{self, Receiver, Sender},
    thread,
};

use libloading::os::unix::Library;
use reload_protocol::{LoadedModule, Reply};

use crate::{STACK_SIZE, modules, shadow::loader_message};

/// Asked by whom, to open what.
type Order = (u64, String);
/// Whom to tell what.
type Opened = (u64, Reply);

pub struct Opener {
    /// The thread that starts the others; it runs no code of the host's.
    pub thread: u32,
    orders: Sender<Order>,
    opened: Receiver<Opened>,
    pending: usize,
}

impl Opener {
    pub fn start() -> io::Result<Opener> {
        let (orders, todo) = mpsc::channel::<Order>();
        let (done, opened) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        thread::Builder::new().name("reload-agent".into()).stack_size(STACK_SIZE).spawn(move || {
            // SAFETY: cannot fail.
            let _ = tell.send(unsafe { libc::syscall(libc::SYS_gettid) } as u32);
            for order in todo {
                start_one(order, &done);
            }
        })?;
        let thread = told.recv().map_err(io::Error::other)?;
        Ok(Opener { thread, orders, opened, pending: 0 })
    }

    pub fn open(&mut self, connection: u64, path: String) {
        // The other end lives as long as this one.
        if self.orders.send((connection, path)).is_ok() {
            self.pending += 1;
        }
    }

    pub fn is_busy(&self) -> bool {
        self.pending > 0
    }

    pub fn finished(&mut self) -> Option<Opened> {
        let opened = self.opened.try_recv().ok()?;
        self.pending -= 1;
        Some(opened)
    }
}

fn start_one((connection, path): Order, done: &Sender<Opened>) {
    let results = done.clone();
    // The default stack: these are the host's constructors.
    let started = thread::Builder::new().spawn(move || {
        let failed = |_| Reply::Failed { message: "a constructor panicked".into() };
        let reply = panic::catch_unwind(AssertUnwindSafe(|| open(&path))).unwrap_or_else(failed);
        // The agent's thread, which holds the other end, lives as long as the process.
        let _ = results.send((connection, reply));
    });
    if let Err(error) = started {
        let _ = done.send((connection, Reply::Failed { message: format!("starting a thread: {error}") }));
    }
}

fn open(path: &str) -> Reply {
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: this thread inherited the agent's mask; constructors and the threads they start expect an empty one.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
    let before = modules::loaded();
    // SAFETY: runs the library's constructors, at the user's explicit request.
    match unsafe { Library::open(Some(path), libc::RTLD_NOW | libc::RTLD_LOCAL) } {
        Err(error) => Reply::Failed { message: loader_message(&error) },
        Ok(library) => {
            std::mem::forget(library);
            loaded_by(path, &before)
        }
    }
}

/// The module that `path` names; otherwise (a symbolic link, a soname) the first one that was not there before.
fn loaded_by(path: &str, before: &[LoadedModule]) -> Reply {
    let after = modules::loaded();
    let file_name = |path: &str| path.rsplit('/').next().map(str::to_owned);
    let named = after.iter().find(|module| module.path == path);
    let new = || after.iter().find(|module| !before.contains(module));
    let alike = || after.iter().find(|module| file_name(&module.path) == file_name(path));
    match named.or_else(new).or_else(alike) {
        Some(module) => Reply::Loaded(module.clone()),
        None => Reply::Failed { message: format!("{path}: loaded, but dl_iterate_phdr does not tell of it") },
    }
}
