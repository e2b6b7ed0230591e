//! The agent's thread: one poll loop over the listener and its connections, the ledger, and what one reload has prepared.
//!
//! Reads never block, so a slow peer holds up nobody; a reply waits for its reader for a bounded time.

use std::{
    io,
    os::fd::RawFd,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::{Arc, atomic::Ordering, mpsc::Sender},
    time::{Duration, Instant},
};

use reload_protocol::{
    File, FromAgent, MAX_FRAME, Notice, Part, Range, Reply, Request, VERSION, Welcome, moment, send, take,
};

use crate::{
    OFFERED, Place, commit,
    errands::{Errand, Errands},
    fd::{self, GuestFd},
    ledger, memory, modules,
    passed::{self, Kept},
    safe_point,
    shadow::Arenas,
    socket,
    transaction::Staged,
};

mod adapting;
mod committing;
mod owner;

use adapting::Adapting;
use owner::{LONGEST_HOLD, Owner};

/// Read from one connection before the others get their turn.
const TURN: usize = 1 << 20;
/// After the host has closed our listener, and opening another failed.
const RELISTEN: Duration = Duration::from_secs(1);
/// How often it is looked whether an errand is done, or the safe point reached, while one is awaited.
const AWAITING: Duration = Duration::from_millis(1);
/// After the process had no descriptor left for a connection.
const REACCEPT: Duration = Duration::from_millis(200);

/// At once; more are hung up on.
const MOST_CONNECTIONS: usize = 63;

type ConnectionId = u64;

struct Connection {
    id: ConnectionId,
    fd: GuestFd,
    peer: u32,
    greeted: bool,
    input: Vec<u8>,
    /// Descriptors that came along with the message that is being received.
    passed: Vec<GuestFd>,
}

struct Server {
    /// Of the store; `None` where it is out of reach.
    root: Option<PathBuf>,
    listener: Option<GuestFd>,
    connections: Vec<Connection>,
    next_connection: ConnectionId,
    next_transaction: u64,
    owner: Option<Owner>,
    /// What the last commit did not merge.
    unmerged: Vec<u64>,
    arenas: Arenas,
    kept: Kept,
    /// Open for the thread that loads them.
    adapters: Vec<GuestFd>,
    errands: Errands,
    /// Who waits for the safe point, and until when.
    awaiting: Option<(ConnectionId, Instant)>,
    /// When threads in the safe point are let go whatever the owner does.
    hold_ends: Option<Instant>,
    /// Connections wait until then.
    accept_from: Option<Instant>,
    adapting: Option<Adapting>,
    /// When the SIGSEGV disposition may be given back after a window whose stopper died; its transaction lives until then.
    settle: Option<(Instant, Arc<Staged>)>,
    /// This thread's id.
    thread: u32,
}

/// What to do with a request: most are answered at once.
enum Answer {
    Reply(Reply),
    /// Somebody else will.
    Later,
    /// Bytes from here on, then a reply.
    Commit(Arc<Staged>),
}

/// Serves until the host ends. Returns only if it cannot begin. `begun` is told whether this thread has a table of descriptors
/// of its own, once it has what it was given.
pub fn run(place: Place, begun: &Sender<bool>) -> io::Result<()> {
    let mut server = Server::new(place, begun)?;
    loop {
        server.turn();
    }
}

impl Server {
    fn new(place: Place, begun: &Sender<bool>) -> io::Result<Server> {
        let errands = Errands::start()?;
        fd::separate_table(match &place {
            Place::Folder(_) => None,
            Place::Socket(socket) => Some(std::os::fd::AsRawFd::as_raw_fd(socket)),
        });
        // Nobody waits for it where nothing was handed over.
        let _ = begun.send(fd::is_separate());
        commit::take_short_turns();
        if !commit::is_filtered() {
            moment::prepare();
        }
        let (listener, root) = match place {
            Place::Folder(root) => (socket::listen(&root)?, Some(root)),
            Place::Socket(socket) => (socket::listen_on(socket)?, None),
        };
        Ok(Server {
            listener: Some(listener),
            root,
            connections: Vec::new(),
            next_connection: 1,
            next_transaction: 1,
            owner: None,
            unmerged: Vec::new(),
            arenas: Arenas::default(),
            kept: Kept::default(),
            adapters: Vec::new(),
            errands,
            awaiting: None,
            hold_ends: None,
            accept_from: None,
            adapting: None,
            settle: None,
            // SAFETY: cannot fail.
            thread: unsafe { libc::syscall(libc::SYS_gettid) } as u32,
        })
    }

    /// Waits for something to do and does it.
    fn turn(&mut self) {
        let entry = |fd: RawFd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        self.accept_from = self.accept_from.filter(|from| *from > Instant::now());
        let listener = self.listener.as_ref().filter(|_| self.accept_from.is_none()).map_or(-1, GuestFd::raw);
        let mut polls = vec![entry(listener)];
        polls.extend(self.connections.iter().map(|connection| entry(connection.fd.raw())));
        let settling = self.settle.as_ref().map(|(due, _)| due.saturating_duration_since(Instant::now()));
        let relisten = self.listener.is_none().then_some(RELISTEN);
        // A thread of the host's table has no descriptor of ours to wake us by.
        let awaited = self.errands.is_busy() || self.awaiting.is_some() || self.is_awaited();
        let awaiting = awaited.then_some(AWAITING);
        let at = |time: Option<Instant>| time.map(|time| time.saturating_duration_since(Instant::now()));
        let soonest = [settling, relisten, awaiting, at(self.hold_ends), at(self.accept_from)];
        let soonest = soonest.into_iter().flatten().min();
        let timeout = soonest.map_or(-1, |wait| wait.as_millis() as i32 + 1);
        // SAFETY: `polls` has as many valid entries as it says.
        unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, timeout) };

        self.settle_window(false);
        let ready: Vec<(ConnectionId, i16)> = self
            .connections
            .iter()
            .map(|connection| connection.id)
            .zip(polls[1..].iter().map(|poll| poll.revents))
            .collect();
        for (id, events) in ready.into_iter().filter(|&(_, events)| events != 0) {
            if events & libc::POLLNVAL != 0 {
                self.drop_connection(id, true);
            } else {
                self.serve(id);
            }
        }
        self.finish_errands();
        self.look_at_safe_point();
        self.pass_on_adapters_words();
        if polls[0].revents & libc::POLLNVAL != 0
            && let Some(closed) = self.listener.take()
        {
            // The host closes every descriptor it does not know (a daemon does, at start).
            closed.forget();
        } else if polls[0].revents != 0 {
            self.accept();
        }
        if self.listener.is_none() {
            self.listener = match &self.root {
                Some(root) => socket::listen(root).ok(),
                None => {
                    crate::own(OFFERED.swap(-1, Ordering::AcqRel)).and_then(|offered| socket::listen_on(offered).ok())
                }
            };
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        loop {
            match socket::accept(listener) {
                Ok(None) => return,
                Ok(Some((fd, peer))) if self.connections.len() < MOST_CONNECTIONS => {
                    let id = self.next_connection;
                    self.next_connection += 1;
                    self.connections.push(Connection {
                        id,
                        fd,
                        peer,
                        greeted: false,
                        input: Vec::new(),
                        passed: Vec::new(),
                    });
                }
                // Too many: it is hung up on.
                Ok(Some(_)) => {}
                // Somebody else's.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(_) => {
                    // Where the host's descriptors are shared there may be none left (EMFILE). Whoever waits would wake this
                    // thread again at once.
                    self.accept_from = Some(Instant::now() + REACCEPT);
                    return;
                }
            }
        }
    }

    /// Reads what there is and answers the complete requests among it.
    fn serve(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id) else { return };
        let Connection { fd, input, passed, .. } = connection;
        let alive = socket::receive_available(fd, input, passed, TURN).unwrap_or(false);
        loop {
            let Some(connection) = self.connection(id) else { return };
            match take(&mut connection.input) {
                Ok(Some(request)) => {
                    let passed = if Request::has_passed_files(&request) {
                        std::mem::take(&mut connection.passed)
                    } else {
                        Vec::new()
                    };
                    self.handle(id, request, passed);
                }
                Ok(None) => {
                    // Of what is not there yet nobody knows whether they belong to it.
                    if connection.input.is_empty() {
                        connection.passed.clear();
                    }
                    break;
                }
                Err(error) => {
                    // Not one of ours, or of another version: tell and hang up.
                    self.reply(id, failed(format!("not a request: {error}")));
                    return self.drop_connection(id, false);
                }
            }
        }
        if !alive {
            self.drop_connection(id, false);
        }
    }

    fn handle(&mut self, id: ConnectionId, request: Request, passed: Vec<GuestFd>) {
        let handled = panic::catch_unwind(AssertUnwindSafe(|| match self.answer(id, request, passed) {
            Answer::Reply(reply) => self.reply(id, reply),
            Answer::Later => {}
            Answer::Commit(staged) => self.commit(id, staged),
        }));
        if handled.is_err() {
            self.reply(id, failed("the agent made a mistake (panic)"));
        }
    }

    fn answer(&mut self, id: ConnectionId, request: Request, mut passed: Vec<GuestFd>) -> Answer {
        let Some(connection) = self.connection(id) else { return Answer::Later };
        let peer = connection.peer;
        if !connection.greeted && !matches!(request, Request::Hello { .. }) {
            return Answer::Reply(failed("the first request must be Hello"));
        }
        if self.hold_ends.is_some() && self.owner.as_ref().is_some_and(|owner| owner.connection == id) {
            self.hold_ends = Some(Instant::now() + LONGEST_HOLD);
        }
        Answer::Reply(match request {
            Request::Hello { version } => self.hello(id, version),
            Request::Modules => {
                let (modules, closed) = modules::link_map();
                Reply::Modules { modules, closed }
            }
            Request::Ledger { since } => {
                let (whole, parts) = ledger::changed_since(since);
                Reply::Ledger { revision: ledger::revision(), whole, parts }
            }
            Request::SetLedger { expected, parts } => self.set_ledger(id, expected, parts),
            Request::Begin { expected, closed } => self.begin(id, peer, expected, closed),
            Request::End => {
                if self.owner.as_ref().is_some_and(|owner| owner.connection == id) {
                    self.release();
                }
                self.done()
            }
            Request::Reserve { near, size } => match self.arenas.reserve(near, size) {
                Ok(address) => Reply::Reserved { address },
                Err(message) => Reply::Failed { message },
            },
            Request::Load { file, low, high } => self.load(id, &file, &mut passed, low..high),
            Request::Bind { segments, writes } => match self.owned(id) {
                Err(reply) => reply,
                Ok(owner) => match owner.shadows.iter().find(|shadow| shadow.covers(&segments)) {
                    None => failed("the segments belong to no shadow that is loaded and not committed"),
                    Some(shadow) => match shadow.bind(&segments, &writes) {
                        Ok(()) => self.done(),
                        Err(message) => Reply::Failed { message },
                    },
                },
            },
            Request::ReadMemory { ranges } => read_memory(&ranges),
            Request::SafePoint { patience_ms } => match self.owned(id) {
                Err(reply) => reply,
                Ok(_) => {
                    safe_point::hold();
                    self.awaiting = Some((id, Instant::now() + Duration::from_millis(patience_ms.into())));
                    return Answer::Later;
                }
            },
            Request::Call { routine, patience_ms } => match self.call(id, routine) {
                Err(reply) => reply,
                Ok(()) => {
                    let patience = Duration::from_millis(patience_ms.into());
                    self.hold_ends = self.hold_ends.map(|ends| ends + patience);
                    self.errands.run(id, Errand::Call(routine), Some(patience));
                    return Answer::Later;
                }
            },
            Request::Adapt { file, input } => match self.adapt(id, file, &mut passed, input) {
                Err(reply) => reply,
                Ok(()) => return Answer::Later,
            },
            Request::Adapted => match (self.busy_for(id), &mut self.adapting) {
                (Some(busy), _) => busy,
                (None, None) => failed("Adapt must come first"),
                (None, Some(adapting)) => {
                    adapting.ending = Some(id);
                    return Answer::Later;
                }
            },
            Request::Stage(transaction) => {
                let number = self.next_transaction;
                match self.owned(id) {
                    Err(reply) => reply,
                    Ok(owner) if !owner.is_up_to_date() => Reply::Closed,
                    Ok(owner) => match Staged::prepare(number, transaction, &passed) {
                        Err(message) => Reply::Failed { message },
                        Ok(staged) => {
                            owner.staged = Some(Arc::new(staged));
                            self.next_transaction += 1;
                            Reply::Staged { transaction: number }
                        }
                    },
                }
            }
            Request::Unmerged => Reply::Unmerged(self.unmerged.clone()),
            Request::Commit { transaction } => match self.staged(transaction) {
                Ok(staged) => return Answer::Commit(staged),
                Err(reply) => reply,
            },
            Request::CommitBySignal { transaction } => match self.staged(transaction) {
                Ok(staged) => self.commit_by_signal(id, &staged),
                Err(reply) => reply,
            },
            Request::AllowTracer { pid } => match self.busy_for(id) {
                Some(busy) => busy,
                None => {
                    // SAFETY: sets an attribute of this process. Without Yama there is none, which is as good.
                    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::c_ulong::from(pid), 0, 0, 0) };
                    self.done()
                }
            },
            Request::Dlopen { path } => {
                self.errands.run(id, Errand::Open(path), None);
                return Answer::Later;
            }
        })
    }

    fn hello(&mut self, id: ConnectionId, version: u32) -> Reply {
        if let Some(connection) = self.connection(id) {
            connection.greeted = version == VERSION;
        }
        Reply::Welcome(Welcome {
            version: VERSION,
            pid: std::process::id(),
            agent_threads: vec![self.thread, self.errands.thread],
            revision: ledger::revision(),
            wants_descriptors: self.root.is_none(),
            closed: modules::closed(),
        })
    }

    fn set_ledger(&mut self, id: ConnectionId, expected: u64, parts: Vec<Part>) -> Reply {
        if expected != ledger::revision() {
            return Reply::Stale { revision: ledger::revision() };
        }
        if let Some(busy) = self.busy_for(id) {
            return busy;
        }
        ledger::prepare(parts);
        ledger::publish();
        self.tell_ledger(id);
        self.done()
    }

    /// Tells the other connections that it has changed.
    fn tell_ledger(&mut self, cause: ConnectionId) {
        let Some(frame) = encode(&FromAgent::Notice(Notice::LedgerChanged { revision: ledger::revision() })) else {
            return;
        };
        let others = self.connections.iter().filter(|connection| connection.greeted && connection.id != cause);
        let deaf: Vec<ConnectionId> =
            others.filter(|other| socket::send_all(&other.fd, &frame, false).is_err()).map(|other| other.id).collect();
        for id in deaf {
            self.drop_connection(id, false);
        }
    }

    fn finish_errands(&mut self) {
        while let Some((id, reply)) = self.errands.finished() {
            if let Ok(owner) = self.owned(id) {
                owner.forgive_closing();
            }
            self.reply(id, reply);
        }
    }

    fn done(&self) -> Reply {
        Reply::Done { revision: ledger::revision() }
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.id == id)
    }

    fn reply(&mut self, id: ConnectionId, reply: Reply) {
        let frame = encode(&FromAgent::Reply(reply))
            .or_else(|| encode(&FromAgent::Reply(failed("the answer is too large for one message"))));
        let Some(connection) = self.connection(id) else { return };
        let sent = frame.is_some_and(|frame| socket::send_all(&connection.fd, &frame, true).is_ok());
        if !sent {
            self.drop_connection(id, false);
        }
    }

    /// `stolen`: the host has closed the descriptor already.
    fn drop_connection(&mut self, id: ConnectionId, stolen: bool) {
        let Some(index) = self.connections.iter().position(|connection| connection.id == id) else { return };
        let connection = self.connections.swap_remove(index);
        if stolen {
            connection.fd.forget();
        }
        if self.owner.as_ref().is_some_and(|owner| owner.connection == id) {
            self.release();
        }
    }
}

/// Under which name the loader gets at a file, and what must stay open for it.
fn named(file: &File, passed: &mut Vec<GuestFd>) -> Result<(String, Option<GuestFd>), String> {
    match file {
        File::Path(path) => Ok((path.clone(), None)),
        File::Passed { index, name } => {
            let fd = passed::take(*index, name, passed)?;
            let path =
                passed::name_for_loader(fd.raw()).map_err(|error| format!("{name}: /proc/thread-self: {error}"))?;
            Ok((path, Some(fd)))
        }
    }
}

fn failed(message: impl Into<String>) -> Reply {
    Reply::Failed { message: message.into() }
}

fn encode(message: &FromAgent) -> Option<Vec<u8>> {
    let mut frame = Vec::new();
    send(&mut frame, message).ok()?;
    Some(frame)
}

fn read_memory(ranges: &[Range]) -> Reply {
    let total = ranges.iter().fold(0u64, |total, range| total.saturating_add(range.len));
    if total > MAX_FRAME as u64 / 2 {
        return failed(format!("{total} bytes are too much for one message"));
    }
    let places: Vec<(u64, usize)> = ranges.iter().map(|range| (range.start, range.len as usize)).collect();
    Reply::Memory(memory::read_each(&places))
}
