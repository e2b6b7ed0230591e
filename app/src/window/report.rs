//! A report about one target, in Markdown: for a bug report or a colleague. Pure.

use std::{fmt::Write, time::SystemTime};

use reload_engine::model::{Class, HistoryEntry, Module, Outcome, Snapshot};

use crate::{
    steps,
    window::{details::trace, format, icons, rows},
    worker::MADE_BY,
};

/// Everything the window shows about the target, except system modules that nobody touched.
pub fn markdown(snapshot: &Snapshot, now: SystemTime) -> String {
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = write(&mut text, snapshot, now);
    text
}

fn write(text: &mut String, snapshot: &Snapshot, now: SystemTime) -> std::fmt::Result {
    let target = &snapshot.target;
    writeln!(text, "# {} ({})\n", target.name, target.pid)?;
    writeln!(text, "- program: `{}`", target.exe.display())?;
    writeln!(text, "- auto: {:?}", snapshot.mode)?;
    writeln!(text, "- connection: {:?}", snapshot.connection)?;
    writeln!(text, "- {MADE_BY} {} at {}\n", env!("CARGO_PKG_VERSION"), format::utc(now))?;
    let (folded, own): (Vec<&Module>, Vec<&Module>) =
        snapshot.modules.iter().partition(|module| rows::is_folded(module));
    writeln!(text, "| module | status | generation | modified | last | path |\n|---|---|--:|---|--:|---|")?;
    for module in &own {
        let modified = module.mtime.map_or_else(|| "gone".to_owned(), format::utc);
        let last = module.last_ms.map_or_else(|| "–".to_owned(), format::milliseconds);
        let (name, generation, path) = (&module.name, module.generation, module.path.display());
        let status = icons::status_word(module.status);
        writeln!(text, "| {name} | {status} | {generation} | {modified} | {last} | `{path}` |")?;
    }
    let system = folded.iter().filter(|module| module.class != Class::Protected).count();
    writeln!(text, "\nBesides {system} system modules and {} protected ones.", folded.len() - system)?;
    for module in own.iter().filter(|module| module.failure.is_some() || !module.history.is_empty()) {
        writeln!(text, "\n## {}", module.name)?;
        if module.failure.is_some() {
            writeln!(text, "\n```text\n{}```", trace::text(module))?;
        }
        for entry in module.history.iter().rev() {
            history(text, entry)?;
        }
    }
    Ok(())
}

fn history(text: &mut String, entry: &HistoryEntry) -> std::fmt::Result {
    let receipt = &entry.receipt;
    let (time, total) = (format::utc(entry.time), format::milliseconds(receipt.timings_ms.total));
    write!(text, "\n- {time}: {:?} to generation {}: ", entry.what, receipt.generation)?;
    if receipt.outcome == Outcome::Reloaded {
        let (functions, statics) = (receipt.functions, receipt.statics);
        write!(
            text,
            "{total}, functions {} changed, {} added, {} removed",
            functions.changed, functions.added, functions.removed
        )?;
        write!(
            text,
            "; statics {} kept, {} new, {} reset, {} merged, {} removed",
            statics.kept, statics.new, statics.reset, statics.merged, statics.removed
        )?;
    } else {
        write!(text, "{:?}", receipt.outcome)?;
    }
    if let Some(failure) = &receipt.failure {
        write!(text, " while {}: {}", steps::of(failure.stage), failure.message)?;
    }
    for warning in &receipt.warnings {
        write!(text, "\n  - {warning}")?;
    }
    Ok(())
}
