//! No edit is lost, whichever way a writer puts its file there: each way that FINDINGS lists, done many times over.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use super::{Evidence, Look, Sight, Watcher, content_hash, deciding_names};

const DEADLINE: Duration = Duration::from_secs(20);
const SAVES: u32 = 200;

/// A real ELF file; version `number` differs in the last bytes, as rebuilt files differ in content and not in size.
fn version(number: u32) -> Vec<u8> {
    static BASE: OnceLock<Vec<u8>> = OnceLock::new();
    let base = BASE.get_or_init(|| {
        let libc = fs::read_to_string("/proc/self/maps").unwrap();
        let line = libc.lines().find(|line| line.contains("/libgcc_s.so") || line.contains("/libm.so"));
        let path = line.or(libc.lines().find(|line| line.contains("/libc.so"))).unwrap().split_whitespace().last();
        fs::read(path.unwrap()).unwrap()
    });
    let mut bytes = base.clone();
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes
}

/// Watches one path the way a session does.
struct Eye {
    watcher: Watcher,
    look: Look,
    seen: Vec<String>,
}

impl Eye {
    fn on(path: &Path) -> Eye {
        let mut watcher = Watcher::new();
        watcher.watch(BTreeSet::from([path.to_owned()]));
        assert_eq!(watcher.notices(), Vec::<String>::new());
        Eye { watcher, look: Look::new(path.to_owned()), seen: Vec::new() }
    }

    /// Lets events in until `until` or until `stop` says so.
    fn run(&mut self, until: Instant, stop: impl Fn(&Sight) -> bool) -> bool {
        loop {
            let now = Instant::now();
            let due = self.look.due().unwrap_or(until).min(until);
            if due <= now && self.look.due().is_some_and(|due| due <= now) {
                let sight = self.look.look(now);
                if let Sight::Finished(reading) = &sight {
                    self.seen.push(reading.content.clone());
                }
                if stop(&sight) {
                    return true;
                }
                continue;
            }
            if now >= until {
                return false;
            }
            if self.watcher.wake().recv_timeout(due.saturating_duration_since(now)).is_ok() {
                for (_, evidence) in self.watcher.touched() {
                    self.look.touch(evidence, Instant::now());
                }
            }
        }
    }

    fn wait_for(&mut self, number: u32) {
        let wanted = content_hash(&version(number));
        let found = self
            .run(Instant::now() + DEADLINE, |sight| matches!(sight, Sight::Finished(found) if found.content == wanted));
        assert!(found, "save {number} was never noticed");
    }
}

type Save = fn(&Path, &[u8]);

/// As mold does, and most editors: written elsewhere, then moved into place.
fn rename(path: &Path, bytes: &[u8]) {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes).unwrap();
    fs::rename(temporary, path).unwrap();
}

/// As lld does: moved into place while still open.
fn rename_then_close(path: &Path, bytes: &[u8]) {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary).unwrap();
    file.write_all(bytes).unwrap();
    fs::rename(temporary, path).unwrap();
    drop(file);
}

/// As cp does: truncated, then written in pieces.
fn in_place(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path).unwrap();
    for piece in bytes.chunks(bytes.len() / 7) {
        file.write_all(piece).unwrap();
    }
}

/// As cargo does: the old name goes, a hard link comes.
fn hard_link(path: &Path, bytes: &[u8]) {
    let original = path.with_extension("deps");
    let _ = fs::remove_file(&original);
    fs::write(&original, bytes).unwrap();
    let _ = fs::remove_file(path);
    fs::hard_link(original, path).unwrap();
}

/// As ld.bfd does.
fn delete_and_create(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    let mut file = File::create(path).unwrap();
    for piece in bytes.chunks(bytes.len() / 5) {
        file.write_all(piece).unwrap();
    }
}

/// As gold does: at full size at once, the header last.
fn header_last(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let _ = fs::remove_file(path);
    let file = File::create(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    file.write_all_at(&bytes[64..], 64).unwrap();
    file.write_all_at(&bytes[..64], 0).unwrap();
}

/// Every save is noticed by itself, and bursts end with the last version, never with a mixture.
fn check(save: Save) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lib.so");
    save(&path, &version(0));
    let mut eye = Eye::on(&path);
    for number in 1..=SAVES {
        save(&path, &version(number));
        // Most are waited for, so that one lost is found; every tenth comes 5 ms after the one before.
        if number % 10 == 0 {
            eye.run(Instant::now() + Duration::from_millis(5), |_| false);
        } else {
            eye.wait_for(number);
        }
    }
    eye.wait_for_or_seen(SAVES);
    let all: BTreeSet<String> = (0..=SAVES).map(|number| content_hash(&version(number))).collect();
    assert!(eye.seen.iter().all(|content| all.contains(content)), "a half-written file was believed");
}

impl Eye {
    fn wait_for_or_seen(&mut self, number: u32) {
        if self.seen.last() != Some(&content_hash(&version(number))) {
            self.wait_for(number);
        }
    }
}

#[test]
fn writer_renames() {
    check(rename);
}

#[test]
fn writer_renames_then_closes() {
    check(rename_then_close);
}

#[test]
fn writer_truncates_in_place() {
    check(in_place);
}

#[test]
fn writer_links() {
    check(hard_link);
}

#[test]
fn writer_deletes_and_creates() {
    check(delete_and_create);
}

#[test]
fn writer_fills_the_header_last() {
    check(header_last);
}

/// The last word that inotify has on a rename is that the writer is done, whatever else is told of it: nothing is waited for.
#[test]
fn a_rename_is_evidence_enough() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lib.so");
    rename(&path, &version(0));
    let mut watcher = Watcher::new();
    watcher.watch(BTreeSet::from([path.clone()]));
    rename(&path, &version(1));
    let mut last = None;
    while watcher.wake().recv_timeout(Duration::from_millis(200)).is_ok() {
        last = watcher.touched().remove(&path).or(last);
    }
    assert_eq!(last, Some(Evidence::Finished));
}

#[test]
fn saves_50_ms_apart_are_all_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lib.so");
    rename(&path, &version(0));
    let mut eye = Eye::on(&path);
    for number in 1..=40 {
        rename(&path, &version(number));
        eye.run(Instant::now() + Duration::from_millis(50), |_| false);
    }
    eye.wait_for_or_seen(40);
    // Seen in order, each at most once.
    let order: Vec<String> = (1..=40).map(|number| content_hash(&version(number))).collect();
    let mut rest = order.iter();
    assert!(eye.seen.iter().all(|content| rest.any(|expected| expected == content)));
}

#[test]
fn directory_removed_and_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let build = folder.path().join("build/deep");
    let path = build.join("lib.so");
    fs::create_dir_all(&build).unwrap();
    rename(&path, &version(0));
    let mut eye = Eye::on(&path);
    for round in 0..5 {
        fs::remove_dir_all(folder.path().join("build")).unwrap();
        if round % 2 == 0 {
            assert!(eye.run(Instant::now() + DEADLINE, |sight| *sight == Sight::Missing));
        }
        fs::create_dir_all(&build).unwrap();
        rename(&path, &version(round * 2 + 1));
        eye.wait_for(round * 2 + 1);
        in_place(&path, &version(round * 2 + 2));
        eye.wait_for(round * 2 + 2);
    }
}

#[test]
fn link_and_its_target_are_both_watched() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    for release in ["one", "two"] {
        fs::create_dir_all(root.join(release)).unwrap();
    }
    rename(&root.join("one/lib.so.1"), &version(1));
    rename(&root.join("two/lib.so.1"), &version(2));
    symlink("lib.so.1", root.join("one/lib.so")).unwrap();
    symlink("lib.so.1", root.join("two/lib.so")).unwrap();
    symlink("one", root.join("current")).unwrap();
    let path = root.join("current/lib.so");
    assert_eq!(deciding_names(&path), [root.join("current"), root.join("one/lib.so"), root.join("one/lib.so.1")]);

    let mut eye = Eye::on(&path);
    rename(&root.join("one/lib.so.1"), &version(3));
    eye.wait_for(3);
    symlink("two", root.join("next")).unwrap();
    fs::rename(root.join("next"), root.join("current")).unwrap();
    eye.wait_for(2);
    rename(&root.join("two/lib.so.1"), &version(4));
    eye.wait_for(4);
}

#[test]
fn polling_notices_too() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("lib.so");
    rename(&path, &version(0));
    let mut watcher = Watcher::new();
    watcher.watch(BTreeSet::from([path.clone()]));
    assert!(watcher.poll().is_empty());
    rename(&path, &version(1));
    assert!(watcher.poll().contains_key(&path));
    assert!(watcher.poll().is_empty());
    // An older time is a change too.
    File::options().write(true).open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert!(watcher.poll().contains_key(&path));
}
