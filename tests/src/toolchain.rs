//! Building libraries and programs with the compilers that users use: gcc, g++ and rustc, directly.
//!
//! One source gives every version of a library: C and C++ see the macro `VERSION`, Rust sees `cfg(v1)`, `cfg(v2)`...

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

/// How to build one shared library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// Without `lib` and `.so`.
    pub name: String,
    pub source: PathBuf,
    /// For the compiler of its language.
    pub flags: Vec<String>,
    /// Names of libraries in the same folder that it is linked against.
    pub links: Vec<String>,
}

impl Library {
    pub fn new(name: &str, source: impl Into<PathBuf>, flags: &str) -> Self {
        Library { name: name.into(), source: source.into(), flags: words(flags), links: Vec::new() }
    }

    pub fn file_name(&self) -> String {
        format!("lib{}.so", self.name)
    }

    /// Builds version `version` as the file `output`; libraries it is linked against lie in `folder`.
    pub fn build(&self, version: u32, folder: &Path, output: &Path) {
        let mut command = match extension(&self.source) {
            "rs" => {
                let mut command = Command::new("rustc");
                command.args([
                    "--edition",
                    "2024",
                    "--crate-type",
                    "cdylib",
                    "--crate-name",
                    &self.name,
                    "-A",
                    "warnings",
                ]);
                command.args(["-C", "debuginfo=2", "--cfg", &format!("v{version}")]);
                command
            }
            language => {
                let mut command = Command::new(if language == "c" { "gcc" } else { "g++" });
                command.args(["-shared", "-fPIC", "-g", "-pthread", &format!("-DVERSION={version}")]);
                // The soname is what the loader of a linked program looks for, whatever the file is called while it is built.
                command.arg(format!("-Wl,-soname,{}", self.file_name()));
                command
            }
        };
        command.args(&self.flags).arg("-o").arg(output).arg(&self.source);
        if !self.links.is_empty() {
            command.arg("-L").arg(folder).arg(format!("-Wl,-rpath,{}", folder.display()));
            command.args(self.links.iter().map(|name| format!("-l{name}")));
        }
        run(&mut command);
    }
}

/// Builds a program from one C or C++ file.
pub fn program(source: &Path, flags: &[impl AsRef<OsStr>], output: &Path) {
    let mut command = Command::new(if extension(source) == "c" { "gcc" } else { "g++" });
    command.args(["-g", "-pthread", "-rdynamic", "-o"]).arg(output).arg(source).args(flags).arg("-ldl");
    run(&mut command);
}

/// The folder of programs and libraries that the tests build.
pub fn hosts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("hosts")
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

pub fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(OsStr::to_str).unwrap_or_default()
}
