//! What code does with an address that it has taken: whether it reads there, before it or behind it, or only compares.
//!
//! Follows registers and stack slots in the order of the instructions, not of control; it is evidence for one reading of an
//! address or another, and only asked where nothing better is known.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::{CodeReference, Image};
use crate::model::Vaddr;

/// The first thing that is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Memory is accessed so many bytes from it.
    At(i64),
    /// Memory is accessed so many bytes from it and an index.
    Indexed(i64),
    /// Other addresses are compared with it, and no more.
    Compared,
    /// It is handed on, or nothing can be said.
    Unknown,
}

/// How many instructions are looked at.
const LIMIT: usize = 200;

/// A register, or a slot of the stack frame by its base register and displacement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    Register(Register),
    Slot(Register, i64),
}

/// What the function of this index does with an offset in its block of thread-locals that stands at `site`.
pub fn first_access_in_block(image: &Image, function: u32, site: Vaddr) -> Access {
    let (start, end) = (image.functions[function as usize].address, image.functions[function as usize].end);
    let code = image.bytes_from(start);
    let len = (end.0.saturating_sub(start.0) as usize).min(code.len());
    let mut decoder = Decoder::with_ip(64, &code[..len], start.0, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if instruction.next_ip() <= site.0 {
            continue;
        }
        let indexed = instruction.memory_index() != Register::None;
        let mut trail = Trail::default();
        match instruction.mnemonic() {
            Mnemonic::Lea if indexed => return Access::Unknown,
            Mnemonic::Lea | Mnemonic::Add if instruction.op0_kind() == OpKind::Register => {
                trail.held.push((Holder::Register(instruction.op0_register()), 0));
            }
            _ if indexed => return Access::Indexed(0),
            _ => return Access::At(0),
        }
        return trail.first_access(&mut decoder);
    }
    Access::Unknown
}

/// What becomes of the address that `lea` takes at this reference.
pub fn first_access(image: &Image, reference: &CodeReference) -> Access {
    let end = reference.function.map_or(reference.next, |function| image.functions[function as usize].end);
    // REX.W 8D /r disp32
    let start = Vaddr(reference.site.0.wrapping_sub(3));
    let code = image.bytes_from(start);
    let len = (end.0.saturating_sub(start.0) as usize).min(code.len());
    let mut decoder = Decoder::with_ip(64, &code[..len], start.0, DecoderOptions::NONE);
    if !decoder.can_decode() {
        return Access::Unknown;
    }
    let taken = decoder.decode();
    if taken.code() != Code::Lea_r64_m || taken.ip_rel_memory_address() != reference.target.0 {
        return Access::Unknown;
    }
    let mut trail = Trail::default();
    trail.held.push((Holder::Register(taken.op0_register()), 0));
    trail.first_access(&mut decoder)
}

#[derive(Default)]
struct Trail {
    /// Who holds the address, and how many bytes away from it.
    held: Vec<(Holder, i64)>,
    compared: bool,
}

impl Trail {
    /// What the instructions that follow do.
    fn first_access(mut self, decoder: &mut Decoder<'_>) -> Access {
        let mut instruction = Instruction::default();
        for _ in 0..LIMIT {
            if !decoder.can_decode() {
                break;
            }
            decoder.decode_out(&mut instruction);
            if instruction.is_invalid() {
                break;
            }
            if let Some(access) = self.follow(&instruction) {
                return access;
            }
            if self.held.is_empty() {
                break;
            }
        }
        if self.compared { Access::Compared } else { Access::Unknown }
    }

    fn of(&self, holder: Holder) -> Option<i64> {
        self.held.iter().find(|(known, _)| *known == holder).map(|(_, offset)| *offset)
    }

    fn set(&mut self, holder: Holder, offset: Option<i64>) {
        self.held.retain(|(known, _)| *known != holder);
        self.held.extend(offset.map(|offset| (holder, offset)));
    }

    fn follow(&mut self, instruction: &Instruction) -> Option<Access> {
        let slot = slot(instruction);
        if instruction.op_count() > 0
            && (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory)
            && slot.is_none()
            && instruction.mnemonic() != Mnemonic::Nop
        {
            let base = self.of(Holder::Register(instruction.memory_base()));
            let index = instruction.memory_index();
            let displacement = instruction.memory_displacement64() as i64;
            let through_index =
                if instruction.memory_index_scale() == 1 { self.of(Holder::Register(index)) } else { None };
            if let Some(offset) = base.or(through_index) {
                let at = offset.wrapping_add(displacement);
                let indexed = index != Register::None;
                match (instruction.mnemonic() == Mnemonic::Lea, indexed) {
                    (false, false) => return Some(Access::At(at)),
                    (false, true) => return Some(Access::Indexed(at)),
                    (true, false) => {
                        self.set(Holder::Register(instruction.op0_register()), Some(at));
                        return None;
                    }
                    (true, true) => return Some(Access::Unknown),
                }
            }
        }
        match instruction.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall => {
                self.held.retain(|(holder, _)| match holder {
                    Holder::Register(register) => super::code::CALLEE_SAVED.contains(register),
                    Holder::Slot(..) => true,
                });
                return None;
            }
            FlowControl::Return => {
                self.held.clear();
                return None;
            }
            _ => {}
        }
        let read = |operand: u32| match instruction.op_kind(operand) {
            OpKind::Register => self.of(Holder::Register(instruction.op_register(operand))),
            OpKind::Memory => slot.and_then(|slot| self.of(slot)),
            _ => None,
        };
        if matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test) {
            self.compared |= (0..instruction.op_count()).any(|operand| read(operand).is_some());
            return None;
        }
        if instruction.op_count() == 0 || matches!(instruction.mnemonic(), Mnemonic::Push | Mnemonic::Nop) {
            return None;
        }
        let written = match instruction.op0_kind() {
            OpKind::Register => Holder::Register(instruction.op0_register().full_register()),
            OpKind::Memory => slot?,
            _ => return None,
        };
        let step = || match instruction.op1_kind() {
            OpKind::Immediate8to64 | OpKind::Immediate32to64 => Some(instruction.immediate(1) as i64),
            _ => None,
        };
        let result = match instruction.mnemonic() {
            Mnemonic::Mov if instruction.op_count() == 2 => read(1),
            Mnemonic::Add => read(0).zip(step()).map(|(offset, step)| offset.wrapping_add(step)),
            Mnemonic::Sub => read(0).zip(step()).map(|(offset, step)| offset.wrapping_sub(step)),
            _ => None,
        };
        self.set(written, result);
        None
    }
}

/// The stack slot that the instruction accesses.
fn slot(instruction: &Instruction) -> Option<Holder> {
    let base = instruction.memory_base();
    let plain = matches!(base, Register::RBP | Register::RSP) && instruction.memory_index() == Register::None;
    plain.then(|| Holder::Slot(base, instruction.memory_displacement64() as i64))
}
