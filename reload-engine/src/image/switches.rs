//! Jump tables of switches: 32-bit distances from the table's own start, to which the code adds what it loads from there.

use iced_x86::{Code, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::Image;
use crate::model::Vaddr;

/// How many cases of switches are looked at in one file; compilers write far fewer than a tenth of its bytes.
pub const MOST_CASES: usize = 1 << 24;

/// The cases of a switch: a table of 32-bit distances from its start into the function that takes its address.
pub fn cases(image: &Image, mut possible_tables: Vec<(u32, Vaddr)>) -> Vec<Vaddr> {
    possible_tables.sort_unstable();
    possible_tables.dedup();
    let mut found = Vec::new();
    for (function, table) in possible_tables {
        let owner = &image.functions[function as usize];
        let cases = leads_to(image, table).take(MOST_CASES - found.len());
        found.extend(cases.take_while(|case| *case >= owner.address && *case < owner.end));
    }
    found
}

/// Where 32-bit distances lead that stand at this address and count from there, whatever it is that stands there.
fn leads_to(image: &Image, table: Vaddr) -> impl Iterator<Item = Vaddr> {
    let entries = image.bytes_from(table).chunks_exact(4);
    let distances = entries.map(|entry| i32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]));
    distances.map(move |distance| Vaddr(table.0.wrapping_add_signed(distance.into())))
}

/// What code a table of distances at this address leads to, if there is one.
pub fn code_led_to(image: &Image, table: Vaddr) -> impl Iterator<Item = Vaddr> {
    let is_code = |target: &Vaddr| image.section_at(*target).is_some_and(|section| section.kind.is_code());
    let table = Some(table).filter(|table| image.is_in_constant(*table));
    table.into_iter().flat_map(move |table| leads_to(image, table).take_while(is_code))
}

/// Follows, in a straight line, which registers hold the address of a table and which an entry of it.
#[derive(Default)]
pub struct TableTracker {
    known: Vec<(Register, Held)>,
    /// Addresses that were loaded by different instructions have been compared.
    pub mixed: bool,
}

#[derive(Clone, Copy)]
enum Held {
    Table(Loaded),
    Entry(Loaded),
}

/// An address, and what follows the instruction that loaded it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    pub address: Vaddr,
    pub next: u64,
}

impl TableTracker {
    fn held(&self, register: Register) -> Option<Held> {
        self.known.iter().find(|(known, _)| *known == register).map(|(_, held)| *held)
    }

    /// The table that this instruction proves to be one of distances: `add entry, table`, in either order.
    pub fn after(&mut self, instruction: &Instruction) -> Option<Loaded> {
        if self.known.is_empty() && instruction.code() != Code::Lea_r64_m {
            return None;
        }
        match instruction.flow_control() {
            FlowControl::Next | FlowControl::ConditionalBranch => {}
            _ => {
                self.known.clear();
                return None;
            }
        }
        if instruction.op_count() == 0 || instruction.op0_kind() != OpKind::Register {
            return None;
        }
        let written = instruction.op0_register();
        let mut proven = None;
        let holds = match instruction.code() {
            Code::Lea_r64_m if instruction.is_ip_rel_memory_operand() => {
                let (address, next) = (Vaddr(instruction.ip_rel_memory_address()), instruction.next_ip());
                Some(Held::Table(Loaded { address, next }))
            }
            Code::Mov_r64_rm64 | Code::Mov_rm64_r64 if instruction.op1_kind() == OpKind::Register => {
                self.held(instruction.op1_register())
            }
            Code::Movsxd_r64_rm32 if instruction.op1_kind() == OpKind::Memory => {
                let scaled = instruction.memory_index_scale() == 4 && instruction.memory_displacement64() == 0;
                match self.held(instruction.memory_base()) {
                    Some(Held::Table(table)) if scaled => Some(Held::Entry(table)),
                    _ => None,
                }
            }
            Code::Add_r64_rm64 | Code::Add_rm64_r64 if instruction.op1_kind() == OpKind::Register => {
                proven = match (self.held(written), self.held(instruction.op1_register())) {
                    (Some(Held::Entry(entry)), Some(Held::Table(table)))
                    | (Some(Held::Table(table)), Some(Held::Entry(entry))) => {
                        self.mixed |= entry != table;
                        (entry.address == table.address).then_some(table)
                    }
                    _ => None,
                };
                None
            }
            _ if matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push) => return None,
            _ => None,
        };
        self.known.retain(|(known, _)| *known != written.full_register());
        self.known.extend(holds.map(|holds| (written, holds)));
        proven
    }
}
