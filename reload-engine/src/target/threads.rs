//! The threads of a target under ptrace: seized beforehand, stopped together, released by dropping the guard.
//!
//! Used only by the stop helper, a process of its own with a single thread. While threads are stopped nothing here
//! allocates: the list has spare room and files are read into the stack.

use std::{
    ffi::c_int,
    fs::File,
    io::{Read, Write},
    mem::MaybeUninit,
    ptr,
    time::{Duration, Instant},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::OFlag,
    libc,
    sys::{ptrace, stat::Mode},
    unistd::Pid,
};

use reload_protocol::signal_frame;

use super::{process::Status, registers::Registers};

/// Room for threads that are started while the others are being stopped.
const SPARE: usize = 1024;
/// After so long without an answer it is looked whether a thread sleeps uninterruptibly.
const ANSWER: Duration = Duration::from_millis(2);
/// How much earlier than the others those that wait are told to stop, how much for each, as the kernel wakes them one by one, and
/// at most.
const HEAD_START: Duration = Duration::from_millis(1);
const HEAD_START_EACH: Duration = Duration::from_micros(25);
const LONGEST_HEAD_START: Duration = Duration::from_millis(10);
/// Of more threads nobody asks who waits: that takes some 10 us each.
const MOST_LOOKED_AT: usize = 1000;

/// How often a thread that stands in the way is let run on, and how long the first time (it doubles): a thread that has to
/// wait for a processor gets nowhere in less.
const NUDGES: u32 = 12;
const NUDGE: Duration = Duration::from_micros(30);
const LONGEST_NUDGE: Duration = Duration::from_millis(1);
/// For the stops of those that were left behind, once nobody else is kept stopped. Uninterruptible sleep can last.
const SETTLING: Duration = Duration::from_secs(2);
const SETTLING_ASLEEP: Duration = Duration::from_millis(10);

/// Every thread of the target but the agent's.
pub struct Threads {
    process: Pid,
    agent: Vec<Pid>,
    listing: Dir,
    seized: Vec<Thread>,
    /// Whether it handles any signal at all.
    handles_signals: bool,
    /// For a piece of a thread's stack.
    stack: Box<[u8; signal_frame::WINDOW]>,
}

struct Thread {
    id: Pid,
    state: State,
    /// It slept when it was seized.
    waits: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// Told to stop, and the answer is still to be collected: until then a call it waits in may fail with EINTR.
    Interrupted,
    Stopped {
        pc: u64,
        stack: u64,
        /// It stands in its own code for no other reason than our interruption: no signal, no system call, no job control.
        movable: bool,
        /// To be delivered when it is released (0: none): it stopped on its way to receive this. A bare number, since the
        /// typed ones leave out real-time signals.
        signal: c_int,
    },
    /// In uninterruptible sleep (the parent of a `vfork`, slow storage): it stops before it runs a single instruction of its
    /// own. The program counter it will go on at and its stack pointer, if the kernel tells.
    InKernel {
        at: Option<(u64, u64)>,
    },
    Gone,
}

/// Why the threads could not be seized or stopped.
#[derive(Debug)]
pub enum Obstacle {
    /// Tracing this thread is not permitted.
    NotPermitted {
        thread: Pid,
    },
    /// Some thread did not answer in time.
    Slow,
    /// More threads than there is room for, or started faster than they are stopped.
    TooMany,
    Kernel {
        doing: &'static str,
        errno: Errno,
    },
}

impl Threads {
    /// Blocks SIGCHLD, by which the kernel tells of stops, and opens the list of threads. Nobody is seized yet.
    pub fn of(process: Pid, agent: Vec<Pid>) -> Result<Threads, Obstacle> {
        block_child_signal();
        let path = format!("/proc/{process}/task");
        let listing = Dir::open(path.as_str(), OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| Obstacle::Kernel { doing: "listing its threads", errno })?;
        let (seized, stack) = (Vec::with_capacity(2 * SPARE), Box::new([0; signal_frame::WINDOW]));
        Ok(Threads { process, agent, listing, seized, handles_signals: handles_signals(process), stack })
    }

    /// Seizes every thread that is not yet; they run on. Whether there was any. Those that wait come first.
    pub fn seize(&mut self) -> Result<bool, Obstacle> {
        // Who has had a handler is taken to have one still: all that costs is a look at the stacks.
        self.handles_signals = self.handles_signals || handles_signals(self.process);
        self.seized.retain(|thread| thread.state != State::Gone);
        self.seized.reserve(SPARE);
        let mut any = false;
        while self.seize_new()? {
            any = true;
            self.seized.reserve(SPARE);
        }
        if (2..=MOST_LOOKED_AT).contains(&self.seized.len()) {
            for thread in &mut self.seized {
                thread.waits = thread_state(self.process, thread.id) == Some(b'S');
            }
            self.seized.sort_unstable_by_key(|thread| !thread.waits);
        }
        Ok(any)
    }

    /// One pass over the list of threads, without allocating.
    fn seize_new(&mut self) -> Result<bool, Obstacle> {
        let Threads { process, agent, listing, seized, .. } = self;
        let mut new = false;
        for entry in listing.iter() {
            let entry = entry.map_err(|errno| Obstacle::Kernel { doing: "listing its threads", errno })?;
            let Some(id) = entry.file_name().to_str().ok().and_then(|name| name.parse().ok()).map(Pid::from_raw) else {
                continue;
            };
            if agent.contains(&id) || seized.iter().any(|thread| thread.id == id) {
                continue;
            }
            if seized.len() == seized.capacity() {
                return Err(Obstacle::TooMany);
            }
            let state = match ptrace::seize(id, ptrace::Options::empty()) {
                Ok(()) => State::Running,
                Err(_) if is_gone(*process, id) => State::Gone,
                Err(Errno::EPERM) => return Err(Obstacle::NotPermitted { thread: id }),
                Err(errno) => return Err(Obstacle::Kernel { doing: "seizing a thread", errno }),
            };
            new |= state == State::Running;
            seized.push(Thread { id, state, waits: false });
        }
        Ok(new)
    }

    /// Whether none of them is this process's tracee any more. One that was killed is until it has been waited for, and its
    /// parent does not learn of its end before.
    pub fn are_released(&self) -> bool {
        loop {
            // SAFETY: nothing is to be stored. This process has no children but tracees.
            match unsafe { libc::waitpid(-1, ptr::null_mut(), libc::__WALL | libc::WNOHANG) } {
                0 => return false,
                id if id > 0 => {}
                _ if Errno::last() == Errno::EINTR => {}
                _ => return Errno::last() == Errno::ECHILD,
            }
        }
    }

    /// Stops all of them, and those that they start meanwhile, until there is none that runs.
    pub fn stop(&mut self, deadline: Instant) -> Result<Stopped<'_>, Obstacle> {
        // Dropped on an error, it releases those already stopped.
        let mut stopped = Stopped { threads: self, since: Instant::now() };
        stopped.stop_waiting()?;
        if stopped.threads.seized.iter().any(|thread| !thread.waits) {
            stopped.since = Instant::now();
        }
        stopped.stop_from(0, deadline)?;
        Ok(stopped)
    }

    /// Collects the stops that are still to come after an interruption, and releases those threads too. Nobody is kept
    /// stopped while this waits. A thread that sleeps uninterruptibly for long stays ours until this process ends.
    pub fn settle(&mut self) {
        let begun = Instant::now();
        for thread in &mut self.seized {
            while let State::Interrupted | State::InKernel { .. } = thread.state {
                let asleep = matches!(thread.state, State::InKernel { .. });
                if begun.elapsed() > if asleep { SETTLING_ASLEEP } else { SETTLING } {
                    break;
                }
                thread.state = State::Interrupted;
                // What cannot be collected cannot be helped either.
                if thread.await_stop(self.process, begun + SETTLING).is_err() {
                    break;
                }
            }
            thread.release();
        }
    }
}

/// A stopped world. Dropping it lets every thread go on, with the signals they were about to receive.
pub struct Stopped<'a> {
    threads: &'a mut Threads,
    /// When those at work were told to stop, or all where none is. Who waited may have been stopped before.
    pub since: Instant,
}

impl Stopped<'_> {
    /// Stops those that wait, which have to be woken for it, while the others run on; as far as they come to it soon.
    fn stop_waiting(&mut self) -> Result<(), Obstacle> {
        let Threads { process, seized, .. } = &mut *self.threads;
        let count = seized.partition_point(|thread| thread.waits);
        let waiting = &mut seized[..count];
        waiting.iter_mut().for_each(Thread::interrupt);
        let soon = Instant::now() + (HEAD_START + HEAD_START_EACH * count as u32).min(LONGEST_HEAD_START);
        match waiting.iter_mut().try_for_each(|thread| thread.await_stop(*process, soon)) {
            // Whoever is at work has the processors that they need.
            Err(Obstacle::Slow) => Ok(()),
            other => other,
        }
    }

    /// Stops every thread from `index` on, and whoever is new after that.
    fn stop_from(&mut self, mut index: usize, deadline: Instant) -> Result<(), Obstacle> {
        loop {
            for thread in &mut self.threads.seized[index..] {
                thread.interrupt();
            }
            let process = self.threads.process;
            for thread in &mut self.threads.seized[index..] {
                thread.await_stop(process, deadline)?;
            }
            index = self.threads.seized.len();
            if !self.threads.seize_new()? {
                return Ok(());
            }
        }
    }

    /// Lets each thread that stands where `forbidden` holds run on for a moment, alone, until it stands elsewhere. Best
    /// effort: afterwards everyone is stopped again, but perhaps where they were.
    ///
    /// Not by single steps: the trap flag would outlive this process, should it be killed in the middle, and the SIGTRAP
    /// that then nobody expects would end the target.
    pub fn move_out(&mut self, forbidden: impl Fn(u64) -> bool, deadline: Instant) -> Result<(), Obstacle> {
        let Threads { process, seized, .. } = &mut *self.threads;
        let before = seized.len();
        let mut moved = false;
        for thread in seized {
            let mut time = NUDGE;
            for _ in 0..NUDGES {
                let in_the_way = matches!(thread.state, State::Stopped { pc, movable: true, .. } if forbidden(pc));
                if !in_the_way || Instant::now() + time > deadline {
                    break;
                }
                thread.run_for(time, *process, deadline)?;
                moved = true;
                time = (time * 2).min(LONGEST_NUDGE);
            }
        }
        // They may have started others.
        if moved && self.threads.seize_new()? { self.stop_from(before, deadline) } else { Ok(()) }
    }

    pub fn count(&self) -> usize {
        self.threads.seized.iter().filter(|thread| thread.state != State::Gone).count()
    }

    /// Whether any thread would go on at an address for which `forbidden` holds. One of which that is not known counts.
    pub fn any_at(&self, forbidden: impl Fn(u64) -> bool) -> bool {
        self.threads.seized.iter().any(|thread| match thread.state {
            State::Stopped { pc, .. } => forbidden(pc),
            State::InKernel { at } => at.is_none_or(|(pc, _)| forbidden(pc)),
            // They cannot be in a stopped world; if they were, nobody would know where.
            State::Running | State::Interrupted => true,
            State::Gone => false,
        })
    }

    /// Whether any thread is in a signal handler that returns to an address for which `forbidden` holds.
    pub fn any_returns_to(&mut self, forbidden: impl Fn(u64) -> bool) -> bool {
        let Threads { process, seized, handles_signals, stack: buffer, .. } = &mut *self.threads;
        *handles_signals
            && seized.iter().any(|thread| match thread.state {
                State::Stopped { stack, .. } | State::InKernel { at: Some((_, stack)) } => {
                    let read = |from, bytes: &mut [u8]| read_stack(*process, from, bytes);
                    signal_frame::any_returns_to(stack, buffer, read, &forbidden)
                }
                _ => false,
            })
    }
}

impl Drop for Stopped<'_> {
    /// Those that were at work first: for the others, which wait in the kernel, it makes no difference.
    fn drop(&mut self) {
        let seized = &mut self.threads.seized;
        seized.iter_mut().filter(|thread| thread.is_at_work()).for_each(Thread::release);
        seized.iter_mut().for_each(Thread::release);
    }
}

impl Thread {
    fn interrupt(&mut self) {
        // One in the kernel may have come out of it meanwhile: it is asked again.
        if let State::Running | State::InKernel { .. } = self.state {
            // An error means that it has ended, which waiting will show.
            let _ = ptrace::interrupt(self.id);
            self.state = State::Interrupted;
        }
    }

    fn is_at_work(&self) -> bool {
        matches!(self.state, State::Stopped { movable: true, .. })
    }

    /// Detaches it if it is stopped: only then can that be done, and only then is no answer of its lost.
    fn release(&mut self) {
        if let State::Stopped { signal, .. } = self.state {
            // The only failure is that it was killed meanwhile.
            // SAFETY: releases a thread that this process traces; no memory of ours is involved.
            unsafe { libc::ptrace(libc::PTRACE_DETACH, self.id.as_raw(), 0usize, signal as usize) };
            self.state = State::Gone;
        }
    }

    /// Lets it run, and stops it again.
    fn run_for(&mut self, time: Duration, process: Pid, deadline: Instant) -> Result<(), Obstacle> {
        if ptrace::cont(self.id, None).is_ok() {
            self.state = State::Running;
            std::thread::sleep(time);
            self.interrupt();
            self.await_stop(process, deadline)
        } else {
            // Killed in the meantime.
            self.state = State::Gone;
            Ok(())
        }
    }

    /// Waits until it has stopped, has ended, or is seen to sleep uninterruptibly.
    fn await_stop(&mut self, process: Pid, deadline: Instant) -> Result<(), Obstacle> {
        while self.state == State::Interrupted {
            let mut status = 0;
            // SAFETY: `status` is a valid place for the answer.
            let answered = unsafe { libc::waitpid(self.id.as_raw(), &mut status, libc::__WALL | libc::WNOHANG) };
            match answered {
                0 => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if !await_child_signal(left.min(ANSWER)) && sleeps_uninterruptibly(process, self.id) {
                        self.state = State::InKernel { at: blocked_at(process, self.id) };
                    } else if left.is_zero() {
                        return Err(Obstacle::Slow);
                    }
                }
                // The signal of a PTRACE_EVENT stop is not one to deliver. A stop of the whole group (SIGSTOP, SIGTSTP...)
                // is one, and the kernel keeps it across the detach.
                id if id > 0 && libc::WIFSTOPPED(status) => {
                    let (event, signal) = (status >> 16, libc::WSTOPSIG(status));
                    let interrupted = event == libc::PTRACE_EVENT_STOP && signal == libc::SIGTRAP;
                    self.note_stop(if event != 0 { 0 } else { signal }, interrupted)?;
                }
                id if id > 0 => self.state = State::Gone,
                _ => match Errno::last() {
                    Errno::ECHILD => self.state = State::Gone,
                    Errno::EINTR => {}
                    errno => return Err(Obstacle::Kernel { doing: "waiting for a thread to stop", errno }),
                },
            }
        }
        Ok(())
    }

    fn note_stop(&mut self, signal: c_int, interrupted: bool) -> Result<(), Obstacle> {
        // Stopped before anything else, so that it is released if this fails.
        self.state = State::Stopped { pc: 0, stack: 0, movable: false, signal };
        let read = Registers::of(self.id).and_then(|mut registers| {
            registers.restart_interrupted_call(self.id)?;
            Ok(registers)
        });
        match read {
            Ok(registers) => {
                let movable = interrupted && !registers.in_call();
                self.state = State::Stopped { pc: registers.pc(), stack: registers.stack(), movable, signal };
            }
            // Killed in the meantime.
            Err(Errno::ESRCH) => self.state = State::Gone,
            Err(errno) => return Err(Obstacle::Kernel { doing: "reading a thread's registers", errno }),
        }
        Ok(())
    }
}

fn block_child_signal() {
    let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is emptied before it is used.
    unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, signals.as_ptr(), ptr::null_mut());
    }
}

/// Waits for the kernel to tell of some stop. It latches: one that came before this call counts. `false` after so long.
fn await_child_signal(patience: Duration) -> bool {
    let patience = libc::timespec { tv_sec: 0, tv_nsec: patience.subsec_nanos().into() };
    let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is emptied before it is used; nothing is to be stored.
    unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGCHLD);
        libc::sigtimedwait(signals.as_ptr(), ptr::null_mut(), &patience) == libc::SIGCHLD
    }
}

fn is_gone(process: Pid, thread: Pid) -> bool {
    matches!(thread_state(process, thread), None | Some(b'Z' | b'X' | b'x'))
}

fn sleeps_uninterruptibly(process: Pid, thread: Pid) -> bool {
    thread_state(process, thread) == Some(b'D')
}

/// The letter in `/proc/PID/task/TID/stat`, after the name's closing parenthesis.
fn thread_state(process: Pid, thread: Pid) -> Option<u8> {
    let mut text = [0; 512];
    let text = read_thread_file(process, thread, "stat", &mut text)?;
    let name_end = text.iter().rposition(|&byte| byte == b')')?;
    text.get(name_end + 2).copied()
}

/// The last fields of `/proc/PID/task/TID/syscall`: where it will go on in user mode, and its stack pointer; `None` while it
/// runs.
fn blocked_at(process: Pid, thread: Pid) -> Option<(u64, u64)> {
    let mut text = [0; 512];
    let text = str::from_utf8(read_thread_file(process, thread, "syscall", &mut text)?).ok()?;
    let mut last = text.trim_end().rsplit(' ').map(|field| u64::from_str_radix(field.strip_prefix("0x")?, 16).ok());
    let (pc, stack) = (last.next()??, last.next()??);
    Some((pc, stack))
}

/// Where that cannot be read, it may.
fn handles_signals(process: Pid) -> bool {
    let status = Status::of(process.as_raw() as u32).ok();
    status.and_then(|status| status.caught_signals) != Some(0)
}

/// Reads from `from` upwards, up to the end of what is mapped; how many bytes.
fn read_stack(process: Pid, from: u64, bytes: &mut [u8]) -> usize {
    const PAGE: u64 = 4096;
    const PAGES: usize = signal_frame::WINDOW / PAGE as usize + 1;
    let mut pieces = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; PAGES];
    let (mut at, end) = (from, from.saturating_add(bytes.len() as u64));
    let mut count = 0;
    // The kernel reads a piece whole or not at all.
    while at < end && count < PAGES {
        let next = (at | (PAGE - 1)).saturating_add(1).min(end);
        pieces[count] = libc::iovec { iov_base: at as *mut libc::c_void, iov_len: (next - at) as usize };
        (at, count) = (next, count + 1);
    }
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: writes into `bytes` only, no more than it holds; the pieces are addresses of the other process.
    let read =
        unsafe { libc::process_vm_readv(process.as_raw(), &local, 1, pieces.as_ptr(), count as libc::c_ulong, 0) };
    usize::try_from(read).unwrap_or(0)
}

fn read_thread_file<'a>(process: Pid, thread: Pid, name: &str, buffer: &'a mut [u8; 512]) -> Option<&'a [u8]> {
    let mut path = [0; 64];
    let mut rest = &mut path[..];
    write!(rest, "/proc/{process}/task/{thread}/{name}").ok()?;
    let unused = rest.len();
    let path = str::from_utf8(&path[..64 - unused]).ok()?;
    let len = File::open(path).ok()?.read(buffer).ok()?;
    Some(&buffer[..len])
}
