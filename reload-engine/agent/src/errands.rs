//! Code of the host's, run when somebody asks: `dlopen` on the user's behalf, a library's hooks, a new constructor.
//!
//! Such code may take its time, open files, start threads and expect signals. So each errand runs on a fresh thread with no
//! signal blocked, and that thread comes from one which was started before the agent left the host's descriptor table. An
//! errand that does not end in time is given up, not ended: nobody can end a thread.

use std::{
    ffi::{c_char, c_int, c_uint},
    io,
    mem::MaybeUninit,
    panic::{self, AssertUnwindSafe},
    ptr,
    sync::{
        atomic::{AtomicI32, AtomicPtr, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use libloading::os::unix::Library;
use reload_protocol::{LoadedModule, Reply, Routine};

use crate::{STACK_SIZE, adapter::Speaker, modules, shadow::loader_message, window};

/// What to do.
pub enum Errand {
    /// `dlopen` of this path, constructors included.
    Open(String),
    Call(Routine),
    /// An adapter's side of its conversation.
    Adapt(Speaker),
}

type Ticket = u64;

struct Pending {
    ticket: Ticket,
    connection: u64,
    due: Option<Due>,
}

struct Due {
    at: Instant,
    patience: Duration,
}

pub struct Errands {
    /// The thread that starts the others; it runs no code of the host's.
    pub thread: u32,
    orders: Sender<(Ticket, Errand)>,
    done: Receiver<(Ticket, Reply)>,
    next: Ticket,
    pending: Vec<Pending>,
}

impl Errands {
    pub fn start() -> io::Result<Errands> {
        let (orders, todo) = mpsc::channel::<(Ticket, Errand)>();
        let (results, done) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        thread::Builder::new().name("reload-agent".into()).stack_size(STACK_SIZE).spawn(move || {
            // SAFETY: cannot fail.
            let _ = tell.send(unsafe { libc::syscall(libc::SYS_gettid) } as u32);
            // Some kernels take seconds for it; an errand can wait, whoever attaches cannot.
            window::prepare();
            for (ticket, errand) in todo {
                start_one(ticket, errand, &results);
            }
        })?;
        let thread = told.recv().map_err(io::Error::other)?;
        Ok(Errands { thread, orders, done, next: 0, pending: Vec::new() })
    }

    /// Starts an errand for a connection; one without `patience` may take as long as it likes.
    pub fn run(&mut self, connection: u64, errand: Errand, patience: Option<Duration>) {
        let ticket = self.next;
        self.next += 1;
        // The other end lives as long as this one.
        if self.orders.send((ticket, errand)).is_ok() {
            let due = patience.map(|patience| Due { at: Instant::now() + patience, patience });
            self.pending.push(Pending { ticket, connection, due });
        }
    }

    /// Starts an errand whose end nobody waits for.
    pub fn run_unawaited(&mut self, errand: Errand) {
        let ticket = self.next;
        self.next += 1;
        // As above.
        let _ = self.orders.send((ticket, errand));
    }

    pub fn is_busy(&self) -> bool {
        !self.pending.is_empty()
    }

    /// An errand that is done or given up: for whom, and the answer.
    pub fn finished(&mut self) -> Option<(u64, Reply)> {
        while let Ok((ticket, reply)) = self.done.try_recv() {
            // One that was given up has been answered already.
            if let Some(index) = self.pending.iter().position(|pending| pending.ticket == ticket) {
                return Some((self.pending.swap_remove(index).connection, reply));
            }
        }
        let now = Instant::now();
        let late = |pending: &Pending| pending.due.as_ref().is_some_and(|due| due.at <= now);
        let index = self.pending.iter().position(late)?;
        let Pending { connection, due, .. } = self.pending.swap_remove(index);
        let seconds = due.map_or(0.0, |due| due.patience.as_secs_f64());
        Some((connection, Reply::Failed { message: format!("it did not return within {seconds} s") }))
    }
}

fn start_one(ticket: Ticket, errand: Errand, done: &Sender<(Ticket, Reply)>) {
    let results = done.clone();
    // The default stack: this is the host's code.
    let started = thread::Builder::new().spawn(move || {
        let failed = |_| Reply::Failed { message: "it panicked".into() };
        let reply = panic::catch_unwind(AssertUnwindSafe(|| carry_out(errand))).unwrap_or_else(failed);
        // The agent's thread, which holds the other end, lives as long as the process.
        let _ = results.send((ticket, reply));
    });
    if let Err(error) = started {
        let _ = done.send((ticket, Reply::Failed { message: format!("starting a thread: {error}") }));
    }
}

fn carry_out(errand: Errand) -> Reply {
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: this thread inherited the agent's mask; the host's code and the threads it starts expect an empty one.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
    match errand {
        Errand::Open(path) => open(&path),
        Errand::Call(routine) => Reply::Returned { status: call(routine) },
        Errand::Adapt(speaker) => {
            speaker.speak();
            Reply::Returned { status: 0 }
        }
    }
}

/// The arguments of the host's `main`, which constructors get too.
static ARGUMENT_COUNT: AtomicI32 = AtomicI32::new(0);
static ARGUMENTS: AtomicPtr<*mut c_char> = AtomicPtr::new(ptr::null_mut());

/// Keeps what the loader passes to constructors.
pub fn keep_arguments(count: c_int, arguments: *mut *mut c_char) {
    ARGUMENT_COUNT.store(count, Ordering::Relaxed);
    ARGUMENTS.store(arguments, Ordering::Relaxed);
}

unsafe extern "C" {
    static mut environ: *mut *mut c_char;
}

/// The conventions allow unwinding because the host's exceptions may come this far: they end the program here, as they would
/// at any thread's beginning.
fn call(routine: Routine) -> c_int {
    match routine {
        Routine::Hook { address, generation } => {
            // SAFETY: the engine has found a function of that name at this address, in a library that is never unloaded; that
            // it has this signature is the contract of the name and cannot be checked.
            unsafe {
                let hook: extern "C-unwind" fn(c_uint) -> c_int = std::mem::transmute(address as usize);
                hook(generation)
            }
        }
        Routine::Constructor { address } => {
            let (count, arguments) = (ARGUMENT_COUNT.load(Ordering::Relaxed), ARGUMENTS.load(Ordering::Relaxed));
            // SAFETY: an entry of the `.init_array` of a library that is never unloaded from here on, called as the loader
            // calls it.
            unsafe {
                type Constructor = extern "C-unwind" fn(c_int, *mut *mut c_char, *mut *mut c_char);
                let constructor: Constructor = std::mem::transmute(address as usize);
                constructor(count, arguments, environ);
            }
            0
        }
        Routine::AtExit { address } => {
            // SAFETY: an entry of the `.fini_array` of a library that is never unloaded from here on. It takes no argument, and
            // may be given one.
            unsafe {
                let destructor: unsafe extern "C" fn(*mut libc::c_void) = std::mem::transmute(address as usize);
                __cxa_atexit(destructor, ptr::null_mut(), ptr::null_mut())
            }
        }
    }
}

unsafe extern "C" {
    fn __cxa_atexit(
        function: unsafe extern "C" fn(*mut libc::c_void),
        argument: *mut libc::c_void,
        library: *mut libc::c_void,
    ) -> c_int;
}

fn open(path: &str) -> Reply {
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
