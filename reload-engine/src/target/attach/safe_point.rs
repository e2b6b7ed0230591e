//! Where a thread may be sent off to load a library: not while it, or anything that called it, is in the loader, in malloc, in
//! fork, or beginning or ending a thread, since it may hold their locks.
//!
//! What other threads hold does not matter: they run on and let go of it. Nothing is stopped or changed here.

use std::{ops::Range, time::Duration};

use framehop::{
    ExplicitModuleSectionInfo, FrameAddress, Unwinder,
    x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64},
};
use nix::libc::{self, user_regs_struct};

use super::{
    detour::{GADGET, RESTORER},
    memory::Memory,
    modules::{self, Module, Symbol},
};
use crate::target::maps::Mapping;

/// Deeper than what calls the loader or malloc ever lies.
const MOST_FRAMES: usize = 2048;
/// Of a stack that cannot be unwound, how much is searched for return addresses.
const SEARCHED: usize = 16 << 10;
/// A library that exports `malloc` and has more code than this does not consist of an allocator.
const LARGEST_ALLOCATOR: u64 = 2 << 20;

pub const LIBC: &str = "libc.so.6";
const LOADER: &str = "ld-linux-x86-64.so.2";
/// Before glibc 2.34 threads and `dlopen` had libraries of their own.
const PARTS: [&str; 3] = [LIBC, "libpthread.so.0", "libdl.so.2"];

/// Functions of malloc's file; the others, which no symbol names, lie between them.
const MALLOC: [&str; 14] = [
    "malloc",
    "free",
    "calloc",
    "realloc",
    "memalign",
    "aligned_alloc",
    "valloc",
    "pvalloc",
    "posix_memalign",
    "malloc_trim",
    "malloc_usable_size",
    "mallopt",
    "malloc_stats",
    "malloc_info",
];
const ALLOCATOR: [&str; 8] =
    ["malloc", "free", "calloc", "realloc", "memalign", "aligned_alloc", "posix_memalign", "malloc_usable_size"];
/// Hold locks that `dlopen` or the start of a thread needs, or run in a child that shares memory.
const NEVER: [&str; 24] = [
    "dlopen",
    "dlmopen",
    "dlclose",
    "dlsym",
    "dlvsym",
    "dladdr",
    "dladdr1",
    "dlinfo",
    "dlerror",
    "dl_iterate_phdr",
    "fork",
    "_Fork",
    "__libc_fork",
    "vfork",
    "pthread_create",
    "pthread_exit",
    "pthread_cancel",
    "exit",
    "quick_exit",
    "__cxa_finalize",
    "__cxa_atexit",
    "__register_atfork",
    "pthread_atfork",
    "abort",
];
/// The same, but most of their time they only wait.
const UNLESS_WAITING: [&str; 5] =
    ["pthread_join", "pthread_timedjoin_np", "pthread_clockjoin_np", "pthread_tryjoin_np", "pthread_detach"];

/// Calls in which a thread waits for something from outside, by their numbers.
const WAITING: [libc::c_long; 27] = [
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_select,
    libc::SYS_pselect6,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_futex,
    libc::SYS_pause,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_restart_syscall,
    libc::SYS_msgrcv,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_io_getevents,
];

/// What is known about the code of one process, until it loads more or becomes another program.
pub struct SafePoints {
    unwinder: UnwinderX86_64<Vec<u8>>,
    never: Vec<(Range<u64>, String)>,
    unless_waiting: Vec<(Range<u64>, String)>,
    libc: Range<u64>,
    /// Why an allocator is woven into other code, so that only a thread which waits is surely outside of it.
    woven: Option<String>,
    pub functions: Functions,
}

/// Addresses in the process that the detour needs.
#[derive(Clone, Debug)]
pub struct Functions {
    pub dlopen: u64,
    pub dlsym: u64,
    pub dlerror: u64,
    pub errno_location: u64,
    /// For `dlopen`.
    pub flags: u64,
    pub gadget: u64,
    pub restorer: u64,
}

/// Why a process cannot be taken yet, or at all.
#[derive(Debug)]
pub enum Unfit {
    /// libc is not mapped: too early, if the program is dynamic.
    NoLibc,
    Lacks(&'static str),
}

impl SafePoints {
    pub fn of(memory: &Memory, mappings: &[Mapping]) -> Result<SafePoints, Unfit> {
        let modules = modules::loaded(memory, mappings);
        let libc = modules.iter().find(|module| module.name == LIBC).ok_or(Unfit::NoLibc)?;
        let mut never: Vec<(Range<u64>, String)> = Vec::new();
        let mut unless_waiting = Vec::new();
        let mut woven = None;
        for module in &modules {
            if module.name == LOADER {
                never.extend(module.code.iter().map(|code| (code.clone(), "the dynamic loader".to_owned())));
            } else if PARTS.contains(&&*module.name) {
                let named = |names: &[&str]| {
                    let symbols = module.symbols(memory, |name| names.iter().any(|wanted| wanted.as_bytes() == name));
                    symbols
                        .into_iter()
                        .map(|Symbol { name, range }| (range.start..range.end.max(range.start + 16), name))
                        .collect::<Vec<_>>()
                };
                never.extend(named(&NEVER));
                unless_waiting.extend(named(&UNLESS_WAITING));
            } else {
                let allocator = module.symbols(memory, |name| ALLOCATOR.iter().any(|wanted| wanted.as_bytes() == name));
                if !allocator.iter().any(|symbol| symbol.name == "malloc") {
                    continue;
                }
                let size: u64 = module.code.iter().map(|code| code.end - code.start).sum();
                if size > LARGEST_ALLOCATOR {
                    woven = Some(module.name.clone());
                    never.extend(allocator.into_iter().map(|symbol| (symbol.range, symbol.name)));
                } else {
                    never.extend(
                        module.code.iter().map(|code| (code.clone(), format!("the allocator {}", module.name))),
                    );
                }
            }
        }
        never.push((malloc(libc, memory).ok_or(Unfit::Lacks("malloc"))?, "malloc".to_owned()));
        let functions = Functions::find(&modules, libc, memory)?;
        Ok(SafePoints {
            unwinder: unwinder(&modules, memory),
            never,
            unless_waiting,
            libc: libc.range.clone(),
            woven,
            functions,
        })
    }

    /// Whether the process still is what it was: another program has its libc elsewhere.
    pub fn hold_for(&self, mappings: &[Mapping]) -> bool {
        mappings.iter().any(|mapping| mapping.start.0 == self.libc.start && mapping.offset == 0)
    }

    /// Why the stopped thread with these registers must not be sent off now; `None` if it may be.
    pub fn why_not(&self, memory: &Memory, registers: &user_regs_struct) -> Option<String> {
        let call = registers.orig_rax as i64;
        let waits = WAITING.contains(&call);
        if let Some(module) = self.woven.as_ref().filter(|_| !waits || call == libc::SYS_futex) {
            return Some(format!("the allocator is part of {module}, and the thread does not wait for anything"));
        }
        let place = |address: u64| {
            let find = |all: &[(Range<u64>, String)]| {
                all.iter().find(|(range, _)| range.contains(&address)).map(|(_, name)| name.clone())
            };
            find(&self.never).or_else(|| find(&self.unless_waiting).filter(|_| !waits))
        };
        let mut cache = CacheX86_64::<_>::new();
        let mut state = UnwindRegsX86_64::new(registers.rip, registers.rsp, registers.rbp);
        let mut address = FrameAddress::from_instruction_pointer(registers.rip);
        let mut outside_libc = false;
        for _ in 0..MOST_FRAMES {
            let at = address.address_for_lookup();
            if let Some(name) = place(at) {
                return Some(format!("it is in {name}"));
            }
            outside_libc |= !self.libc.contains(&at);
            let mut read = |address: u64| memory.word(address).ok_or(());
            match self.unwinder.unwind_frame(address, &mut state, &mut cache, &mut read) {
                Ok(Some(next)) => match FrameAddress::from_return_address(next) {
                    Some(next) => address = next,
                    None => break,
                },
                Ok(None) => break,
                // Code without unwind tables: no known return address in what follows may be of a forbidden place.
                Err(_) => {
                    let found = return_addresses(memory, state.sp()).find_map(|found| place(found - 1));
                    return found.map(|name| format!("it may be in {name}"));
                }
            }
        }
        // A thread that begins or ends.
        (!outside_libc).then(|| "it is in libc only".to_owned())
    }
}

/// Words on the stack that follow a call instruction.
fn return_addresses(memory: &Memory, from: u64) -> impl Iterator<Item = u64> {
    let bytes = memory.read_some(from, SEARCHED);
    let words: Vec<u64> =
        bytes.chunks_exact(8).filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?))).collect();
    words.into_iter().filter(move |&word| follows_call(memory, word))
}

/// `call rel32` has five bytes; `call *...` begins with ff /2 and has two to seven.
fn follows_call(memory: &Memory, address: u64) -> bool {
    const BEFORE: usize = 7;
    let Some(start) = address.checked_sub(BEFORE as u64) else { return false };
    let Ok(bytes) = memory.read(start, BEFORE) else { return false };
    let indirect = |len: usize| bytes[BEFORE - len] == 0xff && bytes[BEFORE - len + 1] & 0x38 == 0x10;
    bytes[BEFORE - 5] == 0xe8 || [2, 3, 4, 6, 7].into_iter().any(indirect)
}

/// From the last function before those of malloc to the first one after them.
fn malloc(libc: &Module, memory: &Memory) -> Option<Range<u64>> {
    let code = libc.symbols(memory, |_| true);
    let is_malloc = |symbol: &&Symbol| MALLOC.contains(&&*symbol.name);
    let low = code.iter().filter(is_malloc).map(|symbol| symbol.range.start).min()?;
    let high = code.iter().filter(is_malloc).map(|symbol| symbol.range.end).max()?;
    let in_code = |symbol: &&Symbol| libc.has_code_at(symbol.range.start);
    let before = code.iter().filter(in_code).map(|symbol| symbol.range.end).filter(|&end| end <= low).max();
    let after = code.iter().filter(in_code).map(|symbol| symbol.range.start).filter(|&start| start >= high).min();
    Some(before.unwrap_or(low)..after.unwrap_or(high))
}

fn unwinder(modules: &[Module], memory: &Memory) -> UnwinderX86_64<Vec<u8>> {
    let mut unwinder = UnwinderX86_64::new();
    for module in modules {
        let Some(tables) = module.unwind_tables(memory) else { continue };
        let stated =
            |range: &Range<u64>| Some(range.start.wrapping_sub(module.bias)..range.end.wrapping_sub(module.bias));
        let sections = ExplicitModuleSectionInfo {
            base_svma: module.range.start.wrapping_sub(module.bias),
            eh_frame_hdr_svma: stated(&tables.index.0),
            eh_frame_hdr: Some(tables.index.1),
            eh_frame_svma: stated(&tables.frames.0),
            eh_frame: Some(tables.frames.1),
            ..Default::default()
        };
        unwinder.add_module(framehop::Module::new(
            module.name.clone(),
            module.range.clone(),
            module.range.start,
            sections,
        ));
    }
    unwinder
}

/// `dlopen`'s flag for callers inside libc (`__RTLD_DLOPEN`, glibc's dlfcn.h).
const FROM_LIBC: u64 = 0x8000_0000;

impl Functions {
    fn find(modules: &[Module], libc: &Module, memory: &Memory) -> Result<Functions, Unfit> {
        let anywhere = |name: &str| {
            let parts = modules.iter().filter(|module| PARTS.contains(&&*module.name));
            parts.filter_map(|module| module.symbol(memory, name)).next()
        };
        let flags = (libc::RTLD_NOW | libc::RTLD_NODELETE) as u64;
        // Before 2.34, and without libdl, libc has its own under names of its own.
        let (dlopen, dlsym, flags) = match (anywhere("dlopen"), anywhere("dlsym")) {
            (Some(dlopen), Some(dlsym)) => (dlopen, dlsym, flags),
            _ => {
                let open = anywhere("__libc_dlopen_mode").ok_or(Unfit::Lacks("dlopen"))?;
                (open, anywhere("__libc_dlsym").ok_or(Unfit::Lacks("dlsym"))?, flags | FROM_LIBC)
            }
        };
        Ok(Functions {
            dlopen,
            dlsym,
            dlerror: anywhere("dlerror").unwrap_or(0),
            errno_location: anywhere("__errno_location").ok_or(Unfit::Lacks("__errno_location"))?,
            flags,
            gadget: in_code(libc, memory, GADGET).ok_or(Unfit::Lacks("a system call followed by a return"))?,
            restorer: in_code(libc, memory, RESTORER).ok_or(Unfit::Lacks("the return from signal handlers"))?,
        })
    }
}

fn in_code(module: &Module, memory: &Memory, wanted: &[u8]) -> Option<u64> {
    module.code.iter().find_map(|code| {
        let bytes = memory.read_some(code.start, (code.end - code.start) as usize);
        let at = bytes.windows(wanted.len()).position(|window| window == wanted)?;
        Some(code.start + at as u64)
    })
}

/// How likely a thread is at a safe point: the least first. `call` is the field of `/proc/PID/task/TID/syscall`.
pub fn promise(call: &str) -> u32 {
    match call.split(' ').next().and_then(|number| number.parse::<libc::c_long>().ok()) {
        Some(number) if WAITING.contains(&number) => 0,
        Some(_) => 1,
        None => 2,
    }
}

/// Between two rounds over the threads: another each time, so that who does something every millisecond is met at another
/// phase.
pub fn pause(round: u32) -> Duration {
    Duration::from_micros(200 + u64::from(round) * 37 % 1000 * (1 + u64::from(round) / 50))
}
