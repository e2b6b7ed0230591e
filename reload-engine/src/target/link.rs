//! A connection to the agent in the target: requests with deadlines, answers as values or errors, notices on a channel.

use std::{
    fs,
    io::{self, Write as _},
    iter,
    net::Shutdown,
    ops,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, fs::OpenOptionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use crossbeam_channel::Receiver;
use nix::sys::socket::{ControlMessage, MsgFlags, getsockopt, sendmsg, sockopt::PeerCredentials};
use reload_protocol::{
    File, LoadedModule, MOST_PASSED, Notice, Part, Range, Reply, Request, Routine, SOCKET_NAME, Segment, SignalStop,
    Transaction, VERSION, Welcome, Write, is_name_of_passed, send,
};

use super::{
    halt::{Halt, Step},
    incoming::Incoming,
    process::Process,
    space::Space,
    store::TargetFolder,
};
use crate::{
    error::{Error, Result},
    model::Addr,
};

/// For answers that the agent has at hand.
const SHORT: Duration = Duration::from_secs(10);
/// For work in the target: `dlopen`, binding, staging.
const LONG: Duration = Duration::from_secs(60);
/// `sun_path` has 108 bytes; longer paths go through the folder's descriptor.
const LONGEST_PATH: usize = 100;

/// One connection. It ends with the value; a right taken by [`AgentLink::begin`] ends with it.
#[derive(Debug)]
pub struct AgentLink {
    pid: u32,
    /// Where the agent listens.
    folder: TargetFolder,
    stream: UnixStream,
    welcome: Welcome,
    revision: u64,
    /// How many modules had been closed when the session read the link map.
    closed: u64,
    /// Whether nothing is to be begun once others have been.
    heeds_closings: bool,
    incoming: Incoming,
    notices: Receiver<Notice>,
    halt: Halt,
    space: Space,
}

/// What the agent keeps of the ledger.
#[derive(Debug, PartialEq, Eq)]
pub struct LedgerParts {
    /// 0: nothing has been written yet.
    pub revision: u64,
    /// These are all there are, and not only those that have changed.
    pub whole: bool,
    pub parts: Vec<Part>,
}

impl AgentLink {
    /// Connects to the agent of `pid`. [`Error::NoAgent`] where the process has none, [`Error::ProtocolVersion`] where it
    /// is another dashboard's.
    pub fn connect(pid: u32) -> Result<AgentLink> {
        Process::of(pid)?;
        let folder = TargetFolder::of_agent(pid).ok_or(Error::NoAgent { pid })?;
        let stream = open(folder.path(), pid).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => Error::NotPermitted { pid },
            // The socket of a process that had this pid, or of the program before `exec`.
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Error::NoAgent { pid },
            _ => Error::LinkLost { pid, source },
        })?;
        let lost = |source| Error::LinkLost { pid, source };
        stream.set_write_timeout(Some(SHORT)).map_err(lost)?;
        let theirs = stream.try_clone().map_err(lost)?;
        let (incoming, notices) = Incoming::listen(theirs, format!("agent link {pid}")).map_err(lost)?;
        let welcome =
            Welcome { version: 0, pid, agent_threads: Vec::new(), revision: 0, wants_descriptors: false, closed: 0 };
        let (halt, space) = (Halt::from_environment(), Space::of(pid));
        let mut link = AgentLink {
            pid,
            folder,
            stream,
            welcome,
            revision: 0,
            closed: 0,
            heeds_closings: true,
            incoming,
            notices,
            halt,
            space,
        };
        let hello = link.request_within(Request::Hello { version: VERSION }, SHORT).map_err(|error| match error {
            // The agent refuses other users by hanging up.
            Error::LinkLost { pid, .. } if !may_drive(pid) => Error::NotPermitted { pid },
            other => other,
        })?;
        link.welcome = match hello {
            Reply::Welcome(welcome) if welcome.version == VERSION => {
                Welcome { pid, agent_threads: link.space.threads(&welcome.agent_threads), ..welcome }
            }
            Reply::Welcome(Welcome { version: found, .. }) => {
                return Err(Error::ProtocolVersion { pid, found, expected: VERSION });
            }
            other => return Err(link.unexpected(other)),
        };
        link.revision = link.welcome.revision;
        link.closed = link.welcome.closed;
        Ok(link)
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Where the agent listens.
    pub fn folder(&self) -> &TargetFolder {
        &self.folder
    }

    /// The ledger's, as the agent told last. Under the right to reload nobody else changes it.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Told to the stop helper instead.
    pub(super) fn note_revision(&mut self, revision: u64) {
        self.revision = revision;
    }

    /// What the agent said of itself when this connection began.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// What the agent tells unasked. The channel is closed when the connection has ended.
    pub fn notices(&self) -> Receiver<Notice> {
        self.notices.clone()
    }

    /// Where its files are, as we reach them.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// One request and its answer, whatever it is. Waits as long as that kind of request may take.
    pub fn request(&mut self, request: Request) -> Result<Reply> {
        self.request_with(request, &Luggage::default())
    }

    fn request_with(&mut self, request: Request, luggage: &Luggage) -> Result<Reply> {
        let patience = match request {
            Request::Load { .. }
            | Request::SafePoint { .. }
            | Request::Call { .. }
            | Request::Bind { .. }
            | Request::Stage(_)
            | Request::Dlopen { .. }
            | Request::Adapt { .. }
            | Request::Adapted
            | Request::CommitBySignal { .. } => LONG,
            _ => SHORT,
        };
        self.send_and_wait(request, luggage, patience)
    }

    fn request_within(&mut self, request: Request, patience: Duration) -> Result<Reply> {
        self.send_and_wait(request, &Luggage::default(), patience)
    }

    fn send_and_wait(&mut self, request: Request, luggage: &Luggage, patience: Duration) -> Result<Reply> {
        let ((), [reply]) = self.exchange([(request, luggage, patience)], || ())?;
        reply
    }

    /// Sends all requests, so that the agent is woken once, does something else meanwhile, and waits for the answer to each.
    fn exchange<const N: usize, T>(
        &mut self,
        requests: [(Request, &Luggage, Duration); N],
        meanwhile: impl FnOnce() -> T,
    ) -> Result<(T, [Result<Reply>; N])> {
        let pid = self.pid;
        let mut turn = self.incoming.turn();
        for (request, luggage, _) in &requests {
            luggage.send(&mut self.stream, request).map_err(|source| {
                // Half of a request may have gone out, and answers to earlier ones may be on their way.
                let _ = self.stream.shutdown(Shutdown::Both);
                match source.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        Error::LinkTimeout { pid, seconds: SHORT.as_secs() }
                    }
                    _ => Error::LinkLost { pid, source },
                }
            })?;
        }
        let done = meanwhile();
        let replies = requests.map(|(_, _, patience)| {
            let reply = turn.reply(patience).map_err(|source| match source.kind() {
                io::ErrorKind::TimedOut => {
                    // A late answer would be taken for the next one's.
                    let _ = self.stream.shutdown(Shutdown::Both);
                    Error::LinkTimeout { pid, seconds: patience.as_secs() }
                }
                _ => Error::LinkLost { pid, source },
            })?;
            if let Reply::Done { revision }
            | Reply::Ledger { revision, .. }
            | Reply::Committed(SignalStop { revision, .. }) = reply
            {
                self.revision = revision;
            }
            Ok(reply)
        });
        Ok((done, replies))
    }

    fn ask<T>(&mut self, request: Request, pick: impl FnOnce(Reply) -> Result<T, Reply>) -> Result<T> {
        self.ask_with(request, &Luggage::default(), pick)
    }

    fn ask_with<T>(
        &mut self,
        request: Request,
        luggage: &Luggage,
        pick: impl FnOnce(Reply) -> Result<T, Reply>,
    ) -> Result<T> {
        let reply = self.request_with(request, luggage)?;
        pick(reply).map_err(|other| self.unexpected(other))
    }

    /// The error that an answer means where another was hoped for.
    fn unexpected(&self, reply: Reply) -> Error {
        match reply {
            Reply::Stale { .. } => Error::Stale,
            Reply::Closed => Error::ModuleClosed { pid: self.pid },
            Reply::Busy { pid } => Error::Busy { pid },
            Reply::NotNow { reason } => Error::Stop { pid: self.pid, reason },
            Reply::Failed { message } => Error::Agent(message),
            _ => Error::Agent(format!("the agent of process {} gave an answer to another question", self.pid)),
        }
    }

    /// Every module in the process's link map, by the path under which we open it; the executable (with an empty path) first.
    /// Without what was opened by descriptors: the agent, adapters and generations.
    pub fn modules(&mut self) -> Result<Vec<LoadedModule>> {
        Ok(self.read_link_map()?.0)
    }

    /// The same, to be gone by from now on: [`AgentLink::begin`] fails once one of them was closed.
    pub fn take_stock(&mut self) -> Result<Vec<LoadedModule>> {
        let (modules, closed) = self.read_link_map()?;
        self.closed = closed;
        Ok(modules)
    }

    /// Whether [`AgentLink::begin`] asks if a module was closed. There are targets that do so all the time.
    pub fn heed_closings(&mut self, heed: bool) {
        self.heeds_closings = heed;
    }

    fn closed(&self) -> Option<u64> {
        self.heeds_closings.then_some(self.closed)
    }

    fn read_link_map(&mut self) -> Result<(Vec<LoadedModule>, u64)> {
        let (modules, closed) = self.ask(Request::Modules, |reply| match reply {
            Reply::Modules { modules, closed } => Ok((modules, closed)),
            other => Err(other),
        })?;
        let foreign = modules.into_iter().filter(|module| !is_name_of_passed(&module.path));
        Ok((foreign.map(|module| self.seen_from_here(module)).collect(), closed))
    }

    /// A file of ours, as the agent gets at it.
    fn file(&self, path: &Path, luggage: &mut Luggage) -> Result<File> {
        if !self.welcome.wants_descriptors {
            return Ok(File::Path(text(path)?));
        }
        luggage.add(path).map_err(|source| Error::File { path: path.to_owned(), doing: "handing it over", source })
    }

    fn seen_from_here(&self, module: LoadedModule) -> LoadedModule {
        let path = self.space.from_here(Path::new(&module.path)).to_string_lossy().into_owned();
        LoadedModule { path, ..module }
    }

    /// The parts of the ledger that are others than at revision `since`; 0 for all.
    pub fn ledger(&mut self, since: u64) -> Result<LedgerParts> {
        self.ask(Request::Ledger { since }, |reply| match reply {
            Reply::Ledger { revision, whole, parts } => Ok(LedgerParts { revision, whole, parts }),
            other => Err(other),
        })
    }

    /// Changes parts of the ledger if its revision is still `expected`; its new revision. [`Error::Stale`] if it has moved on,
    /// [`Error::Busy`] while another connection reloads.
    pub fn set_ledger(&mut self, expected: u64, parts: Vec<Part>) -> Result<u64> {
        self.ask(Request::SetLedger { expected, parts }, done)
    }

    /// Takes the exclusive right to load and stage. [`Error::Stale`] and [`Error::Busy`] as for the ledger,
    /// [`Error::ModuleClosed`] where the link map that was read is not to be gone by any more.
    pub fn begin(&mut self, expected: u64) -> Result<()> {
        self.ask(Request::Begin { expected, closed: self.closed() }, done).map(drop)
    }

    /// The same for what looks by itself whether everything lies where it did.
    pub fn begin_anyway(&mut self, expected: u64) -> Result<()> {
        self.ask(Request::Begin { expected, closed: None }, done).map(drop)
    }

    /// Gives that right back and closes what was loaded and not committed.
    pub fn end(&mut self) -> Result<()> {
        self.ask(Request::End, done)?;
        self.halt.at(Step::Ended);
        Ok(())
    }

    /// Reserves `size` bytes of address space within 1 GiB of `near`; where.
    pub fn reserve(&mut self, near: u64, size: u64) -> Result<u64> {
        self.ask(Request::Reserve { near, size }, |reply| match reply {
            Reply::Reserved { address } => Ok(address),
            other => Err(other),
        })
    }

    /// Loads a shadow wholly inside these addresses. The path in the answer is the name that the loader knows it by.
    pub fn load(&mut self, path: &Path, inside: ops::Range<u64>) -> Result<LoadedModule> {
        let mut luggage = Luggage::default();
        let file = self.file(path, &mut luggage)?;
        let load = Request::Load { file, low: inside.start, high: inside.end };
        let module = self.ask_with(load, &luggage, loaded)?;
        self.halt.at(Step::Loaded);
        Ok(module)
    }

    /// [`AgentLink::begin`] and [`AgentLink::load`] in one, and what was done meanwhile.
    pub fn begin_and_load<T>(
        &mut self,
        expected: u64,
        path: &Path,
        inside: ops::Range<u64>,
        meanwhile: impl FnOnce() -> T,
    ) -> Result<(LoadedModule, T)> {
        let mut luggage = Luggage::default();
        let file = self.file(path, &mut luggage)?;
        let begin = (Request::Begin { expected, closed: self.closed() }, &Luggage::default(), SHORT);
        // Without the right it is refused.
        let load = (Request::Load { file, low: inside.start, high: inside.end }, &luggage, LONG);
        let (done_meanwhile, [begun, loaded_there]) = self.exchange([begin, load], meanwhile)?;
        done(begun?).map_err(|other| self.unexpected(other))?;
        let module = loaded(loaded_there?).map_err(|other| self.unexpected(other))?;
        self.halt.at(Step::Loaded);
        Ok((module, done_meanwhile))
    }

    /// Writes into a shadow that is loaded and not committed.
    pub fn bind(&mut self, segments: Vec<Segment>, writes: Vec<Write>) -> Result<()> {
        self.ask(Request::Bind { segments, writes }, done)?;
        self.halt.at(Step::Bound);
        Ok(())
    }

    /// One answer per range, empty where not all of it is mapped.
    pub fn read_memory(&mut self, ranges: Vec<Range>) -> Result<Vec<Vec<u8>>> {
        self.ask(Request::ReadMemory { ranges }, |reply| match reply {
            Reply::Memory(contents) => Ok(contents),
            other => Err(other),
        })
    }

    /// One answer per 64-bit word, `None` where nothing is mapped.
    pub fn read_words(&mut self, at: &[Addr]) -> Result<Vec<Option<u64>>> {
        // The slots of a table adjoin each other: one range takes the place of thousands.
        let words = self.read_runs(at.chunk_by(|one, next| one.0 + 8 == next.0))?;
        if words.contains(&None) { self.read_runs(at.chunks(1)) } else { Ok(words) }
    }

    /// The same where words that adjoin each other are read together or not at all.
    fn read_runs<'a>(&mut self, runs: impl Iterator<Item = &'a [Addr]> + Clone) -> Result<Vec<Option<u64>>> {
        let ranges: Vec<Range> = runs.clone().map(|run| Range { start: run[0].0, len: 8 * run.len() as u64 }).collect();
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let memory = self.read_memory(ranges)?;
        let words = |(run, bytes): (&[Addr], Vec<u8>)| -> Vec<Option<u64>> {
            let words = bytes.chunks_exact(8).filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?)));
            words.map(Some).chain(iter::repeat(None)).take(run.len()).collect()
        };
        Ok(runs.zip(memory).flat_map(words).collect())
    }

    /// Holds every thread that calls the safe point, until [`AgentLink::end`]; how many of those that ever called it did not
    /// come in time, in which case nobody is held.
    pub fn safe_point(&mut self, patience: Duration) -> Result<u32> {
        let request = Request::SafePoint { patience_ms: patience.as_millis() as u32 };
        self.ask(request, |reply| match reply {
            Reply::SafePoint { missing, .. } => Ok(missing),
            other => Err(other),
        })
    }

    /// Runs code of the target's on a thread of its own; what it returns. [`Error::Agent`] where it takes too long.
    pub fn call(&mut self, routine: Routine, patience: Duration) -> Result<i32> {
        let request = Request::Call { routine, patience_ms: patience.as_millis() as u32 };
        self.ask(request, |reply| match reply {
            Reply::Returned { status } => Ok(status),
            other => Err(other),
        })
    }

    /// Has the adapter at `path` prepare; what it says of it.
    pub fn adapt(&mut self, path: &Path, input: Vec<u8>) -> Result<Vec<u8>> {
        let mut luggage = Luggage::default();
        let file = self.file(path, &mut luggage)?;
        let words = self.ask_with(Request::Adapt { file, input }, &luggage, adapter)?;
        self.halt.at(Step::Adapted);
        Ok(words)
    }

    /// What the adapter says last. After the commit or [`AgentLink::end`].
    pub fn adapted(&mut self) -> Result<Vec<u8>> {
        self.ask(Request::Adapted, adapter)
    }

    /// Verifies and prepares a transaction; its number, for [`super::stop::commit`].
    pub fn stage(&mut self, mut transaction: Transaction) -> Result<u64> {
        let mut luggage = Luggage::default();
        for replacement in &mut transaction.replacements {
            if let File::Path(path) = &replacement.file {
                replacement.file = self.file(&PathBuf::from(path), &mut luggage)?;
            }
        }
        let number = self.ask_with(Request::Stage(transaction), &luggage, |reply| match reply {
            Reply::Staged { transaction } => Ok(transaction),
            other => Err(other),
        })?;
        self.halt.at(Step::Staged);
        Ok(number)
    }

    /// Which merges of the last commit were left out, as the program had changed what was to be replaced: their addresses.
    pub fn unmerged(&mut self) -> Result<Vec<u64>> {
        self.ask(Request::Unmerged, |reply| match reply {
            Reply::Unmerged(addresses) => Ok(addresses),
            other => Err(other),
        })
    }

    /// Stops the threads by a signal from inside and commits: the fall-back of [`super::stop::commit`].
    pub fn commit_by_signal(&mut self, transaction: u64) -> Result<SignalStop> {
        self.ask(Request::CommitBySignal { transaction }, |reply| match reply {
            Reply::Committed(stop) => Ok(stop),
            other => Err(other),
        })
    }

    /// Lets process `tracer` (0: nobody) trace the target where Yama is in force. In another pid namespace the target has no
    /// number for it.
    pub fn allow_tracer(&mut self, tracer: u32) -> Result<()> {
        let tracer = if self.space.inner_pid == self.pid { tracer } else { 0 };
        self.ask(Request::AllowTracer { pid: tracer }, done).map(drop)
    }

    /// `dlopen` on the user's behalf, constructors included.
    pub fn dlopen(&mut self, path: &Path) -> Result<LoadedModule> {
        let path = text(self.space.from_there(path))?;
        let module = self.ask(Request::Dlopen { path }, loaded)?;
        Ok(self.seen_from_here(module))
    }
}

/// Files that go along with one request.
#[derive(Debug, Default)]
struct Luggage(Vec<(PathBuf, fs::File)>);

impl Luggage {
    fn add(&mut self, path: &Path) -> io::Result<File> {
        let known = self.0.iter().position(|(known, _)| known == path);
        let index = match known {
            Some(index) => index,
            None if self.0.len() == MOST_PASSED => {
                return Err(io::Error::other(format!("more than {MOST_PASSED} files at once")));
            }
            None => {
                self.0.push((path.to_owned(), fs::File::open(path)?));
                self.0.len() - 1
            }
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(File::Passed { index: index as u32, name })
    }

    fn send(&self, stream: &mut UnixStream, request: &Request) -> io::Result<()> {
        if self.0.is_empty() {
            return send(stream, request);
        }
        let mut frame = Vec::new();
        send(&mut frame, request)?;
        let files: Vec<i32> = self.0.iter().map(|(_, file)| file.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&files)];
        let part = [io::IoSlice::new(&frame)];
        let sent = sendmsg::<()>(stream.as_raw_fd(), &part, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
        stream.write_all(&frame[sent..])
    }
}

impl Drop for AgentLink {
    fn drop(&mut self) {
        // Wakes the listening thread, which then ends.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn done(reply: Reply) -> Result<u64, Reply> {
    match reply {
        Reply::Done { revision } => Ok(revision),
        other => Err(other),
    }
}

fn loaded(reply: Reply) -> Result<LoadedModule, Reply> {
    match reply {
        Reply::Loaded(module) => Ok(module),
        other => Err(other),
    }
}

fn adapter(reply: Reply) -> Result<Vec<u8>, Reply> {
    match reply {
        Reply::Adapter(words) => Ok(words),
        other => Err(other),
    }
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| Error::Unsuitable {
        module: path.display().to_string(),
        reason: "its path is not UTF-8; rename it".into(),
    })
}

/// Connects to the socket in the folder of target `pid`, and makes sure that it is that process which listens there.
pub(super) fn open(folder: &Path, pid: u32) -> io::Result<UnixStream> {
    let stream = within_reach(&folder.join(SOCKET_NAME), |path| UnixStream::connect(path))?;
    // Folders in a shared temporary directory may have been made by anybody.
    let listener = getsockopt(&stream, PeerCredentials).map_err(io::Error::from)?;
    if u32::try_from(listener.pid()) != Ok(pid) {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// Uses the path of a socket, or where it is too long one that leads there through the folder's descriptor.
pub(super) fn within_reach<T>(path: &Path, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().as_bytes().len() <= LONGEST_PATH {
        return work(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidFilename.into());
    };
    let directory = fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_DIRECTORY).open(folder)?;
    work(&Path::new(&format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name))
}

fn may_drive(pid: u32) -> bool {
    let own = nix::unistd::geteuid();
    own.is_root() || Process::of(pid).is_ok_and(|process| process.uid == own.as_raw())
}
