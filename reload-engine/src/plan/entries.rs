//! The bytes that make old entries jump to the code that runs now, and the step from one such state to another.

use std::collections::BTreeMap;

use reload_protocol::{Patch, Write};

use super::lineage::{Instance, Lineage};
use crate::{
    image::Form,
    model::{Addr, Vaddr},
};

/// The patches that lead from one active generation to another, and what could not be patched.
#[derive(Debug, Default)]
pub struct Transition {
    /// Ascending by address.
    pub patches: Vec<Patch>,
    /// Data to be written in the same stop.
    pub writes: Vec<Write>,
    /// Functions whose entry has no room for a jump.
    pub unpatchable: Vec<Instance>,
    /// Functions that share their entry's address with another one and now part ways.
    pub torn: Vec<Instance>,
    /// Functions whose new code is farther away than a jump reaches.
    pub far: Vec<Instance>,
}

/// The step from active generation `from` to `to`. Nothing has been written yet to the entries of generation `untouched`,
/// which has just been loaded.
pub fn transition(lineage: &Lineage, from: usize, to: usize, untouched: Option<usize>) -> Transition {
    let mut result = Transition::default();
    let mut wanted: BTreeMap<Addr, (Instance, Option<Addr>, Option<Addr>)> = BTreeMap::new();
    let (before, after) = (lineage.implementers(from), lineage.implementers(to));
    let (path_before, path_after) = (lineage.path(from), lineage.path(to));
    let mut families: Vec<u32> = before.keys().chain(after.keys()).copied().collect();
    families.sort_unstable();
    families.dedup();
    for family in families {
        let implementer_before = lineage.implementer(&before, &path_before, family);
        let implementer_after = lineage.implementer(&after, &path_after, family);
        for instance in lineage.instances(family) {
            let fresh = untouched == Some(instance.generation);
            let old = if fresh { None } else { destination(lineage, *instance, implementer_before) };
            let new = destination(lineage, *instance, implementer_after);
            if old == new {
                continue;
            }
            let address = lineage.address(*instance);
            match wanted.get(&address) {
                Some((other, _, known)) if *known != new => result.torn.extend([*other, *instance]),
                Some(_) => {}
                None => {
                    wanted.insert(address, (*instance, old, new));
                }
            }
        }
    }
    for instance in &result.torn {
        wanted.remove(&lineage.address(*instance));
    }
    for (instance, old, new) in wanted.into_values() {
        let entry = lineage.function(instance).entry;
        if entry.form == Form::None {
            result.unpatchable.push(instance);
            continue;
        }
        let bytes = |target: Option<Addr>| entry_bytes(lineage, instance, target);
        match (bytes(old), bytes(new)) {
            (Some(before), Some(after)) => {
                result.patches.extend(before.into_iter().zip(after).filter(|(b, a)| b.1 != a.1).map(|(b, a)| Patch {
                    address: b.0.0,
                    len: b.2,
                    before: b.1,
                    after: a.1,
                }));
            }
            _ => result.far.push(instance),
        }
    }
    result.patches.sort_unstable_by_key(|patch| patch.address);
    result
}

/// Where the entry of `instance` leads when `implementer` runs its family; `None`: into its own code.
fn destination(lineage: &Lineage, instance: Instance, implementer: Option<Instance>) -> Option<Addr> {
    let implementer = implementer?;
    if implementer == instance {
        return None;
    }
    (!lineage.interchangeable(instance, implementer)).then(|| lineage.address(implementer))
}

/// Address, bytes and length of each piece of an entry. `None`: the target is out of reach.
fn entry_bytes(lineage: &Lineage, instance: Instance, target: Option<Addr>) -> Option<Vec<(Addr, [u8; 8], u8)>> {
    let placed = lineage.placed(instance.generation);
    let entry = lineage.function(instance).entry;
    let original = |at: Vaddr, len: usize| {
        let mut bytes = [0; 8];
        if let Some(file) = placed.image.bytes_from(at).get(..len) {
            bytes[..len].copy_from_slice(file);
        }
        let first = placed.rebound_entries.partition_point(|(site, _)| site.0 + 4 <= at.0);
        for (site, field) in placed.rebound_entries[first..].iter().take_while(|(site, _)| site.0 < at.0 + len as u64) {
            for (offset, byte) in field.iter().enumerate() {
                if let Some(place) = (site.0 + offset as u64).checked_sub(at.0).filter(|place| *place < len as u64) {
                    bytes[place as usize] = *byte;
                }
            }
        }
        (placed.bias.addr(at), bytes, len as u8)
    };
    match (entry.form, target) {
        (Form::None, _) => None,
        (Form::Near, None) => Some(vec![original(entry.at, 5)]),
        (Form::Near, Some(target)) => Some(vec![long_jump(placed.bias.addr(entry.at), target)?]),
        (Form::Short { padding }, None) => Some(vec![original(padding, 5), original(entry.at, 2)]),
        (Form::Short { padding }, Some(target)) => {
            let distance = padding.0.wrapping_sub(entry.at.0 + 2) as i64;
            let mut hop = [0; 8];
            hop[..2].copy_from_slice(&[0xeb, i8::try_from(distance).ok()? as u8]);
            Some(vec![long_jump(placed.bias.addr(padding), target)?, (placed.bias.addr(entry.at), hop, 2)])
        }
    }
}

fn long_jump(at: Addr, target: Addr) -> Option<(Addr, [u8; 8], u8)> {
    let distance = i32::try_from(target.0.wrapping_sub(at.0 + 5) as i64).ok()?;
    let mut bytes = [0; 8];
    bytes[0] = 0xe9;
    bytes[1..5].copy_from_slice(&distance.to_le_bytes());
    Some((at, bytes, 5))
}
