//! What is still to be asked of a target, so that it stands as the user wants it: from a file, or from the time before the
//! program was started anew. What has been decided in the target meanwhile stays. Pure: snapshots in, commands out.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use reload_engine::{
    model::{Class, Connection, Mark, Mode, Snapshot, split_root},
    session::Command,
};

use super::Program;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wishes {
    program: Program,
    mode_asked: bool,
    /// The file was changed under our eyes: its mode counts whatever was decided before.
    insists: bool,
    /// What the file said when it was acted upon last, if it says something else now.
    before: Option<Program>,
    /// Modules whose mark has been asked for, or was found decided.
    marks_asked: BTreeSet<PathBuf>,
}

impl Wishes {
    pub fn new(program: Program) -> Wishes {
        Wishes { program, ..Wishes::default() }
    }

    /// What the user had decided about the target of this snapshot.
    pub fn as_in(snapshot: &Snapshot) -> Wishes {
        let marked = |mark: Mark| {
            let modules = snapshot.modules.iter().filter(move |module| module.mark == mark);
            modules.map(|module| lasting(&module.path).to_string_lossy().into_owned()).collect()
        };
        Wishes::new(Program {
            auto: Some(snapshot.mode),
            mark: marked(Mark::Reload),
            skip: marked(Mark::Skip),
            ..Program::default()
        })
    }

    /// Takes up what was changed in the file since it said `before`: that is asked for, marks where the target still has those
    /// that the file had, as another dashboard may have written there what somebody has decided otherwise since.
    pub fn revise(&mut self, before: Program, program: Program) {
        if program.auto != before.auto {
            self.mode_asked = false;
            self.insists = true;
        }
        self.program = program;
        self.before.get_or_insert(before);
    }

    /// Takes up what the user has decided in the target and the file was told: nothing is left to ask.
    pub fn settle(&mut self, program: Program) {
        self.program = program;
    }

    /// What to ask of the target as it is now. Each module is asked about once, when it is first seen.
    pub fn commands(&mut self, snapshot: &Snapshot) -> Vec<Command> {
        if snapshot.connection != Connection::Attached {
            return Vec::new();
        }
        let mut commands = Vec::new();
        let before = self.before.take();
        for module in snapshot.modules.iter().filter(|module| module.class != Class::Protected) {
            let mark = self.program.mark_of(module);
            let before = before.as_ref().map(|before| before.mark_of(module)).filter(|before| *before != mark);
            if !self.marks_asked.insert(module.path.clone()) && before.is_none() {
                continue;
            }
            let undecided = module.mark == Mark::None || before == Some(module.mark);
            if undecided && module.mark != mark {
                commands.push(Command::Mark { modules: vec![module.path.to_string_lossy().into_owned()], mark });
            }
        }
        // Last, so that a mode for marked modules finds them marked.
        if !std::mem::replace(&mut self.mode_asked, true)
            && let Some(mode) = self.program.auto.filter(|mode| *mode != snapshot.mode)
            && (snapshot.mode == Mode::Off || self.insists)
        {
            commands.push(Command::SetMode(mode));
        }
        commands
    }
}

/// The path of a module, or in a container the part that its next process has too.
fn lasting(path: &Path) -> &Path {
    let (root, inside) = split_root(path);
    if root == Path::new("/") { path } else { inside.strip_prefix("/").unwrap_or(inside) }
}

#[cfg(test)]
mod tests {
    use reload_engine::{
        model::{Class, Connection, Generation, LoadBias, Mark, Mode, Module, Snapshot, Status, Target},
        session::Command,
    };

    use super::{Program, Wishes};

    fn module(name: &str) -> Module {
        Module {
            name: name.to_owned(),
            path: format!("/build/{name}").into(),
            mtime: None,
            size: None,
            class: Class::Project,
            mark: Mark::None,
            status: Status::Current,
            differs: false,
            generation: Generation(0),
            last_ms: None,
            failure: None,
            shield: None,
            history: Vec::new(),
            generations: Vec::new(),
            soname: Some("libsound.so.2".to_owned()).filter(|_| name == "libaudio.so"),
            bias: LoadBias(0),
        }
    }

    fn snapshot(names: &[&str]) -> Snapshot {
        Snapshot {
            target: Target { pid: 7, name: "aurora".to_owned(), exe: "/build/aurora".into() },
            mode: Mode::Off,
            modules: names.iter().map(|name| module(name)).collect(),
            revision: 1,
            connection: Connection::Attached,
            watched_directories: 0,
        }
    }

    fn program(auto: Option<Mode>, mark: &[&str], skip: &[&str]) -> Program {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Program { auto, mark: names(mark), skip: names(skip), ..Program::default() }
    }

    fn mark(name: &str, mark: Mark) -> Command {
        Command::Mark { modules: vec![format!("/build/{name}")], mark }
    }

    #[test]
    fn marks_first_then_the_mode_and_each_once() {
        let mut wishes = Wishes::new(program(Some(Mode::Marked), &["liba.so", "libsound.so.2"], &["build/libb.so"]));
        let now = snapshot(&["liba.so", "libb.so", "libaudio.so", "libc.so"]);
        let expected = [
            mark("liba.so", Mark::Reload),
            mark("libb.so", Mark::Skip),
            mark("libaudio.so", Mark::Reload),
            Command::SetMode(Mode::Marked),
        ];
        assert_eq!(wishes.commands(&now), expected);
        assert_eq!(wishes.commands(&now), [], "whoever decides otherwise now is not overruled");
    }

    #[test]
    fn what_is_loaded_later_is_marked_then() {
        let mut wishes = Wishes::new(program(None, &["liblate.so"], &[]));
        assert_eq!(wishes.commands(&snapshot(&["liba.so"])), []);
        assert_eq!(wishes.commands(&snapshot(&["liba.so", "liblate.so"])), [mark("liblate.so", Mark::Reload)]);
    }

    #[test]
    fn what_was_decided_in_the_target_stays() {
        let mut wishes = Wishes::new(program(Some(Mode::All), &["liba.so"], &[]));
        let mut now = snapshot(&["liba.so"]);
        now.mode = Mode::Marked;
        now.modules[0].mark = Mark::Skip;
        assert_eq!(wishes.commands(&now), []);
        now.connection = Connection::Detached;
        assert_eq!(Wishes::new(program(Some(Mode::All), &[], &[])).commands(&now), [], "nothing of a detached target");
    }

    #[test]
    fn a_file_edited_meanwhile_counts_again() {
        let first = program(Some(Mode::All), &["liba.so", "libb.so"], &[]);
        let mut wishes = Wishes::new(first.clone());
        let mut now = snapshot(&["liba.so", "libb.so", "libc.so", "libd.so"]);
        assert_eq!(wishes.commands(&now).len(), 3);
        now.mode = Mode::All;
        for module in &mut now.modules {
            // The last two were marked in a terminal: the file has never said it.
            module.mark = Mark::Reload;
        }
        wishes.revise(first, program(Some(Mode::Off), &[], &["libb.so", "libd.so"]));
        let expected = [mark("liba.so", Mark::None), mark("libb.so", Mark::Skip), Command::SetMode(Mode::Off)];
        assert_eq!(wishes.commands(&now), expected);
        wishes.settle(program(Some(Mode::Marked), &[], &[]));
        assert_eq!(wishes.commands(&now), [], "what the window wrote was done by the window");
    }
}
