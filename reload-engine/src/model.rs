//! The nouns shared by every room: addresses, generations, marks, statuses, and what is told about a module or a reload.
//!
//! Values only, no effects; imports nothing of this crate. The serde names are the command-line contract.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

/// An address as stated in an ELF file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Vaddr(pub u64);

/// An address in a running process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Addr(pub u64);

/// What the loader added to a file's addresses (`l_addr`); the only bridge between [`Vaddr`] and [`Addr`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct LoadBias(pub u64);

impl LoadBias {
    pub fn addr(self, vaddr: Vaddr) -> Addr {
        Addr(vaddr.0.wrapping_add(self.0))
    }

    pub fn vaddr(self, addr: Addr) -> Vaddr {
        Vaddr(addr.0.wrapping_sub(self.0))
    }
}

/// Where the loader put a generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub bias: LoadBias,
    pub tls_module: u64,
    /// What makes an offset in the file's TLS block a distance from the thread pointer; programs only, else 0.
    pub tls_base: u64,
}

impl Place {
    /// Module and offset (distance, for a program) of the generation's own thread-local at `offset` of the file's block.
    pub fn thread_local(self, offset: u64) -> (u64, u64) {
        (self.tls_module, offset.wrapping_add(self.tls_base))
    }
}

impl fmt::Debug for Vaddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{:#x}", self.0)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// 0 is what the program loaded; each reload takes the next number, also after a rollback.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the user said about a module (`%aimport foo` / `%aimport -foo`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    Reload,
    Skip,
    #[default]
    None,
}

/// Auto mode (`%autoreload 0 / 1 / 2`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Off,
    /// Only modules marked for reload.
    Marked,
    /// Every module except skipped ones.
    All,
}

/// What kind of module this is, which decides what happens to it unmarked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The program itself.
    Executable,
    /// The user's own library.
    Project,
    /// Under `/usr`, `/lib`, `/opt`...: skipped unless marked.
    System,
    /// The loader, libc and kin, the vdso, the agent: never reloaded.
    Protected,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The process runs what is on disk.
    Current,
    /// The file has changed and has not been loaded yet.
    Changed,
    Reloading,
    /// A reasoned decision before anything was touched.
    Refused,
    /// A mechanism broke; the old code runs on.
    Failed,
    /// Skipped by the user, or a system module that is not marked, or protected.
    Skipped,
    /// The file is gone from disk.
    Missing,
}

/// The chapter of a reload in which something stopped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Opening and copying the file.
    Read,
    /// Is it a complete ELF file of the right kind?
    Validate,
    /// Symbols, relocations, references.
    Parse,
    /// Match, diff, statics, thread-locals, entries.
    Plan,
    /// Writing the shadow into the store.
    Shadow,
    /// `dlopen` of the shadow in the target.
    Load,
    /// Retargeting the shadow's references to the old storage.
    Bind,
    /// What the library itself takes part with: hooks and new constructors.
    Hook,
    /// Having a language's interpreter prepare for the new generation.
    Adapt,
    /// Stopping the threads at a point where no one stands in the way.
    Stop,
    /// Writing the entries.
    Commit,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Read => "read",
            Stage::Validate => "validate",
            Stage::Parse => "parse",
            Stage::Plan => "plan",
            Stage::Shadow => "shadow",
            Stage::Load => "load",
            Stage::Bind => "bind",
            Stage::Hook => "hook",
            Stage::Adapt => "adapt",
            Stage::Stop => "stop",
            Stage::Commit => "commit",
        })
    }
}

/// Why a module was refused or failed, for the window's trace and for `--json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    pub stage: Stage,
    /// One line: file, symbol, reason.
    pub message: String,
    /// From the outermost fact to the innermost cause, one line each; the last says what to do.
    pub trace: Vec<String>,
    /// Modification time of the file that failed; it is left alone until that changes.
    #[serde(with = "rfc3339::option")]
    pub mtime: Option<SystemTime>,
}

impl Failure {
    /// The message for where the module's name stands already.
    pub fn without_name(&self, name: &str) -> &str {
        let rest = self.message.strip_prefix(name).and_then(|rest| rest.strip_prefix(": "));
        rest.unwrap_or(&self.message)
    }
}

/// What identifies one state of a file on disk. Any difference is a change, an older time too.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileStamp {
    pub device: u64,
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Nanosecond precision.
    #[serde(with = "rfc3339")]
    pub mtime: SystemTime,
}

/// One row of the table: a module and where it stands.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Module {
    /// File name.
    pub name: String,
    pub path: PathBuf,
    /// Of the file on disk now; `None` while it is missing.
    #[serde(with = "rfc3339::option")]
    pub mtime: Option<SystemTime>,
    /// Bytes of the file on disk now.
    pub size: Option<u64>,
    pub class: Class,
    pub mark: Mark,
    pub status: Status,
    /// The file on disk is not what runs, which [`Status::Skipped`] leaves unsaid.
    #[serde(skip)]
    pub differs: bool,
    pub generation: Generation,
    /// Milliseconds from the start of the last reload to its end.
    pub last_ms: Option<f64>,
    pub failure: Option<Failure>,
    /// `None`: whoever overwrites the file in place overwrites the program.
    #[serde(skip)]
    pub shield: Option<Shield>,
    /// Newest last.
    #[serde(skip)]
    pub history: Vec<Arc<HistoryEntry>>,
    /// The generations a rollback may go back to, ascending, the active one included.
    #[serde(skip)]
    pub generations: Vec<Generation>,
    /// The module's soname, where it differs from the file name.
    #[serde(skip)]
    pub soname: Option<String>,
    /// Where the module is mapped.
    #[serde(skip)]
    pub bias: LoadBias,
}

impl Module {
    /// What the reload that brought the running generation could not compare, if that was so.
    pub fn unchecked(&self) -> Option<&str> {
        let brought = |entry: &&Arc<HistoryEntry>| {
            let receipt = &entry.receipt;
            entry.what == Change::Reload
                && receipt.outcome == Outcome::Reloaded
                && receipt.generation == self.generation
        };
        self.history.iter().rev().find(brought)?.receipt.details.unchecked.as_deref()
    }
}

/// A module whose pages no longer follow its file on disk, and what that took.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Shield {
    /// How much of the module is mapped from the private copy.
    pub bytes: u64,
    /// Milliseconds from the beginning to the end, for all modules that were shielded at once.
    pub ms: f64,
    /// How long the target's threads stood still for it, in milliseconds.
    pub pause_ms: f64,
}

/// The process being looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Target {
    pub pid: u32,
    /// `/proc/PID/comm`.
    pub name: String,
    pub exe: PathBuf,
}

/// Everything a window shows about one target, immutable once made.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    pub target: Target,
    pub mode: Mode,
    pub modules: Vec<Module>,
    /// Grows with every snapshot of a session.
    #[serde(skip)]
    pub revision: u64,
    #[serde(skip)]
    pub connection: Connection,
    /// How many directories are watched for changes.
    #[serde(skip)]
    pub watched_directories: usize,
}

/// How the session stands to its target.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Connection {
    #[default]
    Attached,
    Detached,
    /// The target has ended; its exit status where this process is its parent.
    Exited(Option<i32>),
    /// The link broke while the target lives on.
    Lost(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Reloaded,
    Unchanged,
    Refused,
    Failed,
    Skipped,
}

/// One line of a module's history.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HistoryEntry {
    #[serde(with = "rfc3339")]
    pub time: SystemTime,
    pub what: Change,
    pub receipt: Receipt,
}

/// What a history line is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Reload,
    Rollback,
}

/// What a reload did, or why it did not.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// File name of the module.
    pub name: String,
    pub outcome: Outcome,
    /// The module's active generation afterwards.
    pub generation: Generation,
    pub functions: FunctionCounts,
    pub statics: StaticCounts,
    pub timings_ms: Timings,
    pub warnings: Vec<String>,
    pub failure: Option<Failure>,
    /// The same, by demangled name.
    #[serde(default, skip_serializing_if = "Details::is_empty")]
    pub details: Details,
}

impl Receipt {
    /// A receipt of nothing done.
    pub fn empty(name: impl Into<String>, outcome: Outcome, generation: Generation) -> Self {
        Receipt {
            name: name.into(),
            outcome,
            generation,
            functions: FunctionCounts::default(),
            statics: StaticCounts::default(),
            timings_ms: Timings::default(),
            warnings: Vec::new(),
            failure: None,
            details: Details::default(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FunctionCounts {
    pub changed: usize,
    pub added: usize,
    pub removed: usize,
    /// Changed, but the old entry has no room for a jump: callers of the old entry stay in old code.
    pub unpatchable: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StaticCounts {
    pub kept: usize,
    pub new: usize,
    /// Size changed: starts anew in storage of its own.
    pub reset: usize,
    /// Untouched by the program and initialised differently in the new file: took the new value.
    pub merged: usize,
    /// Of the generation before, that the new one does without.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub removed: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Names behind the counts, demangled, each list capped at [`Details::LIMIT`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Details {
    pub changed: Vec<String>,
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub unpatchable: Vec<String>,
    #[serde(default)]
    pub kept_statics: Vec<String>,
    pub new_statics: Vec<String>,
    pub reset_statics: Vec<String>,
    pub merged_statics: Vec<String>,
    #[serde(default)]
    pub removed_statics: Vec<String>,
    /// The part of [`StaticCounts`] that is thread-local.
    #[serde(default)]
    pub thread_locals: StaticCounts,
    /// New constructors, which have been run.
    #[serde(default)]
    pub constructors: Vec<String>,
    /// New destructors, which will run at the program's end.
    #[serde(default)]
    pub destructors: Vec<String>,
    /// That types were not compared, why, and the flag to build with; one of the warnings too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unchecked: Option<String>,
    /// What became of a Python extension's functions, methods and types, as Python names them.
    #[serde(default, skip_serializing_if = "PythonChanges::is_empty")]
    pub python: PythonChanges,
    /// Bytes of address space the new generation keeps for as long as the target runs.
    pub retained_bytes: u64,
    /// The new file had been analysed already, for another target of the same dashboard.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub analysis_shared: bool,
    /// It had been analysed and planned before the reload: while it waited for one, or before it was the module's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drafted: bool,
    /// How the threads were stopped: `ptrace` or `signal`, and why the latter.
    pub stop: String,
}

/// What changed for Python in a reload of one of its extensions.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PythonChanges {
    /// Names of the live modules.
    pub modules: Vec<String>,
    /// Functions, methods and classes.
    pub added: Vec<String>,
    pub removed: Vec<String>,
    /// Those with another signature or documentation, or of another kind.
    pub updated: Vec<String>,
    /// Live types of which something was added, removed or updated.
    pub types: Vec<String>,
}

impl PythonChanges {
    pub fn is_empty(&self) -> bool {
        *self == PythonChanges::default()
    }
}

impl Details {
    pub const LIMIT: usize = 200;

    pub fn is_empty(&self) -> bool {
        *self == Details::default()
    }
}

/// Milliseconds per stage.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Timings {
    pub read: f64,
    pub parse: f64,
    pub plan: f64,
    pub shadow: f64,
    pub load: f64,
    pub bind: f64,
    /// Waiting for the target's threads to come to its safe point.
    #[serde(default)]
    pub safe_point: f64,
    /// Hooks and new constructors.
    #[serde(default)]
    pub hooks: f64,
    pub stage: f64,
    pub commit: f64,
    /// In the interpreter of a Python extension, until the commit.
    #[serde(default)]
    pub adapt: f64,
    /// How long the target's threads stood still.
    pub pause: f64,
    pub total: f64,
}

/// Splits a path as this process opens it into the root of the process that it belongs to and the path as that one knows it.
/// The root is `/`, or `/proc/PID/root` where that process lives in another mount namespace.
pub fn split_root(path: &Path) -> (&Path, &Path) {
    let Some(text) = path.to_str().and_then(|text| text.strip_prefix("/proc/")) else { return (Path::new("/"), path) };
    let after_pid = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    match after_pid.strip_prefix("/root") {
        Some(inner) if inner.starts_with('/') && after_pid.len() < text.len() => {
            let whole = path.to_str().unwrap_or_default();
            (Path::new(&whole[..whole.len() - inner.len()]), Path::new(inner))
        }
        _ => (Path::new("/"), path),
    }
}

/// The file name of a path, for people.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Times as RFC 3339 with nanoseconds, UTC.
pub mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_nanos(*time))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        humantime::parse_rfc3339(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }

    pub mod option {
        use std::time::SystemTime;

        use serde::{Deserialize, Deserializer, Serializer, de::Error};

        pub fn serialize<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
            match Option::<String>::deserialize(deserializer)? {
                Some(text) => humantime::parse_rfc3339(&text).map(Some).map_err(D::Error::custom),
                None => Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::split_root;

    #[test]
    fn root_of_another_process() {
        let check = |path: &str, root: &str, inner: &str| {
            assert_eq!(split_root(Path::new(path)), (Path::new(root), Path::new(inner)), "{path}");
        };
        check("/proc/77/root/usr/lib/x.so", "/proc/77/root", "/usr/lib/x.so");
        check("/usr/lib/x.so", "/", "/usr/lib/x.so");
        check("/proc/77/exe", "/", "/proc/77/exe");
        check("/proc/77/rootless/x", "/", "/proc/77/rootless/x");
        check("/proc/root/x", "/", "/proc/root/x");
    }
}
