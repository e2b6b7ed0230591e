//! Looking at one file until there is something to say about it: a finished file with its content, or why there is none.
//!
//! A finished file is reported at the first look after its writer closed, renamed or linked it; nothing is waited for. The next
//! writer may have begun by then: where the kernel tells, what is read while somebody writes is not believed. A file that is cut
//! off, changing, unreadable or gone gets [`PATIENCE`] without change before it is called so.
//!
//! What the file is expected to hold was read ahead, and is only compared.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use nix::libc;

use super::{
    completeness::{Completeness, HEADER_LEN, completeness, header},
    lease::{Writers, writers},
};
use crate::{
    fingerprint::{self, BLOCK},
    hands::Hands,
    model::{FileStamp, Stage},
};

/// How long a file must stay unchanged before it counts as unusable or gone.
pub const PATIENCE: Duration = Duration::from_millis(500);
/// A complete file whose writer was not seen to finish is believed when it looks the same again after this.
const CONFIRM: Duration = Duration::from_millis(20);
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// So many bytes are worth a second thread to read them.
const LARGE: u64 = 4 << 20;

/// A finished file, read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    pub bytes: Arc<Vec<u8>>,
    pub stamp: FileStamp,
    /// As [`content_hash`] of `bytes`.
    pub content: String,
}

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    Finished(Reading),
    /// The file is there and will not become usable by itself.
    Unusable {
        stamp: Option<FileStamp>,
        stage: Stage,
        reason: String,
    },
    Missing,
    /// Nothing certain yet: look again when [`Look::due`] says.
    Undecided,
}

/// How an event's writer stood to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// It may still be writing.
    Touched,
    /// It closed the file or moved it into place.
    Finished,
}

/// The state of looking at one file.
#[derive(Debug)]
pub struct Look {
    path: PathBuf,
    pending: Option<Pending>,
    /// To read into; what it holds is of no importance.
    memory: Vec<u8>,
    /// What it may be about to hold, and the hash of that.
    expected: Option<Expected>,
}

/// The bytes of a file, and their [`content_hash`].
pub type Expected = (Arc<Vec<u8>>, String);

#[derive(Debug)]
struct Pending {
    finished: bool,
    /// What the file was at the last look, and since when.
    stamp: Option<FileStamp>,
    since: Instant,
    next: Instant,
    pause: Duration,
    /// Content of a complete file seen while its writer was not known to have finished.
    unconfirmed: Option<String>,
}

impl Look {
    pub fn new(path: PathBuf) -> Look {
        Look { path, pending: None, memory: Vec::new(), expected: None }
    }

    /// Gives memory that the next content may be read into. Fresh memory is slow the first time that it is written to, above all
    /// where a virtual machine's host has to find it.
    pub fn lend(&mut self, memory: Vec<u8>) {
        self.memory = memory;
    }

    /// Looks once at another file, which has been completed and may be about to take this one's place.
    pub fn ahead(&mut self, path: PathBuf) -> Option<Reading> {
        let mut other = Look { memory: std::mem::take(&mut self.memory), ..Look::new(path) };
        other.touch(Evidence::Finished, Instant::now());
        let sight = other.look(Instant::now());
        self.memory = other.memory;
        match sight {
            Sight::Finished(reading) => Some(reading),
            _ => None,
        }
    }

    /// The next content may be this. The file is read all the same to be certain, but not into memory again.
    pub fn expect(&mut self, expected: Option<Expected>) {
        self.expected = expected;
    }

    /// Something may have happened to the file.
    pub fn touch(&mut self, evidence: Evidence, now: Instant) {
        let finished = evidence == Evidence::Finished;
        match &mut self.pending {
            // While it is being written every write is an event; the pause keeps us from reading it as often.
            Some(pending) => {
                pending.finished = finished;
                if finished {
                    pending.next = now;
                }
            }
            None => {
                self.pending = Some(Pending {
                    finished,
                    stamp: None,
                    since: now,
                    next: now,
                    pause: SHORTEST_PAUSE,
                    unconfirmed: None,
                });
            }
        }
    }

    /// When to look next; `None` when there is no reason to.
    pub fn due(&self) -> Option<Instant> {
        self.pending.as_ref().map(|pending| pending.next)
    }

    /// Looks once. A verdict ends the looking until the next [`Look::touch`].
    pub fn look(&mut self, now: Instant) -> Sight {
        let Some(mut pending) = self.pending.take() else { return Sight::Undecided };
        let seen = read_once(&self.path, &mut self.memory, &mut self.expected);
        if seen.stamp != pending.stamp {
            pending.since = now;
            pending.pause = SHORTEST_PAUSE;
            pending.unconfirmed = None;
            pending.stamp = seen.stamp.clone();
        }
        let waited = now.duration_since(pending.since) >= PATIENCE;
        let pause = match seen.state {
            State::Complete { bytes, content, linked, written_to } => {
                let confirmed = pending.unconfirmed.as_ref() == Some(&content);
                if let Some(stamp) = seen.stamp
                    && (if written_to { waited } else { confirmed || pending.finished || linked })
                {
                    return Sight::Finished(Reading { bytes, stamp, content });
                }
                pending.unconfirmed = Some(content.clone());
                match Arc::try_unwrap(bytes) {
                    Ok(bytes) => self.memory = bytes,
                    Err(shared) => self.expected = Some((shared, content)),
                }
                if written_to { pending.pause } else { CONFIRM }
            }
            State::Gone if waited => return Sight::Missing,
            State::Unusable { stage, reason } if waited => {
                return Sight::Unusable { stamp: seen.stamp, stage, reason };
            }
            State::Gone | State::Unusable { .. } | State::Changing => pending.pause,
        };
        pending.next = now + pause;
        pending.pause = (pending.pause * 2).min(LONGEST_PAUSE);
        self.pending = Some(pending);
        Sight::Undecided
    }

    /// Looks until there is a verdict, at most a little longer than [`PATIENCE`] after the file's last change.
    pub fn settle(&mut self) -> Sight {
        loop {
            match self.look(Instant::now()) {
                Sight::Undecided => match self.due() {
                    Some(due) => std::thread::sleep(due.saturating_duration_since(Instant::now())),
                    None => return Sight::Missing,
                },
                verdict => return verdict,
            }
        }
    }
}

/// The stamp of the file at `path`, symbolic links followed.
///
/// # Errors
/// As `stat(2)`.
pub fn stamp(path: &Path) -> io::Result<FileStamp> {
    Ok(stamp_of(&std::fs::metadata(path)?))
}

pub fn stamp_of(metadata: &std::fs::Metadata) -> FileStamp {
    FileStamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.len(),
        mtime: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
    }
}

/// What the ledger and the watcher compare contents by: the [fingerprint](fingerprint::of) as hexadecimal.
pub fn content_hash(bytes: &[u8]) -> String {
    fingerprint::hexadecimal(fingerprint::of(bytes))
}

struct Seen {
    stamp: Option<FileStamp>,
    state: State,
}

enum State {
    /// `linked`: the file has another name, so this one was made by `link(2)` when all was written. `written_to`: somebody
    /// has it open for writing.
    Complete {
        bytes: Arc<Vec<u8>>,
        content: String,
        linked: bool,
        written_to: bool,
    },
    Unusable {
        stage: Stage,
        reason: String,
    },
    /// It changed while it was read.
    Changing,
    Gone,
}

fn read_once(path: &Path, memory: &mut Vec<u8>, expected: &mut Option<Expected>) -> Seen {
    match try_read(path, memory, expected) {
        Ok(seen) => seen,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Seen { stamp: None, state: State::Gone },
        Err(error) => Seen {
            stamp: stamp(path).ok(),
            state: State::Unusable { stage: Stage::Read, reason: format!("cannot be read: {error}") },
        },
    }
}

fn try_read(path: &Path, memory: &mut Vec<u8>, expected: &mut Option<Expected>) -> io::Result<Seen> {
    // A path that has become a FIFO would block the open, a device would never end.
    if !std::fs::metadata(path)?.is_file() {
        let reason = "not a regular file".into();
        return Ok(Seen { stamp: stamp(path).ok(), state: State::Unusable { stage: Stage::Read, reason } });
    }
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let before = stamp_of(&metadata);
    let seen = |state| Ok(Seen { stamp: Some(before.clone()), state });
    let unusable = |verdict| match verdict {
        Completeness::Complete => State::Changing,
        Completeness::Incomplete(reason) | Completeness::NotElf(reason) => {
            State::Unusable { stage: Stage::Validate, reason }
        }
    };
    let mut head = Vec::with_capacity(HEADER_LEN);
    (&mut file).take(HEADER_LEN as u64).read_to_end(&mut head)?;
    if let Err(verdict) = header(&head, before.size) {
        return seen(unusable(verdict));
    }
    // Writers that begin now wait until all is read.
    let writers = writers(&file);
    let (bytes, content) = match expected.take() {
        Some(expected) if holds(&file, before.size, &expected) => expected,
        _ => {
            let (bytes, content) = read_and_hash(&file, before.size, memory)?;
            (Arc::new(bytes), content)
        }
    };
    if bytes.len() as u64 != before.size || stamp_of(&file.metadata()?) != before || stamp(path)? != before {
        return seen(State::Changing);
    }
    let written_to = match &writers {
        Writers::Nobody(lease) => !lease.is_whole(),
        Writers::Somebody => true,
        Writers::Unknown => false,
    };
    match completeness(&bytes) {
        Completeness::Complete => seen(State::Complete { bytes, content, linked: metadata.nlink() > 1, written_to }),
        verdict => seen(unusable(verdict)),
    }
}

/// A file of `size` bytes, and its [`content_hash`]; fewer, if it has become shorter. Read into `memory`, if that is enough.
fn read_and_hash(file: &File, size: u64, memory: &mut Vec<u8>) -> io::Result<(Vec<u8>, String)> {
    let mut bytes = std::mem::take(memory);
    if (bytes.capacity() as u64) < size {
        // The next version is seldom much larger, and pages that nobody writes to take no memory.
        bytes = with_large_pages((size + size / 16) as usize);
    }
    // Whatever stood there is as good as anything.
    bytes.resize(size as usize, 0);
    let (hands, shared) = division(bytes.len());
    let (own, other) = bytes.split_at_mut(shared);
    let (first, rest) = hands.both(|| read_blocks(file, 0, own), || read_blocks(file, shared as u64, other));
    let (mut read, mut blocks) = first?;
    if read == shared {
        let (more, others) = rest?;
        read += more;
        blocks.extend(others);
    }
    bytes.truncate(read);
    Ok((bytes, fingerprint::hexadecimal(fingerprint::of_blocks(blocks))))
}

/// How many threads read so many bytes, and how many of those the first one takes: whole blocks.
fn division(size: usize) -> (Hands, usize) {
    if size as u64 >= LARGE { (Hands::All, size / 2 / BLOCK * BLOCK) } else { (Hands::One, size) }
}

/// Whether a file of `size` bytes holds what was expected. Read through little memory, which stays in the processor's cache.
fn holds(file: &File, size: u64, (bytes, content): &Expected) -> bool {
    let (hands, shared) = division(bytes.len());
    let blocks = |range: Range<u64>| -> io::Result<Vec<u128>> {
        let mut block = vec![0; BLOCK];
        let of_block = |offset: u64| {
            let wanted = (range.end - offset).min(BLOCK as u64) as usize;
            let read = read_at(file, offset, &mut block[..wanted])?;
            Ok(fingerprint::of_block(&block[..read]))
        };
        range.clone().step_by(BLOCK).map(of_block).collect()
    };
    let read = || {
        let (first, rest) = hands.both(|| blocks(0..shared as u64), || blocks(shared as u64..size));
        io::Result::Ok(fingerprint::of_blocks(first?.into_iter().chain(rest?)))
    };
    bytes.len() as u64 == size && read().is_ok_and(|found| fingerprint::hexadecimal(found) == *content)
}

/// Fills `bytes` with what stands in the file from `offset` on; how many there were, and the fingerprints of their blocks.
fn read_blocks(file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<(usize, Vec<u128>)> {
    let (mut filled, mut blocks) = (0, Vec::with_capacity(bytes.len().div_ceil(BLOCK)));
    for block in bytes.chunks_mut(BLOCK) {
        let read = read_at(file, offset + filled as u64, block)?;
        if read > 0 {
            blocks.push(fingerprint::of_block(&block[..read]));
        }
        filled += read;
        if read < block.len() {
            break;
        }
    }
    Ok((filled, blocks))
}

/// Fills `bytes` as far as the file goes; how many there were.
fn read_at(file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Room for a file's bytes. The kernel gives a fresh page for each that is written first, and that takes longer than reading;
/// of large pages (madvise(2), `MADV_HUGEPAGE`) there are few.
fn with_large_pages(capacity: usize) -> Vec<u8> {
    const LARGE: usize = 2 << 20;
    let mut bytes: Vec<u8> = Vec::with_capacity(capacity);
    let room = bytes.spare_capacity_mut();
    let skipped = room.as_ptr().align_offset(LARGE);
    if let Some(aligned) = room.get_mut(skipped..).filter(|aligned| aligned.len() >= LARGE) {
        let len = aligned.len() / LARGE * LARGE;
        // SAFETY: whole pages of memory that is ours; the advice changes nothing but their size. Not heard, it is no harm.
        unsafe { libc::madvise(aligned.as_mut_ptr().cast(), len, libc::MADV_HUGEPAGE) };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::PermissionsExt,
        path::Path,
        sync::Arc,
        time::{Duration, Instant},
    };

    use super::{Evidence, LARGE, Look, PATIENCE, Sight, Writers, content_hash, holds, read_and_hash, stamp, writers};
    use crate::model::Stage;

    fn real() -> Vec<u8> {
        fs::read("/proc/self/exe").unwrap()
    }

    #[test]
    fn two_threads_read_what_one_would() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        let content: Vec<u8> =
            (0..LARGE as u32 / 4 + 5).flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
        fs::write(&path, &content).unwrap();
        let file = fs::File::open(&path).unwrap();
        let check = |size: usize, memory: Vec<u8>, expected: &[u8]| {
            let (bytes, hash) = read_and_hash(&file, size as u64, &mut memory.clone()).unwrap();
            assert!(bytes == expected, "{size} bytes into {} bytes of memory", memory.len());
            assert_eq!(hash, content_hash(expected));
            let size = size.min(expected.len()) as u64;
            assert!(holds(&file, size, &(Arc::new(bytes), hash)));
            let mut other = expected.to_vec();
            *other.last_mut().unwrap() ^= 1;
            let hash = content_hash(&other);
            assert!(!holds(&file, size, &(Arc::new(other), hash)), "the last of {size} bytes differs");
        };
        for memory in [0, 1000, content.len(), 2 * content.len()].map(|len| vec![7; len]) {
            check(content.len(), memory.clone(), &content);
            // It became shorter meanwhile, a little or by more than what one thread reads.
            check(content.len() + 9, memory.clone(), &content);
            check(3 * content.len(), memory.clone(), &content);
            for size in [1000, LARGE as usize - 1, LARGE as usize, LARGE as usize + 1] {
                check(size, memory.clone(), &content[..size]);
            }
        }
    }

    fn touched(path: &Path, evidence: Evidence) -> Look {
        let mut look = Look::new(path.to_owned());
        look.touch(evidence, Instant::now());
        look
    }

    #[test]
    fn a_finished_file_is_believed_at_the_first_look() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.so");
        let bytes = real();
        fs::write(&path, &bytes).unwrap();
        let Sight::Finished(reading) = touched(&path, Evidence::Finished).look(Instant::now()) else { panic!() };
        assert_eq!(reading.content, content_hash(&bytes));
        assert_eq!(reading.stamp, stamp(&path).unwrap());
    }

    #[test]
    fn what_is_expected_is_not_read_into_memory() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("lib.so"), folder.path().join("lib.so.new"));
        let mut look = Look::new(path.clone());
        assert_eq!(look.ahead(other.clone()), None, "there is none yet");
        for differs in [false, true] {
            let mut bytes = real();
            fs::write(&other, &bytes).unwrap();
            let patiently = |_| {
                // A process that another test starts may have the file open for writing for a moment.
                let sight = look.ahead(other.clone());
                std::thread::sleep(Duration::from_millis(10));
                sight
            };
            let ahead = (0..100).find_map(patiently).unwrap();
            look.expect(Some((Arc::clone(&ahead.bytes), ahead.content)));
            if differs {
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(&other, &bytes).unwrap();
            }
            fs::rename(&other, &path).unwrap();
            look.touch(Evidence::Finished, Instant::now());
            let Sight::Finished(reading) = look.settle() else { panic!() };
            assert_eq!(reading.content, content_hash(&bytes));
            assert_eq!(*reading.bytes, bytes);
            assert_eq!(Arc::ptr_eq(&reading.bytes, &ahead.bytes), !differs);
        }
    }

    #[test]
    fn a_hard_link_is_believed_at_the_first_look() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("deps.so"), real()).unwrap();
        let path = folder.path().join("lib.so");
        fs::hard_link(folder.path().join("deps.so"), &path).unwrap();
        assert!(matches!(touched(&path, Evidence::Touched).look(Instant::now()), Sight::Finished(_)));
    }

    #[test]
    fn a_file_of_unknown_writer_is_looked_at_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.so");
        fs::write(&path, real()).unwrap();
        let mut look = touched(&path, Evidence::Touched);
        assert_eq!(look.look(Instant::now()), Sight::Undecided);
        assert!(matches!(look.settle(), Sight::Finished(_)));
        assert_eq!(look.due(), None);
    }

    fn check_unusable(prepare: impl Fn(&Path), expected_stage: Stage, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.so");
        prepare(&path);
        let begin = Instant::now();
        let mut look = touched(&path, Evidence::Finished);
        let Sight::Unusable { stage, reason, .. } = look.settle() else { panic!("usable") };
        assert!(begin.elapsed() >= PATIENCE);
        assert_eq!(stage, expected_stage);
        assert!(reason.contains(expected), "{reason}");
    }

    #[test]
    fn half_written_file() {
        check_unusable(|path| fs::write(path, &real()[..5000]).unwrap(), Stage::Validate, "cut off");
    }

    #[test]
    fn file_of_zeroes() {
        check_unusable(|path| fs::write(path, vec![0; 9000]).unwrap(), Stage::Validate, "zero");
    }

    #[test]
    fn text_file() {
        check_unusable(|path| fs::write(path, "int main() {}\n").unwrap(), Stage::Validate, "not an ELF file");
    }

    #[test]
    fn directory_in_its_place() {
        check_unusable(|path| fs::create_dir(path).unwrap(), Stage::Read, "not a regular file");
    }

    #[test]
    fn permission_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.so");
        fs::write(&path, real()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        if fs::File::open(&path).is_ok() {
            // Root reads everything.
            return;
        }
        let Sight::Unusable { stage, .. } = touched(&path, Evidence::Finished).settle() else { panic!() };
        assert_eq!(stage, Stage::Read);
    }

    #[test]
    fn a_removed_file_gets_time_to_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.so");
        let mut look = touched(&path, Evidence::Touched);
        let begin = Instant::now();
        assert_eq!(look.look(begin), Sight::Undecided);
        fs::write(&path, real()).unwrap();
        look.touch(Evidence::Finished, begin + Duration::from_millis(5));
        assert!(matches!(look.look(begin + Duration::from_millis(5)), Sight::Finished(_)));
        fs::remove_file(&path).unwrap();
        look.touch(Evidence::Touched, Instant::now());
        assert_eq!(look.settle(), Sight::Missing);
    }

    #[test]
    fn a_file_that_the_next_writer_has_opened_is_not_believed_yet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.so");
        fs::write(&path, real()).unwrap();
        let mut look = touched(&path, Evidence::Finished);
        let writer = fs::File::options().write(true).open(&path).unwrap();
        let sight = look.look(Instant::now());
        if matches!(writers(&fs::File::open(&path).unwrap()), Writers::Unknown) {
            // A file system without leases.
            return;
        }
        assert_eq!(sight, Sight::Undecided);
        drop(writer);
        look.touch(Evidence::Finished, Instant::now());
        assert!(matches!(look.look(Instant::now()), Sight::Finished(_)));
    }

    #[test]
    fn growing_file_is_not_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.so");
        let bytes = real();
        fs::write(&path, &bytes[..1000]).unwrap();
        let mut look = touched(&path, Evidence::Touched);
        let mut now = Instant::now();
        for len in [2000, 3000, 4000] {
            assert_eq!(look.look(now), Sight::Undecided);
            fs::write(&path, &bytes[..len]).unwrap();
            now += PATIENCE + Duration::from_millis(1);
        }
        fs::write(&path, &bytes).unwrap();
        look.touch(Evidence::Finished, now);
        assert!(matches!(look.look(now), Sight::Finished(_)));
    }
}
