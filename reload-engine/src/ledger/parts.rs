//! The ledger as the agent keeps it: parts under keys, so that what is written, sent and kept anew with a reload is what the
//! reload has changed.
//!
//! Each generation and each line of history is a part of its own: there may be a thousand of the one, and the others are long.
//! Keys and values are JSON; the agent compares keys and nothing else.

use std::{
    cmp::Ordering,
    iter,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use reload_protocol::Part;
use serde::{Deserialize, Serialize};

use super::{GenerationRecord, Ledger, ModuleLedger, Rejected, Wishes};
use crate::{
    error::{Error, Result},
    model::{Generation, HistoryEntry, Mark, Mode, Shield, rfc3339},
    target::{
        link::{AgentLink, LedgerParts},
        space::Space,
    },
};

/// What a part is about; `P` is a path, as the target knows it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Key<P> {
    Target,
    Module(P),
    Generation(P, Generation),
    /// A line of the history, by its time.
    Line(P, #[serde(with = "rfc3339")] SystemTime),
}

/// The part [`Key::Target`].
#[derive(PartialEq, Default, Serialize, Deserialize)]
struct Overall {
    mode: Mode,
    detached: bool,
    #[serde(default)]
    wishes: Wishes,
}

impl Overall {
    fn of(ledger: &Ledger) -> Self {
        Overall { mode: ledger.mode, detached: ledger.detached, wishes: ledger.wishes }
    }
}

/// The part [`Key::Module`].
#[derive(Serialize, Deserialize)]
struct Head {
    mark: Mark,
    active: Generation,
    rejected: Option<Rejected>,
    #[serde(default)]
    shield: Option<Shield>,
}

impl Head {
    fn of(module: &ModuleLedger) -> Self {
        let ModuleLedger { mark, active, rejected, shield, .. } = module;
        Head { mark: *mark, active: *active, rejected: rejected.clone(), shield: *shield }
    }
}

/// The parts that make `new` of `old` in the keeping of the agent of a target that lives in `space`.
///
/// # Errors
/// Something cannot be encoded.
pub fn changes(old: &Ledger, new: &Ledger, space: &Space) -> Result<Vec<Part>> {
    let mut changes = Changes { parts: Vec::new(), space };
    if Overall::of(old) != Overall::of(new) {
        changes.put(&Key::<&Path>::Target, Some(&Overall::of(new)))?;
    }
    for (path, was, is) in modules(old, new) {
        changes.module(path, was, is)?;
    }
    Ok(changes.parts)
}

/// The modules that differ, with what is known of each in the one ledger and the other.
pub fn modules<'a>(
    old: &'a Ledger,
    new: &'a Ledger,
) -> impl Iterator<Item = (&'a Path, Option<&'a ModuleLedger>, Option<&'a ModuleLedger>)> {
    let (mut olds, mut news) = (old.modules.iter().peekable(), new.modules.iter().peekable());
    iter::from_fn(move || {
        loop {
            let order = match (olds.peek(), news.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((one, _)), Some((other, _))) if Arc::ptr_eq(one, other) => Ordering::Equal,
                (Some((one, _)), Some((other, _))) => one.cmp(other),
            };
            let was = if order.is_le() { olds.next() } else { None };
            let is = if order.is_ge() { news.next() } else { None };
            let same = matches!((was, is), (Some((_, was)), Some((_, is))) if Arc::ptr_eq(was, is));
            if let Some((path, _)) = was.or(is).filter(|_| !same) {
                return Some((&**path, was.map(|(_, was)| &**was), is.map(|(_, is)| &**is)));
            }
        }
    })
}

struct Changes<'a> {
    parts: Vec<Part>,
    space: &'a Space,
}

impl Changes<'_> {
    fn module(&mut self, path: &Path, was: Option<&ModuleLedger>, is: Option<&ModuleLedger>) -> Result<()> {
        let there = self.space.from_there(path);
        let nothing = ModuleLedger::default();
        let (before, now) = (was.unwrap_or(&nothing), is.unwrap_or(&nothing));
        let head = |of: &ModuleLedger| (of.mark, of.active, of.shield);
        if was.is_some() != is.is_some() || head(before) != head(now) || before.rejected != now.rejected {
            self.put(&Key::Module(there), is.map(Head::of).as_ref())?;
        }
        self.list(&before.generations, &now.generations, |record| Key::Generation(there, record.number))?;
        self.list(&before.history, &now.history, |line| Key::Line(there, line.time))
    }

    /// What differs between two lists. Most of both is the same, in the same order.
    fn list<'p, T: PartialEq + Serialize>(
        &mut self,
        was: &[Arc<T>],
        is: &[Arc<T>],
        key: impl Fn(&T) -> Key<&'p Path>,
    ) -> Result<()> {
        let same = |one: &Arc<T>, other: &Arc<T>| Arc::ptr_eq(one, other) || one == other;
        let all = |list: &[Arc<T>]| -> Result<Vec<Vec<u8>>> { list.iter().map(|it| encoded(&key(it))).collect() };
        let begun = was.iter().zip(is).take_while(|(was, is)| same(was, is)).count();
        let (was, is) = (&was[begun..], &is[begun..]);
        let (before, now) = (all(was)?, all(is)?);
        for (gone, _) in before.iter().zip(was).filter(|(key, _)| !now.contains(key)) {
            self.parts.push(Part { key: gone.clone(), value: None });
        }
        for (key, it) in now.into_iter().zip(is) {
            let known = before.iter().position(|known| *known == key);
            if known.is_none_or(|known| !same(&was[known], it)) {
                self.parts.push(Part { key, value: Some(encoded(&**it)?) });
            }
        }
        Ok(())
    }

    fn put(&mut self, key: &Key<&Path>, value: Option<&impl Serialize>) -> Result<()> {
        let value = value.map(encoded).transpose()?;
        self.parts.push(Part { key: encoded(key)?, value });
        Ok(())
    }
}

fn encoded(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::Unsupported(format!("the ledger cannot be written: {error}")))
}

/// The ledger as the agent has it now, and its revision; `known` is what it was at `revision`, 0 for nothing.
///
/// # Errors
/// The link broke, or the agent's ledger is of another version.
pub fn latest(link: &mut AgentLink, revision: u64, known: &Ledger) -> Result<(u64, Ledger)> {
    let LedgerParts { revision, whole, parts } = link.ledger(revision)?;
    let mut ledger = if whole { Ledger::default() } else { known.clone() };
    apply(&mut ledger, &parts, link.space()).map_err(|error| {
        Error::Unsupported(format!(
            "the ledger of process {} cannot be read ({error}); it was written by another version: restart the target",
            link.pid()
        ))
    })?;
    Ok((revision, ledger))
}

/// Takes over what the agent of a target that lives in `space` says has changed.
fn apply(ledger: &mut Ledger, parts: &[Part], space: &Space) -> serde_json::Result<()> {
    for Part { key, value } in parts {
        let here = |path: PathBuf| space.from_here(&path);
        match (serde_json::from_slice::<Key<PathBuf>>(key)?, value) {
            (Key::Target, value) => {
                let Overall { mode, detached, wishes } = decoded(value.as_deref())?.unwrap_or_default();
                (ledger.mode, ledger.detached, ledger.wishes) = (mode, detached, wishes);
            }
            (Key::Module(path), Some(value)) => {
                let Head { mark, active, rejected, shield } = serde_json::from_slice(value)?;
                let module = ledger.entry(&here(path));
                (module.mark, module.active, module.rejected, module.shield) = (mark, active, rejected, shield);
            }
            (Key::Module(path), None) => drop(ledger.modules.remove(&*here(path))),
            (Key::Generation(path, number), value) => {
                let record: Option<GenerationRecord> = decoded(value.as_deref())?;
                if let Some(module) = holder(ledger, &here(path), record.is_some()) {
                    put(&mut module.generations, record, |record| record.number.cmp(&number));
                }
            }
            (Key::Line(path, time), value) => {
                let line: Option<HistoryEntry> = decoded(value.as_deref())?;
                if let Some(module) = holder(ledger, &here(path), line.is_some()) {
                    put(&mut module.history, line, |line| line.time.cmp(&time));
                }
            }
        }
    }
    Ok(())
}

fn decoded<T: for<'de> Deserialize<'de>>(value: Option<&[u8]>) -> serde_json::Result<Option<T>> {
    value.map(serde_json::from_slice).transpose()
}

/// Whose part it is. Parts come in any order: what is there makes the module, what is gone does not.
fn holder<'a>(ledger: &'a mut Ledger, path: &Path, there: bool) -> Option<&'a mut ModuleLedger> {
    if there { Some(ledger.entry(path)) } else { ledger.module_mut(path) }
}

/// Puts something in its place in an ascending list, or takes it out.
fn put<T>(list: &mut Vec<Arc<T>>, it: Option<T>, order: impl Fn(&T) -> Ordering) {
    match (list.binary_search_by(|other| order(other)), it.map(Arc::new)) {
        (Ok(at), Some(it)) => list[at] = it,
        (Ok(at), None) => drop(list.remove(at)),
        (Err(at), Some(it)) => list.insert(at, it),
        (Err(_), None) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        path::Path,
        process,
        sync::Arc,
        time::{Duration, SystemTime},
    };

    use reload_protocol::Part;

    use super::{apply, changes};
    use crate::{
        ledger::{GenerationRecord, Ledger, ModuleLedger, Rejected},
        model::{Change, FileStamp, Generation, HistoryEntry, LoadBias, Mark, Mode, Outcome, Receipt, Shield, Status},
        target::space::Space,
    };

    fn record(number: u32) -> Arc<GenerationRecord> {
        Arc::new(GenerationRecord {
            number: Generation(number),
            parent: Generation(number.saturating_sub(1)),
            file: format!("/store/{number}/x.so").into(),
            bias: LoadBias(0x1000),
            tls_module: 1,
            tls_base: 0,
            stamp: FileStamp { device: 1, inode: 2, size: 3, mtime: SystemTime::UNIX_EPOCH + Duration::from_nanos(5) },
            content: "abc".into(),
            merged: Vec::new(),
        })
    }

    fn line(second: u64) -> Arc<HistoryEntry> {
        let receipt = Receipt::empty("x.so", Outcome::Reloaded, Generation(second as u32));
        Arc::new(HistoryEntry {
            time: SystemTime::UNIX_EPOCH + Duration::new(second, 7),
            what: Change::Reload,
            receipt,
        })
    }

    const X: &str = "/p/x.so";

    fn x(ledger: &mut Ledger) -> &mut ModuleLedger {
        ledger.entry(Path::new(X))
    }

    type Step = (&'static str, usize, fn(&mut Ledger));

    /// Each with the number of parts that it changes.
    const STEPS: &[Step] = &[
        ("nothing", 0, |_| {}),
        ("two modules with their originals", 4, |ledger| {
            x(ledger).generations.push(record(0));
            ledger.entry(Path::new("/p/y.so")).generations.push(record(0));
        }),
        ("the mode", 1, |ledger| ledger.mode = Mode::All),
        ("marks", 1, |ledger| x(ledger).mark = Mark::Skip),
        ("a change and its opposite", 0, |ledger| {
            x(ledger).mark = Mark::None;
            x(ledger).mark = Mark::Skip;
        }),
        ("a reload", 2, |ledger| {
            x(ledger).active = Generation(1);
            x(ledger).generations.push(record(1));
        }),
        ("a hundred more", 101, |ledger| {
            x(ledger).generations.extend((2..102).map(record));
            x(ledger).active = Generation(101);
        }),
        ("the next of them", 2, |ledger| {
            x(ledger).active = Generation(102);
            x(ledger).generations.push(record(102));
        }),
        ("the file of one of them", 1, |ledger| Arc::make_mut(&mut x(ledger).generations[50]).content = "other".into()),
        ("lines of history", 50, |ledger| x(ledger).history.extend((0..50).map(line))),
        ("a line more, and the oldest goes", 2, |ledger| {
            x(ledger).history.push(line(50));
            x(ledger).history.remove(0);
        }),
        ("a failure", 1, |ledger| {
            let (stamp, content) = (None, Some("bad".into()));
            x(ledger).rejected = Some(Rejected { stamp, content, status: Status::Failed, failure: None });
        }),
        ("a shield", 1, |ledger| x(ledger).shield = Some(Shield { bytes: 5, ms: 1.5, pause_ms: 0.1 })),
        ("another life", 104, |ledger| {
            x(ledger).generations = vec![Arc::new(GenerationRecord { bias: LoadBias(0x9000), ..(*record(0)).clone() })];
            x(ledger).active = Generation(0);
        }),
        ("a module less", 52, |ledger| drop(ledger.modules.remove(Path::new(X)))),
        ("and there again", 2, |ledger| x(ledger).generations.push(record(0))),
    ];

    #[test]
    fn what_changes_is_what_is_written_and_every_reader_gets_it() {
        let space = Space::of(process::id());
        let mut ledger = Ledger::default();
        // One that is told of each change, one that is told of two at a time, and what is kept.
        let (mut follower, mut late, mut kept) = (Ledger::default(), Ledger::default(), BTreeMap::new());
        let mut untold: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        for (number, (what, count, step)) in STEPS.iter().enumerate() {
            let before = ledger.clone();
            step(&mut ledger);
            let parts = changes(&before, &ledger, &space).unwrap();
            assert_eq!(parts.len(), *count, "{what}");
            apply(&mut follower, &parts, &space).unwrap();
            assert_eq!(follower, ledger, "{what}");
            for Part { key, value } in parts {
                untold.insert(key.clone(), value.clone());
                match value {
                    Some(value) => kept.insert(key, value),
                    None => kept.remove(&key),
                };
            }
            if number % 2 == 1 {
                let parts: Vec<Part> =
                    std::mem::take(&mut untold).into_iter().map(|(key, value)| Part { key, value }).collect();
                apply(&mut late, &parts, &space).unwrap();
                assert_eq!(late, ledger, "two steps to {what}");
            }
            let all: Vec<Part> =
                kept.iter().map(|(key, value)| Part { key: key.clone(), value: Some(value.clone()) }).collect();
            let mut newcomer = Ledger::default();
            apply(&mut newcomer, &all, &space).unwrap();
            assert_eq!(newcomer, ledger, "anew after {what}");
        }
    }

    #[test]
    fn what_another_version_wrote_is_an_error() {
        let space = Space::of(process::id());
        let check = |key: &str, value: &str| {
            let part = Part { key: key.into(), value: Some(value.into()) };
            assert!(apply(&mut Ledger::default(), &[part], &space).is_err(), "{key}: {value}");
        };
        check("\"target\"", "{\"mode\":\"sometimes\",\"detached\":false}");
        check("\"planet\"", "{}");
        check("{\"module\":\"/p/x.so\"}", "{}");
        check("{\"generation\":[\"/p/x.so\",1]}", "7");
    }
}
