//! Events as lines: JSON objects for programs, one sentence each for people.

use std::{
    fmt,
    fs::File,
    io::{self, Write},
    path::Path,
    time::SystemTime,
};

use nix::sys::signal::Signal;
use reload_engine::{
    error::Error,
    model::{Failure, Outcome, Receipt},
    session::{Event, TimedEvent, Update},
};

/// Where event lines go, and in which form.
pub struct Lines {
    output: Box<dyn Write + Send>,
    json: bool,
    /// Before each line for people, where they are among somebody else's.
    prefix: &'static str,
}

impl Lines {
    /// To `file`, made anew, or else to standard error, which the target shares.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn to(file: Option<&Path>, json: bool) -> Result<Lines, Error> {
        let Some(path) = file else {
            return Ok(Lines { output: Box::new(io::stderr()), json, prefix: "reload-dashboard: " });
        };
        let file = File::create(path).map_err(|source| Error::File {
            path: path.to_owned(),
            doing: "making the file of events",
            source,
        })?;
        Ok(Lines { output: Box::new(file), json, prefix: "" })
    }

    pub fn to_stdout(json: bool) -> Lines {
        Lines { output: Box::new(io::stdout()), json, prefix: "" }
    }

    /// Writes the update's line, if it is one that has a line. Each line goes out whole and at once.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub fn write(&mut self, update: &Update) -> io::Result<()> {
        self.write_of(None, update)
    }

    /// As [`Lines::write`], saying whose update it is among those of several processes.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub fn write_of(&mut self, target: Option<u32>, update: &Update) -> io::Result<()> {
        match update {
            Update::Event { time, event } => self.line(target, *time, event),
            Update::CommandFailed { message, detail, .. } => {
                let message = std::iter::once(message).chain(detail).cloned().collect::<Vec<_>>().join(": ");
                self.line(target, SystemTime::now(), &Event::Notice { message })
            }
            Update::Snapshot(_) | Update::Done { .. } => Ok(()),
        }
    }

    /// As [`Lines::write`] for an event that no session told of.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub fn event(&mut self, time: SystemTime, event: &Event) -> io::Result<()> {
        self.line(None, time, event)
    }

    fn line(&mut self, target: Option<u32>, time: SystemTime, event: &Event) -> io::Result<()> {
        let line = if self.json {
            let mut line = serde_json::to_string(&TimedEvent { time, target, event }).map_err(io::Error::other)?;
            line.push('\n');
            line
        } else {
            let Some(text) = sentence(event) else { return Ok(()) };
            let before = match self.prefix {
                "" => format!("{} ", humantime::format_rfc3339_seconds(time)),
                prefix => prefix.to_owned(),
            };
            let whose = target.map_or_else(String::new, |pid| format!("[{pid}] "));
            let further = receipt_of(event).map(further).unwrap_or_default();
            let lines = std::iter::once(text).chain(further.into_iter().map(|line| format!("  {line}")));
            lines.map(|line| format!("{before}{whose}{line}\n")).collect()
        };
        self.output.write_all(line.as_bytes())?;
        self.output.flush()
    }
}

/// What the event is about, if it is an attempt that has ended.
fn receipt_of(event: &Event) -> Option<&Receipt> {
    match event {
        Event::Reloaded { receipt, .. }
        | Event::Refused { receipt, .. }
        | Event::Failed { receipt, .. }
        | Event::RolledBack { receipt, .. } => Some(receipt),
        _ => None,
    }
}

/// What a person must know besides the sentence about a receipt, a line each: what led to a failure and what to do about it, or
/// what to beware of after a reload.
pub fn further(receipt: &Receipt) -> Vec<String> {
    match (&receipt.failure, receipt.outcome) {
        (Some(failure), _) => beyond_message(failure).cloned().collect(),
        (None, Outcome::Reloaded) => receipt.warnings.iter().map(|warning| format!("warning: {warning}")).collect(),
        _ => Vec::new(),
    }
}

/// The failure's trace without what its message says.
pub fn beyond_message(failure: &Failure) -> impl Iterator<Item = &String> {
    failure.trace.iter().filter(|line| **line != failure.message)
}

/// `None` for what is no news to a person.
fn sentence(event: &Event) -> Option<String> {
    Some(match event {
        Event::Attached { pid, name, modules, .. } => format!("attached to {name} ({pid}), {modules} modules"),
        Event::Loaded { module, .. } => format!("{module}: loaded by the target"),
        Event::Unloaded { module, .. } => format!("{module}: unloaded by the target"),
        Event::Changed { module } => format!("{module}: changed on disk"),
        Event::Shielded { module, shield } => format!(
            "{module}: shielded, so that its file may be overwritten; {} KiB in {:.1} ms, of which the target stood still \
             {:.2} ms",
            shield.bytes.div_ceil(1024),
            shield.ms,
            shield.pause_ms
        ),
        Event::Reloading { .. } => return None,
        Event::Reloaded { receipt, .. } | Event::Refused { receipt, .. } | Event::Failed { receipt, .. } => {
            summary(receipt)
        }
        Event::Recovered { module } => format!("{module}: recovered"),
        Event::RolledBack { module, receipt } => {
            format!("{module}: rolled back to generation {}", receipt.generation)
        }
        Event::Missing { module } => format!("{module}: gone from disk; the loaded code runs on"),
        Event::Mode { mode } => format!("auto mode: {}", word(mode)),
        Event::Mark { module, mark } => format!("{module}: mark {}", word(mark)),
        Event::Detached => "detached: nothing is reloaded by itself any more".to_owned(),
        Event::Forked { pid } => format!("forked: {pid} runs what it was forked with"),
        Event::Exited { status: Some(status) } => match signal(*status) {
            Some(signal) => format!("the target has ended with status {status} ({signal})"),
            None => format!("the target has ended with status {status}"),
        },
        Event::Exited { status: None } => "the target has ended".to_owned(),
        Event::Notice { message } => message.clone(),
    })
}

/// One sentence about one receipt.
pub fn summary(receipt: &Receipt) -> String {
    let name = &receipt.name;
    let reason = |failure: &Option<Failure>| {
        let told = |failure: &Failure| format!(" in stage {}: {}", failure.stage, failure.without_name(name));
        failure.as_ref().map_or_else(String::new, told)
    };
    match receipt.outcome {
        Outcome::Reloaded => {
            let functions = receipt.functions;
            let counts = [
                (functions.changed, "changed"),
                (functions.added, "added"),
                (functions.removed, "removed"),
                (functions.unpatchable, "still old for some callers"),
            ];
            let counts: Vec<String> =
                counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
            let counts = if counts.is_empty() { "none changed".to_owned() } else { counts.join(", ") };
            let python = python(receipt);
            format!(
                "{name}: reloaded, generation {}; functions: {counts}{python}; {} statics kept; {:.1} ms, of which the target \
                 stood still {:.2} ms",
                receipt.generation, receipt.statics.kept, receipt.timings_ms.total, receipt.timings_ms.pause
            )
        }
        Outcome::Unchanged => format!("{name}: unchanged, generation {}", receipt.generation),
        Outcome::Refused => format!("{name}: refused{}", reason(&receipt.failure)),
        Outcome::Failed => format!("{name}: failed{}", reason(&receipt.failure)),
        Outcome::Skipped => match receipt.warnings.first() {
            Some(warning) => format!("{name}: {warning}"),
            None => format!("{name}: skipped"),
        },
    }
}

/// The first names of a list of so many.
fn some(names: &[String], count: usize) -> String {
    const FEW: usize = 4;
    let told: Vec<&str> = names.iter().take(FEW).map(String::as_str).collect();
    let more = count.saturating_sub(told.len());
    match more {
        _ if told.is_empty() => String::new(),
        0 => told.join(", "),
        more => format!("{} and {more} more", told.join(", ")),
    }
}

/// What there is to say of a reload beyond its sentence, a line each.
pub fn detail(receipt: &Receipt) -> Vec<String> {
    if receipt.outcome != Outcome::Reloaded {
        return Vec::new();
    }
    let counts = |counts: &[(usize, &str)]| {
        let told = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        told.collect::<Vec<_>>().join(", ")
    };
    let details = &receipt.details;
    let (all, local) = (receipt.statics, details.thread_locals);
    let functions = receipt.functions;
    let parts = [
        ("changed", some(&details.changed, functions.changed)),
        ("added", some(&details.added, functions.added)),
        ("removed", some(&details.removed, functions.removed)),
        (
            "statics",
            counts(&[(all.new, "new"), (all.reset, "reset"), (all.merged, "merged"), (all.removed, "removed")]),
        ),
        (
            "thread-locals",
            counts(&[(local.kept, "kept"), (local.new, "new"), (local.reset, "reset"), (local.removed, "removed")]),
        ),
        ("constructors run", details.constructors.join(", ")),
        ("destructors for the program's end", details.destructors.join(", ")),
    ];
    let told = parts.into_iter().filter(|(_, text)| !text.is_empty());
    let mut lines: Vec<String> = told.map(|(what, text)| format!("{what}: {text}")).collect();
    let times = receipt.timings_ms;
    let stages = [
        ("read", times.read),
        ("parse", times.parse),
        ("plan", times.plan),
        ("shadow", times.shadow),
        ("load", times.load),
        ("bind", times.bind),
        ("safe point", times.safe_point),
        ("hooks", times.hooks),
        ("stage", times.stage),
        ("adapt", times.adapt),
        ("commit", times.commit),
    ];
    let stages = stages.iter().filter(|(_, ms)| *ms >= 0.05).map(|(stage, ms)| format!("{stage} {ms:.1}"));
    let stages = stages.collect::<Vec<_>>().join(", ");
    if !stages.is_empty() {
        lines.push(format!("ms: {stages}; {} KiB stay until the program ends", details.retained_bytes.div_ceil(1024)));
    }
    lines
}

/// What a Python extension's reload meant to Python; empty for anything else.
fn python(receipt: &Receipt) -> String {
    let changes = &receipt.details.python;
    let parts = [(&changes.added, "added"), (&changes.removed, "removed"), (&changes.updated, "updated")];
    let parts = parts.iter().filter(|(names, _)| !names.is_empty());
    let parts: Vec<String> = parts.map(|(names, what)| format!("{what} {}", names.join(", "))).collect();
    if parts.is_empty() { String::new() } else { format!("; Python: {}", parts.join("; ")) }
}

/// One line to standard output. Where nobody reads any more, as after `| head`, there is nobody to tell of it.
pub fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// The same to standard error, of what may as well go unread.
pub fn note(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// What ended a process, by the status that a shell tells of it.
fn signal(status: i32) -> Option<Signal> {
    Signal::try_from(status.checked_sub(128)?).ok()
}

/// A model's word as the contract spells it.
pub fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use reload_engine::{
        model::{Generation, Mode, Outcome, Receipt},
        session::Event,
    };

    use super::{Lines, detail, summary};

    fn written(json: bool, event: &Event) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let mut lines = Lines::to(Some(&path), json).unwrap();
        lines.event(SystemTime::UNIX_EPOCH, event).unwrap();
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn one_object_per_line() {
        assert_eq!(
            written(true, &Event::Mode { mode: Mode::All }),
            "{\"time\":\"1970-01-01T00:00:00.000000000Z\",\"event\":\"mode\",\"mode\":\"all\"}\n"
        );
        let receipt = Receipt::empty("libfoo.so", Outcome::Reloaded, Generation(2));
        let line = written(true, &Event::RolledBack { module: "libfoo.so".into(), receipt });
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["event"], "rolled-back");
        assert_eq!(value["receipt"]["generation"], 2);
    }

    #[test]
    fn one_sentence_per_line() {
        assert_eq!(written(false, &Event::Mode { mode: Mode::All }), "1970-01-01T00:00:00Z auto mode: all\n");
        assert_eq!(written(false, &Event::Reloading { module: "libfoo.so".into() }), "");
        let mut receipt = Receipt::empty("libfoo.so", Outcome::Reloaded, Generation(2));
        receipt.functions.changed = 3;
        receipt.statics.new = 1;
        receipt.details.thread_locals.kept = 2;
        receipt.details.constructors = vec!["set_up".into()];
        receipt.timings_ms.hooks = 1.25;
        receipt.details.retained_bytes = 4097;
        let expected = [
            "statics: 1 new",
            "thread-locals: 2 kept",
            "constructors run: set_up",
            "ms: hooks 1.2; 5 KiB stay until the program ends",
        ];
        assert_eq!(detail(&receipt), expected);
        assert!(
            summary(&receipt).starts_with("libfoo.so: reloaded, generation 2; functions: 3 changed; 0 statics kept")
        );
        receipt.functions.changed = 6;
        receipt.details.changed = ["a", "b", "c", "d", "e"].map(String::from).into();
        assert_eq!(detail(&receipt)[0], "changed: a, b, c, d and 2 more");
        receipt.details.changed.truncate(2);
        receipt.functions.changed = 2;
        assert_eq!(detail(&receipt)[0], "changed: a, b");
        let ended = |status| written(false, &Event::Exited { status: Some(status) });
        assert!(ended(139).ends_with("the target has ended with status 139 (SIGSEGV)\n"), "{}", ended(139));
        assert!(ended(3).ends_with("the target has ended with status 3\n"), "{}", ended(3));
        receipt.functions.changed = 3;
        receipt.details.changed.clear();
        receipt.warnings = vec!["`items` changed its size".into()];
        let event = Event::Reloaded { module: "libfoo.so".into(), receipt: receipt.clone() };
        let lines = written(false, &event);
        assert!(lines.ends_with("\n1970-01-01T00:00:00Z   warning: `items` changed its size\n"), "{lines}");
        receipt.details.python.added = vec!["f".into(), "C.g".into()];
        assert!(summary(&receipt).contains("3 changed; Python: added f, C.g; 0 statics"));
    }
}
