//! From no target to several: choosing, attaching, starting, what the user's file says about them, and their return.

use std::{sync::Arc, time::Duration};

use eframe::egui::{Key, Modifiers};
use reload_dashboard::{
    config::file::Problem,
    window::{Link, TargetTab},
    worker::{Candidate, Reply, Request, Started},
};
use reload_engine::{
    error::Error,
    model::{Connection, Mark, Mode},
    session::{Command, Event, Update},
    target::attach::Obstacle,
};
use reload_tests::deadline;

use crate::{
    peer::{Peer, Window},
    sample,
};

pub fn candidates() -> Vec<Candidate> {
    vec![
        Candidate {
            pid: 4711,
            name: "demo".to_owned(),
            exe: "/home/ada/demo".into(),
            age: Duration::from_secs(90),
            modules: 3,
            agent: true,
            attachable: Ok(()),
        },
        Candidate {
            pid: 1,
            name: "systemd".to_owned(),
            exe: "/usr/lib/systemd/systemd".into(),
            age: Duration::from_secs(90_000),
            modules: 0,
            agent: false,
            attachable: Err(Obstacle {
                reason: "it belongs to another user (0)".to_owned(),
                remedy: "run as that user".to_owned(),
            }),
        },
    ]
}

/// The sample's program, started anew.
fn again() -> Candidate {
    Candidate {
        pid: 50_000,
        name: "aurora".to_owned(),
        exe: "/home/ada/aurora/build/aurora".into(),
        age: Duration::ZERO,
        modules: 1,
        agent: false,
        attachable: Ok(()),
    }
}

#[test]
fn without_a_target_the_picker_is_the_next_step() {
    let mut window = Window::with_tabs(Vec::new(), None);
    window.assert_sees("Not attached");
    window.assert_sees("reload-dashboard run -- COMMAND");
    assert_eq!(window.requested(), [Request::ReadConfig, Request::List]);
    window.click("Choose a target");
    window.candidates(candidates());
    window.click("demo · 4711, /home/ada/demo");
    assert!(window.requested().contains(&Request::Open { pid: 4711 }));
    window.assert_sees("Attaching to demo");
}

#[test]
fn a_process_that_cannot_be_attached_says_why_and_cannot_be_chosen() {
    let mut window = Window::with_tabs(Vec::new(), None);
    window.candidates(candidates());
    window.requested();
    window.keys(Modifiers::COMMAND, Key::T);
    window.assert_sees("1 other process cannot be attached");
    window.text("systemd");
    window.click("systemd · 1, it belongs to another user (0); run as that user");
    assert!(!window.requested().contains(&Request::Open { pid: 1 }));
}

#[test]
fn targets_are_chosen_by_keyboard_alone() {
    let mut window = Window::with_tabs(Vec::new(), None);
    window.candidates(candidates());
    window.keys(Modifiers::COMMAND, Key::T);
    window.text("4711");
    window.key(Key::Enter);
    assert!(window.requested().contains(&Request::Open { pid: 4711 }));
    window.assert_sees("Attaching to demo");
}

#[test]
fn attaching_becomes_the_table_when_the_snapshot_arrives() {
    let mut window = Window::with_tabs(vec![TargetTab::new(48213, "aurora", Link::Opening)], None);
    assert!(window.requested().contains(&Request::Open { pid: 48213 }));
    window.assert_sees("Attaching to aurora");
    let (session, peer) = Peer::new();
    window.replies.send(Reply::Opened { pid: 48213, session: Ok(session) }).unwrap();
    window.run();
    window.assert_sees("Attaching to aurora");
    peer.updates.send(Update::Snapshot(Arc::new(sample::snapshot()))).unwrap();
    window.run();
    assert_eq!(window.rows()[0], "libphysics.so, Failed");
}

#[test]
fn not_permitted_names_the_remedy_and_can_be_tried_again() {
    let mut window = Window::with_tabs(vec![TargetTab::new(9, "daemon", Link::Opening)], None);
    window.requested();
    window.replies.send(Reply::Opened { pid: 9, session: Err(Error::NotPermitted { pid: 9 }) }).unwrap();
    window.run();
    window.assert_sees("Could not attach to daemon");
    window.assert_sees("it is another user's (run as that user), or forbids it (PR_SET_DUMPABLE)");
    window.click("Try again");
    assert_eq!(window.requested(), [Request::Open { pid: 9 }]);
}

#[test]
fn targets_that_cannot_be_served_say_why_and_what_to_do() {
    let errors = [
        (
            Error::ProtocolVersion { pid: 9, found: 3, expected: 4 },
            "The agent in process 9 speaks protocol 3, this program 4; restart the target.",
        ),
        (
            Error::NotAttachable {
                pid: 9,
                name: "daemon".to_owned(),
                reason: "it is a static program".to_owned(),
                remedy: "link it dynamically".to_owned(),
            },
            "it is a static program; link it dynamically",
        ),
        (Error::LinkTimeout { pid: 9, seconds: 5 }, "is the target stopped or in a debugger?"),
    ];
    for (error, told) in errors {
        let mut window = Window::with_tabs(vec![TargetTab::new(9, "daemon", Link::Opening)], None);
        window.replies.send(Reply::Opened { pid: 9, session: Err(error) }).unwrap();
        window.run();
        window.assert_sees("Could not attach to daemon");
        window.assert_sees(told);
        window.requested();
        window.click("Choose another target");
        assert!(window.requested().contains(&Request::List));
    }
}

#[test]
fn a_process_that_is_gone_gives_its_place_to_the_next() {
    let mut window = Window::with_tabs(vec![TargetTab::new(9, "daemon", Link::Opening)], None);
    window.replies.send(Reply::Opened { pid: 9, session: Err(Error::NoSuchProcess { pid: 9 }) }).unwrap();
    window.run();
    window.assert_sees("Could not attach to daemon");
    assert!(!window.sees("Try again"), "no process gets its id back");
    window.candidates([candidates(), vec![Candidate { name: "daemon".to_owned(), ..again() }]].concat());
    window.click("Choose another target");
    window.text("daemon");
    window.key(Key::Enter);
    window.assert_sees("Attaching to daemon");
    assert!(window.requested().contains(&Request::Open { pid: 50_000 }), "not the one that is gone");
    assert!(!window.sees("daemon · 9, not attached"), "it was never anything to look at");
}

#[test]
fn a_lost_target_that_is_gone_waits_for_its_return() {
    let mut window = Window::attached(sample::snapshot());
    window.update(|snapshot| snapshot.connection = Connection::Lost("broken pipe".to_owned()));
    window.click("Attach again");
    window.replies.send(Reply::Opened { pid: 48213, session: Err(Error::NoSuchProcess { pid: 48213 }) }).unwrap();
    window.run();
    window.assert_sees("aurora has ended.");
    assert!(!window.sees("Attach again"));
    window.requested();
    window.candidates(vec![again()]);
    assert_eq!(window.requested(), [Request::Open { pid: 50_000 }]);
}

#[test]
fn what_is_offered_is_looked_at_again() {
    let mut window = Window::with_tabs(Vec::new(), None);
    let dashboard = Candidate { exe: "/usr/bin/reload-dashboard".into(), name: "other".to_owned(), ..again() };
    window.candidates([candidates(), vec![dashboard]].concat());
    assert!(window.sees("Attach to demo · 4711, /home/ada/demo"));
    assert!(!window.sees("Attach to other · 50000, /usr/bin/reload-dashboard"), "another dashboard");
    window.requested();
    deadline::wait_for("another look, as it may have ended", || {
        window.run();
        window.requested().contains(&Request::List).then_some(())
    });
    window.candidates(Vec::new());
    assert!(!window.sees("Attach to demo · 4711, /home/ada/demo"));
}

#[test]
fn forked_processes_are_offered_as_targets_behind_their_parent() {
    let mut window = Window::attached(sample::snapshot());
    window.requested();
    for pid in [48_300, 48_301] {
        window.send(Update::Event { time: sample::now(), event: Event::Forked { pid } });
    }
    window.assert_sees("aurora has forked 2 processes");
    window.click("Follow them");
    let opened: Vec<Request> = window.requested();
    assert_eq!(opened, [Request::Open { pid: 48_300 }, Request::Open { pid: 48_301 }]);
    assert_eq!(window.rows()[0], "libphysics.so, Failed", "the parent stays shown");
    assert!(!window.sees("Follow them"));
    assert!(window.sees("aurora · 48300, attaching"), "a tab of its own");
}

#[test]
fn each_target_keeps_its_selection() {
    let mut window = Window::attached(sample::snapshot());
    window.click("libecs.so, Current");
    window.candidates(candidates());
    window.keys(Modifiers::COMMAND, Key::T);
    window.click("demo · 4711, /home/ada/demo");
    window.keys(Modifiers::COMMAND, Key::PageDown);
    assert_eq!(window.selected().as_deref(), Some("libecs.so, Current"));
    window.click("Close demo · 4711");
    assert_eq!(window.selected().as_deref(), Some("libecs.so, Current"), "closing another one moves nothing");
}

#[test]
fn an_ended_target_that_runs_again_is_taken_up_with_its_marks() {
    let mut window = Window::attached(sample::snapshot());
    window.update(|snapshot| snapshot.connection = Connection::Exited(None));
    window.requested();
    window.candidates([candidates(), vec![again()]].concat());
    assert_eq!(window.requested(), [Request::Open { pid: 50_000 }]);
    let (session, peer) = Peer::new();
    window.replies.send(Reply::Opened { pid: 50_000, session: Ok(session) }).unwrap();
    window.peer = Some(peer);
    window.update(|snapshot| {
        snapshot.connection = Connection::Attached;
        snapshot.target.pid = 50_000;
        snapshot.mode = Mode::Off;
        snapshot.modules.truncate(2);
        for module in &mut snapshot.modules {
            module.mark = Mark::None;
        }
    });
    let mark = |name| Command::Mark { modules: vec![sample::path(name)], mark: Mark::Reload };
    assert_eq!(window.ordered(), mark("libphysics.so"));
    assert_eq!(window.ordered(), mark("libai_planner.so"));
    assert_eq!(window.ordered(), Command::SetMode(Mode::Marked));
    window.assert_no_order();
}

#[test]
fn what_can_be_attached_is_offered_at_once() {
    let mut window = Window::with_tabs(Vec::new(), None);
    window.candidates(candidates());
    window.click("Attach to demo · 4711, /home/ada/demo");
    assert!(window.requested().contains(&Request::Open { pid: 4711 }));
}

#[test]
fn several_targets_are_open_at_once() {
    let mut window = Window::attached(sample::snapshot());
    window.candidates(candidates());
    window.keys(Modifiers::COMMAND, Key::T);
    window.click("demo · 4711, /home/ada/demo");
    window.assert_sees("Attaching to demo");
    window.keys(Modifiers::COMMAND, Key::T);
    window.text("aurora 48213");
    window.key(Key::Enter);
    assert_eq!(window.rows()[0], "libphysics.so, Failed");
    window.click("demo · 4711, attaching");
    window.assert_sees("Attaching to demo");
    window.keys(Modifiers::COMMAND, Key::PageDown);
    assert_eq!(window.rows()[0], "libphysics.so, Failed");
    window.keys(Modifiers::COMMAND, Key::PageUp);
    window.assert_sees("Attaching to demo");
    window.click("Close demo · 4711");
    assert_eq!(window.rows()[0], "libphysics.so, Failed");
    window.keys(Modifiers::COMMAND, Key::W);
    window.assert_sees("Not attached");
}

#[test]
fn attaching_can_be_cancelled() {
    let mut window = Window::with_tabs(vec![TargetTab::new(9, "daemon", Link::Opening)], None);
    window.click("Cancel");
    window.assert_sees("Not attached");
    let (session, peer) = Peer::new();
    window.replies.send(Reply::Opened { pid: 9, session: Ok(session) }).unwrap();
    window.run();
    assert!(peer.updates.send(Update::Snapshot(Arc::new(sample::snapshot()))).is_err(), "the late session is closed");
}

#[test]
fn a_program_that_was_told_to_end_has_not_crashed() {
    let mut window = Window::attached(sample::snapshot());
    window.focus(false);
    window.requested();
    window.click("libecs.so, Current");
    window.send(Update::Event { time: sample::now(), event: Event::Exited { status: Some(128 + 15) } });
    window.update(|snapshot| snapshot.connection = Connection::Exited(Some(128 + 15)));
    window.assert_sees("aurora has ended by signal 15 (SIGTERM)");
    assert!(!window.sees("look at its changes first"));
    let notified = window.requested();
    assert!(!notified.iter().any(|request| matches!(request, Request::Notify { .. })), "{notified:?}");
    window.assert_sees("ran to the end");
    assert!(!window.sees("Up to date"), "nothing runs any more");
    window.click("aurora, Current");
    window.assert_sees("ran until then what it was started with");
}

#[test]
fn a_crash_names_the_reload_before_it_and_starts_again() {
    let mut window = Window::attached(sample::snapshot());
    window.file("[program.aurora]\nlaunch = ['./build/aurora', '--level', '3']");
    window.focus(false);
    window.requested();
    let event = Event::Exited { status: Some(128 + 11) };
    window.send(Update::Event { time: sample::now(), event });
    window.update(|snapshot| snapshot.connection = Connection::Exited(Some(128 + 11)));
    window.assert_sees("aurora has ended by signal 11 (SIGSEGV)");
    window.assert_sees("look at its changes first");
    let notified = window.requested();
    assert!(
        matches!(&notified[..], [Request::Notify { summary, .. }, ..] if summary == "aurora has crashed"),
        "{notified:?}"
    );
    window.click("Start again");
    let command: Vec<String> = ["./build/aurora", "--level", "3"].map(str::to_owned).to_vec();
    assert!(window.requested().contains(&Request::Launch { command: command.clone() }));
    window.assert_sees("Starting aurora");
    let (session, peer) = Peer::new();
    let started = Ok(Started { pid: 50_000, name: "aurora".to_owned(), session });
    window.replies.send(Reply::Launched { command, started }).unwrap();
    window.peer = Some(peer);
    window.update(|snapshot| {
        snapshot.connection = Connection::Attached;
        snapshot.target.pid = 50_000;
        snapshot.mode = Mode::Off;
        snapshot.modules.iter_mut().for_each(|module| module.mark = Mark::None);
    });
    let first = window.ordered();
    assert!(matches!(&first, Command::Mark { mark: Mark::Reload, .. }), "{first:?}");
}

#[test]
fn the_file_decides_about_a_new_target_and_edits_count_at_once() {
    let mut window = Window::with_tabs(vec![TargetTab::new(48213, "aurora", Link::Opening)], None);
    window.file("auto = 'all'\n[program.aurora]\nmark = ['libecs.so']\nskip = ['libweather.so']");
    let (session, peer) = Peer::new();
    window.replies.send(Reply::Opened { pid: 48213, session: Ok(session) }).unwrap();
    window.peer = Some(peer);
    window.update(|snapshot| {
        snapshot.mode = Mode::Off;
        snapshot.modules.iter_mut().for_each(|module| module.mark = Mark::None);
    });
    let mark = |name, mark| Command::Mark { modules: vec![sample::path(name)], mark };
    assert_eq!(window.ordered(), mark("libecs.so", Mark::Reload));
    assert_eq!(window.ordered(), mark("libweather.so", Mark::Skip));
    assert_eq!(window.ordered(), Command::SetMode(Mode::All));
    window.assert_no_order();
    window.update(|snapshot| snapshot.mode = Mode::All);
    window.file("auto = 'marked'\n[program.aurora]\nmark = ['libecs.so']\nskip = ['libweather.so']");
    assert_eq!(window.ordered(), Command::SetMode(Mode::Marked));
    window.assert_no_order();
    window.update(|snapshot| {
        let marked = snapshot.modules.iter_mut().find(|module| module.name == "libecs.so");
        marked.expect("a module of the sample").mark = Mark::Reload;
    });
    window.file("auto = 'marked'\n[program.aurora]\nskip = ['libweather.so']");
    assert_eq!(window.ordered(), mark("libecs.so", Mark::None), "it was taken out of the file");
    window.assert_no_order();
}

#[test]
fn the_file_decides_about_a_target_opened_later() {
    let mut window = Window::with_tabs(Vec::new(), None);
    window.file("[program.aurora]\nauto = 'all'\nmark = ['libecs.so']");
    window.candidates(vec![again()]);
    window.click("Attach to aurora · 50000, /home/ada/aurora/build/aurora");
    let (session, peer) = Peer::new();
    window.replies.send(Reply::Opened { pid: 50_000, session: Ok(session) }).unwrap();
    window.peer = Some(peer);
    window.update(|snapshot| {
        snapshot.target.pid = 50_000;
        snapshot.mode = Mode::Off;
        snapshot.modules.iter_mut().for_each(|module| module.mark = Mark::None);
    });
    assert_eq!(window.ordered(), Command::Mark { modules: vec![sample::path("libecs.so")], mark: Mark::Reload });
    assert_eq!(window.ordered(), Command::SetMode(Mode::All));
    window.assert_no_order();
}

#[test]
fn a_flaw_in_the_file_is_told_once_with_its_line() {
    let mut window = Window::attached(sample::snapshot());
    let problem =
        || Problem { path: "/p/reload-dashboard.toml".into(), line: Some(3), reason: "unknown field".to_owned() };
    window.replies.send(Reply::Config(Err(problem()))).unwrap();
    window.run();
    window.assert_sees("/p/reload-dashboard.toml:3: unknown field");
    window.click("Dismiss this message");
    window.replies.send(Reply::Config(Err(problem()))).unwrap();
    window.run();
    assert!(!window.sees("/p/reload-dashboard.toml:3: unknown field"));
    let unkept = || Problem { reason: "unknown field; not kept".to_owned(), ..problem() };
    for _ in 0..2 {
        window.replies.send(Reply::Remembered(Err(unkept()))).unwrap();
        window.run();
        window.click("Dismiss this message");
    }
    let other = Problem { line: Some(4), ..problem() };
    for problem in [unkept(), other] {
        window.replies.send(Reply::Config(Err(problem))).unwrap();
    }
    window.run();
    assert!(window.sees("/p/reload-dashboard.toml:4: unknown field"));
    assert!(!window.sees("/p/reload-dashboard.toml:3: unknown field; not kept"), "one flaw takes the place of another");
    window.file("auto = 'all'");
    assert!(!window.sees("/p/reload-dashboard.toml:4: unknown field"), "the file has been mended");
}

#[test]
fn programs_of_the_file_are_offered() {
    let mut window = Window::with_tabs(Vec::new(), None);
    window.file("[program.aurora]\nlaunch = ['./build/aurora']");
    window.requested();
    window.click("Start aurora, ./build/aurora");
    assert_eq!(window.requested(), [Request::Launch { command: vec!["./build/aurora".to_owned()] }]);
    let error = Error::Unsupported("aurora is a static program".to_owned());
    let command = vec!["./build/aurora".to_owned()];
    window.replies.send(Reply::Launched { command: command.clone(), started: Err(error) }).unwrap();
    window.run();
    window.assert_sees("Could not start aurora");
    window.click("Try again");
    assert_eq!(window.requested(), [Request::Launch { command: command.clone() }]);
    let error = Error::Unsupported("aurora is a static program".to_owned());
    window.replies.send(Reply::Launched { command, started: Err(error) }).unwrap();
    window.run();
    window.click("Change the command");
    window.text(" --level 3");
    window.key(Key::Enter);
    let changed: Vec<String> = ["./build/aurora", "--level", "3"].map(str::to_owned).to_vec();
    assert!(window.requested().contains(&Request::Launch { command: changed }));
    window.assert_sees("Starting aurora");
    assert!(!window.sees("aurora, not attached"), "the attempt that came to nothing has no tab");
}
