//! What a call costs that goes through a redirected entry, against one that does not, in the same process in turns.

use std::fs;

use crate::{
    libraries::{Changed, Language, Library},
    peers::Peers,
    report::{Report, TOOL},
    subject::{Save, Subject, caller},
    work_folder,
};

const CALLS: f64 = 10_000_000.0;
const ROUNDS: usize = 15;
/// Nanoseconds.
const MOST: f64 = 1.0;

pub fn measure(peers: Option<&Peers>, report: &mut Report) {
    eprintln!("calls...");
    let library = Library::build(Language::C, 1, &work_folder());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = |name: &str| {
        let place = folder.path().join(name);
        fs::create_dir_all(&place).expect("the folder is ours");
        Save::first(&library, Changed::One, &place)
    };
    let (mut changed, unchanged) = (place("changed"), place("unchanged"));
    let mut tool = Subject::tool(&caller());
    tool.open([changed.path()]);
    tool.open([unchanged.path()]);
    tool.watch();
    changed.measure(&mut tool);
    // The shortest of each: what the machine does besides only ever adds.
    let (mut through, mut direct) = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        through = through.min(tool.number(&format!("cost {CALLS}")) / CALLS);
        direct = direct.min(tool.number(&format!("cost-last {CALLS}")) / CALLS);
    }
    report.figure("a direct call", direct, "ns", None);
    report.figure(format!("more for a call, {TOOL}"), through - direct, "ns", Some(MOST));
    for (name, cost) in peers.iter().flat_map(|peers| peers.costs_of_calls(&place("peers"), &library.name)) {
        report.figure(format!("more for a call, {name}"), cost, "ns", None);
    }
}
