//! `watch`: auto mode in the terminal, for one process, or for it, the workers that it forks and the one that comes after it.

use std::{
    collections::BTreeMap,
    fs::{File, TryLockError},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use crossbeam_channel::{Receiver, Sender, select, tick, unbounded};
use reload_engine::{
    discovery,
    error::Error,
    model::{Connection, Mark, Mode, Module, Snapshot},
    session::{Command, Event, Order, Session, Update},
    target::store::await_lock,
};

use super::{
    failure::{FAILED, Failure},
    lines::Lines,
    signals::{asks_to_end, receive},
};

/// How often it is looked whether a program that has ended runs again.
const LOOK: Duration = Duration::from_millis(500);

/// A process that is looked after.
struct Member {
    orders: Sender<Order>,
    /// Whether auto mode is on only for as long as somebody watches, once that is known.
    mode: Option<OnFor>,
    snapshot: Option<Arc<Snapshot>>,
}

/// For how long a target's auto mode is on.
enum OnFor {
    /// Somebody else has switched it on.
    Good,
    Watches(Watches),
}

/// Whoever watches a process that would not be in auto mode otherwise: each has a shared lock of one of its folders in `/proc`, so
/// that the last one knows that it is.
struct Watches {
    folder: Option<File>,
}

impl Watches {
    fn of(pid: u32) -> Watches {
        Watches { folder: File::open(format!("/proc/{pid}/task")).ok() }
    }

    /// Whether there are others.
    fn others(&self) -> bool {
        self.folder.as_ref().is_some_and(|folder| matches!(folder.try_lock(), Err(TryLockError::WouldBlock)))
    }

    fn join(self) -> Watches {
        const PATIENCE: Duration = Duration::from_millis(100);
        // Somebody else may be looking whether there are others. Without a lock they may end what this one relies on.
        if let Some(folder) = &self.folder {
            await_lock(|| folder.try_lock_shared(), PATIENCE);
        }
        self
    }
}

/// What the user had decided about a program that has ended.
struct Wishes {
    program: PathBuf,
    mode: Mode,
    marks: Vec<(String, Mark)>,
}

struct Watch {
    /// The one that was asked for; the others are its children.
    first: u32,
    follow: bool,
    members: BTreeMap<u32, Member>,
    lines: Lines,
    updates: Sender<(u32, Option<Update>)>,
    /// Set while the program that was asked for does not run.
    wishes: Option<Wishes>,
}

/// How a step ended.
enum Next {
    GoOn,
    End,
}

pub fn run(pid: u32, json: bool, follow: bool) -> Result<ExitCode, Failure> {
    let signals = receive().map_err(|error| Failure::new(FAILED, format!("receiving signals: {error}")))?;
    let (updates, incoming): (_, Receiver<(u32, Option<Update>)>) = unbounded();
    let mut watch =
        Watch { first: pid, follow, members: BTreeMap::new(), lines: Lines::to_stdout(json), updates, wishes: None };
    watch.open(pid)?;
    let look = tick(LOOK);
    loop {
        select! {
            recv(incoming) -> update => {
                let Ok((pid, update)) = update else { break };
                if let Next::End = watch.take(pid, update)? {
                    break;
                }
            }
            recv(look) -> _ => watch.look_for_return()?,
            recv(signals) -> arrived => {
                if arrived.is_ok_and(|arrived| asks_to_end(arrived.signal)) {
                    break;
                }
            }
        }
    }
    watch.end();
    Ok(ExitCode::SUCCESS)
}

impl Watch {
    fn open(&mut self, pid: u32) -> Result<(), Error> {
        let Session { orders, updates, .. } = Session::open(pid, || ())?;
        let all = self.updates.clone();
        thread::spawn(move || {
            for update in updates {
                if all.send((pid, Some(update))).is_err() {
                    return;
                }
            }
            // The loop may have ended by then.
            let _ = all.send((pid, None));
        });
        self.members.insert(pid, Member { orders, mode: None, snapshot: None });
        Ok(())
    }

    fn take(&mut self, pid: u32, update: Option<Update>) -> Result<Next, Failure> {
        let whose = (pid != self.first).then_some(pid);
        let Some(update) = update else {
            self.members.remove(&pid);
            return Ok(if pid == self.first && self.wishes.is_none() { Next::End } else { Next::GoOn });
        };
        if self.lines.write_of(whose, &update).is_err() {
            // Nobody reads any more, as after `| head`.
            return Ok(Next::End);
        }
        match update {
            Update::Snapshot(snapshot) => return self.note(pid, snapshot),
            Update::Event { event: Event::Forked { pid: child }, .. }
                if self.follow && !self.members.contains_key(&child) =>
            {
                if let Err(error) = self.open(child) {
                    self.say(format!("{child} is not followed: {error}"));
                }
            }
            Update::Event { event: Event::Exited { .. }, .. } => return Ok(self.ended(pid)),
            _ => {}
        }
        Ok(Next::GoOn)
    }

    fn note(&mut self, pid: u32, snapshot: Arc<Snapshot>) -> Result<Next, Failure> {
        if let Connection::Lost(reason) = &snapshot.connection {
            if pid == self.first {
                return Err(Failure::new(FAILED, reason.clone()));
            }
            self.members.remove(&pid);
            return Ok(Next::GoOn);
        }
        let Some(member) = self.members.get_mut(&pid) else { return Ok(Next::GoOn) };
        if member.mode.is_none() {
            let watches = Watches::of(pid);
            let on_for_watches = snapshot.mode == Mode::Off || watches.others();
            member.mode = Some(if on_for_watches { OnFor::Watches(watches.join()) } else { OnFor::Good });
            if snapshot.connection == Connection::Detached {
                order(&member.orders, Command::Attach);
            }
            if snapshot.mode == Mode::Off {
                order(&member.orders, Command::SetMode(Mode::All));
            }
            if let Some(wishes) = self.wishes.take_if(|_| pid == self.first) {
                for (module, mark) in wishes.marks {
                    order(&member.orders, Command::Mark { modules: vec![module], mark });
                }
                if wishes.mode != Mode::Off {
                    order(&member.orders, Command::SetMode(wishes.mode));
                }
            }
        }
        member.snapshot = Some(snapshot);
        Ok(Next::GoOn)
    }

    fn ended(&mut self, pid: u32) -> Next {
        let member = self.members.remove(&pid);
        if pid != self.first {
            return Next::GoOn;
        }
        let last = member.and_then(|member| member.snapshot).filter(|_| self.follow);
        let Some(last) = last else { return Next::End };
        let marked = last.modules.iter().filter(|module| module.mark != Mark::None);
        let name = |module: &Module| match module.path.starts_with("/proc") {
            // In a container the whole path holds for this one process.
            true => module.name.clone(),
            false => module.path.to_string_lossy().into_owned(),
        };
        let marks = marked.map(|module| (name(module), module.mark)).collect();
        self.wishes = Some(Wishes { program: last.target.exe.clone(), mode: last.mode, marks });
        Next::GoOn
    }

    /// Takes up the program that was asked for when it runs again.
    fn look_for_return(&mut self) -> Result<(), Failure> {
        let Some(wishes) = &self.wishes else { return Ok(()) };
        if self.members.contains_key(&self.first) {
            return Ok(());
        }
        let again = |candidate: &discovery::Candidate| {
            candidate.runs(&wishes.program)
                && candidate.attachable.is_ok()
                && !self.members.contains_key(&candidate.pid)
        };
        let Some(found) = discovery::candidates().into_iter().find(again) else { return Ok(()) };
        self.first = found.pid;
        // It may have ended again already, or not be ready yet: there is a next look.
        if let Err(error) = self.open(found.pid) {
            self.say(format!("{} runs again ({}), but: {error}", found.name, found.pid));
        }
        Ok(())
    }

    fn say(&mut self, message: String) {
        // Where nobody reads any more the next line ends the loop.
        let _ = self.lines.event(SystemTime::now(), &Event::Notice { message });
    }

    /// What was switched on for as long as this runs is switched off again, unless others watch.
    fn end(&mut self) {
        let is_last = |member: &&Member| matches!(&member.mode, Some(OnFor::Watches(watches)) if !watches.others());
        for member in self.members.values().filter(is_last) {
            let (reply, done) = crossbeam_channel::bounded(1);
            let order = Order { command: Command::SetMode(Mode::Off), reply: Some(reply) };
            if member.orders.send(order).is_ok() {
                let _ = done.recv_timeout(LOOK * 10);
            }
        }
    }
}

fn order(orders: &Sender<Order>, command: Command) {
    // A session that has ended tells so by itself.
    let _ = orders.send(Order { command, reply: None });
}
