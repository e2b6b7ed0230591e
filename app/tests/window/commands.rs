//! Every command, by key and by pointer: which order reaches the session.

use eframe::egui::{Key, Modifiers, Role, Theme, vec2};
use egui_kittest::kittest::{NodeT, Queryable};
use reload_dashboard::{
    config::Change,
    worker::{NoDialog, Place, Reply, Request, Wanted},
};
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
    assert!(window.requested().contains(&Request::Pick(Wanted::Library)));
    window.assert_sees("Choose a file in the desktop's dialog");
    let answer = Ok(Some("/opt/libpicked.so".into()));
    window.replies.send(Reply::Picked { wanted: Wanted::Library, answer }).unwrap();
    window.run();
    // The caret stands where the path ends: that of a long one would not be seen otherwise.
    window.text(".1");
    window.click("Load");
    assert_eq!(window.ordered(), Command::Load("/opt/libpicked.so.1".into()));
}

#[test]
fn without_a_file_dialog_the_field_and_a_hint_remain() {
    let mut window = window();
    window.keys(CTRL, Key::O);
    window.click("Browse");
    window.replies.send(Reply::Picked { wanted: Wanted::Library, answer: Err(NoDialog) }).unwrap();
    window.run();
    window.assert_sees("no portal shows one, and there is no zenity");
    window.text("/typed.so");
    window.key(Key::Enter);
    assert_eq!(window.ordered(), Command::Load("/typed.so".into()));
}

#[test]
fn a_program_is_started_by_key_and_pointer() {
    let mut window = window();
    window.requested();
    let launch = |words: &[&str]| Request::Launch { command: words.iter().map(|word| (*word).to_owned()).collect() };
    window.keys(CTRL | Modifiers::SHIFT, Key::O);
    window.text("./build/aurora --level 'the lake'");
    window.key(Key::Enter);
    assert!(window.requested().contains(&launch(&["./build/aurora", "--level", "the lake"])));
    window.assert_sees("Starting aurora");
    window.keys(CTRL, Key::K);
    window.text("start a program");
    window.key(Key::Enter);
    window.click("Browse");
    let answer = Ok(Some("/opt/my games/aurora".into()));
    window.replies.send(Reply::Picked { wanted: Wanted::Program, answer }).unwrap();
    window.run();
    window.click("Start");
    assert!(window.requested().contains(&launch(&["/opt/my games/aurora"])));
}

#[test]
fn a_report_is_exported_by_key_and_palette() {
    let mut window = window();
    window.requested();
    window.keys(CTRL, Key::E);
    window.key(Key::Enter);
    let exported = |window: &Window| {
        window.requested().into_iter().find_map(|request| match request {
            Request::Export { path, text } => Some((path, text)),
            _ => None,
        })
    };
    let (path, text) = exported(&window).expect("an export");
    assert_eq!(path.to_str(), Some("reload-report-aurora.md"));
    for part in [
        "# aurora (48213)",
        "| libphysics.so | Failed | 41 |",
        "field `checksum`",
        "undefined symbol: world_gravity",
        "Besides 3 system modules",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    window.keys(CTRL, Key::K);
    window.text("export");
    window.key(Key::Enter);
    window.click("Export");
    assert!(exported(&window).is_some());
    window.replies.send(Reply::Failed("/reload-report-aurora.md: permission denied".to_owned())).unwrap();
    window.run();
    window.assert_sees("permission denied");
    window.click("Dismiss this message");
    assert!(!window.sees("/reload-report-aurora.md: permission denied"));
}

#[test]
fn sources_named_in_a_trace_open_in_the_editor() {
    let mut window = window();
    window.file("editor = 'code -g {file}:{line}'");
    window.click("libsave_format.so, Refused");
    window.requested();
    window.click("Open header.hpp:31 in the editor");
    let expected = Request::Edit {
        editor: Some("code -g {file}:{line}".to_owned()),
        place: Place::Line { file: "header.hpp".into(), line: 31 },
        module: sample::path("libsave_format.so").into(),
    };
    assert_eq!(window.requested(), [expected]);
    window.click("libecs.so, Current");
    window.keys(CTRL, Key::Num2);
    window.click("physics::contact::warm_start");
    let requests = window.requested();
    let function = Place::Function("physics::contact::warm_start".to_owned());
    assert!(matches!(&requests[..], [Request::Edit { place, .. }] if *place == function), "{requests:?}");
}

#[test]
fn what_is_decided_in_the_window_is_kept_in_the_file() {
    let mut window = window();
    window.file("");
    window.requested();
    let remember = |change| [Request::Remember { program: "aurora".to_owned(), change }];
    window.keys(Modifiers::ALT, Key::Num3);
    assert_eq!(window.requested(), remember(Change::Auto(Mode::All)));
    window.click("Skip libsave_format.so");
    let change = Change::Mark { module: "libsave_format.so".to_owned(), mark: Mark::Skip };
    assert_eq!(window.requested(), remember(change));
}

#[test]
fn the_details_tabs_and_columns_by_key_and_pointer() {
    let mut window = window();
    window.keys(CTRL, Key::Num4);
    window.assert_sees("Load bias");
    window.keys(CTRL, Key::Num3);
    window.click("Failed, generation 41, 9.0 ms, 10 s ago, in the picture");
    window.assert_sees("Stopped while loading the new code");
    window.keys(CTRL, Key::Num1);
    window.assert_sees("Failed while loading the new code");
    let size = |window: &Window| window.harness.get_by_label("Sort by Size").rect().width();
    let before = size(&window);
    window.harness.get_by_label("Sort by Size").focus();
    window.run();
    window.keys(Modifiers::ALT, Key::ArrowRight);
    assert_eq!(size(&window), before + 8.0, "by the keyboard");
    let edge = window.harness.get_by_label("Width of Size").rect().center();
    window.harness.drag_at(edge);
    window.harness.run();
    window.harness.hover_at(edge - vec2(20.0, 0.0));
    window.harness.run();
    window.harness.drop_at(edge - vec2(20.0, 0.0));
    window.run();
    assert!((size(&window) - before - 28.0).abs() < 3.0, "by the pointer: {}", size(&window) - before);
    window.keys(CTRL, Key::K);
    window.text("usual column");
    window.key(Key::Enter);
    assert_eq!(size(&window), before);
    let told = |window: &Window| window.harness.get_by_label("Width of Size").accesskit_node().numeric_value();
    assert_eq!(told(&window), Some(f64::from(before)), "its edge tells the width");
    window.harness.get_by_label("Width of Size").increment_accesskit();
    window.run();
    assert_eq!(size(&window), before + 8.0, "by assistive technology");
    assert_eq!(told(&window), Some(f64::from(before + 8.0)));
}

#[test]
fn a_cancelled_file_dialog_leaves_the_typed_path() {
    let mut window = window();
    window.keys(CTRL, Key::O);
    window.text("/typed.so");
    window.click("Browse");
    window.replies.send(Reply::Picked { wanted: Wanted::Library, answer: Ok(None) }).unwrap();
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
    assert_eq!(window.selected().as_deref(), Some("libweather.so, Current, 1 warning"));
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
    assert!(
        text.contains("Failed while loading the new code") && text.contains("undefined symbol: world_gravity"),
        "{text}"
    );
    window.harness.get_by_label_and_click("Copy path");
    assert_eq!(copied(&window), Some(sample::path("libphysics.so")));
    window.run();
    window.harness.event(eframe::egui::Event::Copy);
    window.harness.step();
    assert_eq!(copied(&window), Some(sample::path("libphysics.so")), "by the keyboard");
}

#[test]
fn the_menu_of_a_row_does_what_its_icons_and_keys_do() {
    let mut window = window();
    let mut choose = |module: &str, line: &str| {
        window.harness.get_by_label(module).click_secondary();
        window.run();
        window.harness.get_by_role_and_label(Role::MenuItem, line).click();
        window.run();
        if window.sees("Leave it") {
            window.click("Reload anyway");
        }
        window.ordered()
    };
    assert_eq!(choose("libecs.so, Current", "Reload"), reload("libecs.so"));
    assert_eq!(choose("libphysics.so, Failed", "Try again"), reload("libphysics.so"));
    assert_eq!(choose("libecs.so, Current", "Unmark"), mark("libecs.so", Mark::None));
    assert_eq!(choose("libecs.so, Current", "Skip"), mark("libecs.so", Mark::Skip));
    let back = Command::Rollback { module: sample::path("libecs.so"), generation: None };
    assert_eq!(choose("libecs.so, Current", "Roll back"), back);
    let anyway = Command::Reload { modules: vec![sample::path("libsave_format.so")], force: true };
    assert_eq!(choose("libsave_format.so, Refused", "Reload anyway…"), anyway);
}

#[test]
fn the_details_are_scrolled_by_the_keyboard() {
    let mut window = Window::sized(sample::snapshot(), vec2(1100.0, 480.0), Theme::Dark);
    window.keys(CTRL, Key::Num3);
    let top = |window: &Window| window.harness.get_by_label_contains("Failed, generation 41, 9.0 ms").rect().top();
    let before = top(&window);
    window.keys(Modifiers::SHIFT, Key::ArrowDown);
    assert!(top(&window) < before, "{} {before}", top(&window));
    assert_eq!(window.selected().as_deref(), Some("libphysics.so, Failed"), "the selection stays");
    window.keys(Modifiers::SHIFT, Key::PageUp);
    assert_eq!(top(&window), before);
}

#[test]
fn the_filter_is_cleared_by_key_and_pointer() {
    let mut window = window();
    for clear in [true, false] {
        window.keys(CTRL, Key::F);
        window.text("weather");
        assert_eq!(window.rows(), ["libweather.so, Current, 1 warning"]);
        if clear {
            window.click("Clear the filter");
        } else {
            window.key(Key::Escape);
        }
        assert!(window.rows().len() > 10);
    }
}

#[test]
fn the_commands_of_the_window_are_reached_by_key_and_palette() {
    let mut window = window();
    window.requested();
    let palette = |window: &mut Window, text: &str| {
        window.keys(CTRL, Key::K);
        window.text(text);
        window.key(Key::Enter);
    };
    palette(&mut window, "detach from");
    assert_eq!(window.ordered(), Command::Detach);
    palette(&mut window, "show or hide system");
    window.key(Key::End);
    assert!(window.rows().iter().any(|row| row.starts_with("libm.so.6")), "{:?}", window.rows());
    palette(&mut window, "keyboard");
    assert!(window.sees("Reload every changed module now"));
    window.key(Key::Escape);
    palette(&mut window, "choose a target");
    window.assert_sees("Close aurora");
    window.key(Key::Escape);
    palette(&mut window, "filter modules");
    assert!(window.harness.get_by_role(Role::TextInput).is_focused());
    window.key(Key::Escape);
    window.file("");
    window.requested();
    palette(&mut window, "edit reload-dashboard.toml");
    let requests = window.requested();
    assert!(requests.iter().any(|request| matches!(request, Request::Edit { .. })), "{requests:?}");
    window.keys(CTRL, Key::W);
    window.assert_sees("Not attached");
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
