//! Notices that a module's file may have changed, by inotify on directories, and by polling where inotify gives out.
//!
//! Directories rather than files are watched: linkers delete, rename and link, and a watch on a file dies with its inode.
//! What changed is not decided here: an event is only a reason to [`look`] at a file. Some tell of a [`forerunner`], a file that
//! may be about to become a module's.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    ops::Bound::{Excluded, Unbounded},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use notify::{
    ErrorKind, EventKind, INotifyWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode},
};

use crate::model::FileStamp;

mod completeness;
mod forerunner;
mod lease;
mod look;
mod names;
#[cfg(test)]
mod writers;

use names::{Names, deciding_names};

pub use completeness::{Completeness, completeness};
pub use look::{Evidence, Expected, Look, PATIENCE, Reading, Sight, content_hash, stamp, stamp_of};

/// How many files one poll looks at, where events tell of most changes.
const POLLED_AT_ONCE: usize = 100;

/// Watches the files of a set of modules.
pub struct Watcher {
    inotify: Option<INotifyWatcher>,
    shared: Arc<Mutex<Shared>>,
    wake: Receiver<()>,
    modules: BTreeSet<PathBuf>,
    directories: BTreeMap<PathBuf, Watched>,
    /// Stamps at the last poll, to notice what no event told.
    stamps: BTreeMap<PathBuf, Option<FileStamp>>,
    /// Where the next poll goes on.
    polled: Option<PathBuf>,
    /// Where cargo links the files of modules, by module.
    origins: BTreeMap<PathBuf, PathBuf>,
    /// Directories of those that inotify watches.
    origin_directories: BTreeSet<PathBuf>,
    /// Modules whose origin is to be looked for when there is time.
    origins_to_find: BTreeSet<PathBuf>,
    notices: Vec<String>,
}

/// How a directory is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    /// By inotify: device and inode, as a directory of the same name may come in its place.
    Inode(u64, u64),
    /// Inotify cannot.
    Polled,
}

/// What the thread of notify shares with ours.
#[derive(Default)]
struct Shared {
    /// Whose change may change what a module's path means.
    names: Names,
    touched: BTreeMap<PathBuf, Evidence>,
    /// [`Watcher::origins`] the other way round.
    becoming: HashMap<PathBuf, PathBuf>,
    /// By module, what was completed last that may become its file.
    forerunners: BTreeMap<PathBuf, PathBuf>,
    /// A name of these modules came or went: where it leads has to be looked up anew.
    moved: BTreeSet<PathBuf>,
    /// Directories whose watch has ended with them. One that is made again may get the same inode number.
    lost: BTreeSet<PathBuf>,
    /// The kernel's queue overflowed: anything may have changed.
    overflowed: bool,
    /// Somebody opened a library that is not a module yet: the target may be about to load it.
    library_opened: bool,
}

impl Watcher {
    pub fn new() -> Watcher {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (sender, wake) = bounded(1);
        let mut notices = Vec::new();
        let handler = {
            let shared = Arc::clone(&shared);
            move |event| note(&mut lock(&shared), &sender, event)
        };
        let inotify = match INotifyWatcher::new(handler, notify::Config::default()) {
            Ok(inotify) => Some(inotify),
            Err(error) => {
                notices.push(format!(
                    "file changes are noticed by polling, because inotify could not be opened ({error}); \
                     if a limit is reached, raise it: sudo sysctl fs.inotify.max_user_instances=1024"
                ));
                None
            }
        };
        Watcher {
            inotify,
            shared,
            wake,
            modules: BTreeSet::new(),
            directories: BTreeMap::new(),
            stamps: BTreeMap::new(),
            polled: None,
            origins: BTreeMap::new(),
            origin_directories: BTreeSet::new(),
            origins_to_find: BTreeSet::new(),
            notices,
        }
    }

    /// Readable when [`Watcher::touched`] has something.
    pub fn wake(&self) -> &Receiver<()> {
        &self.wake
    }

    /// What the user should know, each once.
    pub fn notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// How many directories are watched.
    pub fn directories(&self) -> usize {
        self.directories.len()
    }

    /// Whether some directory can only be polled, so that [`Watcher::poll`] should be called several times a second.
    pub fn polls(&self) -> bool {
        self.directories.values().any(|watched| *watched == Watched::Polled)
    }

    /// Watches exactly the files at these paths from now on. What each of those is that were not watched before: who looked at
    /// one earlier and saw something else has missed a change, and will be told of none.
    pub fn watch(&mut self, modules: BTreeSet<PathBuf>) -> BTreeMap<PathBuf, Option<FileStamp>> {
        if modules == self.modules {
            return BTreeMap::new();
        }
        let new: Vec<PathBuf> = modules.difference(&self.modules).cloned().collect();
        let others = modules.symmetric_difference(&self.modules).cloned().collect();
        self.stamps.retain(|path, _| modules.contains(path));
        self.origins_to_find.extend(modules.symmetric_difference(&self.modules).cloned());
        self.modules = modules;
        self.follow_names(others);
        let new: BTreeMap<_, _> = new.into_iter().map(|path| (path.clone(), stamp(&path).ok())).collect();
        self.stamps.extend(new.clone());
        new
    }

    /// The files that may have changed since the last call.
    pub fn touched(&mut self) -> BTreeMap<PathBuf, Evidence> {
        let (mut touched, mut moved, lost, overflowed) = {
            let mut shared = lock(&self.shared);
            let shared = &mut *shared;
            (
                std::mem::take(&mut shared.touched),
                std::mem::take(&mut shared.moved),
                !shared.lost.is_empty(),
                std::mem::take(&mut shared.overflowed),
            )
        };
        if overflowed {
            moved.clone_from(&self.modules);
        }
        self.origins_to_find.extend(moved.iter().cloned());
        if lost || !moved.is_empty() {
            // A directory that came back may hold files already, for which there will be no event.
            for path in self.follow_names(moved) {
                touched.entry(path).or_insert(Evidence::Touched);
            }
        }
        if overflowed {
            touched.extend(self.modules.iter().map(|path| (path.clone(), Evidence::Touched)));
        }
        // What is about to be looked at needs no second look by the next poll.
        for path in touched.keys() {
            if let Some(last) = self.stamps.get_mut(path) {
                *last = stamp(path).ok();
            }
        }
        touched
    }

    /// Files that have been completed since the last call and may be about to take the place of a module's, by module. Whether
    /// one does, only its content tells.
    pub fn forerunners(&mut self) -> BTreeMap<PathBuf, PathBuf> {
        std::mem::take(&mut lock(&self.shared).forerunners)
    }

    /// Whether somebody opened a library beside the watched ones since the last call, as `dlopen` does.
    pub fn library_opened(&mut self) -> bool {
        std::mem::take(&mut lock(&self.shared).library_opened)
    }

    /// Compares stamps: what inotify cannot tell (network file systems, a renamed grandparent, a limit) is noticed here. Of many
    /// files that inotify watches each poll looks at some, in turns.
    pub fn poll(&mut self) -> BTreeMap<PathBuf, Evidence> {
        let mut touched = BTreeMap::new();
        let most = if self.polls() { usize::MAX } else { POLLED_AT_ONCE };
        let from = self.polled.take().filter(|_| most < self.stamps.len()).map_or(Unbounded, Excluded);
        let mut last_looked_at = None;
        for (path, last) in self.stamps.range_mut((from, Unbounded)).take(most) {
            let now = stamp(path).ok();
            if now != *last {
                *last = now;
                touched.insert(path.clone(), Evidence::Touched);
            }
            last_looked_at = Some(path);
        }
        self.polled = last_looked_at.cloned();
        let stale = self
            .directories
            .iter()
            .filter(|(path, watched)| **watched != Watched::Polled && identity(path) != Some(**watched));
        let stale: Vec<&PathBuf> = stale.map(|(path, _)| path).collect();
        if !stale.is_empty() {
            let inside = |path: &PathBuf| lock(&self.shared).names.in_directory(path).cloned().unwrap_or_default();
            let moved = stale.into_iter().flat_map(inside).collect();
            for path in self.follow_names(moved) {
                touched.entry(path).or_insert(Evidence::Touched);
            }
        }
        touched
    }

    /// Brings the names of these modules and their directories up to date; returns the modules under directories that are newly
    /// watched.
    fn follow_names(&mut self, mut modules: BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
        let mut affected = BTreeSet::new();
        let lost = std::mem::take(&mut lock(&self.shared).lost);
        for path in lost {
            modules.extend(lock(&self.shared).names.in_directory(&path).into_iter().flatten().cloned());
            self.unwatch(&path);
        }
        // A watch is set after looking: what appears in between is found by looking again until nothing is new.
        for _ in 0..8 {
            let mut directories = BTreeSet::new();
            for module in &modules {
                let names = if self.modules.contains(module) { deciding_names(module) } else { Vec::new() };
                directories.extend(lock(&self.shared).names.replace(module, names));
            }
            let mut grew = false;
            for path in &directories {
                let inside = lock(&self.shared).names.in_directory(path).cloned();
                let Some(inside) = inside else {
                    self.unwatch(path);
                    continue;
                };
                let now = identity(path);
                match self.directories.get(path) {
                    Some(Watched::Polled) => continue,
                    Some(watched) if now == Some(*watched) => continue,
                    Some(_) => self.unwatch(path),
                    None => {}
                }
                // One that vanished since it was looked up is found by the next round in its parent.
                if let Some(watched) = now.and_then(|now| self.set_watch(path, now)) {
                    self.directories.insert(path.clone(), watched);
                }
                modules.extend(inside.iter().cloned());
                affected.extend(inside);
                grew = true;
            }
            if !grew {
                break;
            }
        }
        affected
    }

    /// Whether [`Watcher::follow_origins`] has something to do.
    pub fn has_origins_to_find(&self) -> bool {
        !self.origins_to_find.is_empty()
    }

    /// Watches where cargo links the files of modules that were linked anew or have come.
    pub fn follow_origins(&mut self) {
        self.origins.retain(|module, _| self.modules.contains(module));
        for module in std::mem::take(&mut self.origins_to_find) {
            let file = lock(&self.shared).names.file_of(&module).cloned();
            // In the middle of a build there is none; it will be where it was.
            let known = self.origins.get(&module);
            if let Some(origin) = file.and_then(|file| forerunner::origin(&file, known)) {
                self.origins.insert(module, origin);
            }
        }
        let directory = |origin: &PathBuf| Some(origin.parent()?.to_owned());
        let wanted: BTreeSet<PathBuf> = self.origins.values().filter_map(directory).collect();
        if let Some(inotify) = &mut self.inotify {
            let unwanted = self.origin_directories.difference(&wanted);
            for path in unwanted.filter(|path| !self.directories.contains_key(*path)) {
                let _ = inotify.unwatch(path);
            }
            // Once more where it is watched already: a directory that was removed took its watch along. Without a watch its files
            // are read when they are in place.
            let watched = wanted.into_iter().filter(|path| inotify.watch(path, RecursiveMode::NonRecursive).is_ok());
            self.origin_directories = watched.collect();
        }
        let becoming = self.origins.iter().map(|(module, origin)| (origin.clone(), module.clone()));
        lock(&self.shared).becoming = becoming.collect();
    }

    /// `None` where the directory has vanished.
    fn set_watch(&mut self, path: &Path, identity: Watched) -> Option<Watched> {
        let Some(inotify) = &mut self.inotify else { return Some(Watched::Polled) };
        match inotify.watch(path, RecursiveMode::NonRecursive) {
            Ok(()) => Some(identity),
            Err(error) => {
                let notice = match error.kind {
                    ErrorKind::MaxFilesWatch => "the limit of inotify watches is reached, so some files are polled \
                         instead, a little later than they change; raise the limit: \
                         sudo sysctl fs.inotify.max_user_watches=524288"
                        .to_owned(),
                    ErrorKind::PathNotFound => return None,
                    _ => format!("{}: cannot be watched, so it is polled instead: {error}", path.display()),
                };
                tracing::warn!("{notice}");
                if !self.notices.contains(&notice) {
                    self.notices.push(notice);
                }
                Some(Watched::Polled)
            }
        }
    }

    fn unwatch(&mut self, path: &Path) {
        if let (Some(Watched::Inode(..)), Some(inotify)) = (self.directories.remove(path), &mut self.inotify)
            && !self.origin_directories.contains(path)
        {
            // A directory that was removed took its watch along.
            let _ = inotify.unwatch(path);
        }
    }
}

impl Shared {
    /// The modules whose file this one may be about to become.
    fn may_become(&self, path: &Path) -> Vec<PathBuf> {
        if let Some(module) = self.becoming.get(path) {
            return vec![module.clone()];
        }
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
        let beside = self.names.in_directory(directory).into_iter().flatten();
        let of_module = |module: &&PathBuf| {
            let certain = self.forerunners.get(*module).is_some_and(|other| self.becoming.contains_key(other));
            !certain
                && module.parent() == Some(directory)
                && module.file_name().is_some_and(|module| forerunner::may_become(name, module))
        };
        beside.filter(of_module).cloned().collect()
    }
}

impl Default for Watcher {
    fn default() -> Self {
        Watcher::new()
    }
}

/// Takes down one event; runs on notify's thread.
fn note(shared: &mut Shared, wake: &Sender<()>, event: notify::Result<notify::Event>) {
    let Ok(event) = event else {
        shared.overflowed = true;
        let _ = wake.try_send(());
        return;
    };
    if event.need_rescan() {
        shared.overflowed = true;
        let _ = wake.try_send(());
        return;
    }
    let (evidence, structural) = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => (Evidence::Finished, false),
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => (Evidence::Finished, true),
        // Tells once more of a name that went and one that came, which have had events of their own.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return,
        EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => (Evidence::Touched, true),
        EventKind::Create(CreateKind::Folder) => (Evidence::Touched, true),
        // Also how a symbolic link appears, which may lead elsewhere.
        EventKind::Create(_) => (Evidence::Touched, true),
        EventKind::Modify(_) => (Evidence::Touched, false),
        EventKind::Access(AccessKind::Open(_)) => {
            let library = |path: &PathBuf| {
                shared.names.decided_by(path).is_none()
                    && path.parent().is_some_and(|directory| shared.names.in_directory(directory).is_some())
                    && path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so"))
            };
            if !shared.library_opened && event.paths.iter().any(library) {
                shared.library_opened = true;
                let _ = wake.try_send(());
            }
            return;
        }
        // Read, by us more often than not.
        EventKind::Access(_) | EventKind::Any | EventKind::Other => return,
    };
    let mut matters = false;
    for path in &event.paths {
        if evidence == Evidence::Finished {
            let modules = shared.may_become(path);
            matters |= !modules.is_empty();
            shared.forerunners.extend(modules.into_iter().map(|module| (module, path.clone())));
        }
        if let Some(modules) = shared.names.decided_by(path) {
            for module in modules {
                // The last event counts: a write after a close means that there is another writer.
                shared.touched.insert(module.clone(), evidence);
            }
            matters = true;
            if structural {
                shared.moved.extend(modules.iter().cloned());
            }
        }
        if structural && shared.names.in_directory(path).is_some() {
            matters = true;
            shared.lost.insert(path.clone());
        }
    }
    if matters {
        let _ = wake.try_send(());
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Nothing in there can be left half-changed by a panic that would matter: events are reasons to look, no more.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn identity(path: &Path) -> Option<Watched> {
    fs::metadata(path).ok().map(|metadata| Watched::Inode(metadata.dev(), metadata.ino()))
}
