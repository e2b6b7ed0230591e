//! The modules of the target: which there are, what is known of each one's file, and the row that shows it.

use std::{
    collections::{BTreeMap, HashMap, HashSet, btree_map::Entry},
    path::PathBuf,
    sync::Arc,
};

use reload_protocol::LoadedModule;

use super::{
    Event,
    ahead::Forerunner,
    originals::{self, Mapped},
    record::is_failure,
    worker::Worker,
};
use crate::{
    classes::classify,
    error::{Error, Result},
    ledger::{GenerationRecord, ModuleLedger, Rejected},
    model::{Addr, Class, Failure, FileStamp, LoadBias, Mark, Module, Outcome, Stage, Status, file_name},
    policy::{Disk, Facts, Name, differs, is_watched, status},
    target::maps,
    watcher::{Evidence, Look, Reading, Sight, content_hash, stamp},
};

/// Address space reserved near the executable and the modules of a project, for their generations to come. Costs no memory.
const ARENA: u64 = 256 << 20;

/// One module as the session follows it.
#[derive(Debug)]
pub struct Tracked {
    /// Under which the target loaded it; the ledger's key.
    pub path: PathBuf,
    pub name: String,
    pub class: Class,
    pub soname: Option<String>,
    pub bias: LoadBias,
    pub disk: Disk,
    pub look: Look,
    pub reloading: bool,
    /// Analysed ahead of its first reload, or found not to be analysable.
    pub prepared: bool,
    pub forerunner: Option<Forerunner>,
    /// How often it was tried to make it independent of its file.
    pub shield_attempts: u32,
}

impl Tracked {
    pub fn facts<'a>(&'a self, ledger: &'a ModuleLedger) -> Facts<'a> {
        Facts { class: self.class, disk: &self.disk, ledger }
    }

    fn stamp(&self) -> Option<&FileStamp> {
        match &self.disk {
            Disk::Present { stamp, .. } => Some(stamp),
            Disk::Unusable { stamp } => stamp.as_ref(),
            Disk::Unseen | Disk::Missing => None,
        }
    }

    /// Bytes on disk.
    pub fn size(&self) -> Option<u64> {
        self.stamp().map(|stamp| stamp.size)
    }

    /// The table's row.
    pub fn row(&self, ledger: &ModuleLedger) -> Module {
        let shown = if self.reloading { Status::Reloading } else { status(self.facts(ledger)) };
        let failure = match shown {
            Status::Refused | Status::Failed => ledger.rejected.as_ref().and_then(|rejected| rejected.failure.clone()),
            _ => None,
        };
        let stamp = self.stamp();
        let last_reload = ledger.history.iter().rev().find(|line| line.receipt.outcome == Outcome::Reloaded);
        Module {
            name: self.name.clone(),
            path: self.path.clone(),
            mtime: stamp.map(|stamp| stamp.mtime),
            size: stamp.map(|stamp| stamp.size),
            class: self.class,
            mark: ledger.mark,
            status: shown,
            differs: differs(self.facts(ledger)),
            generation: ledger.active,
            last_ms: last_reload.map(|line| line.receipt.timings_ms.total),
            failure,
            shield: ledger.shield,
            history: ledger.history.clone(),
            generations: ledger.generations.iter().map(|record| record.number).collect(),
            soname: self.soname.clone(),
            bias: self.bias,
        }
    }
}

/// What looking at a file led to.
#[derive(Debug)]
pub enum Verdict {
    /// A finished file; its content differs from what was seen last.
    News(Reading),
    /// As it was, or back to what runs.
    Nothing,
    /// It cannot be used, and why.
    Unusable {
        stage: Stage,
        reason: String,
    },
    Missing,
}

impl Worker {
    /// Reads the link map again and takes up what came and went.
    pub fn list_modules(&mut self) -> Result<()> {
        self.pages = self.vitals.size_in_pages().map_err(|_| Error::NoSuchProcess { pid: self.pid })?;
        let loaded = self.link.take_stock()?;
        let mappings = maps::read(self.pid)?;
        let place = |entry: &LoadedModule| (LoadBias(entry.bias), (Addr(entry.start), Addr(entry.end)));
        let places: HashMap<LoadBias, (Addr, Addr)> = loaded.iter().rev().map(place).collect();
        let mut seen = HashSet::new();
        let first = self.modules.is_empty();
        let mut kept = Vec::new();
        let known = std::mem::take(&mut self.modules).into_iter();
        let mut before: BTreeMap<(u64, PathBuf), Tracked> =
            known.map(|module| ((module.bias.0, module.path.clone()), module)).collect();
        for entry in loaded {
            let (start, end) = (Addr(entry.start), Addr(entry.end));
            let path = match entry.path.as_str() {
                "" => self.target.exe.clone(),
                // Loaded by a relative path: only the mapping says which file that was.
                path if !path.starts_with('/') => match maps::file_in(&mappings, start, end) {
                    Some(file) => self.original_of(&file.path).unwrap_or_else(|| file.path.clone()),
                    None => PathBuf::from(path),
                },
                path => PathBuf::from(path),
            };
            // Generations, the process's own and those of one that it was forked from. The agent lies in the store itself.
            let store = self.folder.path().parent();
            let generation = store.is_some_and(|store| path.starts_with(store) && path.parent() != Some(store));
            if generation || !seen.insert(path.clone()) {
                continue;
            }
            let mapped = Mapped {
                pid: self.pid,
                path: &path,
                bias: LoadBias(entry.bias),
                start,
                end,
                tls_module: entry.tls_module,
            };
            if let Entry::Occupied(same) = before.entry((entry.bias, path.clone()))
                && !self.is_another_life(mapped, &mappings)
            {
                kept.push(same.remove());
                continue;
            }
            let name = file_name(&path);
            let store = self.folder.path().parent().unwrap_or(self.folder.path());
            let class =
                if entry.path.is_empty() { Class::Executable } else { classify(&path, &self.target.exe, store) };
            if !first {
                self.tell(Event::Loaded { module: name.clone(), path: path.clone() });
            }
            let mark = self.record.module(&path).map_or(Mark::None, |module| module.mark);
            if is_watched(class, mark) {
                self.keep_original(mapped, class, &mappings);
            }
            let soname = self.first_record(&path).and_then(|record| originals::soname(&record.file));
            let bias = mapped.bias;
            let look = Look::new(path.clone());
            let mut module = Tracked {
                path,
                name,
                class,
                soname,
                bias,
                disk: Disk::Unseen,
                look,
                reloading: false,
                prepared: false,
                forerunner: None,
                shield_attempts: 0,
            };
            self.first_look(&mut module);
            kept.push(module);
        }
        self.modules = kept;
        for module in before.into_values() {
            self.engine.forget_draft(&module.path);
            self.tell(Event::Unloaded { module: module.name, path: module.path });
        }
        self.keep_originals(&[])?;
        // Before threads are stopped, which may take its time: people save meanwhile.
        self.watch();
        self.shield(&places, &mappings);
        self.dirty = true;
        Ok(())
    }

    /// The module whose copy in the store this is.
    fn original_of(&self, copy: &std::path::Path) -> Option<PathBuf> {
        let is_copy = |ledger: &ModuleLedger| ledger.generations.first().is_some_and(|record| record.file == copy);
        self.record.ledger.modules.iter().find(|(_, ledger)| is_copy(ledger)).map(|(path, _)| path.to_path_buf())
    }

    /// Keeps the originals of modules that have become worth following, as a marked library of the system, and of those
    /// in `named`.
    pub fn keep_originals(&mut self, named: &[usize]) -> Result<()> {
        let wanted = |worker: &Worker, index: &usize| {
            let module = &worker.modules[*index];
            let ledger = worker.record.module(&module.path);
            let followed = is_watched(module.class, ledger.map_or(Mark::None, |ledger| ledger.mark));
            (followed || (named.contains(index) && module.class != Class::Protected))
                && ledger.is_none_or(|ledger| ledger.generations.is_empty() && ledger.rejected.is_none())
        };
        let wanted: Vec<usize> = (0..self.modules.len()).filter(|index| wanted(self, index)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let loaded = self.link.modules()?;
        let mappings = maps::read(self.pid)?;
        for index in wanted {
            let module = &self.modules[index];
            let Some(entry) = loaded.iter().find(|entry| entry.bias == module.bias.0) else { continue };
            let (path, class) = (module.path.clone(), module.class);
            let mapped = Mapped {
                pid: self.pid,
                path: &path,
                bias: LoadBias(entry.bias),
                start: Addr(entry.start),
                end: Addr(entry.end),
                tls_module: entry.tls_module,
            };
            self.keep_original(mapped, class, &mappings);
            let soname = self.first_record(&path).and_then(|record| originals::soname(&record.file));
            let mut module = self.modules.remove(index);
            module.soname = soname;
            self.first_look(&mut module);
            self.modules.insert(index, module);
        }
        Ok(())
    }

    fn first_record(&self, path: &std::path::Path) -> Option<&GenerationRecord> {
        self.record.module(path)?.generations.first().map(|record| &**record)
    }

    /// Whether the module was closed and opened again from another file: its generations then mean nothing any more.
    fn is_another_life(&self, mapped: Mapped<'_>, mappings: &[maps::Mapping]) -> bool {
        let Some(record) = self.first_record(mapped.path) else { return false };
        let Some(file) = maps::file_in(mappings, mapped.start, mapped.end) else { return false };
        // Nearly every one that is shielded: it lies in its copy.
        if file.path == record.file
            || self.lies_in_store(file)
            || stamp(&record.file).is_ok_and(|copy| copy.inode == file.inode)
        {
            return false;
        }
        // What has been made independent of its file stays so for life: this was opened from there since.
        let from_there =
            || std::fs::canonicalize(mapped.path).map_or(file.path == mapped.path, |path| path == file.path);
        if self.record.module(mapped.path).is_some_and(|ledger| ledger.shield.is_some()) && from_there() {
            return true;
        }
        if file.deleted || file.inode == record.stamp.inode {
            return false;
        }
        // A file found to mean the same takes the place of the original in the record, so the inode alone proves nothing.
        let is_there = || stamp(mapped.path).is_ok_and(|now| now.inode == file.inode);
        let differs = || std::fs::read(mapped.path).is_ok_and(|bytes| content_hash(&bytes) != record.content);
        is_there() && differs() && is_there()
    }

    fn lies_in_store(&self, file: &maps::MappedFile) -> bool {
        // As the kernel tells paths.
        let store = self.folder.path().parent().and_then(|store| std::fs::canonicalize(store).ok());
        store.is_some_and(|store| file.path.starts_with(store))
    }

    /// Puts generation 0 into the ledger, or the reason why this module cannot be reloaded.
    fn keep_original(&mut self, mapped: Mapped<'_>, class: Class, mappings: &[maps::Mapping]) {
        match self.first_record(mapped.path) {
            Some(record) if record.bias == mapped.bias && !self.is_another_life(mapped, mappings) => return,
            // Its analysed generations are of no use any more either.
            Some(_) => self.engine = Worker::engine(&self.folder, self.engine.progress.clone()),
            None => {}
        }
        let kept = if class == Class::Executable {
            originals::of_executable(mapped)
        } else {
            self.folder.originals().and_then(|folder| originals::keep(mapped, mappings, &folder))
        };
        let path = mapped.path.to_owned();
        let seen = self.first_record(mapped.path).map(identity);
        let changed = match kept {
            Ok(record) => self.record.change(&mut self.link, |ledger| {
                let module = ledger.entry(&path);
                // Another controller was quicker, and may have reloaded it already.
                if module.generations.first().map(|first| identity(first)) != seen {
                    return;
                }
                module.generations = vec![Arc::new(record.clone())];
                module.shield = None;
                module.active = record.number;
                module.rejected = None;
            }),
            Err(error) => {
                let message = error.chain().join(": ");
                tracing::warn!("{message}");
                let on_disk = stamp(&path).ok();
                let failure = Failure {
                    stage: Stage::Read,
                    message: message.clone(),
                    trace: vec![
                        message,
                        "without it there is nothing to compare a new file with".to_owned(),
                        "restart the target; launch it with `reload-dashboard run` so that copies are taken at the start"
                            .to_owned(),
                    ],
                    mtime: on_disk.as_ref().map(|stamp| stamp.mtime),
                };
                let rejected =
                    Rejected { stamp: on_disk, content: None, status: Status::Refused, failure: Some(failure) };
                self.record.change(&mut self.link, |ledger| {
                    let module = ledger.entry(&path);
                    if module.generations.first().map(|first| identity(first)) != seen {
                        return;
                    }
                    module.generations.clear();
                    module.active = Default::default();
                    module.rejected = Some(rejected.clone());
                })
            }
        };
        if matches!(class, Class::Executable | Class::Project)
            && let Err(error) = self.link.reserve(mapped.bias.0, ARENA)
        {
            // Shadows then go where there is room when they come.
            tracing::debug!("{}: no address space reserved: {error}", mapped.path.display());
        }
        if let Err(error) = changed {
            // Another controller is in the middle of something: the next listing tries again.
            tracing::debug!("{}: not noted yet: {error}", path.display());
        } else if let Some((_, before)) = seen
            && self.first_record(&path).is_none_or(|record| record.file != before)
        {
            originals::remove(&before, self.folder.path());
        }
    }

    /// What can be said of the file without reading it.
    fn first_look(&self, module: &mut Tracked) {
        if !module.path.is_absolute() {
            return;
        }
        let Ok(now) = stamp(&module.path) else {
            module.disk = Disk::Missing;
            return;
        };
        let ledger = self.record.module(&module.path);
        let known = ledger.and_then(|ledger| {
            let active = ledger.running().map(|record| (&record.stamp, &record.content));
            let rejected = ledger.rejected.as_ref();
            let rejected = rejected.and_then(|rejected| Some((rejected.stamp.as_ref()?, rejected.content.as_ref()?)));
            [active, rejected].into_iter().flatten().find(|(stamp, _)| **stamp == now)
        });
        match known {
            Some((_, content)) => module.disk = Disk::Present { stamp: now, content: content.clone() },
            None if ledger.is_some_and(|ledger| !ledger.generations.is_empty()) => {
                let rejected = ledger.and_then(|ledger| ledger.rejected.as_ref());
                if rejected.is_some_and(|rejected| rejected.content.is_none() && rejected.stamp.as_ref() == Some(&now))
                {
                    module.disk = Disk::Unusable { stamp: Some(now) };
                } else {
                    module.look.touch(Evidence::Touched, std::time::Instant::now());
                }
            }
            // Not followed, so never compared: the content does not matter.
            None => module.disk = Disk::Present { stamp: now, content: String::new() },
        }
    }

    /// Watches exactly what is worth it. A file that has changed since it was looked at, and before anybody would have told of
    /// it, is looked at again.
    pub fn watch(&mut self) {
        let watched = |module: &&Tracked| {
            let mark = self.record.module(&module.path).map_or(Mark::None, |ledger| ledger.mark);
            module.path.is_absolute() && is_watched(module.class, mark)
        };
        let paths = self.modules.iter().filter(watched).map(|module| module.path.clone()).collect();
        let new = self.watcher.watch(paths);
        for module in &mut self.modules {
            if new.get(&module.path).is_some_and(|now| now.as_ref() != module.stamp()) {
                module.look.touch(Evidence::Touched, std::time::Instant::now());
            }
        }
        for message in self.watcher.notices() {
            self.tell(Event::Notice { message });
        }
    }

    /// Looks at a module's file if it is time to. `None`: nothing can be said yet.
    pub fn look(&mut self, index: usize, now: std::time::Instant) -> Option<Verdict> {
        let module = &mut self.modules[index];
        if module.look.due().is_none_or(|due| due > now) {
            return None;
        }
        let sight = module.look.look(now);
        self.take_in(index, sight)
    }

    fn take_in(&mut self, index: usize, sight: Sight) -> Option<Verdict> {
        let module = &mut self.modules[index];
        let before = module.disk.clone();
        let verdict = match sight {
            Sight::Undecided => return None,
            Sight::Finished(reading) => {
                let content = reading.content.clone();
                let known = matches!(&before, Disk::Present { content: seen, .. } if *seen == content);
                module.disk = Disk::Present { stamp: reading.stamp.clone(), content };
                if known { Verdict::Nothing } else { Verdict::News(reading) }
            }
            Sight::Unusable { stamp, stage, reason } => {
                module.disk = Disk::Unusable { stamp };
                Verdict::Unusable { stage, reason }
            }
            Sight::Missing => {
                module.disk = Disk::Missing;
                if before == Disk::Missing { Verdict::Nothing } else { Verdict::Missing }
            }
        };
        self.dirty |= self.modules[index].disk != before;
        Some(verdict)
    }

    /// Brings what is known of these files up to date before an order is carried out; waits for the undecided. With
    /// `again`, files that could not be used are looked at once more: a permission shows in no stamp.
    pub fn settle(&mut self, indexes: &[usize], again: bool) -> Vec<(usize, Verdict)> {
        for &index in indexes {
            let module = &mut self.modules[index];
            let current = match &module.disk {
                Disk::Present { stamp: seen, .. } => stamp(&module.path).is_ok_and(|now| now == *seen),
                Disk::Missing => stamp(&module.path).is_err(),
                Disk::Unusable { stamp: seen } => !again && stamp(&module.path).ok() == *seen,
                Disk::Unseen => false,
            };
            if !current && module.look.due().is_none() && module.path.is_absolute() {
                module.look.touch(Evidence::Touched, std::time::Instant::now());
            }
        }
        let mut verdicts = Vec::new();
        loop {
            let due = indexes.iter().filter_map(|&index| self.modules[index].look.due()).min();
            let Some(due) = due else { return verdicts };
            std::thread::sleep(due.saturating_duration_since(std::time::Instant::now()));
            for &index in indexes {
                if let Some(verdict) = self.look(index, std::time::Instant::now()) {
                    verdicts.push((index, verdict));
                }
            }
        }
    }

    /// Whether the module's last attempt failed.
    pub fn is_failing(&self, index: usize) -> bool {
        let rejected = self.record.module(&self.modules[index].path).and_then(|ledger| ledger.rejected.as_ref());
        rejected.is_some_and(is_failure)
    }

    /// # Errors
    /// Unknown or ambiguous, with candidates.
    pub fn resolve(&self, wanted: &str) -> Result<usize> {
        let names: Vec<Name<'_>> = self
            .modules
            .iter()
            .map(|module| Name {
                path: &module.path,
                soname: module.soname.as_deref(),
                usual: matches!(module.class, Class::Executable | Class::Project),
            })
            .collect();
        crate::policy::resolve_module(wanted, &names)
    }
}

/// What tells one life of a module from another.
fn identity(first: &GenerationRecord) -> (LoadBias, PathBuf) {
    (first.bias, first.file.clone())
}
