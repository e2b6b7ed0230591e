//! Whether two analyses of the same file say the same, for an analysis that was spared some of the work.

use std::fmt::Debug;

use reload_engine::image::Image;

/// # Panics
/// Where reading `new` as what follows `old` shows anything else than reading it alone did.
pub fn assert_read_the_same(old: &Image, new: &Image) {
    let after = Image::parse_after(Some(old), &new.path, new.bytes.clone()).expect("it has been read before");
    same("functions", &new.functions, &after.functions);
    same("entries", &new.entries, &after.entries);
    same("skeletons", &new.skeletons, &after.skeletons);
    same("contents", &new.contents, &after.contents);
    same("borrowers", &new.borrowers, &after.borrowers);
    same("objects", &new.objects, &after.objects);
    same("references", &new.references, &after.references);
    same("uses of thread-locals", &new.tls_uses, &after.tls_uses);
    same("displacements of thread-locals", &new.tls_displacements, &after.tls_displacements);
}

fn same<T: Debug>(what: &str, alone: &[T], after: &[T]) {
    assert_eq!(alone.len(), after.len(), "{what}");
    for (alone, after) in alone.iter().zip(after) {
        assert_eq!(format!("{alone:?}"), format!("{after:?}"), "{what}");
    }
}
