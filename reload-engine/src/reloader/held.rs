//! Statics that hold a pointer to a function that is gone: whoever calls through them runs its old code.

use foldhash::HashMap;
use reload_protocol::Range;

use crate::{
    image::{Object, demangle},
    model::{Addr, Details},
    plan::{Plan, homes::Home, lineage::Lineage, partnered},
    target::link::AgentLink,
};

/// Bytes of statics that are looked through: of those that together have more, the first, and what is too large is left out.
const MOST: u64 = 16 << 20;
const POINTER: usize = size_of::<u64>();

/// One line for each static that the plan keeps and function that is gone with it. What cannot be read is not told of.
pub fn removed_functions(link: &mut AgentLink, lineage: &Lineage, plan: &Plan) -> Vec<String> {
    let gone = entries_of_removed(lineage, plan);
    if gone.is_empty() {
        return Vec::new();
    }
    let mut left = MOST;
    let statics: Vec<(&Object, Range)> = kept(plan)
        .filter_map(|(object, home)| {
            left = left.checked_sub(object.size)?;
            Some((object, whole_pointers(home, object.size)))
        })
        .collect();
    let ranges = statics.iter().map(|(_, range)| *range).collect();
    let Ok(contents) = link.read_memory(ranges) else { return Vec::new() };
    let mut lines = Vec::new();
    for ((object, _), bytes) in statics.iter().zip(contents) {
        let words = bytes.chunks_exact(POINTER).filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?)));
        let mut held: Vec<&str> = words.filter_map(|word| gone.get(&word).copied()).collect();
        held.sort_unstable();
        held.dedup();
        let name = demangle(plan.image.object_name(object));
        lines.extend(held.into_iter().map(|function| {
            let function = demangle(function);
            format!("`{name}` points to `{function}`, which is gone: what is called through it is its old code")
        }));
    }
    lines.truncate(Details::LIMIT);
    lines
}

/// Where each of them begins in the process, in whatever generation, with its name; but where something begins there as well that
/// goes on.
fn entries_of_removed<'a>(lineage: &'a Lineage, plan: &Plan) -> HashMap<u64, &'a str> {
    let old = lineage.placed(plan.parent);
    let continued = partnered(lineage, &plan.partners);
    let goes_on = move |family: u32| continued.get(family as usize).copied().unwrap_or(true);
    let of = |index: &u32| {
        let name = old.image.function_name(&old.image.functions[*index as usize]);
        let instances = lineage.instances(old.families[*index as usize]);
        let alone = instances.filter(|instance| !lineage.sharers(*instance).any(|(_, family)| goes_on(family)));
        alone.map(|instance| (lineage.address(instance).0, name)).collect::<Vec<_>>()
    };
    plan.removed.iter().flat_map(of).collect()
}

fn kept(plan: &Plan) -> impl Iterator<Item = (&Object, Addr)> {
    plan.homes.kept.iter().filter_map(|index| match plan.homes.objects[*index] {
        Home::At(home) => Some((&plan.image.objects[*index], home)),
        Home::Own => None,
    })
}

/// The pointers that lie in it as the psABI aligns them (3.1.2).
fn whole_pointers(home: Addr, size: u64) -> Range {
    let start = home.0.next_multiple_of(POINTER as u64);
    Range { start, len: (home.0 + size).saturating_sub(start) / POINTER as u64 * POINTER as u64 }
}
