//! Attaching to programs that were started without the dashboard: that it works whatever they are doing, that they do not
//! notice, and that what cannot be attached says why.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use reload_tests::{
    dashboard::{Room, Running, receipts, told},
    deadline::{self, PATIENCE, wait_for},
    greek::{Greek, host},
    process,
    stranger::{self, Stranger, refused, row},
    toolchain,
};
use serde_json::Value;

/// `RELOAD_DASHBOARD_HALT` of the attach helper.
const STEPS: [&str; 8] = ["arrested", "redirected", "mapped", "called", "loading", "leaving", "unmapped", "restored"];

#[test]
fn every_verb_attaches_first_and_a_second_dashboard_goes_on_from_the_ledger() {
    let room = Room::new();
    let greek = Greek::new(&room, 3);
    let mut target = Stranger::ready(&room, host(&room, "host"), &[]);
    assert_eq!(target.ask(&format!("open {}", greek.installed.display())), "ok");
    assert_eq!(target.ask("call together 0"), "111");
    assert_eq!(target.threads(), 1);

    assert_eq!(target.module(Greek::NAME)["class"], "project", "`list` attaches");
    greek.install(2);
    assert_eq!(target.reload_one(Greek::NAME)["outcome"], "reloaded");
    assert_eq!(target.ask("call together 0"), "222");
    target.done(&["detach"]);
    assert_eq!(target.ask("call together 0"), "222", "it stays on its generation");

    let threads = target.threads();
    target.done(&["attach"]);
    assert_eq!(target.threads(), threads, "the agent was there");
    assert_eq!(target.module(Greek::NAME)["generation"], 1);
    greek.install(3);
    assert_eq!(target.reload_one(Greek::NAME)["generation"], 2);
    assert_eq!(target.ask("call together 0"), "333");
    let calls: u32 = target.ask("call calls_so_far 0").parse().expect("a number");
    assert_eq!(calls, 3 * 4, "state was lost");
}

/// The thread is somewhere between its own code and the loader; whatever becomes of the helper, it comes back as it was.
#[test]
fn helper_killed_at_each_step() {
    let room = Room::new();
    let exact = room.path().join("exact");
    toolchain::program(&toolchain::hosts().join("exact.c"), &["-O1", "-mno-red-zone"], &exact);
    for step in STEPS {
        let mut target = Stranger::ready(&room, &exact, &[]);
        room.attach_killed_after(step, target.pid());

        lives_on(&mut target, step);
        // With the agent that is there, or another attempt.
        let output = target.verb(&["attach"]);
        assert!(output.status.success(), "after `{step}`: {}", told(&output));
        lives_on(&mut target, step);
    }
}

/// It checks itself some more times, and finds nothing wrong.
fn lives_on(target: &mut Stranger<'_>, context: &str) {
    let count = |target: &mut Stranger<'_>| {
        let answer = target.ask("count");
        answer.parse::<u64>().unwrap_or_else(|_| panic!("{context}: {answer}"))
    };
    let before = count(target);
    wait_for(context, || (count(target) > before + 5).then_some(()));
}

#[test]
fn state_of_a_thread_that_never_waits_is_exactly_restored() {
    let room = Room::new();
    let exact = room.path().join("exact");
    toolchain::program(&toolchain::hosts().join("exact.c"), &["-O1", "-mno-red-zone"], &exact);
    for _ in 0..10 {
        let mut target = Stranger::ready(&room, &exact, &[]);
        target.done(&["attach"]);
        lives_on(&mut target, "attached");
    }
}

#[test]
fn no_wait_is_interrupted_or_shortened() {
    let room = Room::new();
    let program = host(&room, "lone");
    let kinds = [
        "nanosleep",
        "clock_nanosleep",
        "clock_nanosleep_until",
        "poll",
        "ppoll",
        "select",
        "epoll_wait",
        "epoll_pwait",
        "sem_timedwait",
        "futex",
        "recv",
        "sigtimedwait",
    ];
    let targets: Vec<Stranger<'_>> = kinds.iter().map(|kind| Stranger::ready(&room, &program, &[kind])).collect();
    for target in &targets {
        target.done(&["attach"]);
    }
    for (kind, mut target) in kinds.into_iter().zip(targets) {
        assert_eq!(target.host.line(), "ok", "{kind}");
    }
}

#[test]
fn three_hundred_programs_that_allocate_on_eight_threads() {
    let room = Room::new();
    let program = host(&room, "allocating");
    let program = program.to_str().expect("UTF-8");
    for round in 0..300 {
        // Gives way to the test, which else would mostly wait for a processor.
        let mut target = Stranger::ready(&room, "nice", &["-n", "5", program, "8"]);
        let output = target.verb(&["attach"]);
        assert!(output.status.success(), "round {round}: {}", told(&output));
        goes_on(&mut target, &format!("round {round}"));
    }
}

#[test]
fn signals_three_thousand_times_a_second() {
    let room = Room::new();
    let program = host(&room, "allocating");
    for round in 0..20 {
        let mut target = Stranger::ready(&room, &program, &["2", "3000"]);
        let output = target.verb(&["attach"]);
        assert!(output.status.success(), "round {round}: {}", told(&output));
        let signals = |target: &mut Stranger<'_>| {
            target.ask("count").split(' ').nth(1).and_then(|count| count.parse::<u64>().ok())
        };
        let before = signals(&mut target);
        wait_for("further signals", || (signals(&mut target) > before).then_some(()));
        goes_on(&mut target, &format!("round {round}"));
    }
}

/// A server whose library has been reloaded once, before it has children: what they inherit is its second version and the ledger
/// that says so.
fn server_in_its_second_version<'a>(room: &'a Room, greek: &Greek) -> Stranger<'a> {
    let mut server = Stranger::ready(room, host(room, "forking"), &[]);
    assert_eq!(server.ask(&format!("open {}", greek.installed.display())), "ok");
    server.done(&["attach"]);
    greek.install(2);
    assert_eq!(server.reload_one(Greek::NAME)["outcome"], "reloaded");
    server
}

/// Reloads a child of that server by itself.
fn reload_child(room: &Room, child: u32) {
    let output = stranger::verb(room, child, &["reload", "--json", Greek::NAME]);
    let receipt = &receipts(&output)[0];
    assert_eq!((&receipt["outcome"], &receipt["generation"]), (&"reloaded".into(), &2.into()), "{}", told(&output));
}

#[test]
fn children_of_a_server_run_what_they_were_forked_with_and_reload_by_themselves() {
    let room = Room::new();
    let greek = Greek::new(&room, 3);
    let mut server = server_in_its_second_version(&room, &greek);
    let workers: Vec<u32> = server.ask("fork 8").split_whitespace().map(|pid| pid.parse().expect("a number")).collect();
    let all = |version: &str| [version; 8].join(" ");
    let seen = |server: &mut Stranger<'_>, wanted: String| {
        wait_for(&format!("the workers to give {wanted}"), || (server.ask("seen").trim() == wanted).then_some(()));
    };
    seen(&mut server, all("222"));
    greek.install(3);
    for (index, &worker) in workers.iter().enumerate() {
        reload_child(&room, worker);
        let expected: Vec<&str> = (0..8).map(|other| if other <= index { "333" } else { "222" }).collect();
        seen(&mut server, expected.join(" "));
    }
    assert_eq!(server.ask("own"), "222", "the server itself was not asked to");
    assert_eq!(server.reload_one(Greek::NAME)["generation"], 2);
    assert_eq!(server.ask("own"), "333");
}

/// What it runs, and what it is compared with, lies in the folder of a process that is no more.
#[test]
fn a_child_that_outlives_its_parent_is_reloaded() {
    let room = Room::new();
    let greek = Greek::new(&room, 3);
    let mut server = server_in_its_second_version(&room, &greek);
    let left: u32 = server.ask("leave 1").trim().parse().expect("a number");
    let parent = server.pid();
    drop(server);
    // Whoever attaches something sweeps what the ended have left.
    Stranger::ready(&room, host(&room, "host"), &[]).done(&["attach"]);
    greek.install(3);
    reload_child(&room, left);
    process::signal(left, libc::SIGKILL);
    wait_for("its end", || (!process::is_running(left)).then_some(()));
    Stranger::ready(&room, host(&room, "host"), &[]).done(&["attach"]);
    let kept = room.leftovers();
    assert!(!kept.iter().any(|folder| folder.ends_with(parent.to_string())), "nobody needs it any more: {kept:?}");
}

#[test]
fn watching_follows_workers_and_the_program_that_comes_after() {
    let room = Room::new();
    let greek = Greek::new(&room, 3);
    let program = host(&room, "forking");
    let open = |server: &mut Stranger<'_>| {
        assert_eq!(server.ask(&format!("open {}", greek.installed.display())), "ok");
    };
    let mut server = Stranger::ready(&room, &program, &[]);
    open(&mut server);
    server.ask("fork 8");
    let log = room.path().join("log");
    let mut watch = room.dashboard();
    watch.args(["watch", "--follow", "--json", "--pid", &server.pid().to_string()]);
    watch.stdout(fs::File::create(&log).expect("the room is ours"));
    let watch = Running(watch.spawn().expect("the binary runs"));
    let events = |kind: &str| {
        let text = fs::read_to_string(&log).expect("a plain file");
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|event| event["event"] == kind).collect::<Vec<Value>>()
    };
    wait_for("the server and its workers to be attached", || (events("attached").len() == 9).then_some(()));
    greek.install(2);
    wait_for("every worker to run the new version", || {
        (server.ask("seen").trim() == ["222"; 8].join(" ") && server.ask("own") == "222").then_some(())
    });
    wait_for("a line of each that says whose it is", || {
        let whose = events("reloaded").iter().map(|event| event["target"].as_u64()).collect::<BTreeSet<_>>();
        (whose.len() == 9).then_some(())
    });
    let alone = |event: &&Value| event["receipt"]["details"]["analysis_shared"] != true;
    assert_eq!(events("reloaded").iter().filter(alone).count(), 1, "nine have the library, one analysis is enough");

    let marked = server.verb(&["mark", Greek::NAME]);
    assert!(marked.status.success(), "{}", told(&marked));
    wait_for("the mark", || (!events("mark").is_empty()).then_some(()));
    server.host.close();
    wait_for("the server's end", || events("exited").iter().any(|event| event["target"].is_null()).then_some(()));
    let mut again = Stranger::ready(&room, &program, &[]);
    open(&mut again);
    wait_for("the new server to be attached", || {
        events("attached").iter().any(|event| event["pid"] == again.pid()).then_some(())
    });
    wait_for("its mark", || (again.module(Greek::NAME)["mark"] == "reload").then_some(()));
    greek.install(3);
    wait_for("the new server to be reloaded", || (again.ask("own") == "333").then_some(()));
    drop(watch);
}

#[test]
fn program_that_becomes_another_is_attached_again_with_its_marks() {
    let room = Room::new();
    let greek = Greek::new(&room, 1);
    let (first, second) = (host(&room, "forking"), host(&room, "host"));
    let mut target = Stranger::ready(&room, &first, &[]);
    assert_eq!(target.ask(&format!("open {}", greek.installed.display())), "ok");
    target.done(&["mark", Greek::NAME]);
    let log = room.path().join("log");
    let mut watch = room.dashboard();
    watch.args(["watch", "--json", "--pid", &target.pid().to_string()]);
    watch.stdout(fs::File::create(&log).expect("the room is ours"));
    let _watch = Running(watch.spawn().expect("the binary runs"));
    let attached = |name: &str| {
        let text = fs::read_to_string(&log).expect("a plain file");
        let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.any(|event| event["event"] == "attached" && event["name"] == name).then_some(())
    };
    wait_for("the first program", || attached("forking"));
    target.host.tell(&format!("exec {}", second.display()));
    target.host.line_where(|line| line.starts_with("ready ").then_some(()));
    wait_for("the second program", || attached("host"));
    assert_eq!(target.ask(&format!("open {}", greek.installed.display())), "ok");
    assert_eq!(target.module(Greek::NAME)["mark"], "reload");
}

#[test]
fn watch_ends_with_its_target() {
    let room = Room::new();
    let target = Stranger::ready(&room, host(&room, "host"), &[]);
    let mut watch = room.dashboard();
    watch.args(["watch", "--json", "--pid", &target.pid().to_string()]).stdout(Stdio::piped());
    let mut watch = Running(watch.spawn().expect("the binary runs"));
    let mut lines = BufReader::new(watch.0.stdout.take().expect("piped")).lines();
    assert!(lines.next().is_some_and(|line| line.is_ok_and(|line| line.contains("attached"))));
    // Longer it looks for another program in the same process: only for as long as there is one.
    const AT_ONCE: Duration = Duration::from_secs(2);
    process::end(target.pid());
    let status = deadline::until(AT_ONCE, || watch.0.try_wait().expect("our child"));
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}

/// Every one of its threads makes further rounds.
fn goes_on(target: &mut Stranger<'_>, context: &str) {
    let least =
        |target: &mut Stranger<'_>| target.ask("count").split(' ').next().and_then(|count| count.parse::<u64>().ok());
    let before = least(target);
    let more = deadline::until(PATIENCE, || (least(target) > before).then_some(()));
    assert!(more.is_some(), "{context}: some thread does not go on");
}

#[test]
fn descriptors_and_dispositions_stay() {
    let room = Room::new();
    let mut target = Stranger::ready(&room, host(&room, "host"), &[]);
    // The C library takes its own two signals, 32 and 33, when the first thread is started.
    let internal = 3u64 << 31;
    let of = |pid: u32, field: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field is there");
        u64::from_str_radix(line.trim(), 16).expect("hexadecimal") & !internal
    };
    let descriptors = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count();
    let pid = target.pid();
    let seen = |pid| (descriptors(pid), ["SigIgn:", "SigCgt:", "SigBlk:"].map(|field| of(pid, field)));
    let before = seen(pid);
    target.done(&["attach"]);
    assert_eq!(seen(pid), before);
    assert!(target.host.said.is_empty(), "nothing was printed");
    answers(&mut target);
}

/// A `host` that has nothing open says so.
fn answers(target: &mut Stranger<'_>) {
    assert_eq!(target.ask("close"), "error");
}

#[test]
fn stopped_program_is_refused_until_it_is_continued() {
    let room = Room::new();
    let mut target = Stranger::ready(&room, host(&room, "host"), &[]);
    let row = row(&room, target.pid());
    assert_eq!(
        (&row["attachable"], &row["agent"], &row["modules"]),
        (&true.into(), &false.into(), &1.into()),
        "{row:#}"
    );
    process::signal(target.pid(), libc::SIGSTOP);
    wait_for("it to stop", || (process::state(target.pid()) == Some('T')).then_some(()));
    refused(&room, target.pid(), "it is stopped", "kill -CONT");
    process::signal(target.pid(), libc::SIGCONT);
    target.done(&["attach"]);
    answers(&mut target);
}

#[test]
fn static_program_is_refused() {
    let room = Room::new();
    let program = room.path().join("static");
    toolchain::program(&toolchain::hosts().join("allocating.c"), &["-O1", "-static"], &program);
    let mut target = Stranger::ready(&room, &program, &["1"]);
    refused(&room, target.pid(), "statically linked", "without -static");
    goes_on(&mut target, "refused");
}

#[test]
fn program_in_a_debugger_is_refused_by_the_debuggers_name() {
    let room = Room::new();
    let mut target = Stranger::ready(&room, host(&room, "host"), &[]);
    let mut gdb = Command::new("gdb");
    gdb.args(["--quiet", "--nx", "--batch", "-ex", "set debuginfod enabled off", "-p", &target.pid().to_string()]);
    gdb.args(["-ex", "shell echo holding", "-ex", "shell sleep 60"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let gdb = Running(gdb.spawn().expect("gdb is installed"));
    wait_for("gdb to hold it", || (process::state(target.pid()) == Some('t')).then_some(()));
    refused(&room, target.pid(), &format!("traced by gdb ({})", gdb.pid()), "detach gdb");
    for member in process::family(gdb.pid()) {
        process::end(member);
    }
    drop(gdb);
    wait_for("it to go on", || (process::state(target.pid()) == Some('S')).then_some(()));
    target.done(&["attach"]);
    answers(&mut target);
}
