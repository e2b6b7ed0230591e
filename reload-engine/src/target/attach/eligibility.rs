//! Whether a process could be attached, from what `/proc` tells about it; if not, why, and what to do about it.
//!
//! Looking is at the edge ([`Facts::of`]); judging is a plain function of what was seen. Says nothing of processes that have an
//! agent already.

use std::{
    fmt,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use nix::{libc, unistd::geteuid};

use crate::target::{
    process::{self, Status},
    program::{self, Unsuited},
    space::Space,
};

/// `linux/capability.h`
const CAP_SYS_PTRACE: u64 = 1 << 19;
/// Uninterruptible sleep that lasts longer than this is told of.
const MOMENT: Duration = Duration::from_millis(300);

/// Why a process cannot be attached, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    pub reason: String,
    pub remedy: String,
}

impl Obstacle {
    /// The kernel says no, and nothing that can be looked into says why.
    pub fn unknown() -> Obstacle {
        Obstacle {
            reason: "the system does not permit to trace it (ptrace)".to_owned(),
            remedy: "see whether a security module forbids it, or start the program with `reload-dashboard run`"
                .to_owned(),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}; {}", self.reason, self.remedy)
    }
}

/// What there is to know about a process that somebody wants to attach, and about who wants to.
#[derive(Clone, Debug)]
pub struct Facts {
    pub status: Status,
    /// The name of who traces it, if somebody does.
    pub tracer: Option<String>,
    /// `None` where the executable cannot be looked into.
    pub program: Option<Result<(), Unsuited>>,
    /// The executable's own bits give it another user's or group's rights.
    pub set_id: bool,
    /// It has forbidden others of its user to look into it (`PR_SET_DUMPABLE`).
    pub shut: bool,
    /// Its seccomp filters are those of everything in its container, ours included or its first process.
    pub filters_inherited: bool,
    /// This process is among its ancestors.
    pub descendant: bool,
    /// It lives in another user namespace, and its capabilities count only there.
    pub capabilities_elsewhere: bool,
    /// It has other files than we, and `/proc` is not among them.
    pub without_proc: bool,
    /// Ours.
    pub uid: u32,
    pub capabilities: u64,
    /// 0 where Yama is not in force.
    pub yama_scope: u32,
}

impl Facts {
    /// # Errors
    /// There is no such process.
    pub fn of(pid: u32) -> io::Result<Facts> {
        let status = settled(pid)?;
        let own = Status::of(std::process::id())?;
        let name = |pid| Status::of(pid).map_or_else(|_| "?".to_owned(), |tracer| tracer.name);
        let exe = format!("/proc/{pid}/exe");
        let executable = File::open(&exe).ok();
        let set_id = executable.as_ref().and_then(|file| file.metadata().ok()).is_some_and(|metadata| {
            (metadata.mode() & libc::S_ISUID != 0 && metadata.uid() != status.real_uid)
                || metadata.mode() & libc::S_ISGID != 0
        });
        // Not of `/proc/PID` itself: that belongs to the effective user in any case (`task_dump_owner` in the kernel).
        let owner = fs::metadata(format!("/proc/{pid}/environ")).map_or(status.uid, |metadata| metadata.uid());
        Ok(Facts {
            tracer: (status.tracer_pid != 0).then(|| name(status.tracer_pid)),
            program: executable.map(program::check),
            set_id,
            shut: owner != status.uid,
            filters_inherited: same_filters(&status, &own)
                || first_in_namespace(pid).is_some_and(|first| same_filters(&status, &first)),
            descendant: is_descendant(pid),
            capabilities_elsewhere: user_namespace(&pid.to_string())
                .is_some_and(|other| Some(other) != user_namespace("self")),
            without_proc: Space::of(pid).is_other()
                && fs::symlink_metadata(format!("/proc/{pid}/root/proc/self")).is_err(),
            uid: geteuid().as_raw(),
            capabilities: own.effective_capabilities,
            yama_scope: yama_scope(),
            status,
        })
    }

    pub fn judge(&self) -> Result<(), Obstacle> {
        let Status { state, uid, real_uid, tracer_pid, seccomp, .. } = self.status;
        let may_trace_all = self.capabilities & CAP_SYS_PTRACE != 0;
        let no = |reason: String, remedy: &str| Err(Obstacle { reason, remedy: remedy.to_owned() });
        if matches!(state, 'Z' | 'X' | 'x') {
            return no("it has ended, and its parent has not taken note yet (zombie)".into(), "start it again");
        }
        // Root could trace it; but in the folders of another user nothing is to be trusted.
        if uid != self.uid {
            return no(
                format!("it belongs to another user ({uid})"),
                &format!("run as that user: sudo -u '#{uid}' reload-dashboard ..."),
            );
        }
        if uid != real_uid || self.set_id {
            return no(
                "it runs with rights that its caller has not (set-user-ID)".into(),
                "run it from a copy without that bit",
            );
        }
        if self.shut && !may_trace_all {
            let reason = "it does not let processes of its own user look into it (PR_SET_DUMPABLE)";
            return no(reason.into(), "have it leave that out in development");
        }
        match &self.program {
            Some(Err(unsuited)) => return no(unsuited.to_string(), unsuited.remedy()),
            None if !may_trace_all => {
                return no(
                    "its executable may not be looked at".into(),
                    "give yourself leave to read it (`chmod u+r`)",
                );
            }
            _ => {}
        }
        if let Some(tracer) = &self.tracer {
            return no(format!("it is traced by {tracer} ({tracer_pid})"), &format!("detach {tracer} from it first"));
        }
        if state == 'T' {
            return no("it is stopped".into(), "continue it (`fg`, or `kill -CONT`)");
        }
        if state == 'D' {
            let reason = "it sleeps uninterruptibly: a child still uses its memory (vfork), or storage does not answer";
            return no(reason.into(), "wait until it goes on");
        }
        if seccomp != 0 && !self.filters_inherited {
            let reason = "it has confined itself (seccomp), and what the agent needs might end it";
            return no(reason.into(), "switch its sandbox off for development");
        }
        if self.without_proc {
            return no("its container has no /proc, by which the agent knows the process".into(), "mount it there");
        }
        if self.status.shadow_stack {
            return no("it keeps a shadow stack (CET)".into(), "start it with GLIBC_TUNABLES=glibc.cpu.hwcaps=-SHSTK");
        }
        if may_trace_all {
            return Ok(());
        }
        // The owner of a namespace may trace whatever runs in it (`user_namespaces(7)`); whether we are that, the attempt shows.
        if self.status.permitted_capabilities & !self.capabilities != 0 && !self.capabilities_elsewhere {
            return no("it has capabilities that this program lacks".into(), "run a copy without them (`setcap -r`)");
        }
        match self.yama_scope {
            0 => Ok(()),
            1 if self.descendant => Ok(()),
            1 => no(
                "kernel.yama.ptrace_scope is 1: only descendants may be attached".into(),
                "start it with `reload-dashboard run -- COMMAND`, or: sudo sysctl kernel.yama.ptrace_scope=0",
            ),
            scope => no(
                format!("kernel.yama.ptrace_scope is {scope}: attaching takes CAP_SYS_PTRACE"),
                "start it with `reload-dashboard run -- COMMAND`",
            ),
        }
    }
}

/// Its status, once it is not in uninterruptible sleep, or has been so for long: everything does that for moments.
fn settled(pid: u32) -> io::Result<Status> {
    let mut status = Status::of(pid)?;
    let deadline = Instant::now() + MOMENT;
    while status.state == 'D' && Instant::now() < deadline {
        thread::sleep(MOMENT / 10);
        status = Status::of(pid)?;
    }
    Ok(status)
}

/// 0 where Yama is not in force.
pub fn yama_scope() -> u32 {
    let text = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// As the kernel names it; `None` where we may not look.
fn user_namespace(process: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/user")).ok()
}

fn same_filters(one: &Status, other: &Status) -> bool {
    one.seccomp == other.seccomp && one.seccomp_filters == other.seccomp_filters
}

/// The process with the number 1 where `pid` lives, if that is another pid namespace than ours.
fn first_in_namespace(pid: u32) -> Option<Status> {
    let mut first = pid;
    loop {
        let status = Status::of(first).ok()?;
        match status.inner_pid {
            1 => return Some(status),
            inner if inner == first => return None,
            _ => first = process::parent(first),
        }
    }
}

fn is_descendant(pid: u32) -> bool {
    let own = std::process::id();
    let mut ancestor = process::parent(pid);
    while ancestor > 1 && ancestor != own {
        ancestor = process::parent(ancestor);
    }
    ancestor == own
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Facts, Unsuited};

    /// A process of this test's own, which can be attached.
    fn plain() -> Facts {
        let mut facts = Facts::of(std::process::id()).expect("this process");
        facts.status.tracer_pid = 0;
        facts.status.state = 'S';
        facts.status.uid = 1000;
        facts.status.real_uid = 1000;
        facts.status.permitted_capabilities = 0;
        Facts {
            uid: 1000,
            capabilities: 0,
            yama_scope: 0,
            shut: false,
            tracer: None,
            filters_inherited: true,
            descendant: false,
            capabilities_elsewhere: false,
            without_proc: false,
            ..facts
        }
    }

    #[test]
    fn reasons_name_what_is_in_the_way() {
        let check = |change: fn(&mut Facts), expected: &str| {
            let mut facts = plain();
            change(&mut facts);
            let told = facts.judge().map_or_else(|obstacle| obstacle.to_string(), |()| "yes".to_owned());
            assert!(told.contains(expected), "{told}, not {expected}");
        };
        check(|_| {}, "yes");
        check(|facts| facts.status.state = 'Z', "zombie");
        check(|facts| facts.status.uid = 0, "another user");
        check(|facts| facts.status.real_uid = 5, "set-user-ID");
        check(|facts| facts.set_id = true, "set-user-ID");
        check(|facts| facts.shut = true, "PR_SET_DUMPABLE");
        check(|facts| facts.program = Some(Err(Unsuited::Static)), "without -static");
        check(|facts| facts.program = Some(Err(Unsuited::Bits32)), "32-bit");
        check(|facts| facts.program = Some(Err(Unsuited::Loader(PathBuf::from("/lib/ld-musl-x86_64.so.1")))), "musl");
        check(
            |facts| (facts.tracer, facts.status.tracer_pid) = (Some("gdb".into()), 77),
            "traced by gdb (77); detach gdb",
        );
        check(|facts| facts.status.state = 'T', "kill -CONT");
        check(|facts| facts.status.state = 'D', "vfork");
        check(|facts| (facts.status.seccomp, facts.filters_inherited) = (2, false), "seccomp");
        check(|facts| facts.status.seccomp = 2, "yes");
        check(|facts| facts.status.permitted_capabilities = 1, "capabilities");
        check(|facts| (facts.status.permitted_capabilities, facts.capabilities_elsewhere) = (1, true), "yes");
        check(|facts| facts.without_proc = true, "no /proc");
        check(|facts| facts.yama_scope = 1, "ptrace_scope=0");
        check(|facts| (facts.yama_scope, facts.descendant) = (1, true), "yes");
        check(|facts| facts.yama_scope = 3, "CAP_SYS_PTRACE");
        check(|facts| (facts.yama_scope, facts.capabilities) = (2, u64::MAX), "yes");
    }
}
