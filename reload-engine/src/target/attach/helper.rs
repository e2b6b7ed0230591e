//! The attach helper: a short-lived process that loads the agent into a target by one of the target's own threads.
//!
//! At any instant it may be killed: the thread then goes on as it is, and whatever it was sent to do leads it back to where it
//! was by itself (see [`super::detour`]). Signal dispositions, descriptors and files of the target are left alone.

use std::{
    collections::BTreeMap,
    fs, io, mem,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc::{self, user_regs_struct},
    unistd::Pid,
};
use reload_protocol::START_SYMBOL;
use serde::{Deserialize, Serialize};

use super::{
    detour::{self, AREA, CODE, Call, DATA, Frame, Passed, SYSCALL, Text, VectorFormat},
    memory::Memory,
    passing::Parcel,
    safe_point::{self, SafePoints, Unfit},
    thread::{Missed, Stop, Thread},
};
use crate::target::{
    halt::{Halt, Step},
    helper::Controller,
    maps, registers,
};

/// The hidden first argument.
pub const ARGUMENT: &str = "__attach-target";
/// For finding a thread at a safe point.
const SEARCH: Duration = Duration::from_secs(10);
/// For one thread to stop.
const ARREST: Duration = Duration::from_millis(100);
/// For the thread to load the agent: its `dlopen` may have to wait for one of another thread's.
const DETOUR: Duration = Duration::from_secs(20);
/// For a stop that nothing can delay but the scheduler.
const SHORT: Duration = Duration::from_secs(5);
/// Signals that the thread itself may cause, by a fault: blocked they would end the process.
const FAULTS: [libc::c_int; 5] = [libc::SIGILL, libc::SIGTRAP, libc::SIGBUS, libc::SIGFPE, libc::SIGSEGV];

/// What the helper is asked to do, one line.
#[derive(Serialize, Deserialize)]
pub struct Job {
    pub pid: u32,
    /// The agent.
    pub library: PathBuf,
    pub way: Way,
}

/// How agent and store come together.
#[derive(Serialize, Deserialize)]
pub enum Way {
    /// The target has the same files under the same paths.
    Path { store: PathBuf },
    /// It has not: the agent comes as a descriptor, and with it a socket that is bound here.
    Descriptors { socket: PathBuf },
}

/// How it ended, one line.
#[derive(Serialize, Deserialize)]
pub enum Outcome {
    /// The agent is in the target and has been started.
    Started {
        /// How long one thread was kept from its work, in nanoseconds.
        detour_ns: u64,
        /// Looks at threads until one was at a safe point.
        looks: u32,
    },
    /// Nothing was changed.
    NotNow {
        reason: String,
    },
    NotPermitted,
    JobControl,
    /// The target is as before, but for memory that was mapped.
    Failed {
        reason: String,
    },
}

/// Why it did not work, with the outcome that it means.
struct Trouble(Outcome);

impl Trouble {
    fn failed(reason: impl Into<String>) -> Trouble {
        Trouble(Outcome::Failed { reason: reason.into() })
    }
}

impl From<Missed> for Trouble {
    fn from(missed: Missed) -> Trouble {
        match missed {
            Missed::NotPermitted => Trouble(Outcome::NotPermitted),
            Missed::JobControl => Trouble(Outcome::JobControl),
            Missed::Gone => Trouble::failed("its thread ended meanwhile"),
            Missed::Slow => Trouble::failed("its thread did not stop in time"),
            Missed::Signal => Trouble::failed("its thread received a signal meanwhile"),
            Missed::Kernel(errno) => Trouble::failed(format!("tracing its thread: {errno}")),
        }
    }
}

/// Does the one job that there is.
pub fn serve(controller: &mut Controller) -> io::Result<()> {
    // Without one the controller has ended.
    controller.next_order()?.map_or(Ok(()), |job| controller.answer(&carry_out(&job)))
}

fn carry_out(job: &Job) -> Outcome {
    attach(job).unwrap_or_else(|Trouble(outcome)| outcome)
}

fn attach(job: &Job) -> Result<Outcome, Trouble> {
    let memory = Memory::of(job.pid).map_err(|error| match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => Trouble(Outcome::NotPermitted),
        _ => Trouble::failed(format!("opening its memory: {error}")),
    })?;
    let halt = Halt::from_environment();
    let format = VectorFormat::of_this_machine();
    let parcel = match &job.way {
        Way::Path { .. } => None,
        Way::Descriptors { socket } => Some(
            Parcel::of(&job.library, socket)
                .map_err(|error| Trouble::failed(format!("preparing what is handed over: {error}")))?,
        ),
    };
    let mut search = Search::new(job.pid);
    let (thread, points) = search.find(&memory)?;
    let begun = Instant::now();
    halt.at(Step::Arrested);
    let mut detour = Detour::prepare(&thread, &memory, &points, &format)?;
    if let Some(parcel) = parcel {
        let mappings = maps::read(job.pid).map_err(|error| Trouble::failed(error.to_string()))?;
        detour.agent = parcel.loaded(&memory, &mappings).unwrap_or(0);
        detour.parcel = Some(parcel);
    }
    let status = detour.run(job, halt);
    // Whatever came of it.
    let restored = detour.restore();
    halt.at(Step::Restored);
    drop(thread);
    let status = status?;
    restored?;
    match status {
        0 | 1 => Ok(Outcome::Started { detour_ns: begun.elapsed().as_nanos() as u64, looks: search.looks }),
        other => Err(Trouble::failed(format!("the agent could not be started in it: errno {}", -other))),
    }
}

/// Looking for a thread at a safe point.
struct Search {
    pid: u32,
    looks: u32,
    /// Why threads were let go, and how often.
    reasons: BTreeMap<String, u32>,
    /// Did not stop in time: they may any moment.
    late: Vec<Thread>,
}

impl Search {
    fn new(pid: u32) -> Search {
        Search { pid, looks: 0, reasons: BTreeMap::new(), late: Vec::new() }
    }

    fn find(&mut self, memory: &Memory) -> Result<(Thread, SafePoints), Trouble> {
        let deadline = Instant::now() + SEARCH;
        let mut points: Option<SafePoints> = None;
        let mut round = 0;
        while Instant::now() < deadline {
            let mappings = maps::read(self.pid).map_err(|error| Trouble::failed(error.to_string()))?;
            if points.as_ref().is_none_or(|points| !points.hold_for(&mappings)) {
                points = match SafePoints::of(memory, &mappings) {
                    Ok(found) => Some(found),
                    Err(unfit) => {
                        self.note(match unfit {
                            Unfit::NoLibc => "glibc is not loaded in it".to_owned(),
                            Unfit::Lacks(what) => format!("its glibc lacks {what}"),
                        });
                        None
                    }
                };
            }
            if let Some(known) = &points
                && let Some(thread) = self.one_round(memory, known)?
            {
                match points.take() {
                    Some(points) => return Ok((thread, points)),
                    None => continue,
                }
            }
            round += 1;
            thread::sleep(safe_point::pause(round));
        }
        Err(Trouble(Outcome::NotNow { reason: self.explain() }))
    }

    /// Looks at every thread once.
    fn one_round(&mut self, memory: &Memory, points: &SafePoints) -> Result<Option<Thread>, Trouble> {
        self.collect_late();
        let mut threads: Vec<(u32, i32)> = self.threads();
        threads.sort_unstable();
        for (_, id) in threads {
            if self.late.iter().any(|thread| thread.id.as_raw() == id) {
                continue;
            }
            self.looks += 1;
            let thread = match Thread::arrest(Pid::from_raw(id), ARREST) {
                Ok(thread) => thread,
                Err((Missed::Slow, Some(thread))) => {
                    self.late.push(thread);
                    self.note("a thread does not stop (is it in a vfork, or waiting for storage?)".to_owned());
                    continue;
                }
                Err((Missed::Gone | Missed::Signal, _)) => continue,
                Err((missed, _)) => return Err(missed.into()),
            };
            let Ok(registers) = thread.registers() else { continue };
            if let Some(reason) = points.why_not(memory, &registers) {
                self.note(reason);
                continue;
            }
            // Not another program by now: nobody can call `exec` in this one's place without ending the thread.
            let mappings = maps::read(self.pid).map_err(|error| Trouble::failed(error.to_string()))?;
            if !points.hold_for(&mappings) {
                continue;
            }
            match own_stack(&mappings, &registers) {
                Ok(()) => return Ok(Some(thread)),
                Err(reason) => self.note(reason.to_owned()),
            }
        }
        Ok(None)
    }

    /// With how much they promise, the best first.
    fn threads(&self) -> Vec<(u32, i32)> {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/task", self.pid)) else { return Vec::new() };
        let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let promise = |id: i32| {
            let call = fs::read_to_string(format!("/proc/{}/task/{id}/syscall", self.pid)).unwrap_or_default();
            safe_point::promise(&call)
        };
        ids.map(|id| (promise(id), id)).collect()
    }

    fn collect_late(&mut self) {
        self.late.retain_mut(|thread| match thread.wait(Instant::now()) {
            Err(Missed::Slow) => true,
            Ok((Stop::Signal(signal), _)) => {
                thread.release(signal);
                false
            }
            // Dropped it is let go.
            _ => false,
        });
    }

    fn note(&mut self, reason: String) {
        *self.reasons.entry(reason).or_default() += 1;
    }

    fn explain(&self) -> String {
        let mut reasons: Vec<(&String, &u32)> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let told: Vec<String> =
            reasons.iter().take(3).map(|(reason, count)| format!("{reason} ({count} times)")).collect();
        format!("no thread was at a safe point within {} s: {}", SEARCH.as_secs(), told.join(", "))
    }
}

/// What the frame and the functions below it need at the most.
const ROOM: u64 = 24 << 10;

/// Below the stack pointer of a coroutine lies memory of somebody else's. The program's first stack has a name, and glibc puts
/// a thread's own block of memory on top of its stack.
fn own_stack(mappings: &[maps::Mapping], registers: &user_regs_struct) -> Result<(), &'static str> {
    let of = |address: u64| mappings.iter().find(|mapping| (mapping.start.0..mapping.end.0).contains(&address));
    let Some(stack) = of(registers.rsp) else { return Err("it has no stack") };
    let first = stack.label.as_deref() == Some("[stack]");
    if !first && !(registers.rsp..stack.end.0).contains(&registers.fs_base) {
        return Err("it runs on a stack that is not its thread's");
    }
    if registers.rsp - stack.start.0 < ROOM {
        return Err("its stack is nearly full");
    }
    Ok(())
}

/// One thread's way there and back.
struct Detour<'a> {
    thread: &'a Thread,
    memory: &'a Memory,
    points: &'a SafePoints,
    registers: user_regs_struct,
    vectors: Vec<u8>,
    mask: u64,
    /// Where the gadget finds the way back.
    frame: u64,
    /// What the thread has to be handed on the way, if it cannot open it.
    parcel: Option<Parcel>,
    /// Where an agent begins that is loaded already; 0: it is to be loaded.
    agent: u64,
}

impl<'a> Detour<'a> {
    /// Keeps the thread's state and lays out its way back. For the thread nothing has changed yet.
    fn prepare(
        thread: &'a Thread,
        memory: &'a Memory,
        points: &'a SafePoints,
        format: &VectorFormat,
    ) -> Result<Detour<'a>, Trouble> {
        let mut registers = thread.registers()?;
        registers::restarting(&mut registers);
        let vectors = thread.vector_state()?;
        let mask = thread.signal_mask()?;
        let frame = Frame::new(&registers, &vectors, mask, points.functions.restorer, format);
        memory
            .write(frame.at, &frame.bytes)
            .map_err(|error| Trouble::failed(format!("writing below its stack: {error}")))?;
        Ok(Detour { thread, memory, points, registers, vectors, mask, frame: frame.at, parcel: None, agent: 0 })
    }

    /// Sends the thread off. What the agent's start gave.
    fn run(&self, job: &Job, halt: Halt) -> Result<i64, Trouble> {
        let writable = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let anonymous = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        let mapping = [0, AREA, writable, anonymous, u64::MAX, 0];
        // With this the thread has left its course. Signals are blocked after it: a thread whose tracer dies in between
        // comes back with its mask.
        self.thread.set_registers(&detour::system_call(
            &self.registers,
            self.points.functions.gadget,
            self.frame,
            libc::SYS_mmap,
            mapping,
        ))?;
        let faults = FAULTS.iter().fold(0u64, |mask, signal| mask | 1 << (signal - 1));
        self.thread.set_signal_mask(!faults)?;
        halt.at(Step::Redirected);
        let area = self.finish_call(false, "mapping memory in it")?;
        halt.at(Step::Mapped);
        let call = self.call(job, area)?;
        let store = |address: u64, bytes: &[u8]| {
            self.memory
                .write(address, bytes)
                .map_err(|error| Trouble::failed(format!("writing to its memory: {error}")))
        };
        store(area, detour::stub())?;
        store(area + CODE, call.bytes())?;
        self.system_call(
            libc::SYS_mprotect,
            [area, CODE, (libc::PROT_READ | libc::PROT_EXEC) as u64, 0, 0, 0],
            "making code executable in it",
        )?;
        self.thread.set_registers(&detour::stub_call(&self.registers, area))?;
        halt.at(Step::Called);
        let call = self.until_it_leaves(job, area, halt)?;
        self.finish_call(true, "unmapping memory in it")?;
        halt.at(Step::Unmapped);
        if call.passing != 0 && call.passed.listener < 0 {
            let errno = Errno::from_raw(-call.received as i32);
            return Err(Trouble::failed(format!("handing the agent over through a pair of sockets: {errno}")));
        }
        if call.start == 0 {
            let text = if call.message == 0 { String::new() } else { self.memory.text(call.message, 512) };
            let text = if text.is_empty() { "its loader gives no reason".to_owned() } else { text };
            return Err(Trouble::failed(format!("its loader does not take the agent: {text}")));
        }
        Ok(call.status)
    }

    fn call(&self, job: &Job, area: u64) -> Result<Call, Trouble> {
        let functions = &self.points.functions;
        use std::os::unix::ffi::OsStrExt;

        let text = |path: &Path| {
            Text::of(path.as_os_str().as_bytes())
                .map_err(|error| Trouble::failed(format!("{}: {error}", path.display())))
        };
        let (library, store) = match &job.way {
            Way::Path { store } => (job.library.as_path(), store.as_path()),
            // Its number is known when it has come.
            Way::Descriptors { .. } => (Path::new(""), Path::new("")),
        };
        // SAFETY: integers, addresses and bytes, for all of which zero is a value.
        let zeroes: Call = unsafe { mem::zeroed() };
        let mut call = Call {
            errno_location: functions.errno_location,
            dlopen: functions.dlopen,
            dlsym: functions.dlsym,
            dlerror: functions.dlerror,
            gadget: functions.gadget,
            area,
            frame: self.frame,
            flags: functions.flags,
            start: self.agent,
            mxcsr: Call::MXCSR,
            passed: Passed::NONE,
            library: text(library)?,
            symbol: Text::of(START_SYMBOL.as_bytes()).map_err(|error| Trouble::failed(error.to_string()))?,
            store: text(store)?,
            ..zeroes
        };
        if self.parcel.is_some() {
            call.expect_files(area + CODE);
        }
        Ok(call)
    }

    /// The thread is about to receive the parcel.
    fn hand_over(&self, job: &Job, area: u64) -> Result<(), Trouble> {
        let bytes = self.memory.read_some(area + CODE, DATA as usize);
        let call = Call::from_bytes(&bytes).ok_or_else(|| Trouble::failed("its memory went away meanwhile"))?;
        let sent = self.parcel.as_ref().map_or(Ok(()), |parcel| parcel.send(job.pid, self.thread.id, call.pair[1]));
        sent.map_err(|error| Trouble::failed(format!("handing the agent over: {error}")))
    }

    /// It has received it: from here on the library has a name.
    fn name_library(&self, area: u64) -> Result<(), Trouble> {
        let at = area + CODE + mem::offset_of!(Call, passed) as u64;
        let number = self.memory.word(at + mem::offset_of!(Passed, library) as u64).unwrap_or(u64::MAX) as u32 as i32;
        if number < 0 {
            return Ok(());
        }
        let failed = |error: io::Error| Trouble::failed(format!("naming the agent in it: {error}"));
        let name = Text::of(format!("/proc/thread-self/./fd/{number}").as_bytes()).map_err(failed)?;
        self.memory.write(area + CODE + mem::offset_of!(Call, library) as u64, name.bytes()).map_err(failed)
    }

    fn system_call(&self, number: libc::c_long, arguments: [u64; 6], doing: &str) -> Result<u64, Trouble> {
        let registers =
            detour::system_call(&self.registers, self.points.functions.gadget, self.frame, number, arguments);
        self.thread.set_registers(&registers)?;
        self.finish_call(false, doing)
    }

    /// Lets the thread do the gadget's call, which it stands before, or at the beginning of if it has `entered` it.
    fn finish_call(&self, mut entered: bool, doing: &str) -> Result<u64, Trouble> {
        let deadline = Instant::now() + SHORT;
        loop {
            self.thread.resume()?;
            if self.next_stop(deadline, doing)? != Stop::Syscall {
                continue;
            }
            if entered {
                let result = self.thread.registers()?.rax;
                return match -(result as i64) {
                    error @ 1..4096 => Err(Trouble::failed(format!("{doing}: {}", Errno::from_raw(error as i32)))),
                    _ => Ok(result),
                };
            }
            entered = true;
        }
    }

    /// Lets the thread go through the stub until it is about to unmap the area; what is in it then.
    fn until_it_leaves(&self, job: &Job, area: u64, halt: Halt) -> Result<Call, Trouble> {
        let after = self.points.functions.gadget + SYSCALL;
        let deadline = Instant::now() + DETOUR;
        let mut calls = 0;
        let mut handed_over = false;
        loop {
            self.thread.resume()?;
            if self.next_stop(deadline, "loading the agent")? != Stop::Syscall {
                continue;
            }
            calls += 1;
            if calls == SOME_CALLS {
                halt.at(Step::Loading);
            }
            let registers = self.thread.registers()?;
            let in_stub = (area..area + CODE).contains(&registers.rip);
            if in_stub && registers.orig_rax == libc::SYS_recvmsg as u64 {
                // Once at the beginning of the call and once at its end.
                if handed_over {
                    self.name_library(area)?
                } else {
                    self.hand_over(job, area)?
                }
                handed_over = true;
                halt.at(Step::Passed);
            }
            if registers.rip == after && registers.orig_rax == libc::SYS_munmap as u64 && registers.rdi == area {
                halt.at(Step::Leaving);
                let bytes = self.memory.read_some(area + CODE, DATA as usize);
                return Call::from_bytes(&bytes).ok_or_else(|| Trouble::failed("its memory went away meanwhile"));
            }
        }
    }

    fn next_stop(&self, deadline: Instant, doing: &str) -> Result<Stop, Trouble> {
        match self.thread.wait(deadline) {
            Ok((Stop::Signal(signal), _)) if FAULTS.contains(&signal) => {
                let at = self.thread.registers().map(|registers| registers.rip).unwrap_or_default();
                Err(Trouble::failed(format!("{doing}: signal {signal} at {at:#x}")))
            }
            Ok((stop, _)) => Ok(stop),
            Err(Missed::Slow) => Err(Trouble::failed(format!("{doing}: not done in time{}", self.whereabouts()))),
            Err(missed) => Err(missed.into()),
        }
    }

    /// For the message: what the thread waits in.
    fn whereabouts(&self) -> String {
        let call = fs::read_to_string(format!("/proc/{}/syscall", self.thread.id)).unwrap_or_default();
        call.split(' ').next().map(|number| format!(" (it is in system call {})", number.trim())).unwrap_or_default()
    }

    /// Puts the thread back exactly where it was, including the system call that the kernel has to resume. That works only in
    /// a stop on the kernel's way out, after which it looks whether there is one.
    fn restore(&self) -> Result<(), Trouble> {
        let deadline = Instant::now() + SHORT;
        self.thread.interrupt();
        // One that is stopped at a system call or signal has to be let run into the interruption; one that runs comes by itself.
        let _ = self.thread.resume();
        let signal = loop {
            match self.thread.wait(deadline)? {
                (Stop::Interrupted, _) => break 0,
                (Stop::Signal(signal), _) if !FAULTS.contains(&signal) => break signal,
                (Stop::Signal(_) | Stop::Syscall, _) => self.thread.resume()?,
            }
        };
        debug_assert_eq!(signal, 0, "all others are blocked");
        // In this order: until the last step the frame would do the same.
        self.thread.set_signal_mask(self.mask)?;
        self.thread.set_vector_state(&mut self.vectors.clone())?;
        self.thread.set_registers(&self.registers)?;
        Ok(())
    }
}

/// System calls of the detour after which it is surely inside `dlopen`.
const SOME_CALLS: u32 = 8;
