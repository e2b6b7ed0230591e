//! File descriptors of a guest: above the numbers the host uses, close-on-exec, closed in forked children.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicI32, Ordering},
};

/// The listener, the wake-up descriptor and the connections.
pub const MAX_OPEN: usize = 64;
/// Where the agent's numbers begin, if the limit allows: hosts and their tests rely on getting the lowest free numbers.
const FIRST: libc::rlim_t = 512;

static OPEN: [AtomicI32; MAX_OPEN] = [const { AtomicI32::new(-1) }; MAX_OPEN];

/// One descriptor of the agent's, known to [`close_all_in_child`].
pub struct GuestFd {
    fd: OwnedFd,
    slot: usize,
}

impl GuestFd {
    /// Moves `fd` to a high number and takes note of it.
    pub fn adopt(fd: OwnedFd) -> io::Result<GuestFd> {
        let fd = raise(fd);
        let raw = fd.as_raw_fd();
        let free = |slot: &AtomicI32| slot.compare_exchange(-1, raw, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let slot = OPEN.iter().position(free).ok_or_else(|| io::Error::other("too many connections"))?;
        Ok(GuestFd { fd, slot })
    }

    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// For a number that the host has closed behind our back: it may be somebody else's by now, so leave it alone.
    pub fn forget(self) {
        OPEN[self.slot].store(-1, Ordering::Release);
        std::mem::forget(self);
    }
}

impl Drop for GuestFd {
    fn drop(&mut self) {
        OPEN[self.slot].store(-1, Ordering::Release);
    }
}

fn raise(fd: OwnedFd) -> OwnedFd {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return fd;
    }
    let first = if limit.rlim_cur >= FIRST + 256 { FIRST } else { limit.rlim_cur / 2 };
    // SAFETY: duplicates a descriptor that we own.
    let high = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, first as libc::c_int) };
    if high < 0 {
        return fd;
    }
    // SAFETY: the kernel has just handed `high` to us; nobody else knows the number.
    unsafe { OwnedFd::from_raw_fd(high) }
}

/// For the child after `fork`: only async-signal-safe calls are allowed there.
pub fn close_all_in_child() {
    for slot in &OPEN {
        let raw = slot.swap(-1, Ordering::AcqRel);
        if raw >= 0 {
            // SAFETY: the child's copy of a descriptor of the agent's; the thread that owned it does not exist here.
            unsafe { libc::close(raw) };
        }
    }
}
