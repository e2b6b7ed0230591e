//! A program that was started without the dashboard, as users' programs are: by the test, with nothing in its environment that
//! the dashboard would know.

use std::{
    ffi::OsStr,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::{
    dashboard::{Room, Running, receipts, told},
    process,
    program::Conversation,
};

/// It and what it says. Ended when dropped.
pub struct Stranger<'a> {
    room: &'a Room,
    pub program: Running,
    pub host: Conversation,
}

impl<'a> Stranger<'a> {
    /// Starts a program whose standard input and output are the test's.
    pub fn start(room: &'a Room, program: impl AsRef<OsStr>, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments);
        Stranger::spawn(room, &mut command)
    }

    pub fn spawn(room: &'a Room, command: &mut Command) -> Self {
        room.furnish(command);
        command.env_remove("LD_PRELOAD").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let host = Conversation::new(child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Stranger { room, program: Running(child), host }
    }

    /// As [`Stranger::start`] with a program of `hosts/`, which says `ready PID` first.
    pub fn ready(room: &'a Room, program: impl AsRef<OsStr>, arguments: &[&str]) -> Self {
        let mut stranger = Stranger::start(room, program, arguments);
        stranger.host.line_where(|line| line.starts_with("ready ").then_some(()));
        stranger
    }

    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// `> COMMAND` of a host in `hosts/`.
    pub fn ask(&mut self, command: &str) -> String {
        assert!(process::is_running(self.pid()), "the target has ended; it said {:?}", self.host.said);
        self.host.ask(command)
    }

    /// A verb about this program, `--pid` added after the first word.
    pub fn verb(&self, arguments: &[&str]) -> Output {
        verb(self.room, self.pid(), arguments)
    }

    /// A verb that must end with status 0.
    pub fn done(&self, arguments: &[&str]) -> String {
        let output = self.verb(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", told(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The receipt of reloading this one module by name.
    pub fn reload_one(&self, module: &str) -> Value {
        let mut receipts = receipts(&self.verb(&["reload", "--json", module]));
        assert_eq!(receipts.len(), 1, "one receipt for {module}: {receipts:?}");
        receipts.remove(0)
    }

    /// The row of one module in `list --json`.
    pub fn module(&self, name: &str) -> Value {
        let list: Value = serde_json::from_str(&self.done(&["list", "--json"])).expect("JSON");
        let modules = list["modules"].as_array().expect("`modules` is an array");
        modules.iter().find(|module| module["name"] == name).unwrap_or_else(|| panic!("no {name} in {list}")).clone()
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.pid())).map_or(0, Iterator::count)
    }
}

pub fn verb(room: &Room, pid: u32, arguments: &[&str]) -> Output {
    let pid = pid.to_string();
    let mut all = vec![arguments[0], "--pid", &pid];
    all.extend(&arguments[1..]);
    room.verb(&all)
}

/// The row of one process in `ps --json`.
pub fn row(room: &Room, pid: u32) -> Value {
    let output = room.verb(&["ps", "--json"]);
    let list: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", told(&output)));
    let rows = list["processes"].as_array().expect("an array");
    rows.iter().find(|row| row["pid"] == pid).unwrap_or_else(|| panic!("{pid} is not listed")).clone()
}

/// `ps` and `attach` give the same reason and remedy, and the program goes on.
pub fn refused(room: &Room, pid: u32, reason: &str, remedy: &str) {
    let row = row(room, pid);
    assert_eq!(row["attachable"], false, "{row:#}");
    let told_by_ps = (row["reason"].as_str().unwrap_or_default(), row["remedy"].as_str().unwrap_or_default());
    assert!(told_by_ps.0.contains(reason) && told_by_ps.1.contains(remedy), "{row:#}");
    let output = verb(room, pid, &["attach"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(text.contains(reason) && text.contains(remedy), "{}", told(&output));
}
