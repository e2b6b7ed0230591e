//! File descriptors of a guest: out of the host's way.
//!
//! A host may rely on getting the lowest free number (`close(1); open(...)`), close numbers it does not know, or hand them
//! to its children. So the agent's thread has a table of its own, where the kernel allows that. Where it does not (Docker's
//! seccomp profile forbids `unshare`), the agent's numbers are high ones, close-on-exec, and closed in forked children.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, AtomicI32, Ordering},
};

/// The listener, the connections and what came along with one message.
const MAX_OPEN: usize = 64 + reload_protocol::MOST_PASSED;
/// Where the agent's numbers begin in a shared table, if the limit allows.
const FIRST: libc::rlim_t = 512;
/// The kernel's default for the highest limit.
const MOST_NUMBERS: libc::c_long = 1 << 20;

static SEPARATE: AtomicBool = AtomicBool::new(false);
static OPEN: [AtomicI32; MAX_OPEN] = [const { AtomicI32::new(-1) }; MAX_OPEN];

/// Gives the calling thread a table of its own, with nothing of the host's in it but `kept`: a copy of a pipe's end would keep
/// the pipe open. Before the first descriptor is adopted.
pub fn separate_table(kept: Option<RawFd>) {
    // SAFETY: affects descriptors of this thread only.
    if unsafe { libc::unshare(libc::CLONE_FILES) } != 0 {
        return;
    }
    SEPARATE.store(true, Ordering::Release);
    let kept = kept.map(|kept| kept as u32);
    let ranges = match kept {
        Some(kept) => [0..kept, kept + 1..u32::MAX],
        None => [0..u32::MAX, 0..0],
    };
    for range in ranges.into_iter().filter(|range| !range.is_empty()) {
        // SAFETY: closes this thread's copies; the host's table keeps its own.
        if unsafe { libc::syscall(libc::SYS_close_range, range.start, range.end - 1, 0u32) } != 0 {
            close_one_by_one(kept);
        }
    }
    // The loader writes to the standard descriptors (LD_DEBUG): that must not be a socket.
    for _ in 0..3 {
        // SAFETY: a terminated path. The lowest numbers are free.
        unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    }
}

/// Whether the agent's thread has a table of its own.
pub fn is_separate() -> bool {
    SEPARATE.load(Ordering::Acquire)
}

/// Before Linux 5.9 there is no call for a range.
fn close_one_by_one(kept: Option<u32>) {
    // SAFETY: only asks.
    let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    for number in (0..limit.clamp(0, MOST_NUMBERS)).filter(|&number| Some(number as u32) != kept) {
        // SAFETY: closes this thread's copy, if there is one.
        unsafe { libc::close(number as RawFd) };
    }
}

/// One descriptor of the agent's.
pub struct GuestFd {
    fd: OwnedFd,
    /// Known to [`close_all_in_child`] in a shared table.
    slot: Option<usize>,
}

impl GuestFd {
    /// In a shared table, moves `fd` to a high number and takes note of it.
    pub fn adopt(fd: OwnedFd) -> io::Result<GuestFd> {
        if is_separate() {
            return Ok(GuestFd { fd, slot: None });
        }
        let fd = raise(fd);
        let raw = fd.as_raw_fd();
        let free = |slot: &AtomicI32| slot.compare_exchange(-1, raw, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let slot = OPEN.iter().position(free).ok_or_else(|| io::Error::other("too many connections"))?;
        Ok(GuestFd { fd, slot: Some(slot) })
    }

    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// For a number that the host has closed behind our back: it may be somebody else's by now, so leave it alone.
    pub fn forget(self) {
        self.give_up_slot();
        std::mem::forget(self);
    }

    fn give_up_slot(&self) {
        if let Some(slot) = self.slot {
            OPEN[slot].store(-1, Ordering::Release);
        }
    }
}

impl Drop for GuestFd {
    fn drop(&mut self) {
        self.give_up_slot();
    }
}

fn raise(fd: OwnedFd) -> OwnedFd {
    raised(fd.as_raw_fd()).unwrap_or(fd)
}

/// A duplicate of a descriptor out of the host's way.
pub fn raised(fd: RawFd) -> Option<OwnedFd> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return None;
    }
    let first = if limit.rlim_cur >= FIRST + 256 { FIRST } else { limit.rlim_cur / 2 };
    // SAFETY: duplicates a descriptor that is ours; no memory is involved.
    let high = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, first as libc::c_int) };
    // SAFETY: the kernel has just handed `high` to us; nobody else knows the number.
    (high >= 0).then(|| unsafe { OwnedFd::from_raw_fd(high) })
}

/// For the child after `fork`: only async-signal-safe calls are allowed there. (A separate table is not inherited.)
pub fn close_all_in_child() {
    for slot in &OPEN {
        let raw = slot.swap(-1, Ordering::AcqRel);
        if raw >= 0 {
            // SAFETY: the child's copy of a descriptor of the agent's; the thread that owned it does not exist here.
            unsafe { libc::close(raw) };
        }
    }
}
