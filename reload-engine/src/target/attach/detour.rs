//! What is specific to x86-64 about making a thread do something and come back: system calls through an instruction that its
//! libc has, code that calls `dlopen` and the agent, and the frame that brings the thread back by itself.
//!
//! A thread is sent on a detour by one change of its registers; what leads it back lies in its own memory before that:
//!
//! ```text
//!             the thread's stack                      the area (mmap, one page of code, data, a stack)
//!   higher    ...                                     +--------------------------------------------+
//!             rsp of the program                      | STUB: errno, dlopen, dlsym, agent, errno,  |
//!             128 bytes of red zone                   |       then munmap(area) by the gadget      |
//!             XSAVE area, 64-byte aligned             +--------------------------------------------+
//!             ucontext: registers, signal mask        | Call: addresses, texts, results            |
//!   rsp ->    address of libc's __restore_rt          +--------------------------------------------+
//!   lower                                             | its stack                                  |
//! ```
//!
//! The gadget is `syscall; ret`. Its `ret` goes to `__restore_rt`, which calls `rt_sigreturn(2)`: the kernel takes registers,
//! vector state and signal mask from the frame, as at the end of a signal handler. So whatever becomes of the tracer, the
//! thread comes back. (While the tracer lives it prevents that and restores the thread by ptrace, which is exact also for a
//! system call that the kernel has to resume with its remaining time.)

use std::{
    arch::global_asm,
    cell::UnsafeCell,
    io,
    mem::{MaybeUninit, offset_of},
    ptr, slice,
};

use nix::libc::{self, user_regs_struct};

use crate::target::registers::restarted_by_hand;

/// Bytes below the stack pointer that belong to the running function (System V ABI, AMD64 supplement, 3.2.2).
const RED_ZONE: u64 = 128;
/// `syscall; ret`
pub const GADGET: &[u8] = &[0x0f, 0x05, 0xc3];
/// `mov $15, %rax; syscall`: libc's `__restore_rt`, to which signal handlers return.
pub const RESTORER: &[u8] = &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
/// The length of the gadget's `syscall`.
pub const SYSCALL: u64 = 2;

/// The area: code, [`Call`], stack.
pub const CODE: u64 = 4096;
pub const DATA: u64 = 8192;
const STACK: u64 = 512 << 10;
pub const AREA: u64 = CODE + DATA + STACK;

/// TF and DF of RFLAGS: neither may be set in code of ours.
const TRAP_AND_DIRECTION: u64 = 0x500;
/// The default of MXCSR: every exception masked.
const MXCSR: u32 = 0x1f80;
const TEXT: usize = 1024;
/// For the helper to send, in seconds; it waits for nothing meanwhile.
const PASSING: i64 = 2;

/// Written before the stub runs, read after it.
///
/// Where the target has other files than we, ours come to it through a pair of sockets: the stub makes them and waits for a
/// message, the helper takes one end (`pidfd_getfd(2)`) and sends. Whatever becomes of the helper, the stub closes what it has
/// opened.
#[repr(C)]
pub struct Call {
    pub errno_location: u64,
    pub dlopen: u64,
    pub dlsym: u64,
    /// Zero where there is none.
    pub dlerror: u64,
    pub gadget: u64,
    pub area: u64,
    /// The stack pointer for the gadget: where the frame is.
    pub frame: u64,
    pub flags: u64,
    /// What `dlopen` and `dlsym` gave.
    pub handle: u64,
    pub start: u64,
    /// What the agent's start gave.
    pub status: i64,
    /// The loader's text, if `dlopen` or `dlsym` gave nothing.
    pub message: u64,
    pub mxcsr: u32,
    /// Whether files of ours are to come.
    pub passing: u32,
    /// The pair of sockets.
    pub pair: [i32; 2],
    /// How long the stub waits for the message.
    pub patience: libc::timeval,
    pub letter: libc::msghdr,
    pub part: libc::iovec,
    pub byte: u64,
    pub passed: Passed,
    /// What receiving the message, or making the sockets, gave.
    pub received: i64,
    pub library: Text,
    pub symbol: Text,
    pub store: Text,
}

/// Room for two descriptors in a message (`cmsg(3)`); -1 as long as they have not come.
#[repr(C)]
pub struct Passed {
    pub header: [u64; 2],
    pub library: i32,
    pub listener: i32,
}

/// A terminated text.
#[repr(C)]
pub struct Text([u8; TEXT]);

impl Text {
    /// # Errors
    /// It is too long or has a zero inside.
    pub fn of(bytes: &[u8]) -> io::Result<Text> {
        if bytes.len() >= TEXT || bytes.contains(&0) {
            return Err(io::Error::other(format!("a path of {} bytes, or with a zero inside", bytes.len())));
        }
        let mut text = [0; TEXT];
        text[..bytes.len()].copy_from_slice(bytes);
        Ok(Text(text))
    }
}

impl Text {
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Passed {
    pub const NONE: Passed = Passed { header: [0; 2], library: -1, listener: -1 };
}

impl Call {
    pub const MXCSR: u32 = MXCSR;

    /// Lays out the receiving of a message, for a call that is written to `at`.
    pub fn expect_files(&mut self, at: u64) {
        let inside = |offset: usize| (at + offset as u64) as *mut libc::c_void;
        self.passing = 1;
        self.patience = libc::timeval { tv_sec: PASSING, tv_usec: 0 };
        self.part = libc::iovec { iov_base: inside(offset_of!(Call, byte)), iov_len: 1 };
        self.letter.msg_iov = inside(offset_of!(Call, part)).cast();
        self.letter.msg_iovlen = 1;
        self.letter.msg_control = inside(offset_of!(Call, passed));
        self.letter.msg_controllen = size_of::<Passed>() as _;
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: integers, addresses and bytes in `repr(C)`, made from all zeroes: what padding there is in `letter` is set.
        unsafe { slice::from_raw_parts(ptr::from_ref(self).cast(), size_of::<Call>()) }
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Call> {
        if bytes.len() < size_of::<Call>() {
            return None;
        }
        // SAFETY: long enough, any bits are a valid `Call`, and the read asks for no alignment.
        Some(unsafe { bytes.as_ptr().cast::<Call>().read_unaligned() })
    }
}

const _: () = assert!(size_of::<Call>() <= DATA as usize);

// `rbx` points at the `Call`; the stack is the area's. `rbx`, `r12` and `r13` are kept by the functions called.
global_asm!(
    ".pushsection .rodata.attach_stub, \"a\"",
    ".global reload_attach_stub",
    ".global reload_attach_stub_end",
    "reload_attach_stub:",
    "cld",
    "fninit",
    "ldmxcsr [rbx + {mxcsr}]",
    "call [rbx + {errno_location}]",
    "mov r12, rax",
    "mov r13d, [rax]",
    "cmp dword ptr [rbx + {passing}], 0",
    "je 5f",
    // socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)
    "mov edi, {unix}",
    "mov esi, {packets}",
    "xor edx, edx",
    "lea r10, [rbx + {pair}]",
    "mov eax, {socketpair}",
    "syscall",
    "mov [rbx + {received}], rax",
    "test rax, rax",
    "jnz 3f",
    // setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, patience, 16)
    "mov edi, [rbx + {pair}]",
    "mov esi, {socket_level}",
    "mov edx, {receive_timeout}",
    "lea r10, [rbx + {patience}]",
    "mov r8d, 16",
    "mov eax, {setsockopt}",
    "syscall",
    // recvmsg(pair[0], letter, MSG_CMSG_CLOEXEC)
    "mov edi, [rbx + {pair}]",
    "lea rsi, [rbx + {letter}]",
    "mov edx, {close_on_exec}",
    "mov eax, {recvmsg}",
    "syscall",
    "mov [rbx + {received}], rax",
    "mov edi, [rbx + {pair}]",
    "mov eax, {close}",
    "syscall",
    "mov edi, [rbx + {pair} + 4]",
    "mov eax, {close}",
    "syscall",
    "cmp dword ptr [rbx + {passed} + {listener}], 0",
    "jl 4f",
    "5:",
    // An agent that is loaded is only to be started again.
    "mov rax, [rbx + {start}]",
    "test rax, rax",
    "jnz 6f",
    "lea rdi, [rbx + {library}]",
    "mov rsi, [rbx + {flags}]",
    "call [rbx + {dlopen}]",
    "mov [rbx + {handle}], rax",
    "test rax, rax",
    "jz 2f",
    "mov rdi, rax",
    "lea rsi, [rbx + {symbol}]",
    "call [rbx + {dlsym}]",
    "mov [rbx + {start}], rax",
    "test rax, rax",
    "jz 2f",
    "6:",
    "lea rdi, [rbx + {store}]",
    "mov esi, [rbx + {passed} + {listener}]",
    "call rax",
    "mov [rbx + {status}], rax",
    "jmp 4f",
    "2:",
    "cmp qword ptr [rbx + {dlerror}], 0",
    "je 4f",
    "call [rbx + {dlerror}]",
    "mov [rbx + {message}], rax",
    "4:",
    "cmp dword ptr [rbx + {passing}], 0",
    "je 3f",
    // What has not come is -1, which closes nothing.
    "mov edi, [rbx + {passed} + {descriptor}]",
    "mov eax, {close}",
    "syscall",
    "mov edi, [rbx + {passed} + {listener}]",
    "mov eax, {close}",
    "syscall",
    "3:",
    "mov [r12], r13d",
    // munmap(area, AREA), from the program's own stack.
    "mov rdi, [rbx + {area}]",
    "mov esi, {length}",
    "mov eax, {munmap}",
    "mov rsp, [rbx + {frame}]",
    "jmp [rbx + {gadget}]",
    "reload_attach_stub_end:",
    ".popsection",
    mxcsr = const offset_of!(Call, mxcsr),
    errno_location = const offset_of!(Call, errno_location),
    library = const offset_of!(Call, library),
    flags = const offset_of!(Call, flags),
    dlopen = const offset_of!(Call, dlopen),
    handle = const offset_of!(Call, handle),
    symbol = const offset_of!(Call, symbol),
    dlsym = const offset_of!(Call, dlsym),
    start = const offset_of!(Call, start),
    store = const offset_of!(Call, store),
    status = const offset_of!(Call, status),
    dlerror = const offset_of!(Call, dlerror),
    message = const offset_of!(Call, message),
    area = const offset_of!(Call, area),
    length = const AREA,
    munmap = const libc::SYS_munmap,
    frame = const offset_of!(Call, frame),
    gadget = const offset_of!(Call, gadget),
    passing = const offset_of!(Call, passing),
    pair = const offset_of!(Call, pair),
    patience = const offset_of!(Call, patience),
    letter = const offset_of!(Call, letter),
    passed = const offset_of!(Call, passed),
    descriptor = const offset_of!(Passed, library),
    listener = const offset_of!(Passed, listener),
    received = const offset_of!(Call, received),
    unix = const libc::AF_UNIX,
    packets = const libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC,
    socketpair = const libc::SYS_socketpair,
    socket_level = const libc::SOL_SOCKET,
    receive_timeout = const libc::SO_RCVTIMEO,
    setsockopt = const libc::SYS_setsockopt,
    close_on_exec = const libc::MSG_CMSG_CLOEXEC,
    recvmsg = const libc::SYS_recvmsg,
    close = const libc::SYS_close,
);

unsafe extern "C" {
    static reload_attach_stub: u8;
    static reload_attach_stub_end: u8;
}

/// The code that runs in the target; it may lie anywhere.
pub fn stub() -> &'static [u8] {
    let (start, end) = (&raw const reload_attach_stub, &raw const reload_attach_stub_end);
    // SAFETY: two symbols of the same section, in that order, with the stub's bytes between them.
    unsafe { slice::from_raw_parts(start, end.offset_from(start) as usize) }
}

/// Registers for a system call by the gadget, from `frame` on.
pub fn system_call(
    from: &user_regs_struct,
    gadget: u64,
    frame: u64,
    number: libc::c_long,
    arguments: [u64; 6],
) -> user_regs_struct {
    let [rdi, rsi, rdx, r10, r8, r9] = arguments;
    let eflags = from.eflags & !TRAP_AND_DIRECTION;
    user_regs_struct {
        rip: gadget,
        rsp: frame,
        rax: number as u64,
        orig_rax: u64::MAX,
        rdi,
        rsi,
        rdx,
        r10,
        r8,
        r9,
        eflags,
        ..*from
    }
}

/// Registers for the stub in the area at `area`.
pub fn stub_call(from: &user_regs_struct, area: u64) -> user_regs_struct {
    let eflags = from.eflags & !TRAP_AND_DIRECTION;
    // As before a call: aligned to 16.
    let rsp = area + AREA - 64;
    user_regs_struct { rip: area, rbx: area + CODE, rsp, rbp: 0, orig_rax: u64::MAX, eflags, ..*from }
}

/// How the kernel of this machine lays out vector state in signal frames.
#[derive(Clone, Copy)]
pub struct VectorFormat {
    /// `struct _fpx_sw_bytes`, at offset 464 of the area: magic, sizes, features.
    description: [u8; 48],
}

const DESCRIPTION: usize = 464;
/// `FP_XSTATE_MAGIC1` and `2`, before and after (`asm/sigcontext.h`).
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// The area that FXSAVE writes, which is all there is without XSAVE.
const LEGACY: usize = 512;

struct Slot(UnsafeCell<MaybeUninit<VectorFormat>>);
// SAFETY: the helper is a process with one thread, and the handler runs while that waits in `raise`.
unsafe impl Sync for Slot {}
static SEEN: Slot = Slot(UnsafeCell::new(MaybeUninit::zeroed()));

impl VectorFormat {
    /// Asks the kernel, by receiving a signal: what it put onto our stack tells.
    pub fn of_this_machine() -> VectorFormat {
        // SAFETY: all zeroes is a valid `sigaction`; the handler is async-signal-safe, and `raise` has delivered the signal to
        // this thread when it returns (signal-safety(7), raise(3)).
        unsafe {
            let mut ours = MaybeUninit::<libc::sigaction>::zeroed();
            let mut before = MaybeUninit::<libc::sigaction>::zeroed();
            (*ours.as_mut_ptr()).sa_sigaction = look as *const () as usize;
            (*ours.as_mut_ptr()).sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGUSR1, ours.as_ptr(), before.as_mut_ptr());
            libc::raise(libc::SIGUSR1);
            libc::sigaction(libc::SIGUSR1, before.as_ptr(), ptr::null_mut());
            (*SEEN.0.get()).assume_init()
        }
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes([0, 1, 2, 3].map(|offset| self.description[at + offset]))
    }

    /// Of the vector state without the closing magic.
    fn size(&self) -> usize {
        if self.word(0) == MAGIC1 { self.word(16) as usize } else { LEGACY }
    }

    /// A state that ptrace gave, as a signal frame has it.
    fn dress(&self, state: &[u8]) -> Vec<u8> {
        let size = self.size();
        let mut dressed = state[..state.len().min(size)].to_vec();
        dressed.resize(size, 0);
        dressed[DESCRIPTION..DESCRIPTION + self.description.len()].copy_from_slice(&self.description);
        if self.word(0) == MAGIC1 {
            dressed.extend(MAGIC2.to_le_bytes());
        }
        dressed
    }
}

extern "C" fn look(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a context, in which `fpregs` points at the vector state in the same frame.
    unsafe {
        let state = (*context.cast::<libc::ucontext_t>()).uc_mcontext.fpregs.cast::<u8>();
        if !state.is_null() {
            let description = state.add(DESCRIPTION).cast::<[u8; 48]>().read_unaligned();
            (*SEEN.0.get()).write(VectorFormat { description });
        }
    }
}

/// UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS (`asm/ucontext.h`)
const UC_FLAGS: u64 = 7;
/// No mode that exists: the kernel then leaves the alternate signal stack as it is (`restore_altstack` passes over EINVAL).
const NO_SUCH_STACK_MODE: u64 = 0x100;

/// What `rt_sigreturn` finds: where it must lie, and its bytes.
pub struct Frame {
    /// The stack pointer with which the gadget must be entered.
    pub at: u64,
    pub bytes: Vec<u8>,
}

impl Frame {
    /// The frame that restores this state.
    pub fn new(registers: &user_regs_struct, state: &[u8], mask: u64, restorer: u64, format: &VectorFormat) -> Frame {
        let vectors = format.dress(state);
        let vectors_at = (registers.rsp - RED_ZONE - vectors.len() as u64) & !63;
        let back = restarted_by_hand(registers);
        let segments =
            back.cs & 0xffff | (back.gs & 0xffff) << 16 | (back.fs & 0xffff) << 32 | (back.ss & 0xffff) << 48;
        // The return address that `__restore_rt` was reached by, then `struct ucontext` with `struct sigcontext` in it.
        let words = [
            restorer,
            UC_FLAGS,
            0,
            0,
            NO_SUCH_STACK_MODE,
            0, // up to uc_stack
            back.r8,
            back.r9,
            back.r10,
            back.r11,
            back.r12,
            back.r13,
            back.r14,
            back.r15, // sigcontext
            back.rdi,
            back.rsi,
            back.rbp,
            back.rbx,
            back.rdx,
            back.rax,
            back.rcx,
            back.rsp,
            back.rip,
            back.eflags,
            segments,
            0,
            0,
            0,
            0,
            vectors_at,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0, // err, trapno, oldmask, cr2, fpstate, reserved
            mask,
        ];
        let at = (vectors_at - size_of_val(&words) as u64) & !15;
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize((vectors_at - at) as usize, 0);
        bytes.extend(vectors);
        Frame { at, bytes }
    }
}

#[cfg(test)]
mod tests {
    use nix::libc::user_regs_struct;

    use super::{Call, Frame, Text, VectorFormat, stub};

    #[test]
    fn frame_lies_below_the_red_zone_with_aligned_vectors() {
        // SAFETY: integers only.
        let mut registers: user_regs_struct = unsafe { std::mem::zeroed() };
        (registers.rsp, registers.rip, registers.rax, registers.orig_rax) = (0x7fff_1238, 0x4000, -516i64 as u64, 35);
        let format = VectorFormat::of_this_machine();
        let frame = Frame::new(&registers, &[7; 64], 0x11, 0x9999, &format);
        let word = |index: usize| u64::from_le_bytes(frame.bytes[index * 8..][..8].try_into().expect("eight bytes"));
        assert!(frame.at + frame.bytes.len() as u64 <= registers.rsp - 128);
        assert_eq!((frame.at % 16, word(0), word(29) % 64), (0, 0x9999, 0));
        let (rsp, rip, rax, mask) = (word(21), word(22), word(19), word(38));
        // Begun anew: the call's number, at the call's instruction.
        assert_eq!((rsp, rip, rax, mask), (registers.rsp, 0x3ffe, 35, 0x11));
    }

    #[test]
    fn stub_fits_its_page_and_texts_are_bounded() {
        assert!(!stub().is_empty() && stub().len() < 512);
        assert!(Text::of(&[b'a'; 2000]).is_err() && Text::of(b"/tmp/x.so").is_ok());
        assert!(Call::from_bytes(&[0; 16]).is_none());
    }
}
