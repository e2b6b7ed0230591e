//! Turns a plan into bytes once the loader has said where the shadow lies: in the code that is to run there, and in its data,
//! every reference to a static that stays is made to point at the old storage, every taken address of a function at the oldest
//! entry, so that identity stays too.
//!
//! The shadow is not published yet: nothing executes or reads what is written here.

use std::cell::OnceCell;

use foldhash::HashMap;
use reload_protocol::{Range, Segment, Write};

use super::{Plan, attribution, detours, homes::TlsHome, lineage::Lineage, residents::Residents};
use crate::{
    image::{Image, RelocationKind, Resolves},
    model::{Addr, LoadBias, Place, Vaddr},
};

/// Reads 64-bit words of the target; `None` where nothing is mapped.
pub type ReadWords<'a> = dyn FnMut(&[Addr]) -> crate::error::Result<Vec<Option<u64>>> + 'a;

/// What is to be written into a loaded shadow.
#[derive(Debug, Default)]
pub struct Binding {
    pub segments: Vec<Segment>,
    /// Ascending by address.
    pub writes: Vec<Write>,
    /// Functions, by index, of which another module has a definition that counts instead.
    pub preempted: Vec<usize>,
}

const READ: u32 = 1;
const WRITE: u32 = 2;
const EXECUTE: u32 = 4;

/// Computes the writes to the code of `plan`'s shadow at `place`: 32-bit fields, ascending. Needs nothing but the plan, so
/// that a replay finds the same.
///
/// # Errors
/// Something lies out of reach.
pub fn code(
    plan: &Plan,
    functions: &FunctionIdentities,
    residents: &Residents,
    place: Place,
) -> Result<Vec<(Vaddr, [u8; 4])>, String> {
    let bias = place.bias;
    let image = &*plan.image;
    let mut fields = Vec::new();
    let mut displace = |site: Vaddr, next: Vaddr, target: Addr| {
        let distance = target.0.wrapping_sub(bias.addr(next).0) as i64;
        let distance = i32::try_from(distance).map_err(|_| {
            format!(
                "the new code at {:?} is more than 2 GiB away from {target:?}, which it must reach",
                bias.addr(site)
            )
        })?;
        fields.push((site, distance.to_le_bytes()));
        Ok::<(), String>(())
    };
    for reference in residents.references(&image.references).chain(residents.references(&image.approaches)) {
        let home = match image.function_starting_at(reference.target) {
            Some(function) => functions.of(function),
            None => attribution::of_code(image, &plan.homes, &plan.decisions, reference),
        };
        if let Some(home) = home {
            displace(reference.site, reference.next(), home)?;
        }
    }
    for call in residents.calls() {
        displace(call.site, call.next, call.to)?;
    }
    for (tls_use, index) in &plan.tls.redirected {
        displace(tls_use.site, tls_use.next, bias.addr(plan.extra_pair(*index)))?;
    }
    for detour in &plan.tls.detours {
        fields.extend(detours::fields(detour.code(place)));
    }
    for prelude in &plan.tls.preludes {
        fields.extend(detours::fields(prelude.code(|index| plan.extra_pair(index))));
    }
    fields.extend(plan.tls.displacements.iter().map(|(site, offset)| (*site, offset.to_le_bytes())));
    let own = |offset: u64| place.thread_local(offset).1 as u32;
    fields.extend(plan.tls.own_distances.iter().map(|(site, offset)| (*site, own(*offset).to_le_bytes())));
    fields.sort_unstable_by_key(|(site, _)| *site);
    Ok(fields)
}

/// Computes all writes for the shadow of `plan` at `place`; `code` is what [`code`] found.
///
/// # Errors
/// `Err(Ok(reason))`: a thread-local cannot be bound; `Err(Err(error))`: the target could not be read.
pub fn bind(
    plan: &Plan,
    lineage: &Lineage,
    functions: &FunctionIdentities,
    residents: &Residents,
    code: &[(Vaddr, [u8; 4])],
    place: Place,
    read: &mut ReadWords<'_>,
) -> Result<Binding, Result<String, crate::error::Error>> {
    let Place { bias, tls_module, .. } = place;
    let mut binder = Binder { plan, image: &plan.image, bias, writes: Vec::new(), preempted: Vec::new() };
    binder.data(lineage, functions, residents, read)?;
    binder.thread_locals(lineage, tls_module, read)?;
    Ok(binder.finish(code))
}

/// The writes that give a shadow which was bound with [`FunctionIdentities::none`], and has run since, its identities; code
/// and data. A pointer in data that the program has changed meanwhile stays.
///
/// # Errors
/// `Err(Ok(reason))`: something lies out of reach; `Err(Err(error))`: the target could not be read.
pub fn identities(
    plan: &Plan,
    functions: &FunctionIdentities,
    place: Place,
    read: &mut ReadWords<'_>,
) -> Result<Vec<Write>, Result<String, crate::error::Error>> {
    let image = &*plan.image;
    let bias = place.bias;
    let all = Residents::all();
    let before = code(plan, &FunctionIdentities::none(plan), &all, place).map_err(Ok)?;
    let mut writes: Vec<Write> = code(plan, functions, &all, place)
        .map_err(Ok)?
        .into_iter()
        .filter(|field| before.binary_search(field).is_err())
        .map(|(site, field)| Write { address: bias.addr(site).0, bytes: field.to_vec() })
        .collect();
    let pointers = image.tables.relocations.iter().filter_map(|relocation| match &relocation.resolves {
        Resolves::Here(target) | Resolves::Symbol { here: Some(target), .. }
            if relocation.kind == RelocationKind::Address =>
        {
            let home = functions.of(image.function_starting_at(*target)?)?;
            Some((bias.addr(relocation.slot), bias.addr(*target), home))
        }
        _ => None,
    });
    let pointers: Vec<(Addr, Addr, Addr)> = pointers.collect();
    let slots: Vec<Addr> = pointers.iter().map(|(slot, _, _)| *slot).collect();
    let held = read(&slots).map_err(Err)?;
    let unchanged = pointers.into_iter().zip(held).filter(|((_, own, _), held)| *held == Some(own.0));
    writes
        .extend(unchanged.map(|((slot, _, home), _)| Write { address: slot.0, bytes: home.0.to_le_bytes().to_vec() }));
    Ok(writes)
}

struct Binder<'a> {
    plan: &'a Plan,
    image: &'a Image,
    bias: LoadBias,
    writes: Vec<(Addr, u64, u8)>,
    preempted: Vec<usize>,
}

type Outcome = Result<(), Result<String, crate::error::Error>>;

impl Binder<'_> {
    fn data(
        &mut self,
        lineage: &Lineage,
        functions: &FunctionIdentities,
        residents: &Residents,
        read: &mut ReadWords<'_>,
    ) -> Outcome {
        let mut bound_by_name = Vec::new();
        for relocation in &self.image.tables.relocations {
            let called = relocation.kind == RelocationKind::CallSlot;
            if !(called || relocation.kind == RelocationKind::Address) || self.is_unused(relocation.slot) {
                continue;
            }
            let (target, by_name) = match &relocation.resolves {
                Resolves::Here(target) => (*target, false),
                Resolves::Symbol { here: Some(target), .. } => (*target, true),
                Resolves::Symbol { here: None, .. } => continue,
            };
            let home = match self.image.function_starting_at(target) {
                // What its resolver has chosen is all that is known of it.
                Some(_) if self.image.is_resolver(target) => continue,
                // Such a call needs no detour over the old entry, and must not take one that leads nowhere.
                Some(_) if called && residents.contains(target) => None,
                Some(function) => functions.of(function),
                None => attribution::of_address(self.image, &self.plan.homes, target),
            };
            if by_name {
                let wanted = home.unwrap_or_else(|| self.bias.addr(target));
                bound_by_name.push((relocation.slot, wanted, home.is_some(), target));
            } else if let Some(home) = home {
                self.writes.push((self.bias.addr(relocation.slot), home.0, 8));
            }
        }
        // The loader may have found the definition of this file, of an older generation, which is the same thing, or of
        // another module: then that is the one everybody uses.
        let slots: Vec<Addr> = bound_by_name.iter().map(|(slot, ..)| self.bias.addr(*slot)).collect();
        let span = self.image.span();
        for ((slot, wanted, kept, target), value) in bound_by_name.into_iter().zip(read(&slots).map_err(Err)?) {
            let Some(value) = value.map(Addr) else { continue };
            let here = span.contains(&self.bias.vaddr(value).0);
            if value != wanted && ((here && kept) || is_ours(lineage, value)) {
                self.writes.push((self.bias.addr(slot), wanted.0, 8));
            } else if value != wanted && !here && value.0 != 0 {
                self.preempted.extend(self.image.function_starting_at(target));
            }
        }
        Ok(())
    }

    /// Whether `slot` lies in this file's copy of a static that lives elsewhere.
    fn is_unused(&self, slot: Vaddr) -> bool {
        self.image.object_at(slot).is_some_and(|object| {
            !self.image.objects[object].constant && matches!(self.plan.homes.objects[object], super::homes::Home::At(_))
        })
    }

    fn thread_locals(&mut self, lineage: &Lineage, tls_module: u64, read: &mut ReadWords<'_>) -> Outcome {
        let tls = &self.plan.tls;
        let preemptible: Vec<Addr> =
            tls.pairs.iter().filter(|pair| pair.2).map(|pair| self.bias.addr(pair.0)).collect();
        let found: HashMap<Addr, Option<u64>> =
            preemptible.iter().copied().zip(read(&preemptible).map_err(Err)?).collect();
        let ours = |module: u64| module == tls_module || lineage.all().iter().any(|placed| placed.tls_module == module);
        for (slot, pair, _) in &tls.pairs {
            let slot = self.bias.addr(*slot);
            if found.get(&slot).is_none_or(|module| module.is_some_and(ours)) {
                // Module 0 does not exist: it stands for the new generation's own, not known when this was planned.
                let module = if pair.module == 0 { tls_module } else { pair.module };
                self.writes.push((slot, module, 8));
                self.writes.push((Addr(slot.0 + 8), pair.offset, 8));
            }
        }
        for (index, pair) in tls.extra_pairs.iter().enumerate() {
            let place = self.bias.addr(self.plan.extra_pair(index));
            self.writes.push((place, pair.module, 8));
            self.writes.push((Addr(place.0 + 8), pair.offset, 8));
        }
        for fixed in &tls.fixed {
            let variable = &self.image.thread_locals[fixed.thread_local];
            let name = || crate::image::demangle(self.image.object_name(variable));
            let TlsHome::At { module, offset } = self.plan.homes.thread_locals[fixed.thread_local] else { continue };
            let Some((source, adjust)) = source_of(lineage, module, offset + fixed.inside, fixed.words) else {
                return Err(Ok(format!(
                    "thread-local `{}` is reached in a way (initial-exec or descriptor) that no older generation used",
                    name()
                )));
            };
            let words: Vec<Addr> = (0..fixed.words as u64).map(|word| Addr(source.0 + word * 8)).collect();
            let slot = self.bias.addr(fixed.slot);
            for (index, value) in read(&words).map_err(Err)?.into_iter().enumerate() {
                let Some(value) = value else {
                    return Err(Ok(format!("the slot of thread-local `{}` cannot be read", name())));
                };
                let value = if index == 0 && fixed.words == 1 { value.wrapping_add(adjust) } else { value };
                self.writes.push((Addr(slot.0 + index as u64 * 8), value, 8));
            }
        }
        Ok(())
    }

    fn finish(mut self, code: &[(Vaddr, [u8; 4])]) -> Binding {
        self.writes.sort_unstable_by_key(|(address, _, _)| *address);
        let mut binding = Binding { preempted: self.preempted, ..Binding::default() };
        for (address, value, len) in self.writes {
            let bytes = &value.to_le_bytes()[..len as usize];
            match binding.writes.last_mut() {
                Some(last) if last.address + last.bytes.len() as u64 == address.0 => {
                    last.bytes.extend_from_slice(bytes)
                }
                _ => binding.writes.push(Write { address: address.0, bytes: bytes.to_vec() }),
            }
        }
        binding.writes.extend(runs(self.image, self.bias, code));
        binding.writes.sort_by_key(|write| write.address);
        binding.segments = segments(self.image, self.bias, &binding.writes);
        binding
    }
}

/// Bytes between two fields of code that are rather written as they are than left out: a write of its own takes longer.
const CLOSE: u64 = 64;

/// The fields of code as few writes: between those that lie close together stands what the file has there.
fn runs(image: &Image, bias: LoadBias, code: &[(Vaddr, [u8; 4])]) -> Vec<Write> {
    let mut runs: Vec<Write> = Vec::new();
    let mut end = Vaddr(0);
    for (site, field) in code {
        let gap = site.0.wrapping_sub(end.0);
        let between = (gap <= CLOSE).then(|| image.bytes_from(end)).and_then(|rest| {
            // Detours lie outside of every section.
            if gap == 0 {
                return Some(&[][..]);
            }
            // In one section, and the loader has changed nothing there (slots have 8 bytes).
            let same = rest.len() as u64 >= gap + 4 && !image.has_relocation_in(Vaddr(end.0.saturating_sub(7))..*site);
            same.then(|| &rest[..gap as usize])
        });
        match (runs.last_mut(), between) {
            (Some(run), Some(between)) => {
                run.bytes.extend_from_slice(between);
                run.bytes.extend_from_slice(field);
            }
            _ => runs.push(Write { address: bias.addr(*site).0, bytes: field.to_vec() }),
        }
        end = Vaddr(site.0 + 4);
    }
    runs
}

/// Whether the address lies in an older generation of the module, or in storage that one of them uses elsewhere.
fn is_ours(lineage: &Lineage, address: Addr) -> bool {
    lineage.all().iter().any(|placed| {
        placed.image.span().contains(&placed.bias.vaddr(address).0) || placed.homes.elsewhere.contains(&address)
    })
}

/// The slot of an older generation that stands for the same thread-local, and what to add to its value. An initial-exec
/// slot of any variable of the module will do: all have the same distance from the thread pointer.
fn source_of(lineage: &Lineage, module: u64, offset: u64, words: u8) -> Option<(Addr, u64)> {
    let wanted = if words == 2 { RelocationKind::TlsDescriptor } else { RelocationKind::ThreadPointerOffset };
    lineage.all().iter().filter(|placed| placed.tls_module == module).find_map(|placed| {
        placed.image.tables.relocations.iter().filter(|relocation| relocation.kind == wanted).find_map(|relocation| {
            let here = relocation.resolves.here()?;
            // The slot of a variable that lives in another block was bound to that one.
            let variable = placed.image.thread_local_at(here.0)?;
            if placed.homes.thread_locals[variable].0 != module {
                return None;
            }
            let slot = placed.bias.addr(relocation.slot);
            (words == 1 || here.0 == offset).then(|| (slot, offset.wrapping_sub(here.0)))
        })
    })
}

/// The parts of the mapped file that hold writes, with the protection the loader left them with.
fn segments(image: &Image, bias: LoadBias, writes: &[Write]) -> Vec<Segment> {
    let mut parts = Vec::new();
    for segment in &image.tables.segments {
        let start = segment.address & !0xfff;
        let end = (segment.address + segment.memory_size + 0xfff) & !0xfff;
        let protection = READ | if segment.writable { WRITE } else { 0 } | if segment.executable { EXECUTE } else { 0 };
        match &image.tables.relro {
            Some(relro) if segment.writable && relro.start >= start && relro.end <= end && !relro.is_empty() => {
                parts.push((start, relro.start, protection));
                parts.push((relro.start, relro.end, READ));
                parts.push((relro.end, end, protection));
            }
            _ => parts.push((start, end, protection)),
        }
    }
    parts
        .into_iter()
        .map(|(start, end, protection)| (bias.addr(Vaddr(start)).0, end.saturating_sub(start), protection))
        .filter(|(start, len, _)| {
            let first = writes.partition_point(|write| write.address < *start);
            writes.get(first).is_some_and(|write| write.address < start + len)
        })
        .map(|(start, len, protection)| Segment { range: Range { start, len }, protection })
        .collect()
}

/// Which old entry stands for a new function wherever its address is taken.
#[derive(Debug)]
pub struct FunctionIdentities {
    /// Parallel to the new image's functions.
    addresses: Vec<Option<Addr>>,
}

impl FunctionIdentities {
    /// Every function stands for itself.
    pub fn none(plan: &Plan) -> Self {
        FunctionIdentities { addresses: vec![None; plan.image.functions.len()] }
    }

    pub fn new(plan: &Plan, lineage: &Lineage) -> Self {
        let new_address = OnceCell::new();
        let addresses = plan
            .image
            .functions
            .iter()
            .zip(&plan.partners)
            .enumerate()
            .map(|(index, (function, partner))| {
                let family = (*partner)?;
                let oldest = lineage.oldest(family);
                if !lineage.is_entangled(family) {
                    // It has room of its own, and its entry is shared with nobody.
                    return Some(lineage.address(oldest));
                }
                let old = lineage.function(oldest);
                let new_address = new_address.get_or_init(|| plan.family_addresses());
                let stays_whole = lineage
                    .sharers(oldest)
                    .all(|(_, family)| new_address.get(family as usize) == Some(&Some(function.address)));
                let content = lineage.content(oldest);
                let same = content.is_some() && content == plan.image.contents[index];
                let has_room = match lineage.lender(oldest) {
                    Some(lender) => {
                        plan.lenders.contains(&lineage.placed(lender.generation).families[lender.function as usize])
                    }
                    None => lineage.entry(oldest).form != crate::image::Form::None,
                };
                let reachable = has_room || (same && !plan.distinct.contains(&(index as u32)));
                (stays_whole && reachable && !old.indirect && !function.indirect).then(|| lineage.address(oldest))
            })
            .collect();
        FunctionIdentities { addresses }
    }

    pub fn of(&self, function: usize) -> Option<Addr> {
        self.addresses[function]
    }
}
