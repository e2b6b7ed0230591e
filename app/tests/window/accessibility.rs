//! What somebody learns of the window who does not see it: names, roles, states, where the keyboard is; and that the keyboard
//! alone gets everywhere.

use std::collections::BTreeSet;

use eframe::egui::{
    Key, Modifiers, Role, Theme,
    accesskit::{Action, Toggled},
};
use egui_kittest::kittest::{NodeT, Queryable};
use reload_engine::model::Connection;

use crate::{
    peer::{NARROW, WIDE, Window},
    sample, targets,
};

fn window() -> Window {
    Window::attached(sample::snapshot())
}

fn toggled(window: &Window, name: &str) -> Option<Toggled> {
    window.harness.get_by_label(name).accesskit_node().toggled()
}

#[test]
fn marks_skips_and_modes_tell_their_state() {
    let mut window = window();
    assert_eq!(toggled(&window, "Mark libphysics.so"), Some(Toggled::True));
    assert_eq!(toggled(&window, "Skip libphysics.so"), Some(Toggled::False));
    assert_eq!(toggled(&window, "Mark libsave_format.so"), Some(Toggled::False));
    assert_eq!(toggled(&window, "Auto: marked only"), Some(Toggled::True));
    assert_eq!(toggled(&window, "Auto: off"), Some(Toggled::False));
    assert_eq!(toggled(&window, "All modules, 16"), Some(Toggled::True));
    window.update(|snapshot| snapshot.connection = Connection::Detached);
    for name in ["Auto: off", "Reload now, 1 changed", "Mark libphysics.so", "Try again", "Roll back"] {
        assert!(window.harness.get_by_label(name).accesskit_node().is_disabled(), "{name}");
    }
}

#[test]
fn the_table_tells_where_the_keyboard_stands() {
    let mut window = window();
    // The table has the keyboard and says in which row: that one is told to have it.
    let stands = |window: &Window| -> Option<String> {
        let row = window.harness.root().children_recursive().find(|node| node.is_focused())?;
        row.accesskit_node().label()
    };
    assert_eq!(stands(&window).as_deref(), Some("libphysics.so, Failed"));
    window.key(Key::ArrowDown);
    assert_eq!(stands(&window).as_deref(), Some("libsave_format.so, Refused"));
    let table = window.harness.get_by_role(Role::Table);
    let rows = table.children_recursive().filter(|node| node.accesskit_node().role() == Role::Row).count();
    assert!(rows > 10, "the rows are in the table: {rows}");
    let row = window.harness.get_by_label("libphysics.so, Failed");
    let more = row.accesskit_node().data().description().unwrap_or_default().to_owned();
    for part in ["/home/ada/aurora/build/plugins/libphysics.so", "10 s ago", "1.8 MiB", "generation 41", "59 ms"] {
        assert!(more.contains(part), "{part} is missing in {more}");
    }
}

#[test]
fn the_palette_tells_which_entry_would_be_chosen() {
    let mut window = window();
    window.candidates(targets::candidates());
    window.keys(Modifiers::COMMAND, Key::K);
    window.key(Key::ArrowDown);
    let entry = window.harness.root().children_recursive().find(|node| node.is_focused()).expect("an entry");
    assert_eq!(entry.accesskit_node().label().as_deref(), Some("Reload libphysics.so"));
    let list = window.harness.get_by_role(Role::ListBox);
    assert!(list.children_recursive().any(|node| node.accesskit_node().role() == Role::ListBoxOption));
    for group in ["Commands", "Modules", "Targets"] {
        assert!(window.sees(group), "{group}");
    }
}

#[test]
fn tabs_and_lines_that_open_tell_their_state() {
    let mut window = window();
    let selected = |window: &Window, name: &str| {
        window.harness.get_by_role_and_label(Role::Tab, name).accesskit_node().is_selected()
    };
    assert_eq!((selected(&window, "Trace"), selected(&window, "History")), (Some(true), Some(false)));
    window.keys(Modifiers::COMMAND, Key::Num3);
    assert_eq!((selected(&window, "Trace"), selected(&window, "History")), (Some(false), Some(true)));
    let line = "Failed, generation 41, 10 s ago";
    let expanded = |window: &Window| window.harness.get_by_label(line).accesskit_node().data().is_expanded();
    assert_eq!(expanded(&window), Some(false));
    window.click(line);
    assert_eq!(expanded(&window), Some(true));
}

/// What the Tab key stops at; the icons of rows have keys of their own and are no stops.
#[test]
fn the_tab_key_gets_to_every_part_of_the_window() {
    let mut window = window();
    let mut stops = BTreeSet::new();
    for _ in 0..48 {
        window.key(Key::Tab);
        let focused = window.harness.root().children_recursive().find(|node| node.is_focused());
        if let Some(node) = focused {
            let node = node.accesskit_node();
            stops.insert(node.label().or_else(|| node.data().placeholder().map(str::to_owned)).unwrap_or_default());
        }
    }
    for name in [
        "Target: aurora, pid 48213, attached",
        "Auto: off",
        "Reload now, 1 changed",
        "Details",
        "Light theme",
        "Commands",
        "Filter modules",
        "Failed, 1",
        "Load a module",
        "Sort by Status",
        // The table, told by the row in which it stands.
        "libphysics.so, Failed",
        "Copy path",
        "Try again",
        "Copy trace",
        "Roll back",
        "Trace",
        "Info",
        "Size of the details",
        "Keyboard shortcuts",
    ] {
        assert!(stops.contains(name), "{name} is not among {stops:?}");
    }
}

#[test]
fn the_details_are_sized_by_the_keyboard() {
    let share = |window: &Window| {
        let edge = window.harness.get_by_label("Size of the details");
        edge.accesskit_node().numeric_value().expect("a share of the window")
    };
    for (size, larger, smaller) in [(WIDE, Key::ArrowLeft, Key::ArrowRight), (NARROW, Key::ArrowUp, Key::ArrowDown)] {
        let mut window = Window::sized(sample::snapshot(), size, Theme::Dark);
        let usual = share(&window);
        let anywhere = Modifiers::COMMAND | Modifiers::SHIFT;
        window.keys(anywhere, larger);
        let grown = share(&window);
        assert!(grown > usual, "{size}: {grown} from {usual}");
        window.keys(anywhere, smaller);
        assert!((share(&window) - usual).abs() < 0.005, "{size}: {} from {usual}", share(&window));
        window.harness.get_by_label("Size of the details").focus();
        window.run();
        window.key(larger);
        assert!((share(&window) - grown).abs() < 0.005, "{size}: the edge has the focus");
        for _ in 0..40 {
            window.key(smaller);
        }
        let least = share(&window);
        assert!(least < usual && least > 0.15, "{size}: {least} can still be read");
        assert_eq!(window.selected().as_deref(), Some("libphysics.so, Failed"), "the arrows were the edge's");
    }
}

#[test]
fn a_control_that_has_the_focus_is_pressed_by_the_keyboard() {
    let mut window = window();
    for (name, key) in [("Light theme", Key::Space), ("Dark theme", Key::Enter)] {
        window.harness.get_by_label(name).focus();
        window.run();
        window.key(key);
        assert!(!window.sees(name), "{name}");
    }
    window.harness.get_by_role_and_label(Role::Tab, "Info").focus();
    window.run();
    window.key(Key::Enter);
    window.assert_sees("Load bias");
}

#[test]
fn every_control_has_a_name() {
    for tabs in ["Trace", "Changes", "History", "Info"] {
        let mut window = Window::attached(sample::snapshot());
        window.candidates(targets::candidates());
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
