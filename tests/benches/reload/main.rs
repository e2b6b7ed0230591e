//! How long a reload takes, from a complete file in place to the first call that returns the new value: the tool with its
//! watcher and auto mode on, side by side with others in the same run, since machines are noisy.
//!
//! ```sh
//! cargo bench -p reload-tests --bench reload              # the whole report
//! cargo bench -p reload-tests --bench reload -- --short   # what continuous integration looks at
//! ```
//!
//! Prints a table and writes `reload.json` into the target folder.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Parser;
use reload_tests::toolchain;

mod clock;
mod dashboard;
mod floor;
mod libraries;
mod peers;
mod report;
mod subject;

use libraries::{Changed, Language, Library};
use peers::{Peer, Peers};
use report::{FLOOR, Report, TOOL};
use subject::{Save, Subject};

#[derive(Parser)]
#[command(about = "Measures whole reloads, side by side with others")]
struct Options {
    /// Without peers, which have to be fetched and built first.
    #[arg(long)]
    no_peers: bool,
    /// Few samples of the small libraries, without peers.
    #[arg(long)]
    short: bool,
    /// Only cases whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Reloads per case, instead of what suits its size.
    #[arg(long)]
    samples: Option<usize>,
    /// Fails where the tool's median, as a multiple of the floor's, is worse than recorded by half.
    #[arg(long)]
    check: bool,
    /// Records those multiples.
    #[arg(long)]
    record: bool,
    /// `cargo bench` says so to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    if let Some(code) = reload_engine::target::helper_main() {
        return code;
    }
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    match arguments.split_first() {
        Some((first, rest)) if first == dashboard::ARGUMENT => return dashboard::main(rest),
        Some((first, rest)) if first == floor::ARGUMENT => return floor::main(&rest[0]),
        _ => {}
    }
    let options = Options::parse();
    let mut report = Report::default();
    let peers = (!options.short && !options.no_peers).then(|| Peers::build(&work_folder()));
    for case in CASES.iter().filter(|case| !options.short || case.short) {
        if case.name().contains(&options.only) {
            reloads(case, &options, peers.as_ref(), &mut report);
        }
    }
    print!("{}", report.table());
    let output = work_folder().join("reload.json");
    fs::write(&output, format!("{:#}\n", report.json())).expect("the target folder is ours");
    println!("written to {}", output.display());

    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/recorded.json");
    if options.record {
        let ratios = serde_json::to_string_pretty(&report.ratios()).expect("numbers");
        fs::write(&recorded, ratios + "\n").expect("the sources can be written");
    }
    if options.check {
        let recorded = fs::read_to_string(&recorded).expect("benches/recorded.json is there");
        let slower = report.slower_than(&serde_json::from_str(&recorded).expect("numbers by case"));
        slower.iter().for_each(|line| eprintln!("slower than recorded: {line}"));
        return if slower.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    ExitCode::SUCCESS
}

/// One library and one kind of save.
struct Case {
    language: Language,
    functions: usize,
    changed: Changed,
    samples: usize,
    short: bool,
}

const CASES: [Case; 9] = [
    Case { language: Language::C, functions: 1, changed: Changed::One, samples: 200, short: true },
    Case { language: Language::C, functions: 2_000, changed: Changed::One, samples: 100, short: true },
    Case { language: Language::C, functions: 2_000, changed: Changed::All, samples: 100, short: true },
    Case { language: Language::C, functions: 100_000, changed: Changed::One, samples: 20, short: false },
    Case { language: Language::C, functions: 100_000, changed: Changed::All, samples: 10, short: false },
    Case { language: Language::Python, functions: 1, changed: Changed::One, samples: 50, short: false },
    Case { language: Language::Python, functions: 2_000, changed: Changed::One, samples: 20, short: false },
    Case { language: Language::Rust, functions: 1, changed: Changed::One, samples: 50, short: false },
    Case { language: Language::Rust, functions: 2_000, changed: Changed::One, samples: 50, short: true },
];

impl Case {
    fn name(&self) -> String {
        let language = match self.language {
            Language::C => "C",
            Language::Rust => "Rust debug",
            Language::Python => "Python",
        };
        match (self.functions, self.changed) {
            (1, _) => format!("{language}, 1 function"),
            (functions, Changed::One) => format!("{language}, {functions} functions, 1 changed"),
            (functions, Changed::All) => format!("{language}, {functions} functions, all changed"),
        }
    }
}

fn reloads(case: &Case, options: &Options, peers: Option<&Peers>, report: &mut Report) {
    let name = case.name();
    eprintln!("{name}...");
    let library = Library::build(case.language, case.functions, &work_folder());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let samples = options.samples.unwrap_or(if options.short { case.samples.min(25) } else { case.samples });

    let place = |subject: &str| {
        let place = folder.path().join(subject);
        fs::create_dir_all(&place).expect("the folder is ours");
        place
    };
    let save = |subject: &str| Save::first(&library, case.changed, &place(subject));
    let mut all: Vec<Peer<'_>> = Vec::new();
    if case.language != Language::Python {
        let starts: [(&str, Start); 2] = [(TOOL, start_tool), (FLOOR, start_floor)];
        for (name, start) in starts {
            let save = save(name);
            all.push(Peer { name, subject: start(&save), save });
        }
    }
    if case.functions < LARGE {
        all.extend(peers.iter().flat_map(|peers| peers.start(&library, save)));
    }
    // In turns, so that what else the machine does befalls all alike. The first save of each is not counted.
    for sample in 0..=samples {
        for peer in &mut all {
            // Half a second a time, for some.
            if sample > MOST_OF_PEERS && ![TOOL, FLOOR].contains(&peer.name) {
                continue;
            }
            let time = peer.save.measure(&mut peer.subject);
            if sample > 0 {
                report.add(&name, peer.name, time);
            }
        }
    }
    if let Some(tool) = all.iter().find(|peer| peer.name == TOOL) {
        report.add_receipts(&name, &tool.subject.receipts);
    }
}

/// From this number of functions on peers are left out.
const LARGE: usize = 100_000;
/// How often a peer reloads.
const MOST_OF_PEERS: usize = 20;

/// Starts a subject that runs the library of its first save.
type Start = fn(&Save<'_>) -> Subject;

fn start_tool(save: &Save<'_>) -> Subject {
    let own = env::current_exe().expect("procfs is mounted");
    let mut tool = Subject::start(Command::new(own).arg(dashboard::ARGUMENT).arg(caller()));
    assert_eq!(tool.talk.ask(&format!("open {}", save.path().display())), "ok");
    assert_eq!(tool.talk.ask("watch"), "ok");
    tool.value(1);
    tool
}

fn start_floor(save: &Save<'_>) -> Subject {
    let own = env::current_exe().expect("procfs is mounted");
    let mut floor = Subject::start(Command::new(own).arg(floor::ARGUMENT).arg(save.path()));
    floor.value(1);
    floor
}

/// The program whose library is reloaded.
fn caller() -> PathBuf {
    let output = work_folder().join("caller");
    let source = toolchain::hosts().join("caller.c");
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    if modified(&output) < modified(&source) {
        toolchain::program(&source, &["-O1"], &output);
    }
    output
}

fn work_folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    fs::create_dir_all(&folder).expect("the target folder is ours");
    folder
}
