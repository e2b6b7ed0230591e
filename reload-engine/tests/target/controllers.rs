//! Who talks to the agent: several controllers, strangers, and nobody in a forked child.

use std::{
    fs,
    io::{Read, Write},
    iter,
    os::unix::{fs::PermissionsExt, net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{self, ExitCode},
    sync::Barrier,
    thread,
    time::Instant,
};

use libtest_mimic::Failed;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use reload_engine::{
    error::Error,
    model::{self, Mark, Mode},
    session::{Command, Event, Session, Update},
    target::{
        link::{AgentLink, LedgerParts},
        store::TargetFolder,
    },
};
use reload_protocol::{Notice, Part, Reply, Request, VERSION, receive, send};

use crate::{Case, Outcome, host::*};

/// Started as another user, this program only tries to talk to an agent.
pub const INTRUDER: &str = "__intrude";

pub const CASES: &[Case] = &[
    ("ledger_of_two_controllers", ledger_of_two_controllers),
    ("what_another_controller_did_is_told", what_another_did_is_told),
    ("hostile_frames_and_other_users", hostile_frames),
    ("descriptors_that_nobody_asked_for", unasked_descriptors),
    ("forked_child_has_no_agent", forked_child),
];

fn ledger_of_two_controllers() -> Outcome {
    let mut target = Target::start(&[])?;
    let mut other = AgentLink::connect(target.launched.pid)?;
    let notices = other.notices();
    let ledger = |revision, whole, parts| LedgerParts { revision, whole, parts };
    check(target.link.ledger(0)? == ledger(0, true, Vec::new()), "no ledger at first")?;
    check(target.link.set_ledger(0, vec![part("a", b"one"), part("b", b"one")])? == 1, "the first revision")?;
    check(notices.recv_timeout(PATIENCE)? == Notice::LedgerChanged { revision: 1 }, "the other one is told")?;
    check(matches!(other.set_ledger(0, vec![part("a", b"two")]), Err(Error::Stale)), "the loser must read again")?;
    check(other.ledger(0)?.parts.contains(&part("a", b"one")), "and finds this")?;
    check(other.set_ledger(1, vec![part("a", b"two")])? == 2, "then it may")?;
    let gone = Part { key: b"b".to_vec(), value: None };
    check(target.link.set_ledger(2, vec![gone.clone(), part("c", b"three")])? == 3, "parts come and go")?;
    check(other.ledger(3)? == ledger(3, false, Vec::new()), "who has seen all learns nothing")?;
    check(other.ledger(2)?.parts == [gone.clone(), part("c", b"three")], "who has not, what has changed")?;
    check(other.ledger(1)?.parts == [gone, part("c", b"three"), part("a", b"two")], "by several revisions too")?;
    let all = ledger(3, true, vec![part("c", b"three"), part("a", b"two")]);
    check(other.ledger(0)? == all, "all there is")?;
    check(other.ledger(9)? == all, "also for somebody who comes from another program")?;
    check(matches!(other.begin(0), Err(Error::Stale)), "begin with an old revision")?;
    let shadow = PathBuf::from(&target.library.path);
    check(
        matches!(other.begin_and_load(0, &shadow, 0..u64::MAX, || ()), Err(Error::Stale)),
        "the same with more to do",
    )?;
    target.link.begin(3)?;
    let own = std::process::id();
    check(matches!(other.begin(3), Err(Error::Busy { pid }) if pid == own), "only one may reload")?;
    check(matches!(other.set_ledger(3, Vec::new()), Err(Error::Busy { .. })), "nor change what it will change")?;
    check(matches!(other.allow_tracer(1), Err(Error::Busy { .. })), "nor let another tracer in")?;
    check(matches!(other.adapted(), Err(Error::Busy { .. })), "nor hear what an adapter tells the one")?;
    check(
        matches!(other.begin_and_load(3, &shadow, 0..u64::MAX, || ()), Err(Error::Busy { .. })),
        "nor load anything",
    )?;
    check(other.ledger(0)? == all, "and both of its answers were taken")?;
    target.link.end()?;
    other.begin(3)?;
    let heard: Vec<Notice> = target.link.notices().try_iter().collect();
    check(heard == [Notice::LedgerChanged { revision: 2 }], "told of the other's changes and of no others")?;
    drop(other);
    let deadline = Instant::now() + PATIENCE;
    while matches!(target.link.begin(3), Err(Error::Busy { .. })) {
        check(Instant::now() < deadline, "the right ends with the connection")?;
    }
    Ok(())
}

/// Each session is told of the other's change, also where it meets it while it makes one of its own.
fn what_another_did_is_told() -> Outcome {
    const ROUNDS: usize = 60;
    let target = Target::start(&[])?;
    let name = model::file_name(Path::new(&target.library.path));
    let (one, other) = (Session::visit(target.launched.pid)?, Session::visit(target.launched.pid)?);
    for round in 0..ROUNDS {
        let mode = if round % 2 == 0 { Mode::All } else { Mode::Marked };
        let mark = if round % 2 == 0 { Mark::Reload } else { Mark::Skip };
        let start = Barrier::new(2);
        let (set, marked) = thread::scope(|scope| {
            let set = scope.spawn(|| {
                start.wait();
                one.order(Command::SetMode(mode))
            });
            start.wait();
            let marked = other.order(Command::Mark { modules: vec![name.clone()], mark });
            (set.join(), marked)
        });
        set.map_err(|_| "the other thread")??;
        marked?;
        let told = |session: &Session, wanted: &dyn Fn(&Event) -> bool| {
            let deadline = Instant::now() + PATIENCE;
            iter::from_fn(|| session.updates.recv_deadline(deadline).ok())
                .any(|update| matches!(update, Update::Event { event, .. } if wanted(&event)))
        };
        let is_mark = |event: &Event| matches!(event, Event::Mark { mark: told, .. } if *told == mark);
        let is_mode = |event: &Event| matches!(event, Event::Mode { mode: told } if *told == mode);
        check(told(&one, &is_mark), &format!("round {round}: the one is told of the other's mark"))?;
        check(told(&other, &is_mode), &format!("round {round}: the other is told of the one's mode"))?;
    }
    Ok(())
}

fn hostile_frames() -> Outcome {
    let mut target = Target::start(&[])?;
    let socket = TargetFolder::of_agent(target.launched.pid);
    let folder = target.folder.path().join("store").join(target.launched.pid.to_string());
    check(socket.is_some_and(|found| found.path() == folder), "found by the target's own environment")?;
    let connect = || UnixStream::connect(folder.join("agent.sock"));
    let mut slow = connect()?;
    slow.write_all(&[200, 0])?;
    for garbage in [&u32::MAX.to_le_bytes()[..], &[3, 0, 0, 0, 0xff, 0xff, 0xff], &[0, 0, 0, 0], &[0xee; 4096]] {
        let mut stream = connect()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(garbage)?;
        let mut rest = Vec::new();
        // The agent tells why, and hangs up; with bytes of ours unread that is a reset.
        let _ = stream.read_to_end(&mut rest);
    }
    let mut unknown = connect()?;
    send(&mut unknown, &Request::Modules)?;
    let reply: reload_protocol::FromAgent = receive(&mut unknown)?;
    check(matches!(reply, reload_protocol::FromAgent::Reply(Reply::Failed { .. })), "Hello comes first")?;
    let mut older = connect()?;
    send(&mut older, &Request::Hello { version: VERSION + 1 })?;
    let reply: reload_protocol::FromAgent = receive(&mut older)?;
    check(matches!(reply, reload_protocol::FromAgent::Reply(Reply::Welcome(_))), "another version is told ours")?;
    check(!target.link.modules()?.is_empty(), "the agent lives, and a slow peer holds up nobody")?;

    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: another user's connection needs root to try");
        return Ok(());
    }
    // Open the folders: the agent itself must refuse.
    for path in [target.folder.path(), &target.folder.path().join("store"), &folder] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    fs::set_permissions(folder.join("agent.sock"), fs::Permissions::from_mode(0o777))?;
    let own = target.folder.path().join("intruder");
    fs::copy(std::env::current_exe()?, &own)?;
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755))?;
    let status =
        process::Command::new(&own).arg(INTRUDER).arg(folder.join("agent.sock")).uid(65534).gid(65534).status()?;
    check(status.code() == Some(7), &format!("another user is refused: {status}"))?;
    check(!target.link.modules()?.is_empty(), "the agent lives")
}

/// A peer may send along what it likes; the agent keeps none of it.
fn unasked_descriptors() -> Outcome {
    let mut target = Target::start(&[])?;
    let folder = target.folder.path().join("store").join(target.launched.pid.to_string());
    let table = format!("/proc/{}/task/{}/fd", target.launched.pid, target.link.welcome().agent_threads[0]);
    let open = || fs::read_dir(&table).map(Iterator::count).unwrap_or_default();
    let before = (open(), fs::read_dir(format!("/proc/{}/fd", target.launched.pid))?.count());
    let null = fs::File::open("/dev/null")?;
    for count in [1usize, 200, 201, 253] {
        let mut stream = UnixStream::connect(folder.join("agent.sock"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut frame = Vec::new();
        send(&mut frame, &Request::Hello { version: VERSION })?;
        let numbers = vec![std::os::fd::AsRawFd::as_raw_fd(&null); count];
        let rights = [ControlMessage::ScmRights(&numbers)];
        let part = [std::io::IoSlice::new(&frame)];
        let raw = std::os::fd::AsRawFd::as_raw_fd(&stream);
        sendmsg::<()>(raw, &part, &rights, MsgFlags::empty(), None)?;
        let reply = receive::<reload_protocol::FromAgent>(&mut stream);
        check(reply.is_ok() == (count <= reload_protocol::MOST_PASSED), &format!("{count} descriptors: {reply:?}"))?;
        if reply.is_ok() {
            // A file that did not come along is no reason to look at another one.
            send(&mut stream, &Request::Begin { expected: 0, closed: None })?;
            let _: reload_protocol::FromAgent = receive(&mut stream)?;
            let file = reload_protocol::File::Passed { index: 7, name: "x".into() };
            send(&mut stream, &Request::Load { file, low: 0, high: u64::MAX })?;
            let reply: reload_protocol::FromAgent = receive(&mut stream)?;
            // Busy: the one before has not been noticed to be gone.
            let refused = |reply: &Reply| matches!(reply, Reply::Failed { .. } | Reply::Busy { .. });
            let told = matches!(&reply, reload_protocol::FromAgent::Reply(reply) if refused(reply));
            check(told, &format!("{reply:?}"))?;
        }
    }
    target.wait_for("the agent to have closed them", |target| {
        let host = fs::read_dir(format!("/proc/{}/fd", target.launched.pid)).map(Iterator::count);
        (open(), host.unwrap_or_default()) == before
    })?;
    check(!target.link.modules()?.is_empty(), "the agent lives")
}

/// As another user: 7 if the agent hangs up without a word.
pub fn intrude(socket: &str) -> ExitCode {
    let Ok(mut stream) = UnixStream::connect(socket) else { return ExitCode::from(8) };
    let _ = stream.set_read_timeout(Some(PATIENCE));
    // The agent may have hung up already.
    let _ = send(&mut stream, &Request::Hello { version: VERSION });
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(0) | Err(_) => ExitCode::from(7),
        Ok(_) => ExitCode::from(9),
    }
}

fn forked_child() -> Outcome {
    let mut target = Target::start(&["fork"])?;
    let child = target.board(CHILD);
    let sockets = |folder: String| -> Result<usize, Failed> {
        let targets = fs::read_dir(folder)?.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        Ok(targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count())
    };
    let agent = target.link.welcome().agent_threads[0];
    check(sockets(format!("/proc/{}/task/{agent}/fd", target.launched.pid))? >= 2, "the agent has its descriptors")?;
    check(sockets(format!("/proc/{}/fd", target.launched.pid))? == 0, "the host does not see them")?;
    check(sockets(format!("/proc/{child}/fd"))? == 0, "nor does the child")?;
    check(fs::read_dir(format!("/proc/{child}/task"))?.count() == 1, "nor have the thread")?;
    check(matches!(AgentLink::connect(child as u32), Err(Error::NoAgent { .. })), "and no agent")?;
    check(!target.link.modules()?.is_empty(), "the parent's agent lives")
}
