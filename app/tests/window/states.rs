//! What the window shows where there is no table, or something went wrong; each state with its next step.

use std::{sync::Arc, time::Duration};

use eframe::egui::{Key, Modifiers, Role, Theme, accesskit::Action};
use egui_kittest::kittest::NodeT;
use reload_dashboard::{
    config::file::Problem,
    window::{Link, TargetTab},
    worker::{Candidate, Reply, Request, Started},
};
use reload_engine::{
    error::Error,
    model::{Change, Connection, Generation, Mark, Mode, Outcome, Receipt, Stage, Status},
    session::{Command, Event, Update},
    target::attach::Obstacle,
};

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
    window.assert_sees("run as that user or as root");
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
fn another_controller_in_the_middle_of_a_reload_is_said() {
    let mut window = Window::attached(sample::snapshot());
    window.key(Key::F5);
    let command = window.ordered();
    let message = Error::Busy { pid: 48213 }.to_string();
    window.send(Update::CommandFailed { command, message: message.clone(), detail: Vec::new() });
    window.assert_sees(&message);
    window.click("Repeat the command");
    assert!(!window.sees(&message));
    let command = window.ordered();
    assert!(matches!(command, Command::Reload { .. }));
    window.send(Update::CommandFailed { command, message: message.clone(), detail: Vec::new() });
    window.assert_sees(&message);
    window.click("Dismiss");
    assert!(!window.sees(&message));
    window.update(|snapshot| snapshot.modules[1].status = Status::Reloading);
    window.click("libai_planner.so, Reloading");
    window.assert_sees("The new code is being prepared; the old one still runs.");
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
fn names_in_other_scripts_are_shown_and_ask_for_fonts_where_ours_lack_them() {
    let mut snapshot = sample::snapshot();
    snapshot.modules[0].name = "libфизика_και_φως.so".to_owned();
    snapshot.modules[0].path = "/home/ада/сборка/libфизика_και_φως.so".into();
    let window = Window::attached(snapshot.clone());
    assert_eq!(window.rows()[0], "libфизика_και_φως.so, Failed");
    assert!(!window.requested().iter().any(|request| matches!(request, Request::Fonts(_))), "the fonts have these");
    snapshot.modules[0].path = "/home/ada/ქარი/libx.so".into();
    let mut window = Window::tolerant(snapshot);
    let asked = window.requested();
    let georgian: std::collections::BTreeSet<char> = "ქარი".chars().collect();
    assert!(asked.contains(&Request::Fonts(georgian)), "{asked:?}");
    window.update(|snapshot| snapshot.mode = Mode::Off);
    assert_eq!(window.requested(), [], "once");
}

#[test]
fn no_modules_offers_to_load_one() {
    let mut snapshot = sample::snapshot();
    snapshot.modules.clear();
    let mut window = Window::attached(snapshot);
    window.assert_sees("No modules");
    window.click("Load a module");
    window.text("/a.so");
    window.key(Key::Enter);
    assert_eq!(window.ordered(), Command::Load("/a.so".into()));
}

#[test]
fn no_match_offers_to_clear_the_filter() {
    let mut window = Window::attached(sample::snapshot());
    window.keys(Modifiers::COMMAND, Key::F);
    window.text("no such module");
    window.assert_sees("No module matches");
    window.click("Clear filter");
    assert_eq!(window.rows()[0], "libphysics.so, Failed");
}

#[test]
fn an_ended_target_is_said_and_takes_no_orders() {
    let mut window = Window::attached(sample::snapshot());
    window.update(|snapshot| snapshot.connection = Connection::Exited(Some(3)));
    window.assert_sees("aurora has ended with status 3");
    window.assert_sees("Not watching");
    window.key(Key::F5);
    window.key(Key::R);
    window.key(Key::Space);
    window.click("Auto: off");
    window.click("Reload now, 1 changed");
    window.assert_no_order();
    assert_eq!(window.rows()[0], "libphysics.so, Failed", "what was known stays to be read");
}

#[test]
fn an_ended_target_that_runs_again_is_taken_up_with_its_marks() {
    let mut window = Window::attached(sample::snapshot());
    window.update(|snapshot| snapshot.connection = Connection::Exited(None));
    window.requested();
    let again = Candidate {
        pid: 50_000,
        name: "aurora".to_owned(),
        exe: "/home/ada/aurora/build/aurora".into(),
        age: Duration::ZERO,
        modules: 1,
        agent: false,
        attachable: Ok(()),
    };
    window.candidates([candidates(), vec![again]].concat());
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
fn a_refused_module_can_be_reloaded_anyway() {
    let mut window = Window::attached(sample::snapshot());
    window.click("libsave_format.so, Refused");
    window.click("Reload anyway…");
    window.assert_no_order();
    window.assert_sees("Reload libsave_format.so anyway?");
    window.assert_sees("moved from offset 16 to 24");
    window.assert_sees("save::LAST");
    window.click("Leave it");
    window.assert_no_order();
    window.click("Reload anyway…");
    window.click("Reload anyway");
    assert_eq!(window.ordered(), Command::Reload { modules: vec![sample::path("libsave_format.so")], force: true });
}

#[test]
fn a_lost_connection_is_opened_again() {
    let mut window = Window::attached(sample::snapshot());
    window.requested();
    window.update(|snapshot| snapshot.connection = Connection::Lost("broken pipe".to_owned()));
    window.assert_sees("Connection lost: broken pipe");
    window.click("Attach again");
    assert_eq!(window.requested(), [Request::Open { pid: 48213 }]);
}

#[test]
fn a_session_that_ends_by_itself_is_a_lost_connection() {
    let mut window = Window::attached(sample::snapshot());
    window.peer = None;
    window.run();
    window.assert_sees("Connection lost");
    window.key(Key::F5);
    window.click("Attach again");
}

#[test]
fn detached_is_said_and_taken_back() {
    let mut window = Window::attached(sample::snapshot());
    window.update(|snapshot| snapshot.connection = Connection::Detached);
    window.assert_sees("Detached. The program keeps its current generations");
    window.assert_sees("Detached, not watching");
    window.click("Attach again");
    assert_eq!(window.ordered(), Command::Attach);
}

#[test]
fn a_command_that_failed_is_told_until_dismissed() {
    let mut window = Window::attached(sample::snapshot());
    window.send(Update::CommandFailed {
        command: Command::Load("/no/such.so".into()),
        message: "/no/such.so: no such file".to_owned(),
        detail: vec!["dlopen failed in the target".to_owned()],
    });
    window.assert_sees("/no/such.so: no such file");
    window.assert_sees("dlopen failed in the target");
    window.click("Dismiss");
    assert!(!window.sees("/no/such.so: no such file"));
}

#[test]
fn a_notice_such_as_the_watcher_limit_is_told() {
    let mut window = Window::attached(sample::snapshot());
    let message = "fs.inotify.max_user_watches is used up; raise it with sysctl".to_owned();
    window
        .send(Update::Event { time: std::time::SystemTime::now(), event: Event::Notice { message: message.clone() } });
    window.assert_sees(&message);
    window.key(Key::Escape);
    assert!(!window.sees(&message));
}

#[test]
fn the_failure_tells_what_still_runs_and_what_happens_next() {
    let window = Window::attached(sample::snapshot());
    window.assert_sees("Failed while loading the new code");
    window.assert_sees("Undefined symbol: world_gravity.");
    window.assert_sees("Generation 41 still runs, with its state untouched.");
    window.assert_sees("tried again when the file changes");
    window.assert_sees("Link what is missing and build again");
}

#[test]
fn a_refusal_tells_each_of_its_reasons() {
    let mut window = Window::attached(sample::snapshot());
    window.click("libsave_format.so, Refused");
    window.assert_sees("Refused while comparing it with what runs");
    window.assert_sees("Further reasons");
    window.assert_sees("save::LAST");
    window.assert_sees("Open header.hpp:31 in the editor");
    window.assert_sees("Generation 3 still runs");
}

#[test]
fn the_tabs_show_changes_history_and_info() {
    let mut window = Window::attached(sample::snapshot());
    window.click("libecs.so, Current");
    window.assert_sees("Up to date");
    window.click("Changes");
    window.assert_sees("physics::contact::warm_start");
    window.harness.get_by_placeholder_and_focus("Search functions and statics");
    window.text("cold");
    window.assert_sees("physics::contact::cold_start");
    assert!(!window.sees("physics::contact::warm_start"));
    window.click("History");
    window.click("Reloaded, generation 23, 4 min ago");
    window.assert_sees("Stood still");
    window.click("Info");
    window.assert_sees("libecs.so.1");
    window.assert_sees("ptrace");
}

#[test]
fn a_rolled_back_file_is_not_counted_as_waiting() {
    let mut window = Window::attached(sample::snapshot());
    assert!(window.sees("Reload now, 1 changed"));
    window.click("libai_planner.so, Changed");
    window.assert_sees("nothing has been tried yet");
    window.update(|snapshot| {
        let module = &mut snapshot.modules[1];
        let mut entry = module.history.last().cloned().expect("a history");
        entry.what = Change::Rollback;
        entry.time = sample::now();
        module.history.push(entry);
    });
    assert!(window.sees("Reload now"), "nothing waits for it");
    window.assert_sees("is left alone until it changes");
}

#[test]
fn the_sign_of_a_warning_in_a_row_is_explained_beside_it() {
    let mut window = Window::attached(sample::snapshot());
    let weather = sample::snapshot().modules.into_iter().find(|module| module.name == "libweather.so");
    let receipt = weather.expect("of the sample").history.pop().expect("it was reloaded").receipt;
    window.keys(Modifiers::COMMAND, Key::F);
    window.text("weather");
    assert!(!window.sees(&receipt.warnings[0]));
    window.click("libweather.so, Current, 1 warning");
    window.assert_sees(&receipt.warnings[0]);
}

#[test]
fn details_are_hidden_and_shown() {
    let mut window = Window::attached(sample::snapshot());
    assert!(window.sees("Trace"));
    window.keys(Modifiers::COMMAND, Key::B);
    assert!(!window.sees("Trace"));
    window.click("Details");
    assert!(window.sees("Trace"));
}

#[test]
fn the_theme_is_switched() {
    let mut window = Window::attached(sample::snapshot());
    window.click("Light theme");
    assert!(window.sees("Dark theme"));
    window.keys(Modifiers::COMMAND, Key::K);
    window.text("dark theme");
    window.key(Key::Enter);
    assert!(window.sees("Light theme"));
}

#[test]
fn help_lists_the_keys() {
    let mut window = Window::attached(sample::snapshot());
    window.text("?");
    window.assert_sees("Roll the selected module back");
    window.key(Key::Escape);
    window.click("Keyboard shortcuts");
    window.assert_sees("Roll the selected module back");
    window.click("Close");
    assert!(!window.sees("Roll the selected module back"));
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
fn long_reloads_tell_their_stage_and_can_be_cancelled() {
    let mut window = Window::attached(sample::snapshot());
    let progress = window.peer.as_ref().unwrap().progress.clone();
    let underway = progress.begin("librender_passes.so", false);
    underway.enter(Stage::Plan).unwrap();
    window.run();
    assert!(!window.sees("Cancel the reload"), "most reloads are over before one could read of them");
    std::thread::sleep(std::time::Duration::from_millis(320));
    window.run();
    window.assert_sees("Reloading librender_passes.so · comparing it with what runs");
    window.click("librender_passes.so, Reloading");
    window.assert_sees("Step 4 of 11: comparing it with what runs, outside of the program");
    window.click("Cancel the reload");
    assert!(underway.enter(Stage::Shadow).is_err());
    drop(underway);
    window.run();
    assert!(!window.sees("Cancel the reload"));
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
fn a_failure_is_notified_only_while_looking_elsewhere() {
    let mut window = Window::attached(sample::snapshot());
    let mut receipt = Receipt::empty("libecs.so", Outcome::Refused, Generation(23));
    receipt.failure = Some(sample::refusal());
    let failure = || Update::Event {
        time: sample::now(),
        event: Event::Refused { module: "libecs.so".to_owned(), receipt: receipt.clone() },
    };
    window.requested();
    window.send(failure());
    assert_eq!(window.requested(), []);
    window.focus(false);
    window.send(failure());
    let requests = window.requested();
    let [Request::Notify { summary, body }] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!(summary, "libecs.so was refused");
    assert!(body.contains("`save::Header`") && body.contains("Generation 23 runs on"), "{body}");
    window.focus(true);
    assert_eq!(window.requested(), [Request::ReadConfig], "the file may have been edited meanwhile");
}

#[test]
fn recoveries_and_other_peoples_doings_are_told_in_passing() {
    let mut window = Window::attached(sample::snapshot());
    let event = |event| Update::Event { time: sample::now(), event };
    window.send(event(Event::Recovered { module: "libphysics.so".to_owned() }));
    window.assert_sees("libphysics.so has recovered");
    window.send(event(Event::Mode { mode: Mode::All }));
    window.assert_sees("Auto was set to all except skipped, by another dashboard or terminal");
    window.keys(Modifiers::ALT, Key::Num1);
    window.send(event(Event::Mode { mode: Mode::Off }));
    assert!(!window.sees("Auto was set to off, by another dashboard or terminal"), "that was done here");
    window.update(|snapshot| {
        let module = &mut snapshot.modules[0];
        module.status = Status::Current;
        module.failure = None;
        let mut entry = module.history[0].clone();
        entry.time = sample::now();
        module.history.push(entry);
    });
    window.assert_sees("Recovered");
    window.assert_sees("1 attempt that did not succeed");
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
    assert_eq!(window.requested(), [Request::Launch { command }]);
}

#[test]
fn every_control_has_a_name() {
    for tabs in ["Trace", "Changes", "History", "Info"] {
        let mut window = Window::attached(sample::snapshot());
        window.candidates(candidates());
        window.click(tabs);
        let unnamed: Vec<String> = window
            .harness
            .root()
            .children_recursive()
            .filter(|node| {
                let node = node.accesskit_node();
                let acts = node.data().supports_action(Action::Click) || node.data().supports_action(Action::Focus);
                // What is egui's own, and text, which can be selected.
                let own = matches!(node.role(), Role::Label | Role::TextRun | Role::ScrollBar);
                acts && !own && node.label().is_none_or(|label| label.is_empty()) && node.data().placeholder().is_none()
            })
            .map(|node| format!("{:?} at {:?}", node.accesskit_node().role(), node.rect()))
            .collect();
        assert!(unnamed.is_empty(), "{tabs}: {unnamed:?}");
        // Icons are characters of a private area, which nobody can read aloud.
        let private = |name: &String| name.chars().any(|letter| ('\u{e000}'..='\u{f8ff}').contains(&letter));
        let nodes = window.harness.root().children_recursive();
        let unreadable: Vec<String> = nodes.filter_map(|node| node.accesskit_node().label()).filter(private).collect();
        assert!(unreadable.is_empty(), "{tabs}: {unreadable:?}");
    }
}

#[test]
fn nothing_moves_by_itself() {
    let window = Window::attached(sample::snapshot());
    for theme in [Theme::Dark, Theme::Light] {
        let style = window.harness.ctx.style_of(theme);
        assert_eq!(style.animation_time, 0.0);
        assert!(!style.visuals.text_cursor.blink);
    }
}

#[test]
fn an_idle_window_does_not_repaint() {
    let mut window = Window::attached(sample::snapshot());
    window.run();
    let delay = window.harness.output().viewport_output.values().map(|viewport| viewport.repaint_delay).min();
    assert!(delay.is_some_and(|delay| delay.as_secs() >= 9), "{delay:?}");
    window.keys(Modifiers::COMMAND, Key::F);
    let delay = window.harness.output().viewport_output.values().map(|viewport| viewport.repaint_delay).min();
    assert!(delay.is_some_and(|delay| delay.as_secs() >= 9), "the caret does not blink: {delay:?}");
}

trait FocusField {
    fn get_by_placeholder_and_focus(&mut self, placeholder: &str);
}

impl<State> FocusField for egui_kittest::Harness<'_, State> {
    fn get_by_placeholder_and_focus(&mut self, placeholder: &str) {
        use egui_kittest::kittest::{By, Queryable};
        let by = By::new().predicate(move |node| node.data().placeholder() == Some(placeholder));
        self.get(by).focus();
        self.run();
    }
}
