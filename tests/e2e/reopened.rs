//! Targets that close a library and open it again by themselves: what was known of it belongs to a former life.

use std::{fs, io::Read, process::Stdio};

use reload_tests::{
    dashboard::Room,
    deadline,
    greek::{Greek, greek_target},
    install, process,
};

/// The file keeps its inode, so only that the module lies in no copy of ours tells its lives apart.
#[test]
fn library_written_over_while_it_was_closed() {
    let room = Room::new();
    let greek = Greek::new(&room, 3);
    let mut target = greek_target(&room, &greek);
    target.event("shielded", |event| event["module"] == Greek::NAME);
    assert_eq!(target.ask("close"), "ok");
    install::by_copy(&greek.versions[2], &greek.installed);
    greek.open(&mut target);
    let row = target.module(Greek::NAME);
    assert!(row["status"] == "current" && row["generation"] == 0, "{row}");
    greek.install(2);
    let receipt = target.reload_one(Greek::NAME);
    assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
    assert_eq!(target.ask("call together 0"), "222");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn library_closed_and_opened_again_while_it_is_reloaded() {
    for step in ["loaded", "bound", "staged"] {
        let room = Room::new();
        let greek = Greek::new(&room, 3);
        let mut target = greek_target(&room, &greek);
        target.event("shielded", |event| event["module"] == Greek::NAME);
        greek.install(2);
        let mut verb = target.reload_up_to(step, Greek::NAME, Stdio::piped());
        let halted = || process::halted_below(verb.pid(), Some(target.pid));
        let mut halted_at = deadline::wait_for("the reload to stand still", halted);
        assert_eq!(target.ask("close"), "ok");
        greek.install(3);
        greek.open(&mut target);
        let status = deadline::wait_for("the reload's end", || {
            // What it shields is staged too.
            process::signal(halted_at, libc::SIGCONT);
            halted_at = process::halted_below(verb.pid(), Some(target.pid)).unwrap_or(halted_at);
            verb.0.try_wait().expect("our child")
        });
        let mut output = String::new();
        verb.0.stdout.take().expect("piped").read_to_string(&mut output).expect("UTF-8");
        assert!(status.success() && output.contains("unchanged"), "at `{step}`: {status}, {output}");
        assert_eq!(target.ask("call together 0"), "333", "at `{step}`");
        let row = target.module(Greek::NAME);
        assert!(row["status"] == "current" && row["generation"] == 0, "at `{step}`: {row}");
        assert_eq!(target.finish(), Some(0));
    }
}

/// As a program does that looks at the file itself and takes the new one, beside auto mode.
#[test]
fn program_that_reopens_its_library_when_the_file_changes() {
    let room = Room::new();
    let greek = Greek::new(&room, 3);
    let mut target = greek_target(&room, &greek);
    target.done(&["mode", "all"]);
    let dashboard = target.dashboard.pid();
    for round in 0..4 {
        let version = round % 2 + 2;
        process::signal(dashboard, libc::SIGSTOP);
        assert_eq!(target.ask("close"), "ok");
        greek.install(version);
        greek.open(&mut target);
        process::signal(dashboard, libc::SIGCONT);
        deadline::wait_for("the row to be current", || {
            let row = target.module(Greek::NAME);
            (row["status"] == "current" && row["generation"] == 0).then_some(())
        });
        assert_eq!(target.ask("call together 0"), format!("{version}{version}{version}"));
    }
    assert_eq!(target.count("reloaded", Greek::NAME), 0, "{:#?}", target.events());
    greek.install(1);
    target.ask_until("call together 0", "111");
    assert_eq!(target.count("failed", Greek::NAME), 0, "{:#?}", target.events());
    assert_eq!(target.finish(), Some(0));
}

/// Another library comes and goes faster than a reload is done: that concerns this one's reload not.
#[test]
fn program_that_closes_another_library_all_the_time() {
    let room = Room::new();
    let greek = Greek::new(&room, 3);
    let mut target = greek_target(&room, &greek);
    target.event("shielded", |event| event["module"] == Greek::NAME);
    let other = room.path().join("libother.so");
    fs::copy(&greek.versions[2], &other).expect("the room is ours");
    assert_eq!(target.ask(&format!("churn {}", other.display())), "ok");
    target.done(&["mode", "all"]);
    greek.install(2);
    target.ask_until("call together 0", "222");
    greek.install(3);
    target.ask_until("call together 0", "333");
    target.done(&["rollback", Greek::NAME]);
    assert_eq!(target.ask("call together 0"), "222");
    assert_eq!(target.finish(), Some(0));
}
