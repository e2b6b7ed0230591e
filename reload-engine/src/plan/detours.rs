//! One function whose thread-locals live in several blocks: those that stay in an older generation's, new ones in the new
//! generation's. The compiler asked for one block and reaches everything from its start.
//!
//! ```text
//! lea  pair(%rip), %rdi                 as before: the block that most accesses go to
//! call __tls_get_addr     ->  call prelude      asks for the other blocks first, so that this thread has them
//! ...
//! mov  off(%rax), %ecx    ->  jmp detour        mov %fs:8, %rax; mov 16*module(%rax), %rax    the other block's start
//!                                               mov other_off(%rax), %ecx
//!                                               mov %fs:8, %rax; mov 16*first(%rax), %rax     as it was
//!                                               jmp back
//! ```
//!
//! `%fs:8` is the thread's vector of blocks, 16 bytes for each module (glibc's `dtv`, which debuggers rely on as well); an
//! entry stays valid until its module is unloaded, which no generation is. Neither flags nor the stack are touched in a
//! detour. They stand behind the code, in the rest of its last page.

use iced_x86::Register;

use super::tls::{AskedBy, Pair};
use crate::{
    image::{BlockAccess, BlockRequest, Callee, Image},
    model::{Place, Vaddr},
};

/// Of an instruction that is replaced by a jump.
const JUMP: usize = 5;
/// The most that one detour takes.
const DETOUR: u64 = 64;
/// What a prelude takes, and what for each block.
const PRELUDE: u64 = 16;
const REQUEST: u64 = 16;
const PAGE: u64 = 0x1000;

/// A block: of the module with this id, or of the new generation itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Block {
    Own,
    Of(u64),
}

impl Block {
    fn module(self, place: Place) -> u64 {
        match self {
            Block::Own => place.tls_module,
            Block::Of(module) => module,
        }
    }
}

/// An access that goes to another block than the one whose start it is given.
#[derive(Clone, Debug)]
pub struct Detour {
    pub access: BlockAccess,
    pub given: Block,
    pub wanted: Block,
    /// Inside the wanted block.
    pub offset: u32,
    at: Vaddr,
}

/// A request for the block after which the thread must have others, too.
#[derive(Clone, Debug)]
pub struct Prelude {
    pub request: BlockRequest,
    /// The pairs of all blocks; the one that the function goes on with is last.
    pub pairs: Vec<AskedBy>,
    at: Vaddr,
}

/// Room behind the code.
#[derive(Debug)]
pub struct Room {
    next: u64,
    end: u64,
}

impl Room {
    /// The rest of the last page of code, where nothing else is mapped.
    pub fn of(image: &Image) -> Room {
        let segments = &image.tables.segments;
        let rest = |start: u64, size: u64| {
            let end = start + size;
            end.next_multiple_of(16)..end.next_multiple_of(PAGE)
        };
        let code = segments.iter().filter(|segment| segment.executable && !segment.writable && segment.memory_size > 0);
        let rests = code.map(|segment| rest(segment.address, segment.memory_size)).filter(|rest| {
            let page = rest.end - PAGE;
            segments
                .iter()
                .all(|other| other.address >= rest.end || other.address + other.memory_size <= page.max(rest.start))
        });
        let longest = rests.max_by_key(|rest| rest.end.saturating_sub(rest.start)).unwrap_or(0..0);
        Room { next: longest.start, end: longest.end }
    }

    fn take(&mut self, len: u64) -> Option<Vaddr> {
        let at = self.next;
        let fits = at.checked_add(len).is_some_and(|end| end <= self.end);
        fits.then(|| {
            self.next += len;
            Vaddr(at)
        })
    }

    pub fn detour(&mut self, access: BlockAccess, (given, wanted): (Block, Block), offset: u32) -> Option<Detour> {
        let long_enough = access.bytes.len() > JUMP && access.bytes.len() <= 15;
        let at = long_enough.then(|| self.take(DETOUR))??;
        Some(Detour { access, given, wanted, offset, at })
    }

    pub fn prelude(&mut self, request: BlockRequest, pairs: Vec<AskedBy>) -> Option<Prelude> {
        let at = if request.len >= JUMP { self.take(PRELUDE + REQUEST * pairs.len() as u64) } else { None }?;
        Some(Prelude { request, pairs, at })
    }
}

/// Pieces of code, each where it is to stand.
type Pieces = Vec<(Vaddr, Vec<u8>)>;

impl Detour {
    /// What is to stand where, once the shadow has a place.
    pub fn code(&self, place: Place) -> Pieces {
        let BlockAccess { at, bytes, site, register, overwrites } = &self.access;
        let mut code = start_of(*register, self.wanted.module(place));
        let mut access = bytes.clone();
        let field = (site.0 - at.0) as usize;
        access[field..field + 4].copy_from_slice(&self.offset.to_le_bytes());
        code.extend(access);
        if !overwrites {
            code.extend(start_of(*register, self.given.module(place)));
        }
        let back = Vaddr(at.0 + bytes.len() as u64);
        code.extend(branch(0xe9, Vaddr(self.at.0 + code.len() as u64), back));
        let mut jump = branch(0xe9, *at, self.at).to_vec();
        jump.resize(bytes.len(), 0x90);
        vec![(self.at, code), (*at, jump)]
    }
}

impl Prelude {
    /// `extra` tells where the additional pair of an index stands.
    pub fn code(&self, extra: impl Fn(usize) -> Vaddr) -> Pieces {
        let here = |code: &Vec<u8>| Vaddr(self.at.0 + code.len() as u64);
        // sub $8, %rsp: the stack is aligned at a call
        let mut code = vec![0x48, 0x83, 0xec, 0x08];
        for pair in &self.pairs {
            // lea pair(%rip), %rdi
            let next = Vaddr(here(&code).0 + 7);
            code.extend([0x48, 0x8d, 0x3d]);
            code.extend(distance(
                next,
                match *pair {
                    AskedBy::Extra(index) => extra(index),
                    AskedBy::Own(pair) => pair,
                },
            ));
            match self.request.callee {
                Callee::At(target) => code.extend(branch(0xe8, here(&code), target)),
                Callee::In(slot) => {
                    let next = Vaddr(here(&code).0 + 6);
                    code.extend([0xff, 0x15]);
                    code.extend(distance(next, slot));
                }
            }
        }
        // add $8, %rsp; ret
        code.extend([0x48, 0x83, 0xc4, 0x08, 0xc3]);
        let mut call = branch(0xe8, self.request.at, self.at).to_vec();
        call.resize(self.request.len, 0x90);
        vec![(self.at, code), (self.request.at, call)]
    }
}

/// The 32-bit fields that make up pieces of code, of at least four bytes each; those of one piece may overlap.
pub fn fields(pieces: Pieces) -> impl Iterator<Item = (Vaddr, [u8; 4])> {
    pieces.into_iter().flat_map(|(at, bytes)| {
        let last = bytes.len() - 4;
        let starts: Vec<usize> = (0..last).step_by(4).chain([last]).collect();
        starts.into_iter().map(move |start| {
            (Vaddr(at.0 + start as u64), [bytes[start], bytes[start + 1], bytes[start + 2], bytes[start + 3]])
        })
    })
}

/// `mov %fs:8, register; mov 16*module(register), register`
fn start_of(register: Register, module: u64) -> Vec<u8> {
    let number = register.number() as u8;
    let (low, high) = (number & 7, number >> 3);
    // REX.W with the register's high bit where it is named.
    let mut code = vec![0x64, 0x48 | high << 2, 0x8b, low << 3 | 4, 0x25, 8, 0, 0, 0];
    code.extend([0x48 | high << 2 | high, 0x8b, 0x80 | low << 3 | low]);
    if low == 4 {
        code.push(0x24);
    }
    code.extend(((module * 16) as u32).to_le_bytes());
    code
}

fn branch(opcode: u8, at: Vaddr, target: Vaddr) -> [u8; 5] {
    let [a, b, c, d] = distance(Vaddr(at.0 + 5), target);
    [opcode, a, b, c, d]
}

fn distance(next: Vaddr, target: Vaddr) -> [u8; 4] {
    // Both lie in the same file.
    (target.0.wrapping_sub(next.0) as u32).to_le_bytes()
}

/// The pair that asks for a block as a whole.
pub fn whole(block: Block) -> Option<Pair> {
    match block {
        Block::Own => None,
        Block::Of(module) => Some(Pair { module, offset: 0 }),
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, Mnemonic, Register};

    use super::start_of;

    #[test]
    fn every_register_is_loaded_with_a_blocks_start() {
        for register in [Register::RAX, Register::RBP, Register::R8, Register::R12, Register::R13, Register::RDI] {
            let code = start_of(register, 3);
            let found: Vec<_> = Decoder::with_ip(64, &code, 0, DecoderOptions::NONE)
                .iter()
                .map(|it| {
                    assert_eq!((it.mnemonic(), it.op0_register()), (Mnemonic::Mov, register), "{code:x?}");
                    assert_eq!(it.memory_index(), Register::None, "{code:x?}");
                    (it.memory_segment(), it.memory_base(), it.memory_displacement64())
                })
                .collect();
            let segment = if register == Register::RBP { Register::SS } else { Register::DS };
            assert_eq!(found, [(Register::FS, Register::None, 8), (segment, register, 48)], "{code:x?}");
        }
    }
}
