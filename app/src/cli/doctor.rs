//! `doctor`: what this machine allows, each with its remedy.

use std::{fs, process::ExitCode, thread};

use nix::sys::statvfs::statvfs;
use reload_dashboard::window;
use reload_engine::target::{attach::yama_scope, store::StoreRoot};
use serde::Serialize;

use super::{
    failure::{FAILED, Failure},
    lines::{say, word},
    verbs::print_json,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Works, with a limit.
    Warn,
    /// Something does not work until this is changed.
    Fail,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    detail: String,
    remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Check {
        Check { name, state: State::Ok, detail: detail.into(), remedy: None }
    }

    fn warn(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { name, state: State::Warn, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    fn fail(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { name, state: State::Fail, detail: detail.into(), remedy: Some(remedy.into()) }
    }
}

#[derive(Serialize)]
struct Report {
    checks: Vec<Check>,
}

pub fn run(json: bool) -> Result<ExitCode, Failure> {
    let checks = vec![
        platform(),
        glibc(libc_banner().as_deref()),
        ptrace_scope(read_number("/proc/sys/kernel/yama/ptrace_scope"), can_trace_anyone()),
        attach(yama_scope(), can_trace_anyone()),
        store(),
        limit("inotify watches", "fs.inotify.max_user_watches", 8192, 524_288),
        limit("inotify instances", "fs.inotify.max_user_instances", 64, 1024),
        display(),
        cores(thread::available_parallelism().map_or(1, usize::from)),
    ];
    let failed = checks.iter().any(|check| check.state == State::Fail);
    if json {
        print_json(&Report { checks })?;
    } else {
        for check in &checks {
            say(format_args!("{:<5} {:<18} {}", word(&check.state), check.name, check.detail));
            if let Some(remedy) = &check.remedy {
                say(format_args!("{:<24} {remedy}", ""));
            }
        }
    }
    Ok(if failed { FAILED.into() } else { ExitCode::SUCCESS })
}

fn platform() -> Check {
    let detail = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    if cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        Check::ok("platform", detail)
    } else {
        Check::fail("platform", detail, "targets can only be reloaded on Linux x86-64 with glibc")
    }
}

/// What the mapped libc says of itself: `GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.`
fn libc_banner() -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("/libc"))?;
    let bytes = fs::read(path).ok()?;
    let marker = b"GNU C Library ";
    let start = bytes.windows(marker.len()).position(|window| window == marker)?;
    let line = bytes[start..].split(|byte| *byte == b'\n').next()?;
    Some(String::from_utf8_lossy(line).trim_end_matches('.').to_owned())
}

fn glibc(banner: Option<&str>) -> Check {
    let version = banner.and_then(|banner| banner.rsplit("version ").next());
    let parts = version.and_then(|version| version.trim_end_matches('.').split_once('.'));
    let numbers = parts.and_then(|(major, minor)| Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?)));
    match (numbers, banner) {
        (Some(version), Some(banner)) if version >= (2, 31) => Check::ok("glibc", banner),
        (Some(_), Some(banner)) => {
            Check::warn("glibc", banner, "older than any version this was tested with (2.31); upgrade if reloads fail")
        }
        _ => Check::fail("glibc", "not found in this process", "use a build of this program for glibc"),
    }
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// CAP_SYS_PTRACE is bit 19 (linux/capability.h).
fn can_trace_anyone() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|bits| bits & (1 << 19) != 0)
}

fn ptrace_scope(scope: Option<u64>, capable: bool) -> Check {
    const NAME: &str = "ptrace scope";
    const REMEDY: &str = "to stop threads from outside: sudo sysctl kernel.yama.ptrace_scope=1";
    const SIGNAL: &str = "threads are stopped by a signal inside the target instead, which some programs may notice";
    match scope {
        None => Check::ok(NAME, "Yama is not in force"),
        Some(0) => Check::ok(NAME, "0: processes of the same user may be traced"),
        Some(1) => Check::ok(NAME, "1: the agent lets the stop helper trace its process"),
        Some(2) if capable => Check::ok(NAME, "2, and this process has CAP_SYS_PTRACE"),
        Some(scope) => Check::warn(NAME, format!("{scope}: {SIGNAL}"), REMEDY),
    }
}

/// `reload-dashboard ps` tells it of each process.
fn attach(scope: u32, capable: bool) -> Check {
    const NAME: &str = "attach";
    const REMEDY: &str = "start programs with `reload-dashboard run`, or: sudo sysctl kernel.yama.ptrace_scope=0";
    match scope {
        _ if capable => Check::ok(NAME, "running processes of this user, whatever they are (CAP_SYS_PTRACE)"),
        0 => Check::ok(NAME, "running processes of this user"),
        1 => Check::warn(NAME, "processes that were started without the dashboard cannot be attached", REMEDY),
        _ => Check::warn(NAME, "nothing that runs can be attached", REMEDY),
    }
}

fn store() -> Check {
    const NAME: &str = "store";
    /// Bytes: room for a few generations of a large library.
    const LITTLE: u64 = 64 << 20;
    match StoreRoot::find() {
        Ok(root) => {
            let path = root.path().display();
            let free = statvfs(root.path()).map(|of| of.blocks_available() * of.fragment_size()).unwrap_or(u64::MAX);
            if free < LITTLE {
                let detail = format!("{path}, only {} MiB free", free >> 20);
                return Check::warn(NAME, detail, "make room there, or set XDG_RUNTIME_DIR to a folder with more");
            }
            Check::ok(NAME, format!("{path}, private, may hold code"))
        }
        Err(error) => {
            let remedy = "set XDG_RUNTIME_DIR or TMPDIR to a private folder on a file system without noexec";
            Check::fail(NAME, error.to_string(), remedy)
        }
    }
}

fn limit(name: &'static str, sysctl: &str, enough: u64, better: u64) -> Check {
    let path = format!("/proc/sys/{}", sysctl.replace('.', "/"));
    judge_limit(name, sysctl, read_number(&path), enough, better)
}

fn judge_limit(name: &'static str, sysctl: &str, found: Option<u64>, enough: u64, better: u64) -> Check {
    match found {
        Some(found) if found >= enough => Check::ok(name, found.to_string()),
        Some(found) => {
            Check::warn(name, format!("{found}: beyond it files are polled"), format!("sudo sysctl {sysctl}={better}"))
        }
        None => Check::warn(name, "inotify is not there: files are polled", "use a kernel with inotify"),
    }
}

fn display() -> Check {
    match window::check() {
        Ok(()) => Check::ok("display", "a window can be opened"),
        Err(error) => {
            Check::warn("display", error.to_string(), "without a window: run --headless, watch, reload, list")
        }
    }
}

fn cores(count: usize) -> Check {
    if count > 1 {
        return Check::ok("processor cores", count.to_string());
    }
    Check::warn("processor cores", "1: the target waits while a reload is planned", "give the machine another core")
}

#[cfg(test)]
mod tests {
    use super::{State, attach, cores, glibc, judge_limit, libc_banner, ptrace_scope};

    #[test]
    fn this_machines_glibc_is_found() {
        assert_eq!(glibc(libc_banner().as_deref()).state, State::Ok);
    }

    #[test]
    fn judgements() {
        let banner = |version: &str| format!("GNU C Library (Distribution) stable release version {version}");
        assert_eq!(glibc(Some(&banner("2.36"))).state, State::Ok);
        assert_eq!(glibc(Some(&banner("2.17"))).state, State::Warn);
        assert_eq!(glibc(None).state, State::Fail);
        for (scope, capable, expected) in [
            (None, false, State::Ok),
            (Some(0), false, State::Ok),
            (Some(1), false, State::Ok),
            (Some(2), true, State::Ok),
            (Some(2), false, State::Warn),
            (Some(3), true, State::Warn),
        ] {
            assert_eq!(ptrace_scope(scope, capable).state, expected, "{scope:?} {capable}");
        }
        for (scope, capable, expected) in
            [(0, false, State::Ok), (1, false, State::Warn), (1, true, State::Ok), (3, false, State::Warn)]
        {
            assert_eq!(attach(scope, capable).state, expected, "{scope} {capable}");
        }
        assert_eq!(judge_limit("n", "fs.x", Some(8192), 8192, 9000).state, State::Ok);
        let low = judge_limit("n", "fs.x", Some(10), 8192, 9000);
        assert_eq!((low.state, low.remedy.as_deref()), (State::Warn, Some("sudo sysctl fs.x=9000")));
        assert_eq!(cores(1).state, State::Warn);
    }
}
