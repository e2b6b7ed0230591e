//! One thread under ptrace, from the moment it has stopped: its registers, its vector state, its signal mask, and letting it
//! run to its next stop.
//!
//! Dropping it lets it go as it is. What is written into its registers, and in which order, is decided elsewhere.

use std::{
    mem::MaybeUninit,
    ptr, thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc::{self, c_int, user_regs_struct},
    sys::ptrace,
    unistd::Pid,
};

/// Between two looks whether it has stopped: first, and growing to at most.
const LOOK: Duration = Duration::from_micros(20);
const LONGEST_LOOK: Duration = Duration::from_micros(500);
/// More than any processor has: AMX makes it 11 KiB.
const MOST_VECTOR_STATE: usize = 16 << 10;
/// With this option the kernel tells stops at system calls from SIGTRAP.
const SYSCALL_STOP: c_int = libc::SIGTRAP | 0x80;
/// `linux/elf.h`
const NT_X86_XSTATE: usize = 0x202;

/// Why a thread is not in our hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missed {
    /// It has ended.
    Gone,
    /// It was about to receive a signal, which it has received now.
    Signal,
    /// Its process is stopped by job control.
    JobControl,
    /// It did not stop in time: uninterruptible sleep, as the parent of a `vfork`.
    Slow,
    NotPermitted,
    Kernel(Errno),
}

/// A thread that is stopped.
pub struct Thread {
    pub id: Pid,
    released: bool,
}

/// Why a thread that was let run has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// At the beginning or end of a system call.
    Syscall,
    /// On its way to receive this signal.
    Signal(c_int),
    /// Told to by us, or by job control.
    Interrupted,
}

impl Thread {
    /// Seizes and stops it. Nobody else is stopped. With [`Missed::Slow`] comes the thread, which may stop later.
    pub fn arrest(id: Pid, patience: Duration) -> Result<Thread, (Missed, Option<Thread>)> {
        ptrace::seize(id, ptrace::Options::PTRACE_O_TRACESYSGOOD).map_err(|errno| match errno {
            Errno::EPERM => (Missed::NotPermitted, None),
            Errno::ESRCH => (Missed::Gone, None),
            other => (Missed::Kernel(other), None),
        })?;
        // From here on it is let go when dropped, if it is stopped by then; if not, when this process ends.
        let mut thread = Thread { id, released: false };
        thread.interrupt();
        match thread.wait(Instant::now() + patience) {
            Ok((Stop::Interrupted, libc::SIGTRAP)) => Ok(thread),
            Ok((Stop::Signal(signal), _)) => {
                thread.release(signal);
                Err((Missed::Signal, None))
            }
            Ok(_) => Err((Missed::JobControl, None)),
            Err(Missed::Slow) => Err((Missed::Slow, Some(thread))),
            Err(missed) => Err((missed, None)),
        }
    }

    pub fn interrupt(&self) {
        // An error means that it has ended, which waiting will show.
        let _ = ptrace::interrupt(self.id);
    }

    /// Lets it run to its next system call, delivering nothing.
    pub fn resume(&self) -> Result<(), Missed> {
        ptrace::syscall(self.id, None).map_err(missed)
    }

    /// Until it stops, and by which signal.
    pub fn wait(&self, deadline: Instant) -> Result<(Stop, c_int), Missed> {
        let mut pause = LOOK;
        loop {
            let mut status = 0;
            // SAFETY: `status` is a valid place for the answer.
            let answered = unsafe { libc::waitpid(self.id.as_raw(), &mut status, libc::__WALL | libc::WNOHANG) };
            if answered > 0 {
                return stop(status).ok_or(Missed::Gone);
            }
            if answered < 0 && Errno::last() != Errno::EINTR {
                return Err(Missed::Gone);
            }
            if Instant::now() > deadline {
                return Err(Missed::Slow);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    pub fn registers(&self) -> Result<user_regs_struct, Missed> {
        ptrace::getregs(self.id).map_err(missed)
    }

    pub fn set_registers(&self, registers: &user_regs_struct) -> Result<(), Missed> {
        ptrace::setregs(self.id, *registers).map_err(missed)
    }

    /// Floating point, SSE, AVX and the like, as XSAVE lays it out.
    pub fn vector_state(&self) -> Result<Vec<u8>, Missed> {
        let mut bytes = vec![0; MOST_VECTOR_STATE];
        let len = self.register_set(libc::PTRACE_GETREGSET, &mut bytes)?;
        bytes.truncate(len);
        Ok(bytes)
    }

    pub fn set_vector_state(&self, bytes: &mut [u8]) -> Result<(), Missed> {
        self.register_set(libc::PTRACE_SETREGSET, bytes).map(drop)
    }

    fn register_set(&self, request: libc::c_uint, bytes: &mut [u8]) -> Result<usize, Missed> {
        let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: the kernel reads or writes at most `iov_len` bytes there.
        let status = unsafe { libc::ptrace(request, self.id.as_raw(), NT_X86_XSTATE, &mut vector) };
        if status == 0 { Ok(vector.iov_len) } else { Err(missed(Errno::last())) }
    }

    /// The blocked signals, bit N-1 for signal N. In a call with a mask of its own (`ppoll`), those from before it.
    pub fn signal_mask(&self) -> Result<u64, Missed> {
        let mut mask = MaybeUninit::<u64>::uninit();
        // SAFETY: the kernel writes the eight bytes that it is told there are.
        let status =
            unsafe { libc::ptrace(libc::PTRACE_GETSIGMASK, self.id.as_raw(), size_of::<u64>(), mask.as_mut_ptr()) };
        if status != 0 {
            return Err(missed(Errno::last()));
        }
        // SAFETY: it has.
        Ok(unsafe { mask.assume_init() })
    }

    pub fn set_signal_mask(&self, mask: u64) -> Result<(), Missed> {
        // SAFETY: the kernel reads the eight bytes that it is told there are.
        let status =
            unsafe { libc::ptrace(libc::PTRACE_SETSIGMASK, self.id.as_raw(), size_of::<u64>(), ptr::from_ref(&mask)) };
        if status == 0 { Ok(()) } else { Err(missed(Errno::last())) }
    }

    /// Lets it go with a signal that it was about to receive (0: none).
    pub fn release(&mut self, signal: c_int) {
        if !self.released {
            self.released = true;
            // SAFETY: releases a thread that this process traces; no memory of ours is involved.
            unsafe { libc::ptrace(libc::PTRACE_DETACH, self.id.as_raw(), 0usize, signal as usize) };
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.release(0);
    }
}

fn missed(errno: Errno) -> Missed {
    // ESRCH also where it is not stopped, which only its end can do to a stopped thread.
    if errno == Errno::ESRCH { Missed::Gone } else { Missed::Kernel(errno) }
}

fn stop(status: c_int) -> Option<(Stop, c_int)> {
    if !libc::WIFSTOPPED(status) {
        return None;
    }
    let signal = libc::WSTOPSIG(status);
    Some(match (status >> 16, signal) {
        (0, SYSCALL_STOP) => (Stop::Syscall, signal),
        (0, _) => (Stop::Signal(signal), signal),
        _ => (Stop::Interrupted, signal),
    })
}
