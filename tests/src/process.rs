//! Processes by their id: what state they are in, who their children are, and ending them.

use std::{fs, time::Duration};

use crate::deadline;

/// The letter in `/proc/PID/stat`: `R`, `S`, `D`, `T` stopped, `t` traced, `Z` zombie; `None` once it is gone.
pub fn state(pid: u32) -> Option<char> {
    stat(pid)?.0
}

/// State and parent. The name in between is in parentheses and may hold anything.
fn stat(pid: u32) -> Option<(Option<char>, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
    Some((fields.next()?.chars().next(), fields.next()?.parse().ok()?))
}

pub fn is_running(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

/// The process and everything below it, parents first.
pub fn family(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .expect("/proc is mounted")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.1)))
        .collect();
    let mut family = vec![pid];
    let mut next = 0;
    while next < family.len() {
        let parent = family[next];
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid));
        next += 1;
    }
    family
}

/// The first of a process and everything below it that has stopped itself, `but` one left out.
pub fn halted_below(pid: u32, but: Option<u32>) -> Option<u32> {
    family(pid).into_iter().find(|&member| Some(member) != but && state(member) == Some('T'))
}

/// Sends a signal; a process that is gone already is fine.
pub fn signal(pid: u32, signal: i32) {
    // SAFETY: kill(2) touches no memory of ours. The id is that of a process this test started.
    unsafe { libc::kill(pid as i32, signal) };
}

/// Ends a process at once and waits until it is gone.
pub fn end(pid: u32) {
    signal(pid, libc::SIGKILL);
    deadline::until(Duration::from_secs(10), || (!is_running(pid)).then_some(()));
}
