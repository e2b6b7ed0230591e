//! The demo as the README walks through it: change its source, build, see the running program change. Without a window, and
//! with the real window on a screen of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use reload_tests::{
    dashboard::{Launched, Room, Running},
    deadline,
    display::{Display, target_folder},
    process, toolchain,
};

const LIBRARY: &str = "libdemo_scene.so";
const TEAL: [u8; 3] = [45, 212, 191];
const CORAL: [u8; 3] = [255, 122, 89];

/// A copy of the demo under the build folder, so that its dependencies are built once; tracked files are never edited.
struct Demo {
    source: PathBuf,
    built: PathBuf,
    /// One test at a time.
    _turn: MutexGuard<'static, ()>,
}

impl Demo {
    fn new() -> Self {
        let folder = target_folder().join("demo-test");
        Demo::at(folder.join("source"), folder.join("built"))
    }

    fn at(source: PathBuf, built: PathBuf) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        fs::create_dir_all(&source).expect("the build folder is writable");
        let demo = Demo { source, built, _turn: turn };
        demo.restore();
        demo
    }

    /// The source as it is published, built.
    fn restore(&self) {
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/demo");
        for name in ["Cargo.toml", "Cargo.lock", "host", "scene", "stage"] {
            copy(&original.join(name), &self.source.join(name));
        }
        self.build();
    }

    fn program(&self) -> PathBuf {
        self.built.join("debug/demo")
    }

    fn build(&self) {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["build", "--quiet", "--locked", "--manifest-path"]).arg(self.source.join("Cargo.toml"));
        command.arg("--target-dir").arg(&self.built);
        toolchain::run(&mut command);
    }

    /// Changes the scene's source, and builds it as a user does.
    fn edit(&self, old: &str, new: &str) {
        let path = self.source.join("scene/src/lib.rs");
        let text = fs::read_to_string(&path).expect("just copied");
        assert!(text.contains(old), "the demo's source has no `{old}`; the README's walk-through names it too");
        fs::write(&path, text.replace(old, new)).expect("just copied");
        self.build();
    }
}

/// Copies what differs, so that cargo does not build anew what is the same.
fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("the build folder is writable");
        for entry in fs::read_dir(from).expect("readable") {
            let name = entry.expect("readable").file_name();
            copy(&from.join(&name), &to.join(&name));
        }
        return;
    }
    let bytes = fs::read(from).expect("readable");
    if fs::read(to).ok().as_ref() != Some(&bytes) {
        fs::write(to, bytes).expect("the build folder is writable");
    }
}

/// One line of the headless demo.
struct Line(String);

impl Line {
    fn next(target: &mut Launched<'_>) -> Self {
        Line(target.host.line())
    }

    /// The first line for which this holds.
    fn find(target: &mut Launched<'_>, wanted: impl Fn(&Line) -> bool) -> Self {
        let mut line = Line::next(target);
        deadline::wait_for("a line that shows the new behaviour", || {
            if wanted(&line) {
                return Some(());
            }
            line = Line::next(target);
            None
        });
        line
    }

    fn text(&self, name: &str) -> &str {
        let mut fields = self.0.split(' ').filter_map(|field| field.split_once('='));
        fields.find(|(found, _)| *found == name).unwrap_or_else(|| panic!("no `{name}` in `{}`", self.0)).1
    }

    fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or_else(|_| panic!("`{name}` is no number in `{}`", self.0))
    }
}

#[test]
fn headless_walk_through() {
    let demo = Demo::new();
    let room = Room::new();
    let mut target = room.launch_silent(&demo.program(), &["--headless", "--interval", "20"]);
    let first = Line::find(&mut target, |line| line.number("hits") > 0);
    assert_eq!((first.text("colour"), first.number("step"), first.number("bodies")), ("teal", 1, 5));
    assert_eq!(first.number("tick"), first.number("thread"));

    demo.edit("COLOUR: &str = \"teal\"", "COLOUR: &str = \"coral\"");
    let receipt = target.reload_one(LIBRARY);
    assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
    assert_eq!(receipt["statics"]["reset"], 0, "{receipt:#}");
    let second = Line::find(&mut target, |line| line.text("colour") == "coral");
    assert!(second.number("hits") >= first.number("hits") && second.number("worker") > first.number("worker"));
    assert_eq!(second.number("tick"), second.number("thread"), "no tick was lost: {}", second.0);

    // The counter's step is in a plain function that the program holds a pointer to.
    demo.edit("const STEP: u64 = 1;", "const STEP: u64 = 10;");
    assert_eq!(target.reload_one(LIBRARY)["outcome"], "reloaded");
    let third = Line::find(&mut target, |line| line.number("step") == 10);
    let next = Line::next(&mut target);
    assert_eq!(next.number("tick"), third.number("tick") + 10);
    assert_eq!(next.number("thread"), third.number("thread") + 1);

    // The library's own thread never returns from its loop, and yet runs the new round.
    demo.edit("WORKER_ROUNDS.fetch_add(1, ", "WORKER_ROUNDS.fetch_add(1_000_000, ");
    assert_eq!(target.reload_one(LIBRARY)["outcome"], "reloaded");
    Line::find(&mut target, |line| line.number("worker") > 2_000_000);
    let last = Line::next(&mut target);
    assert_eq!((last.text("colour"), last.number("bodies")), ("coral", 5));
}

#[test]
fn without_a_dashboard() {
    let demo = Demo::new();
    let mut command = Command::new(demo.program());
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").env_remove("WAYLAND_SOCKET");
    let output = command.output().expect("the demo runs");
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("--headless"), "the remedy is missing: {told}");

    let display = Display::new();
    let mut command = Command::new(demo.program());
    display.furnish(&mut command);
    let _running = Running(command.spawn().expect("the demo runs"));
    let window = display.window("Demo scene");
    deadline::wait_for("teal bodies", || (window.picture().count(TEAL, 6) > 300).then_some(()));
    let before = window.picture();
    for step in 0..5 {
        window.click(200 + 100 * step, 60);
    }
    let more = deadline::wait_for("bodies where the user clicked", || {
        let picture = window.picture();
        (picture.count(TEAL, 6) > before.count(TEAL, 6) * 3 / 2).then_some(picture)
    });
    more.keep("demo-alone");
}

#[test]
fn window_reload_now() {
    let demo = Demo::new();
    let room = Room::new();
    let display = Display::new();
    let mut command = room.dashboard();
    command.args(["run", "--"]).arg(demo.program());
    display.furnish(&mut command);
    command.stdout(Stdio::null());
    let dashboard = Running(command.spawn().expect("the binary runs"));
    let started = Ended(dashboard.pid());

    let scene = display.window("Demo scene");
    scene.place(0, 0, 640, 420);
    let window = display.window("reload-dashboard");
    window.place(100, 440, 1280, 440);
    let pid = deadline::wait_for("the demo's process", || {
        process::family(dashboard.pid()).into_iter().find(|&pid| name(pid).as_deref() == Some("demo"))
    });
    let pid_text = pid.to_string();
    let row = || {
        let output = room.verb(&["list", "--pid", &pid_text, "--json"]);
        let list: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        list["modules"].as_array()?.iter().find(|module| module["name"] == LIBRARY).cloned()
    };
    deadline::wait_for("the library in the table", || see(&display, LIBRARY));
    scene.click(320, 60);
    deadline::wait_for("teal bodies", || (scene.picture().count(TEAL, 6) > 300).then_some(()));
    scene.picture().keep("demo-before");
    window.picture().keep("window-current");

    demo.edit("COLOUR: &str = \"teal\"", "COLOUR: &str = \"coral\"");
    deadline::wait_for("the change in the table", || (row()?["status"] == "changed").then_some(()));
    deadline::wait_for("the change in the window", || see(&display, "Changed"));
    window.picture().keep("window-changed");
    assert_eq!(scene.picture().count(CORAL, 6), 0, "auto mode is off: nothing has happened yet");

    let press = || display.accessibility(&["press", "reload-dashboard", "Reload now"]).ok();
    deadline::wait_for("a Reload now that can be pressed", press);
    deadline::wait_for("coral bodies", || (scene.picture().count(CORAL, 6) > 300).then_some(()));
    assert_eq!(scene.picture().count(TEAL, 6), 0, "a body kept the old colour");
    let row = deadline::wait_for("the row's new status", || row().filter(|row| row["status"] == "current"));
    assert_eq!(row["generation"], 1, "{row:#}");
    scene.picture().keep("demo-after");
    window.picture().keep("window-reloaded");

    // By the keyboard, with what the first reload left.
    demo.edit("COLOUR: &str = \"coral\"", "COLOUR: &str = \"teal\"");
    deadline::wait_for("the change in the window", || see(&display, "Changed"));
    window.key("ctrl+r");
    deadline::wait_for("teal bodies again", || (scene.picture().count(TEAL, 6) > 300).then_some(()));
    drop(started);
}

/// The README's pictures, as `target/screenshots/reload-dark.png` and `reload-light.png`, to be looked at and copied to
/// `assets/`:
///
/// ```sh
/// README_DEMO=/home/ada/demo cargo test --release -p reload-tests --test demo -- --ignored readme
/// ```
///
/// on a machine with nothing else to do; `README_DEMO` is the folder that is to be read in the pictures. Auto mode is on, and
/// the demo is edited, built, broken and mended before each.
#[test]
#[ignore = "takes pictures for people"]
fn readme_pictures() {
    let folder = std::env::var_os("README_DEMO").map_or_else(|| std::env::temp_dir().join("demo"), PathBuf::from);
    let demo = Demo::at(folder.clone(), folder.join("target"));
    for theme in ["dark", "light"] {
        demo.restore();
        let room = Room::new();
        let display = Display::new();
        let mut command = room.dashboard();
        command.args(["run", "--"]).arg(demo.program());
        display.furnish(&mut command);
        command.stdout(Stdio::null());
        let dashboard = Running(command.spawn().expect("the binary runs"));
        let started = Ended(dashboard.pid());
        let scene = display.window("Demo scene");
        let window = display.window("reload-dashboard");
        window.place(100, 60, 1180, 660);
        deadline::wait_for("the library in the table", || see(&display, LIBRARY));
        let other = if theme == "dark" { "Light theme" } else { "Dark theme" };
        if see(&display, other).is_none() {
            let switch = if theme == "dark" { "Dark theme" } else { "Light theme" };
            deadline::wait_for("the theme", || display.accessibility(&["press", "reload-dashboard", switch]).ok());
        }
        let press = |name: &str| {
            deadline::wait_for(name, || display.accessibility(&["press", "reload-dashboard", name]).ok());
        };
        press("Auto: all except skipped");
        press(&format!("{LIBRARY}, Current"));
        press("History");
        let library = demo.built.join("debug").join(LIBRARY);
        let mut colours = ["teal", "coral", "violet", "gold"].windows(2).map(|pair| (pair[0], pair[1]));
        let mut recolour = |generation: u32| {
            let (old, new) = colours.next().expect("as many colours as edits");
            demo.edit(&format!("COLOUR: &str = \"{old}\""), &format!("COLOUR: &str = \"{new}\""));
            let line = format!("Reloaded, generation {generation},");
            deadline::wait_for(&line, || see(&display, &line));
        };
        recolour(1);
        demo.edit("GRAVITY: f32 = ", "GRAVITY: f32 = 0.5 * ");
        deadline::wait_for("the second reload", || see(&display, "Reloaded, generation 2,"));
        // As a build that was interrupted leaves it.
        let whole = fs::read(&library).expect("just built");
        reload_tests::install::bytes(&whole[..whole.len() / 2], &library);
        deadline::wait_for("the failure", || see(&display, &format!("{LIBRARY}, Failed")));
        recolour(3);
        recolour(4);
        scene.place(190, 370, 560, 300);
        scene.focus();
        scene.click(280, 60);
        scene.click(180, 60);
        display.put_pointer_away();
        // An age that reads differently is as good a sign as any that the frame after the last reload has been drawn.
        deadline::wait_for("ten seconds", || see(&display, "Reloaded, generation 4, 10 s ago"));
        window.scene().keep(&format!("reload-{theme}"));
        drop(started);
    }
}

/// Whether some part of the dashboard's window is called this.
fn see(display: &Display, text: &str) -> Option<()> {
    let tree = display.accessibility(&["tree", "reload-dashboard"]).ok()?;
    tree.contains(text).then_some(())
}

fn name(pid: u32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned())
}

/// Ends a process and all below it when dropped: the target outlives a dashboard that is killed.
struct Ended(u32);

impl Drop for Ended {
    fn drop(&mut self) {
        for pid in process::family(self.0).into_iter().rev() {
            process::end(pid);
        }
    }
}
