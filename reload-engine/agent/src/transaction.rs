//! A staged transaction: everything checked, allocated and touched before any thread is stopped.

use std::{fs::OpenOptions, ops::Range, os::unix::fs::FileExt, ptr, sync::atomic::AtomicBool};

use libc::c_int;
use reload_protocol::{Merge, Part, Patch, Segment, Transaction, Write};

use crate::{
    fd::GuestFd,
    memory::{self, Mapping, PAGE, page_ceil, page_floor},
    shadow::range_of,
    shield::Cover,
};

pub struct Staged {
    pub id: u64,
    pub patches: Vec<Patch>,
    pub writes: Vec<Write>,
    /// Each with whether it was left out, as the program had changed what stood there.
    pub merges: Vec<(Merge, AtomicBool)>,
    pub text: Vec<Segment>,
    /// Read-only data that `writes` go to, with the protection it has now.
    pub data: Vec<Segment>,
    /// Mappings that take others' places.
    pub covers: Vec<Cover>,
    /// Where no thread may stand: ascending, merged.
    pub forbidden: Vec<Range<u64>>,
    /// What of the ledger changes with it.
    pub ledger: Vec<Part>,
}

impl Staged {
    /// `passed` are the descriptors that came along.
    pub fn prepare(id: u64, transaction: Transaction, passed: &[GuestFd]) -> Result<Staged, String> {
        let Transaction { patches, writes, merges, text, replacements, forbidden, ledger } = transaction;
        check_segments(&text)?;
        check_segments(&replacements.iter().map(|replacement| replacement.segment).collect::<Vec<_>>())?;
        check_patches(&patches, &text)?;
        // Read only if something is looked up in it: every generation adds lines.
        let mappings = if writes.is_empty() && merges.is_empty() && replacements.is_empty() {
            Vec::new()
        } else {
            memory::mappings().map_err(|error| format!("reading /proc/self/maps: {error}"))?
        };
        if let Some(merge) = merges.iter().find(|merge| merge.before.len() != merge.after.len()) {
            return Err(format!("the merge at {:#x} changes the length of what stands there", merge.address));
        }
        let merged = |merge: &Merge| Write { address: merge.address, bytes: merge.after.clone() };
        let all_writes: Vec<Write> = writes.iter().cloned().chain(merges.iter().map(merged)).collect();
        let data = data_segments(&all_writes, &text, &mappings)?;
        if !patches.is_empty() {
            check_modified_text_may_run()?;
        }
        touch_text(&patches);
        touch_data(&all_writes);
        let mut covers = Vec::new();
        for replacement in &replacements {
            let cover = Cover::prepare(replacement, &mappings, passed)?;
            if cover.is_writable() { covers.push(cover) } else { cover.put_on()? }
        }
        let ranges = forbidden.iter().map(|range| range.start..range.start.saturating_add(range.len));
        // At a patch's first byte a thread runs the new jump; inside it, the second half of an instruction.
        let insides = patches.iter().map(|patch| patch.address + 1..patch.address + u64::from(patch.len));
        let forbidden = merge(ranges.chain(insides).collect());
        let merges = merges.into_iter().map(|merge| (merge, AtomicBool::new(false))).collect();
        Ok(Staged { id, patches, writes, merges, text, data, covers, forbidden, ledger })
    }

    pub fn forbids(&self, address: u64) -> bool {
        let after = self.forbidden.partition_point(|range| range.start <= address);
        after > 0 && address < self.forbidden[after - 1].end
    }
}

fn merge(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_by_key(|range| range.start);
    ranges.dedup_by(|next, before| {
        let adjoin = next.start <= before.end;
        if adjoin {
            before.end = before.end.max(next.end);
        }
        adjoin
    });
    ranges
}

/// What the agent runs on while the text is closed must not be closed with it.
fn check_segments(text: &[Segment]) -> Result<(), String> {
    let own = [check_segments as *const () as u64, libc::syscall as *const () as u64, libc::memcpy as *const () as u64];
    for range in text.iter().map(range_of) {
        if range.start % PAGE != 0 || range.end % PAGE != 0 || range.is_empty() {
            return Err(format!("text segment {:#x}..{:#x} is not of whole pages", range.start, range.end));
        }
        if own.iter().any(|address| range.contains(address)) {
            return Err(format!("text segment {:#x}..{:#x} holds libc or the agent", range.start, range.end));
        }
    }
    Ok(())
}

fn check_patches(patches: &[Patch], text: &[Segment]) -> Result<(), String> {
    let mut free_from = 0;
    for patch in patches {
        let end = patch.address.saturating_add(patch.len.into());
        if !(1..=8).contains(&patch.len) || patch.address < free_from {
            return Err(format!("patch at {:#x} overlaps, is out of order or has a bad length", patch.address));
        }
        free_from = end;
        if !text.iter().map(range_of).any(|range| range.start <= patch.address && end <= range.end) {
            return Err(format!("patch at {:#x} lies in none of the text segments", patch.address));
        }
    }
    for range in text.iter().map(range_of) {
        let inside: Vec<&Patch> = patches.iter().filter(|patch| range.contains(&patch.address)).collect();
        let (Some(first), Some(last)) = (inside.first(), inside.last()) else { continue };
        let start = first.address;
        let bytes = memory::read(start, (last.address + u64::from(last.len) - start) as usize)
            .ok_or_else(|| format!("the text at {start:#x} is not mapped any more"))?;
        for patch in inside {
            let from = (patch.address - start) as usize;
            let len = usize::from(patch.len);
            let (found, expected) = (&bytes[from..from + len], &patch.before[..len]);
            if found != expected {
                let address = patch.address;
                return Err(format!(
                    "the code at {address:#x} is {found:02x?}, not {expected:02x?}: somebody else patched it"
                ));
            }
        }
    }
    Ok(())
}

/// The read-only mappings that are written to: they are opened with the text.
fn data_segments(writes: &[Write], text: &[Segment], mappings: &[Mapping]) -> Result<Vec<Segment>, String> {
    let mut pages = Vec::new();
    for write in writes.iter().filter(|write| !write.bytes.is_empty()) {
        let end = write.address.saturating_add(write.bytes.len() as u64);
        if text.iter().map(range_of).any(|range| range.start <= write.address && end <= range.end) {
            continue;
        }
        let mut at = write.address;
        while at < end {
            let after = mappings.partition_point(|mapping| mapping.range.end <= at);
            let mapping = mappings.get(after).filter(|mapping| mapping.range.contains(&at));
            let mapping = mapping.ok_or_else(|| format!("nothing is mapped at {at:#x}, which is to be written"))?;
            if mapping.protection & libc::PROT_EXEC != 0 {
                return Err(format!("the write at {at:#x} goes to code outside the text segments"));
            }
            let stop = end.min(mapping.range.end);
            if mapping.protection & libc::PROT_WRITE == 0 {
                pages.push((page_floor(at)..page_ceil(stop), mapping.protection));
            }
            at = stop;
        }
    }
    pages.sort_by_key(|(range, _)| range.start);
    pages.dedup_by(|(next, protection), (before, same)| {
        let adjoin = next.start <= before.end && protection == same;
        if adjoin {
            before.end = before.end.max(next.end);
        }
        adjoin
    });
    let segment = |(range, protection): (Range<u64>, c_int)| Segment {
        range: reload_protocol::Range { start: range.start, len: range.end - range.start },
        protection: protection as u32,
    };
    Ok(pages.into_iter().map(segment).collect())
}

/// SELinux can forbid (`execmod`) to run a file's text once it was written to; better known now than with the text closed.
fn check_modified_text_may_run() -> Result<(), String> {
    let file =
        OpenOptions::new().read(true).open("/proc/self/exe").map_err(|error| format!("/proc/self/exe: {error}"))?;
    let (writable, text) = (libc::PROT_READ | libc::PROT_WRITE, libc::PROT_READ | libc::PROT_EXEC);
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    // SAFETY: a fresh private mapping of the executable's first page.
    let page = unsafe { libc::mmap(ptr::null_mut(), PAGE as usize, writable, libc::MAP_PRIVATE, fd, 0) };
    if page == libc::MAP_FAILED {
        return Err(format!("mapping /proc/self/exe: errno {}", crate::errno()));
    }
    let byte = page.cast::<u8>();
    // SAFETY: the page that was just mapped, readable and writable; writing makes it a private copy.
    unsafe { byte.write_volatile(byte.read_volatile()) };
    let range = page as u64..page as u64 + PAGE;
    let allowed = memory::protect(&range, text);
    memory::release(&range);
    allowed.map_err(|error| {
        format!("this system forbids running code that was written to (errno {error}; with SELinux: allow execmod)")
    })
}

/// Writes one byte of every page as it is, so that copy-on-write does not happen while the threads are stopped. Best
/// effort; text is written by nobody else.
fn touch_text(patches: &[Patch]) {
    let Ok(memory) = OpenOptions::new().read(true).write(true).open("/proc/self/mem") else { return };
    let mut touched = 0;
    for patch in patches {
        for address in [patch.address, patch.address + u64::from(patch.len) - 1] {
            let mut byte = [0];
            if page_floor(address) != touched && memory.read_exact_at(&mut byte, address).is_ok() {
                let _ = memory.write_all_at(&byte, address);
                touched = page_floor(address);
            }
        }
    }
}

/// The same for data, which other threads may be writing: the kernel populates the pages without changing them.
fn touch_data(writes: &[Write]) {
    let mut touched = 0;
    for write in writes {
        let page = page_floor(write.address);
        if page != touched {
            let len = (page_ceil(write.address + write.bytes.len() as u64) - page) as usize;
            // SAFETY: changes no contents; where it does not apply the kernel answers an error.
            unsafe { libc::madvise(page as *mut libc::c_void, len, libc::MADV_POPULATE_WRITE) };
            touched = page;
        }
    }
}

#[cfg(test)]
mod tests {
    use reload_protocol::{Patch, Range, Segment, Transaction};

    use super::{PAGE, Staged, check_segments, merge, page_floor};

    fn transaction(patches: Vec<Patch>, text: Range) -> Transaction {
        let text = vec![Segment { range: text, protection: 5 }];
        Transaction { patches, text, ..Transaction::default() }
    }

    #[test]
    fn ranges_merge_where_they_touch() {
        assert_eq!(merge(vec![8..9, 1..3, 3..4, 5..5, 2..3]), [1..4, 8..9]);
    }

    #[test]
    fn patches_outside_the_text_are_rejected() {
        let patch = Patch { address: 0x5000, len: 5, before: [0; 8], after: [0; 8] };
        let result = Staged::prepare(1, transaction(vec![patch], Range { start: 0x1000, len: 0x1000 }), &[]);
        assert!(result.is_err_and(|message| message.contains("none of the text segments")));
    }

    #[test]
    fn the_agents_own_text_is_rejected() {
        let page = page_floor(check_segments as *const () as u64);
        let result = Staged::prepare(1, transaction(Vec::new(), Range { start: page, len: PAGE }), &[]);
        assert!(result.is_err_and(|message| message.contains("holds libc or the agent")));
    }
}
