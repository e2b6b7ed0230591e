//! How code comes by the start of the module's block of thread-locals, and where it then holds it.

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::{
    Image, RelocationKind, Resolves,
    code::CALLEE_SAVED,
    elf::{self, Relocation},
};
use crate::model::Vaddr;

/// The prefix with which `lea x@tlsgd(%rip), %rdi` is padded (System V psABI for AMD64, "General Dynamic TLS Model").
pub const OPERAND_SIZE: u8 = 0x66;

/// How far before a block an offset may lie from which an index leads into it.
pub const APPROACH: u64 = 0x1000;

/// The pairs of the GOT that stand for thread-locals.
pub struct TlsPairs {
    /// Slots of `DTPMOD64` relocations, ascending.
    pub all: Vec<Vaddr>,
    /// Those of them that give the module's whole block, or the variable that lies first in it.
    pub local_dynamic: Vec<Vaddr>,
    /// TLS descriptors of offset 0, by which gcc comes by the block (`_TLS_MODULE_BASE_`) or by the variable that lies first.
    pub descriptors: Vec<Vaddr>,
}

impl TlsPairs {
    pub fn of(image: &Image) -> TlsPairs {
        let pairs = || image.tables.relocations.iter().filter(|slot| slot.kind == RelocationKind::TlsModule);
        let block = |slot: &&Relocation| {
            let second = Vaddr(slot.slot.0 + 8);
            matches!(slot.resolves, Resolves::Here(_))
                && image.relocation_at(second).is_none()
                && elf::word_at(&image.bytes, &image.tables.segments, second) == Some(0)
        };
        TlsPairs {
            all: pairs().map(|slot| slot.slot).collect(),
            local_dynamic: pairs().filter(block).map(|slot| slot.slot).collect(),
            descriptors: image.descriptors_of_block().collect(),
        }
    }
}

/// Follows, in a straight line, which registers hold the start of the module's TLS block.
#[derive(Default)]
pub struct TlsTracker {
    pub uses_block: bool,
    /// The next call is `__tls_get_addr` for the block.
    requested: bool,
    /// It is that of a TLS descriptor, which gives the distance from the thread pointer and keeps all other registers.
    described: bool,
    holders: Vec<Register>,
}

impl TlsTracker {
    pub fn block_requested(&mut self) {
        self.uses_block = true;
        self.requested = true;
    }

    pub fn block_described(&mut self) {
        self.block_requested();
        self.described = true;
    }

    pub fn is_requested(&self) -> bool {
        self.requested
    }

    pub fn holds_block(&self, register: Register) -> bool {
        self.holders.contains(&register)
    }

    pub fn after(&mut self, instruction: &Instruction) {
        if self.holders.is_empty() && !self.requested {
            return;
        }
        match instruction.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall => {
                let requested = std::mem::take(&mut self.requested);
                if requested && self.described {
                    self.holders.retain(|holder| *holder != Register::RAX);
                } else {
                    self.holders.retain(|holder| CALLEE_SAVED.contains(holder));
                }
                if requested {
                    self.holders.push(Register::RAX);
                }
                return;
            }
            FlowControl::Next => {}
            // What comes next in memory does not come next in time.
            FlowControl::UnconditionalBranch | FlowControl::IndirectBranch | FlowControl::Return => {
                self.holders.clear();
                return;
            }
            _ => return,
        }
        if instruction.op_count() == 0 || instruction.op0_kind() != OpKind::Register {
            return;
        }
        let written = instruction.op0_register().full_register();
        let copies = instruction.mnemonic() == Mnemonic::Mov
            && instruction.op_count() == 2
            && instruction.op1_kind() == OpKind::Register
            && self.holds_block(instruction.op1_register());
        // The thread pointer, from `%fs:0` or a register, makes an address of a distance.
        let adds = self.described && instruction.mnemonic() == Mnemonic::Add;
        let completes =
            adds && instruction.op1_kind() == OpKind::Memory && instruction.memory_segment() == Register::FS;
        let completed =
            adds && instruction.op1_kind() == OpKind::Register && self.holds_block(instruction.op1_register());
        let only_reads = matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push) || completes;
        if copies || completed {
            self.holders.push(written);
        } else if !only_reads {
            self.holders.retain(|holder| *holder != written);
        }
    }
}
