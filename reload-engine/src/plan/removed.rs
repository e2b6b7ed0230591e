//! Statics of the running generation that the new one does without. What they hold stays where it is, for old code; new code
//! has no way to it.

use foldhash::HashMap;

use super::{homes::PlannedHomes, registration};
use crate::{
    image::{Content, Image, Object, TextKey, demangle},
    model::Details,
};

/// Of `old`, the running generation: what the new file continues none of.
pub fn statics<'a>(old: &'a Image, planned: &PlannedHomes) -> Vec<&'a Object> {
    let registration = registration::statics(old);
    let counts = |index: usize, object: &Object| {
        !object.constant && object.size > 0 && !object.is_unnamed() && !registration.contains(&index)
    };
    let objects = left(&old.objects, &planned.previous_objects).filter(|(index, object)| counts(*index, object));
    objects.chain(left(&old.thread_locals, &planned.previous_thread_locals)).map(|(_, object)| object).collect()
}

fn left<'a>(old: &'a [Object], previous: &[Option<usize>]) -> impl Iterator<Item = (usize, &'a Object)> + use<'a> {
    let mut continued = vec![false; old.len()];
    previous.iter().flatten().for_each(|index| continued[*index] = true);
    old.iter().enumerate().filter(move |(index, _)| !continued[*index])
}

/// One line for each that may only have got another name: one alone that is new is like it.
pub fn renamed(old: &Image, removed: &[&Object], new: &Image, planned: &PlannedHomes) -> Vec<String> {
    let fresh: Vec<&Object> = planned.new.iter().map(|index| &new.objects[*index]).collect();
    let (removed, fresh) = (alone(removed), alone(&fresh));
    let mut lines: Vec<String> = (fresh.iter())
        .filter_map(|(likeness, is)| Some((removed.get(likeness)?.as_ref()?, is.as_ref()?)))
        .map(|(was, is)| {
            format!(
                "`{}` is gone, and `{}` is new and like it: if that is its new name, it starts anew all the same",
                demangle(old.object_name(was)),
                demangle(new.object_name(is))
            )
        })
        .collect();
    lines.sort();
    lines.truncate(Details::LIMIT);
    lines
}

/// Source file, size and initial value.
type Likeness = (Option<TextKey>, u64, Content);

/// `None` for what several are alike in.
fn alone<'a>(objects: &[&'a Object]) -> HashMap<Likeness, Option<&'a Object>> {
    let mut found = HashMap::default();
    for object in objects {
        let Some(content) = object.content else { continue };
        let alike = found.entry((object.file, object.size, content)).or_insert(Some(*object));
        *alike = alike.filter(|known| std::ptr::eq(*known, *object));
    }
    found
}
