//! Executables: programs without libraries of their own, built as their authors build them, edited and rebuilt beside the
//! running process.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use reload_tests::{
    dashboard::{Launched, Room},
    deadline, toolchain,
};

/// A package in a folder of its own, as `cargo new` makes it.
struct Package {
    folder: PathBuf,
    release: bool,
}

impl Package {
    fn new(room: &Room, name: &str, source: &str, release: bool) -> Self {
        let folder = room.path().join(name);
        fs::create_dir_all(folder.join("src")).expect("the folder is ours");
        let manifest =
            format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n");
        fs::write(folder.join("Cargo.toml"), manifest).expect("the folder is ours");
        fs::write(folder.join("src/main.rs"), source).expect("the folder is ours");
        let package = Package { folder, release };
        package.build();
        package
    }

    fn build(&self) {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .args(["build", "--quiet"])
            .current_dir(&self.folder)
            .env("CARGO_TARGET_DIR", self.folder.join("target"));
        if self.release {
            command.arg("--release");
        }
        toolchain::run(&mut command);
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder.join("target").join(if self.release { "release" } else { "debug" }).join(name)
    }

    /// Replaces each first text by the second, and builds.
    fn edit(&self, edits: &[(&str, &str)]) {
        let path = self.folder.join("src/main.rs");
        let mut text = fs::read_to_string(&path).expect("just written");
        for (old, new) in edits {
            assert!(text.contains(old), "nothing to edit: `{old}`");
            text = text.replace(old, new);
        }
        fs::write(&path, text).expect("the folder is ours");
        self.build();
    }
}

/// The numbers of a line as `tick=3 sum=30`.
fn number(line: &str, name: &str) -> u64 {
    let mut fields = line.split_whitespace().filter_map(|field| field.split_once('='));
    let (_, value) = fields.find(|(found, _)| *found == name).unwrap_or_else(|| panic!("no `{name}` in `{line}`"));
    value.parse().unwrap_or_else(|_| panic!("`{name}` is no number in `{line}`"))
}

/// The next line for which this holds.
fn line_where(target: &mut Launched<'_>, wanted: impl Fn(&str) -> bool) -> String {
    let mut line = target.host.line();
    deadline::wait_for("a line that shows the new behaviour", || {
        if wanted(&line) {
            return Some(line.clone());
        }
        line = target.host.line();
        None
    })
}

fn source(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Three edits of a program that `cargo new` could have made, each live after a plain `cargo build`, with auto mode on.
fn plain_program(release: bool) {
    let room = Room::new();
    let package = Package::new(&room, "ticker", &source("ticker.rs"), release);
    let mut target = room.launch_silent(&package.program("ticker"), &[]);
    target.done(&["mode", "all"]);
    let first = line_where(&mut target, |line| number(line, "tick") >= 3);
    assert_eq!((number(&first, "version"), number(&first, "step")), (1, 1), "{first}");

    // A function that main calls, through a trait object made by generation 0.
    package.edit(&[("version: 1", "version: 2")]);
    let second = line_where(&mut target, |line| number(line, "version") == 2);
    assert!(number(&second, "tick") > number(&first, "tick"), "the count went on: {second}");
    assert_eq!(number(&second, "tick"), number(&second, "kept"), "map, list and thread-local went on: {second}");

    // What another thread's loop calls.
    package.edit(&[("const STEP: u64 = 1;", "const STEP: u64 = 1000;")]);
    let third = line_where(&mut target, |line| number(line, "step") == 1000);
    line_where(&mut target, |line| number(line, "worker") > number(&third, "worker") + 1000);

    // Several functions at once, one of them new, with a static of its own.
    const EXTRA: &str =
        "fn extra() -> u64 { static CALLS: AtomicU64 = AtomicU64::new(0); CALLS.fetch_add(1, Relaxed).min(1) }";
    package.edit(&[("version: 2", "version: 3 + extra()"), ("fn main(", &format!("{EXTRA}\nfn main("))]);
    let fourth = line_where(&mut target, |line| number(line, "version") == 4);
    assert_eq!(number(&fourth, "tick"), number(&fourth, "kept"), "{fourth}");
    let row = target.module("ticker");
    assert_eq!((&row["class"], &row["status"]), (&"executable".into(), &"current".into()), "{row:#}");
    assert_eq!(row["generation"], 3, "{row:#}");

    target.done(&["mode", "off"]);
    target.done(&["rollback", "ticker"]);
    let back = line_where(&mut target, |line| number(line, "version") == 2);
    assert_eq!(number(&back, "tick"), number(&back, "kept"), "{back}");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn plain_program_debug() {
    plain_program(false);
}

#[test]
fn plain_program_release() {
    plain_program(true);
}

#[test]
fn program_at_a_fixed_address_is_refused() {
    let room = Room::new();
    let installed = room.path().join("host");
    toolchain::program(&toolchain::hosts().join("host.c"), &["-no-pie"], &installed);
    let mut target = room.launch(&installed, &[]);
    let next = room.path().join("next");
    toolchain::program(&toolchain::hosts().join("host.c"), &["-no-pie", "-DNEXT=1", "-O1"], &next);
    fs::rename(&next, &installed).expect("the folder is ours");
    let receipt = target.reload_one("host");
    assert_eq!(receipt["outcome"], "refused", "{receipt:#}");
    let failure = &receipt["failure"];
    assert!(failure["message"].as_str().is_some_and(|text| text.contains("ET_EXEC")), "{failure:#}");
    assert!(failure["trace"].to_string().contains("position-independent"), "no remedy: {failure:#}");
    assert_eq!(target.ask("seen"), "0");
    assert_eq!(target.finish(), Some(0));
}
