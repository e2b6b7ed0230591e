//! Pictures of the window in its states and sizes, kept in the build folder to be looked at. What can be checked without eyes
//! is: nothing is blank, every control has a name, no glyph is missing.

use std::collections::HashSet;

use eframe::egui::{Key, Modifiers, Theme, vec2};
use reload_dashboard::{
    window::{Link, TargetTab},
    worker::Reply,
};
use reload_engine::{error::Error, model::Connection};

use crate::{
    peer::{NARROW, WIDE, Window},
    sample, states,
};

const CTRL: Modifiers = Modifiers::COMMAND;

fn look(window: &mut Window, name: &str) {
    let image = window.picture(name);
    let colours: HashSet<[u8; 4]> = image.pixels().map(|pixel| pixel.0).collect();
    assert!(colours.len() > 100, "{name} is blank");
}

#[test]
fn both_themes_wide_and_narrow() {
    for (theme, word) in [(Theme::Dark, "dark"), (Theme::Light, "light")] {
        for (size, width) in [(WIDE, "1280"), (NARROW, "900"), (vec2(640.0, 560.0), "640")] {
            let mut window = Window::sized(sample::snapshot(), size, theme);
            look(&mut window, &format!("{word}-{width}"));
        }
    }
}

#[test]
fn dialogs() {
    let mut window = Window::attached(sample::snapshot());
    window.candidates(states::candidates());
    window.keys(CTRL, Key::K);
    look(&mut window, "palette");
    window.key(Key::Escape);
    window.keys(CTRL, Key::T);
    look(&mut window, "targets");
    window.key(Key::Escape);
    window.text("?");
    look(&mut window, "help");
    window.key(Key::Escape);
    window.keys(CTRL, Key::O);
    look(&mut window, "load");
}

#[test]
fn tabs_of_the_details() {
    let mut window = Window::sized(sample::snapshot(), WIDE, Theme::Light);
    window.click("libecs.so, Current");
    for tab in ["Trace", "Changes", "History", "Info"] {
        window.click(tab);
        if tab == "History" {
            window.click("Reloaded, generation 23, 4 min ago");
        }
        look(&mut window, &format!("tab-{}", tab.to_lowercase()));
    }
}

#[test]
fn states_without_a_table() {
    let mut window = Window::with_tabs(Vec::new(), None);
    look(&mut window, "not-attached");
    let mut window = Window::with_tabs(vec![TargetTab::new(9, "daemon", Link::Opening)], None);
    look(&mut window, "attaching");
    window.replies.send(Reply::Opened { pid: 9, session: Err(Error::NoAgent { pid: 9 }) }).unwrap();
    window.run();
    look(&mut window, "refused");
}

#[test]
fn states_above_the_table() {
    let mut window = Window::attached(sample::snapshot());
    window.update(|snapshot| snapshot.connection = Connection::Exited(Some(0)));
    look(&mut window, "exited");
    window.update(|snapshot| snapshot.connection = Connection::Detached);
    look(&mut window, "detached");
    window.keys(CTRL, Key::F);
    window.text("nowhere");
    look(&mut window, "no-match");
    window.key(Key::Escape);
    window.keys(CTRL, Key::K);
    window.text("compact");
    window.key(Key::Enter);
    look(&mut window, "compact");
}
