//! Which processes could be targets, and why the others cannot.
//!
//! Looks only; attaching is the session's business.

use std::{
    collections::BTreeSet,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    classes::classify,
    error::Error,
    model::{Class, split_root},
    target::{
        attach::{self, Obstacle},
        is_helper,
        link::AgentLink,
        maps,
        process::{self, Process},
        store::{StoreRoot, TargetFolder},
    },
};

/// A process of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub pid: u32,
    pub name: String,
    /// Empty where we may not look.
    pub exe: PathBuf,
    /// Since it was started.
    pub age: Duration,
    /// How many modules of the user's own it has mapped, the executable included; 0 where we may not look.
    pub modules: usize,
    /// It has an agent already.
    pub agent: bool,
    /// Or why not, and the remedy.
    pub attachable: Result<(), Obstacle>,
}

impl Candidate {
    /// Whether it runs the program that a target ran, or another one at the same place, as after a new build. In a container the
    /// place is seen from inside: outside it has the process's number in it.
    pub fn runs(&self, program: &Path) -> bool {
        !self.exe.as_os_str().is_empty() && split_root(program).1 == split_root(&self.exe).1
    }
}

/// Every process but kernel threads, this one and what dashboards have started to stop their targets. Those that can be
/// attached come first: with an agent, with modules of the user's own, the youngest.
pub fn candidates() -> Vec<Candidate> {
    let own = std::process::id();
    let store = StoreRoot::find().map(|root| root.path().to_owned()).unwrap_or_default();
    let mut all: Vec<Candidate> = Process::all()
        .into_iter()
        .filter(|process| process.pid != own && is_program(process.pid))
        .map(|process| candidate(process, &store))
        .collect();
    all.sort_by_key(|candidate| {
        let Candidate { pid, age, modules, agent, attachable, .. } = candidate;
        (attachable.is_err(), !agent, *modules == 0, *age, *pid)
    });
    all
}

fn candidate(process: Process, store: &Path) -> Candidate {
    let Process { pid, name, exe, start_time, .. } = process;
    let exe = exe.unwrap_or_default();
    let modules = project_modules(pid, &exe, store);
    let connection = TargetFolder::of_agent(pid).map(|_| AgentLink::connect(pid));
    let (agent, attachable) = match connection {
        Some(Ok(_)) => (true, Ok(())),
        Some(Err(Error::NoAgent { .. })) | None => {
            (false, attach::obstacle(pid).map_or(Ok(()), |obstacle| obstacle.map_or(Ok(()), Err)))
        }
        Some(Err(error)) => (true, Err(Obstacle { reason: error.to_string(), remedy: "start it again".to_owned() })),
    };
    Candidate { pid, name, exe, age: process::age(start_time), modules, agent, attachable }
}

fn project_modules(pid: u32, exe: &Path, store: &Path) -> usize {
    let mappings = maps::read(pid).unwrap_or_default();
    let files = mappings.iter().filter(|mapping| mapping.executable).filter_map(|mapping| mapping.file.as_ref());
    // A file in memory is nobody's build: an agent that was handed over, or code made at run time.
    let paths: BTreeSet<&Path> = files
        .map(|file| file.path.as_path())
        .filter(|path| !path.as_os_str().as_bytes().starts_with(b"/memfd:"))
        .collect();
    let own = |path: &&&Path| match classify(path, exe, store) {
        Class::Project => true,
        // As if it were a library: a program of the distribution's is not the user's.
        Class::Executable => classify(path, Path::new(""), store) == Class::Project,
        Class::System | Class::Protected => false,
    };
    paths.iter().filter(own).count()
}

/// Neither a kernel thread, which has no command line, nor what a dashboard has started to stop its target.
fn is_program(pid: u32) -> bool {
    !process::command_line(pid).is_ok_and(|line| line.is_empty() || is_helper(&line))
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    use super::candidates;

    #[test]
    fn stopped_process_is_listed_with_reason_and_remedy() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let find = |wanted: fn(&super::Candidate) -> bool| loop {
            // Until `exec` the child still has this test's name.
            let found = candidates().into_iter().find(|candidate| candidate.pid == child.id());
            match found {
                Some(found) if wanted(&found) => break found,
                _ => assert!(Instant::now() < deadline, "not listed so"),
            }
        };
        let found =
            find(|found| found.exe.file_name().is_some_and(|name| name != "engine") && found.attachable.is_ok());
        assert!(!found.agent && found.age < Duration::from_secs(60));
        kill(Pid::from_raw(found.pid as i32), Signal::SIGSTOP).unwrap();
        let found = find(|found| found.attachable.is_err());
        let obstacle = found.attachable.unwrap_err();
        assert!(obstacle.reason.contains("stopped") && obstacle.remedy.contains("CONT"), "{obstacle}");
        assert!(candidates().iter().all(|candidate| candidate.pid != std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
