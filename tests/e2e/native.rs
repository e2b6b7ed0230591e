//! Executables of C and C++ as their compilers make them by default, through four generations: whatever a program can keep
//! state in is checked in each, what the loader copied from other libraries into the program above all.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use reload_tests::{
    dashboard::{Launched, Room, told},
    install,
    package::{number, program_source},
    toolchain,
};

/// What the tests want of the file, as `readelf` writes it: they would prove nothing without.
struct Build {
    compiler: &'static str,
    flags: &'static [&'static str],
    has: &'static [&'static str],
}

impl Build {
    fn make(&self, source: &str, version: u32, output: &Path) {
        let mut command = Command::new(self.compiler);
        command.args(["-g", "-pthread", &format!("-DVERSION={version}"), "-o"]).arg(output).arg(program_source(source));
        toolchain::run(command.args(self.flags));
        let tables = Command::new("readelf").arg("-rdW").arg(output).output().expect("binutils come with gcc");
        let tables = String::from_utf8_lossy(&tables.stdout).into_owned();
        for wanted in self.has {
            assert!(tables.contains(wanted), "{}: no {wanted}", output.display());
        }
    }
}

/// A program with the version that runs, and what it has said.
struct Keeper<'a> {
    target: Launched<'a>,
    build: &'a Build,
    source: &'a str,
    folder: PathBuf,
    rounds: u64,
}

impl<'a> Keeper<'a> {
    fn start(room: &'a Room, build: &'a Build, source: &'a str) -> Self {
        let installed = room.path().join("keeper");
        build.make(source, 1, &installed);
        let target = room.launch_silent(&installed, &[]);
        Keeper { target, build, source, folder: room.path().to_owned(), rounds: 0 }
    }

    /// Builds and reloads; the warnings, as one text.
    fn reload(&self, version: u32) -> String {
        let built = self.folder.join("built/keeper");
        self.build.make(self.source, version, &built);
        install::by_rename(&built, &self.folder.join("keeper"));
        let receipt = self.target.reload_one("keeper");
        assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
        assert_eq!(receipt["functions"]["unpatchable"], 0, "{receipt:#}");
        assert_eq!(receipt["statics"]["reset"], 0, "{receipt:#}");
        receipt["warnings"].to_string()
    }

    /// One more round: the counts are the same everywhere.
    fn round(&mut self) -> String {
        let line = self.target.ask("round");
        self.rounds += 1;
        // What `std::cout` was told to write hexadecimal stays below 10 here.
        assert_eq!((number(&line, "rounds"), number(&line, "kept")), (self.rounds, self.rounds), "{line}");
        line
    }
}

fn c_program(build: &Build) {
    let room = Room::new();
    let mut keeper = Keeper::start(&room, build, "keeper.c");
    let (mut signals, mut added) = (0, 0);
    for version in 1..=4 {
        let warnings = if version > 1 { keeper.reload(version) } else { String::new() };
        // The third is the first to name a variable of libc, which its copy is made of as it is.
        let copied = build.has.contains(&"R_X86_64_COPY");
        assert_eq!(warnings.contains("program_invocation_short_name"), copied && version == 3, "{warnings}");
        for _ in 0..2 {
            let line = keeper.round();
            let version = u64::from(version);
            signals += version;
            added += u64::from(version >= 3);
            let expected = [
                ("version", version),
                ("chosen", 6 + version),
                ("table", 4 + 10 * version),
                ("signals", signals),
                ("added", if version >= 3 { 300 + added + "keeper".len() as u64 } else { 0 }),
            ];
            for (name, value) in expected {
                assert_eq!(number(&line, name), value, "{name} in {line}");
            }
        }
    }
    keeper.target.done(&["rollback", "keeper"]);
    assert_eq!(number(&keeper.round(), "version"), 3);
    let Keeper { mut target, rounds, .. } = keeper;
    assert_eq!(target.host.last_words(), [format!("version 3 ends after {rounds} rounds")]);
    assert_eq!(target.finish(), Some(0));
}

const COPIES: &[&str] = &["R_X86_64_COPY"];

#[test]
fn c_by_gcc() {
    c_program(&Build { compiler: "gcc", flags: &["-O0"], has: COPIES });
}

#[test]
fn c_by_gcc_optimised() {
    c_program(&Build { compiler: "gcc", flags: &["-O2"], has: COPIES });
}

#[test]
fn c_by_clang() {
    c_program(&Build { compiler: "clang", flags: &["-O0"], has: &[] });
}

#[test]
fn c_by_clang_optimised() {
    c_program(&Build { compiler: "clang", flags: &["-O2"], has: &[] });
}

#[test]
fn c_with_packed_relative_relocations() {
    let flags = &["-O2", "-Wl,-z,pack-relative-relocs"];
    c_program(&Build { compiler: "gcc", flags, has: &["R_X86_64_COPY", "(RELR)"] });
}

fn cpp_program(build: &Build) {
    let room = Room::new();
    let mut keeper = Keeper::start(&room, build, "keeper.cpp");
    for version in 1..=4 {
        if version > 1 {
            keeper.reload(version);
        }
        let hex = |value: u32| format!("{value:x}");
        let expected = [
            format!(" version={version} "),
            format!(" shape={} square=1 held={} ", hex(20 * version), hex(1 + 16 * version)),
            format!(" odd=[refusal of version {version}/{}] even=[range of version {version}] ", 7 * version),
            " kept_error=[refusal of version 1] wide=..abcd".to_owned(),
        ];
        for _ in 0..2 {
            let line = keeper.round();
            for part in &expected {
                assert!(line.contains(part), "`{part}` is not in `{line}`");
            }
            if keeper.rounds.is_multiple_of(3) {
                // Thrown by the newest code, caught by the `main` that began the program.
                assert_eq!(keeper.target.host.line(), format!("main caught refusal of version {version}"));
            }
        }
    }
    let Keeper { mut target, rounds, .. } = keeper;
    assert_eq!(target.host.last_words(), [format!("counter of {rounds} ends in version 4")]);
    assert_eq!(target.finish(), Some(0));
}

const STREAM_COPIED: &[&str] = &["R_X86_64_COPY", "_ZSt4cout"];

#[test]
fn cpp_by_gcc() {
    cpp_program(&Build { compiler: "g++", flags: &["-O0", "-std=c++20"], has: STREAM_COPIED });
}

#[test]
fn cpp_by_gcc_optimised() {
    cpp_program(&Build { compiler: "g++", flags: &["-O2", "-std=c++20"], has: STREAM_COPIED });
}

#[test]
fn cpp_by_clang() {
    cpp_program(&Build { compiler: "clang++", flags: &["-O0", "-std=c++20"], has: &[] });
}

#[test]
fn cpp_by_clang_optimised() {
    cpp_program(&Build { compiler: "clang++", flags: &["-O2", "-std=c++20"], has: &[] });
}

#[test]
fn cpp_with_packed_relative_relocations() {
    let flags = &["-O2", "-std=c++20", "-Wl,-z,pack-relative-relocs"];
    cpp_program(&Build { compiler: "g++", flags, has: &["R_X86_64_COPY", "(RELR)"] });
}

/// Every form that has no dynamic loader: the reason and the remedy are said before anything runs.
#[test]
fn static_programs_are_refused() {
    let room = Room::new();
    for form in ["-static", "-static-pie"] {
        let program = room.path().join("static");
        let mut command = Command::new("gcc");
        command.args(["-DVERSION=1", "-pthread", form, "-o"]).arg(&program).arg(program_source("keeper.c"));
        toolchain::run(&mut command);
        let output = room.verb(&["run", "--headless", "--", &program.display().to_string()]);
        let said = told(&output);
        assert!(!output.status.success() && output.stdout.is_empty(), "{said}");
        for part in
            [&*program.display().to_string(), "statically linked", "without -static or -static-pie", "crt-static"]
        {
            assert!(said.contains(part), "{form}: no `{part}` in {said}");
        }
    }
}
