//! Wire types between the reload engine and the agent in the target process, and the framing that carries them.
//!
//! One stream socket per controller. The controller sends a [`Request`] and reads one [`Reply`] for it; between replies the
//! agent may push a [`Notice`]. The stop helper uses a connection of its own: after [`Request::Commit`] was answered with
//! [`Reply::Committing`] that connection speaks single bytes (module [`commit`]) until the commit has ended, because while
//! threads are stopped nobody may allocate.
//!
//! Beside that, the one thing that both sides must read alike in the target's memory: [`signal_frame`].
//!
//! Deliberately absent: any knowledge of ELF, of policy or of what the ledger's parts mean.

use std::io::{self, Read};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub mod moment;
pub mod signal_frame;

/// Version of this protocol and of how generations are bound, which a controller predicts from the ledger; controller and agent
/// must agree exactly.
pub const VERSION: u32 = 8;

/// Largest accepted frame in bytes. A larger length prefix is an error, not an allocation.
pub const MAX_FRAME: usize = 256 << 20;
/// So much of a frame gets memory before it has arrived.
const AT_ONCE: usize = 64 << 10;

/// Environment variable with the store's root folder. The agent starts only where it is set.
pub const STORE_VARIABLE: &str = "RELOAD_DASHBOARD_STORE";

/// The agent's exported function that starts it in a process into which it was not preloaded:
/// `extern "C" fn(store: *const c_char, listener: c_int) -> i64` gives 0 if it starts, 1 if it had been started, else a
/// negative errno. With a `listener` (a bound socket; -1: none) it listens on a duplicate of that, and has no store: then every
/// file of ours comes to it as a descriptor ([`File::Passed`]).
pub const START_SYMBOL: &str = "reload_agent_start";

/// Most descriptors that may come along with one message; the kernel's limit is 253.
pub const MOST_PASSED: usize = 200;

/// Name of the agent's socket in the target's store folder (`ROOT/PID/`).
pub const SOCKET_NAME: &str = "agent.sock";

/// What a controller asks of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First message of every connection.
    Hello { version: u32 },
    /// The link map as `dl_iterate_phdr(3)` gives it.
    Modules,
    /// The parts of the ledger that are others than at revision `since`, 0 being before the first.
    Ledger { since: u64 },
    /// Changes parts of the ledger if its revision is still `expected`, and notifies the other connections. [`Reply::Busy`]
    /// while another connection holds the right of [`Request::Begin`]: its commit changes the ledger too.
    SetLedger { expected: u64, parts: Vec<Part> },
    /// Takes the exclusive right to load and stage, if the ledger's revision is still `expected` and no module was closed
    /// since [`Reply::Modules`] told `closed`, until the commit; `None`: whatever was. Ends with [`Request::End`] or the
    /// connection. `Load`, `Bind`, `SafePoint`, `Call` and `Stage` need it.
    Begin { expected: u64, closed: Option<u64> },
    /// Gives that right back; a shadow loaded but not committed is closed again.
    End,
    /// Reserves address space (`PROT_NONE`) of `size` bytes, wholly within 1 GiB of `near`, for later shadows;
    /// nothing where some is reserved there already.
    Reserve { near: u64, size: u64 },
    /// Loads a shadow with the target's own `dlopen` (`RTLD_NOW | RTLD_LOCAL`) so that it lies wholly inside `low..high`.
    Load { file: File, low: u64, high: u64 },
    /// Writes into a loaded, uncommitted shadow: the segments are made writable, written, and given their protection back.
    Bind { segments: Vec<Segment>, writes: Vec<Write> },
    /// Reads memory without ever faulting. One answer per range, empty where unmapped.
    ReadMemory { ranges: Vec<Range> },
    /// Holds back every thread that calls the safe point, and answers when all those that have ever called it stand in it, or
    /// `patience_ms` later. They stay until [`Request::End`], and never longer than a reload may take.
    SafePoint { patience_ms: u32 },
    /// Runs code of the host's on a thread of its own. A shadow that it belongs to stays loaded whatever happens.
    Call { routine: Routine, patience_ms: u32 },
    /// Has the adapter, a library of the engine's, bring a language's runtime in step with the loaded shadow, on a
    /// thread of its own. Once it is prepared, the commit decides: it carries out what it has prepared, or drops it.
    Adapt { file: File, input: Vec<u8> },
    /// Waits for the end of what the last `Adapt` began; after the commit, or after `End`.
    Adapted,
    /// Which merges of the last commit found that the program had changed what was to be replaced: their addresses.
    Unmerged,
    /// Verifies and prepares a transaction: checks `before` bytes, touches the pages to be written, keeps it ready.
    Stage(Transaction),
    /// Sent by the stop helper on its own connection; continues with the bytes of [`commit`].
    Commit { transaction: u64 },
    /// The fall-back: stops the threads by a signal inside the process and commits.
    CommitBySignal { transaction: u64 },
    /// Allows process `pid` to trace the target where Yama is in force (`PR_SET_PTRACER`); 0 takes it back. [`Reply::Busy`]
    /// while another connection holds the right of [`Request::Begin`].
    AllowTracer { pid: u32 },
    /// `dlopen` of a library on the user's behalf, constructors included, on a thread with no signal blocked.
    Dlopen { path: String },
}

/// A file of the engine's, as the agent gets at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum File {
    Path(String),
    /// The descriptor with this index among those that came along with the message (SCM_RIGHTS); the name is for messages, and
    /// says of an adapter which one it is.
    Passed {
        index: u32,
        name: String,
    },
}

impl Request {
    /// Whether descriptors have come along that belong to it: several requests that arrive together share them.
    pub fn has_passed_files(&self) -> bool {
        let is_passed = |file: &File| matches!(file, File::Passed { .. });
        match self {
            Request::Load { file, .. } | Request::Adapt { file, .. } => is_passed(file),
            Request::Stage(transaction) => transaction.replacements.iter().any(|it| is_passed(&it.file)),
            _ => false,
        }
    }
}

/// The agent's answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Welcome(Welcome),
    Modules {
        modules: Vec<LoadedModule>,
        /// How many the process has closed in its life (`dlpi_subs`, `dl_iterate_phdr(3)`).
        closed: u64,
    },
    Ledger {
        revision: u64,
        /// These are all parts there are, and not only those that have changed.
        whole: bool,
        /// Each key once.
        parts: Vec<Part>,
    },
    /// Done; for writes of the ledger, its new revision.
    Done {
        revision: u64,
    },
    /// The ledger has moved on to `revision`: read it again.
    Stale {
        revision: u64,
    },
    /// A module was closed since the link map was read, and may be open again as something else: read it again.
    Closed,
    /// Another connection holds the right to load; its process id.
    Busy {
        pid: u32,
    },
    Reserved {
        address: u64,
    },
    Loaded(LoadedModule),
    Memory(Vec<Vec<u8>>),
    /// How many threads stand in the safe point, and how many that have called it before do not. With `missing` nobody is held.
    SafePoint {
        held: u32,
        missing: u32,
    },
    /// What the routine returned; 0 where it returns nothing.
    Returned {
        status: i32,
    },
    /// What the adapter says, which nobody else understands: of its preparation, or of its end.
    Adapter(Vec<u8>),
    Unmerged(Vec<u64>),
    Staged {
        transaction: u64,
    },
    /// The commit has begun; bytes from here on. No thread may stand in any of `forbidden` (ascending, merged) when the
    /// entries are written: the transaction's own ranges and the inside of every patch, a patch's first byte excepted.
    Committing {
        forbidden: Vec<Range>,
    },
    /// A commit by signal has ended.
    Committed(SignalStop),
    /// A thread stood inside bytes to be written, or could not be stopped: nothing was changed; try again.
    NotNow {
        reason: String,
    },
    /// The request could not be carried out; nothing was changed.
    Failed {
        message: String,
    },
}

/// Pushed to every connection but the one that caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    LedgerChanged { revision: u64 },
}

/// Everything the agent sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromAgent {
    Reply(Reply),
    Notice(Notice),
}

/// A part of the ledger: what the engine keeps under a key of its own. A change sends and stores the parts that are others, not
/// the whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// `None`: there is none any more.
    #[serde(with = "serde_bytes")]
    pub value: Option<Vec<u8>>,
}

/// Who the agent is and what must not be stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    pub version: u32,
    pub pid: u32,
    /// Thread ids of the agent, as the target's own pid namespace numbers them.
    pub agent_threads: Vec<u32>,
    /// The ledger's revision; 0 means no controller has written one yet.
    pub revision: u64,
    /// Its files are not ours: [`File::Passed`] is what it understands.
    pub wants_descriptors: bool,
    /// As in [`Reply::Modules`].
    pub closed: u64,
}

/// Whether a module's name is one under which a file of ours was opened by its descriptor: nobody else puts a `.` in there.
pub fn is_name_of_passed(name: &str) -> bool {
    name.starts_with("/proc/") && name.contains("/./")
}

/// One entry of the process's link map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedModule {
    /// As the loader knows it; empty for the executable.
    pub path: String,
    /// Load bias (`l_addr`, `dlpi_addr`).
    pub bias: u64,
    /// Lowest and one past the highest address of its PT_LOAD segments.
    pub start: u64,
    pub end: u64,
    /// TLS module id (`dlpi_tls_modid`), 0 when it has no PT_TLS.
    pub tls_module: u64,
}

/// Bytes `start..start + len` in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub start: u64,
    pub len: u64,
}

/// Code of the host's that the agent runs for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Routine {
    /// `int hook(unsigned generation)`
    Hook { address: u64, generation: u32 },
    /// An entry of `.init_array`, with the arguments of `main`.
    Constructor { address: u64 },
    /// Not run now, but at `exit`: an entry of `.fini_array`.
    AtExit { address: u64 },
}

impl Routine {
    pub fn address(&self) -> u64 {
        match self {
            Routine::Hook { address, .. } | Routine::Constructor { address } | Routine::AtExit { address } => *address,
        }
    }
}

/// A page-aligned range and the `PROT_*` bits it has while nobody writes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    pub range: Range,
    pub protection: u32,
}

/// Bytes to be stored at an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    pub address: u64,
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// Bytes to be stored at an address if, when all threads stand still, `before` stands there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merge {
    pub address: u64,
    #[serde(with = "serde_bytes")]
    pub before: Vec<u8>,
    /// As long.
    #[serde(with = "serde_bytes")]
    pub after: Vec<u8>,
}

/// A change of up to eight bytes of code: a function's entry, or the long jump in the padding near it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    pub address: u64,
    /// How many of `before` and `after` count, 1 to 8.
    pub len: u8,
    /// What must stand there now, else the transaction is rejected when staged.
    pub before: [u8; 8],
    pub after: [u8; 8],
}

/// A private mapping of a file that is to become one of another file, with the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    pub segment: Segment,
    /// Of the file that is mapped there (`/proc/PID/maps`), else it has been closed meanwhile, and something else opened.
    pub inode: u64,
    pub file: File,
    /// Where the segment's part of the file begins, in bytes.
    pub offset: u64,
}

/// Everything that one reload changes in the target, prepared before any thread is stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Ascending by address, no overlaps, every patch inside one of `text`.
    pub patches: Vec<Patch>,
    /// Writes to data, applied in the same stop.
    pub writes: Vec<Write>,
    /// Writes to data that the program may change until it stands still, applied after the others.
    pub merges: Vec<Merge>,
    /// The text segments that hold the patches; closed to execution while they are written.
    pub text: Vec<Segment>,
    /// Applied in the same stop where they are writable, else when this is staged: that they mean the same changes nothing
    /// for anybody.
    pub replacements: Vec<Replacement>,
    /// Address ranges in which no thread may stand when the patches are written.
    pub forbidden: Vec<Range>,
    /// Parts of the ledger that change at the same instant.
    pub ledger: Vec<Part>,
}

/// What a commit by signal cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalStop {
    pub revision: u64,
    /// Nanoseconds from the first signal to the release.
    pub pause_ns: u64,
    pub threads: u32,
}

/// The single bytes of a commit. Helper: [`CLOSE`], then [`GO`] or [`ABORT`]. Agent: the matching answer.
///
/// Until `GO` has been received a lost connection means abort; after it the agent finishes alone. After [`DONE`] or
/// [`ABORTED`] the connection speaks frames again, and the first is the [`Reply`](super::Reply) to the request `Commit`:
/// `Done`, or why nothing was changed (`NotNow`: worth trying again; `Failed`: not).
pub mod commit {
    /// Helper: all threads are stopped, close the text to execution.
    pub const CLOSE: u8 = b'c';
    /// Agent: closed; nothing has been written yet.
    pub const CLOSED: u8 = b'C';
    /// Helper: no thread stands in the way, write.
    pub const GO: u8 = b'g';
    /// Agent: written, ledger replaced, text executable again.
    pub const DONE: u8 = b'G';
    /// Helper: give up.
    pub const ABORT: u8 = b'a';
    /// Agent: as it was before, text executable again.
    pub const ABORTED: u8 = b'A';
}

/// Writes one message as a little-endian `u32` length and its postcard encoding.
pub fn send<T: Serialize>(stream: &mut impl io::Write, message: &T) -> io::Result<()> {
    let mut frame = vec![0; 4];
    frame = postcard::to_extend(message, frame).map_err(io::Error::other)?;
    let len = frame.len() - 4;
    if len > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("message of {len} bytes exceeds {MAX_FRAME}")));
    }
    frame[..4].copy_from_slice(&(len as u32).to_le_bytes());
    stream.write_all(&frame)
}

/// Reads one message. A closed stream is `UnexpectedEof`; a length over [`MAX_FRAME`] or bytes that do not decode are
/// `InvalidData`.
pub fn receive<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix)?;
    let len = length(prefix)?;
    // Large ones grow with what arrives: a hostile prefix alone allocates little.
    let mut frame = Vec::with_capacity(len.min(AT_ONCE));
    stream.take(len as u64).read_to_end(&mut frame)?;
    if frame.len() < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    decode(&frame)
}

/// Takes the first message out of what has arrived so far; `None` while it is not complete. Errors as for [`receive`].
pub fn take<T: DeserializeOwned>(input: &mut Vec<u8>) -> io::Result<Option<T>> {
    let Some(prefix) = input.first_chunk() else { return Ok(None) };
    let end = 4 + length(*prefix)?;
    let message = input.get(4..end).map(decode).transpose()?;
    if message.is_some() {
        input.drain(..end);
    }
    Ok(message)
}

fn length(prefix: [u8; 4]) -> io::Result<usize> {
    let len = u32::from_le_bytes(prefix) as usize;
    if len > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("frame of {len} bytes exceeds {MAX_FRAME}")));
    }
    Ok(len)
}

fn decode<T: DeserializeOwned>(frame: &[u8]) -> io::Result<T> {
    postcard::from_bytes(frame).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
