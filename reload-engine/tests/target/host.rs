//! The C host that is patched, with its library and the board on which it counts.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use object::{Object, ObjectSymbol};
use reload_engine::target::{
    launch::{LaunchOptions, Launched, launch},
    link::AgentLink,
    process,
    store::StoreRoot,
};
use reload_protocol::{LoadedModule, Part, Patch, Range, Segment, Transaction};

use crate::Outcome;

const COUNT: u64 = 400;
const STRIDE: u64 = 64;
pub const PATIENCE: Duration = Duration::from_secs(60);

// The board's counters, as in `hosts/host.c`.
pub const READY: usize = 0;
pub const SWEEPS: usize = 1;
pub const BACKWARDS: usize = 2;
pub const SEEN: usize = 3;
pub const WAITS: usize = 4;
pub const FAILED: usize = 5;
pub const EARLY: usize = 6;
pub const LOWEST_FD: usize = 7;
pub const FAULTS: usize = 8;
pub const CHILD: usize = 9;
pub const SENT: usize = 10;
pub const HANDLED: usize = 11;
pub const KINDS: usize = 16;

/// A running host with its agent, ended and swept when dropped.
pub struct Target {
    pub launched: Launched,
    pub link: AgentLink,
    pub library: LoadedModule,
    pub folder: tempfile::TempDir,
}

impl Target {
    pub fn start(kinds: &[&str]) -> Result<Target, Failed> {
        Target::start_through(None, kinds)
    }

    pub fn start_through(launcher: Option<&str>, kinds: &[&str]) -> Result<Target, Failed> {
        let folder = tempfile::tempdir()?;
        let library = compile(folder.path(), "library")?;
        let host = compile(folder.path(), "host")?;
        let board = folder.path().join("board");
        let launcher = launcher.map(|launcher| compile(folder.path(), launcher)).transpose()?;
        let mut command: Vec<OsString> = launcher.into_iter().map(OsString::from).collect();
        command.extend([host.into(), library.clone().into(), board.into()]);
        command.extend(kinds.iter().map(OsString::from));
        let mut launched = launch(&command, &options(folder.path())?)?;
        let link = launched.link.take().ok_or("the host ended at once")?;
        let nowhere = LoadedModule { path: String::new(), bias: 0, start: 0, end: 0, tls_module: 0 };
        let mut target = Target { launched, link, library: nowhere, folder };
        target.wait_for("the host's start", |target| target.board(READY) == 1)?;
        let path = library.to_str().ok_or("path")?;
        let modules = target.link.modules()?;
        target.library = modules.into_iter().find(|module| module.path == path).ok_or("the library is not listed")?;
        Ok(target)
    }

    pub fn board(&self, counter: usize) -> u64 {
        let bytes = fs::read(self.folder.path().join("board")).unwrap_or_default();
        bytes.chunks_exact(8).nth(counter).map_or(0, |bytes| u64::from_ne_bytes(bytes.try_into().expect("eight bytes")))
    }

    pub fn wait_for(&self, what: &str, done: impl Fn(&Target) -> bool) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            if Instant::now() > deadline {
                return Err(format!("{what}: not within {PATIENCE:?}").into());
            }
            if !process::is_alive(self.launched.pid) {
                return Err(format!("{what}: the target has ended").into());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Every sweeping thread has been through all functions since now.
    pub fn sweep(&self) -> Outcome {
        let before = self.board(SWEEPS);
        self.wait_for("two sweeps", |target| target.board(SWEEPS) > before + 100)
    }

    pub fn address(&self, symbol: &str) -> Result<u64, Failed> {
        Ok(self.library.bias + symbol_of(Path::new(&self.library.path), symbol)?)
    }

    pub fn text(&self) -> Result<Segment, Failed> {
        let functions = self.address("functions")?;
        let mappings = reload_engine::target::maps::read(self.launched.pid)?;
        let mapping = mappings.iter().find(|mapping| (mapping.start.0..mapping.end.0).contains(&functions));
        let mapping = mapping.ok_or("the text is not mapped")?;
        Ok(Segment { range: Range { start: mapping.start.0, len: mapping.end.0 - mapping.start.0 }, protection: 5 })
    }

    /// From one version of all functions to another.
    pub fn transaction(&self, from: u32, to: u32, ledger: &[u8]) -> Result<Transaction, Failed> {
        let functions = self.address("functions")?;
        let bytes = |version: u32| {
            let [a, b, c, d] = version.to_le_bytes();
            [0xb8, a, b, c, d, 0, 0, 0]
        };
        let patch =
            |index| Patch { address: functions + index * STRIDE, len: 5, before: bytes(from), after: bytes(to) };
        Ok(Transaction {
            patches: (0..COUNT).map(patch).collect(),
            text: vec![self.text()?],
            ledger: vec![part("version", ledger)],
            ..Transaction::default()
        })
    }

    pub fn stage(&mut self, from: u32, to: u32) -> Result<u64, Failed> {
        let revision = self.link.ledger(0)?.revision;
        self.link.begin(revision)?;
        let transaction = self.transaction(from, to, format!("version {to}").as_bytes())?;
        Ok(self.link.stage(transaction)?)
    }

    /// The version that every function has; an error if they differ.
    pub fn version(&mut self) -> Result<u32, Failed> {
        let functions = self.address("functions")?;
        let ranges = (0..COUNT).map(|index| Range { start: functions + index * STRIDE + 1, len: 4 }).collect();
        let mut versions = self.link.read_memory(ranges)?;
        versions.dedup();
        match versions.as_slice() {
            [one] => Ok(u32::from_le_bytes(one.as_slice().try_into()?)),
            several => Err(format!("half-written: {several:?}").into()),
        }
    }

    pub fn catches_sigsegv(&self) -> Result<bool, Failed> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.launched.pid))?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).ok_or("SigCgt")?;
        Ok(u64::from_str_radix(caught.trim(), 16)? >> (11 - 1) & 1 == 1)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let child = self.board(CHILD) as i32;
        if child > 0 {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.launched.child.kill();
        let _ = self.launched.child.wait();
    }
}

/// Of a ledger.
pub fn part(key: &str, value: &[u8]) -> Part {
    Part { key: key.into(), value: Some(value.to_vec()) }
}

pub fn options(folder: &Path) -> Result<LaunchOptions, Failed> {
    Ok(LaunchOptions { patience: PATIENCE, store: Some(StoreRoot::at(&folder.join("store"))?) })
}

pub fn compile(folder: &Path, name: &str) -> Result<PathBuf, Failed> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts").join(name).with_extension("c");
    let (output, kind): (_, &[&str]) = match name {
        "library" => (folder.join(name).with_extension("so"), &["-shared", "-fPIC", "-DLIBRARY_COUNT=\"400\""]),
        _ => (folder.join(name), &["-pthread"]),
    };
    let status = Command::new("cc").args(["-O1", "-g"]).args(kind).arg(&source).arg("-o").arg(&output).status()?;
    if status.success() { Ok(output) } else { Err(format!("compiling {}", source.display()).into()) }
}

pub fn symbol_of(path: &Path, name: &str) -> Result<u64, Failed> {
    let bytes = fs::read(path)?;
    let file = object::File::parse(&*bytes)?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(name)).ok_or("no such symbol")?;
    Ok(symbol.address())
}

pub fn check(condition: bool, what: &str) -> Outcome {
    if condition { Ok(()) } else { Err(what.into()) }
}
