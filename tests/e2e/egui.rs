//! A program with a window of its own: an eframe application, edited and rebuilt while its window is open. What the program,
//! egui and the window system keep stays; what is drawn and what a click does is new.

use std::process::{Command, Stdio};

use reload_tests::{
    dashboard::{Room, Running, receipts, told},
    deadline,
    display::Display,
    package::{Package, source},
    process,
};

/// The features that the dashboard's own window has, as far as they are needed here: without `wayland` a build script looks for
/// its library.
const EFRAME: &str = "eframe = { version = \"0.37\", default-features = false, features = [\"accesskit\", \"default_fonts\", \"glow\", \"wayland\", \"x11\"] }\n";
const GREEN: [u8; 3] = [20, 160, 60];
const ORANGE: [u8; 3] = [220, 120, 10];

#[test]
fn window_keeps_its_state() {
    let room = Room::new();
    let package = Package::new(&room, "painter", &source("painter.rs"), EFRAME, false);
    let display = Display::new();
    let events = room.path().join("events");
    let mut command: Command = room.dashboard();
    command.args(["run", "--headless", "--json", "--events"]).arg(&events).arg("--").arg(package.program("painter"));
    display.furnish(&mut command);
    command.stdout(Stdio::null());
    let dashboard = Running(command.spawn().expect("the binary runs"));
    let window = display.window("Painter");
    let pid = deadline::wait_for("the program", || {
        let mut family = process::family(dashboard.pid()).into_iter();
        family
            .find(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "painter"))
    });
    let _ended = Ended(pid);
    let pid_text = pid.to_string();
    let reload = || {
        let output = room.verb(&["reload", "--pid", &pid_text, "--json", "painter"]);
        let receipt = receipts(&output).remove(0);
        assert_eq!(receipt["outcome"], "reloaded", "{}", told(&output));
        receipt
    };
    let shows = |text: &str| {
        deadline::wait_for(&format!("`{text}` in the window"), || {
            display.accessibility(&["tree", "painter"]).ok().filter(|tree| tree.contains(text))
        })
    };
    let press = |name: &str| {
        deadline::wait_for("something to press", || display.accessibility(&["press", "painter", name]).ok());
    };

    shows("Version 1");
    for count in 1..=3 {
        press("Add");
        shows(&format!("count {count} of {count}"));
    }
    press("More");
    shows("opened in version 1");
    deadline::wait_for("green bars", || (window.picture().count(GREEN, 4) > 3 * 300 * 10).then_some(()));
    window.picture().keep("painter-before");

    // What a method behind a trait object says, of objects that exist.
    package.edit(&[("from_rgb(20, 160, 60)", "from_rgb(220, 120, 10)"), ("\"Version 1\"", "\"Version 2\"")]);
    reload();
    let tree = shows("Version 2");
    assert!(tree.contains("count 3 of 3") && tree.contains("opened in version 1"), "{tree}");
    deadline::wait_for("orange bars", || (window.picture().count(ORANGE, 4) > 3 * 300 * 10).then_some(()));
    assert_eq!(window.picture().count(GREEN, 4), 0, "a bar kept the old colour");
    window.picture().keep("painter-after");

    // What a click does, in a closure that egui is handed anew for each frame.
    package.edit(&[("const STEP: u64 = 1;", "const STEP: u64 = 100;"), ("opened in version 1", "opened and changed")]);
    reload();
    shows("opened and changed");
    press("Add");
    shows("count 103 of 4");

    // More in the window than there was, and a new static behind it.
    package.edit(&[(
        "            ui.text_edit_singleline",
        "            static ADDED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(40);\n            \
         if ui.button(\"Count on\").clicked() {\n                \
         ADDED.fetch_add(2, std::sync::atomic::Ordering::Relaxed);\n            }\n            \
         ui.label(format!(\"added {}\", ADDED.load(std::sync::atomic::Ordering::Relaxed)));\n            \
         ui.text_edit_singleline",
    )]);
    let receipt = reload();
    assert_eq!(receipt["generation"], 3, "{receipt:#}");
    shows("added 40");
    press("Count on");
    let tree = shows("added 42");
    assert!(tree.contains("count 103 of 4"), "{tree}");
    window.picture().keep("painter-more");
    assert!(process::is_running(pid), "the window is open");

    // A field more would be read behind the end of the application that exists.
    package.edit(&[
        ("    frames: u64,\n    notes", "    frames: u64,\n    more: u64,\n    notes"),
        ("frames: 0, notes", "frames: 0, more: 0, notes"),
        ("self.frames += 1;", "self.frames += 1;\n        self.more += 1;"),
    ]);
    let output = room.verb(&["reload", "--pid", &pid_text, "--json", "painter"]);
    let refused = receipts(&output).remove(0);
    assert_eq!(refused["outcome"], "refused", "{refused:#}");
    assert!(refused["failure"]["trace"].to_string().contains("painter::Painter"), "{refused:#}");
    press("Add");
    shows("count 203 of 5");
}

/// Ends a process when dropped: the target outlives a dashboard that is killed.
struct Ended(u32);

impl Drop for Ended {
    fn drop(&mut self) {
        process::end(self.0);
    }
}
