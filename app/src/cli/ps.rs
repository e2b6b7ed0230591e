//! `ps`: the processes that can be attached, and why others cannot.

use std::{path::PathBuf, process::ExitCode};

use reload_engine::discovery::{Candidate, candidates};
use serde::Serialize;

use super::{failure::Failure, lines::say, tables::columns, verbs::print_json};

#[derive(Serialize)]
struct Processes {
    processes: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    pid: u32,
    name: String,
    /// `null` where we may not look.
    exe: Option<PathBuf>,
    attachable: bool,
    reason: Option<String>,
}

impl From<Candidate> for Row {
    fn from(candidate: Candidate) -> Row {
        let Candidate { pid, name, exe, attachable } = candidate;
        let exe = Some(exe).filter(|exe| !exe.as_os_str().is_empty());
        Row { pid, name, exe, attachable: attachable.is_ok(), reason: attachable.err() }
    }
}

pub fn run(json: bool) -> Result<ExitCode, Failure> {
    let rows: Vec<Row> = candidates().into_iter().map(Row::from).collect();
    if json {
        print_json(&Processes { processes: rows })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = vec![["pid", "name", "attachable"].map(str::to_owned)];
    for row in rows {
        table.push([row.pid.to_string(), row.name, row.reason.unwrap_or_else(|| "yes".to_owned())]);
    }
    say(columns(&table, &[0]).trim_end());
    Ok(ExitCode::SUCCESS)
}
