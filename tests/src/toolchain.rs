//! Building libraries and programs with the compilers that users use: gcc, g++ and rustc, directly.
//!
//! One source gives every version of a library: C and C++ see the macro `VERSION`, Rust sees `cfg(v1)`, `cfg(v2)`...

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

/// How to build one shared library, or a program that has its code inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// Without `lib` and `.so`.
    pub name: String,
    pub source: PathBuf,
    /// Source files beside it, of the same language.
    pub more: Vec<PathBuf>,
    /// For the compiler of its language; `{folder}` is where the source lies, `{version}` the version that is built.
    pub flags: Vec<String>,
    /// Names of libraries in the same folder that it is linked against.
    pub links: Vec<String>,
    /// The C source of a program: the code becomes part of it instead of a library.
    pub program: Option<PathBuf>,
}

impl Library {
    pub fn new(name: &str, source: impl Into<PathBuf>, flags: &str) -> Self {
        let (name, source, flags) = (name.into(), source.into(), words(flags));
        Library { name, source, more: Vec::new(), flags, links: Vec::new(), program: None }
    }

    pub fn file_name(&self) -> String {
        match &self.program {
            Some(_) => self.name.clone(),
            None => format!("lib{}.so", self.name),
        }
    }

    /// Builds version `version` as the file `output`; libraries it is linked against lie in `folder`.
    pub fn build(&self, version: u32, folder: &Path, output: &Path) {
        if let Some(program) = &self.program {
            return self.build_into(program, version, output);
        }
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
                let mut command = Command::new(compiler(language));
                command.args(["-shared", "-fPIC", "-g", "-pthread", &format!("-DVERSION={version}")]);
                // The soname is what the loader of a linked program looks for, whatever the file is called while it is built.
                command.arg(format!("-Wl,-soname,{}", self.file_name()));
                command
            }
        };
        command.args(self.flags_of(version)).arg("-o").arg(output).arg(&self.source).args(&self.more);
        if !self.links.is_empty() {
            command.arg("-L").arg(folder).arg(format!("-Wl,-rpath,{}", folder.display()));
            command.args(self.links.iter().map(|name| format!("-l{name}")));
        }
        run(&mut command);
    }

    /// Builds version `version` of the program, with the library's code inside and its names in the dynamic symbol table.
    fn build_into(&self, program: &Path, version: u32, output: &Path) {
        let language = extension(&self.source);
        let host = output.with_extension("host.o");
        let mut command = Command::new("gcc");
        run(command.args(["-g", "-pthread", "-c", "-o"]).arg(&host).arg(program));
        let part = output.with_extension(if language == "rs" { "a" } else { "o" });
        let mut command;
        if language == "rs" {
            command = Command::new("rustc");
            command.args(["--edition", "2024", "--crate-type", "staticlib", "--crate-name", &self.name]);
            command.args(["-A", "warnings", "-C", "debuginfo=2", "--cfg", &format!("v{version}")]);
        } else {
            command = Command::new(compiler(language));
            // Several files become one by a link that leaves everything as it is.
            let kind: &[&str] = if self.more.is_empty() { &["-c"] } else { &["-r", "-nostdlib"] };
            command.args(["-g", "-pthread", &format!("-DVERSION={version}")]).args(kind);
        }
        run(command.args(self.flags_of(version)).arg("-o").arg(&part).arg(&self.source).args(&self.more));
        let mut command = Command::new(compiler(language));
        command.args(["-pthread", "-rdynamic", "-o"]).arg(output).arg(&host);
        run(command.arg("-Wl,--whole-archive").arg(&part).args(["-Wl,--no-whole-archive", "-lm", "-ldl"]));
    }

    fn flags_of(&self, version: u32) -> impl Iterator<Item = String> {
        let folder = self.source.parent().unwrap_or(Path::new("")).to_string_lossy();
        self.flags.iter().map(move |flag| flag.replace("{folder}", &folder).replace("{version}", &version.to_string()))
    }
}

fn compiler(language: &str) -> &'static str {
    if language == "cpp" { "g++" } else { "gcc" }
}

/// Builds a program from one C or C++ file.
pub fn program(source: &Path, flags: &[impl AsRef<OsStr>], output: &Path) {
    let mut command = Command::new(compiler(extension(source)));
    command.args(["-g", "-pthread", "-rdynamic", "-o"]).arg(output).arg(source).args(flags).arg("-ldl");
    run(&mut command);
}

/// Compiles one C or C++ file to `output`, for a program that is made of several.
pub fn part(source: &Path, output: &Path) {
    let mut command = Command::new(compiler(extension(source)));
    run(command.args(["-g", "-pthread", "-c", "-o"]).arg(output).arg(source));
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
