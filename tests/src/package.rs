//! Packages as `cargo new` makes them and as their authors have published them, built by a plain `cargo build`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{dashboard::Room, display::target_folder, toolchain};

/// A package in a folder of its own, which may be edited.
pub struct Package {
    pub folder: PathBuf,
    /// Kept between runs where there are dependencies to be built.
    target: PathBuf,
    release: bool,
}

impl Package {
    /// As `cargo new` makes it.
    pub fn new(room: &Room, name: &str, source: &str, dependencies: &str, release: bool) -> Self {
        let folder = room.path().join(name);
        fs::create_dir_all(folder.join("src")).expect("the folder is ours");
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
             [dependencies]\n{dependencies}\n[workspace]\n"
        );
        fs::write(folder.join("Cargo.toml"), manifest).expect("the folder is ours");
        fs::write(folder.join("src/main.rs"), source).expect("the folder is ours");
        let target = if dependencies.is_empty() { folder.join("target") } else { kept_target(name) };
        let package = Package { folder, target, release };
        package.build();
        package
    }

    /// A copy of a program that its authors have published, as cargo gets it; `settings` are for cargo's configuration and
    /// override those of the authors.
    pub fn published(room: &Room, name: &str, version: &str, release: bool, settings: &str) -> Self {
        let fetcher = room.path().join("fetcher");
        fs::create_dir_all(fetcher.join("src")).expect("the folder is ours");
        let manifest = format!(
            "[package]\nname = \"fetcher\"\nedition = \"2024\"\n\n\
             [dependencies]\n{name} = \"={version}\"\n\n[workspace]\n"
        );
        fs::write(fetcher.join("Cargo.toml"), manifest).expect("the folder is ours");
        fs::write(fetcher.join("src/main.rs"), "fn main() {}").expect("the folder is ours");
        toolchain::run(cargo().args(["fetch", "--quiet"]).current_dir(&fetcher));
        let home = env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"))).expect("cargo has a home");
        let sources = fs::read_dir(home.join("registry/src")).expect("cargo keeps sources there");
        let mut originals = sources.map(|entry| entry.expect("readable").path().join(format!("{name}-{version}")));
        let original = originals.find(|path| path.is_dir()).expect("just fetched");
        let folder = room.path().join(name);
        toolchain::run(Command::new("cp").arg("-r").arg(original).arg(&folder));
        fs::create_dir_all(folder.join(".cargo")).expect("the folder is ours");
        fs::write(folder.join(".cargo/config.toml"), settings).expect("the folder is ours");
        let package = Package { folder, target: kept_target(name), release };
        package.build();
        package
    }

    pub fn build(&self) {
        let mut command = cargo();
        command.args(["build", "--quiet"]).current_dir(&self.folder).env("CARGO_TARGET_DIR", &self.target);
        if self.release {
            command.arg("--release");
        }
        toolchain::run(&mut command);
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.target.join(if self.release { "release" } else { "debug" }).join(name)
    }

    /// Replaces each first text by the second in `src/main.rs`, and builds.
    pub fn edit(&self, edits: &[(&str, &str)]) {
        self.edit_file("src/main.rs", edits);
    }

    pub fn edit_file(&self, file: &str, edits: &[(&str, &str)]) {
        self.rewrite(file, edits);
        self.build();
    }

    /// As [`Package::edit_file`], to be built later.
    pub fn rewrite(&self, file: &str, edits: &[(&str, &str)]) {
        let path = self.folder.join(file);
        let mut text = fs::read_to_string(&path).expect("just written");
        for (old, new) in edits {
            assert!(text.contains(old), "nothing to edit: `{old}`");
            text = text.replace(old, new);
        }
        fs::write(&path, text).expect("the folder is ours");
    }
}

pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn kept_target(name: &str) -> PathBuf {
    target_folder().join("executables-test").join(name)
}

/// A source of `programs/`.
pub fn program_source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(name)
}

/// Its text.
pub fn source(name: &str) -> String {
    let path = program_source(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One of the numbers of a line as `tick=3 sum=30`.
pub fn number(line: &str, name: &str) -> u64 {
    let mut fields = line.split_whitespace().filter_map(|field| field.split_once('='));
    let (_, value) = fields.find(|(found, _)| *found == name).unwrap_or_else(|| panic!("no `{name}` in `{line}`"));
    value.parse().unwrap_or_else(|_| panic!("`{name}` is no number in `{line}`"))
}
