//! `demo`: builds the bundled demo with cargo and runs it as the target, auto mode on.
//!
//! In a checkout the sources are built in place, where the README has them edited. An installed binary carries them and
//! unpacks them into the user's data folder.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use reload_engine::{ledger::NewWishes, model::Mode, watcher::content_hash};

use super::{
    failure::{FAILED, Failure, USAGE},
    launch,
    lines::Lines,
};

/// Name of the demo's program.
const PROGRAM: &str = "demo";

macro_rules! sources {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../assets/demo/", $path)))),*]
    };
}

/// The demo's files, by path.
const SOURCES: &[(&str, &str)] = sources![
    "Cargo.toml",
    "Cargo.lock",
    "rustfmt.toml",
    "host/Cargo.toml",
    "host/src/main.rs",
    "host/src/headless.rs",
    "host/src/window.rs",
    "scene/Cargo.toml",
    "scene/src/lib.rs",
    "scene/src/paint.rs",
    "stage/Cargo.toml",
    "stage/src/lib.rs",
];

pub fn run(headless: bool) -> Result<ExitCode, Failure> {
    let folder = match checkout() {
        Some(folder) => folder,
        None => unpack(&data_folder()?)?,
    };
    let program = build(&folder)?;
    eprintln!("reload-dashboard: now edit {}, then run", folder.join("scene/src/lib.rs").display());
    eprintln!("    cargo build --manifest-path {}", folder.join("Cargo.toml").display());
    let mut command = vec![program.into_os_string()];
    if headless {
        command.push("--headless".into());
    }
    let lines = Lines::to(None, false)?;
    launch::run(launch::Plan {
        command,
        headless,
        lines: headless.then_some(lines),
        mode: Some(Mode::All),
        wishes: NewWishes::default(),
    })
}

/// The sources of the checkout that this binary was built in and is run from.
fn checkout() -> Option<PathBuf> {
    let at_build = Path::new(env!("CARGO_MANIFEST_DIR"));
    let by_cargo = env::var_os("CARGO_MANIFEST_DIR").is_some_and(|folder| Path::new(&folder) == at_build);
    let root = at_build.parent()?;
    let inside = env::current_exe().is_ok_and(|program| program.starts_with(root));
    let demo = root.join("assets/demo");
    ((by_cargo || inside) && demo.join("Cargo.toml").is_file()).then_some(demo)
}

/// `$XDG_DATA_HOME/reload-dashboard`, else `~/.local/share/reload-dashboard`.
fn data_folder() -> Result<PathBuf, Failure> {
    let variable = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")));
    let data =
        data.ok_or_else(|| Failure::new(FAILED, "no folder for the demo's sources: set HOME or XDG_DATA_HOME"))?;
    Ok(data.join("reload-dashboard"))
}

/// Writes the sources that are not there yet: what the user has edited stays. Another version of the demo gets another
/// folder.
fn unpack(data: &Path) -> Result<PathBuf, Failure> {
    let folder = data.join(format!("demo-{}", version()));
    for (name, text) in SOURCES {
        let path = folder.join(name);
        if path.exists() {
            continue;
        }
        let parent = path.parent().unwrap_or(&folder);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, text))
            .map_err(|error| Failure::new(FAILED, format!("{}: unpacking the demo: {error}", path.display())))?;
    }
    Ok(folder)
}

/// Builds the demo as the user will build it again; where its program is.
fn build(folder: &Path) -> Result<PathBuf, Failure> {
    eprintln!("reload-dashboard: building the demo in {}", folder.display());
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = folder.join("Cargo.toml");
    let output = Command::new(&cargo)
        .args(["build", "--locked", "--message-format=json-render-diagnostics", "--manifest-path"])
        .arg(&manifest)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| {
            let cargo = Path::new(&cargo).display();
            Failure::new(
                USAGE,
                format!("{cargo}: {error}; the demo is built with Rust: install it from https://rustup.rs"),
            )
        })?;
    if !output.status.success() {
        let again = format!("cargo build --manifest-path {}", manifest.display());
        return Err(Failure::new(FAILED, format!("the demo does not build ({}); try `{again}`", output.status)));
    }
    program_in(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| Failure::new(FAILED, "cargo has built no program called `demo`"))
}

/// The program that cargo's messages name.
fn program_in(messages: &str) -> Option<PathBuf> {
    messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).find_map(|message| {
        let program = message["executable"].as_str()?;
        (message["target"]["name"] == PROGRAM).then(|| program.into())
    })
}

/// The same for the same sources.
fn version() -> String {
    let all: Vec<&str> = SOURCES.iter().flat_map(|(name, text)| [*name, *text]).collect();
    content_hash(all.join("\0").as_bytes()).chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::{SOURCES, program_in, unpack};

    fn files(folder: &Path, below: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                if entry.file_name() != "target" {
                    files(&path, below, found);
                }
            } else {
                found.insert(path.strip_prefix(below).unwrap().display().to_string());
            }
        }
    }

    #[test]
    fn every_file_of_the_demo_is_carried() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/demo");
        let mut found = BTreeSet::new();
        files(&folder, &folder, &mut found);
        let carried: BTreeSet<String> = SOURCES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(carried, found);
    }

    #[test]
    fn edited_sources_stay() {
        let data = tempfile::tempdir().unwrap();
        let folder = unpack(data.path()).unwrap();
        let edited = folder.join("scene/src/lib.rs");
        fs::write(&edited, "// mine").unwrap();
        fs::remove_file(folder.join("Cargo.toml")).unwrap();
        assert_eq!(unpack(data.path()).unwrap(), folder);
        assert_eq!(fs::read_to_string(edited).unwrap(), "// mine");
        assert!(folder.join("Cargo.toml").exists());
    }

    #[test]
    fn program_is_found_in_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"demo_stage\"},\"executable\":null}\n\
            not json\n\
            {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"demo\"},\"executable\":\"/t/debug/demo\"}\n\
            {\"reason\":\"build-finished\",\"success\":true}";
        assert_eq!(program_in(messages).unwrap(), Path::new("/t/debug/demo"));
        assert_eq!(program_in(""), None);
    }
}
