//! The bytes that make old entries jump to the code that runs now, and the step from one such state to another.
//!
//! The oldest entry of a function, which its pointers lead to, jumps to the code that runs now; those of the generations in
//! between jump to the oldest. So a reload writes to the oldest and to the last, however many there were before.

use rayon::prelude::*;
use reload_protocol::{Merge, Patch, Range, Write};

use super::lineage::{Implementers, Instance, Lineage, Placed};
use crate::{
    hands::FEW,
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
    /// Initial values for statics that nobody has changed.
    pub merges: Vec<Merge>,
    /// Where besides the insides of patches no thread may stand: at a long jump that a short one leads to, when it comes or
    /// goes. Ascending.
    pub forbidden: Vec<Range>,
    /// Functions that should run other code than before and whose entry has no room for a jump.
    pub unpatchable: Vec<Instance>,
    /// Such that share their entry's address with another one and now part ways.
    pub torn: Vec<Instance>,
    /// Such whose new code is farther away than a jump reaches.
    pub far: Vec<Instance>,
}

impl Transition {
    /// Of entries, each with where it led and where it will lead.
    fn of(lineage: &Lineage, steps: impl Iterator<Item = (Instance, Lead, Lead)>) -> Transition {
        let mut result = Transition::default();
        for (instance, old, new) in steps.filter(|(_, old, new)| old != new) {
            let pieces = entry_bytes(lineage, instance, old.target()).into_iter().zip(entry_bytes(
                lineage,
                instance,
                new.target(),
            ));
            for (before, after) in pieces.filter(|(before, after)| before.bytes != after.bytes) {
                // From one target to another either jump will do; otherwise it is code or padding before or after.
                if before.springboard && (old.target().is_none() || new.target().is_none()) {
                    result.forbidden.push(Range { start: before.at.0, len: 1 });
                }
                result.patches.push(Patch {
                    address: before.at.0,
                    len: before.len,
                    before: before.bytes,
                    after: after.bytes,
                });
            }
            match new {
                Lead::Torn { wishes, to } => {
                    let unmet = wishes.into_iter().filter(|(_, wish)| *wish != to);
                    result.torn.extend(unmet.map(|(sharer, _)| sharer));
                }
                Lead::Unreachable(_) => result.far.push(instance),
                Lead::NoRoom(_) => result.unpatchable.push(instance),
                Lead::Own | Lead::To(_) => {}
            }
        }
        result
    }

    /// With what was found of further entries.
    fn and(mut self, other: Transition) -> Transition {
        self.patches.extend(other.patches);
        self.forbidden.extend(other.forbidden);
        self.unpatchable.extend(other.unpatchable);
        self.torn.extend(other.torn);
        self.far.extend(other.far);
        self
    }

    /// Adds writes; where a patch stands there is nothing left to write to.
    pub fn write_around_patches(&mut self, writes: Vec<Write>) {
        let patches = &self.patches;
        let free = |write: &Write| {
            let after = patches.partition_point(|patch| patch.address + u64::from(patch.len) <= write.address);
            patches.get(after).is_none_or(|patch| patch.address >= write.address + write.bytes.len() as u64)
        };
        self.writes.extend(writes.into_iter().filter(free));
    }
}

/// The step from active generation `from` to `to`. Nothing has been written yet to the entries of generation `untouched`,
/// which has just been loaded.
pub fn transition(lineage: &Lineage, from: usize, to: usize, untouched: Option<usize>) -> Transition {
    let (before, after) = (Running::of(lineage, from), Running::of(lineage, to));
    let mut entries: Vec<(Addr, Instance)> = Vec::new();
    let mut consider = |instance: Instance| entries.push((lineage.address(instance), instance));
    for (family, last) in before.implementers.iter() {
        let all = lineage.is_entangled(family)
            || !before.leads_through_oldest(lineage, family)
            || !after.leads_through_oldest(lineage, family);
        let next = after.implementers.get(family).filter(|_| !all);
        match next {
            Some(next) if next == last => {
                let newest = lineage.newest(family);
                if untouched == Some(newest.generation) {
                    consider(newest);
                }
            }
            Some(next) => {
                consider(lineage.oldest(family));
                consider(lineage.newest(family));
                let runs = [last, next].into_iter().flat_map(|it| lineage.run(family, it));
                runs.for_each(&mut consider);
            }
            None => lineage.instances(family).for_each(&mut consider),
        }
    }
    let begun = after.implementers.iter().filter(|(family, _)| before.implementers.get(*family).is_none());
    begun.flat_map(|(family, _)| lineage.instances(family)).for_each(&mut consider);
    // A function that came with a generation on the way to only one of the two is implemented anew by nobody there, but its
    // later instances lead to it, and no longer do.
    let on = |path: &[usize], generation: usize| path.binary_search(&generation).is_ok();
    let parted = |generation: usize| on(&before.path, generation) != on(&after.path, generation);
    let generations = (0..lineage.all().len()).filter(|generation| parted(*generation));
    let families = generations.flat_map(|generation| lineage.placed(generation).own_families.clone());
    let continued = families.filter(|family| lineage.oldest(*family) != lineage.newest(*family));
    continued.flat_map(|family| lineage.instances(family)).for_each(&mut consider);
    // One of each address.
    entries.sort_unstable();
    entries.dedup_by_key(|(address, _)| *address);

    let step = |(_, instance): &(Addr, Instance)| {
        let fresh = untouched == Some(instance.generation);
        let old = if fresh { Lead::Own } else { before.lead(lineage, *instance) };
        (*instance, old, after.lead(lineage, *instance))
    };
    let of = |part: &[(Addr, Instance)]| Transition::of(lineage, part.iter().map(step));
    let mut result = match entries.len() {
        // Waking other threads would take longer.
        ..=FEW => of(&entries),
        _ => entries.par_chunks(ENTRIES).map(of).reduce(Transition::default, Transition::and),
    };
    result.patches.sort_unstable_by_key(|patch| patch.address);
    result.forbidden.sort_unstable_by_key(|range| range.start);
    result
}

/// How many entries one thread looks at at a time.
const ENTRIES: usize = 512;

/// Who runs what while a generation is active.
struct Running {
    generation: usize,
    path: Vec<usize>,
    implementers: Implementers,
}

/// Where an entry leads.
#[derive(Debug, PartialEq, Eq)]
enum Lead {
    /// Into the code that stands there.
    Own,
    To(Addr),
    /// To what one of them runs, or into its own code, as the functions that share the entry have parted ways: where each should
    /// lead.
    Torn {
        wishes: Vec<(Instance, Option<Addr>)>,
        to: Option<Addr>,
    },
    /// Into its own code, as this is out of a jump's reach.
    Unreachable(Addr),
    /// Into its own code, as no jump to this fits.
    NoRoom(Addr),
}

/// Functions that share an entry and run different code.
struct Parted {
    /// Where each wants it to lead.
    wishes: Vec<(Instance, Option<Addr>)>,
    /// Where that one does that has not changed since they were one, if there is one.
    last_common: Option<Addr>,
}

impl Lead {
    fn target(&self) -> Option<Addr> {
        match self {
            Lead::To(target) => Some(*target),
            Lead::Torn { to, .. } => *to,
            _ => None,
        }
    }
}

impl Running {
    fn of(lineage: &Lineage, generation: usize) -> Self {
        Running { generation, path: lineage.path(generation), implementers: lineage.implementers(generation) }
    }

    /// A function of the same state always gives the same answer, so that the bytes that stand there can be predicted.
    fn lead(&self, lineage: &Lineage, instance: Instance) -> Lead {
        let wish = if lineage.is_alone(instance) {
            let placed = lineage.placed(instance.generation);
            self.destination(lineage, instance, placed.families[instance.function as usize])
        } else {
            match self.common_wish(lineage, instance) {
                Ok(wish) => wish,
                Err(Parted { wishes, last_common }) => {
                    let to = last_common.and_then(|target| self.jump(lineage, instance, target).target());
                    return Lead::Torn { wishes, to };
                }
            }
        };
        wish.map_or(Lead::Own, |target| self.jump(lineage, instance, target))
    }

    /// As far as there is room for one.
    fn jump(&self, lineage: &Lineage, instance: Instance, target: Addr) -> Lead {
        let placed = lineage.placed(instance.generation);
        let entry = lineage.entry(instance);
        let from = match entry.form {
            Form::None => return Lead::NoRoom(target),
            Form::Near => entry.at,
            Form::Short { padding } => padding,
            Form::Borrowed { at, .. } => {
                // Lenders have room for their own jump, so this goes no deeper.
                let lender = lineage.lender(instance).map(|lender| self.lead(lineage, lender));
                if !matches!(lender, Some(Lead::To(_))) {
                    return Lead::NoRoom(target);
                }
                at
            }
        };
        match long_jump(placed.bias.addr(from), target) {
            Some(_) => Lead::To(target),
            None => Lead::Unreachable(target),
        }
    }

    /// Where the functions that share this entry want it to lead; those that part ways are the error.
    fn common_wish(&self, lineage: &Lineage, instance: Instance) -> Result<Option<Addr>, Parted> {
        let sharers: Vec<(Instance, u32)> = lineage.sharers(instance).collect();
        let present = |family: u32| lineage.instance(family, self.generation).is_some();
        let any_present = sharers.iter().any(|(_, family)| present(*family));
        // A name that the active generation no longer has does not stand in the way of one that it has.
        let wishing = sharers.into_iter().filter(|(_, family)| present(*family) || !any_present);
        let wishing: Vec<(Instance, u32)> = wishing.collect();
        let wish = |(sharer, family): &(Instance, u32)| (*sharer, self.destination(lineage, *sharer, *family));
        let wishes: Vec<(Instance, Option<Addr>)> = wishing.iter().map(wish).collect();
        let first = wishes.first().and_then(|(_, wish)| *wish);
        if wishes.iter().all(|(_, other)| *other == first) {
            return Ok(first);
        }
        let runs = |family: u32| lineage.implementer(&self.implementers, &self.path, family);
        let was_common = |runs: Instance| {
            let there = |family| lineage.instance(family, runs.generation).map(|instance| lineage.address(instance));
            wishing.iter().all(|(_, family)| there(*family) == Some(lineage.address(runs)))
        };
        let last = wishing.iter().position(|(_, family)| runs(*family).is_some_and(was_common));
        Err(Parted { last_common: last.and_then(|at| wishes[at].1), wishes })
    }

    /// Where the entry of `instance` should lead; `None`: into its own code.
    fn destination(&self, lineage: &Lineage, instance: Instance, family: u32) -> Option<Addr> {
        let implementer = lineage.implementer(&self.implementers, &self.path, family)?;
        let oldest = lineage.oldest(family);
        if oldest != instance && lineage.is_alone(instance) && self.leads_through_oldest(lineage, family) {
            // One that happens to be the same, with others in between, need not come and go with those.
            let own = implementer == instance || lineage.are_in_one_run(implementer, instance);
            return (!own).then(|| lineage.address(oldest));
        }
        let own = implementer == instance || lineage.interchangeable(instance, implementer);
        (!own).then(|| lineage.address(implementer))
    }

    /// Whether the oldest entry of a function that was implemented anew is known to lead to the code that runs, so that the
    /// others may lead to it.
    fn leads_through_oldest(&self, lineage: &Lineage, family: u32) -> bool {
        let Some(implementer) = self.implementers.get(family) else { return false };
        let (oldest, target) = (lineage.oldest(family), lineage.address(implementer));
        lineage.is_alone(oldest)
            && (lineage.interchangeable(oldest, implementer) || jumps_by_itself(lineage, oldest, target))
    }
}

/// Whether the entry has room for a jump to `target`, whatever becomes of other entries.
fn jumps_by_itself(lineage: &Lineage, instance: Instance, target: Addr) -> bool {
    let entry = lineage.entry(instance);
    let from = match entry.form {
        Form::Near => entry.at,
        Form::Short { padding } => padding,
        Form::Borrowed { .. } | Form::None => return false,
    };
    long_jump(lineage.placed(instance.generation).bias.addr(from), target).is_some()
}

/// Some bytes of an entry.
struct Piece {
    at: Addr,
    bytes: [u8; 8],
    len: u8,
    /// Holds the long jump that the entry's short one leads to.
    springboard: bool,
}

/// The pieces of an entry that leads to `target`, or into its own code.
fn entry_bytes(lineage: &Lineage, instance: Instance, target: Option<Addr>) -> Vec<Piece> {
    let placed = lineage.placed(instance.generation);
    let entry = lineage.entry(instance);
    let original = |at: Vaddr, len: usize| Piece {
        at: placed.bias.addr(at),
        bytes: original_bytes(placed, at, len),
        len: len as u8,
        springboard: at != entry.at,
    };
    let jump = |at: Vaddr| {
        let (springboard, at) = (at != entry.at, placed.bias.addr(at));
        target.and_then(|target| long_jump(at, target)).map(|bytes| Piece { at, bytes, len: 5, springboard })
    };
    match entry.form {
        Form::None => Vec::new(),
        Form::Near => vec![jump(entry.at).unwrap_or_else(|| original(entry.at, 5))],
        Form::Short { padding: room } | Form::Borrowed { at: room, .. } => match jump(room) {
            Some(far) => {
                // It was chosen within reach of a signed byte.
                let distance = room.0.wrapping_sub(entry.at.0 + 2) as i8;
                let bytes = [0xeb, distance as u8, 0, 0, 0, 0, 0, 0];
                vec![far, Piece { at: placed.bias.addr(entry.at), bytes, len: 2, springboard: false }]
            }
            None => vec![original(room, 5), original(entry.at, 2)],
        },
    }
}

/// What stands at `at` of a loaded and bound generation that is not redirected.
fn original_bytes(placed: &Placed, at: Vaddr, len: usize) -> [u8; 8] {
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
    bytes
}

fn long_jump(at: Addr, target: Addr) -> Option<[u8; 8]> {
    let distance = i32::try_from(target.0.wrapping_sub(at.0 + 5) as i64).ok()?;
    let mut bytes = [0; 8];
    bytes[0] = 0xe9;
    bytes[1..5].copy_from_slice(&distance.to_le_bytes());
    Some(bytes)
}
