//! How long a reload takes, from a complete file in place to the first call that returns the new value: the tool with its
//! watcher and auto mode on, side by side with others in the same run, since machines are noisy. Then what it costs besides:
//! the pause, calls, an idle dashboard, memory, and how all that grows.
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
    process::ExitCode,
};

use clap::{Parser, ValueEnum};

mod calls;
mod clock;
mod dashboard;
mod floor;
mod idle;
mod libraries;
mod pause;
mod peers;
mod reloads;
mod report;
mod scaling;
mod subject;
mod watched;

use peers::Peers;
use report::{Ratios, Report};

/// A part of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Reloads,
    Pause,
    Calls,
    Idle,
    Memory,
    Scaling,
}

#[derive(Parser)]
#[command(about = "Measures whole reloads, side by side with others, and what the tool costs besides")]
struct Options {
    /// Only these parts of the report; all by default.
    #[arg(long, value_enum, value_delimiter = ',')]
    part: Vec<Part>,
    /// Without peers, which have to be fetched and built first.
    #[arg(long)]
    no_peers: bool,
    /// Few reloads of the small libraries, without peers and the other parts.
    #[arg(long)]
    short: bool,
    /// Only reloads of cases, and curves against a quantity, whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Reloads per case, instead of what suits its size.
    #[arg(long)]
    samples: Option<usize>,
    /// Fails where the tool's reloads, as multiples of the floor's, are worse than recorded by half.
    #[arg(long)]
    check: bool,
    /// Records those multiples.
    #[arg(long)]
    record: bool,
    /// `cargo bench` says so to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How often a case that seems too slow is measured before it is: what else a machine does passes, a slower program stays.
const ATTEMPTS: usize = 4;

fn main() -> ExitCode {
    if let Some(code) = reload_engine::target::helper_main() {
        return code;
    }
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    match arguments.split_first() {
        Some((first, rest)) if first == dashboard::ARGUMENT => return dashboard::main(rest),
        Some((first, rest)) if first == floor::ARGUMENT => return floor::main(&rest[0]),
        Some((first, rest)) if first == watched::PROGRAM => return watched::program(&rest[0]),
        Some((first, rest)) if first == watched::WATCHER => return watched::watcher(&rest[0]),
        _ => {}
    }
    let options = Options::parse();
    let mut report = Report::default();
    let wanted = |part| {
        if options.part.is_empty() { !options.short || part == Part::Reloads } else { options.part.contains(&part) }
    };
    let with_peers = !options.short && !options.no_peers && (wanted(Part::Reloads) || wanted(Part::Calls));
    let peers = with_peers.then(|| Peers::build(&work_folder()));
    if wanted(Part::Reloads) {
        for case in reloads::CASES.iter().filter(|case| !options.short || case.short) {
            if case.name().contains(&options.only) {
                case.measure(&options, peers.as_ref(), &mut report);
                // So that a run that is stopped has told what it knows.
                write(&report);
            }
        }
    }
    if wanted(Part::Pause) {
        pause::measure(options.samples.unwrap_or(100), &mut report);
    }
    if wanted(Part::Calls) {
        calls::measure(peers.as_ref(), &mut report);
    }
    if wanted(Part::Idle) {
        idle::measure(&mut report);
    }
    if wanted(Part::Memory) {
        idle::measure_memory(&mut report);
    }
    if wanted(Part::Scaling) {
        scaling::measure(options.samples.unwrap_or(15), &options.only, &mut report);
    }
    let slower = if options.check { check(&options, &mut report) } else { Vec::new() };
    print!("{}", report.table());
    println!("written to {}", write(&report).display());
    if options.record {
        let ratios = serde_json::to_string_pretty(&report.ratios()).expect("numbers");
        fs::write(recorded(), ratios + "\n").expect("the sources can be written");
    }
    slower.iter().for_each(|line| eprintln!("slower than recorded: {line}"));
    if slower.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The report as it is so far; where.
fn write(report: &Report) -> PathBuf {
    let output = work_folder().join("reload.json");
    fs::write(&output, format!("{:#}\n", report.json())).expect("the target folder is ours");
    output
}

/// What is slower than recorded whenever it is measured.
fn check(options: &Options, report: &mut Report) -> Vec<String> {
    let text = fs::read_to_string(recorded()).expect("benches/recorded.json is there");
    let recorded: Ratios = serde_json::from_str(&text).expect("ratios by case");
    for _ in 1..ATTEMPTS {
        for (slow, line) in report.slower_than(&recorded) {
            eprintln!("{line}; once more:");
            report.forget(&slow);
            for case in reloads::CASES.iter().filter(|case| case.name() == slow) {
                case.measure(options, None, report);
            }
        }
    }
    report.slower_than(&recorded).into_iter().map(|(_, line)| line).collect()
}

fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/recorded.json")
}

/// What is built and written by the bench.
fn work_folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    fs::create_dir_all(&folder).expect("the target folder is ours");
    folder
}
