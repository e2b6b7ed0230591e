//! Executables: programs without libraries of their own, built as their authors build them, edited and rebuilt beside the
//! running process.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use reload_tests::{
    dashboard::{Launched, Room},
    deadline, install,
    package::{Package, number, source},
    toolchain,
};

/// The next line for which this holds.
fn line_where(target: &mut Launched<'_>, wanted: impl Fn(&str) -> bool) -> String {
    let mut line = target.host.line();
    deadline::wait_for("a line that shows the new behaviour", || {
        if wanted(&line) {
            return Some(line.clone());
        }
        line = target.host.line();
        None
    })
}

/// Three edits of a program that `cargo new` could have made, each live after a plain `cargo build`, with auto mode on.
fn plain_program(release: bool) {
    let room = Room::new();
    let package = Package::new(&room, "ticker", &source("ticker.rs"), "", release);
    let mut target = room.launch_silent(&package.program("ticker"), &[]);
    target.done(&["mode", "all"]);
    let first = line_where(&mut target, |line| number(line, "tick") >= 3);
    assert_eq!((number(&first, "version"), number(&first, "step")), (1, 1), "{first}");

    // A function that main calls, through a trait object made by generation 0.
    package.edit(&[("version: 1", "version: 2")]);
    let second = line_where(&mut target, |line| number(line, "version") == 2);
    assert!(number(&second, "tick") > number(&first, "tick"), "the count went on: {second}");
    assert_eq!(number(&second, "tick"), number(&second, "kept"), "map, list and thread-local went on: {second}");

    // What another thread's loop calls.
    package.edit(&[("const STEP: u64 = 1;", "const STEP: u64 = 1000;")]);
    let third = line_where(&mut target, |line| number(line, "step") == 1000);
    line_where(&mut target, |line| number(line, "worker") > number(&third, "worker") + 1000);

    // Several functions at once, one of them new, with a static of its own.
    const EXTRA: &str =
        "fn extra() -> u64 { static CALLS: AtomicU64 = AtomicU64::new(0); CALLS.fetch_add(1, Relaxed).min(1) }";
    package.edit(&[("version: 2", "version: 3 + extra()"), ("fn main(", &format!("{EXTRA}\nfn main("))]);
    let fourth = line_where(&mut target, |line| number(line, "version") == 4);
    assert_eq!(number(&fourth, "tick"), number(&fourth, "kept"), "{fourth}");
    let row = target.module("ticker");
    assert_eq!((&row["class"], &row["status"]), (&"executable".into(), &"current".into()), "{row:#}");
    assert_eq!(row["generation"], 3, "{row:#}");

    target.done(&["mode", "off"]);
    target.done(&["rollback", "ticker"]);
    let back = line_where(&mut target, |line| number(line, "version") == 2);
    assert_eq!(number(&back, "tick"), number(&back, "kept"), "{back}");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn plain_program_debug() {
    plain_program(false);
}

#[test]
fn plain_program_release() {
    plain_program(true);
}

#[test]
fn main_and_thread_functions_take_effect_later() {
    let room = Room::new();
    let package = Package::new(&room, "ticker", &source("ticker.rs"), "", false);
    let target = room.launch_silent(&package.program("ticker"), &[]);
    package.edit(&[("rest(20)", "rest(21)"), ("rest(2)", "rest(3)")]);
    let receipt = target.reload_one("ticker");
    assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
    let warnings = receipt["warnings"].to_string();
    assert!(
        warnings.contains("`ticker::main` is running: its change takes effect when it is next entered"),
        "{warnings}"
    );
    assert!(warnings.contains("`ticker::main::{{closure}}` is what a thread begins with"), "{warnings}");
    // What returns is new at once and needs no word.
    package.edit(&[("weight * 2", "weight * 3")]);
    let receipt = target.reload_one("ticker");
    assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
    assert!(!receipt["warnings"].to_string().contains("next entered"), "{receipt:#}");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn what_was_inlined_into_main_is_named() {
    let room = Room::new();
    let package = Package::new(&room, "ticker", &source("ticker.rs"), "[profile.release]\ndebug = true\n", true);
    let target = room.launch_silent(&package.program("ticker"), &[]);
    package.edit(&[("from_millis(milliseconds)", "from_millis(milliseconds * 2)")]);
    let receipt = target.reload_one("ticker");
    assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
    let warnings = receipt["warnings"].as_array().expect("a list");
    let of_main =
        warnings.iter().filter_map(|line| line.as_str()).find(|line| line.starts_with("`ticker::main` is running"));
    assert!(of_main.is_some_and(|line| line.contains("inlined into it: `ticker::rest`")), "{warnings:#?}");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn thread_function_of_c_takes_effect_later() {
    let room = Room::new();
    let installed = room.path().join("host");
    let source = toolchain::hosts().join("host.c");
    let original = fs::read_to_string(&source).expect("a source of ours");
    toolchain::program(&source, &["-O1"], &installed);
    let target = room.launch(&installed, &[]);
    let edited = room.path().join("host.c");
    fs::write(&edited, original.replace("((function)f)(1)", "((function)f)(2)")).expect("the folder is ours");
    let next = room.path().join("built/host");
    toolchain::program(&edited, &["-O1"], &next);
    install::by_rename(&next, &installed);
    let receipt = target.reload_one("host");
    assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
    assert!(receipt["warnings"].to_string().contains("`call_without_end` is what a thread begins with"), "{receipt:#}");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn thread_function_of_cpp_takes_effect_later() {
    const SOURCE: &str = "#include <atomic>\n#include <chrono>\n#include <cstdio>\n#include <thread>\n\
        static std::atomic<bool> over;\nstatic long rounds;\n\
        static void work() { while (!over) { rounds += 1; std::this_thread::sleep_for(std::chrono::milliseconds(1)); } }\n\
        int main() { std::thread thread(work); while (std::getchar() != EOF) {} over = true; thread.join(); }\n";
    for optimisation in ["-O0", "-O1"] {
        let room = Room::new();
        let [source, installed, next] = ["worker.cpp", "worker", "built/worker"].map(|name| room.path().join(name));
        let build = |text: &str, output: &Path| {
            fs::write(&source, text).expect("the folder is ours");
            toolchain::program(&source, &[optimisation], output);
        };
        build(SOURCE, &installed);
        let target = room.launch_silent(&installed, &[]);
        build(&SOURCE.replace("+= 1;", "+= 1000;"), &next);
        install::by_rename(&next, &installed);
        let receipt = target.reload_one("worker");
        assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
        assert!(receipt["warnings"].to_string().contains("`work()` is what a thread begins with"), "{receipt:#}");
        assert_eq!(target.finish(), Some(0));
    }
}

#[test]
fn program_at_a_fixed_address_is_refused() {
    let room = Room::new();
    let installed = room.path().join("host");
    toolchain::program(&toolchain::hosts().join("host.c"), &["-no-pie"], &installed);
    let mut target = room.launch(&installed, &[]);
    let next = room.path().join("next");
    toolchain::program(&toolchain::hosts().join("host.c"), &["-no-pie", "-DNEXT=1", "-O1"], &next);
    fs::rename(&next, &installed).expect("the folder is ours");
    let receipt = target.reload_one("host");
    assert_eq!(receipt["outcome"], "refused", "{receipt:#}");
    let failure = &receipt["failure"];
    assert!(failure["message"].as_str().is_some_and(|text| text.contains("ET_EXEC")), "{failure:#}");
    assert!(failure["trace"].to_string().contains("position-independent"), "no remedy: {failure:#}");
    assert_eq!(target.ask("seen"), "0");
    assert_eq!(target.finish(), Some(0));
}

/// A file that a searching ripgrep waits for: it is as long as the test lets it be.
struct Feed {
    path: PathBuf,
    /// Also its own reader, so that opening it waits for nobody.
    file: fs::File,
}

impl Feed {
    fn new(room: &Room, name: &str) -> Self {
        let path = room.path().join(name);
        toolchain::run(Command::new("mkfifo").arg(&path));
        let file = fs::OpenOptions::new().read(true).write(true).open(&path).expect("just made");
        Feed { path, file }
    }

    fn write(&mut self, line: &str) {
        writeln!(self.file, "{line}").expect("there is room in a pipe");
    }
}

#[test]
fn ripgrep_reloads_while_it_searches() {
    const SEARCH: &str = "self.search_path(path)\n        }\n    }";
    let room = Room::new();
    let package = Package::published(&room, "ripgrep", "15.1.0", false, "");
    let mut feeds = ["first", "second", "third", "fourth"].map(|name| Feed::new(&room, name));
    let mut arguments = vec!["-j1", "--no-mmap", "--no-config", "--line-buffered", "--stats", "needle"];
    let paths: Vec<String> = feeds.iter().map(|feed| feed.path.display().to_string()).collect();
    arguments.extend(paths.iter().map(String::as_str));
    let mut target = room.launch_silent(&package.program("rg"), &arguments);
    target.done(&["mode", "all"]);

    let mut expected = SEARCH.to_owned();
    for (round, feed) in feeds.iter_mut().enumerate() {
        feed.write("no match\nneedle before");
        let line = target.host.line_where(|line| line.contains(":needle before").then(|| line.to_owned()));
        assert!(line.starts_with(&feed.path.display().to_string()), "{line}");
        let announced = target.host.said.iter().filter(|line| line.starts_with("round ")).count();
        assert_eq!(announced, round, "each file is opened by the code of its round: {:?}", target.host.said);

        let next =
            SEARCH.replace("self.", &format!("println!(\"round {} {{path:?}}\");\n            self.", round + 1));
        package.edit_file("crates/core/search.rs", &[(&expected, &next)]);
        expected = next;
        let reached = || (target.count("reloaded", "rg") == round + 1).then_some(());
        deadline::wait_for("the reload", reached);
        // The functions that read this file are on the stack, in the code they began in.
        feed.write("needle after");
        target.host.line_where(|line| line.contains(":needle after").then_some(()));
        feed.file = fs::File::open("/dev/null").expect("it is everywhere");
    }
    let matches = target.host.line_where(|line| line.ends_with(" matches").then(|| line.to_owned()));
    assert_eq!(matches, "8 matches", "the count went on through all generations");
    assert_eq!(target.finish(), Some(0));
}

/// Hyperfine benchmarks a command for 40 runs, and every tenth of them waits until it has been edited, rebuilt and reloaded: so
/// it is known of each run which generation measured it.
fn hyperfine_reloads_while_it_benchmarks(release: bool) {
    const MEASURED: &str = "        time_real,\n        time_user,";
    const ITERATION: &str = "    if let Some(value) = iteration.to_env_var_value() {";
    const SUMMARY: &str = "&HyperfineSummary { results }";
    let room = Room::new();
    // Its authors' release is optimised across all crates and stripped, which takes half a minute for each build.
    let settings = "[profile.release]\nlto = false\ncodegen-units = 16\nstrip = false\nincremental = true\n";
    let package = Package::published(&room, "hyperfine", "1.20.0", release, settings);
    let mut gate = Feed::new(&room, "gate");
    let json = room.path().join("times.json").display().to_string();
    let command = format!(
        "sh -c 'echo \"run $HYPERFINE_ITERATION by ${{ROUND-authors}}\"; sleep 0.05; \
         case $HYPERFINE_ITERATION in *9) read go <{};; esac'",
        gate.path.display()
    );
    let arguments = ["-N", "--runs", "40", "--show-output", "--export-json", &json, &command];
    let mut target = room.launch_silent(&package.program("hyperfine"), &arguments);

    let (mut measured, mut round) = (MEASURED.to_owned(), String::new());
    for generation in 0..4 {
        for run in generation * 10..generation * 10 + 10 {
            // The second edit brings a static that counts its runs, which goes on in the third.
            let by = if generation < 2 { "authors".to_owned() } else { format!("{generation}:{}", run - 19) };
            let line = target.host.line_where(|line| line.starts_with("run ").then(|| line.to_owned()));
            assert_eq!(line, format!("run {run} by {by}"));
        }
        let next = generation + 1;
        if next < 4 {
            // What measures each run: the thousands tell who did it.
            let edited = MEASURED.replace("time_real", &format!("time_real: time_real + {next}000.0"));
            package.rewrite("src/timer/mod.rs", &[(&measured, &edited)]);
            measured = edited;
        }
        match next {
            2 => {
                round = format!(
                    "    static RUNS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);\n    \
                     let runs = RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);\n    \
                     command.env(\"ROUND\", format!(\"2:{{runs}}\"));\n{ITERATION}"
                );
                package.rewrite("src/benchmark/executor.rs", &[(ITERATION, &round)]);
            }
            3 => {
                package.rewrite("src/benchmark/executor.rs", &[(&round, &round.replace("2:{runs}", "3:{runs}"))]);
                // What is called once all is over, with everything that has been collected since the start.
                let fields =
                    ("results: &'a [BenchmarkResult],\n}", "results: &'a [BenchmarkResult],\n    reloads: u32,\n}");
                package
                    .rewrite("src/export/json.rs", &[fields, (SUMMARY, "&HyperfineSummary { results, reloads: 3 }")]);
            }
            _ => {}
        }
        if next < 4 {
            package.build();
            let receipt = target.reload_one("hyperfine");
            assert_eq!(receipt["outcome"], "reloaded", "{receipt:#}");
            assert_eq!(receipt["generation"], next, "{receipt:#}");
            assert_eq!(receipt["statics"]["reset"], 0, "{receipt:#}");
        }
        gate.write("go");
    }
    let words = target.host.last_words().join("\n");
    assert!(words.contains("40 runs"), "{words}");
    assert_eq!(target.finish(), Some(0));
    let exported = fs::read_to_string(&json).expect("it was exported");
    let exported: serde_json::Value =
        serde_json::from_str(&exported).unwrap_or_else(|error| panic!("{error}: {exported}"));
    assert_eq!(exported["reloads"], 3, "{exported:#}");
    let result = &exported["results"][0];
    let of = |name: &str| result[name].as_array().unwrap_or_else(|| panic!("no {name} in {exported:#}")).clone();
    let times: Vec<f64> = of("times").iter().map(|time| time.as_f64().expect("seconds")).collect();
    let measured_by: Vec<usize> = times.iter().map(|time| *time as usize / 1000).collect();
    assert_eq!(measured_by, (0..40).map(|run| run / 10).collect::<Vec<_>>(), "{times:?}");
    assert!(times.iter().all(|time| time % 1000.0 >= 0.05), "each run slept: {times:?}");
    assert_eq!(of("exit_codes"), vec![serde_json::Value::from(0); 40]);
    assert_eq!(of("memory_usage_byte").len(), 40);
}

#[test]
fn hyperfine_debug_reloads_while_it_benchmarks() {
    hyperfine_reloads_while_it_benchmarks(false);
}

#[test]
fn hyperfine_release_reloads_while_it_benchmarks() {
    hyperfine_reloads_while_it_benchmarks(true);
}

/// A client with a connection of its own that asks without end; `newest` is the version that answered last. Panics at an
/// answer that is wrong or missing.
fn client(port: u64, ended: &AtomicBool, newest: &AtomicU64) -> u64 {
    let mut stream = TcpStream::connect(("127.0.0.1", port as u16)).expect("the server listens");
    stream.set_read_timeout(Some(deadline::PATIENCE)).expect("a valid time");
    let mut asked = 0;
    while !ended.load(Relaxed) {
        asked += 1;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").expect("the server reads");
        let mut answer = Vec::new();
        let mut piece = [0; 512];
        while !answer.ends_with(b"\n") || !answer.windows(4).any(|window| window == b"\r\n\r\n") {
            let len = stream.read(&mut piece).expect("the server answers in time");
            assert!(len > 0, "the server hung up after {asked} requests");
            answer.extend_from_slice(&piece[..len]);
        }
        let answer = String::from_utf8(answer).expect("text");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let line = answer.lines().last().expect("a body");
        assert_eq!(number(line, "requests"), asked, "{answer}");
        // An answer that was begun before the reload may be half of each.
        if number(line, "version") == number(line, "inside") {
            newest.store(number(line, "version"), Relaxed);
        }
    }
    asked
}

#[test]
fn server_under_load_through_20_reloads() {
    const RELOADS: usize = 20;
    let room = Room::new();
    let tokio = "tokio = { version = \"1\", features = [\"io-std\", \"io-util\", \"macros\", \"net\", \"rt-multi-thread\", \"time\"] }\n";
    let package = Package::new(&room, "server", &source("server.rs"), tokio, false);
    let installed = package.program("server");
    // A function and the body of a live task's future.
    let edit = |old: u64, new: u64| {
        let versions = [old, new].map(|it| (format!("    {it}\n}}"), format!("inside={it} ")));
        package.edit(&[(&versions[0].0, &versions[1].0), (&versions[0].1, &versions[1].1)]);
        let kept = room.path().join(format!("server-{new}"));
        fs::copy(&installed, &kept).expect("the folder is ours");
        kept
    };
    let kept = [edit(1, 2), edit(2, 3), edit(3, 1)];
    let mut target = room.launch_silent(&installed, &[]);
    target.done(&["mode", "all"]);
    let port = number(&target.host.line(), "port");
    let (ended, newest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (ended, newest) = (ended.clone(), newest.clone());
            thread::spawn(move || client(port, &ended, &newest))
        })
        .collect();
    for reload in 0..RELOADS {
        let version = [2, 3, 1][reload % 3];
        install::by_hard_link(&kept[reload % 3], &installed);
        deadline::wait_for("an answer of the new version", || {
            assert!(!clients.iter().any(thread::JoinHandle::is_finished), "a client has failed");
            (newest.load(Relaxed) == version).then_some(())
        });
    }
    // A variable that lives across an await changes the layout of futures that live.
    const COUNT: &str = "let requests = count(sessions, connection).await;";
    let longer =
        format!("let kept = [connection; 9];\n    {COUNT}\n    let requests = requests + kept[8] - connection;");
    package.edit(&[(COUNT, &longer)]);
    let refused = target.event("refused", |event| event["module"] == "server");
    assert!(refused["receipt"]["failure"]["trace"].to_string().contains("answer"), "{refused:#}");
    ended.store(true, Relaxed);
    let asked: Vec<u64> = clients.into_iter().map(|client| client.join().expect("no request failed")).collect();
    assert!(asked.iter().all(|asked| *asked > RELOADS as u64), "{asked:?}");
    assert_eq!(target.count("reloaded", "server"), RELOADS);
    assert_eq!(target.finish(), Some(0));
}
