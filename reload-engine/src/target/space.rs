//! Where a process lives: what its paths and process ids are from here.
//!
//! A process in another mount namespace, or with another root, has other files under the same paths; `/proc/PID/root` leads to
//! them. One in another pid namespace has other numbers for itself and its threads. All else in the engine uses paths and numbers
//! as they are from here; the link to the agent translates, the ledger's paths too, since they outlive the process: its children
//! and who comes after it have the same files under other numbers.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::process::Status;
use crate::model::split_root;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Space {
    pid: u32,
    /// `/proc/PID/root`, where its files are not ours.
    root: Option<PathBuf>,
    /// Its own number for itself.
    pub inner_pid: u32,
}

impl Space {
    pub fn of(pid: u32) -> Space {
        let link = |process: &str, name: &str| fs::read_link(format!("/proc/{process}/{name}")).ok();
        let own = pid.to_string();
        let mounts = link(&own, "ns/mnt").is_some_and(|mounts| Some(mounts) != link("self", "ns/mnt"));
        let rooted = link(&own, "root").is_some_and(|root| Some(root) != link("self", "root"));
        let root = (mounts || rooted).then(|| PathBuf::from(format!("/proc/{pid}/root")));
        let inner_pid = Status::of(pid).map_or(pid, |status| status.inner_pid);
        Space { pid, root, inner_pid }
    }

    /// Whether its files are not those that we have under the same paths.
    pub fn is_other(&self) -> bool {
        self.root.is_some()
    }

    /// Whether it could not find our store by a path, or would call its folder there otherwise than we do.
    pub fn is_foreign(&self) -> bool {
        self.is_other() || self.inner_pid != self.pid
    }

    /// Its path, as we open it.
    pub fn from_here(&self, path: &Path) -> PathBuf {
        match (&self.root, path.strip_prefix("/")) {
            (Some(root), Ok(inner)) => root.join(inner),
            _ => path.to_owned(),
        }
    }

    /// A path that we open, as it knows it.
    pub fn from_there<'a>(&self, path: &'a Path) -> &'a Path {
        if self.is_other() { split_root(path).1 } else { path }
    }

    /// Threads that it has these numbers for, in ours.
    pub fn threads(&self, inner: &[u32]) -> Vec<u32> {
        if self.inner_pid == self.pid {
            return inner.to_vec();
        }
        let Ok(entries) = fs::read_dir(format!("/proc/{}/task", self.pid)) else { return inner.to_vec() };
        let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter(|&id| Status::of(id).is_ok_and(|status| inner.contains(&status.inner_pid))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::Space;

    #[test]
    fn paths_there_and_here() {
        let other = Space { pid: 77, root: Some(PathBuf::from("/proc/77/root")), inner_pid: 3 };
        assert_eq!(other.from_here(Path::new("/lib/x.so")), Path::new("/proc/77/root/lib/x.so"));
        assert_eq!(other.from_there(Path::new("/proc/77/root/lib/x.so")), Path::new("/lib/x.so"));
        assert_eq!(other.from_here(Path::new("linux-vdso.so.1")), Path::new("linux-vdso.so.1"));
        let own = Space::of(std::process::id());
        assert!(!own.is_other() && !own.is_foreign() && other.is_foreign());
        assert_eq!(own.from_here(Path::new("/lib/x.so")), Path::new("/lib/x.so"));
        assert_eq!(own.threads(&[5]), [5]);
    }
}
