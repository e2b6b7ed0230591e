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

/// An address that is known by where it was taken.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// The reference that takes it.
    origin: Vaddr,
    /// How many bytes away from it.
    offset: i64,
    /// The holder itself has been moved on, as a pointer is that walks through an array.
    walks: bool,
}

/// What an instruction does with addresses that are held.
enum Use {
    Access(Access),
    Compare(Option<Held>, Option<Held>),
}

/// Those of the references at `sites`, ascending, in a function which are the two ends of a walk: a pointer that starts
/// at the one is moved on and compared with the other. Both then belong to one object (C17 6.5.9, 6.5.6).
pub fn walks(image: &Image, function: u32, sites: &[Vaddr]) -> Vec<(Vaddr, Vaddr)> {
    let mut decoder = decoder_of(image, function);
    let mut instruction = Instruction::default();
    let mut trail = Trail::default();
    let mut ends = Vec::new();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if let Some(Use::Compare(Some(one), Some(other))) = trail.follow(&instruction)
            && one.origin != other.origin
            && (one.walks || other.walks)
        {
            ends.push((one.origin, other.origin));
        }
        let next = sites.partition_point(|site| site.0 < instruction.ip());
        let here = sites.get(next).filter(|site| site.0 < instruction.next_ip());
        let takes = match instruction.mnemonic() {
            Mnemonic::Lea => instruction.memory_index() == Register::None,
            Mnemonic::Add => instruction.op0_kind() == OpKind::Register,
            _ => false,
        };
        if takes && let Some(site) = here {
            trail.start(instruction.op0_register(), *site);
        }
    }
    ends
}

fn decoder_of(image: &Image, function: u32) -> Decoder<'_> {
    let (start, end) = (image.functions[function as usize].address, image.functions[function as usize].end);
    let code = image.bytes_from(start);
    let len = (end.0.saturating_sub(start.0) as usize).min(code.len());
    Decoder::with_ip(64, &code[..len], start.0, DecoderOptions::NONE)
}

/// What the function of this index does with an offset in its block of thread-locals that stands at `site`.
pub fn first_access_in_block(image: &Image, function: u32, site: Vaddr) -> Access {
    let mut decoder = decoder_of(image, function);
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
                trail.start(instruction.op0_register(), site);
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
    follow_lea(image, reference, |trail, decoder| trail.first_access(decoder)).unwrap_or(Access::Unknown)
}

/// The size of an element, in bytes, where a loop goes from the address that `lea` takes here through an array by an index.
pub fn loop_by_index(image: &Image, reference: &CodeReference) -> Option<u64> {
    follow_lea(image, reference, |mut trail, decoder| {
        let mut instruction = Instruction::default();
        let mut access: Option<(u64, u64)> = None;
        for _ in 0..LIMIT {
            if !decoder.can_decode() {
                break;
            }
            decoder.decode_out(&mut instruction);
            if let Some((at, element)) = access {
                let back = instruction.near_branch_target();
                if reference.next.0 <= back && back <= at {
                    return Some(element);
                }
            } else if let Some(Use::Access(first)) = trail.follow(&instruction) {
                if !matches!(first, Access::Indexed(_)) {
                    break;
                }
                let element = (instruction.memory_size().size() as u64).max(instruction.memory_index_scale().into());
                access = Some((instruction.ip(), element));
            }
        }
        None
    })?
}

/// Has `work` follow the address that `lea` takes at this reference; `None` if it is another instruction.
fn follow_lea<T>(
    image: &Image,
    reference: &CodeReference,
    work: impl FnOnce(Trail, &mut Decoder<'_>) -> T,
) -> Option<T> {
    let end = reference.function.map_or(reference.next, |function| image.functions[function as usize].end);
    // REX.W 8D /r disp32
    let start = Vaddr(reference.site.0.wrapping_sub(3));
    let code = image.bytes_from(start);
    let len = (end.0.saturating_sub(start.0) as usize).min(code.len());
    let mut decoder = Decoder::with_ip(64, &code[..len], start.0, DecoderOptions::NONE);
    if !decoder.can_decode() {
        return None;
    }
    let taken = decoder.decode();
    if taken.code() != Code::Lea_r64_m || taken.ip_rel_memory_address() != reference.target.0 {
        return None;
    }
    let mut trail = Trail::default();
    trail.start(taken.op0_register(), reference.site);
    Some(work(trail, &mut decoder))
}

#[derive(Default)]
struct Trail {
    held: Vec<(Holder, Held)>,
}

impl Trail {
    /// From here on, the register holds the address that the reference takes.
    fn start(&mut self, register: Register, origin: Vaddr) {
        self.set(Holder::Register(register), Some(Held { origin, offset: 0, walks: false }));
    }

    /// What the instructions that follow do.
    fn first_access(mut self, decoder: &mut Decoder<'_>) -> Access {
        let mut instruction = Instruction::default();
        let mut access = Access::Unknown;
        for _ in 0..LIMIT {
            if !decoder.can_decode() {
                break;
            }
            decoder.decode_out(&mut instruction);
            if instruction.is_invalid() {
                break;
            }
            match self.follow(&instruction) {
                Some(Use::Access(access)) => return access,
                Some(Use::Compare(..)) => access = Access::Compared,
                None => {}
            }
            if self.held.is_empty() {
                break;
            }
        }
        access
    }

    fn of(&self, holder: Holder) -> Option<Held> {
        self.held.iter().find(|(known, _)| *known == holder).map(|(_, held)| *held)
    }

    fn set(&mut self, holder: Holder, held: Option<Held>) {
        self.held.retain(|(known, _)| *known != holder);
        self.held.extend(held.map(|held| (holder, held)));
    }

    fn follow(&mut self, instruction: &Instruction) -> Option<Use> {
        let slot = slot(instruction);
        if slot.is_none()
            && instruction.mnemonic() != Mnemonic::Nop
            && (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory)
            && let Some((held, indexed)) = self.addressed(instruction)
        {
            let taken = instruction.mnemonic() == Mnemonic::Lea;
            if instruction.op0_kind() == OpKind::Register {
                let written = Holder::Register(instruction.op0_register().full_register());
                let walks = held.walks || written == Holder::Register(instruction.memory_base());
                self.set(written, (taken && !indexed).then_some(Held { walks, ..held }));
            }
            return match (taken, indexed) {
                (false, false) => Some(Use::Access(Access::At(held.offset))),
                (false, true) => Some(Use::Access(Access::Indexed(held.offset))),
                (true, false) => None,
                (true, true) => Some(Use::Access(Access::Unknown)),
            };
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
            let (one, other) = (read(0), read(1));
            return (one.is_some() || other.is_some()).then_some(Use::Compare(one, other));
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
        let moved = |by: i64| read(0).map(|held| Held { offset: held.offset.wrapping_add(by), walks: true, ..held });
        let result = match instruction.mnemonic() {
            Mnemonic::Mov if instruction.op_count() == 2 => read(1),
            Mnemonic::Add => step().and_then(moved),
            Mnemonic::Sub => step().and_then(|step| moved(step.wrapping_neg())),
            _ => None,
        };
        self.set(written, result);
        None
    }

    /// The address that a memory operand names, and whether an index is added, if its base or index is held.
    fn addressed(&self, instruction: &Instruction) -> Option<(Held, bool)> {
        let index = instruction.memory_index();
        let base = self.of(Holder::Register(instruction.memory_base()));
        let through_index =
            || (instruction.memory_index_scale() == 1).then(|| self.of(Holder::Register(index))).flatten();
        let held = base.or_else(through_index)?;
        let offset = held.offset.wrapping_add(instruction.memory_displacement64() as i64);
        Some((Held { offset, ..held }, index != Register::None))
    }
}

/// The stack slot that the instruction accesses.
fn slot(instruction: &Instruction) -> Option<Holder> {
    let base = instruction.memory_base();
    let plain = matches!(base, Register::RBP | Register::RSP) && instruction.memory_index() == Register::None;
    plain.then(|| Holder::Slot(base, instruction.memory_displacement64() as i64))
}
