//! Targets for real: a C host started with the agent, its threads running through patched code while it is patched.
//!
//! Not the standard test runner: this program is its own stop helper, so its `main` must look for that first.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use reload_engine::target::helper_main;

mod commits;
mod controllers;
mod helpers;
mod host;
mod launching;
mod loading;
mod running;

type Outcome = Result<(), Failed>;
type Case = (&'static str, fn() -> Outcome);

fn main() -> ExitCode {
    if let Some(code) = helper_main() {
        return code;
    }
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(controllers::INTRUDER) {
        return controllers::intrude(&arguments.next().unwrap_or_default());
    }
    let rooms = [launching::CASES, loading::CASES, commits::CASES, running::CASES, helpers::CASES, controllers::CASES];
    let trials = rooms.concat().into_iter().map(|(name, test)| Trial::test(name, test)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
