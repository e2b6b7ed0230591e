//! Thread-locals of a program, which its code reaches at fixed distances from the thread pointer (psABI, "Thread-Local
//! Storage", local-exec): where those distances stand in the code.
//!
//! ```text
//! mov %fs:x@tpoff, %eax                               the distance is the operand
//! mov %fs:0, %rax; lea x@tpoff(%rax), %rax            the thread pointer first, also copied and kept in registers
//! mov $x@tpoff, %rax; mov %fs:(%rax), %eax            what linkers make of initial-exec code
//! mov $x@tpoff, %rax; mov %fs:0, %rdi; add %rax, %rdi the same, as rustc writes it for what other crates may use
//! ```
//!
//! Follows registers in a straight line only. What may be a distance and is not proven to be one is told apart.

use iced_x86::{ConstantOffsets, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::{
    code::{CALLEE_SAVED, accesses_memory},
    tls_block::APPROACH,
};

/// A 32-bit field that holds a distance from the thread pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    pub at: u64,
    /// Offset in the TLS block; one before it wraps around.
    pub offset: u64,
    /// There is no other reading.
    pub certain: bool,
}

/// Follows one function's instructions in the order of their addresses.
#[derive(Debug, Default)]
pub struct LocalExec {
    /// Bytes from the block's start to the thread pointer; 0 for a library, where nothing is looked for.
    block: u64,
    /// Registers that hold the thread pointer.
    holders: Vec<Register>,
    /// Registers that hold a constant which may be a distance, and where that stands.
    constants: Vec<(Register, Site)>,
    loads_thread_pointer: bool,
    sites: Vec<Site>,
}

impl LocalExec {
    /// `block`: bytes from the start of the program's TLS block to the thread pointer.
    pub fn new(block: u64) -> Self {
        LocalExec { block, ..LocalExec::default() }
    }

    /// `offsets` tells where the instruction's constants stand, which is asked of few.
    pub fn visit(&mut self, instruction: &Instruction, offsets: impl Fn() -> ConstantOffsets) {
        if self.block == 0 {
            return;
        }
        let by_segment = instruction.memory_segment() == Register::FS && accesses_memory(instruction);
        let base = instruction.memory_base().full_register();
        let plain = instruction.memory_index() == Register::None;
        // Behind a register with the distance there may be a field.
        if by_segment && plain && (base != Register::None || instruction.memory_displacement64() == 0) {
            self.through_thread_pointer(instruction, base);
        }
        self.meeting(instruction);
        if !instruction.is_ip_rel_memory_operand()
            && let Some(offset) = self.offset(instruction.memory_displacement64() as i64)
            && offsets().displacement_size() == 4
        {
            let at = instruction.ip() + offsets().displacement_offset() as u64;
            let held = self.holders.contains(&base);
            let inside = offset < self.block;
            // Assemblers write a small displacement in one byte; four bytes for one are a relocation's.
            let small = inside && self.block - offset <= 128 && accesses_memory(instruction);
            let frame = matches!(base, Register::RBP | Register::RSP);
            let certain = by_segment || held || small;
            if certain || (inside && !frame) {
                self.sites.push(Site { at, offset, certain });
            }
        }
        if instruction.op_count() == 2
            && instruction.op0_kind() == OpKind::Register
            && instruction.op1_kind() == OpKind::Immediate32to64
            && let Some(offset) = self.offset(instruction.immediate32to64())
            && offsets().immediate_size() == 4
        {
            let at = instruction.ip() + offsets().immediate_offset() as u64;
            let register = instruction.op0_register();
            if instruction.mnemonic() == Mnemonic::Mov {
                self.forget(register);
                self.constants.push((register, Site { at, offset, certain: true }));
                return;
            }
            if instruction.mnemonic() == Mnemonic::Add && self.holders.contains(&register) {
                self.sites.push(Site { at, offset, certain: true });
            }
        }
        self.after(instruction);
    }

    /// What was found, ascending. What is uncertain counts only where the thread pointer is used at all.
    pub fn finish(mut self) -> Vec<Site> {
        if !self.loads_thread_pointer {
            self.sites.retain(|site| site.certain);
        }
        self.sites.sort_unstable_by_key(|site| site.at);
        self.sites.dedup_by_key(|site| site.at);
        self.sites
    }

    /// What lies at the distance, or is reached from there by an index.
    fn offset(&self, distance: i64) -> Option<u64> {
        let reached = distance < 0 && distance.unsigned_abs() <= self.block + APPROACH;
        reached.then(|| self.block.wrapping_add_signed(distance))
    }

    /// `%fs:0`, or `%fs:(base)` where the base then is a distance.
    fn through_thread_pointer(&mut self, instruction: &Instruction, base: Register) {
        let adds_to = (instruction.mnemonic() == Mnemonic::Add && instruction.op0_kind() == OpKind::Register)
            .then(|| instruction.op0_register());
        self.loads_thread_pointer |= base == Register::None;
        let distance = if base == Register::None { adds_to } else { Some(base) };
        if let Some(distance) = distance
            && let Some(at) = self.constants.iter().position(|(register, _)| *register == distance)
        {
            self.sites.push(self.constants[at].1);
        }
    }

    /// A distance that comes to the thread pointer when both are in registers.
    fn meeting(&mut self, instruction: &Instruction) {
        let registers = [OpKind::Register; 2];
        let added =
            instruction.mnemonic() == Mnemonic::Add && [instruction.op0_kind(), instruction.op1_kind()] == registers;
        let (one, other) = if added {
            (instruction.op0_register(), instruction.op1_register())
        } else if instruction.memory_index_scale() == 1 {
            (instruction.memory_base(), instruction.memory_index())
        } else {
            return;
        };
        for (distance, pointer) in [(one, other), (other, one)] {
            let site = self.constants.iter().find(|(register, _)| *register == distance);
            self.sites.extend(site.filter(|_| self.holders.contains(&pointer)).map(|(_, site)| *site));
        }
    }

    fn forget(&mut self, register: Register) {
        self.holders.retain(|holder| *holder != register);
        self.constants.retain(|(holder, _)| *holder != register);
    }

    fn after(&mut self, instruction: &Instruction) {
        let holds_nothing = self.holders.is_empty() && self.constants.is_empty();
        if holds_nothing && instruction.memory_segment() != Register::FS {
            return;
        }
        match instruction.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall => {
                self.holders.retain(|holder| CALLEE_SAVED.contains(holder));
                self.constants.retain(|(holder, _)| CALLEE_SAVED.contains(holder));
                return;
            }
            FlowControl::UnconditionalBranch | FlowControl::IndirectBranch | FlowControl::Return => {
                self.holders.clear();
                self.constants.clear();
                return;
            }
            FlowControl::Next => {}
            _ => return,
        }
        if instruction.op_count() == 0 || instruction.op0_kind() != OpKind::Register {
            return;
        }
        if matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push) {
            return;
        }
        let written = instruction.op0_register().full_register();
        let moves = instruction.mnemonic() == Mnemonic::Mov && instruction.op_count() == 2;
        let copied = (moves && instruction.op1_kind() == OpKind::Register).then(|| instruction.op1_register());
        let loads = moves
            && instruction.memory_segment() == Register::FS
            && instruction.op1_kind() == OpKind::Memory
            && instruction.memory_base() == Register::None
            && instruction.memory_index() == Register::None
            && instruction.memory_displacement64() == 0;
        let holds = loads || copied.is_some_and(|register| self.holders.contains(&register));
        let constant = copied.and_then(|from| self.constants.iter().find(|(holder, _)| *holder == from).copied());
        self.forget(written);
        if holds {
            self.holders.push(written);
        }
        self.constants.extend(constant.map(|(_, site)| (written, site)));
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::{LocalExec, Site};

    /// Offsets and certainty of what is found in a function of a program with a block of 256 bytes.
    fn check(code: &[u8], expected: &[(u64, bool)]) {
        let mut decoder = Decoder::with_ip(64, code, 0x1000, DecoderOptions::NONE);
        let mut local_exec = LocalExec::new(256);
        while decoder.can_decode() {
            let instruction = decoder.decode();
            local_exec.visit(&instruction, || decoder.get_constant_offsets(&instruction));
        }
        let found: Vec<(u64, bool)> =
            local_exec.finish().iter().map(|Site { offset, certain, .. }| (*offset, *certain)).collect();
        assert_eq!(found, expected, "{code:x?}");
    }

    #[test]
    fn operands_of_the_segment() {
        // mov eax, fs:[-16]; mov fs:[-256], ecx; mov rax, fs:[0x28]
        check(&[0x64, 0x8b, 0x04, 0x25, 0xf0, 0xff, 0xff, 0xff], &[(240, true)]);
        check(&[0x64, 0x89, 0x0c, 0x25, 0x00, 0xff, 0xff, 0xff], &[(0, true)]);
        check(&[0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0], &[]);
    }

    #[test]
    fn before_the_block_an_index_leads_into_it() {
        const BEFORE: u64 = 8_u64.wrapping_neg();
        // mov rax, fs:[8*rdx-264]
        check(&[0x64, 0x48, 0x8b, 0x04, 0xd5, 0xf8, 0xfe, 0xff, 0xff], &[(BEFORE, true)]);
        // mov rax, fs:[0]; mov rax, [rax+8*rdx-264]
        const LOAD: [u8; 9] = [0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0];
        let indexed = [0x48, 0x8b, 0x84, 0xd0, 0xf8, 0xfe, 0xff, 0xff];
        check(&[&LOAD[..], &indexed].concat(), &[(BEFORE, true)]);
        // From elsewhere it is an ordinary displacement: mov rcx, [rcx+8*rdx-264]
        check(&[&LOAD[..], &[0x48, 0x8b, 0x8c, 0xd1, 0xf8, 0xfe, 0xff, 0xff]].concat(), &[]);
    }

    #[test]
    fn through_a_register() {
        const LOAD: [u8; 9] = [0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0];
        // lea rax, [rax-200]
        let lea = [0x48, 0x8d, 0x80, 0x38, 0xff, 0xff, 0xff];
        check(&[&LOAD[..], &lea].concat(), &[(56, true)]);
        // mov rcx, rax; lea rdx, [rcx-200]
        let copy = [0x48, 0x89, 0xc1, 0x48, 0x8d, 0x91, 0x38, 0xff, 0xff, 0xff];
        check(&[&LOAD[..], &copy].concat(), &[(56, true)]);
        // mov rax, rdi; lea rax, [rax-200]: not the thread pointer any more
        let other = [0x48, 0x89, 0xf8];
        check(&[&LOAD[..], &other, &lea].concat(), &[(56, false)]);
        // Without the thread pointer it is an ordinary pointer.
        check(&lea, &[]);
        // mov eax, [rbp-200] is the frame's.
        check(&[&LOAD[..], &[0x8b, 0x85, 0x38, 0xff, 0xff, 0xff]].concat(), &[]);
    }

    #[test]
    fn constants_that_become_distances() {
        // mov rax, -16
        const CONSTANT: [u8; 7] = [0x48, 0xc7, 0xc0, 0xf0, 0xff, 0xff, 0xff];
        check(&CONSTANT, &[]);
        // mov ecx, fs:[rax]
        check(&[&CONSTANT[..], &[0x64, 0x8b, 0x08]].concat(), &[(240, true)]);
        // add rax, fs:[0]
        check(&[&CONSTANT[..], &[0x64, 0x48, 0x03, 0x04, 0x25, 0, 0, 0, 0]].concat(), &[(240, true)]);
        // mov rdi, fs:[0]
        const LOAD: [u8; 9] = [0x64, 0x48, 0x8b, 0x3c, 0x25, 0, 0, 0, 0];
        // add rdi, rax; add rax, rdi; lea rcx, [rdi+rax]; mov ecx, [rax+rdi]
        let meetings: [&[u8]; 4] =
            [&[0x48, 0x01, 0xc7], &[0x48, 0x01, 0xf8], &[0x48, 0x8d, 0x0c, 0x07], &[0x8b, 0x0c, 0x38]];
        for meeting in meetings {
            check(&[&CONSTANT[..], &LOAD, meeting].concat(), &[(240, true)]);
            check(&[&LOAD[..], &CONSTANT, meeting].concat(), &[(240, true)]);
        }
        // A field: mov rcx, [rdi+rax+8]; mov ecx, fs:[rax+8]
        check(&[&CONSTANT[..], &LOAD, &[0x48, 0x8b, 0x4c, 0x07, 0x08]].concat(), &[(240, true)]);
        check(&[&CONSTANT[..], &[0x64, 0x8b, 0x48, 0x08]].concat(), &[(240, true)]);
        // add rdi, rcx; mov ecx, [rdi+2*rax]
        check(&[&CONSTANT[..], &LOAD, &[0x48, 0x01, 0xcf]].concat(), &[]);
        check(&[&CONSTANT[..], &LOAD, &[0x8b, 0x0c, 0x47]].concat(), &[]);
    }
}
