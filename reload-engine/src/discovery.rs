//! Which processes could be targets, and why the others cannot.
//!
//! Looks only; attaching is the session's business.

use std::path::PathBuf;

use crate::{
    error::Error,
    target::{link::AgentLink, process::Process, store::TargetFolder},
};

/// A process of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub pid: u32,
    pub name: String,
    /// Empty where we may not look.
    pub exe: PathBuf,
    /// Or why not, in one line.
    pub attachable: Result<(), String>,
}

/// Every process but kernel threads and this one; those that can be attached first, then by pid.
pub fn candidates() -> Vec<Candidate> {
    let own = std::process::id();
    let mut all: Vec<Candidate> = Process::all()
        .into_iter()
        .filter(|process| process.pid != own && !is_kernel_thread(process.pid))
        .map(candidate)
        .collect();
    all.sort_by_key(|candidate| (candidate.attachable.is_err(), candidate.pid));
    all
}

fn candidate(process: Process) -> Candidate {
    let Process { pid, name, exe, uid, .. } = process;
    let user = nix::unistd::geteuid();
    let attachable = if TargetFolder::of_agent(pid).is_some() {
        AgentLink::connect(pid).map(drop).map_err(|error| error.to_string())
    } else if !user.is_root() && uid != user.as_raw() {
        Err(Error::NotPermitted { pid }.to_string())
    } else {
        Err("not launched by reload-dashboard; start it with `reload-dashboard run -- COMMAND`".to_owned())
    };
    Candidate { pid, name, exe: exe.unwrap_or_default(), attachable }
}

/// Kernel threads have no command line, as zombies, which are not listed anyway.
fn is_kernel_thread(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.is_empty())
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use super::candidates;

    #[test]
    fn process_without_an_agent_is_listed_with_the_reason() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        // Until `exec` the child still has this test's name.
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        let found = loop {
            let found = candidates().into_iter().find(|candidate| candidate.pid == child.id());
            match found {
                Some(found) if found.exe.ends_with("sleep") || found.name.contains("sleep") => break found,
                _ => assert!(std::time::Instant::now() < deadline, "not listed"),
            }
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.attachable.unwrap_err().contains("reload-dashboard run"));
        assert!(candidates().iter().all(|candidate| candidate.pid != std::process::id()));
    }
}
