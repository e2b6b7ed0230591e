//! The no-exec window: text is closed to execution while its entries are written, and opened again. Data whose mapping is
//! replaced is closed to writing in the same way.
//!
//! Normally every other thread is stopped from before it is closed until after it is open again. Should the stopper die in
//! between, the threads run on; whoever enters closed text faults, is parked by the handler here and tries again when the
//! text is open. So half-written entries are never executed. (A thread that blocks SIGSEGV cannot be parked; and it can only
//! meet closed text in the microseconds between its stopper's death and the agent's answer to that.)
//!
//! Between `close` and `open` nothing here allocates, locks or calls what might: a stopped thread may hold any lock.

use std::{
    cell::UnsafeCell,
    ffi::{c_int, c_void},
    mem::MaybeUninit,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering},
    },
};

use reload_protocol::Segment;

use crate::{errno, ledger, memory, registers, set_errno, shadow::range_of, shield::Cover, transaction::Staged};

/// `MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE`
const SYNC_CORE: libc::c_long = 1 << 5;
/// `MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE`
const REGISTER_SYNC_CORE: libc::c_long = 1 << 6;

const OPEN: u32 = 0;
const CLOSED: u32 = 1;
const WRITING: u32 = 2;

/// Where the window stands; parked threads wait for [`OPEN`].
static STATE: AtomicU32 = AtomicU32::new(OPEN);
/// The transaction the window was last closed for, a counted reference. It stays as long as the handler is installed: a
/// fault may be delivered after the text was opened again.
static STAGED: AtomicPtr<Staged> = AtomicPtr::new(ptr::null_mut());
/// Threads inside the handler.
static INSIDE: AtomicU32 = AtomicU32::new(0);
static INSTALLED: AtomicBool = AtomicBool::new(false);

struct Disposition(UnsafeCell<MaybeUninit<libc::sigaction>>);
// SAFETY: written by the agent's thread before the handler that reads it is installed, and never while it is.
unsafe impl Sync for Disposition {}
/// The host's own disposition of SIGSEGV.
static HOST: Disposition = Disposition(UnsafeCell::new(MaybeUninit::uninit()));

/// Why a window could not be closed; text is open again. No strings: threads are stopped.
pub enum Obstacle {
    Handler { errno: i32 },
    Protect { address: u64, errno: i32 },
    Changed { address: u64 },
    Unmapped { address: u64 },
}

impl Obstacle {
    pub fn describe(&self) -> String {
        match self {
            Obstacle::Handler { errno } => format!("installing the SIGSEGV handler: errno {errno}"),
            Obstacle::Protect { address, errno } => format!("changing the protection at {address:#x}: errno {errno}"),
            Obstacle::Changed { address } => format!("the code at {address:#x} was changed by somebody else meanwhile"),
            Obstacle::Unmapped { address } => format!("the data at {address:#x} was unmapped meanwhile"),
        }
    }
}

/// Registers this process for the barrier that follows every write. Before it has a second thread that is free; later the
/// kernel waits for a grace period of all processors, many milliseconds and at times seconds. Until then there is no barrier.
pub fn prepare() {
    // SAFETY: a kernel without it answers an error, and then the return from each stopped thread's system call serialises it.
    unsafe { libc::syscall(libc::SYS_membarrier, REGISTER_SYNC_CORE, 0, 0) };
}

/// Closed text. Dropping it opens the text unchanged.
pub struct Window<'a> {
    staged: &'a Arc<Staged>,
    closed: usize,
    opened: usize,
    /// How many covers' places are read-only.
    guarded: usize,
}

impl<'a> Window<'a> {
    /// [`restore_disposition`] must have succeeded since the last window.
    pub fn close(staged: &'a Arc<Staged>) -> Result<Window<'a>, Obstacle> {
        let before = STAGED.swap(Arc::into_raw(Arc::clone(staged)).cast_mut(), Ordering::AcqRel);
        debug_assert!(before.is_null());
        install().map_err(|errno| Obstacle::Handler { errno })?;
        STATE.store(CLOSED, Ordering::Release);
        let mut window = Window { staged, closed: 0, opened: 0, guarded: 0 };
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        // On an early return the window is dropped, which undoes what was done so far.
        for segment in &staged.text {
            let protect = memory::protect(&range_of(segment), writable);
            protect.map_err(|errno| Obstacle::Protect { address: segment.range.start, errno })?;
            window.closed += 1;
        }
        for segment in &staged.data {
            let protect = memory::protect(&range_of(segment), writable);
            protect.map_err(|errno| Obstacle::Protect { address: segment.range.start, errno })?;
            window.opened += 1;
        }
        for cover in &staged.covers {
            // Should the stopper die, whoever writes here is parked too.
            let protect = memory::protect(&range_of(&cover.segment()), libc::PROT_READ);
            protect.map_err(|errno| Obstacle::Protect { address: cover.segment().range.start, errno })?;
            window.guarded += 1;
        }
        for patch in &staged.patches {
            let mut found = [0; 8];
            let len = usize::from(patch.len);
            // SAFETY: inside `text` (checked when staged), all of which `mprotect` has just found mapped.
            unsafe { ptr::copy_nonoverlapping(patch.address as *const u8, found.as_mut_ptr(), len) };
            if found[..len] != patch.before[..len] {
                return Err(Obstacle::Changed { address: patch.address });
            }
        }
        let writes = staged.writes.iter().map(|write| (write.address, write.bytes.len()));
        for (first, len) in writes.chain(staged.merges.iter().map(|(merge, _)| (merge.address, merge.after.len()))) {
            let last = first + (len as u64).saturating_sub(1);
            for address in [first, last] {
                if len > 0 && !memory::read_into(address, &mut [0]) {
                    return Err(Obstacle::Unmapped { address });
                }
            }
        }
        Ok(window)
    }

    /// Writes everything and opens the text.
    pub fn write(self) {
        STATE.store(WRITING, Ordering::Release);
        store(self.staged);
        ledger::publish();
        drop(self);
        // SAFETY: makes every core that runs this process serialise before it runs user code again.
        unsafe { libc::syscall(libc::SYS_membarrier, SYNC_CORE, 0, 0) };
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        self.staged.covers[..self.guarded].iter().for_each(|cover| reopen(&[cover.segment()]));
        reopen(&self.staged.data[..self.opened]);
        reopen(&self.staged.text[..self.closed]);
        STATE.store(OPEN, Ordering::Release);
        wake();
    }
}

fn store(staged: &Staged) {
    for patch in &staged.patches {
        let at = patch.address as *mut u8;
        for (offset, &byte) in patch.after[..usize::from(patch.len)].iter().enumerate() {
            // SAFETY: inside `text`, which is mapped and writable while the window is closed.
            unsafe { at.add(offset).write_volatile(byte) };
        }
    }
    for write in &staged.writes {
        // SAFETY: found mapped when the window was closed, and writable: either it was, or `data` was opened.
        unsafe { ptr::copy_nonoverlapping(write.bytes.as_ptr(), write.address as *mut u8, write.bytes.len()) };
    }
    for (merge, left_out) in &staged.merges {
        let (at, len) = (merge.address as *mut u8, merge.after.len());
        // SAFETY: as for writes. Volatile, as threads that run on while the stopper is gone may be writing there; each byte
        // is then old or new, as with any unsynchronised access of the program's own.
        let same = (0..len).all(|offset| unsafe { at.add(offset).read_volatile() } == merge.before[offset]);
        if same {
            // SAFETY: found mapped when the window was closed, and writable.
            unsafe { ptr::copy_nonoverlapping(merge.after.as_ptr(), at, len) };
        }
        left_out.store(!same, Ordering::Release);
    }
    staged.covers.iter().for_each(Cover::put_on_stopped);
}

/// Nobody can run text that stays closed, so this does not give up: where the kernel refuses the old protection it may
/// still grant the writable one.
fn reopen(segments: &[Segment]) {
    for segment in segments {
        let range = range_of(segment);
        let protection = segment.protection as c_int;
        if memory::protect(&range, protection).is_err() {
            let _ = memory::protect(&range, protection | libc::PROT_WRITE);
        }
    }
}

/// In a child forked by a thread that ran on while the window was closed there is no agent to open it.
pub fn finish_in_child() {
    let state = STATE.swap(OPEN, Ordering::AcqRel);
    if state == OPEN {
        return;
    }
    // SAFETY: while the state is not `OPEN` the transaction is alive; the child has a copy of all of the parent's memory.
    let staged = unsafe { &*STAGED.load(Ordering::Acquire) };
    if state == WRITING {
        store(staged);
        ledger::publish();
    }
    staged.covers.iter().for_each(|cover| reopen(&[cover.segment()]));
    reopen(&staged.data);
    reopen(&staged.text);
}

fn install() -> Result<(), i32> {
    if INSTALLED.load(Ordering::Acquire) {
        return Ok(());
    }
    let mut ours = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zeroes is a valid `sigaction`, and `sa_mask` is emptied by `sigemptyset`.
    let ours = unsafe {
        libc::sigemptyset(&raw mut (*ours.as_mut_ptr()).sa_mask);
        let ours = ours.assume_init_mut();
        ours.sa_sigaction = on_fault as *const () as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK | libc::SA_RESTART;
        ours
    };
    // The handler reads the host's disposition, so it is written before the handler can run.
    // SAFETY: `HOST` is the agent thread's alone while the handler is not installed.
    let status = unsafe {
        let host = (*HOST.0.get()).as_mut_ptr();
        if libc::sigaction(libc::SIGSEGV, ptr::null(), host) == 0 {
            libc::sigaction(libc::SIGSEGV, ours, ptr::null_mut())
        } else {
            -1
        }
    };
    if status != 0 {
        return Err(errno());
    }
    INSTALLED.store(true, Ordering::Release);
    Ok(())
}

/// Gives SIGSEGV back to the host and the window's transaction to its other owner. Only when no thread can be on its
/// way into the handler: either all have been stopped since before the window was closed, or they have had time to
/// arrive. `false` if one is still inside.
pub fn restore_disposition() -> bool {
    if INSIDE.load(Ordering::Acquire) != 0 {
        return false;
    }
    if INSTALLED.load(Ordering::Acquire) {
        give_back();
        INSTALLED.store(false, Ordering::Release);
    }
    let staged = STAGED.swap(ptr::null_mut(), Ordering::AcqRel);
    if !staged.is_null() {
        // SAFETY: the reference that `close` counted. The caller has another, so nothing is freed here.
        drop(unsafe { Arc::from_raw(staged) });
    }
    true
}

fn give_back() {
    let mut current = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: `HOST` was written by `install`. If the host has set its own handler meanwhile, that one stays.
    unsafe {
        if libc::sigaction(libc::SIGSEGV, ptr::null(), current.as_mut_ptr()) == 0
            && (*current.as_ptr()).sa_sigaction == on_fault as *const () as usize
        {
            libc::sigaction(libc::SIGSEGV, (*HOST.0.get()).as_ptr(), ptr::null_mut());
        }
    }
}

fn wake() {
    // SAFETY: wakes whoever waits on a static of ours.
    unsafe { libc::syscall(libc::SYS_futex, STATE.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, c_int::MAX) };
}

fn wait_until_open() {
    loop {
        let state = STATE.load(Ordering::Acquire);
        if state == OPEN {
            return;
        }
        let forever = ptr::null::<libc::timespec>();
        // SAFETY: waits on a static of ours while it still has the value seen.
        unsafe {
            let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
            libc::syscall(libc::SYS_futex, STATE.as_ptr(), operation, state, forever)
        };
    }
}

/// Parks a thread that entered closed text; anything else is the host's.
unsafe extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    INSIDE.fetch_add(1, Ordering::AcqRel);
    let saved = errno();
    // SAFETY: with SA_SIGINFO the kernel passes valid pointers for the duration of the handler.
    let (code, address, fetch) =
        unsafe { ((*info).si_code, (*info).si_addr() as u64, registers::was_instruction_fetch(context)) };
    let ours = code > 0 && in_closed_memory(address, fetch);
    // SAFETY: written before this handler was installed, and not written again while a thread is counted as inside.
    let host = unsafe { (*HOST.0.get()).assume_init() };
    if ours {
        // If it is open by now the thread just tries again.
        wait_until_open();
    }
    // The host's handler may never return (siglongjmp).
    INSIDE.fetch_sub(1, Ordering::AcqRel);
    if !ours {
        // SAFETY: the arguments are the kernel's own.
        unsafe { pass_on(&host, signal, info, context) };
    }
    set_errno(saved);
}

/// In text that is closed to execution, or in data whose mapping is being replaced.
fn in_closed_memory(address: u64, fetch: bool) -> bool {
    let staged = STAGED.load(Ordering::Acquire);
    if staged.is_null() {
        return false;
    }
    // SAFETY: counted until `restore_disposition`, which finds this thread inside and does nothing.
    let staged = unsafe { &*staged };
    if fetch {
        staged.text.iter().any(|segment| range_of(segment).contains(&address))
    } else {
        staged.covers.iter().any(|cover| cover.contains(address))
    }
}

/// Does what would have happened without the agent.
unsafe fn pass_on(host: &libc::sigaction, signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    if host.sa_sigaction == libc::SIG_DFL || host.sa_sigaction == libc::SIG_IGN {
        // SAFETY: `info` is valid. A fault happens again when this returns and then meets the host's disposition; a signal
        // that was sent does not, so it is sent again.
        unsafe {
            libc::sigaction(signal, host, ptr::null_mut());
            if (*info).si_code <= 0 && host.sa_sigaction == libc::SIG_DFL {
                libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::syscall(libc::SYS_gettid), signal);
            }
        }
        return;
    }
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: calls the host's handler with the arguments, the mask and the convention that it asked for.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &host.sa_mask, before.as_mut_ptr());
        if host.sa_flags & libc::SA_SIGINFO != 0 {
            let handler: unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                std::mem::transmute(host.sa_sigaction);
            handler(signal, info, context);
        } else {
            let handler: unsafe extern "C" fn(c_int) = std::mem::transmute(host.sa_sigaction);
            handler(signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
    }
}
