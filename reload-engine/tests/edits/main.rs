//! Edits of published programs, listed in `edits/`: what the guard of type layouts says to each. An ordinary edit must pass,
//! a harmful one must be refused by the name of its type or function.
//!
//! Plans between two builds; nothing is run, so that frames on stacks play no part. Not every edit is tried each time: with
//! `--ignored` all are, of all programs, optimised and not, and the table is written to `target/tmp/edits.md`.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, sync::Arc};

use reload_engine::{
    image::Image,
    model::LoadBias,
    plan::{self, Objections, homes::Homes, lineage::Lineage},
};

mod program;
#[path = "../published/mod.rs"]
mod published;

use program::{Edit, Program, edits};

/// The reasons against a reload, or how many functions it would change.
fn verdict(old: &Arc<Image>, new: Arc<Image>) -> Result<usize, Vec<String>> {
    let homes = Homes::of_original(old, LoadBias(0x10_0000), 1, &BTreeMap::new());
    let lineage = Lineage::new(Arc::clone(old), LoadBias(0x10_0000), 1, homes);
    let plan = plan::plan(&lineage, 0, new, Objections::Refuse)?;
    Ok(plan.functions.changed + plan.functions.added)
}

/// Tries the edits that are wanted; lines of the table, and what went wrong.
fn attempt(program: &Program, wanted: impl Fn(&Edit) -> bool) -> (String, Vec<String>) {
    let (mut table, mut wrong) = (String::new(), Vec::new());
    let old = program.image(&[]);
    assert!(old.layouts().is_known(), "{}: built without type information", program.name);
    let mut touched = Vec::new();
    for edit in edits(program.name).iter().filter(|edit| wanted(edit)) {
        let (files, new) = program.edited(edit, touched);
        touched = files;
        let told = verdict(&old, new);
        let right = match (&edit.harms, &told) {
            // Where no function differs the edit has tried nothing.
            (None, Ok(functions)) => *functions > 0,
            (Some(harms), Err(reasons)) => reasons.iter().any(|reason| reason.contains(harms.as_str())),
            _ => false,
        };
        let kind = if edit.harms.is_some() { "harmful" } else { "ordinary" };
        let shown = match &told {
            Ok(functions) => format!("reloaded, {functions} functions"),
            Err(reasons) => format!("refused: {}", reasons.first().map_or("", String::as_str)),
        };
        let _ = writeln!(table, "| {} | {kind} | {} | {shown} |", program.title, edit.name);
        if !right {
            wrong.push(format!("{}, {kind}: {}: {told:#?}", program.title, edit.name));
        }
    }
    (table, wrong)
}

#[test]
fn edits_of_lua() {
    let (table, wrong) = attempt(&Program::lua("-O2"), |_| true);
    println!("{table}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "takes minutes; the table in the documentation is made by it"]
fn every_edit_of_every_program() {
    let programs = [
        Program::lua("-O0"),
        Program::lua("-O2"),
        Program::leveldb("-O0"),
        Program::leveldb("-O2"),
        Program::ripgrep(),
    ];
    let mut table = "| Program | Edit | | What was said |\n|---|---|---|---|\n".to_owned();
    let mut wrong = Vec::new();
    for program in &programs {
        let (lines, errors) = attempt(program, |_| true);
        table += &lines;
        wrong.extend(errors);
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("edits.md");
    fs::write(&path, &table).expect("write the table");
    println!("{table}\n{}", path.display());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
