//! Two libraries of one project: what the one begins to offer, and the other to use, in the same change. The loader that maps the
//! user's new code looks through the libraries that the program loaded, and the new function is in none of these.

use std::fs;

use reload_tests::{
    dashboard::{Launched, Room},
    greek::host,
    install,
    toolchain::Library,
};

const CORE: &str = "
long base(long x) { return x + 1; }
#if VERSION >= 2
long count = 100;
long extra(long x) { return VERSION * 1000 + count + x; }
#endif
";

/// From version 2 on it changes the core's variable as well.
const USER: &str = "
extern long base(long x), extra(long x), count;
long use(long x) {
#if VERSION == 1
    return base(x);
#else
    count += 10;
    return extra(x);
#endif
}
";

/// The libraries in version 1, and how to put another in place.
struct Project<'a> {
    room: &'a Room,
    core: Library,
    user: Library,
}

impl<'a> Project<'a> {
    fn new(room: &'a Room, flags: &str) -> Self {
        let library = |name: &str, text: &str| {
            let source = room.path().join(format!("{name}.c"));
            fs::write(&source, text).expect("the room is ours");
            Library::new(name, source, flags)
        };
        let user = Library { links: vec!["core".into()], ..library("user", USER) };
        let project = Project { room, core: library("core", CORE), user };
        project.install(&project.core, 1);
        project.install(&project.user, 1);
        project
    }

    fn install(&self, library: &Library, version: u32) {
        let built = self.room.path().join(format!("{}-{version}", library.file_name()));
        library.build(version, self.room.path(), &built);
        install::by_rename(&built, &self.room.path().join(library.file_name()));
    }

    /// A program that has opened the user, and with it the core.
    fn target(&self) -> Launched<'a> {
        let mut target = self.room.launch(&host(self.room, "host"), &[]);
        let opened = self.room.path().join(self.user.file_name());
        assert_eq!(target.ask(&format!("open {}", opened.display())), "ok");
        assert_eq!(target.ask("call use 1"), "2");
        for library in [&self.core, &self.user] {
            target.event("loaded", |event| event["module"] == *library.file_name());
        }
        target
    }
}

fn outcomes(target: &Launched<'_>, modules: &[&str]) -> Vec<String> {
    let receipts = target.reload(modules);
    receipts.iter().map(|receipt| receipt["outcome"].as_str().unwrap_or_default().to_owned()).collect()
}

fn check(flags: &str) {
    let room = Room::new();
    let project = Project::new(&room, flags);
    let mut target = project.target();
    // It can only be linked against the core that offers it, and comes first all the same.
    project.install(&project.core, 2);
    project.install(&project.user, 2);
    assert_eq!(outcomes(&target, &["libuser.so", "libcore.so"]), ["reloaded", "reloaded"]);
    assert_eq!(target.ask("call use 1"), "2111");
    project.install(&project.core, 3);
    assert_eq!(outcomes(&target, &["libcore.so"]), ["reloaded"]);
    assert_eq!(target.ask("call use 1"), "3121", "its state stays, and who uses it runs the new code");
    project.install(&project.user, 3);
    assert_eq!(outcomes(&target, &["libuser.so"]), ["unchanged"], "that asks for the same");
    target.done(&["rollback", "libuser.so"]);
    assert_eq!(target.ask("call use 1"), "2");
    project.install(&project.user, 2);
    assert_eq!(outcomes(&target, &["libuser.so"]), ["reloaded"]);
    assert_eq!(target.ask("call use 1"), "3131");
    assert_eq!(target.finish(), Some(0));
}

#[test]
fn function_and_variable_that_are_new_in_another_library() {
    check("-O1 -Wl,-z,lazy");
}

#[test]
fn bound_at_once() {
    check("-O1 -Wl,-z,now");
}

/// In auto mode, and what then brings what the user needs.
fn check_saved_first(then: &[&str]) -> usize {
    let room = Room::new();
    let project = Project::new(&room, "-O1");
    let mut target = project.target();
    // As if a build that links both put the one that needs the other into place first.
    target.done(&["skip", "libcore.so"]);
    target.done(&["mode", "all"]);
    project.install(&project.core, 2);
    project.install(&project.user, 2);
    let failed = target.event("failed", |event| event["module"] == "libuser.so");
    assert!(failed.to_string().contains("undefined symbol"), "{failed:#}");
    assert_eq!(target.ask("call use 1"), "2");
    target.done(then);
    target.ask_until("call use 1", "2111");
    let recovered = target.count("recovered", "libuser.so");
    assert_eq!(target.finish(), Some(0));
    recovered
}

#[test]
fn the_user_is_saved_before_what_it_needs() {
    assert_eq!(check_saved_first(&["unmark", "libcore.so"]), 1);
}

#[test]
fn what_it_needs_is_reloaded_by_hand() {
    // By another process, which tells of it itself.
    check_saved_first(&["reload", "libcore.so"]);
}
