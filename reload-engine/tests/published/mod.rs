//! Programs and libraries as others have published them: the crates that `crates/Cargo.toml` names, in the versions of its
//! lock file, fetched by cargo.
//!
//! Gives their sources, to be copied before anything is edited, and builds the examples in there. Judges nothing.

#![allow(dead_code, reason = "every test that includes this uses a part of it")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/published/crates")
}

/// The cargo that runs this test.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The folder with the source of a crate. It is shared by everything on this machine: not to be written to.
pub fn source(name: &str) -> PathBuf {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--locked", "--manifest-path"]);
    let output = command.arg(folder().join("Cargo.toml")).output().expect("cargo is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo speaks JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let folder_of = |package: &Value| {
        Some(Path::new(package["manifest_path"].as_str()?).parent()?.to_owned()).filter(|folder| folder.is_dir())
    };
    if let Some(package) = packages.iter().find(|package| package["name"] == name) {
        return folder_of(package).expect("it has been fetched");
    }
    // A program without a library is fetched, but no package to cargo: it lies beside the others.
    let lock = std::fs::read_to_string(self::folder().join("Cargo.lock")).expect("read the lock file");
    let after = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).expect("the crate is one of those").1;
    let version = after.split('"').next().unwrap_or_default();
    let known = packages.iter().find(|package| package["source"].is_string()).and_then(folder_of);
    let beside = known.expect("a package that was fetched").with_file_name(format!("{name}-{version}"));
    assert!(beside.is_dir(), "{} has not been fetched", beside.display());
    beside
}

/// Builds the library of one of the examples, linked with these arguments, in a folder of its own below `room`.
pub fn library(example: &str, profile: &str, link_arguments: &[&str], room: &Path) -> PathBuf {
    let mut command = cargo();
    command.args(["rustc", "--locked", "--quiet", "--example", example, "--profile", profile, "--target-dir"]);
    command.arg(room).arg("--manifest-path").arg(folder().join("Cargo.toml")).arg("--");
    command.args(link_arguments.iter().map(|argument| format!("-Clink-arg={argument}")));
    run(&mut command);
    let built = if profile == "dev" { "debug" } else { profile };
    room.join(built).join(format!("examples/lib{example}.so"))
}

/// Copies a folder and everything in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("make the folder");
    for entry in std::fs::read_dir(from).expect("read the folder") {
        let entry = entry.expect("read the folder");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("its type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            // Made anew: what the registry holds may be write-protected.
            let bytes = std::fs::read(entry.path()).expect("read the source");
            std::fs::write(&target, bytes).expect("write the copy");
        }
    }
}

/// Runs a command to its end; anything but success fails the test with all it printed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
