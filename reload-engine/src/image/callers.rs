//! Who calls a function directly or takes its address, and whom it calls: asked of few functions, so the code is decoded
//! again for it.

use foldhash::{HashMap, HashMapExt as _, HashSet};

use iced_x86::{Decoder, DecoderOptions, OpKind};

use super::{
    Image, Resolves,
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
    let called = |mention: &Mention| match *mention {
        Mention::Branch(target) => image.function_starting_at(target).or_else(|| through(image, stub(image, target)?)),
        Mention::Memory(target) => image.function_starting_at(target).or_else(|| through(image, target)),
        Mention::ThreadLocal(_) => None,
    };
    for (caller, body) in (0..).zip(&scan.bodies) {
        for function in scan.mentions_of(body).iter().filter_map(called) {
            let address = image.functions[function].address;
            let aliases = image.functions[function..].iter().take_while(|alias| alias.address == address);
            let aliases = (function as u32..).zip(aliases).map(|(alias, _)| alias);
            for callee in aliases.filter(|alias| callees.contains(alias)) {
                callers.entry(callee).or_default().push(caller);
            }
        }
    }
    callers
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
