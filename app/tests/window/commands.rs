//! Every command, by key and by pointer: which order reaches the session.

use eframe::egui::{Key, Modifiers, Role};
use egui_kittest::kittest::Queryable;
use reload_dashboard::worker::{Reply, Request};
use reload_engine::{
    model::{Mark, Mode, Status},
    session::Command,
};

use crate::{peer::Window, sample};

const CTRL: Modifiers = Modifiers::COMMAND;

fn window() -> Window {
    Window::attached(sample::snapshot())
}

fn reload_all() -> Command {
    Command::Reload { modules: Vec::new(), force: false }
}

fn reload(name: &str) -> Command {
    Command::Reload { modules: vec![sample::path(name)], force: false }
}

fn mark(name: &str, mark: Mark) -> Command {
    Command::Mark { modules: vec![sample::path(name)], mark }
}

#[test]
fn reload_now_by_key_and_pointer() {
    let mut window = window();
    window.key(Key::F5);
    assert_eq!(window.ordered(), reload_all());
    window.keys(CTRL, Key::R);
    assert_eq!(window.ordered(), reload_all());
    window.click("Reload now, 1 changed");
    assert_eq!(window.ordered(), reload_all());
    window.assert_no_order();
}

#[test]
fn a_module_is_reloaded_by_key_row_button_and_details() {
    let mut window = window();
    window.key(Key::R);
    assert_eq!(window.ordered(), reload("libphysics.so"));
    window.click("Reload libecs.so");
    assert_eq!(window.ordered(), reload("libecs.so"));
    window.click("Try again");
    assert_eq!(window.ordered(), reload("libphysics.so"));
    window.assert_no_order();
}

#[test]
fn auto_mode_by_key_and_pointer() {
    let mut window = window();
    for (key, mode) in [(Key::Num1, Mode::Off), (Key::Num2, Mode::Marked), (Key::Num3, Mode::All)] {
        window.keys(Modifiers::ALT, key);
        assert_eq!(window.ordered(), Command::SetMode(mode));
    }
    for (name, mode) in
        [("Auto: off", Mode::Off), ("Auto: marked only", Mode::Marked), ("Auto: all except skipped", Mode::All)]
    {
        window.click(name);
        assert_eq!(window.ordered(), Command::SetMode(mode));
    }
}

#[test]
fn mark_and_skip_toggle_by_key_and_pointer() {
    let mut window = window();
    window.key(Key::Space);
    assert_eq!(window.ordered(), mark("libphysics.so", Mark::None));
    window.key(Key::S);
    assert_eq!(window.ordered(), mark("libphysics.so", Mark::Skip));
    window.click("Mark libsave_format.so");
    assert_eq!(window.ordered(), mark("libsave_format.so", Mark::Reload));
    window.click("Skip libsave_format.so");
    assert_eq!(window.ordered(), mark("libsave_format.so", Mark::Skip));
    window.assert_no_order();
}

#[test]
fn roll_back_to_the_one_before_and_to_any() {
    let mut window = window();
    window.key(Key::Z);
    let to = |generation| Command::Rollback { module: sample::path("libphysics.so"), generation };
    assert_eq!(window.ordered(), to(None));
    window.click("Roll back");
    window.click("Generation 40, the one before");
    assert_eq!(window.ordered(), to(Some(40)));
    window.click("Info");
    window.click("Roll back to generation 39");
    assert_eq!(window.ordered(), to(Some(39)));
    window.assert_no_order();
}

#[test]
fn nothing_to_roll_back_to() {
    let mut window = window();
    window.update(|snapshot| snapshot.modules[0].generations.retain(|generation| generation.0 == 41));
    window.key(Key::Z);
    window.assert_no_order();
}

#[test]
fn a_module_is_loaded_from_a_typed_path() {
    let mut window = window();
    window.keys(CTRL, Key::O);
    window.text("libnew.so");
    window.key(Key::Enter);
    window.assert_no_order();
    window.assert_sees("must start at the root");
    window.click("Cancel");
    window.click("Load a module");
    window.text("/opt/build/libnew.so");
    window.key(Key::Enter);
    assert_eq!(window.ordered(), Command::Load("/opt/build/libnew.so".into()));
    assert!(!window.sees("Cancel"), "the dialog closes");
}

#[test]
fn a_module_is_loaded_from_the_file_dialog() {
    let mut window = window();
    window.requested();
    window.keys(CTRL, Key::O);
    window.click("Browse");
    assert!(window.requested().contains(&Request::PickFile));
    window.assert_sees("Choose a file in the desktop's dialog");
    window.replies.send(Reply::Picked(Some("/opt/libpicked.so".into()))).unwrap();
    window.run();
    window.click("Load");
    assert_eq!(window.ordered(), Command::Load("/opt/libpicked.so".into()));
}

#[test]
fn a_cancelled_file_dialog_leaves_the_typed_path() {
    let mut window = window();
    window.keys(CTRL, Key::O);
    window.text("/typed.so");
    window.click("Browse");
    window.replies.send(Reply::Picked(None)).unwrap();
    window.run();
    window.key(Key::Enter);
    assert_eq!(window.ordered(), Command::Load("/typed.so".into()));
}

#[test]
fn the_palette_runs_commands_by_key_and_pointer() {
    let mut window = window();
    window.keys(CTRL, Key::K);
    window.text("all except");
    window.key(Key::Enter);
    assert_eq!(window.ordered(), Command::SetMode(Mode::All));
    window.click("Commands");
    window.harness.get_by_role_and_label(Role::ListBoxOption, "Skip libphysics.so").click();
    window.run();
    assert_eq!(window.ordered(), mark("libphysics.so", Mark::Skip));
    window.assert_no_order();
}

#[test]
fn the_palette_moves_with_the_arrows_and_closes_with_escape() {
    let mut window = window();
    window.keys(CTRL, Key::K);
    window.key(Key::ArrowDown);
    window.key(Key::ArrowDown);
    window.key(Key::ArrowUp);
    window.key(Key::Enter);
    assert_eq!(window.ordered(), reload("libphysics.so"), "the second entry");
    window.keys(CTRL, Key::K);
    window.key(Key::Escape);
    assert!(!window.sees("Reload now"), "the palette is closed");
    window.key(Key::R);
    assert_eq!(window.ordered(), reload("libphysics.so"), "keys work again");
}

#[test]
fn the_palette_finds_modules() {
    let mut window = window();
    window.keys(CTRL, Key::K);
    window.text("weather");
    window.key(Key::Enter);
    assert_eq!(window.selected().as_deref(), Some("libweather.so, Current"));
    window.assert_no_order();
}

#[test]
fn keys_typed_into_a_field_are_no_commands() {
    let mut window = window();
    window.keys(CTRL, Key::F);
    for key in [Key::R, Key::S, Key::Z, Key::Space] {
        window.key(key);
    }
    window.text("rsz");
    window.assert_no_order();
    window.key(Key::F5);
    assert_eq!(window.ordered(), reload_all(), "function keys still are");
}

#[test]
fn detach_and_attach_from_the_target_picker() {
    let mut window = window();
    window.keys(CTRL, Key::T);
    window.click("Detach from aurora");
    assert_eq!(window.ordered(), Command::Detach);
    window.update(|snapshot| snapshot.connection = reload_engine::model::Connection::Detached);
    window.keys(CTRL, Key::T);
    window.click("Attach to aurora again");
    assert_eq!(window.ordered(), Command::Attach);
}

#[test]
fn a_module_that_is_reloading_is_not_reloaded_by_its_button() {
    let mut window = window();
    window.click("Reload librender_passes.so");
    window.assert_no_order();
    window.update(|snapshot| snapshot.modules[2].status = Status::Current);
    window.click("Reload librender_passes.so");
    assert_eq!(window.ordered(), reload("librender_passes.so"));
}

#[test]
fn protected_modules_cannot_be_marked() {
    let mut window = window();
    window.key(Key::End);
    window.click("Show 5 system modules");
    window.key(Key::End);
    for name in ["Mark libc.so.6", "Skip libc.so.6", "Reload libc.so.6"] {
        window.click(name);
    }
    window.assert_no_order();
}

#[test]
fn the_trace_and_the_path_are_copied() {
    let mut window = window();
    let copied = |window: &Window| {
        window.harness.output().platform_output.commands.iter().find_map(|command| match command {
            eframe::egui::OutputCommand::CopyText(text) => Some(text.clone()),
            _ => None,
        })
    };
    window.harness.get_by_label_and_click("Copy trace");
    let text = copied(&window).expect("something is copied");
    assert!(text.contains("Failed at stage plan") && text.contains("field `gravity`"), "{text}");
    window.harness.get_by_label_and_click("Copy path");
    assert_eq!(copied(&window), Some(sample::path("libphysics.so")));
}

/// One frame after the click, in which the copied text is handed over.
trait ClickOnce {
    fn get_by_label_and_click(&mut self, label: &str);
}

impl<State> ClickOnce for egui_kittest::Harness<'_, State> {
    fn get_by_label_and_click(&mut self, label: &str) {
        self.get_by_label(label).click();
        self.step();
    }
}
