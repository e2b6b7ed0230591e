//! The details of the selected module: what happened to it, what happens just now, and what the user may do about it.

use std::time::Duration;

use eframe::egui::{Key, Modifiers};
use reload_engine::{
    model::{Change, Stage, Status},
    session::Command,
};

use crate::{peer::Window, sample};

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
fn the_failure_tells_what_still_runs_and_what_happens_next() {
    let window = Window::attached(sample::snapshot());
    window.assert_sees("Failed while loading the new code");
    window.assert_sees("Undefined symbol:");
    window.assert_sees("world_gravity.");
    window.assert_sees("Generation 41 still runs, with its state untouched.");
    window.assert_sees("Tried again when the file changes");
    window.assert_sees("Link what is missing and build again");
}

#[test]
fn a_skipped_module_tells_how_to_stop_skipping() {
    let mut window = Window::attached(sample::snapshot());
    window.key(Key::End);
    window.assert_sees("Stop skipping it (S)");
}

#[test]
fn a_skipped_module_tells_that_its_file_has_changed() {
    let told = "The file on disk is not what runs.";
    let mut snapshot = sample::snapshot();
    let mut window = Window::attached(snapshot.clone());
    window.key(Key::End);
    assert!(!window.sees(told));
    let skipped = snapshot.modules.iter_mut().filter(|module| module.status == Status::Skipped);
    skipped.for_each(|module| module.differs = true);
    let mut window = Window::attached(snapshot);
    window.key(Key::End);
    window.assert_sees(told);
}

#[test]
fn a_hook_that_says_no_is_not_overruled_and_what_was_put_back_is_said() {
    let mut snapshot = sample::snapshot();
    sample::put_back(&mut snapshot);
    let mut window = Window::attached(snapshot);
    window.click("libecs.so, Refused");
    window.assert_sees("Generation 23 runs again: the new code had run for a moment.");
    window.assert_sees("see to what it checks, then try again");
    assert!(!window.sees("Reload anyway…"));
    assert!(!window.sees("Further reasons"), "all is told already");
    window.click("libsave_format.so, Refused");
    assert!(window.sees("Reload anyway…"));
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
        let mut entry = module.history.last().expect("a history").as_ref().clone();
        entry.what = Change::Rollback;
        entry.time = sample::now();
        module.history.push(entry.into());
    });
    assert!(window.sees("Reload now"), "nothing waits for it");
    window.assert_sees("is left alone, also by Reload now, until it changes");
}

#[test]
fn the_sign_of_a_warning_in_a_row_is_explained_beside_it() {
    let mut window = Window::attached(sample::snapshot());
    let weather = sample::snapshot().modules.into_iter().find(|module| module.name == "libweather.so");
    let receipt = weather.expect("of the sample").history.pop().expect("it was reloaded").receipt.clone();
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
fn long_reloads_tell_their_stage_and_can_be_cancelled() {
    let mut window = Window::attached(sample::snapshot());
    let progress = window.peer.as_ref().unwrap().progress.clone();
    let underway = progress.begin("librender_passes.so", false);
    underway.enter(Stage::Plan).unwrap();
    window.run();
    assert!(!window.sees("Cancel the reload"), "most reloads are over before one could read of them");
    sample::wait(Duration::from_millis(300));
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
