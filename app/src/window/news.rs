//! What happened that the user should learn of even while looking elsewhere. Pure: events in, words out.

use nix::sys::signal::Signal;
use reload_engine::model::{Generation, Outcome, Receipt, Snapshot, Status};

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// A reload was refused or failed.
    Stopped { module: String, message: String, refused: bool, running: Generation },
    /// A module that was refused or failed reloads again.
    Recovered { module: String },
    /// The target was ended by a signal that tells of a fault.
    Crashed { program: String, signal: i32 },
    /// Somebody else changed something: another window, a terminal.
    Elsewhere(String),
    /// An order had no effect that could be seen, and why.
    NoEffect { why: String, failed: bool },
}

impl News {
    /// What is said in the corner of the window, and whether it has to be read. Failures are told by the table and the details.
    pub fn toast(&self) -> Option<(String, bool)> {
        match self {
            News::Recovered { module } => Some((format!("{module} has recovered"), false)),
            News::Elsewhere(what) => Some((format!("{what}, by another dashboard or terminal"), false)),
            News::NoEffect { why, failed } => Some((why.clone(), *failed)),
            News::Stopped { .. } | News::Crashed { .. } => None,
        }
    }
}

/// What the table does not show of an order to reload all modules, or just one, that has led to these receipts.
pub fn without_effect(now: &Snapshot, all: bool, receipts: &[Receipt]) -> Option<News> {
    let status = |receipt: &Receipt| now.modules.iter().find(|it| it.name == receipt.name).map(|it| it.status);
    if all { none_reloaded(receipts, status) } else { not_reloaded(receipts.first()?, status) }
}

fn not_reloaded(receipt: &Receipt, status: impl Fn(&Receipt) -> Option<Status>) -> Option<News> {
    let name = &receipt.name;
    let (why, failed) = match (&receipt.failure, receipt.outcome) {
        // Its row says that it is skipped or gone, whatever becomes of it.
        (Some(failure), _) if matches!(status(receipt), Some(Status::Skipped | Status::Missing)) => {
            (format!("`{name}` was not reloaded: {}", failure.without_name(name)), true)
        }
        (None, Outcome::Unchanged) => (format!("`{name}` runs what is on disk already"), false),
        _ => return None,
    };
    Some(News::NoEffect { why, failed })
}

fn none_reloaded(receipts: &[Receipt], status: impl Fn(&Receipt) -> Option<Status>) -> Option<News> {
    // One that was cancelled has a failure.
    let idle = |receipt: &&Receipt| {
        receipt.failure.is_none() && matches!(receipt.outcome, Outcome::Unchanged | Outcome::Skipped)
    };
    let is_left = |receipt: &&Receipt| {
        receipt.outcome == Outcome::Skipped
            && matches!(status(receipt), Some(Status::Changed | Status::Refused | Status::Failed))
    };
    let left: Vec<&Receipt> = receipts.iter().filter(idle).filter(is_left).collect();
    let why = match left.as_slice() {
        [] if !receipts.iter().all(|receipt| idle(&receipt)) => return None,
        [] => "Nothing to reload".to_owned(),
        [one] => format!("`{}` is left alone until its file changes; reload it by itself (R) to insist", one.name),
        several => format!(
            "{} modules are left alone until their files change; reload one by itself (R) to insist",
            several.len()
        ),
    };
    Some(News::NoEffect { why, failed: false })
}

/// Headline and text of the desktop's notification, if something went wrong.
pub fn notification(news: &[News]) -> Option<(String, String)> {
    if let Some((program, signal)) = news.iter().find_map(|news| match news {
        News::Crashed { program, signal } => Some((program, *signal)),
        _ => None,
    }) {
        return Some((format!("{program} has crashed"), format!("It was ended by {}.", signal_name(signal))));
    }
    let stopped: Vec<(&str, &str, bool, Generation)> = news
        .iter()
        .filter_map(|news| match news {
            News::Stopped { module, message, refused, running } => {
                Some((module.as_str(), message.as_str(), *refused, *running))
            }
            _ => None,
        })
        .collect();
    match stopped.as_slice() {
        [] => None,
        [(module, message, refused, running)] => {
            let verb = if *refused { "was refused" } else { "failed to reload" };
            Some((format!("{module} {verb}"), format!("{message}\nGeneration {running} runs on.")))
        }
        several => {
            let names: Vec<&str> = several.iter().map(|(module, ..)| *module).collect();
            Some((format!("{} modules did not reload", several.len()), names.join(", ")))
        }
    }
}

/// The signal that ended a program, of the status that a shell gives for it.
pub fn signal_of(status: Option<i32>) -> Option<i32> {
    status.filter(|status| *status > 128).map(|status| status - 128)
}

/// Whether the signal tells of a fault in the program: not where a user, a terminal or a session manager wanted it to end.
pub fn is_crash(signal: i32) -> bool {
    let wanted = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGKILL, Signal::SIGTERM];
    !wanted.map(|signal| signal as i32).contains(&signal)
}

/// `signal 11 (SIGSEGV)`.
pub fn signal_name(signal: i32) -> String {
    match Signal::try_from(signal) {
        Ok(known) => format!("signal {signal} ({known})"),
        Err(_) => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use reload_engine::model::Generation;

    use super::{News, notification};

    fn stopped(module: &str, refused: bool) -> News {
        News::Stopped {
            module: module.to_owned(),
            message: "`World` grew".to_owned(),
            refused,
            running: Generation(41),
        }
    }

    #[test]
    fn one_failure_is_told_in_full_and_many_by_name() {
        let told = |news: &[News]| notification(news).map(|(head, body)| format!("{head} | {body}"));
        assert_eq!(told(&[News::Recovered { module: "a.so".to_owned() }]), None);
        let one = told(&[stopped("a.so", true)]).unwrap();
        assert_eq!(one, "a.so was refused | `World` grew\nGeneration 41 runs on.");
        let two = told(&[stopped("a.so", true), stopped("b.so", false)]).unwrap();
        assert_eq!(two, "2 modules did not reload | a.so, b.so");
        let crash = News::Crashed { program: "aurora".to_owned(), signal: 11 };
        let told = told(&[stopped("a.so", false), crash]).unwrap();
        assert_eq!(told, "aurora has crashed | It was ended by signal 11 (SIGSEGV).");
    }
}
