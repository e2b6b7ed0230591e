//! The fall-back where the target cannot be traced: its threads are stopped by a signal from inside the process.
//!
//! Unlike the stop from outside it interrupts system calls (EINTR), and it cannot stop a thread that blocks the signal; the
//! receipt tells which of the two was used.
//!
//! From the first signal until the release nothing here allocates or locks. The handler is never removed while a signal may
//! still be on its way: the default action of a real-time signal ends the process.

use std::{
    ffi::{c_int, c_void},
    fs,
    mem::MaybeUninit,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reload_protocol::signal_frame;

use crate::{
    errno, memory, registers, set_errno,
    transaction::Staged,
    window::{self, Obstacle, Window},
};

/// A thread that has not answered by then (blocked in uninterruptible sleep, or without the signal) is not waited for.
const PARK_TIMEOUT: Duration = Duration::from_secs(1);
const ATTEMPTS: u32 = 50;
const RETRY_AFTER: Duration = Duration::from_millis(2);
/// Room for threads that are started while the others are being stopped.
const SPARE: usize = 1024;

/// The signal whose handler is (still) ours, or 0.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// Odd while threads are to park.
static EPOCH: AtomicU32 = AtomicU32::new(0);
static SLOTS: AtomicPtr<Slot> = AtomicPtr::new(ptr::null_mut());
static SLOT_COUNT: AtomicUsize = AtomicUsize::new(0);
static PARKED: AtomicUsize = AtomicUsize::new(0);
/// Runs of the handler that have begun and ended, ever.
static RETURNED: AtomicU64 = AtomicU64::new(0);

/// One parked thread.
#[derive(Default)]
struct Slot {
    thread: AtomicI32,
    /// Its program counter and stack pointer, and the epoch it was parked in (written last).
    pc: AtomicU64,
    stack: AtomicU64,
    epoch: AtomicU32,
}

pub enum Stopped {
    Committed { pause_ns: u64, threads: u32 },
    NotNow(String),
    Failed(String),
}

/// What ended an attempt, without strings: threads are stopped.
enum Attempt {
    Committed { pause_ns: u64, threads: u32 },
    InTheWay { pc: u64 },
    InHandler { thread: i32 },
    NotParked { thread: i32 },
    TooMany,
    Obstacle(Obstacle),
}

/// Stops every thread but the agent's own and commits.
pub fn commit(staged: &Arc<Staged>, agent: &[u32]) -> Stopped {
    let Some(tasks) = Tasks::open() else { return Stopped::Failed("reading /proc/self/task".into()) };
    let signal = match choose_signal(agent) {
        Ok(signal) => signal,
        Err(message) => return Stopped::NotNow(message),
    };
    let before = match install(signal) {
        Ok(before) => before,
        Err(errno) => return Stopped::Failed(format!("installing the handler of signal {signal}: errno {errno}")),
    };
    let count = fs::read_dir("/proc/self/task").map_or(0, Iterator::count) + SPARE;
    let slots: Vec<Slot> = (0..count).map(|_| Slot::default()).collect();
    SLOTS.store(slots.as_ptr().cast_mut(), Ordering::Release);
    SLOT_COUNT.store(slots.len(), Ordering::Release);
    let stack = Box::new([0; signal_frame::WINDOW]);
    let mut world = World { tasks, agent, signal, slots, sent: Vec::with_capacity(count), stack };

    let mut expected = RETURNED.load(Ordering::Acquire);
    let mut outcome = Attempt::TooMany;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            std::thread::sleep(RETRY_AFTER);
        }
        world.sent.clear();
        outcome = world.attempt(staged);
        expected += world.sent.len() as u64;
        if !matches!(outcome, Attempt::InTheWay { .. } | Attempt::InHandler { .. }) {
            break;
        }
    }
    if everyone_left(expected, &world.sent) {
        restore(signal, &before);
    } else {
        // A signal is still on its way to somebody, and the handler will look at the slots then.
        std::mem::forget(world.slots);
    }
    match outcome {
        Attempt::Committed { pause_ns, threads } => Stopped::Committed { pause_ns, threads },
        Attempt::InTheWay { pc } => Stopped::NotNow(format!("a thread stood at {pc:#x}, which is to be written")),
        Attempt::InHandler { thread } => Stopped::NotNow(format!(
            "thread {thread} is in a signal handler, which interrupted it inside bytes to be written"
        )),
        Attempt::NotParked { thread } => {
            Stopped::NotNow(format!("thread {thread} did not stop within 1 s of signal {signal}"))
        }
        Attempt::TooMany => Stopped::NotNow("threads were started faster than they could be stopped".into()),
        Attempt::Obstacle(obstacle) => Stopped::Failed(obstacle.describe()),
    }
}

/// What it takes to stop the threads, allocated beforehand.
struct World<'a> {
    tasks: Tasks,
    agent: &'a [u32],
    signal: c_int,
    slots: Vec<Slot>,
    /// The threads that were signalled in this attempt; room for as many as there are slots.
    sent: Vec<i32>,
    /// For a piece of a thread's stack.
    stack: Box<[u8; signal_frame::WINDOW]>,
}

impl World<'_> {
    fn attempt(&mut self, staged: &Arc<Staged>) -> Attempt {
        PARKED.store(0, Ordering::Release);
        let begun = Instant::now();
        let epoch = EPOCH.fetch_add(1, Ordering::AcqRel) + 1;
        let outcome = match self.park_all(epoch) {
            Err(attempt) => attempt,
            Ok(()) => match self.in_the_way(epoch, staged) {
                Some(attempt) => attempt,
                None => match Window::close(staged) {
                    Ok(window) => {
                        window.write();
                        Attempt::Committed { pause_ns: 0, threads: self.sent.len() as u32 }
                    }
                    Err(obstacle) => Attempt::Obstacle(obstacle),
                },
            },
        };
        // Nobody ran while the window was closed. (`close` may have installed the handler even where it failed.)
        window::restore_disposition();
        EPOCH.fetch_add(1, Ordering::AcqRel);
        wake();
        match outcome {
            Attempt::Committed { threads, .. } => {
                Attempt::Committed { pause_ns: begun.elapsed().as_nanos() as u64, threads }
            }
            other => other,
        }
    }

    /// Signals every thread and waits until each has parked; again, until a listing after that shows no new one.
    fn park_all(&mut self, epoch: u32) -> Result<(), Attempt> {
        let deadline = Instant::now() + PARK_TIMEOUT;
        // SAFETY: cannot fail.
        let process = unsafe { libc::getpid() };
        loop {
            let before = self.sent.len();
            self.signal_new(process)?;
            if self.sent.len() == before {
                return Ok(());
            }
            while self.parked(epoch).count() < self.sent.len() {
                if Instant::now() > deadline {
                    let missing = self.sent.iter().copied().find(|&thread| !has_parked(&self.slots, epoch, thread));
                    return Err(Attempt::NotParked { thread: missing.unwrap_or(0) });
                }
                let World { sent, slots, .. } = self;
                sent.retain(|&thread| has_parked(slots, epoch, thread) || exists(process, thread));
                // SAFETY: gives the processor to the threads that are to run into the handler.
                unsafe { libc::syscall(libc::SYS_sched_yield) };
            }
        }
    }

    fn signal_new(&mut self, process: c_int) -> Result<(), Attempt> {
        let World { tasks, agent, signal, slots, sent, .. } = self;
        let mut room = true;
        tasks.each(|thread| {
            if agent.contains(&(thread as u32)) || sent.contains(&thread) {
                return;
            }
            room &= sent.len() < slots.len();
            // SAFETY: `tgkill` with a thread of this process; it may have ended, which is an error and harmless.
            if room && unsafe { libc::syscall(libc::SYS_tgkill, process, thread, *signal) } == 0 {
                sent.push(thread);
            }
        });
        if room { Ok(()) } else { Err(Attempt::TooMany) }
    }

    /// A parked thread that would go on inside bytes to be written, now or when it returns from a handler of the host's.
    fn in_the_way(&mut self, epoch: u32, staged: &Staged) -> Option<Attempt> {
        let World { slots, stack: buffer, .. } = self;
        parked(slots, epoch).find_map(|slot| {
            let pc = slot.pc.load(Ordering::Acquire);
            if staged.forbids(pc) {
                return Some(Attempt::InTheWay { pc });
            }
            let stack = slot.stack.load(Ordering::Acquire);
            let returns = signal_frame::any_returns_to(stack, buffer, read_stack, |pc| staged.forbids(pc));
            returns.then(|| Attempt::InHandler { thread: slot.thread.load(Ordering::Acquire) })
        })
    }

    fn parked(&self, epoch: u32) -> impl Iterator<Item = &Slot> {
        parked(&self.slots, epoch)
    }
}

fn parked(slots: &[Slot], epoch: u32) -> impl Iterator<Item = &Slot> {
    let taken = PARKED.load(Ordering::Acquire).min(slots.len());
    slots[..taken].iter().filter(move |slot| slot.epoch.load(Ordering::Acquire) == epoch)
}

/// Reads from `from` upwards, up to the end of what is mapped; how many bytes.
fn read_stack(from: u64, bytes: &mut [u8]) -> usize {
    let mut read = 0;
    while read < bytes.len() {
        let at = from.saturating_add(read as u64);
        let piece = ((memory::PAGE - at % memory::PAGE) as usize).min(bytes.len() - read);
        if !memory::read_into(at, &mut bytes[read..read + piece]) {
            break;
        }
        read += piece;
    }
    read
}

fn has_parked(slots: &[Slot], epoch: u32, thread: i32) -> bool {
    let parked = |slot: &&Slot| slot.epoch.load(Ordering::Acquire) == epoch;
    slots.iter().filter(parked).any(|slot| slot.thread.load(Ordering::Acquire) == thread)
}

fn exists(process: i32, thread: i32) -> bool {
    // SAFETY: signal 0 only asks.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, 0) == 0 }
}

/// Waits a moment for the handlers to return; threads that have ended will not.
fn everyone_left(expected: u64, last_sent: &[i32]) -> bool {
    let deadline = Instant::now() + PARK_TIMEOUT;
    while RETURNED.load(Ordering::Acquire) < expected {
        // SAFETY: cannot fail.
        let process = unsafe { libc::getpid() };
        if Instant::now() > deadline || !last_sent.iter().any(|&thread| exists(process, thread)) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

unsafe extern "C" fn on_signal(_signal: c_int, _info: *mut libc::siginfo_t, context: *mut c_void) {
    let saved = errno();
    let epoch = EPOCH.load(Ordering::Acquire);
    if epoch % 2 == 1 {
        // SAFETY: with SA_SIGINFO the kernel passes a valid context for the duration of the handler.
        let (pc, stack) = unsafe { (registers::pc(context), registers::stack(context)) };
        let index = PARKED.fetch_add(1, Ordering::AcqRel);
        if index < SLOT_COUNT.load(Ordering::Acquire) {
            // SAFETY: the slots live at least as long as any handler that may look at them (`commit`).
            let slot = unsafe { &*SLOTS.load(Ordering::Acquire).add(index) };
            // SAFETY: cannot fail.
            slot.thread.store(unsafe { libc::syscall(libc::SYS_gettid) } as i32, Ordering::Release);
            slot.pc.store(pc, Ordering::Release);
            slot.stack.store(stack, Ordering::Release);
            slot.epoch.store(epoch, Ordering::Release);
            while EPOCH.load(Ordering::Acquire) == epoch {
                let forever = ptr::null::<libc::timespec>();
                // SAFETY: waits on a static of ours while it still has the value seen.
                unsafe {
                    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
                    libc::syscall(libc::SYS_futex, EPOCH.as_ptr(), operation, epoch, forever);
                }
            }
        }
    }
    RETURNED.fetch_add(1, Ordering::AcqRel);
    set_errno(saved);
}

fn wake() {
    // SAFETY: wakes whoever waits on a static of ours.
    unsafe { libc::syscall(libc::SYS_futex, EPOCH.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, c_int::MAX) };
}

/// A real-time signal that the host does nothing with and no thread blocks.
fn choose_signal(agent: &[u32]) -> Result<c_int, String> {
    let kept = SIGNAL.load(Ordering::Acquire);
    if kept != 0 {
        return Ok(kept);
    }
    let own = std::process::id();
    let mut blocked_by: Option<String> = None;
    let mut blocked = 0u64;
    let tasks = fs::read_dir("/proc/self/task").map_err(|error| format!("/proc/self/task: {error}"))?;
    for task in tasks.flatten() {
        let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if field("Pid:").and_then(|pid| pid.parse().ok()).is_some_and(|thread| agent.contains(&thread)) {
            continue;
        }
        let mask = field("SigBlk:").and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
        if mask >> (libc::SIGRTMAX() - 1) & 1 == 1 && blocked_by.is_none() {
            blocked_by = Some(format!("{} ({})", field("Pid:").unwrap_or("?"), field("Name:").unwrap_or("?")));
        }
        blocked |= mask;
    }
    (libc::SIGRTMIN()..=libc::SIGRTMAX())
        .rev()
        .find(|&signal| blocked >> (signal - 1) & 1 == 0 && unused(signal))
        .ok_or_else(|| match blocked_by {
            Some(thread) => format!("thread {thread} of process {own} blocks every signal that could stop it"),
            None => format!("process {own} uses every real-time signal"),
        })
}

fn unused(signal: c_int) -> bool {
    let mut current = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: only asks; `current` is written before it is read.
    unsafe {
        libc::sigaction(signal, ptr::null(), current.as_mut_ptr()) == 0
            && (*current.as_ptr()).sa_sigaction == libc::SIG_DFL
    }
}

fn install(signal: c_int) -> Result<libc::sigaction, i32> {
    let mut ours = MaybeUninit::<libc::sigaction>::zeroed();
    let mut before = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: all zeroes is a valid `sigaction`; the handler is async-signal-safe and part of a library that stays.
    unsafe {
        libc::sigfillset(&raw mut (*ours.as_mut_ptr()).sa_mask);
        let ours = ours.assume_init_mut();
        ours.sa_sigaction = on_signal as *const () as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        if libc::sigaction(signal, ours, before.as_mut_ptr()) != 0 {
            return Err(errno());
        }
        SIGNAL.store(signal, Ordering::Release);
        Ok(before.assume_init())
    }
}

fn restore(signal: c_int, before: &libc::sigaction) {
    // Kept from an earlier commit: it was not ours to give back then, and still is not.
    if before.sa_sigaction == on_signal as *const () as usize {
        return;
    }
    // SAFETY: the disposition that `install` replaced.
    if unsafe { libc::sigaction(signal, before, ptr::null_mut()) } == 0 {
        SIGNAL.store(0, Ordering::Release);
    }
}

/// `/proc/self/task`, opened beforehand: listing it again allocates nothing.
struct Tasks(*mut libc::DIR);

impl Tasks {
    fn open() -> Option<Tasks> {
        // SAFETY: a terminated path.
        let directory = unsafe { libc::opendir(c"/proc/self/task".as_ptr()) };
        (!directory.is_null()).then_some(Tasks(directory))
    }

    fn each(&self, mut visit: impl FnMut(i32)) {
        // SAFETY: an open directory that only this thread uses; `readdir`'s entry is valid until the next call.
        unsafe {
            libc::rewinddir(self.0);
            loop {
                let entry = libc::readdir(self.0);
                if entry.is_null() {
                    return;
                }
                let name = &(*entry).d_name;
                let digits = name.iter().map(|&byte| byte as u8).take_while(u8::is_ascii_digit);
                let thread =
                    digits.fold(0i32, |number, digit| number.wrapping_mul(10).wrapping_add((digit - b'0').into()));
                if thread > 0 {
                    visit(thread);
                }
            }
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        // SAFETY: opened by `open`, closed only here.
        unsafe { libc::closedir(self.0) };
    }
}
