//! Programs as published, which are edited and built again, and the lists of edits.
//!
//! Works on copies; every edit is taken back once it is built. Knows nothing of what is to be said of an edit.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use reload_engine::image::Image;

use crate::published;

/// One edit as the list has it.
pub struct Edit {
    pub name: String,
    /// What a refusal must name; `None`: it is an ordinary edit.
    pub harms: Option<String>,
    replacements: Vec<Replacement>,
}

struct Replacement {
    file: String,
    from: String,
    to: String,
    /// Not only the first.
    all: bool,
}

/// The edits of a program, in the order of its list.
pub fn edits(program: &str) -> Vec<Edit> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/edits").join(program);
    let text = fs::read_to_string(&path).expect("read the list");
    let mut edits: Vec<Edit> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let edit = |name: &str, harms| Edit { name: name.to_owned(), harms, replacements: Vec::new() };
        if let Some(name) = line.strip_prefix("harmless ") {
            edits.push(edit(name, None));
        } else if let Some((harms, name)) = line.strip_prefix("harmful ").and_then(|line| line.split_once(": ")) {
            edits.push(edit(name, Some(harms.to_owned())));
        } else {
            let parsed = line.split_once(": ").and_then(|(file, rest)| Some((file, rest.split_once(" ==> ")?)));
            let (file, (from, to)) = parsed.unwrap_or_else(|| panic!("{program}: what is this? {line}"));
            let (from, to) = (from.replace("\\n", "\n"), to.replace("\\n", "\n"));
            let (file, all) = file.strip_suffix('*').map_or((file, false), |file| (file, true));
            let edit = edits.last_mut().expect("a replacement belongs to an edit");
            edit.replacements.push(Replacement { file: file.to_owned(), from, to, all });
        }
    }
    edits
}

/// A copy of a program's source that can be built again after an edit.
pub struct Program {
    pub name: &'static str,
    /// For the table.
    pub title: String,
    source: PathBuf,
    build: Build,
}

enum Build {
    /// Every file by itself, then all linked into one library.
    Files {
        compiler: &'static str,
        flags: Vec<String>,
        files: Vec<PathBuf>,
    },
    Cargo {
        program: &'static str,
    },
}

impl Program {
    fn copied(name: &'static str, from: &Path, title: String, optimisation: &str) -> (Program, Vec<String>) {
        let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join("edits").join(format!("{name}{optimisation}"));
        published::copy(from, &source);
        let flags = ["-g", "-fPIC", "-w", optimisation].map(str::to_owned).to_vec();
        (Program { name, title, source, build: Build::Cargo { program: "" } }, flags)
    }

    pub fn lua(optimisation: &str) -> Program {
        let from = published::source("lua-src").join("lua-5.4.7");
        let (mut program, mut flags) =
            Program::copied("lua", &from, format!("Lua 5.4.7, {} {optimisation}", version("gcc")), optimisation);
        flags.push("-DLUA_USE_LINUX".to_owned());
        let files = program.files(&[""], |_| true);
        program.build = Build::Files { compiler: "gcc", flags, files };
        program
    }

    pub fn leveldb(optimisation: &str) -> Program {
        let from = published::source("leveldb-sys").join("deps/leveldb-1.22");
        let title = format!("LevelDB 1.22, {} {optimisation}", version("g++"));
        let (mut program, mut flags) = Program::copied("leveldb", &from, title, optimisation);
        let root = program.source.display();
        flags.extend(["-DLEVELDB_PLATFORM_POSIX=1", "-DLEVELDB_IS_BIG_ENDIAN=0"].map(str::to_owned));
        flags.extend([format!("-I{root}"), format!("-I{root}/include")]);
        let programs = ["test", "windows", "bench", "leveldbutil"];
        let files = program.files(&["db", "table", "util"], |name| !programs.iter().any(|part| name.contains(part)));
        program.build = Build::Files { compiler: "g++", flags, files };
        program
    }

    pub fn ripgrep() -> Program {
        let from = published::source("ripgrep");
        let versioned = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (mut program, _) = Program::copied(
            "ripgrep",
            &from,
            format!("{}, {}, debug build", versioned.replace('-', " "), version("rustc")),
            "",
        );
        // So that cargo does not take it for a part of this workspace.
        let manifest = program.source.join("Cargo.toml");
        let text = fs::read_to_string(&manifest).expect("read the manifest");
        fs::write(manifest, text + "\n[workspace]\n").expect("write the manifest");
        program.build = Build::Cargo { program: "rg" };
        program
    }

    fn files(&self, folders: &[&str], wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let folders = folders.iter().map(|folder| self.source.join(folder));
        let entries = folders.flat_map(|folder| fs::read_dir(folder).expect("read the folder"));
        let paths = entries.map(|entry| entry.expect("read the folder").path());
        let is_source =
            |path: &PathBuf| path.extension().is_some_and(|extension| extension == "c" || extension == "cc");
        let mut files: Vec<PathBuf> = paths
            .filter(is_source)
            .filter(|path| wanted(&path.file_name().unwrap_or_default().to_string_lossy()))
            .collect();
        files.sort();
        files
    }

    /// Builds what depends on these files; everything without any.
    pub fn image(&self, touched: &[PathBuf]) -> Arc<Image> {
        let output = match &self.build {
            Build::Files { compiler, flags, files } => {
                let outdated: Vec<&PathBuf> = files.iter().filter(|file| depends(file, touched)).collect();
                in_parallel(&outdated, |file| {
                    let mut command = Command::new(compiler);
                    let (object, list) = (file.with_extension("o"), file.with_extension("d"));
                    command.args(flags).arg("-MMD").arg("-MF").arg(list).arg("-c").arg("-o").arg(object).arg(file);
                    published::run(&mut command);
                });
                let output = self.source.join(format!("lib{}.so", self.name));
                let objects = files.iter().map(|file| file.with_extension("o"));
                published::run(Command::new(compiler).args(["-shared", "-o"]).arg(&output).args(objects));
                output
            }
            Build::Cargo { program } => {
                let target = self.source.join("target");
                let mut command = published::cargo();
                command.args(["build", "--quiet", "--locked", "--manifest-path"]).arg(self.source.join("Cargo.toml"));
                published::run(command.arg("--target-dir").arg(&target));
                target.join("debug").join(program)
            }
        };
        Arc::new(Image::parse(&output, fs::read(&output).expect("read the library")).expect("parse"))
    }

    /// Makes an edit, builds, takes it back; the files that it touched, and the build. What the edit before has touched is as
    /// it was, and has to be built as such.
    pub fn edited(&self, edit: &Edit, before_it: Vec<PathBuf>) -> (Vec<PathBuf>, Arc<Image>) {
        let mut before: BTreeMap<PathBuf, String> = BTreeMap::new();
        for replacement in &edit.replacements {
            let path = self.source.join(&replacement.file);
            let text = fs::read_to_string(&path).expect("read the source");
            assert!(
                text.contains(&replacement.from),
                "{}, {}: {} does not have {:?}",
                self.name,
                edit.name,
                replacement.file,
                replacement.from
            );
            let count = if replacement.all { usize::MAX } else { 1 };
            fs::write(&path, text.replacen(&replacement.from, &replacement.to, count)).expect("write the source");
            before.entry(path).or_insert(text);
        }
        let touched: Vec<PathBuf> = before.keys().cloned().collect();
        let image = self.image(&[touched.as_slice(), &before_it].concat());
        for (path, text) in before {
            fs::write(path, text).expect("write the source");
        }
        (touched, image)
    }
}

/// What a compiler calls itself, without the details in brackets.
fn version(compiler: &str) -> String {
    let output = Command::new(compiler).arg("--version").output().expect("the compiler is installed");
    let line = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
    let mut words = line.split_whitespace().filter(|word| !word.starts_with('(') && !word.ends_with(')'));
    words.by_ref().take(2).collect::<Vec<_>>().join(" ")
}

fn depends(file: &Path, touched: &[PathBuf]) -> bool {
    let list = fs::read_to_string(file.with_extension("d")).unwrap_or_default();
    let mut parts = list.split_whitespace();
    touched.is_empty() || list.is_empty() || parts.any(|part| touched.iter().any(|path| path.as_os_str() == part))
}

fn in_parallel(files: &[&PathBuf], work: impl Fn(&Path) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(file);
                }
            });
        }
    });
}
