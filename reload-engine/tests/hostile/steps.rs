//! Everything a file goes through before the target is touched, alone and as the successor of another. Shared by the test
//! with mutated libraries and by the fuzz targets; results count for nothing here, only that there is one,
//! and that reading a file as a successor shows the same as reading it alone.

use std::{collections::BTreeMap, path::Path, sync::Arc};

#[path = "../shared/agree.rs"]
mod agree;

use reload_engine::{
    image::{Image, callers, demangle},
    model::{Addr, Generation, LoadBias, Place},
    plan::{
        self, Objections,
        bind::{self, FunctionIdentities},
        entries::transition,
        homes::Homes,
        lineage::Lineage,
        merge,
        residents::Residents,
    },
    watcher::completeness,
};

/// Where the first and the second generation are said to lie.
const PLACES: [Place; 2] = [
    Place { bias: LoadBias(0x7f00_0000_0000), tls_module: 1, tls_base: 0 },
    Place { bias: LoadBias(0x7f00_1000_0000), tls_module: 2, tls_base: 0 },
];

/// A file by itself.
pub fn alone(bytes: &[u8]) -> Option<Arc<Image>> {
    completeness(bytes);
    let image = Image::parse(Path::new("mutant.so"), bytes.to_vec()).ok()?;
    for index in 0..image.objects.len() {
        image.users_of(index);
    }
    for function in &image.functions {
        demangle(image.function_name(function));
    }
    image.layouts();
    callers(&image, &(0..image.functions.len() as u32).step_by(3).collect());
    image.span();
    Some(Arc::new(image))
}

/// A reload of `old` by `new`, and the way back.
pub fn successor(old: &Arc<Image>, new: &Arc<Image>) {
    agree::assert_read_the_same(old, new);
    let elsewhere: BTreeMap<usize, Addr> =
        (0..old.objects.len()).step_by(7).map(|index| (index, Addr(0x5000))).collect();
    let homes = Homes::of_original(old, PLACES[0].bias, 1, &elsewhere);
    let mut lineage = Lineage::new(Arc::clone(old), PLACES[0].bias, 1, homes);
    // Reasons to refuse are one result, what follows when the user overrides them another.
    let _ = plan::plan(&lineage, 0, Arc::clone(new), Objections::Refuse);
    let Ok(plan) = plan::plan(&lineage, 0, Arc::clone(new), Objections::Warn) else { return };
    plan.changes_nothing();
    plan.shadow();
    let functions = FunctionIdentities::new(&plan, &lineage);
    let residents = Residents::of(&plan, &lineage, &functions);
    let Ok(code) = bind::code(&plan, &functions, &residents, PLACES[1]) else { return };
    let mut memory = |slots: &[Addr]| {
        Ok(slots.iter().map(|slot| (slot.0 % 3 != 0).then(|| slot.0.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect())
    };
    let _ = bind::bind(&plan, &lineage, &functions, &residents, &code, PLACES[1], &mut memory);
    let merged: Vec<Addr> = lineage.placed(0).homes.objects.iter().copied().step_by(3).collect();
    let left = [merge::Left { generation: 0, merged: &merged }];
    for question in merge::questions(&plan, &left) {
        // Memory of the target comes in pieces of the size asked for, and a static is never larger than its file says.
        if question.size < 1 << 24 {
            let live = vec![1; question.size as usize];
            merge::answer(&plan, &lineage, &functions, PLACES[1].bias, &question, &left, &live);
        }
    }
    let next = lineage.place(&plan, Generation(1), PLACES[1], &code);
    transition(&lineage, 0, next, Some(next));
    transition(&lineage, next, 0, None);
}
