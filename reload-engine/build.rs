//! Builds the agent and the adapter for Python, so that they can be embedded: a `cargo install` of the application alone must give a working tool.
//!
//! The nested cargo has a target folder of its own; it waits for no lock that the outer one holds.

use std::{env, fs, path::PathBuf, process::Command};

/// What the outer cargo sets for its own build and would bend the nested one: clippy must not drive it, and its output must
/// be where this script looks. Nor is a guest in somebody else's process instrumented (coverage, sanitizers, fuzzing).
const SCRUBBED: [&str; 10] = [
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_BUILD_DIR",
    "CARGO_BUILD_TARGET",
    "RUSTC_WORKSPACE_WRAPPER",
    "CLIPPY_ARGS",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_MANIFEST_PATH",
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTFLAGS",
];

fn main() {
    let target = variable("TARGET");
    assert!(
        target.starts_with("x86_64-") && target.contains("linux-gnu"),
        "reload-dashboard runs on Linux x86-64 with glibc; it cannot be built for {target}"
    );
    for source in ["agent", "protocol", "python", "../Cargo.lock", "../Cargo.toml", "build.rs"] {
        println!("cargo:rerun-if-changed={source}");
    }

    let out = PathBuf::from(variable("OUT_DIR")).join("agent");
    let mut cargo = Command::new(variable("CARGO"));
    cargo.current_dir(variable("CARGO_MANIFEST_DIR"));
    cargo.args([
        "build",
        "--locked",
        "--profile",
        "agent",
        "--package",
        "reload-agent",
        "--package",
        "reload-python",
        "--target",
        &target,
    ]);
    cargo.arg("--target-dir").arg(&out);
    for name in SCRUBBED {
        cargo.env_remove(name);
    }
    cargo.env("RUSTFLAGS", format!("-Lnative={}", own_unwinder().display()));
    let status = cargo.status().unwrap_or_else(|error| panic!("running cargo for the agent: {error}"));
    assert!(status.success(), "building the agent failed ({status}); its errors are above");
    let built = out.join(&target).join("agent");
    println!("cargo:rustc-env=RELOAD_AGENT_LIBRARY={}", built.join("libreload_agent.so").display());
    println!("cargo:rustc-env=RELOAD_PYTHON_LIBRARY={}", built.join("libreload_python.so").display());
}

/// A folder in which the linker finds what Rust's library asks for as `libgcc_s`: the same code to be linked in. A container may
/// hold nothing but libc, and a target should not have to load a library for its guest.
fn own_unwinder() -> PathBuf {
    let folder = PathBuf::from(variable("OUT_DIR")).join("unwinder");
    let write = || {
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("libgcc_s.so"), "INPUT ( -lgcc_eh -lgcc )\n")
    };
    write().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    folder
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}
