//! The agent's thread: one poll loop over the listener and its connections, the ledger, and what one reload has prepared.
//!
//! Reads never block, so a slow peer holds up nobody; a reply waits for its reader for a bounded time.

use std::{
    io,
    os::fd::RawFd,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering, mpsc::Sender},
    thread,
    time::{Duration, Instant},
};

use reload_protocol::{
    File, FromAgent, MAX_FRAME, Notice, Part, Range, Reply, Request, Routine, SignalStop, VERSION, Welcome, receive,
    send,
};

use crate::{
    OFFERED, Place,
    adapter::{self, Conversation},
    commit::{self, Ended},
    errands::{Errand, Errands},
    fd::{self, GuestFd},
    ledger, memory, modules,
    passed::{self, Kept},
    safe_point,
    shadow::{Arenas, Shadow},
    signal_stop::{self, Stopped},
    socket,
    transaction::Staged,
    window,
};

/// Read from one connection before the others get their turn.
const TURN: usize = 1 << 20;
/// How long a fault taken while the window was closed may be on its way to the handler.
const GRACE: Duration = Duration::from_millis(250);
/// After the host has closed our listener, and opening another failed.
const RELISTEN: Duration = Duration::from_secs(1);
/// How often it is looked whether an errand is done, or the safe point reached, while one is awaited.
const AWAITING: Duration = Duration::from_millis(1);
/// The longest time without a word of the owner's for which threads are held in the safe point.
const LONGEST_HOLD: Duration = Duration::from_secs(10);
/// After the process had no descriptor left for a connection.
const REACCEPT: Duration = Duration::from_millis(200);

const NOT_WAITED: &str = "the commit came too late: the adapter had stopped waiting for it";

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

/// The exclusive right to load and stage, and what was prepared under it.
struct Owner {
    connection: ConnectionId,
    peer: u32,
    shadows: Vec<Shadow>,
    staged: Option<Arc<Staged>>,
    /// What goes with the commit.
    adapter: Option<Arc<Conversation>>,
}

/// The last conversation with an adapter, and who waits for what it has to say.
struct Adapting {
    conversation: Arc<Conversation>,
    preparation: Option<ConnectionId>,
    ending: Option<ConnectionId>,
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

/// Adapters that came as descriptors, by their names here and for the loader. An adapter remembers things, so it must be loaded
/// once; a forked child has its parent's.
static ADAPTERS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

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
            match next_request(&mut connection.input) {
                Ok(Some(request)) => {
                    let passed = std::mem::take(&mut connection.passed);
                    self.handle(id, request, passed);
                }
                Ok(None) => break,
                Err(message) => {
                    // Not one of ours, or of another version: tell and hang up.
                    self.reply(id, Reply::Failed { message });
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
            Request::Modules => Reply::Modules(modules::loaded()),
            Request::Ledger { since } => {
                let (whole, parts) = ledger::changed_since(since);
                Reply::Ledger { revision: ledger::revision(), whole, parts }
            }
            Request::SetLedger { expected, parts } => self.set_ledger(id, expected, parts),
            Request::Begin { expected } => self.begin(id, peer, expected),
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
            Request::Adapted => match &mut self.adapting {
                None => failed("Adapt must come first"),
                Some(adapting) => {
                    adapting.ending = Some(id);
                    return Answer::Later;
                }
            },
            Request::Stage(transaction) => {
                let number = self.next_transaction;
                match self.owned(id) {
                    Err(reply) => reply,
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
                Some(staged) => return Answer::Commit(staged),
                None => failed("no such transaction is staged"),
            },
            Request::CommitBySignal { transaction } => match self.staged(transaction) {
                Some(staged) => self.commit_by_signal(id, &staged),
                None => failed("no such transaction is staged"),
            },
            Request::AllowTracer { pid } => {
                // SAFETY: sets an attribute of this process. Without Yama there is none, which is as good.
                unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::c_ulong::from(pid), 0, 0, 0) };
                self.done()
            }
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
        })
    }

    fn set_ledger(&mut self, id: ConnectionId, expected: u64, parts: Vec<Part>) -> Reply {
        if expected != ledger::revision() {
            return Reply::Stale { revision: ledger::revision() };
        }
        if let Some(owner) = self.owner.as_ref().filter(|owner| owner.connection != id) {
            return Reply::Busy { pid: owner.peer };
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

    fn begin(&mut self, id: ConnectionId, peer: u32, expected: u64) -> Reply {
        if let Some(owner) = self.owner.as_ref().filter(|owner| owner.connection != id) {
            return Reply::Busy { pid: owner.peer };
        }
        if expected != ledger::revision() {
            return Reply::Stale { revision: ledger::revision() };
        }
        if self.owner.is_none() {
            self.owner = Some(Owner { connection: id, peer, shadows: Vec::new(), staged: None, adapter: None });
        }
        self.done()
    }

    /// Before code of the host's runs: if it is in a shadow, that one stays.
    fn call(&mut self, id: ConnectionId, routine: Routine) -> Result<(), Reply> {
        let owner = self.owned(id)?;
        let address = routine.address();
        let around = |shadow: &&mut Shadow| (shadow.module.start..shadow.module.end).contains(&address);
        if let Some(shadow) = owner.shadows.iter_mut().find(around) {
            shadow.entered = true;
        }
        let mappings = memory::mappings().map_err(|error| failed(format!("reading /proc/self/maps: {error}")))?;
        let runs = |mapping: &memory::Mapping| mapping.protection & libc::PROT_EXEC != 0;
        if mappings.iter().any(|mapping| mapping.range.contains(&address) && runs(mapping)) {
            Ok(())
        } else {
            Err(failed(format!("there is no code at {address:#x}")))
        }
    }

    /// Answers whoever waits for the safe point, and lets threads go that nobody has a use for any more.
    fn look_at_safe_point(&mut self) {
        if let Some((id, until)) = self.awaiting {
            let (held, missing) = safe_point::standing();
            if missing == 0 {
                self.awaiting = None;
                self.hold_ends = Some(Instant::now() + LONGEST_HOLD);
                self.reply(id, Reply::SafePoint { held, missing });
            } else if Instant::now() >= until {
                self.let_go();
                self.reply(id, Reply::SafePoint { held, missing });
            }
        }
        if self.hold_ends.is_some_and(|ends| Instant::now() >= ends) {
            self.let_go();
            // What was prepared for threads that stand still must not be done now.
            if let Some(owner) = &mut self.owner {
                owner.staged = None;
            }
        }
    }

    fn let_go(&mut self) {
        (self.awaiting, self.hold_ends) = (None, None);
        safe_point::release();
    }

    /// Ends the owner's right; what it loaded and did not commit goes.
    fn release(&mut self) {
        self.let_go();
        if let Some(mut owner) = self.owner.take() {
            if let Some(adapter) = &owner.adapter {
                adapter.give_up();
                // The host's runtime may have seen it, and nobody can tell what it kept.
                let entered = adapter.may_use_shadow();
                owner.shadows.iter_mut().for_each(|shadow| shadow.entered |= entered);
            }
            for shadow in owner.shadows.into_iter().rev() {
                self.arenas.unload(shadow);
            }
        }
    }

    fn load(
        &mut self,
        id: ConnectionId,
        file: &File,
        passed: &mut Vec<GuestFd>,
        bounds: std::ops::Range<u64>,
    ) -> Reply {
        if let Err(reply) = self.owned(id) {
            return reply;
        }
        let (path, open) = match named(file, passed) {
            Ok(named) => named,
            Err(message) => return Reply::Failed { message },
        };
        let loaded = self.arenas.load(&path, bounds);
        if let Some(open) = open {
            self.kept.add(open);
        }
        match loaded {
            Err(message) => Reply::Failed { message },
            Ok(shadow) => {
                let module = shadow.module.clone();
                match self.owned(id) {
                    Ok(owner) => owner.shadows.push(shadow),
                    Err(reply) => return reply,
                }
                Reply::Loaded(module)
            }
        }
    }

    /// Starts a conversation with the adapter about what the owner has loaded.
    fn adapt(&mut self, id: ConnectionId, file: File, passed: &mut Vec<GuestFd>, input: Vec<u8>) -> Result<(), Reply> {
        if self.adapting.as_ref().is_some_and(|last| last.conversation.ending().is_none()) {
            return Err(failed("the adapter has not yet come to an end with the reload before"));
        }
        self.owned(id)?;
        let (path, open) = adapter_named(&file, passed).map_err(failed)?;
        self.adapters.extend(open);
        let owner = self.owned(id)?;
        let (conversation, speaker) = adapter::conversation(path, input);
        owner.adapter = Some(Arc::clone(&conversation));
        self.adapting = Some(Adapting { conversation, preparation: Some(id), ending: None });
        self.errands.run_unawaited(Errand::Adapt(speaker));
        Ok(())
    }

    fn is_awaited(&self) -> bool {
        self.adapting.as_ref().is_some_and(|adapting| adapting.preparation.is_some() || adapting.ending.is_some())
    }

    fn pass_on_adapters_words(&mut self) {
        let Some(adapting) = &mut self.adapting else { return };
        let mut replies = Vec::new();
        if adapting.preparation.is_some()
            && let Some(words) = adapting.conversation.preparation()
        {
            replies.extend(adapting.preparation.take().map(|id| (id, words)));
        }
        if adapting.ending.is_some()
            && let Some(words) = adapting.conversation.ending()
        {
            replies.extend(adapting.ending.take().map(|id| (id, words)));
        }
        for (id, words) in replies {
            self.reply(id, Reply::Adapter(words));
        }
    }

    /// The adapter of the reload being committed is told what becomes of it; `false`: it has not waited.
    fn hold_adapter(&self) -> bool {
        self.owner.as_ref().and_then(|owner| owner.adapter.as_ref()).is_none_or(|adapter| adapter.hold_fast())
    }

    fn tell_adapter(&self, committed: bool) {
        if let Some(adapter) = self.owner.as_ref().and_then(|owner| owner.adapter.as_ref()) {
            if committed { adapter.commit() } else { adapter.let_go() }
        }
    }

    /// The owner, if `id` is it.
    fn owned(&mut self, id: ConnectionId) -> Result<&mut Owner, Reply> {
        match &mut self.owner {
            None => Err(failed("Begin must come first")),
            Some(owner) if owner.connection != id => Err(Reply::Busy { pid: owner.peer }),
            Some(owner) => Ok(owner),
        }
    }

    fn staged(&self, transaction: u64) -> Option<Arc<Staged>> {
        self.owner.as_ref()?.staged.clone().filter(|staged| staged.id == transaction)
    }

    /// The commit on the stop helper's connection.
    fn commit(&mut self, id: ConnectionId, staged: Arc<Staged>) {
        self.settle_window(true);
        let range = |range: &std::ops::Range<u64>| Range { start: range.start, len: range.end - range.start };
        let forbidden = staged.forbidden.iter().map(range).collect();
        if !self.hold_adapter() {
            return self.reply(id, failed(NOT_WAITED));
        }
        let priority = commit::Priority::current();
        self.reply(id, Reply::Committing { forbidden });
        let Some(connection) = self.connection(id).filter(|connection| connection.input.is_empty()) else {
            self.tell_adapter(false);
            return self.drop_connection(id, false);
        };
        ledger::prepare(staged.ledger.clone());
        let ended = commit::drive(connection.fd.raw(), &staged);
        self.tell_adapter(matches!(ended, Ended::Committed | Ended::Lost { committed: true }));
        priority.restore();
        let disturbed = matches!(ended, Ended::Lost { .. });
        if disturbed {
            self.settle = Some((Instant::now() + GRACE, Arc::clone(&staged)));
        }
        match ended {
            Ended::Committed | Ended::Lost { committed: true } => {
                self.committed(id);
                let done = self.done();
                self.reply(id, done);
            }
            Ended::Aborted => {
                self.reply(id, Reply::NotNow { reason: "a thread stood inside bytes to be written".into() })
            }
            Ended::Refused(obstacle) => self.reply(id, Reply::Failed { message: obstacle.describe() }),
            Ended::Lost { committed: false } => {}
        }
        if disturbed {
            self.drop_connection(id, false);
        }
    }

    fn commit_by_signal(&mut self, id: ConnectionId, staged: &Arc<Staged>) -> Reply {
        self.settle_window(true);
        if !self.hold_adapter() {
            return failed(NOT_WAITED);
        }
        ledger::prepare(staged.ledger.clone());
        let stopped = signal_stop::commit(staged, &[self.thread, self.errands.thread]);
        self.tell_adapter(matches!(stopped, Stopped::Committed { .. }));
        match stopped {
            Stopped::Committed { pause_ns, threads } => {
                self.committed(id);
                Reply::Committed(SignalStop { revision: ledger::revision(), pause_ns, threads })
            }
            Stopped::NotNow(reason) => Reply::NotNow { reason },
            Stopped::Failed(message) => Reply::Failed { message },
        }
    }

    /// The shadows are live now, and the ledger has become the transaction's with the code.
    fn committed(&mut self, cause: ConnectionId) {
        if let Some(owner) = &mut self.owner {
            let merges = owner.staged.take().map_or_else(Vec::new, |staged| {
                let left_out = staged.merges.iter().filter(|(_, left_out)| left_out.load(Ordering::Acquire));
                left_out.map(|(merge, _)| merge.address).collect()
            });
            self.unmerged = merges;
            owner.shadows.drain(..).for_each(Shadow::keep);
        }
        self.tell_ledger(cause);
    }

    /// Gives SIGSEGV back when its time has come; with `wait` that time is awaited.
    fn settle_window(&mut self, wait: bool) {
        while let Some((due, _)) = &self.settle {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() && window::restore_disposition() {
                self.settle = None;
            } else if wait {
                thread::sleep(left.max(Duration::from_millis(1)));
            } else if left.is_zero() {
                // Somebody is in the handler just now.
                self.settle = self.settle.take().map(|(_, staged)| (Instant::now() + GRACE, staged));
            } else {
                return;
            }
        }
    }

    fn finish_errands(&mut self) {
        while let Some((id, reply)) = self.errands.finished() {
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

/// As [`named`]; one that is loaded already keeps its name.
fn adapter_named(file: &File, passed: &mut Vec<GuestFd>) -> Result<(String, Option<GuestFd>), String> {
    let File::Passed { name, .. } = file else { return named(file, passed) };
    let mut adapters = ADAPTERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, known)) = adapters.iter().find(|(known, _)| known == name) {
        return Ok((known.clone(), None));
    }
    let (path, open) = named(file, passed)?;
    adapters.push((name.clone(), path.clone()));
    Ok((path, open))
}

fn failed(message: impl Into<String>) -> Reply {
    Reply::Failed { message: message.into() }
}

fn encode(message: &FromAgent) -> Option<Vec<u8>> {
    let mut frame = Vec::new();
    send(&mut frame, message).ok()?;
    Some(frame)
}

/// Takes one complete request out of `input`.
fn next_request(input: &mut Vec<u8>) -> Result<Option<Request>, String> {
    let Some(prefix) = input.first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_le_bytes(*prefix) as usize;
    if len > MAX_FRAME {
        return Err(format!("frame of {len} bytes exceeds {MAX_FRAME}"));
    }
    if input.len() < 4 + len {
        return Ok(None);
    }
    let request = receive(&mut &input[..4 + len]).map_err(|error| format!("not a request: {error}"));
    input.drain(..4 + len);
    request.map(Some)
}

fn read_memory(ranges: &[Range]) -> Reply {
    let total = ranges.iter().fold(0u64, |total, range| total.saturating_add(range.len));
    if total > MAX_FRAME as u64 / 2 {
        return failed(format!("{total} bytes are too much for one message"));
    }
    let places: Vec<(u64, usize)> = ranges.iter().map(|range| (range.start, range.len as usize)).collect();
    Reply::Memory(memory::read_each(&places))
}
