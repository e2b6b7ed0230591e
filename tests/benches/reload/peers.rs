//! What a user would pick instead, each in a program of its own that calls `value` in turn with its own kind of update.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    libraries::{Language, Library},
    subject::{Save, Subject},
};

/// The peers that could be built; what cannot, as without a network, is told and left out.
pub struct Peers {
    rust: Option<PathBuf>,
    python: Option<PathBuf>,
}

/// A peer that runs.
pub struct Peer<'a> {
    pub name: &'static str,
    pub subject: Subject,
    pub save: Save<'a>,
}

/// One peer: how it is called and what it is started with.
type Start = (&'static str, fn(&Peers, &Path, &str) -> Option<Command>);

const OF_LIBRARIES: [Start; 4] = [
    ("hot-lib-reloader", |peers, folder, name| peers.rust(&["hot", text(folder), name, "500"])),
    ("hot-lib-reloader, 20 ms", |peers, folder, name| peers.rust(&["hot", text(folder), name, "20"])),
    ("dynamic_reload", |peers, folder, name| peers.rust(&["dynamic", text(folder), name])),
    ("subsecond, apply_patch", |peers, folder, name| {
        peers.rust(&["subsecond", text(&folder.join(format!("lib{name}.so")))])
    }),
];
const OF_MODULES: [Start; 2] = [
    ("IPython autoreload 2", |peers, folder, name| peers.python("2", folder, name)),
    ("IPython autoreload 3", |peers, folder, name| peers.python("3", folder, name)),
];

impl Peers {
    /// Builds them in `work`.
    pub fn build(work: &Path) -> Peers {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
        let target = work.join("peers");
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--release", "--locked", "--manifest-path"]).arg(sources.join("Cargo.toml"));
        let rust = succeeded(build.arg("--target-dir").arg(&target)).then(|| target.join("release/peers"));
        let environment = work.join("python");
        let python = environment.join("bin/python");
        let ready = python.exists()
            || (succeeded(Command::new("python3").args(["-m", "venv"]).arg(&environment))
                && succeeded(Command::new(&python).args(["-m", "pip", "install", "-q", "ipython"])));
        Peers { rust, python: ready.then_some(python) }
    }

    /// Starts all that can reload this kind of library, each on a copy of its own.
    pub fn start<'a>(&self, library: &'a Library, save: impl Fn(&str) -> Save<'a>) -> Vec<Peer<'a>> {
        let kinds = if library.language == Language::Python { &OF_MODULES[..] } else { &OF_LIBRARIES[..] };
        let start = |(name, command): &Start| {
            let save = save(name);
            let folder = save.path().parent().expect("a file in a folder");
            let mut subject = Subject::start(&mut command(self, folder, &library.name)?);
            subject.value(1);
            Some(Peer { name, subject, save })
        };
        kinds.iter().filter_map(start).collect()
    }

    /// What a call takes more than a direct one, in nanoseconds, with each of those that ask for calls of their own kind.
    pub fn costs_of_calls(&self, save: &Save<'_>, name: &str) -> Vec<(&'static str, f64)> {
        let folder = text(save.path().parent().expect("a file in a folder"));
        let commands = [
            ("hot-lib-reloader", self.rust(&["hot-cost", folder, name])),
            ("subsecond", self.rust(&["subsecond-cost", text(save.path())])),
        ];
        let cost = |command: Option<Command>| {
            Some(Subject::start(&mut command?).talk.line_where(|line| {
                let (direct, call) = line.strip_prefix("cost ")?.split_once(' ')?;
                Some(call.parse::<f64>().ok()? - direct.parse::<f64>().ok()?)
            }))
        };
        commands.into_iter().filter_map(|(name, command)| Some((name, cost(command)?))).collect()
    }

    fn rust(&self, arguments: &[&str]) -> Option<Command> {
        let mut command = Command::new(self.rust.as_ref()?);
        command.args(arguments);
        Some(command)
    }

    fn python(&self, mode: &str, folder: &Path, name: &str) -> Option<Command> {
        let mut command = Command::new(self.python.as_ref()?);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/autoreload.py"));
        command.args([mode, text(folder), name]);
        Some(command)
    }
}

fn succeeded(command: &mut Command) -> bool {
    let succeeded = command.status().is_ok_and(|status| status.success());
    if !succeeded {
        eprintln!("left out, as this failed: {command:?}");
    }
    succeeded
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the target folder's path is UTF-8")
}
