//! What is specific to x86-64 about a stopped thread: its program counter and stack pointer, and system calls that a
//! stop would fail with EINTR.

use nix::{errno::Errno, libc, sys::ptrace, unistd::Pid};

/// Kernel-internal: restart the call unless a handler really runs, in which case it is EINTR as it should be.
const ERESTARTNOHAND: i64 = 514;

/// The registers of a thread in a ptrace stop.
pub struct Registers(libc::user_regs_struct);

/// What the kernel leaves in `rax` of a thread that it has stopped in a system call which it is going to restart.
const RESTARTING: std::ops::RangeInclusive<i64> = 512..=516;

impl Registers {
    pub fn of(thread: Pid) -> Result<Registers, Errno> {
        ptrace::getregs(thread).map(Registers)
    }

    pub fn pc(&self) -> u64 {
        self.0.rip
    }

    /// The stack pointer.
    pub fn stack(&self) -> u64 {
        self.0.rsp
    }

    /// Whether it is in a system call, or has only just left one.
    pub fn in_call(&self) -> bool {
        self.0.orig_rax as i64 >= 0
    }

    /// Has the kernel restart the call that the stop interrupted, where it would not by itself. Its timeout then begins
    /// anew: never shortened. `rip` stays, so a handler that is about to run still sees EINTR.
    pub fn restart_interrupted_call(&mut self, thread: Pid) -> Result<(), Errno> {
        if restarting(&mut self.0) {
            ptrace::setregs(thread, self.0)?;
        }
        Ok(())
    }
}

/// The same for registers that will be given back later; whether anything had to be changed.
pub fn restarting(registers: &mut libc::user_regs_struct) -> bool {
    let call = registers.orig_rax as i64;
    let interrupted = registers.rax as i64 == -i64::from(libc::EINTR);
    let fails = call >= 0 && interrupted && FAIL_WITH_EINTR.contains(&call);
    if fails {
        registers.rax = -ERESTARTNOHAND as u64;
    }
    fails
}

/// Registers with which user mode itself begins the interrupted call anew, for where the kernel will not: the waiting time of
/// a call with a relative one begins anew with it.
pub fn restarted_by_hand(registers: &libc::user_regs_struct) -> libc::user_regs_struct {
    let mut registers = *registers;
    if registers.orig_rax as i64 >= 0 && RESTARTING.contains(&-(registers.rax as i64)) {
        registers.rax = registers.orig_rax;
        // The length of `syscall`.
        registers.rip -= 2;
    }
    registers.orig_rax = u64::MAX;
    registers
}

/// The C library's headers know it, the bindings do not yet.
const SYS_IO_PGETEVENTS: i64 = 333;

/// The calls that answer EINTR to any wake-up by a signal or a stop (`signal(7)`): event waits, and the socket calls, also
/// through `read` and `write`, of sockets with SO_RCVTIMEO or SO_SNDTIMEO. All others restart by themselves.
const FAIL_WITH_EINTR: [i64; 23] = [
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_select,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_io_getevents,
    SYS_IO_PGETEVENTS,
    libc::SYS_io_uring_enter,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
];
