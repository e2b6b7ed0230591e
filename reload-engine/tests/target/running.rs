//! What the program does while it is stopped again and again, and must not notice.

use std::thread;

use reload_engine::target::stop::{StopHelper, commit};

use crate::{Case, Outcome, host::*};

pub const CASES: &[Case] = &[
    ("waits_are_neither_interrupted_nor_shortened", waits_are_kept),
    ("waits_are_kept_on_a_loaded_machine", waits_under_load),
    ("signals_are_neither_lost_nor_doubled", signals_are_kept),
    ("vfork_parent_counts_as_stopped", vfork_parent),
    ("threads_started_while_stopping", thread_storm),
];

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
