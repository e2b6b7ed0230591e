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
    age_s: u64,
    /// Of the user's own, the executable included.
    modules: usize,
    agent: bool,
    attachable: bool,
    reason: Option<String>,
    remedy: Option<String>,
}

impl From<Candidate> for Row {
    fn from(candidate: Candidate) -> Row {
        let Candidate { pid, name, exe, age, modules, agent, attachable } = candidate;
        let exe = Some(exe).filter(|exe| !exe.as_os_str().is_empty());
        let (reason, remedy) = match attachable {
            Ok(()) => (None, None),
            Err(obstacle) => (Some(obstacle.reason), Some(obstacle.remedy)),
        };
        Row { pid, name, exe, age_s: age.as_secs(), modules, agent, attachable: reason.is_none(), reason, remedy }
    }
}

pub fn run(json: bool) -> Result<ExitCode, Failure> {
    let rows: Vec<Row> = candidates().into_iter().map(Row::from).collect();
    if json {
        print_json(&Processes { processes: rows })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = vec![["pid", "name", "age", "modules", "attachable"].map(str::to_owned)];
    for row in rows {
        let attachable = match (row.reason, row.remedy) {
            (Some(reason), Some(remedy)) => format!("no: {reason}; {remedy}"),
            _ if row.agent => "yes, has an agent".to_owned(),
            _ => "yes".to_owned(),
        };
        table.push([row.pid.to_string(), row.name, age(row.age_s), row.modules.to_string(), attachable]);
    }
    say(columns(&table, &[0, 2, 3]).trim_end());
    Ok(ExitCode::SUCCESS)
}

/// In the largest unit that fits.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
