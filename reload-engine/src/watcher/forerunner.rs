//! Where the next file of a module is before it is the module's: beside it under another name, from which it is moved into place,
//! or where cargo has it linked before it gives it its second name.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirEntryExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

/// Where cargo links `module`: the other name of that file in the folder `deps` beside it. The next file will appear there first,
/// under the same name as long as it is built in the same way: mostly that which is `known` already.
pub fn origin(module: &Path, known: Option<&PathBuf>) -> Option<PathBuf> {
    let metadata = fs::metadata(module).ok()?;
    let is_same = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|other| (other.ino(), other.dev()) == (metadata.ino(), metadata.dev()))
    };
    if metadata.nlink() < 2 {
        return None;
    }
    if let Some(known) = known.filter(|known| is_same(known)) {
        return Some(known.clone());
    }
    let entries = fs::read_dir(module.parent()?.join("deps")).ok()?;
    let same = entries.flatten().find(|entry| entry.ino() == metadata.ino())?.path();
    is_same(&same).then_some(same)
}

/// Whether a file that is called `name` is one that whoever writes it may be about to move to the one beside it that is called
/// `module`: as `libx.so.new`, `libx.tmp` and `.libx.so.Q7ax1` may be moved to `libx.so`.
pub fn may_become(name: &OsStr, module: &OsStr) -> bool {
    let (name, module) = (name.as_bytes(), module.as_bytes());
    if let Some(hidden) = name.strip_prefix(b".") {
        return hidden.strip_prefix(module).is_some_and(|rest| rest.starts_with(b"."));
    }
    let stem = module.split(|byte| *byte == b'.').next().filter(|stem| !stem.is_empty());
    let rests = [Some(module), stem].map(|start| start.and_then(|start| name.strip_prefix(start)));
    let marks: [&[u8]; 4] = [b".new", b".tmp", b".temp", b"~"];
    rests.into_iter().flatten().any(|rest| marks.iter().any(|mark| rest.starts_with(mark)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{may_become, origin};

    #[test]
    fn names_of_files_that_are_moved_into_place() {
        let check = |module: &str, name: &str| may_become(name.as_ref(), module.as_ref());
        for name in ["libx.so.new", "libx.so.tmp187645a", "libx.tmp", ".libx.so.Q7ax1", "libx.so~", "libx.temp"] {
            assert!(check("libx.so", name), "{name}");
        }
        for name in ["libx.so", "libx2.so.new", "liby.so.new", "libx.so.2", "libx.so.debug", "libx.d", ".libx.so", ""] {
            assert!(!check("libx.so", name), "{name}");
        }
        assert!(check("app", "app.new"));
        for name in ["app", "app.log", "app.o", "app-test", "app.d"] {
            assert!(!check("app", name), "{name}");
        }
        assert!(check(".hidden", "..hidden.1"));
        assert!(!check(".hidden", ".new"));
    }

    #[test]
    fn second_name_in_cargos_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("deps")).unwrap();
        for name in ["deps/app-1", "deps/app-2", "alone", "copy"] {
            fs::write(path(name), name).unwrap();
        }
        fs::hard_link(path("deps/app-2"), path("app")).unwrap();
        fs::hard_link(path("copy"), path("elsewhere")).unwrap();
        let found = Some(path("deps/app-2"));
        for known in [None, Some(path("deps/app-1")), Some(path("gone")), found.clone()] {
            assert_eq!(origin(&path("app"), known.as_ref()), found, "{known:?}");
        }
        for name in ["alone", "copy", "missing"] {
            assert_eq!(origin(&path(name), None), None, "{name}");
        }
    }
}
