//! `reload-dashboard.toml`: what the user has decided about programs, written by hand or by the window.
//!
//! ```toml
//! auto = "all"                        # off, marked or all: auto mode of every program that has none of its own
//! editor = "code -g {file}:{line}"    # what opens a source
//!
//! [program.aurora]                    # for the executable of this name
//! auto = "marked"
//! mark = ["libphysics.so"]            # file names, sonames, or ends of paths
//! skip = ["libtelemetry.so"]
//! launch = ["./build/aurora", "--level", "3"]
//! ```
//!
//! Here are values and the text they are read from and written into; files are the business of [`file`], and what becomes of
//! the decisions in a target that of [`wishes`].

use std::{collections::BTreeMap, fmt, path::Path};

use reload_engine::model::{Mark, Mode, Module};
use serde::Deserialize;

mod edit;
pub mod file;
pub mod wishes;

pub use edit::{Change, edited};

/// The file's content.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub auto: Option<Mode>,
    pub mark: Vec<String>,
    pub skip: Vec<String>,
    /// A command line with `{file}` and `{line}` in it.
    pub editor: Option<String>,
    /// By the file name of the executable.
    pub program: BTreeMap<String, Program>,
}

/// What is decided about one program.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Program {
    pub auto: Option<Mode>,
    pub mark: Vec<String>,
    pub skip: Vec<String>,
    /// The command that starts it.
    pub launch: Vec<String>,
}

/// What is wrong with the text, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flaw {
    /// Counted from 1.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl Flaw {
    fn at(text: &str, span: Option<std::ops::Range<usize>>, message: &str) -> Flaw {
        let before = span.map_or("", |span| text.get(..span.start).unwrap_or(text));
        Flaw { line: before.matches('\n').count() + 1, message: message.trim().replace('\n', ", ") }
    }
}

/// Reads the text.
///
/// # Errors
/// It is not TOML, or says something that this program does not know.
pub fn parse(text: &str) -> Result<Config, Flaw> {
    let config: Config =
        toml_edit::de::from_str(text).map_err(|error| Flaw::at(text, error.span(), error.message()))?;
    if let Some(editor) = &config.editor
        && shlex::split(editor).is_none_or(|words| words.is_empty())
    {
        let line = text.lines().position(|line| line.trim_start().starts_with("editor")).unwrap_or(0) + 1;
        return Err(Flaw { line, message: format!("`editor` is no command: {editor}") });
    }
    Ok(config)
}

impl Config {
    /// What holds for the program of this name: its own decisions before those for all.
    pub fn of(&self, program: &str) -> Program {
        let own = self.program.get(program).cloned().unwrap_or_default();
        let besides = |all: &[String], own: Vec<String>, against: &[String]| {
            let inherited = all.iter().filter(|name| !own.contains(name) && !against.contains(name)).cloned();
            let inherited: Vec<String> = inherited.collect();
            [own, inherited].concat()
        };
        Program {
            auto: own.auto.or(self.auto),
            mark: besides(&self.mark, own.mark.clone(), &own.skip),
            skip: besides(&self.skip, own.skip.clone(), &own.mark),
            launch: own.launch,
        }
    }
}

impl Program {
    /// What is decided about a module of it.
    pub fn mark_of(&self, module: &Module) -> Mark {
        if self.mark.iter().any(|name| names(name, module)) {
            Mark::Reload
        } else if self.skip.iter().any(|name| names(name, module)) {
            Mark::Skip
        } else {
            Mark::None
        }
    }
}

/// Whether `name` stands for the module: its file name, its soname, its path or the end of it.
fn names(name: &str, module: &Module) -> bool {
    !name.is_empty() && (module.soname.as_deref() == Some(name) || module.path.ends_with(name))
}

/// How the window calls a module in the file: by its file name, unless another module has the same one.
pub fn name_of(module: &Module, all: &[Module]) -> String {
    let alone = all.iter().filter(|other| other.name == module.name).count() < 2;
    if alone { module.name.clone() } else { module.path.display().to_string() }
}

/// Under which name a program is found in the file.
pub fn program_name(exe: &Path) -> String {
    let name = exe.file_name().unwrap_or_default().to_string_lossy();
    // The kernel says so of a program that was built anew meanwhile (proc(5), /proc/pid/exe).
    name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use reload_engine::model::Mode;

    use super::{Config, Program, parse, program_name};

    #[test]
    fn own_decisions_come_before_those_for_all() {
        let text = "auto = \"all\"\nmark = [\"a.so\", \"b.so\"]\nskip = [\"c.so\"]\n\
            [program.aurora]\nauto = \"marked\"\nmark = [\"c.so\"]\nskip = [\"a.so\"]\nlaunch = [\"./aurora\"]\n";
        let config = parse(text).unwrap();
        let names = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let expected = Program {
            auto: Some(Mode::Marked),
            mark: names(&["c.so", "b.so"]),
            skip: names(&["a.so"]),
            launch: names(&["./aurora"]),
        };
        assert_eq!(config.of("aurora"), expected);
        assert_eq!(config.of("other").auto, Some(Mode::All));
        assert_eq!(parse(""), Ok(Config::default()));
    }

    #[test]
    fn flaws_name_their_line() {
        let check = |text: &str, line: usize, part: &str| {
            let flaw = parse(text).unwrap_err();
            assert!(flaw.line == line && flaw.message.contains(part), "{text}: {flaw}");
        };
        check("# hand-written\nauto = \"sometimes\"\n", 2, "expected one of `off`, `marked`, `all`");
        check("auto = \"all\"\n\nmarks = []\n", 3, "unknown field `marks`");
        check("[program.a]\nlaunch = \"./a\"\n", 2, "expected a sequence");
        check("auto = all\n", 1, "");
        check("mark = [\n  1,\n]\n", 2, "expected a string");
        check("\neditor = \"code 'x\"\n", 2, "no command");
    }

    #[test]
    fn rebuilt_programs_keep_their_name() {
        assert_eq!(program_name(Path::new("/b/aurora (deleted)")), "aurora");
        assert_eq!(program_name(Path::new("/b/aurora")), "aurora");
    }
}
