//! The command-line contract of DESIGN: names, JSON, exit status, and that every verb can be called beside the others.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    process::Stdio,
    sync::mpsc::channel,
    thread,
    time::{Duration, SystemTime},
};

use reload_tests::{
    dashboard::{Launched, Room, Running, receipts, told},
    deadline::{self, PATIENCE, wait_for},
    greek::{Greek, greek_target, host},
    install, process,
    toolchain::{self, Library},
};
use serde_json::Value;

/// The object has exactly these keys, and `optional` ones.
fn keys(value: &Value, wanted: &[&str], optional: &[&str]) {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    let found: BTreeSet<&str> = object.keys().map(String::as_str).filter(|key| !optional.contains(key)).collect();
    assert_eq!(found, wanted.iter().copied().collect(), "{value:#}");
}

fn is_rfc3339(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() >= 20 && text.as_bytes()[10] == b'T' && text.ends_with('Z'))
}

#[test]
fn list_and_reload_json() {
    let room = Room::new();
    let greek = Greek::new(&room, 2);
    let mut target = greek_target(&room, &greek);

    let list = target.list();
    keys(&list, &["target", "mode", "modules"], &[]);
    keys(&list["target"], &["pid", "name", "exe"], &[]);
    assert_eq!((&list["target"]["pid"], &list["target"]["name"]), (&target.pid.into(), &"host".into()));
    assert_eq!(list["mode"], "off", "auto mode is off after attaching");
    let modules = list["modules"].as_array().expect("an array");
    for module in modules {
        let wanted = ["name", "path", "mtime", "size", "class", "mark", "status", "generation", "last_ms", "failure"];
        keys(module, &wanted, &[]);
    }
    let class = |name: &str| {
        let module = modules.iter().find(|module| module["name"].as_str().is_some_and(|found| found.starts_with(name)));
        module.unwrap_or_else(|| panic!("no {name} in {list:#}"))["class"].clone()
    };
    assert_eq!(
        (class("libc.so"), class("libgreek"), class("host")),
        ("protected".into(), "project".into(), "executable".into())
    );
    let row = target.module(Greek::NAME);
    assert!(is_rfc3339(&row["mtime"]), "{row:#}");
    assert_eq!(row["size"], fs::metadata(&greek.installed).expect("installed").len());

    greek.install(2);
    let output = target.verb(&["reload", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let receipts = receipts(&output);
    let receipt = receipts.iter().find(|receipt| receipt["name"] == Greek::NAME).expect("the changed module");
    let wanted = ["name", "outcome", "generation", "functions", "statics", "timings_ms", "warnings", "failure"];
    keys(receipt, &wanted, &["details"]);
    keys(&receipt["functions"], &["changed", "added", "removed", "unpatchable"], &[]);
    keys(&receipt["statics"], &["kept", "new", "reset", "merged"], &["removed"]);
    assert_eq!(receipt["functions"]["changed"], 3, "alpha, beta and gamma_, nothing else: {receipt:#}");
    // `calls`, and what the compiler's start-up code has.
    assert!(receipt["statics"]["kept"].as_u64() >= Some(1), "{receipt:#}");
    assert!(receipt["timings_ms"]["pause"].is_number() && receipt["timings_ms"]["total"].is_number());
    assert_eq!(target.ask("call together 0"), "222");
    for event in target.events() {
        assert!(is_rfc3339(&event["time"]) && event["event"].is_string(), "{event:#}");
    }
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn nothing_to_do_is_no_failure() {
    let room = Room::new();
    let greek = Greek::new(&room, 1);
    let target = greek_target(&room, &greek);
    let output = target.verb(&["reload", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(target.reload_one(Greek::NAME)["outcome"], "unchanged");
    assert_eq!(target.module(Greek::NAME)["generation"], 0);
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn what_takes_long_is_told_meanwhile() {
    let room = Room::new();
    let source = room.path().join("slow.c");
    let (go, installed, next) = (room.path().join("go"), room.path().join("libslow.so"), room.path().join("next.so"));
    let text = format!(
        "#include <unistd.h>\nint superreload_before(unsigned generation) {{\nwhile (access({go:?}, F_OK)) usleep(1000);\n\
         return 0 * generation; }}\nlong version(long x) {{ return VERSION + x; }}\n",
    );
    fs::write(&source, text).expect("the folder is ours");
    let library = Library::new("slow", source, "-O1");
    library.build(1, room.path(), &installed);
    library.build(2, room.path(), &next);
    let mut target = room.launch(&host(&room, "host"), &[]);
    assert_eq!(target.ask(&format!("open {}", installed.display())), "ok");
    install::by_rename(&next, &installed);

    let mut verb = room.dashboard();
    verb.args(["reload", "--json", "--pid", &target.pid.to_string(), "libslow.so"]);
    let mut verb = verb.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut line = String::new();
    let mut told_of = BufReader::new(verb.stderr.take().expect("piped"));
    told_of.read_line(&mut line).expect("text");
    fs::write(&go, "").expect("the folder is ours");
    assert!(line.starts_with("libslow.so: after "), "{line}");
    assert!(line.ends_with(" s, running its constructors and hooks\n"), "{line}");
    let output = verb.wait_with_output().expect("it ends");
    assert_eq!(receipts(&output)[0]["outcome"], "reloaded", "{}", told(&output));
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn protected_modules_answer_plainly_and_the_executable_reloads() {
    let room = Room::new();
    let greek = Greek::new(&room, 1);
    let mut target = greek_target(&room, &greek);
    let libc = target.list()["modules"]
        .as_array()
        .expect("an array")
        .iter()
        .find_map(|module| module["name"].as_str().filter(|name| name.starts_with("libc.so")).map(str::to_owned));
    let output = target.verb(&["reload", &libc.expect("every program has libc")]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    // A new build of the program itself.
    let rebuilt = room.path().join("built/host");
    toolchain::program(&toolchain::hosts().join("host.c"), &["-O1", "-DREBUILT"], &rebuilt);
    install::by_rename(&rebuilt, &room.path().join("host"));
    let output = target.verb(&["reload", "host"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(target.module("host")["status"], "current");
    assert_eq!(target.ask("call together 0"), "111");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn later_dlopens_and_dlcloses_are_followed() {
    let room = Room::new();
    let greek = Greek::new(&room, 2);
    let mut target = room.launch(&host(&room, "host"), &[]);
    let has = |target: &Launched<'_>| {
        let list = target.list();
        list["modules"].as_array().expect("an array").iter().any(|module| module["name"] == Greek::NAME)
    };
    assert!(!has(&target));
    greek.open(&mut target);
    target.event("loaded", |event| event["module"] == Greek::NAME);
    assert!(has(&target));
    assert_eq!(target.ask("close"), "ok");
    target.event("unloaded", |event| event["module"] == Greek::NAME);
    wait_for("the module to leave the list", || (!has(&target)).then_some(()));
    greek.install(2);
    greek.open(&mut target);
    assert_eq!(target.ask("call together 0"), "222");
    wait_for("the module to come back", || has(&target).then_some(()));
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn load_opens_and_marks() {
    let room = Room::new();
    let greek = Greek::new(&room, 2);
    let target = room.launch(&host(&room, "host"), &[]);
    target.done(&["load", greek.installed.to_str().expect("UTF-8")]);
    assert_eq!(target.module(Greek::NAME)["mark"], "reload");
    greek.install(2);
    assert_eq!(target.reload_one(Greek::NAME)["outcome"], "reloaded");
    let missing = target.verb(&["load", "/nonexistent/libnothing.so"]);
    assert_eq!(missing.status.code(), Some(1), "{}", told(&missing));
    assert!(told(&missing).contains("libnothing.so"));
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn an_older_time_is_a_change() {
    let room = Room::new();
    let greek = Greek::new(&room, 2);
    let mut target = greek_target(&room, &greek);
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(900_000_000);
    let file = fs::File::options().write(true).open(&greek.versions[1]).expect("just built");
    file.set_modified(long_ago).expect("ours");
    // A rename keeps the time, so the file that appears is older than the one before.
    fs::rename(&greek.versions[1], &greek.installed).expect("the folder is ours");
    wait_for("the change to be noticed", || (target.module(Greek::NAME)["status"] == "changed").then_some(()));
    assert_eq!(target.reload_one(Greek::NAME)["outcome"], "reloaded");
    assert_eq!(target.ask("call together 0"), "222");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn edits_50_ms_apart_end_in_the_last_one() {
    let room = Room::new();
    let greek = Greek::new(&room, 9);
    let mut target = greek_target(&room, &greek);
    target.done(&["mode", "all"]);
    for round in 0..5 {
        for version in 1..=8 {
            greek.install(version);
            // The spacing is the subject of this test, not a wait for something.
            thread::sleep(Duration::from_millis(50));
        }
        let last = if round % 2 == 0 { 9 } else { 3 };
        greek.install(last);
        target.ask_until("call together 0", &(last * 111).to_string());
        wait_for("the row to be current", || (target.module(Greek::NAME)["status"] == "current").then_some(()));
    }
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn marks_and_mode_are_told_to_every_dashboard() {
    let room = Room::new();
    let greek = Greek::new(&room, 1);
    let target = greek_target(&room, &greek);
    target.done(&["mode", "marked"]);
    target.event("mode", |event| event["mode"] == "marked");
    assert_eq!(target.list()["mode"], "marked");
    assert!(target.done(&["mode"]).contains("marked"), "`mode` alone tells it");
    target.done(&["mark", Greek::NAME]);
    target.event("mark", |event| event["module"] == Greek::NAME && event["mark"] == "reload");
    // A module may be named by its path as well.
    target.done(&["skip", greek.installed.to_str().expect("UTF-8")]);
    assert_eq!(target.module(Greek::NAME)["mark"], "skip");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn watch_prints_one_event_per_line() {
    let room = Room::new();
    let greek = Greek::new(&room, 2);
    let mut target = greek_target(&room, &greek);
    let mut watch = room.dashboard();
    watch.args(["watch", "--json", "--pid", &target.pid.to_string()]).stdout(Stdio::piped());
    let mut watch = Running(watch.spawn().expect("the binary runs"));
    let (sender, lines) = channel::<Value>();
    let output = BufReader::new(watch.0.stdout.take().expect("piped"));
    thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            let value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
            if sender.send(value).is_err() {
                return;
            }
        }
    });
    let mut seen = Vec::new();
    let mut wait = |kind: &str| loop {
        let event = lines.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("no `{kind}`: {error}; {seen:#?}"));
        let found = event["event"] == kind;
        seen.push(event);
        if found {
            return;
        }
    };
    wait("attached");
    target.done(&["mode", "all"]);
    wait("mode");
    greek.install(2);
    wait("reloaded");
    assert_eq!(target.ask("call together 0"), "222");
    assert_eq!(target.finish(), Some(0));
    let status = wait_for("the end of `watch` after its target's", || watch.0.try_wait().expect("our child"));
    assert_eq!(status.code(), Some(0));
}

#[test]
fn auto_mode_is_on_until_the_last_watch_ends() {
    let room = Room::new();
    let greek = Greek::new(&room, 3);
    let mut target = greek_target(&room, &greek);
    let mode = |wanted: &'static str| {
        wait_for(wanted, || (target.list()["mode"] == wanted).then_some(()));
    };
    let watch = || {
        let mut watch = room.dashboard();
        watch.args(["watch", "--json", "--pid", &target.pid.to_string()]).stdout(Stdio::piped());
        let mut watch = Running(watch.spawn().expect("the binary runs"));
        let mut lines = BufReader::new(watch.0.stdout.take().expect("piped")).lines();
        let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("\"attached\"")));
        assert!(line.is_some(), "it ended: {:?}", watch.0.try_wait());
        (watch, lines)
    };
    let (first, _first_lines) = watch();
    mode("all");
    let (mut second, mut lines) = watch();
    let end = |mut watch: Running| {
        process::signal(watch.pid(), libc::SIGINT);
        wait_for("the watch to end", || watch.0.try_wait().expect("our child"))
    };
    assert_eq!(end(first).code(), Some(0));
    mode("all");
    greek.install(2);
    let reloaded = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("\"reloaded\"")));
    assert!(reloaded.is_some(), "it ended: {:?}", second.0.try_wait());
    assert_eq!(end(second).code(), Some(0));
    mode("off");
    // What the user has switched on stays on.
    target.done(&["mode", "all"]);
    let (third, _third_lines) = watch();
    assert_eq!(end(third).code(), Some(0));
    mode("all");
    assert_eq!(target.ask("call together 0"), "222");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn ps_and_doctor() {
    let room = Room::new();
    let greek = Greek::new(&room, 1);
    let target = greek_target(&room, &greek);
    let ps = room.verb(&["ps", "--json"]);
    assert!(ps.status.success(), "{}", told(&ps));
    assert!(String::from_utf8_lossy(&ps.stdout).contains(&target.pid.to_string()), "{}", told(&ps));
    serde_json::from_slice::<Value>(&ps.stdout).expect("JSON");
    let doctor = room.verb(&["doctor", "--json"]);
    serde_json::from_slice::<Value>(&doctor.stdout).unwrap_or_else(|error| panic!("{error}: {}", told(&doctor)));
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn several_targets_of_one_library() {
    let room = Room::new();
    let greek = Greek::new(&room, 2);
    let program = host(&room, "host");
    let mut targets: Vec<Launched<'_>> = (0..3).map(|_| room.launch(&program, &[])).collect();
    for target in &mut targets {
        greek.open(target);
        target.done(&["mode", "all"]);
    }
    let ambiguous = room.verb(&["list", "--name", "host"]);
    assert_eq!(ambiguous.status.code(), Some(2), "{}", told(&ambiguous));
    assert!(told(&ambiguous).contains(&targets[1].pid.to_string()), "{}", told(&ambiguous));
    greek.install(2);
    for target in &mut targets {
        target.ask_until("call together 0", "222");
    }
    for target in targets {
        assert_eq!(target.finish(), Some(0));
    }
}

#[test]
fn one_file_name_in_two_folders_is_ambiguous() {
    let room = Room::new();
    let greek = Greek::new(&room, 2);
    let mut target = greek_target(&room, &greek);
    let other = room.path().join("other").join(Greek::NAME);
    fs::create_dir(other.parent().expect("a folder")).expect("the folder is ours");
    // Another soname: the loader would take the one that is loaded for the same.
    let mut library = Library::new("greek", toolchain::hosts().join("greek.c"), "-Wl,-soname,libother.so");
    library.flags.push("-O1".to_owned());
    library.build(1, room.path(), &other);
    assert_eq!(target.ask(&format!("open {}", other.display())), "ok");
    deadline::until(PATIENCE, || (target.count("loaded", Greek::NAME) >= 2).then_some(()));
    let output = target.verb(&["mark", Greek::NAME]);
    assert_ne!(output.status.code(), Some(0), "{}", told(&output));
    assert!(told(&output).contains(other.to_str().expect("UTF-8")), "no candidates: {}", told(&output));
    install::by_rename(&greek.versions[1], &other);
    assert_eq!(target.reload_one(other.to_str().expect("UTF-8"))["outcome"], "reloaded");
    assert_eq!(target.ask("call together 0"), "111", "the first of the two is untouched");
    assert_eq!(target.finish(), Some(0));
}

/// The file of the user's own that the dashboards of a room follow.
fn configure(room: &Room, text: &str) {
    let folder = room.path().join("config/reload-dashboard");
    fs::create_dir_all(&folder).expect("the folder is ours");
    fs::write(folder.join("reload-dashboard.toml"), text).expect("the folder is ours");
}

#[test]
fn auto_mode_of_the_users_file_is_permanent() {
    let room = Room::new();
    let text = format!("auto = \"all\"\n\n[program.host]\nmark = [\"{}\"]\n", Greek::NAME);
    configure(&room, &text);
    let greek = Greek::new(&room, 2);
    let mut target = greek_target(&room, &greek);
    wait_for("the mark of the file", || (target.module(Greek::NAME)["mark"] == "reload").then_some(()));
    wait_for("the mode of the file", || (target.list()["mode"] == "all").then_some(()));
    greek.install(2);
    target.ask_until("call together 0", "222");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn a_flawed_file_is_told_with_its_line_and_the_program_runs() {
    let room = Room::new();
    configure(&room, "auto = \"all\"\nmarks = []\n");
    let output = room.verb(&["run", "--headless", "--", "true"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let text = told(&output);
    assert!(text.contains("reload-dashboard.toml:2: unknown field `marks`"), "{text}");
}
