//! Transactions: all of one or nothing, and by which way.

use std::{fs, os::unix::fs::FileExt, process::Command, thread, time::Duration};

use libtest_mimic::Failed;
use nix::sys::signal::Signal;
use reload_engine::{
    error::Error,
    target::{
        link::LedgerParts,
        stop::{StopHelper, commit},
    },
};
use reload_protocol::{Merge, Patch, Range, Segment, Transaction, Write as DataWrite};

use crate::{Case, Outcome, host::*};

pub const CASES: &[Case] = &[
    ("commit_from_outside_under_load", commit_from_outside),
    ("commit_by_signal_under_load", commit_by_signal),
    ("signal_stop_cannot_reach_a_deaf_thread", deaf_thread),
    ("thread_inside_the_patch", thread_inside_the_patch),
    ("threads_hammering_on_a_patch_are_moved_out", hammered_patch),
    ("changed_code_is_not_overwritten", changed_code),
    ("merged_value_spares_what_the_program_has_changed", merged_value),
    ("launcher_under_a_seccomp_filter", seccomp_filter),
    ("traced_target_is_stopped_by_signal", traced_target),
    ("a_trap_would_end_a_thread_that_blocks_its_signal", blocked_trap),
];

fn commit_from_outside() -> Outcome {
    let mut target = Target::start(&["sweep", "sweep", "deaf", "sweep"])?;
    let mut pauses = Vec::new();
    for version in 1..=50 {
        let transaction = target.stage(version, version + 1)?;
        let receipt = commit(&mut target.link, &mut StopHelper::spawn()?, transaction)?;
        check(receipt.method == "ptrace", &format!("from outside, not {}", receipt.method))?;
        check(receipt.threads == 5, &format!("all five threads, not {}", receipt.threads))?;
        check(target.version()? == version + 1, "the new version")?;
        let parts = vec![part("version", format!("version {}", version + 1).as_bytes())];
        let whole = version == 1;
        let expected = LedgerParts { revision: receipt.revision, whole, parts };
        check(target.link.ledger(receipt.revision - 1)? == expected, "the ledger with it")?;
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
    check(target.version()? == 1 && target.link.ledger(0)?.revision == 0, "nothing changed")?;
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
        let revision = target.link.ledger(0)?.revision;
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
        let revision = target.link.ledger(0)?.revision;
        target.link.begin(revision)?;
        let (before, after) = (before.to_le_bytes().to_vec(), after.to_le_bytes().to_vec());
        let merges = vec![Merge { address: storage, before, after }];
        Ok(target.link.stage(Transaction { merges, ledger: vec![part("a", b"ledger")], ..Transaction::default() })?)
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
