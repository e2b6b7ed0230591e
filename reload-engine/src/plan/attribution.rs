//! Which object an address in the new file means, and so by how much a reference to it must move.
//!
//! Compilers form addresses one past the end of an object and point into the gap behind it. While neighbours move by the
//! same distance that does not matter. Where they part ways, what the same place of the same function meant in the running
//! generation decides; what stays open is named, to be refused.

use std::collections::HashMap;

use super::{
    homes::{Home, PlannedHomes},
    lineage::Lineage,
};
use crate::{
    image::{CodeReference, Image, demangle},
    model::{Addr, Vaddr},
};

/// The references from code whose address is both the end of one object and the start of another that part ways.
#[derive(Debug, Default)]
pub struct Decisions {
    /// By site: the object that is meant.
    meant: HashMap<Vaddr, usize>,
    /// Those that stay open, one line per function and pair of statics.
    pub open: Vec<String>,
}

/// Decides every ambiguous reference of `image`, by comparison with the generation `parent`.
pub fn decide(
    lineage: &Lineage,
    parent: usize,
    image: &Image,
    partners: &[Option<u32>],
    homes: &PlannedHomes,
) -> Decisions {
    let mut decisions = Decisions::default();
    for reference in &image.references {
        let Some((before, here)) = candidates(image, homes, reference) else { continue };
        let old = reference.function.and_then(|function| {
            let family = partners[function as usize]?;
            lineage.instances(family).iter().find(|instance| instance.generation == parent)
        });
        let was = old.and_then(|old| {
            let old_image = &*lineage.placed(parent).image;
            counterpart(image, reference, old_image, old.function).map(|counterpart| {
                let key = |object: Option<usize>| object.map(|object| old_image.objects[object].key);
                let end = key(ends_at(old_image, counterpart.target)) == Some(image.objects[before].key);
                let start = old_image
                    .object_at(counterpart.target)
                    .filter(|object| old_image.objects[*object].address == counterpart.target);
                (end, key(start) == Some(image.objects[here].key))
            })
        });
        match was {
            Some((true, false)) => {
                decisions.meant.insert(reference.site, before);
            }
            Some((false, true)) => {
                decisions.meant.insert(reference.site, here);
            }
            _ => decisions.open.push(describe(image, reference, before, here)),
        }
    }
    decisions.open.dedup();
    decisions
}

/// Where a reference that code makes must lead; `None`: it already is right. What stayed open, and was forced, counts as
/// the object that starts there.
pub fn of_code(image: &Image, homes: &PlannedHomes, decisions: &Decisions, reference: &CodeReference) -> Option<Addr> {
    match decisions.meant.get(&reference.site) {
        Some(object) => moved(image, homes, *object, reference.target),
        None => of_address(image, homes, reference.target),
    }
}

/// The same for an address as initialised data holds it.
pub fn of_address(image: &Image, homes: &PlannedHomes, target: Vaddr) -> Option<Addr> {
    let owner = image.object_at(target).or_else(|| neighbour(image, target))?;
    moved(image, homes, owner, target)
}

fn moved(image: &Image, homes: &PlannedHomes, object: usize, target: Vaddr) -> Option<Addr> {
    distance(image, homes, object).map(|distance| Addr(target.0.wrapping_add(distance)))
}

/// How far an object moves from its address in the file to its home; `None` when it stays with its generation.
fn distance(image: &Image, homes: &PlannedHomes, object: usize) -> Option<u64> {
    match homes.objects[object] {
        Home::At(home) => Some(home.0.wrapping_sub(image.objects[object].address.0)),
        Home::Own => None,
    }
}

/// The object that ends at the reference's target and the one that starts there, if they part ways and the code may well
/// mean the former, as it also uses that one's inside.
fn candidates(image: &Image, homes: &PlannedHomes, reference: &CodeReference) -> Option<(usize, usize)> {
    if !reference.address_taken {
        return None;
    }
    let here = image.object_at(reference.target).filter(|here| image.objects[*here].address == reference.target)?;
    let before = ends_at(image, reference.target)?;
    let apart = distance(image, homes, before) != distance(image, homes, here);
    (apart && uses_inside(image, reference, before)).then_some((before, here))
}

/// The reference at the same place of the old function: both make as many references to state, and those before and after
/// mean the same.
fn counterpart<'a>(
    image: &Image,
    reference: &CodeReference,
    old_image: &'a Image,
    old_function: u32,
) -> Option<&'a CodeReference> {
    let new = state_references(image, reference.function?);
    let old = state_references(old_image, old_function);
    let place = new.iter().position(|other| other.site == reference.site)?;
    let alike = |(new, old): (&&CodeReference, &&CodeReference)| {
        match (image.object_at(new.target), old_image.object_at(old.target)) {
            (Some(a), Some(b)) => {
                image.objects[a].key == old_image.objects[b].key
                    // The same doubt, at another place.
                    || ends_at(image, new.target).is_some()
                    || ends_at(old_image, old.target).is_some()
            }
            _ => true,
        }
    };
    let same = new.len() == old.len() && new.iter().zip(&old).all(alike);
    same.then(|| old[place])
}

fn state_references(image: &Image, function: u32) -> Vec<&CodeReference> {
    let function = &image.functions[function as usize];
    let first = image.references.partition_point(|other| other.site < function.address);
    image.references[first..]
        .iter()
        .take_while(|other| other.site < function.end)
        .filter(|other| image.function_starting_at(other.target).is_none())
        .collect()
}

/// An address in a gap belongs to the object before it, and before the first object to the first.
fn neighbour(image: &Image, target: Vaddr) -> Option<usize> {
    let section = image.section_at(target).or_else(|| image.section_at(Vaddr(target.0.wrapping_sub(1))))?;
    if !section.kind.is_state() {
        return None;
    }
    let after = image.objects.partition_point(|object| object.address <= target);
    let in_section = |index: &usize| section.contains(image.objects[*index].address);
    (0..after)
        .rev()
        .find(|index| !image.objects[*index].constant)
        .filter(in_section)
        .or_else(|| (after..image.objects.len()).find(|index| !image.objects[*index].constant).filter(in_section))
}

/// The object that ends exactly at `address`.
fn ends_at(image: &Image, address: Vaddr) -> Option<usize> {
    let before = image.object_at(Vaddr(address.0.checked_sub(1)?))?;
    (image.objects[before].end() == address).then_some(before)
}

/// Whether the same function also refers to the inside of `object`.
fn uses_inside(image: &Image, reference: &CodeReference, object: usize) -> bool {
    let Some(function) = reference.function else { return true };
    state_references(image, function).iter().any(|other| image.objects[object].contains(other.target))
}

fn describe(image: &Image, reference: &CodeReference, before: usize, here: usize) -> String {
    let function = reference.function.map_or_else(
        || format!("code at {:?}", reference.site),
        |function| format!("`{}`", demangle(image.function_name(&image.functions[function as usize]))),
    );
    let name = |index: usize| demangle(image.object_name(&image.objects[index]));
    format!(
        "{function} takes an address that is both the end of `{}` and the start of `{}`, which no longer lie together",
        name(before),
        name(here)
    )
}
