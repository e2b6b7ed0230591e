//! The library most tests are about: three functions that always belong to one version, so that a mixture shows.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    dashboard::{Launched, Room},
    install,
    toolchain::{self, Library},
};

/// A program of `hosts/`, built into the room.
pub fn host(room: &Room, name: &str) -> PathBuf {
    let output = room.path().join(name);
    toolchain::program(&toolchain::hosts().join(format!("{name}.c")), &["-O2"], &output);
    output
}

/// `libgreek.so` in version 1 beside the host, and the files of the other versions.
pub struct Greek {
    pub installed: PathBuf,
    /// Version 1 first.
    pub versions: Vec<PathBuf>,
}

impl Greek {
    pub const NAME: &str = "libgreek.so";

    pub fn new(room: &Room, versions: u32) -> Self {
        let library = Library::new("greek", toolchain::hosts().join("greek.c"), "-O0");
        let versions: Vec<PathBuf> = (1..=versions)
            .map(|version| {
                let built = room.path().join("built").join(format!("greek-{version}.so"));
                library.build(version, room.path(), &built);
                built
            })
            .collect();
        let greek = Greek { installed: room.path().join(Self::NAME), versions };
        greek.install(1);
        greek
    }

    /// Adds this many bytes, which mean nothing, to the debugging information of every version, and installs the first.
    pub fn weigh_down(&self, bytes: usize) {
        let weight = self.installed.with_extension("weight");
        fs::write(&weight, vec![0xa5; bytes]).expect("the room is ours");
        let section = format!(".debug_macro={}", weight.display());
        for version in &self.versions {
            toolchain::run(Command::new("objcopy").arg("--add-section").arg(&section).arg(version));
        }
        self.install(1);
    }

    pub fn install(&self, version: usize) {
        install::by_rename(&self.versions[version - 1], &self.installed);
    }

    pub fn open(&self, target: &mut Launched<'_>) {
        assert_eq!(target.ask(&format!("open {}", self.installed.display())), "ok");
    }
}

/// Opens the library in a new target; version 1 runs, and the dashboard has seen it.
pub fn greek_target<'a>(room: &'a Room, greek: &Greek) -> Launched<'a> {
    let mut target = room.launch(&host(room, "host"), &[]);
    greek.open(&mut target);
    assert_eq!(target.ask("call together 0"), "111");
    // A file that is replaced before the dashboard has seen what was opened cannot be compared any more.
    target.event("loaded", |event| event["module"] == Greek::NAME);
    target
}
