//! Loading shadows where they are wanted: near the module they replace.
//!
//! A jump written into an old entry reaches 2 GiB, so address space near the module is reserved at attach. `mmap` serves
//! requests from the highest gap that is large enough; to make `dlopen` land in the reservation, a piece of it is opened and
//! every larger gap above it is plugged for the moment. Nothing is relocated by hand: the file keeps its addresses, so
//! debuggers and unwinders find what they expect.

use std::{
    error::Error,
    ffi::{CStr, c_int, c_void},
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
    ptr,
};

use libloading::os::unix::Library;
use reload_protocol::{LoadedModule, Segment, Write};

use crate::{
    memory::{self, LOWEST, PAGE, intersect, page_ceil, page_floor},
    modules,
};

/// How far from the module a reservation may lie; leaves the other GiB of a jump's reach to the sizes of both.
const REACH: u64 = 1 << 30;
/// What the kernel may add to a request to align it for huge pages, several times over: 1 MiB was too little, 6 enough.
const SLACK: u64 = 8 << 20;
const LOAD_ATTEMPTS: usize = 6;
/// Where user addresses end.
const HIGHEST: u64 = 1 << 47;
/// More plugs than a process has large gaps, fewer than its limit of mappings.
const MOST_PLUGS: usize = 4096;

/// Reserved address space, ascending and disjoint.
#[derive(Default)]
pub struct Arenas {
    ranges: Vec<Range<u64>>,
    /// What was plugged for the last shadow: mostly it is the same for the next.
    plugged: Vec<Range<u64>>,
}

/// A library loaded for a reload that has not been committed.
pub struct Shadow {
    library: Library,
    pub module: LoadedModule,
    /// What was opened of the reservation for it.
    hole: Range<u64>,
    /// Code in it has run: somebody may have kept a pointer.
    pub entered: bool,
}

impl Arenas {
    /// Reserves `size` bytes within [`REACH`] of `near`, below it rather than above, and as close as possible. What is
    /// reserved there already will do: every dashboard asks anew, and neighbours share.
    pub fn reserve(&mut self, near: u64, size: u64) -> Result<u64, String> {
        let size = page_ceil(size);
        if size == 0 || size > REACH {
            return Err(format!("cannot reserve {size} bytes: must be 1 byte to 1 GiB"));
        }
        let reach = near.saturating_sub(REACH).max(LOWEST)..near.saturating_add(REACH).min(HIGHEST);
        if memory::is_limited() {
            return Err("the process may not use more address space (RLIMIT_AS): the host needs all of it".to_owned());
        }
        if let Some(known) = self.ranges.iter().find(|range| intersect(range, &reach) == **range) {
            return Ok(known.start);
        }
        let mappings = memory::mappings().map_err(|error| format!("reading /proc/self/maps: {error}"))?;
        let gaps = memory::gaps(&mappings).into_iter().map(|gap| intersect(&gap, &reach));
        let mut places: Vec<Range<u64>> = gaps
            .filter(|gap| gap.end - gap.start >= size)
            .map(|gap| if gap.start >= near { gap.start..gap.start + size } else { gap.end - size..gap.end })
            .collect();
        places.sort_by_key(|place| (place.start >= near, place.start.abs_diff(near)));
        match places.into_iter().find(memory::reserve_at) {
            Some(place) => {
                self.add(place.clone());
                Ok(place.start)
            }
            None => Err(format!("no {size} bytes of address space are free within 1 GiB of {near:#x}")),
        }
    }

    /// `dlopen`s `path` so that all of it lies in `bounds`.
    pub fn load(&mut self, path: &str, bounds: Range<u64>) -> Result<Shadow, String> {
        let extent = Extent::read(Path::new(path))?;
        if let Some(name) = known_as(path) {
            return Err(format!("{path}: the loader takes it for {name}, which is loaded already"));
        }
        let mut landed = Vec::new();
        for _ in 0..LOAD_ATTEMPTS {
            let hole = self.open_hole(&bounds, extent.size(), extent.with_room())?;
            let mut plugs = plug_above(hole.end, extent.size(), &self.plugged);
            // Where an earlier attempt went although nothing seemed to fit there.
            landed.iter().filter(|range| memory::reserve_at(range)).for_each(|range| plugs.add(range.clone()));
            let opened = open(path, &extent);
            self.plugged.clone_from(&plugs.0);
            drop(plugs);
            let (library, module) = match opened {
                Ok(opened) => opened,
                Err(message) => {
                    self.close_hole(&hole);
                    return Err(message);
                }
            };
            let place = page_floor(module.start)..page_ceil(module.end);
            if bounds.start <= place.start && place.end <= bounds.end {
                self.close_hole_around(&hole, &place);
                return Ok(Shadow { library, module, hole, entered: false });
            }
            // Not at the place that the plan was made for: void.
            let _ = modules::closing(|| library.close());
            self.close_hole(&hole);
            landed.push(place);
        }
        let last = landed.last().map_or(0, |range| range.start);
        Err(format!(
            "{path}: the loader did not put it within {:#x}..{:#x} but at {last:#x}; another thread may be mapping memory",
            bounds.start, bounds.end
        ))
    }

    /// Unloads a shadow that was not committed. Nobody has been given an address in it, unless code in it has run.
    pub fn unload(&mut self, shadow: Shadow) {
        if shadow.entered {
            return shadow.keep();
        }
        let Shadow { library, hole, .. } = shadow;
        // A failure leaves it loaded, which wastes memory and harms nobody.
        let _ = modules::closing(|| library.close());
        self.close_hole(&hole);
    }

    /// Opens `wanted` bytes (`least` at least) of a reservation, or finds them free, inside `bounds`.
    fn open_hole(&mut self, bounds: &Range<u64>, least: u64, wanted: u64) -> Result<Range<u64>, String> {
        let top = |range: Range<u64>| range.end.saturating_sub(wanted).max(range.start)..range.end;
        let enough = |range: &Range<u64>| range.end - range.start >= least;
        let reserved = self.ranges.iter().map(|range| intersect(range, bounds)).filter(enough);
        if let Some(hole) = reserved.max_by_key(|range| ((range.end - range.start).min(wanted), range.end)).map(top) {
            self.remove(&hole);
            memory::release(&hole);
            return Ok(hole);
        }
        let mappings = memory::mappings().map_err(|error| format!("reading /proc/self/maps: {error}"))?;
        let free = memory::gaps(&mappings).into_iter().map(|gap| intersect(&gap, bounds)).filter(enough);
        let hole = free.max_by_key(|range| ((range.end - range.start).min(wanted), range.end)).map(top);
        hole.ok_or_else(|| {
            format!("no {least} bytes of address space are left in {:#x}..{:#x}", bounds.start, bounds.end)
        })
    }

    /// Reserves again what a library has left of a hole.
    fn close_hole_around(&mut self, hole: &Range<u64>, place: &Range<u64>) {
        let rests = [hole.start..place.start.min(hole.end), place.end.max(hole.start)..hole.end];
        for rest in rests.into_iter().filter(|rest| !rest.is_empty()) {
            if memory::reserve_at(&rest) {
                self.add(rest);
            } else {
                // Somebody else has mapped something there meanwhile.
                self.close_hole(&rest);
            }
        }
    }

    /// Reserves again what is left of a hole.
    fn close_hole(&mut self, hole: &Range<u64>) {
        let Ok(mappings) = memory::mappings() else { return };
        for gap in memory::gaps(&mappings) {
            let rest = intersect(&gap, hole);
            if !rest.is_empty() && memory::reserve_at(&rest) {
                self.add(rest);
            }
        }
    }

    fn add(&mut self, range: Range<u64>) {
        self.ranges.push(range);
        self.ranges.sort_by_key(|range| range.start);
        self.ranges.dedup_by(|next, before| {
            let adjoin = next.start <= before.end;
            if adjoin {
                before.end = before.end.max(next.end);
            }
            adjoin
        });
    }

    fn remove(&mut self, hole: &Range<u64>) {
        let around =
            |range: &Range<u64>| [range.start..hole.start.min(range.end), hole.end.max(range.start)..range.end];
        let apart = |range: &Range<u64>| range.end <= hole.start || hole.end <= range.start;
        let parts = |range: &Range<u64>| if apart(range) { vec![range.clone()] } else { around(range).to_vec() };
        self.ranges = self.ranges.iter().flat_map(parts).filter(|range| !range.is_empty()).collect();
    }
}

impl Shadow {
    /// Writes into the shadow before anyone can know of it; the segments are without execution meanwhile.
    pub fn bind(&self, segments: &[Segment], writes: &[Write]) -> Result<(), String> {
        let inside: Vec<Range<u64>> = segments.iter().map(range_of).collect();
        for write in writes {
            let end = write.address.saturating_add(write.bytes.len() as u64);
            if !inside.iter().any(|range| range.start <= write.address && end <= range.end) {
                return Err(format!("write at {:#x} lies in none of the segments", write.address));
            }
        }
        let mut opened = 0;
        let mut result = Ok(());
        for range in &inside {
            if let Err(error) = memory::protect(range, libc::PROT_READ | libc::PROT_WRITE) {
                result = Err(format!("making {:#x}..{:#x} writable: errno {error}", range.start, range.end));
                break;
            }
            opened += 1;
        }
        if result.is_ok() {
            for write in writes {
                // SAFETY: inside a segment of this shadow (checked above and by `covers`) that was just made writable.
                unsafe { ptr::copy_nonoverlapping(write.bytes.as_ptr(), write.address as *mut u8, write.bytes.len()) };
            }
        }
        for segment in &segments[..opened] {
            if let Err(error) = memory::protect(&range_of(segment), segment.protection as c_int) {
                result = Err(format!("giving {:#x} its protection back: errno {error}", segment.range.start));
            }
        }
        result
    }

    /// Whether all of `segments` lie in this shadow.
    pub fn covers(&self, segments: &[Segment]) -> bool {
        let whole = page_floor(self.module.start)..page_ceil(self.module.end);
        segments.iter().map(range_of).all(|range| {
            range.start % PAGE == 0 && range.end % PAGE == 0 && whole.start <= range.start && range.end <= whole.end
        })
    }

    /// Committed: it stays for the life of the process.
    pub fn keep(self) {
        std::mem::forget(self.library);
    }
}

pub fn range_of(segment: &Segment) -> Range<u64> {
    segment.range.start..segment.range.start.saturating_add(segment.range.len)
}

/// Address space taken so that `mmap` finds no gap there; given back when dropped.
struct Plugs(Vec<Range<u64>>);

impl Plugs {
    /// The kernel fills a gap from its top: what adjoins is given back by one call.
    fn add(&mut self, range: Range<u64>) {
        match self.0.iter_mut().find(|above| above.start == range.end) {
            Some(above) => above.start = range.start,
            None => self.0.push(range),
        }
    }
}

impl Drop for Plugs {
    fn drop(&mut self) {
        self.0.iter().for_each(memory::release);
    }
}

/// Fills every gap above `limit` into which the kernel would put `size` bytes, asking the kernel itself where it would: it
/// alone knows where the area of `mmap` ends. What is `known` to have been filled before is filled without a question.
fn plug_above(limit: u64, size: u64, known: &[Range<u64>]) -> Plugs {
    let (mut plugs, mut taken) = (Plugs(Vec::new()), 0);
    let known = known.iter().filter(|range| range.start >= limit && memory::reserve_at(range));
    known.for_each(|range| plugs.add(range.clone()));
    let mut ask = largest_above(limit, size);
    loop {
        match reserve_above(limit, ask.max(size)) {
            Some(range) if taken < MOST_PLUGS => {
                plugs.add(range);
                taken += 1;
            }
            spare => {
                spare.iter().for_each(memory::release);
                if ask <= size {
                    return plugs;
                }
                ask /= 2;
            }
        }
    }
}

/// The largest power of two that the kernel puts above `limit`, or one not larger than `size`. What has room there leaves room
/// for everything smaller, so a few questions find it.
fn largest_above(limit: u64, size: u64) -> u64 {
    let (mut fits, mut most) = (size.ilog2(), HIGHEST.ilog2() - 1);
    // The smallest first: mostly no more is asked, as what is known has been filled.
    let mut ask = fits + 1;
    while fits < most {
        match reserve_above(limit, 1 << ask) {
            Some(range) => {
                memory::release(&range);
                fits = ask;
            }
            None => most = ask - 1,
        }
        ask = (fits + most).div_ceil(2);
    }
    1 << fits
}

/// Reserves where the kernel would put `size` bytes if that is above `limit`.
fn reserve_above(limit: u64, size: u64) -> Option<Range<u64>> {
    // An odd number of pages, which is not aligned for huge pages and so not moved within its gap.
    let range = memory::reserve_anywhere(size | PAGE)?;
    if range.start >= limit {
        return Some(range);
    }
    memory::release(&range);
    None
}

/// `struct link_map` of `<link.h>`, the public part.
#[repr(C)]
#[derive(Clone, Copy)]
struct LinkMap {
    bias: u64,
    name: *const libc::c_char,
    dynamic: u64,
}

impl LinkMap {
    /// While its library is open.
    fn name(&self) -> String {
        if self.name.is_null() {
            return String::new();
        }
        // SAFETY: a terminated string that the loader keeps as long as the entry.
        unsafe { CStr::from_ptr(self.name) }.to_string_lossy().into_owned()
    }
}

/// What the loader says of a failed `dlopen`: it names the file and the symbol.
pub fn loader_message(error: &libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// Under which name a library is loaded that the loader would answer with, instead of something new: it goes by names, and by
/// device and inode.
fn known_as(path: &str) -> Option<String> {
    // SAFETY: loads nothing, and so runs nothing.
    let library = unsafe { Library::open(Some(path), libc::RTLD_NOW | libc::RTLD_LOCAL | libc::RTLD_NOLOAD) }.ok()?;
    let (library, map) = link_map(library);
    let name = map.map_or_else(String::new, |map| map.name());
    let _ = library.close();
    Some(name)
}

/// The loader is not asked for all it has loaded: there may be thousands.
fn open(path: &str, extent: &Extent) -> Result<(Library, LoadedModule), String> {
    // SAFETY: loading runs the file's constructors and resolvers. The engine has suppressed the constructors in a shadow
    // and everything else in it was already running in this process; that it did so cannot be checked here.
    let library = unsafe { Library::open(Some(path), libc::RTLD_NOW | libc::RTLD_LOCAL) }
        .map_err(|error| loader_message(&error))?;
    let (library, map) = link_map(library);
    let Some(map) = map else { return Err(format!("{path}: loaded, but not in the link map")) };
    let (library, tls_module) = asked(library, libc::RTLD_DI_TLS_MODID, 0usize);
    let (start, end) = (map.bias.wrapping_add(extent.start), map.bias.wrapping_add(extent.end));
    if !(start..end).contains(&map.dynamic) {
        let _ = library.close();
        return Err(format!("{path}: the loader has put it elsewhere than it says"));
    }
    let tls_module = tls_module.unwrap_or(0) as u64;
    Ok((library, LoadedModule { path: map.name(), bias: map.bias, start, end, tls_module }))
}

fn link_map(library: Library) -> (Library, Option<LinkMap>) {
    let (library, map) = asked(library, libc::RTLD_DI_LINKMAP, ptr::null::<LinkMap>());
    // SAFETY: the loader keeps the entry while `library` is open, and never changes these fields.
    let map = map.filter(|map| !map.is_null()).map(|map| unsafe { *map });
    (library, map)
}

/// What dlinfo(3) answers to a request that has an answer of this type.
fn asked<T>(library: Library, request: c_int, mut answer: T) -> (Library, Option<T>) {
    let handle = library.into_raw();
    // SAFETY: a valid handle, and a place for the answer.
    let found = unsafe { libc::dlinfo(handle, request, ptr::from_mut(&mut answer).cast::<c_void>()) } == 0;
    // SAFETY: the handle that `into_raw` gave.
    (unsafe { Library::from_raw(handle) }, found.then_some(answer))
}

/// How much address space a file takes.
struct Extent {
    /// First address of its segments, as stated in the file, and the one behind the last.
    start: u64,
    end: u64,
    alignment: u64,
}

impl Extent {
    const HEADER: usize = 64;
    const PROGRAM_HEADER: usize = 56;

    /// In whole pages.
    fn size(&self) -> u64 {
        page_ceil(self.end) - page_floor(self.start)
    }

    fn with_room(&self) -> u64 {
        page_ceil(self.size() + self.alignment + SLACK)
    }

    /// From the program headers; the loader itself will check the rest.
    fn read(path: &Path) -> Result<Extent, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let file = File::open(path).map_err(|error| failed(&error))?;
        let mut header = [0; Self::HEADER];
        file.read_exact_at(&mut header, 0).map_err(|error| failed(&error))?;
        if header[..4] != *b"\x7fELF" || header[4] != 2 {
            return Err(failed(&"not a 64-bit ELF file"));
        }
        let table = number(&header[32..40]);
        let count = number(&header[56..58]) as usize;
        if number(&header[54..56]) as usize != Self::PROGRAM_HEADER {
            return Err(failed(&"unknown size of program headers"));
        }
        let mut headers = vec![0; count * Self::PROGRAM_HEADER];
        file.read_exact_at(&mut headers, table).map_err(|error| failed(&error))?;
        let (mut start, mut end, mut alignment) = (u64::MAX, 0, PAGE);
        for header in headers.chunks_exact(Self::PROGRAM_HEADER) {
            if number(&header[..4]) == u64::from(libc::PT_LOAD) {
                let vaddr = number(&header[16..24]);
                start = start.min(vaddr);
                end = end.max(vaddr.saturating_add(number(&header[40..48])));
                alignment = alignment.max(number(&header[48..56]));
            }
        }
        if start >= end || end - start > REACH || alignment > REACH {
            return Err(failed(&"has no loadable segments of a sensible size"));
        }
        Ok(Extent { start, end, alignment })
    }
}

/// A little-endian number of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::{Arenas, number};

    #[test]
    fn a_hole_splits_its_reservation_and_rejoins_it() {
        let mut arenas = Arenas::default();
        arenas.add(0x1000..0x9000);
        arenas.remove(&(0x4000..0x5000));
        assert_eq!(arenas.ranges, [0x1000..0x4000, 0x5000..0x9000]);
        arenas.add(0x4000..0x5000);
        assert_eq!(arenas.ranges, vec![0x1000..0x9000]);
        arenas.remove(&(0x8000..0x9000));
        assert_eq!(arenas.ranges, vec![0x1000..0x8000]);
    }

    #[test]
    fn numbers_are_little_endian() {
        assert_eq!(number(&[0x34, 0x12, 0, 0]), 0x1234);
    }
}
