//! What `/proc` tells about processes: who they are, whether they live, who traces them.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::PathBuf,
    time::Duration,
};

use crate::error::{Error, Result};

/// One process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    pub pid: u32,
    /// The executable's file name; for a kernel thread or a process we may not look into, the name the kernel has.
    pub name: String,
    /// `None` where we may not look.
    pub exe: Option<PathBuf>,
    /// Effective user.
    pub uid: u32,
    /// Clock ticks after boot: with the pid it identifies a process for good.
    pub start_time: u64,
}

impl Process {
    pub fn of(pid: u32) -> Result<Process> {
        let gone = |_: io::Error| Error::NoSuchProcess { pid };
        let stat = Stat::of(pid).map_err(gone)?;
        if !stat.alive() {
            return Err(Error::NoSuchProcess { pid });
        }
        let uid = fs::metadata(format!("/proc/{pid}")).map_err(gone)?.uid();
        let uid = Status::of(pid).map_or(uid, |status| status.uid);
        let exe = fs::read_link(format!("/proc/{pid}/exe")).ok().map(without_deleted);
        let file_name = exe.as_ref().and_then(|exe| exe.file_name()).map(|name| name.to_string_lossy().into_owned());
        Ok(Process { pid, name: file_name.unwrap_or(stat.name), exe, uid, start_time: stat.start_time })
    }

    /// Every process that can be seen, by ascending pid.
    pub fn all() -> Vec<Process> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let mut all: Vec<Process> = entries.flatten().filter_map(pid).filter_map(|pid| Process::of(pid).ok()).collect();
        all.sort_by_key(|process| process.pid);
        all
    }

    /// The one process of that name.
    pub fn find_by_name(name: &str) -> Result<u32> {
        let own = std::process::id();
        let named = Process::all().into_iter().filter(|process| process.name == name && process.pid != own);
        let pids: Vec<u32> = named.map(|process| process.pid).collect();
        match pids[..] {
            [] => Err(Error::NoSuchName { name: name.into() }),
            [pid] => Ok(pid),
            _ => Err(Error::AmbiguousName { name: name.into(), pids }),
        }
    }
}

/// The parent of `pid`, 0 where there is none in this namespace.
pub fn parent(pid: u32) -> u32 {
    Stat::of(pid).map_or(0, |stat| stat.parent)
}

/// How long ago a process that has this `start_time` was started.
pub fn age(start_time: u64) -> Duration {
    let uptime = fs::read_to_string("/proc/uptime").ok();
    let uptime: f64 = uptime.and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(0.0);
    // SAFETY: only asks.
    let ticks = unsafe { nix::libc::sysconf(nix::libc::_SC_CLK_TCK) }.max(1) as f64;
    Duration::from_secs_f64((uptime - start_time as f64 / ticks).max(0.0))
}

/// Whether `pid` runs; a zombie does not.
pub fn is_alive(pid: u32) -> bool {
    Stat::of(pid).is_ok_and(|stat| stat.alive())
}

/// Whether somebody traces it, as debuggers do.
pub fn is_traced(pid: u32) -> bool {
    Status::of(pid).is_ok_and(|status| status.tracer_pid != 0)
}

/// What is known to keep a helper from tracing the target, or from doing it unnoticed.
pub fn why_not_traceable(pid: u32) -> Option<String> {
    let status = Status::of(pid).ok()?;
    if status.tracer_pid != 0 {
        let name = Status::of(status.tracer_pid).map_or_else(|_| "?".into(), |tracer| tracer.name);
        return Some(format!("traced by {name} ({})", status.tracer_pid));
    }
    // A filter may forbid `restart_syscall`, by which interrupted waits go on.
    (status.seccomp != 0).then(|| "it runs under a seccomp filter".into())
}

/// The environment that a process was started with.
pub fn environment(pid: u32) -> io::Result<HashMap<OsString, OsString>> {
    let bytes = fs::read(format!("/proc/{pid}/environ"))?;
    let pair = |entry: &[u8]| {
        let equals = entry.iter().position(|&byte| byte == b'=')?;
        Some((OsStr::from_bytes(&entry[..equals]).to_owned(), OsStr::from_bytes(&entry[equals + 1..]).to_owned()))
    };
    Ok(bytes.split(|&byte| byte == 0).filter_map(pair).collect())
}

/// The arguments it was started with, each followed by a zero byte (proc_pid_cmdline(5)). Kernel threads have none, nor have
/// zombies.
pub fn command_line(pid: u32) -> io::Result<Vec<u8>> {
    fs::read(format!("/proc/{pid}/cmdline"))
}

fn without_deleted(path: PathBuf) -> PathBuf {
    match path.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(kept) => OsStr::from_bytes(kept).into(),
        None => path,
    }
}

/// The part of `/proc/PID/stat` that is used.
struct Stat {
    name: String,
    state: char,
    parent: u32,
    start_time: u64,
}

impl Stat {
    fn of(pid: u32) -> io::Result<Stat> {
        let text = fs::read(format!("/proc/{pid}/stat"))?;
        Stat::parse(&String::from_utf8_lossy(&text)).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The name may hold spaces and parentheses: it ends at the last one.
    fn parse(text: &str) -> Option<Stat> {
        let (head, tail) = text.rsplit_once(')')?;
        let (_, name) = head.split_once('(')?;
        let mut fields = tail.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let start_time = fields.nth(17)?.parse().ok()?;
        Some(Stat { name: name.into(), state, parent, start_time })
    }

    fn alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Fields of `/proc/PID/status` (or of a thread's).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    pub name: String,
    /// `R`, `S`, `D`, `T` stopped, `t` traced, `Z` zombie and so on.
    pub state: char,
    /// Effective user.
    pub uid: u32,
    /// Real user: another one in a set-user-ID program.
    pub real_uid: u32,
    /// 0 when nobody traces it.
    pub tracer_pid: u32,
    /// 0 off, 1 strict, 2 filters.
    pub seccomp: u32,
    /// How many filters.
    pub seccomp_filters: u32,
    /// As bits.
    pub effective_capabilities: u64,
    pub permitted_capabilities: u64,
    /// `x86_Thread_features` names a shadow stack.
    pub shadow_stack: bool,
    /// Its id in its own pid namespace, the same as from outside if that is ours.
    pub inner_pid: u32,
    /// Bit N-1 for signal N if there is a handler for it; `None` where the kernel does not tell.
    pub caught_signals: Option<u64>,
}

impl Status {
    pub fn of(pid: u32) -> io::Result<Status> {
        // Files in /proc tell no size: room from the start saves a dozen calls that each read a little more.
        let mut text = Vec::with_capacity(4096);
        File::open(format!("/proc/{pid}/status"))?.read_to_end(&mut text)?;
        Ok(Status::parse(&String::from_utf8_lossy(&text)))
    }

    fn parse(text: &str) -> Status {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map_or("", str::trim)
        };
        let uid = |which: usize| field("Uid").split_ascii_whitespace().nth(which)?.parse().ok();
        let bits = |name: &str| u64::from_str_radix(field(name), 16).unwrap_or(0);
        let inner_pid = field("NSpid").split_ascii_whitespace().next_back().and_then(|pid| pid.parse().ok());
        Status {
            name: field("Name").into(),
            state: field("State").chars().next().unwrap_or('?'),
            uid: uid(1).unwrap_or(u32::MAX),
            real_uid: uid(0).unwrap_or(u32::MAX),
            seccomp_filters: field("Seccomp_filters").parse().unwrap_or(0),
            effective_capabilities: bits("CapEff"),
            permitted_capabilities: bits("CapPrm"),
            shadow_stack: field("x86_Thread_features").contains("shstk"),
            inner_pid: inner_pid.or_else(|| field("Pid").parse().ok()).unwrap_or(0),
            tracer_pid: field("TracerPid").parse().unwrap_or(0),
            seccomp: field("Seccomp").parse().unwrap_or(0),
            caught_signals: u64::from_str_radix(field("SigCgt"), 16).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Process, Stat, Status, is_alive};

    #[test]
    fn stat_of_a_name_with_parentheses() {
        let text = "7 (a) b (c)) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        let stat = Stat::parse(text).expect("parses");
        assert_eq!((stat.name.as_str(), stat.state, stat.start_time), ("a) b (c)", 'S', 4711));
    }

    #[test]
    fn status_fields() {
        let text = "Name:\tx y\nState:\tt (tracing stop)\nPid:\t77\nTracerPid:\t12\nUid:\t1\t2\t3\t4\nNSpid:\t77\t3\n\
                    SigCgt:\t0000000000000002\nCapPrm:\t0000000000000003\nCapEff:\t0000000000000001\nSeccomp:\t2\n\
                    Seccomp_filters:\t1\nx86_Thread_features:\tshstk wrss\n";
        let status = Status::parse(text);
        let expected = Status {
            name: "x y".into(),
            state: 't',
            uid: 2,
            real_uid: 1,
            tracer_pid: 12,
            seccomp: 2,
            seccomp_filters: 1,
            effective_capabilities: 1,
            permitted_capabilities: 3,
            shadow_stack: true,
            inner_pid: 3,
            caught_signals: Some(0x2),
        };
        assert_eq!(status, expected);
    }

    #[test]
    fn this_process_lives_and_a_zombie_does_not() {
        let own = Process::of(std::process::id()).expect("own process");
        assert!(is_alive(own.pid) && own.exe.is_some() && own.start_time > 0);
        let mut child = std::process::Command::new("true").spawn().expect("spawn");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while is_alive(child.id()) {
            assert!(std::time::Instant::now() < deadline, "`true` did not end");
            std::thread::yield_now();
        }
        assert!(Process::of(child.id()).is_err());
        child.wait().expect("wait");
    }
}
