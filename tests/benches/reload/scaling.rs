//! How the time of a reload grows with what there is and with what changed.

use std::path::PathBuf;

use crate::{
    idle::copies,
    libraries::{Changed, Language, Library},
    report::{Curve, Report, Samples},
    subject::{Save, Subject, caller},
    work_folder,
};

const FUNCTIONS: [usize; 6] = [1, 10, 100, 1_000, 10_000, 100_000];
const CHANGED_OF: usize = 10_000;
const CHANGED: [usize; 5] = [1, 10, 100, 1_000, 10_000];
const MODULES: [usize; 5] = [10, 100, 500, 1_000, 5_000];
const GENERATIONS: usize = 1_000;
const THREADS: [usize; 5] = [1, 4, 16, 64, 256];

/// A quantity, and what measures the curves against it.
type Against = (&'static str, fn(usize, &mut Report));

/// Those curves against a quantity whose name contains `only`.
pub fn measure(samples: usize, only: &str, report: &mut Report) {
    let curves: [Against; 5] = [
        ("functions", with_functions),
        ("functions changed", with_changed_functions),
        ("modules", with_modules),
        ("generations", with_generations),
        ("threads", with_threads),
    ];
    for (_, measure) in curves.iter().filter(|(against, _)| against.contains(only)) {
        measure(samples, report);
    }
}

/// Milliseconds, the median of some reloads after one that prepares more.
fn median(save: &mut Save<'_>, tool: &mut Subject, samples: usize) -> f64 {
    save.measure(tool);
    (0..samples).map(|_| save.measure(tool)).collect::<Samples>().median()
}

fn with_functions(samples: usize, report: &mut Report) {
    let points = FUNCTIONS.map(|functions| {
        eprintln!("{functions} functions...");
        let library = Library::build(Language::C, functions, &work_folder());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut save = Save::first(&library, Changed::One, folder.path());
        let mut tool = Subject::tool_on(&save);
        (functions as f64, median(&mut save, &mut tool, samples))
    });
    curve(report, "a reload, 1 function changed", "functions", points);
}

fn with_changed_functions(samples: usize, report: &mut Report) {
    let library = Library::build(Language::C, CHANGED_OF, &work_folder());
    let points = CHANGED.map(|changed| {
        eprintln!("{changed} functions changed...");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut save = Save::first(&library, Changed::Some(changed), folder.path());
        let mut tool = Subject::tool_on(&save);
        (changed as f64, median(&mut save, &mut tool, samples))
    });
    curve(report, &format!("a reload of {CHANGED_OF} functions"), "functions changed", points);
}

fn with_modules(samples: usize, report: &mut Report) {
    let library = Library::build(Language::C, 1, &work_folder());
    let points = MODULES.map(|modules| {
        eprintln!("{modules} modules...");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut save = Save::first(&library, Changed::One, folder.path());
        let others = copies(modules - 1, folder.path());
        let mut tool = Subject::tool(&caller());
        tool.open([save.path()]);
        tool.open(others.iter().map(PathBuf::as_path));
        tool.watch();
        (modules as f64, median(&mut save, &mut tool, samples))
    });
    curve(report, "a reload of 1 module", "modules", points);
}

/// The growth is what the last hundred take more than the first.
fn with_generations(_: usize, report: &mut Report) {
    for functions in [1, 2_000] {
        let library = Library::build(Language::C, functions, &work_folder());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut save = Save::first(&library, Changed::One, folder.path());
        let mut tool = Subject::tool_on(&save);
        save.measure(&mut tool);
        let mut points = Vec::new();
        for hundred in 1..=GENERATIONS / 100 {
            eprintln!("{} generations of {functions} functions...", hundred * 100);
            let times: Samples = (0..100).map(|_| save.measure(&mut tool)).collect();
            points.push(((hundred * 100) as f64, times.median()));
        }
        curve(report, &format!("a reload of {functions} functions"), "generations", points);
    }
}

fn with_threads(samples: usize, report: &mut Report) {
    let library = Library::build(Language::C, 2_000, &work_folder());
    let mut pauses = Vec::new();
    let points = THREADS.map(|threads| {
        eprintln!("{threads} threads...");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut save = Save::first(&library, Changed::One, folder.path());
        let mut tool = Subject::tool_on(&save);
        assert_eq!(tool.talk.ask(&format!("sleepers {threads}")), "ok");
        let time = median(&mut save, &mut tool, samples);
        let told = tool.receipts.iter().skip(1).filter_map(|receipt| receipt["timings"]["pause"].as_f64());
        pauses.push((threads as f64, told.collect::<Samples>().median()));
        (threads as f64, time)
    });
    curve(report, "a reload of 2000 functions", "threads", points);
    curve(report, "the pause", "threads", pauses);
}

fn curve(report: &mut Report, name: &str, against: &'static str, points: impl Into<Vec<(f64, f64)>>) {
    report.curve(Curve { name: name.to_owned(), against, unit: "ms", points: points.into() });
}
