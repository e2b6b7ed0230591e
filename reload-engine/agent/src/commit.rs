//! The commit on the stop helper's connection: single bytes while the helper keeps every other thread stopped.
//!
//! From the first byte to the last nothing here allocates or locks.

use std::{
    os::fd::RawFd,
    ptr,
    sync::Arc,
    time::{Duration, Instant},
};

use reload_protocol::{commit, moment};

use crate::{
    errno,
    transaction::Staged,
    window::{self, Obstacle, Window},
};

/// From `Commit` to `GO`; the helper's own watchdog is much shorter.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(2);

/// How the bytes of a commit ended.
pub enum Ended {
    Committed,
    Aborted,
    Refused(Obstacle),
    /// The helper died or fell silent; threads may have run on.
    Lost {
        committed: bool,
    },
}

/// Speaks the bytes of [`commit`]. Threads are stopped in between: no allocation, no locks.
pub fn drive(fd: RawFd, staged: &Arc<Staged>) -> Ended {
    let deadline = Instant::now() + COMMIT_TIMEOUT;
    // The threads that are being stopped may have to run here first.
    match awaited_byte(fd, deadline) {
        Some(commit::CLOSE) => {}
        Some(commit::ABORT) => return answered(fd, commit::ABORTED, Ended::Aborted),
        _ => return Ended::Lost { committed: false },
    }
    let window = match Window::close(staged) {
        Ok(window) => window,
        Err(obstacle) => {
            window::restore_disposition();
            return answered(fd, commit::ABORTED, Ended::Refused(obstacle));
        }
    };
    let told = put_byte(fd, commit::CLOSED);
    match next_byte(fd, deadline) {
        Some(commit::GO) if told => {
            window.write();
            // If the helper died meanwhile, threads may be on their way into the handler: then it stays for a while.
            if !peer_alive(fd) {
                return Ended::Lost { committed: true };
            }
            window::restore_disposition();
            answered(fd, commit::DONE, Ended::Committed)
        }
        Some(commit::ABORT) if told => {
            drop(window);
            if !peer_alive(fd) {
                return Ended::Lost { committed: false };
            }
            window::restore_disposition();
            answered(fd, commit::ABORTED, Ended::Aborted)
        }
        _ => {
            drop(window);
            Ended::Lost { committed: false }
        }
    }
}

fn answered(fd: RawFd, byte: u8, ended: Ended) -> Ended {
    // Nobody there: the outcome is the same, and the connection ends at its next use.
    put_byte(fd, byte);
    ended
}

/// The answer of a helper that keeps everybody stopped meanwhile; otherwise as [`awaited_byte`].
fn next_byte(fd: RawFd, deadline: Instant) -> Option<u8> {
    moment::look(|| take_byte(fd)).unwrap_or_else(|| awaited_byte(fd, deadline))
}

/// Waits for one byte without allocating; `None` for the end of the connection, an error or the deadline.
fn awaited_byte(fd: RawFd, deadline: Instant) -> Option<u8> {
    loop {
        if let Some(answer) = take_byte(fd) {
            return answer;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut timeout =
            libc::timespec { tv_sec: left.as_secs() as libc::time_t, tv_nsec: libc::c_long::from(left.subsec_nanos()) };
        // SAFETY: one valid entry and a valid time.
        unsafe {
            libc::syscall(
                libc::SYS_ppoll,
                ptr::from_mut(&mut poll),
                1usize,
                ptr::from_mut(&mut timeout),
                0usize,
                8usize,
            )
        };
    }
}

/// The next byte, or `Some(None)` when there will be none.
fn take_byte(fd: RawFd) -> Option<Option<u8>> {
    let mut byte = 0u8;
    let flags = libc::c_long::from(libc::MSG_DONTWAIT);
    // SAFETY: one writable byte.
    let got = unsafe { libc::syscall(libc::SYS_recvfrom, fd, ptr::from_mut(&mut byte), 1usize, flags, 0usize, 0usize) };
    match got {
        1 => Some(Some(byte)),
        0 => Some(None),
        _ if errno() == libc::EAGAIN || errno() == libc::EINTR => None,
        _ => Some(None),
    }
}

fn put_byte(fd: RawFd, byte: u8) -> bool {
    let flags = libc::c_long::from(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    // SAFETY: one readable byte.
    unsafe { libc::syscall(libc::SYS_sendto, fd, ptr::from_ref(&byte), 1usize, flags, 0usize, 0usize) == 1 }
}

/// Whether the other end is still open; a process closes its descriptors before its tracees are released.
fn peer_alive(fd: RawFd) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLRDHUP, revents: 0 };
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one valid entry and a valid time.
    unsafe {
        libc::syscall(libc::SYS_ppoll, ptr::from_mut(&mut poll), 1usize, ptr::from_mut(&mut now), 0usize, 8usize)
    };
    poll.revents == 0
}

/// This thread's scheduling: the helper raises it for the time of a commit, where it may.
pub struct Priority {
    policy: libc::c_int,
    param: libc::sched_param,
}

impl Priority {
    pub fn current() -> Priority {
        let mut param = libc::sched_param { sched_priority: 0 };
        // SAFETY: `param` is a valid place for the answer.
        let policy = unsafe {
            libc::sched_getparam(0, &mut param);
            libc::sched_getscheduler(0)
        };
        Priority { policy, param }
    }

    pub fn restore(&self) {
        // SAFETY: changes how this thread is scheduled; lowering is always allowed.
        unsafe { libc::sched_setscheduler(0, self.policy, &self.param) };
        // That has reset it.
        take_short_turns();
    }
}

/// The shortest turn that the scheduler (EEVDF, since Linux 6.12) grants, in nanoseconds.
const SHORTEST_TURN: u64 = 100_000;

/// Whether a filter might end the process for a system call that the host has no use for.
pub fn is_filtered() -> bool {
    // SAFETY: asks.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP) != 0 }
}

/// `struct sched_attr` in its first version.
#[repr(C)]
#[derive(Default)]
struct Scheduling {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Has this thread scheduled in short turns: it gets no more of a processor than before, but gets it soon, however many busy
/// threads the host has. Best effort; older kernels ignore it.
pub fn take_short_turns() {
    let mut scheduling = Scheduling::default();
    let size = size_of::<Scheduling>() as u32;
    if is_filtered() {
        return;
    }
    // SAFETY: asks, and sets one attribute of the calling thread, in a structure of the size that is told.
    unsafe {
        if libc::syscall(libc::SYS_sched_getattr, 0, ptr::from_mut(&mut scheduling), size, 0) != 0
            || scheduling.policy != libc::SCHED_OTHER as u32
        {
            return;
        }
        scheduling.runtime = SHORTEST_TURN;
        libc::syscall(libc::SYS_sched_setattr, 0, ptr::from_ref(&scheduling), 0);
    }
}
