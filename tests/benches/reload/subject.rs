//! A running subject of measurement, the tool or a peer: a program that tells each new value with the time it first saw it.

use std::{
    collections::BTreeSet,
    env,
    ffi::CStr,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use reload_tests::{program::Conversation, toolchain};
use serde_json::Value;

use crate::{
    clock, dashboard, idle,
    libraries::{Changed, Language, Library},
    work_folder,
};

/// Between two saves at least.
const PAUSE: Duration = Duration::from_millis(60);
/// Milliseconds of processor time in a pause that are none to speak of.
const AT_REST: f64 = 1.0;
/// How many pauses are made at most for something to come to rest.
const SETTLING: usize = 50;

/// Its processes, ended with the value.
pub struct Subject {
    child: Child,
    pub talk: Conversation,
    /// What the tool said of each reload.
    pub receipts: Vec<Value>,
    /// The process that is reloaded, where the tool told.
    pub target: u32,
}

impl Subject {
    pub fn start(command: &mut Command) -> Subject {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let talk = Conversation::new(child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Subject { child, talk, receipts: Vec::new(), target: 0 }
    }

    /// The tool with `program` as its target.
    pub fn tool(program: &Path) -> Subject {
        let own = env::current_exe().expect("procfs is mounted");
        let mut command = Command::new(own);
        // As of a user who has logged in: on a file system in memory.
        if env::var_os("XDG_RUNTIME_DIR").is_none() && may_hold_libraries(c"/dev/shm") {
            command.env("XDG_RUNTIME_DIR", runtime_folder());
        }
        let mut tool = Subject::start(command.arg(dashboard::ARGUMENT).arg(program));
        tool.target = tool.talk.line_where(|line| line.strip_prefix("target ")?.parse().ok());
        tool
    }

    /// The tool with the saved library in its target, or the saved program as its target; `value` is called in turn.
    pub fn tool_on(save: &Save<'_>) -> Subject {
        let mut tool = if save.library.language == Language::Program {
            Subject::tool(save.path())
        } else {
            let mut tool = Subject::tool(&caller());
            tool.open([save.path()]);
            tool
        };
        tool.watch();
        tool
    }

    /// The floor, or another of this program's own subjects, with the saved library.
    pub fn own_on(argument: &str, save: &Save<'_>) -> Subject {
        let own = env::current_exe().expect("procfs is mounted");
        let mut subject = Subject::start(Command::new(own).arg(argument).arg(save.path()));
        subject.value(1);
        subject
    }

    /// The process that was started: the tool itself where there is one.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the tool has done what it does ahead of the next save: people do not save again that soon.
    fn settle(&self) {
        let is_at_work = || {
            let before = idle::processor_ms(self.pid());
            thread::sleep(PAUSE);
            idle::processor_ms(self.pid()) - before > AT_REST
        };
        for _ in 0..SETTLING {
            if self.target == 0 || !is_at_work() {
                break;
            }
        }
    }

    /// Stops it once it has done what it does after a reload, so that it takes no time from others, or lets it go on.
    pub fn rest(&self, rests: bool) {
        if rests {
            self.settle();
        }
        let signal = if rests { libc::SIGSTOP } else { libc::SIGCONT };
        let processes = [self.pid(), self.target].into_iter().filter(|pid| *pid != 0);
        processes.for_each(|pid| {
            // SAFETY: a child of ours that has not been waited for, or its own, for which the same holds.
            unsafe { libc::kill(pid as libc::pid_t, signal) };
        });
    }

    /// Has the target open libraries, and waits until the tool has seen them.
    pub fn open<'a>(&mut self, libraries: impl IntoIterator<Item = &'a Path>) {
        let mut unseen = BTreeSet::new();
        for library in libraries {
            self.talk.tell(&format!("open {}", library.display()));
            unseen.insert(library.file_name().expect("a file").to_string_lossy().into_owned());
        }
        let mut unanswered = unseen.len();
        while unanswered > 0 || !unseen.is_empty() {
            let line = self.talk.line();
            if let Some(answer) = line.strip_prefix('>') {
                assert_eq!(answer, "ok");
                unanswered -= 1;
            }
            line.strip_prefix("loaded ").map(|name| unseen.remove(name));
        }
    }

    /// Has the target call `value` in turn from now on.
    pub fn watch(&mut self) {
        assert_eq!(self.talk.ask("watch"), "ok");
        self.value(1);
    }

    /// A number that the target answers.
    pub fn number(&mut self, command: &str) -> f64 {
        self.talk.tell(command);
        self.line_where(|line| line.strip_prefix('>').map(|answer| answer.parse().expect("a number")))
    }

    /// When `wanted` was first returned.
    pub fn value(&mut self, wanted: u16) -> i64 {
        self.line_where(|line| {
            let (value, at) = line.strip_prefix("value ")?.split_once(' ')?;
            (value.parse() == Ok(wanted)).then(|| at.parse().expect("nanoseconds"))
        })
    }

    /// The first line that `wanted` gives a value for. A receipt comes when it comes: the new value may be there before it.
    fn line_where<T>(&mut self, mut wanted: impl FnMut(&str) -> Option<T>) -> T {
        let receipts = &mut self.receipts;
        self.talk.line_where(|line| {
            if let Some(receipt) = line.strip_prefix("receipt ") {
                let receipt: Value = serde_json::from_str(receipt).expect("JSON");
                assert_eq!(receipt["failure"], Value::Null, "a version was not loaded: {receipt}");
                receipts.push(receipt);
            }
            wanted(line)
        })
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.talk.close();
        self.rest(false);
        // A target whose input has ended ends by itself, and its dashboard with it.
        for _ in 0..500 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether there is such a folder, and code in it can be executed (statvfs(3)).
fn may_hold_libraries(folder: &CStr) -> bool {
    // SAFETY: a path and a place for the answer, which is plain numbers.
    unsafe {
        let mut answer: libc::statvfs = std::mem::zeroed();
        libc::statvfs(folder.as_ptr(), &mut answer) == 0 && answer.f_flag & libc::ST_NOEXEC == 0
    }
}

/// Private and in memory; its last user's store is swept by the next.
fn runtime_folder() -> PathBuf {
    // SAFETY: cannot fail.
    let folder = PathBuf::from(format!("/dev/shm/reload-bench-{}", unsafe { libc::getuid() }));
    if let Err(error) = DirBuilder::new().mode(0o700).create(&folder) {
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{}: {error}", folder.display());
    }
    folder
}

/// The program whose library is reloaded.
pub fn caller() -> PathBuf {
    let output = work_folder().join("caller");
    let source = toolchain::hosts().join("caller.c");
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    if modified(&output) < modified(&source) {
        toolchain::program(&source, &["-O1"], &output);
    }
    output
}

/// A library in a place of its own, saved again and again.
pub struct Save<'a> {
    library: &'a Library,
    changed: Changed,
    installed: PathBuf,
    next: u16,
    /// Where the next version is until it is complete.
    beside: PathBuf,
}

impl<'a> Save<'a> {
    /// Installs version 1.
    pub fn first(library: &'a Library, changed: Changed, folder: &Path) -> Save<'a> {
        let installed = folder.join(library.file_name());
        write(&installed, &library.version(1, changed));
        let beside = installed.with_extension("tmp");
        Save { library, changed, installed, beside, next: 2 }
    }

    /// With a name until then from which nobody knows what it may become.
    pub fn unforeseen(self) -> Save<'a> {
        Save { beside: self.installed.with_file_name("unforeseen"), ..self }
    }

    pub fn path(&self) -> &Path {
        &self.installed
    }

    /// Puts the next version into place, by rename; milliseconds until the subject returned its value.
    pub fn measure(&mut self, subject: &mut Subject) -> f64 {
        let version = self.next;
        subject.settle();
        let begun = self.save();
        (subject.value(version) - begun) as f64 / 1e6
    }

    /// Puts the next version into place; milliseconds until a program started anew returned its value.
    pub fn measure_restart(&mut self) -> f64 {
        let version = self.next;
        let begun = self.save();
        let mut started = Subject::start(&mut Command::new(&self.installed));
        started.talk.tell("watch");
        (started.value(version) - begun) as f64 / 1e6
    }

    /// Puts the next version into place; when.
    pub fn save(&mut self) -> i64 {
        let version = self.next;
        self.next += 1;
        write(&self.beside, &self.library.version(version, self.changed));
        // A rename over another file first has what is not on the disk yet written there (ext4(5), `auto_da_alloc`): until then
        // the new file is not in place, and nobody can have begun.
        File::open(&self.beside).and_then(|file| file.sync_all()).expect("the disk has room");
        thread::sleep(PAUSE);
        let begun = clock::now();
        fs::rename(&self.beside, &self.installed).expect("the folder is ours");
        begun
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("the folder is ours");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
}
