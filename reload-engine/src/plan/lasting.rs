//! Changed functions whose frames are likely to outlive the reload, as they begin a program or a thread or go round for good:
//! what stands in them takes effect when they are next entered, and so does what was inlined into them.
//!
//! Known by their names, their code and who calls them. Stacks are not looked at: another function that waits in a call for
//! long is not told of.

use std::collections::{HashMap, HashSet};

use memchr::memmem::Finder;

use super::lineage::{Instance, Lineage};
use crate::{
    image::{Function, Image, Resolves, callees, demangle, inlined_into, is_library, never_returns},
    model::Vaddr,
};

/// How many names of inlined functions are told.
const TOLD: usize = 8;
/// How deep library code lies between the start of a thread and its function.
const DEPTH: u32 = 6;

/// One line for each of `changed`, functions of the new file by their oldest instances, that begins a program or a thread, or
/// never returns. With each stands whether it is what that instance was: `main`, which began with it, has nothing to come then.
pub fn warnings(lineage: &Lineage, changed: &[(Instance, bool)]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut roots: Option<(usize, HashSet<usize>)> = None;
    let mut starters: Option<(usize, Starters<'_>)> = None;
    for (instance, is_as_first) in changed {
        let image = &*lineage.placed(instance.generation).image;
        let function = instance.function as usize;
        let what = if is_main(image, function) {
            if *is_as_first {
                continue;
            }
            "is running"
        } else {
            if roots.as_ref().is_none_or(|(of, _)| *of != instance.generation) {
                roots = Some((instance.generation, thread_roots(image)));
            }
            let known = roots.as_ref().is_some_and(|(_, roots)| roots.contains(&function));
            if starters.as_ref().is_none_or(|(of, _)| *of != instance.generation) {
                starters = Some((instance.generation, Starters::of(image)));
            }
            let start = |(_, starters): &mut (usize, Starters<'_>)| starters.start(image.functions[function].address);
            if known || starters.as_mut().is_some_and(start) {
                "is what a thread begins with"
            } else if never_returns(image, &image.functions[function]) {
                "never returns"
            } else {
                continue;
            }
        };
        let name = demangle(lineage.name(*instance));
        let bytes = image.bytes_with_debugging().unwrap_or_default();
        let inlined = inlined_into(&bytes, image.functions[function].address);
        let mut inlined: Vec<String> = inlined.into_iter().filter(|name| !is_library(name)).collect();
        let more = inlined.len().saturating_sub(TOLD);
        inlined.truncate(TOLD);
        let inlined = match (inlined.is_empty(), more) {
            (true, _) => String::new(),
            (false, 0) => format!(", and so does what was inlined into it: `{}`", inlined.join("`, `")),
            (false, more) => {
                format!(", and so does what was inlined into it: `{}` and {more} more", inlined.join("`, `"))
            }
        };
        lines.push(format!("`{name}` {what}: its change takes effect when it is next entered{inlined}"));
    }
    lines.sort();
    lines.dedup();
    lines
}

/// Where the functions begin that are likely to run as long as the program or a thread does. Looks at all code.
pub fn roots(image: &Image) -> Vec<Vaddr> {
    let mains = (0..image.functions.len()).filter(|function| is_main(image, *function));
    let endless = (0..image.functions.len()).filter(|function| never_returns(image, &image.functions[*function]));
    let indices = mains.chain(thread_roots(image)).chain(endless);
    let mut roots: Vec<Vaddr> = indices.map(|index| image.functions[index].address).collect();
    let mut starters = Starters::of(image);
    let taken: Vec<Vaddr> = starters.takers.keys().copied().collect();
    let functions = taken.into_iter().filter(|address| image.function_starting_at(*address).is_some());
    roots.extend(functions.filter(|address| starters.start(*address)));
    roots.sort_unstable();
    roots.dedup();
    roots
}

/// `main` of C, and the one that Rust's calls.
fn is_main(image: &Image, function: usize) -> bool {
    let name = image.function_name(&image.functions[function]);
    image.tables.program
        && (name == "main"
            || (name.contains("4main") && {
                let name = demangle(name);
                name.strip_suffix("::main").is_some_and(|package| !package.contains("::"))
            }))
}

/// Rust's and C++'s thread functions, found from the library code around them.
fn thread_roots(image: &Image) -> HashSet<usize> {
    const RUST: &str = "__rust_begin_short_backtrace";
    // Of C++, in one name.
    const STATE: &str = "_State_impl";
    const RUN: &str = "_M_run";
    if !image.names_contain(&[RUST, STATE]) {
        return HashSet::new();
    }
    let [rust, state, run] = [RUST, STATE, RUN].map(Finder::new);
    let has = |name: &[u8], part: &Finder<'_>| part.find(name).is_some();
    let around = |function: &Function| {
        let name = image.function_name_bytes(function);
        has(name, &rust) || (has(name, &state) && has(name, &run))
    };
    let starts = (0..image.functions.len()).filter(|index| around(&image.functions[*index]));
    let mut open: Vec<(usize, u32)> = starts.map(|start| (start, 0)).collect();
    let mut roots: HashSet<usize> = open.iter().map(|(start, _)| *start).collect();
    while let Some((function, depth)) = open.pop() {
        for callee in callees(image, function).here {
            if roots.insert(callee)
                && depth < DEPTH
                && is_library(&demangle(image.function_name(&image.functions[callee])))
            {
                open.push((callee, depth + 1));
            }
        }
    }
    roots.retain(|root| {
        let function = &image.functions[*root];
        around(function) || !is_library(&demangle(image.function_name(function)))
    });
    roots
}

/// The functions of a file that start threads.
struct Starters<'a> {
    image: &'a Image,
    /// By function: who takes its address.
    takers: HashMap<Vaddr, Vec<u32>>,
    /// Of those looked at: whether it starts a thread.
    known: HashMap<u32, bool>,
}

impl<'a> Starters<'a> {
    /// What C and C++ call for it, as their names begin; the last ones are templates of the library's header.
    const NAMES: [&'static str; 6] = [
        "pthread_create",
        "thrd_create",
        "_ZNSt6thread15_M_start_thread",
        "_ZNSt6threadC",
        "_ZNSt7jthreadC",
        "_ZSt5async",
    ];

    fn is_one(name: &str) -> bool {
        Self::NAMES.iter().any(|start| name.starts_with(start))
    }

    fn of(image: &'a Image) -> Self {
        let mut takers: HashMap<Vaddr, Vec<u32>> = HashMap::new();
        let imported = image.tables.relocations.iter().any(|relocation| match &relocation.resolves {
            Resolves::Symbol { name, here: None, .. } => Self::is_one(image.text(name)),
            _ => false,
        });
        if imported {
            for reference in image.references.iter().filter(|reference| reference.address_taken) {
                takers.entry(reference.target).or_default().extend(reference.function());
            }
        }
        Starters { image, takers, known: HashMap::new() }
    }

    /// Whether a function that starts a thread also takes this one's address: so one says in C what the thread is to do, and
    /// may in C++.
    fn start(&mut self, function: Vaddr) -> bool {
        let Starters { image, takers, known } = self;
        let starts = |taker: u32| {
            let called = callees(image, taker as usize);
            let here = called.here.iter().map(|callee| image.function_name(&image.functions[*callee]));
            called.imported.iter().map(String::as_str).chain(here).any(Self::is_one)
        };
        let takers = takers.get(&function).into_iter().flatten();
        takers.into_iter().any(|taker| *known.entry(*taker).or_insert_with(|| starts(*taker)))
    }
}
