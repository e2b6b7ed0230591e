//! Which registers hold a number that stands in the code.
//!
//! Follows instructions in the order of their addresses, and forgets where that is not an order of control: what is known is
//! what at least one way through the code leads to.

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, InstructionInfoOptions, Mnemonic, OpAccess, OpKind, Register,
};

use super::code::CALLEE_SAVED;

pub struct Numbers {
    /// By the full register.
    known: Vec<(Register, i64)>,
    factory: InstructionInfoFactory,
}

impl Numbers {
    /// At the start of a function.
    pub fn none() -> Self {
        Numbers { known: Vec::new(), factory: InstructionInfoFactory::new() }
    }

    /// What all 64 bits of the register hold.
    pub fn of(&self, register: Register) -> Option<i64> {
        self.known.iter().find(|(known, _)| *known == register).map(|(_, number)| *number)
    }

    /// Takes the instruction as done.
    pub fn follow(&mut self, instruction: &Instruction) {
        match instruction.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall => {
                self.known.retain(|(register, _)| CALLEE_SAVED.contains(register));
                return;
            }
            FlowControl::UnconditionalBranch | FlowControl::IndirectBranch | FlowControl::Return => {
                self.known.clear();
                return;
            }
            _ => {}
        }
        let set = self.set_by(instruction);
        if !self.known.is_empty() {
            let info = self.factory.info_options(instruction, InstructionInfoOptions::NO_MEMORY_USAGE);
            for used in info.used_registers() {
                if !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess) {
                    let written = used.register().full_register();
                    self.known.retain(|(register, _)| *register != written);
                }
            }
        }
        self.known.extend(set);
    }

    /// The register that it sets to a number, and which.
    fn set_by(&self, instruction: &Instruction) -> Option<(Register, i64)> {
        if instruction.op_count() != 2 || instruction.op0_kind() != OpKind::Register {
            return None;
        }
        let register = instruction.op0_register();
        // A 32-bit result clears the upper half (Intel SDM volume 1, 3.4.1.1); shorter ones leave the rest as it was.
        if !register.is_gpr32() && !register.is_gpr64() {
            return None;
        }
        let full = register.full_register();
        let source = (instruction.op1_kind() == OpKind::Register).then(|| instruction.op1_register());
        let number = match instruction.mnemonic() {
            Mnemonic::Mov => match instruction.op1_kind() {
                OpKind::Immediate32 | OpKind::Immediate64 | OpKind::Immediate32to64 => instruction.immediate(1) as i64,
                OpKind::Register if register.is_gpr64() => self.of(source?)?,
                _ => return None,
            },
            Mnemonic::Xor | Mnemonic::Sub if source == Some(register) => 0,
            _ => return None,
        };
        Some((full, number))
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, Register};

    use super::Numbers;

    /// What `%rdx` holds after each way to get there.
    fn check(code: &[&[u8]], expected: Option<i64>) {
        let code = code.concat();
        let mut numbers = Numbers::none();
        for instruction in &mut Decoder::with_ip(64, &code, 0x1000, DecoderOptions::NONE) {
            numbers.follow(&instruction);
        }
        assert_eq!(numbers.of(Register::RDX), expected, "{code:x?}");
    }

    #[test]
    fn a_number_is_known_until_something_else_is_written() {
        // mov edx, 1; mov edx, -1; mov rdx, -1
        const ONE: &[u8] = &[0xba, 1, 0, 0, 0];
        check(&[ONE], Some(1));
        check(&[&[0xba, 0xff, 0xff, 0xff, 0xff]], Some(0xffff_ffff));
        check(&[&[0x48, 0xc7, 0xc2, 0xff, 0xff, 0xff, 0xff]], Some(-1));
        // xor edx, edx; xor eax, eax and mov rdx, rax
        check(&[ONE, &[0x31, 0xd2]], Some(0));
        check(&[&[0x31, 0xc0], &[0x48, 0x89, 0xc2]], Some(0));
        // add rdx, 1; mov dl, 3; xchg rax, rdx; cqo; mul rcx; mov edx, [rsi]
        for writes in
            [&[0x48, 0x83, 0xc2, 1][..], &[0xb2, 3], &[0x48, 0x92], &[0x48, 0x99], &[0x48, 0xf7, 0xe1], &[0x8b, 0x16]]
        {
            check(&[ONE, writes], None);
        }
        // mov [rsi], rdx; cmp rdx, rcx; test and jump forward: still there.
        check(&[ONE, &[0x48, 0x89, 0x16], &[0x48, 0x39, 0xca], &[0x48, 0x85, 0xc0, 0x74, 2]], Some(1));
    }

    #[test]
    fn where_control_comes_from_elsewhere_nothing_is_known() {
        // mov edx, 1; then jmp, ret, call. rbx survives a call: mov ebx, 2; call; mov rdx, rbx.
        const ONE: &[u8] = &[0xba, 1, 0, 0, 0];
        check(&[ONE, &[0xeb, 4]], None);
        check(&[ONE, &[0xc3]], None);
        check(&[ONE, &[0xe8, 0, 0, 0, 0]], None);
        check(&[&[0xbb, 2, 0, 0, 0], &[0xe8, 0, 0, 0, 0], &[0x48, 0x89, 0xda]], Some(2));
    }
}
