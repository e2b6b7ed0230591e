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
    let mut exact: Vec<Vaddr> =
        references.iter().filter(|reference| !reference.address_taken).map(|reference| reference.target).collect();
    let pointed = image.tables.relocations.iter().filter_map(|relocation| match relocation.resolves {
        Resolves::Here(target) if relocation.kind == RelocationKind::Address => Some(target),
        _ => None,
    });
    let mut taken: Vec<Vaddr> = references.iter().map(|reference| reference.target).chain(pointed).collect();
    exact.sort_unstable();
    taken.sort_unstable();
    let mut found = Vec::new();
    for section in image.tables.sections.iter().filter(|section| section.kind.is_state()) {
        for (gap, neighbours) in gaps(image, section) {
            // An access is to what lies there; an address may be the end of what lies before.
            let accessed = any_in(&exact, gap.start..gap.end, |at| image.object_at(at).is_none());
            let long = gap.end - gap.start >= NO_PADDING && any_in(&taken, gap.start + 1..gap.end, |_| true);
            if accessed || long {
                let mut key = section.name.as_bytes().to_vec();
                key.extend(neighbours.into_iter().flat_map(|key| key.map_or(0, |key| key.0).to_le_bytes()));
                found.push(Object {
                    name: 0..0,
                    key: NameKey(XxHash3_128::oneshot(&key)),
                    address: Vaddr(gap.start),
                    size: gap.end - gap.start,
                    file: None,
                    version: None,
                    local: true,
                    constant: false,
                    content: None,
                });
            }
        }
    }
    found
}

fn any_in(ascending: &[Vaddr], range: Range<u64>, of: impl Fn(Vaddr) -> bool) -> bool {
    let first = ascending.partition_point(|at| at.0 < range.start);
    ascending[first..].iter().take_while(|at| at.0 < range.end).any(|at| of(*at))
}

/// What no named static of the section covers, with the keys of the statics around.
fn gaps(image: &Analysis, section: &Section) -> Vec<(Range<u64>, [Option<NameKey>; 2])> {
    let objects = &image.objects;
    let first = objects.partition_point(|object| object.address.0 < section.address);
    let named = objects[first..].iter().take_while(|object| object.address.0 < section.end());
    let mut gaps = Vec::new();
    let (mut at, mut before) = (section.address, None);
    for object in named.filter(|object| object.size > 0) {
        if object.address.0 > at {
            gaps.push((at..object.address.0, [before, Some(object.key)]));
        }
        at = at.max(object.end().0);
        before = Some(object.key);
    }
    if at < section.end() {
        gaps.push((at..section.end(), [before, None]));
    }
    gaps
}
