//! Three-way merge of initial values: a static that the program has never touched takes the initialiser of the new file.
//!
//! Base is the initial value of any generation so far, theirs the live bytes, ours the new file's initial value. What the
//! program has changed stays; if the initialiser changed as well, that is reported. A value that a generation gave and that a
//! rollback left in place is no change of the program's either.

use super::{Plan, attribution, bind::FunctionIdentities, homes::Home, lineage::Lineage};
use crate::{
    image::{Image, Object, RelocationKind, Resolves},
    model::{Addr, LoadBias, Vaddr},
};

/// A generation that a rollback has left, and the homes of the statics that took its initial values.
#[derive(Clone, Copy, Debug)]
pub struct Left<'a> {
    /// Index into the lineage.
    pub generation: usize,
    pub merged: &'a [Addr],
}

/// A static whose initialiser differs from the running generation's, or from one that was left.
#[derive(Debug)]
pub struct Question {
    /// Index into the new image's objects.
    pub object: usize,
    pub home: Addr,
    pub size: u64,
}

/// The statics to be asked about, each once.
pub fn questions(plan: &Plan, left: &[Left<'_>]) -> Vec<Question> {
    let of = |object: usize| {
        let Home::At(home) = plan.homes.objects[object] else { return None };
        Some(Question { object, home, size: plan.image.objects[object].size })
    };
    let mut objects = plan.homes.reinitialised.clone();
    if !left.is_empty() {
        let given = |home: &Addr| left.iter().any(|left| left.merged.contains(home));
        objects.extend(plan.homes.kept.iter().copied().filter(|object| match &plan.homes.objects[*object] {
            Home::At(home) => given(home),
            Home::Own => false,
        }));
        objects.sort_unstable();
        objects.dedup();
    }
    objects.into_iter().filter_map(of).collect()
}

/// What is to happen with such a static.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The program never touched it: it takes this value.
    Take(Vec<u8>),
    /// It holds what it is to hold, or the two initialisers come to the same.
    Same,
    /// The program has changed it, or its new value depends on other modules.
    Keep,
}

/// What is to happen with the static that `question` is about and that holds `live`.
pub fn answer(
    plan: &Plan,
    lineage: &Lineage,
    functions: &FunctionIdentities,
    bias: LoadBias,
    question: &Question,
    left: &[Left<'_>],
    live: &[u8],
) -> Answer {
    let object = &plan.image.objects[question.object];
    let Some(new) = new_value(plan, functions, bias, object) else { return Answer::Keep };
    let in_generation = |generation: usize| {
        let placed = lineage.placed(generation);
        let objects = placed.image.objects.iter().zip(&placed.homes.objects);
        let same = move |(candidate, home): &(&Object, &Addr)| **home == question.home && candidate.size == object.size;
        objects.filter(same).map(move |(candidate, _)| (generation, candidate))
    };
    let mut older = lineage.path(plan.parent).into_iter().rev().flat_map(in_generation);
    let given = left.iter().filter(|left| left.merged.contains(&question.home));
    let mut given = given.flat_map(|left| in_generation(left.generation));
    let starts_with = |(generation, candidate): (usize, &Object), value: &[u8]| {
        let placed = lineage.placed(generation);
        initial_value(&placed.image, candidate).is_some_and(|initial| {
            is_initial(value, &initial.bytes, &initial.pointers, |target, word| {
                word == placed.bias.addr(target).0 || known_elsewhere(lineage, generation, target).contains(&word)
            })
        })
    };
    let Some(last) = older.next() else { return Answer::Keep };
    let (untouched, unchanged) = (starts_with(last, live), starts_with(last, &new));
    if new == live || (untouched && unchanged) {
        Answer::Same
    } else if untouched || given.any(|one| starts_with(one, live)) {
        Answer::Take(new)
    } else if unchanged {
        Answer::Same
    } else if older.any(|one| starts_with(one, live)) {
        Answer::Take(new)
    } else {
        Answer::Keep
    }
}

/// What the new file initialises it with, as it would stand in the process.
fn new_value(plan: &Plan, functions: &FunctionIdentities, bias: LoadBias, object: &Object) -> Option<Vec<u8>> {
    let Initial { mut bytes, pointers } = initial_value(&plan.image, object)?;
    for (at, target) in pointers {
        let address = match plan.image.function_starting_at(target) {
            Some(function) => functions.of(function),
            None => attribution::of_address(&plan.image, &plan.homes, target),
        };
        let address = address.unwrap_or_else(|| bias.addr(target));
        bytes.get_mut(at..at + 8)?.copy_from_slice(&address.0.to_le_bytes());
    }
    Some(bytes)
}

/// What a static starts with.
struct Initial {
    bytes: Vec<u8>,
    /// Offset of each pointer among them, and what it leads to.
    pointers: Vec<(usize, Vaddr)>,
}

/// As the file has it; `None` where the loader asks other modules.
fn initial_value(image: &Image, object: &Object) -> Option<Initial> {
    let size = usize::try_from(object.size).ok()?;
    let stored = image.bytes_from(object.address);
    let mut bytes = vec![0; size];
    let len = size.min(stored.len());
    bytes[..len].copy_from_slice(&stored[..len]);
    let relocations = &image.tables.relocations;
    let first = relocations.partition_point(|relocation| relocation.slot < object.address);
    let mut pointers = Vec::new();
    for relocation in relocations[first..].iter().take_while(|relocation| relocation.slot < object.end()) {
        match (&relocation.resolves, relocation.kind) {
            (Resolves::Here(target) | Resolves::Symbol { here: Some(target), .. }, RelocationKind::Address) => {
                pointers.push(((relocation.slot.0 - object.address.0) as usize, *target));
            }
            _ => return None,
        }
    }
    Some(Initial { bytes, pointers })
}

/// Where else a pointer of that generation may lead: the home of a static, the oldest entry of a function.
fn known_elsewhere(lineage: &Lineage, generation: usize, target: Vaddr) -> Vec<u64> {
    let placed = lineage.placed(generation);
    if let Some(function) = placed.image.function_starting_at(target) {
        return lineage.instances(placed.families[function]).map(|instance| lineage.address(instance).0).collect();
    }
    let home = placed
        .image
        .object_at(target)
        .map(|object| placed.homes.objects[object].0.wrapping_add(target.0 - placed.image.objects[object].address.0));
    home.into_iter().collect()
}

fn is_initial(live: &[u8], value: &[u8], pointers: &[(usize, Vaddr)], leads_to: impl Fn(Vaddr, u64) -> bool) -> bool {
    if live.len() != value.len() {
        return false;
    }
    let mut at = 0;
    for (offset, target) in pointers {
        let Some(word) = live.get(*offset..*offset + 8).and_then(|word| word.try_into().ok()) else { return false };
        if live[at..*offset] != value[at..*offset] || !leads_to(*target, u64::from_le_bytes(word)) {
            return false;
        }
        at = *offset + 8;
    }
    live[at..] == value[at..]
}

#[cfg(test)]
mod tests {
    use super::is_initial;
    use crate::model::Vaddr;

    #[test]
    fn a_pointer_counts_by_where_it_leads() {
        let check = |live: &[u8; 12], expected| {
            let value = [1, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9];
            assert_eq!(is_initial(live, &value, &[(4, Vaddr(5))], |target, word| word == target.0 + 100), expected);
        };
        check(&[1, 0, 0, 0, 105, 0, 0, 0, 0, 0, 0, 0], true);
        check(&[2, 0, 0, 0, 105, 0, 0, 0, 0, 0, 0, 0], false);
        check(&[1, 0, 0, 0, 106, 0, 0, 0, 0, 0, 0, 0], false);
    }
}
