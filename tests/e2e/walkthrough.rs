//! The README's walk-through with a program of one's own: its commands as they stand there, in a shell, then three edits.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use reload_tests::{
    dashboard::{Launched, Room},
    deadline,
    package::cargo,
    toolchain,
};

/// The README's commands from `cargo new` to the first build.
fn commands() -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).expect("the README is there");
    let start = readme.find("cargo new hello").expect("the walk-through begins so");
    let text = &readme[start..];
    let end = text.find("reload-dashboard run").expect("the walk-through goes on so");
    text[..end].to_owned()
}

/// Follows the README in a new folder; where its program stands then.
fn follow(room: &Room) -> PathBuf {
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", &commands()]).current_dir(room.path()).env("CARGO_NET_OFFLINE", "true");
    // The very cargo that builds this, which need not be in the path.
    if let Some(folder) = env::var_os("CARGO").as_deref().and_then(|cargo| Path::new(cargo).parent()) {
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([folder.to_owned()].into_iter().chain(env::split_paths(&path)));
        shell.env("PATH", path.expect("no colon in a toolchain's folder"));
    }
    shell.env_remove("CARGO_TARGET_DIR");
    toolchain::run(&mut shell);
    room.path().join("hello")
}

fn build(folder: &Path, release: bool) {
    let mut command = cargo();
    command.args(["build", "--quiet", "--offline"]).current_dir(folder).env_remove("CARGO_TARGET_DIR");
    if release {
        command.arg("--release");
    }
    toolchain::run(&mut command);
}

fn edit(folder: &Path, old: &str, new: &str) {
    let path = folder.join("src/main.rs");
    let text = fs::read_to_string(&path).expect("just written");
    assert!(text.contains(old), "no `{old}` in {text}");
    fs::write(&path, text.replace(old, new)).expect("the folder is ours");
}

/// The rounds up to the first that says this; each must be the one after the round before.
fn rounds_until(target: &mut Launched<'_>, round: &mut u64, saying: &str) {
    deadline::wait_for(&format!("a round that says `{saying}`"), || {
        let line = target.host.line();
        *round += 1;
        let said = line.strip_prefix(&format!("round {round}: ")).unwrap_or_else(|| panic!("round {round}: {line}"));
        (said == saying).then_some(())
    });
}

fn three_generations(release: bool) {
    let room = Room::new();
    let folder = follow(&room);
    if release {
        // As the README says of release builds.
        edit(&folder, "fn greet", "#[inline(never)]\nfn greet");
        build(&folder, true);
    }
    let program = folder.join(if release { "target/release/hello" } else { "target/debug/hello" });
    let mut target = room.launch_silent(&program, &[]);
    let mut round = 0;
    rounds_until(&mut target, &mut round, "hello");
    target.done(&["mode", "all"]);

    // What the README has one do first.
    edit(&folder, ": hello", ": good day");
    build(&folder, release);
    rounds_until(&mut target, &mut round, "good day");

    // A static, which is new.
    let counted = "static CALLS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(40);\n    let calls = \
                   CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);\n    println!(\"round {round}: call {calls}\"";
    edit(&folder, "println!(\"round {round}: good day\"", counted);
    build(&folder, release);
    rounds_until(&mut target, &mut round, "call 40");
    rounds_until(&mut target, &mut round, "call 41");

    // A function, which is new, and the static goes on.
    let before = round;
    edit(&folder, "call {calls}\"", "{}\", politely(calls)");
    edit(
        &folder,
        "fn main",
        "fn politely(calls: u32) -> String {\n    format!(\"pleased to see you, {calls}\")\n}\n\nfn main",
    );
    build(&folder, release);
    // Some rounds more may have been counted meanwhile.
    let said = deadline::wait_for("a round that is polite", || {
        let line = target.host.line();
        round += 1;
        let said = line.strip_prefix(&format!("round {round}: ")).unwrap_or_else(|| panic!("round {round}: {line}"));
        said.strip_prefix("pleased to see you, ").map(str::to_owned)
    });
    assert_eq!(said, (41 + round - before).to_string(), "every call of the second edit and the third is counted once");
    assert_eq!(target.module("hello")["generation"], 3);
    assert_eq!(target.count("reloaded", "hello"), 3);
}

#[test]
fn own_program_through_three_generations() {
    three_generations(false);
}

#[test]
fn own_program_in_release_through_three_generations() {
    three_generations(true);
}

#[test]
fn own_program_in_release_is_told_what_stays() {
    let room = Room::new();
    let folder = follow(&room);
    build(&folder, true);
    let program = folder.join("target/release/hello");
    let target = room.launch_silent(&program, &[]);
    edit(&folder, ": hello", ": good day");
    build(&folder, true);
    let receipt = target.reload_one("hello");
    assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
    let warnings = receipt["warnings"].to_string();
    assert!(
        warnings.contains("`hello::main` is running: its change takes effect when it is next entered"),
        "{warnings}"
    );
}
