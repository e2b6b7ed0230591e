//! Cases: a folder under `cases/` with the sources of one or more libraries and a `script` of what to do and what to expect.
//!
//! The head of a script, up to the line `---`:
//!
//! ```text
//! library NAME SOURCE [links NAME...]   the first one is the one that steps are about unless they say otherwise; SOURCE may
//!                                       be one that cases share, beside their folders, or several: `one.c+other.c`
//! flags -O0 | -O2                       the case is run once for each; for C and C++ libraries, or rustc for Rust;
//!                                       `{folder}` stands for the case's folder, `{version}` for the version built
//! part SOURCE                           more code of the host's, C or C++, which is built once
//! host opened | linked | program        hosts/host.c opens the libraries, or is linked against them, or has the first one's
//!                                       code inside and is itself what the steps are about; once for each
//! mode all                              auto mode instead of off
//! ```
//!
//! Version 1 of every library is built and installed, the host is started under the dashboard. Then the steps:
//!
//! ```text
//! > COMMAND = ANSWER                    a command of hosts/host.c; `= ok` may be left out; `@name` stands for whatever the
//!                                       answer was when that name was met first
//! > COMMAND contains TEXT
//! >~ COMMAND = ANSWER                   again and again until the answer comes
//! install N [NAME] [by rename|pieces|hard-link|copy]
//! built contains TEXT...                each word occurs in the version installed last, as the name of a symbol does
//! damage half|zeroes|empty|text|machine|class|object      writes that instead of the version installed last
//! remove | forbid                       deletes the file | takes all its permissions
//! reload OUTCOME [TEXT]                 `reload NAME`; TEXT must occur in the failure or in a warning
//! force OUTCOME [TEXT]                the same with --force
//! untouched                             an unnamed `reload` leaves the module alone: nothing reloaded, nothing tried again
//! receipt PATH = VALUE | contains TEXT  of the last receipt, as `functions.changed`
//! list FIELD = VALUE                    waits until the module's row in `list` says so
//! event KIND                            waits for the next event of this kind about the module
//!                                       (OUTCOME, VALUE of `list` and KIND may be alternatives: `failed|refused`)
//! ends saying LINE | LINE...            the last step: on its way out the program prints exactly this, once
//! verb WORDS...                         any other verb, which must succeed; MODULE stands for the library's file name
//! ```

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    dashboard::{Launched, Room, receipts, told},
    deadline, install,
    toolchain::{self, Library, words},
};

/// One folder under `cases/`, with one choice for each `|` in its head.
#[derive(Clone, Debug, Default)]
pub struct Case {
    pub name: String,
    libraries: Vec<Library>,
    /// Sources of the host beside `hosts/host.c`.
    parts: Vec<PathBuf>,
    flags: String,
    host: Host,
    mode: Option<String>,
    /// With their line numbers.
    steps: Vec<(usize, String)>,
}

/// How the host comes by the library that steps are about.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Host {
    #[default]
    Opened,
    Linked,
    Program,
}

/// Every case of a folder of cases.
pub fn all(folder: &Path) -> Vec<Case> {
    let mut folders: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders.iter().flat_map(|folder| read(folder)).collect()
}

/// The variants of one case.
fn read(folder: &Path) -> Vec<Case> {
    let script = folder.join("script");
    let text = fs::read_to_string(&script).unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim().to_owned()));
    let mut case =
        Case { name: folder.file_name().expect("a folder").to_string_lossy().into_owned(), ..Case::default() };
    let mut flags = vec![String::new()];
    let mut hosts = vec!["opened".to_owned()];
    for (number, line) in lines.by_ref().take_while(|(_, line)| line != "---") {
        let (key, value) = line.split_once(' ').unwrap_or((&line, ""));
        let choices = || value.split('|').map(|choice| choice.trim().to_owned()).collect();
        match key {
            "" | "#" => {}
            "library" => case.libraries.push(library(folder, value)),
            "part" => case.parts.push(folder.join(value)),
            "flags" => flags = choices(),
            "host" => hosts = choices(),
            "mode" => case.mode = Some(value.to_owned()),
            _ => panic!("{}:{number}: `{key}` is nothing a head knows", script.display()),
        }
    }
    assert!(!case.libraries.is_empty(), "{}: no library", script.display());
    case.steps = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect();
    let mut variants = Vec::new();
    for flags_chosen in &flags {
        for host in &hosts {
            let how = match host.as_str() {
                "opened" => Host::Opened,
                "linked" => Host::Linked,
                "program" => Host::Program,
                _ => panic!("{}: no host is `{host}`", script.display()),
            };
            let mut variant = Case { flags: flags_chosen.clone(), host: how, ..case.clone() };
            if how == Host::Program {
                variant.put_inside();
            }
            if flags.len() > 1 {
                variant.name += &format!(" [{flags_chosen}]");
            }
            if hosts.len() > 1 {
                variant.name += &format!(" [{host}]");
            }
            variants.push(variant);
        }
    }
    variants
}

fn library(folder: &Path, description: &str) -> Library {
    let words = words(description);
    let mut sources = words[1].split('+').map(|source| folder.join(source));
    let mut library = Library::new(&words[0], sources.next().unwrap_or_default(), "");
    library.more = sources.collect();
    if let Some(links) = words.get(3..) {
        library.links = links.to_vec();
    }
    library
}

/// A case while it runs.
struct Run<'a> {
    room: &'a Room,
    libraries: Vec<Library>,
    target: Launched<'a>,
    /// Built last, of the first library.
    last_built: PathBuf,
    receipt: Value,
    /// What `@name` stands for.
    names: BTreeMap<String, String>,
    /// How many events of each kind have been waited for.
    met: BTreeMap<String, usize>,
}

impl Case {
    /// Makes the first library a part of the host: what the others need of it they then find there.
    fn put_inside(&mut self) {
        let inside = std::mem::replace(&mut self.libraries[0].name, "host".to_owned());
        self.libraries[0].program = Some(toolchain::hosts().join("host.c"));
        for library in &mut self.libraries {
            library.links.retain(|name| *name != inside);
        }
    }

    /// Runs the case; a step that fails panics with its place in the script.
    pub fn run(&self) {
        let room = Room::new();
        let mut libraries = self.libraries.clone();
        for library in &mut libraries {
            library.flags.extend(words(&self.flags));
        }
        for library in &libraries {
            library.build(1, room.path(), &room.path().join(library.file_name()));
        }
        let target = self.start(&room, &libraries);
        let last_built = room.path().join(libraries[0].file_name());
        let (receipt, names, met) = (Value::Null, BTreeMap::new(), BTreeMap::new());
        let mut run = Run { room: &room, libraries, target, last_built, receipt, names, met };
        for (number, step) in &self.steps {
            let step_done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.step(step)));
            if let Err(cause) = step_done {
                let message = cause.downcast_ref::<String>().map(String::as_str);
                let message = message.or(cause.downcast_ref::<&str>().copied()).unwrap_or("no message");
                panic!(
                    "{} script:{number}: `{step}`\n{message}\nthe target said {:?}",
                    self.name, run.target.host.said
                );
            }
        }
        assert_eq!(run.target.finish(), Some(0), "{}: the target's exit status", self.name);
        assert_eq!(room.leftovers(), Vec::<PathBuf>::new(), "{}: the store outlives its target", self.name);
    }

    fn start<'a>(&self, room: &'a Room, libraries: &[Library]) -> Launched<'a> {
        let host = room.path().join("host");
        let mut flags = Vec::new();
        if self.host == Host::Linked {
            flags.extend(["-DLINKED".into(), "-Wl,--no-as-needed".into(), format!("-L{}", room.path().display())]);
            flags.push(format!("-Wl,-rpath,{}", room.path().display()));
            flags.extend(libraries.iter().map(|library| format!("-l{}", library.name)));
        }
        for (index, part) in self.parts.iter().enumerate() {
            let object = room.path().join(format!("part-{index}.o"));
            toolchain::part(part, &object);
            // The linker takes of a library only what it has met a need for.
            flags.splice(..0, [object.display().to_string()]);
        }
        if !self.parts.is_empty() {
            flags.push("-lstdc++".to_owned());
        }
        if self.host != Host::Program {
            toolchain::program(&toolchain::hosts().join("host.c"), &flags, &host);
        }
        let mut target = room.launch(&host, &[]);
        if self.host != Host::Linked {
            for library in libraries.iter().filter(|library| library.program.is_none()) {
                let path = room.path().join(library.file_name());
                assert_eq!(target.ask(&format!("open {}", path.display())), "ok");
            }
        }
        // A module that was opened just now is followed from its first listing on.
        let name = libraries[0].file_name();
        deadline::wait_for("the library in `list`", || {
            let list = target.list();
            list["modules"].as_array()?.iter().any(|module| module["name"] == *name).then_some(())
        });
        if let Some(mode) = &self.mode {
            target.done(&["mode", mode]);
        }
        target
    }
}

impl Run<'_> {
    fn step(&mut self, step: &str) {
        let (word, rest) = step.split_once(' ').unwrap_or((step, ""));
        let arguments = words(rest);
        let file_name = self.libraries[0].file_name();
        let installed = self.room.path().join(&file_name);
        match word {
            ">" => self.say(rest),
            ">~" => {
                let (command, answer) = rest.rsplit_once(" = ").expect("`>~` needs an answer");
                self.target.ask_until(command, answer);
            }
            "install" => self.install(&arguments),
            "built" => {
                let bytes = fs::read(&self.last_built).expect("just built");
                for text in &arguments[1..] {
                    let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
                    assert!(found, "`{text}` is not in {}", self.last_built.display());
                }
            }
            "damage" => install::bytes(&install::damaged(rest, &self.last_built), &installed),
            "remove" => install::remove(&installed),
            "forbid" => {
                let none = std::os::unix::fs::PermissionsExt::from_mode(0o000);
                fs::set_permissions(&installed, none).expect("the file is ours");
            }
            "reload" => self.reload(&arguments, false),
            "force" => self.reload(&arguments, true),
            "untouched" => self.untouched(&file_name),
            "receipt" => {
                let (path, expectation) = rest.split_once(' ').expect("`receipt PATH = VALUE`");
                let pointer = format!("/{}", path.replace('.', "/"));
                let found = self.receipt.pointer(&pointer).unwrap_or_else(|| panic!("no {path} in {}", self.receipt));
                expect(&plain(found), expectation, &self.receipt);
            }
            "list" => {
                let (field, value) = rest.split_once(" = ").expect("`list FIELD = VALUE`");
                let mut row = Value::Null;
                let reached = deadline::until(deadline::PATIENCE, || {
                    row = self.target.module(&file_name);
                    is_one_of(&plain(&row[field]), value).then_some(())
                });
                assert!(reached.is_some(), "the row stays {row}");
            }
            "event" => {
                let met = self.met.entry(rest.to_owned()).or_default();
                *met += 1;
                let (wanted, target) = (*met, &self.target);
                let count =
                    |target: &Launched<'_>| rest.split('|').map(|kind| target.count(kind, &file_name)).sum::<usize>();
                let reached = deadline::until(deadline::PATIENCE, || (count(target) >= wanted).then_some(()));
                assert!(reached.is_some(), "no such event; there were {:#?}", target.events());
            }
            "ends" => {
                let text = rest.strip_prefix("saying ").expect("`ends saying TEXT`");
                let lines: Vec<&str> = text.split(" | ").collect();
                assert_eq!(self.target.host.last_words(), lines);
            }
            "verb" => {
                let words: Vec<&str> =
                    arguments.iter().map(|word| if word == "MODULE" { file_name.as_str() } else { word }).collect();
                self.target.done(&words);
            }
            _ => panic!("no such step"),
        }
    }

    fn say(&mut self, rest: &str) {
        let (command, expectation) = match (rest.rsplit_once(" = "), rest.split_once(" contains ")) {
            (Some((command, answer)), _) => (command, format!("= {answer}")),
            (None, Some((command, text))) => (command, format!("contains {text}")),
            (None, None) => (rest, "= ok".to_owned()),
        };
        let answer = self.target.ask(command);
        match expectation.strip_prefix("= @") {
            Some(name) => {
                let known = self.names.entry(name.to_owned()).or_insert_with(|| answer.clone());
                assert_eq!(*known, answer, "@{name}");
            }
            None => expect(&answer, &expectation, &Value::Null),
        }
    }

    /// `N [NAME] [by WAY]`
    fn install(&mut self, arguments: &[String]) {
        let version = arguments[0].parse().expect("`install N`");
        let way = arguments.iter().position(|word| word == "by").map_or("rename", |by| arguments[by + 1].as_str());
        let named = arguments.get(1).filter(|word| *word != "by");
        let index = named.map_or(0, |name| {
            self.libraries.iter().position(|library| library.name == *name).expect("a library of this case")
        });
        let library = &self.libraries[index];
        let built = self.room.path().join("built").join(format!("{version}-{}", library.file_name()));
        if !built.exists() {
            library.build(version, self.room.path(), &built);
        }
        let installed = self.room.path().join(library.file_name());
        match way {
            "rename" => install::by_rename(&built, &installed),
            "pieces" => install::by_pieces(&built, &installed),
            "hard-link" => install::by_hard_link(&built, &installed),
            "copy" => install::by_copy(&built, &installed),
            other => panic!("no way `{other}` to install"),
        }
        if index == 0 {
            self.last_built = built;
        }
    }

    /// `OUTCOME [TEXT]`
    fn reload(&mut self, arguments: &[String], force: bool) {
        let file_name = self.libraries[0].file_name();
        let mut words = vec!["reload", "--json", &file_name];
        words.extend(force.then_some("--force"));
        let output = self.target.verb(&words);
        let mut receipts = receipts(&output);
        assert_eq!(receipts.len(), 1, "one receipt: {receipts:?}");
        self.receipt = receipts.remove(0);
        let outcome = plain(&self.receipt["outcome"]);
        assert!(is_one_of(&outcome, &arguments[0]), "{:#}", self.receipt);
        let expected_status = if matches!(outcome.as_str(), "refused" | "failed") { 1 } else { 0 };
        assert_eq!(output.status.code(), Some(expected_status), "{}", told(&output));
        let text = arguments[1..].join(" ");
        let reasons = format!("{} {}", self.receipt["failure"], self.receipt["warnings"]);
        assert!(reasons.contains(&text), "`{text}` is not said in {:#}", self.receipt);
        if outcome == "failed" || outcome == "refused" {
            let failure = &self.receipt["failure"];
            assert!(failure["stage"].is_string(), "no stage: {failure}");
            assert!(failure["trace"].as_array().is_some_and(|trace| !trace.is_empty()), "no trace: {failure}");
        }
    }

    fn untouched(&mut self, file_name: &str) {
        let before = self.target.module(file_name);
        let tried = self.target.count("failed", file_name) + self.target.count("refused", file_name);
        for receipt in self.target.reload(&[]) {
            assert!(receipt["name"] != *file_name || receipt["outcome"] != "reloaded", "it was reloaded: {receipt:#}");
        }
        let after = self.target.module(file_name);
        assert_eq!((&before["generation"], &before["status"]), (&after["generation"], &after["status"]), "{after}");
        let tried_since = self.target.count("failed", file_name) + self.target.count("refused", file_name) - tried;
        assert_eq!(tried_since, 0, "it was tried again");
    }
}

/// `= VALUE` or `contains TEXT`.
fn expect(found: &str, expectation: &str, context: &Value) {
    match expectation.split_once(' ') {
        Some(("=", value)) => assert_eq!(found, value, "found, expected; {context:#}"),
        Some(("contains", text)) => assert!(found.contains(text), "`{text}` is not in `{found}`; {context:#}"),
        _ => panic!("`{expectation}` is no expectation"),
    }
}

fn is_one_of(found: &str, alternatives: &str) -> bool {
    alternatives.split('|').any(|alternative| alternative == found)
}

/// A JSON value as a script writes it: text without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
