//! The real `reload-dashboard` binary: launching a target under it, its verbs, its JSON and its events.

use std::{
    cell::RefCell,
    env,
    ffi::OsStr,
    fs,
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::Duration,
};

use serde_json::Value;

use crate::{
    deadline::{self, PATIENCE},
    process,
    program::Conversation,
    skip::is_root,
    toolchain,
};

/// Debian's `nobody`.
const NOBODY: u32 = 65534;

/// The binary of this checkout, built in the profile the tests are built in; `RELOAD_DASHBOARD_BINARY` names another one.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os("RELOAD_DASHBOARD_BINARY") {
        Some(path) => path.into(),
        None => build(),
    })
}

fn build() -> PathBuf {
    // target/PROFILE/deps/this-test
    let this = env::current_exe().expect("/proc is mounted");
    let profile_folder = this.ancestors().nth(2).expect("cargo puts tests into deps/");
    let profile = match profile_folder.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The very selection of `cargo test --workspace`: with another one cargo would choose other features for shared
    // dependencies and build them all a second time.
    command.args(["build", "--quiet", "--workspace", "--bins", "--tests", "--profile", profile, "--manifest-path"]);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"));
    command.arg("--target-dir").arg(profile_folder.parent().expect("a profile's folder lies in the target folder"));
    toolchain::run(&mut command);
    profile_folder.join("reload-dashboard")
}

/// A folder of one test's own: the libraries, the store, the configuration. Gone when dropped.
pub struct Room {
    folder: tempfile::TempDir,
    /// Everything is started as this user, with a copy of the binary that it can read.
    user: Option<u32>,
    /// `$XDG_RUNTIME_DIR` of everything started here.
    pub runtime: PathBuf,
}

impl Default for Room {
    fn default() -> Self {
        Room::new()
    }
}

impl Room {
    pub fn new() -> Self {
        let folder =
            tempfile::Builder::new().prefix("reload-test-").tempdir().expect("the temporary folder is writable");
        let runtime = folder.path().join("runtime");
        for name in ["runtime", "config", "built"] {
            fs::create_dir(folder.path().join(name)).expect("the folder is ours");
        }
        Room { folder, user: None, runtime }
    }

    /// A room whose programs run without root's rights, whoever runs the tests. Once it is furnished, [`Room::hand_over`].
    pub fn unprivileged() -> Self {
        let mut room = Room::new();
        if is_root() {
            fs::copy(binary(), room.path().join("reload-dashboard")).expect("the folder is ours");
            room.user = Some(NOBODY);
        }
        room
    }

    /// Gives everything in an unprivileged room to its user.
    pub fn hand_over(&self) {
        let mut paths = vec![self.path().to_owned()];
        while let Some(path) = paths.pop() {
            if path.is_dir() {
                paths.extend(fs::read_dir(&path).expect("ours").map(|entry| entry.expect("ours").path()));
            }
            self.give_away(&path);
        }
    }

    /// Gives one file to the room's user.
    pub fn give_away(&self, path: &Path) {
        if let Some(user) = self.user {
            std::os::unix::fs::chown(path, Some(user), Some(user)).expect("root may");
        }
    }

    /// Has any command run as the room's user.
    pub fn become_user(&self, command: &mut Command) {
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Attaches to a process, kills the helper that does it where it has done `step`, and waits for the verb to end.
    pub fn attach_killed_after(&self, step: &str, pid: u32) {
        let mut verb = self.dashboard();
        verb.args(["attach", "--pid", &pid.to_string()]);
        verb.env("RELOAD_DASHBOARD_HALT", step).stdout(Stdio::null()).stderr(Stdio::null());
        let mut verb = Running(verb.spawn().expect("the binary runs"));
        let halted = deadline::until(PATIENCE, || process::halted_below(verb.pid(), None));
        process::end(halted.unwrap_or_else(|| panic!("nothing stood still at `{step}`: {:?}", verb.0.try_wait())));
        deadline::wait_for("the dashboard's end", || verb.0.try_wait().expect("our child"));
    }

    /// The dashboard with this room's environment.
    pub fn dashboard(&self) -> Command {
        let mut command = match self.user {
            None => Command::new(binary()),
            Some(user) => {
                let mut command = Command::new(self.path().join("reload-dashboard"));
                command.uid(user).gid(user);
                command
            }
        };
        self.furnish(&mut command);
        command
    }

    /// Gives any command this room's environment.
    pub fn furnish(&self, command: &mut Command) {
        command
            .env("XDG_RUNTIME_DIR", &self.runtime)
            .env("XDG_CONFIG_HOME", self.path().join("config"))
            .env("XDG_DATA_HOME", self.path().join("data"))
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
    }

    /// Runs a verb to its end. Its exit status is for the caller to judge.
    pub fn verb(&self, arguments: &[&str]) -> Output {
        self.verb_with(arguments, &[])
    }

    pub fn verb_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = self.dashboard();
        command.args(arguments).envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = Running(command.spawn().unwrap_or_else(|error| panic!("{}: {error}", binary().display())));
        child.output(arguments)
    }

    /// Starts a program as the target of `run --headless --json`; returns once the dashboard has attached.
    pub fn launch_silent(&self, program: &Path, arguments: &[&str]) -> Launched<'_> {
        self.launch_with(&[], program, arguments)
    }

    /// The same with options of `run`.
    pub fn launch_with(&self, options: &[&str], program: &Path, arguments: &[&str]) -> Launched<'_> {
        self.launch_in(&[], options, program, arguments)
    }

    /// The same with more in the environment.
    pub fn launch_in(
        &self,
        environment: &[(&str, &str)],
        options: &[&str],
        program: &Path,
        arguments: &[&str],
    ) -> Launched<'_> {
        let events = self.path().join(format!("events-{}", unique()));
        let mut command = self.dashboard();
        command.args(["run", "--headless", "--json", "--events"]).arg(&events).args(options);
        command.arg("--").arg(program).args(arguments).envs(environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", binary().display()));
        let host = Conversation::new(child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let events = RefCell::new(Events { path: events, taken: 0, seen: Vec::new() });
        let mut launched = Launched { room: self, dashboard: Running(child), pid: 0, host, events };
        let attached = launched.event("attached", |_| true);
        launched.pid = attached["pid"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a process id");
        launched
    }

    /// As [`Room::launch_silent`] with a program of `hosts/`, which says `ready PID` first.
    pub fn launch(&self, program: &Path, arguments: &[&str]) -> Launched<'_> {
        let mut launched = self.launch_silent(program, arguments);
        let pid = launched.host.line_where(|line| line.strip_prefix("ready ")?.parse::<u32>().ok());
        assert_eq!(pid, launched.pid, "the `attached` event names the target");
        launched
    }

    /// The stores of targets that this room's programs have left behind.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.runtime.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                if name.to_str().is_some_and(|name| name.parse::<u32>().is_ok()) {
                    found.push(entry.path());
                } else if entry.path().is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        found
    }
}

/// A number that no other in this process has.
fn unique() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// A child process that is ended when dropped.
pub struct Running(pub Child);

impl Running {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits for the end and collects what was printed; the deadline fails the test.
    fn output(mut self, arguments: &[&str]) -> Output {
        let stdout = collect(self.0.stdout.take().expect("piped"));
        let stderr = collect(self.0.stderr.take().expect("piped"));
        let status = deadline::until(PATIENCE, || self.0.try_wait().expect("our child"));
        let status =
            status.unwrap_or_else(|| panic!("reload-dashboard {}: not done within {PATIENCE:?}", arguments.join(" ")));
        Output { status, stdout: stdout.join().expect("no panic"), stderr: stderr.join().expect("no panic") }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // Fails only where it has just ended, and then waiting collects it all the same.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

fn collect(mut from: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A broken pipe ends the output as its end does.
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// A target running under `reload-dashboard run`.
pub struct Launched<'a> {
    room: &'a Room,
    pub dashboard: Running,
    /// Of the target.
    pub pid: u32,
    pub host: Conversation,
    events: RefCell<Events>,
}

/// The file of events, read as far as it goes.
struct Events {
    path: PathBuf,
    /// Bytes taken so far: whole lines.
    taken: u64,
    seen: Vec<Value>,
}

impl Events {
    fn read(&mut self) {
        // The dashboard makes the file when it starts.
        let Ok(mut file) = fs::File::open(&self.path) else { return };
        let mut text = String::new();
        file.seek(SeekFrom::Start(self.taken)).expect("a plain file");
        file.read_to_string(&mut text).expect("events are UTF-8");
        // The last line may be half written.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.seen.extend(text[..whole].lines().map(|line| json(line.as_bytes())));
        self.taken += whole as u64;
    }
}

impl Launched<'_> {
    /// `> COMMAND` of a host in `hosts/`.
    pub fn ask(&mut self, command: &str) -> String {
        assert!(process::is_running(self.pid), "the target has ended; it said {:?}", self.host.said);
        self.host.ask(command)
    }

    /// Asks again and again until the host gives this answer.
    pub fn ask_until(&mut self, command: &str, answer: &str) {
        let mut last = String::new();
        let reached = deadline::until(PATIENCE, || {
            last = self.ask(command);
            (last == answer).then_some(())
        });
        assert!(reached.is_some(), "`{command}` gave {last}, not {answer}, for {PATIENCE:?}");
    }

    /// A verb about this target, `--pid` added after the first word.
    pub fn verb(&self, arguments: &[&str]) -> Output {
        let pid = self.pid.to_string();
        let mut all = vec![arguments[0], "--pid", &pid];
        all.extend(&arguments[1..]);
        self.room.verb(&all)
    }

    /// A verb that must end with status 0.
    pub fn done(&self, arguments: &[&str]) -> String {
        let output = self.verb(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", told(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `reload --json`: the receipts, whatever the exit status is.
    pub fn reload(&self, modules: &[&str]) -> Vec<Value> {
        let output = self.verb(&[&["reload", "--json"], modules].concat());
        receipts(&output)
    }

    /// The receipt of reloading this one module by name.
    pub fn reload_one(&self, module: &str) -> Value {
        let mut receipts = self.reload(&[module]);
        assert_eq!(receipts.len(), 1, "one receipt for {module}: {receipts:?}");
        receipts.remove(0)
    }

    /// `list --json`.
    pub fn list(&self) -> Value {
        json(self.done(&["list", "--json"]).as_bytes())
    }

    /// The row of one module in `list --json`.
    pub fn module(&self, name: &str) -> Value {
        let list = self.list();
        let modules = list["modules"].as_array().expect("`modules` is an array");
        modules.iter().find(|module| module["name"] == name).unwrap_or_else(|| panic!("no {name} in {list}")).clone()
    }

    /// Every event so far.
    pub fn events(&self) -> Vec<Value> {
        let mut events = self.events.borrow_mut();
        events.read();
        events.seen.clone()
    }

    /// Waits for an event of this kind that `wanted` accepts.
    pub fn event(&self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let find = || self.events().into_iter().find(|event| event["event"] == kind && wanted(event));
        deadline::until(PATIENCE, find)
            .unwrap_or_else(|| panic!("no `{kind}` event within {PATIENCE:?}; there were {:#?}", self.events()))
    }

    /// How many events of this kind there have been about a module.
    pub fn count(&self, kind: &str, module: &str) -> usize {
        let mut events = self.events.borrow_mut();
        events.read();
        events.seen.iter().filter(|event| event["event"] == kind && event["module"] == module).count()
    }

    /// Reloads a module by a verb that stands still where it has done `step`; what it says goes to `output`.
    pub fn reload_up_to(&self, step: &str, module: &str, output: Stdio) -> Running {
        let mut verb = self.room.dashboard();
        verb.args(["reload", "--json", "--pid", &self.pid.to_string(), module]);
        verb.env("RELOAD_DASHBOARD_HALT", step).stdout(output).stderr(Stdio::null());
        Running(verb.spawn().expect("the binary runs"))
    }

    /// Closes the host's input and waits until it and the dashboard have ended by themselves. Returns the dashboard's exit
    /// status, which is the host's.
    pub fn finish(mut self) -> Option<i32> {
        self.host.close();
        let status = deadline::until(PATIENCE, || self.dashboard.0.try_wait().expect("our child"));
        let status = status.unwrap_or_else(|| panic!("the dashboard goes on after its target's end"));
        assert!(!process::is_running(self.pid), "the dashboard ended before its target");
        status.code()
    }
}

impl Drop for Launched<'_> {
    fn drop(&mut self) {
        self.host.close();
        if self.pid != 0 && process::is_running(self.pid) {
            // A target whose input is closed ends by itself; one that hangs does not.
            let ended = deadline::until(Duration::from_millis(500), || (!process::is_running(self.pid)).then_some(()));
            if ended.is_none() {
                process::end(self.pid);
            }
        }
    }
}

/// The receipts in the output of `reload --json` and `rollback --json`.
pub fn receipts(output: &Output) -> Vec<Value> {
    let value: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", told(output)));
    value["modules"].as_array().unwrap_or_else(|| panic!("no modules in {value}")).clone()
}

/// Exit status and all that was printed, for a failing test's message.
pub fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(bytes)))
}
