//! Processes that the target has forked and that stay: the workers of a server.
//!
//! A child that becomes another program or ends before the second look is none. What follows from there being one is up to
//! whoever reads the events.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::model::split_root;

/// With more threads only the first one's children are looked for.
const MANY_THREADS: usize = 64;

#[derive(Debug, Default)]
pub struct Forks {
    told: BTreeSet<u32>,
    seen: BTreeSet<u32>,
    /// The process created last as of the last look, and how many looks there have been since.
    newest: Option<u32>,
    looks: u32,
}

impl Forks {
    /// Whether there may be a child that is not known: only if some process was created, `newest` last, since the one look
    /// that saw it and the other that made sure.
    pub fn is_due(&mut self, newest: Option<u32>) -> bool {
        if newest.is_none() || newest != self.newest {
            (self.newest, self.looks) = (newest, 0);
        }
        self.looks = (self.looks + 1).min(3);
        self.looks < 3
    }

    /// Those that have been there at the last look too and were not told of.
    pub fn look(&mut self, pid: u32, program: &Path) -> Vec<u32> {
        // As the link of a process names it, wherever that lives.
        let (_, program) = split_root(program);
        let same = |child: &u32| fs::read_link(format!("/proc/{child}/exe")).is_ok_and(|exe| exe == program);
        let now: BTreeSet<u32> = children(pid).into_iter().filter(same).collect();
        self.told.retain(|child| now.contains(child));
        let new: Vec<u32> =
            now.iter().filter(|&child| self.seen.contains(child) && self.told.insert(*child)).copied().collect();
        self.seen = now;
        new
    }
}

fn children(pid: u32) -> Vec<u32> {
    let first = PathBuf::from(format!("/proc/{pid}/task/{pid}"));
    let tasks: Vec<PathBuf> = match fs::read_dir(format!("/proc/{pid}/task")) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).take(MANY_THREADS + 1).collect(),
        Err(_) => return Vec::new(),
    };
    let tasks = if tasks.len() > MANY_THREADS { vec![first] } else { tasks };
    let text = |task: PathBuf| fs::read_to_string(task.join("children")).unwrap_or_default();
    tasks
        .into_iter()
        .map(text)
        .flat_map(|text| text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{path::Path, process::Command};

    use super::Forks;

    #[test]
    fn without_a_new_process_nobody_looks_a_third_time() {
        let mut forks = Forks::default();
        let due: Vec<bool> = [Some(7), Some(7), Some(7), Some(7), Some(9), Some(9), Some(9)]
            .into_iter()
            .map(|newest| forks.is_due(newest))
            .collect();
        assert_eq!(due, [true, true, false, false, true, true, false]);
        assert!((0..5).all(|_| forks.is_due(None)));
    }

    #[test]
    fn child_is_told_of_once_and_only_if_it_stays_the_same_program() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("starts");
        let exe = std::fs::canonicalize("/bin/sleep").expect("it is there");
        let mut forks = Forks::default();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        // Until `exec` it is this test's program.
        while !forks.look(std::process::id(), &exe).contains(&child.id()) {
            assert!(std::time::Instant::now() < deadline, "not told of");
            std::thread::yield_now();
        }
        assert!(!forks.look(std::process::id(), &exe).contains(&child.id()), "told of twice");
        let mut others = Forks::default();
        for _ in 0..2 {
            assert!(!others.look(std::process::id(), Path::new("/bin/other")).contains(&child.id()));
        }
        child.kill().and_then(|()| child.wait()).expect("ends");
    }
}
