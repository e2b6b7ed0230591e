//! What people see of a program's new code when they look for a mistake in it: backtraces of panics, and a debugger that is
//! attached after a reload.

use std::{fs, process::Command};

use reload_tests::{
    dashboard::{Launched, Room},
    install,
    package::{Package, source},
    toolchain,
};

/// The line of the first text in a source, counted from 1.
fn line_of(source: &str, text: &str) -> usize {
    let before = source.split(text).next().filter(|before| before.len() < source.len());
    before.unwrap_or_else(|| panic!("no `{text}`")).matches('\n').count() + 1
}

/// A panic in new code is told with all its frames: those of new code with its lines, those of code that has not changed since
/// the start with theirs. With `early` there has been one before the first reload, which std keeps what it has read of.
fn panic_in_new_code(level: &str, early: bool) {
    let room = Room::new();
    let package = Package::new(&room, "fallible", &source("fallible.rs"), "", false);
    let original = source("fallible.rs");
    let said = room.path().join("said");
    // The program's standard error is the dashboard's, which a shell leads into a file.
    let script = format!("RUST_BACKTRACE={level} exec \"$0\" 2>\"{}\"", said.display());
    let program = package.program("fallible");
    let mut target = room.launch_silent("/bin/sh".as_ref(), &["-c", &script, &program.display().to_string()]);
    assert_eq!(target.ask("50"), "2");
    if early {
        assert_eq!(target.ask("0"), "panicked");
    }
    for (round, (old, new)) in [
        ("dividend / divisor", "\n\n\n    1000 / divisor + dividend * 0"),
        ("1000 / divisor", "\n\n 5000 / divisor"),
        ("5000 / divisor", "\n 7000 / divisor"),
    ]
    .into_iter()
    .enumerate()
    {
        package.edit(&[(old, new)]);
        let receipt = target.reload_one("fallible");
        assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
        let factor = [1000, 5000, 7000][round];
        assert_eq!(target.ask("10"), (factor / 10).to_string());
        fs::write(&said, "").expect("the folder is ours");
        assert_eq!(target.ask("0"), "panicked");
        let told = fs::read_to_string(&said).expect("the panic is told");
        let text = fs::read_to_string(package.folder.join("src/main.rs")).expect("ours");
        assert!(told.contains("attempt to divide by zero"), "{told}");
        let edited = format!("{factor} / divisor");
        assert!(told.contains(&format!("panicked at src/main.rs:{}:", line_of(&text, &edited))), "{told}");
        let frame = |function: &str, line: usize| {
            let at = format!("/src/main.rs:{line}:");
            let lines: Vec<&str> = told.lines().collect();
            let found = lines.windows(2).any(|pair| pair[0].contains(function) && pair[1].contains(&at));
            assert!(found, "no {function} at {at} in {told}");
        };
        frame("fallible::divide", line_of(&text, &edited));
        // What called it runs in the first version, and its lines are of that.
        frame("fallible::answer", line_of(&original, "divide(100, number)"));
        frame("fallible::main", line_of(&original, "std::panic::catch_unwind"));
        // The last frame of a full one is that of nobody.
        let unknown = told.lines().filter(|line| line.contains("<unknown>") && !line.contains(" 0x0 ")).count();
        assert_eq!(unknown, 0, "{told}");
    }
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn panic_in_new_code_shows_all_frames() {
    panic_in_new_code("1", false);
}

#[test]
fn second_panic_in_new_code_shows_all_frames() {
    panic_in_new_code("1", true);
}

#[test]
fn full_backtrace_of_new_code_knows_every_frame() {
    panic_in_new_code("full", false);
}

/// Runs commands in a debugger that holds the target meanwhile; what it says.
fn gdb(target: &Launched<'_>, commands: &[&str]) -> String {
    let mut gdb = Command::new("timeout");
    gdb.args(["60", "gdb", "--quiet", "--nx", "--batch", "-iex", "set debuginfod enabled off"]);
    // Named by the kernel's link: under the path there is another file now.
    gdb.args([&format!("/proc/{}/exe", target.pid), "-p", &target.pid.to_string()]);
    for command in commands {
        gdb.args(["-ex", command]);
    }
    let output = gdb.output().expect("gdb is installed");
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    told
}

#[test]
fn gdb_breaks_in_new_code_at_its_lines() {
    let room = Room::new();
    let (edited, built) = (room.path().join("looper.c"), room.path().join("built/looper"));
    let original = source("looper.c");
    let build = |text: &str| {
        fs::write(&edited, text).expect("the folder is ours");
        toolchain::program(&edited, &["-O0"], &built);
        &built
    };
    let installed = room.path().join("looper");
    install::by_rename(build(&original), &installed);
    let target = room.launch_silent(&installed, &[]);
    for generation in 1..=2 {
        let lines = "\n".repeat(50 * generation);
        let next = original.replace("    total += x;", &format!("{lines}    x = {generation}00;\n    total += x;"));
        install::by_rename(build(&next), &installed);
        assert_eq!(target.reload_one("looper")["outcome"], "reloaded");

        let line = line_of(&next, "    total += x;");
        let place = format!("break looper.c:{line}");
        let told = gdb(&target, &[&place, "continue", "backtrace", "info symbol $pc", "list", "delete", "detach"]);
        let frame = |number: u32, text: String| {
            let start = format!("#{number} ");
            let found =
                told.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no {start}: {told}"));
            assert!(found.contains(&text), "`{text}` is not in `{found}`: {told}");
        };
        frame(0, format!("step (x={generation}00) at {}:{line}", edited.display()));
        // What has not changed runs in the first version, and its lines are of that.
        frame(1, format!(" in one_round (x=1) at {}:{}", edited.display(), line_of(&original, "return step(x) + 1;")));
        frame(2, format!(" in main () at {}:{}", edited.display(), line_of(&original, "one_round(1);")));
        assert!(told.contains("step + "), "{told}");
        assert!(told.contains(&format!("{line}\t    total += x;")), "the source is not listed: {told}");
    }
    // It goes on, and so do reloads.
    install::by_rename(build(&original), &installed);
    assert_eq!(target.reload_one("looper")["outcome"], "reloaded");
    assert_eq!(target.finish(), Some(0));
}
