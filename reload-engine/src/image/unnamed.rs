//! State without a symbol: what hand-written assembly keeps behind local labels, and whatever was hidden in a stripped file.
//!
//! Each stretch between two named statics that code uses becomes one static, known by its section and its neighbours. What is
//! inside of it cannot be told apart; the planner keeps it only where all of it is as long as it was.

use std::ops::Range;

use twox_hash::XxHash3_128;

use super::{Analysis, CodeReference, NameKey, Object, RelocationKind, Resolves, Section};
use crate::model::Vaddr;

/// A gap of so many bytes is no padding: no compiler aligns a static further.
const NO_PADDING: u64 = 64;

/// The stretches, in the order of their addresses.
pub fn find(image: &Analysis, references: &[CodeReference]) -> Vec<Object> {
    let state = image.tables.sections.iter().filter(|section| section.kind.is_state());
    let mut gaps: Vec<Gap<'_>> = state.flat_map(|section| gaps(image, section)).collect();
    if gaps.is_empty() {
        return Vec::new();
    }
    let pointed = image.tables.relocations.iter().filter_map(|relocation| match relocation.resolves {
        Resolves::Here(target) if relocation.kind == RelocationKind::Address => Some(target),
        _ => None,
    });
    let use_of = |target: Vaddr, taken: bool| {
        let index = gaps.partition_point(|gap| gap.place.start <= target.0).checked_sub(1)?;
        let place = &gaps[index].place;
        // An access is to what lies there; an address may be the end of what lies before.
        let accessed = || !taken && image.object_at(target).is_none();
        let long = || place.end - place.start >= NO_PADDING && target.0 > place.start;
        (target.0 < place.end && (long() || accessed())).then_some(index)
    };
    let mut used = image.hands.filter_map(references, |it| use_of(it.target, it.address_taken));
    used.extend(pointed.filter_map(|target| use_of(target, true)));
    for index in used {
        gaps[index].used = true;
    }
    gaps.iter().filter(|gap| gap.used).map(Gap::as_static).collect()
}

/// What no named static of a section covers.
struct Gap<'a> {
    place: Range<u64>,
    section: &'a Section,
    /// Of the statics around.
    neighbours: [Option<NameKey>; 2],
    used: bool,
}

impl Gap<'_> {
    fn as_static(&self) -> Object {
        let mut key = self.section.name.as_bytes().to_vec();
        key.extend(self.neighbours.into_iter().flat_map(|key| key.map_or(0, |key| key.0).to_le_bytes()));
        Object {
            name: 0..0,
            key: NameKey(XxHash3_128::oneshot(&key)),
            address: Vaddr(self.place.start),
            size: self.place.end - self.place.start,
            file: None,
            version: None,
            local: true,
            constant: false,
            content: None,
        }
    }
}

fn gaps<'a>(image: &Analysis, section: &'a Section) -> Vec<Gap<'a>> {
    let objects = &image.objects;
    let first = objects.partition_point(|object| object.address.0 < section.address);
    let named = objects[first..].iter().take_while(|object| object.address.0 < section.end());
    let gap = |place, neighbours| Gap { place, section, neighbours, used: false };
    let mut gaps = Vec::new();
    let (mut at, mut before) = (section.address, None);
    for object in named.filter(|object| object.size > 0) {
        if object.address.0 > at {
            gaps.push(gap(at..object.address.0, [before, Some(object.key)]));
        }
        at = at.max(object.end().0);
        before = Some(object.key);
    }
    if at < section.end() {
        gaps.push(gap(at..section.end(), [before, None]));
    }
    gaps
}
