//! Who calls a function directly or takes its address, and whom it calls: asked of few functions, so the code is decoded
//! again for it.

use std::ops::Range;

use foldhash::{HashMap, HashMapExt as _, HashSet};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};

use super::{
    Function, Image, Resolves,
    code::{self, Mention},
};
use crate::model::Vaddr;

/// Indices of the functions that call any of `callees` or take their addresses, through the procedure linkage table or the
/// GOT too.
pub fn callers(image: &Image, callees: &HashSet<u32>) -> HashSet<u32> {
    callers_of_each(image, callees).into_values().flatten().collect()
}

/// By callee, its [`callers`].
pub fn callers_of_each(image: &Image, callees: &HashSet<u32>) -> HashMap<u32, Vec<u32>> {
    let mut callers: HashMap<u32, Vec<u32>> = HashMap::new();
    let Ok(scan) = code::scan(image, Some(image), &[]) else { return callers };
    for (caller, body) in (0..).zip(&scan.bodies) {
        for function in scan.mentions_of(body).iter().filter_map(|mention| called(image, mention)) {
            for callee in aliases(image, function).filter(|alias| callees.contains(alias)) {
                callers.entry(callee).or_default().push(caller);
            }
        }
    }
    callers
}

/// The function that code leads to by this.
fn called(image: &Image, mention: &Mention) -> Option<usize> {
    match *mention {
        Mention::Function { index, .. } => Some(index as usize),
        Mention::Branch(target) => through(image, stub(image, target)?),
        Mention::Memory(target) => image.function_starting_at(target).or_else(|| through(image, target)),
        Mention::ThreadLocal(_) => None,
    }
}

/// All that begin where this one does, of which it is the first.
fn aliases(image: &Image, function: usize) -> impl Iterator<Item = u32> {
    (function as u32..).zip(image.aliases_from(function)).map(|(alias, _)| alias)
}

/// Who leads to a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Referrer {
    /// By a call, by its address, or by a table of addresses that has no symbol, as are those of Rust's trait objects.
    Function(u32),
    Static,
}

/// By function: everybody who leads to it.
pub fn referrers(image: &Image) -> HashMap<u32, Vec<Referrer>> {
    let mut referrers: HashMap<u32, Vec<Referrer>> = HashMap::new();
    let Ok(scan) = code::scan(image, Some(image), &[]) else { return referrers };
    let memory = |mention: &Mention| match *mention {
        Mention::Memory(target) => Some(target),
        _ => None,
    };
    let mut tables: Vec<Vaddr> =
        scan.bodies.iter().flat_map(|body| scan.mentions_of(body)).filter_map(memory).collect();
    tables.sort_unstable();
    tables.dedup();
    let mut within: HashMap<Vaddr, Vec<u32>> = HashMap::new();
    for relocation in &image.tables.relocations {
        let here = relocation.resolves.here().and_then(|here| image.function_starting_at(here));
        let Some(function) = here else { continue };
        let named = image.object_at(relocation.slot).is_some_and(|object| !image.objects[object].is_unnamed());
        // Code takes the address of a table as a whole.
        let table = tables[..tables.partition_point(|table| *table <= relocation.slot)].last();
        for function in aliases(image, function) {
            match table.filter(|_| !named) {
                Some(table) => within.entry(*table).or_default().push(function),
                None => referrers.entry(function).or_default().push(Referrer::Static),
            }
        }
    }
    for (user, body) in (0..).zip(&scan.bodies) {
        for mention in scan.mentions_of(body) {
            let direct = called(image, mention).into_iter().flat_map(|function| aliases(image, function));
            let in_table = memory(mention).and_then(|table| within.get(&table)).into_iter().flatten().copied();
            for function in direct.chain(in_table) {
                referrers.entry(function).or_default().push(Referrer::Function(user));
            }
        }
    }
    referrers
}

/// Whom a function calls directly.
#[derive(Debug, Default)]
pub struct Callees {
    /// Indices of this file's functions.
    pub here: Vec<usize>,
    /// Names of other modules'.
    pub imported: Vec<String>,
}

/// Whom the function of this index calls, through the procedure linkage table or the GOT too.
pub fn callees(image: &Image, function: usize) -> Callees {
    let function = &image.functions[function];
    let bytes = image.bytes_from(function.address);
    let size = if function.size == 0 { function.end.0 - function.address.0 } else { function.size };
    let bytes = &bytes[..bytes.len().min(size as usize)];
    let mut callees = Callees::default();
    for instruction in &mut Decoder::with_ip(64, bytes, function.address.0, DecoderOptions::NONE) {
        let slot = match instruction.op0_kind() {
            OpKind::NearBranch64 => {
                let target = Vaddr(instruction.near_branch_target());
                match image.function_starting_at(target) {
                    Some(callee) => {
                        callees.here.push(callee);
                        continue;
                    }
                    None if (function.address..function.end).contains(&target) => continue,
                    None => stub(image, target),
                }
            }
            OpKind::Memory if instruction.is_ip_rel_memory_operand() => {
                Some(Vaddr(instruction.ip_rel_memory_address()))
            }
            _ => None,
        };
        let Some(slot) = slot else { continue };
        match through(image, slot) {
            Some(callee) => callees.here.push(callee),
            None => {
                callees.imported.extend(image.relocation_at(slot).and_then(|relocation| match &relocation.resolves {
                    Resolves::Symbol { name, here: None, .. } => Some(image.text(name).to_owned()),
                    _ => None,
                }))
            }
        }
    }
    callees
}

/// A branch out of a stretch of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Where its distance stands, if that has 32 bits.
    pub site: Option<Vaddr>,
    /// The next instruction, which the distance counts from.
    pub next: Vaddr,
    pub target: Vaddr,
}

/// Where control leaves a stretch of code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exits {
    /// By direct branches.
    pub branches: Vec<Exit>,
    /// Addresses that it takes (`lea`): what it does with them is not known.
    pub addresses: Vec<Vaddr>,
    /// It may run on into what follows: the last instruction, padding apart, is no jump and does not return.
    pub at_end: bool,
}

/// Those of a stretch that lies in one section; `None`: some of its first `body` bytes are no instructions.
pub fn exits(image: &Image, code: &Range<Vaddr>, body: u64) -> Option<Exits> {
    let bytes = image.bytes_from(code.start);
    let bytes = &bytes[..bytes.len().min(code.end.0.saturating_sub(code.start.0) as usize)];
    let mut decoder = Decoder::with_ip(64, bytes, code.start.0, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let (mut exits, mut after_call) = (Exits::default(), false);
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() && instruction.ip() - code.start.0 < body {
            return None;
        }
        exits.at_end = match instruction.flow_control() {
            // What is padded after a call has been told that the call does not return.
            _ if code::is_padding(&instruction) => exits.at_end && !after_call,
            FlowControl::Return
            | FlowControl::UnconditionalBranch
            | FlowControl::IndirectBranch
            | FlowControl::Exception => false,
            _ => true,
        };
        after_call = matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
        if instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand() {
            exits.addresses.push(Vaddr(instruction.ip_rel_memory_address()));
        }
        let target = Vaddr(instruction.near_branch_target());
        if instruction.op0_kind() == OpKind::NearBranch64 && !code.contains(&target) {
            let offsets = decoder.get_constant_offsets(&instruction);
            let wide = offsets.immediate_size() == 4;
            let site = wide.then(|| Vaddr(instruction.ip() + offsets.immediate_offset() as u64));
            exits.branches.push(Exit { site, next: Vaddr(instruction.next_ip()), target });
        }
    }
    Some(exits)
}

/// Whether a function goes round for good: it jumps back inside of itself, and neither returns nor leads anywhere else.
pub fn never_returns(image: &Image, function: &Function) -> bool {
    let (start, size) = (function.address, function.size as usize);
    let bytes = image.bytes_from(start);
    let Some(bytes) = bytes.get(..size) else { return false };
    let mut decoder = Decoder::with_ip(64, bytes, start.0, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let mut goes_back = false;
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        let leaves = matches!(instruction.flow_control(), FlowControl::Return | FlowControl::IndirectBranch);
        if instruction.is_invalid() || leaves {
            return false;
        }
        let is_jump =
            matches!(instruction.flow_control(), FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch);
        if is_jump {
            let target = instruction.near_branch_target();
            if !(start.0..start.0 + size as u64).contains(&target) {
                return false;
            }
            goes_back |= target <= instruction.ip();
        }
    }
    goes_back
}

/// The GOT slot that a stub of the procedure linkage table jumps through.
pub fn stub(image: &Image, target: Vaddr) -> Option<Vaddr> {
    let bytes = image.bytes_from(target);
    let bytes = &bytes[..bytes.len().min(16)];
    // What linkers write: `endbr64`, `bnd`, and a jump. Anything else is decoded.
    let after = |prefix: &[u8], code| <[u8]>::strip_prefix(code, prefix).unwrap_or(code);
    let jump = after(&[0xf2], after(&[0xf3, 0x0f, 0x1e, 0xfa], bytes));
    if let [0xff, 0x25, distance @ ..] = jump
        && let Some((distance, rest)) = distance.split_first_chunk()
    {
        let next = target.0 + (bytes.len() - rest.len()) as u64;
        return Some(Vaddr(next.wrapping_add_signed(i32::from_le_bytes(*distance).into())));
    }
    let mut decoder = iced_x86::Decoder::with_ip(64, bytes, target.0, iced_x86::DecoderOptions::NONE);
    let jump = decoder.iter().take(3).find(|instruction| instruction.is_ip_rel_memory_operand())?;
    Some(Vaddr(jump.ip_rel_memory_address()))
}

/// This file's function that a GOT slot stands for.
fn through(image: &Image, slot: Vaddr) -> Option<usize> {
    let Resolves::Symbol { here, .. } = &image.relocation_at(slot)?.resolves else { return None };
    image.function_starting_at((*here)?)
}
