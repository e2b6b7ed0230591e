//! The library's own hooks: functions that are found by their names, called before a reload and after it.

use crate::{
    image::{Image, NameKey},
    model::Vaddr,
};

/// In the code that still runs, before anything has changed.
pub const BEFORE: &str = "superreload_before";
/// In the code that runs from now on.
pub const AFTER: &str = "superreload_after";

/// Where those of one file begin.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hooks {
    pub before: Option<Vaddr>,
    pub after: Option<Vaddr>,
}

impl Hooks {
    pub fn of(image: &Image) -> Hooks {
        let mut hooks = Hooks::default();
        if !image.names_contain(&[BEFORE, AFTER]) {
            return hooks;
        }
        let [before, after] = [BEFORE, AFTER].map(NameKey::of_function);
        for function in image.functions.iter().filter(|function| !function.indirect) {
            let key = image.identity(function).key;
            if key == before {
                hooks.before.get_or_insert(function.address);
            } else if key == after {
                hooks.after.get_or_insert(function.address);
            }
        }
        hooks
    }
}
