//! Statics of the running generation that the new one does without. What they hold stays where it is, for old code; new code
//! has no way to it.

use std::cell::LazyCell;

use foldhash::HashMap;

use super::{
    homes::{PlannedHomes, not_continued},
    matching::unique,
    registration,
};
use crate::{
    image::{Content, Image, NameKey, Object, demangle, is_compilers},
    model::Details,
};

/// By index, those of a program or library that nothing continues.
#[derive(Debug, Default)]
pub struct Removed {
    pub objects: Vec<usize>,
    pub thread_locals: Vec<usize>,
}

impl Removed {
    /// Of `old`, the running generation.
    pub fn of(old: &Image, planned: &PlannedHomes) -> Removed {
        // Few files leave anything behind.
        let registration = LazyCell::new(|| registration::statics(old));
        let is_own = |object: &Object| !object.is_unnamed() && !is_compilers(old.object_name(object));
        let counts = |index: &usize| {
            let object = &old.objects[*index];
            !object.constant
                && object.size > 0
                && is_own(object)
                && !registration.contains(index)
                && !old.tables.copies.contains(&object.address)
        };
        let objects = not_continued(&planned.previous_objects, old.objects.len());
        let thread_locals = not_continued(&planned.previous_thread_locals, old.thread_locals.len());
        Removed {
            objects: objects.filter(counts).collect(),
            thread_locals: thread_locals.filter(|index| is_own(&old.thread_locals[*index])).collect(),
        }
    }

    /// Demangled.
    pub fn names(&self, old: &Image) -> Vec<String> {
        let objects = self.objects.iter().map(|index| &old.objects[*index]);
        let thread_locals = self.thread_locals.iter().map(|index| &old.thread_locals[*index]);
        objects.chain(thread_locals).take(Details::LIMIT).map(|object| demangle(old.object_name(object))).collect()
    }

    /// One line for each that may only have got another name: one new one, and no other, has the same size and initial value
    /// and is used by a function that used it.
    pub fn perhaps_renamed(&self, old: &Image, new: &Image, planned: &PlannedHomes) -> Vec<String> {
        let objects = if self.objects.is_empty() || planned.new.is_empty() {
            Vec::new()
        } else {
            unique(
                &features(&self.objects, &old.objects, |index| old.users_of(index)),
                &features(&planned.new, &new.objects, |index| new.users_of(index)),
            )
        };
        let thread_locals = if self.thread_locals.is_empty() || planned.new_thread_locals.is_empty() {
            Vec::new()
        } else {
            let (before, after) = (users_of_thread_locals(old), users_of_thread_locals(new));
            let of = |users: &'_ HashMap<usize, Vec<NameKey>>, index| users.get(&index).cloned().unwrap_or_default();
            unique(
                &features(&self.thread_locals, &old.thread_locals, |index| of(&before, index)),
                &features(&planned.new_thread_locals, &new.thread_locals, |index| of(&after, index)),
            )
        };
        let objects = objects.into_iter().map(|(was, is)| (&old.objects[was], &new.objects[is]));
        let thread_locals =
            thread_locals.into_iter().map(|(was, is)| (&old.thread_locals[was], &new.thread_locals[is]));
        let mut lines: Vec<String> = objects
            .chain(thread_locals)
            .filter(|(_, is)| !is_compilers(new.object_name(is)))
            .map(|(was, is)| (demangle(old.object_name(was)), demangle(new.object_name(is))))
            .filter(|(was, is)| was != is)
            .map(|(was, is)| {
                format!("`{was}` is gone, and `{is}` is new and like it: if that is its new name, it starts anew all the same")
            })
            .collect();
        lines.sort();
        lines.truncate(Details::LIMIT);
        lines
    }
}

/// A function that uses it, its size and initial value.
type Feature = (NameKey, u64, Option<Content>);

/// Ascending, with the index of what has it.
fn features<U: AsRef<[NameKey]>>(
    indices: &[usize],
    objects: &[Object],
    users_of: impl Fn(usize) -> U,
) -> Vec<(Feature, usize)> {
    let mut features = Vec::new();
    for index in indices {
        let object = &objects[*index];
        let users = users_of(*index);
        features.extend(users.as_ref().iter().map(|user| ((*user, object.size, object.content), *index)));
    }
    features.sort_unstable();
    features.dedup();
    features
}

fn users_of_thread_locals(image: &Image) -> HashMap<usize, Vec<NameKey>> {
    let mut users: HashMap<usize, Vec<NameKey>> = HashMap::default();
    for (function, used) in image.thread_locals_by_user() {
        let key = image.whole_key(&image.functions[function as usize]);
        used.into_iter().for_each(|index| users.entry(index).or_default().push(key));
    }
    users
}
