//! Targets for real: a C host started with the agent, its threads running through patched code while it is patched.
//!
//! Not the standard test runner: this program is its own stop helper, so its `main` must look for that first.

use std::{
    ffi::OsString,
    fs,
    io::{Read, Write},
    os::unix::{
        fs::{FileExt, PermissionsExt},
        net::UnixStream,
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Failed, Trial};
use nix::{
    sys::{
        signal::{SigSet, Signal, kill},
        socket::{ControlMessage, MsgFlags, sendmsg},
    },
    unistd::Pid,
};
use object::{Object, ObjectSymbol};
use reload_engine::{
    error::Error,
    target::{
        helper_main,
        launch::{LaunchOptions, Launched, launch},
        link::AgentLink,
        process,
        stop::{StopHelper, commit},
        store::{StoreRoot, TargetFolder},
    },
};
use reload_protocol::{
    LoadedModule, Merge, Notice, Patch, Range, Reply, Request, Segment, Transaction, VERSION, Write as DataWrite,
    receive, send,
};

const COUNT: u64 = 400;
const STRIDE: u64 = 64;
const PATIENCE: Duration = Duration::from_secs(60);
/// Started as another user, this program only tries to talk to an agent.
const INTRUDER: &str = "__intrude";

// The board's counters, as in `hosts/host.c`.
const READY: usize = 0;
const SWEEPS: usize = 1;
const BACKWARDS: usize = 2;
const SEEN: usize = 3;
const WAITS: usize = 4;
const FAILED: usize = 5;
const EARLY: usize = 6;
const LOWEST_FD: usize = 7;
const FAULTS: usize = 8;
const CHILD: usize = 9;
const SENT: usize = 10;
const HANDLED: usize = 11;
const KINDS: usize = 16;

type Outcome = Result<(), Failed>;
type Case = (&'static str, fn() -> Outcome);

fn main() -> ExitCode {
    if let Some(code) = helper_main() {
        return code;
    }
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(INTRUDER) {
        return intrude(&arguments.next().unwrap_or_default());
    }
    let tests: [Case; 30] = [
        ("launch_lists_modules_and_takes_no_low_descriptor", launch_lists_modules),
        ("launch_of_a_short_program", launch_of_a_short_program),
        ("launch_refuses_a_static_program", launch_refuses_a_static_program),
        ("launch_from_a_thread_with_blocked_signals", launch_with_blocked_signals),
        ("ledger_of_two_controllers", ledger_of_two_controllers),
        ("lost_owner_leaves_no_shadow", lost_owner_leaves_no_shadow),
        ("shadow_lands_near_library_and_executable", shadow_lands_near),
        ("bind_writes_read_only_data", bind_writes),
        ("commit_from_outside_under_load", commit_from_outside),
        ("commit_by_signal_under_load", commit_by_signal),
        ("signal_stop_cannot_reach_a_deaf_thread", deaf_thread),
        ("thread_inside_the_patch", thread_inside_the_patch),
        ("threads_hammering_on_a_patch_are_moved_out", hammered_patch),
        ("changed_code_is_not_overwritten", changed_code),
        ("merged_value_spares_what_the_program_has_changed", merged_value),
        ("waits_are_neither_interrupted_nor_shortened", waits_are_kept),
        ("waits_are_kept_on_a_loaded_machine", waits_under_load),
        ("one_helper_serves_many_commits", one_helper),
        ("target_killed_while_it_is_stopped", target_killed),
        ("helper_killed_at_each_step", helper_killed),
        ("helper_killed_at_any_instant", helper_killed_anywhere),
        ("hostile_frames_and_other_users", hostile_frames),
        ("descriptors_that_nobody_asked_for", unasked_descriptors),
        ("forked_child_has_no_agent", forked_child),
        ("signals_are_neither_lost_nor_doubled", signals_are_kept),
        ("vfork_parent_counts_as_stopped", vfork_parent),
        ("threads_started_while_stopping", thread_storm),
        ("launcher_under_a_seccomp_filter", seccomp_filter),
        ("traced_target_is_stopped_by_signal", traced_target),
        ("a_trap_would_end_a_thread_that_blocks_its_signal", blocked_trap),
    ];
    let trial = |(name, test): Case| Trial::test(name, test);
    libtest_mimic::run(&Arguments::from_args(), tests.into_iter().map(trial).collect()).exit_code()
}

/// A running host with its agent, ended and swept when dropped.
struct Target {
    launched: Launched,
    link: AgentLink,
    library: LoadedModule,
    folder: tempfile::TempDir,
}

impl Target {
    fn start(kinds: &[&str]) -> Result<Target, Failed> {
        Target::start_through(None, kinds)
    }

    fn start_through(launcher: Option<&str>, kinds: &[&str]) -> Result<Target, Failed> {
        let folder = tempfile::tempdir()?;
        let library = compile(folder.path(), "library")?;
        let host = compile(folder.path(), "host")?;
        let board = folder.path().join("board");
        let launcher = launcher.map(|launcher| compile(folder.path(), launcher)).transpose()?;
        let mut command: Vec<OsString> = launcher.into_iter().map(OsString::from).collect();
        command.extend([host.into(), library.clone().into(), board.into()]);
        command.extend(kinds.iter().map(OsString::from));
        let mut launched = launch(&command, &options(folder.path())?)?;
        let link = launched.link.take().ok_or("the host ended at once")?;
        let nowhere = LoadedModule { path: String::new(), bias: 0, start: 0, end: 0, tls_module: 0 };
        let mut target = Target { launched, link, library: nowhere, folder };
        target.wait_for("the host's start", |target| target.board(READY) == 1)?;
        let path = library.to_str().ok_or("path")?;
        let modules = target.link.modules()?;
        target.library = modules.into_iter().find(|module| module.path == path).ok_or("the library is not listed")?;
        Ok(target)
    }

    fn board(&self, counter: usize) -> u64 {
        let bytes = fs::read(self.folder.path().join("board")).unwrap_or_default();
        bytes.chunks_exact(8).nth(counter).map_or(0, |bytes| u64::from_ne_bytes(bytes.try_into().expect("eight bytes")))
    }

    fn wait_for(&self, what: &str, done: impl Fn(&Target) -> bool) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            if Instant::now() > deadline {
                return Err(format!("{what}: not within {PATIENCE:?}").into());
            }
            if !process::is_alive(self.launched.pid) {
                return Err(format!("{what}: the target has ended").into());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Every sweeping thread has been through all functions since now.
    fn sweep(&self) -> Outcome {
        let before = self.board(SWEEPS);
        self.wait_for("two sweeps", |target| target.board(SWEEPS) > before + 100)
    }

    fn address(&self, symbol: &str) -> Result<u64, Failed> {
        Ok(self.library.bias + symbol_of(Path::new(&self.library.path), symbol)?)
    }

    fn text(&self) -> Result<Segment, Failed> {
        let functions = self.address("functions")?;
        let mappings = reload_engine::target::maps::read(self.launched.pid)?;
        let mapping = mappings.iter().find(|mapping| (mapping.start.0..mapping.end.0).contains(&functions));
        let mapping = mapping.ok_or("the text is not mapped")?;
        Ok(Segment { range: Range { start: mapping.start.0, len: mapping.end.0 - mapping.start.0 }, protection: 5 })
    }

    /// From one version of all functions to another.
    fn transaction(&self, from: u32, to: u32, ledger: &[u8]) -> Result<Transaction, Failed> {
        let functions = self.address("functions")?;
        let bytes = |version: u32| {
            let [a, b, c, d] = version.to_le_bytes();
            [0xb8, a, b, c, d, 0, 0, 0]
        };
        let patch =
            |index| Patch { address: functions + index * STRIDE, len: 5, before: bytes(from), after: bytes(to) };
        Ok(Transaction {
            patches: (0..COUNT).map(patch).collect(),
            text: vec![self.text()?],
            ledger: ledger.to_vec(),
            ..Transaction::default()
        })
    }

    fn stage(&mut self, from: u32, to: u32) -> Result<u64, Failed> {
        let (revision, _) = self.link.ledger()?;
        self.link.begin(revision)?;
        let transaction = self.transaction(from, to, format!("version {to}").as_bytes())?;
        Ok(self.link.stage(transaction)?)
    }

    /// The version that every function has; an error if they differ.
    fn version(&mut self) -> Result<u32, Failed> {
        let functions = self.address("functions")?;
        let ranges = (0..COUNT).map(|index| Range { start: functions + index * STRIDE + 1, len: 4 }).collect();
        let mut versions = self.link.read_memory(ranges)?;
        versions.dedup();
        match versions.as_slice() {
            [one] => Ok(u32::from_le_bytes(one.as_slice().try_into()?)),
            several => Err(format!("half-written: {several:?}").into()),
        }
    }

    fn catches_sigsegv(&self) -> Result<bool, Failed> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.launched.pid))?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).ok_or("SigCgt")?;
        Ok(u64::from_str_radix(caught.trim(), 16)? >> (11 - 1) & 1 == 1)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let child = self.board(CHILD) as i32;
        if child > 0 {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.launched.child.kill();
        let _ = self.launched.child.wait();
    }
}

fn options(folder: &Path) -> Result<LaunchOptions, Failed> {
    Ok(LaunchOptions { patience: PATIENCE, store: Some(StoreRoot::at(&folder.join("store"))?) })
}

fn compile(folder: &Path, name: &str) -> Result<PathBuf, Failed> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts").join(name).with_extension("c");
    let (output, kind): (_, &[&str]) = match name {
        "library" => (folder.join(name).with_extension("so"), &["-shared", "-fPIC", "-DLIBRARY_COUNT=\"400\""]),
        _ => (folder.join(name), &["-pthread"]),
    };
    let status = Command::new("cc").args(["-O1", "-g"]).args(kind).arg(&source).arg("-o").arg(&output).status()?;
    if status.success() { Ok(output) } else { Err(format!("compiling {}", source.display()).into()) }
}

fn symbol_of(path: &Path, name: &str) -> Result<u64, Failed> {
    let bytes = fs::read(path)?;
    let file = object::File::parse(&*bytes)?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(name)).ok_or("no such symbol")?;
    Ok(symbol.address())
}

fn check(condition: bool, what: &str) -> Outcome {
    if condition { Ok(()) } else { Err(what.into()) }
}

fn launch_lists_modules() -> Outcome {
    let mut target = Target::start(&["handler"])?;
    let modules = target.link.modules()?;
    check(modules[0].path.is_empty() && modules[0].bias != 0, "the executable comes first")?;
    check(
        modules.iter().any(|module| module.path.ends_with("libc.so.6") && module.tls_module != 0),
        "libc with its TLS",
    )?;
    check(target.link.welcome().pid == target.launched.pid, "the agent's pid")?;
    check(target.board(LOWEST_FD) == 3, "the host gets the lowest numbers")?;
    let extra = compile(target.folder.path(), "library")?;
    let copy = extra.with_file_name("added later.so");
    fs::copy(&extra, &copy)?;
    let loaded = target.link.dlopen(&copy)?;
    check(Some(loaded.path.as_str()) == copy.to_str(), "dlopen on the user's behalf")?;
    let missing = target.link.dlopen(Path::new("/no/such.so"));
    check(
        matches!(missing, Err(Error::Agent(message)) if message.contains("/no/such.so")),
        "its failure names the file",
    )
}

fn launch_of_a_short_program() -> Outcome {
    let folder = tempfile::tempdir()?;
    for command in [vec!["true".into()], vec!["sh".into(), "-c".into(), "exit 3".into()]] {
        let mut launched = launch(&command, &options(folder.path())?)?;
        drop(launched.link.take());
        launched.child.wait()?;
    }
    Ok(())
}

fn launch_refuses_a_static_program() -> Outcome {
    let folder = tempfile::tempdir()?;
    let source = folder.path().join("static.c");
    fs::write(&source, "int main(void) { return 0; }")?;
    let program = folder.path().join("static");
    let status = Command::new("cc").arg("-static").arg(&source).arg("-o").arg(&program).status()?;
    check(status.success(), "linking a static program")?;
    let refused = launch(&[program.into()], &options(folder.path())?);
    check(
        matches!(refused, Err(Error::Unsupported(message)) if message.contains("statically linked")),
        "refused by name",
    )
}

fn launch_with_blocked_signals() -> Outcome {
    // As a caller does that receives signals by a descriptor; a thread of its own, as the mask is one thread's.
    let ended = thread::spawn(|| -> Outcome {
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGTERM);
        blocked.thread_block()?;
        let folder = tempfile::tempdir()?;
        let mut launched = launch(&["sleep".into(), "60".into()], &options(folder.path())?)?;
        kill(Pid::from_raw(launched.pid.cast_signed()), Signal::SIGTERM)?;
        let deadline = Instant::now() + PATIENCE;
        while launched.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                launched.child.kill()?;
                launched.child.wait()?;
                return Err("the program does not end by SIGTERM".into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    });
    ended.join().map_err(|_| "the test's thread panicked")?
}

fn ledger_of_two_controllers() -> Outcome {
    let mut target = Target::start(&[])?;
    let mut other = AgentLink::connect(target.launched.pid)?;
    let notices = other.notices();
    check(target.link.ledger()? == (0, Vec::new()), "no ledger at first")?;
    check(target.link.set_ledger(0, b"one".to_vec())? == 1, "the first revision")?;
    check(notices.recv_timeout(PATIENCE)? == Notice::LedgerChanged { revision: 1 }, "the other one is told")?;
    check(matches!(other.set_ledger(0, b"two".to_vec()), Err(Error::Stale)), "the loser must read again")?;
    check(other.ledger()? == (1, b"one".to_vec()), "and finds this")?;
    check(matches!(other.begin(0), Err(Error::Stale)), "begin with an old revision")?;
    target.link.begin(1)?;
    let own = std::process::id();
    check(matches!(other.begin(1), Err(Error::Busy { pid }) if pid == own), "only one may reload")?;
    check(matches!(other.set_ledger(1, Vec::new()), Err(Error::Busy { .. })), "nor change what it will replace")?;
    target.link.end()?;
    other.begin(1)?;
    check(target.link.notices().is_empty(), "nobody changed the ledger for this one")?;
    drop(other);
    let deadline = Instant::now() + PATIENCE;
    while matches!(target.link.begin(1), Err(Error::Busy { .. })) {
        check(Instant::now() < deadline, "the right ends with the connection")?;
    }
    Ok(())
}

/// A reservation near `module` and a copy of the library loaded into it.
fn load_near(target: &mut Target, near: u64, name: &str) -> Result<(LoadedModule, std::ops::Range<u64>), Failed> {
    let size = 64 << 20;
    let start = target.link.reserve(near, size)?;
    check(start.abs_diff(near) < 1 << 30, "reserved near")?;
    let copy = target.folder.path().join(name);
    fs::copy(&target.library.path, &copy)?;
    let module = target.link.load(&copy, start, start + size)?;
    Ok((module, start..start + size))
}

fn shadow_lands_near() -> Outcome {
    let mut target = Target::start(&["sweep"])?;
    target.link.begin(0)?;
    let executable = target.link.modules()?.remove(0).start;
    for (index, near) in [target.library.start, executable, target.library.start, executable].into_iter().enumerate() {
        let (module, arena) = load_near(&mut target, near, &format!("shadow-{index}.so"))?;
        check(arena.start <= module.start && module.end <= arena.end, "inside the reservation")?;
        check(target.link.modules()?.contains(&module), "in the link map")?;
    }
    let (low, high) = (target.library.start - (1 << 12), target.library.start);
    let path = target.folder.path().join("shadow-0.so");
    let crowded = target.link.load(&path, low, high);
    check(matches!(crowded, Err(Error::Agent(_))), "no room is a clear failure")?;
    let text = target.folder.path().join("text.so");
    fs::write(&text, "not a library")?;
    check(matches!(target.link.load(&text, 0, 1 << 47), Err(Error::Agent(_))), "so is a text file")?;
    target.link.end()?;
    check(target.link.modules()?.iter().all(|module| !module.path.contains("shadow-")), "not committed, not kept")?;
    target.sweep()
}

fn lost_owner_leaves_no_shadow() -> Outcome {
    let mut target = Target::start(&[])?;
    let mut other = AgentLink::connect(target.launched.pid)?;
    std::mem::swap(&mut other, &mut target.link);
    target.link.begin(0)?;
    let near = target.library.start;
    let (module, _) = load_near(&mut target, near, "shadow.so")?;
    check(other.modules()?.contains(&module), "loaded")?;
    std::mem::swap(&mut other, &mut target.link);
    drop(other);
    let deadline = Instant::now() + PATIENCE;
    while target.link.modules()?.contains(&module) {
        check(Instant::now() < deadline, "unloaded with its owner's connection")?;
    }
    Ok(())
}

fn bind_writes() -> Outcome {
    let mut target = Target::start(&[])?;
    target.link.begin(0)?;
    let near = target.library.start;
    let (module, _) = load_near(&mut target, near, "shadow.so")?;
    let relro = module.bias + symbol_of(Path::new(&module.path), "relro")?;
    let storage = target.address("storage")?;
    let page = relro & !0xfff;
    let segments = vec![Segment { range: Range { start: page, len: 0x1000 }, protection: 1 }];
    let write = DataWrite { address: relro, bytes: storage.to_le_bytes().to_vec() };
    target.link.bind(segments.clone(), vec![write.clone()])?;
    let read = target.link.read_memory(vec![Range { start: relro, len: 8 }, Range { start: 8, len: 8 }])?;
    check(read == [storage.to_le_bytes().to_vec(), Vec::new()], "written, and unmapped memory reads as nothing")?;
    let mappings = reload_engine::target::maps::read(target.launched.pid)?;
    let mapping = mappings.iter().find(|mapping| (mapping.start.0..mapping.end.0).contains(&relro)).ok_or("mapping")?;
    check(!mapping.writable, "read-only again")?;
    let outside = DataWrite { address: page - 8, ..write.clone() };
    check(target.link.bind(segments, vec![outside]).is_err(), "a write outside the segments is rejected")?;
    let live = Segment { range: Range { start: target.library.start & !0xfff, len: 0x1000 }, protection: 1 };
    check(target.link.bind(vec![live], Vec::new()).is_err(), "a live module is not a shadow")
}

fn commit_from_outside() -> Outcome {
    let mut target = Target::start(&["sweep", "sweep", "deaf", "sweep"])?;
    let mut pauses = Vec::new();
    for version in 1..=50 {
        let transaction = target.stage(version, version + 1)?;
        let receipt = commit(&mut target.link, &mut StopHelper::spawn()?, transaction)?;
        check(receipt.method == "ptrace", &format!("from outside, not {}", receipt.method))?;
        check(receipt.threads == 5, &format!("all five threads, not {}", receipt.threads))?;
        check(target.version()? == version + 1, "the new version")?;
        let ledger = format!("version {}", version + 1).into_bytes();
        check(target.link.ledger()? == (receipt.revision, ledger), "the ledger with it")?;
        target.link.end()?;
        pauses.push(receipt.pause);
    }
    target.wait_for("the sweeps see it", |target| target.board(SEEN) == 51)?;
    pauses.sort();
    eprintln!("pause of 50 commits: median {:?}, longest {:?}", pauses[25], pauses[49]);
    check(target.board(BACKWARDS) == 0, "nobody saw an old version after a new one")?;
    check(!target.catches_sigsegv()?, "SIGSEGV is the host's again")
}

fn commit_by_signal() -> Outcome {
    let mut target = Target::start(&["sweep", "sweep", "sweep", "handler"])?;
    for version in 1..=50 {
        let transaction = target.stage(version, version + 1)?;
        let stop = target.link.commit_by_signal(transaction)?;
        check(stop.threads == 4, &format!("all four threads, not {}", stop.threads))?;
        check(target.version()? == version + 1, "the new version")?;
        target.link.end()?;
    }
    target.wait_for("the sweeps see it", |target| target.board(SEEN) == 51)?;
    check(target.board(BACKWARDS) == 0, "nobody saw an old version after a new one")?;
    check(target.catches_sigsegv()?, "the host's own handler is back")?;
    let pid = nix::unistd::Pid::from_raw(target.launched.pid as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSEGV)?;
    target.wait_for("the host's handler runs", |target| target.board(FAULTS) == 1)
}

fn deaf_thread() -> Outcome {
    let mut target = Target::start(&["deaf"])?;
    let transaction = target.stage(1, 2)?;
    let refused = target.link.commit_by_signal(transaction);
    check(matches!(refused, Err(Error::Stop { reason, .. }) if reason.contains("blocks every signal")), "named")?;
    check(target.version()? == 1, "nothing changed")?;
    commit(&mut target.link, &mut StopHelper::spawn()?, transaction)?;
    check(target.version()? == 2, "from outside it works")
}

fn thread_inside_the_patch() -> Outcome {
    let mut target = Target::start(&["spin", "sweep"])?;
    target.link.begin(0)?;
    let spin = target.address("spin")?;
    let mut transaction = target.transaction(1, 2, b"")?;
    // `nop` and the jump to itself at spin + 1.
    let before = [0x90, 0xeb, 0xfe, 0, 0, 0, 0, 0];
    let after = [0x90, 0x90, 0x90, 0, 0, 0, 0, 0];
    transaction.patches.push(Patch { address: spin, len: 3, before, after });
    transaction.patches.sort_by_key(|patch| patch.address);
    let number = target.link.stage(transaction)?;
    let from_outside = commit(&mut target.link, &mut StopHelper::spawn()?, number);
    check(matches!(from_outside, Err(Error::Stop { .. })), "it is never safe from outside")?;
    let by_signal = target.link.commit_by_signal(number);
    check(matches!(by_signal, Err(Error::Stop { .. })), "nor by signal")?;
    check(target.version()? == 1 && target.link.ledger()?.0 == 0, "nothing changed")?;
    check(!target.catches_sigsegv()?, "SIGSEGV is the host's again")?;
    target.sweep()
}

fn hammered_patch() -> Outcome {
    const ROUNDS: usize = 30;
    let mut target = Target::start(&["hammer"; 32])?;
    let (several, other) = (target.address("several")?, target.address("other")?);
    let [a, b, c, d] = (other.wrapping_sub(several + 5) as u32).to_le_bytes();
    let itself = [0x53, 0x51, 0x89, 0xfb, 0x52, 0, 0, 0];
    let jump = [0xe9, a, b, c, d, 0, 0, 0];
    let (mut pauses, mut attempts) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS as u64 {
        let (before, after) = if round % 2 == 0 { (itself, jump) } else { (jump, itself) };
        let (revision, _) = target.link.ledger()?;
        target.link.begin(revision)?;
        let mut transaction = target.transaction(1, 2, b"")?;
        transaction.patches = vec![Patch { address: several, len: 5, before, after }];
        let number = target.link.stage(transaction)?;
        let receipt = commit(&mut target.link, &mut StopHelper::spawn()?, number)?;
        target.link.end()?;
        pauses.push(receipt.pause);
        attempts.push(receipt.attempts);
    }
    pauses.sort();
    attempts.sort();
    let (middle, last) = (ROUNDS / 2, ROUNDS - 1);
    eprintln!("{ROUNDS} commits: pause median {:?}, longest {:?}; attempts {attempts:?}", pauses[middle], pauses[last]);
    check(target.board(BACKWARDS) == 0, "only ever the one or the other")?;
    check(target.board(SWEEPS) > 0, "and both were seen")?;
    check(attempts[last] <= 5, &format!("few attempts: {attempts:?}"))
}

fn changed_code() -> Outcome {
    let mut target = Target::start(&["sweep"])?;
    check(target.stage(9, 10).is_err(), "wrong bytes before: rejected when staged")?;
    let mut overlapping = target.transaction(1, 2, b"")?;
    overlapping.patches[1].address = overlapping.patches[0].address + 4;
    check(target.link.stage(overlapping).is_err(), "overlapping patches")?;
    let libc = target.link.modules()?.into_iter().find(|module| module.path.ends_with("libc.so.6")).ok_or("libc")?;
    let mut foreign = target.transaction(1, 2, b"")?;
    let start = libc.start & !0xfff;
    foreign.text.push(Segment { range: Range { start, len: (libc.end & !0xfff) - start }, protection: 5 });
    check(target.link.stage(foreign).is_err(), "libc's text")?;
    check(target.version()? == 1, "nothing changed")?;
    // A write to read-only data goes with the commit.
    let relro = target.address("relro")?;
    let mut transaction = target.transaction(1, 2, b"ledger")?;
    transaction.writes.push(DataWrite { address: relro, bytes: vec![1, 2, 3, 4, 5, 6, 7, 8] });
    let number = target.link.stage(transaction)?;
    commit(&mut target.link, &mut StopHelper::spawn()?, number)?;
    let read = target.link.read_memory(vec![Range { start: relro, len: 8 }])?;
    check(read == [[1, 2, 3, 4, 5, 6, 7, 8]], "written")?;
    check(commit(&mut target.link, &mut StopHelper::spawn()?, number).is_err(), "a transaction commits once")
}

fn merged_value() -> Outcome {
    let mut target = Target::start(&[])?;
    let storage = target.address("storage")?;
    let staged = |target: &mut Target, before: i32, after: i32| -> Result<u64, Failed> {
        let (revision, _) = target.link.ledger()?;
        target.link.begin(revision)?;
        let (before, after) = (before.to_le_bytes().to_vec(), after.to_le_bytes().to_vec());
        let merges = vec![Merge { address: storage, before, after }];
        Ok(target.link.stage(Transaction { merges, ledger: b"ledger".to_vec(), ..Transaction::default() })?)
    };
    let holds = |target: &mut Target| -> Result<Vec<Vec<u8>>, Failed> {
        Ok(target.link.read_memory(vec![Range { start: storage, len: 4 }])?)
    };
    let number = staged(&mut target, 7, 70)?;
    commit(&mut target.link, &mut StopHelper::spawn()?, number)?;
    check(holds(&mut target)? == [70i32.to_le_bytes()], "what nobody has changed takes the new value")?;
    check(target.link.unmerged()?.is_empty(), "and it is told so")?;
    target.link.end()?;

    for by_signal in [false, true] {
        let number = staged(&mut target, 70, 700)?;
        // The program writes after it was looked at and before it is stopped.
        let memory = fs::OpenOptions::new().write(true).open(format!("/proc/{}/mem", target.launched.pid))?;
        memory.write_all_at(&5i32.to_le_bytes(), storage)?;
        if by_signal {
            target.link.commit_by_signal(number)?;
        } else {
            commit(&mut target.link, &mut StopHelper::spawn()?, number)?;
        }
        check(holds(&mut target)? == [5i32.to_le_bytes()], "the program's write is not lost")?;
        check(target.link.unmerged()? == [storage], "and it is told so")?;
        target.link.end()?;
        memory.write_all_at(&70i32.to_le_bytes(), storage)?;
    }
    Ok(())
}

fn waits_are_kept() -> Outcome {
    let mut target = Target::start(&["wait"])?;
    for version in 1..=100 {
        let transaction = target.stage(version, version + 1)?;
        let receipt = commit(&mut target.link, &mut StopHelper::spawn()?, transaction)?;
        check(receipt.method == "ptrace", &format!("from outside, not {}", receipt.method))?;
        target.link.end()?;
    }
    let before = target.board(WAITS);
    target.wait_for("the waits go on", |target| target.board(WAITS) > before + 50)?;
    let kinds: Vec<u64> = (KINDS..KINDS + 11).map(|kind| target.board(kind)).collect();
    let (failed, early) = (target.board(FAILED), target.board(EARLY));
    check(failed == 0 && early == 0, &format!("{failed} waits failed, {early} were early, by kind: {kinds:?}"))
}

/// Threads that wait for a processor answer late, and their waits must not notice that either.
fn waits_under_load() -> Outcome {
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    let hogs: Vec<_> = (0..12)
        .map(|_| {
            let stopped = stopped.clone();
            thread::spawn(move || while stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Empty) {})
        })
        .collect();
    let outcome = waits_are_kept();
    drop(stop);
    for hog in hogs {
        hog.join().map_err(|_| "hog")?;
    }
    outcome
}

/// A program that is the stop helper, halting at `step` the first time it is started.
fn halting_helper(folder: &Path, step: &str) -> Result<PathBuf, Failed> {
    let (script, flag) = (folder.join("helper"), folder.join("halt"));
    fs::write(&flag, "")?;
    let own = std::env::current_exe()?;
    let text = format!(
        "#!/bin/sh\nif [ -e '{flag}' ]; then rm '{flag}'; RELOAD_DASHBOARD_HALT={step}; export RELOAD_DASHBOARD_HALT; fi\n\
         exec '{own}' \"$@\"\n",
        flag = flag.display(),
        own = own.display()
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700))?;
    Ok(script)
}

fn one_helper() -> Outcome {
    let mut target = Target::start(&["sweep", "wait"])?;
    let mut helper = StopHelper::spawn()?;
    let pid = helper.pid();
    for version in 1..=10 {
        let transaction = target.stage(version, version + 1)?;
        // Ahead of time, or as a part of the commit; one preparation more does no harm.
        (0..version % 3).for_each(|_| helper.prepare(&mut target.link));
        let receipt = commit(&mut target.link, &mut helper, transaction)?;
        check(receipt.method == "ptrace" && receipt.attempts >= 1, &receipt.method)?;
        check(helper.pid() == pid, "it is the same process")?;
        check(target.version()? == version + 1, "the new version is whole")?;
        target.link.end()?;
        target.sweep()?;
    }
    // A preparation that leads to nothing ends with its process.
    let (revision, _) = target.link.ledger()?;
    target.link.begin(revision)?;
    helper.prepare(&mut target.link);
    helper.stand_down(&mut target.link);
    target.link.end()?;
    check(helper.pid().is_none(), "it has stood down")?;
    let transaction = target.stage(11, 12)?;
    commit(&mut target.link, &mut helper, transaction)?;
    check(target.version()? == 12, "the next one starts a new process")
}

/// Who waits for the target's end learns of it, although the helper that had stopped it lives on.
fn target_killed() -> Outcome {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    let mut target = Target::start(&["sweep", "wait"])?;
    let script = halting_helper(target.folder.path(), "stopped")?;
    let transaction = target.stage(1, 2)?;
    let mut helper = StopHelper::spawn_from(&script)?;
    let (helper_pid, pid) = (helper.pid().ok_or("no helper")?, target.launched.pid);
    let killer = thread::spawn(move || {
        let deadline = Instant::now() + PATIENCE;
        let state = || fs::read_to_string(format!("/proc/{helper_pid}/stat")).unwrap_or_default();
        while !state().contains(") T ") && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL)?;
        kill(Pid::from_raw(helper_pid as i32), Signal::SIGCONT)
    });
    check(commit(&mut target.link, &mut helper, transaction).is_err(), "there is nobody to commit")?;
    killer.join().map_err(|_| "killer")??;
    let deadline = Instant::now() + PATIENCE;
    while target.launched.child.try_wait()?.is_none() {
        check(Instant::now() < deadline, "its parent learns of its end")?;
        thread::sleep(Duration::from_millis(1));
    }
    drop(helper);
    Ok(())
}

fn helper_killed() -> Outcome {
    let mut target = Target::start(&["sweep", "sweep", "wait"])?;
    let mut version = 1;
    for step in ["stopped", "closed", "gone", "done"].into_iter().cycle().take(12) {
        let script = halting_helper(target.folder.path(), step)?;
        let transaction = target.stage(version, version + 1)?;
        let mut helper = StopHelper::spawn_from(&script)?;
        let pid = helper.pid().ok_or("no helper")?;
        let killer = thread::spawn(move || {
            let deadline = Instant::now() + PATIENCE;
            let state = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            while !state().contains(") T ") && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL)
        });
        let receipt = commit(&mut target.link, &mut helper, transaction);
        killer.join().map_err(|_| "killer")??;
        let receipt = receipt?;
        let died_late = receipt.method.contains("ended early");
        check(died_late == matches!(step, "gone" | "done"), &format!("killed at {step}: {}", receipt.method))?;
        version += 1;
        check(target.version()? == version, &format!("killed at {step}: the new version is whole"))?;
        target.link.end()?;
        target.sweep()?;
        check(target.board(BACKWARDS) == 0, &format!("killed at {step}: nobody saw a half-written state"))?;
    }
    target.wait_for("SIGSEGV is the host's again", |target| matches!(target.catches_sigsegv(), Ok(false)))?;
    let (failed, early) = (target.board(FAILED), target.board(EARLY));
    check(early == 0, &format!("{failed} waits failed, {early} were early"))
}

fn helper_killed_anywhere() -> Outcome {
    let mut target = Target::start(&["sweep", "sweep"])?;
    let (mut early, mut late) = (0, 0);
    for version in 1..=60u32 {
        let transaction = target.stage(version, version + 1)?;
        let mut helper = StopHelper::spawn()?;
        let pid = nix::unistd::Pid::from_raw(helper.pid().ok_or("no helper")? as i32);
        // Spread over the few milliseconds that a helper lives; the first ones hardly begin.
        let delay = Duration::from_micros(u64::from(version) * 7919 % 6000);
        let killer = thread::spawn(move || {
            thread::sleep(delay);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)
        });
        let receipt = commit(&mut target.link, &mut helper, transaction)?;
        // It may have ended by itself, in time.
        let _ = killer.join();
        if receipt.method == "ptrace" {
            early += 1
        } else {
            late += 1
        }
        check(target.version()? == version + 1, "the new version is whole")?;
        target.link.end()?;
        target.sweep()?;
        check(target.board(BACKWARDS) == 0, "nobody saw a half-written state")?;
    }
    eprintln!("60 helpers killed: {late} after they had told the agent to go, {early} before or too late");
    target.wait_for("SIGSEGV is the host's again", |target| matches!(target.catches_sigsegv(), Ok(false)))
}

fn hostile_frames() -> Outcome {
    let mut target = Target::start(&[])?;
    let socket = TargetFolder::of_agent(target.launched.pid);
    let folder = target.folder.path().join("store").join(target.launched.pid.to_string());
    check(socket.is_some_and(|found| found.path() == folder), "found by the target's own environment")?;
    let connect = || UnixStream::connect(folder.join("agent.sock"));
    let mut slow = connect()?;
    slow.write_all(&[200, 0])?;
    for garbage in [&u32::MAX.to_le_bytes()[..], &[3, 0, 0, 0, 0xff, 0xff, 0xff], &[0, 0, 0, 0], &[0xee; 4096]] {
        let mut stream = connect()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(garbage)?;
        let mut rest = Vec::new();
        // The agent tells why, and hangs up; with bytes of ours unread that is a reset.
        let _ = stream.read_to_end(&mut rest);
    }
    let mut unknown = connect()?;
    send(&mut unknown, &Request::Modules)?;
    let reply: reload_protocol::FromAgent = receive(&mut unknown)?;
    check(matches!(reply, reload_protocol::FromAgent::Reply(Reply::Failed { .. })), "Hello comes first")?;
    let mut older = connect()?;
    send(&mut older, &Request::Hello { version: VERSION + 1 })?;
    let reply: reload_protocol::FromAgent = receive(&mut older)?;
    check(matches!(reply, reload_protocol::FromAgent::Reply(Reply::Welcome(_))), "another version is told ours")?;
    check(!target.link.modules()?.is_empty(), "the agent lives, and a slow peer holds up nobody")?;

    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: another user's connection needs root to try");
        return Ok(());
    }
    // Open the folders: the agent itself must refuse.
    for path in [target.folder.path(), &target.folder.path().join("store"), &folder] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    fs::set_permissions(folder.join("agent.sock"), fs::Permissions::from_mode(0o777))?;
    let own = target.folder.path().join("intruder");
    fs::copy(std::env::current_exe()?, &own)?;
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755))?;
    let status = Command::new(&own).arg(INTRUDER).arg(folder.join("agent.sock")).uid(65534).gid(65534).status()?;
    check(status.code() == Some(7), &format!("another user is refused: {status}"))?;
    check(!target.link.modules()?.is_empty(), "the agent lives")
}

/// A peer may send along what it likes; the agent keeps none of it.
fn unasked_descriptors() -> Outcome {
    let mut target = Target::start(&[])?;
    let folder = target.folder.path().join("store").join(target.launched.pid.to_string());
    let table = format!("/proc/{}/task/{}/fd", target.launched.pid, target.link.welcome().agent_threads[0]);
    let open = || fs::read_dir(&table).map(Iterator::count).unwrap_or_default();
    let before = (open(), fs::read_dir(format!("/proc/{}/fd", target.launched.pid))?.count());
    let null = fs::File::open("/dev/null")?;
    for count in [1usize, 200, 201, 253] {
        let mut stream = UnixStream::connect(folder.join("agent.sock"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut frame = Vec::new();
        send(&mut frame, &Request::Hello { version: VERSION })?;
        let numbers = vec![std::os::fd::AsRawFd::as_raw_fd(&null); count];
        let rights = [ControlMessage::ScmRights(&numbers)];
        let part = [std::io::IoSlice::new(&frame)];
        let raw = std::os::fd::AsRawFd::as_raw_fd(&stream);
        sendmsg::<()>(raw, &part, &rights, MsgFlags::empty(), None)?;
        let reply = receive::<reload_protocol::FromAgent>(&mut stream);
        check(reply.is_ok() == (count <= reload_protocol::MOST_PASSED), &format!("{count} descriptors: {reply:?}"))?;
        if reply.is_ok() {
            // A file that did not come along is no reason to look at another one.
            send(&mut stream, &Request::Begin { expected: 0 })?;
            let _: reload_protocol::FromAgent = receive(&mut stream)?;
            let file = reload_protocol::File::Passed { index: 7, name: "x".into() };
            send(&mut stream, &Request::Load { file, low: 0, high: u64::MAX })?;
            let reply: reload_protocol::FromAgent = receive(&mut stream)?;
            // Busy: the one before has not been noticed to be gone.
            let refused = |reply: &Reply| matches!(reply, Reply::Failed { .. } | Reply::Busy { .. });
            let told = matches!(&reply, reload_protocol::FromAgent::Reply(reply) if refused(reply));
            check(told, &format!("{reply:?}"))?;
        }
    }
    target.wait_for("the agent to have closed them", |target| {
        let host = fs::read_dir(format!("/proc/{}/fd", target.launched.pid)).map(Iterator::count);
        (open(), host.unwrap_or_default()) == before
    })?;
    check(!target.link.modules()?.is_empty(), "the agent lives")
}

/// As another user: 7 if the agent hangs up without a word.
fn intrude(socket: &str) -> ExitCode {
    let Ok(mut stream) = UnixStream::connect(socket) else { return ExitCode::from(8) };
    let _ = stream.set_read_timeout(Some(PATIENCE));
    // The agent may have hung up already.
    let _ = send(&mut stream, &Request::Hello { version: VERSION });
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(0) | Err(_) => ExitCode::from(7),
        Ok(_) => ExitCode::from(9),
    }
}

fn forked_child() -> Outcome {
    let mut target = Target::start(&["fork"])?;
    let child = target.board(CHILD);
    let sockets = |folder: String| -> Result<usize, Failed> {
        let targets = fs::read_dir(folder)?.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        Ok(targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count())
    };
    let agent = target.link.welcome().agent_threads[0];
    check(sockets(format!("/proc/{}/task/{agent}/fd", target.launched.pid))? >= 2, "the agent has its descriptors")?;
    check(sockets(format!("/proc/{}/fd", target.launched.pid))? == 0, "the host does not see them")?;
    check(sockets(format!("/proc/{child}/fd"))? == 0, "nor does the child")?;
    check(fs::read_dir(format!("/proc/{child}/task"))?.count() == 1, "nor have the thread")?;
    check(matches!(AgentLink::connect(child as u32), Err(Error::NoAgent { .. })), "and no agent")?;
    check(!target.link.modules()?.is_empty(), "the parent's agent lives")
}

fn signals_are_kept() -> Outcome {
    let mut target = Target::start(&["signals", "sweep"])?;
    let mut version = 1;
    while target.board(SENT) < 19000 {
        let transaction = target.stage(version, version + 1)?;
        let receipt = commit(&mut target.link, &mut StopHelper::spawn()?, transaction)?;
        check(receipt.method == "ptrace", &receipt.method)?;
        target.link.end()?;
        version += 1;
    }
    check(version > 5, "commits while signals are sent")?;
    target.wait_for("every signal is handled", |target| target.board(HANDLED) == 20000)?;
    check(target.board(SENT) == 20000, "and none twice")
}

fn vfork_parent() -> Outcome {
    let mut target = Target::start(&["vfork"])?;
    target.wait_for("the first vfork", |target| target.board(SWEEPS) > 0)?;
    for version in 1..=20 {
        let transaction = target.stage(version, version + 1)?;
        let receipt = commit(&mut target.link, &mut StopHelper::spawn()?, transaction)?;
        check(receipt.method == "ptrace" && receipt.threads == 2, &format!("{receipt:?}"))?;
        target.link.end()?;
    }
    let before = target.board(SWEEPS);
    target.wait_for("the parent goes on", |target| target.board(SWEEPS) > before + 1)
}

fn thread_storm() -> Outcome {
    let mut target = Target::start(&["storm", "storm", "sweep"])?;
    for version in 1..=20 {
        let transaction = target.stage(version, version + 1)?;
        commit(&mut target.link, &mut StopHelper::spawn()?, transaction)?;
        target.link.end()?;
    }
    target.wait_for("the sweeps see it", |target| target.board(SEEN) == 21)?;
    check(target.board(BACKWARDS) == 0, "nobody saw an old version after a new one")
}

fn seccomp_filter() -> Outcome {
    let mut target = Target::start_through(Some("filter"), &["sweep"])?;
    let transaction = target.stage(1, 2)?;
    let receipt = commit(&mut target.link, &mut StopHelper::spawn()?, transaction)?;
    check(receipt.method.starts_with("signal: ") && receipt.method.contains("seccomp"), &receipt.method)?;
    check(target.version()? == 2, "committed by signal")?;
    let sockets = fs::read_dir(format!("/proc/{}/fd", target.launched.pid))?.flatten().filter_map(|entry| {
        let socket = fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        entry.file_name().to_str().filter(|_| socket).and_then(|name| name.parse::<u32>().ok())
    });
    let numbers: Vec<u32> = sockets.collect();
    check(numbers.len() >= 2 && numbers.iter().all(|&number| number >= 256), &format!("high numbers: {numbers:?}"))
}

fn traced_target() -> Outcome {
    use nix::{libc, sys::ptrace};
    let mut target = Target::start(&["sweep"])?;
    let transaction = target.stage(1, 2)?;
    let traced = nix::unistd::Pid::from_raw(target.launched.pid as i32);
    let (ready, is_ready) = crossbeam_channel::bounded(1);
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    // A debugger that passes every signal on.
    let tracer = thread::spawn(move || -> nix::Result<()> {
        ptrace::seize(traced, ptrace::Options::empty())?;
        let _ = ready.send(());
        while stopped.recv_timeout(Duration::from_millis(1)) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
            // Bare calls: the typed ones know no real-time signals.
            let mut status = 0;
            // SAFETY: `status` is a valid place for the answer; continuing touches no memory of ours.
            unsafe {
                if libc::waitpid(traced.as_raw(), &mut status, libc::WNOHANG | libc::__WALL) > 0
                    && libc::WIFSTOPPED(status)
                {
                    libc::ptrace(libc::PTRACE_CONT, traced.as_raw(), 0usize, libc::WSTOPSIG(status) as usize);
                }
            }
        }
        Ok(())
    });
    is_ready.recv_timeout(PATIENCE)?;
    let receipt = commit(&mut target.link, &mut StopHelper::spawn()?, transaction);
    drop(stop);
    tracer.join().map_err(|_| "tracer")??;
    let receipt = receipt?;
    check(receipt.method.starts_with("signal: traced by target-"), &format!("names the tracer: {}", receipt.method))?;
    check(target.version()? == 2, "committed by signal")
}

/// Why entries are not redirected by a one-byte trap: where the signal is blocked, the kernel does not ask the handler.
fn blocked_trap() -> Outcome {
    const SOURCE: &str = r#"
        #define _GNU_SOURCE
        #include <signal.h>
        static volatile int handled;
        static void on_trap(int signal) { handled++; }
        int main(int count, char **arguments) {
            signal(SIGTRAP, on_trap);
            sigset_t all;
            sigfillset(&all);
            if (count > 1)
                sigprocmask(SIG_BLOCK, &all, 0);
            __asm__ volatile("int3");
            return handled;
        }"#;
    let folder = tempfile::tempdir()?;
    let (source, program) = (folder.path().join("trap.c"), folder.path().join("trap"));
    fs::write(&source, SOURCE)?;
    let built = Command::new("gcc").arg("-o").arg(&program).arg(&source).status()?;
    assert!(built.success());
    let open = Command::new(&program).status()?;
    assert_eq!(open.code(), Some(1), "with the signal open its handler runs");
    let blocked = Command::new(&program).arg("blocked").status()?;
    let signal = std::os::unix::process::ExitStatusExt::signal(&blocked);
    assert_eq!(signal, Some(Signal::SIGTRAP as i32), "blocked, it ends the process: {blocked}");
    Ok(())
}
