//! Python extensions in a live interpreter: each kind through three generations and back, and what may go wrong on the way.
//!
//! What must hold is in `tests/python/checks.py`, the same for every kind; it holds on to functions, bound methods and
//! instances from the beginning.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use reload_tests::{
    dashboard::{Launched, Room, Running, receipts, told},
    deadline, install, process,
    program::Conversation,
    skip::{is_root, skip},
    stranger::{self, Stranger},
    toolchain,
};
use serde_json::Value;

const PYTHON: &str = "/usr/bin/python3";
const NAME: &str = "meter.so";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

/// What the module is written with.
#[derive(Clone, Copy)]
enum Kind {
    /// With these flags.
    C(&'static [&'static str]),
    Pybind11,
    Cython,
    /// For the stable ABI, or for this interpreter's own.
    Pyo3 {
        stable: bool,
    },
}

/// The module in version 1 beside the host, and the files of the other versions.
struct Meter<'a> {
    room: &'a Room,
    kind: Kind,
}

impl<'a> Meter<'a> {
    fn new(room: &'a Room, kind: Kind) -> Self {
        for name in ["host.py", "checks.py"] {
            fs::copy(fixtures().join(name), room.path().join(name)).expect("the folder is ours");
        }
        let meter = Meter { room, kind };
        meter.install(1);
        meter
    }

    fn install(&self, version: u32) {
        self.install_with(version, &[]);
    }

    fn install_with(&self, version: u32, flags: &[&str]) {
        let built = self.room.path().join("built").join(NAME);
        let macro_of_version = format!("-DVERSION={version}");
        match self.kind {
            Kind::C(own) => {
                compile("gcc", &fixtures().join("meter.c"), &[own, flags, &[&macro_of_version]].concat(), &built)
            }
            Kind::Pybind11 => {
                let own = ["-std=c++17", "-fvisibility=hidden", &macro_of_version];
                compile("g++", &fixtures().join("meter.cpp"), &[&own, flags].concat(), &built);
            }
            Kind::Cython => cython(version, &self.room.path().join("built"), &built),
            Kind::Pyo3 { stable } => {
                fs::copy(pyo3(version, stable), &built).expect("just built");
            }
        }
        install::by_rename(&built, &self.room.path().join(NAME));
    }

    fn launch(&self, more: &[&str]) -> Launched<'a> {
        let host = self.room.path().join("host.py").display().to_string();
        let target = self.room.launch(Path::new(PYTHON), &[&[&*host, "meter"], more].concat());
        // A file that is replaced before the dashboard has seen what was loaded cannot be compared any more.
        target.event("attached", |_| true);
        deadline::wait_for("the dashboard to see the module", || {
            let list = target.list();
            list["modules"].as_array().is_some_and(|all| all.iter().any(|module| module["name"] == NAME)).then_some(())
        });
        target
    }
}

fn compile(compiler: &str, source: &Path, flags: &[&str], output: &Path) {
    static INCLUDE: OnceLock<String> = OnceLock::new();
    let include = INCLUDE.get_or_init(|| {
        let mut command = Command::new(PYTHON);
        command.args(["-c", "import sysconfig; print(sysconfig.get_paths()['include'])"]);
        let output = command.output().expect("python3 is installed");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    });
    let mut command = Command::new(compiler);
    command.args(["-shared", "-fPIC", "-w", "-I", include]).args(flags).arg(source).arg("-o").arg(output);
    toolchain::run(&mut command);
}

/// Keeps the lines of one version: the others end with a `#` and the versions they belong to.
fn cython(version: u32, folder: &Path, output: &Path) {
    let text = fs::read_to_string(fixtures().join("meter.pyx")).expect("a fixture");
    let digit = version.to_string();
    let kept = text.lines().filter_map(|line| match line.rsplit_once(" #") {
        Some((code, versions)) if versions.bytes().all(|byte| byte.is_ascii_digit()) => {
            versions.contains(&digit).then_some(code)
        }
        _ => Some(line),
    });
    let source = folder.join("meter.pyx");
    fs::write(&source, kept.collect::<Vec<_>>().join("\n")).expect("the folder is ours");
    toolchain::run(Command::new("cython3").arg(&source));
    compile("gcc", &folder.join("meter.c"), &["-g", "-O1"], output);
}

/// All versions are built once, one after the other: only the last crate is compiled anew.
fn pyo3(version: u32, stable: bool) -> PathBuf {
    static VERSIONS: [OnceLock<Vec<PathBuf>>; 2] = [const { OnceLock::new() }; 2];
    let all = VERSIONS[usize::from(stable)].get_or_init(|| {
        let name = if stable { "meter_pyo3_stable" } else { "meter_pyo3" };
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let build = |version: u32| {
            let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            command.args(["rustc", "--quiet", "--locked", "--lib", "--manifest-path"]);
            command.arg(fixtures().join("meter_pyo3/Cargo.toml")).arg("--target-dir").arg(&folder);
            command.args(if stable { &["--features", "stable_abi"][..] } else { &[] });
            command.args(["--", "--cfg", &format!("v{version}")]).env("PYO3_PYTHON", PYTHON);
            toolchain::run(&mut command);
            let built = folder.join(format!("meter-{version}.so"));
            fs::copy(folder.join("debug/libmeter.so"), &built).expect("just built");
            built
        };
        (1..=3).map(build).collect()
    });
    all[version as usize - 1].clone()
}

/// Version by version, back twice, and over two at once; functions, methods, instances and statics are held throughout.
fn through_all_versions(kind: Kind) {
    let room = Room::new();
    let meter = Meter::new(&room, kind);
    let mut target = meter.launch(&[]);
    assert_eq!(target.ask("at 1"), "fine");
    for version in 2..=3 {
        meter.install(version);
        let receipt = target.reload_one(NAME);
        assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
        assert_eq!(target.ask(&format!("at {version}")), "fine", "{receipt:#}");
        tells(&receipt, version);
    }
    for version in [2, 1] {
        target.done(&["rollback", NAME]);
        assert_eq!(target.ask(&format!("at {version}")), "fine", "rolled back");
    }
    meter.install(1);
    target.reload(&[NAME]);
    assert_eq!(target.ask("at 1"), "fine");
    meter.install(3);
    let receipt = target.reload_one(NAME);
    assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
    assert_eq!(target.ask("at 3"), "fine", "{receipt:#}");
    if let Kind::C(_) = kind {
        assert_eq!(target.ask("again 3"), "fine");
    }
    assert_eq!(target.ask("soak 3000"), "fine");
    assert_eq!(target.finish(), Some(0));
}

/// The receipt names what came and went, as Python names it.
fn tells(receipt: &Value, version: u32) {
    let python = &receipt["details"]["python"];
    let names = |what: &str| -> Vec<String> {
        let names = python[what].as_array().unwrap_or_else(|| panic!("no `{what}` in {receipt:#}"));
        names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let (added, removed): (&[&str], &[&str]) = match version {
        2 => (&["calibrate", "Probe.back", "Probe.twice"], &[]),
        _ => (&["Probe.__len__", "Gauge"], &["retired", "Probe.legacy"]),
    };
    assert!(added.iter().all(|name| names("added").iter().any(|found| found == name)), "{receipt:#}");
    assert!(removed.iter().all(|name| names("removed").iter().any(|found| found == name)), "{receipt:#}");
    assert_eq!(names("types"), ["Probe"], "{receipt:#}");
}

#[test]
fn c_with_static_types_in_one_phase() {
    through_all_versions(Kind::C(&["-g", "-O0"]));
}

#[test]
fn c_with_heap_types_in_one_phase() {
    through_all_versions(Kind::C(&["-g", "-O1", "-DHEAP_TYPES"]));
}

#[test]
fn c_with_heap_types_in_several_phases() {
    through_all_versions(Kind::C(&["-O2", "-DHEAP_TYPES", "-DMULTI_PHASE"]));
}

#[test]
fn pybind11() {
    through_all_versions(Kind::Pybind11);
}

#[test]
fn pyo3_crate() {
    through_all_versions(Kind::Pyo3 { stable: false });
}

#[test]
#[ignore = "functions that a version for the stable ABI adds do not appear in the module yet"]
fn pyo3_crate_for_the_stable_abi() {
    through_all_versions(Kind::Pyo3 { stable: true });
}

/// What `install_with` has put into the room, in another place too.
fn attached_and_through_all_versions(room: &Room, mut target: Stranger<'_>, pid: u32, place: &Path) {
    let verb = |arguments: &[&str]| stranger::verb(room, pid, arguments);
    let attached = verb(&["attach"]);
    assert!(attached.status.success(), "{}", told(&attached));
    assert_eq!(target.ask("at 1"), "fine");
    let meter = Meter { room, kind: Kind::C(&["-g", "-O1", "-DHEAP_TYPES"]) };
    for version in 2..=3 {
        meter.install(version);
        install::by_rename(&room.path().join("built").join(NAME), place);
        let receipt = receipts(&verb(&["reload", "--json", NAME])).remove(0);
        assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
        assert_eq!(target.ask(&format!("at {version}")), "fine", "{receipt:#}");
        tells(&receipt, version);
    }
    assert!(verb(&["rollback", NAME]).status.success());
    assert_eq!(target.ask("at 2"), "fine");
    assert_eq!(target.ask("soak 1000"), "fine");
}

#[test]
fn interpreter_that_ran_before_the_dashboard_came() {
    let room = Room::new();
    Meter::new(&room, Kind::C(&["-g", "-O1", "-DHEAP_TYPES"]));
    let host = room.path().join("host.py").display().to_string();
    let target = Stranger::ready(&room, PYTHON, &[&host, "meter"]);
    let pid = target.pid();
    attached_and_through_all_versions(&room, target, pid, &room.path().join(NAME));
}

#[test]
fn interpreter_in_a_container() {
    if !is_root() {
        return skip("interpreter_in_a_container", "only root may mount file systems");
    }
    let room = Room::new();
    Meter::new(&room, Kind::C(&["-g", "-O1", "-DHEAP_TYPES"]));
    let script =
        "mount -t tmpfs none /mnt && cp \"$1\"/*.py \"$1\"/meter.so /mnt && cd /mnt && exec \"$2\" host.py meter";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script, "sh"]);
    command.arg(room.path()).arg(PYTHON);
    let mut target = Stranger::spawn(&room, &mut command);
    target.host.line_where(|line| line.starts_with("ready ").then_some(()));
    let pid = deadline::wait_for("the interpreter", || process::family(target.pid()).get(1).copied());
    let place = PathBuf::from(format!("/proc/{pid}/root/mnt/{NAME}"));
    attached_and_through_all_versions(&room, target, pid, &place);
}

#[test]
fn second_interpreter_in_the_process() {
    let room = Room::new();
    let meter = Meter::new(&room, Kind::C(&["-g"]));
    let mut target = meter.launch(&[]);
    assert_eq!(target.ask("second_interpreter 1"), "done");
    meter.install(2);
    let receipt = target.reload_one(NAME);
    assert_eq!(receipt["outcome"], "refused", "{receipt:#}");
    assert!(receipt["failure"]["message"].to_string().contains("2 interpreters"), "{receipt:#}");
    assert_eq!(target.ask("at 1"), "fine", "{receipt:#}");
    assert_eq!(target.ask("second_interpreter 0"), "done");
    assert_eq!(target.reload_one(NAME)["outcome"], "reloaded");
    assert_eq!(target.ask("at 2"), "fine");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn cython_module() {
    through_all_versions(Kind::Cython);
}

#[test]
fn main_thread_never_rests() {
    let room = Room::new();
    let meter = Meter::new(&room, Kind::C(&["-g"]));
    let mut target = meter.launch(&["busy"]);
    for version in 1..=3 {
        if version > 1 {
            meter.install(version);
            let receipt = target.reload_one(NAME);
            assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
        }
        let spun: u64 = target.ask("spun").parse().expect("a number");
        deadline::wait_for("the main thread to go on", || {
            (target.ask("spun").parse::<u64>().expect("a number") > spun + 1000).then_some(())
        });
        assert_eq!(target.ask(&format!("at {version}")), "fine");
    }
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn initialiser_raises() {
    let room = Room::new();
    let meter = Meter::new(&room, Kind::C(&["-g", "-DHEAP_TYPES"]));
    let mut target = meter.launch(&[]);
    meter.install_with(2, &["-DRAISES"]);
    let receipt = target.reload_one(NAME);
    assert_eq!((&receipt["outcome"], &receipt["failure"]["stage"]), (&"failed".into(), &"adapt".into()), "{receipt:#}");
    let trace: Vec<&str> =
        receipt["failure"]["trace"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert!(trace.contains(&"ValueError: the meter is not plugged in"), "{receipt:#}");
    assert_eq!(target.ask("at 1"), "fine", "{receipt:#}");
    assert_eq!(target.ask("soak 1000"), "fine");
    meter.install(2);
    let receipt = target.reload_one(NAME);
    assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
    assert_eq!(target.ask("at 2"), "fine", "{receipt:#}");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn instances_grew() {
    let room = Room::new();
    // Without type information, which would tell before the interpreter is asked.
    let meter = Meter::new(&room, Kind::C(&["-O1"]));
    let mut target = meter.launch(&[]);
    meter.install_with(2, &["-DGROWN"]);
    let receipt = target.reload_one(NAME);
    assert_eq!(receipt["outcome"], "refused", "{receipt:#}");
    let message = receipt["failure"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("Probe") && message.contains("tp_basicsize 24 -> 32"), "{receipt:#}");
    assert_eq!(target.ask("at 1"), "fine");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn interpreter_held_by_one_call() {
    let room = Room::new();
    let meter = Meter::new(&room, Kind::C(&["-g"]));
    let mut target = meter.launch(&[]);
    meter.install(2);
    target.host.tell("busy 1500");
    let receipt = target.reload_one(NAME);
    assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
    assert_eq!(target.host.answer(), "done");
    assert_eq!(target.ask("at 2"), "fine");
    meter.install(3);
    target.host.tell("busy 9000");
    let receipt = target.reload_one(NAME);
    assert_eq!(receipt["outcome"], "failed", "{receipt:#}");
    assert!(receipt["failure"]["message"].to_string().contains("busy in one call"), "{receipt:#}");
    assert_eq!(target.host.answer(), "done");
    assert_eq!(target.ask("at 2"), "fine");
    assert_eq!(target.reload_one(NAME)["outcome"], "reloaded");
    assert_eq!(target.ask("at 3"), "fine");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn dashboard_killed_while_the_interpreter_waits() {
    let room = Room::new();
    let meter = Meter::new(&room, Kind::C(&["-g"]));
    let mut target = meter.launch(&[]);
    meter.install(2);
    let verb = target.reload_up_to("adapted", NAME, Stdio::null());
    deadline::wait_for("the dashboard to stand still", || (process::state(verb.pid()) == Some('T')).then_some(()));
    process::end(verb.pid());
    assert_eq!(target.ask("at 1"), "fine");
    let receipt = target.reload_one(NAME);
    assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
    assert_eq!(target.ask("at 2"), "fine");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn jupyter_kernel_with_autoreload() {
    let room = Room::new();
    let meter = Meter::new(&room, Kind::Pybind11);
    let connection = room.path().join("kernel.json");
    let folder = room.path().join("ipython");
    fs::create_dir(&folder).expect("the folder is ours");
    let folder = format!("--ipython-dir={}", folder.display());
    let arguments = ["-m", "ipykernel_launcher", "-f", &connection.display().to_string(), &folder];
    let target = room.launch_silent(Path::new(PYTHON), &arguments);
    deadline::wait_for("the kernel", || connection.exists().then_some(()));
    let mut client = Command::new(PYTHON);
    client.arg(fixtures().join("client.py")).arg(&connection).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = Running(client.spawn().expect("python3 is installed"));
    let mut notebook = Conversation::new(client.0.stdin.take().expect("piped"), client.0.stdout.take().expect("piped"));
    notebook.line_where(|line| (line == "ready").then_some(()));

    let path = room.path().display();
    assert_eq!(notebook.ask("%load_ext autoreload"), "");
    assert_eq!(notebook.ask("%autoreload 2"), "");
    assert_eq!(notebook.ask(&format!("import sys; sys.path.insert(0, '{path}'); import checks, meter")), "");
    assert_eq!(notebook.ask("checks.begin(meter); print(checks.at(1))"), "fine");
    target.event("loaded", |event| event["module"] == NAME);
    target.done(&["mode", "all"]);
    for version in 2..=3 {
        meter.install(version);
        target.event("reloaded", |event| event["receipt"]["generation"] == version - 1);
        assert_eq!(notebook.ask(&format!("print(checks.at({version}))")), "fine");
    }
    assert_eq!(notebook.ask("checks.soak(1000)"), "'fine'");
    assert_eq!(notebook.ask("meter.retired"), "AttributeError: module 'meter' has no attribute 'retired'");
    let event = target.event("reloaded", |_| true);
    assert_eq!(event["receipt"]["details"]["stop"], "ptrace", "{event:#}");
    notebook.close();
    deadline::wait_for("the notebook's end", || client.0.try_wait().expect("our child"));
}
