//! Programs that live apart, in namespaces of their own: attached from outside, reloaded, followed, and left as they were.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Stdio};

use reload_tests::{
    container::{Container, KINDS, Kind},
    dashboard::{Room, Running, receipts, told},
    deadline::wait_for,
    greek::{Greek, host},
    process,
    skip::{is_root, skip},
    stranger,
};
use serde_json::Value;

/// Other kinds than the rootless one take root's rights to make.
fn each_kind(test: &str, work: impl Fn(Kind)) {
    each_of(&KINDS, test, work);
}

fn each_of(kinds: &[Kind], test: &str, work: impl Fn(Kind)) {
    for &kind in kinds {
        if kind != Kind::Rootless && !is_root() {
            skip(test, "only root may make namespaces of every kind");
            continue;
        }
        work(kind);
    }
}

/// The versions of the library, built where the test may.
fn versions(room: &Room, count: u32) -> Vec<PathBuf> {
    let greek = Greek::new(room, count);
    let first = room.path().join(Greek::NAME);
    fs::remove_file(first).expect("the room is ours");
    greek.versions
}

/// Version 1 beside it in the container.
fn started<'a>(room: &'a Room, kind: Kind, program: &str, versions: &[PathBuf]) -> Container<'a> {
    let first = room.path().join(Greek::NAME);
    fs::copy(&versions[0], &first).expect("the room is ours");
    let mut container = Container::start(room, kind, &host(room, program), &[&first]);
    fs::remove_file(first).expect("the room is ours");
    let path = container.inside(Greek::NAME);
    assert_eq!(container.target.ask(&format!("open {path}")), "ok", "{kind:?}");
    container
}

fn done(container: &Container<'_>, arguments: &[&str]) -> String {
    let output = container.verb(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", told(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything that could be left behind: descriptors by what they lead to, and the names of files.
fn traces(container: &Container<'_>) -> (BTreeSet<(String, PathBuf)>, BTreeSet<PathBuf>) {
    let folder = PathBuf::from(format!("/proc/{}/fd", container.pid));
    let entries = fs::read_dir(folder).expect("it runs").flatten();
    let descriptors = entries.map(|entry| {
        (entry.file_name().to_string_lossy().into_owned(), fs::read_link(entry.path()).unwrap_or_default())
    });
    let root = PathBuf::from(format!("/proc/{}/root", container.pid));
    let names = ["tmp", "srv", "dev/shm", "run", "var/tmp"].iter().flat_map(|folder| {
        let entries = fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains("reload-dashboard"))
    });
    (descriptors.collect(), names.collect())
}

#[test]
fn program_with_other_files_and_numbers_is_reloaded_and_left_as_it_was() {
    each_kind("program_with_other_files_and_numbers_is_reloaded_and_left_as_it_was", |kind| {
        let room = kind.room();
        let versions = versions(&room, 4);
        let mut container = started(&room, kind, "host", &versions);
        assert_eq!(container.target.ask("call together 0"), "111", "{kind:?}");
        let before = traces(&container);
        done(&container, &["attach"]);
        assert_eq!(traces(&container), before, "{kind:?}");
        for (version, expected) in [(2, "222"), (3, "333")] {
            container.install(&versions[version - 1], Greek::NAME);
            let receipt = &receipts(&container.verb(&["reload", "--json", Greek::NAME]))[0];
            assert_eq!(receipt["outcome"], "reloaded", "{kind:?}: {receipt:#}");
            assert_eq!(receipt["details"]["stop"], "ptrace", "{kind:?}: {receipt:#}");
            assert_eq!(container.target.ask("call together 0"), expected, "{kind:?}");
        }
        done(&container, &["rollback", Greek::NAME]);
        assert_eq!(container.target.ask("call together 0"), "222", "{kind:?}");
        let calls: u32 = container.target.ask("call calls_so_far 0").parse().expect("a number");
        assert_eq!(calls, 3 * 4, "{kind:?}: state was lost");
        let list: Value = serde_json::from_str(&done(&container, &["list", "--json"])).expect("JSON");
        let modules = list["modules"].as_array().expect("an array");
        let class =
            |name: &str| modules.iter().find(|module| module["name"] == name).map(|module| module["class"].clone());
        let classes = ["program", "libc.so.6", Greek::NAME].map(class);
        assert_eq!(classes, ["executable", "protected", "project"].map(|class| Some(class.into())), "{list:#}");
        let foreign = modules
            .iter()
            .find(|module| !matches!(module["class"].as_str(), Some("protected" | "executable" | "project")));
        assert!(foreign.is_none(), "the agent and its generations are nobody's modules: {foreign:#?}");
        done(&container, &["detach"]);
        container.install(&versions[3], Greek::NAME);
        done(&container, &["attach"]);
        assert_eq!(receipts(&container.verb(&["reload", "--json", Greek::NAME]))[0]["generation"], 3, "{kind:?}");
        assert_eq!(container.target.ask("call together 0"), "444", "{kind:?}");
        assert_eq!(traces(&container), before, "{kind:?}");
    });
}

#[test]
fn watching_reloads_by_itself() {
    each_kind("watching_reloads_by_itself", |kind| {
        let room = kind.room();
        let versions = versions(&room, 3);
        let mut container = started(&room, kind, "host", &versions);
        let log = room.path().join("log");
        let mut watch = room.dashboard();
        watch.args(["watch", "--json", "--pid", &container.pid.to_string()]);
        watch.stdout(fs::File::create(&log).expect("the room is ours"));
        let _watch = Running(watch.spawn().expect("the binary runs"));
        let events = |kind: &str| {
            let text = fs::read_to_string(&log).expect("a plain file");
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.filter(|event| event["event"] == kind).count()
        };
        wait_for("it to be attached", || (events("attached") == 1).then_some(()));
        // What runs must have been seen before it is replaced.
        wait_for("auto mode", || (events("mode") == 1).then_some(()));
        for (version, expected) in [(2, "222"), (3, "333")] {
            container.install(&versions[version - 1], Greek::NAME);
            wait_for("the new version", || (container.target.ask("call together 0") == expected).then_some(()));
        }
        // Done to it by its path inside or outside.
        wait_for("both to be told", || (events("reloaded") == 2).then_some(()));
    });
}

#[test]
fn children_have_their_parents_generations() {
    each_kind("children_have_their_parents_generations", |kind| {
        let room = kind.room();
        let versions = versions(&room, 3);
        let mut container = started(&room, kind, "forking", &versions);
        done(&container, &["attach"]);
        container.install(&versions[1], Greek::NAME);
        assert_eq!(receipts(&container.verb(&["reload", "--json", Greek::NAME]))[0]["outcome"], "reloaded");
        container.target.ask("fork 2");
        let seen = |container: &mut Container<'_>, wanted: &str| {
            wait_for(&format!("{kind:?}: the workers to give {wanted}"), || {
                (container.target.ask("seen").trim() == wanted).then_some(())
            });
        };
        seen(&mut container, "222 222");
        let workers = process::family(container.pid).split_off(1);
        container.install(&versions[2], Greek::NAME);
        for (worker, expected) in workers.iter().zip(["333 222", "333 333"]) {
            let output = stranger::verb(&room, *worker, &["reload", "--json", Greek::NAME]);
            let receipt = &receipts(&output)[0];
            let told = told(&output);
            assert_eq!(
                (&receipt["outcome"], &receipt["generation"]),
                (&"reloaded".into(), &2.into()),
                "{kind:?}: {told}"
            );
            seen(&mut container, expected);
        }
        assert_eq!(container.target.ask("own"), "222", "{kind:?}");
    });
}

#[test]
fn helper_killed_while_it_hands_the_agent_over() {
    each_of(&[Kind::OwnProc, Kind::Rootless], "helper_killed_while_it_hands_the_agent_over", |kind| {
        for step in ["mapped", "called", "passed", "loading", "leaving"] {
            let room = kind.room();
            let versions = versions(&room, 1);
            let mut container = started(&room, kind, "host", &versions);
            let before = traces(&container);
            room.attach_killed_after(step, container.pid);
            assert_eq!(container.target.ask("call together 0"), "111", "{kind:?} after `{step}`");
            let output = container.verb(&["attach"]);
            assert!(output.status.success(), "{kind:?} after `{step}`: {}", told(&output));
            assert_eq!(container.target.ask("call together 0"), "111", "{kind:?} after `{step}`");
            assert_eq!(traces(&container), before, "{kind:?} after `{step}`");
        }
    });
}

#[test]
fn two_dashboards_attach_at_once() {
    each_of(&[Kind::OwnProc, Kind::Rootless], "two_dashboards_attach_at_once", |kind| {
        let room = kind.room();
        let versions = versions(&room, 1);
        let container = started(&room, kind, "host", &versions);
        let start = |verb: &str, step: &str| {
            let mut dashboard = room.dashboard();
            dashboard.args([verb, "--pid", &container.pid.to_string()]).env("RELOAD_DASHBOARD_HALT", step);
            Running(dashboard.stdout(Stdio::null()).spawn().expect("the binary runs"))
        };
        let mut first = start("attach", "loading");
        let halted = wait_for("the first to stand still", || process::halted_below(first.pid(), None));
        let mut second = start("list", "");
        let turn = PathBuf::from(format!("/proc/{}", container.pid));
        wait_for("the second to wait for its turn", || {
            let open = fs::read_dir(format!("/proc/{}/fd", second.pid())).ok()?.flatten();
            open.filter_map(|entry| fs::read_link(entry.path()).ok()).find(|path| *path == turn)
        });
        process::signal(halted, libc::SIGCONT);
        for dashboard in [&mut first, &mut second] {
            let status = wait_for("its end", || dashboard.0.try_wait().expect("our child"));
            assert!(status.success(), "{kind:?}: {status}");
        }
        done(&container, &["list"]);
    });
}
