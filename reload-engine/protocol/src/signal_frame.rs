//! The frame that the kernel leaves on a thread's stack when it runs a signal handler. Never on the wire: both kinds of
//! stop, from outside and from inside, look for it, since a handler returns to wherever the thread was interrupted.
//!
//! x86-64 (`struct rt_sigframe`, `arch/x86/include/asm/sigframe.h`), upwards from the stack pointer a handler begins with:
//!
//! ```text
//! +0    where the handler returns to, `__restore_rt`
//! +8    ucontext: flags, link (0), alternate stack (24 bytes)
//! +48   r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx
//! +168  rsp, rip, flags
//! +192  cs, gs, fs, ss, 16 bits each
//! ```

/// How far above the stack pointer a frame is looked for, in bytes: more than handlers use before they wait for something.
pub const WINDOW: usize = 32 << 10;
/// Handlers that interrupted one another.
pub const NESTED: usize = 4;

const FLAGS: usize = 8;
const LINK: usize = 16;
const STACK_POINTER: usize = 168;
const PROGRAM_COUNTER: usize = 176;
const SEGMENTS: usize = 192;
const LEN: usize = 200;

/// `__USER_CS` and `__USER_DS`, and all flags of a ucontext that there are (`uapi/asm/ucontext.h`).
const CODE_SEGMENT: u64 = 0x33;
const STACK_SEGMENT: u64 = 0x2b;
const KNOWN_FLAGS: u64 = 7;

/// Where a handler will return to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted {
    pub pc: u64,
    pub stack: u64,
}

/// The first frame in `stack`, which was read from the (aligned) stack pointer upwards. What a frame left behind in memory
/// that is not in use any more looks the same; that only makes a reload wait.
pub fn find(stack: &[u8]) -> Option<Interrupted> {
    let word = |at: usize| stack.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    (0..(stack.len() + 1).saturating_sub(LEN)).step_by(8).find_map(|at| {
        let segments = word(at + SEGMENTS);
        let frame = segments & 0xffff == CODE_SEGMENT
            && matches!(segments >> 48, STACK_SEGMENT | 0)
            && word(at + FLAGS) <= KNOWN_FLAGS
            && word(at + LINK) == 0
            && word(at) != 0;
        frame.then(|| Interrupted { pc: word(at + PROGRAM_COUNTER), stack: word(at + STACK_POINTER) })
    })
}

/// Whether a thread with this stack pointer is in a handler that returns to where `forbidden` holds. `read` fills as much of
/// its second argument as can be read from the address on, and says how much that was.
pub fn any_returns_to(
    stack: u64,
    buffer: &mut [u8; WINDOW],
    mut read: impl FnMut(u64, &mut [u8]) -> usize,
    forbidden: impl Fn(u64) -> bool,
) -> bool {
    let mut from = stack & !7;
    for _ in 0..NESTED {
        let len = read(from, buffer).min(WINDOW);
        let Some(interrupted) = find(&buffer[..len]) else { return false };
        if forbidden(interrupted.pc) {
            return true;
        }
        from = interrupted.stack & !7;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{Interrupted, LEN, PROGRAM_COUNTER, SEGMENTS, STACK_POINTER, WINDOW, any_returns_to, find};

    fn frame(pc: u64, stack: u64) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let words = [(0, 0x1234), (8, 7), (STACK_POINTER, stack), (PROGRAM_COUNTER, pc), (SEGMENTS, 0x2b << 48 | 0x33)];
        for (at, word) in words {
            bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(word));
        }
        bytes
    }

    #[test]
    fn a_frame_is_found_wherever_it_lies() {
        let stack = [&[0x33; 64][..], &frame(0x5000, 0x7000), &[0; 40]].concat();
        assert_eq!(find(&stack), Some(Interrupted { pc: 0x5000, stack: 0x7000 }));
        assert_eq!(find(&stack[..stack.len() - 41]), None);
        assert_eq!(find(&[0; 4096]), None);
        assert_eq!(find(&[]), None);
    }

    #[test]
    fn frames_are_followed_from_one_to_the_next() {
        let mut memory = vec![0; 0x3000];
        memory[0x100..0x100 + LEN].copy_from_slice(&frame(0x5000, 0x2000));
        memory[0x2010..0x2010 + LEN].copy_from_slice(&frame(0x6000, 0x2800));
        let check = |forbidden: u64| {
            let mut buffer = [0; WINDOW];
            let read = |from: u64, into: &mut [u8]| {
                let rest = &memory[(from as usize).min(memory.len())..];
                let len = rest.len().min(into.len()).min(0x1000);
                into[..len].copy_from_slice(&rest[..len]);
                len
            };
            any_returns_to(3, &mut buffer, read, |pc| pc == forbidden)
        };
        assert!(check(0x5000) && check(0x6000));
        assert!(!check(0x7000));
    }
}
