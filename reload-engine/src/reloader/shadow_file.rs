//! The shadow as a file of the store: what the loader and a replay need is written before it is loaded, debugging
//! information, most of a large file, once the new code runs, unless a debugger holds the target: it reads the file as soon as
//! it is loaded.
//!
//! Meanwhile a hole stands for it: whoever looks at the file in between finds no lines, and nothing that is wrong. So it is again
//! for generations of long ago once the store is full.

use std::{
    fs::{self, File},
    io::{self, Read},
    iter,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crossbeam_channel::{Receiver, bounded};
use nix::fcntl::{FallocateFlags, fallocate};
use tracing::{debug, warn};

use crate::{
    error::{Error, Result},
    image::Image,
    model::Generation,
    plan::shadow::Edit,
    target::{process, store},
};

/// Less debugging information is not worth a second visit, in bytes.
const LITTLE: u64 = 128 << 10;
/// So many bytes are written before another thread would have been woken for it.
const QUICK: u64 = 256 << 10;
/// For another controller to write debugging information, gigabytes even.
const COMPLETION: Duration = Duration::from_secs(2);

pub fn path(shadows: &Path, name: &str, number: Generation) -> PathBuf {
    // A folder of its own keeps the module's name for debuggers, and an abandoned attempt's inode out of the way.
    let attempt = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    shadows.join(format!("{number}-{attempt:x}")).join(name)
}

/// Generations that neither run nor ran last: when the store is full, the room that their debugging information takes is for the
/// newest.
pub struct Spare {
    /// Oldest first.
    images: std::vec::IntoIter<(Generation, Arc<Image>)>,
    /// Those that have given it.
    pub stripped: Vec<Generation>,
}

impl Spare {
    pub fn new(images: Vec<(Generation, Arc<Image>)>) -> Spare {
        Spare { images: images.into_iter(), stripped: Vec::new() }
    }

    /// Does it, and once more each time that it found no room and some could be made.
    fn with_room(&mut self, work: impl Fn() -> io::Result<()>) -> io::Result<()> {
        loop {
            match work() {
                Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                    let gives = |(generation, image): &(Generation, Arc<Image>)| {
                        strip(image).unwrap_or_else(|error| {
                            debug!("no room from generation {generation}: {error}");
                            false
                        })
                    };
                    let Some((generation, _)) = self.images.find(gives) else { return Err(error) };
                    warn!("{error}: generation {generation} has lost its debugging information");
                    self.stripped.push(generation);
                }
                done => return done,
            }
        }
    }
}

/// Takes all debugging information away, as half of it would be worse than none; whether there was something to give back. A
/// file with another name is a forked process's too.
fn strip(image: &Image) -> io::Result<bool> {
    let file = File::options().write(true).open(&image.path)?;
    let before = file.metadata()?;
    if before.nlink() > 1 {
        return Ok(false);
    }
    for part in &image.tables.debugging {
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&file, hole, part.start as i64, (part.end - part.start) as i64)?;
    }
    Ok(file.metadata()?.blocks() < before.blocks())
}

/// A shadow that is being written, by another thread where it takes a while, until it is known what it has in place of the file's
/// bytes. Dropped before, nothing of it is left.
#[derive(Debug)]
pub struct Writing {
    image: Arc<Image>,
    visits: Visits,
    /// What came of it; `None`: it has not been begun, or is finished.
    written: Option<Receiver<io::Result<()>>>,
}

/// When debugging information is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visits {
    /// With the rest.
    One,
    /// By [`Loadable::complete`].
    Two,
}

impl Visits {
    /// Two where there is much of it, unless a debugger reads it as soon as process `pid` loads the file.
    pub fn of(image: &Image, pid: u32) -> Visits {
        if size_of(&image.tables.debugging) < LITTLE || process::is_traced(pid) { Visits::One } else { Visits::Two }
    }
}

/// Begins to write the shadow of `image` to its path.
pub fn begin(image: &Arc<Image>, visits: Visits) -> Writing {
    let image = Arc::clone(image);
    if (image.bytes.len() as u64).saturating_sub(size_of(left_for_later(&image, visits))) <= QUICK {
        return Writing { image, visits, written: None };
    }
    let (done, written) = bounded(1);
    let theirs = Arc::clone(&image);
    rayon::spawn(move || {
        let result = write(&theirs, visits);
        if result.is_err() {
            // Half of it only takes the room that there is.
            store::remove_with_folder(&theirs.path);
        }
        drop(theirs);
        // Whoever waits for it keeps the other end.
        let _ = done.send(result);
    });
    Writing { image, visits, written: Some(written) }
}

impl Writing {
    /// Begun anew where debugging information is to be written at another time.
    pub fn with(self, visits: Visits) -> Writing {
        if self.visits == visits {
            return self;
        }
        let image = Arc::clone(&self.image);
        drop(self);
        begin(&image, visits)
    }

    /// Waits for the rest, and puts the edits into it. Only now, as there will be a shadow, room is made for it.
    ///
    /// # Errors
    /// The store has no room, or is gone; nothing of the shadow is left.
    pub fn finish(mut self, edits: &[Edit], spare: &mut Spare) -> Result<Loadable> {
        let written = self.written.take().and_then(|written| written.recv().ok());
        let image = &self.image;
        let mut finish = || {
            match written {
                // Unless somebody has tidied up since.
                Some(Ok(())) if image.path.exists() => {}
                // Whatever was wrong, it is tried once more.
                _ => spare.with_room(|| write(image, self.visits))?,
            }
            let file = File::options().write(true).open(&image.path)?;
            spare.with_room(|| edits.iter().try_for_each(|edit| file.write_all_at(&edit.bytes, edit.offset)))?;
            // Nobody else knows of it yet. Where there are no locks, others read what there is.
            let _ = file.try_lock();
            Ok(file)
        };
        match finish() {
            Ok(file) => Ok(Loadable { image: Arc::clone(image), visits: self.visits, file }),
            Err(source) => {
                store::remove_with_folder(&image.path);
                Err(Error::File { path: image.path.clone(), doing: "writing the shadow into the store", source })
            }
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let Some(written) = &self.written {
            let _ = written.recv();
            store::remove_with_folder(&self.image.path);
        }
    }
}

fn write(image: &Image, visits: Visits) -> io::Result<()> {
    fs::create_dir_all(image.path.parent().unwrap_or(Path::new(".")))?;
    let file = File::create(&image.path)?;
    let size = image.bytes.len() as u64;
    file.set_len(size)?;
    let mut at = 0;
    for later in left_for_later(image, visits).iter().chain(iter::once(&(size..size))) {
        write_part(&file, image, &(at..later.start))?;
        at = at.max(later.end);
    }
    Ok(())
}

/// A shadow that the loader can have. Other controllers that would read it, too, wait as long as this value lives.
pub struct Loadable {
    image: Arc<Image>,
    visits: Visits,
    /// Locked.
    file: File,
}

impl Loadable {
    /// Adds the debugging information that [`begin`] has left out. From the last section to the first: what is referred to
    /// mostly stands behind what refers to it, and a debugger that reads a part of it must not take that for all.
    ///
    /// # Errors
    /// The store has no room for it: there is none in the file then, and the generation runs all the same.
    pub fn complete(self, spare: &mut Spare) -> io::Result<()> {
        let Loadable { image, visits, file } = &self;
        let left = left_for_later(image, *visits);
        spare.with_room(|| left.iter().rev().try_for_each(|part| write_part(file, image, part))).inspect_err(|_| {
            // Where even that fails, the file cannot be used for anything.
            let _ = strip(image);
        })
    }
}

/// A generation's file, once it is complete; as it is where that takes another controller longer than [`COMPLETION`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    store::await_lock(|| file.try_lock_shared(), COMPLETION);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// All debugging information or none: a part of it without the rest would mislead whoever reads it in between.
fn left_for_later(image: &Image, visits: Visits) -> &[Range<u64>] {
    match visits {
        Visits::One => &[],
        Visits::Two => &image.tables.debugging,
    }
}

fn size_of(parts: &[Range<u64>]) -> u64 {
    parts.iter().map(|part| part.end - part.start).sum()
}

fn write_part(file: &File, image: &Image, part: &Range<u64>) -> io::Result<()> {
    match image.bytes.get(part.start as usize..part.end as usize) {
        Some(bytes) => file.write_all_at(bytes, part.start),
        // Sections that overlap.
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File, TryLockError},
        path::Path,
        sync::Arc,
        thread,
        time::Duration,
    };

    use crossbeam_channel::bounded;

    use super::{QUICK, Spare, Visits, begin, read};
    use crate::{image::Image, plan::shadow::Edit};

    /// A real library, whose shadow is to be written to `path`.
    fn library(path: &Path) -> Arc<Image> {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let libc = maps.split_whitespace().find(|word| word.ends_with("libc.so.6")).unwrap();
        let mut image = Image::parse(libc.as_ref(), fs::read(libc).unwrap()).unwrap();
        assert!(image.bytes.len() as u64 > QUICK, "written by another thread");
        image.path = path.to_owned();
        Arc::new(image)
    }

    #[test]
    fn it_holds_the_file_with_the_edits() {
        let folder = tempfile::tempdir().unwrap();
        let image = library(&folder.path().join("1-a/libc.so"));
        let edit = Edit { offset: 5000, bytes: b"edited".to_vec() };
        begin(&image, Visits::Two).finish(&[edit], &mut Spare::new(Vec::new())).unwrap();
        let mut expected = image.bytes.to_vec();
        expected[5000..5006].copy_from_slice(b"edited");
        assert!(fs::read(&image.path).unwrap() == expected);
    }

    #[test]
    fn another_controller_reads_it_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let image = library(&folder.path().join("1-a/libc.so"));
        let mut spare = Spare::new(Vec::new());
        let loadable = begin(&image, Visits::Two).finish(&[], &mut spare).unwrap();
        let other = File::open(&image.path).unwrap();
        assert!(matches!(other.try_lock_shared(), Err(TryLockError::WouldBlock)), "it is not complete yet");
        let (tell, told) = bounded(1);
        thread::scope(|scope| {
            scope.spawn(|| tell.send(read(&image.path)));
            assert!(told.recv_timeout(Duration::from_millis(50)).is_err(), "it is not complete yet");
            loadable.complete(&mut spare).unwrap();
            assert!(told.recv().unwrap().unwrap() == image.bytes[..]);
        });
    }

    #[test]
    fn nothing_is_left_of_one_that_is_not_wanted() {
        let folder = tempfile::tempdir().unwrap();
        drop(begin(&library(&folder.path().join("1-a/libc.so")), Visits::Two));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_store_that_is_gone_is_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("store"), "a file").unwrap();
        let writing = begin(&library(&folder.path().join("store/1-a/libc.so")), Visits::Two);
        let error = writing.finish(&[], &mut Spare::new(Vec::new())).err().unwrap();
        assert!(error.to_string().contains("writing the shadow into the store"), "{error}");
    }
}
