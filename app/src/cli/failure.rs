//! What went wrong, as a terminal tells it: one line with the remedy, then detail, and an exit status.

use std::process::ExitCode;

use reload_dashboard::window;
use reload_engine::error::Error;

/// Something was refused or failed.
pub const FAILED: u8 = 1;
/// Usage, no such target, not permitted.
pub const USAGE: u8 = 2;

/// Why a verb could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    message: String,
    detail: Vec<String>,
    status: u8,
}

impl Failure {
    pub fn new(status: u8, message: impl Into<String>) -> Failure {
        Failure { message: message.into(), detail: Vec::new(), status }
    }

    /// To standard error.
    pub fn report(&self) {
        eprintln!("reload-dashboard: {}", self.message);
        for line in &self.detail {
            eprintln!("  {line}");
        }
    }

    pub fn code(&self) -> ExitCode {
        self.status.into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let status = match &error {
            Error::NoSuchProcess { .. }
            | Error::NoSuchName { .. }
            | Error::AmbiguousName { .. }
            | Error::NoAgent { .. }
            | Error::NotAttachable { .. }
            | Error::NotPermitted { .. }
            | Error::ProtocolVersion { .. }
            | Error::NoSuchModule { .. }
            | Error::AmbiguousModule { .. }
            | Error::Launch { .. } => USAGE,
            _ => FAILED,
        };
        let mut detail = error.chain();
        let message = detail.remove(0);
        if let Error::Refused { reasons, remedy, .. } = &error {
            detail.extend(reasons.iter().skip(1).cloned());
            detail.push(remedy.clone());
        }
        Failure { message, detail, status }
    }
}

impl From<window::Error> for Failure {
    fn from(error: window::Error) -> Failure {
        let mut detail = Vec::new();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            detail.push(inner.to_string());
            cause = inner.source();
        }
        Failure { message: error.to_string(), detail, status: FAILED }
    }
}

#[cfg(test)]
mod tests {
    use reload_engine::{error::Error, model::Stage};

    use super::Failure;

    #[test]
    fn exit_status_by_error() {
        let check = |error: Error, status| assert_eq!(Failure::from(error).status, status);
        check(Error::NoSuchProcess { pid: 7 }, 2);
        check(Error::NoAgent { pid: 7 }, 2);
        check(Error::NotPermitted { pid: 7 }, 2);
        let (name, reason, remedy) = ("app".to_owned(), "it is stopped".to_owned(), "continue it".to_owned());
        check(Error::NotAttachable { pid: 7, name, reason, remedy }, 2);
        check(Error::Attach { pid: 7, name: "app".into(), reason: "no thread was at a safe point".into() }, 1);
        check(Error::NoSuchModule { wanted: "x".into(), candidates: Vec::new() }, 2);
        check(Error::Busy { pid: 7 }, 1);
        check(Error::Unsuitable { module: "libc.so.6".into(), reason: "protected".into() }, 1);
        let reasons = vec!["first".into(), "second".into()];
        let refused = Error::Refused { module: "m".into(), stage: Stage::Plan, reasons, remedy: "restart".into() };
        assert_eq!(Failure::from(refused).detail, ["second", "restart"]);
    }
}
