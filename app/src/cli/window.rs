//! Opening the window for a process that runs already, or with the target picker.

use std::process::ExitCode;

use reload_dashboard::window::{self, Start, StartTarget};

use super::failure::Failure;

pub fn open(pid: Option<u32>) -> Result<ExitCode, Failure> {
    window::run(Start { target: pid.map(StartTarget::Pid), ..Start::default() })?;
    Ok(ExitCode::SUCCESS)
}
