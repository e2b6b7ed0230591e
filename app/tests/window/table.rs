//! The table: what it lists, in which order, and how one moves in it.

use eframe::egui::{Key, Modifiers, Theme, vec2};
use egui_kittest::kittest::Queryable;
use reload_engine::model::Status;

use crate::{
    peer::{NARROW, Window},
    sample,
};

fn window() -> Window {
    Window::attached(sample::snapshot())
}

#[test]
fn the_worst_comes_first_and_is_selected() {
    let window = window();
    let rows = window.rows();
    assert_eq!(rows[..3], ["libphysics.so, Failed", "libsave_format.so, Refused", "libanim_blend.so, Missing"]);
    assert_eq!(window.selected().as_deref(), Some("libphysics.so, Failed"));
}

#[test]
fn the_selection_follows_its_module_not_its_row() {
    let mut window = window();
    window.click("libecs.so, Current");
    assert_eq!(window.selected().as_deref(), Some("libecs.so, Current"));
    window.update(|snapshot| {
        snapshot.modules.iter_mut().filter(|module| module.name == "libecs.so").for_each(|module| {
            module.status = Status::Failed;
        });
    });
    assert_eq!(window.selected().as_deref(), Some("libecs.so, Failed"));
    assert_eq!(window.rows()[0], "libecs.so, Failed");
}

#[test]
fn the_selection_that_nobody_made_goes_to_what_fails() {
    let mut snapshot = sample::snapshot();
    for module in snapshot.modules.iter_mut().filter(|module| module.failure.is_some()) {
        module.status = Status::Current;
        module.failure = None;
    }
    let fail = |window: &mut Window| {
        window.update(|snapshot| {
            let module = snapshot.modules.iter_mut().find(|module| module.name == "libecs.so").expect("in the sample");
            module.status = Status::Failed;
        });
    };
    let mut untouched = Window::attached(snapshot.clone());
    fail(&mut untouched);
    assert_eq!(untouched.selected().as_deref(), Some("libecs.so, Failed"));
    let mut used = Window::attached(snapshot.clone());
    used.key(Key::ArrowDown);
    let chosen = used.selected();
    fail(&mut used);
    assert_eq!(used.selected(), chosen);
    let mut read = Window::attached(snapshot);
    let first = read.selected();
    read.keys(Modifiers::COMMAND, Key::Num4);
    fail(&mut read);
    assert_eq!(read.selected(), first);
}

#[test]
fn the_selection_falls_to_the_first_row_when_its_module_is_unloaded() {
    let mut window = window();
    window.click("libecs.so, Current");
    window.update(|snapshot| snapshot.modules.retain(|module| module.name != "libecs.so"));
    assert_eq!(window.selected().as_deref(), Some("libphysics.so, Failed"));
}

#[test]
fn arrows_page_home_and_end_move_the_selection() {
    let mut window = window();
    window.key(Key::ArrowDown);
    assert_eq!(window.selected().as_deref(), Some("libsave_format.so, Refused"));
    window.key(Key::ArrowUp);
    window.key(Key::ArrowUp);
    assert_eq!(window.selected().as_deref(), Some("libphysics.so, Failed"), "the top is the top");
    window.key(Key::End);
    assert_eq!(window.selected().as_deref(), Some("libtelemetry.so, Skipped"));
    window.key(Key::PageUp);
    assert_eq!(window.selected().as_deref(), Some("libsave_format.so, Refused"));
    window.key(Key::PageDown);
    window.key(Key::Home);
    assert_eq!(window.selected().as_deref(), Some("libphysics.so, Failed"));
}

#[test]
fn headers_sort_and_turn_the_order() {
    let mut window = window();
    window.click("Sort by Module");
    assert_eq!(window.rows()[0], "aurora, Current");
    window.click("Sort by Module");
    assert_eq!(window.rows()[0], "libweather.so, Current, 1 warning");
    window.click("Sort by Gen");
    assert_eq!(window.rows()[0], "librender_passes.so, Reloading");
    window.click("Sort by Size");
    assert_eq!(window.rows()[0], "aurora, Current");
    window.click("Sort by Modified");
    assert_eq!(window.rows()[0], "librender_passes.so, Reloading");
    window.click("Sort by Last");
    window.click("Sort by Status");
    assert_eq!(window.rows()[0], "libphysics.so, Failed");
}

#[test]
fn the_filter_takes_what_is_typed_after_slash() {
    let mut window = window();
    window.key(Key::Slash);
    window.text("te");
    assert_eq!(window.rows(), ["libterrain_stream.so, Current", "libtelemetry.so, Skipped"]);
    window.assert_sees("2 modules shown");
    window.key(Key::Escape);
    assert_eq!(window.rows()[0], "libphysics.so, Failed");
    assert!(!window.sees("2 modules shown"));
    window.key(Key::ArrowDown);
    assert!(window.selected().is_some(), "escape returns to the table");
}

#[test]
fn the_key_that_opens_the_filter_is_not_typed_into_it() {
    let mut window = window();
    window.harness.key_down(Key::Slash);
    window.harness.event(eframe::egui::Event::Text("/".to_owned()));
    window.harness.key_up(Key::Slash);
    window.run();
    let field = window.harness.get_by_role(eframe::egui::Role::TextInput);
    assert_eq!(field.value().unwrap_or_default(), "");
    assert!(field.is_focused());
}

#[test]
fn chips_filter_by_status() {
    let mut window = window();
    window.click("Skipped, 2");
    assert_eq!(window.rows(), ["libnetcode.so, Skipped", "libtelemetry.so, Skipped"]);
    window.click("Skipped, 2");
    window.click("Changed, 1");
    assert_eq!(window.rows(), ["libai_planner.so, Changed"]);
    window.click("All modules, 16");
    assert!(window.rows().len() > 10);
}

#[test]
fn system_modules_are_one_line_that_opens() {
    let mut window = window();
    assert!(!window.rows().iter().any(|row| row.starts_with("libc.so.6")));
    window.key(Key::End);
    window.click("Show 5 system modules");
    window.key(Key::End);
    assert!(window.rows().iter().any(|row| row.starts_with("libc.so.6")), "{:?}", window.rows());
}

#[test]
fn narrow_windows_drop_columns_and_keep_actions() {
    let mut snapshot = sample::snapshot();
    snapshot.revision = 7;
    let window = Window::sized(snapshot.clone(), NARROW, Theme::Dark);
    assert!(window.sees("Sort by Last"));
    let window = Window::sized(snapshot, vec2(640.0, 560.0), Theme::Dark);
    assert!(!window.sees("Sort by Last"));
    assert!(window.sees("Sort by Modified"));
    assert!(window.sees("Reload libphysics.so"));
    assert!(window.sees("Skip libphysics.so"));
}

#[test]
fn only_the_rows_in_view_are_laid_out() {
    let mut snapshot = sample::snapshot();
    snapshot.modules = (0..10_000)
        .map(|n| sample::module(&format!("lib{n:05}.so"), Status::Current, Default::default(), 1, 90, n))
        .collect();
    let mut window = Window::attached(snapshot);
    assert!(window.rows().len() < 30);
    window.key(Key::End);
    assert_eq!(window.selected().as_deref(), Some("lib09999.so, Current"));
    assert!(window.rows().contains(&"lib09999.so, Current".to_owned()), "the selection is in view");
}

#[test]
fn compact_rows_show_more() {
    let mut window = window();
    assert!(!window.sees("Show 5 system modules"), "the last line is below the window");
    window.keys(Modifiers::COMMAND, Key::K);
    window.text("compact");
    window.key(Key::Enter);
    assert!(window.sees("Show 5 system modules"));
}
