//! Where what runs was built without type information: the last generation before it that had some, which the new file is
//! compared with instead. What the one in between did to its types nobody can tell.

use foldhash::{HashMap, HashMapExt as _};

use super::{
    homes::{Home, PlannedHomes, TlsHome},
    lineage::{Lineage, Placed},
};
use crate::image::{self, Image};

/// The generation's index and its file, read anew, as most of it may have been freed.
pub fn before(lineage: &Lineage, parent: usize) -> Option<(usize, Image)> {
    let has_types = |index: &usize| !lineage.placed(*index).image.tables.debugging.is_empty();
    let index = lineage.path(parent).into_iter().rev().skip(1).find(has_types)?;
    let kept = &lineage.placed(index).image;
    let bytes = kept.bytes_with_debugging()?.into_owned();
    let (image, _) = image::analyse(&kept.path, bytes, None).ok()?;
    image.layouts().is_known().then_some((index, image))
}

/// The same homes as seen from a generation further back: what of it lives where the new file's statics are to live.
pub fn homes_since(planned: &PlannedHomes, before: &Placed) -> PlannedHomes {
    let mut objects = HashMap::new();
    for (index, home) in
        before.homes.objects.iter().enumerate().filter(|(index, _)| before.image.objects[*index].size > 0)
    {
        objects.insert(*home, index);
    }
    let thread_locals: HashMap<(u64, u64), usize> = before.homes.thread_locals.iter().copied().zip(0..).collect();
    let previous_objects: Vec<Option<usize>> = (planned.objects.iter())
        .map(|home| if let Home::At(address) = home { objects.get(address).copied() } else { None })
        .collect();
    let previous_thread_locals = (planned.thread_locals.iter())
        .map(
            |home| {
                if let TlsHome::At { module, offset } = home { thread_locals.get(&(*module, *offset)) } else { None }
            },
        )
        .map(Option::<&usize>::copied)
        .collect();
    PlannedHomes {
        kept: planned.kept.iter().copied().filter(|index| previous_objects[*index].is_some()).collect(),
        objects: planned.objects.clone(),
        thread_locals: planned.thread_locals.clone(),
        previous_objects,
        previous_thread_locals,
        ..PlannedHomes::default()
    }
}
