//! The command line: what can be said, and which part of this room carries it out.
//!
//! Exit status: 0 done or nothing to do; 1 something was refused or failed; 2 usage, no such target, not permitted.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};
use reload_engine::{
    error::{Error, Result},
    ledger::{Missed, NewWishes},
    model::{Mark, Mode},
    target::process::Process,
};
use tracing_subscriber::EnvFilter;

mod demo;
mod doctor;
mod failure;
mod launch;
mod lines;
mod ps;
mod signals;
mod tables;
mod verbs;
mod watch;
mod window;

use failure::Failure;

/// Live reload of native code: a dashboard beside the running program.
///
/// When a shared library of the running program changes on disk, its functions are replaced in the process: old functions,
/// wherever they are pointed to from, run the new code, and state stays. What cannot be done safely is refused with the
/// reason, and the old code runs on.
///
/// Without a verb the window opens: with the target picker, or attached to --pid or --name.
#[derive(Debug, Parser)]
#[command(
    name = "reload-dashboard",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
        reload-dashboard demo                        the bundled demo with the window beside it\n  \
        reload-dashboard run -- ./build/app --flag   start a program as the target, with the window beside it\n  \
        reload-dashboard reload --name app           reload everything that changed on disk\n  \
        reload-dashboard list --pid 4711 --json | jq '.modules[] | select(.status == \"failed\")'\n\n\
        Exit status: 0 done or nothing to do; 1 something was refused or failed; 2 usage, no such target, not permitted.\n\
        Logs: RELOAD_DASHBOARD_LOG=debug (syntax of tracing's EnvFilter), to standard error."
)]
struct Cli {
    /// Process id of the target to open the window for.
    #[arg(long, value_name = "PID", conflicts_with = "name")]
    pid: Option<u32>,
    /// Name of the target's executable, if only one runs.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a command as the target, with the window beside it
    ///
    /// The command keeps standard input, output and error; the dashboard's own lines go to standard error, or to the file
    /// of --events. Signals are passed on, and the exit status is the command's (128 + signal if one killed it). When the
    /// window is closed, the command goes on.
    #[command(after_help = "Examples:\n  \
        reload-dashboard run -- ./server --port 8080\n  \
        reload-dashboard run --headless --json --events events.jsonl -- python3 app.py")]
    Run {
        /// No window: one line per event.
        #[arg(long)]
        headless: bool,
        /// Events as JSON objects, one per line: {"time", "event", ...}.
        #[arg(long)]
        json: bool,
        /// Write events to this file instead of standard error; it is made anew.
        #[arg(long, value_name = "FILE")]
        events: Option<PathBuf>,
        #[command(flatten)]
        wishes: WishArgs,
        /// The command and its arguments, after `--`.
        #[arg(required = true, last = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Build and run the bundled demo with the window beside it
    ///
    /// Auto mode is on. Edit the scene's source, build it with the command that is printed, and see the running demo change.
    Demo {
        /// No window, neither for the demo nor beside it.
        #[arg(long)]
        headless: bool,
    },
    /// List the processes that can be attached, and why others cannot
    Ps {
        /// As {"processes": [{"pid", "name", "exe", "age_s", "modules", "agent", "attachable", "reason", "remedy"}]}.
        #[arg(long)]
        json: bool,
    },
    /// Bring the agent into a running process, or take a target up again after `detach`
    ///
    /// Nothing has to be prepared in the process, and every other verb does this first where it is needed. One of its threads
    /// is stopped for some milliseconds, at a point where that is safe.
    Attach {
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        wishes: WishArgs,
    },
    /// List a target's modules with their times, marks and statuses
    #[command(after_help = "Times are UTC; sizes are bytes; `ms` is how long the last reload took, in milliseconds.")]
    List {
        #[command(flatten)]
        target: TargetArgs,
        /// As {"target": {"pid", "name", "exe"}, "mode", "modules": [...]}, system and protected modules included.
        #[arg(long)]
        json: bool,
        /// In the table too, show system and protected modules.
        #[arg(long)]
        all: bool,
    },
    /// Reload the named modules, or every changed module except skipped ones
    ///
    /// A file that failed, was refused or was rolled back is left alone until it changes; naming its module tries it anyway.
    #[command(after_help = "Examples:\n  \
        reload-dashboard reload --pid 4711\n  \
        reload-dashboard reload --name app libscene.so --json\n\n\
        Exit status: 1 if something was refused or failed.")]
    Reload {
        #[command(flatten)]
        target: TargetArgs,
        /// File names, sonames or paths of modules.
        modules: Vec<String>,
        /// As {"modules": [{"name", "outcome", "generation", ...}]}; times in milliseconds.
        #[arg(long)]
        json: bool,
        /// Turn what would be refused into warnings. The target may misbehave or crash.
        #[arg(long)]
        force: bool,
    },
    /// Show or set auto mode: off, marked (only marked modules) or all (all except skipped)
    #[command(after_help = "It is carried out by a window, `run` or `watch` that looks after the target.")]
    Mode {
        #[command(flatten)]
        target: TargetArgs,
        /// Without it, the present mode is printed.
        mode: Option<ModeArg>,
    },
    /// Mark modules for reload: in auto mode `marked` only these, and libraries of the system only so
    Mark {
        #[command(flatten)]
        target: TargetArgs,
        /// File names, sonames or paths of modules.
        #[arg(required = true)]
        modules: Vec<String>,
    },
    /// Never reload these modules, unless they are named in `reload`
    Skip {
        #[command(flatten)]
        target: TargetArgs,
        /// File names, sonames or paths of modules.
        #[arg(required = true)]
        modules: Vec<String>,
    },
    /// Take back `mark` and `skip`
    Unmark {
        #[command(flatten)]
        target: TargetArgs,
        /// File names, sonames or paths of modules.
        #[arg(required = true)]
        modules: Vec<String>,
    },
    /// Load a library into the target (dlopen) and mark it
    Load {
        #[command(flatten)]
        target: TargetArgs,
        /// Of the library.
        path: PathBuf,
    },
    /// Make the generation before the active one run again, with all state kept
    ///
    /// The file on disk is then left alone until it changes.
    Rollback {
        #[command(flatten)]
        target: TargetArgs,
        /// File name, soname or path of the module.
        module: String,
        /// To this generation instead; 0 is what the program loaded.
        #[arg(long, value_name = "N")]
        generation: Option<u32>,
    },
    /// Auto mode in the terminal: one line per event, until interrupted
    ///
    /// Reloads as the target's mode says. If that is off, it is `all` for as long as this runs, and off again afterwards.
    Watch {
        #[command(flatten)]
        target: TargetArgs,
        /// Also the processes that it forks and that run the same program, and itself when it has ended and is started again,
        /// with its marks.
        #[arg(long)]
        follow: bool,
        /// Events as JSON objects, one per line: {"time", "event", ...}.
        #[arg(long)]
        json: bool,
    },
    /// Stop reloading by itself, whoever looks after the target; it stays on its current generation
    Detach {
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Tell what this machine allows: ptrace scope, glibc, display libraries, inotify limits
    Doctor {
        /// As {"checks": [{"name", "state", "detail", "remedy"}]}; state is ok, warn or fail.
        #[arg(long)]
        json: bool,
    },
}

/// Which process.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct TargetArgs {
    /// Process id of the target.
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Name of the target's executable, if only one runs.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl TargetArgs {
    fn pid(&self) -> Result<u32> {
        match (self.pid, &self.name) {
            (Some(pid), _) => Ok(pid),
            (None, Some(name)) => Process::find_by_name(name),
            (None, None) => Err(Error::Unsupported("name a target: --pid PID or --name NAME".to_owned())),
        }
    }
}

/// How the target is to be treated; it remembers.
#[derive(Clone, Copy, Debug, Default, Args)]
struct WishArgs {
    /// Leave modules mapped from their files: overwriting one in place then ends the program, as it would without us.
    #[arg(long)]
    no_shield: bool,
    /// Shield modules after all.
    #[arg(long, conflicts_with = "no_shield")]
    shield: bool,
    /// How long a reload waits for `superreload_safepoint`, in milliseconds, if the target calls it (1000).
    #[arg(long, value_name = "MS")]
    safepoint_wait: Option<u32>,
    /// What happens to a reload that has waited in vain (proceed).
    #[arg(long, value_name = "WHAT")]
    safepoint_missed: Option<MissedArg>,
}

impl From<WishArgs> for NewWishes {
    fn from(args: WishArgs) -> NewWishes {
        NewWishes {
            shield: (args.shield || args.no_shield).then_some(args.shield),
            safe_point_ms: args.safepoint_wait,
            safe_point_missed: args.safepoint_missed.map(|missed| match missed {
                MissedArg::Proceed => Missed::Proceed,
                MissedArg::Refuse => Missed::Refuse,
            }),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MissedArg {
    Proceed,
    Refuse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ModeArg {
    Off,
    Marked,
    All,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Mode {
        match mode {
            ModeArg::Off => Mode::Off,
            ModeArg::Marked => Mode::Marked,
            ModeArg::All => Mode::All,
        }
    }
}

/// Parses the command line, carries it out and reports what went wrong, once.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("RELOAD_DASHBOARD_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match carry_out(cli) {
        Ok(code) => code,
        Err(failure) => {
            failure.report();
            failure.code()
        }
    }
}

fn carry_out(cli: Cli) -> Result<ExitCode, Failure> {
    let Some(verb) = cli.verb else {
        let pid = match (cli.pid, &cli.name) {
            (Some(pid), _) => Some(pid),
            (None, Some(name)) => Some(Process::find_by_name(name)?),
            (None, None) => None,
        };
        return window::open(pid);
    };
    match verb {
        Verb::Run { headless, json, events, wishes, command } => {
            let lines = lines::Lines::to(events.as_deref(), json)?;
            let quiet = !headless && !json && events.is_none();
            launch::run(launch::Plan {
                command,
                headless,
                lines: (!quiet).then_some(lines),
                mode: None,
                wishes: wishes.into(),
            })
        }
        Verb::Demo { headless } => demo::run(headless),
        Verb::Ps { json } => ps::run(json),
        Verb::Attach { target, wishes } => verbs::attach(target.pid()?, wishes.into()),
        Verb::List { target, json, all } => verbs::list(target.pid()?, json, all),
        Verb::Reload { target, modules, json, force } => verbs::reload(target.pid()?, modules, json, force),
        Verb::Mode { target, mode } => verbs::mode(target.pid()?, mode.map(Mode::from)),
        Verb::Mark { target, modules } => verbs::mark(target.pid()?, modules, Mark::Reload),
        Verb::Skip { target, modules } => verbs::mark(target.pid()?, modules, Mark::Skip),
        Verb::Unmark { target, modules } => verbs::mark(target.pid()?, modules, Mark::None),
        Verb::Load { target, path } => verbs::load(target.pid()?, &path),
        Verb::Rollback { target, module, generation } => verbs::rollback(target.pid()?, module, generation),
        Verb::Watch { target, follow, json } => watch::run(target.pid()?, json, follow),
        Verb::Detach { target } => verbs::detach(target.pid()?),
        Verb::Doctor { json } => doctor::run(json),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser, error::ErrorKind};

    use super::{Cli, ModeArg, Verb};

    fn parse(line: &str) -> Result<Cli, ErrorKind> {
        let words = std::iter::once("reload-dashboard").chain(line.split_whitespace());
        Cli::try_parse_from(words).map_err(|error| error.kind())
    }

    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// The contract's lines.
    #[test]
    fn every_line_of_the_contract_is_understood() {
        for line in [
            "",
            "--pid 7",
            "--name app",
            "run -- cmd",
            "run --headless --json --events file -- cmd --flag arg",
            "run --no-shield --safepoint-wait 50 --safepoint-missed refuse -- cmd",
            "attach --pid 7 --shield --safepoint-missed proceed",
            "demo",
            "demo --headless",
            "ps",
            "ps --json",
            "attach --pid 7",
            "list --pid 7",
            "list --name app --json",
            "reload --pid 7",
            "reload --pid 7 libfoo.so libbar.so --json --force",
            "reload --json --pid 7 libfoo.so",
            "mode --pid 7",
            "mode --pid 7 off",
            "mode --pid 7 marked",
            "mode --pid 7 all",
            "mark --pid 7 libfoo.so libbar.so",
            "skip --pid 7 libfoo.so",
            "unmark --name app libfoo.so",
            "load --pid 7 ./libfoo.so",
            "rollback --pid 7 libfoo.so",
            "watch --pid 7",
            "watch --pid 7 --json",
            "watch --name app --follow",
            "detach --pid 7",
            "doctor",
            "doctor --json",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "list",
            "list --pid 7 --name app",
            "attach --pid 7 --shield --no-shield",
            "--pid 7 --name app",
            "list --pid x",
            "mode --pid 7 sometimes",
            "mark --pid 7",
            "run",
            "run cmd",
            "load --pid 7",
            "rollback --pid 7",
            "nonsense",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn words_after_the_dashes_are_the_commands() {
        let Some(Verb::Run { command, headless, json, .. }) = parse("run -- app --json --headless").unwrap().verb
        else {
            panic!()
        };
        assert_eq!(command, ["app", "--json", "--headless"]);
        assert!(!headless && !json);
    }

    #[test]
    fn mode_without_a_value_asks() {
        assert!(matches!(parse("mode --pid 7").unwrap().verb, Some(Verb::Mode { mode: None, .. })));
        let set = parse("mode all --pid 7").unwrap().verb;
        assert!(matches!(set, Some(Verb::Mode { mode: Some(ModeArg::All), .. })));
    }
}
