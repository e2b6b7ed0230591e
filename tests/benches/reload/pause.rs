//! How long the target stands still: the longest gap that a thread sees which does nothing but read the clock.
//!
//! A gap also opens when another thread, or another program, gets the processor. So beside each figure stands the same for
//! as long a time in which nothing is reloaded, and what the tool itself says it was.

use std::{thread, time::Duration};

use crate::{
    libraries::{Changed, Language, Library},
    report::{Report, Samples},
    subject::{Save, Subject, caller},
    work_folder,
};

const FUNCTIONS: usize = 2_000;
/// What else the target does, by commands of `hosts/caller.c`, and whether the figures are promised.
#[rustfmt::skip]
const LOADS: [(&str, Option<&str>, bool); 4] = [
    ("1 busy thread", None, true),
    ("2 busy threads", Some("busy 1"), true),
    ("32 busy threads", Some("busy 31"), false),
    ("1 busy thread, 200 blocked", Some("sleepers 200"), false),
];
/// Milliseconds.
const MOST: [(&str, f64, f64); 2] = [("p50", 0.5, 0.3), ("p99", 0.99, 2.0)];

pub fn measure(samples: usize, report: &mut Report) {
    let library = Library::build(Language::C, FUNCTIONS, &work_folder());
    for (load, command, promised) in LOADS {
        eprintln!("pause with {load}...");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut save = Save::first(&library, Changed::All, folder.path());
        let mut tool = Subject::tool(&caller());
        tool.open([save.path()]);
        tool.watch();
        assert_eq!(tool.talk.ask("clock"), "ok");
        if let Some(command) = command {
            assert_eq!(tool.talk.ask(command), "ok");
        }
        // The first prepares more than the others.
        save.measure(&mut tool);
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..samples {
            tool.number("gap");
            let took = save.measure(&mut tool);
            with.push(tool.number("gap") / 1e6);
            // The tool is done with what it does afterwards.
            thread::sleep(Duration::from_millis(30));
            tool.number("gap");
            thread::sleep(Duration::from_secs_f64(took / 1e3));
            without.push(tool.number("gap") / 1e6);
        }
        assert!(tool.receipts.len() >= samples, "{} receipts of {samples} reloads", tool.receipts.len());
        let told = tool.receipts.iter().rev().take(samples);
        let told = told.filter_map(|receipt| receipt["timings"]["pause"].as_f64());
        let kinds = [
            ("as it sees it", Samples::from_iter(with), promised),
            ("nothing reloaded", Samples::from_iter(without), false),
            ("as the tool says", told.collect(), false),
        ];
        for (kind, samples, promised) in kinds {
            for (name, part, most) in MOST {
                let about = format!("pause, {load}, {FUNCTIONS} functions changed, {kind}, {name}");
                report.figure(about, samples.quantile(part), "ms", promised.then_some(most));
            }
        }
    }
}
