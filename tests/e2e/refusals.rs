//! Programs that cannot be attached: `ps` and `attach` say the same of each, why and what to do, and the program goes on.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use reload_tests::{
    dashboard::Room,
    greek::host,
    skip::{is_root, skip},
    stranger::{Stranger, refused},
    toolchain,
};

fn goes_on(target: &mut Stranger<'_>) {
    assert_eq!(target.ask("hello"), "still here");
}

/// A program that anybody may start.
fn program(room: &Room) -> PathBuf {
    let program = host(room, "apart");
    fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    program
}

#[test]
fn it_has_confined_itself() {
    let room = Room::new();
    let mut target = Stranger::ready(&room, program(&room), &["seccomp"]);
    refused(&room, target.pid(), "confined itself (seccomp)", "switch its sandbox off");
    goes_on(&mut target);
}

#[test]
fn it_runs_on_musl() {
    let room = Room::new();
    let loader = room.path().join("ld-musl-x86_64.so.1");
    fs::copy("/lib64/ld-linux-x86-64.so.2", &loader).expect("the loader is there");
    let built = room.path().join("musl");
    let interpreter = format!("-Wl,--dynamic-linker={}", loader.display());
    toolchain::program(&toolchain::hosts().join("apart.c"), &["-O1", &interpreter], &built);
    let mut target = Stranger::ready(&room, &built, &[]);
    refused(&room, target.pid(), "it uses musl", "build it for glibc");
    goes_on(&mut target);
}

#[test]
fn it_belongs_to_somebody_else() {
    if !is_root() {
        return skip("it_belongs_to_somebody_else", "only root can be two users");
    }
    let room = Room::unprivileged();
    room.hand_over();
    let mut target = Stranger::ready(&room, program(&room), &[]);
    refused(&room, target.pid(), "belongs to another user (0)", "sudo -u '#0'");
    goes_on(&mut target);
    // Root may trace anybody, but what another user owns is not to be trusted: it says how to become that user.
    let (ours, theirs) = (Room::new(), Room::unprivileged());
    theirs.hand_over();
    let program = program(&theirs);
    let mut command = Command::new(program);
    theirs.become_user(&mut command);
    let mut target = Stranger::spawn(&theirs, &mut command);
    target.host.line_where(|line| line.starts_with("ready ").then_some(()));
    refused(&ours, target.pid(), "belongs to another user (65534)", "sudo -u '#65534'");
    goes_on(&mut target);
}

#[test]
fn it_has_rights_that_its_caller_has_not() {
    if !is_root() {
        return skip("it_has_rights_that_its_caller_has_not", "only root can give a file away");
    }
    for (mode, owner, group, reason) in
        [(0o4755, 65_534, 65_534, "belongs to another user (65534)"), (0o2755, 0, 65_534, "set-user-ID")]
    {
        let room = Room::new();
        let program = program(&room);
        std::os::unix::fs::chown(&program, Some(owner), Some(group)).expect("root may");
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).expect("root may");
        let mut target = Stranger::ready(&room, &program, &[]);
        refused(&room, target.pid(), reason, "");
        goes_on(&mut target);
    }
}

#[test]
fn it_lets_nobody_look_into_it() {
    if !is_root() {
        return skip("it_lets_nobody_look_into_it", "the user's own programs are tried as somebody without rights");
    }
    let room = Room::unprivileged();
    let program = program(&room);
    room.hand_over();
    let mut command = Command::new(program);
    command.arg("undumpable");
    room.become_user(&mut command);
    let mut target = Stranger::spawn(&room, &mut command);
    target.host.line_where(|line| line.starts_with("ready ").then_some(()));
    refused(&room, target.pid(), "PR_SET_DUMPABLE", "leave that out in development");
    goes_on(&mut target);
}

/// The user's own program, without any rights: the usual case, which tests that run as root would not see.
#[test]
fn it_is_the_users_own_and_can_be_attached() {
    let room = Room::unprivileged();
    let program = program(&room);
    room.hand_over();
    let mut command = Command::new(program);
    room.become_user(&mut command);
    let mut target = Stranger::spawn(&room, &mut command);
    target.host.line_where(|line| line.starts_with("ready ").then_some(()));
    target.done(&["attach"]);
    goes_on(&mut target);
    let folder = room.runtime.join("reload-dashboard");
    let private = |path: &std::path::Path| {
        let mode = fs::symlink_metadata(path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} is open to others", path.display());
    };
    private(&folder);
    private(&folder.join(target.pid().to_string()));
    private(&folder.join(target.pid().to_string()).join("shadows"));
}
