//! The edges between rooms that DESIGN promises: who may import whom.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The sources of one room: `ROOM.rs` and everything under `ROOM/`.
fn sources(root: &Path, room: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut paths = vec![root.join(format!("{room}.rs")), root.join(room)];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(fs::read_dir(&path).expect("readable").map(|entry| entry.expect("readable").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") && path.exists() {
            let text = fs::read_to_string(&path).expect("UTF-8");
            found.push((path, text));
        }
    }
    found
}

/// The rooms of its own crate that a source names, as `crate::ROOM` or in `crate::{...}`; tests at the end left out.
fn imports(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
    let mut rooms = Vec::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            Some(list) => rooms.extend(heads(list)),
            None => rooms.extend(word(after)),
        }
    }
    rooms
}

/// The first words of the items of a braced list.
fn heads(list: &str) -> Vec<String> {
    let mut depth = 0;
    let mut heads = Vec::new();
    let mut item = String::new();
    for letter in list.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.extend(word(&std::mem::take(&mut item))),
            _ => {}
        }
        if depth == 0 && letter != ',' {
            item.push(letter);
        }
    }
    heads.extend(word(&item));
    heads
}

fn word(text: &str) -> Option<String> {
    let word: String =
        text.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    (!word.is_empty()).then_some(word)
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// None of the room's sources imports a forbidden room.
fn check(root: &str, room: &str, forbidden: impl Fn(&str) -> bool) {
    let sources = sources(&project(root), room);
    assert!(!sources.is_empty(), "{root}/{room} is gone; this test must follow the cut");
    for (path, text) in sources {
        for import in imports(&text) {
            assert!(!forbidden(&import), "{} imports `{import}`", path.display());
        }
    }
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::{error::{Error, Result}, model, plan::{self, Plan}}; // crate::session\nfn f() { crate::target::g() }";
    assert_eq!(imports(text), ["error", "model", "plan", "target"]);
}

#[test]
fn model_imports_nothing() {
    // `rfc3339` is the model's own submodule, named by serde attributes as text.
    check("reload-engine/src", "model", |_| true);
}

#[test]
fn image_and_plan_never_reach_the_target() {
    for room in ["image", "plan"] {
        check("reload-engine/src", room, |import| {
            matches!(import, "target" | "reloader" | "session" | "watcher" | "store")
        });
    }
}

#[test]
fn image_is_free_of_unsafe_and_sockets() {
    for room in ["image", "plan"] {
        for (path, text) in sources(&project("reload-engine/src"), room) {
            let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
            let code = code.join("\n");
            for word in ["unsafe {", "unsafe fn", "std::net", "os::unix::net", "reload_protocol::send"] {
                assert!(!code.contains(word), "{} has `{word}`", path.display());
            }
        }
    }
}

/// `dashboard` holds the worker's ends and `mod` starts it; everything else under the window is told what to show.
#[test]
fn panels_read_state_and_do_no_io() {
    let window = project("app/src/window");
    let panels =
        ["top_bar", "tool_bar", "table", "details", "status_bar", "states", "rows", "controls", "dialogs", "stats"];
    for panel in panels {
        let sources = sources(&window, panel);
        assert!(!sources.is_empty(), "app/src/window/{panel} is gone; this test must follow the cut");
        for (path, text) in sources {
            for import in imports(&text) {
                assert!(!matches!(import.as_str(), "worker" | "cli"), "{} imports `{import}`", path.display());
            }
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for word in
                ["std::fs", "File::", "std::process", "std::net", "thread::", ".recv()", "reload_engine::session"]
            {
                assert!(!code.contains(word), "{} does I/O or waits: `{word}`", path.display());
            }
        }
    }
}
