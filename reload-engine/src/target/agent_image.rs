//! The agent's library, embedded, and its copy in the store that targets preload.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::geteuid;
use twox_hash::XxHash3_128;

use super::{maps, process::Process, store};
use crate::error::{Error, Result};

const PREFIX: &str = "libreload-agent-";
/// An older dashboard that still runs may be about to start a target with its own.
const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);
const IMAGE: &[u8] = include_bytes!(env!("RELOAD_AGENT_LIBRARY"));

/// Writes the agent into the store's root, if this version of it is not there yet. The name has the content's hash, so that
/// targets of an older dashboard keep theirs.
pub fn install(root: &Path) -> Result<PathBuf> {
    let path = root.join(format!("{PREFIX}{:032x}.so", XxHash3_128::oneshot(IMAGE)));
    if fs::symlink_metadata(&path)
        .is_ok_and(|found| found.is_file() && found.len() == IMAGE.len() as u64 && owned(&found))
    {
        return Ok(path);
    }
    store::replace(&path, IMAGE).map_err(|source| Error::File {
        path: path.clone(),
        doing: "writing the agent into the store",
        source,
    })?;
    sweep(root, &path);
    Ok(path)
}

/// Removes agents of other versions that are a day old and that no target of this store can have loaded.
fn sweep(root: &Path, current: &Path) {
    // As the kernel names mapped files.
    let Ok(root) = root.canonicalize() else { return };
    let Ok(entries) = fs::read_dir(&root) else { return };
    let old = |path: &PathBuf| {
        let age = fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
        path.file_name() != current.file_name()
            && is_agent(path)
            && age.is_ok_and(|age| age.is_ok_and(|age| age > KEPT_FOR))
    };
    let mut old: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(old).collect();
    if old.is_empty() {
        return;
    }
    // A target of this store that may not be looked into may be using any of them.
    for process in Process::all() {
        match maps::read(process.pid) {
            Ok(mappings) => old.retain(|path| {
                !mappings.iter().any(|mapping| mapping.file.as_ref().is_some_and(|file| file.path == *path))
            }),
            Err(Error::NoSuchProcess { .. }) => {}
            Err(_) if root.join(process.pid.to_string()).exists() => return,
            Err(_) => {}
        }
    }
    for path in old {
        // What cannot be removed now can the next time.
        let _ = fs::remove_file(path);
    }
}

/// Finished or not: then [`store::replace`] has added to its name.
fn is_agent(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match name.strip_prefix('.') {
        Some(unfinished) => unfinished.starts_with(PREFIX),
        None => name.starts_with(PREFIX) && name.ends_with(".so"),
    }
}

fn owned(metadata: &fs::Metadata) -> bool {
    metadata.uid() == geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::{Read, Write},
        process::{Command, Stdio},
        time::{Duration, SystemTime},
    };

    use super::install;

    #[test]
    fn old_agents_go_unless_they_are_in_use() {
        let root = tempfile::tempdir().expect("temporary folder");
        let current = install(root.path()).expect("installs");
        let file = |name: &str, age: u64| {
            let path = root.path().join(name);
            fs::copy(&current, &path).expect("copies");
            let then = SystemTime::now() - Duration::from_secs(age);
            File::options().write(true).open(&path).and_then(|file| file.set_modified(then)).expect("its time");
            path
        };
        let (old, young) = (file("libreload-agent-1.so", 90_000), file("libreload-agent-2.so", 60));
        let (used, other) = (file("libreload-agent-3.so", 90_000), file("notes.so", 90_000));
        let (unfinished, notes) = (file(".libreload-agent-4.so.a1B2c3", 90_000), file("libreload-agent-notes", 90_000));
        let mut user =
            Command::new("cat").env("LD_PRELOAD", &used).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let user = user.as_mut().expect("starts");
        // Once it has echoed a line it has loaded everything.
        user.stdin.as_mut().expect("piped").write_all(b"x").expect("writes");
        user.stdout.as_mut().expect("piped").read_exact(&mut [0]).expect("reads");
        fs::remove_file(&current).expect("removes");
        assert_eq!(install(root.path()).expect("installs"), current);
        user.kill().and_then(|()| user.wait()).expect("ends");
        let left = [&old, &young, &used, &other, &current].map(|path| path.exists());
        assert_eq!(left, [false, true, true, true, true]);
        assert_eq!([&unfinished, &notes].map(|path| path.exists()), [false, true]);
    }
}
