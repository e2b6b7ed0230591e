//! The guest in the target process: a thread with a socket that lists modules, loads shadows, keeps the ledger and commits
//! what the engine has planned.
//!
//! The library is preloaded, or loaded later by a thread that was made to. Its constructor does nothing unless the store's
//! variable is set; [`reload_agent_start`] is for the other case. Either starts one thread with every signal blocked, and
//! everything else happens there. Deliberately absent: knowledge of ELF symbols, of policy and of what the ledger means;
//! printing; ending or aborting the host.

mod adapter;
mod commit;
mod errands;
mod fd;
mod ledger;
mod memory;
mod modules;
mod passed;
mod registers;
mod safe_point;
mod server;
mod shadow;
mod shield;
mod signal_stop;
mod socket;
mod transaction;
mod window;

use std::{
    ffi::{CStr, OsStr, c_char, c_int},
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    ptr,
    sync::{
        atomic::{AtomicI32, AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use reload_protocol::STORE_VARIABLE;

/// Enough for decoding (which is flat) and for `dlopen`, small enough for hosts that lock their memory.
const STACK_SIZE: usize = 512 << 10;

/// The loader calls this after the agent's dependencies (libc) are initialised and before the host's own constructors.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn(c_int, *mut *mut c_char) = constructor;

extern "C" fn constructor(count: c_int, arguments: *mut *mut c_char) {
    errands::keep_arguments(count, arguments);
    // A panic must not cross into the loader; there is nobody to tell.
    let _ = panic::catch_unwind(|| {
        if let Some(root) = std::env::var_os(STORE_VARIABLE) {
            // Before there are threads this is free.
            window::prepare();
            // Without its agent the host is as well as with it.
            let _ = start(Place::Folder(PathBuf::from(root)));
        }
    });
}

/// Where the agent listens.
enum Place {
    /// On a socket of its own in its folder below this one.
    Folder(PathBuf),
    /// On a socket that somebody has bound where it cannot reach.
    Socket(OwnedFd),
}

/// Starts the agent with its folder in `store`, or on a duplicate of `listener`: [`reload_protocol::START_SYMBOL`]. May be called
/// by any thread, at a point where it holds no lock of the C library's.
///
/// # Safety
/// `store` is a terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn reload_agent_start(store: *const c_char, listener: c_int) -> i64 {
    // SAFETY: as promised.
    let store = unsafe { CStr::from_ptr(store) };
    let root = PathBuf::from(OsStr::from_bytes(store.to_bytes()));
    let place = match listener {
        ..0 => Some(Place::Folder(root)),
        // A duplicate: this one is closed by whoever handed it over, when this function has returned.
        listener => fd::raised(listener).map(Place::Socket),
    };
    let Some(place) = place else { return -i64::from(libc::EBADF) };
    let started = panic::catch_unwind(|| start(place));
    started.unwrap_or(Err(libc::EFAULT)).map_or_else(|errno| -i64::from(errno), |started| if started { 0 } else { 1 })
}

/// A listener for an agent that had been started, whose own may have been closed by the host; -1: none.
static OFFERED: AtomicI32 = AtomicI32::new(-1);
/// For the agent's thread to have its table of descriptors.
const BEGINNING: Duration = Duration::from_secs(5);

/// As [`OFFERED`], for an agent that shares the host's descriptors; one that does not has not lost its own.
fn offer(place: Place) {
    if let Place::Socket(socket) = place
        && !fd::is_separate()
    {
        let before = OFFERED.swap(std::os::fd::IntoRawFd::into_raw_fd(socket), Ordering::AcqRel);
        drop(own(before));
    }
}

/// A descriptor that a static has held.
fn own(raw: RawFd) -> Option<OwnedFd> {
    // SAFETY: whoever has put a number there has given it up, and it was taken out by an exchange.
    (raw >= 0).then(|| unsafe { std::os::fd::FromRawFd::from_raw_fd(raw) })
}

/// The process that has an agent. In a forked child it is the parent.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// At `exit` of a process that nobody has looked at, nothing stays behind. (What was killed is swept by the next launch.)
#[used]
#[unsafe(link_section = ".fini_array")]
static DESTRUCTOR: extern "C" fn() = destructor;

extern "C" fn destructor() {
    let _ = panic::catch_unwind(socket::remove);
}

/// `false` if it had been started in this process already.
fn start(place: Place) -> Result<bool, i32> {
    let process = std::process::id();
    let before = PROCESS.swap(process, Ordering::AcqRel);
    if before == process {
        offer(place);
        return Ok(false);
    }
    if before == 0 {
        // This copy of the standard library belongs to the agent alone: the host's own hook is not touched, and a panic caught
        // below leaves no text on the host's stderr.
        panic::set_hook(Box::new(|_| {}));
        // SAFETY: the handler is a plain function of this library, which is never unloaded.
        unsafe { libc::pthread_atfork(None, None, Some(after_fork_in_child)) };
    }
    let handed = match &place {
        Place::Folder(_) => None,
        Place::Socket(socket) => Some(socket.as_raw_fd()),
    };
    let (begun, beginning) = mpsc::channel();
    let blocked = AllSignalsBlocked::new();
    // The thread inherits the mask, so no signal of the host's is ever delivered to it.
    let started = thread::Builder::new().name("reload-agent".into()).stack_size(STACK_SIZE).spawn(move || {
        let _ = panic::catch_unwind(AssertUnwindSafe(|| server::run(place, &begun)));
        // It could not begin: somebody may try again.
        PROCESS.store(0, Ordering::Release);
    });
    drop(blocked);
    match started {
        Ok(_) => {
            // With a table of its own the agent's thread has a copy, and the number is the host's again.
            if let Some(handed) = handed
                && beginning.recv_timeout(BEGINNING).is_ok_and(|separate| separate)
            {
                drop(own(handed));
            }
            Ok(true)
        }
        Err(error) => {
            PROCESS.store(0, Ordering::Release);
            Err(error.raw_os_error().unwrap_or(libc::EAGAIN))
        }
    }
}

/// The agent's thread does not exist in the child: give up its descriptors, and leave no text closed behind.
unsafe extern "C" fn after_fork_in_child() {
    fd::close_all_in_child();
    window::finish_in_child();
    safe_point::forget_in_child();
}

/// Blocks every signal in the calling thread until dropped.
struct AllSignalsBlocked {
    before: libc::sigset_t,
}

impl AllSignalsBlocked {
    fn new() -> AllSignalsBlocked {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: both sets are written before they are read; the C library leaves its own internal signals unblocked.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::sigemptyset(before.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            AllSignalsBlocked { before: before.assume_init() }
        }
    }
}

impl Drop for AllSignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: `before` is the mask this thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}

/// The calling thread's errno.
fn errno() -> i32 {
    // SAFETY: the C library's location for this thread, valid as long as the thread lives.
    unsafe { *libc::__errno_location() }
}

/// Sets the calling thread's errno; a signal handler must leave it as it was.
fn set_errno(value: i32) {
    // SAFETY: as in `errno`.
    unsafe { *libc::__errno_location() = value }
}
