//! The shadow as a file of the store: what the loader and a replay need is written before it is loaded, debugging
//! information, most of a large file, once the new code runs.
//!
//! Meanwhile a hole stands for it: whoever looks at the file in between finds no lines, and nothing that is wrong. So it is again
//! for generations of long ago once the store is full.

use std::{
    fs::{self, File},
    io, iter,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use nix::fcntl::{FallocateFlags, fallocate};
use tracing::{debug, warn};

use crate::{
    error::{Error, Result},
    image::Image,
    model::Generation,
    plan::shadow::Edit,
};

/// Less is not worth a second visit, in bytes.
const LITTLE: u64 = 1 << 20;

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
                        strip(&image.path, image).unwrap_or_else(|error| {
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
fn strip(path: &Path, image: &Image) -> io::Result<bool> {
    let file = File::options().write(true).open(path)?;
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

/// Writes the shadow of `image` without its debugging information.
///
/// # Errors
/// The store has no room, or is gone; nothing of the shadow is left.
pub fn write(path: &Path, image: &Image, edits: &[Edit], spare: &mut Spare) -> Result<()> {
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        let file = File::create(path)?;
        let size = image.bytes.len() as u64;
        file.set_len(size)?;
        let mut at = 0;
        for later in left_for_later(image).chain(iter::once(size..size)) {
            write_part(&file, image, at..later.start)?;
            at = at.max(later.end);
        }
        edits.iter().try_for_each(|edit| file.write_all_at(&edit.bytes, edit.offset))
    };
    spare.with_room(write).map_err(|source| {
        remove(path);
        Error::File { path: path.to_owned(), doing: "writing the shadow into the store", source }
    })
}

/// Adds the debugging information.
///
/// # Errors
/// The store has no room for it: there is none in the file then, and the generation runs all the same.
pub fn complete(path: &Path, image: &Image, spare: &mut Spare) -> io::Result<()> {
    if left_for_later(image).next().is_none() {
        return Ok(());
    }
    let file = File::options().write(true).open(path)?;
    spare.with_room(|| left_for_later(image).try_for_each(|part| write_part(&file, image, part))).inspect_err(|_| {
        // Where even that fails, the file cannot be used for anything.
        let _ = strip(path, image);
    })
}

/// Removes a shadow and the folder made for it.
pub fn remove(path: &Path) {
    if let Some(folder) = path.parent() {
        let _ = fs::remove_dir_all(folder);
    }
}

fn left_for_later(image: &Image) -> impl Iterator<Item = Range<u64>> {
    image.tables.debugging.iter().filter(|range| range.end - range.start >= LITTLE).cloned()
}

fn write_part(file: &File, image: &Image, part: Range<u64>) -> io::Result<()> {
    match image.bytes.get(part.start as usize..part.end as usize) {
        Some(bytes) => file.write_all_at(bytes, part.start),
        // Sections that overlap.
        None => Ok(()),
    }
}
