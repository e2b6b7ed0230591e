//! What it costs while nothing happens: processor time, wake-ups of the agent, memory in the target.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use reload_engine::target::link::AgentLink;

use crate::{
    libraries::{Changed, Language, Library},
    report::Report,
    subject::{Save, Subject, caller},
    work_folder,
};

const MODULES: usize = 500;
const IDLE: Duration = Duration::from_secs(10);
/// Longer than the pauses of what is done again and again. What follows from opening the modules is over once the agent has
/// slept so long.
const SETTLE: Duration = Duration::from_secs(6);
const MOST_SETTLES: u32 = 20;
/// Megabytes.
const MOST_OF_AGENT: f64 = 1.5;
const RELOADS: usize = 20;

/// Watches many modules and does nothing.
pub fn measure(report: &mut Report) {
    eprintln!("idle...");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let libraries = copies(MODULES, folder.path());
    let mut tool = Subject::tool(&caller());
    tool.open(libraries.iter().map(PathBuf::as_path));
    let agent = AgentLink::connect(tool.target).expect("it has one").welcome().agent_threads.clone();
    assert!(!agent.is_empty(), "an agent without threads");
    let woken = || agent.iter().map(|id| switches(tool.target, *id) + processor_of(tool.target, *id)).sum::<f64>();
    eprintln!("idle: until nothing happens any more...");
    for _ in 0..MOST_SETTLES {
        let before = woken();
        thread::sleep(SETTLE);
        if woken() == before {
            break;
        }
    }
    let look = || {
        let woken = agent.iter().map(|id| switches(tool.target, *id)).sum::<f64>();
        (ticks(tool.pid()), processor_ms(tool.pid()), all_switches(tool.pid()), woken)
    };
    let before = look();
    thread::sleep(IDLE);
    let after = look();
    let about = |what: &str| format!("idle, {MODULES} modules watched, {} s: {what}", IDLE.as_secs());
    report.figure(about("dashboard's processor time"), after.0 - before.0, "ticks", Some(0.0));
    report.figure(about("the same"), after.1 - before.1, "ms", None);
    report.figure(about("dashboard's wake-ups"), after.2 - before.2, "", None);
    report.figure(about("agent's wake-ups"), after.3 - before.3, "", Some(0.0));
}

/// What the agent, and then each reload, adds to the target.
pub fn measure_memory(report: &mut Report) {
    eprintln!("memory...");
    let mut plain = Subject::start(&mut Command::new(caller()));
    let without = once_started(&mut plain, |subject| resident_mb(subject.pid()));
    let mut tool = Subject::tool(&caller());
    let with = once_started(&mut tool, |subject| resident_mb(subject.target));
    report.figure("memory that the agent adds to the target, resident", with.0 - without.0, "MB", Some(MOST_OF_AGENT));
    report.figure("the same, pages shared with others counted in part", with.1 - without.1, "MB", None);

    let cases = [
        (Language::C, 2_000, Changed::One),
        (Language::C, 2_000, Changed::All),
        (Language::Rust, 2_000, Changed::One),
        (Language::C, 10_000, Changed::One),
    ];
    for (language, functions, changed) in cases {
        eprintln!("memory of {RELOADS} reloads, {language:?}, {functions} functions, {changed:?} changed...");
        let library = Library::build(language, functions, &work_folder());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut save = Save::first(&library, changed, folder.path());
        let mut tool = Subject::tool_on(&save);
        save.measure(&mut tool);
        let before = resident_mb(tool.target);
        for _ in 0..RELOADS {
            save.measure(&mut tool);
        }
        let each = (resident_mb(tool.target).0 - before.0) / RELOADS as f64;
        let size = fs::metadata(save.path()).expect("just written").len() as f64 / 1e6;
        let about = format!("memory that a reload adds to the target, {}, {changed:?}", library.name);
        report.figure(about, each, "MB", Some(size));
    }
}

/// Many libraries of one function, in one folder.
pub fn copies(count: usize, folder: &Path) -> Vec<PathBuf> {
    let bytes = Library::build(Language::C, 1, &work_folder()).version(1, Changed::One);
    let write = |index: usize| {
        let path = folder.join(format!("libmodule{index}.so"));
        fs::write(&path, &bytes).expect("the folder is ours");
        path
    };
    (0..count).map(write).collect()
}

fn once_started<T>(subject: &mut Subject, look: impl Fn(&Subject) -> T) -> T {
    // An answer proves that it runs; what is left to do at the start has been done a moment later.
    assert!(subject.talk.ask("gap").parse::<u64>().is_ok());
    thread::sleep(Duration::from_secs(1));
    look(subject)
}

/// Resident and proportional set size (proc_pid_smaps(5)).
fn resident_mb(pid: u32) -> (f64, f64) {
    let text = read(&format!("/proc/{pid}/smaps_rollup"));
    let field = |name| number_after(&text, name) * 1024.0 / 1e6;
    (field("Rss:"), field("Pss:"))
}

/// User and system time of a process (proc_pid_stat(5), fields 14 and 15).
fn ticks(pid: u32) -> f64 {
    let stat = read(&format!("/proc/{pid}/stat"));
    let after_name = stat.rsplit_once(')').expect("a name in brackets").1;
    after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().expect("a number")).sum()
}

/// The same, finer: from the scheduler's own account of each thread.
pub fn processor_ms(pid: u32) -> f64 {
    threads(pid).into_iter().map(|thread| processor_of(pid, thread)).sum()
}

/// None of a thread that has ended.
fn processor_of(pid: u32, thread: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")).unwrap_or_default();
    text.split_whitespace().next().map_or(0.0, |time| time.parse::<f64>().expect("nanoseconds")) / 1e6
}

fn all_switches(pid: u32) -> f64 {
    threads(pid).into_iter().map(|thread| switches(pid, thread)).sum()
}

/// How often a thread has gone to sleep by itself, and so has been woken.
fn switches(pid: u32, thread: u32) -> f64 {
    number_after(&read(&format!("/proc/{pid}/task/{thread}/status")), "voluntary_ctxt_switches:")
}

fn threads(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn number_after(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
