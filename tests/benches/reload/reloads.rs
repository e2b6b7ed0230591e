//! The first table: from a complete file in place to the first call that returns the new value.

use std::{
    fs,
    panic::{self, AssertUnwindSafe},
};

use crate::{
    Options, floor,
    libraries::{Changed, Language, Library},
    peers::{Peer, Peers},
    report::{AHEAD, FLOOR, RESTART, Report, TOOL, WATCHED},
    subject::{Save, Subject},
    watched, work_folder,
};

/// One library and one kind of save.
pub struct Case {
    language: Language,
    functions: usize,
    changed: Changed,
    samples: usize,
    pub short: bool,
}

#[rustfmt::skip]
pub const CASES: [Case; 13] = [
    Case { language: Language::C, functions: 1, changed: Changed::One, samples: 200, short: true },
    Case { language: Language::C, functions: 2_000, changed: Changed::One, samples: 100, short: true },
    Case { language: Language::C, functions: 2_000, changed: Changed::All, samples: 100, short: true },
    Case { language: Language::C, functions: 100_000, changed: Changed::One, samples: 20, short: false },
    Case { language: Language::C, functions: 100_000, changed: Changed::All, samples: 10, short: false },
    Case { language: Language::Rust, functions: 1, changed: Changed::One, samples: 50, short: false },
    Case { language: Language::Rust, functions: 2_000, changed: Changed::One, samples: 50, short: true },
    Case { language: Language::Rust, functions: 2_000, changed: Changed::All, samples: 50, short: false },
    Case { language: Language::Program, functions: 25_000, changed: Changed::One, samples: 20, short: false },
    Case { language: Language::Program, functions: 120_000, changed: Changed::One, samples: 10, short: false },
    Case { language: Language::Python, functions: 1, changed: Changed::One, samples: 50, short: false },
    Case { language: Language::Python, functions: 2_000, changed: Changed::One, samples: 20, short: false },
    Case { language: Language::Python, functions: 100_000, changed: Changed::One, samples: 3, short: false },
];

/// How often a peer reloads: half a second a time, for some.
const MOST_OF_PEERS: usize = 20;

impl Case {
    pub fn name(&self) -> String {
        let language = match self.language {
            Language::C => "C",
            Language::Program => "C program",
            Language::Rust => "Rust debug",
            Language::Python => "Python",
        };
        match (self.functions, self.changed) {
            (1, _) => format!("{language}, 1 function"),
            (functions, Changed::One) => format!("{language}, {functions} functions, 1 changed"),
            (functions, Changed::Some(count)) => format!("{language}, {functions} functions, {count} changed"),
            (functions, Changed::All) => format!("{language}, {functions} functions, all changed"),
        }
    }

    pub fn measure(&self, options: &Options, peers: Option<&Peers>, report: &mut Report) {
        let name = self.name();
        eprintln!("{name}...");
        let library = Library::build(self.language, self.functions, &work_folder());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let samples = options.samples.unwrap_or(if options.short { self.samples.min(25) } else { self.samples });
        let save = |subject: &str| {
            let place = folder.path().join(subject);
            fs::create_dir_all(&place).expect("the folder is ours");
            Save::first(&library, self.changed, &place)
        };

        let mut restarted = (self.language == Language::Program).then(|| save(RESTART));
        let mut all: Vec<Peer<'_>> = Vec::new();
        if self.language != Language::Python {
            let save_unforeseen = save(TOOL).unforeseen();
            all.push(Peer { name: TOOL, subject: Subject::tool_on(&save_unforeseen), save: save_unforeseen });
            if !options.short {
                let save = save(AHEAD);
                all.push(Peer { name: AHEAD, subject: Subject::tool_on(&save), save });
            }
        }
        if matches!(self.language, Language::C | Language::Rust) {
            for (name, argument) in [(FLOOR, floor::ARGUMENT), (WATCHED, watched::PROGRAM)] {
                let save = save(name);
                all.push(Peer { name, subject: Subject::own_on(argument, &save), save });
            }
        }
        if self.language != Language::Program {
            all.extend(peers.iter().flat_map(|peers| peers.start(&library, save)));
        }
        // In turns, so that what else the machine does befalls all alike. The first save of each is not counted. Who looks every few
        // microseconds and is not measured takes no time from the others.
        all.iter().filter(|peer| peer.name != TOOL).for_each(|peer| peer.subject.rest(true));
        for sample in 0..=samples {
            all.retain_mut(|peer| {
                let own = [TOOL, AHEAD, FLOOR, WATCHED].contains(&peer.name);
                if sample > MOST_OF_PEERS && !own {
                    return true;
                }
                peer.subject.rest(false);
                let measured = attempt(own, || peer.save.measure(&mut peer.subject));
                peer.subject.rest(peer.name != TOOL);
                let Some(time) = measured else {
                    eprintln!("{name}: {} failed at save {sample} and is left out from there on", peer.name);
                    return false;
                };
                if sample > 0 {
                    report.add(&name, peer.name, time);
                }
                true
            });
            if let Some(save) = &mut restarted {
                let time = save.measure_restart();
                if sample > 0 {
                    report.add(&name, RESTART, time);
                }
            }
        }
        for tool in all.iter().filter(|peer| [TOOL, AHEAD].contains(&peer.name)) {
            report.add_receipts(&format!("{name}, {}", tool.name), &tool.subject.receipts);
        }
    }
}

/// What somebody else's program fails in is no reason to lose what was measured; what our own fails in is.
fn attempt(own: bool, measure: impl FnOnce() -> f64) -> Option<f64> {
    if own { Some(measure()) } else { panic::catch_unwind(AssertUnwindSafe(measure)).ok() }
}
