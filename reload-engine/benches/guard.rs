//! What the guard of type layouts takes on ripgrep's debug build: the first time, and for an edit of one function when the old
//! side is known.
//!
//! Prints medians of many rounds; judges nothing, as a loaded machine says nothing.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use reload_engine::{
    image::{Image, layout::Layouts},
    model::LoadBias,
    plan::{self, Objections, homes::Homes, lineage::Lineage},
};

#[path = "../tests/edits/program.rs"]
#[allow(dead_code, reason = "one of its programs is enough here")]
mod program;
#[path = "../tests/published/mod.rs"]
mod published;

use program::{Program, edits};

const ROUNDS: usize = 31;

fn main() {
    // `cargo test --benches` only wants to know whether it runs.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let program = Program::ripgrep();
    let old = program.image(&[]);
    println!("rg: {} MB, {} functions", old.bytes.len() >> 20, old.functions.len());
    println!(
        "{:<58} {}",
        "the types of one file, read in full",
        shown(&times(|| (), |()| drop(Layouts::read(&old.bytes))))
    );

    let list = edits(program.name);
    let ordinary = list.iter().find(|edit| edit.name == "a condition").expect("an edit of one function");
    let harmful = list.iter().find(|edit| edit.harms.is_some()).expect("a harmful edit");
    let homes = Homes::of_original(&old, LoadBias(0x10_0000), 1, &BTreeMap::new());
    let lineage = Lineage::new(Arc::clone(&old), LoadBias(0x10_0000), 1, homes);
    old.layouts();
    for (what, edit) in [("one function changed", ordinary), ("a type in use changed", harmful)] {
        let (_, new) = program.edited(edit, Vec::new());
        // Each round has a file of which nothing has been read yet.
        let fresh = || Arc::new(Image::parse(&new.path, Arc::clone(&new.bytes)).expect("parse"));
        let planned = |objections| times(fresh, |new| drop(plan::plan(&lineage, 0, new, objections)));
        let (with, without) = (planned(Objections::Refuse), planned(Objections::Settled));
        println!("{:<58} {}", format!("{what}, the old side known: planning with the guard"), shown(&with));
        println!("{:<58} {}", format!("{what}: planning without it"), shown(&without));
        let guard = median(&with).saturating_sub(median(&without));
        println!("{:<58} {:>7.1} ms", format!("{what}: the guard"), milliseconds(guard));
    }
}

/// Ascending.
fn times<T>(prepare: impl Fn() -> T, work: impl Fn(T)) -> Vec<Duration> {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let prepared = prepare();
            let begun = Instant::now();
            work(prepared);
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times
}

fn median(times: &[Duration]) -> Duration {
    times[times.len() / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn shown(times: &[Duration]) -> String {
    format!("{:>7.1} ms, the quickest {:.1} ms", milliseconds(median(times)), milliseconds(times[0]))
}
