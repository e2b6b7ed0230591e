//! What an analysis gives away once its file neither runs nor is the one before, and how that comes back.
//!
//! The only place here that reads files: those that are kept for as long as the target has them mapped.

use std::{
    borrow::Cow,
    fs::{self, File},
    io, iter,
    ops::Range,
    os::unix::fs::FileExt,
    sync::{Arc, OnceLock},
};

use super::{Image, pool, recurring::Recurring};

impl Image {
    /// Frees what only a comparison with the next file needs, most of it debugging information, unless others share it.
    /// [`Image::revive`] brings that back. Returned is the memory that the bytes took.
    pub fn retire(&mut self) -> Option<Vec<u8>> {
        if self.retired {
            return None;
        }
        let analysis = pool::alone(&mut self.analysis)?;
        // Pages that nobody writes to take no memory.
        let mut bytes = vec![0; analysis.bytes.len()];
        let mut at = 0;
        for part in analysis.tables.debugging.iter().map(as_usize).chain(iter::once(bytes.len()..bytes.len())) {
            if let (Some(to), Some(from)) = (bytes.get_mut(at..part.start), analysis.bytes.get(at..part.start)) {
                to.copy_from_slice(from);
            }
            at = at.max(part.end);
        }
        analysis.recurring = Recurring::default();
        analysis.layouts = OnceLock::new();
        analysis.users = OnceLock::new();
        analysis.uses_of_state = OnceLock::new();
        analysis.objects_by_name = OnceLock::new();
        analysis.retired = true;
        Arc::into_inner(std::mem::replace(&mut analysis.bytes, Arc::new(bytes)))
    }

    /// Reads debugging information again from the kept file.
    ///
    /// # Errors
    /// The file cannot be read any more.
    pub fn revive(&mut self) -> io::Result<()> {
        let file = File::open(&self.path)?;
        let analysis = pool::alone(&mut self.analysis).ok_or(io::ErrorKind::ResourceBusy)?;
        let bytes = Arc::get_mut(&mut analysis.bytes).ok_or(io::ErrorKind::ResourceBusy)?;
        for part in analysis.tables.debugging.iter().map(as_usize) {
            let start = part.start as u64;
            bytes.get_mut(part).map_or(Ok(()), |bytes| file.read_exact_at(bytes, start))?;
        }
        analysis.layouts = OnceLock::new();
        analysis.retired = false;
        Ok(())
    }

    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// Its bytes with debugging information; `None` where that is gone.
    pub fn bytes_with_debugging(&self) -> Option<Cow<'_, [u8]>> {
        if !self.retired {
            return Some(Cow::Borrowed(&self.bytes));
        }
        let bytes = fs::read(&self.path).ok()?;
        let is_hole = |part: Range<usize>| bytes.get(part).is_none_or(|bytes| bytes.iter().all(|byte| *byte == 0));
        let is_gone = !self.tables.debugging.is_empty() && self.tables.debugging.iter().map(as_usize).all(is_hole);
        (!is_gone).then_some(Cow::Owned(bytes))
    }
}

fn as_usize(range: &Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}
