//! The stop helper: one for many commits, killed and cut off wherever it can be.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use nix::{
    libc,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reload_engine::target::stop::{StopHelper, commit};

use crate::{Case, Outcome, host::*};

pub const CASES: &[Case] = &[
    ("one_helper_serves_many_commits", one_helper),
    ("target_killed_while_it_is_stopped", target_killed),
    ("helper_killed_at_each_step", helper_killed),
    ("helper_killed_at_any_instant", helper_killed_anywhere),
    ("helper_cut_off_after_the_last_word", helper_cut_off),
];

fn one_helper() -> Outcome {
    let mut target = Target::start(&["sweep", "wait"])?;
    let mut helper = StopHelper::spawn()?;
    let pid = helper.pid();
    for version in 1..=10 {
        let transaction = target.stage(version, version + 1)?;
        // Ahead of time, or as a part of the commit; one preparation more does no harm.
        (0..version % 3).for_each(|_| helper.prepare(&target.link));
        let receipt = commit(&mut target.link, &mut helper, transaction)?;
        check(receipt.method == "ptrace" && receipt.attempts >= 1, &receipt.method)?;
        check(helper.pid() == pid, "it is the same process")?;
        check(target.version()? == version + 1, "the new version is whole")?;
        target.link.end()?;
        target.sweep()?;
    }
    // A preparation that leads to nothing ends with its process.
    let revision = target.link.ledger(0)?.revision;
    target.link.begin(revision)?;
    helper.prepare(&target.link);
    helper.stand_down();
    target.link.end()?;
    check(helper.pid().is_none(), "it has stood down")?;
    let transaction = target.stage(11, 12)?;
    commit(&mut target.link, &mut helper, transaction)?;
    check(target.version()? == 12, "the next one starts a new process")
}

/// Who waits for the target's end learns of it, although the helper that had stopped it lives on.
fn target_killed() -> Outcome {
    let mut target = Target::start(&["sweep", "wait"])?;
    let script = halting_helper(target.folder.path(), "stopped")?;
    let transaction = target.stage(1, 2)?;
    let mut helper = StopHelper::spawn_from(&script)?;
    let pid = target.launched.pid;
    let killer = when_halted(&helper, move |helper| {
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL)?;
        Ok(kill(helper, Signal::SIGCONT)?)
    })?;
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
        let killer = when_halted(&helper, |helper| Ok(kill(helper, Signal::SIGKILL)?))?;
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
        let pid = Pid::from_raw(helper.pid().ok_or("no helper")? as i32);
        // Spread over the few milliseconds that a helper lives; the first ones hardly begin.
        let delay = Duration::from_micros(u64::from(version) * 7919 % 6000);
        let killer = thread::spawn(move || {
            thread::sleep(delay);
            kill(pid, Signal::SIGKILL)
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

/// The agent carries out what it was told to, and what counts is what it then says, not what the helper could still hear.
fn helper_cut_off() -> Outcome {
    let mut target = Target::start(&["sweep", "wait"])?;
    for (version, step) in (1..).zip(["gone", "done"].into_iter().cycle().take(6)) {
        let script = halting_helper(target.folder.path(), step)?;
        let transaction = target.stage(version, version + 1)?;
        let mut helper = StopHelper::spawn_from(&script)?;
        let cut = when_halted(&helper, |helper| {
            hang_up(&connection_of(helper)?)?;
            Ok(kill(helper, Signal::SIGCONT)?)
        })?;
        let receipt = commit(&mut target.link, &mut helper, transaction);
        cut.join().map_err(|_| "the cut")??;
        let receipt = receipt?;
        check(receipt.method.contains("ended early"), &format!("cut off at {step}: {}", receipt.method))?;
        check(target.version()? == version + 1, &format!("cut off at {step}: the new version is whole"))?;
        check(target.link.ledger(0)?.revision == receipt.revision, "and the ledger is that of the receipt")?;
        target.link.end()?;
        target.sweep()?;
    }
    Ok(())
}

/// Does something with a helper once it has stopped itself.
fn when_halted(
    helper: &StopHelper,
    act: impl FnOnce(Pid) -> Result<(), Failed> + Send + 'static,
) -> Result<JoinHandle<Result<(), Failed>>, Failed> {
    let pid = Pid::from_raw(helper.pid().ok_or("no helper")? as i32);
    Ok(thread::spawn(move || {
        let deadline = Instant::now() + PATIENCE;
        let state = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        while !state().contains(") T ") && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        act(pid)
    }))
}

/// A helper's connection to the agent, shared (pidfd_getfd(2)): the one whose other end has a name.
fn connection_of(helper: Pid) -> Result<UnixStream, Failed> {
    let owned = |fd: libc::c_long| {
        // SAFETY: a descriptor that the kernel has just made for us, or an error.
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }) }
    };
    // SAFETY: plain numbers in, a descriptor out.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, helper.as_raw(), 0) })?;
    for entry in fs::read_dir(format!("/proc/{helper}/fd"))? {
        let number: i32 = entry?.file_name().to_string_lossy().parse()?;
        // SAFETY: as above.
        let shared = owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })?;
        let stream = UnixStream::from(shared);
        if stream.peer_addr().is_ok_and(|address| address.as_pathname().is_some()) {
            return Ok(stream);
        }
    }
    Err("the helper has no connection to the agent".into())
}

/// Ends a connection, and takes what its owner could still read.
fn hang_up(stream: &UnixStream) -> io::Result<()> {
    stream.shutdown(std::net::Shutdown::Both)?;
    io::copy(&mut &*stream, &mut io::sink())?;
    Ok(())
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
