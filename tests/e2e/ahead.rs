//! What is analysed and planned before it is reloaded: a file that a build has finished and not yet put into place, and one that
//! waits for somebody to order its reload. That it was so shows in the receipt; when it is used it is the file's content that runs.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use reload_tests::{
    dashboard::{Launched, Room},
    deadline,
    greek::{Greek, greek_target},
    install,
    package::Package,
    process,
    toolchain::{self, Library},
};
use serde_json::Value;

/// Saves these versions in turn, by a way of saving that leaves longer and longer time to look at the file before it is in place,
/// until what is reloaded had been planned; the receipt of that.
fn until_drafted(target: &mut Launched<'_>, mut save: impl FnMut(&mut Launched<'_>, usize, Duration)) -> Value {
    target.done(&["mode", "all"]);
    let mut reloads = 0;
    deadline::wait_for("a reload that was planned before", || {
        let version = 2 + reloads % 2;
        save(target, version, Duration::from_millis(100 << reloads.min(4)));
        reloads += 1;
        let receipt = expect(target, reloads, &"222".replace('2', &version.to_string()));
        is_drafted(&receipt).then_some(receipt)
    })
}

/// What runs after so many reloads, and the receipt of the last.
fn expect(target: &mut Launched<'_>, reloads: usize, answer: &str) -> Value {
    let receipts = deadline::wait_for("the reload", || Some(receipts(target)).filter(|all| all.len() == reloads));
    assert_eq!(target.ask("call together 0"), answer);
    receipts.into_iter().next_back().expect("there is one")
}

/// Of all reloads so far.
fn receipts(target: &Launched<'_>) -> Vec<Value> {
    let reloads = target.events().into_iter().filter(|event| event["event"] == "reloaded");
    reloads.map(|event| event["receipt"].clone()).collect()
}

fn is_drafted(receipt: &Value) -> bool {
    receipt["details"]["drafted"] == true
}

fn put(version: &Path, place: &Path) {
    fs::copy(version, place).expect("the folder is ours");
}

#[test]
fn file_completed_beside_the_modules() {
    let room = Room::new();
    let greek = Greek::new(&room, 3);
    let mut target = greek_target(&room, &greek);
    let beside = greek.installed.with_extension("so.new");
    let receipt = until_drafted(&mut target, |_, version, gap| {
        put(&greek.versions[version - 1], &beside);
        thread::sleep(gap);
        fs::rename(&beside, &greek.installed).expect("the folder is ours");
    });
    assert!(receipt["functions"]["changed"].as_u64() > Some(0), "{receipt:#}");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn file_that_cargo_links() {
    let room = Room::new();
    let greek = Greek::new(&room, 3);
    let deps = room.path().join("deps");
    fs::create_dir(&deps).expect("the folder is ours");
    let linked = deps.join("libgreek-0123456789abcdef.so");
    fs::hard_link(&greek.installed, &linked).expect("one file system");
    let mut target = greek_target(&room, &greek);
    until_drafted(&mut target, |_, version, gap| {
        install::by_rename(&greek.versions[version - 1], &linked);
        thread::sleep(gap);
        install::remove(&greek.installed);
        fs::hard_link(&linked, &greek.installed).expect("one file system");
    });
    assert_eq!(target.finish(), Some(0));
}

/// Between what cargo's linker does and what cargo does there is time enough.
#[test]
fn program_that_cargo_builds() {
    let room = Room::new();
    let source = "#[inline(never)]\nfn number() -> u32 {\n    0\n}\n\nfn main() {\n    loop {\n        \
        println!(\"number {}\", number());\n        std::thread::sleep(std::time::Duration::from_millis(20));\n    }\n}\n";
    let package = Package::new(&room, "counter", source, "", false);
    let mut target = room.launch_silent(&package.program("counter"), &[]);
    target.done(&["mode", "all"]);
    let mut edits = 0;
    deadline::wait_for("a reload that was planned before", || {
        package.edit(&[(&format!("    {edits}\n}}"), &format!("    {}\n}}", edits + 1))]);
        edits += 1;
        let line = format!("number {edits}");
        target.host.line_where(|said| (*said == line).then_some(()));
        receipts(&target).iter().any(is_drafted).then_some(())
    });
    process::end(target.pid);
}

#[test]
fn file_whose_reload_is_ordered_later() {
    let room = Room::new();
    let greek = Greek::new(&room, 3);
    let mut target = greek_target(&room, &greek);
    until_drafted(&mut target, |target, version, gap| {
        target.done(&["mode", "off"]);
        greek.install(version);
        thread::sleep(gap);
        target.done(&["mode", "all"]);
    });
    assert_eq!(target.finish(), Some(0));
}

/// Libraries so large that their shadows are written ahead, too, which shows in the store.
struct Heavy {
    /// Versions 2 and 3.
    versions: [PathBuf; 2],
    installed: PathBuf,
    /// Where a file is before it is put into place.
    beside: PathBuf,
    shadows: PathBuf,
}

/// A target that runs the light version 1.
fn heavy_target(room: &Room) -> (Launched<'_>, Heavy) {
    let greek = Greek::new(room, 1);
    let target = greek_target(room, &greek);
    (target, Heavy::new(room, greek.installed))
}

impl Heavy {
    fn new(room: &Room, installed: PathBuf) -> Heavy {
        let weight = room.path().join("weight.c");
        fs::write(&weight, "const char weight[1 << 20] = {1};\n").expect("the room is ours");
        let source = toolchain::hosts().join("greek.c");
        let library = Library { more: vec![weight], ..Library::new("greek", source, "-O0") };
        let versions = [2, 3].map(|version| {
            let built = room.path().join(format!("built/heavy-{version}.so"));
            library.build(version, room.path(), &built);
            built
        });
        let store = room.leftovers().pop().expect("the target lives");
        let beside = installed.with_extension("so.new");
        Heavy { versions, installed, beside, shadows: store.join("shadows") }
    }

    fn drafts(&self) -> BTreeSet<PathBuf> {
        fs::read_dir(&self.shadows).expect("the target lives").flatten().map(|entry| entry.path()).collect()
    }

    /// Completes a version beside the module, and waits until there is another draft than those that there were; all shadows then.
    fn foreshadow(&self, version: usize) -> BTreeSet<PathBuf> {
        let before = self.drafts();
        deadline::wait_for("a draft", || {
            // The dashboard may still be taking up what the target has loaded.
            put(&self.versions[version - 2], &self.beside);
            let is_new = || Some(self.drafts()).filter(|now| !now.is_subset(&before));
            deadline::until(Duration::from_secs(2), is_new)
        })
    }
}

#[test]
fn file_that_changes_before_it_is_in_place() {
    let room = Room::new();
    let (mut target, heavy) = heavy_target(&room);
    target.done(&["mode", "all"]);
    heavy.foreshadow(2);
    // No event tells of what is written into a mapping.
    let last = fs::read(&heavy.versions[1]).expect("just built");
    let file = File::options().read(true).write(true).open(&heavy.beside).expect("the file is ours");
    assert_eq!(file.metadata().expect("an open file").len(), last.len() as u64, "both are of one size");
    // SAFETY: a shared mapping of a file that is ours, of its whole size, unmapped once nobody uses it any more.
    unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let mapping = libc::mmap(std::ptr::null_mut(), last.len(), protection, libc::MAP_SHARED, file.as_raw_fd(), 0);
        assert_ne!(mapping, libc::MAP_FAILED);
        std::ptr::copy_nonoverlapping(last.as_ptr(), mapping.cast(), last.len());
        fs::rename(&heavy.beside, &heavy.installed).expect("the folder is ours");
        drop(file);
        assert_eq!(libc::munmap(mapping, last.len()), 0);
    }
    let receipt = expect(&mut target, 1, "333");
    assert!(!is_drafted(&receipt), "{receipt:#}");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn file_that_another_one_overtakes() {
    let room = Room::new();
    let (mut target, heavy) = heavy_target(&room);
    target.done(&["mode", "all"]);
    heavy.foreshadow(2);
    let unrelated = room.path().join("unrelated");
    put(&heavy.versions[1], &unrelated);
    fs::rename(&unrelated, &heavy.installed).expect("the folder is ours");
    let receipt = expect(&mut target, 1, "333");
    assert!(!is_drafted(&receipt), "{receipt:#}");
    assert_eq!(heavy.drafts().len(), 1, "only that of the generation is left");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn other_generation_runs_by_then() {
    let room = Room::new();
    let (mut target, heavy) = heavy_target(&room);
    target.done(&["mode", "all"]);
    install::by_rename(&heavy.versions[0], &heavy.installed);
    expect(&mut target, 1, "222");
    assert_eq!(heavy.foreshadow(3).len(), 2);
    // By another controller; the dashboard only hears of it.
    target.done(&["rollback", Greek::NAME]);
    assert_eq!(target.ask("call together 0"), "111");
    deadline::wait_for("the draft to be forgotten", || (heavy.drafts().len() == 1).then_some(()));
    fs::rename(&heavy.beside, &heavy.installed).expect("the folder is ours");
    let receipt = expect(&mut target, 2, "333");
    assert!(!is_drafted(&receipt), "{receipt:#}");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn files_that_never_come_leave_nothing() {
    let room = Room::new();
    let (mut target, heavy) = heavy_target(&room);
    for version in [2, 3, 2] {
        heavy.foreshadow(version);
        let is_alone = || (heavy.drafts().len() == 1).then_some(());
        deadline::wait_for("the draft before it to go", is_alone);
    }
    assert_eq!(target.ask("call together 0"), "111");
    // Nothing is made of what is not to be reloaded.
    target.done(&["skip", Greek::NAME]);
    target.event("mark", |event| event["module"] == Greek::NAME);
    let before = heavy.drafts();
    put(&heavy.versions[1], &heavy.beside);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(heavy.drafts(), before);
    assert_eq!(target.finish(), Some(0));
    assert_eq!(room.leftovers(), Vec::<PathBuf>::new());
}
