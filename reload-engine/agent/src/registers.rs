//! What is specific to x86-64 about the context that a signal handler is given.

use std::ffi::c_void;

/// Page-fault error code bit: the fault was an instruction fetch.
const INSTRUCTION_FETCH: i64 = 1 << 4;

/// Where the interrupted thread will go on.
///
/// # Safety
/// `context` is the third argument of a handler installed with SA_SIGINFO, which is still running.
pub unsafe fn pc(context: *mut c_void) -> u64 {
    // SAFETY: as promised by the caller.
    unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RIP as usize] as u64 }
}

/// Its stack pointer.
///
/// # Safety
/// As for [`pc`].
pub unsafe fn stack(context: *mut c_void) -> u64 {
    // SAFETY: as promised by the caller.
    unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RSP as usize] as u64 }
}

/// Whether the fault came from running an address, rather than from reading or writing it.
///
/// # Safety
/// As for [`pc`], in a handler of SIGSEGV.
pub unsafe fn was_instruction_fetch(context: *mut c_void) -> bool {
    // SAFETY: as promised by the caller.
    let error = unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_ERR as usize] };
    error & INSTRUCTION_FETCH != 0
}
