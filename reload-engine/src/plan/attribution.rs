//! Which object an address in the new file means, and so by how much a reference to it must move.
//!
//! Compilers form addresses one past the end of an object and point into the gap behind it. While neighbours move by the
//! same distance that does not matter; where they part ways the address is attributed by rule, or called ambiguous.

use super::homes::{Home, PlannedHomes};
use crate::{
    image::{CodeReference, Image},
    model::{Addr, Vaddr},
};

/// What becomes of a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribution {
    /// It already is right.
    Keep,
    Retarget(Addr),
    /// It may mean the end of the first object or the start of the second (indices), which part ways.
    Ambiguous(usize, usize),
}

/// Attributes a reference that code makes.
pub fn of_code(image: &Image, homes: &PlannedHomes, reference: &CodeReference) -> Attribution {
    let target = reference.target;
    if reference.address_taken
        && let Some(here) = image.object_at(target)
        && image.objects[here].address == target
        && let Some(before) = ends_at(image, target)
        && distance(image, homes, before) != distance(image, homes, here)
        && uses_inside(image, reference, before)
    {
        return Attribution::Ambiguous(before, here);
    }
    of_address(image, homes, target)
}

/// Attributes an address as such, as initialised data holds it.
pub fn of_address(image: &Image, homes: &PlannedHomes, target: Vaddr) -> Attribution {
    let owner = image.object_at(target).or_else(|| neighbour(image, target));
    match owner.map(|owner| distance(image, homes, owner)) {
        Some(Some(distance)) => Attribution::Retarget(Addr(target.0.wrapping_add(distance))),
        _ => Attribution::Keep,
    }
}

/// How far an object moves from its address in the file to its home; `None` when it stays with its generation.
fn distance(image: &Image, homes: &PlannedHomes, object: usize) -> Option<u64> {
    match homes.objects[object] {
        Home::At(home) => Some(home.0.wrapping_sub(image.objects[object].address.0)),
        Home::Own => None,
    }
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
    let function = &image.functions[function as usize];
    let first = image.references.partition_point(|other| other.site < function.address);
    image.references[first..]
        .iter()
        .take_while(|other| other.site < function.end)
        .any(|other| image.objects[object].contains(other.target))
}
