//! How one function comes by its module's block of thread-locals and what it does there, instruction by instruction: asked only
//! of functions whose thread-locals live in several blocks.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::{Image, tls_block::TlsTracker};
use crate::model::Vaddr;

/// An instruction that reaches into the block through a register.
#[derive(Clone, Debug)]
pub struct BlockAccess {
    pub at: Vaddr,
    pub bytes: Vec<u8>,
    /// Where the 32-bit field stands that [`super::TlsDisplacement`] names.
    pub site: Vaddr,
    /// Holds the start of the block, and is not used for anything else here.
    pub register: Register,
    /// The instruction overwrites it.
    pub overwrites: bool,
}

/// A call of `__tls_get_addr` for the block.
#[derive(Clone, Debug)]
pub struct BlockRequest {
    /// The call instruction.
    pub at: Vaddr,
    pub len: usize,
    pub callee: Callee,
}

/// Whom a call leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee {
    At(Vaddr),
    /// What this slot holds.
    In(Vaddr),
}

/// What a function does with the block.
#[derive(Clone, Debug, Default)]
pub struct BlockUse {
    pub requests: Vec<BlockRequest>,
    pub accesses: Vec<BlockAccess>,
}

/// Reads the function of this index, which asks for the block by the pairs at `pairs`.
pub fn block_use(image: &Image, function: u32, pairs: &[Vaddr]) -> BlockUse {
    let function = &image.functions[function as usize];
    let bytes = image.bytes_from(function.address);
    let end = if function.size == 0 { function.end.0 } else { function.address.0 + function.size };
    let bytes = &bytes[..bytes.len().min((end - function.address.0) as usize)];
    let mut decoder = Decoder::with_ip(64, bytes, function.address.0, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let mut tracker = TlsTracker::default();
    let mut result = BlockUse::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        let offsets = decoder.get_constant_offsets(&instruction);
        if tracker.is_requested()
            && matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall)
            && let Some(callee) = callee(&instruction)
        {
            result.requests.push(BlockRequest { at: Vaddr(instruction.ip()), len: instruction.len(), callee });
        }
        let field = match (offsets.displacement_size(), offsets.immediate_size()) {
            (4, _) if !instruction.is_ip_rel_memory_operand() => Some((offsets.displacement_offset(), true)),
            (_, 4) => Some((offsets.immediate_offset(), false)),
            _ => None,
        };
        if let Some((offset, in_memory)) = field
            && let Some((register, overwrites)) = reached_through(&instruction, &tracker, in_memory)
        {
            let start = (instruction.ip() - function.address.0) as usize;
            result.accesses.push(BlockAccess {
                at: Vaddr(instruction.ip()),
                bytes: bytes[start..start + instruction.len()].to_vec(),
                site: Vaddr(instruction.ip() + offset as u64),
                register,
                overwrites,
            });
        }
        if instruction.mnemonic() == Mnemonic::Lea
            && instruction.is_ip_rel_memory_operand()
            && pairs.contains(&Vaddr(instruction.ip_rel_memory_address()))
        {
            tracker.block_requested();
        }
        tracker.after(&instruction);
    }
    result
}

fn callee(instruction: &Instruction) -> Option<Callee> {
    match instruction.op0_kind() {
        OpKind::NearBranch64 => Some(Callee::At(Vaddr(instruction.near_branch_target()))),
        OpKind::Memory if instruction.is_ip_rel_memory_operand() => {
            Some(Callee::In(Vaddr(instruction.ip_rel_memory_address())))
        }
        _ => None,
    }
}

/// The register by which the instruction reaches into the block, where nothing else than that is done with it.
fn reached_through(instruction: &Instruction, tracker: &TlsTracker, in_memory: bool) -> Option<(Register, bool)> {
    // These use registers that they do not name, or leave the function.
    let obscure = !matches!(instruction.flow_control(), FlowControl::Next)
        || matches!(
            instruction.mnemonic(),
            Mnemonic::Xchg | Mnemonic::Cmpxchg | Mnemonic::Xadd | Mnemonic::Push | Mnemonic::Pop | Mnemonic::Nop
        )
        || (instruction.op_count() == 1
            && !matches!(instruction.mnemonic(), Mnemonic::Inc | Mnemonic::Dec | Mnemonic::Neg | Mnemonic::Not));
    if obscure {
        return None;
    }
    if !in_memory {
        // `add $offset, block`
        let adds = matches!(instruction.code(), Code::Add_rm64_imm32 | Code::Add_RAX_imm32);
        let register = instruction.op0_register();
        return (adds && instruction.op0_kind() == OpKind::Register && tracker.holds_block(register))
            .then_some((register, true));
    }
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    let register = if tracker.holds_block(base) {
        base
    } else if index != Register::None && instruction.memory_index_scale() == 1 && tracker.holds_block(index) {
        index
    } else {
        return None;
    };
    if base == index {
        return None;
    }
    let names_it = |operand: u32| {
        instruction.op_kind(operand) == OpKind::Register && instruction.op_register(operand).full_register() == register
    };
    let only_writes = matches!(
        instruction.mnemonic(),
        Mnemonic::Mov | Mnemonic::Lea | Mnemonic::Movzx | Mnemonic::Movsx | Mnemonic::Movsxd
    );
    let overwrites = only_writes && names_it(0) && instruction.op0_register().size() >= 4;
    let named = (0..instruction.op_count()).any(names_it);
    (!named || overwrites).then_some((register, overwrites))
}
