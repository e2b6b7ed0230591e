//! Programs started with the agent.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{SigSet, Signal, kill},
    unistd::Pid,
};
use reload_engine::{error::Error, target::launch::launch};

use crate::{
    Case, Outcome,
    host::{LOWEST_FD, PATIENCE, Target, check, compile, options},
};

pub const CASES: &[Case] = &[
    ("launch_lists_modules_and_takes_no_low_descriptor", launch_lists_modules),
    ("launch_of_a_short_program", launch_of_a_short_program),
    ("launch_refuses_a_static_program", launch_refuses_a_static_program),
    ("launch_from_a_thread_with_blocked_signals", launch_with_blocked_signals),
];

fn launch_lists_modules() -> Outcome {
    let mut target = Target::start(&["handler"])?;
    let modules = target.link.modules()?;
    check(modules[0].path.is_empty() && modules[0].bias != 0, "the executable comes first")?;
    check(
        modules.iter().any(|module| module.path.ends_with("libc.so.6") && module.tls_module != 0),
        "libc with its TLS",
    )?;
    check(target.link.welcome().pid == target.launched.pid, "the agent's pid")?;
    check(target.board(LOWEST_FD) == 3, "the host gets the lowest numbers")?;
    let extra = compile(target.folder.path(), "library")?;
    let copy = extra.with_file_name("added later.so");
    fs::copy(&extra, &copy)?;
    let loaded = target.link.dlopen(&copy)?;
    check(Some(loaded.path.as_str()) == copy.to_str(), "dlopen on the user's behalf")?;
    let missing = target.link.dlopen(Path::new("/no/such.so"));
    check(
        matches!(missing, Err(Error::Agent(message)) if message.contains("/no/such.so")),
        "its failure names the file",
    )
}

fn launch_of_a_short_program() -> Outcome {
    let folder = tempfile::tempdir()?;
    for command in [vec!["true".into()], vec!["sh".into(), "-c".into(), "exit 3".into()]] {
        let mut launched = launch(&command, &options(folder.path())?)?;
        drop(launched.link.take());
        launched.child.wait()?;
    }
    Ok(())
}

fn launch_refuses_a_static_program() -> Outcome {
    let folder = tempfile::tempdir()?;
    let source = folder.path().join("static.c");
    fs::write(&source, "int main(void) { return 0; }")?;
    let program = folder.path().join("static");
    let status = Command::new("cc").arg("-static").arg(&source).arg("-o").arg(&program).status()?;
    check(status.success(), "linking a static program")?;
    let refused = launch(&[program.into()], &options(folder.path())?);
    check(
        matches!(refused, Err(Error::Unsupported(message)) if message.contains("statically linked")),
        "refused by name",
    )
}

fn launch_with_blocked_signals() -> Outcome {
    // As a caller does that receives signals by a descriptor; a thread of its own, as the mask is one thread's.
    let ended = thread::spawn(|| -> Outcome {
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGTERM);
        blocked.thread_block()?;
        let folder = tempfile::tempdir()?;
        let mut launched = launch(&["sleep".into(), "60".into()], &options(folder.path())?)?;
        kill(Pid::from_raw(launched.pid.cast_signed()), Signal::SIGTERM)?;
        let deadline = Instant::now() + PATIENCE;
        while launched.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                launched.child.kill()?;
                launched.child.wait()?;
                return Err("the program does not end by SIGTERM".into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    });
    ended.join().map_err(|_| "the test's thread panicked")?
}
