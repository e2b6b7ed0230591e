//! The link map, as `dl_iterate_phdr(3)` tells it.

use std::{
    ffi::{CStr, c_int, c_void},
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use reload_protocol::LoadedModule;

/// Names are short; when they do not fit, the buffers are doubled and the walk starts again.
const FIRST_NAMES: usize = 64 << 10;
const FIRST_MODULES: usize = 512;

struct Entry {
    name: std::ops::Range<usize>,
    bias: u64,
    start: u64,
    end: u64,
    tls_module: u64,
}

struct Walk {
    entries: Vec<Entry>,
    names: Vec<u8>,
    overflow: bool,
    closed: u64,
}

/// Every module of the process, in load order, the executable (with an empty path) first.
pub fn loaded() -> Vec<LoadedModule> {
    link_map().0
}

/// The same, and how many modules the process has closed before.
pub fn link_map() -> (Vec<LoadedModule>, u64) {
    let mut scale = 1;
    loop {
        let mut walk = Walk {
            entries: Vec::with_capacity(FIRST_MODULES * scale),
            names: Vec::with_capacity(FIRST_NAMES * scale),
            overflow: false,
            closed: 0,
        };
        // SAFETY: `visit` has the expected type, and `walk` outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(visit), ptr::from_mut(&mut walk).cast()) };
        if !walk.overflow {
            let Walk { entries, names, closed, .. } = walk;
            let closed = closed - OWN.load(Ordering::Relaxed);
            return (entries.into_iter().map(|entry| module(entry, &names)).collect(), closed);
        }
        scale *= 2;
    }
}

/// How many of them the agent has closed itself.
static OWN: AtomicU64 = AtomicU64::new(0);

/// Does something that may close a module, which is nobody's affair but the agent's.
pub fn closing<T>(work: impl FnOnce() -> T) -> T {
    let before = all_closed();
    let done = work();
    OWN.fetch_add(all_closed() - before, Ordering::Relaxed);
    done
}

/// How many modules the process has closed, without those that were the agent's.
pub fn closed() -> u64 {
    all_closed() - OWN.load(Ordering::Relaxed)
}

fn all_closed() -> u64 {
    unsafe extern "C" fn note(info: *mut libc::dl_phdr_info, _size: usize, data: *mut c_void) -> c_int {
        // SAFETY: `data` is the number that `closed` passed; the loader passes a valid description.
        unsafe { *data.cast::<u64>() = (*info).dlpi_subs };
        // Every module's description has it.
        1
    }
    let mut closed = 0u64;
    // SAFETY: `note` has the expected type, and `closed` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(note), ptr::from_mut(&mut closed).cast()) };
    closed
}

fn module(entry: Entry, names: &[u8]) -> LoadedModule {
    let Entry { name, bias, start, end, tls_module } = entry;
    LoadedModule { path: String::from_utf8_lossy(&names[name]).into_owned(), bias, start, end, tls_module }
}

/// Runs under the loader's lock: it does not allocate, since a thread inside the allocator may be waiting for that lock.
unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, data: *mut c_void) -> c_int {
    // SAFETY: `data` is the `Walk` that `loaded` passed, used by nobody else during the call.
    let walk = unsafe { &mut *data.cast::<Walk>() };
    // SAFETY: the loader passes a valid description for the duration of the call.
    let info = unsafe { &*info };
    let name = if info.dlpi_name.is_null() {
        &[]
    } else {
        // SAFETY: a terminated string of the loader's, kept alive by its lock.
        unsafe { CStr::from_ptr(info.dlpi_name) }.to_bytes()
    };
    let fits = |used: usize, capacity: usize, more: usize| capacity - used >= more;
    if !fits(walk.entries.len(), walk.entries.capacity(), 1)
        || !fits(walk.names.len(), walk.names.capacity(), name.len())
    {
        walk.overflow = true;
        return 1;
    }
    let headers = if info.dlpi_phdr.is_null() {
        &[]
    } else {
        // SAFETY: `dlpi_phnum` program headers of a loaded module.
        unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) }
    };
    let (mut start, mut end) = (u64::MAX, 0);
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD) {
        let from = info.dlpi_addr.wrapping_add(header.p_vaddr);
        start = start.min(from);
        end = end.max(from.wrapping_add(header.p_memsz));
    }
    walk.closed = info.dlpi_subs;
    let from = walk.names.len();
    walk.names.extend_from_slice(name);
    walk.entries.push(Entry {
        name: from..walk.names.len(),
        bias: info.dlpi_addr,
        start: start.min(end),
        end,
        tls_module: info.dlpi_tls_modid as u64,
    });
    0
}
