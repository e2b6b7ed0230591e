//! Starting a program as a target: with the agent preloaded, or a reason why that cannot work before anything is started.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::RecvTimeoutError;
use nix::{
    sys::signal::SigSet,
    unistd::{getegid, geteuid},
};
use reload_protocol::STORE_VARIABLE;

use super::{agent_image, link::AgentLink, program, store::StoreRoot};
use crate::error::{Error, Result};

/// Scripts may name scripts as interpreters; the kernel follows four.
const MOST_INTERPRETERS: usize = 5;
const POLL: Duration = Duration::from_millis(2);
/// Launchers call `exec` in their first milliseconds.
const SETTLE: Duration = Duration::from_millis(25);

#[derive(Clone, Debug)]
pub struct LaunchOptions {
    /// How long the agent may take to answer.
    pub patience: Duration,
    /// The store, if not the user's own.
    pub store: Option<StoreRoot>,
}

impl Default for LaunchOptions {
    fn default() -> LaunchOptions {
        LaunchOptions { patience: Duration::from_secs(20), store: None }
    }
}

/// A started program.
#[derive(Debug)]
pub struct Launched {
    pub child: Child,
    pub pid: u32,
    /// `None` if the program ended before its agent answered, as a very short one may.
    pub link: Option<AgentLink>,
}

/// Starts `command` with the agent preloaded and standard input, output and error inherited, and waits until its agent
/// answers.
pub fn launch(command: &[OsString], options: &LaunchOptions) -> Result<Launched> {
    let Some((name, arguments)) = command.split_first() else {
        return Err(Error::Unsupported("no command to start; give one after `--`".into()));
    };
    let program = find_program(name)?;
    check_program(&program)?;
    let store = match &options.store {
        Some(store) => store.clone(),
        None => StoreRoot::find()?,
    };
    store.sweep();
    let agent = agent_image::install(store.path())?;
    let mut starting = Command::new(&program);
    starting.args(arguments).env("LD_PRELOAD", preload(&agent)).env(STORE_VARIABLE, store.path());
    // A child inherits the signal mask, and a caller that receives signals by a descriptor has blocked them: the program would
    // not even end by SIGTERM.
    //
    // SAFETY: between fork and exec only pthread_sigmask is called, which is async-signal-safe (signal-safety(7)); nothing is
    // allocated.
    unsafe { starting.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?)) };
    let child = starting.spawn().map_err(|source| Error::Launch { command: program.display().to_string(), source })?;
    wait_for_agent(child, &program, options.patience)
}

fn preload(agent: &Path) -> OsString {
    let mut all = agent.as_os_str().to_owned();
    if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        all.push(":");
        all.push(others);
    }
    all
}

fn wait_for_agent(mut child: Child, program: &Path, patience: Duration) -> Result<Launched> {
    let pid = child.id();
    let deadline = Instant::now() + patience;
    loop {
        let failure = match AgentLink::connect(pid) {
            Ok(link) if stays(&link) => return Ok(Launched { child, pid, link: Some(link) }),
            Ok(_) => Error::NoAgent { pid },
            Err(failure) => failure,
        };
        let ended = child.try_wait().map_err(|source| Error::Launch { command: program.display().to_string(), source });
        if ended?.is_some() {
            return Ok(Launched { child, pid, link: None });
        }
        if Instant::now() >= deadline {
            // It is ours: a program that cannot be a target is not left running unasked.
            let _ = child.kill();
            let _ = child.wait();
            return Err(match failure {
                Error::NoAgent { .. } => Error::Unsupported(format!(
                    "{}: started, but no agent answered within {} s; does it start a static or set-user-ID program, \
                     or clear its environment?",
                    program.display(),
                    patience.as_secs()
                )),
                other => other,
            });
        }
        thread::sleep(POLL);
    }
}

/// A launcher (`env`, `nice`, a shell's `exec`) soon becomes another program, with another agent.
fn stays(link: &AgentLink) -> bool {
    link.notices().recv_timeout(SETTLE) != Err(RecvTimeoutError::Disconnected)
}

/// As `execvp(3)` would find it.
fn find_program(name: &OsStr) -> Result<PathBuf> {
    let failed = |kind: io::ErrorKind, why: &str| {
        let source = io::Error::new(kind, why);
        Error::Launch { command: name.to_string_lossy().into(), source }
    };
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return match fs::metadata(&path) {
            Ok(metadata) if is_executable(&metadata) => Ok(path),
            Ok(metadata) if metadata.is_dir() => {
                Err(failed(io::ErrorKind::IsADirectory, "it is a folder, not a program"))
            }
            Ok(_) => Err(failed(io::ErrorKind::PermissionDenied, "it is not executable")),
            Err(source) => Err(Error::Launch { command: path.display().to_string(), source }),
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let places = std::env::split_paths(&path).map(|folder| folder.join(name));
    let mut found = places.filter(|place| fs::metadata(place).is_ok_and(|metadata| is_executable(&metadata)));
    let remedy = "no folder of PATH has it; a program in this one begins with ./";
    found.next().ok_or_else(|| failed(io::ErrorKind::NotFound, remedy))
}

fn is_executable(metadata: &fs::Metadata) -> bool {
    metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
}

/// Whether a preloaded agent would come to life in `program`.
fn check_program(program: &Path) -> Result<()> {
    let mut program = program.to_owned();
    for _ in 0..MOST_INTERPRETERS {
        let failed = |source| Error::File { path: program.clone(), doing: "looking at the program", source };
        let mut file = match File::open(&program) {
            Ok(file) => file,
            // It may be executable and not readable; then the kernel decides.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let metadata = file.metadata().map_err(failed)?;
        let mut start = [0; 256];
        let read = file.read(&mut start).map_err(failed)?;
        match interpreter(&start[..read]) {
            Some(next) => program = next,
            None => {
                check_privileges(&program, &metadata)?;
                return check_elf(&program, file);
            }
        }
    }
    Err(unsupported(&program, "its interpreter is a script of a script of a script"))
}

/// The program that a script's first line names.
fn interpreter(start: &[u8]) -> Option<PathBuf> {
    let line = start.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?.trim_ascii();
    let path = line.split(u8::is_ascii_whitespace).next().filter(|path| !path.is_empty())?;
    Some(OsStr::from_bytes(path).into())
}

fn check_privileges(program: &Path, metadata: &fs::Metadata) -> Result<()> {
    let user = metadata.mode() & nix::libc::S_ISUID != 0 && metadata.uid() != geteuid().as_raw();
    let group = metadata.mode() & nix::libc::S_ISGID != 0 && metadata.gid() != getegid().as_raw();
    if user || group {
        return Err(unsupported(
            program,
            "it is set-user-ID or set-group-ID, and the loader ignores LD_PRELOAD there; run it from a copy without that bit",
        ));
    }
    Ok(())
}

fn check_elf(program: &Path, file: File) -> Result<()> {
    program::check(file).map_err(|reason| unsupported(program, &format!("{reason}; {}", reason.remedy())))
}

fn unsupported(program: &Path, reason: &str) -> Error {
    Error::Unsupported(format!("{}: {reason}", program.display()))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{check_program, find_program, interpreter};

    #[test]
    fn the_interpreter_of_a_script() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(interpreter(text.as_bytes()), expected.map(PathBuf::from), "{text:?}");
        };
        check("#!/bin/sh\necho", Some("/bin/sh"));
        check("#! /usr/bin/env python3\n", Some("/usr/bin/env"));
        check("#!\n", None);
        check("\x7fELF", None);
    }

    #[test]
    fn programs_are_found_and_judged() {
        let shell = find_program("sh".as_ref()).expect("sh is in PATH");
        check_program(&shell).expect("sh is a dynamic program");
        let told = |name: &str| find_program(name.as_ref()).unwrap_err().chain().join(": ");
        let expected = "starting `nowhere`: no folder of PATH has it; a program in this one begins with ./";
        assert_eq!(told("nowhere"), expected);
        assert_eq!(told("/etc/passwd"), "starting `/etc/passwd`: it is not executable");
        assert_eq!(told("/etc/"), "starting `/etc/`: it is a folder, not a program");
        assert!(check_program(Path::new("/etc/passwd")).is_err());
    }
}
