//! Whether two analyses of the same file say the same, for an analysis that was spared some of the work, and whether the same
//! is planned with them.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use reload_engine::{
    image::Image,
    model::LoadBias,
    plan::{self, Objections, Plan, homes::Homes, lineage::Lineage},
};

/// What reading `new` as what follows `old` gave.
///
/// # Panics
/// Where that, or a plan made with it, shows anything else than reading it alone did.
pub fn assert_read_the_same(old: &Arc<Image>, new: &Arc<Image>) -> Arc<Image> {
    let after = Image::parse_after(Some(old), &new.path, new.bytes.clone()).expect("it has been read before");
    same("functions", &new.functions, &after.functions);
    same("identities", new.identities(), after.identities());
    let entries = |image: &Image| (0..image.functions.len()).map(|function| image.entry(function)).collect::<Vec<_>>();
    same("entries", &entries(new), &entries(&after));
    same("skeletons", &new.skeletons, &after.skeletons);
    same("contents", &new.contents, &after.contents);
    same("borrowers", &new.borrowers, &after.borrowers);
    same("objects", &new.objects, &after.objects);
    same("thread-locals", &new.thread_locals, &after.thread_locals);
    same("references", &new.references, &after.references);
    same("uses of thread-locals", &new.tls_uses, &after.tls_uses);
    same("displacements of thread-locals", &new.tls_displacements, &after.tls_displacements);
    let after = Arc::new(after);
    same("plans", &[planned(old, new)], &[planned(old, &after)]);
    after
}

fn planned(old: &Arc<Image>, new: &Arc<Image>) -> impl Debug {
    let homes = Homes::of_original(old, LoadBias(0x10_0000), 1, &BTreeMap::new());
    let lineage = Lineage::new(Arc::clone(old), LoadBias(0x10_0000), 1, homes);
    plan::plan(&lineage, 0, Arc::clone(new), Objections::Warn).map(|plan| said(&plan))
}

/// What a plan says of functions and statics, in words.
pub fn said(plan: &Plan) -> String {
    let functions = (&plan.partners, &plan.implements, &plan.changed, &plan.functions);
    format!("{:?}", (functions, &plan.homes, &plan.storage, &plan.statics, &plan.details, &plan.warnings))
}

fn same<T: Debug>(what: &str, alone: &[T], after: &[T]) {
    assert_eq!(alone.len(), after.len(), "{what}");
    for (alone, after) in alone.iter().zip(after) {
        assert_eq!(format!("{alone:?}"), format!("{after:?}"), "{what}");
    }
}
