//! One analysis for all who need it: the workers of a server have the same libraries, and whoever looks after all of them
//! analyses each file once.
//!
//! By content, not by path: each target keeps files of its own. Nothing is kept here for longer than somebody uses it.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::{Analysis, Image};
use crate::{error::Result, fingerprint};

/// The analysis of one content. Who finds it locked waits for the one who makes it.
type Slot = Arc<Mutex<Weak<Analysis>>>;

static KNOWN: Mutex<Option<HashMap<u128, Slot>>> = Mutex::new(None);

/// As [`Image::parse_after`], or what somebody else has made of the same bytes; whether that was so.
///
/// # Errors
/// As [`Image::parse`].
pub fn analyse(path: &Path, bytes: impl Into<Arc<Vec<u8>>>, before: Option<&Image>) -> Result<(Image, bool)> {
    let bytes = bytes.into();
    let content = fingerprint::of(&bytes);
    analyse_known(path, bytes, content, before)
}

/// The same of bytes whose fingerprint is known to be `content`.
///
/// # Errors
/// As [`Image::parse`].
pub fn analyse_known(path: &Path, bytes: Arc<Vec<u8>>, content: u128, before: Option<&Image>) -> Result<(Image, bool)> {
    let slot = slot(content);
    let mut known = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(analysis) = known.upgrade() {
        return Ok((Image { path: path.to_owned(), analysis }, true));
    }
    let mut image = Image::parse_after(before, path, bytes)?;
    image.growing(|analysis| analysis.found_by = Some(content));
    *known = Arc::downgrade(&image.analysis);
    Ok((image, false))
}

/// The analysis to be changed, where nobody else has it; nobody finds it here any more.
pub(super) fn alone(analysis: &mut Arc<Analysis>) -> Option<&mut Analysis> {
    if Arc::strong_count(analysis) == 1
        && let Some(content) = analysis.found_by
    {
        let slot = slot(content);
        let mut known = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if known.ptr_eq(&Arc::downgrade(analysis)) {
            *known = Weak::new();
        }
    }
    Arc::get_mut(analysis)
}

fn slot(content: u128) -> Slot {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    // Who is in the middle of it holds the slot.
    known.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.lock().is_ok_and(|weak| weak.strong_count() > 0));
    Arc::clone(known.entry(content).or_default())
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc, thread};

    use super::analyse;

    #[test]
    fn the_same_bytes_are_analysed_once_while_somebody_uses_them() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let others: Vec<_> = (0..4)
            .map(|index| {
                let bytes = bytes.clone();
                thread::spawn(move || analyse(Path::new(&format!("/{index}")), bytes, None).unwrap())
            })
            .collect();
        let images: Vec<_> = others.into_iter().map(|other| other.join().unwrap()).collect();
        assert_eq!(images.iter().filter(|(_, shared)| !shared).count(), 1);
        assert!(images.iter().all(|(image, _)| Arc::ptr_eq(&image.analysis, &images[0].0.analysis)));
        let paths: Vec<_> = images.iter().map(|(image, _)| image.path.clone()).collect();
        assert_eq!(paths, ["/0", "/1", "/2", "/3"].map(Path::new));
        drop(images);
        assert!(!analyse(Path::new("/5"), bytes, None).unwrap().1, "nobody keeps it");
    }
}
