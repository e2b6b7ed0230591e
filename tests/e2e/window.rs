//! The real window on a screen of its own, with a window manager, an accessibility bus and a desktop that shows notifications:
//! read and worked as those do who do not see it or have no pointer, and started a second time.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    process::Stdio,
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use reload_tests::{
    dashboard::{Room, Running},
    deadline,
    display::{Display, Window},
    install, process,
    program::Conversation,
    toolchain::{self, Library},
};
use serde_json::Value;
use zbus::{blocking::connection, interface, zvariant::OwnedValue};

const APPLICATION: &str = "reload-dashboard";
const SOURCE: &str = "long counted;\nlong compute(long x) { counted++; return x + 100 * VERSION; }\n";
/// What can be worked. Each must have a name.
const CONTROLS: [&str; 15] = [
    "push button",
    "radio button",
    "button",
    "toggle button",
    "check box",
    "combo box",
    "entry",
    "text",
    "menu item",
    "list item",
    "table row",
    "page tab",
    "link",
    "separator",
    "column header",
];

/// A program with one library, under a dashboard with a window.
struct Desk<'a> {
    display: &'a Display,
    room: &'a Room,
    host: RefCell<Conversation>,
    library: PathBuf,
    pid: u32,
    /// Ended by pid, the program first: it outlives a dashboard that is killed.
    dashboard: Running,
}

impl Drop for Desk<'_> {
    fn drop(&mut self) {
        for pid in process::family(self.dashboard.pid()).into_iter().rev() {
            process::end(pid);
        }
    }
}

impl<'a> Desk<'a> {
    fn new(room: &'a Room, display: &'a Display) -> Self {
        let built = room.path().join("built");
        std::fs::write(built.join("counter.c"), SOURCE).expect("the folder is ours");
        for version in 1..=3 {
            library(&built).build(version, &built, &versioned(&built, version));
        }
        let library = built.join("libcounter.so");
        install::by_rename(&versioned(&built, 1), &library);
        let program = built.join("host");
        toolchain::program(&toolchain::hosts().join("host.c"), &[] as &[&str], &program);
        Desk::start(room, display, &program, library)
    }

    fn start(room: &'a Room, display: &'a Display, program: &Path, library: PathBuf) -> Self {
        let mut command = room.dashboard();
        command.args(["run", "--"]).arg(program);
        display.furnish(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut dashboard = Running(command.spawn().expect("the binary runs"));
        let (input, output) = (dashboard.0.stdin.take().expect("piped"), dashboard.0.stdout.take().expect("piped"));
        let mut host = Conversation::new(input, output);
        let pid = host.line_where(|line| line.strip_prefix("ready ")?.parse().ok());
        assert_eq!(host.ask(&format!("open {}", library.display())), "ok");
        let desk = Desk { display, room, host: RefCell::new(host), library, pid, dashboard };
        desk.wait_for("libcounter.so, Current");
        desk
    }

    fn window(&self) -> Window<'_> {
        self.display.window(APPLICATION)
    }

    fn install(&self, version: u32) {
        let built = self.library.parent().expect("in a folder");
        install::by_rename(&versioned(built, version), &self.library);
    }

    /// Waits until the program's answer is this version's.
    fn wait_for_version(&self, version: u32) {
        let wanted = (3 + 100 * version).to_string();
        deadline::wait_for(&format!("version {version} in the program"), || {
            (self.host.borrow_mut().ask("call compute 3") == wanted).then_some(())
        });
    }

    /// All that assistive technology is told of the window.
    fn parts(&self) -> Vec<Value> {
        // It may have changed while it was read; then it is read again.
        let told = self.accessibility("the window's parts", &["parts", APPLICATION]);
        serde_json::from_str(&told).expect("the tool's answer is whole")
    }

    /// The part whose name begins so.
    fn part(&self, name: &str) -> Option<Value> {
        self.parts().into_iter().find(|part| part["name"].as_str().is_some_and(|found| found.starts_with(name)))
    }

    fn wait_for(&self, name: &str) -> Value {
        deadline::wait_for(&format!("`{name}` in the window"), || self.part(name))
    }

    /// Waits until the part of this name is in this state, or is not.
    fn wait_for_state(&self, name: &str, state: &str, wanted: bool) {
        deadline::wait_for(&format!("`{name}` {state}: {wanted}"), || {
            (has_state(&self.part(name)?, state) == wanted).then_some(())
        });
    }

    fn press(&self, name: &str) {
        self.accessibility(&format!("a `{name}` that can be pressed"), &["press", APPLICATION, name]);
    }

    /// A verb of the tool once it succeeds; else the test fails with what the tool complained about last.
    fn accessibility(&self, what: &str, arguments: &[&str]) -> String {
        deadline::wait_for_ok(what, || self.display.accessibility(arguments))
    }

    /// The library's row in `list --json`.
    fn row(&self) -> Value {
        let output = self.room.verb(&["list", "--pid", &self.pid.to_string(), "--json"]);
        let list: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let modules = list["modules"].as_array().cloned().unwrap_or_default();
        modules.into_iter().find(|module| module["name"] == "libcounter.so").unwrap_or_default()
    }

    fn wait_for_row(&self, field: &str, value: Value) {
        deadline::wait_for(&format!("{field} {value}"), || (self.row()[field] == value).then_some(()));
    }

    /// Closes the window as its user does, and waits for its end.
    fn close(mut self) {
        self.host.borrow_mut().close();
        self.wait_for("host has ended");
        self.window().key("alt+F4");
        deadline::wait_for("the dashboard's end", || self.dashboard.0.try_wait().expect("our child"));
    }
}

fn library(built: &Path) -> Library {
    Library::new("counter", built.join("counter.c"), "-O1")
}

fn versioned(built: &Path, version: u32) -> PathBuf {
    built.join(format!("libcounter.so.{version}"))
}

fn has_state(part: &Value, state: &str) -> bool {
    part["states"].as_array().is_some_and(|states| states.iter().any(|found| found == state))
}

fn text<'a>(part: &'a Value, field: &str) -> &'a str {
    part[field].as_str().unwrap_or_default()
}

/// Controls without a name, of all that is shown.
fn assert_named(parts: &[Value], place: &str) {
    let control = |part: &&Value| CONTROLS.contains(&text(part, "role")) || part["actions"].as_u64() > Some(0);
    let nameless = |part: &&Value| text(part, "name").trim().is_empty() && text(part, "role") != "scroll bar";
    let found: Vec<&Value> = parts.iter().filter(control).filter(nameless).collect();
    assert!(found.is_empty(), "{place}: {found:#?}");
}

#[test]
fn the_main_job_by_assistive_technology_alone() {
    let room = Room::new();
    let display = Display::new();
    let desk = Desk::new(&room, &display);
    let parts = desk.parts();
    assert_named(&parts, "the table");
    let role =
        |name: &str| parts.iter().find(|part| text(part, "name").starts_with(name)).map(|part| text(part, "role"));
    for (name, expected) in [
        ("Target: host", "combo box"),
        ("Auto: off", "radio button"),
        ("Reload now", "push button"),
        ("Mark libcounter.so", "toggle button"),
        ("Skip libcounter.so", "toggle button"),
        ("Reload libcounter.so", "push button"),
        ("Modules", "table"),
        ("libcounter.so, Current", "table row"),
        ("Sort by Status", "column header"),
        ("Filter modules", "entry"),
        ("Trace", "page tab"),
        ("Size of the details", "separator"),
    ] {
        assert_eq!(role(name), Some(expected), "{name}");
    }
    for (name, state, expected) in [
        ("Auto: off", "checked", true),
        ("Auto: marked only", "checked", false),
        ("Mark libcounter.so", "pressed", false),
        ("Trace", "selected", true),
        ("Changes", "selected", false),
        ("Roll back", "sensitive", false),
        ("Commands", "sensitive", true),
    ] {
        let part = parts.iter().find(|part| text(part, "name").starts_with(name)).expect(name);
        assert_eq!(has_state(part, state), expected, "{name}: {:?}", part["states"]);
    }

    desk.press("libcounter.so, Current");
    desk.press("Mark libcounter.so");
    desk.wait_for_row("mark", "reload".into());
    desk.wait_for_state("Mark libcounter.so", "pressed", true);
    desk.wait_for_version(1);
    desk.install(2);
    desk.wait_for("libcounter.so, Changed");
    desk.wait_for_state("Reload now, 1 changed", "sensitive", true);
    desk.press("Reload now, 1 changed");
    desk.wait_for_version(2);
    desk.wait_for("libcounter.so, Current");
    desk.wait_for_state("Roll back", "sensitive", true);

    for (tab, content) in [
        ("Changes", "compute"),
        ("History", "Reloaded, generation 1"),
        ("Info", "Load bias"),
        ("Trace", "Generation 1 runs"),
    ] {
        desk.press(tab);
        desk.wait_for_state(tab, "selected", true);
        desk.wait_for(content);
        assert_named(&desk.parts(), tab);
    }

    desk.press("Commands");
    deadline::wait_for("the palette's list", || {
        let listed = |part: &Value| text(part, "role") == "list item" && text(part, "name") == "Reload libcounter.so";
        desk.parts().iter().any(listed).then_some(())
    });
    assert_named(&desk.parts(), "the palette");
    desk.press("Roll back libcounter.so");
    desk.wait_for_version(1);
    desk.wait_for_row("generation", 0.into());
    display.window(APPLICATION).picture().keep("window-by-assistive-technology");
}

#[test]
fn the_main_job_by_the_keyboard_alone() {
    let room = Room::new();
    let display = Display::new();
    let desk = Desk::new(&room, &display);
    let window = desk.window();
    window.key("slash");
    window.text("counter");
    window.key("Down");
    deadline::wait_for("the library's row with the keyboard", || {
        let row = desk.part("libcounter.so, Current")?;
        has_state(&row, "selected").then_some(())
    });
    window.key("space");
    desk.wait_for_row("mark", "reload".into());
    desk.install(2);
    desk.wait_for("libcounter.so, Changed");
    window.key("F5");
    desk.wait_for_version(2);
    for (key, tab) in [("ctrl+2", "Changes"), ("ctrl+3", "History"), ("ctrl+4", "Info"), ("ctrl+1", "Trace")] {
        window.key(key);
        desk.wait_for_state(tab, "selected", true);
    }
    window.key("z");
    desk.wait_for_version(1);
    window.key("alt+2");
    desk.wait_for_state("Auto: marked only", "checked", true);
    desk.install(3);
    desk.wait_for_version(3);
    window.key("ctrl+k");
    desk.wait_for("Reload libcounter.so");
    window.text("light theme");
    window.key("Return");
    desk.wait_for("Dark theme");
    window.key("question");
    desk.wait_for("Keyboard");
    window.key("Escape");
    window.key("Escape");
    desk.wait_for("libcounter.so, Current");
}

/// What a desktop's notification service is asked: headline and text.
struct Desktop(Sender<(String, String)>);

#[interface(name = "org.freedesktop.Notifications")]
impl Desktop {
    #[expect(clippy::too_many_arguments, reason = "the specification's")]
    fn notify(
        &self,
        _application: String,
        replaces: u32,
        _icon: String,
        summary: String,
        body: String,
        _actions: Vec<String>,
        _hints: HashMap<String, OwnedValue>,
        _timeout: i32,
    ) -> u32 {
        // The test may be over.
        let _ = self.0.send((summary, body));
        replaces.max(1)
    }
}

fn desktop(display: &Display) -> (zbus::blocking::Connection, Receiver<(String, String)>) {
    let (told, heard) = channel();
    let service = connection::Builder::address(display.bus.as_str()).and_then(|builder| {
        let builder = builder.name("org.freedesktop.Notifications")?;
        builder.serve_at("/org/freedesktop/Notifications", Desktop(told))?.build()
    });
    (service.expect("the bus is ours"), heard)
}

/// By the portal that desktops have for it, which shows GTK's dialog.
#[test]
fn a_file_is_chosen_in_the_desktops_own_dialog() {
    let room = Room::new();
    let display = Display::new();
    let desk = Desk::new(&room, &display);
    let chosen = desk.library.with_file_name("libchosen.so");
    install::by_rename(&versioned(chosen.parent().expect("in a folder"), 2), &chosen);
    desk.window().key("ctrl+o");
    desk.press("Browse");
    let dialog = display.window("Load a module into the target");
    // A slash opens its field for a path. What is typed while that opens may be lost, a path's letters as well as the slash:
    // the path is put there by other means, and the slash again where there is no field after a while.
    let (service, path) = ("xdg-desktop-portal-gtk", chosen.to_str().expect("UTF-8"));
    let mut complaint = String::new();
    let written = (0..5).any(|_| {
        dialog.key("slash");
        let write = || display.accessibility(&["write", service, path]).map_err(|error| complaint = error).ok();
        deadline::until(Duration::from_secs(8), write).is_some()
    });
    assert!(written, "{complaint}");
    desk.accessibility("a Select that can be pressed", &["press", service, "Select"]);
    deadline::wait_for("the path in the window, so that it can be loaded", || {
        let parts = desk.parts();
        parts.iter().any(|part| text(part, "name") == "Load" && has_state(part, "sensitive")).then_some(())
    });
    desk.window().key("Return");
    desk.wait_for("libchosen.so, Current");
    desk.close();
}

#[test]
fn failures_are_notified_while_nobody_looks() {
    let room = Room::new();
    let mut display = Display::new();
    // Another window, to look at instead.
    display.run("xev");
    let (_service, heard) = desktop(&display);
    let desk = Desk::new(&room, &display);
    let (window, other) = (desk.window(), display.window("Event Tester"));
    assert!(room.verb(&["mode", "--pid", &desk.pid.to_string(), "all"]).status.success());
    desk.wait_for_state("Auto: all except skipped", "checked", true);
    let built = desk.library.parent().expect("in a folder").to_owned();
    let spoil = |kind: &str| install::bytes(&install::damaged(kind, &versioned(&built, 1)), &desk.library);
    let notified = || heard.recv_timeout(Duration::from_secs(30)).expect("a notification");

    // Behind the other window.
    other.focus();
    spoil("text");
    let (summary, body) = notified();
    assert_eq!(summary, "libcounter.so failed to reload");
    assert!(body.contains("Generation 0 runs on"), "{body}");

    // In view, and seen there: nothing is notified, or it would come before the next one.
    window.focus();
    desk.install(2);
    desk.wait_for_version(2);
    spoil("machine");
    desk.wait_for("libcounter.so, Failed");

    // Put away altogether.
    window.minimize();
    desk.install(3);
    desk.wait_for_version(3);
    spoil("empty");
    let (_, body) = notified();
    assert!(body.contains("Generation 2 runs on"), "{body}");
    assert_eq!(heard.try_recv().ok(), None);
}

/// What the parent's wait has told of a program's end is not forgotten once there is nothing more to be told.
#[test]
fn how_a_program_ended_stays_in_the_window() {
    let room = Room::new();
    let display = Display::new();
    let desk = Desk::new(&room, &display);
    process::end(desk.pid);
    let told = "host has ended by signal 9 (SIGKILL).";
    desk.wait_for(told);
    let patience = Duration::from_secs(8);
    let forgotten = || desk.part("host has ended").is_none_or(|part| !text(&part, "name").starts_with(told));
    assert_eq!(deadline::until(patience, || forgotten().then_some(())), None);
}

/// Window managers add their frame when the window has been opened, and the frame is to be on the screen too.
#[test]
fn opened_beside_a_program_it_lies_within_the_screen() {
    for size in [[1280, 800], [1366, 768]] {
        let room = Room::new();
        let display = Display::sized(size);
        let desk = Desk::new(&room, &display);
        let window = desk.window();
        let mut last = None;
        let placed = deadline::until(Duration::from_secs(20), || {
            last = window.frame();
            let [x, y, width, height] = last?;
            let higher = height > window.place_now()[3];
            (higher && x >= 0 && y >= 0 && x + width <= size[0] && y + height <= size[1]).then_some(())
        });
        assert!(placed.is_some(), "the window lies at {last:?} on a screen of {size:?}");
    }
}

#[test]
fn the_window_comes_back_as_it_was_left() {
    let room = Room::new();
    let display = Display::new();
    let desk = Desk::new(&room, &display);
    let (program, library) = (desk.library.with_file_name("host"), desk.library.clone());
    let window = desk.window();
    window.place(60, 40, 900, 700);
    desk.wait_for("Size of the details");
    for _ in 0..3 {
        window.key("ctrl+shift+Up");
    }
    window.key("ctrl+k");
    desk.wait_for("Reload libcounter.so");
    window.text("light theme");
    window.key("Return");
    desk.wait_for("Dark theme");
    desk.press("Sort by Module");
    let width = |desk: &Desk<'_>| desk.part("Width of Modified")?["value"].as_f64();
    let usual = width(&desk).expect("a column's edge tells its width");
    let place = desk.accessibility("the column's edge", &["place", APPLICATION, "Width of Modified"]);
    let place: Vec<u32> = place.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    window.drag(place[0], place[1], -40);
    let wider = deadline::wait_for("a wider column", || width(&desk).filter(|now| *now >= usual + 30.0));
    // Wait until the details have their size, whatever the window manager has done meanwhile.
    let settled = |desk: &Desk<'_>| {
        let mut last = None;
        deadline::wait_for("a window that stays as it is", || {
            let now = (desk.window().place_now(), desk.part("Size of the details")?["value"].clone());
            let same = last.as_ref() == Some(&now);
            last = Some(now);
            same.then(|| last.clone()).flatten()
        })
    };
    let left = settled(&desk);
    let rows = |desk: &Desk<'_>| -> Vec<String> {
        let rows = desk.parts().into_iter().filter(|part| text(part, "role") == "table row");
        rows.map(|part| text(&part, "name").to_owned()).collect()
    };
    let listed = rows(&desk);
    window.picture().keep("window-left");
    desk.close();

    let desk = Desk::start(&room, &display, &program, library);
    desk.wait_for("Dark theme");
    let found = settled(&desk);
    desk.window().picture().keep("window-found");
    let now = width(&desk).expect("a column's edge tells its width");
    assert!((now - wider).abs() < 0.5, "the column is {now} wide, not {wider}");
    let ([_, _, width, height], [_, _, left_width, left_height]) = (found.0, left.0);
    assert_eq!((width, height), (left_width, left_height), "the window's size");
    let (now, then) = (found.1.as_f64().expect("a share"), left.1.as_f64().expect("a share"));
    assert!((now - then).abs() < 0.01, "the details have {now} of the window, not {then}");
    assert_eq!(rows(&desk), listed, "the order of the rows");
    let names: BTreeSet<String> = desk.parts().iter().map(|part| text(part, "name").to_owned()).collect();
    assert!(names.contains("Sort by Module"), "{names:?}");
}
