//! A program that lives apart: other files under the same paths, other numbers for the same processes. Made with `unshare`, by
//! root or by anybody in a user namespace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    dashboard::Room,
    deadline::wait_for,
    process,
    stranger::{self, Stranger},
};

/// What is apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A file system of its own on a folder where the dashboard sees another one; its `/proc` is the one from outside.
    Mount,
    /// As `Mount`, and a `/proc` that knows its own processes only.
    OwnProc,
    /// Another root, nothing of which can be written to, with the loader and libc only; and its own `/proc`.
    ReadOnlyRoot,
    /// As `ReadOnlyRoot` in a user namespace, made by a user without rights.
    Rootless,
}

pub const KINDS: [Kind; 4] = [Kind::Mount, Kind::OwnProc, Kind::ReadOnlyRoot, Kind::Rootless];

impl Kind {
    /// The room that such a container needs.
    pub fn room(self) -> Room {
        if self == Kind::Rootless { Room::unprivileged() } else { Room::new() }
    }
}

/// Where the container's programs find what is put into its folder.
const INSIDE: &str = "/srv";

pub struct Container<'a> {
    pub target: Stranger<'a>,
    /// Of the program inside, as it is numbered outside.
    pub pid: u32,
    room: &'a Room,
    kind: Kind,
}

impl<'a> Container<'a> {
    /// Starts `program`, a dynamic one, with copies of `files` beside it.
    pub fn start(room: &'a Room, kind: Kind, program: &Path, files: &[&Path]) -> Container<'a> {
        let folder = room.path().join("container");
        let root = folder.join("root");
        for part in ["srv", "proc", "tmp", "lib64", "lib/x86_64-linux-gnu"] {
            fs::create_dir_all(root.join(part)).expect("the room is ours");
        }
        let put = |file: &Path, name: &Path| fs::copy(file, root.join(name)).expect("the room is ours");
        put(program, Path::new("srv/program"));
        for file in files {
            put(file, &Path::new("srv").join(file.file_name().expect("a file")));
        }
        for library in ["lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/libc.so.6"] {
            put(&Path::new("/").join(library), Path::new(library));
        }
        room.hand_over();
        let script = match kind {
            // Over a folder that every process sees: what lies there is not what the dashboard finds under the path.
            Kind::Mount | Kind::OwnProc => {
                let proc = if kind == Kind::OwnProc { "mount -t proc none /proc && " } else { "" };
                format!(
                    "mount -t tmpfs none /mnt && mkdir /mnt/app && cp -a \"$1\"/srv/. /mnt/app && mount --bind /mnt/app /srv && \
                     {proc}exec /srv/program"
                )
            }
            Kind::ReadOnlyRoot | Kind::Rootless => {
                "mount --bind \"$1\" \"$1\" && cd \"$1\" && mount -t proc none proc && \
                 mkdir -p old && mount -o remount,ro,bind \"$1\" && pivot_root . old && cd / && exec /srv/program"
                    .to_owned()
            }
        };
        let mut command = Command::new("unshare");
        if kind == Kind::Rootless {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", &script, "sh"]).arg(&root);
        room.become_user(&mut command);
        let mut target = Stranger::spawn(room, &mut command);
        target.host.line_where(|line| line.starts_with("ready ").then_some(()));
        let pid = wait_for("the program inside", || process::family(target.pid()).get(1).copied());
        Container { target, pid, room, kind }
    }

    /// The path of a file as the program inside knows it.
    pub fn inside(&self, name: &str) -> String {
        format!("{INSIDE}/{name}")
    }

    /// The same file where we may write to it.
    pub fn outside(&self, name: &str) -> PathBuf {
        match self.kind {
            Kind::Mount | Kind::OwnProc => PathBuf::from(format!("/proc/{}/root{INSIDE}/{name}", self.pid)),
            Kind::ReadOnlyRoot | Kind::Rootless => self.room.path().join("container/root/srv").join(name),
        }
    }

    /// Puts a new version of a file in its place.
    pub fn install(&self, file: &Path, name: &str) {
        let (unfinished, place) = (self.outside("unfinished"), self.outside(name));
        fs::copy(file, &unfinished).expect("we may write there");
        self.room.give_away(&unfinished);
        fs::rename(unfinished, place).expect("the same folder");
    }

    /// A verb about the program inside.
    pub fn verb(&self, arguments: &[&str]) -> std::process::Output {
        stranger::verb(self.room, self.pid, arguments)
    }
}
