//! What to do with a module, as autoreload would: pure functions from what is known to what is to happen.
//!
//! Nothing here looks at files or at the target.

use std::path::{Path, PathBuf};

use crate::{
    error::{Error, Result},
    ledger::{ModuleLedger, Rejected},
    model::{Class, FileStamp, Mark, Mode, Status, file_name},
};

/// Why a reload is being considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A file changed and auto mode decides.
    Auto(Mode),
    /// Reload now.
    All,
    /// The user named this module.
    Named,
}

/// What is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try to reload it.
    Reload,
    /// The process runs what is on disk.
    Unchanged,
    /// Changed, and not to be touched: the user or its class says so.
    Skip,
    /// This state of the file was rejected before: wait until the file changes or the module is named.
    LeaveAlone,
    /// The file is not there.
    Missing,
    /// The loader, libc and kin: never.
    Protected,
    /// Not this module's turn: auto mode is off, or only for marked modules.
    Wait,
}

/// The state of a module's file as last seen.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Disk {
    /// Nothing is known to have changed since it was loaded.
    #[default]
    Unseen,
    Present {
        stamp: FileStamp,
        content: String,
    },
    /// There, but unreadable or not a finished library.
    Unusable {
        stamp: Option<FileStamp>,
    },
    Missing,
}

/// What is decided upon.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub class: Class,
    pub disk: &'a Disk,
    pub ledger: &'a ModuleLedger,
}

/// How a module's file relates to what runs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Relation<'a> {
    Same,
    Differs,
    Rejected(&'a Rejected),
    Gone,
}

fn relation<'a>(facts: Facts<'a>) -> Relation<'a> {
    let ledger = facts.ledger;
    let active = ledger.running();
    let rejected = ledger.rejected.as_ref();
    match facts.disk {
        Disk::Missing => Relation::Gone,
        Disk::Unseen => rejected.map_or(Relation::Same, Relation::Rejected),
        Disk::Present { content, .. } if active.is_some_and(|record| record.content == *content) => Relation::Same,
        Disk::Present { content, .. } => match rejected {
            Some(rejected) if rejected.content.as_ref() == Some(content) => Relation::Rejected(rejected),
            // Without a record of what was loaded nothing can be said to differ, unless something was rejected.
            _ if active.is_none() => rejected.map_or(Relation::Same, Relation::Rejected),
            _ => Relation::Differs,
        },
        Disk::Unusable { stamp } => match rejected {
            Some(rejected) if rejected.content.is_none() && rejected.stamp == *stamp => Relation::Rejected(rejected),
            _ => Relation::Differs,
        },
    }
}

/// Whether a module counts as skipped: by the user, by its class unless marked, or for good.
fn skipped(class: Class, mark: Mark) -> bool {
    match (class, mark) {
        (Class::Protected, _) | (_, Mark::Skip) | (Class::System, Mark::None) => true,
        (_, Mark::Reload) | (Class::Executable | Class::Project, Mark::None) => false,
    }
}

/// The status shown for a module that is not being reloaded this moment.
pub fn status(facts: Facts<'_>) -> Status {
    if skipped(facts.class, facts.ledger.mark) {
        return Status::Skipped;
    }
    match relation(facts) {
        Relation::Same => Status::Current,
        Relation::Differs => Status::Changed,
        Relation::Rejected(rejected) => rejected.status,
        Relation::Gone => Status::Missing,
    }
}

/// Whether the file on disk is there and is not what runs.
pub fn differs(facts: Facts<'_>) -> bool {
    matches!(relation(facts), Relation::Differs | Relation::Rejected(_))
}

/// What `trigger` means for this module.
pub fn decide(trigger: Trigger, facts: Facts<'_>) -> Decision {
    if facts.class == Class::Protected {
        return Decision::Protected;
    }
    let relation = relation(facts);
    match relation {
        Relation::Gone => return Decision::Missing,
        Relation::Same => return Decision::Unchanged,
        Relation::Differs | Relation::Rejected(_) => {}
    }
    if trigger == Trigger::Named {
        return Decision::Reload;
    }
    if skipped(facts.class, facts.ledger.mark) {
        return Decision::Skip;
    }
    if matches!(relation, Relation::Rejected(_)) {
        return Decision::LeaveAlone;
    }
    match trigger {
        Trigger::Auto(Mode::Off) => Decision::Wait,
        Trigger::Auto(Mode::Marked) if facts.ledger.mark != Mark::Reload => Decision::Wait,
        Trigger::Auto(_) | Trigger::All | Trigger::Named => Decision::Reload,
    }
}

/// Whether `Reload now` speaks of this module at all: libraries of the system that nobody marked are no news.
pub fn concerns_reload_now(class: Class, mark: Mark) -> bool {
    match class {
        Class::Protected => false,
        Class::System => mark == Mark::Reload,
        Class::Executable | Class::Project => true,
    }
}

/// Whether changes of this module's file are followed.
pub fn is_watched(class: Class, mark: Mark) -> bool {
    !skipped(class, mark) || (mark == Mark::Skip && matches!(class, Class::Executable | Class::Project))
}

/// What a module can be called by.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    pub path: &'a Path,
    pub soname: Option<&'a str>,
    /// What people mean, rather than what comes with every program.
    pub usual: bool,
}

/// The index of the module that `wanted` means: a path or its end, a file name or a soname.
///
/// # Errors
/// [`Error::NoSuchModule`] and [`Error::AmbiguousModule`], both with candidates.
pub fn resolve_module(wanted: &str, modules: &[Name<'_>]) -> Result<usize> {
    if let Some(index) = modules.iter().position(|module| module.path == Path::new(wanted)) {
        return Ok(index);
    }
    // A relative path or another way to the same file, as the shell completes it.
    if wanted.contains('/') {
        let real = std::path::absolute(wanted).unwrap_or_else(|_| PathBuf::from(wanted));
        let is_file = real.exists();
        let canonical = real.canonicalize().unwrap_or(real);
        let same = |path: &Path| path == canonical || path.canonicalize().is_ok_and(|path| path == canonical);
        if let Some(index) = modules.iter().position(|module| same(module.path)) {
            return Ok(index);
        }
        if is_file {
            return Err(unknown(wanted, modules));
        }
    }
    let is_called = |module: &Name<'_>| module.path.ends_with(wanted) || module.soname == Some(wanted);
    let called: Vec<usize> = (0..modules.len()).filter(|index| is_called(&modules[*index])).collect();
    match called[..] {
        [index] => Ok(index),
        [] => Err(unknown(wanted, modules)),
        _ => Err(Error::AmbiguousModule {
            wanted: wanted.to_owned(),
            candidates: called.iter().map(|index| modules[*index].path.display().to_string()).collect(),
        }),
    }
}

/// The modules alike, or else the usual ones, as they are loaded.
fn unknown(wanted: &str, modules: &[Name<'_>]) -> Error {
    const MOST: usize = 12;
    let stem = |name: &str| {
        let name = name.rsplit('/').next().unwrap_or(name);
        let name = name.strip_prefix("lib").unwrap_or(name);
        name.split(".so").next().unwrap_or(name).to_lowercase()
    };
    // `c` of `libc.so.6` is in too many names.
    let holds = |one: &str, other: &str| one == other || (other.len() > 2 && one.contains(other));
    let part = stem(wanted);
    let is_alike = |module: &&Name<'_>| {
        let name = file_name(module.path);
        holds(&stem(&name), &part) || holds(&part, &stem(&name))
    };
    let alike: Vec<&Name<'_>> = modules.iter().filter(is_alike).collect();
    let candidates = if alike.is_empty() { modules.iter().filter(|module| module.usual).collect() } else { alike };
    // By which it can be called.
    let called = |module: &Name<'_>| {
        let name = file_name(module.path);
        let is_only = modules.iter().filter(|other| file_name(other.path) == name).count() == 1;
        if is_only { name } else { module.path.display().to_string() }
    };
    let candidates = candidates.into_iter().take(MOST).map(called).collect();
    Error::NoSuchModule { wanted: wanted.to_owned(), candidates }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc, time::SystemTime};

    use super::{Decision, Disk, Facts, Name, Trigger, decide, differs, resolve_module, status};
    use crate::{
        ledger::{GenerationRecord, ModuleLedger, Rejected},
        model::{Class, FileStamp, Generation, LoadBias, Mark, Mode, Status},
    };

    fn stamp(inode: u64) -> FileStamp {
        FileStamp { device: 1, inode, size: 10, mtime: SystemTime::UNIX_EPOCH }
    }

    fn disk(content: &str) -> Disk {
        Disk::Present { stamp: stamp(2), content: content.to_owned() }
    }

    fn ledger(mark: Mark, rejected: Option<(Status, Option<&str>)>) -> ModuleLedger {
        ModuleLedger {
            mark,
            generations: vec![Arc::new(GenerationRecord {
                number: Generation(0),
                parent: Generation(0),
                file: "/store/original".into(),
                bias: LoadBias(0),
                tls_module: 0,
                tls_base: 0,
                stamp: stamp(1),
                content: "old".into(),
                merged: Vec::new(),
            })],
            active: Generation(0),
            rejected: rejected.map(|(status, content)| Rejected {
                stamp: Some(stamp(2)),
                content: content.map(str::to_owned),
                status,
                failure: None,
            }),
            ..ModuleLedger::default()
        }
    }

    const OFF: Trigger = Trigger::Auto(Mode::Off);
    const MARKED: Trigger = Trigger::Auto(Mode::Marked);
    const ALL: Trigger = Trigger::Auto(Mode::All);
    const NOW: Trigger = Trigger::All;
    const NAMED: Trigger = Trigger::Named;

    #[test]
    fn a_changed_file_by_trigger_class_and_mark() {
        use Class::{Executable, Project, Protected, System};
        use Decision::{Protected as Never, Reload, Skip, Wait};
        let table = [
            // class, mark, off, marked, all, now, named
            (Project, Mark::None, [Wait, Wait, Reload, Reload, Reload]),
            (Project, Mark::Reload, [Wait, Reload, Reload, Reload, Reload]),
            (Project, Mark::Skip, [Skip, Skip, Skip, Skip, Reload]),
            (System, Mark::None, [Skip, Skip, Skip, Skip, Reload]),
            (System, Mark::Reload, [Wait, Reload, Reload, Reload, Reload]),
            (System, Mark::Skip, [Skip, Skip, Skip, Skip, Reload]),
            (Executable, Mark::None, [Wait, Wait, Reload, Reload, Reload]),
            (Executable, Mark::Skip, [Skip, Skip, Skip, Skip, Reload]),
            (Protected, Mark::None, [Never, Never, Never, Never, Never]),
            (Protected, Mark::Reload, [Never, Never, Never, Never, Never]),
        ];
        for (class, mark, expected) in table {
            let ledger = ledger(mark, None);
            let disk = disk("new");
            for (trigger, expected) in [OFF, MARKED, ALL, NOW, NAMED].into_iter().zip(expected) {
                let found = decide(trigger, Facts { class, disk: &disk, ledger: &ledger });
                assert_eq!(found, expected, "{class:?} {mark:?} {trigger:?}");
            }
        }
    }

    #[test]
    fn a_file_by_what_is_known_of_it() {
        use Decision::{LeaveAlone, Missing, Reload, Unchanged};
        let refused = Some((Status::Refused, Some("new")));
        let unreadable = Some((Status::Failed, None));
        let rolled_back = Some((Status::Changed, Some("new")));
        let unusable = Disk::Unusable { stamp: Some(stamp(2)) };
        let other = Disk::Unusable { stamp: Some(stamp(3)) };
        let table = [
            // rejected, disk, status, auto, now, named
            (None, Disk::Unseen, Status::Current, [Unchanged, Unchanged, Unchanged]),
            (None, disk("old"), Status::Current, [Unchanged, Unchanged, Unchanged]),
            (None, disk("new"), Status::Changed, [Reload, Reload, Reload]),
            (None, Disk::Missing, Status::Missing, [Missing, Missing, Missing]),
            (refused, disk("new"), Status::Refused, [LeaveAlone, LeaveAlone, Reload]),
            (refused, disk("newer"), Status::Changed, [Reload, Reload, Reload]),
            (refused, disk("old"), Status::Current, [Unchanged, Unchanged, Unchanged]),
            (refused, Disk::Unseen, Status::Refused, [LeaveAlone, LeaveAlone, Reload]),
            (unreadable, unusable.clone(), Status::Failed, [LeaveAlone, LeaveAlone, Reload]),
            (unreadable, other, Status::Changed, [Reload, Reload, Reload]),
            // Made readable again without being written.
            (unreadable, disk("new"), Status::Changed, [Reload, Reload, Reload]),
            (None, unusable, Status::Changed, [Reload, Reload, Reload]),
            (rolled_back, disk("new"), Status::Changed, [LeaveAlone, LeaveAlone, Reload]),
            (rolled_back, disk("newer"), Status::Changed, [Reload, Reload, Reload]),
        ];
        for (rejected, disk, expected, decisions) in table {
            let ledger = ledger(Mark::None, rejected);
            let facts = Facts { class: Class::Project, disk: &disk, ledger: &ledger };
            assert_eq!(status(facts), expected, "{rejected:?} {disk:?}");
            assert_eq!([ALL, NOW, NAMED].map(|trigger| decide(trigger, facts)), decisions, "{rejected:?} {disk:?}");
        }
    }

    #[test]
    fn skipped_modules_are_shown_as_such_whatever_their_file() {
        for (class, mark) in [(Class::Project, Mark::Skip), (Class::System, Mark::None), (Class::Protected, Mark::None)]
        {
            let ledger = ledger(mark, None);
            for (disk, is_other) in
                [(disk("new"), true), (disk("old"), false), (Disk::Unseen, false), (Disk::Missing, false)]
            {
                let facts = Facts { class, disk: &disk, ledger: &ledger };
                assert_eq!((status(facts), differs(facts)), (Status::Skipped, is_other));
            }
        }
    }

    fn check(wanted: &str, expected: &str) {
        let module = |path, soname| Name { path: Path::new(path), soname, usual: true };
        let modules = [
            module("/p/app", None),
            module("/p/libfoo.so", Some("libfoo.so.1")),
            module("/p/a/libbar.so", None),
            module("/p/b/libbar.so", None),
            Name { path: Path::new("/lib/libm.so.6"), soname: None, usual: false },
        ];
        let found = match resolve_module(wanted, &modules) {
            Ok(index) => modules[index].path.display().to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn modules_by_name() {
        check("libfoo.so", "/p/libfoo.so");
        check("libfoo.so.1", "/p/libfoo.so");
        check("/p/libfoo.so", "/p/libfoo.so");
        check("/p/a/libbar.so", "/p/a/libbar.so");
        check("app", "/p/app");
        check("libbar.so", "`libbar.so` names several modules: /p/a/libbar.so, /p/b/libbar.so");
        check("foo", "no module `foo` in the target; did you mean libfoo.so?");
        check("libfoo", "no module `libfoo` in the target; did you mean libfoo.so?");
        check("b/libbar.so", "/p/b/libbar.so");
        check("c/libbar.so", "no module `c/libbar.so` in the target; did you mean /p/a/libbar.so, /p/b/libbar.so?");
        check(
            "nothing.so",
            "no module `nothing.so` in the target; did you mean app, libfoo.so, /p/a/libbar.so, /p/b/libbar.so?",
        );
    }
}
