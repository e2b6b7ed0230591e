//! What the window shows of an attached target where there is no table, or something went wrong; each state with its next step.

use eframe::egui::{Key, Modifiers, Rect, Theme, vec2};
use egui_kittest::kittest::Queryable;
use reload_dashboard::worker::Request;
use reload_engine::{
    error::Error,
    model::{Connection, Failure, Generation, Mode, Outcome, Receipt, Status},
    session::{Command, Event, Update},
};

use crate::{peer::Window, sample};

#[test]
fn another_controller_in_the_middle_of_a_reload_is_said() {
    let mut window = Window::attached(sample::snapshot());
    window.key(Key::F5);
    let command = window.ordered();
    let message = Error::Busy { pid: 48213 }.to_string();
    let told = "Process 48213 is reloading this target just now.";
    window.send(Update::CommandFailed { command, message: message.clone(), detail: Vec::new() });
    assert!(window.sees(told));
    window.click("Repeat the command");
    assert!(!window.sees(told));
    let command = window.ordered();
    assert!(matches!(command, Command::Reload { .. }));
    window.send(Update::CommandFailed { command, message, detail: Vec::new() });
    assert!(window.sees(told));
    window.click("Dismiss");
    assert!(!window.sees(told));
    window.update(|snapshot| snapshot.modules[1].status = Status::Reloading);
    window.click("libai_planner.so, Reloading");
    window.assert_sees("The new code is being prepared; the old one still runs.");
}

#[test]
fn long_news_keep_clear_of_what_can_be_pressed() {
    let mut window = Window::sized(sample::snapshot(), vec2(640.0, 480.0), Theme::Dark);
    window.key(Key::F5);
    let (command, told) = (window.ordered(), "/home/ada/aurora/libnew.so: undefined symbol: physics_missing_symbol");
    window.send(Update::CommandFailed { command, message: told.to_owned(), detail: Vec::new() });
    window.send(Update::Event { time: sample::now(), event: Event::Mode { mode: Mode::All } });
    let place = |label: &str| -> Rect { window.harness.get_by_label_contains(label).rect() };
    let (banner, news) = (place("undefined symbol: physics"), place("Auto was set to all except skipped, by"));
    assert!(banner.right() < place("Repeat the command").left(), "{banner}");
    assert!(news.right() < place("Dismiss this message").left(), "{news}");
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
    assert!(window.sees("/no/such.so: no such file."));
    window.assert_sees("dlopen failed in the target");
    window.click("Dismiss");
    assert!(!window.sees("/no/such.so: no such file."));
}

#[test]
fn a_banner_is_no_higher_than_what_it_says() {
    let mut window = Window::attached(sample::snapshot());
    let table = |window: &mut Window, detail: &[&str]| {
        let detail = detail.iter().map(|line| (*line).to_owned()).collect();
        window.send(Update::CommandFailed { command: Command::Detach, message: "no".to_owned(), detail });
        window.harness.get_by_label("Sort by Status").rect().top()
    };
    let low = table(&mut window, &[]);
    assert!(table(&mut window, &["because", "of", "this"]) > low);
    assert_eq!(table(&mut window, &[]), low);
}

#[test]
fn a_notice_such_as_the_watcher_limit_is_told() {
    let mut window = Window::attached(sample::snapshot());
    let message = "fs.inotify.max_user_watches is used up; raise it with sysctl".to_owned();
    window
        .send(Update::Event { time: std::time::SystemTime::now(), event: Event::Notice { message: message.clone() } });
    let told = format!("{message}.");
    assert!(window.sees(&told));
    window.key(Key::Escape);
    assert!(!window.sees(&told));
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
fn what_is_told_beside_the_pointer_gives_way_to_a_dialog() {
    let mut window = Window::attached(sample::snapshot());
    let hint = "Show or hide the details (Ctrl+B)";
    let button = window.harness.get_by_label("Details").rect().center();
    window.harness.hover_at(button);
    window.harness.run_steps(4);
    assert!(window.sees(hint));
    window.keys(Modifiers::COMMAND, Key::K);
    window.assert_sees("Type a command, a module or a target");
    assert!(!window.sees(hint), "the pointer has not moved");
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
    window.send(event(Event::Recovered { module: "aurora".to_owned() }));
    assert!(window.sees("aurora has recovered"), "names keep their letters");
    window.send(event(Event::Mode { mode: Mode::All }));
    window.assert_sees("Auto was set to all except skipped, by another dashboard or terminal");
    window.keys(Modifiers::ALT, Key::Num1);
    window.send(event(Event::Mode { mode: Mode::Off }));
    assert!(!window.sees("Auto was set to off, by another dashboard or terminal"), "that was done here");
    window.update(|snapshot| {
        let module = &mut snapshot.modules[0];
        module.status = Status::Current;
        module.failure = None;
        let mut entry = module.history[0].as_ref().clone();
        entry.time = sample::now();
        module.history.push(entry.into());
    });
    window.assert_sees("Recovered");
    window.assert_sees("Before that, 1 attempt did not succeed");
}

/// Of an order whose effect is nowhere to be seen, the window says why there is none.
#[test]
fn an_order_without_effect_is_answered() {
    let mut window = Window::attached(sample::snapshot());
    let skipped = |name: &str| Receipt::empty(name, Outcome::Skipped, Generation(1));
    let done = |modules: &[&str], receipts: Vec<Receipt>| {
        let modules = modules.iter().map(|name| (*name).to_owned()).collect();
        Update::Done { command: Command::Reload { modules, force: false }, receipts }
    };
    // That one is skipped, or gone, its row says.
    window.send(done(&[], vec![skipped("libtelemetry.so"), skipped("libanim_blend.so")]));
    window.assert_sees("Nothing to reload");
    window.send(done(&[], vec![skipped("libphysics.so")]));
    window.assert_sees("`libphysics.so` is left alone until its file changes; reload it by itself (R) to insist");
    window.send(done(&[], vec![skipped("libphysics.so"), skipped("libai_planner.so")]));
    window.assert_sees("2 modules are left alone until their files change");
    window.send(done(&["libweather.so"], vec![Receipt::empty("libweather.so", Outcome::Unchanged, Generation(4))]));
    window.assert_sees("`libweather.so` runs what is on disk already");
    let stopped = |name: &str, outcome: Outcome| {
        let failure = sample::snapshot().modules[0].failure.clone();
        let failure = failure.map(|failure| Failure { message: format!("{name}: it grew"), ..failure });
        Receipt { failure, ..Receipt::empty(name, outcome, Generation(0)) }
    };
    let refused = |name: &str| stopped(name, Outcome::Refused);
    window.send(done(&[], vec![stopped("libai_planner.so", Outcome::Skipped)]));
    assert!(!window.sees("`libai_planner.so` is left alone until its file changes; reload it by itself (R) to insist"));
    window.send(done(&["libtelemetry.so"], vec![refused("libtelemetry.so")]));
    window.assert_sees("`libtelemetry.so` was not reloaded: it grew");
    window.send(done(&["libanim_blend.so"], vec![refused("libanim_blend.so")]));
    window.assert_sees("`libanim_blend.so` was not reloaded: it grew");
    // The row of one that is not skipped tells it.
    window.send(done(&["libphysics.so"], vec![refused("libphysics.so")]));
    assert!(!window.sees("`libphysics.so` was not reloaded: it grew"));
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
