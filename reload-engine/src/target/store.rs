//! The store: a private folder per user with a private folder per target, and which of them belong to nobody any more.
//!
//! What is kept in a target's folder is decided by others.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::{self, DirBuilder, TryLockError},
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::statvfs::{FsFlags, statvfs},
    unistd::geteuid,
};
use reload_protocol::{SOCKET_NAME, STORE_VARIABLE};
use tempfile::NamedTempFile;

use super::{
    link::within_reach,
    maps,
    process::{self, Process},
    space::Space,
};
use crate::error::{Error, Result};

/// The folder that holds the agent and one folder per target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreRoot {
    path: PathBuf,
}

impl StoreRoot {
    /// `$XDG_RUNTIME_DIR/reload-dashboard`, else `reload-dashboard-UID` in the temporary directory: the first that is
    /// private, can hold code (`noexec` cannot) and has a name that `LD_PRELOAD` can carry. Makes it if it is missing.
    pub fn find() -> Result<StoreRoot> {
        let mut reasons = Vec::new();
        for path in candidates() {
            match StoreRoot::at(&path) {
                Ok(root) => return Ok(root),
                Err(error) => reasons.push(error.chain().join(": ")),
            }
        }
        Err(Error::Unsupported(format!(
            "no folder for the store: {}; set TMPDIR to a private folder on a file system without noexec",
            reasons.join("; ")
        )))
    }

    /// The store at exactly `path`.
    pub fn at(path: &Path) -> Result<StoreRoot> {
        let unsuitable = |reason: &str| {
            let module = path.display().to_string();
            Err(Error::Unsuitable { module, reason: reason.into() })
        };
        // The dynamic loader splits LD_PRELOAD at these.
        if !path.is_absolute() || path.as_os_str().as_bytes().iter().any(|byte| b" :\t\n".contains(byte)) {
            return unsuitable("the path is relative or has spaces or colons, which LD_PRELOAD cannot carry");
        }
        make_private(path)?;
        let file_system =
            statvfs(path).map_err(|errno| file_error(path, "asking about its file system", errno.into()))?;
        if file_system.flags().contains(FsFlags::ST_NOEXEC) {
            return unsuitable("its file system is mounted noexec");
        }
        Ok(StoreRoot { path: path.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where everything of target `pid` is kept; made by its agent, or here.
    pub fn target_folder(&self, pid: u32) -> Result<TargetFolder> {
        let folder = self.folder_of(pid);
        make_private(folder.path())?;
        Ok(folder)
    }

    fn folder_of(&self, pid: u32) -> TargetFolder {
        TargetFolder { path: self.path.join(pid.to_string()) }
    }

    /// Removes the folders of processes that have ended. An agent that was preloaded into a pid namespace has named its folder
    /// by a number that here is nobody's, or somebody else's. A process that was forked from one that has ended runs what is in
    /// that one's folder, until it has been attached itself.
    pub fn sweep(&self) {
        let mut ended = self.targets();
        ended.retain(|(pid, folder)| !process::is_alive(*pid) && !is_listened_to(&folder.socket()));
        if ended.is_empty() {
            return;
        }
        let mapped = self.mapped_targets();
        for (_, folder) in ended.iter().filter(|(pid, _)| !mapped.contains(pid)) {
            // What cannot be removed now can the next time.
            let _ = fs::remove_dir_all(folder.path());
        }
    }

    /// The targets of whose folders some process has files mapped.
    fn mapped_targets(&self) -> HashSet<u32> {
        let user = geteuid();
        // As the kernel tells paths.
        let root = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mut targets = HashSet::new();
        for process in Process::all().into_iter().filter(|process| user.is_root() || process.uid == user.as_raw()) {
            for file in maps::read(process.pid).unwrap_or_default().into_iter().filter_map(|mapping| mapping.file) {
                let folder = file.path.strip_prefix(&root).ok().and_then(|path| path.iter().next()?.to_str());
                targets.extend(folder.and_then(|folder| folder.parse::<u32>().ok()));
            }
        }
        targets
    }

    fn targets(&self) -> Vec<(u32, TargetFolder)> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Vec::new() };
        let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        entries.flatten().filter_map(pid).map(|pid| (pid, self.folder_of(pid))).collect()
    }
}

/// One target's folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetFolder {
    path: PathBuf,
}

impl TargetFolder {
    /// The folder in which the agent of `pid` listens, wherever the target was told to put it.
    pub fn of_agent(pid: u32) -> Option<TargetFolder> {
        let told =
            process::environment(pid).ok().and_then(|variables| variables.get(OsStr::new(STORE_VARIABLE)).cloned());
        // Preloaded in a pid namespace it has named the folder by the number that it has there.
        let inner = Space::of(pid).inner_pid;
        let names = [pid, inner].into_iter().take(if inner == pid { 1 } else { 2 });
        let roots: Vec<PathBuf> = told.map(PathBuf::from).into_iter().chain(candidates()).collect();
        let mut folders = names.flat_map(|name| {
            roots.iter().map(move |root| TargetFolder { path: root.join(name.to_string()) }).collect::<Vec<_>>()
        });
        folders.find(|folder| fs::symlink_metadata(folder.socket()).is_ok())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn socket(&self) -> PathBuf {
        self.path.join(SOCKET_NAME)
    }

    /// Copies of the files as the target first loaded them.
    pub fn originals(&self) -> Result<PathBuf> {
        self.subfolder("originals")
    }

    /// The generations' shadows.
    pub fn shadows(&self) -> Result<PathBuf> {
        self.subfolder("shadows")
    }

    fn subfolder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        make_private(&path)?;
        Ok(path)
    }
}

/// Tries until nobody else's lock is in the way, no longer than `patience`; whether none is. Where there are no locks none ever is.
pub fn await_lock(lock: impl Fn() -> Result<(), TryLockError>, patience: Duration) -> bool {
    const POLL: Duration = Duration::from_millis(2);
    let deadline = Instant::now() + patience;
    loop {
        match lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(POLL),
            result => return !matches!(result, Err(TryLockError::WouldBlock)),
        }
    }
}

/// Puts `bytes` into the store as `path`, whole or not at all, for this user only. What has that name already stays.
///
/// # Errors
/// The folder is missing or cannot be written to, or there is no room.
pub fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    match unnamed(path, bytes)?.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        _ => Ok(()),
    }
}

/// The same in the place of what has that name, which is not written to.
///
/// # Errors
/// As for [`put`].
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    unnamed(path, bytes)?.persist(path)?;
    Ok(())
}

/// Removes a file of the store with the folder that was made for it. Whoever has it mapped keeps it.
pub fn remove_with_folder(path: &Path) {
    if let Some(folder) = path.parent() {
        // What stays only takes room until the target ends.
        let _ = fs::remove_dir_all(folder);
    }
}

/// What is to be called `path`, beside it. Several controllers may be at it at once, so until it is whole the file has a name that
/// is nobody else's: who truncates a file takes even the pages away that those who have it mapped have made their own
/// (`unmap_mapping_range` with `even_cows`, mm/memory.c).
fn unnamed(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(&format!(".{name}.")).tempfile_in(folder)?;
    file.write_all(bytes)?;
    Ok(file)
}

fn candidates() -> Vec<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let of_user = format!("reload-dashboard-{}", geteuid());
    let session = variable("XDG_RUNTIME_DIR").map(|folder| folder.join("reload-dashboard"));
    let temporary = variable("TMPDIR").map(|folder| folder.join(&of_user));
    session.into_iter().chain(temporary).chain([Path::new("/tmp").join(&of_user)]).collect()
}

fn is_listened_to(socket: &Path) -> bool {
    within_reach(socket, |path| UnixStream::connect(path)).is_ok()
}

/// Makes the folder if it is missing. Somebody else's folder, or a symbolic link where ours should be, is an error.
fn make_private(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(file_error(path, "making the folder", error));
        }
        _ => {}
    }
    let metadata = fs::symlink_metadata(path).map_err(|error| file_error(path, "looking at the folder", error))?;
    // Of root's too: whoever owns the folder could put an agent of his own into root's programs.
    if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() {
        let source = io::Error::other("it is not a folder of this user's; remove it or set TMPDIR elsewhere");
        return Err(file_error(path, "using it as the store", source));
    }
    if metadata.mode() & 0o077 != 0 {
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(path, private).map_err(|error| file_error(path, "making it private", error))?;
    }
    Ok(())
}

fn file_error(path: &Path, doing: &'static str, source: io::Error) -> Error {
    Error::File { path: path.to_owned(), doing, source }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, symlink},
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::{StoreRoot, put, replace};

    #[test]
    fn what_is_there_stays_unless_it_is_to_be_replaced() {
        let temporary = tempfile::tempdir().expect("temporary folder");
        let path = temporary.path().join("x.so");
        put(&path, b"first").expect("put");
        put(&path, b"second").expect("it is there");
        assert_eq!(fs::read(&path).expect("it is there"), b"first");
        replace(&path, b"third").expect("replaced");
        assert_eq!(fs::read(&path).expect("it is there"), b"third");
        assert!(put(&temporary.path().join("missing/x.so"), b"").is_err());
    }

    #[test]
    fn file_that_two_replace_at_once_is_always_one_of_theirs() {
        const LEN: usize = 64 << 10;
        let temporary = tempfile::tempdir().expect("temporary folder");
        let path = temporary.path().join("x.so");
        put(&path, &[0; LEN]).expect("put");
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for content in [1, 2] {
                let (path, done) = (&path, &done);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        replace(path, &[content; LEN]).expect("replaced");
                    }
                });
            }
            for _ in 0..2000 {
                let found = fs::read(&path).expect("it is there");
                let is_whole = found.len() == LEN && found.iter().all(|byte| *byte == found[0]);
                if !is_whole {
                    done.store(true, Ordering::Relaxed);
                }
                assert!(is_whole, "{} bytes, of both", found.len());
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(fs::read_dir(temporary.path()).expect("folder").count(), 1, "unfinished files stay behind");
    }

    #[test]
    fn folders_are_private_and_swept() {
        let temporary = tempfile::tempdir().expect("temporary folder");
        let root = StoreRoot::at(&temporary.path().join("store")).expect("store");
        let own = root.target_folder(std::process::id()).expect("folder");
        // Larger than any process id that the kernel gives.
        let dead = root.target_folder(u32::MAX).expect("folder");
        fs::write(dead.shadows().expect("shadows").join("x.so"), b"x").expect("write");
        assert_eq!(fs::metadata(own.path()).expect("metadata").mode() & 0o777, 0o700);
        root.sweep();
        assert!(own.path().exists() && !dead.path().exists());
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let temporary = tempfile::tempdir().expect("temporary folder");
        symlink("/tmp", temporary.path().join("store")).expect("symlink");
        assert!(StoreRoot::at(&temporary.path().join("store")).is_err());
    }

    #[test]
    fn a_folder_of_somebody_else_is_not_used() {
        let temporary = tempfile::tempdir().expect("temporary folder");
        let path = temporary.path().join("store");
        fs::create_dir(&path).expect("makes it");
        // Without root's rights there is nobody else to give it to.
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65_534), Some(65_534)).expect("gives it away");
            assert!(StoreRoot::at(&path).is_err());
        }
    }

    #[test]
    fn a_path_that_ld_preload_splits_is_refused() {
        let temporary = tempfile::tempdir().expect("temporary folder");
        assert!(StoreRoot::at(&temporary.path().join("a b")).is_err());
        assert!(!temporary.path().join("a b").exists());
    }
}
