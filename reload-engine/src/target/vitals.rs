//! Whether anything may have happened in a process, asked several times a second: files of `/proc` that stay open, so that an
//! answer is one short read.

use std::{fs::File, io, os::unix::fs::FileExt};

/// The open files of one process. They belong to it: once it has ended they tell of no other that got its number.
#[derive(Debug)]
pub struct Vitals {
    size: File,
    /// `/proc/loadavg`, which names the process created last.
    newest: Option<File>,
}

impl Vitals {
    /// # Errors
    /// There is no such process.
    pub fn of(pid: u32) -> io::Result<Vitals> {
        let size = File::open(format!("/proc/{pid}/statm"))?;
        Ok(Vitals { size, newest: File::open("/proc/loadavg").ok() })
    }

    /// Total program size in pages. It changes with nearly every `dlopen` and `dlclose`; a change says that it is worth
    /// looking at the mappings, no change says nothing for sure.
    ///
    /// # Errors
    /// The process has ended.
    pub fn size_in_pages(&self) -> io::Result<u64> {
        let mut room = [0; 128];
        let text = start_of(&self.size, &mut room)?;
        // A process that has ended and that nobody has waited for yet has no memory.
        Ok(text.split(' ').next().and_then(|pages| pages.parse().ok()).unwrap_or(0))
    }

    /// The id given to a process last, by whomever: as long as it stays the same nothing was forked. `None` where the system
    /// does not tell.
    pub fn newest_process(&self) -> Option<u32> {
        let mut room = [0; 128];
        start_of(self.newest.as_ref()?, &mut room).ok()?.trim_end().rsplit(' ').next()?.parse().ok()
    }
}

/// What fits into the room; such files are written anew for each read from their start.
fn start_of<'a>(file: &File, room: &'a mut [u8]) -> io::Result<&'a str> {
    let length = file.read_at(room, 0)?;
    str::from_utf8(&room[..length]).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::Vitals;

    #[test]
    fn size_and_processes_are_told_as_they_change_and_the_end_as_an_error() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("starts");
        let vitals = Vitals::of(child.id()).expect("it runs");
        assert!(vitals.size_in_pages().expect("it runs") > 0);
        let newest = vitals.newest_process().expect("Linux tells");
        let other = Command::new("true").spawn().and_then(|mut other| other.wait());
        assert!(other.expect("starts").success());
        assert_ne!(vitals.newest_process(), Some(newest));
        child.kill().and_then(|()| child.wait()).expect("ends");
        assert!(vitals.size_in_pages().is_err());
        assert!(Vitals::of(child.id()).is_err());
    }
}
