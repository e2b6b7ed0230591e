//! No edit is lost however fast they come: of 200 saves the last one always runs in the end, and nothing that a writer had not
//! finished ever ran in between.
//!
//! Threads call eight functions all the while. Each returns the version it was saved with, so half of one file and half of
//! another shows: a thread sees a version older than one that it has seen.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use reload_tests::{
    dashboard::{Launched, Room},
    deadline,
    greek::host,
    hammer::{self, STAMP, hammered, stamped},
    install, process,
};

const SAVES: u16 = 200;

/// Puts these bytes where the library is.
type Writer = fn(&[u8], &Path);

/// As linkers do: written elsewhere, renamed into place.
fn renamed(bytes: &[u8], installed: &Path) {
    install::bytes(bytes, installed);
}

/// As `cp` does: cut off, then written piece by piece, the last one a while after the others.
fn copied_over(bytes: &[u8], installed: &Path) {
    let mut file = File::options().write(true).truncate(true).open(installed).expect("the file is ours");
    let pieces: Vec<&[u8]> = bytes.chunks(bytes.len() / 4 + 1).collect();
    for piece in pieces {
        thread::sleep(Duration::from_micros(300));
        file.write_all(piece).expect("the disk has room");
    }
}

/// As `rsync --inplace` does: the old bytes stay until the new ones are written over them. Between the two steps the file looks
/// complete, and is half of each.
fn written_over(bytes: &[u8], installed: &Path) {
    let file = File::options().write(true).open(installed).expect("the file is ours");
    // Stamped functions lie on both sides.
    let stamps: Vec<usize> = (0..bytes.len() - 4).filter(|at| bytes[at + 2..at + 4] == STAMP[2..]).collect();
    let half = stamps[stamps.len() / 2];
    file.write_all_at(&bytes[..half], 0).expect("the disk has room");
    thread::sleep(Duration::from_millis(2));
    file.write_all_at(&bytes[half..], half as u64).expect("the disk has room");
}

fn check(writer: Writer, spacing: Duration) {
    let room = Room::new();
    let (mut target, installed, first) = hammered(&room, &[]);
    target.event("shielded", |event| event["module"] == "libhammer.so");
    assert_eq!(target.ask("go 2"), "ok");
    let mut next = Instant::now();
    for version in 2..=SAVES + 1 {
        writer(&stamped(&first, version), &installed);
        next += spacing;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    last_one_wins(&mut target, &installed);
    assert_eq!(target.ask("stop"), "wrong 0 backwards 0 miscounted 0 lost 0");
    for event in ["refused", "failed"] {
        assert_eq!(target.count(event, "libhammer.so"), 0, "a file that was not finished was tried");
    }
    assert_eq!(target.finish(), Some(0));
}

fn last_one_wins(target: &mut Launched<'_>, installed: &Path) {
    let last = (SAVES + 1).to_string();
    let reached = deadline::until(deadline::PATIENCE, || (target.ask("version") == last).then_some(()));
    assert!(reached.is_some(), "{} is not what runs: {:#?}", installed.display(), target.events().last());
}

#[test]
fn saves_50_ms_apart() {
    check(renamed, Duration::from_millis(50));
}

#[test]
fn saves_5_ms_apart() {
    check(renamed, Duration::from_millis(5));
}

#[test]
fn copies_5_ms_apart() {
    check(copied_over, Duration::from_millis(5));
}

#[test]
fn files_written_over_5_ms_apart() {
    check(written_over, Duration::from_millis(5));
}

/// A library that was just loaded is looked at, and shielded, which stops the target's threads; on a busy machine that takes its
/// time. Whoever saves in between must be noticed, although there was no event to notice it by.
#[test]
fn save_while_the_library_is_taken_up() {
    let room = Room::new();
    let config = room.path().join("config/reload-dashboard");
    fs::create_dir(&config).expect("the folder is ours");
    fs::write(config.join("reload-dashboard.toml"), "auto = \"all\"\n").expect("the folder is ours");
    let (installed, first) = hammer::library(&room);
    let halt = [("RELOAD_DASHBOARD_HALT", "staged")];
    let mut target = room.launch_in(&halt, &[], &host(&room, "hammer"), &[]);
    target.host.line_where(|line| line.starts_with("ready ").then_some(()));
    assert_eq!(target.ask(&format!("open {}", installed.display())), "ok");
    let dashboard = target.dashboard.pid();
    let halted = || process::state(dashboard) == Some('T');
    deadline::wait_for("the dashboard, about to shield the library", || halted().then_some(()));
    install::bytes(&stamped(&first, 2), &installed);
    assert_eq!(target.ask("go 2"), "ok");
    let reached = deadline::until(deadline::PATIENCE, || {
        // It halts in each commit.
        if halted() {
            process::signal(dashboard, libc::SIGCONT);
        }
        (target.ask("version") == "2").then_some(())
    });
    assert!(reached.is_some(), "the save was not noticed: {:#?}", target.events());
    process::signal(dashboard, libc::SIGCONT);
    assert_eq!(target.ask("stop"), "wrong 0 backwards 0 miscounted 0 lost 0");
    assert_eq!(target.finish(), Some(0));
}
