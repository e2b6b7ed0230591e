//! Hazards that need more than a script: many threads, waits that must not notice, a dashboard killed at its worst moment,
//! several controllers at once, a full disk, a file without permissions.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use reload_tests::{
    dashboard::{Launched, Room, told},
    deadline::{self, PATIENCE, wait_for},
    greek::{Greek, greek_target, host},
    hammer::{hammered, stamped, stamps},
    install, process,
    skip::{is_root, skip},
    toolchain,
};
use serde_json::Value;

#[test]
fn hammering_threads_through_500_reloads() {
    const RELOADS: u16 = 500;
    let room = Room::new();
    let (mut target, installed, first) = hammered(&room, &[]);
    let places = stamps(&first).len();
    assert!(places >= 8, "the stamp is in every function: {places}");
    assert_eq!(target.ask("go 32"), "ok");
    for version in 2..=RELOADS + 1 {
        install::bytes(&stamped(&first, version), &installed);
        let wanted = usize::from(version) - 1;
        let reached = deadline::until(PATIENCE, || (target.count("reloaded", "libhammer.so") >= wanted).then_some(()));
        assert!(reached.is_some(), "reload {wanted} did not come; events: {:#?}", target.events().last());
    }
    target.ask_until("version", &(RELOADS + 1).to_string());
    assert_eq!(target.ask("stop"), "wrong 0 backwards 0 miscounted 0 lost 0");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn waits_are_neither_interrupted_nor_shortened() {
    let room = Room::new();
    let greek = Greek::new(&room, 2);
    let mut target = room.launch(&host(&room, "waits"), &[]);
    greek.open(&mut target);
    target.done(&["mode", "all"]);
    // At least a hundred, and as many more as it takes for every kind of wait to have gone through many of them.
    let mut reload = 0;
    while reload < 100 || target.ask("waits").parse::<u32>().expect("a number") < 50 {
        reload += 1;
        greek.install(1 + reload % 2);
        let reached = deadline::until(PATIENCE, || (target.count("reloaded", Greek::NAME) >= reload).then_some(()));
        assert!(reached.is_some(), "reload {reload} did not come; events: {:#?}", target.events().last());
    }
    assert_eq!(target.ask("stop"), "done");
    assert_eq!(target.finish(), Some(0));
}

/// The steps at which `RELOAD_DASHBOARD_HALT` stops the process that reloads.
const STEPS: [&str; 7] = ["loaded", "bound", "staged", "stopped", "closed", "gone", "done"];

/// Who is killed while a reload stands still.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    /// The process that stands still, be it the dashboard or its stop helper.
    Halted,
    /// The dashboard; a helper that stands still then goes on.
    Dashboard,
    /// Dashboard and helper at once.
    Both,
}

#[test]
fn dashboard_killed_at_each_step() {
    for step in STEPS {
        for victim in [Victim::Halted, Victim::Dashboard, Victim::Both] {
            killed_at(step, victim);
        }
    }
}

fn killed_at(step: &str, victim: Victim) {
    let room = Room::new();
    let greek = Greek::new(&room, 3);
    let mut target = greek_target(&room, &greek);
    greek.install(2);
    let mut verb = target.reload_up_to(step, Greek::NAME, Stdio::null());
    let halted = deadline::until(PATIENCE, || process::halted_below(verb.pid(), Some(target.pid)));
    let halted = halted.unwrap_or_else(|| panic!("nothing stood still at `{step}`: {:?}", verb.0.try_wait()));

    match victim {
        Victim::Halted => {
            process::end(halted);
            // A dashboard that has lost its helper may try again, and the next one stands still at the same step.
            let ended = deadline::until(PATIENCE, || {
                if let Some(next) = process::halted_below(verb.pid(), Some(target.pid)) {
                    process::end(next);
                }
                verb.0.try_wait().expect("our child")
            });
            assert!(ended.is_some(), "the dashboard goes on for ever after its helper was killed at `{step}`");
        }
        Victim::Dashboard => process::end(verb.pid()),
        Victim::Both => {
            process::end(verb.pid());
            process::end(halted);
        }
    }
    if process::is_running(halted) {
        process::signal(halted, libc::SIGCONT);
    }

    let context = format!("killed {victim:?} at `{step}`");
    let now = target.ask("call together 0");
    assert!(now == "111" || now == "222", "{context}: a mixture of generations: {now}");
    for _ in 0..20 {
        let again = target.ask("call together 0");
        assert!(again == now || again == "222", "{context}: {now}, then {again}");
    }

    // A new dashboard goes on from there.
    let receipt = target.reload_one(Greek::NAME);
    let outcome = receipt["outcome"].as_str().unwrap_or_default();
    assert!(matches!(outcome, "reloaded" | "unchanged"), "{context}: {receipt:#}");
    assert_eq!(target.ask("call together 0"), "222", "{context}: {receipt:#}");
    greek.install(3);
    assert_eq!(target.reload_one(Greek::NAME)["outcome"], "reloaded", "{context}");
    assert_eq!(target.ask("call together 0"), "333", "{context}");
    assert_eq!(target.module(Greek::NAME)["status"], "current", "{context}");
    let calls: u32 = target.ask("call calls_so_far 0").parse().expect("a number");
    assert_eq!(calls, 3 * (1 + 1 + 20 + 1 + 1), "{context}: state was lost");
    assert_eq!(target.finish(), Some(0), "{context}");
}

#[test]
fn launching_dashboard_killed_and_the_terminal_continues() {
    let room = Room::new();
    let greek = Greek::new(&room, 3);
    let mut target = greek_target(&room, &greek);
    target.done(&["mark", Greek::NAME]);
    greek.install(2);
    assert_eq!(target.reload_one(Greek::NAME)["outcome"], "reloaded");
    process::signal(target.dashboard.pid(), libc::SIGKILL);
    deadline::wait_for("the killed dashboard's end", || target.dashboard.0.try_wait().expect("our child"));

    assert_eq!(target.ask("call together 0"), "222");
    let row = target.module(Greek::NAME);
    assert_eq!((&row["generation"], &row["mark"], &row["status"]), (&1.into(), &"reload".into(), &"current".into()));
    greek.install(3);
    assert_eq!(target.reload_one(Greek::NAME)["outcome"], "reloaded");
    assert_eq!(target.ask("call together 0"), "333");
    target.done(&["rollback", Greek::NAME]);
    assert_eq!(target.ask("call together 0"), "222");
}

#[test]
fn permission_removed() {
    let room = Room::unprivileged();
    let greek = Greek::new(&room, 2);
    room.hand_over();
    let mut target = greek_target(&room, &greek);
    // Once it is listed there is a copy of what was loaded; a busy machine may take its time for that.
    target.module(Greek::NAME);
    greek.install(2);
    fs::set_permissions(&greek.installed, fs::Permissions::from_mode(0o000)).expect("the file is ours");
    let receipt = target.reload_one(Greek::NAME);
    assert_failed(&receipt, "denied");
    assert_eq!(target.ask("call together 0"), "111");
    fs::set_permissions(&greek.installed, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    let receipt = target.reload_one(Greek::NAME);
    assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
    assert_eq!(target.ask("call together 0"), "222");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn disk_full_for_the_store() {
    let room = Room::new();
    let Some(_mounted) = Mounted::small(&room.runtime, "disk_full_for_the_store") else { return };
    let greek = Greek::new(&room, 2);
    let mut target = greek_target(&room, &greek);
    // The first listing copies the originals; from here on there is no room.
    target.module(Greek::NAME);
    let filler = room.runtime.join("filler");
    fill(&filler);
    greek.install(2);
    let receipt = target.reload_one(Greek::NAME);
    assert_failed(&receipt, "space");
    assert_eq!(target.ask("call together 0"), "111");
    fs::remove_file(&filler).expect("the file is ours");
    assert_eq!(target.reload_one(Greek::NAME)["outcome"], "reloaded");
    assert_eq!(target.ask("call together 0"), "222");
    assert_eq!(target.finish(), Some(0));
}

/// What the generations of a long day keep for debuggers is more than the store can hold.
#[test]
fn a_store_full_of_debugging_information() {
    const WEIGHT: usize = 8 << 20;
    const RELOADS: usize = 12;
    let room = Room::new();
    let Some(_mounted) = Mounted::small(&room.runtime, "a_store_full_of_debugging_information") else { return };
    let greek = Greek::new(&room, 2);
    greek.weigh_down(WEIGHT);
    let mut target = greek_target(&room, &greek);
    let mut told = 0;
    for reload in 1..=RELOADS {
        greek.install(1 + reload % 2);
        let receipt = target.reload_one(Greek::NAME);
        assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
        assert_eq!(target.ask("call together 0"), ["111", "222"][reload % 2]);
        told += usize::from(receipt["warnings"].to_string().contains("find no lines of generation"));
    }
    assert!(told > 0, "{RELOADS} times {WEIGHT} bytes are more than there is room for");
    // To one whose debugging information is gone.
    target.done(&["rollback", "--generation", "1", Greek::NAME]);
    assert_eq!(target.ask("call together 0"), "222");
    greek.install(1);
    let receipt = target.reload_one(Greek::NAME);
    assert_eq!(receipt["outcome"], "reloaded");
    assert!(receipt["details"]["unchecked"].is_string(), "it cannot be compared with what is gone: {receipt:#}");
    assert_eq!(target.ask("call together 0"), "111");
    assert_eq!(target.finish(), Some(0));
}

/// The receipt says what stage failed and why, and that is the words.
fn assert_failed(receipt: &Value, reason: &str) {
    assert_eq!(receipt["outcome"], "failed", "{receipt:#}");
    assert!(receipt["failure"]["stage"].is_string(), "{receipt:#}");
    let trace = receipt["failure"].to_string();
    assert!(trace.contains(reason), "`{reason}` is not said in {receipt:#}");
}

/// A small file system, gone when dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// `None`: it cannot be had here, and `test` has been told as skipped.
    fn small(at: &Path, test: &str) -> Option<Self> {
        if !is_root() {
            skip(test, "mounting a small file system needs root");
            return None;
        }
        let path = std::ffi::CString::new(at.as_os_str().as_encoded_bytes()).expect("no NUL");
        // SAFETY: all five arguments are strings that live until the call returns.
        let result =
            unsafe { libc::mount(c"tmpfs".as_ptr(), path.as_ptr(), c"tmpfs".as_ptr(), 0, c"size=48m".as_ptr().cast()) };
        if result != 0 {
            skip(test, "this machine does not allow mounting a file system");
            return None;
        }
        Some(Mounted(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let path = std::ffi::CString::new(self.0.as_os_str().as_encoded_bytes()).expect("no NUL");
        // SAFETY: the path is a string. Detached, so that a target that still holds a file does not keep it mounted.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Writes until the file system has no room for one more byte.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = fs::File::create(path).expect("there is room for a name");
    for piece in [1 << 20, 4096, 1] {
        let zeroes = vec![0; piece];
        while file.write_all(&zeroes).is_ok() {}
    }
}

#[test]
fn exit_status_and_signals_are_the_targets() {
    let room = Room::new();
    let mut command = room.dashboard();
    command.args(["run", "--headless", "--json", "--events"]).arg(room.path().join("events"));
    command.args(["--", "sh", "-c", "echo out; echo err >&2; exit 7"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(7), "{}", told(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("err\n"), "{}", told(&output));
    assert_eq!(room.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn target_that_a_constructor_ends_is_told_of() {
    let room = Room::new();
    let greek = Greek::new(&room, 1);
    let mut target = greek_target(&room, &greek);
    target.event("shielded", |event| event["module"] == Greek::NAME);
    let (source, built) = (room.path().join("ends.c"), room.path().join("built/ends.so"));
    let greek_source = toolchain::hosts().join("greek.c");
    let constructor = "__attribute__((constructor)) static void end(void) { *(volatile int *)8 = 1; }";
    fs::write(&source, format!("#include \"{}\"\n{constructor}\n", greek_source.display())).expect("the room is ours");
    toolchain::run(Command::new("gcc").args(["-g", "-shared", "-fPIC", "-DVERSION=2", "-o"]).args([&built, &source]));
    install::by_rename(&built, &greek.installed);
    let output = target.verb(&["reload", Greek::NAME]);
    let told = told(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("the target ended while libgreek.so was reloaded"), "{told}");
    assert!(!told.contains("untouched"), "{told}");
    wait_for("the dashboard's end", || target.dashboard.0.try_wait().expect("our child"));
}

#[test]
fn unknown_targets_and_modules_are_named() {
    let room = Room::new();
    let greek = Greek::new(&room, 1);
    let target = greek_target(&room, &greek);
    let unknown = target.verb(&["reload", "libgrek.so"]);
    let message = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert_ne!(unknown.status.code(), Some(0));
    assert!(message.contains("libgrek.so") && message.contains("libgreek.so"), "no candidates: {message}");
    let gone = room.verb(&["list", "--pid", "4194304"]);
    assert_eq!(gone.status.code(), Some(2), "{}", told(&gone));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("4194304"), "{}", told(&gone));
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn one_reload_while_another_stands_still() {
    let room = Room::new();
    let greek = Greek::new(&room, 3);
    let mut target = greek_target(&room, &greek);
    greek.install(2);
    let mut first = target.reload_up_to("bound", Greek::NAME, Stdio::null());
    let halted =
        deadline::wait_for("the first reload to stand still", || process::halted_below(first.pid(), Some(target.pid)));
    let second = target.verb(&["reload", "--json", Greek::NAME]);
    assert_eq!(target.ask("call together 0"), "111", "{}", told(&second));
    process::signal(halted, libc::SIGCONT);
    let status = deadline::wait_for("the first reload's end", || first.0.try_wait().expect("our child"));
    assert!(status.success(), "{status}");
    assert_eq!(target.ask("call together 0"), "222");
    assert_eq!(target.module(Greek::NAME)["generation"], 1);
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn verbs_beside_auto_mode() {
    const SAVES: u16 = 60;
    let room = Room::new();
    let (mut target, installed, first) = hammered(&room, &[]);
    assert_eq!(target.ask("go 4"), "ok");
    let (pid, saved) = (target.pid.to_string(), AtomicBool::new(false));
    thread::scope(|scope| {
        for verbs in [["list", "rollback"], ["reload", "list"]] {
            let (room, pid, saved) = (&room, &pid, &saved);
            scope.spawn(move || {
                for verb in verbs.into_iter().cycle().take_while(|_| !saved.load(Ordering::Relaxed)) {
                    let module = (verb != "list").then_some("libhammer.so");
                    let words: Vec<&str> = [verb, "--pid", pid].into_iter().chain(module).collect();
                    let output = room.verb(&words);
                    // Whoever was quicker may have left nothing to do: then that is said.
                    assert!(matches!(output.status.code(), Some(0 | 1)), "{words:?}: {}", told(&output));
                }
            });
        }
        for version in 2..=SAVES {
            install::bytes(&stamped(&first, version), &installed);
            thread::sleep(Duration::from_millis(50));
        }
        saved.store(true, Ordering::Relaxed);
    });
    install::bytes(&stamped(&first, SAVES + 1), &installed);
    target.ask_until("version", &(SAVES + 1).to_string());
    let told = target.ask("stop");
    // A rollback goes backwards.
    assert!(told.starts_with("wrong 0 ") && told.ends_with(" miscounted 0 lost 0"), "{told}");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn history_outlives_another_controllers_change() {
    let room = Room::new();
    let greek = Greek::new(&room, 2);
    let mut target = greek_target(&room, &greek);
    greek.install(2);
    let mut first = target.reload_up_to("ended", Greek::NAME, Stdio::null());
    // It may have something else to end before, such as the shielding of a module.
    let halted = deadline::wait_for("the reload to stand still after its commit", || {
        let halted = process::halted_below(first.pid(), Some(target.pid))?;
        let committed = target.ask("call together 0") == "222";
        if !committed {
            process::signal(halted, libc::SIGCONT);
        }
        committed.then_some(halted)
    });
    // The ledger moves on between the commit and its line of history.
    target.done(&["mark", Greek::NAME]);
    process::signal(halted, libc::SIGCONT);
    let status = deadline::wait_for("the reload's end", || first.0.try_wait().expect("our child"));
    assert!(status.success(), "{status}");
    target.event("reloaded", |event| event["module"] == Greek::NAME);
    let row = target.module(Greek::NAME);
    assert!(row["last_ms"].is_number() && row["mark"] == "reload", "{row}");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn overwritten_in_place_while_32_threads_run() {
    let room = Room::new();
    let (mut target, installed, first) = hammered(&room, &[]);
    // Under the eyes of the threads.
    assert_eq!(target.ask("go 32"), "ok");
    let shielded = target.event("shielded", |event| event["module"] == "libhammer.so");
    assert!(shielded["shield"]["bytes"].as_u64() > Some(0) && shielded["shield"]["pause_ms"].is_number(), "{shielded}");
    for version in 2..=6 {
        install::overwrite(&stamped(&first, version), &installed);
        let wanted = usize::from(version) - 1;
        let reached = deadline::until(PATIENCE, || (target.count("reloaded", "libhammer.so") >= wanted).then_some(()));
        assert!(reached.is_some(), "`cp` of version {version} is not reloaded: {:#?}", target.events().last());
        target.ask_until("version", &version.to_string());
        // Nothing left of the file, and every page of it is still there.
        install::overwrite(&[], &installed);
        target.ask_until("version", &version.to_string());
    }
    assert_eq!(target.ask("stop"), "wrong 0 backwards 0 miscounted 0 lost 0");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn overwritten_in_place_without_the_shield() {
    let room = Room::new();
    let (mut target, installed, _) = hammered(&room, &["--no-shield"]);
    target.event("loaded", |event| event["module"] == "libhammer.so");
    target.list();
    assert_eq!(target.count("shielded", "libhammer.so"), 0);
    assert_eq!(target.ask("go 2"), "ok");
    install::overwrite(&[], &installed);
    // This is what the shield is for.
    let status = deadline::wait_for("the target's end", || target.dashboard.0.try_wait().expect("our child"));
    assert!(matches!(status.code(), Some(135 | 139)), "{status}");
}

#[test]
fn shielded_module_is_the_same_to_a_new_dashboard() {
    let room = Room::new();
    let greek = Greek::new(&room, 3);
    let mut target = greek_target(&room, &greek);
    target.event("shielded", |event| event["module"] == Greek::NAME);
    let maps = fs::read_to_string(format!("/proc/{}/maps", target.pid)).expect("the target runs");
    assert!(!maps.contains(&*greek.installed.to_string_lossy()), "a mapping follows the file: {maps}");
    greek.install(2);
    assert_eq!(target.reload_one(Greek::NAME)["outcome"], "reloaded");
    process::signal(target.dashboard.pid(), libc::SIGKILL);
    deadline::wait_for("the killed dashboard's end", || target.dashboard.0.try_wait().expect("our child"));
    install::by_copy(&greek.versions[2], &greek.installed);
    assert_eq!(target.reload_one(Greek::NAME)["outcome"], "reloaded");
    assert_eq!(target.ask("call together 0"), "333");
    target.done(&["rollback", Greek::NAME, "--generation", "0"]);
    assert_eq!(target.ask("call together 0"), "111");
}

#[test]
fn frames_never_mix_versions_at_the_safe_point() {
    const RELOADS: usize = 12;
    let room = Room::new();
    let greek = Greek::new(&room, 2);
    let mut target = room.launch(&host(&room, "frames"), &[]);
    greek.open(&mut target);
    target.event("loaded", |event| event["module"] == Greek::NAME);
    let reload = |target: &mut Launched<'_>, times: usize| {
        for _ in 0..times {
            let generation = target.module(Greek::NAME)["generation"].as_u64().expect("a number");
            greek.install(2 - generation as usize % 2);
            let receipt = target.reload_one(Greek::NAME);
            assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
            assert_eq!(receipt["warnings"].as_array().map(Vec::len), Some(0), "{receipt:#}");
        }
    };
    // Without a safe point some frames are half old, half new.
    assert_eq!(target.ask("go plain"), "ok");
    reload(&mut target, RELOADS);
    let torn: u32 = target.ask("torn").parse().expect("a number");
    assert!(torn > 0, "no frame was torn: this test shows nothing");
    assert_eq!(target.ask("stop"), "ok");

    assert_eq!(target.ask("go safe"), "ok");
    reload(&mut target, RELOADS);
    assert_eq!(target.ask("torn"), "0");
    let frames: u32 = target.ask("frames").parse().expect("a number");
    deadline::wait_for("more frames", || (target.ask("frames").parse::<u32>().ok()? > frames + 5).then_some(()));
    assert_eq!(target.ask("stop"), "ok");

    // A thread that uses the safe point and does not come.
    assert_eq!(target.ask("idle"), "ok");
    target.done(&["attach", "--safepoint-wait", "60", "--safepoint-missed", "refuse"]);
    let generation = target.module(Greek::NAME)["generation"].as_u64().expect("a number");
    greek.install(2 - generation as usize % 2);
    let receipt = target.reload_one(Greek::NAME);
    assert_eq!(receipt["outcome"], "refused", "{receipt:#}");
    assert!(receipt["failure"]["message"].to_string().contains("safe point within 60 ms"), "{receipt:#}");
    target.done(&["attach", "--safepoint-missed", "proceed"]);
    let receipt = target.reload_one(Greek::NAME);
    assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
    assert!(receipt["warnings"].to_string().contains("safe point"), "{receipt:#}");
    assert_eq!(target.ask("stop"), "ok");
    let cost: u32 = target.ask("cost").parse().expect("picoseconds");
    assert!(cost < 100_000, "one call takes {cost} ps");
    eprintln!("a call of the safe point with nothing due: {cost} ps");
    assert_eq!(target.finish(), Some(0));
}
