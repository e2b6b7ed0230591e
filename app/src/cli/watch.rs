//! `watch`: auto mode in the terminal.

use std::process::ExitCode;

use crossbeam_channel::select;
use reload_engine::{
    model::{Connection, Mode},
    session::{Command, Event, Session, Update},
};

use super::{
    failure::{FAILED, Failure},
    lines::Lines,
    signals::{asks_to_end, receive},
};

pub fn run(pid: u32, json: bool) -> Result<ExitCode, Failure> {
    let signals = receive().map_err(|error| Failure::new(FAILED, format!("receiving signals: {error}")))?;
    let mut lines = Lines::to_stdout(json);
    let session = Session::open(pid, || ())?;
    let mut mode = None;
    loop {
        select! {
            recv(session.updates) -> update => {
                let Ok(update) = update else { return Ok(ExitCode::SUCCESS) };
                if let Update::Snapshot(snapshot) = &update
                    && mode.is_none()
                {
                    mode = Some(snapshot.mode);
                    take_up(&session, snapshot.connection == Connection::Detached, snapshot.mode)?;
                }
                if lines.write(&update).is_err() {
                    // Nobody reads any more, as after `| head`.
                    break;
                }
                match update {
                    Update::Event { event: Event::Exited { .. }, .. } => return Ok(ExitCode::SUCCESS),
                    Update::Snapshot(snapshot) => if let Connection::Lost(reason) = &snapshot.connection {
                        return Err(Failure::new(FAILED, reason.clone()));
                    },
                    _ => {}
                }
            }
            recv(signals) -> arrived => {
                if arrived.is_ok_and(|arrived| asks_to_end(arrived.signal)) {
                    break;
                }
            }
        }
    }
    if mode == Some(Mode::Off) {
        session.order(Command::SetMode(Mode::Off))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn take_up(session: &Session, detached: bool, mode: Mode) -> Result<(), Failure> {
    if detached {
        session.order(Command::Attach)?;
    }
    if mode == Mode::Off {
        session.order(Command::SetMode(Mode::All))?;
    }
    Ok(())
}
