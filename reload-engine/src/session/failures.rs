//! From an error to what the user reads: the outcome, the stage, a trace that ends with what runs now and what to do.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    error::Error,
    model::{Failure, Generation, Outcome, Receipt, Stage, file_name},
    target::process::is_alive,
};

/// The receipt of an attempt on `module` that led to `error`; `generation` still runs. `store` is the target's folder.
pub fn receipt(
    module: &Path,
    generation: Generation,
    error: &Error,
    mtime: Option<SystemTime>,
    store: &Path,
) -> Receipt {
    let outcome = match error {
        Error::Refused { .. } | Error::Unsuitable { .. } | Error::Unsupported(_) => Outcome::Refused,
        Error::Cancelled { .. } => Outcome::Skipped,
        _ => Outcome::Failed,
    };
    let stage = stage(error, store);
    let mut trace = error.chain();
    if let Error::Refused { reasons, .. } = error {
        trace.extend(reasons.iter().skip(1).cloned());
    }
    if let Error::Adapter { trace: told, .. } = error {
        trace.extend(told.iter().cloned());
    }
    if has_ended(error) {
        trace.insert(0, format!("the target ended while {} was reloaded", file_name(module)));
        trace.push(
            "what the new file runs when it is loaded may have done that: constructors, or an extension's `PyInit`"
                .into(),
        );
        trace.push("start the target again".into());
    } else {
        // One that dumps core is there for a while.
        if !matches!(error, Error::LinkLost { .. }) {
            trace.push(format!("generation {generation} of {} is still running, untouched", file_name(module)));
        }
        trace.push(remedy(error, stage));
    }
    Receipt {
        failure: Some(Failure { stage, message: trace[0].clone(), trace, mtime }),
        ..Receipt::empty(file_name(module), outcome, generation)
    }
}

/// Whether the target is gone. The agent hangs up a moment before the process is seen to have ended.
fn has_ended(error: &Error) -> bool {
    const MOMENT: Duration = Duration::from_millis(200);
    let Error::LinkLost { pid, .. } = error else { return false };
    let deadline = Instant::now() + MOMENT;
    while is_alive(*pid) {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(MOMENT / 100);
    }
    true
}

/// Whether the attempt says nothing about the file: it may be tried again without a change.
pub fn is_transient(error: &Error) -> bool {
    matches!(
        error,
        Error::Busy { .. }
            | Error::Stale
            | Error::ModuleClosed { .. }
            | Error::Cancelled { .. }
            | Error::LinkLost { .. }
            | Error::LinkTimeout { .. }
            | Error::NoSuchProcess { .. }
            | Error::NoAgent { .. }
    )
}

/// What the loader did not find, if that was why and it says so in English (`dlerror(3)`; glibc adds the version).
pub fn missing_symbol(stage: Stage, message: &str) -> Option<&str> {
    let (_, name) = message.split_once("undefined symbol: ").filter(|_| stage == Stage::Load)?;
    name.split(',').next()
}

fn stage(error: &Error, store: &Path) -> Stage {
    match error {
        Error::Refused { stage, .. } | Error::Image { stage, .. } => *stage,
        Error::File { path, .. } if path.starts_with(store) => Stage::Shadow,
        Error::File { .. } => Stage::Read,
        Error::Adapter { .. } => Stage::Adapt,
        Error::Stop { .. } => Stage::Stop,
        Error::Unsuitable { .. } | Error::Unsupported(_) => Stage::Validate,
        _ => Stage::Commit,
    }
}

fn remedy(error: &Error, stage: Stage) -> String {
    let text = match (error, stage) {
        (Error::Refused { remedy, .. }, _) => return remedy.clone(),
        (Error::Stop { .. }, _) => "try again: the threads stood in the way just then",
        (error, _) if is_transient(error) => "try again",
        (_, Stage::Read) => {
            "make the file readable and name it in `reload`, or build it again; it is tried again when it changes"
        }
        (_, Stage::Validate | Stage::Parse) => "build the library again; it is tried again when it changes",
        (_, Stage::Shadow) => {
            "make room in the store ($XDG_RUNTIME_DIR, else the temporary directory), then name the module in `reload`"
        }
        (_, Stage::Adapt) => {
            "build the module again, or name it in `reload` to try again; it is tried again when it changes"
        }
        (_, Stage::Load) => {
            "link what is missing and build again; it is tried again when it changes, and when another module is reloaded that \
             has it"
        }
        _ => "name the module in `reload` to try again, or restart the target",
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use std::{io, path::Path};

    use super::receipt;
    use crate::{
        error::Error,
        model::{Generation, Outcome, Stage},
    };

    fn check(error: Error, outcome: Outcome, stage: Stage, last: &str) {
        let receipt = receipt(Path::new("/p/libfoo.so"), Generation(2), &error, None, Path::new("/store/7"));
        let failure = receipt.failure.unwrap();
        assert_eq!((receipt.outcome, failure.stage), (outcome, stage));
        let trace = failure.trace;
        assert_eq!(trace[trace.len() - 2], "generation 2 of libfoo.so is still running, untouched");
        assert!(trace[trace.len() - 1].contains(last), "{trace:?}");
    }

    #[test]
    fn errors_as_told() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let file = |path: &str| Error::File { path: path.into(), doing: "writing", source: full() };
        check(file("/store/7/shadows/1/libfoo.so"), Outcome::Failed, Stage::Shadow, "make room");
        check(file("/p/libfoo.so"), Outcome::Failed, Stage::Read, "readable");
        let reasons = vec!["`struct S` grew".to_owned(), "`g` changed its type".to_owned()];
        let refused =
            Error::Refused { module: "libfoo.so".into(), stage: Stage::Plan, reasons, remedy: "restart".into() };
        check(refused, Outcome::Refused, Stage::Plan, "restart");
        let image =
            Error::Image { path: "/p/libfoo.so".into(), stage: Stage::Load, reason: "undefined symbol: x".into() };
        check(image, Outcome::Failed, Stage::Load, "link what is missing");
        check(Error::Busy { pid: 7 }, Outcome::Failed, Stage::Commit, "try again");
    }
}
