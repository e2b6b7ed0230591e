//! Edits of published programs, listed beside this file: what the guard of type layouts says to each. An ordinary edit must
//! pass, a harmful one must be refused by the name of its type or function.
//!
//! Plans between two builds; nothing is run, so that frames on stacks play no part. Not every edit is tried each time: with
//! `--ignored` all are, of all programs, optimised and not, and the tables of `README.md` are written to
//! `target/tmp/edits.md`. `EDITS=leveldb` tries those of one program.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::Path, sync::Arc};

use reload_engine::{
    image::Image,
    model::LoadBias,
    plan::{self, Objections, homes::Homes, lineage::Lineage},
};

#[path = "../shared/agree.rs"]
mod agree;
mod program;
#[path = "../published/mod.rs"]
mod published;

use program::{Program, edits};

/// The reasons against a reload, or what it would do.
fn verdict(old: &Arc<Image>, new: Arc<Image>) -> Result<Reload, Vec<String>> {
    let homes = Homes::of_original(old, LoadBias(0x10_0000), 1, &BTreeMap::new());
    let lineage = Lineage::new(Arc::clone(old), LoadBias(0x10_0000), 1, homes);
    let plan = plan::plan(&lineage, 0, new, Objections::Refuse)?;
    Ok(Reload { functions: plan.functions.changed + plan.functions.added, warnings: plan.warnings })
}

#[derive(Debug)]
struct Reload {
    functions: usize,
    warnings: Vec<String>,
}

/// What was said to the edits of one build of a program.
struct Tried {
    title: String,
    /// Of ordinary edits: how many, and how many of those were refused; of harmful ones: how many, and how many went through.
    ordinary: (usize, usize),
    harmful: (usize, usize),
    /// Each edit with what was said to it.
    lines: Vec<(String, String)>,
    wrong: Vec<String>,
}

/// Tries all edits of a program.
fn attempt(program: &Program) -> Tried {
    let mut tried =
        Tried { title: program.title.clone(), ordinary: (0, 0), harmful: (0, 0), lines: Vec::new(), wrong: Vec::new() };
    let old = program.image(&[]);
    assert!(old.layouts().is_known(), "{}: built without type information", program.name);
    let mut touched = Vec::new();
    for edit in edits(program.name) {
        let (files, new) = program.edited(&edit, touched);
        touched = files;
        agree::assert_read_the_same(&old, &new);
        let told = verdict(&old, new);
        let right = match (&edit.harms, &told) {
            // Where no function differs the edit has tried nothing.
            (None, Ok(reload)) => reload.functions > 0,
            (Some(harms), Err(reasons)) => reasons.iter().any(|reason| reason.contains(harms.as_str())),
            _ => false,
        };
        let (kind, counts) = match edit.harms {
            Some(_) => ("harmful", &mut tried.harmful),
            None => ("ordinary", &mut tried.ordinary),
        };
        counts.0 += 1;
        counts.1 += usize::from(!right);
        let shown = match &told {
            Ok(Reload { functions, warnings }) => {
                let warned = warnings.first().map_or_else(String::new, |warning| format!("; warned: {warning}"));
                format!("reloaded; functions: {functions}{warned}")
            }
            Err(reasons) => format!("refused: {}", reasons.first().map_or("", String::as_str)),
        };
        if !right {
            tried.wrong.push(format!("{}, {kind}: {}: {told:#?}", program.title, edit.name));
        }
        tried.lines.push((format!("{kind}: {}", edit.name), shown));
    }
    tried
}

/// In Markdown: the counts of every build, then what was said to each edit.
fn tables(builds: &[Tried]) -> String {
    let mut text =
        "| Build | Ordinary edits | Refused all the same | Harmful edits | Missed |\n|---|---|---|---|---|\n"
            .to_owned();
    for Tried { title, ordinary, harmful, .. } in builds {
        let _ = writeln!(text, "| {title} | {} | {} | {} | {} |", ordinary.0, ordinary.1, harmful.0, harmful.1);
    }
    for Tried { title, lines, .. } in builds {
        let _ = writeln!(text, "\n### {title}\n\n| Edit | What was said |\n|---|---|");
        for (edit, said) in lines {
            let _ = writeln!(text, "| {edit} | {} |", said.replace('|', "\\|"));
        }
    }
    text
}

#[test]
fn edits_of_lua() {
    let tried = attempt(&Program::lua("-O2"));
    println!("{}", tables(std::slice::from_ref(&tried)));
    assert!(tried.wrong.is_empty(), "{}", tried.wrong.join("\n"));
}

#[test]
#[ignore = "takes minutes; the tables of the documentation are made by it"]
fn every_edit_of_every_program() {
    let wanted = env::var("EDITS").ok();
    let mut builds = Vec::new();
    for (name, optimisation) in
        [("lua", "-O0"), ("lua", "-O2"), ("leveldb", "-O0"), ("leveldb", "-O2"), ("ripgrep", "")]
    {
        if wanted.as_ref().is_some_and(|wanted| wanted != name) {
            continue;
        }
        builds.push(attempt(&match name {
            "lua" => Program::lua(optimisation),
            "leveldb" => Program::leveldb(optimisation),
            _ => Program::ripgrep(),
        }));
    }
    let text = tables(&builds);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("edits.md");
    fs::write(&path, &text).expect("write the tables");
    println!("{text}\n{}", path.display());
    let wrong: Vec<String> = builds.into_iter().flat_map(|tried| tried.wrong).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
